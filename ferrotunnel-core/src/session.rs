//! The handle on a running session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrotunnel_common::StreamId;
use ferrotunnel_protocol as protocol;
use ferrotunnel_protocol::frame::{GoAwayCode, Register, Registered};
use ferrotunnel_protocol::{OpenError, OpenRequest};
use tokio::sync::oneshot;

use crate::moving::Onward;
use crate::shared::Shared;
use crate::stream::Stream;

/// One authenticated client-server connection. A cheap handle: clones share the session.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("state", &self.shared.lock(|inner| inner.machine.state()))
            .finish()
    }
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Opens a stream to a tunnel of the peer. No round trip, no waiting: bytes may be written at
    /// once, and a refusal comes back as a reset of the stream.
    ///
    /// # Errors
    /// The session takes no new streams.
    pub fn open(&self, request: OpenRequest) -> Result<Stream, OpenError> {
        let id = self.shared.command(|inner| inner.machine.open(request))?;
        Ok(Stream::new(Arc::clone(&self.shared), id))
    }

    /// A direct carrier asks for a stream. It is to be given to what comes back, if that stream is here and may go on over it.
    pub(crate) fn expect_onward(&self, id: StreamId) -> Option<oneshot::Sender<Onward>> {
        self.shared.lock(|inner| {
            inner.machine.agree_to_move(id).then(|| {
                let (give, take) = oneshot::channel();
                // The server asks once more only when it has given the one before up.
                inner.onward.insert(id, take);
                give
            })
        })
    }

    pub(crate) fn register(&self, number: u32, register: Register) {
        self.shared.command(|inner| inner.machine.register(number, register));
    }

    pub(crate) fn unregister(&self, number: u32) {
        self.shared.command(|inner| inner.machine.unregister(number));
    }

    pub(crate) fn registered(&self, number: u32, answer: Registered) {
        self.shared.command(|inner| inner.machine.registered(number, answer));
    }

    /// Takes nothing new, lets what is open finish, then closes.
    pub fn drain(&self, code: GoAwayCode, reason: &str) {
        self.shared.order(|inner| inner.machine.drain(code, reason));
    }

    /// Tells the peer and closes at once, open streams included.
    pub fn close(&self, code: GoAwayCode, reason: &str) {
        self.shared.order(|inner| inner.machine.close(code, reason));
    }

    /// Ends it here and tells the peer nothing more: neither why, nor what becomes of its streams from now on. Whoever has
    /// the carrier closes it.
    pub(crate) fn sever(&self) {
        self.shared.order(|inner| inner.machine.handle_eof());
    }

    /// Wants a sign of life from the peer within that time; without one the session is over.
    pub(crate) fn probe(&self, now: Instant, within: Duration) {
        self.shared.order(|inner| inner.machine.probe(now, within));
    }

    /// Whether it goes on, and its peer has given every sign of life that was asked for.
    pub(crate) fn is_alive(&self) -> bool {
        self.shared.lock(|inner| {
            inner.machine.state() != protocol::State::Closed && !inner.machine.is_probed()
        })
    }

    /// Whether tunnels and streams may come and go.
    pub(crate) fn is_established(&self) -> bool {
        self.shared.lock(|inner| inner.machine.state() == protocol::State::Established)
    }

    /// Whether it takes nothing new and is not over yet.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.lock(|inner| inner.machine.state() == protocol::State::Draining)
    }

    /// The least round trip of the last minutes: the way itself.
    pub(crate) fn least_round_trip(&self) -> Option<Duration> {
        self.shared.lock(|inner| inner.machine.least_round_trip())
    }

    /// Smoothed round trip to the peer.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.lock(|inner| inner.machine.round_trip())
    }

    /// Whether streams stand in each other's way; the next call tells with a fresh round trip.
    pub(crate) fn contention(&self, now: Instant, span: Duration) -> protocol::Contention {
        self.shared.command(|inner| inner.machine.contention(now, span))
    }

    /// Streams that were broken off, by code.
    pub(crate) fn resets(&self) -> protocol::Resets {
        self.shared.lock(|inner| inner.machine.resets())
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> protocol::Stats {
        self.shared.lock(|inner| inner.machine.stats())
    }
}
