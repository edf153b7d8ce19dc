//! When to look through a list for those that have gone by themselves.

/// Before one more comes, once there are twice as many as were left the last time: so looking costs each that comes
/// the same. With fewer than `LEAST` it is not worth the time.
#[derive(Debug, Default)]
pub(crate) struct Sweep<const LEAST: usize> {
    at: usize,
}

impl<const LEAST: usize> Sweep<LEAST> {
    /// One more is about to come to so many that are there. `sweep` throws out those that have gone, and says how many are
    /// left.
    pub(crate) fn before_one_more(&mut self, there: usize, sweep: impl FnOnce() -> usize) {
        if there >= self.at {
            self.at = LEAST.max(2 * sweep());
        }
    }
}
