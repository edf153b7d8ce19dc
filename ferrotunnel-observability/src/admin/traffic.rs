//! What passed in each of the last seconds.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::durations::quantile;
use super::house::{House, Totals};
use super::shapes::{Sample, Traffic, unix_millis};

/// The samples, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<VecDeque<Sample>>);

/// What was counted when the last sample was taken.
#[derive(Debug)]
pub(crate) struct Before {
    totals: Totals,
    durations: Option<Vec<u64>>,
}

impl Before {
    pub(crate) fn of(house: &dyn House) -> Self {
        Self { totals: house.totals(), durations: house.durations() }
    }

    /// What has passed since.
    pub(crate) fn sample(&mut self, house: &dyn House) -> Sample {
        let now = Self::of(house);
        let before = std::mem::replace(self, now);
        let quantile = |share| match (&before.durations, &self.durations) {
            (Some(before), Some(now)) => quantile(before, now, share),
            _ => None,
        };
        let (was, is) = (before.totals, self.totals);
        Sample {
            at: unix_millis(SystemTime::now()),
            requests: is.requests.map(|it| it.saturating_sub(was.requests.unwrap_or_default())),
            errors: is.errors.saturating_sub(was.errors),
            bytes_in: is.bytes_in.saturating_sub(was.bytes_in),
            bytes_out: is.bytes_out.saturating_sub(was.bytes_out),
            streams: is.streams,
            streams_opened: is.streams_opened.saturating_sub(was.streams_opened),
            p50_seconds: quantile(0.5),
            p90_seconds: quantile(0.9),
            p99_seconds: quantile(0.99),
        }
    }
}

impl History {
    pub(crate) fn push(&self, sample: Sample) {
        let mut samples = self.0.lock();
        if samples.len() >= SECONDS_KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(crate) fn read(&self) -> Traffic {
        Traffic { step_seconds: 1, samples: self.0.lock().iter().cloned().collect() }
    }
}

/// Ten minutes, at some 100 bytes each.
const SECONDS_KEPT: usize = 600;
