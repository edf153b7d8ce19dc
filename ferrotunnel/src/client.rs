//! The client's builder, and a client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::Token;
use ferrotunnel_core::client::{
    Acceptor, ClientConfig, ClientControl, ClientEngine, ClientReader, ClientTransport,
    Connections, Event, MOST_SERVERS, Registration, Retry, ServerMode, Target, TunnelHandle,
    TunnelSpec, check_length,
};
use ferrotunnel_core::tasks::AbortOnDrop;
use ferrotunnel_core::{DialTracer, Drained, IdentityFiles, Shards, StreamHooks, Threads};
use ferrotunnel_inspector::Inspector;
use ferrotunnel_observability::{
    Admin, AdminWishes, ClientMetrics, Overview, Phase, WatchedClient,
};
use ferrotunnel_plugin::{Chain, Plugin};
use tokio::sync::{Mutex, broadcast};

use crate::admin::{AdminSettings, AdminTold};
use crate::certificates::TlsSettings;
use crate::error::Error;
use crate::inspection::OverClient;
use crate::listener::TunnelListener;
use crate::plugins::{ClientHooks, Hooks, Plugins, tell};
use crate::server::BindAddr;
use crate::settings::{DRAIN_GRACE, TokenSetting, check_time};
use crate::tunnel::Tunnel;

/// A tunnel client. It connects with the first [`start`](Self::start) or
/// [`listen`](Self::listen), and comes back by itself after every interruption.
///
/// ```no_run
/// # async fn run() -> Result<(), ferrotunnel::Error> {
/// use ferrotunnel::Client;
///
/// let client = Client::builder()
///     .server_addr("tunnel.example.com:7835")
///     .token("secret")
///     .local_addr("127.0.0.1:3000")
///     .build()?;
/// let info = client.start().await?;
/// println!("visitors come in at {}", info.public_url);
/// client.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    running: Mutex<Option<Running>>,
    /// Held by whoever changes which tunnels there are.
    changing: Mutex<()>,
    /// Events of the engine, also for those who subscribe before it runs.
    events: broadcast::Sender<Event>,
    /// The last engine, for whoever looks at it or steers it from outside.
    watched: WatchedClient,
    overview: Arc<Overview>,
    admin: parking_lot::Mutex<Option<Admin>>,
}

#[derive(Clone, Debug)]
struct Settings {
    servers: Vec<String>,
    server_mode: ServerMode,
    token: Token,
    /// What a tunnel without a local address of its own gets.
    local_addr: Option<String>,
    tunnels: Vec<(Arc<Tunnel>, TunnelSpec)>,
    transport: ClientTransport,
    retry: Retry,
    drain_grace: Duration,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    connections: Connections,
    threads: usize,
    bulk_threads: usize,
    plugins: Option<Chain>,
    admin: Option<AdminSettings>,
    inspector: Option<Inspector>,
    tracer: Option<Arc<dyn DialTracer>>,
}

#[derive(Debug)]
struct Running {
    engine: Arc<ClientEngine>,
    /// Tunnels live as long as their handles.
    tunnels: Vec<(Arc<Tunnel>, TunnelHandle)>,
    /// The task that tells plugins what happens.
    _telling: Option<AbortOnDrop>,
}

/// Sets up a [`Client`].
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    servers: Vec<String>,
    server_mode: ServerMode,
    token: TokenSetting,
    local_addr: Option<String>,
    tunnels: Vec<Tunnel>,
    plaintext: bool,
    tls: TlsSettings,
    retry: Retry,
    drain_grace: Option<Duration>,
    connect_timeout: Option<Duration>,
    handshake_timeout: Option<Duration>,
    connections: Connections,
    threads: usize,
    bulk_threads: usize,
    plugins: Plugins,
    admin: AdminTold,
    config_file: Option<PathBuf>,
    metrics: Option<ClientMetrics>,
    inspector: Option<Inspector>,
    tracer: Option<Arc<dyn DialTracer>>,
}

impl ClientBuilder {
    /// Two lost SYNs are forgiven: they are sent again after 1 s and 3 s.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// A server that is busy with the handshakes of many clients lets them wait for some seconds.
    pub const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// The server, as `host:port`. The name is looked up anew at each attempt, and all its addresses
    /// are tried.
    #[must_use]
    pub fn server_addr(self, addr: impl Into<String>) -> Self {
        self.servers([addr])
    }

    /// Several servers, up to 16, in place of [one](Self::server_addr). All must know the token;
    /// [`server_mode`](Self::server_mode) says how they are used.
    #[must_use]
    pub fn servers<A: Into<String>>(mut self, addrs: impl IntoIterator<Item = A>) -> Self {
        self.servers = addrs.into_iter().map(Into::into).collect();
        self
    }

    /// How several servers are used: the first in order that answers, by default, or all at once.
    #[must_use]
    pub fn server_mode(mut self, mode: ServerMode) -> Self {
        self.server_mode = mode;
        self
    }

    /// The secret that the server and its clients share, or a token of this client's own, which begins
    /// with `ft1_`. It never travels.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = TokenSetting::given(token.into());
        self
    }

    /// The local service: `host:port`, a bare port, or `unix:/path`. Without a
    /// [`tunnel`](Self::tunnel) it is exposed over HTTP under a name that the server picks;
    /// otherwise it serves the tunnels that have no local address of their own.
    #[must_use]
    pub fn local_addr(mut self, addr: impl Into<String>) -> Self {
        self.local_addr = Some(addr.into());
        self
    }

    /// A tunnel to ask for; may be called several times.
    #[must_use]
    pub fn tunnel(mut self, tunnel: Tunnel) -> Self {
        self.tunnels.push(tunnel);
        self
    }

    /// A carrier without encryption, for networks that are trusted or encrypted already. The
    /// server must say the same.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// Verifies the server's certificate: one of the CAs in this PEM file must have issued it, and it
    /// must be for [`tls_server_name`](Self::tls_server_name). Without this and
    /// [`tls_verify`](Self::tls_verify) any certificate will do: the token's proof, which is bound to
    /// the TLS connection, tells whether it is the server. The file is read anew when it has changed,
    /// at the next attempt to connect.
    #[must_use]
    pub fn tls_ca_file(mut self, ca: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(ca.into());
        self
    }

    /// The same with the CAs that the system trusts. With [`tls_ca_file`](Self::tls_ca_file) either
    /// will do.
    #[must_use]
    pub fn tls_verify(mut self) -> Self {
        self.tls.system_roots = true;
        self
    }

    /// The name, or the address, that the server's certificate must be for; a name is also told to the
    /// server (SNI). By default the host of [`server_addr`](Self::server_addr).
    #[must_use]
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// The client's certificate chain and private key, in PEM files, for servers that want one. They
    /// are read anew when they have changed, at the next attempt to connect.
    #[must_use]
    pub fn tls_identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.identity = Some(IdentityFiles { cert: cert.into(), key: key.into() });
        self
    }

    /// Whether to come back after a failure that may pass; for ever by default.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long each address of a server may take to accept a connection; 5 s by default. Several
    /// addresses are tried side by side, each a quarter of a second after the one before it.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long TLS, and after it the proof of the token, may take each; 10 s by default.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = Some(timeout);
        self
    }

    /// How many connections to keep to each server; visitors are spread over them. By default one,
    /// and up to eight while streams compete for it on a long way, where a lost packet would hold
    /// up all of them. Several near ones, with as many [`threads`](Self::threads), put encryption on
    /// more than one processor.
    #[must_use]
    pub fn connections(mut self, connections: Connections) -> Self {
        self.connections = connections;
        self
    }

    /// Threads of the client's own, over which its connections are spread; with 0, the default,
    /// everything runs on the caller's runtime.
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// Further threads, on which visitors with a carrier of their own go on from some 170 Mbit/s on, both ways together,
    /// until they fall below 70, so that those beside them do not wait for it. They start with the first of those. 0 by default.
    #[must_use]
    pub fn bulk_threads(mut self, count: usize) -> Self {
        self.bulk_threads = count;
        self
    }

    /// A plugin; may be called several times. A client moves bytes and parses no HTTP, so of a plugin's phases it
    /// has these: [`on_session`](Plugin::on_session) when a session has begun,
    /// [`on_registration_answered`](Plugin::on_registration_answered), and
    /// [`on_stream_opened`](Plugin::on_stream_opened) and [`on_stream_closed`](Plugin::on_stream_closed). They see
    /// what happens and have no say in it.
    #[must_use]
    pub fn plugin(mut self, plugin: impl Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Where the admin interface listens, over HTTP without TLS, from the first [`start`](Client::start),
    /// [`listen`](Client::listen) or [`open_admin`](Client::open_admin) on. By default there is none. Beyond loopback it
    /// needs an [`admin_token`](Self::admin_token).
    #[must_use]
    pub fn admin_bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.admin.bind = Some(addr.into());
        self
    }

    /// Where that port is taken, one of the next will do: [`Client::admin_addr`] says which.
    #[must_use]
    pub fn admin_bind_or_next(mut self, addr: impl Into<BindAddr>) -> Self {
        self.admin.or_next = true;
        self.admin_bind(addr)
    }

    /// The secret that requests to the admin interface must show, as `Authorization: Bearer`.
    #[must_use]
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.admin.token = Some(token.into());
        self
    }

    /// The settings file that the program was started with, to be shown by the admin interface and the
    /// [overview](Client::overview).
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// Has what the client counts shown by this, in whichever registry that is put into.
    ///
    /// ```
    /// use ferrotunnel::observability::{ClientMetrics, Registry, encode};
    /// use ferrotunnel::Client;
    ///
    /// let (metrics, mut registry) = (ClientMetrics::default(), Registry::default());
    /// metrics.register(&mut registry);
    /// let client = Client::builder().server_addr("tunnel.example.com:7835").token("secret");
    /// let client = client.local_addr("3000").metrics(&metrics).build()?;
    /// let mut text = String::new();
    /// encode(&mut text, &registry).expect("a string takes everything");
    /// assert!(text.contains("ferrotunnel_client_build_info"));
    /// # Ok::<(), ferrotunnel::Error>(())
    /// ```
    #[must_use]
    pub fn metrics(mut self, metrics: &ClientMetrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Has somebody see the requests of HTTP tunnels pass, and keep the last of them; the admin interface shows them. Nothing
    /// is held up or changed. One for each client.
    #[must_use]
    pub fn inspector(mut self, inspector: &Inspector) -> Self {
        self.inspector = Some(inspector.clone());
        self
    }

    /// Who keeps traces: it hears how the local service was dialled for requests of which the server keeps a trace.
    #[must_use]
    pub fn tracer(mut self, tracer: Arc<dyn DialTracer>) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// How long open streams may go on after a shutdown began; 10 s by default.
    #[must_use]
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = Some(grace);
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is missing or cannot be used; the error names it.
    pub fn build(mut self) -> Result<Client, Error> {
        check_servers(&self.servers)?;
        let connect_timeout = self.connect_timeout.unwrap_or(Self::DEFAULT_CONNECT_TIMEOUT);
        let handshake_timeout = self.handshake_timeout.unwrap_or(Self::DEFAULT_HANDSHAKE_TIMEOUT);
        check_time("connect_timeout", connect_timeout)?;
        check_time("handshake_timeout", handshake_timeout)?;
        if let Connections::Exactly(count) = self.connections
            && !(1..=Connections::MOST).contains(&count)
        {
            let most = Connections::MOST;
            return Err(Error::config(format!("connections: {count} is not from 1 to {most}")));
        }
        let token = self.token.resolve()?.ok_or_else(|| {
            Error::config("token is not set: give the one that you got from the server's operator")
        })?;
        if self.tunnels.is_empty() && self.local_addr.is_some() {
            self.tunnels.push(Tunnel::http(""));
        }
        let tunnels = specified(self.tunnels, self.local_addr.as_deref())?;
        let transport = self.tls.transport(self.plaintext, &self.servers)?;
        let events = events_kept(tunnels.len(), self.servers.len());
        let admin = self.admin.resolve()?;
        let metrics = self.metrics.or_else(|| admin.is_some().then(ClientMetrics::default));
        let meter = metrics.as_ref().map(ClientMetrics::plugin_meter);
        if let (Some(metrics), Some(inspector)) = (&metrics, &self.inspector) {
            metrics.count_seen_by(inspector);
        }
        let watched = WatchedClient::new(metrics.unwrap_or_default());
        Ok(Client {
            settings: Settings {
                servers: self.servers,
                server_mode: self.server_mode,
                token,
                local_addr: self.local_addr,
                tunnels,
                transport,
                retry: self.retry,
                drain_grace: self.drain_grace.unwrap_or(DRAIN_GRACE),
                connect_timeout,
                handshake_timeout,
                connections: self.connections,
                threads: self.threads,
                bulk_threads: self.bulk_threads,
                plugins: self.plugins.chain(meter),
                admin,
                inspector: self.inspector.clone(),
                tracer: self.tracer,
            },
            running: Mutex::default(),
            changing: Mutex::default(),
            events: broadcast::Sender::new(events),
            overview: Overview::of_client(watched.clone(), self.inspector, self.config_file),
            watched,
            admin: parking_lot::Mutex::default(),
        })
    }
}

fn check_servers(servers: &[String]) -> Result<(), Error> {
    if servers.is_empty() {
        let text = "server_addr is not set: give the server's address as host:port";
        return Err(Error::config(text));
    }
    if servers.len() > MOST_SERVERS {
        let count = servers.len();
        return Err(Error::config(format!(
            "server_addr: {count} servers are more than {MOST_SERVERS}"
        )));
    }
    for (place, server) in servers.iter().enumerate() {
        check_server(server)?;
        if servers.iter().take(place).any(|earlier| earlier == server) {
            return Err(Error::config(format!("server_addr: {server} is given twice")));
        }
    }
    Ok(())
}

fn check_server(server: &str) -> Result<(), Error> {
    let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.and_then(|port| port.parse::<u16>().ok()) {
        Some(port) if port != 0 => Ok(()),
        _ => Err(Error::config(format!("server_addr: {server:?} is not host:port"))),
    }
}

impl Client {
    /// Starts to set up a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Connects, and waits until a server has registered the tunnels. Returns the first; where several
    /// servers are used at once, as the first that answered has it. The others follow by
    /// [`events`](Self::events).
    ///
    /// # Errors
    /// No tunnel is set; the token is wrong; a tunnel was refused, and no other server has it; or,
    /// with [`Retry::Never`], no server can be reached.
    pub async fn start(&self) -> Result<Registration, Error> {
        if self.settings.tunnels.is_empty() {
            return Err(Error::config("local_addr is not set: where should visitors go?"));
        }
        let _changing = self.changing.lock().await;
        let engine = self.engine().await?;
        let (mut first, mut handles) = (None, Vec::new());
        for (tunnel, spec) in self.settings.tunnels.clone() {
            // An error takes the tunnels before it away again.
            let (handle, info) = engine.add(spec).await?;
            handles.push((tunnel, handle));
            first.get_or_insert(info);
        }
        if let Some(running) = &mut *self.running.lock().await {
            running.tunnels = handles;
        }
        first.ok_or_else(|| Error::config("no tunnel is set"))
    }

    /// Asks for a tunnel that this process serves itself, with no local port.
    ///
    /// ```no_run
    /// # async fn run(client: ferrotunnel::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::{Router, routing::get};
    /// use ferrotunnel::Tunnel;
    ///
    /// let listener = client.listen(Tunnel::http("app")).await?;
    /// axum::serve(listener, Router::new().route("/", get(|| async { "hello" }))).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn listen(&self, tunnel: Tunnel) -> Result<TunnelListener, Error> {
        let engine = self.engine().await?;
        let (acceptor, visits) = Acceptor::channel();
        let spec = tunnel.into_target(Target::InProcess(acceptor))?;
        let (handle, info) = match engine.add(spec).await {
            Ok(added) => added,
            Err(error) => return Err(error.into()),
        };
        Ok(TunnelListener::new(info, handle, visits))
    }

    /// Has these tunnels from now on, in place of those that it was [started](Self::start) with; those of
    /// [`listen`](Self::listen) stay. One that is the same as before notices nothing. One of the same name, port and
    /// path with other settings is asked for anew, unless only its local service has changed; in either case
    /// visitors inside stay until they have finished. What is new is asked for until a server has it, as
    /// [`events`](Self::events) tell; one that was lost to a newer client is new, too. A client that is started again
    /// begins with the tunnels of its builder.
    ///
    /// # Errors
    /// One cannot be asked for, there is none, or the client has not started or has ended. Then nothing has changed.
    pub async fn set_tunnels(
        &self,
        tunnels: impl IntoIterator<Item = Tunnel>,
    ) -> Result<TunnelChanges, Error> {
        let mut wanted =
            specified(tunnels.into_iter().collect(), self.settings.local_addr.as_deref())?;
        if wanted.is_empty() {
            return Err(Error::config("no tunnel is set"));
        }
        prepare(&wanted)?;
        for (_, spec) in &wanted {
            check_length(spec)?;
        }
        // A start that is under way comes first.
        let _changing = self.changing.lock().await;
        let mut running = self.running.lock().await;
        let Some(running) = running.as_mut().filter(|running| !running.engine.has_ended()) else {
            return Err(Error::config("the client is not running: start it first"));
        };
        let mut changes = TunnelChanges::default();
        let mut before = std::mem::take(&mut running.tunnels);
        // Whoever says it again wants it again.
        before.retain(|(_, handle)| !handle.is_given_up());
        let mut take = |is_it: &dyn Fn(&Tunnel) -> bool| {
            before.iter().position(|(tunnel, _)| is_it(tunnel)).map(|at| before.remove(at))
        };
        wanted.retain(|(tunnel, _)| match take(&|known| *known == **tunnel) {
            Some(kept) => {
                changes.unchanged += 1;
                running.tunnels.push(kept);
                false
            }
            None => true,
        });
        let (mut changed, mut others) = (Vec::new(), Vec::new());
        for (tunnel, spec) in wanted {
            match take(&|known| known.has_the_place_of(&tunnel)) {
                Some((_, handle)) => changed.push((tunnel, spec, handle)),
                None => others.push((tunnel, spec)),
            }
        }
        // Before anybody asks for what they had.
        for (_, handle) in before {
            changes.removed += 1;
            handle.withdraw();
        }
        for (tunnel, spec, mut handle) in changed {
            changes.changed += 1;
            running.engine.replace(&mut handle, spec)?;
            running.tunnels.push((tunnel, handle));
        }
        for (tunnel, spec) in others {
            changes.added += 1;
            running.tunnels.push((tunnel, running.engine.want(spec)?));
        }
        Ok(changes)
    }

    async fn engine(&self) -> Result<Arc<ClientEngine>, Error> {
        let mut running = self.running.lock().await;
        // One that has ended for good makes way, so that the same call may succeed later.
        if let Some(running) = &*running
            && !running.engine.has_ended()
        {
            return Ok(Arc::clone(&running.engine));
        }
        let settings = self.settings.clone();
        prepare(&settings.tunnels)?;
        self.open_admin()?;
        let plugins = settings.plugins.as_ref().and_then(Chain::of_sessions).map(Hooks);
        let tracer = settings.tracer;
        let hooks = (plugins.is_some() || tracer.is_some())
            .then(|| Arc::new(ClientHooks { plugins, tracer }) as Arc<dyn StreamHooks>);
        // Before anything can happen.
        let telling = settings.plugins.map(|chain| tell(chain, self.events.subscribe()));
        let telling = telling.map(|telling| AbortOnDrop::new(tokio::spawn(telling).abort_handle()));
        let engine = ClientEngine::start_seen_by(
            hooks,
            ClientConfig {
                servers: settings.servers,
                server_mode: settings.server_mode,
                transport: settings.transport,
                token: settings.token,
                software: concat!("ferrotunnel/", env!("CARGO_PKG_VERSION")).to_owned(),
                retry: settings.retry,
                connect_timeout: settings.connect_timeout,
                handshake_deadline: settings.handshake_timeout,
                connections: settings.connections,
                shards: Shards::start(Threads {
                    shared: settings.threads,
                    bulk: settings.bulk_threads,
                    ..Threads::default()
                })?,
            },
            self.events.clone(),
        )?;
        if let Some(inspector) = &settings.inspector {
            engine.tap_with(inspector.taps());
            inspector.replay_over(Arc::new(OverClient(engine.reacher())));
        }
        self.overview.set_phase(Phase::Ready);
        self.watched.watch(engine.reader(), engine.control());
        if self.admin.lock().is_some() {
            engine.list_streams();
        }
        let engine = Arc::new(engine);
        *running =
            Some(Running { engine: Arc::clone(&engine), tunnels: Vec::new(), _telling: telling });
        Ok(engine)
    }

    /// What happens from now on; may be called before [`start`](Self::start).
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Opens the admin interface now, if there is to be one and it is not open: it says what the client is about to do.
    /// To be called in a runtime.
    ///
    /// # Errors
    /// Its port cannot be used.
    pub fn open_admin(&self) -> Result<(), Error> {
        let mut admin = self.admin.lock();
        if let (None, Some(settings)) = (&*admin, &self.settings.admin) {
            let opened = settings.clone().start(&self.overview)?;
            tracing::info!(addr = %opened.addr(), "the admin interface listens");
            *admin = Some(opened);
        }
        Ok(())
    }

    /// Where the admin interface listens, once it is open.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.lock().as_ref().map(Admin::addr)
    }

    /// What is asked for at the admin interface that only the program can do: to end, and to read its settings again. It is
    /// there once, while the interface is open. Where nobody has it such wishes are refused.
    pub fn admin_wishes(&self) -> Option<AdminWishes> {
        self.admin.lock().as_ref()?.wishes()
    }

    /// What it is and has at the moment.
    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview)
    }

    /// Reads what the client has and counts, from its start to its end; `None` before the first start. One that is
    /// started again has another.
    pub fn reader(&self) -> Option<ClientReader> {
        self.watched.reader()
    }

    /// Pauses and resumes tunnels and closes sessions of the running client; `None` before the first start. One that is
    /// started again has another.
    pub fn control(&self) -> Option<ClientControl> {
        self.watched.control()
    }

    /// Waits until the client has ended for good.
    ///
    /// # Errors
    /// Why it ended, unless it was shut down.
    pub async fn wait(&self) -> Result<(), Error> {
        let engine = self.running.lock().await.as_ref().map(|running| running.engine.clone());
        match engine {
            Some(engine) => Ok(engine.wait().await?),
            None => Ok(()),
        }
    }

    /// Tells the server, lets open streams finish within the drain grace, and ends. Says how much had
    /// to be cut; what was served by a [`TunnelListener`] is not counted.
    ///
    /// # Errors
    /// None at present.
    pub async fn shutdown(&self) -> Result<Drained, Error> {
        let running = self.running.lock().await.take();
        self.overview.set_phase(Phase::Draining);
        let drained = match running {
            Some(running) => running.engine.shutdown(self.settings.drain_grace).await,
            None => Drained::default(),
        };
        // It goes last: until then it says what there is.
        drop(self.admin.lock().take());
        Ok(drained)
    }
}

/// What a client's tunnels became by [`Client::set_tunnels`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelChanges {
    /// Those that are new.
    pub added: usize,
    /// Those of the same name, port and path with other settings.
    pub changed: usize,
    /// Those that are wanted no more.
    pub removed: usize,
    /// Those that are as they were.
    pub unchanged: usize,
}

/// What the tunnels say, in the engine's terms.
fn specified(
    tunnels: Vec<Tunnel>,
    local_addr: Option<&str>,
) -> Result<Vec<(Arc<Tunnel>, TunnelSpec)>, Error> {
    let specify = |tunnel: Tunnel| {
        let tunnel = tunnel.or_local_addr(local_addr);
        let spec = tunnel.clone().into_local()?;
        Ok((Arc::new(tunnel), spec))
    };
    tunnels.into_iter().map(specify).collect()
}

/// Reads what is needed to verify local services.
fn prepare(tunnels: &[(Arc<Tunnel>, TunnelSpec)]) -> Result<(), Error> {
    for (_, spec) in tunnels {
        if let Target::Https(https) = &spec.target {
            https.prepare()?;
        }
    }
    Ok(())
}

/// Events kept for a listener that is slow to take them. All tunnels may become ready at every server in
/// one turn of the client, in which no listener has a chance to take any of it; twice that, since they may
/// be lost in the same turn. Some 200 bytes each.
fn events_kept(tunnels: usize, servers: usize) -> usize {
    const OTHERS: usize = 64;
    tunnels.saturating_mul(servers).saturating_mul(2).saturating_add(OTHERS)
}
