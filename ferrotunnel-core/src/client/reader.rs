//! A look at a running client from outside, and what may be done to it from there.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ferrotunnel_common::{ClientId, SessionId, TunnelKind};
use ferrotunnel_protocol::frame::GoAwayCode;

use super::counts::{AttemptFailure, Line, LocalFailure};
use super::roster::CarrierId;
use super::state::State;
use super::{ClientEngine, Retry};
use crate::clock;
use crate::counters::StreamResets;
use crate::error::ConnectError;
use crate::open_streams::StreamReading;

/// Reads what a client has and counts. It does not keep the client: when that is gone there is nothing to read.
#[derive(Clone, Debug)]
pub struct ClientReader(Weak<State>);

/// What may be done to a running client from outside. It does not keep the client either.
#[derive(Clone, Debug)]
pub struct ClientControl(Weak<State>);

/// A client at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientReadings {
    /// The client's number for itself.
    pub client: ClientId,
    /// Every carrier that there should be, and those that finish what is open.
    pub carriers: Vec<CarrierReading>,
    /// Every tunnel that is wanted, in the order in which they were.
    pub tunnels: Vec<ClientTunnelReading>,
    /// What passed through all tunnels of each kind, those that are gone too.
    pub totals: Vec<KindTotals>,
    /// Sessions that took the place of one that was lost.
    pub reconnects: u64,
    /// Attempts to have a session that failed.
    pub attempts_failed: Vec<(AttemptFailure, u64)>,
    /// Visitors that did not get through to their local service.
    pub local_errors: Vec<(LocalFailure, u64)>,
    /// Streams that were broken off, in sessions of the past too.
    pub resets: StreamResets,
    /// How often a stream that had used up all that the server had granted had to wait for more.
    pub window_stalls: u64,
    /// Whether the client takes nothing new, or has ended.
    pub is_closing: bool,
    /// Tasks that have not ended, on the client's threads and on the runtime that it was started on, whosever they are there.
    pub tasks: usize,
}

/// One carrier to one server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CarrierReading {
    /// The server, as it was given.
    pub server: String,
    /// Which of the carriers to that server it is, from 0.
    pub number: u8,
    /// How it stands.
    pub state: CarrierState,
    /// The session over it, if there is one.
    pub session: Option<SessionId>,
    /// The server's address, if there is a session.
    pub peer: Option<SocketAddr>,
    /// What the server says that it is, if there is a session and it says so.
    pub software: Option<String>,
    /// For how long there has been a session.
    pub age: Option<Duration>,
    /// Smoothed round trip, once it is known.
    pub round_trip: Option<Duration>,
    /// Tunnels registered over it.
    pub tunnels: usize,
    /// Streams open on it.
    pub streams: usize,
    /// Streams opened on it by this session.
    pub streams_opened: u64,
    /// Bytes of streams to the server.
    pub bytes_from_client: u64,
    /// Bytes of streams from the server.
    pub bytes_to_client: u64,
    /// Why there was no session over it, when that was last so.
    pub last_error: Option<String>,
}

/// How a carrier stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CarrierState {
    /// There is a session over it.
    Up,
    /// There is none; the client tries.
    Down,
    /// It takes nothing new and finishes what is open.
    Draining,
}

impl CarrierState {
    /// The lower-case word for metrics and people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

/// One tunnel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientTunnelReading {
    /// The client's number for it, which stays when it is registered anew.
    pub number: u32,
    /// What it carries.
    pub kind: TunnelKind,
    /// Its name, with the path if it has one; for `tcp` the port. Its kind as long as the server has not picked one.
    pub name: String,
    /// Further hosts that it was asked for by.
    pub hosts: Vec<String>,
    /// Where visitors reach it at present, at each server.
    pub public_urls: Vec<String>,
    /// The local service.
    pub local: String,
    /// The group of clients that share it.
    pub group: Option<String>,
    /// The sessions that it is registered over.
    pub sessions: Vec<SessionId>,
    /// How it stands.
    pub state: TunnelState,
    /// What the checks of its local service say, if there are any.
    pub health: Option<LocalHealth>,
    /// Streams of visitors at present.
    pub visitors: u64,
    /// Streams opened for visitors, those with a carrier to themselves among them.
    pub streams_opened: u64,
    /// Bytes from visitors.
    pub bytes_in: u64,
    /// Bytes to visitors.
    pub bytes_out: u64,
    /// What went wrong last: a server refused it, or a visitor did not get through to the local service.
    pub last_error: Option<String>,
}

/// How a tunnel stands, at the server where it stands best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelState {
    /// Visitors can reach it.
    Up,
    /// They could, but there is no session at present that has it.
    Away,
    /// It takes no visitors until further notice.
    Paused,
    /// A server does not let it be had at present.
    Refused,
    /// No server has had it yet.
    Connecting,
}

impl TunnelState {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Up, Self::Away, Self::Paused, Self::Refused, Self::Connecting];

    /// The lower-case word for metrics and people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Away => "away",
            Self::Paused => "paused",
            Self::Refused => "refused",
            Self::Connecting => "connecting",
        }
    }
}

/// What the checks of a local service say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalHealth {
    /// It is well, as far as is known.
    Up,
    /// Checks have failed.
    Down,
}

impl LocalHealth {
    /// The lower-case word for metrics and people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What passed through all tunnels of one kind over the client's life.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KindTotals {
    /// What they carry.
    pub kind: TunnelKind,
    /// Streams open at present.
    pub streams: u64,
    /// Streams opened for visitors, those with a carrier to themselves among them.
    pub streams_opened: u64,
    /// Bytes from visitors.
    pub bytes_in: u64,
    /// Bytes to visitors.
    pub bytes_out: u64,
}

/// Why something cannot be done to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The client has ended.
    #[error("the client has ended")]
    Ended,
    /// There is no such tunnel.
    #[error("the client has no such tunnel")]
    NoSuchTunnel,
    /// There is no such session.
    #[error("the client has no such session")]
    NoSuchSession,
    /// It is as it should be already.
    #[error("that is so already")]
    Already,
    /// The client would end with its session.
    #[error("the client does not try again, so it would end with this session")]
    WouldEnd,
}

impl ClientEngine {
    /// For whoever looks at it from outside.
    pub fn reader(&self) -> ClientReader {
        ClientReader(Arc::downgrade(&self.state))
    }

    /// From now on each stream of a visitor is listed, for [`ClientReader::streams`]: some 200 bytes each.
    pub fn list_streams(&self) {
        self.state.book.list_streams();
    }

    /// For whoever steers it from outside.
    pub fn control(&self) -> ClientControl {
        ClientControl(Arc::downgrade(&self.state))
    }
}

impl ClientReader {
    /// The youngest streams of visitors, and how many there are; none before
    /// [`list_streams`](ClientEngine::list_streams). The tunnel of each is the client's number for it.
    pub fn streams(&self, most: usize) -> (Vec<StreamReading>, usize) {
        self.0.upgrade().map(|state| state.book.streams(most)).unwrap_or_default()
    }

    /// What there is now; `None` when the client is gone.
    pub fn read(&self) -> Option<ClientReadings> {
        self.0.upgrade().map(|state| read(&state))
    }
}

impl ClientControl {
    /// Takes no visitors through a tunnel until it is [resumed](Self::resume). Its servers keep its name, and turn new
    /// visitors away, over HTTP with a 503, unless other members of its group take them; those inside stay until they have
    /// finished.
    ///
    /// # Errors
    /// There is no such tunnel, or it is paused already.
    pub fn pause(&self, tunnel: u32) -> Result<(), ControlError> {
        self.state()?.set_paused(tunnel, true)
    }

    /// Takes visitors through a tunnel again that was paused.
    ///
    /// # Errors
    /// There is no such tunnel, or it is not paused.
    pub fn resume(&self, tunnel: u32) -> Result<(), ControlError> {
        self.state()?.set_paused(tunnel, false)
    }

    /// Closes a session at once, with the streams that are open on it. The client comes back, as after every loss.
    ///
    /// # Errors
    /// There is no such session, or the client would not come back.
    pub fn close(&self, session: SessionId) -> Result<(), ControlError> {
        let state = self.state()?;
        if state.retry == Retry::Never {
            return Err(ControlError::WouldEnd);
        }
        let line = state
            .book
            .look(|lines| lines.sessions().find(|line| line.session_id == session).cloned());
        line.ok_or(ControlError::NoSuchSession)?.close();
        Ok(())
    }

    fn state(&self) -> Result<Arc<State>, ControlError> {
        let state = self.0.upgrade().filter(|state| state.end.borrow().is_none());
        state.ok_or(ControlError::Ended)
    }
}

fn read(state: &State) -> ClientReadings {
    let tunnels = state.read_tunnels();
    let has_ended = state.end.borrow().is_some();
    let wanted: Vec<CarrierId> =
        if has_ended { Vec::new() } else { state.roster.borrow().wanted().collect() };
    let is_closing = has_ended || *state.stop.borrow();
    // Under one lock: a session that ends meanwhile would be counted twice, or not at all.
    state.book.look(|lines| {
        let up = |carrier| lines.sessions().find(|line| line.carrier == carrier && line.is_up());
        let draining = lines.sessions().filter(|line| line.session.is_draining());
        let all = wanted
            .into_iter()
            .map(|carrier| (carrier, up(carrier)))
            .chain(draining.map(|line| (line.carrier, Some(line))));
        let carriers = all.map(|(carrier, line)| {
            let mut reading = CarrierReading {
                server: state.connector.server(carrier.server).to_owned(),
                number: carrier.number.0,
                state: CarrierState::Down,
                session: None,
                peer: None,
                software: None,
                age: None,
                round_trip: None,
                tunnels: 0,
                streams: 0,
                streams_opened: 0,
                bytes_from_client: 0,
                bytes_to_client: 0,
                last_error: lines.last_error(carrier).map(str::to_owned),
            };
            if let Some(line) = line {
                line.read(&mut reading);
                let is_here =
                    |tunnel: &&ClientTunnelReading| tunnel.sessions.contains(&line.session_id);
                reading.tunnels = tunnels.iter().filter(is_here).count();
            }
            reading
        });
        let carriers = carriers.collect();
        let sums = lines.sums();
        let totals = state.book.of_kinds().map(|(kind, counts)| {
            let totals = counts.totals();
            KindTotals {
                kind,
                streams: totals.streams,
                streams_opened: totals.streams_opened,
                bytes_in: totals.bytes_in,
                bytes_out: totals.bytes_out,
            }
        });
        ClientReadings {
            client: state.connector.client_id(),
            carriers,
            totals: totals.collect(),
            reconnects: lines.reconnects(),
            attempts_failed: state.book.attempts(),
            local_errors: state.book.local(),
            // Ours are those that a client has broken off.
            resets: StreamResets(sums.resets.mirrored()),
            window_stalls: sums.window_stalls,
            is_closing,
            tasks: state.runtimes.alive_tasks(),
            tunnels,
        }
    })
}

impl Line {
    fn is_up(&self) -> bool {
        self.session.is_established()
    }

    /// The session ends at once, and that is why.
    fn close(&self) {
        self.farewell.lock().get_or_insert(ConnectError::Closed);
        self.session.close(GoAwayCode::ShuttingDown, "the client's operator closed it");
    }

    fn read(&self, reading: &mut CarrierReading) {
        let stats = self.session.stats();
        reading.state = if self.is_up() { CarrierState::Up } else { CarrierState::Draining };
        reading.session = Some(self.session_id);
        reading.peer = self.peer;
        reading.software = Some(self.software.clone()).filter(|it| !it.is_empty());
        reading.age = Some(clock::now().duration_since(self.since));
        reading.round_trip = self.session.round_trip();
        reading.streams = stats.streams;
        reading.streams_opened = stats.streams_opened;
        reading.bytes_from_client = stats.bytes_out;
        reading.bytes_to_client = stats.bytes_in;
    }
}
