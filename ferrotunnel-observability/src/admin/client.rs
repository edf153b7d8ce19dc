//! A client as its admin interface shows it.

use std::sync::Arc;

use ferrotunnel_core::client::{
    CarrierReading, CarrierState, ClientControl, ClientReader, ClientReadings, ClientTunnelReading,
    ControlError, LocalHealth, TunnelState as State,
};
use parking_lot::RwLock;
use prometheus_client::registry::Registry;

use super::Phase;
use super::house::{Counts, House, Refused, Totals};
use super::server::no_tunnel;
use super::shapes::{
    Health, Limits, Principals, Session, SessionState, Sessions, Side, Stream, Streams, Tunnel,
    TunnelState, Tunnels,
};
use crate::client_metrics::ClientMetrics;
use crate::requests::Requests;

/// A client that is shown by an admin interface. It is cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct WatchedClient {
    current: Arc<RwLock<Option<(ClientReader, ClientControl)>>>,
    metrics: ClientMetrics,
}

impl WatchedClient {
    /// One that has not started, with these metrics.
    pub fn new(metrics: ClientMetrics) -> Self {
        Self { current: Arc::default(), metrics }
    }

    /// From now on it is that client; so do its metrics read it.
    pub fn watch(&self, reader: ClientReader, control: ClientControl) {
        self.metrics.watch(reader.clone());
        *self.current.write() = Some((reader, control));
    }

    /// Reads the client; `None` before there is one.
    pub fn reader(&self) -> Option<ClientReader> {
        self.current.read().as_ref().map(|(reader, _)| reader.clone())
    }

    /// Steers the client; `None` before there is one.
    pub fn control(&self) -> Option<ClientControl> {
        self.current.read().as_ref().map(|(_, control)| control.clone())
    }

    fn read(&self) -> Option<ClientReadings> {
        self.reader()?.read()
    }
}

impl House for WatchedClient {
    fn side(&self) -> Side {
        Side::Client
    }

    fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// It is ready when every tunnel is registered at a server.
    fn phase(&self, said: Phase) -> Phase {
        if said == Phase::Draining {
            return said;
        }
        match self.read() {
            Some(readings) if readings.is_closing => Phase::Draining,
            Some(readings) => {
                let tunnels = &readings.tunnels;
                let is_up = |tunnel: &ClientTunnelReading| {
                    matches!(tunnel.state, State::Up | State::Paused)
                };
                match !tunnels.is_empty() && tunnels.iter().all(is_up) {
                    true => Phase::Ready,
                    false => Phase::Starting,
                }
            }
            None => Phase::Starting,
        }
    }

    fn counts(&self) -> Counts {
        self.read().map_or_else(Counts::default, |readings| Counts {
            sessions: readings.carriers.iter().filter(|it| it.session.is_some()).count(),
            tunnels: readings.tunnels.len(),
            streams: readings.totals.iter().map(|totals| totals.streams).sum(),
        })
    }

    fn sessions(&self) -> Sessions {
        let Some(readings) = self.read() else { return Sessions::default() };
        let client = readings.client.to_string();
        let sessions = readings.carriers.into_iter().map(|carrier| session(&client, carrier));
        Sessions { sessions: sessions.collect() }
    }

    fn tunnels(&self) -> Tunnels {
        let Some(readings) = self.read() else { return Tunnels::default() };
        let carriers = readings.carriers;
        let requests = self.metrics.requests().map(Requests::by_status);
        let tunnels = readings.tunnels.into_iter().map(|tunnel| {
            let is_own = |carrier: &&CarrierReading| {
                carrier.session.is_some_and(|session| tunnel.sessions.contains(&session))
            };
            let nearest = carriers.iter().filter(is_own).filter_map(|it| it.round_trip).min();
            let mut tunnel = Tunnel::from(tunnel);
            tunnel.round_trip_seconds = nearest.map(|time| time.as_secs_f64());
            if let Some(requests) = &requests {
                tunnel.count_requests(requests);
            }
            tunnel
        });
        Tunnels { tunnels: tunnels.collect() }
    }

    fn streams(&self, most: usize) -> Streams {
        let (streams, total) = self.reader().map(|it| it.streams(most)).unwrap_or_default();
        Streams { streams: streams.into_iter().map(Stream::from).collect(), total }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        if let Some(readings) = self.read() {
            if let Some(requests) = self.metrics.requests() {
                let (finished, errors) = requests.finished();
                (totals.requests, totals.errors) = (Some(finished), errors);
            }
            totals.errors += readings.local_errors.iter().map(|(_, count)| count).sum::<u64>();
            for of in readings.totals {
                totals.streams_opened += of.streams_opened;
                totals.bytes_in += of.bytes_in;
                totals.bytes_out += of.bytes_out;
                totals.streams += of.streams;
            }
        }
        totals
    }

    fn durations(&self) -> Option<Vec<u64>> {
        self.metrics.requests().map(|requests| requests.durations.read())
    }

    fn principals(&self) -> Option<Principals> {
        None
    }

    fn limits(&self) -> Option<Limits> {
        None
    }

    fn close_session(&self, id: &str) -> Result<String, Refused> {
        let none = || Refused::NotFound(format!("there is no session {id:?}"));
        let readings = self.read().ok_or_else(none)?;
        let mut sessions = readings.carriers.iter().filter_map(|carrier| carrier.session);
        let session = sessions.find(|session| session.to_string() == id).ok_or_else(none)?;
        match self.control().ok_or_else(none)?.close(session) {
            Ok(()) => Ok(format!("session {id} has ended")),
            Err(ControlError::NoSuchSession) => Err(none()),
            Err(error) => Err(Refused::Conflict(error.to_string())),
        }
    }

    fn revoke(&self, principal: &str) -> Result<String, Refused> {
        Err(Refused::NotFound(format!("a client has no principals, so there is no {principal:?}")))
    }

    fn pause(&self, tunnel: &str) -> Result<String, Refused> {
        let done = self.steer(tunnel, |control, number| control.pause(number));
        done.map(|()| format!("{tunnel} is taken away from its servers; visitors inside stay"))
    }

    fn resume(&self, tunnel: &str) -> Result<String, Refused> {
        let done = self.steer(tunnel, |control, number| control.resume(number));
        done.map(|()| format!("{tunnel} is asked for again"))
    }
}

impl WatchedClient {
    fn steer(
        &self,
        tunnel: &str,
        steer: impl FnOnce(ClientControl, u32) -> Result<(), ControlError>,
    ) -> Result<(), Refused> {
        let none = || no_tunnel(tunnel);
        let number = tunnel.parse().map_err(|_| none())?;
        match steer(self.control().ok_or_else(none)?, number) {
            // Whoever wants it so has it.
            Ok(()) | Err(ControlError::Already) => Ok(()),
            Err(ControlError::NoSuchTunnel) => Err(none()),
            Err(error) => Err(Refused::Conflict(error.to_string())),
        }
    }
}

fn session(client: &str, carrier: CarrierReading) -> Session {
    let id = match carrier.session {
        Some(session) => session.to_string(),
        // It has none to be called by.
        None => format!("{}#{}", carrier.server, carrier.number),
    };
    Session {
        id,
        client: client.to_owned(),
        principal: None,
        address: carrier.server,
        software: carrier.software,
        state: match carrier.state {
            CarrierState::Up => SessionState::Up,
            CarrierState::Draining => SessionState::Draining,
            _ => SessionState::Down,
        },
        age_seconds: carrier.age.unwrap_or_default().as_secs_f64(),
        round_trip_seconds: carrier.round_trip.map(|time| time.as_secs_f64()),
        tunnels: carrier.tunnels,
        streams: carrier.streams,
        streams_opened: carrier.streams_opened,
        bytes_from_client: carrier.bytes_from_client,
        bytes_to_client: carrier.bytes_to_client,
        last_error: carrier.last_error,
    }
}

impl From<ClientTunnelReading> for Tunnel {
    fn from(tunnel: ClientTunnelReading) -> Self {
        Self {
            id: tunnel.number.to_string(),
            kind: tunnel.kind.as_str(),
            name: tunnel.name,
            hosts: tunnel.hosts,
            public_urls: tunnel.public_urls,
            principal: None,
            local: Some(tunnel.local),
            group: tunnel.group,
            sessions: tunnel.sessions.iter().map(ToString::to_string).collect(),
            state: match tunnel.state {
                State::Up => TunnelState::Up,
                State::Away => TunnelState::Away,
                State::Paused => TunnelState::Paused,
                State::Refused => TunnelState::Refused,
                _ => TunnelState::Connecting,
            },
            health: tunnel.health.map(|health| match health {
                LocalHealth::Up => Health::Up,
                LocalHealth::Down => Health::Down,
            }),
            visitors: usize::try_from(tunnel.visitors).unwrap_or(usize::MAX),
            streams_opened: tunnel.streams_opened,
            bytes_in: tunnel.bytes_in,
            bytes_out: tunnel.bytes_out,
            requests: None,
            round_trip_seconds: None,
            last_error: tunnel.last_error,
        }
    }
}
