//! The handle on a running session, and the state it shares with its driver and streams.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ferrotunnel_common::StreamId;
use ferrotunnel_protocol as protocol;
use ferrotunnel_protocol::frame::{GoAwayCode, Register, Registered};
use ferrotunnel_protocol::{OpenError, OpenRequest};
use hashbrown::HashMap;
use parking_lot::Mutex;

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

    /// Smoothed round trip to the peer.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared.lock(|inner| inner.machine.round_trip())
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> protocol::Stats {
        self.shared.lock(|inner| inner.machine.stats())
    }
}

/// The pure machine behind its one lock, with the tasks that wait for it.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) machine: protocol::Session,
    /// Tasks waiting to read from or write to a stream; only those that wait have an entry.
    waiting: HashMap<StreamId, Waiting>,
    /// The driver, when it should be woken for new output.
    pub(crate) driver: Option<Waker>,
}

#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(machine: protocol::Session) -> Self {
        Self { inner: Mutex::new(Inner { machine, waiting: HashMap::new(), driver: None }) }
    }

    /// Looks, or does what gives the driver nothing to do.
    pub(crate) fn lock<R>(&self, action: impl FnOnce(&mut Inner) -> R) -> R {
        action(&mut self.inner.lock())
    }

    /// Does something that may give the driver output, and wakes it if so.
    pub(crate) fn command<R>(&self, action: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock();
        let result = action(&mut inner);
        let driver = if inner.machine.has_output() { inner.driver.take() } else { None };
        drop(inner);
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// Does something that concerns the whole session, and wakes the driver in any case.
    pub(crate) fn order<R>(&self, action: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.inner.lock();
        let result = action(&mut inner);
        let driver = inner.driver.take();
        drop(inner);
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }
}

impl Inner {
    pub(crate) fn wait_to_read(&mut self, id: StreamId, waker: &Waker) {
        keep(&mut self.waiting.entry(id).or_default().reader, waker);
    }

    pub(crate) fn wait_to_write(&mut self, id: StreamId, waker: &Waker) {
        keep(&mut self.waiting.entry(id).or_default().writer, waker);
    }

    pub(crate) fn take_reader(&mut self, id: StreamId) -> Option<Waker> {
        let waker = self.waiting.get_mut(&id)?.reader.take();
        self.drop_if_idle(id);
        waker
    }

    pub(crate) fn take_writer(&mut self, id: StreamId) -> Option<Waker> {
        let waker = self.waiting.get_mut(&id)?.writer.take();
        self.drop_if_idle(id);
        waker
    }

    fn drop_if_idle(&mut self, id: StreamId) {
        if self
            .waiting
            .get(&id)
            .is_some_and(|waiting| waiting.reader.is_none() && waiting.writer.is_none())
        {
            self.waiting.remove(&id);
        }
    }

    pub(crate) fn stop_waiting(&mut self, id: StreamId) {
        self.waiting.remove(&id);
    }
}

fn keep(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(known) if known.will_wake(waker) => {}
        _ => *slot = Some(waker.clone()),
    }
}
