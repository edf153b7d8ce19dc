//! A server as its admin interface shows it.

use std::collections::HashMap;

use ferrotunnel_core::{EngineReader, SessionReading, StreamReading, TunnelReading};
use prometheus_client::registry::Registry;

use super::Phase;
use super::house::{Counts, House, Refused, Totals};
use super::shapes::{
    Health, Limit, Limits, Principal, PrincipalLimits, Principals, Session, SessionState, Sessions,
    Side, Stream, Streams, Tunnel, TunnelState, Tunnels,
};
use crate::metrics::ServerMetrics;

/// What a server has is read where its metrics read it.
#[derive(Debug)]
pub(crate) struct ServerHouse(pub(crate) ServerMetrics);

impl ServerHouse {
    /// `None` before the server has started.
    fn engine(&self) -> Option<EngineReader> {
        self.0.engine()
    }
}

impl House for ServerHouse {
    fn side(&self) -> Side {
        Side::Server
    }

    fn register(&self, registry: &mut Registry) {
        self.0.register(registry);
    }

    fn phase(&self, said: Phase) -> Phase {
        said
    }

    fn counts(&self) -> Counts {
        let counts = self.engine().and_then(|engine| engine.counts());
        let (sessions, tunnels, streams) = counts.unwrap_or_default();
        Counts { sessions, tunnels, streams }
    }

    fn sessions(&self) -> Sessions {
        let mut sessions = self.engine().map(|engine| engine.sessions()).unwrap_or_default();
        sessions.sort_by_key(|session| (std::cmp::Reverse(session.age), session.session));
        Sessions { sessions: sessions.into_iter().map(Session::from).collect() }
    }

    fn tunnels(&self) -> Tunnels {
        let Some(engine) = self.engine() else { return Tunnels::default() };
        let requests = self.0.requests().by_status();
        // Many tunnels have many sessions.
        let round_trips: HashMap<_, _> =
            engine.sessions().iter().map(|one| (one.session, one.round_trip)).collect();
        let mut tunnels: Vec<_> = engine
            .tunnels()
            .into_iter()
            .map(|tunnel| {
                let own = tunnel.sessions.iter().filter_map(|one| *round_trips.get(one)?);
                let nearest = own.min();
                let mut tunnel = Tunnel::from(tunnel);
                tunnel.round_trip_seconds = nearest.map(|time| time.as_secs_f64());
                tunnel.count_requests(&requests);
                tunnel
            })
            .collect();
        tunnels.sort_by(|one, other| (&one.name, one.kind).cmp(&(&other.name, other.kind)));
        Tunnels { tunnels }
    }

    fn streams(&self, most: usize) -> Streams {
        let streams = self.engine().map(|engine| engine.streams(most)).unwrap_or_default();
        let (streams, total) = streams;
        Streams { streams: streams.into_iter().map(Stream::from).collect(), total }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let (requests, errors) = self.0.requests().finished();
        (totals.requests, totals.errors) = (Some(requests), errors);
        for of in self.engine().map(|engine| engine.totals()).unwrap_or_default() {
            totals.bytes_in += of.bytes_in;
            totals.bytes_out += of.bytes_out;
            totals.streams += of.streams;
            totals.streams_opened += of.streams_opened;
        }
        totals
    }

    fn durations(&self) -> Option<Vec<u64>> {
        Some(self.0.requests().durations.read())
    }

    fn principals(&self) -> Option<Principals> {
        let mut principals = self.engine().map(|engine| engine.principals()).unwrap_or_default();
        principals.sort_by(|one, other| one.name.cmp(&other.name));
        let principals = principals.into_iter().map(|one| Principal {
            name: one.name,
            disabled: one.disabled,
            sessions: one.sessions,
            tunnels: one.tunnels,
            streams: one.streams,
            limits: PrincipalLimits {
                max_sessions: one.max_sessions,
                max_tunnels: one.max_tunnels,
                max_streams: one.max_streams,
                max_streams_per_second: one.max_streams_per_second,
                max_bytes_per_second: one.max_bytes_per_second,
            },
        });
        Some(Principals { principals: principals.collect() })
    }

    fn limits(&self) -> Option<Limits> {
        let Some((limits, met)) = self.engine().and_then(|engine| engine.limits()) else {
            return Some(Limits::default());
        };
        let bytes = |bytes: u64| Some(bytes as f64);
        let count = |count: usize| Some(count as f64);
        let or_none = |most: Option<u32>| most.map(f64::from);
        let limit = |name, value, unit, hit| Limit { name, value, unit, hit };
        Some(Limits {
            limits: vec![
                limit("max-sessions", count(limits.max_sessions), "sessions", Some(met.sessions)),
                limit(
                    "max-tunnels",
                    Some(f64::from(limits.max_tunnels_per_session)),
                    "tunnels per session",
                    Some(met.tunnels_of_sessions),
                ),
                limit(
                    "max-streams",
                    Some(f64::from(limits.max_streams_per_session)),
                    "streams per session",
                    Some(met.streams_of_sessions),
                ),
                limit(
                    "max-handshakes",
                    count(limits.max_handshakes_in_flight),
                    "handshakes",
                    Some(met.handshakes_waiting),
                ),
                limit(
                    "max-failed-handshakes",
                    Some(f64::from(limits.max_failed_handshakes_per_address)),
                    "per second and address",
                    Some(met.handshakes_delayed + met.handshakes_refused),
                ),
                limit("max-visitors", count(limits.max_visitors), "visitors", Some(met.visitors)),
                limit(
                    "max-visitors-per-tunnel",
                    or_none(limits.max_visitors_per_tunnel),
                    "visitors per tunnel",
                    Some(met.visitors_of_tunnels),
                ),
                limit(
                    "max-visitors-per-address",
                    or_none(limits.max_visitors_per_address),
                    "visitors per address",
                    Some(met.visitors_of_addresses),
                ),
                limit(
                    "max-streams-per-second",
                    or_none(limits.max_streams_per_second),
                    "streams per second and session",
                    Some(met.streams_too_fast),
                ),
                limit(
                    "max-bytes-per-second",
                    limits.max_bytes_per_second.and_then(bytes),
                    "bytes per second, session and direction",
                    Some(met.pauses),
                ),
                limit(
                    "max-session-memory",
                    limits.max_receive_memory_per_session.and_then(bytes),
                    "bytes per session",
                    Some(met.memory_of_sessions),
                ),
                limit(
                    "max-receive-memory",
                    bytes(limits.max_receive_memory),
                    "bytes",
                    Some(met.memory),
                ),
                limit(
                    "handshake-timeout",
                    Some(limits.handshake_deadline.as_secs_f64()),
                    "seconds",
                    None,
                ),
            ],
        })
    }

    fn close_session(&self, id: &str) -> Result<String, Refused> {
        match self.0.control() {
            Some(control) if control.close_session(id) => Ok(format!("session {id} has ended")),
            _ => Err(Refused::NotFound(format!("there is no session {id:?}"))),
        }
    }

    fn revoke(&self, principal: &str) -> Result<String, Refused> {
        let revoked = self.0.control().map(|control| control.revoke(principal));
        match revoked.unwrap_or(Ok(None)) {
            Ok(Some(sessions)) => Ok(format!(
                "no token that {principal} has is accepted any more until the server ends; sessions ended: {sessions}"
            )),
            Ok(None) => Err(Refused::NotFound(format!("there is no principal {principal:?}"))),
            Err(error) => Err(Refused::Conflict(error.to_string())),
        }
    }

    fn pause(&self, tunnel: &str) -> Result<String, Refused> {
        match self.0.control() {
            Some(control) if control.pause(tunnel) => {
                Ok(format!("{tunnel} takes no visitors; those inside stay"))
            }
            _ => Err(no_tunnel(tunnel)),
        }
    }

    fn resume(&self, tunnel: &str) -> Result<String, Refused> {
        match self.0.control() {
            Some(control) if control.resume(tunnel) => Ok(format!("{tunnel} takes visitors")),
            _ => Err(no_tunnel(tunnel)),
        }
    }
}

pub(super) fn no_tunnel(id: &str) -> Refused {
    Refused::NotFound(format!("there is no tunnel {id:?}"))
}

impl From<StreamReading> for Stream {
    fn from(stream: StreamReading) -> Self {
        Self {
            id: stream.id.to_string(),
            session: stream.session.map(|session| session.to_string()),
            tunnel: stream.tunnel.to_string(),
            visitor: stream.visitor.map(|visitor| visitor.to_string()),
            age_seconds: stream.age.as_secs_f64(),
            bytes_in: stream.bytes_in,
            bytes_out: stream.bytes_out,
        }
    }
}

impl From<SessionReading> for Session {
    fn from(session: SessionReading) -> Self {
        Self {
            id: session.session.to_string(),
            client: session.client.to_string(),
            principal: Some(session.principal),
            address: session.peer.to_string(),
            software: Some(session.software),
            state: match session.is_draining {
                true => SessionState::Draining,
                false => SessionState::Up,
            },
            age_seconds: session.age.as_secs_f64(),
            round_trip_seconds: session.round_trip.map(|time| time.as_secs_f64()),
            tunnels: session.tunnels,
            streams: session.streams,
            streams_opened: session.streams_opened,
            bytes_from_client: session.bytes_from_client,
            bytes_to_client: session.bytes_to_client,
            last_error: None,
        }
    }
}

impl From<TunnelReading> for Tunnel {
    fn from(tunnel: TunnelReading) -> Self {
        let state = match () {
            () if tunnel.is_paused => TunnelState::Paused,
            () if tunnel.sessions.is_empty() => TunnelState::Away,
            () => TunnelState::Up,
        };
        let health = tunnel.is_down.map(|is_down| if is_down { Health::Down } else { Health::Up });
        let failing = "its local service could not be reached a moment ago";
        Self {
            id: tunnel.id,
            kind: tunnel.kind.as_str(),
            name: tunnel.tunnel,
            hosts: tunnel.hosts,
            public_urls: tunnel.public_urls,
            principal: Some(tunnel.principal),
            local: None,
            group: tunnel.group,
            sessions: tunnel.sessions.iter().map(ToString::to_string).collect(),
            state,
            health,
            visitors: tunnel.visitors,
            streams_opened: tunnel.streams_opened,
            bytes_in: tunnel.bytes_in,
            bytes_out: tunnel.bytes_out,
            requests: None,
            round_trip_seconds: None,
            last_error: tunnel.is_failing.then(|| failing.to_owned()),
        }
    }
}
