//! How long requests took, finely enough that one second's worth says something.

use std::f64::consts::SQRT_2;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times by length, in buckets of which each ends a fifth later than the one before it.
#[derive(Debug)]
pub(crate) struct Durations([AtomicU64; BUCKETS]);

impl Default for Durations {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Durations {
    pub(crate) fn observe(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        if let Some(bucket) = self.0.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// How many there are in each bucket.
    pub(crate) fn read(&self) -> Vec<u64> {
        self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }
}

/// The time that `share` of those took at most that are in `now` and were not in `before`; `None` where there are none.
pub(crate) fn quantile(before: &[u64], now: &[u64], share: f64) -> Option<f64> {
    let fresh = || now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before));
    let all: u64 = fresh().sum();
    if all == 0 {
        return None;
    }
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    let at = fresh().position(|count| {
        seen += count;
        seen >= wanted
    });
    at.map(|at| SHORTEST * (at as f64 / STEPS_PER_DOUBLE).exp2())
}

/// In seconds: no local service answers sooner.
const SHORTEST: f64 = 1e-4;

/// A fifth more each: nobody reads more out of a graph.
const STEPS_PER_DOUBLE: f64 = 4.0;

/// Up to two minutes.
const BUCKETS: usize = 82;

/// In nanoseconds the end of each bucket; the last has none.
const BOUNDS: [u64; BUCKETS - 1] = {
    // Roots of two.
    let steps = [1.0, 1.189_207_115_002_721, SQRT_2, 1.681_792_830_507_429];
    let mut bounds = [0; BUCKETS - 1];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] =
            (SHORTEST * 1e9 * steps[at % steps.len()] * (1_u64 << (at / steps.len())) as f64)
                as u64;
        at += 1;
    }
    bounds
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_is_new() {
        let durations = Durations::default();
        for _ in 0..1_000 {
            durations.observe(Duration::from_secs(9));
        }
        let before = durations.read();
        assert_eq!(quantile(&before, &durations.read(), 0.5), None);
        for millis in 1..=100 {
            durations.observe(Duration::from_millis(millis));
        }
        let now = durations.read();
        for (share, millis) in [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0)] {
            let found = quantile(&before, &now, share).unwrap() * 1_000.0;
            assert!(found >= millis && found < millis * 1.2, "{share}: {found}");
        }
        durations.observe(Duration::ZERO);
        durations.observe(Duration::from_secs(100_000));
        assert_eq!(durations.read().iter().sum::<u64>(), 1_102);
        assert_eq!(quantile(&now, &durations.read(), 0.5), Some(SHORTEST));
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            let end = SHORTEST * (at as f64 / STEPS_PER_DOUBLE).exp2();
            assert!((bound as f64 / 1e9 - end).abs() < 2e-9, "{at}: {bound}");
        }
    }
}
