//! The requests that are kept, within a budget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ferrotunnel_plugin::RequestMeter;
use http::Method;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, broadcast};

use crate::counted::Counted;
use crate::inspector::News;
use crate::mask::Mask;
use crate::record::{Content, Record};
use crate::replay::{MOST_REPLAYS, Reach};
use crate::settings::InspectorSettings;
use crate::view::RequestSummary;

/// What everybody has a share of who sees requests or asks for them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: InspectorSettings,
    pub(crate) mask: Mask,
    store: Mutex<Store>,
    /// Bytes that all of them take.
    held: AtomicUsize,
    /// Of these, what is lent.
    lent: AtomicUsize,
    last_id: AtomicU64,
    pub(crate) news: broadcast::Sender<News>,
    pub(crate) reach: RwLock<Option<Arc<dyn Reach>>>,
    pub(crate) replays: Arc<Semaphore>,
    pub(crate) meter: OnceLock<Arc<dyn RequestMeter>>,
    lost_sight: AtomicU64,
}

#[derive(Debug, Default)]
struct Store {
    records: BTreeMap<u64, Arc<Record>>,
    /// Those that are over, in the order of their ends.
    over: VecDeque<u64>,
}

impl Shared {
    pub(crate) fn new(settings: InspectorSettings) -> Self {
        Self {
            mask: Mask::new(&settings.hide),
            settings,
            store: Mutex::default(),
            held: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            news: broadcast::Sender::new(MOST_BEHIND),
            reach: RwLock::new(None),
            replays: Arc::new(Semaphore::new(MOST_REPLAYS)),
            meter: OnceLock::new(),
            lost_sight: AtomicU64::new(0),
        }
    }

    /// Keeps one more; another one goes for it if need be.
    pub(crate) fn keep(&self, mut content: Content) -> Arc<Record> {
        let weight = content.weight + RECORD_WEIGHT;
        content.weight = weight;
        self.reserve(weight);
        let mut store = self.store.lock();
        while store.records.len() >= self.settings.most_requests.max(1) {
            let Some(freed) = store.forget_one() else { break };
            self.release(freed);
        }
        // Within the lock, so that they come in order.
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let record = Arc::new(Record { id, content: Mutex::new(content) });
        store.records.insert(id, Arc::clone(&record));
        record
    }

    pub(crate) fn is_over(&self, id: u64) {
        let mut store = self.store.lock();
        if store.records.contains_key(&id) {
            store.over.push_back(id);
        }
    }

    /// Takes that much of the budget. Whoever has a record locked must not ask.
    pub(crate) fn reserve(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= self.settings.budget_bytes {
            return;
        }
        let mut store = self.store.lock();
        while self.held.load(Ordering::Relaxed) > self.settings.budget_bytes {
            let Some(freed) = store.forget_one() else { break };
            self.release(freed);
        }
    }

    /// The same for what belongs to no record, until the loan is dropped. `None`: too much is lent already, and whoever asks
    /// has to do without.
    pub(crate) fn lend(self: &Arc<Self>, bytes: usize) -> Option<Loan> {
        // Made first, so that it is given back in either case.
        let loan = Loan { shared: Arc::clone(self), bytes };
        let lent = self.lent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.reserve(bytes);
        (lent <= self.settings.budget_bytes / LENT).then_some(loan)
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Record>> {
        self.store.lock().records.get(&id).cloned()
    }

    /// The newest first, before that one if there is one.
    pub(crate) fn all(&self, before: Option<u64>) -> Vec<Arc<Record>> {
        let store = self.store.lock();
        let before = before.unwrap_or(u64::MAX);
        store.records.range(..before).rev().map(|(_, record)| Arc::clone(record)).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.store.lock().records.len()
    }

    pub(crate) fn clear(&self) {
        {
            let mut store = self.store.lock();
            while let Some(freed) = store.forget_one() {
                self.release(freed);
            }
        }
        let _ = self.news.send(News::Cleared);
    }

    /// A visitor's request begins, for who counts requests, if anybody does.
    pub(crate) fn counted(&self, tunnel: &str, method: &str) -> Option<Counted> {
        let meter = self.meter.get()?;
        match Method::from_bytes(method.as_bytes()) {
            Ok(method) => Some(Counted::begin(meter, tunnel, method)),
            Err(_) => {
                self.lose_sight();
                None
            }
        }
    }

    /// The rest of a connection, or one request on it, is not looked at.
    pub(crate) fn lose_sight(&self) {
        self.lost_sight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_sight(&self) -> u64 {
        self.lost_sight.load(Ordering::Relaxed)
    }

    /// Tells of a change of a request, if anybody listens.
    pub(crate) fn tell(&self, record: &Record) {
        if self.news.receiver_count() > 0 {
            let summary = RequestSummary::of(record);
            let _ = self.news.send(News::Request(Arc::new(summary)));
        }
    }
}

/// A part of the budget that is in use beside the records.
#[derive(Debug)]
pub(crate) struct Loan {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.shared.lent.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shared.release(self.bytes);
    }
}

impl Store {
    /// Lets one go. Returns what it has freed, or `None` if there is none.
    fn forget_one(&mut self) -> Option<usize> {
        let record = match self.over.pop_front() {
            Some(id) => self.records.remove(&id)?,
            None => self.records.pop_first()?.1,
        };
        Some(record.content.lock().empty())
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a request takes beside what was captured of it.
const RECORD_WEIGHT: usize = size_of::<Record>() + 128;

/// Of the budget at most this part is lent: what it is there for is records.
const LENT: usize = 4;

/// News that somebody may be behind; who is more so misses some.
const MOST_BEHIND: usize = 1_024;
