//! What the limits of a server have cost those who came.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted where limits are met. A cheap handle; clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(Arc<[AtomicU64; Limit::COUNT]>);

/// A limit that was met, and that nobody else counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    HandshakesInFlight,
    Sessions,
    SessionsOfPrincipal,
    TunnelsOfSession,
    TunnelsOfPrincipal,
    StreamsOfSession,
    StreamsOfPrincipal,
    Visitors,
    VisitorsOfTunnel,
    /// It takes none for now.
    VisitorsOfPaused,
    StreamsTooFast,
    Pauses,
}

impl Limit {
    const COUNT: usize = Self::Pauses as usize + 1;
}

impl Meters {
    pub(crate) fn count(&self, met: Limit) {
        if let Some(count) = self.0.get(met as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn of(&self, met: Limit) -> u64 {
        self.0.get(met as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// How often each limit was met since the server started. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnedAway {
    /// Handshakes that had to wait for their turn, because wrong tokens came from the same source, or connections that
    /// came to nothing.
    pub handshakes_delayed: u64,
    /// Handshakes that were refused without a look at their proof, for the same reason.
    pub handshakes_refused: u64,
    /// Times that whoever came next had to wait, because as many handshakes as may be were under way.
    pub handshakes_waiting: u64,
    /// Clients that were refused because the server has all the sessions that it may have.
    pub sessions: u64,
    /// Clients that were refused because their principal has all the sessions that it may have.
    pub sessions_of_principals: u64,
    /// Tunnels that were refused because their session has all that it may have.
    pub tunnels_of_sessions: u64,
    /// Tunnels that were refused because their principal has all that it may have.
    pub tunnels_of_principals: u64,
    /// Times that a session was not given a stream, because it has all that it may have.
    pub streams_of_sessions: u64,
    /// The same because its principal has.
    pub streams_of_principals: u64,
    /// Visitors of HTTP and HTTPS that found the server full.
    pub visitors: u64,
    /// Visitors of tunnels that had all that one may have.
    pub visitors_of_tunnels: u64,
    /// Visitors of tunnels that take none for now, because somebody at the server said so; over HTTP their requests.
    pub visitors_of_paused: u64,
    /// Visitors from sources that had all that one may have.
    pub visitors_of_addresses: u64,
    /// Times that a session was not given a stream, because it or its principal has had all of the second.
    pub streams_too_fast: u64,
    /// Times that a direction of a stream had to wait, because its session or principal has had all bytes of the
    /// second. Nothing is lost by that.
    pub pauses: u64,
    /// Times that receive memory became short, so that new streams start with small windows.
    pub memory: u64,
    /// The same of a single session's.
    pub memory_of_sessions: u64,
}
