//! Times, counted by how long they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::exemplar::Exemplar;

/// Times in the buckets of [`BOUNDS`], and their sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bounds = NANOSECONDS.iter();
        let at = bounds.copied().position(|most| nanoseconds <= most).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn add_to(&self, other: &Self) {
        for (mine, sum) in self.buckets.iter().zip(&other.buckets) {
            sum.fetch_add(mine.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        other.nanoseconds.fetch_add(self.nanoseconds.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.load(Ordering::Relaxed) == 0)
    }

    pub(crate) fn encode(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> =
            bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))).collect();
        // Of the same look as the buckets: a request that ends meanwhile is in both or in neither.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram(sum, count, &buckets, NO_EXEMPLARS)
    }
}

type Exemplars<'a> =
    Option<&'a std::collections::HashMap<usize, Exemplar<[(&'a str, &'a str); 0], f64>>>;

const NO_EXEMPLARS: Exemplars<'static> = None;

/// Seconds. From what a local service on the next machine takes to what people wait for at most; 100 ms, 1 s and 10 s, where
/// people begin to notice, lose the thread, and leave, are among them. Each bound costs one line per tunnel.
pub(crate) const BOUNDS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The same: times are whole numbers.
const NANOSECONDS: [u64; BOUNDS.len()] = {
    let mut bounds = [0; BOUNDS.len()];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = (BOUNDS[at] * 1e9) as u64;
        at += 1;
    }
    bounds
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for millis in [5, 6, 100, 61_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let counts: Vec<_> =
            histogram.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        assert_eq!(counts, [1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(histogram.nanoseconds.load(Ordering::Relaxed), 61_111_000_000);
        let seconds = NANOSECONDS.map(|bound| bound as f64 / 1e9);
        assert_eq!(seconds, BOUNDS);
    }
}
