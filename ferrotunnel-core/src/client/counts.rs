//! What a client counts and remembers for whoever reads it. Counting is done where it happens, by an atomic addition.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::frame::Open;
use parking_lot::Mutex;

use super::missed::MissedDirectly;
use super::roster::CarrierId;
use crate::capped::Counts as _;
use crate::counters::{Sums, Tally, TunnelCounts};
use crate::error::ConnectError;
use crate::open_streams::{About, OpenStreams, StreamReading};
use crate::session::Session;

/// The counts of one client.
#[derive(Debug)]
pub(super) struct Book {
    /// By [`KINDS`].
    of_kinds: [Arc<TunnelCounts>; KINDS.len()],
    attempts: [AtomicU64; AttemptFailure::ALL.len()],
    local: [AtomicU64; LocalFailure::ALL.len()],
    lines: Mutex<Lines>,
    /// Where each stream is listed, if somebody wants that.
    list: OnceLock<Arc<OpenStreams>>,
}

#[derive(Debug, Default)]
pub(super) struct Lines {
    next: u64,
    /// Those whose carriers are not over; they may drain.
    sessions: BTreeMap<u64, Line>,
    /// Why there was no session over a carrier, as it was last. Carriers are few.
    last_errors: BTreeMap<CarrierId, String>,
    /// Sessions that were lost and that no other has come for yet.
    lost: u64,
    reconnects: u64,
    /// In sessions that are over.
    past: Sums,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) carrier: CarrierId,
    pub(super) session: Session,
    pub(super) session_id: SessionId,
    pub(super) peer: Option<SocketAddr>,
    /// What the server says that it is; empty if nothing.
    pub(super) software: String,
    pub(super) since: Instant,
    pub(super) farewell: Farewell,
}

/// Why a session is ended, where somebody has said so.
pub(super) type Farewell = Arc<Mutex<Option<ConnectError>>>;

/// A session's line in the book, until it is over.
#[derive(Debug)]
pub(super) struct Entered {
    book: Arc<Book>,
    key: u64,
}

/// What one tunnel has and counts.
#[derive(Debug)]
pub(super) struct OfTunnel {
    pub(super) counts: Arc<TunnelCounts>,
    last_error: Mutex<Option<String>>,
    missed: MissedDirectly,
}

/// Why an attempt to have a session failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptFailure {
    /// The server's machine refused the connection.
    ConnectionRefused,
    /// Nothing answered in time.
    Timeout,
    /// There is no such name, or no way there.
    Unreachable,
    /// TLS did not come to pass.
    Tls,
    /// One side did not take the other's certificate.
    Certificate,
    /// The server does not know the token.
    WrongToken,
    /// The other end does not know the token, so it is not the server.
    NotTrusted,
    /// The server said no.
    Refused,
    /// The server broke the protocol, or is none.
    Protocol,
    /// The connection broke before there was a session.
    Broken,
    /// The machine is out of something.
    System,
}

/// Why a visitor did not get through to the local service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalFailure {
    /// It refused the connection.
    Refused,
    /// It did not take the connection in time.
    Timeout,
    /// There is no such name, socket or address.
    NotFound,
    /// There was no TLS with it.
    Tls,
    /// The program that serves the tunnel itself takes no more.
    NotTaken,
    /// Something else.
    Other,
}

impl AttemptFailure {
    /// All there are.
    pub const ALL: [Self; 11] = [
        Self::ConnectionRefused,
        Self::Timeout,
        Self::Unreachable,
        Self::Tls,
        Self::Certificate,
        Self::WrongToken,
        Self::NotTrusted,
        Self::Refused,
        Self::Protocol,
        Self::Broken,
        Self::System,
    ];

    /// The lower-case word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection-refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::WrongToken => "wrong-token",
            Self::NotTrusted => "not-trusted",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Broken => "broken",
            Self::System => "system",
        }
    }

    fn of(error: &ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
                io::ErrorKind::TimedOut => Self::Timeout,
                _ => Self::Unreachable,
            },
            ConnectError::Tls { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                Self::Timeout
            }
            ConnectError::Tls { .. } => Self::Tls,
            ConnectError::Certificate { .. } => Self::Certificate,
            ConnectError::WrongToken => Self::WrongToken,
            ConnectError::ServerNotTrusted => Self::NotTrusted,
            ConnectError::GoAway { .. }
            | ConnectError::Refused(_)
            | ConnectError::Superseded(_) => Self::Refused,
            ConnectError::Protocol { .. } => Self::Protocol,
            ConnectError::HungUp { .. } | ConnectError::Lost { .. } => Self::Broken,
            ConnectError::System(_) | ConnectError::Shutdown | ConnectError::Closed => Self::System,
        }
    }
}

impl LocalFailure {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Refused, Self::Timeout, Self::NotFound, Self::Tls, Self::NotTaken, Self::Other];

    /// The lower-case word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::NotFound => "not-found",
            Self::Tls => "tls",
            Self::NotTaken => "not-taken",
            Self::Other => "other",
        }
    }

    /// Of a connection that did not come to pass.
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::NotFound
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Self::NotFound,
            _ => Self::Other,
        }
    }
}

impl Default for Book {
    fn default() -> Self {
        Self {
            of_kinds: KINDS.map(|kind| Arc::new(TunnelCounts::named(kind.as_str()))),
            attempts: Default::default(),
            local: Default::default(),
            lines: Mutex::default(),
            list: OnceLock::new(),
        }
    }
}

impl Book {
    /// For a tunnel of that kind.
    pub(super) fn tunnel(&self, kind: TunnelKind) -> Arc<OfTunnel> {
        let at = KINDS.iter().position(|known| *known == kind);
        let sum = at.and_then(|at| self.of_kinds.get(at));
        let counts = match sum {
            Some(sum) => TunnelCounts::within(sum),
            None => TunnelCounts::named(kind.as_str()),
        };
        Arc::new(OfTunnel {
            counts: Arc::new(counts),
            last_error: Mutex::default(),
            missed: MissedDirectly::default(),
        })
    }

    /// Where a visitor's stream is counted that is about to begin.
    pub(super) fn tally(&self, of: &OfTunnel, session: SessionId, open: &Open) -> Tally {
        Tally::new(&of.counts, self.list.get(), || About {
            tunnel: open.tunnel.to_string().into(),
            session: Some(session),
            visitor: open.visitor,
        })
    }

    /// From now on each stream is listed.
    pub(super) fn list_streams(&self) {
        self.list.get_or_init(Arc::default);
    }

    /// The youngest streams, and how many there are.
    pub(super) fn streams(&self, most: usize) -> (Vec<StreamReading>, usize) {
        self.list.get().map(|list| list.read(most)).unwrap_or_default()
    }

    /// What passed through all tunnels of each kind, those that are gone too.
    pub(super) fn of_kinds(&self) -> impl Iterator<Item = (TunnelKind, &TunnelCounts)> {
        KINDS.into_iter().zip(self.of_kinds.iter().map(AsRef::as_ref))
    }

    /// An attempt to have a session failed.
    pub(super) fn failed(&self, error: &ConnectError) {
        if let Some(count) = self.attempts.get(AttemptFailure::of(error) as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn attempts(&self) -> Vec<(AttemptFailure, u64)> {
        let counts = self.attempts.iter().map(|count| count.load(Ordering::Relaxed));
        AttemptFailure::ALL.into_iter().zip(counts).collect()
    }

    /// A visitor did not get through to the local service.
    pub(super) fn missed(&self, tunnel: &OfTunnel, why: LocalFailure, error: &dyn ToString) {
        if let Some(count) = self.local.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        tunnel.went_wrong(error.to_string());
    }

    pub(super) fn local(&self) -> Vec<(LocalFailure, u64)> {
        let counts = self.local.iter().map(|count| count.load(Ordering::Relaxed));
        LocalFailure::ALL.into_iter().zip(counts).collect()
    }

    /// There is a session.
    pub(super) fn enter(self: &Arc<Self>, line: Line) -> Entered {
        let mut lines = self.lines.lock();
        lines.next += 1;
        let key = lines.next;
        lines.sessions.insert(key, line);
        if lines.lost > 0 {
            lines.lost -= 1;
            lines.reconnects += 1;
        }
        Entered { book: Arc::clone(self), key }
    }

    /// There is no session over that carrier, or none any more.
    pub(super) fn left(&self, carrier: CarrierId, had_session: bool, reason: String) {
        let mut lines = self.lines.lock();
        lines.lost += u64::from(had_session);
        lines.last_errors.insert(carrier, reason);
    }

    /// Ends every session, without a word.
    pub(super) fn sever_all(&self) {
        self.look(|lines| lines.sessions().for_each(|line| line.session.sever()));
    }

    /// What is written in it.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Lines) -> R) -> R {
        look(&self.lines.lock())
    }
}

impl Lines {
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Line> {
        self.sessions.values()
    }

    pub(super) fn last_error(&self, carrier: CarrierId) -> Option<&str> {
        self.last_errors.get(&carrier).map(String::as_str)
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Over all sessions, those of the past too.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = self.past;
        self.sessions.values().for_each(|line| sums.add(&line.session));
        sums
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut lines = self.book.lines.lock();
        // Whoever reads finds it in the one or the other.
        if let Some(line) = lines.sessions.remove(&self.key) {
            lines.past.add(&line.session);
        }
    }
}

impl OfTunnel {
    /// What people should know of it.
    pub(super) fn went_wrong(&self, error: String) {
        *self.last_error.lock() = Some(error);
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Visitors with a carrier to themselves who did not get through.
    pub(super) fn missed_directly(&self) -> &MissedDirectly {
        &self.missed
    }
}

const KINDS: [TunnelKind; 4] =
    [TunnelKind::Http, TunnelKind::Tcp, TunnelKind::Udp, TunnelKind::Tls];
