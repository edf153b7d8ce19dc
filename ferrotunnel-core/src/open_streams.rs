//! Streams of visitors that are open, one by one, for whoever wants to see them. Where nobody does, a stream costs one
//! branch more and no memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferrotunnel_common::SessionId;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::clock;
use crate::throttle::Way;

/// All there are. A stream comes and goes under the lock of one shelf.
#[derive(Debug, Default)]
pub(crate) struct OpenStreams {
    next: AtomicU64,
    shelves: [Mutex<HashMap<u64, Arc<Entry>>>; SHELVES],
}

#[derive(Debug)]
struct Entry {
    about: About,
    since: Instant,
    /// From the visitor, and to it.
    bytes: [AtomicU64; 2],
}

/// What is known of a stream at its beginning.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// The tunnel's id.
    pub(crate) tunnel: Arc<str>,
    pub(crate) session: Option<SessionId>,
    pub(crate) visitor: Option<SocketAddr>,
}

/// One stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamReading {
    /// Unique in this process.
    pub id: u64,
    /// The session that carries it, or that its own carrier belongs to.
    pub session: Option<SessionId>,
    /// The id of its tunnel.
    pub tunnel: Arc<str>,
    /// Who it was opened for. Over HTTP further visitors' requests may follow.
    pub visitor: Option<SocketAddr>,
    /// For how long it has been there.
    pub age: Duration,
    /// Bytes from the visitor.
    pub bytes_in: u64,
    /// Bytes to the visitor.
    pub bytes_out: u64,
}

impl OpenStreams {
    pub(crate) fn enter(self: &Arc<Self>, about: About) -> Listed {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry { about, since: clock::now(), bytes: Default::default() });
        self.shelf(id).lock().insert(id, Arc::clone(&entry));
        Listed { of: Arc::clone(self), id, entry }
    }

    /// The youngest, and how many there are.
    pub(crate) fn read(&self, most: usize) -> (Vec<StreamReading>, usize) {
        let mut all: Vec<(u64, Arc<Entry>)> = Vec::new();
        for shelf in &self.shelves {
            all.extend(shelf.lock().iter().map(|(id, entry)| (*id, Arc::clone(entry))));
        }
        let total = all.len();
        all.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        all.truncate(most);
        let now = clock::now();
        (all.iter().map(|(id, entry)| entry.read(*id, now)).collect(), total)
    }

    fn shelf(&self, id: u64) -> &Mutex<HashMap<u64, Arc<Entry>>> {
        &self.shelves[(id % SHELVES as u64) as usize]
    }
}

impl Entry {
    fn read(&self, id: u64, now: Instant) -> StreamReading {
        let [bytes_in, bytes_out] = &self.bytes;
        let About { tunnel, session, visitor } = self.about.clone();
        StreamReading {
            id,
            session,
            tunnel,
            visitor,
            age: now.saturating_duration_since(self.since),
            bytes_in: bytes_in.load(Ordering::Relaxed),
            bytes_out: bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// A stream's place among those that are open; left when dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    of: Arc<OpenStreams>,
    id: u64,
    entry: Arc<Entry>,
}

impl Listed {
    pub(crate) fn moved(&self, way: Way, bytes: u64) {
        let [inward, outward] = &self.entry.bytes;
        let count = match way {
            Way::In => inward,
            Way::Out => outward,
        };
        count.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.of.shelf(self.id).lock().remove(&self.id);
    }
}

/// So that threads seldom wait for each other.
const SHELVES: usize = 16;
