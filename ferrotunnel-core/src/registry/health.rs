//! Whether a client's local service answers, as its visitors see it and as its client says, and whether the client takes
//! visitors at all.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::clock;
use crate::options::Condition;

/// Shared by all streams of one member of a tunnel.
#[derive(Debug)]
pub(crate) struct Health {
    /// All times are counted from it, in milliseconds.
    since: Instant,
    /// Until when others go first.
    failing_until: AtomicU64,
    /// How often in a row it failed when it was tried again.
    failures: AtomicU32,
    /// What the client's own checks say.
    is_down: AtomicBool,
    /// The client has said so much of them.
    is_checked: AtomicBool,
    /// The client takes no visitors for now.
    is_paused: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            since: clock::now(),
            failing_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            is_down: AtomicBool::new(false),
            is_checked: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
        }
    }
}

impl Health {
    /// The client could not reach its local service.
    pub(crate) fn failed(&self, now: Instant) {
        // Those who were on their way at the same time are one failure.
        let failures = match self.is_avoided(now) {
            true => self.failures.load(Ordering::Relaxed).max(1),
            false => self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1),
        };
        let pause = AVOIDED.saturating_mul(1 << (failures - 1).min(8)).min(AVOIDED_AT_MOST);
        self.failing_until.fetch_max(self.at(now + pause), Ordering::Relaxed);
    }

    /// The local service has answered a visitor.
    pub(crate) fn worked(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.failing_until.store(0, Ordering::Relaxed);
        }
    }

    /// The client says how it is with it.
    pub(crate) fn is_said(&self, said: Condition) {
        if let Some(is_down) = said.is_down {
            self.set_down(is_down);
        }
        if let Some(is_paused) = said.is_paused {
            self.is_paused.store(is_paused, Ordering::Relaxed);
        }
    }

    /// Whether the client takes no visitors for now.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    /// The client checks it by itself, and says what it found.
    fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
        self.is_checked.store(true, Ordering::Relaxed);
        if !is_down {
            self.worked();
        }
    }

    /// What the client has found, if it has said so.
    pub(crate) fn is_down(&self) -> Option<bool> {
        let is_checked = self.is_checked.load(Ordering::Relaxed);
        is_checked.then(|| self.is_down.load(Ordering::Relaxed))
    }

    pub(crate) fn is_failing(&self, now: Instant) -> bool {
        self.is_down.load(Ordering::Relaxed) || self.is_avoided(now)
    }

    fn is_avoided(&self, now: Instant) -> bool {
        self.at(now) < self.failing_until.load(Ordering::Relaxed)
    }

    fn at(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX)
    }
}

/// After the first failure: long enough for the others to take its visitors, and short enough that a service
/// which restarts is not missed.
const AVOIDED: Duration = Duration::from_secs(1);

/// Each time that it fails again the pause doubles up to this: a service that stays down costs a visitor now and
/// then, and one that is back has its share again within that time.
const AVOIDED_AT_MOST: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_is_avoided_for_a_moment_and_for_longer_each_time() {
        let (health, mut now) = (Health::default(), Instant::now());
        assert!(!health.is_failing(now));
        for seconds in [1, 2, 4, 8, 15, 15] {
            for _ in 0..10 {
                health.failed(now);
            }
            let pause = Duration::from_secs(seconds);
            let almost = now + pause - Duration::from_millis(1);
            assert!(health.is_failing(now) && health.is_failing(almost), "{seconds}");
            now += pause;
            assert!(!health.is_failing(now), "{seconds}");
        }
        health.failed(now);
        health.worked();
        assert!(!health.is_failing(now));
        health.failed(now);
        assert!(!health.is_failing(now + AVOIDED));
    }

    #[test]
    fn what_the_client_says_holds_until_it_says_otherwise() {
        let (health, now) = (Health::default(), Instant::now());
        health.set_down(true);
        health.worked();
        assert!(health.is_failing(now + AVOIDED_AT_MOST * 10));
        health.failed(now);
        health.set_down(false);
        assert!(!health.is_failing(now));
    }
}
