//! Failed proofs per source: whoever guesses tokens gets so many tries a second.
//!
//! The limit stands right before a proof is checked, so it holds however many connections are open at once. What is
//! taken for a try is given back when the proof is right: those who know a token are not counted, and only where
//! others of the same source guess have to wait for a turn among them.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::seat::Seat;
use crate::source::Source;

/// The tries of all sources, in a table that does not grow. Two sources may share a place in it; which ones do
/// nobody can choose, and all it costs is to wait for a turn too.
#[derive(Debug)]
pub(crate) struct Guesses {
    places: Box<[Pace]>,
    hasher: RandomState,
    waiting: Arc<AtomicUsize>,
    pub(crate) delayed: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// When a proof may be checked.
#[derive(Debug)]
pub(crate) enum Turn {
    Now,
    /// After that time, for which it has a seat among those that wait.
    Later(Duration, Seat),
    /// Too many wait already.
    Never,
}

impl Guesses {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let places = (0..PLACES).map(|_| Pace::new(per_second.into(), now)).collect();
        Self {
            places,
            hasher: RandomState::new(),
            waiting: Arc::default(),
            delayed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Takes a try.
    pub(crate) fn take(&self, from: IpAddr, now: Instant) -> Turn {
        let Some(pace) = self.pace(from) else { return Turn::Now };
        let turn = match pace.take_within(LONGEST_WAIT, now) {
            None => Turn::Never,
            Some(Duration::ZERO) => return Turn::Now,
            Some(wait) => match Seat::take_within(&self.waiting, MOST_WAITING) {
                Some(seat) => Turn::Later(wait, seat),
                None => {
                    pace.give_back();
                    Turn::Never
                }
            },
        };
        let count = if let Turn::Never = turn { &self.refused } else { &self.delayed };
        count.fetch_add(1, Ordering::Relaxed);
        turn
    }

    /// The proof was right: it was no guess.
    pub(crate) fn give_back(&self, from: IpAddr) {
        if let Some(pace) = self.pace(from) {
            pace.give_back();
        }
    }

    fn pace(&self, from: IpAddr) -> Option<&Pace> {
        let hash = self.hasher.hash_one(Source::of(from));
        self.places.get(usize::try_from(hash % PLACES as u64).unwrap_or(0))
    }
}

/// Some 160 KiB. With a thousand sources that guess at the same time, an honest one has to wait among strangers
/// in one of five cases.
const PLACES: usize = 4_096;

/// A client that waits so long for an answer does not give up yet.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Over all sources; each has a descriptor and what a handshake holds.
const MOST_WAITING: usize = 1_024;

/// For whoever is not checked.
pub(crate) const TOO_MANY: &str =
    "too many wrong tokens come from your address; try again in a moment";

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const GUESSER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn a_guesser_waits_for_its_turns_and_is_refused_beyond_a_second_of_them() {
        let now = Instant::now();
        let guesses = Guesses::new(4, now);
        for _ in 0..4 {
            assert!(matches!(guesses.take(GUESSER, now), Turn::Now));
        }
        let mut seats = Vec::new();
        for wait in 1..=4 {
            match guesses.take(GUESSER, now) {
                Turn::Later(after, seat) => {
                    assert_eq!(after.as_millis(), 250 * wait);
                    seats.push(seat);
                }
                turn => panic!("{turn:?}"),
            }
        }
        for _ in 0..10 {
            assert!(matches!(guesses.take(GUESSER, now), Turn::Never));
        }
        let counts = [&guesses.delayed, &guesses.refused].map(|c| c.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 10]);
        let later = now + Duration::from_secs(2);
        assert!(matches!(guesses.take(GUESSER, later), Turn::Now), "it is forgotten");
    }

    #[test]
    fn the_right_proof_is_no_guess() {
        let now = Instant::now();
        let guesses = Guesses::new(1, now);
        for _ in 0..1_000 {
            assert!(matches!(guesses.take(GUESSER, now), Turn::Now));
            guesses.give_back(GUESSER);
        }
    }

    #[test]
    fn no_more_wait_than_there_is_room_for_and_nobody_loses_a_turn_by_it() {
        let now = Instant::now();
        let guesses = Guesses::new(1, now);
        let mut seats = Vec::new();
        let mut refused = None;
        for number in 0..40_000_u32 {
            let from = IpAddr::V4(Ipv4Addr::from(number));
            match guesses.take(from, now) {
                Turn::Now => {}
                Turn::Later(_, seat) => seats.push(seat),
                Turn::Never => refused = refused.or((seats.len() == MOST_WAITING).then_some(from)),
            }
        }
        assert_eq!(seats.len(), MOST_WAITING);
        let refused = refused.unwrap();
        seats.clear();
        assert_eq!(guesses.waiting.load(Ordering::Relaxed), 0);
        let later = now + Duration::from_secs(2);
        assert!(matches!(guesses.take(refused, later), Turn::Now));
    }

    #[test]
    fn others_are_not_touched() {
        let now = Instant::now();
        let guesses = Guesses::new(1, now);
        for _ in 0..100 {
            drop(guesses.take(GUESSER, now));
        }
        // Some few share its place in the table.
        let others = (0..1_000_u32).map(|number| IpAddr::V4(Ipv4Addr::from(number << 8)));
        let touched = others.filter(|from| !matches!(guesses.take(*from, now), Turn::Now)).count();
        assert!(touched < 400, "{touched}");
    }
}
