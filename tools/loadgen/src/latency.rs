//! Latencies, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// A histogram of latencies.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, DIGITS)?))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record(nanos);
    }

    pub(crate) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What that part of all (0 to 1) did not exceed.
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }

    /// Names and values for a report.
    pub(crate) fn points(&self) -> Vec<(&'static str, Duration)> {
        let mean = Duration::from_nanos(self.0.mean() as u64);
        let mut points = vec![("min", Duration::from_nanos(self.0.min())), ("mean", mean)];
        points.extend(QUANTILES.map(|(name, quantile)| (name, self.at(quantile))));
        points.push(("max", self.max()));
        points
    }

    /// Microseconds by name.
    pub(crate) fn json(&self) -> Value {
        let micros = |time: Duration| json!(time.as_nanos() as f64 / 1e3);
        let points = self.points().into_iter();
        Value::Object(
            points.map(|(name, time)| (name.to_owned(), micros(time))).collect::<Map<_, _>>(),
        )
    }
}

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// Nanoseconds of an hour: no exchange is waited for so long.
const LONGEST: u64 = 3_600_000_000_000;

/// A thousandth is more exact than any two runs are alike; costs 270 KiB a histogram.
const DIGITS: u8 = 3;
