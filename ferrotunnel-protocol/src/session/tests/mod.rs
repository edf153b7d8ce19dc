//! The session against itself.
