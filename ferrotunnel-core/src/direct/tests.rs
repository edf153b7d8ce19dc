//! Direct carriers.
