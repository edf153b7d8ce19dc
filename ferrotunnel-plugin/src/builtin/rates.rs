//! Rates of many things at once, in bounded memory.
//!
//! The crate `governor` has the same algorithm, but its keyed store grows with the number of keys until somebody sweeps
//! it, and here anybody may bring new keys.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many in a second for each key, and as many at once after a pause (the generic cell rate algorithm: what is kept
/// of a key is one point in time, from which on it has its whole burst again).
#[derive(Debug)]
pub(super) struct Rates<K> {
    per_second: u64,
    /// How far ahead a key may be: its burst, less the one that is asked for.
    tolerance: u64,
    began: Instant,
    room: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// When each will have its whole burst again. Who has it by now needs no entry.
    full_at: HashMap<K, u64>,
    /// That of all who come while there is no room.
    others: u64,
    /// Before that, looking for room would find none.
    swept_until: u64,
}

impl<K: Eq + Hash> Rates<K> {
    /// `room` is how many keys are told apart at most.
    pub(super) fn new(per_second: u64, room: usize, now: Instant) -> Self {
        let per_second = per_second.max(1);
        let table = Table { full_at: HashMap::new(), others: 0, swept_until: 0 };
        let tolerance = cost(per_second - 1, per_second);
        Self { per_second, tolerance, began: now, room, table: Mutex::new(table) }
    }

    /// One more of that key; the error is how long it would have to wait.
    pub(super) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let now = self.at(now);
        let mut table = self.table.lock();
        let full_at = self.entry(&mut table, key, now);
        let ahead = (*full_at).max(now) - now;
        if ahead > self.tolerance {
            return Err(Duration::from_nanos(ahead - self.tolerance));
        }
        *full_at = now + ahead + cost(1, self.per_second);
        Ok(())
    }

    /// So many of that key have passed, however many there were.
    pub(super) fn charge(&self, key: K, count: u64, now: Instant) {
        let now = self.at(now);
        let mut table = self.table.lock();
        let full_at = self.entry(&mut table, key, now);
        *full_at = (*full_at).max(now).saturating_add(cost(count, self.per_second));
    }

    /// How long until any of that key may pass.
    pub(super) fn wait<Q>(&self, key: &Q, now: Instant) -> Duration
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let now = self.at(now);
        let table = self.table.lock();
        let full_at = match table.full_at.get(key) {
            Some(full_at) => *full_at,
            None if table.full_at.len() < self.room => now,
            // There may be room by now, which whoever passes finds out.
            None => table.others,
        };
        Duration::from_nanos(full_at.saturating_sub(now).saturating_sub(self.tolerance))
    }

    fn entry<'a>(&self, table: &'a mut Table<K>, key: K, now: u64) -> &'a mut u64 {
        let is_known = table.full_at.contains_key(&key);
        if !is_known && table.full_at.len() >= self.room && now >= table.swept_until {
            table.full_at.retain(|_, full_at| *full_at > now);
            // Whoever is still here is so for a while, and looking costs as much as there are.
            table.swept_until = now.saturating_add(cost(1, self.per_second).max(SWEEP_EVERY));
        }
        if is_known || table.full_at.len() < self.room {
            table.full_at.entry(key).or_insert(now)
        } else {
            // Who makes up addresses shares one rate with all who come meanwhile.
            &mut table.others
        }
    }

    fn at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX / 2)
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.table.lock().full_at.len()
    }
}

/// How long so many take, in nanoseconds.
fn cost(count: u64, per_second: u64) -> u64 {
    let nanos = u128::from(count) * u128::from(NANOS) / u128::from(per_second);
    u64::try_from(nanos).unwrap_or(u64::MAX / 2).max(u64::from(count > 0))
}

const NANOS: u64 = 1_000_000_000;

/// To look through a full table takes some milliseconds at most, so this is little of a processor's time.
const SWEEP_EVERY: u64 = NANOS / 10;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(rates: &Rates<u32>, key: u32, now: Instant) -> usize {
        (0..100).take_while(|_| rates.take(key, now).is_ok()).count()
    }

    #[test]
    fn a_key_has_its_burst_and_then_its_rate() {
        let begin = Instant::now();
        let rates = Rates::new(10, 8, begin);
        assert_eq!(taken(&rates, 1, begin), 10);
        assert_eq!(taken(&rates, 1, begin + SECOND / 2), 5);
        assert_eq!(taken(&rates, 1, begin + SECOND / 2), 0);
        assert_eq!(taken(&rates, 1, begin + SECOND * 3600), 10);
    }

    #[test]
    fn who_is_refused_is_told_when_to_come() {
        let begin = Instant::now();
        let rates = Rates::new(2, 8, begin);
        assert_eq!(taken(&rates, 1, begin), 2);
        let wait = rates.take(1, begin).unwrap_err();
        assert_eq!(wait, SECOND / 2);
        assert!(rates.take(1, begin + wait).is_ok());
    }

    #[test]
    fn keys_do_not_share() {
        let begin = Instant::now();
        let rates = Rates::new(3, 8, begin);
        for key in 0..8 {
            assert_eq!(taken(&rates, key, begin), 3);
        }
    }

    #[test]
    fn memory_is_bounded_and_newcomers_share_when_it_is_full() {
        let begin = Instant::now();
        let rates = Rates::new(3, 8, begin);
        let newcomers: usize = (0..1_000).map(|key| taken(&rates, key, begin)).sum();
        assert_eq!((rates.known(), newcomers), (8, 8 * 3 + 3));
        // Those who have rested make room.
        let later = begin + SECOND * 2;
        assert_eq!(taken(&rates, 5_000, later), 3);
        assert_eq!(rates.known(), 1);
    }
    #[test]
    fn a_second_s_worth_passes_and_then_what_has_passed_is_waited_for() {
        let begin = Instant::now();
        let rates: Rates<String> = Rates::new(1_000, 8, begin);
        let wait = |key: &str, now| rates.wait(key, now);
        assert_eq!(wait("a", begin), Duration::ZERO);
        rates.charge("a".to_owned(), 999, begin);
        assert_eq!(wait("a", begin), Duration::ZERO);
        rates.charge("a".to_owned(), 2_500, begin);
        assert_eq!(wait("a", begin), SECOND * 5 / 2);
        assert_eq!(wait("a", begin + SECOND * 2), SECOND / 2);
        assert_eq!(wait("a", begin + SECOND * 3), Duration::ZERO);
        assert_eq!(wait("b", begin), Duration::ZERO, "keys do not share");
    }

    #[test]
    fn many_bytes_a_second_are_counted_as_exactly_as_few() {
        let begin = Instant::now();
        for per_second in [1_000, 300 << 20, 3 << 30] {
            let rates: Rates<u32> = Rates::new(per_second, 8, begin);
            rates.charge(1, per_second * 11, begin);
            let wait = rates.wait(&1, begin).as_secs_f64();
            assert!((10.0..10.01).contains(&wait), "{per_second}: {wait}");
        }
    }

    #[test]
    fn newcomers_wait_together_when_the_table_is_full() {
        let begin = Instant::now();
        let rates: Rates<u32> = Rates::new(1_000, 8, begin);
        for key in 0..1_000 {
            rates.charge(key, 2_000, begin);
        }
        assert_eq!(rates.known(), 8);
        let second = Duration::from_millis(1_001);
        assert!(rates.wait(&7, begin) <= second);
        assert!(rates.wait(&5_000, begin) > SECOND * 1_900);
        // Those who have rested make room, which whoever passes next finds out.
        let later = begin + SECOND * 2_000;
        assert_eq!(rates.wait(&5_000, later), Duration::ZERO);
        rates.charge(5_000, 1, later);
        assert_eq!(rates.known(), 1);
    }
}
