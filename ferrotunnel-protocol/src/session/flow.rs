//! Credit-based flow control of one stream: what we may send, and what we let the peer send.

use std::time::{Duration, Instant};

use super::config::{MIN_WINDOW, TIGHT_WINDOW};
use crate::error::Violation;
use crate::frame::MAX_WINDOW;

/// Bytes the peer still lets us send.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendCredit(u32);

impl SendCredit {
    pub(super) fn new(bytes: u32) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(self) -> usize {
        self.0 as usize
    }

    pub(super) fn add(&mut self, bytes: u32) -> Result<(), Violation> {
        self.0 = self
            .0
            .checked_add(bytes)
            .filter(|sum| *sum <= MAX_WINDOW)
            .ok_or(Violation::WindowOverflow)?;
        Ok(())
    }

    /// Invariant: the scheduler never takes more than `bytes()`.
    pub(super) fn spend(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.0 as usize, "spent more credit than granted");
        self.0 = self.0.saturating_sub(bytes as u32);
    }
}

/// What the peer may send to us, and when it gets more.
///
/// Invariant: `credit + held <= window`. `credit` is what the peer may still send, `held` what it
/// sent and the application has not released.
#[derive(Debug)]
pub(super) struct ReceiveWindow {
    window: u32,
    credit: u32,
    held: u32,
    /// What the application has released, as far as it matters.
    passed: u32,
    last_grant: Option<Instant>,
}

/// The widest window of the streams that are busy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Widest {
    window: u32,
    seen: Option<Instant>,
}

impl Widest {
    /// Its size; 0 when nobody has been busy of late.
    fn at(&self, now: Instant) -> u32 {
        let is_fresh = self.seen.is_some_and(|seen| now.duration_since(seen) <= BUSY);
        if is_fresh { self.window } else { 0 }
    }

    fn seen(&mut self, window: u32, now: Instant) {
        if window >= self.at(now) {
            *self = Self { window, seen: Some(now) };
        }
    }
}

/// A grant that is due.
pub(super) struct Grant {
    pub(super) credit: u32,
}

impl ReceiveWindow {
    /// With that much credit. The window is never below the small one: a peer that opens a stream
    /// with less credit is granted the rest.
    pub(super) fn new(credit: u32) -> Self {
        Self { window: credit.max(TIGHT_WINDOW), credit, held: 0, passed: 0, last_grant: None }
    }

    /// The window in bytes, all of which counts against the budgets.
    pub(super) fn bytes(&self) -> u32 {
        self.window
    }

    pub(super) fn held(&self) -> u32 {
        self.held
    }

    /// Data came in.
    pub(super) fn receive(&mut self, bytes: usize) -> Result<(), Violation> {
        let bytes = u32::try_from(bytes).map_err(|_| Violation::FlowControl)?;
        self.credit = self.credit.checked_sub(bytes).ok_or(Violation::FlowControl)?;
        self.held += bytes;
        Ok(())
    }

    /// The application is done with that many bytes. Returns whether a grant is now due: half a
    /// window is free, which keeps a sender busy at one small frame per half window.
    pub(super) fn release(&mut self, bytes: u32) -> bool {
        debug_assert!(bytes <= self.held, "released more than was read");
        self.held = self.held.saturating_sub(bytes);
        self.passed = self.passed.saturating_add(bytes);
        self.is_grant_due()
    }

    pub(super) fn is_grant_due(&self) -> bool {
        self.free() >= self.window / 2
    }

    /// Neither granted nor in use.
    fn free(&self) -> u32 {
        self.window - self.credit - self.held
    }

    /// Takes the grant that is due. A window gone within two round trips means that the
    /// window, not the application, may be what limits the sender: it doubles if `reserve`, given
    /// the present size and the next, finds the memory. A stream that nobody reads releases
    /// nothing and so never gets here.
    ///
    /// So does one whose reader keeps up, as long as it is smaller than the `widest` of the busy
    /// streams beside it. Where they share a carrier that is full, each gets what its window is of
    /// all their windows, and the first to come would keep the largest share for ever.
    pub(super) fn take_grant(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        widest: &mut Widest,
        reserve: impl FnOnce(u32, u32) -> bool,
    ) -> Option<Grant> {
        if !self.is_grant_due() {
            return None;
        }
        if self.window < MIN_WINDOW {
            // Started small in a tight moment; back to the minimum once it is over.
            if reserve(self.window, MIN_WINDOW) {
                self.window = MIN_WINDOW;
            }
        } else if let Some(last) = self.last_grant
            && self.window <= MAX_WINDOW / 2
            && self.has_a_reader(round_trip)
            && (round_trip.is_some_and(|time| self.limits_sender(now.duration_since(last), time))
                || (self.is_busy(now) && self.keeps_up() && self.window < widest.at(now)))
            && reserve(self.window, self.window * 2)
        {
            self.window *= 2;
        }
        if self.is_busy(now) {
            widest.seen(self.window, now);
        }
        self.last_grant = Some(now);
        let credit = self.free();
        self.credit += credit;
        Some(Grant { credit })
    }

    /// Whether that was more than what lies behind a stream takes at full speed though nobody reads it. Over a long way
    /// it is not waited for: it would take a round trip for each window.
    fn has_a_reader(&self, round_trip: Option<Duration>) -> bool {
        self.passed >= BUFFERED_BEHIND || round_trip.is_some_and(|time| time >= LONG_WAY)
    }

    /// Whether what became free since the last grant did so at the speed of a window in two round
    /// trips: a window then ends up at two to four times what is under way. A reader may free more
    /// than half a window at once.
    fn limits_sender(&self, elapsed: Duration, round_trip: Duration) -> bool {
        let least = if self.window < WIDE { LEAST_ROUND_TRIP } else { LEAST_FOR_WIDE };
        let round_trip = round_trip.max(least);
        elapsed.as_nanos() * u128::from(self.window)
            < round_trip.as_nanos() * 2 * u128::from(self.free())
    }

    /// Whether half a window went through a moment ago.
    fn is_busy(&self, now: Instant) -> bool {
        self.last_grant.is_some_and(|last| now.duration_since(last) <= BUSY)
    }

    /// Whether the reader leaves little lying, so that it is not what the sender waits for.
    fn keeps_up(&self) -> bool {
        self.held <= self.window / 4
    }

    /// Whether the peer was granted more after `then`: half a window has gone through since.
    pub(super) fn granted_after(&self, then: Instant) -> bool {
        self.last_grant.is_some_and(|last| last > then)
    }

    pub(super) fn check(&self) {
        assert!(
            self.credit as u64 + self.held as u64 <= self.window as u64,
            "receive window: {} credit + {} held > {}",
            self.credit,
            self.held,
            self.window
        );
    }
}

/// Half a window within this time makes a stream a busy one: with the least window that is 2.6
/// Mbit/s. Over a way so long that it takes longer, windows grow by the round trip alone.
const BUSY: Duration = Duration::from_millis(100);

/// An HTTP connection buffers some 200 KiB, the socket of a visitor who does not read a hundred, and much more where its
/// window is large. A stream at the least window has passed that in 4 ms at 1 Gbit/s.
const BUFFERED_BEHIND: u32 = 512 << 10;

/// 64 KiB in each 5 ms are 100 Mbit/s.
const LONG_WAY: Duration = Duration::from_millis(5);

/// A round trip is taken for no shorter than this when windows are tuned. On a short link it is not
/// the wire that takes the time but the tasks at both ends, which a Ping on an idle session does
/// not see: a window for the wire alone would hold a busy pair of machines back. It lets a window
/// cover half a millisecond of what its reader takes: 64 KiB at 1 Gbit/s, 1 MiB at 16. More would
/// only fill the buffers of the carrier, and everybody else on it would wait behind them.
const LEAST_ROUND_TRIP: Duration = Duration::from_micros(250);

/// The same for windows that are wide already. What lies in them is what everybody else on a carrier waits behind: measured
/// over loopback, one that grew to 4 MiB tripled what a ping-pong beside it took, for a tenth more of bulk.
const LEAST_FOR_WIDE: Duration = Duration::from_micros(80);

/// 0.8 ms at 10 Gbit/s.
const WIDE: u32 = 1 << 20;
