//! How much work a client may ask for that moves nothing: pings, credit, streams that are reset at once, names that
//! come and go.
//!
//! A client that serves visitors has some for each of them, and for what it receives; those are free. What is beyond
//! is paid from a rate. Whoever has used it up is not read from for a moment, so that it waits in its own sockets and
//! nobody waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use ferrotunnel_protocol::Stats;
use tokio::time::Sleep;

use crate::clock;
use crate::pace::Pace;

/// The account of one session's client.
#[derive(Debug)]
pub(super) struct Chores {
    pace: Pace,
    /// What is free and not yet used.
    free: u64,
    seen: Stats,
    /// Something was taken from the rate that may not be paid yet.
    owes: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Chores {
    pub(super) fn new(seen: Stats, now: Instant) -> Self {
        Self { pace: Pace::new(PER_SECOND, now), free: 0, seen, owes: false, pause: None }
    }

    /// What the session has counted by now.
    pub(super) fn count(&mut self, stats: Stats, now: Instant) {
        let seen = std::mem::replace(&mut self.seen, stats);
        let earned = (stats.opened_here - seen.opened_here) * PER_STREAM
            + stats.bytes_out / BYTES_PER_CHORE
            - seen.bytes_out / BYTES_PER_CHORE;
        let asked = stats.chores_in - seen.chores_in;
        self.free = (self.free + earned).min(PER_SECOND);
        let free = asked.min(self.free);
        self.free -= free;
        if asked > free {
            self.pace.charge(asked - free, now);
            self.owes = true;
        }
    }

    /// Whether nothing of the client is to be looked at now. The task is woken when it is over.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.owes {
            return false;
        }
        let now = clock::now();
        let wait = self.pace.wait(now);
        if wait.is_zero() {
            self.owes = false;
            self.pause = None;
            return false;
        }
        let until = (now + wait).into();
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if pause.deadline() < until {
            pause.as_mut().reset(until);
        }
        // A timer that was late is asked again.
        if pause.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        true
    }
}

/// As much again may come at once after a second of rest: the tunnels of a client that comes back, or all its
/// streams that are reset. A session that goes on at this rate takes some hundredths of a thread.
const PER_SECOND: u64 = 32_768;

/// A stream that was opened for a visitor may be given credit and reset.
const PER_STREAM: u64 = 2;

/// Half of the smallest window is given back at once.
const BYTES_PER_CHORE: u64 = 8 << 10;

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    fn waits(chores: &mut Chores) -> bool {
        chores.poll_pause(&mut Context::from_waker(Waker::noop()))
    }

    fn stats(change: impl FnOnce(&mut Stats)) -> Stats {
        let mut stats = Stats::default();
        change(&mut stats);
        stats
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_more_than_its_rate_waits_until_it_is_paid() {
        let now = clock::now();
        let mut chores = Chores::new(Stats::default(), now);
        chores.count(stats(|stats| stats.chores_in = PER_SECOND), now);
        assert!(!waits(&mut chores), "a second's worth at once");
        chores.count(stats(|stats| stats.chores_in = PER_SECOND * 3 / 2), now);
        tokio::time::advance(Duration::from_millis(499)).await;
        assert!(waits(&mut chores));
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(!waits(&mut chores));
    }

    #[tokio::test(start_paused = true)]
    async fn chores_of_visitors_are_free() {
        let now = clock::now();
        let mut chores = Chores::new(Stats::default(), now);
        let mut all = Stats::default();
        for _ in 0..1_000 {
            all.opened_here += 1_000;
            all.bytes_out += 1_000 * BYTES_PER_CHORE;
            all.chores_in += 3_000;
            chores.count(all, now);
        }
        assert!(!waits(&mut chores));
        // But what others have is nothing to save up.
        all.chores_in += PER_SECOND * 3;
        chores.count(all, now);
        assert!(waits(&mut chores));
    }
}
