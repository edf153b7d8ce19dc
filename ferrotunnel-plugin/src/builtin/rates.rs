//! Rates of many things at once, in bounded memory.
//!
//! The crate `governor` has the same algorithm, but its keyed store grows with the number of keys until somebody sweeps
//! it, and here anybody may bring new keys.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many in a second for each key, and as many at once after a pause (the generic cell rate algorithm: what is kept
/// of a key is one point in time, from which on it has its whole burst again).
#[derive(Debug)]
pub(super) struct Rates<K> {
    /// Between two, in nanoseconds.
    interval: u64,
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
    pub(super) fn new(per_second: u32, room: usize, now: Instant) -> Self {
        let per_second = u64::from(per_second.max(1));
        let interval = (NANOS / per_second).max(1);
        let table = Table { full_at: HashMap::new(), others: 0, swept_until: 0 };
        let tolerance = interval * (per_second - 1);
        Self { interval, tolerance, began: now, room, table: Mutex::new(table) }
    }

    /// One more of that key; the error is how long it would have to wait.
    pub(super) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let since = now.saturating_duration_since(self.began).as_nanos();
        let now = u64::try_from(since).unwrap_or(u64::MAX / 2);
        let mut table = self.table.lock();
        let is_known = table.full_at.contains_key(&key);
        if !is_known && table.full_at.len() >= self.room && now >= table.swept_until {
            table.full_at.retain(|_, full_at| *full_at > now);
            // Whoever is still here is so for an interval or more.
            table.swept_until = now.saturating_add(self.interval);
        }
        let full_at = if is_known || table.full_at.len() < self.room {
            table.full_at.entry(key).or_insert(now)
        } else {
            // Who makes up addresses shares one rate with all who come meanwhile.
            &mut table.others
        };
        let ahead = (*full_at).max(now) - now;
        if ahead > self.tolerance {
            return Err(Duration::from_nanos(ahead - self.tolerance));
        }
        *full_at = now + ahead + self.interval;
        Ok(())
    }

    #[cfg(test)]
    fn known(&self) -> usize {
        self.table.lock().full_at.len()
    }
}

const NANOS: u64 = 1_000_000_000;

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
}
