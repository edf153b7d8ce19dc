//! The client's builder, and a client.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::Token;
use ferrotunnel_core::client::{
    Acceptor, ClientConfig, ClientEngine, ClientTransport, Connections, Event, Registration, Retry,
    Target, TunnelHandle, TunnelSpec,
};
use ferrotunnel_core::{Drained, IdentityFiles, Shards};
use tokio::sync::{Mutex, broadcast};

use crate::certificates::TlsSettings;
use crate::error::Error;
use crate::listener::TunnelListener;
use crate::settings::{DRAIN_GRACE, TokenSetting};
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
    /// Events of the engine, also for those who subscribe before it runs.
    events: broadcast::Sender<Event>,
}

#[derive(Clone, Debug)]
struct Settings {
    server: String,
    token: Token,
    tunnels: Vec<TunnelSpec>,
    transport: ClientTransport,
    retry: Retry,
    drain_grace: Duration,
    connections: Connections,
    threads: usize,
}

#[derive(Debug)]
struct Running {
    engine: Arc<ClientEngine>,
    /// Tunnels live as long as their handles.
    tunnels: Vec<TunnelHandle>,
}

/// Sets up a [`Client`].
#[derive(Clone, Debug, Default)]
pub struct ClientBuilder {
    server: Option<String>,
    token: TokenSetting,
    local_addr: Option<String>,
    tunnels: Vec<Tunnel>,
    plaintext: bool,
    tls: TlsSettings,
    retry: Retry,
    drain_grace: Option<Duration>,
    connections: Connections,
    threads: usize,
}

impl ClientBuilder {
    /// The server, as `host:port`. The name is looked up anew at each attempt.
    #[must_use]
    pub fn server_addr(mut self, addr: impl Into<String>) -> Self {
        self.server = Some(addr.into());
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

    /// How many connections to keep to the server; visitors are spread over them. By default one,
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
        let server = self.server.ok_or_else(|| {
            Error::config("server_addr is not set: give the server's address as host:port")
        })?;
        check_server(&server)?;
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
        let tunnels = self
            .tunnels
            .into_iter()
            .map(|tunnel| tunnel.or_local_addr(self.local_addr.as_deref()).into_local())
            .collect::<Result<_, _>>()?;
        let transport = self.tls.transport(self.plaintext, &server)?;
        Ok(Client {
            settings: Settings {
                server,
                token,
                tunnels,
                transport,
                retry: self.retry,
                drain_grace: self.drain_grace.unwrap_or(DRAIN_GRACE),
                connections: self.connections,
                threads: self.threads,
            },
            running: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_KEPT),
        })
    }
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

    /// Connects, and waits until the server has registered the tunnels. Returns the first.
    ///
    /// # Errors
    /// No tunnel is set; the token is wrong; the server refused a tunnel; or, with
    /// [`Retry::Never`], the server cannot be reached.
    pub async fn start(&self) -> Result<Registration, Error> {
        if self.settings.tunnels.is_empty() {
            return Err(Error::config("local_addr is not set: where should visitors go?"));
        }
        let engine = self.engine().await?;
        let (mut first, mut handles) = (None, Vec::new());
        for spec in self.settings.tunnels.clone() {
            // An error takes the tunnels before it away again.
            let (handle, info) = engine.add(spec).await?;
            handles.push(handle);
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

    async fn engine(&self) -> Result<Arc<ClientEngine>, Error> {
        let mut running = self.running.lock().await;
        // One that has ended for good makes way, so that the same call may succeed later.
        if let Some(running) = &*running
            && !running.engine.has_ended()
        {
            return Ok(Arc::clone(&running.engine));
        }
        let settings = self.settings.clone();
        let engine = ClientEngine::start(
            ClientConfig {
                server: settings.server,
                transport: settings.transport,
                token: settings.token,
                software: concat!("ferrotunnel/", env!("CARGO_PKG_VERSION")).to_owned(),
                retry: settings.retry,
                handshake_deadline: HANDSHAKE_DEADLINE,
                connections: settings.connections,
                shards: Shards::threads(settings.threads)?,
            },
            self.events.clone(),
        )?;
        let engine = Arc::new(engine);
        *running = Some(Running { engine: Arc::clone(&engine), tunnels: Vec::new() });
        Ok(engine)
    }

    /// What happens from now on; may be called before [`start`](Self::start).
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
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
        match running {
            Some(running) => Ok(running.engine.shutdown(self.settings.drain_grace).await),
            None => Ok(Drained::default()),
        }
    }
}

/// From dialling until the session is established; twice what three retransmitted SYNs take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Events kept for a listener that is slow to take them.
const EVENTS_KEPT: usize = 64;
