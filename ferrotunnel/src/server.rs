//! The server's builder, and a running server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::{
    DEFAULT_DOMAIN, DEFAULT_HTTP_PORT, DEFAULT_TUNNEL_PORT, LimitsConfig, Token,
};
use ferrotunnel_core::server::{self, ServerConfig, ServerEngine, Transport};
use ferrotunnel_core::{DirectCarriers, Shards, TlsIdentity};
use ferrotunnel_http::{HttpConfig, HttpIngress};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::settings::{DRAIN_GRACE, TokenSetting};

/// A tunnel server that has not started. Its settings are valid.
///
/// ```no_run
/// # async fn run() -> Result<(), ferrotunnel::Error> {
/// use ferrotunnel::Server;
///
/// let server = Server::builder().bind("0.0.0.0:7835").http_bind("0.0.0.0:8080").token("secret").build()?;
/// server.start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    stop: watch::Sender<bool>,
}

#[derive(Clone, Debug)]
struct Settings {
    bind: SocketAddr,
    http_bind: Option<SocketAddr>,
    token: Token,
    domain: Option<String>,
    encryption: Encryption,
    tcp_ip: IpAddr,
    limits: LimitsConfig,
    http: HttpConfig,
    threads: usize,
    drain_grace: Duration,
}

#[derive(Clone, Debug)]
enum Encryption {
    SelfSigned,
    Files { cert: PathBuf, key: PathBuf },
    Plaintext,
}

/// An address to listen on: a [`SocketAddr`] or its text.
#[derive(Clone, Debug)]
pub struct BindAddr(Result<SocketAddr, String>);

impl From<SocketAddr> for BindAddr {
    fn from(addr: SocketAddr) -> Self {
        Self(Ok(addr))
    }
}

impl From<&str> for BindAddr {
    fn from(text: &str) -> Self {
        Self(text.parse().map_err(|_| text.to_owned()))
    }
}

impl From<String> for BindAddr {
    fn from(text: String) -> Self {
        Self(text.parse().map_err(|_| text))
    }
}

impl BindAddr {
    fn resolve(self, setting: &str) -> Result<SocketAddr, Error> {
        self.0.map_err(|text| {
            Error::config(format!("{setting}: {text:?} is not an address like 0.0.0.0:7835"))
        })
    }
}

/// Sets up a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    bind: BindAddr,
    http_bind: Option<BindAddr>,
    token: TokenSetting,
    domain: Option<String>,
    encryption: Encryption,
    tcp_ip: Option<IpAddr>,
    limits: LimitsConfig,
    http: HttpConfig,
    threads: usize,
    drain_grace: Duration,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([0, 0, 0, 0], DEFAULT_TUNNEL_PORT)).into(),
            http_bind: Some(SocketAddr::from(([0, 0, 0, 0], DEFAULT_HTTP_PORT)).into()),
            token: TokenSetting::default(),
            domain: None,
            encryption: Encryption::SelfSigned,
            tcp_ip: None,
            limits: LimitsConfig::default(),
            http: HttpConfig::default(),
            threads: 0,
            drain_grace: DRAIN_GRACE,
        }
    }
}

impl ServerBuilder {
    /// Where clients connect; `0.0.0.0:7835` by default. With port 0 the system picks one.
    #[must_use]
    pub fn bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.bind = addr.into();
        self
    }

    /// Where visitors of HTTP tunnels connect; `0.0.0.0:8080` by default.
    #[must_use]
    pub fn http_bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.http_bind = Some(addr.into());
        self
    }

    /// No HTTP ingress; HTTP tunnels are refused.
    #[must_use]
    pub fn no_http(mut self) -> Self {
        self.http_bind = None;
        self
    }

    /// The secret that this server and its clients share. It never travels.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = TokenSetting::given(token.into());
        self
    }

    /// An HTTP tunnel named `app` is reached at `app.DOMAIN`; `localhost` by default. Without a
    /// domain, a request whose host is neither a tunnel's nor a name under `localhost` goes to the
    /// only HTTP tunnel, if there is exactly one.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Carriers without encryption, for networks that are trusted or encrypted already. Clients
    /// must say the same. The token still never travels, but the traffic is open.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.encryption = Encryption::Plaintext;
        self
    }

    /// The certificate chain and private key, in PEM files. Without them the server makes a
    /// self-signed certificate at each start, which is as safe: clients trust the token's proof.
    #[must_use]
    pub fn tls_identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.encryption = Encryption::Files { cert: cert.into(), key: key.into() };
        self
    }

    /// The address on which TCP tunnels listen; by default the one on which visitors of HTTP
    /// tunnels come in, or without an HTTP ingress the one clients connect to.
    #[must_use]
    pub fn tcp_bind_ip(mut self, ip: IpAddr) -> Self {
        self.tcp_ip = Some(ip);
        self
    }

    /// What the server refuses to go beyond.
    #[must_use]
    pub fn limits(mut self, limits: LimitsConfig) -> Self {
        self.limits = limits;
        self
    }

    /// How long a visitor over HTTP may take to send the head of a request, and how long its
    /// connection may rest between two requests; 30 s by default.
    #[must_use]
    pub fn http_header_timeout(mut self, timeout: Duration) -> Self {
        self.http.header_read_timeout = timeout;
        self
    }

    /// How long a local service may take until the head of its response; beyond it the visitor
    /// gets a 504. By default there is no limit: long polling is legitimate.
    #[must_use]
    pub fn http_response_timeout(mut self, timeout: Duration) -> Self {
        self.http.response_timeout = Some(timeout);
        self
    }

    /// How long a connection to a local service is kept between two requests; 4 s by default,
    /// below the 5 s after which many a local service hangs up by itself.
    #[must_use]
    pub fn http_pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.http.pool_idle_timeout = timeout;
        self
    }

    /// Threads of the server's own; connections spread over them, and each session stays on one
    /// with all its visitors, which is cheaper than a work-stealing runtime. With 0, the default,
    /// everything runs on the caller's runtime.
    #[must_use]
    pub fn threads(mut self, count: usize) -> Self {
        self.threads = count;
        self
    }

    /// How long open requests and streams may go on after a shutdown began; 10 s by default.
    #[must_use]
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A setting is missing or cannot be used; the error names it.
    pub fn build(self) -> Result<Server, Error> {
        let http = self.http_config()?;
        let token = self.token.resolve("choose a secret that server and clients share")?;
        check_limits(&self.limits)?;
        let bind = self.bind.resolve("bind")?;
        let http_bind = self.http_bind.map(|addr| addr.resolve("http_bind")).transpose()?;
        let domain = self.domain.as_deref().map(server::parse_domain).transpose()?;
        let settings = Settings {
            bind,
            http_bind,
            token,
            domain,
            encryption: self.encryption,
            tcp_ip: self.tcp_ip.unwrap_or(http_bind.unwrap_or(bind).ip()),
            limits: self.limits,
            http,
            threads: self.threads,
            drain_grace: self.drain_grace,
        };
        Ok(Server { settings, stop: watch::Sender::new(false) })
    }

    /// The settings of the HTTP ingress, among them those that are the whole server's.
    fn http_config(&self) -> Result<HttpConfig, Error> {
        let mut http = self.http.clone();
        check_time("http_header_timeout", http.header_read_timeout)?;
        check_time("http_response_timeout", http.response_timeout.unwrap_or(A_DAY))?;
        check_time("http_pool_idle_timeout", http.pool_idle_timeout)?;
        http.max_visitors = self.limits.max_visitors;
        http.drain_grace = self.drain_grace;
        Ok(http)
    }
}

impl Server {
    /// Starts to set up a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Runs until [`shutdown`](Self::shutdown) is called from another task.
    ///
    /// # Errors
    /// A port or certificate cannot be used.
    pub async fn start(&self) -> Result<(), Error> {
        let mut stop = self.stop.subscribe();
        let running = self.spawn().await?;
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|stop| *stop).await;
        running.shutdown().await
    }

    /// Makes a running [`start`](Self::start) drain and return.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Starts and returns once everything is bound.
    ///
    /// # Errors
    /// A port or certificate cannot be used.
    pub async fn spawn(&self) -> Result<RunningServer, Error> {
        let settings = self.settings.clone();
        let shards = Shards::threads(settings.threads)?;
        let transport = match &settings.encryption {
            Encryption::SelfSigned => Transport::Tls(TlsIdentity::self_signed()?),
            Encryption::Files { cert, key } => {
                Transport::Tls(TlsIdentity::from_pem_files(cert, key)?)
            }
            Encryption::Plaintext => Transport::Plaintext,
        };
        let http = match settings.http_bind {
            None => None,
            Some(addr) => {
                let listener = server::bind(addr, "http_bind")?;
                let addr = listener.local_addr()?;
                Some((listener, addr))
            }
        };
        let engine = ServerEngine::start(ServerConfig {
            bind: settings.bind,
            transport,
            token: settings.token,
            only_tunnel_answers: settings.domain.is_none(),
            domain: settings.domain.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
            http_port: http.as_ref().map(|(_, addr)| addr.port()),
            tcp_ip: settings.tcp_ip,
            limits: settings.limits,
            shards: shards.clone(),
            heartbeat: HEARTBEAT,
        })?;
        let http = http.map(|(listener, addr)| {
            let ingress = HttpIngress::new(engine.routes(), shards, &settings.http);
            let ingress = Arc::new(ingress);
            let stop = watch::Sender::new(false);
            let task = tokio::spawn(ingress.serve(listener, stop.subscribe()));
            RunningHttp { addr, stop, task }
        });
        tracing::info!(tunnel = %engine.addr(), http = ?http.as_ref().map(|http| http.addr), "server started");
        Ok(RunningServer { engine, http, drain_grace: settings.drain_grace })
    }
}

/// A limit of nothing makes a server that nobody can use.
fn check_limits(limits: &LimitsConfig) -> Result<(), Error> {
    let zero = [
        ("max_sessions", limits.max_sessions == 0),
        ("max_tunnels_per_session", limits.max_tunnels_per_session == 0),
        ("max_streams_per_session", limits.max_streams_per_session == 0),
        ("max_handshakes_in_flight", limits.max_handshakes_in_flight == 0),
        ("max_visitors", limits.max_visitors == 0),
    ];
    if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
        return Err(Error::config(format!("{name} is 0: nobody could use the server")));
    }
    check_time("handshake_deadline", limits.handshake_deadline)?;
    if limits.max_handshakes_in_flight > MOST_HANDSHAKES {
        return Err(Error::config("max_handshakes_in_flight is above 1,000,000"));
    }
    Ok(())
}

/// A time of nothing leaves none to anybody, and one beyond a day is a mistake of its unit.
fn check_time(name: &str, time: Duration) -> Result<(), Error> {
    if time.is_zero() {
        return Err(Error::config(format!("{name} is 0: nobody could use the server")));
    }
    if time > A_DAY {
        return Err(Error::config(format!("{name} is longer than a day")));
    }
    Ok(())
}

const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More than any machine has descriptors for.
const MOST_HANDSHAKES: usize = 1_000_000;

/// A server that has bound its ports. Dropping it ends everything at once.
#[derive(Debug)]
pub struct RunningServer {
    engine: ServerEngine,
    http: Option<RunningHttp>,
    drain_grace: Duration,
}

#[derive(Debug)]
struct RunningHttp {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for RunningHttp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RunningServer {
    /// Where clients connect.
    pub fn tunnel_addr(&self) -> SocketAddr {
        self.engine.addr()
    }

    /// Where visitors of HTTP tunnels connect.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.addr)
    }

    /// Clients connected at present.
    pub fn sessions(&self) -> usize {
        self.engine.sessions()
    }

    /// Connections between clients and the server that serve a single visitor each, or wait for one.
    pub fn direct(&self) -> DirectCarriers {
        self.engine.direct()
    }

    /// Streams open at present, over all clients.
    pub fn streams(&self) -> usize {
        self.engine.streams()
    }

    /// Takes no new visitors and clients, lets what is open finish within the drain grace, and
    /// closes. The ports are free when it returns.
    ///
    /// # Errors
    /// None at present.
    pub async fn shutdown(self) -> Result<(), Error> {
        let http = async {
            if let Some(mut http) = self.http {
                http.stop.send_replace(true);
                // It keeps to the grace by itself; a panic inside it has been reported already.
                let _ = (&mut http.task).await;
            }
        };
        // The requests' streams keep their sessions open.
        tokio::join!(http, self.engine.shutdown(self.drain_grace));
        Ok(())
    }
}

/// A dead client is noticed within three of these; NAT mappings stay alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
