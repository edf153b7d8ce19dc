//! A look at a running server from outside.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ferrotunnel_common::{ClientId, LimitsConfig, SessionId, TunnelKind};
use tokio::time::Instant;

use super::{Hall, Inside, ServerEngine};
use crate::counters::{Handshake, StreamResets, TunnelTotals};
use crate::direct::DirectCarriers;
use crate::open_streams::StreamReading;
use crate::registry::Routes;
use crate::turned_away::TurnedAway;

/// Reads what a server counts. It does not keep the server: when that is gone there is nothing to read.
#[derive(Clone, Debug)]
pub struct EngineReader(Weak<Hall>);

/// A server's counters at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Readings {
    /// Every session that there is.
    pub sessions: Vec<SessionReading>,
    /// Every tunnel that is registered.
    pub tunnels: Vec<TunnelReading>,
    /// What passed through tunnels, by name; at most some hundred names, and all others together.
    pub totals: Vec<TunnelTotals>,
    /// What became of connections of clients.
    pub handshakes: Vec<(Handshake, u64)>,
    /// Streams that were broken off, in sessions of the past too.
    pub resets: StreamResets,
    /// How often a stream that had used up all that its client had granted had to wait for more.
    pub window_stalls: u64,
    /// How often limits were met.
    pub turned_away: TurnedAway,
    /// Carriers for visitors of their own.
    pub direct: DirectCarriers,
    /// Tasks that have not ended, on the server's threads and on the runtime that it was started on, whosever they are there.
    pub tasks: usize,
}

/// A principal, and how much it has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PrincipalReading {
    /// Its name.
    pub name: String,
    /// None of its tokens is accepted.
    pub disabled: bool,
    /// Its sessions.
    pub sessions: usize,
    /// Its tunnels.
    pub tunnels: usize,
    /// Its streams.
    pub streams: usize,
    /// As in [`PrincipalConfig`](crate::PrincipalConfig).
    pub max_sessions: Option<usize>,
    /// As in [`PrincipalConfig`](crate::PrincipalConfig).
    pub max_tunnels: Option<usize>,
    /// As in [`PrincipalConfig`](crate::PrincipalConfig).
    pub max_streams: Option<usize>,
    /// As in [`PrincipalConfig`](crate::PrincipalConfig).
    pub max_streams_per_second: Option<u32>,
    /// As in [`PrincipalConfig`](crate::PrincipalConfig).
    pub max_bytes_per_second: Option<u64>,
}

/// One session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionReading {
    /// Its name.
    pub session: SessionId,
    /// The client's number for itself.
    pub client: ClientId,
    /// Whose token it is.
    pub principal: String,
    /// Where the client comes from.
    pub peer: SocketAddr,
    /// What the client calls itself.
    pub software: String,
    /// It takes nothing new and finishes what is open.
    pub is_draining: bool,
    /// For how long it has been there.
    pub age: Duration,
    /// Smoothed round trip, once it is known.
    pub round_trip: Option<Duration>,
    /// Tunnels registered over it.
    pub tunnels: usize,
    /// Streams open on its carrier.
    pub streams: usize,
    /// Streams opened on its carrier.
    pub streams_opened: u64,
    /// Bytes of streams from the client.
    pub bytes_from_client: u64,
    /// Bytes of streams to the client.
    pub bytes_to_client: u64,
}

/// One tunnel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelReading {
    /// What it is called here, like `http:app` or `tcp:9000`.
    pub id: String,
    /// What it carries.
    pub kind: TunnelKind,
    /// Its name, with the path if it has one; for `tcp` the port.
    pub tunnel: String,
    /// The hosts that it is reached under.
    pub hosts: Vec<String>,
    /// Where visitors reach it.
    pub public_urls: Vec<String>,
    /// Whose it is.
    pub principal: String,
    /// The group that shares it, if it is one's.
    pub group: Option<String>,
    /// Visitors are turned away, because somebody at the server said so.
    pub is_paused: bool,
    /// What the checks of its clients say of the local service, where they check it.
    pub is_down: Option<bool>,
    /// Nobody who has it could reach its local service a moment ago.
    pub is_failing: bool,
    /// The sessions that it is registered over; none while its client is away.
    pub sessions: Vec<SessionId>,
    /// Streams of visitors at present.
    pub visitors: usize,
    /// Streams opened for visitors, of all tunnels of its kind and name since the start.
    pub streams_opened: u64,
    /// Bytes from visitors, likewise.
    pub bytes_in: u64,
    /// Bytes to visitors, likewise.
    pub bytes_out: u64,
}

impl EngineReader {
    /// What there is now; `None` when the server is gone.
    pub fn read(&self) -> Option<Readings> {
        self.0.upgrade().map(|hall| hall.read())
    }

    /// How many sessions, tunnels and streams of visitors there are.
    pub fn counts(&self) -> Option<(usize, usize, u64)> {
        self.0.upgrade().map(|hall| {
            let streams = hall.registry.totals().iter().map(|totals| totals.streams).sum();
            (hall.sessions.lock().len(), hall.registry.tunnels(), streams)
        })
    }

    /// What passed through tunnels, by name.
    pub fn totals(&self) -> Vec<TunnelTotals> {
        self.0.upgrade().map(|hall| hall.registry.totals()).unwrap_or_default()
    }

    /// Every session that there is.
    pub fn sessions(&self) -> Vec<SessionReading> {
        self.0.upgrade().map(|hall| hall.read_sessions()).unwrap_or_default()
    }

    /// Every tunnel that is registered.
    pub fn tunnels(&self) -> Vec<TunnelReading> {
        self.0.upgrade().map(|hall| hall.registry.read()).unwrap_or_default()
    }

    /// The youngest streams of visitors, and how many there are; none before
    /// [`list_streams`](ServerEngine::list_streams).
    pub fn streams(&self, most: usize) -> (Vec<StreamReading>, usize) {
        self.0.upgrade().map(|hall| hall.registry.streams(most)).unwrap_or_default()
    }

    /// Everybody who may come, or might if they were not disabled.
    pub fn principals(&self) -> Vec<PrincipalReading> {
        self.0.upgrade().map(|hall| hall.roster.lock().read()).unwrap_or_default()
    }

    /// What the server refuses to go beyond, and how often that was met.
    pub fn limits(&self) -> Option<(LimitsConfig, TurnedAway)> {
        self.0.upgrade().map(|hall| (hall.limits.read().clone(), hall.turned_away()))
    }

    /// Whether the server takes nothing new, or is gone.
    pub fn is_closed(&self) -> bool {
        self.0.upgrade().is_none_or(|hall| hall.registry.is_closed())
    }
}

impl ServerEngine {
    /// For whoever looks at it from outside.
    pub fn reader(&self) -> EngineReader {
        EngineReader(Arc::downgrade(&self.hall))
    }

    /// From now on each stream of a visitor is listed, for [`EngineReader::streams`]: some 200 bytes each.
    pub fn list_streams(&self) {
        self.hall.registry.list_streams();
    }
}

impl Hall {
    fn read_sessions(&self) -> Vec<SessionReading> {
        let now = Instant::now();
        self.sessions.lock().values().map(|inside| inside.read(now)).collect()
    }

    fn read(&self) -> Readings {
        let now = Instant::now();
        // Under one lock: a session that ends meanwhile would be counted twice, or not at all.
        let sessions = self.sessions.lock();
        let mut sums = *self.past.lock();
        sessions.values().for_each(|inside| sums.add(&inside.owner.session));
        let readings: Vec<_> = sessions.values().map(|inside| inside.read(now)).collect();
        drop(sessions);
        Readings {
            sessions: readings,
            tunnels: self.registry.read(),
            totals: self.registry.totals(),
            handshakes: self.handshakes.all(),
            resets: StreamResets(sums.resets),
            window_stalls: sums.window_stalls,
            turned_away: self.turned_away(),
            direct: self.direct(),
            tasks: self.runtimes.alive_tasks(),
        }
    }
}

impl Inside {
    fn read(&self, now: Instant) -> SessionReading {
        let Self { owner, peer, software, since } = self;
        let stats = owner.session.stats();
        SessionReading {
            session: owner.session_id,
            client: owner.client_id,
            principal: owner.principal().name().to_owned(),
            peer: *peer,
            software: software.clone(),
            is_draining: owner.session.is_draining(),
            age: now.duration_since(*since),
            round_trip: owner.session.round_trip(),
            tunnels: owner.registered(),
            streams: stats.streams,
            streams_opened: stats.streams_opened,
            bytes_from_client: stats.bytes_in,
            bytes_to_client: stats.bytes_out,
        }
    }
}
