//! What the log says of connections that are refused: strangers decide how many those are.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::pace::Pace;

/// Warns of each, but only of so many a second; the rest is counted, and said at the level `debug`.
#[derive(Debug)]
pub(crate) struct Refusals {
    pace: Pace,
    unsaid: AtomicU64,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self { pace: Pace::new(WARNINGS_PER_SECOND, now), unsaid: AtomicU64::new(0) }
    }

    pub(crate) fn tell(&self, peer: SocketAddr, error: &dyn Display, now: Instant) {
        match self.is_said(now) {
            Some(0) => tracing::warn!(%peer, %error, "connection refused"),
            Some(unsaid) => {
                tracing::warn!(%peer, %error, unsaid, "connection refused, and others before it");
            }
            None => tracing::debug!(%peer, %error, "connection refused"),
        }
    }

    /// Whether one more is warned of, and how many were not since the last one.
    fn is_said(&self, now: Instant) -> Option<u64> {
        if self.pace.take_within(Duration::ZERO, now).is_none() {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Ordering::Relaxed))
    }
}

/// Enough for whoever reads the log, or has it read to shut guessers out, and a few MB an hour at most.
const WARNINGS_PER_SECOND: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_a_few_times_a_second_and_counted() {
        let begin = Instant::now();
        let refusals = Refusals::new(begin);
        let said: Vec<_> = (0..1_000).filter_map(|_| refusals.is_said(begin)).collect();
        assert_eq!(said, [0; WARNINGS_PER_SECOND as usize]);
        let later = begin + Duration::from_secs(1);
        assert_eq!(refusals.is_said(later), Some(1_000 - WARNINGS_PER_SECOND));
        assert_eq!(refusals.is_said(later), Some(0));
    }
}
