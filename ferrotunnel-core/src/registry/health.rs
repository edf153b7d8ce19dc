//! Whether a client's local service answers, as its visitors see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;

/// Shared by all streams of one member of a tunnel.
#[derive(Debug)]
pub(crate) struct Health {
    /// All times are counted from it, in milliseconds.
    since: Instant,
    /// Until when others go first.
    failing_until: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self { since: clock::now(), failing_until: AtomicU64::new(0) }
    }
}

impl Health {
    /// The client could not reach its local service.
    pub(crate) fn failed(&self, now: Instant) {
        self.failing_until.store(self.at(now + AVOIDED), Ordering::Relaxed);
    }

    pub(crate) fn is_failing(&self, now: Instant) -> bool {
        self.at(now) < self.failing_until.load(Ordering::Relaxed)
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Long enough for the others to take its visitors, and short enough that a service which restarts is
/// not missed.
const AVOIDED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_is_avoided_for_a_moment() {
        let (health, now) = (Health::default(), Instant::now());
        assert!(!health.is_failing(now));
        health.failed(now);
        assert!(health.is_failing(now) && health.is_failing(now + AVOIDED / 2));
        assert!(!health.is_failing(now + AVOIDED));
    }
}
