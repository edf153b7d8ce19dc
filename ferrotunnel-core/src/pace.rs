//! So much per second: a token bucket on a clock that is handed in.
//!
//! It is kept as one number, the time until which the rate is used up (the "theoretical arrival time" of the
//! generic cell rate algorithm, ITU-T I.371), so it needs no lock and no tick. At rest it holds one second's worth,
//! which may pass at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rate, and how much of it is used up.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    per_second: AtomicU64,
    /// In nanoseconds since it began.
    used_until: AtomicU64,
}

impl Pace {
    /// At least one per second.
    pub(crate) fn new(per_second: u64, now: Instant) -> Self {
        let per_second = AtomicU64::new(per_second.max(1));
        Self { began: now, per_second, used_until: AtomicU64::new(0) }
    }

    /// The rate from now on; what is used up takes as long as it would have. At least one per second.
    pub(crate) fn set_rate(&self, per_second: u64) {
        self.per_second.store(per_second.max(1), Ordering::Relaxed);
    }

    /// What has passed beyond the rate is waited for no longer.
    pub(crate) fn forgive(&self, now: Instant) {
        self.used_until.fetch_min(self.at(now).saturating_add(SECOND), Ordering::Relaxed);
    }

    /// Takes one, if it comes within `most`: how long to wait for it. `None`: nothing was taken.
    pub(crate) fn take_within(&self, most: Duration, now: Instant) -> Option<Duration> {
        let (now, cost) = (self.at(now), self.cost(1));
        let waits = |until: u64| until.saturating_sub(now.saturating_add(SECOND));
        let taken = self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            let until = until.max(now).saturating_add(cost);
            (u128::from(waits(until)) <= most.as_nanos()).then_some(until)
        });
        let before = taken.ok()?;
        Some(Duration::from_nanos(waits(before.max(now).saturating_add(cost))))
    }

    /// Whether one may pass at once.
    pub(crate) fn has_one(&self, now: Instant) -> bool {
        let until = self.used_until.load(Ordering::Relaxed);
        let now = self.at(now);
        until.max(now).saturating_add(self.cost(1)) <= now.saturating_add(SECOND)
    }

    /// So many have passed, however many there were.
    pub(crate) fn charge(&self, units: u64, now: Instant) {
        let (now, cost) = (self.at(now), self.cost(units));
        let _ = self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            Some(until.max(now).saturating_add(cost))
        });
    }

    /// The same, but what has passed is waited for no longer than `most`.
    pub(crate) fn charge_within(&self, units: u64, most: Duration, now: Instant) {
        let (now, cost) = (self.at(now), self.cost(units));
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        let most = now.saturating_add(SECOND).saturating_add(most);
        let _ = self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            Some(until.max(now).saturating_add(cost).min(most.max(until)))
        });
    }

    /// One that was taken was not used.
    pub(crate) fn give_back(&self) {
        let cost = self.cost(1);
        let _ = self.used_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
            Some(until.saturating_sub(cost))
        });
    }

    /// How long until anything may pass at all.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let until = self.used_until.load(Ordering::Relaxed);
        Duration::from_nanos(until.saturating_sub(self.at(now).saturating_add(SECOND)))
    }

    fn at(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// In whole nanoseconds, so that the rate is at most a billionth of itself too high for each one of it.
    fn cost(&self, units: u64) -> u64 {
        let per_second = self.per_second.load(Ordering::Relaxed);
        let nanos = u128::from(units) * u128::from(SECOND) / u128::from(per_second);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(pace: &Pace, now: Instant) -> usize {
        std::iter::from_fn(|| pace.take_within(Duration::ZERO, now)).count()
    }

    #[test]
    fn a_second_s_worth_passes_at_once_and_then_as_much_per_second() {
        let begin = Instant::now();
        let pace = Pace::new(5, begin);
        assert_eq!(at_once(&pace, begin), 5);
        assert_eq!(at_once(&pace, begin + Duration::from_millis(199)), 0);
        assert_eq!(at_once(&pace, begin + Duration::from_millis(200)), 1);
        assert_eq!(at_once(&pace, begin + Duration::from_secs(1)), 4);
        assert_eq!(at_once(&pace, begin + Duration::from_secs(3_600)), 5, "rest is not saved up");
    }

    #[test]
    fn who_waits_has_a_turn_of_its_own_and_too_long_a_queue_takes_nothing() {
        let begin = Instant::now();
        let pace = Pace::new(4, begin);
        assert_eq!(at_once(&pace, begin), 4);
        let most = Duration::from_millis(600);
        let waits: Vec<_> = std::iter::from_fn(|| pace.take_within(most, begin)).collect();
        assert_eq!(waits, [Duration::from_millis(250), Duration::from_millis(500)]);
        let later = begin + Duration::from_millis(500);
        assert_eq!(at_once(&pace, later), 0, "those who wait have taken it");
        assert_eq!(at_once(&pace, later + Duration::from_millis(250)), 1);
    }

    #[test]
    fn another_rate_counts_for_what_comes() {
        let begin = Instant::now();
        let pace = Pace::new(1, begin);
        assert_eq!(at_once(&pace, begin), 1);
        pace.set_rate(10);
        assert_eq!(at_once(&pace, begin), 0, "what was used stays used");
        assert_eq!(at_once(&pace, begin + Duration::from_secs(2)), 10);
        pace.set_rate(2);
        assert_eq!(at_once(&pace, begin + Duration::from_secs(4)), 2);
    }

    #[test]
    fn what_is_forgiven_is_not_waited_for_and_stays_used() {
        let begin = Instant::now();
        let pace = Pace::new(10, begin);
        pace.charge(1_000, begin);
        pace.forgive(begin);
        assert_eq!(pace.wait(begin), Duration::ZERO);
        assert_eq!(at_once(&pace, begin), 0);
        assert_eq!(at_once(&pace, begin + Duration::from_millis(200)), 2);
        let idle = Pace::new(10, begin);
        idle.forgive(begin + Duration::from_secs(9));
        assert_eq!(at_once(&idle, begin + Duration::from_secs(9)), 10, "rest is not taken away");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let begin = Instant::now();
        let pace = Pace::new(3, begin);
        for _ in 0..1_000 {
            assert_eq!(pace.take_within(Duration::ZERO, begin), Some(Duration::ZERO));
            pace.give_back();
        }
        assert_eq!(at_once(&pace, begin), 3);
        pace.give_back();
        assert_eq!(at_once(&pace, begin), 1);
    }

    #[test]
    fn what_has_passed_beyond_the_rate_is_waited_for() {
        let begin = Instant::now();
        let pace = Pace::new(1_000, begin);
        pace.charge(999, begin);
        assert_eq!(pace.wait(begin), Duration::ZERO);
        pace.charge(2_501, begin);
        assert_eq!(pace.wait(begin), Duration::from_millis(2_500));
        assert_eq!(pace.wait(begin + Duration::from_secs(2)), Duration::from_millis(500));
        assert_eq!(pace.wait(begin + Duration::from_secs(3)), Duration::ZERO);
    }

    #[test]
    fn a_debt_that_has_an_end_is_forgotten_beyond_it() {
        let begin = Instant::now();
        let pace = Pace::new(5, begin);
        for _ in 0..1_000 {
            pace.charge_within(1, Duration::from_secs(4), begin);
        }
        assert_eq!(pace.wait(begin), Duration::from_secs(4));
        // What others have taken stays.
        pace.charge(5, begin);
        pace.charge_within(1, Duration::from_secs(4), begin);
        assert_eq!(pace.wait(begin), Duration::from_secs(5));
    }

    #[test]
    fn no_rate_is_exceeded_over_a_long_time() {
        let begin = Instant::now();
        for per_second in [1, 3, 7, 1_000] {
            let pace = Pace::new(per_second, begin);
            let looks = (0..100_000).map(|at| at_once(&pace, begin + Duration::from_millis(at)));
            let passed = looks.sum::<usize>() as u64;
            assert!((per_second * 100..=per_second * 101).contains(&passed), "{passed}");
        }
    }
}
