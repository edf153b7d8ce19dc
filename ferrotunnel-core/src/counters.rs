//! What servers and clients count while their tunnels are in use. Counting costs an atomic addition where bytes move;
//! whoever wants to know reads it ([`crate::EngineReader`], [`crate::client::ClientReader`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::Resets;

use crate::capped::Counts;
use crate::open_streams::{About, Listed, OpenStreams};
use crate::session::Session;
use crate::throttle::Way;

/// What passed through the tunnels of one name.
#[derive(Debug)]
pub(crate) struct TunnelCounts {
    pub(crate) kind: String,
    pub(crate) label: String,
    opened: AtomicU64,
    closed: AtomicU64,
    /// From visitors, and to them.
    bytes: [AtomicU64; 2],
    /// What they are a part of, and count towards too.
    sum: Option<Arc<TunnelCounts>>,
}

/// What passed through the tunnels of one name, over all the time that the server has run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelTotals {
    /// What they carry; `other` for those that have no counts of their own.
    pub kind: String,
    /// Their name, with the path if they have one; for `tcp` the port.
    pub tunnel: String,
    /// Streams opened for visitors, those with a carrier to themselves among them.
    pub streams_opened: u64,
    /// Streams open at present.
    pub streams: u64,
    /// Bytes from visitors.
    pub bytes_in: u64,
    /// Bytes to visitors.
    pub bytes_out: u64,
}

impl TunnelCounts {
    /// Under which name those of a tunnel are kept.
    pub(crate) fn key(kind: TunnelKind, label: &str) -> String {
        format!("{kind} {label}")
    }

    /// For one tunnel among those of `sum`.
    pub(crate) fn within(sum: &Arc<Self>) -> Self {
        Self { sum: Some(Arc::clone(sum)), ..Self::named(&sum.kind) }
    }

    fn and_sum(&self) -> impl Iterator<Item = &Self> {
        [Some(self), self.sum.as_deref()].into_iter().flatten()
    }

    pub(crate) fn totals(&self) -> TunnelTotals {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // What is closed was opened before.
        let closed = count(&self.closed);
        let opened = self.opened.load(Ordering::Acquire);
        let [bytes_in, bytes_out] = &self.bytes;
        TunnelTotals {
            kind: self.kind.clone(),
            tunnel: self.label.clone(),
            streams_opened: opened,
            streams: opened.saturating_sub(closed),
            bytes_in: count(bytes_in),
            bytes_out: count(bytes_out),
        }
    }
}

impl Counts for TunnelCounts {
    fn named(name: &str) -> Self {
        let (kind, label) = name.split_once(' ').unwrap_or((name, name));
        Self {
            kind: kind.to_owned(),
            label: label.to_owned(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            sum: None,
        }
    }

    fn is_idle(&self) -> bool {
        // Tunnels and streams hold theirs.
        true
    }

    fn add_to(&self, other: &Self) {
        let pairs = [(&self.opened, &other.opened), (&self.closed, &other.closed)];
        for (mine, sum) in pairs.into_iter().chain(self.bytes.iter().zip(&other.bytes)) {
            sum.fetch_add(mine.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Where a stream is counted that is about to begin.
#[derive(Debug)]
pub(crate) struct Tally {
    counts: Arc<TunnelCounts>,
    /// Somebody wants to see each of them.
    list: Option<Box<(Arc<OpenStreams>, About)>>,
}

impl Tally {
    pub(crate) fn new(
        counts: &Arc<TunnelCounts>,
        list: Option<&Arc<OpenStreams>>,
        about: impl FnOnce() -> About,
    ) -> Self {
        let list = list.map(|list| Box::new((Arc::clone(list), about())));
        Self { counts: Arc::clone(counts), list }
    }

    /// It begins.
    pub(crate) fn begin(self) -> Counted {
        for counts in self.counts.and_sum() {
            counts.opened.fetch_add(1, Ordering::Relaxed);
        }
        let listed = self.list.map(|list| {
            let (list, about) = *list;
            Box::new(list.enter(about))
        });
        Counted { counts: self.counts, listed }
    }
}

/// One stream among those of its tunnel; it is counted as closed when dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    counts: Arc<TunnelCounts>,
    listed: Option<Box<Listed>>,
}

impl Counted {
    pub(crate) fn moved(&self, way: Way, bytes: u64) {
        if let Some(listed) = &self.listed {
            listed.moved(way, bytes);
        }
        for counts in self.counts.and_sum() {
            let [inward, outward] = &counts.bytes;
            let count = match way {
                Way::In => inward,
                Way::Out => outward,
            };
            count.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for counts in self.counts.and_sum() {
            counts.closed.fetch_add(1, Ordering::Release);
        }
    }
}

/// Tunnels that have counts of their own: some 200 bytes each here, and eight lines for whoever asks for all. With
/// those of HTTP requests it is some 1,000 bytes, and forty lines or more.
pub const MOST_TUNNELS_COUNTED: usize = 500;

/// How connections of clients fared before they were sessions.
#[derive(Debug, Default)]
pub(crate) struct Handshakes([AtomicU64; Handshake::ALL.len()]);

/// What became of a connection that a client, or somebody else, dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handshake {
    /// It became a session.
    Session,
    /// It became a further carrier of a session, for visitors of their own.
    Direct,
    /// The token is none that is known, or the proof was wrong.
    WrongToken,
    /// The token was right, and the client was not let in: a limit, or a plugin.
    Refused,
    /// It was not looked at, because its source has guessed too much or there were too many at once.
    NotHeard,
    /// TLS did not come to pass.
    Tls,
    /// It took too long.
    Timeout,
    /// It broke off, or was not in our protocol.
    Broken,
    /// The server shut down meanwhile.
    Closing,
}

impl Handshake {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Session,
        Self::Direct,
        Self::WrongToken,
        Self::Refused,
        Self::NotHeard,
        Self::Tls,
        Self::Timeout,
        Self::Broken,
        Self::Closing,
    ];

    /// The lower-case word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Direct => "direct",
            Self::WrongToken => "wrong-token",
            Self::Refused => "refused",
            Self::NotHeard => "not-heard",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Closing => "closing",
        }
    }
}

impl Handshakes {
    pub(crate) fn count(&self, result: Handshake) {
        if let Some(count) = self.0.get(result as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn all(&self) -> Vec<(Handshake, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Handshake::ALL.into_iter().zip(counts).collect()
    }
}

/// What sessions count by themselves, over several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) resets: Resets,
    pub(crate) window_stalls: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, session: &Session) {
        self.resets.add(&session.resets());
        self.window_stalls += session.stats().window_stalls;
    }
}

/// Streams that were broken off, by code; of those with a carrier to themselves nobody counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamResets(pub(crate) Resets);

impl StreamResets {
    /// By the server: the word of the code, and how often.
    pub fn by_server(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.sent().map(|(code, count)| (code.as_str(), count))
    }

    /// By clients; at a client by this one.
    pub fn by_clients(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.received().map(|(code, count)| (code.as_str(), count))
    }
}
