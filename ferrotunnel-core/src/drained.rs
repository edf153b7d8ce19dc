//! How a drain went.

/// How a drain went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Streams that were not finished when the grace was over, and were cut.
    pub cut: usize,
}
