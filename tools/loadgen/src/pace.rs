//! When the exchanges of an open loop are due, whatever became of those before.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Numbered turns at a fixed rate. What is due and not taken yet is a number, not a queue.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: NonZeroU32,
    total: u64,
    /// The next turn that nobody has taken.
    next: AtomicU64,
    /// One for each turn that is due and not taken; closed when all are due.
    due: Semaphore,
}

impl Pace {
    /// A pace for that time.
    pub(crate) fn new(per_second: NonZeroU32, time: Duration) -> Self {
        let total = (time.as_secs_f64() * f64::from(per_second.get())).round() as u64;
        Self { per_second, total, next: AtomicU64::new(0), due: Semaphore::new(0) }
    }

    /// Lets turns become due, and returns when all are. On a thread that has nothing else to do:
    /// it wakes within some 50 us of the time, a timer of the runtime only within 1 ms.
    pub(crate) fn keep(&self, start: Instant) {
        let mut released = 0;
        while released < self.total {
            let now = Instant::now();
            let due = self.due_by(now.saturating_duration_since(start));
            if due > released {
                let more = usize::try_from(due - released).unwrap_or(Semaphore::MAX_PERMITS);
                self.due.add_permits(more);
                released = due;
            } else {
                thread::park_timeout(self.time_of(released).saturating_sub(now - start));
            }
        }
        self.due.close();
    }

    /// Takes the next turn once it is due, and says when that was; `None` after the last.
    pub(crate) async fn turn(&self, start: Instant) -> Option<Instant> {
        if let Ok(permit) = self.due.acquire().await {
            permit.forget();
        }
        // Closed: every turn that is left is due.
        self.turn_left(start)
    }

    /// Takes a turn without waiting for it, once all are due.
    pub(crate) fn turn_left(&self, start: Instant) -> Option<Instant> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        (turn < self.total).then(|| start + self.time_of(turn))
    }

    fn time_of(&self, turn: u64) -> Duration {
        let nanos = u128::from(turn) * NANOS / u128::from(self.per_second.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Turns that are due after that time.
    fn due_by(&self, elapsed: Duration) -> u64 {
        let turns = elapsed.as_nanos() * u128::from(self.per_second.get()) / NANOS + 1;
        u64::try_from(turns).unwrap_or(u64::MAX).min(self.total)
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32, millis: u64) -> Pace {
        Pace::new(NonZeroU32::new(per_second).unwrap(), Duration::from_millis(millis))
    }

    #[test]
    fn turns_are_due_at_even_distances() {
        let pace = pace(1_000, 3);
        assert_eq!(pace.total, 3);
        assert_eq!(pace.time_of(2), Duration::from_millis(2));
        assert_eq!(pace.due_by(Duration::ZERO), 1);
        assert_eq!(pace.due_by(Duration::from_micros(1_999)), 2);
        assert_eq!(pace.due_by(Duration::from_secs(9)), 3, "never more than there are");
    }

    #[test]
    fn no_turn_comes_before_its_time_at_any_rate() {
        for per_second in [1, 3, 7, 999, 1_000_000] {
            let pace = pace(per_second, 2_000);
            for turn in 0..pace.total.min(5_000) {
                let at = pace.time_of(turn);
                let due = pace.due_by(at);
                assert!(due == turn || due == turn + 1, "turn {turn} at {per_second}/s: {due}");
            }
        }
    }

    #[test]
    fn every_turn_is_taken_once() {
        let pace = pace(100_000, 10);
        let start = Instant::now();
        pace.keep(start);
        let turns = std::iter::from_fn(|| pace.turn_left(start)).count();
        assert_eq!(turns, 1_000);
    }
}
