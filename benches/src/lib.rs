//! What several benchmarks share.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a benchmark that fails stops")]

mod directory;
mod pair;

pub use directory::Directory;
pub use pair::Pair;
