//! The state that a session shares with its driver and its streams.

use std::task::Waker;

use ferrotunnel_common::StreamId;
use ferrotunnel_protocol as protocol;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::moving::Onward;

/// The pure machine behind its one lock, with the tasks that wait for it.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) machine: protocol::Session,
    /// Tasks waiting to read from or write to a stream; only those that wait have an entry.
    waiting: HashMap<StreamId, Waiting>,
    /// Direct carriers, or those about to be, that have asked for a stream.
    pub(crate) onward: HashMap<StreamId, oneshot::Receiver<Onward>>,
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
        let (waiting, onward) = (HashMap::new(), HashMap::new());
        Self { inner: Mutex::new(Inner { machine, waiting, onward, driver: None }) }
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
