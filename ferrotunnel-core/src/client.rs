//! The client's engine: dial, handshake, register, serve, and come back.

mod backoff;
mod connect;
mod local;
mod target;

pub use connect::ClientTransport;
pub use target::{Acceptor, Target, Visit};

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrotunnel_common::{ClientId, SessionId, Token, TunnelKind};
use ferrotunnel_protocol::frame::{
    GoAway, GoAwayCode, Open, Refusal, RefusalCode, Register, Registered, ResetCode, TunnelOptions,
};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot, watch};

use self::backoff::Backoff;
use self::connect::{Connector, Link};
use crate::auth;
use crate::driver::{End, Incoming};
use crate::error::{BuildError, ConnectError};
use crate::session::Session;
use crate::stream::Stream;
use crate::tasks::Tasks;

/// Settings of a client's engine.
#[derive(Debug)]
pub struct ClientConfig {
    /// `host:port` of the server; the name is looked up anew at each attempt.
    pub server: String,
    /// TLS or plaintext.
    pub transport: ClientTransport,
    /// The shared token.
    pub token: Token,
    /// Name and version of the program, for the server's logs.
    pub software: String,
    /// Whether to come back after a failure that may pass.
    pub retry: Retry,
    /// How long TLS, and after it the handshake of the session, may take each.
    pub handshake_deadline: Duration,
}

/// Whether a client tries again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// With back-off, for ever; only a wrong token and a takeover are final.
    #[default]
    Forever,
    /// The first failure ends the client.
    Never,
}

/// A tunnel that a client wants, and where its streams go.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    /// What it carries.
    pub kind: TunnelKind,
    /// Wanted name; empty: picked by the server, and asked for again at each reconnect.
    pub name: String,
    /// Further host names.
    pub hosts: Vec<String>,
    /// Wanted public port; 0: picked by the server, and asked for again at each reconnect.
    pub port: u16,
    /// Settings of the tunnel.
    pub options: TunnelOptions,
    /// The local service.
    pub target: Target,
}

/// A tunnel that the server has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The session it lives in.
    pub session_id: SessionId,
    /// What it carries.
    pub kind: TunnelKind,
    /// The name in use, also when the server picked it; for `tcp` the port.
    pub name: String,
    /// Where visitors reach it: `http://..` or `tcp://host:port`.
    pub public_url: String,
}

/// What happens to a client, for people and scripts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A session is established.
    Connected {
        /// Its name.
        session_id: SessionId,
    },
    /// A tunnel is reachable.
    TunnelReady(Registration),
    /// A tunnel was refused, or is lost to a newer client.
    TunnelLost {
        /// The name it was asked for by.
        name: String,
        /// Why.
        reason: String,
    },
    /// There is no session; the client tries again.
    Disconnected {
        /// Why.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
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
}

#[derive(Debug)]
struct State {
    connector: Connector,
    retry: Retry,
    tunnels: Mutex<Tunnels>,
    events: broadcast::Sender<Event>,
    /// `true`: drain and end.
    stop: watch::Sender<bool>,
    end: watch::Sender<Option<Arc<ConnectError>>>,
    streams: Tasks,
}

#[derive(Default)]
struct Tunnels {
    next_number: u32,
    wanted: HashMap<u32, Wanted>,
    session: Option<(Session, SessionId)>,
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("wanted", &self.wanted.len()).finish_non_exhaustive()
    }
}

struct Wanted {
    spec: Arc<TunnelSpec>,
    /// Who waits for the first answer.
    first: Option<oneshot::Sender<Result<Registration, ConnectError>>>,
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
        let client_id: ClientId =
            auth::random_client_id().map_err(|error| BuildError::Tls(error.to_string()))?;
        let state = Arc::new(State {
            retry: config.retry,
            connector: Connector::new(config, client_id)?,
            tunnels: Mutex::default(),
            events,
            stop: watch::Sender::new(false),
            end: watch::Sender::new(None),
            streams: Tasks::default(),
        });
        let main = tokio::spawn(run(Arc::clone(&state)));
        Ok(Self { state, main })
    }

    /// Adds a tunnel and waits until the server has registered it.
    ///
    /// # Errors
    /// The server refused it, or the client ended.
    pub async fn add(
        &self,
        spec: TunnelSpec,
    ) -> Result<(TunnelHandle, Registration), ConnectError> {
        if !to_register(&spec).is_within_caps() {
            return Err(ConnectError::Refused(too_long()));
        }
        let (first, answer) = oneshot::channel();
        let number = self.state.add(spec, first);
        let handle = TunnelHandle { state: Arc::clone(&self.state), number };
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

    /// Whether it has ended for good.
    pub fn has_ended(&self) -> bool {
        self.state.end.borrow().is_some()
    }

    fn end_error(&self) -> ConnectError {
        match &*self.state.end.borrow() {
            Some(error) => copy(error),
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

    /// Tells the server, lets open streams finish for `grace`, then ends.
    pub async fn shutdown(&self, grace: Duration) {
        self.state.stop.send_replace(true);
        let mut end = self.state.end.subscribe();
        let ended = async {
            let _ = end.wait_for(Option::is_some).await;
        };
        if tokio::time::timeout(grace, ended).await.is_err() {
            self.main.abort();
            self.state.finish(ConnectError::Shutdown);
        }
        self.state.streams.finish(Duration::ZERO).await;
    }
}

impl Drop for ClientEngine {
    fn drop(&mut self) {
        self.main.abort();
        self.state.finish(ConnectError::Shutdown);
    }
}

/// A tunnel of a client; it is taken away when dropped.
#[derive(Debug)]
pub struct TunnelHandle {
    state: Arc<State>,
    number: u32,
}

impl Drop for TunnelHandle {
    fn drop(&mut self) {
        let mut tunnels = self.state.tunnels.lock();
        let known = tunnels.wanted.remove(&self.number).is_some();
        if let (true, Some((session, _))) = (known, &tunnels.session) {
            session.unregister(self.number);
        }
    }
}

impl State {
    fn add(
        &self,
        spec: TunnelSpec,
        first: oneshot::Sender<Result<Registration, ConnectError>>,
    ) -> u32 {
        let mut tunnels = self.tunnels.lock();
        tunnels.next_number += 1;
        let number = tunnels.next_number;
        let register = to_register(&spec);
        tunnels.wanted.insert(number, Wanted { spec: Arc::new(spec), first: Some(first) });
        if let Some((session, _)) = &tunnels.session {
            session.register(number, register);
        }
        number
    }

    /// A new session: everything wanted is asked for again.
    fn enter(&self, session: &Session, session_id: SessionId) {
        let mut tunnels = self.tunnels.lock();
        tunnels.session = Some((session.clone(), session_id));
        let mut numbers: Vec<u32> = tunnels.wanted.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(wanted) = tunnels.wanted.get(&number) {
                session.register(number, to_register(&wanted.spec));
            }
        }
    }

    fn leave(&self) {
        self.tunnels.lock().session = None;
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    fn registered(&self, number: u32, answer: Registered) -> Option<ConnectError> {
        let mut tunnels = self.tunnels.lock();
        let session_id = tunnels.session.as_ref().map(|(_, id)| *id)?;
        let wanted = tunnels.wanted.get_mut(&number)?;
        match answer {
            Registered::Ok { address } => {
                let registration = self.connector.place(session_id, &wanted.spec, &address);
                keep_place(wanted, &registration);
                let first = wanted.first.take();
                drop(tunnels);
                self.tell(Event::TunnelReady(registration.clone()));
                first.map(|first| first.send(Ok(registration)));
                None
            }
            Registered::Refused(refusal) => {
                let name = label(&wanted.spec);
                let first = wanted.first.take();
                let superseded = refusal.code == RefusalCode::Superseded;
                if first.is_some() || superseded {
                    tunnels.wanted.remove(&number);
                }
                let none_left = tunnels.wanted.is_empty();
                drop(tunnels);
                self.tell(Event::TunnelLost { name, reason: refusal.reason.clone() });
                match first {
                    Some(first) => {
                        let _ = first.send(Err(ConnectError::Refused(refusal)));
                        None
                    }
                    None if superseded && none_left => {
                        Some(ConnectError::Superseded(refusal.reason))
                    }
                    None if superseded => None,
                    // It was ours before: whatever is in the way may pass.
                    None => Some(ConnectError::RefusedAgain(refusal)),
                }
            }
        }
    }

    fn target(&self, number: u32) -> Option<Arc<TunnelSpec>> {
        self.tunnels.lock().wanted.get(&number).map(|wanted| Arc::clone(&wanted.spec))
    }

    /// Ends for good, once.
    fn finish(&self, error: ConnectError) {
        let reason = (!matches!(error, ConnectError::Shutdown)).then(|| error.to_string());
        let first_time = self.end.send_if_modified(|end| {
            let unset = end.is_none();
            if unset {
                *end = Some(Arc::new(error));
            }
            unset
        });
        if first_time {
            self.leave();
            // Listeners of this process hold their handles: without this they would wait for ever.
            let wanted = std::mem::take(&mut self.tunnels.lock().wanted);
            drop(wanted);
            self.tell(Event::Ended { reason });
        }
    }
}

/// What a server would say, if it could be asked.
fn too_long() -> Refusal {
    let reason = "a name has at most 63 bytes, a host 253, and a tunnel has at most 32 hosts";
    Refusal { code: RefusalCode::InvalidName, reason: reason.to_owned() }
}

fn to_register(spec: &TunnelSpec) -> Register {
    Register {
        kind: spec.kind,
        name: spec.name.clone(),
        hosts: spec.hosts.clone(),
        port: spec.port,
        options: spec.options.clone(),
    }
}

/// What the server picked is asked for again after a reconnect, so that visitors find it.
fn keep_place(wanted: &mut Wanted, registration: &Registration) {
    let spec = Arc::make_mut(&mut wanted.spec);
    match spec.kind {
        TunnelKind::Tcp | TunnelKind::Udp => {
            spec.port = registration.name.parse().unwrap_or(spec.port);
        }
        TunnelKind::Http | TunnelKind::Tls => spec.name.clone_from(&registration.name),
    }
}

fn label(spec: &TunnelSpec) -> String {
    match (spec.name.is_empty(), spec.port) {
        (true, 0) => spec.kind.to_string(),
        (true, port) => format!("{}:{port}", spec.kind),
        (false, _) => spec.name.clone(),
    }
}

/// Errors hold system errors, which cannot be cloned; whoever waits gets the same words.
fn copy(error: &ConnectError) -> ConnectError {
    match error {
        ConnectError::WrongToken => ConnectError::WrongToken,
        ConnectError::ServerNotTrusted => ConnectError::ServerNotTrusted,
        ConnectError::Superseded(reason) => ConnectError::Superseded(reason.clone()),
        ConnectError::Refused(refusal) => ConnectError::Refused(refusal.clone()),
        ConnectError::RefusedAgain(refusal) => ConnectError::RefusedAgain(refusal.clone()),
        ConnectError::Shutdown => ConnectError::Shutdown,
        ConnectError::GoAway { code, reason } => {
            ConnectError::GoAway { code: *code, reason: reason.clone() }
        }
        ConnectError::Protocol { server, violation } => {
            ConnectError::Protocol { server: server.clone(), violation: *violation }
        }
        ConnectError::Unreachable { server, source } => {
            ConnectError::Unreachable { server: server.clone(), source: same(source) }
        }
        ConnectError::Tls { server, source } => {
            ConnectError::Tls { server: server.clone(), source: same(source) }
        }
        ConnectError::HungUp { server, source } => {
            ConnectError::HungUp { server: server.clone(), source: same(source) }
        }
        ConnectError::Lost(source) => ConnectError::Lost(same(source)),
        ConnectError::System(text) => ConnectError::System(text.clone()),
    }
}

fn same(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}

/// Connects, serves and comes back until the end.
async fn run(state: Arc<State>) {
    let mut backoff = Backoff::default();
    let mut stop = state.stop.subscribe();
    loop {
        let error = live(&state, &mut backoff).await;
        state.leave();
        let give_up = !error.is_retryable() || state.retry == Retry::Never || *state.stop.borrow();
        if give_up {
            let error = if *state.stop.borrow() { ConnectError::Shutdown } else { error };
            return state.finish(error);
        }
        let pause = backoff.next(error.is_cheap());
        state.tell(Event::Disconnected { reason: error.to_string(), retry_in: pause });
        tokio::select! {
            () = stopped(&mut stop) => return state.finish(ConnectError::Shutdown),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the client.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One session, from dialling to its end.
async fn live(state: &Arc<State>, backoff: &mut Backoff) -> ConnectError {
    let mut stop = state.stop.subscribe();
    let connected = tokio::select! {
        biased;
        () = stopped(&mut stop) => return ConnectError::Shutdown,
        connected = state.connector.connect() => connected,
    };
    let Link { carrier, greeted } = match connected {
        Ok(link) => link,
        Err(error) => return error,
    };
    let since = Instant::now();
    let session_id = greeted.session_id;
    let (session, shared) = connect::session(greeted.machine);
    state.tell(Event::Connected { session_id });
    state.enter(&session, session_id);
    let mut farewell = None;
    let end = {
        let on_incoming = |incoming| handle(state, &session, &mut farewell, incoming);
        let mut driving = std::pin::pin!(carrier.drive(shared, greeted.input, on_incoming));
        tokio::select! {
            end = &mut driving => end,
            () = stopped(&mut stop) => {
                session.drain(GoAwayCode::ShuttingDown, "the client is shutting down");
                driving.await
            }
        }
    };
    backoff.lived(since.elapsed());
    farewell.unwrap_or_else(|| match end {
        End::Closed => ConnectError::Lost(std::io::ErrorKind::UnexpectedEof.into()),
        End::Carrier(error) => ConnectError::Lost(error),
        End::Violation(violation) => {
            ConnectError::Protocol { server: state.connector.server().to_owned(), violation }
        }
    })
}

fn handle(
    state: &Arc<State>,
    session: &Session,
    farewell: &mut Option<ConnectError>,
    incoming: Incoming,
) {
    match incoming {
        Incoming::Opened(stream, open) => serve(state, stream, &open),
        Incoming::Registered(number, answer) => {
            if let Some(error) = state.registered(number, *answer) {
                *farewell = Some(error);
                session.close(GoAwayCode::ShuttingDown, "the tunnel is lost");
            }
        }
        Incoming::GoAway(go_away) => {
            let GoAway { code, reason, .. } = *go_away;
            // The refusal of the last tunnel comes first and says more.
            farewell.get_or_insert(match code {
                GoAwayCode::Superseded => ConnectError::Superseded(reason),
                GoAwayCode::WrongToken => ConnectError::WrongToken,
                code => ConnectError::GoAway { code, reason },
            });
        }
        Incoming::Register(..) | Incoming::Unregister(_) => {}
    }
}

/// A visitor: to the local service and back.
fn serve(state: &Arc<State>, stream: Stream, open: &Open) {
    let Some(spec) = state.target(open.tunnel) else {
        return stream.reset(ResetCode::UnknownTunnel, "no such tunnel");
    };
    match &spec.target {
        Target::InProcess(acceptor) => acceptor.give(stream, open),
        _ => drop(state.streams.spawn(local::forward(stream, spec))),
    }
}
