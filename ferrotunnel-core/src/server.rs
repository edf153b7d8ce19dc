//! The server's engine: the door for clients, their sessions, and the registry.

mod control;
mod left;
mod reader;
mod room;

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ferrotunnel_common::{LimitsConfig, SessionId, Token};
use ferrotunnel_protocol::frame::GoAwayCode;
use ferrotunnel_protocol::{Config, FrameError, ReceiveBudget, SILENT_BEATS, Side, Violation};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::accept::accept_into_places;
use crate::access::AccessConfig;
use crate::auth::{Authenticator, Binding, Credential};
use crate::carrier::Carrier;
use crate::clock;
use crate::counters::{Handshake, Handshakes, Sums};
use crate::crowd::Crowd;
use crate::direct::{self, DirectCarriers};
use crate::drained::Drained;
use crate::driver::{Driver, End, Incoming};
use crate::error::{self, BuildError, StartError};
use crate::guesses::{self, Answer, Guesses, Try, Turn};
use crate::handshake::{self, Greeted, Guest, HandshakeError, Shown};
use crate::hooks::{self, Desk, NewSession, ServerHooks};
use crate::principals::{Change, PrincipalConfig, Roster};
use crate::refusals::Refusals;
use crate::registry::{self, Owner, OwnerLimits, PassingDoor, Registry, RegistryConfig, Routes};
use crate::seat::Seat;
use crate::session::Session;
use crate::shards::{Runtimes, Shards};
use crate::shared::Shared;
use crate::socket::{self, Listen};
use crate::tasks::Tasks;
use crate::throttle::Rates;
use crate::tls::{
    CertificateProblem, Hello, Pass, Secured, ServerTls, Standing, TlsAcceptor, Words,
};
use crate::turned_away::{Limit, TurnedAway};
use crate::unheard::Unheard;
use crate::warning::Warning;

pub use self::control::EngineControl;
use self::left::Left;
pub use self::reader::{EngineReader, PrincipalReading, Readings, SessionReading, TunnelReading};
pub use crate::registry::{parse_domain, parse_reserved_name};

/// How clients reach a server.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TLS 1.3 with these certificates.
    Tls(ServerTls),
    /// No encryption: for networks that are trusted or encrypted already.
    Plaintext,
}

impl Transport {
    /// Whether a server could start with it: its files are read, and made into what a start makes of them.
    ///
    /// # Errors
    /// They cannot be used; the error names the file.
    pub fn check(&self) -> Result<(), BuildError> {
        match self {
            Self::Tls(settings) => TlsAcceptor::new(settings.clone()).map(drop),
            Self::Plaintext => Ok(()),
        }
    }
}

/// Settings of a server's engine.
#[derive(Debug)]
pub struct ServerConfig {
    /// Where clients connect.
    pub bind: Listen,
    /// TLS or plaintext.
    pub transport: Transport,
    /// The token that those share who have none of their own, if there is one.
    pub token: Option<Token>,
    /// Who has tokens of their own.
    pub principals: Vec<PrincipalConfig>,
    /// HTTP and TLS tunnels are reached under `name.domain`; as [`parse_domain`] gives it.
    pub domain: String,
    /// Labels under the domain that no tunnel gets; as [`parse_reserved_name`] gives them.
    pub reserved_names: Vec<String>,
    /// A request whose host matches nothing goes to the only HTTP tunnel, if there is exactly one.
    pub only_tunnel_answers: bool,
    /// Port of the HTTP ingress, for public addresses; `None` without one.
    pub http_port: Option<u16>,
    /// Port of the HTTPS ingress, which visitors of TLS tunnels share; with one, public addresses say https.
    pub https_port: Option<u16>,
    /// Address on which TCP tunnels listen.
    pub tcp_ip: IpAddr,
    /// Limits.
    pub limits: LimitsConfig,
    /// The threads that sessions live on.
    pub shards: Shards,
    /// How long a tunnel whose client was lost keeps its name or port for it, and visitors wait.
    pub visitor_grace: Duration,
    /// How visitors are let in.
    pub access: AccessConfig,
    /// After this much silence a client is asked for a sign of life; after three, it is gone.
    pub heartbeat: Duration,
    /// Name and version of the program, for whoever looks at a client; empty to say nothing of it.
    pub software: String,
}

/// A running server's engine. Dropping it ends everything at once.
#[derive(Debug)]
pub struct ServerEngine {
    addr: SocketAddr,
    /// Where connections come in by themselves.
    door: Option<AbortHandle>,
    /// Connections at once that have not proven the token.
    places: Arc<Semaphore>,
    hall: Arc<Hall>,
    connections: Tasks,
    visitors: Tasks,
    listeners: Tasks,
    /// Looks after the certificates.
    _watching: Tasks,
}

impl ServerEngine {
    /// Binds the tunnel port and starts to take clients.
    ///
    /// # Errors
    /// The port cannot be bound, or the certificate cannot be used.
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        Self::start_with(config, None)
    }

    /// The same with somebody who has a say.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(
        config: ServerConfig,
        hooks: Option<Arc<dyn ServerHooks>>,
    ) -> Result<Self, StartError> {
        let (listener, addr) = match config.bind {
            Listen::Elsewhere(addr) => (None, addr),
            listen => {
                let listener = bind(listen, "bind")?;
                let addr = listener.local_addr();
                let addr =
                    addr.map_err(|source| StartError::Listener { setting: "bind", source })?;
                (Some(listener), addr)
            }
        };
        let tls = match config.transport {
            Transport::Plaintext => {
                tracing::warn!(
                    "carriers are not encrypted: use plaintext on trusted networks only"
                );
                None
            }
            Transport::Tls(settings) => Some(Arc::new(TlsAcceptor::new(settings)?)),
        };
        let mut roster = Roster::new(config.token.as_ref())?;
        let known = roster.replace(&config.principals)?.known;
        let authenticator =
            Authenticator::new(known).map_err(|error| BuildError::System(error.to_string()))?;
        let (visitors, listeners) = (Tasks::default(), Tasks::default());
        let budget = ReceiveBudget::new(config.limits.max_receive_memory);
        let registry = Registry::new(
            RegistryConfig {
                domain: config.domain,
                reserved_names: config.reserved_names,
                http_port: config.http_port,
                https_port: config.https_port,
                only_tunnel_answers: config.only_tunnel_answers,
                budget: budget.clone(),
                tcp_ip: config.tcp_ip,
                max_tunnels_per_session: config.limits.max_tunnels_per_session,
                max_visitors_per_tunnel: config.limits.max_visitors_per_tunnel,
                max_visitors_per_address: config.limits.max_visitors_per_address,
                grace: config.visitor_grace,
                silence: config.heartbeat * SILENT_BEATS,
                access: config.access,
                hooks: hooks.clone(),
            },
            visitors.clone(),
            listeners.clone(),
        );
        let hall = Arc::new(Hall {
            registry,
            tls,
            authenticator,
            roster: Mutex::new(roster),
            refusals: Refusals::new(Instant::now().into_std()),
            guesses: Guesses::at_tokens(
                config.limits.max_failed_handshakes_per_address,
                Instant::now().into_std(),
            ),
            strangers: Guesses::at_the_door(
                config.limits.max_failed_handshakes_per_address,
                Instant::now().into_std(),
            ),
            held: Arc::default(),
            unheard: Unheard::default(),
            budget,
            limits: RwLock::new(config.limits),
            heartbeat: config.heartbeat,
            software: config.software,
            hooks,
            runtimes: config.shards.runtimes(),
            shards: config.shards,
            admitted: Arc::default(),
            returning: Arc::default(),
            sessions: Mutex::default(),
            left: Left::default(),
            past: Mutex::default(),
            handshakes: Handshakes::default(),
            direct_visitors: Arc::default(),
            closing: watch::Sender::new(false),
        });
        let connections = Tasks::default();
        let most = hall.limits.read().max_handshakes_in_flight;
        let places = Arc::new(Semaphore::new(most));
        let door = listener.map(|listener| {
            let (hall, connections) = (Arc::clone(&hall), connections.clone());
            let mut warning = Warning::every(WARN_EVERY);
            let inside = Arc::clone(&hall);
            let on_connection = move |socket, peer, place| {
                receive(&hall, &connections, socket, peer, place);
            };
            let door =
                accept_into_places(listener, Arc::clone(&places), on_connection, move || {
                    inside.is_full();
                    if warning.is_due(Instant::now()) {
                        tracing::warn!(
                            limit = most,
                            "as many handshakes are under way as are allowed; others wait for them \
                         (max_handshakes_in_flight, --max-handshakes)"
                        );
                    }
                });
            listeners.spawn(door)
        });
        let watching = Tasks::default();
        if let Some(tls) = &hall.tls {
            watching.spawn(Arc::clone(tls).watch());
        }
        Ok(Self { addr, door, places, hall, connections, visitors, listeners, _watching: watching })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Loads the certificates of carriers from their files now, for connections from now on. They are
    /// also loaded when the files change.
    ///
    /// # Errors
    /// They cannot be used; those of before stay in use.
    pub fn reload_certificates(&self) -> Result<(), BuildError> {
        self.hall.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// For whoever else hears clients dial in.
    pub fn carrier_door(&self) -> CarrierDoor {
        let (hall, connections) = (Arc::clone(&self.hall), self.connections.clone());
        CarrierDoor { hall, connections, places: Arc::clone(&self.places) }
    }

    /// For whoever hears visitors over TLS, of whom some are for local services that answer for themselves.
    pub fn passing_door(&self) -> PassingDoor {
        PassingDoor::of(self.hall.registry.clone())
    }

    /// What the HTTP ingress routes by.
    pub fn routes(&self) -> Arc<dyn Routes> {
        Arc::new(self.hall.registry.clone())
    }

    /// Sessions at present.
    pub fn sessions(&self) -> usize {
        self.hall.sessions.lock().len()
    }

    /// Streams open at present, over all sessions.
    pub fn streams(&self) -> usize {
        self.hall.streams()
    }

    /// Tunnels registered at present.
    pub fn tunnels(&self) -> usize {
        self.hall.registry.tunnels()
    }

    /// Places of visitors by where they come from: every ingress asks here.
    pub fn crowd(&self) -> Arc<Crowd> {
        Arc::clone(self.hall.registry.crowd())
    }

    /// How often the limits were met.
    pub fn turned_away(&self) -> TurnedAway {
        self.hall.turned_away()
    }

    /// Direct carriers, over all sessions.
    pub fn direct(&self) -> DirectCarriers {
        self.hall.direct()
    }

    /// Takes no new clients. Those that are there notice nothing, and their visitors are served.
    pub fn close_door(&self) {
        if let Some(door) = &self.door {
            door.abort();
        }
    }

    /// Replaces the principals while sessions go on. What concerns nobody else happens at once:
    ///
    /// - Sessions whose token is none of their principal's any more end, with all their visitors; so do
    ///   those of principals that vanished or are disabled.
    /// - Tunnels that their principal may no longer have are taken away, and their clients told why.
    ///   Visitors inside stay.
    /// - Lower limits end nothing: they count for what comes.
    ///
    /// # Errors
    /// One of them cannot be used; nothing has changed then.
    pub fn set_principals(&self, principals: &[PrincipalConfig]) -> Result<(), BuildError> {
        let mut roster = self.hall.roster.lock();
        let change = roster.replace(principals)?;
        self.hall.apply(change);
        Ok(())
    }

    /// From now on these limits hold for what comes: sessions that begin, tunnels that are registered,
    /// visitors of all tunnels, wrong tokens. Nothing ends by a lower one, and sessions keep the rates and
    /// the room for streams that they began with.
    ///
    /// Where the server listens and how much memory it plans with is decided at the start:
    /// `max_handshakes_in_flight` and `max_receive_memory` stay what they were, and `max_visitors` is the
    /// HTTP ingress's.
    pub fn set_limits(&self, limits: &LimitsConfig) {
        {
            let mut held = self.hall.limits.write();
            let mut limits = limits.clone();
            limits.max_handshakes_in_flight = held.max_handshakes_in_flight;
            limits.max_receive_memory = held.max_receive_memory;
            *held = limits;
        }
        for tries in [&self.hall.guesses, &self.hall.strangers] {
            tries.set_rate(limits.max_failed_handshakes_per_address);
        }
        self.hall.registry.set_limits(limits);
    }

    /// Takes no new clients, tunnels and visitors, lets those visitors through to their tunnels who have been accepted, which takes
    /// half a second at most, and tells the clients. What is open goes on. If it is dropped before it is through,
    /// [`shutdown`](Self::shutdown) does the rest.
    pub async fn begin_shutdown(&self) {
        self.begin_shutdown_within(ARRIVING_WITHIN).await;
    }

    async fn begin_shutdown_within(&self, patience: Duration) {
        self.close_door();
        // Before the sessions are looked at: one that comes in later finds it closed.
        self.hall.registry.close_doors();
        let has_begun = self.hall.closing.send_replace(true);
        for owner in self.hall.owners() {
            // No carrier comes any more: who waits for one goes over the session, as if it had waited in vain.
            owner.direct.close();
        }
        // Told to stop already; once they have ended, nobody is accepted whom the next step does not see.
        self.listeners.finish(Duration::ZERO).await;
        let arrivals = self.hall.registry.arrivals().all_through();
        // Who has not come through by then finds nobody. They are waited for once.
        let patience = if has_begun { Duration::ZERO } else { patience };
        let _ = tokio::time::timeout(patience, arrivals).await;
        self.hall.registry.close();
        for owner in self.hall.owners() {
            owner.drain();
        }
    }

    /// [Begins](Self::begin_shutdown) if nobody has yet, lets open streams finish for `grace`, then
    /// closes. Ports are free when it returns.
    pub async fn shutdown(self, grace: Duration) -> Drained {
        let began = Instant::now();
        self.begin_shutdown_within(grace.min(ARRIVING_WITHIN)).await;
        let rest = grace.saturating_sub(began.elapsed());
        let mut cut = 0;
        let cutting = async {
            tokio::time::sleep(rest).await;
            cut = self.hall.streams();
            for owner in self.hall.owners() {
                owner.session.close(GoAwayCode::ShuttingDown, registry::SHUTTING_DOWN);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = self.connections.finish(rest.saturating_add(FAREWELL)) => {}
            () = cutting => {}
        }
        // A visitor may be slower than the client was, or have left the session before.
        let slow = self.visitors.finish(grace.saturating_sub(began.elapsed())).await;
        // Those of all of them that were cut off on another thread.
        self.hall.shards.bulk().finish().await;
        Drained { cut: cut.max(slow) }
    }
}

#[cfg(test)]
impl ServerEngine {
    /// Direct carriers that serve nobody yet, in line or not.
    pub(crate) fn direct_kept(&self) -> usize {
        self.hall.owners().iter().map(|owner| owner.direct.kept()).sum()
    }

    /// A connection that came over a network that is none of the system's.
    pub(crate) fn receive(&self, carrier: impl Carrier, peer: SocketAddr) {
        let hall = Arc::clone(&self.hall);
        let deadline = Instant::now() + hall.limits.read().handshake_deadline;
        self.connections.spawn(async move {
            let places = Arc::new(Semaphore::new(1));
            let Ok(place) = places.acquire_owned().await else { return };
            let attempt = Try::free();
            let entrance = Entrance::of_stranger(place, attempt, deadline);
            serve(&hall, carrier, Binding::Plaintext, entrance, peer).await;
        });
    }
}

impl Drop for ServerEngine {
    fn drop(&mut self) {
        self.close_door();
        self.hall.registry.close();
    }
}

/// What TLS begins with (RFC 8446, section 5.1: a record of the handshake), and no frame.
const TLS: u8 = 22;

const SPEAKS_TLS: &str = "the client speaks TLS, and this server was started with --plaintext";

/// How long those are waited for at a shutdown who have been accepted and are not through to their tunnels yet. For most that takes
/// no time; the word of a proxy for whom it comes takes as long as a visitor's first request over HTTP, which has as much.
const ARRIVING_WITHIN: Duration = Duration::from_millis(500);

/// For the last words to leave, whatever is left of the grace.
const FAREWELL: Duration = Duration::from_millis(500);

/// Binds a listener, or takes one over; the error names the setting.
///
/// # Errors
/// The port is taken, or the address is not ours; what was handed over is no listener.
pub fn bind(listen: Listen, setting: &'static str) -> Result<TcpListener, StartError> {
    match listen {
        Listen::At(addr) => {
            socket::listen(addr).map_err(|source| StartError::Bind { addr, setting, source })
        }
        Listen::On(listener) => {
            socket::adopt(listener).map_err(|source| StartError::Listener { setting, source })
        }
        Listen::Elsewhere(addr) => {
            let source = io::Error::from(io::ErrorKind::AddrInUse);
            Err(StartError::Bind { addr, setting, source })
        }
    }
}

/// What all connections share.
struct Hall {
    registry: Registry,
    /// `None`: carriers are not encrypted.
    tls: Option<Arc<TlsAcceptor>>,
    authenticator: Authenticator,
    /// Locked by whoever changes it, and with it all that follows from it.
    roster: Mutex<Roster>,
    guesses: Guesses,
    /// Tries to get as far as a proof, and what never could have.
    strangers: Guesses,
    /// Those who are too many for that, and are let go a moment later.
    held: Arc<AtomicUsize>,
    unheard: Unheard,
    refusals: Refusals,
    budget: ReceiveBudget,
    /// Those that sessions begin with.
    limits: RwLock<LimitsConfig>,
    heartbeat: Duration,
    software: String,
    hooks: Option<Arc<dyn ServerHooks>>,
    shards: Shards,
    /// Those of its threads, and the one that it was started on.
    runtimes: Runtimes,
    /// Sessions admitted and not ended, including those still in their handshake's last step.
    admitted: Arc<AtomicUsize>,
    /// Clients that wait for a place that a session of theirs may have left.
    returning: Arc<AtomicUsize>,
    sessions: Mutex<HashMap<u64, Inside>>,
    /// Locked after the sessions.
    left: Left,
    /// What sessions have counted that have ended. Locked after the sessions.
    past: Mutex<Sums>,
    handshakes: Handshakes,
    /// Visitors with carriers of their own; they may outlive their session.
    direct_visitors: Arc<AtomicUsize>,
    /// Nobody new is taken: who is still at the door may go.
    closing: watch::Sender<bool>,
}

/// A session that has joined the others, and what is known of its client.
struct Inside {
    owner: Arc<Owner>,
    peer: SocketAddr,
    software: String,
    since: Instant,
}

impl std::fmt::Debug for Hall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hall").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Hall {
    /// What follows when principals change; the roster is locked.
    fn apply(&self, change: Change) {
        // In this order: a session that comes in meanwhile is either refused or found below.
        self.authenticator.replace(change.known);
        self.registry.apply(change.policies, &change.gone);
        for owner in self.owners() {
            self.end_if_revoked(&owner);
        }
        self.left.cut_unless(|credential| self.authenticator.still_knows(credential));
    }

    /// Ends a session whose token is not accepted any more.
    fn end_if_revoked(&self, owner: &Owner) {
        if !self.authenticator.still_knows(&owner.credential) {
            let principal = owner.principal().name();
            tracing::info!(session = %owner.session_id, principal, token = owner.credential.token_shown(), "token revoked, session ended");
            self.registry.revoke(owner);
        }
    }

    /// A step of a handshake, unless the server closes first: a silent stranger is nothing that a
    /// drain has to wait for. `None`: it does.
    async fn unless_closing<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            biased;
            done = step => Some(done),
            // The sender lives as long as `self`.
            _ = closing.wait_for(|closing| *closing) => None,
        }
    }

    fn refused(&self, peer: SocketAddr, result: Handshake, error: &dyn std::fmt::Display) {
        self.handshakes.count(result);
        self.refusals.tell(peer, error, Instant::now().into_std());
    }

    /// Waits until a connection from there may be listened to, and without a place meanwhile. `None`: too many of those
    /// who come from there have failed, and as many wait.
    async fn admit(
        &self,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Option<Entrance<'_>> {
        match self.strangers.take(peer.ip(), None, Instant::now().into_std()) {
            Turn::Now(attempt) => Some(Entrance::of_stranger(place, attempt, deadline)),
            Turn::Later(wait, _seat, attempt) => {
                let places = Arc::clone(place.semaphore());
                drop(place);
                tokio::time::sleep(wait).await;
                // Nobody closes it.
                let place = places.acquire_owned().await.ok()?;
                let deadline = Instant::now() + self.limits.read().handshake_deadline;
                Some(Entrance::of_stranger(place, attempt, deadline))
            }
            Turn::Never => {
                drop(place);
                self.hold(HELD).await;
                None
            }
        }
    }

    /// Who only comes again when it has been let go comes less often by that.
    async fn hold(&self, time: Duration) {
        if let Some(_seat) = Seat::take_within(&self.held, MOST_HELD) {
            tokio::time::sleep(time).await;
        }
    }

    /// The same for somebody who has talked nonsense, until it is its turn among all that do so from there. Nothing was
    /// computed for it, so nobody else has to wait for that.
    async fn hold_nonsense(&self, peer: SocketAddr) {
        let now = Instant::now().into_std();
        let time = match self.strangers.take(peer.ip(), Some(NONSENSE), now) {
            Turn::Now(attempt) => return drop(attempt.wrong(now)),
            // The seat is for those who are listened to afterwards.
            Turn::Later(wait, ..) => wait,
            Turn::Never => HELD,
        };
        self.hold(time).await;
    }

    /// Waits until a proof from there may be checked, which is said to be one of that token, and without a
    /// place meanwhile.
    async fn turn(
        &self,
        peer: SocketAddr,
        token_id: &str,
        place: &Place,
    ) -> Result<Try<'_>, &'static str> {
        let known = Some(token_id).filter(|id| self.authenticator.knows(id));
        match self.guesses.take_for(peer.ip(), known, Instant::now().into_std()) {
            Turn::Now(attempt) => Ok(attempt),
            Turn::Later(wait, _seat, attempt) => {
                drop(place.lock().take());
                tokio::time::sleep(wait).await;
                Ok(attempt)
            }
            Turn::Never => Err(guesses::TOO_MANY),
        }
    }

    /// Who has made that proof, once it may be checked, and without a place meanwhile. `None`: nobody has.
    ///
    /// # Errors
    /// That is not told: too many guesses come from there.
    async fn check(
        &self,
        peer: SocketAddr,
        standing: Standing,
        shown: &Shown,
        binding: &Binding,
        place: &Place,
    ) -> Result<Option<Arc<Credential>>, &'static str> {
        let Shown { token_id, proof, nonces } = shown;
        // Who guesses at a token gets no passes by that, and those of another one are none here.
        let attempt = match self.has_known(standing, token_id) {
            true => Try::free(),
            false => self.turn(peer, token_id, place).await?,
        };
        let proven = self.authenticator.check(token_id, proof, binding, nonces);
        if proven.is_some() {
            attempt.right();
            return Ok(proven);
        }
        match self.guesses.wrong(attempt, Instant::now().into_std()) {
            Answer::Now => {}
            Answer::Later(wait, _seat) => {
                drop(place.lock().take());
                tokio::time::sleep(wait).await;
            }
            Answer::Never => return Err(guesses::TOO_MANY),
        }
        Ok(None)
    }

    /// Somebody has come who finds no place.
    fn is_full(&self) {
        self.registry.meters().count(Limit::HandshakesInFlight);
        self.unheard.make_room();
    }

    /// Whoever has those tickets has proven a token of that id.
    fn knows(&self, passes: &[Pass], token_id: &str) {
        if let Some(tls) = &self.tls {
            tls.give(passes, Standing::Proven(tls.mark(token_id)));
        }
    }

    /// Whether it came as one who has proven a token of that id lately.
    fn has_known(&self, standing: Standing, token_id: &str) -> bool {
        self.tls.as_ref().is_some_and(|tls| standing.is_by(tls.mark(token_id)))
    }

    /// They are strangers' again.
    fn forgets(&self, passes: &[Pass]) {
        if let Some(tls) = &self.tls {
            tls.revoke(passes);
        }
    }

    /// TLS came to nothing: by that error, or because its time was over.
    fn refused_tls(&self, peer: SocketAddr, failed: Option<io::Error>) {
        let Some(error) = failed else {
            return self.refused(peer, Handshake::Timeout, &"TLS handshake deadline passed");
        };
        match CertificateProblem::of(&error, Side::Server) {
            Some(problem) => self.refused(peer, Handshake::Tls, &problem),
            None => self.refused(peer, Handshake::Tls, &error::words(&error)),
        }
    }

    fn streams(&self) -> usize {
        let sessions = self.sessions.lock();
        let multiplexed: usize =
            sessions.values().map(|inside| inside.owner.session.stats().streams).sum();
        multiplexed + self.direct_visitors.load(Ordering::Relaxed)
    }

    fn owners(&self) -> Vec<Arc<Owner>> {
        self.sessions.lock().values().map(|inside| Arc::clone(&inside.owner)).collect()
    }

    fn turned_away(&self) -> TurnedAway {
        let meters = self.registry.meters();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TurnedAway {
            handshakes_delayed: count(&self.guesses.delayed) + count(&self.strangers.delayed),
            handshakes_refused: count(&self.guesses.refused) + count(&self.strangers.refused),
            handshakes_waiting: meters.of(Limit::HandshakesInFlight),
            sessions: meters.of(Limit::Sessions),
            sessions_of_principals: meters.of(Limit::SessionsOfPrincipal),
            tunnels_of_sessions: meters.of(Limit::TunnelsOfSession),
            tunnels_of_principals: meters.of(Limit::TunnelsOfPrincipal),
            streams_of_sessions: meters.of(Limit::StreamsOfSession),
            streams_of_principals: meters.of(Limit::StreamsOfPrincipal),
            visitors: meters.of(Limit::Visitors),
            visitors_of_tunnels: meters.of(Limit::VisitorsOfTunnel),
            visitors_of_paused: meters.of(Limit::VisitorsOfPaused),
            visitors_of_addresses: self.registry.crowd().turned_away(),
            streams_too_fast: meters.of(Limit::StreamsTooFast),
            pauses: meters.of(Limit::Pauses),
            memory: self.budget.times_tight(),
            memory_of_sessions: self.budget.times_parts_tight(),
        }
    }

    fn direct(&self) -> DirectCarriers {
        let sessions = self.sessions.lock();
        DirectCarriers {
            waiting: sessions.values().map(|inside| inside.owner.direct.waiting()).sum(),
            serving: self.direct_visitors.load(Ordering::Relaxed),
        }
    }

    /// Somebody is at the door of a server that takes nobody any more.
    fn turned_to_go(&self, peer: SocketAddr) {
        self.handshakes.count(Handshake::Closing);
        tracing::debug!(%peer, "the server is shutting down: a connection that has not proven the token is closed");
    }

    /// The session of that name, if it is the guest's.
    fn owner_of(&self, session_id: SessionId, guest: &Guest) -> Option<Arc<Owner>> {
        let owner = Arc::clone(&self.sessions.lock().get(&session_id.0)?.owner);
        guest.has(&owner).then_some(owner)
    }
}

/// One connection on the tunnel port: a task of its own under a deadline. It has its place until it
/// has proven the token.
fn receive(
    hall: &Arc<Hall>,
    connections: &Tasks,
    socket: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let (hall, shards) = (Arc::clone(hall), hall.shards.clone());
    let deadline = Instant::now() + hall.limits.read().handshake_deadline;
    connections.serve(&shards, socket, move |socket| async move {
        greet(&hall, socket, BytesMut::new(), peer, place, deadline).await;
    });
}

/// One connection, of which `input` was read already, from TLS to its end.
async fn greet(
    hall: &Arc<Hall>,
    mut socket: TcpStream,
    mut input: BytesMut,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    deadline: Instant,
) {
    socket::tune_carrier(&socket);
    let words = match &hall.tls {
        // The server speaks first.
        None => Words::Hello(Standing::Stranger),
        Some(tls) => {
            let hearing = tokio::time::timeout_at(deadline, tls.hear(&mut socket, &mut input));
            let hearing = hall.unheard.listen(peer.ip(), hearing);
            match hall.unless_closing(hearing).await {
                Some(Some(Ok(Ok(words)))) => words,
                Some(None) => return hall.refused(peer, Handshake::NotHeard, &MAKES_ROOM),
                // It has cost next to nothing. Health checks come and go like that.
                Some(Some(failed)) => {
                    return hall.refused_tls(peer, failed.ok().and_then(Result::err));
                }
                None => return hall.turned_to_go(peer),
            }
        }
    };
    let entrance = match words {
        Words::Nonsense => {
            drop(place);
            return hear_nonsense_out(hall, socket, input, peer).await;
        }
        Words::Hello(Standing::Stranger) => {
            match hall.unless_closing(hall.admit(peer, place, deadline)).await {
                Some(Some(entrance)) => entrance,
                Some(None) => return hall.refused(peer, Handshake::NotHeard, &TOO_MANY_FAIL),
                None => return hall.turned_to_go(peer),
            }
        }
        Words::Hello(standing) => {
            Entrance { place, attempt: Try::free(), deadline, standing, passes: Vec::new() }
        }
    };
    let Some(tls) = &hall.tls else {
        return serve(hall, socket, Binding::Plaintext, entrance, peer).await;
    };
    // Its state is larger than that of the session behind it, and not to stay as long.
    let accepting = Box::pin(tls.accept(socket, input, peer.ip()));
    let accepting = tokio::time::timeout_at(entrance.deadline, accepting);
    let failed = match hall.unless_closing(accepting).await {
        Some(Ok(Ok(Secured { stream, binding, passes, .. }))) => {
            if let Standing::Proven(mark) = entrance.standing {
                // It has nothing else to come back with, should the connection break before it has said who it is.
                tls.give(&passes, Standing::Vouched(mark));
            }
            let entrance = Entrance { passes, ..entrance };
            return serve(hall, stream, binding, entrance, peer).await;
        }
        Some(Ok(Err(error))) => Some(error),
        Some(Err(_)) => None,
        None => return hall.turned_to_go(peer),
    };
    entrance.attempt.wrong(Instant::now().into_std());
    hall.refused_tls(peer, failed);
}

/// Keeps it waiting, and then tells it what is wrong.
async fn hear_nonsense_out(hall: &Arc<Hall>, socket: TcpStream, input: BytesMut, peer: SocketAddr) {
    let Some(tls) = &hall.tls else { return };
    let held = async {
        hall.hold_nonsense(peer).await;
        tokio::time::timeout(HELD, Box::pin(tls.accept(socket, input, peer.ip()))).await
    };
    match hall.unless_closing(held).await {
        Some(failed) => hall.refused_tls(peer, failed.ok().and_then(Result::err)),
        None => hall.turned_to_go(peer),
    }
}

/// A handshake's place among those that are under way, until it is given up.
type Place = Mutex<Option<OwnedSemaphorePermit>>;

/// Whoever has not proven anything, and is listened to.
struct Entrance<'a> {
    place: OwnedSemaphorePermit,
    /// Wrong if it never comes to a proof.
    attempt: Try<'a>,
    deadline: Instant,
    standing: Standing,
    /// What its tickets are, once it has proven it now.
    passes: Vec<Pass>,
}

impl<'a> Entrance<'a> {
    fn of_stranger(place: OwnedSemaphorePermit, attempt: Try<'a>, deadline: Instant) -> Self {
        Self { place, attempt, deadline, standing: Standing::Stranger, passes: Vec::new() }
    }
}

/// How long those are kept who find none.
const HELD: Duration = Duration::from_secs(1);

/// Over all sources; each has a descriptor and 2 KiB.
const MOST_HELD: usize = 1_024;

/// What those are counted by who could not have come to a proof.
const NONSENSE: &str = "nonsense";

/// For the log.
const MAKES_ROOM: &str = "it said nothing, and others need its place";

/// For the log.
const TOO_MANY_FAIL: &str = "too many connections from there have failed";

/// Where clients come in that dialled a port of somebody else's. A cheap handle.
#[derive(Clone, Debug)]
pub struct CarrierDoor {
    hall: Arc<Hall>,
    connections: Tasks,
    places: Arc<Semaphore>,
}

impl CarrierDoor {
    /// Takes a client in, on the thread of the caller. Returns once it has a place among those that have yet
    /// to prove the token; without one for as long as a handshake may take it is let go.
    pub async fn admit(&self, hello: Hello, peer: SocketAddr) {
        let deadline = Instant::now() + self.hall.limits.read().handshake_deadline;
        if self.places.available_permits() == 0 {
            self.hall.is_full();
        }
        let place = tokio::time::timeout_at(deadline, Arc::clone(&self.places).acquire_owned());
        let place = match self.hall.unless_closing(place).await {
            Some(Ok(Ok(place))) => place,
            Some(_) => {
                let why = "as many handshakes are under way as are allowed";
                return self.hall.refused(peer, Handshake::NotHeard, &why);
            }
            None => return self.hall.turned_to_go(peer),
        };
        let hall = Arc::clone(&self.hall);
        self.connections.spawn(async move {
            let (socket, input) = hello.into_parts();
            greet(&hall, socket, input, peer, place, deadline).await;
        });
    }
}

/// Whoever watches the log should see that it goes on, and the rest of it too.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Handshake, then the session until it ends.
async fn serve<C: Carrier>(
    hall: &Arc<Hall>,
    mut carrier: C,
    binding: Binding,
    mut entrance: Entrance<'_>,
    peer: SocketAddr,
) {
    let passes = std::mem::take(&mut entrance.passes);
    // As with TLS: what is only needed up to here is not to stay for as long as the session.
    let entered = Box::pin(enter(hall, &mut carrier, binding, entrance, &passes, peer)).await;
    match entered {
        None => {}
        Some(Entered::Direct { session_id, input, seat, pool }) => {
            let attending = direct::attend(carrier, input, &pool, seat, hall.heartbeat);
            if let Err(error) = attending.await {
                tracing::debug!(session = %session_id, %peer, %error, "direct carrier broke");
            }
        }
        Some(Entered::Session { owner, shared, input, seats, software }) => {
            let session_id = owner.session_id;
            let about = hall.hooks.as_ref().map(|hooks| {
                let (client_id, principal) = (owner.client_id, owner.principal().name().to_owned());
                let software = software.clone();
                (hooks, Box::new(NewSession { session_id, client_id, principal, peer, software }))
            });
            if let Some((hooks, session)) = &about {
                match hall.unless_closing(hooks::decide(hooks.session(session))).await {
                    None => return hall.turned_to_go(peer),
                    Some(Ok(())) => {}
                    Some(Err(reason)) => {
                        hall.refused(peer, Handshake::Refused, &reason);
                        owner.end(&reason);
                        let farewell = Driver::new(carrier, shared, input, |_| {});
                        // It waits for the client to hang up.
                        let _ = tokio::time::timeout(FAREWELL, Box::pin(farewell)).await;
                        return;
                    }
                }
            }
            let inside =
                Inside { owner: Arc::clone(&owner), peer, software, since: Instant::now() };
            hall.sessions.lock().insert(session_id.0, inside);
            hall.handshakes.count(Handshake::Session);
            let presence = Presence { hall, owner: Arc::clone(&owner) };
            // What was decided while it was not yet among them.
            hall.end_if_revoked(&owner);
            if hall.registry.is_closed() {
                owner.drain();
            }
            let on_incoming = |incoming| handle(&hall.registry, &owner, incoming);
            let end = match about {
                None => Driver::new(carrier, shared, input, on_incoming).await,
                Some((hooks, session)) => {
                    let max_tunnels = hall.limits.read().max_tunnels_per_session;
                    let (desk, waiting) = Desk::new(Arc::clone(&owner), max_tunnels);
                    let (hooks, registry) = (hooks.as_ref(), &hall.registry);
                    let attending =
                        hooks::attend(waiting, hooks, &session, registry, &owner, on_incoming);
                    let driver =
                        Driver::new(carrier, shared, input, |incoming| desk.take(incoming));
                    // Only sessions with hooks have room for both.
                    Box::pin(async {
                        tokio::select! {
                            end = driver => end,
                            () = attending => End::Closed,
                        }
                    })
                    .await
                }
            };
            if matches!(&end, End::Violation(fault) if *fault != Violation::PeerSilent) {
                // It may come again at once, and a handshake is more work than most faults.
                hall.strangers.count(peer.ip(), Instant::now().into_std());
                hall.forgets(&passes);
            }
            if is_silence(&end) {
                owner.direct.doubt();
            }
            drop(presence);
            drop(seats);
            tell_end(session_id, end);
        }
    }
}

/// Who has proven the token, and has a place.
enum Entered {
    /// One more carrier of a session, for visitors of their own.
    Direct { session_id: SessionId, input: BytesMut, seat: Seat, pool: Arc<direct::Pool> },
    /// A session, with its places at the server and among those of its principal.
    Session {
        owner: Arc<Owner>,
        shared: Arc<Shared>,
        input: BytesMut,
        seats: (Seat, Seat),
        software: String,
    },
}

/// The handshake. What goes wrong has been logged.
async fn enter<C: Carrier>(
    hall: &Arc<Hall>,
    carrier: &mut C,
    binding: Binding,
    Entrance { place, attempt: coming, deadline, standing, .. }: Entrance<'_>,
    passes: &[Pass],
    peer: SocketAddr,
) -> Option<Entered> {
    let (mut seats, mut direct, mut is_direct) = (None, None, false);
    let (place, mut coming) = (Mutex::new(Some(place)), Some(coming));
    let limits = hall.limits.read().clone();
    let config = Config {
        // What TLS has left of it.
        handshake_deadline: deadline.saturating_duration_since(Instant::now()),
        heartbeat: hall.heartbeat,
        max_streams: limits.max_streams_per_session,
        max_tunnels: limits.max_tunnels_per_session,
        budget: match limits.max_receive_memory_per_session {
            None => hall.budget.clone(),
            Some(bytes) => hall.budget.part(bytes),
        },
        ..Config::default()
    };
    let (held, came, binding) = (&place, &mut coming, &binding);
    let check = move |shown: Shown| {
        // It says who it is; what is wrong with that is counted there.
        if let Some(coming) = came.take() {
            coming.right();
        }
        async move { hall.check(peer, standing, &shown, binding, held).await }
    };
    let (for_session, for_visitor, says_direct) = (&mut seats, &mut direct, &mut is_direct);
    let admit = move |guest: Guest| async move {
        // Whether there is room for it or not, and before it hears of that.
        hall.knows(passes, guest.credential.token_id());
        if let Some(session_id) = guest.direct_for {
            *says_direct = true;
            let owner = hall.owner_of(session_id, &guest);
            let owner = owner.ok_or(Cow::Borrowed("there is no such session"))?;
            *for_visitor = Some((owner.direct.reserve()?, Arc::clone(&owner.direct)));
            return Ok(());
        }
        let seats = hall.seats(&guest, held, deadline).await?;
        *for_session = Some((seats, hall.registry.next_seniority()));
        Ok(())
    };
    let greeting = handshake::server(carrier, config, &hall.software, binding, check, admit);
    let greeted = hall.unless_closing(greeting).await;
    drop(place);
    if let (Some(coming), Some(greeted)) = (coming, &greeted) {
        if hall.tls.is_some() {
            coming.wrong(Instant::now().into_std());
        } else {
            // Nothing was computed for it.
            coming.right();
            if matches!(greeted, Err(HandshakeError::Violation(_))) {
                hall.unless_closing(hall.hold_nonsense(peer)).await;
            }
        }
    }
    let (greeted, guest) = match greeted {
        Some(Ok(greeted)) => greeted,
        None => {
            hall.turned_to_go(peer);
            return None;
        }
        Some(Err(HandshakeError::WrongToken)) => {
            hall.forgets(passes);
            hall.refused(peer, Handshake::WrongToken, &"wrong token");
            return None;
        }
        // A session that is about to end is no reason to worry.
        Some(Err(error)) if is_direct => {
            hall.handshakes.count(Handshake::Refused);
            tracing::debug!(%peer, %error, "direct carrier refused");
            return None;
        }
        Some(Err(error)) => {
            let result = match &error {
                HandshakeError::Refused(why) if why == guesses::TOO_MANY => Handshake::NotHeard,
                HandshakeError::Refused(_) => Handshake::Refused,
                HandshakeError::Violation(Violation::HandshakeTimeout) => Handshake::Timeout,
                _ => Handshake::Broken,
            };
            match error {
                HandshakeError::Violation(Violation::Frame(FrameError::UnknownType(TLS)))
                    if hall.tls.is_none() =>
                {
                    hall.refused(peer, result, &SPEAKS_TLS);
                }
                error => hall.refused(peer, result, &error),
            }
            return None;
        }
    };
    let Greeted { machine, session_id, input, software, .. } = greeted;
    if let Some((seat, pool)) = direct {
        // It is a session only up to here: the machine goes.
        hall.handshakes.count(Handshake::Direct);
        return Some(Entered::Direct { session_id, input, seat, pool });
    }
    let (seats, seniority) = seats?;
    tracing::info!(session = %session_id, client = %guest.client_id, principal = guest.credential.principal.name(), token = guest.credential.token_shown(), %peer, %software, "client connected");
    let shared = Arc::new(Shared::new(machine));
    let owner = Owner::new(
        Session::new(Arc::clone(&shared)),
        session_id,
        guest.client_id,
        seniority,
        guest.credential,
        OwnerLimits {
            max_streams: limits.max_streams_per_session,
            rates: Rates {
                streams: limits.max_streams_per_second,
                bytes: limits.max_bytes_per_second,
            },
        },
        Arc::new(direct::Pool::new(Arc::clone(&hall.direct_visitors), hall.shards.bulk().clone())),
    );
    Some(Entered::Session { owner, shared, input, seats, software })
}

/// Whether the client may have vanished, as far as the end of its session tells.
fn is_silence(end: &End) -> bool {
    use std::io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    match end {
        End::Closed => false,
        End::Violation(violation) => *violation == Violation::PeerSilent,
        End::Carrier(error) => {
            matches!(error.kind(), HostUnreachable | NetworkUnreachable | TimedOut)
        }
    }
}

fn tell_end(session_id: SessionId, end: End) {
    match end {
        End::Closed => tracing::info!(session = %session_id, "client disconnected"),
        End::Violation(violation) => {
            tracing::warn!(session = %session_id, %violation, "session ended by a fault of the client");
        }
        End::Carrier(error) => {
            let error = error::words(&error);
            tracing::info!(session = %session_id, %error, "connection to the client was lost");
        }
    }
}

/// A session's presence in the hall and the registry; it leaves both on every exit path.
struct Presence<'a> {
    hall: &'a Hall,
    owner: Arc<Owner>,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.owner.leave();
        let mut sessions = self.hall.sessions.lock();
        self.hall.left.keep(&self.owner.credential, &self.owner.direct);
        sessions.remove(&self.owner.session_id.0);
        // Whoever reads finds it in the one or the other.
        self.hall.past.lock().add(&self.owner.session);
    }
}

fn handle(registry: &Registry, owner: &Arc<Owner>, incoming: Incoming) {
    match incoming {
        Incoming::Register(number, wanted) => {
            if let Some(answer) = registry.register(owner, number, *wanted, clock::now()) {
                owner.session.registered(number, answer);
            }
        }
        Incoming::Unregister(number) => owner.unregister(number),
        // Clients have no reason to open streams yet; a stream nobody takes is reset by its drop.
        Incoming::Opened(stream, _) => {
            stream.reset(ferrotunnel_protocol::frame::ResetCode::UnknownTunnel, "");
        }
        Incoming::GoAway(go_away) => {
            tracing::debug!(session = %owner.session_id, code = %go_away.code, reason = %go_away.reason, "client says goodbye");
            // It serves no new visitors: they should find another client, or none.
            owner.leave();
        }
        Incoming::Registered(..) => {}
    }
}

#[cfg(test)]
mod tests;
