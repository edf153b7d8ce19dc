//! How long to wait before the next attempt.

use std::time::Duration;

use crate::auth;

/// At once, 200 ms, then doubling to 20 s, with jitter so that clients of one server do not come
/// back in step; back to the start after a minute of health.
///
/// While the server's machine answers that nobody listens, the pause stays under a second: the
/// server is about to come back, and a refused connection costs its machine one packet.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A session lived that long.
    pub(super) fn lived(&mut self, life: Duration) {
        if life >= HEALTHY {
            self.failures = 0;
        }
    }

    pub(super) fn next(&mut self, is_cheap: bool) -> Duration {
        let most = if is_cheap { MOST_WHEN_CHEAP } else { MOST };
        let pause = match self.failures {
            0 => Duration::ZERO,
            failures => FIRST.saturating_mul(1 << (failures - 1).min(16)).min(most),
        };
        self.failures = self.failures.saturating_add(1);
        jitter(pause)
    }
}

/// Between three quarters and all of it.
fn jitter(pause: Duration) -> Duration {
    let [die] = auth::random().unwrap_or_default();
    pause * (768 + u32::from(die)) / 1024
}

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(20);
const MOST_WHEN_CHEAP: Duration = Duration::from_millis(800);
const HEALTHY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_nothing_to_the_most_and_start_over_after_health() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(false), Duration::ZERO);
        let mut expected = FIRST;
        for _ in 0..20 {
            let pause = backoff.next(false);
            assert!(pause <= expected && pause >= expected * 3 / 4, "{pause:?} for {expected:?}");
            expected = (expected * 2).min(MOST);
        }
        backoff.lived(Duration::from_secs(59));
        assert!(backoff.next(false) > FIRST);
        backoff.lived(HEALTHY);
        assert_eq!(backoff.next(false), Duration::ZERO);
    }

    #[test]
    fn a_machine_that_answers_is_asked_again_within_a_second() {
        let mut backoff = Backoff::default();
        for _ in 0..30 {
            assert!(backoff.next(true) < Duration::from_secs(1));
        }
    }
}
