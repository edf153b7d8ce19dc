//! What the limits of a server have cost those who came.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What is counted where tunnels are opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters {
    pub(crate) visitors_of_tunnels: Arc<AtomicU64>,
    pub(crate) visitors_of_paused: Arc<AtomicU64>,
    pub(crate) streams_too_fast: Arc<AtomicU64>,
    pub(crate) pauses: Arc<AtomicU64>,
}

/// How often each limit was met since the server started. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnedAway {
    /// Handshakes that had to wait for their turn, because wrong tokens came from the same source.
    pub handshakes_delayed: u64,
    /// Handshakes that were refused without a look at their proof, for the same reason.
    pub handshakes_refused: u64,
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
}
