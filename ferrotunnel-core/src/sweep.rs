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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_looked_through_ever_more_seldom() {
        let (mut sweep, mut looked_at) = (Sweep::<8>::default(), 0);
        for there in 0..10_000 {
            sweep.before_one_more(there, || {
                looked_at += there;
                there
            });
        }
        assert!(looked_at <= 2 * 10_000, "{looked_at}");
    }
}
