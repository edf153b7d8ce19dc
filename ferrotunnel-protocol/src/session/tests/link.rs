//! One direction of the carrier: bytes out at one end, chopped and late in at the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::rng::Rng;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) one_way: Duration,
    /// Unlimited if none.
    pub(super) bytes_per_second: Option<u64>,
    /// Cuts what it carries into random pieces.
    pub(super) chop: bool,
    /// Takes nothing and delivers nothing.
    pub(super) stalled: bool,
    in_flight: VecDeque<(Instant, Bytes)>,
    /// When it takes the next bytes.
    free_at: Instant,
    rng: Rng,
}

impl Link {
    pub(super) fn new(rng: Rng, now: Instant) -> Self {
        Self {
            one_way: Duration::ZERO,
            bytes_per_second: None,
            chop: false,
            stalled: false,
            in_flight: VecDeque::new(),
            free_at: now,
            rng,
        }
    }

    pub(super) fn takes_more(&self, now: Instant) -> bool {
        !self.stalled && self.free_at <= now
    }

    pub(super) fn push(&mut self, mut bytes: Bytes, now: Instant) {
        if let Some(rate) = self.bytes_per_second {
            let nanos = bytes.len() as u64 * 1_000_000_000 / rate;
            self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
        }
        let arrival = self.free_at.max(now) + self.one_way;
        while self.chop && bytes.len() > 1 && !self.rng.one_in(4) {
            let at = self.rng.size(bytes.len() - 1);
            self.in_flight.push_back((arrival, bytes.split_to(at)));
        }
        if !bytes.is_empty() {
            self.in_flight.push_back((arrival, bytes));
        }
    }

    /// The next piece that has arrived.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        let arrived = !self.stalled && self.in_flight.front().is_some_and(|(at, _)| *at <= now);
        if arrived { self.in_flight.pop_front().map(|(_, bytes)| bytes) } else { None }
    }

    /// When something arrives, or the link takes more.
    pub(super) fn next_instant(&self, now: Instant, has_output: bool) -> Option<Instant> {
        if self.stalled {
            return None;
        }
        let arrival = self.in_flight.front().map(|(at, _)| *at);
        let free = Some(self.free_at).filter(|at| has_output && *at > now);
        arrival.into_iter().chain(free).min()
    }
}
