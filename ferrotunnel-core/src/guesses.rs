//! Failed proofs per source and token: whoever guesses tokens gets so many tries a second.
//!
//! The limit stands right before a proof is checked, so it holds however many connections are open at once. What is
//! counted is a proof that is wrong: those who know a token are not counted, and only where others of the same source
//! guess at the same token have to wait for a turn among them. What is said to be of a token that nobody has counts
//! as a guess at one and the same, so a source has as many tries as before, whatever it invents. A wrong proof of a token
//! that somebody has is told so when one of those would be, so nobody learns from an answer which tokens there are.
//!
//! The same table, another one of them, has those who never get to a proof. To shake hands and leave costs as much as
//! thousands of frames, so a source that does nothing else has to wait for its turn, and those with it who have not
//! been in lately. What is no handshake costs little, and is kept waiting before it is let go: nobody else waits for that.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::pace::Pace;
use crate::seat::Seat;
use crate::source::Source;

/// The tries of all sources, in a table that does not grow. Two sources may share a place in it; which ones do
/// nobody can choose; it is as if they had one address.
#[derive(Debug)]
pub(crate) struct Guesses {
    places: Box<[Pace]>,
    hasher: RandomState,
    /// How long somebody waits for a turn at most.
    longest_wait: Duration,
    /// For how long those are waited for at most that failed at the same time.
    longest_debt: Duration,
    waiting: Arc<AtomicUsize>,
    pub(crate) delayed: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// When a proof may be checked.
#[derive(Debug)]
pub(crate) enum Turn<'a> {
    Now(Try<'a>),
    /// After that time, for which it has a seat among those that wait.
    Later(Duration, Seat, Try<'a>),
    /// Too many wait already.
    Never,
}

/// One check of a proof. Whoever has checked it says at once how that went.
#[derive(Debug)]
#[must_use]
pub(crate) struct Try<'a> {
    pace: Option<&'a Pace>,
    longest_debt: Duration,
    /// Counted in advance, since it had to wait for its turn.
    is_counted: bool,
    /// What would have become of it, and since when, if there were no such token.
    otherwise: Option<Box<(Turn<'a>, Instant)>>,
}

/// When a guess is told that it was wrong.
#[derive(Debug)]
pub(crate) enum Answer {
    Now,
    /// After that time, for which it has a seat among those that wait.
    Later(Duration, Seat),
    /// It is only told that there are too many.
    Never,
}

impl Try<'_> {
    /// One that nobody counts.
    pub(crate) fn free() -> Self {
        Self { pace: None, longest_debt: Duration::ZERO, is_counted: false, otherwise: None }
    }

    /// It was a guess.
    pub(crate) fn wrong(self, now: Instant) -> Answer {
        if let (Some(pace), false) = (self.pace, self.is_counted) {
            pace.charge_within(1, self.longest_debt, now);
        }
        match self.otherwise.map(|otherwise| *otherwise) {
            None => Answer::Now,
            Some((Turn::Now(attempt), _)) => attempt.wrong(now),
            Some((Turn::Later(wait, seat, _), since)) => {
                Answer::Later(wait.saturating_sub(now.duration_since(since)), seat)
            }
            Some((Turn::Never, _)) => Answer::Never,
        }
    }

    /// It was none.
    pub(crate) fn right(self) {
        if let (Some(pace), true) = (self.pace, self.is_counted) {
            pace.give_back();
        }
        if let Some((Turn::Later(_, _, attempt), _)) = self.otherwise.map(|otherwise| *otherwise) {
            attempt.right();
        }
    }
}

impl Guesses {
    /// Of those who guess at tokens.
    pub(crate) fn at_tokens(per_second: u32, now: Instant) -> Self {
        Self::new(per_second, LONGEST_WAIT, Duration::MAX, now)
    }

    /// Of those who do not get as far.
    pub(crate) fn at_the_door(per_second: u32, now: Instant) -> Self {
        Self::new(per_second, DOOR_WAIT, DOOR_DEBT, now)
    }

    fn new(per_second: u32, longest_wait: Duration, longest_debt: Duration, now: Instant) -> Self {
        let places = (0..PLACES).map(|_| Pace::new(per_second.into(), now)).collect();
        Self {
            places,
            hasher: RandomState::new(),
            longest_wait,
            longest_debt,
            waiting: Arc::default(),
            delayed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// So many a second from now on.
    pub(crate) fn set_rate(&self, per_second: u32) {
        self.places.iter().for_each(|pace| pace.set_rate(per_second.into()));
    }

    /// A try, at once where there is one left. Until it is known to be wrong it takes nothing then, so that any
    /// number of those who know a token get through at the same time; as many that do not as there are threads
    /// may be ahead of their rate, and are waited for afterwards.
    ///
    /// At the door, `apart` is what those say who count by themselves.
    pub(crate) fn take(&self, from: IpAddr, apart: Option<&str>, now: Instant) -> Turn<'_> {
        let turn = self.look(from, apart, now);
        match &turn {
            Turn::Now(_) => {}
            Turn::Later(..) => one_more(&self.delayed),
            Turn::Never => one_more(&self.refused),
        }
        turn
    }

    /// The same for a proof of the token of that id, if there is one.
    pub(crate) fn take_for(&self, from: IpAddr, known: Option<&str>, now: Instant) -> Turn<'_> {
        let mut turn = self.take(from, known, now);
        if let (Some(_), Turn::Now(attempt) | Turn::Later(_, _, attempt)) = (known, &mut turn) {
            attempt.otherwise = Some(Box::new((self.look(from, None, now), now)));
        }
        turn
    }

    /// A proof was wrong. What its source has to wait for is counted, unless that was so before.
    pub(crate) fn wrong(&self, attempt: Try<'_>, now: Instant) -> Answer {
        let has_waited = attempt.is_counted;
        let answer = attempt.wrong(now);
        match &answer {
            Answer::Later(..) if !has_waited => one_more(&self.delayed),
            Answer::Now | Answer::Later(..) => {}
            Answer::Never => one_more(&self.refused),
        }
        answer
    }

    fn look(&self, from: IpAddr, known: Option<&str>, now: Instant) -> Turn<'_> {
        let Some(pace) = self.pace(from, known) else {
            return Turn::Now(Try::free());
        };
        let longest_debt = self.longest_debt;
        let attempt =
            |is_counted| Try { pace: Some(pace), longest_debt, is_counted, otherwise: None };
        if pace.has_one(now) {
            return Turn::Now(attempt(false));
        }
        let place = pace.take_within(self.longest_wait, now).and_then(|wait| {
            let seat = Seat::take_within(&self.waiting, MOST_WAITING);
            if seat.is_none() {
                pace.give_back();
            }
            seat.map(|seat| (wait, seat))
        });
        match place {
            Some((wait, seat)) => Turn::Later(wait, seat, attempt(true)),
            None => Turn::Never,
        }
    }

    /// Something else that counts as one.
    pub(crate) fn count(&self, from: IpAddr, now: Instant) {
        if let Some(pace) = self.pace(from, None) {
            pace.charge_within(1, self.longest_debt, now);
        }
    }

    fn pace(&self, from: IpAddr, known: Option<&str>) -> Option<&Pace> {
        let hash = self.hasher.hash_one((Source::of(from), known));
        self.places.get(usize::try_from(hash % PLACES as u64).unwrap_or(0))
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Some 160 KiB. With a thousand sources that guess at the same time, an honest one has to wait among strangers
/// in one of five cases.
const PLACES: usize = 4_096;

/// A client that waits so long for an answer does not give up yet.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The same for somebody who is not heard yet: shorter than clients wait for a server. At five a second two dozen find a
/// turn, and an honest client behind them.
const DOOR_WAIT: Duration = Duration::from_secs(5);

/// Leaves that honest client a turn, however many have failed at once.
const DOOR_DEBT: Duration = Duration::from_secs(4);

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

    fn guess(guesses: &Guesses, from: IpAddr, now: Instant) {
        match guesses.take(from, None, now) {
            Turn::Now(attempt) => drop(attempt.wrong(now)),
            turn => panic!("{turn:?}"),
        }
    }

    /// A table in which those tokens of the guesser's have places of their own.
    fn at_tokens_apart(per_second: u32, now: Instant, tokens: &[Option<&str>]) -> Guesses {
        loop {
            let guesses = Guesses::at_tokens(per_second, now);
            let place =
                |known: &Option<&str>| guesses.pace(GUESSER, *known).map(std::ptr::from_ref);
            let places: std::collections::HashSet<_> = tokens.iter().map(place).collect();
            if places.len() == tokens.len() {
                return guesses;
            }
        }
    }

    #[test]
    fn a_guesser_waits_for_its_turns_and_is_refused_beyond_a_second_of_them() {
        let now = Instant::now();
        let guesses = Guesses::at_tokens(4, now);
        for _ in 0..4 {
            guess(&guesses, GUESSER, now);
        }
        let mut seats = Vec::new();
        for wait in 1..=4 {
            match guesses.take(GUESSER, None, now) {
                Turn::Later(after, seat, attempt) => {
                    attempt.wrong(now);
                    assert_eq!(after.as_millis(), 250 * wait);
                    seats.push(seat);
                }
                turn => panic!("{turn:?}"),
            }
        }
        for _ in 0..10 {
            assert!(matches!(guesses.take(GUESSER, None, now), Turn::Never));
        }
        let counts = [&guesses.delayed, &guesses.refused].map(|c| c.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 10]);
        let later = now + Duration::from_secs(2);
        assert!(matches!(guesses.take(GUESSER, None, later), Turn::Now(_)), "it is forgotten");
    }

    #[test]
    fn the_right_proof_is_no_guess() {
        let now = Instant::now();
        let guesses = Guesses::at_tokens(1, now);
        // All at the same time.
        let turns: Vec<_> = (0..1_000).map(|_| guesses.take(GUESSER, None, now)).collect();
        for turn in turns {
            let Turn::Now(attempt) = turn else { panic!("{turn:?}") };
            attempt.right();
        }
        guess(&guesses, GUESSER, now);
        // Among guessers it waits, but leaves them no fewer turns than they had.
        for _ in 0..1_000 {
            let Turn::Later(wait, _, attempt) = guesses.take(GUESSER, None, now) else {
                panic!("nobody else waits")
            };
            assert_eq!(wait, Duration::from_secs(1));
            attempt.right();
        }
    }

    #[test]
    fn guesses_at_one_token_hold_up_nobody_who_has_another() {
        let now = Instant::now();
        let guesses = at_tokens_apart(1, now, &[None, Some(""), Some("laptop")]);
        let take = |known| guesses.take(GUESSER, known, now);
        for _ in 0..10 {
            if let Turn::Now(attempt) | Turn::Later(_, _, attempt) = take(Some("")) {
                attempt.wrong(now);
            }
            if let Turn::Now(attempt) | Turn::Later(_, _, attempt) = take(None) {
                attempt.wrong(now);
            }
        }
        assert!(matches!(take(Some("")), Turn::Never) && matches!(take(None), Turn::Never));
        for _ in 0..10 {
            let Turn::Now(attempt) = take(Some("laptop")) else { panic!("it had to wait") };
            attempt.right();
        }
    }

    #[test]
    fn a_wrong_proof_is_told_so_when_one_of_a_token_that_nobody_has_would_be() {
        let begin = Instant::now();
        // What somebody learns who has guessed so often already, and guesses now.
        let (laptop, other) = (Some("laptop"), Some("other"));
        let learns = |before: &[Option<&str>], known: Option<&str>| {
            let guesses = at_tokens_apart(2, begin, &[None, laptop, other]);
            let mut held = Vec::new();
            let guess = |known, held: &mut Vec<Seat>| {
                let (wait, attempt) = match guesses.take_for(GUESSER, known, begin) {
                    Turn::Now(attempt) => (Duration::ZERO, attempt),
                    Turn::Later(wait, seat, attempt) => {
                        held.push(seat);
                        (wait, attempt)
                    }
                    Turn::Never => return None,
                };
                // It is checked when it is its turn.
                match guesses.wrong(attempt, begin + wait) {
                    Answer::Now => Some(wait),
                    Answer::Later(more, seat) => {
                        held.push(seat);
                        Some(wait + more)
                    }
                    Answer::Never => None,
                }
            };
            for known in before {
                guess(*known, &mut held);
            }
            guess(known, &mut held)
        };
        for count in 0..6 {
            let expected = learns(&vec![None; count], None);
            for before in [None, laptop, other] {
                for known in [None, laptop, other] {
                    assert_eq!(
                        learns(&vec![before; count], known),
                        expected,
                        "{count} {before:?} {known:?}"
                    );
                }
            }
        }
        assert_eq!(learns(&[None; 1], laptop), Some(Duration::ZERO));
        assert_eq!(learns(&[None; 3], laptop), Some(Duration::from_secs(1)));
        assert_eq!(learns(&[None; 4], laptop), None);
    }

    #[test]
    fn guesses_at_tokens_that_nobody_has_are_nothing_to_who_knows_one() {
        let now = Instant::now();
        let guesses = Guesses::at_tokens(1, now);
        for _ in 0..4 {
            if let Turn::Now(attempt) | Turn::Later(_, _, attempt) =
                guesses.take_for(GUESSER, None, now)
            {
                attempt.wrong(now);
            }
        }
        let counts = || [&guesses.delayed, &guesses.refused].map(|c| c.load(Ordering::Relaxed));
        let before = counts();
        for _ in 0..1_000 {
            let turn = guesses.take_for(GUESSER, Some("laptop"), now);
            let Turn::Now(attempt) = turn else { panic!("{turn:?}") };
            attempt.right();
        }
        assert_eq!(counts(), before);
    }

    #[test]
    fn guesses_at_the_same_time_are_waited_for_afterwards() {
        let now = Instant::now();
        let guesses = Guesses::at_tokens(2, now);
        let turns: Vec<_> = (0..6).map(|_| guesses.take(GUESSER, None, now)).collect();
        for turn in turns {
            let Turn::Now(attempt) = turn else { panic!("{turn:?}") };
            attempt.wrong(now);
        }
        for (millis, is_now) in [(0, false), (1_000, false), (2_499, false), (2_500, true)] {
            let turn = guesses.take(GUESSER, None, now + Duration::from_millis(millis));
            assert_eq!(matches!(turn, Turn::Now(_)), is_now, "after {millis} ms");
            if let Turn::Later(_, _, attempt) = turn {
                attempt.right();
            }
        }
    }

    #[test]
    fn who_comes_behind_a_crowd_that_failed_waits_for_seconds_and_not_for_all_of_them() {
        let now = Instant::now();
        let strangers = Guesses::at_the_door(5, now);
        let crowd: Vec<_> = (0..512).map(|_| strangers.take(GUESSER, None, now)).collect();
        for turn in crowd {
            let Turn::Now(attempt) = turn else { panic!("{turn:?}") };
            attempt.wrong(now);
        }
        strangers.count(GUESSER, now);
        let Turn::Later(wait, ..) = strangers.take(GUESSER, None, now) else { panic!("no turn") };
        assert!(wait <= DOOR_WAIT, "{wait:?}");
    }

    #[test]
    fn no_more_wait_than_there_is_room_for_and_nobody_loses_a_turn_by_it() {
        let now = Instant::now();
        let guesses = Guesses::at_tokens(1, now);
        let mut seats = Vec::new();
        let mut refused = None;
        for number in 0..40_000_u32 {
            let from = IpAddr::V4(Ipv4Addr::from(number));
            match guesses.take(from, None, now) {
                Turn::Now(attempt) => drop(attempt.wrong(now)),
                Turn::Later(_, seat, _) => seats.push(seat),
                Turn::Never => refused = refused.or((seats.len() == MOST_WAITING).then_some(from)),
            }
        }
        assert_eq!(seats.len(), MOST_WAITING);
        let refused = refused.unwrap();
        seats.clear();
        assert_eq!(guesses.waiting.load(Ordering::Relaxed), 0);
        let later = now + Duration::from_secs(2);
        assert!(matches!(guesses.take(refused, None, later), Turn::Now(_)));
    }

    #[test]
    fn others_are_not_touched() {
        let now = Instant::now();
        let guesses = Guesses::at_tokens(1, now);
        guess(&guesses, GUESSER, now);
        // Some few share its place in the table.
        let others = (0..1_000_u32).map(|number| IpAddr::V4(Ipv4Addr::from(number << 8)));
        let touched = others.filter(|from| !matches!(guesses.take(*from, None, now), Turn::Now(_)));
        let touched = touched.count();
        assert!(touched < 50, "{touched}");
    }
}
