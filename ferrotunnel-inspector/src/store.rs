//! The requests that are kept, within a budget.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ferrotunnel_plugin::RequestMeter;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, broadcast};

use crate::exchange::AT_ONCE;
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
    news: broadcast::Sender<News>,
    /// Whether somebody listens, or did a moment ago.
    has_listeners: AtomicBool,
    pub(crate) reach: RwLock<Option<Arc<dyn Reach>>>,
    pub(crate) replays: Arc<Semaphore>,
    pub(crate) meter: OnceLock<Arc<dyn RequestMeter>>,
    lost_sight: AtomicU64,
}

/// Whoever has it locked does nothing that takes time.
#[derive(Debug, Default)]
struct Store {
    last_id: u64,
    /// Those that are not over: as many as are under way.
    open: BTreeMap<u64, Arc<Record>>,
    /// The others, in the order of their ends.
    over: VecDeque<(u64, Arc<Record>)>,
}

impl Shared {
    pub(crate) fn new(settings: InspectorSettings) -> Self {
        Self {
            mask: Mask::new(&settings.hide),
            settings,
            store: Mutex::default(),
            held: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            news: broadcast::Sender::new(MOST_BEHIND),
            has_listeners: AtomicBool::new(false),
            reach: RwLock::new(None),
            replays: Arc::new(Semaphore::new(MOST_REPLAYS)),
            meter: OnceLock::new(),
            lost_sight: AtomicU64::new(0),
        }
    }

    /// Keeps one more; another one goes for it if need be.
    pub(crate) fn keep(&self, mut content: Content) -> Arc<Record> {
        content.weight += RECORD_WEIGHT;
        content.taken = content.weight + AT_ONCE;
        let takes = content.taken;
        let most = self.settings.most_requests.max(1);
        // On a busy day it is so each time: then the new one gets the memory of the oldest.
        let oldest = {
            let mut store = self.store.lock();
            let is_full = store.count() >= most || self.held() + takes > self.settings.budget_bytes;
            if is_full { store.take_oldest() } else { None }
        };
        let (mut record, freed) = Record::in_place_of(oldest, content);
        match takes.checked_sub(freed) {
            Some(more) => self.reserve(more),
            None => self.release(freed - takes),
        }
        let mut store = self.store.lock();
        store.last_id += 1;
        let id = store.last_id;
        // Nobody else knows of it yet.
        if let Some(record) = Arc::get_mut(&mut record) {
            record.id = id;
        }
        store.open.insert(id, Arc::clone(&record));
        // Others may have come meanwhile.
        let oldest = if store.count() > most { store.take_oldest() } else { None };
        drop(store);
        self.forget(oldest);
        record
    }

    pub(crate) fn is_over(&self, id: u64) {
        let mut store = self.store.lock();
        if let Some(record) = store.open.remove(&id) {
            store.over.push_back((id, record));
        }
    }

    /// Takes that much of the budget. Whoever has a record locked must not ask.
    pub(crate) fn reserve(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > self.settings.budget_bytes {
            self.make_room();
        }
    }

    fn make_room(&self) {
        while self.held.load(Ordering::Relaxed) > self.settings.budget_bytes {
            let oldest = self.store.lock().take_oldest();
            if !self.forget(oldest) {
                break;
            }
        }
    }

    /// Gives back what it has taken. Its memory has not been touched for long, so that this takes a moment.
    fn forget(&self, record: Option<Arc<Record>>) -> bool {
        let Some(record) = record else { return false };
        let freed = record.content.lock().empty();
        self.release(freed);
        true
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
        let store = self.store.lock();
        let over = || store.over.iter().find(|(one, _)| *one == id).map(|(_, record)| record);
        store.open.get(&id).or_else(over).cloned()
    }

    /// The newest first, before that one if there is one.
    pub(crate) fn all(&self, before: Option<u64>) -> Vec<Arc<Record>> {
        let before = before.unwrap_or(u64::MAX);
        let mut all: Vec<_> = {
            let store = self.store.lock();
            let over = store.over.iter().filter(|(id, _)| *id < before);
            let open = store.open.range(..before);
            over.map(|(_, record)| record).chain(open.map(|(_, record)| record)).cloned().collect()
        };
        all.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
        all
    }

    pub(crate) fn count(&self) -> usize {
        self.store.lock().count()
    }

    pub(crate) fn clear(&self) {
        let (open, over) = {
            let mut store = self.store.lock();
            (std::mem::take(&mut store.open), std::mem::take(&mut store.over))
        };
        for (_, record) in over.into_iter().chain(open) {
            self.forget(Some(record));
        }
        let _ = self.news.send(News::Cleared);
    }

    /// The rest of a connection, or one request on it, is not looked at.
    pub(crate) fn lose_sight(&self) {
        self.lost_sight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lost_sight(&self) -> u64 {
        self.lost_sight.load(Ordering::Relaxed)
    }

    /// What happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<News> {
        let news = self.news.subscribe();
        self.has_listeners.store(true, Ordering::SeqCst);
        news
    }

    fn has_listeners(&self) -> bool {
        // To count them takes a lock.
        if !self.has_listeners.load(Ordering::Relaxed) {
            return false;
        }
        if self.news.receiver_count() > 0 {
            return true;
        }
        self.has_listeners.store(false, Ordering::SeqCst);
        // Somebody may just have come.
        let is_heard = self.news.receiver_count() > 0;
        if is_heard {
            self.has_listeners.store(true, Ordering::SeqCst);
        }
        is_heard
    }

    /// Tells of a change of a request, if anybody listens.
    pub(crate) fn tell(&self, record: &Record) {
        if self.has_listeners() {
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
    fn count(&self) -> usize {
        self.open.len() + self.over.len()
    }

    /// The one that is to go next.
    fn take_oldest(&mut self) -> Option<Arc<Record>> {
        let over = self.over.pop_front();
        over.or_else(|| self.open.pop_first()).map(|(_, record)| record)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    millis(since_1970())
}

pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a request takes beside what was captured of it.
const RECORD_WEIGHT: usize = size_of::<Record>() + 128;

/// Of the budget at most this part is lent: what it is there for is records.
const LENT: usize = 4;

/// News that somebody may be behind; who is more so misses some.
const MOST_BEHIND: usize = 1_024;

#[cfg(test)]
mod tests {
    use crate::http1::tests::Watched;
    use crate::record::From;
    use crate::settings::InspectorSettings;

    use super::*;

    const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

    fn ids(shared: &Shared) -> Vec<u64> {
        shared.all(None).iter().map(|record| record.id).collect()
    }

    #[test]
    fn what_a_request_did_not_need_is_given_back_at_its_end() {
        let mut watched = Watched::new();
        watched.say(From::Visitor, ASK);
        let open = watched.shared.held();
        watched.say(From::Service, ANSWER);
        let over = watched.shared.held();
        assert!(over < open && over > RECORD_WEIGHT, "{open} {over}");
        let weight = watched.shared.all(None)[0].content.lock().weight;
        assert_eq!(over, weight);
        watched.shared.clear();
        assert_eq!((watched.shared.held(), watched.shared.count()), (0, 0));
        // No id ever stands for two.
        watched.say(From::Visitor, ASK);
        assert_eq!(ids(&watched.shared), [2]);
    }

    #[test]
    fn those_that_are_over_go_first_and_each_is_found_while_it_is_kept() {
        let settings = InspectorSettings { most_requests: 3, ..InspectorSettings::default() };
        let mut first = Watched::with(settings);
        first.say(From::Visitor, ASK);
        let mut second = Watched::beside(&first);
        for _ in 0..4 {
            second.say(From::Visitor, ASK);
            second.say(From::Service, ANSWER);
        }
        let shared = &first.shared;
        assert_eq!(ids(shared), [5, 4, 1]);
        assert!(shared.get(1).is_some() && shared.get(4).is_some() && shared.get(2).is_none());
        assert_eq!(shared.all(Some(4)).len(), 1);
        // Where none is over, the one that began first goes.
        (0..4).for_each(|_| second.say(From::Visitor, ASK));
        assert_eq!(ids(shared), [9, 8, 7]);
    }

    #[test]
    fn one_that_goes_while_somebody_reads_it_is_not_another_one_for_them() {
        let settings = InspectorSettings { most_requests: 1, ..InspectorSettings::default() };
        let mut watched = Watched::with(settings);
        let shared = Arc::clone(&watched.shared);
        let mut next = || {
            watched.say(From::Visitor, ASK);
            watched.say(From::Service, ANSWER);
            shared.all(None).remove(0)
        };
        let read = next();
        assert!(!read.content.lock().is_gone);
        let second = next();
        assert!(read.id == 1 && read.content.lock().is_gone);
        assert!(second.id == 2 && !second.content.lock().is_gone);
        let taken = second.content.lock().taken;
        drop((read, second));
        // In the memory of the second, whose share of the budget it has.
        let third = next();
        assert_eq!((third.id, shared.held()), (3, taken));
    }

    #[test]
    fn who_listens_hears_whenever_they_begin_to() {
        let mut watched = Watched::new();
        for _ in 0..3 {
            watched.say(From::Visitor, ASK);
            assert!(!watched.shared.has_listeners());
            let mut news = watched.shared.subscribe();
            watched.say(From::Service, ANSWER);
            // It was answered, and was over.
            assert!(news.try_recv().is_ok() && news.try_recv().is_ok());
            assert!(news.try_recv().is_err());
        }
    }
}
