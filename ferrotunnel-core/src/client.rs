//! The client's engine: dial, handshake, register, serve, and come back.

mod backoff;
mod connect;
mod counts;
mod direct;
mod growth;
mod health;
mod https;
mod life;
mod local;
mod missed;
mod parting;
mod reader;
mod roster;
mod state;
mod target;
mod vigil;

pub use crate::tls::LocalTrust;
pub use connect::ClientTransport;
pub use counts::{AttemptFailure, LocalFailure};
pub use health::{Examine, Examining, HealthCheck, Pipe, Probe};
pub use reader::{
    CarrierReading, CarrierState, ClientControl, ClientReader, ClientReadings, ClientTunnelReading,
    ControlError, KindTotals, LocalHealth, TunnelState,
};
pub use roster::ServerMode;
pub use target::{Acceptor, HttpsTarget, Target, Visit};

use std::io;
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ferrotunnel_common::{ClientId, SessionId, Token, TunnelKind};
use ferrotunnel_protocol::frame::TunnelOptions;
use tokio::sync::{broadcast, oneshot};

use self::connect::Connector;
use self::roster::Roster;
use self::state::State;
use crate::auth;
use crate::clock;
use crate::drained::Drained;
use crate::error::{BuildError, ConnectError};
use crate::hooks::StreamHooks;
use crate::proxy_protocol::ProxyProtocol;
use crate::shards::Shards;
use crate::tap::TapMaker;

/// Settings of a client's engine.
#[derive(Debug)]
pub struct ClientConfig {
    /// `host:port` of each server, up to [`MOST_SERVERS`]; names are looked up anew at each attempt.
    pub servers: Vec<String>,
    /// How several are used.
    pub server_mode: ServerMode,
    /// TLS or plaintext.
    pub transport: ClientTransport,
    /// The shared token, or one of its own.
    pub token: Token,
    /// Name and version of the program, for the server's logs.
    pub software: String,
    /// Whether to come back after a failure that may pass.
    pub retry: Retry,
    /// How long each address of a server may take to answer.
    pub connect_timeout: Duration,
    /// How long TLS, and after it the handshake of the session, may take each.
    pub handshake_deadline: Duration,
    /// How many carriers to keep to each server.
    pub connections: Connections,
    /// The threads that they live on.
    pub shards: Shards,
}

/// Servers of one client at most: each may be dialled every few seconds for as long as the client lives.
pub const MOST_SERVERS: usize = 16;

/// How many carriers a client keeps to its server, each with a session of its own. Visitors are
/// spread over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connections {
    /// One, and more while streams compete for it on a long way.
    #[default]
    Auto,
    /// That many, from 1 to [`MOST`](Self::MOST).
    Exactly(u8),
}

impl Connections {
    /// Carriers at most. Each costs both ends a descriptor, and with TLS some 13 KiB at the server and 50 at
    /// the client; what several are for, processors and losses, is well spread over sixteen.
    pub const MOST: u8 = 16;
}

impl FromStr for Connections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(count) if (1..=Self::MOST).contains(&count) => Ok(Self::Exactly(count)),
            _ => Err(format!("{text:?} is neither auto nor a number from 1 to {}", Self::MOST)),
        }
    }
}

/// Whether a client tries again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// With back-off, for ever; only a takeover of its last tunnel, a token that never was right and a
    /// certificate that is not taken are final.
    #[default]
    Forever,
    /// Failing ends the client. Of several servers each is tried before that, and one that is lost
    /// makes way for the next; while there is a session with any, a carrier or server that is lost is
    /// dialled again, for ever.
    Never,
}

/// A tunnel that a client wants, and where its streams go.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    /// What it carries.
    pub kind: TunnelKind,
    /// Wanted name; empty: picked by the server, and kept across reconnects unless another client
    /// took it meanwhile.
    pub name: String,
    /// Further host names.
    pub hosts: Vec<String>,
    /// Wanted public port; 0: picked by the server, and kept like such a name.
    pub port: u16,
    /// Settings of the tunnel.
    pub options: TunnelOptions,
    /// How the local service is told who a visitor is; not at all by default.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The local service.
    pub target: Target,
    /// Whether the client looks after it. Not for a [`Target::InProcess`], which is there when the client is.
    pub health: Option<HealthCheck>,
}

/// A tunnel that the server has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The session it lives in.
    pub session_id: SessionId,
    /// The server, as it was given.
    pub server: String,
    /// What it carries.
    pub kind: TunnelKind,
    /// The name in use, also when the server picked it, and behind it the path if it has only one, like `app/api`;
    /// for `tcp` the port.
    pub name: String,
    /// Where visitors reach it: `http://..` or `tcp://host:port`.
    pub public_url: String,
}

/// What happens to a client, for people and scripts.
///
/// A client of several servers of which one is enough ([`ServerMode::Failover`]) is told to be
/// disconnected while it has no session with any; when it returns to an earlier server, another
/// [`Connected`](Self::Connected) says so. One that uses them all is connected to each, or not, by
/// itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A session is established, the only one with its server.
    Connected {
        /// Its name.
        session_id: SessionId,
        /// The server, as it was given.
        server: String,
    },
    /// A tunnel is reachable, at one of the servers.
    TunnelReady(Registration),
    /// A tunnel was refused by a server, or is lost to a newer client. One that was ready before is
    /// asked for again unless a newer client has it, and then a [`TunnelReady`](Self::TunnelReady) may
    /// follow.
    TunnelLost {
        /// The name it was asked for by.
        name: String,
        /// The server, as it was given.
        server: String,
        /// Why.
        reason: String,
    },
    /// There is no session; the client tries again. Told when one is lost, and of each attempt that
    /// fails while there is none.
    Disconnected {
        /// The server, as it was given, whose session was lost or which could not be reached.
        server: String,
        /// Why.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// The checks of a tunnel's local service have failed: the server sends visitors to others first who have the
    /// same tunnel.
    LocalServiceDown {
        /// The tunnel's name; for `tcp` its port.
        name: String,
        /// What the last check found.
        reason: String,
    },
    /// They have succeeded again.
    LocalServiceUp {
        /// The tunnel's name; for `tcp` its port.
        name: String,
    },
    /// The client has ended for good.
    Ended {
        /// Why, unless it was shut down.
        reason: Option<String>,
    },
}

/// A running client. Dropping it ends everything at once.
#[derive(Debug)]
pub struct ClientEngine {
    state: Arc<State>,
    main: tokio::task::JoinHandle<()>,
    /// Streams that drain need their threads until the end.
    _shards: Shards,
}

impl ClientEngine {
    /// Starts to connect. Tunnels may be added at once or later. What happens is told to `events`.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn start(
        config: ClientConfig,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, BuildError> {
        Self::start_with(config, events, None, Connector::new)
    }

    /// The same with somebody who sees its streams.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn start_seen_by(
        hooks: Option<Arc<dyn StreamHooks>>,
        config: ClientConfig,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, BuildError> {
        Self::start_with(config, events, hooks, Connector::new)
    }

    fn start_with(
        config: ClientConfig,
        events: broadcast::Sender<Event>,
        hooks: Option<Arc<dyn StreamHooks>>,
        connector: impl FnOnce(ClientConfig, ClientId) -> Result<Connector, BuildError>,
    ) -> Result<Self, BuildError> {
        let client_id: ClientId =
            auth::random_client_id().map_err(|error| BuildError::System(error.to_string()))?;
        if !(1..=MOST_SERVERS).contains(&config.servers.len()) {
            return Err(BuildError::Servers { most: MOST_SERVERS });
        }
        let (retry, connections, shards) =
            (config.retry, config.connections, config.shards.clone());
        let carriers = match connections {
            Connections::Auto => 1,
            Connections::Exactly(count) => count.clamp(1, Connections::MOST).into(),
        };
        let roster = Roster::new(config.server_mode, config.servers.len(), carriers);
        let connector = connector(config, client_id)?;
        let state = State::new(connector, retry, roster, events).seen_by(hooks);
        let state = state.on(&shards);
        let state = Arc::new(state);
        let main = tokio::spawn(life::run(Arc::clone(&state), connections, shards.clone()));
        Ok(Self { state, main, _shards: shards })
    }

    /// Has somebody see what passes through the streams of HTTP tunnels from now on. Only the first call counts.
    pub fn tap_with(&self, taps: Arc<dyn TapMaker>) {
        let _ = self.state.taps.set(taps);
    }

    /// What reaches the local services of its tunnels.
    pub fn reacher(&self) -> Reacher {
        Reacher(Arc::downgrade(&self.state))
    }

    /// Adds a tunnel and waits until the server has registered it.
    ///
    /// # Errors
    /// The server refused it, or the client ended.
    pub async fn add(
        &self,
        spec: TunnelSpec,
    ) -> Result<(TunnelHandle, Registration), ConnectError> {
        check_length(&spec)?;
        let (first, answer) = oneshot::channel();
        let check = spec.health.clone();
        let handle = self.handle(self.state.add(spec, Some(first)), check);
        let mut end = self.state.end.subscribe();
        let registration = tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(answer) => answer?,
                Err(_) => return Err(self.end_error()),
            },
            end = end.wait_for(Option::is_some) => {
                drop(end);
                return Err(self.end_error());
            }
        };
        Ok((handle, registration))
    }

    /// Adds a tunnel that is asked for until a server has it, and does not wait for that.
    ///
    /// # Errors
    /// It is too long to be asked for.
    pub fn want(&self, spec: TunnelSpec) -> Result<TunnelHandle, ConnectError> {
        check_length(&spec)?;
        let check = spec.health.clone();
        Ok(self.handle(self.state.add(spec, None), check))
    }

    /// The same in the place of another one, whose visitors stay until they have finished. Only what the servers
    /// see no difference in is changed without a moment in which there is none.
    ///
    /// # Errors
    /// As there; then the other one stays.
    pub fn replace(&self, tunnel: &mut TunnelHandle, spec: TunnelSpec) -> Result<(), ConnectError> {
        check_length(&spec)?;
        let (check, before) = (spec.health.clone(), tunnel.number);
        let number = self.state.replace(before, spec);
        if number != before {
            // What is dropped is wanted no more already.
            *tunnel = self.handle(number, check);
        }
        Ok(())
    }

    fn handle(&self, number: u32, check: Option<HealthCheck>) -> TunnelHandle {
        if let Some(check) = check {
            self.state.checks.spawn(health::watch(Arc::clone(&self.state), number, check));
        }
        TunnelHandle { state: Arc::clone(&self.state), number }
    }

    /// Whether it has ended for good.
    pub fn has_ended(&self) -> bool {
        self.state.end.borrow().is_some()
    }

    fn end_error(&self) -> ConnectError {
        match &*self.state.end.borrow() {
            Some(error) => error.copy(),
            None => ConnectError::Shutdown,
        }
    }

    /// Waits until the client has ended for good.
    ///
    /// # Errors
    /// Why it ended, unless it was shut down.
    pub async fn wait(&self) -> Result<(), ConnectError> {
        let mut end = self.state.end.subscribe();
        // The sender lives as long as `self`.
        let _ = end.wait_for(Option::is_some).await;
        match self.end_error() {
            ConnectError::Shutdown => Ok(()),
            error => Err(error),
        }
    }

    /// Tells the server, lets open streams finish for `grace`, then ends. What in-process acceptors
    /// still hold is cut too, but not counted: it is theirs.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        let began = clock::now();
        self.state.stop.send_replace(true);
        let mut end = self.state.end.subscribe();
        let ended = async {
            let _ = end.wait_for(Option::is_some).await;
        };
        let mut cut = 0;
        if tokio::time::timeout(grace, ended).await.is_err() {
            // Before their session takes them along.
            cut = self.state.streams.running();
            self.abort();
        }
        // Direct streams outlive the session.
        let left = self.state.streams.finish(grace.saturating_sub(clock::now() - began)).await;
        self.state.bulk.finish().await;
        Drained { cut: cut.max(left) }
    }
}

impl ClientEngine {
    fn abort(&self) {
        // First, so that whoever is about to begin on another thread finds it.
        self.state.stop.send_replace(true);
        self.main.abort();
        self.state.carriers.abort_all();
        self.state.parting.abort_all();
        // One of them may be at work on another thread, and would still tell its peer of streams that end after it.
        self.state.book.sever_all();
        self.state.finish(ConnectError::Shutdown);
    }
}

#[cfg(test)]
impl ClientEngine {
    /// Over a network that is none of the system's.
    pub(crate) fn start_over(
        plug: crate::simulation::Plug,
        config: ClientConfig,
        events: broadcast::Sender<Event>,
    ) -> Result<Self, BuildError> {
        Self::start_with(config, events, None, |config, id| {
            Ok(Connector::new(config, id)?.over(plug))
        })
    }

    /// As if its machine had slept.
    pub(crate) fn awake(&self) {
        self.state.alarm(vigil::Cause::Slept);
    }
}

impl Drop for ClientEngine {
    fn drop(&mut self) {
        // In this order: visitors should hear that the session was lost, not that it broke them off.
        self.abort();
        self.state.streams.abort_all();
    }
}

/// Reaches the local services of a client's tunnels as visitors do, from the client on. It does not keep the client.
#[derive(Clone, Debug)]
pub struct Reacher(Weak<State>);

impl Reacher {
    /// A connection to the local service of the tunnel of that number. Services over TLS are told whether it is to be HTTP/2.
    ///
    /// # Errors
    /// There is no such tunnel any more, this very process serves it, or the service could not be reached.
    pub async fn reach(&self, number: u64, is_http2: bool) -> io::Result<Box<dyn Pipe>> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the tunnel is gone");
        let number = u32::try_from(number).map_err(|_| gone())?;
        let known = self.0.upgrade().and_then(|state| state.target(number));
        let (spec, _) = known.ok_or_else(gone)?;
        local::reach(&spec, &local::Visitor::of_ours()).await?.into_pipe(is_http2).await
    }
}

/// A tunnel of a client; it is taken away when dropped.
#[derive(Debug)]
pub struct TunnelHandle {
    state: Arc<State>,
    number: u32,
}

/// Whether a tunnel can be asked for.
///
/// # Errors
/// There is too much to say of it.
pub fn check_length(spec: &TunnelSpec) -> Result<(), ConnectError> {
    if state::is_within_caps(spec) {
        return Ok(());
    }
    Err(ConnectError::Refused(state::too_long()))
}

impl TunnelHandle {
    /// Takes the tunnel away, and whoever listens to events hears of it.
    pub fn withdraw(self) {
        self.state.withdraw(self.number);
    }

    /// Whether it is asked for no more: a newer client has it, or a server has refused it for good.
    pub fn is_given_up(&self) -> bool {
        !self.state.is_wanted(self.number)
    }
}

impl Drop for TunnelHandle {
    fn drop(&mut self) {
        self.state.remove(self.number);
    }
}

#[cfg(test)]
mod tests;
