//! The server's builder, and a running server.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ferrotunnel_common::{
    DEFAULT_DOMAIN, DEFAULT_HTTP_PORT, DEFAULT_TUNNEL_PORT, LimitsConfig, Token,
};
use ferrotunnel_core::server::{self, ServerConfig, ServerEngine, Transport};
use ferrotunnel_core::{
    AccessConfig, Cidr, DirectCarriers, Drained, HttpMakers, IdentityFiles, Listen,
    PrincipalConfig, ServerHooks, ServerTls, Shards, Threads, TrustedProxies, TurnedAway,
    check_principals,
};
use ferrotunnel_http::{
    AcmeConfig, ErrorPages, Expiry, HttpConfig, HttpIngress, Https, HttpsConfig, OldestTls,
    make_gate, make_header_rules,
};
use ferrotunnel_inspector::Inspector;
use ferrotunnel_observability::{Admin, AdminWish, AdminWishes, Overview, Phase, ServerMetrics};
use ferrotunnel_plugin::{Chain, Plugin, PluginMeter, RequestTracer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::{AdminSettings, AdminTold};
use crate::doors::{HttpsSettings, Wishes, check_acme, https_settings, open, serve};
use crate::error::Error;
use crate::inspection::OverServer;
use crate::place::{HandedOver, Lent, Place};
use crate::plugins::{Hooks, Plugins};
use crate::settings::{A_DAY, DRAIN_GRACE, TokenSetting, check_time};

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
    bind: Place,
    http_bind: Option<Place>,
    https: Option<HttpsSettings>,
    token: Option<Token>,
    principals: Vec<PrincipalConfig>,
    domain: Option<String>,
    reserved_names: Vec<String>,
    transport: Transport,
    tcp_ip: IpAddr,
    limits: LimitsConfig,
    http: HttpConfig,
    threads: usize,
    spare_threads: usize,
    bulk_threads: usize,
    drain_grace: Duration,
    visitor_grace: Duration,
    admin: Option<AdminSettings>,
    inspector: Option<Inspector>,
    config_file: Option<PathBuf>,
    metrics: Option<ServerMetrics>,
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
    pub(crate) fn resolve(self, setting: &str) -> Result<SocketAddr, Error> {
        self.0.map_err(|text| {
            Error::config(format!("{setting}: {text:?} is not an address like 0.0.0.0:7835"))
        })
    }
}

/// Where to listen, as the builder was told last.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    At(BindAddr),
    On(HandedOver),
}

impl Wanted {
    fn at(addr: impl Into<BindAddr>) -> Self {
        Self::At(addr.into())
    }

    pub(crate) fn resolve(self, bind: &str, listener: &str) -> Result<Place, Error> {
        match self {
            Self::At(addr) => addr.resolve(bind).map(Place::At),
            Self::On(handed) => handed.resolve(listener),
        }
    }
}

/// Sets up a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerBuilder {
    bind: Wanted,
    http_bind: Option<Wanted>,
    https_bind: Option<Wanted>,
    https: HttpsConfig,
    clients_on_https_port: bool,
    redirect_to_https: bool,
    token: TokenSetting,
    principals: Vec<PrincipalConfig>,
    domain: Option<String>,
    reserved_names: Vec<String>,
    plaintext: bool,
    tls: ServerTls,
    tcp_ip: Option<IpAddr>,
    limits: LimitsConfig,
    http: HttpConfig,
    trusted_proxies: Vec<String>,
    proxy_protocol: bool,
    threads: usize,
    spare_threads: usize,
    bulk_threads: usize,
    drain_grace: Duration,
    visitor_grace: Duration,
    plugins: Plugins,
    admin: AdminTold,
    config_file: Option<PathBuf>,
    metrics: Option<ServerMetrics>,
    inspector: Option<Inspector>,
    #[cfg(feature = "otlp")]
    spans: Option<Arc<ferrotunnel_observability::SpanCounts>>,
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            bind: Wanted::at(SocketAddr::from(([0, 0, 0, 0], DEFAULT_TUNNEL_PORT))),
            http_bind: Some(Wanted::at(SocketAddr::from(([0, 0, 0, 0], DEFAULT_HTTP_PORT)))),
            https_bind: None,
            https: HttpsConfig::default(),
            clients_on_https_port: false,
            redirect_to_https: false,
            token: TokenSetting::default(),
            principals: Vec::new(),
            domain: None,
            reserved_names: Vec::new(),
            plaintext: false,
            tls: ServerTls::default(),
            tcp_ip: None,
            limits: LimitsConfig::default(),
            http: HttpConfig::default(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            threads: 0,
            spare_threads: 0,
            bulk_threads: 0,
            drain_grace: DRAIN_GRACE,
            visitor_grace: Self::DEFAULT_VISITOR_GRACE,
            plugins: Plugins::default(),
            admin: AdminTold::default(),
            config_file: None,
            metrics: None,
            inspector: None,
            #[cfg(feature = "otlp")]
            spans: None,
        }
    }
}

impl ServerBuilder {
    /// A client that restarts is back within one; a visitor does not yet think that nothing happens.
    pub const DEFAULT_VISITOR_GRACE: Duration = Duration::from_secs(3);

    /// More than any honest browser needs.
    pub const DEFAULT_HTTP_HEADER_TIMEOUT: Duration = HttpConfig::HEADER_READ_TIMEOUT;

    /// Below the 5 s after which many a local service hangs up by itself.
    pub const DEFAULT_HTTP_POOL_IDLE_TIMEOUT: Duration = HttpConfig::POOL_IDLE_TIMEOUT;

    /// Where clients connect; `0.0.0.0:7835` by default. With port 0 the system picks one.
    #[must_use]
    pub fn bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.bind = Wanted::at(addr);
        self
    }

    /// The socket on which clients connect, in place of [`bind`](Self::bind): it listens already,
    /// and others may hold it too. What comes in while no server is there waits in the kernel's
    /// queue, so that a restart refuses nobody; systemd passes such sockets on.
    ///
    /// The server takes it with its first start.
    #[must_use]
    pub fn tunnel_listener(mut self, listener: TcpListener) -> Self {
        self.bind = Wanted::On(HandedOver::new(listener));
        self
    }

    /// Where visitors of HTTP tunnels connect; `0.0.0.0:8080` by default.
    #[must_use]
    pub fn http_bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.http_bind = Some(Wanted::at(addr));
        self
    }

    /// The socket on which visitors of HTTP tunnels connect, in place of
    /// [`http_bind`](Self::http_bind), as by [`tunnel_listener`](Self::tunnel_listener).
    #[must_use]
    pub fn http_listener(mut self, listener: TcpListener) -> Self {
        self.http_bind = Some(Wanted::On(HandedOver::new(listener)));
        self
    }

    /// No HTTP ingress; HTTP tunnels are refused.
    #[must_use]
    pub fn no_http(mut self) -> Self {
        self.http_bind = None;
        self
    }

    /// Where visitors of HTTP tunnels connect over TLS, and those of [TLS tunnels](crate::Tunnel::tls); by default
    /// nowhere. With the same address as [`bind`](Self::bind), clients and visitors share the port. It needs certificates:
    /// [`https_identity_files`](Self::https_identity_files) or one of the other ways.
    #[must_use]
    pub fn https_bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.https_bind = Some(Wanted::at(addr));
        self
    }

    /// The socket on which visitors of HTTP tunnels connect over TLS, in place of
    /// [`https_bind`](Self::https_bind), as by [`tunnel_listener`](Self::tunnel_listener).
    #[must_use]
    pub fn https_listener(mut self, listener: TcpListener) -> Self {
        self.https_bind = Some(Wanted::On(HandedOver::new(listener)));
        self
    }

    /// Clients connect on the port of [`https_bind`](Self::https_bind), and [`bind`](Self::bind) is not used.
    /// They are told from visitors by the protocol that their first message offers (ALPN).
    #[must_use]
    pub fn clients_on_https_port(mut self) -> Self {
        self.clients_on_https_port = true;
        self
    }

    /// The certificate chain and private key that visitors are shown over TLS, in PEM files; also those who
    /// ask for a host for which there is no other certificate. When the files change they are loaded anew.
    #[must_use]
    pub fn https_identity_files(
        mut self,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.https.identity = Some(IdentityFiles { cert: cert.into(), key: key.into() });
        self
    }

    /// A directory with certificates for visitors: `NAME.pem` or `NAME.crt`, and `NAME.key` beside it. The names
    /// in each say for which hosts it is. What changes in the directory is noticed.
    #[must_use]
    pub fn https_certificate_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.https.directory = Some(directory.into());
        self
    }

    /// Certificates for the hosts that clients register, from an ACME server such as Let's Encrypt. The first
    /// visitor of a host waits for its certificate. The server has to reach this one on port 443 or, as
    /// [`http_bind`](Self::http_bind), on port 80; or there is a program that publishes records in the DNS.
    #[must_use]
    pub fn acme(mut self, acme: AcmeConfig) -> Self {
        self.https.acme = Some(acme);
        self
    }

    /// Visitors who come without TLS are sent to [`https_bind`](Self::https_bind), by a 308 with the same path.
    #[must_use]
    pub fn redirect_to_https(mut self) -> Self {
        self.redirect_to_https = true;
        self
    }

    /// Visitors must speak TLS 1.3; by default 1.2 will do.
    #[must_use]
    pub fn https_tls13_only(mut self) -> Self {
        self.https.oldest_tls = OldestTls::V1_3;
        self
    }

    /// The secret that this server and its clients share. It never travels. Who has it may register
    /// anything; for users that are to be told apart there are [`principals`](Self::principals), and both
    /// go together.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = TokenSetting::given(token.into());
        self
    }

    /// Users with tokens of their own, each with what it may register. They can be replaced while the
    /// server runs: [`RunningServer::set_principals`].
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use ferrotunnel::{PrincipalConfig, Server, issue_token};
    ///
    /// let (token, verifier) = issue_token()?;
    /// println!("for the user, and nobody else: {}", token.reveal());
    ///
    /// let mut web = PrincipalConfig::new("web").verifier(verifier);
    /// web.hosts = Some(vec!["web".into(), "*.web.example".into()]);
    /// web.max_tunnels = Some(10);
    /// let server = Server::builder().principals([web]).build()?.spawn().await?;
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn principals(mut self, principals: impl IntoIterator<Item = PrincipalConfig>) -> Self {
        self.principals = principals.into_iter().collect();
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

    /// Names under the domain that no tunnel gets, like `www` and `admin`, nor anything below them: for hosts that are
    /// the operator's, or that users would take for the operator's. Wildcards do not answer for them either.
    #[must_use]
    pub fn reserved_names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.reserved_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Carriers without encryption, for networks that are trusted or encrypted already. Clients
    /// must say the same. The token still never travels, but the traffic is open.
    #[must_use]
    pub fn plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// The certificate chain and private key, in PEM files. Without them the server makes a
    /// self-signed certificate at each start, which is as safe for clients that trust the token's
    /// proof. When the files change they are loaded anew, for connections from then on.
    #[must_use]
    pub fn tls_identity_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls.identity = Some(IdentityFiles { cert: cert.into(), key: key.into() });
        self
    }

    /// A PEM file of CAs. Every client must then show a certificate that one of them has issued, with
    /// the extended key usage `clientAuth` if it has any, and prove the token besides. The file is
    /// loaded anew when it changes; sessions that run already go on.
    #[must_use]
    pub fn tls_client_ca_file(mut self, ca: impl Into<PathBuf>) -> Self {
        self.tls.client_ca = Some(ca.into());
        self
    }

    /// A PEM file of revocation lists of the CAs of [`tls_client_ca_file`](Self::tls_client_ca_file). A client whose
    /// certificate is on one is not let in. There has to be one of each CA, and once that has expired nobody with a
    /// certificate of it is let in either. The file is loaded anew when it changes; sessions that run already go on.
    #[must_use]
    pub fn tls_client_crl_file(mut self, crl: impl Into<PathBuf>) -> Self {
        self.tls.client_crl = Some(crl.into());
        self
    }

    /// The address on which TCP tunnels listen; by default the one on which visitors of HTTP
    /// tunnels come in, or without an HTTP ingress the one clients connect to.
    #[must_use]
    pub fn tcp_bind_ip(mut self, ip: IpAddr) -> Self {
        self.tcp_ip = Some(ip);
        self
    }

    /// Proxies in front of the server, as networks like `10.0.0.0/8` or addresses: what they say of a visitor
    /// (`X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `Forwarded`) is believed, and passed on with the proxy
    /// added. From anybody else such headers are replaced, since anybody can write them.
    ///
    /// The visitor is then the last in `X-Forwarded-For` that is no such proxy, or in `Forwarded` where there is
    /// no `X-Forwarded-For`; so a proxy should set both, or drop the one that it does not set.
    #[must_use]
    pub fn trusted_proxies<N: Into<String>>(
        mut self,
        networks: impl IntoIterator<Item = N>,
    ) -> Self {
        self.trusted_proxies = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Connections from [trusted proxies](Self::trusted_proxies) begin with a header of the PROXY protocol, of
    /// version 1 or 2, on the listeners of HTTP and HTTPS and on the ports of TCP tunnels: all of them must, and nobody else may.
    /// The visitor in it is who counts for every rule and limit, and whom local services are told of.
    #[must_use]
    pub fn accept_proxy(mut self) -> Self {
        self.proxy_protocol = true;
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

    /// Pages of one's own for browsers when an answer is the server's and not a local service's, in place of
    /// the built-in ones. They can be replaced while the server runs:
    /// [`RunningServer::set_error_pages`].
    #[must_use]
    pub fn error_pages(mut self, pages: ErrorPages) -> Self {
        self.http.error_pages = pages;
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

    /// Further threads, which visitors of HTTP tunnels share with the others once there are many of them. 0 by
    /// default.
    #[must_use]
    pub fn spare_threads(mut self, count: usize) -> Self {
        self.spare_threads = count;
        self
    }

    /// Further threads, on which visitors with a carrier of their own go on from some 170 Mbit/s on, both ways together,
    /// until they fall below 70, so that those beside them do not wait for it. They start with the first of those. 0 by default.
    #[must_use]
    pub fn bulk_threads(mut self, count: usize) -> Self {
        self.bulk_threads = count;
        self
    }

    /// A plugin, which has a say in each session, registration and request, and sees streams come and go; may
    /// be called several times. They are asked in the order in which they are given.
    #[must_use]
    pub fn plugin(mut self, plugin: impl Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// The same for plugins that are shared with somebody else, like those that
    /// [`RunningServer::set_request_plugins`] is to be given again.
    #[must_use]
    pub fn shared_plugins(mut self, plugins: impl IntoIterator<Item = Arc<dyn Plugin>>) -> Self {
        plugins.into_iter().for_each(|plugin| self.plugins.push_shared(plugin));
        self
    }

    /// Where the admin interface listens, over HTTP without TLS: `/healthz`, `/readyz`, `/metrics` and `/api/v1`. By
    /// default there is none. Beyond loopback it needs an [`admin_token`](Self::admin_token).
    #[must_use]
    pub fn admin_bind(mut self, addr: impl Into<BindAddr>) -> Self {
        self.admin.bind = Some(addr.into());
        self
    }

    /// Has somebody see the requests of HTTP tunnels pass on their way to clients, and keep the last of them; the admin
    /// interface shows them. Nothing is held up or changed. By default nobody looks into what visitors send. One for each
    /// server.
    #[must_use]
    pub fn inspector(mut self, inspector: &Inspector) -> Self {
        self.inspector = Some(inspector.clone());
        self
    }

    /// The settings file that the program was started with, to be shown by the admin interface and the
    /// [overview](RunningServer::overview).
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// The secret that requests to the admin interface must show, as `Authorization: Bearer`.
    #[must_use]
    pub fn admin_token(mut self, token: impl Into<String>) -> Self {
        self.admin.token = Some(token.into());
        self
    }

    /// Where the server counts. It can be put into a registry of one's own
    /// ([`ServerMetrics::register`]); the admin interface shows it in any case. One for each server.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use ferrotunnel::observability::{Registry, encode};
    /// use ferrotunnel::{Server, ServerMetrics};
    ///
    /// let (metrics, mut registry) = (ServerMetrics::default(), Registry::default());
    /// metrics.register(&mut registry);
    /// let server = Server::builder().token("secret").metrics(&metrics).build()?.spawn().await?;
    ///
    /// let mut text = String::new();
    /// encode(&mut text, &registry)?;
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn metrics(mut self, metrics: &ServerMetrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Who keeps traces of requests. A visitor may say in `traceparent` which trace a request is part of, and the local
    /// service is told of it the same way.
    #[must_use]
    pub fn tracer(mut self, tracer: Arc<dyn RequestTracer>) -> Self {
        self.http.tracer = Some(tracer);
        self
    }

    /// The same over OTLP, and the [`metrics`](Self::metrics) tell what became of the spans.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use ferrotunnel::Server;
    /// use ferrotunnel::observability::{Otlp, OtlpSettings};
    ///
    /// // As the variables `OTEL_*` say; without them there are no traces.
    /// let otlp = OtlpSettings::from_env("my-server")?.map(Otlp::start).transpose()?;
    /// let mut server = Server::builder().token("secret");
    /// if let Some(otlp) = &otlp {
    ///     server = server.otlp(otlp);
    /// }
    /// server.build()?.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "otlp")]
    #[must_use]
    pub fn otlp(mut self, otlp: &ferrotunnel_observability::Otlp) -> Self {
        self.spans = Some(otlp.counts());
        self.tracer(otlp.tracer())
    }

    /// How long a tunnel whose client was lost, or is about to end, keeps its name or port for it; 3 s
    /// by default. Visitors that come meanwhile wait, so a client that restarts loses none. With zero
    /// they are turned away at once.
    #[must_use]
    pub fn visitor_grace(mut self, grace: Duration) -> Self {
        self.visitor_grace = grace;
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
        let mut http = self.http_config()?;
        let token = self.token.resolve()?;
        if token.is_none() && self.principals.is_empty() {
            return Err(Error::config(
                "neither token nor principals is set: choose a secret that server and clients share, \
                 or give each user a token",
            ));
        }
        check_principals(token.as_ref(), &self.principals)?;
        check_limits(&self.limits)?;
        let bind = self.bind.resolve("bind", "tunnel_listener")?;
        let http_bind = match self.http_bind {
            None => None,
            Some(wanted) => Some(wanted.resolve("http_bind", "http_listener")?),
        };
        // Who waited for this server in the queue of its socket is not to be told that nobody is here.
        http.settling = matches!(http_bind, Some(Place::On(..))).then_some(SETTLING);
        let https = https_settings(
            self.https_bind,
            self.https,
            &bind,
            Wishes {
                clients_on_https_port: self.clients_on_https_port,
                redirect_to_https: self.redirect_to_https,
                plaintext: self.plaintext,
            },
        )?;
        let visited = http_bind.as_ref().or(https.as_ref().map(|https| &https.bind));
        let visited = visited.unwrap_or(&bind).addr();
        let domain = self.domain.as_deref().map(server::parse_domain).transpose()?;
        let mut https = https;
        if let Some(https) = &mut https {
            // Visitors' handshakes are counted apart from those of clients, with the same limits.
            https.config.max_handshakes = self.limits.max_handshakes_in_flight;
            https.config.handshake_timeout = self.limits.handshake_deadline;
        }
        if let Some(acme) = https.as_mut().and_then(|https| https.config.acme.as_mut()) {
            if acme.domain.is_none() {
                acme.domain.clone_from(&domain);
            }
            check_acme(acme)?;
        }
        let reserved_names =
            self.reserved_names.iter().map(|name| server::parse_reserved_name(name));
        let reserved_names = reserved_names.collect::<Result<_, _>>()?;
        let transport = transport(self.plaintext, self.tls)?;
        let admin = self.admin.resolve()?;
        let metrics = self.metrics.or_else(|| admin.is_some().then(ServerMetrics::default));
        http.plugins = self.plugins.chain(metrics.as_ref().map(ServerMetrics::plugin_meter));
        http.taps = self.inspector.as_ref().map(Inspector::taps);
        http.meter = metrics.as_ref().map(ServerMetrics::meter);
        #[cfg(feature = "otlp")]
        if let (Some(metrics), Some(spans)) = (&metrics, self.spans) {
            metrics.count_spans(spans);
        }
        let settings = Settings {
            tcp_ip: self.tcp_ip.unwrap_or(visited.ip()),
            bind,
            http_bind,
            https,
            token,
            principals: self.principals,
            domain,
            reserved_names,
            transport,
            limits: self.limits,
            http,
            threads: self.threads,
            spare_threads: self.spare_threads,
            bulk_threads: self.bulk_threads,
            drain_grace: self.drain_grace,
            visitor_grace: self.visitor_grace,
            admin,
            inspector: self.inspector,
            config_file: self.config_file,
            metrics,
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
        let networks = proxies(&self.trusted_proxies, self.proxy_protocol)?;
        http.proxies = TrustedProxies::new(networks, self.proxy_protocol);
        // When the streams are cut the requests get an answer that says so, and this is for it to leave.
        http.drain_grace = self.drain_grace.saturating_add(LAST_WORDS);
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
        let wishes = running.admin_wishes();
        tokio::select! {
            // The sender lives as long as `self`.
            _ = stop.wait_for(|stop| *stop) => {}
            () = until_drain(wishes) => {}
        }
        running.shutdown().await?;
        Ok(())
    }

    /// Makes a running [`start`](Self::start) drain and return.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Whether it could start: its files are read, and made into what a start makes of them. It listens nowhere,
    /// and asks no ACME server for anything. It waits for the disk.
    ///
    /// # Errors
    /// Something cannot be used; the error names it.
    pub fn check(&self) -> Result<(), Error> {
        self.settings.transport.check()?;
        if let Some(https) = &self.settings.https {
            // What the ACME server gave is looked after by who runs already.
            let mut config = https.config.clone();
            config.acme = None;
            if config.identity.is_some() || config.directory.is_some() {
                Https::new(config)?;
            }
        }
        Ok(())
    }

    /// Starts and returns once everything is bound.
    ///
    /// # Errors
    /// A port or certificate cannot be used.
    pub async fn spawn(&self) -> Result<RunningServer, Error> {
        let settings = self.settings.clone();
        let shards = Shards::start(Threads {
            shared: settings.threads,
            spare: settings.spare_threads,
            bulk: settings.bulk_threads,
        })?;
        // Before the others, so that it can say that they are not there yet.
        let metrics = settings.metrics.clone().unwrap_or_default();
        let overview =
            Overview::of_server(metrics.clone(), settings.inspector.clone(), settings.config_file);
        let admin = settings.admin.map(|admin| admin.start(&overview)).transpose()?;
        let (http, http_lent) = open(settings.http_bind, ["http_listener", "http_bind"])?;
        let mut redirect_to_https = false;
        let (https_bind, https) = match settings.https {
            None => (None, None),
            Some(HttpsSettings { bind, config, is_shared, redirects }) => {
                redirect_to_https = redirects;
                (Some(bind), Some((Https::new(config)?, is_shared)))
            }
        };
        let (secure, secure_lent) = open(https_bind, ["https_listener", "https_bind"])?;
        let shared = https.as_ref().filter(|(_, is_shared)| *is_shared).and(secure.as_ref());
        let (tunnel_place, tunnel_lent) = match shared {
            Some(secure) => (Listen::Elsewhere(secure.addr), None),
            None => settings.bind.lend("tunnel_listener")?,
        };
        let access = AccessConfig {
            http: Some(HttpMakers { gate: make_gate, headers: make_header_rules }),
            proxies: settings.http.proxies.clone(),
        };
        let proxies = settings.http.proxies.clone();
        let hooks = settings.http.plugins.as_ref().and_then(Chain::of_sessions);
        let hooks = hooks.map(|chain| Arc::new(Hooks(chain)) as Arc<dyn ServerHooks>);
        let config = ServerConfig {
            bind: tunnel_place,
            transport: settings.transport,
            token: settings.token,
            principals: settings.principals,
            only_tunnel_answers: settings.domain.is_none(),
            domain: settings.domain.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
            reserved_names: settings.reserved_names,
            http_port: http.as_ref().map(|http| http.addr.port()),
            https_port: secure.as_ref().map(|secure| secure.addr.port()),
            tcp_ip: settings.tcp_ip,
            limits: settings.limits,
            shards: shards.clone(),
            visitor_grace: settings.visitor_grace,
            access,
            heartbeat: HEARTBEAT,
            software: concat!("ferrotunnel/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let engine = ServerEngine::start_with(config, hooks)?;
        if let Some(inspector) = &settings.inspector {
            inspector.replay_over(Arc::new(OverServer(engine.routes())));
        }
        // From here on nothing fails.
        [tunnel_lent, http_lent, secure_lent].into_iter().flatten().for_each(Lent::spend);
        let https = https.map(|(https, is_shared)| {
            let https = https.with_routes(engine.routes()).with_passing(engine.passing_door());
            match is_shared {
                true => Arc::new(https.with_carriers(engine.carrier_door())),
                false => Arc::new(https),
            }
        });
        let (http_addr, https_addr) =
            (http.as_ref().map(|http| http.addr), secure.as_ref().map(|secure| secure.addr));
        let http = (http.is_some() || secure.is_some()).then(|| {
            let mut config = settings.http;
            config.redirect_to_https =
                https_addr.filter(|_| redirect_to_https).map(|addr| addr.port());
            let ingress = HttpIngress::beside(https.as_deref(), engine.routes(), shards, &config);
            let ingress = Arc::new(ingress.limited_by(engine.crowd()));
            let of = Arc::downgrade(&ingress);
            let stop = watch::Sender::new(false);
            let doors = serve(ingress, http, https.clone().zip(secure), &stop);
            RunningHttp {
                http: http_addr,
                https: https_addr,
                of,
                tls: https,
                stop,
                task: tokio::spawn(doors),
            }
        });
        let [visitors, tls_visitors] =
            [http_addr, https_addr].map(|addr| addr.map(tracing::field::display));
        tracing::info!(tunnel = %engine.addr(), http = visitors, https = tls_visitors, "server started");
        let plugin_meter = settings.metrics.as_ref().map(ServerMetrics::plugin_meter);
        let tls = http.as_ref().and_then(|http| http.tls.as_ref());
        metrics.watch(crate::admin::watched(&engine, tls));
        if let Some(admin) = &admin {
            engine.list_streams();
            tracing::info!(addr = %admin.addr(), "the admin interface listens");
        }
        overview.set_phase(Phase::Ready);
        let drain_grace = settings.drain_grace;
        Ok(RunningServer { engine, http, proxies, admin, overview, drain_grace, plugin_meter })
    }
}

/// Resolves when the admin interface is asked to end the server.
async fn until_drain(wishes: Option<AdminWishes>) {
    let Some(mut wishes) = wishes else { return std::future::pending().await };
    loop {
        match wishes.next().await {
            AdminWish::Drain => return,
            AdminWish::Reload(reply) => {
                let why = "the settings of this server are in its program: there is no file to read again";
                reply.tell(Err(why.to_owned()));
            }
            _ => {}
        }
    }
}

/// The networks of proxies that are believed.
fn proxies(networks: &[String], announce: bool) -> Result<Vec<Cidr>, Error> {
    if announce && networks.is_empty() {
        let text = "accept_proxy: say in trusted_proxies which proxies send it; from others nobody could believe it";
        return Err(Error::config(text));
    }
    let networks = networks.iter().map(|text| {
        text.parse().map_err(|error| Error::config(format!("trusted_proxies: {error}")))
    });
    networks.collect()
}

fn transport(plaintext: bool, tls: ServerTls) -> Result<Transport, Error> {
    if !plaintext {
        if tls.client_crl.is_some() && tls.client_ca.is_none() {
            let text = "tls_client_crl_file: nobody looks at certificates of clients; set tls_client_ca_file too";
            return Err(Error::config(text));
        }
        return Ok(Transport::Tls(tls));
    }
    let unused = match tls {
        ServerTls { identity: Some(_), .. } => "tls_identity_files",
        ServerTls { client_ca: Some(_), .. } => "tls_client_ca_file",
        ServerTls { client_crl: Some(_), .. } => "tls_client_crl_file",
        _ => return Ok(Transport::Plaintext),
    };
    Err(Error::config(format!(
        "{unused}: carriers in plaintext have no certificates; drop it or plaintext"
    )))
}

/// A limit of nothing makes a server that nobody can use.
fn check_limits(limits: &LimitsConfig) -> Result<(), Error> {
    let zero = [
        ("max_sessions", limits.max_sessions == 0),
        ("max_tunnels_per_session", limits.max_tunnels_per_session == 0),
        ("max_streams_per_session", limits.max_streams_per_session == 0),
        ("max_handshakes_in_flight", limits.max_handshakes_in_flight == 0),
        ("max_failed_handshakes_per_address", limits.max_failed_handshakes_per_address == 0),
        ("max_streams_per_second", limits.max_streams_per_second == Some(0)),
        ("max_bytes_per_second", limits.max_bytes_per_second == Some(0)),
        ("max_visitors", limits.max_visitors == 0),
        ("max_receive_memory_per_session", limits.max_receive_memory_per_session == Some(0)),
        ("max_visitors_per_tunnel", limits.max_visitors_per_tunnel == Some(0)),
        ("max_visitors_per_address", limits.max_visitors_per_address == Some(0)),
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

/// More than any machine has descriptors for.
const MOST_HANDSHAKES: usize = 1_000_000;

/// A server that has bound its ports. Dropping it ends everything at once.
#[derive(Debug)]
pub struct RunningServer {
    engine: ServerEngine,
    http: Option<RunningHttp>,
    proxies: TrustedProxies,
    /// It goes last: until then it says what there is.
    admin: Option<Admin>,
    overview: Arc<Overview>,
    drain_grace: Duration,
    /// Who counts the time of plugins.
    plugin_meter: Option<Arc<dyn PluginMeter>>,
}

#[derive(Debug)]
struct RunningHttp {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    /// Its task has it, and it ends with that.
    of: Weak<HttpIngress>,
    tls: Option<Arc<Https>>,
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
        self.http.as_ref()?.http
    }

    /// Where visitors of HTTP tunnels connect over TLS.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref()?.https
    }

    /// Where the admin interface listens.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::addr)
    }

    /// What it is and has at the moment.
    pub fn overview(&self) -> Arc<Overview> {
        Arc::clone(&self.overview)
    }

    /// What is asked for at the admin interface that only the program can do: to end, and to read its settings again. It is
    /// there once. Where nobody has it such wishes are refused.
    pub fn admin_wishes(&self) -> Option<AdminWishes> {
        self.admin.as_ref()?.wishes()
    }

    /// Until when each certificate is good that visitors are shown.
    pub fn certificate_expiries(&self) -> Vec<Expiry> {
        let https = self.http.as_ref().and_then(|http| http.tls.as_ref());
        https.map(|https| https.expiries()).unwrap_or_default()
    }

    /// Loads the certificates, their keys and the CAs of clients from their files now, for connections from
    /// now on. Without this call that happens some seconds after the files have changed.
    ///
    /// # Errors
    /// They cannot be used; the error names the file. Those of before stay in use.
    pub fn reload_certificates(&self) -> Result<(), Error> {
        let carriers = self.engine.reload_certificates();
        if let Some(https) = self.http.as_ref().and_then(|http| http.tls.as_ref()) {
            https.reload()?;
        }
        Ok(carriers?)
    }

    /// Clients connected at present.
    pub fn sessions(&self) -> usize {
        self.engine.sessions()
    }

    /// Connections between clients and the server that serve a single visitor each, or wait for one.
    pub fn direct(&self) -> DirectCarriers {
        self.engine.direct()
    }

    /// How often the limits of the server were met since it started.
    pub fn turned_away(&self) -> TurnedAway {
        self.engine.turned_away()
    }

    /// Streams open at present, over all clients.
    pub fn streams(&self) -> usize {
        self.engine.streams()
    }

    /// Replaces the principals while everybody else goes on undisturbed:
    ///
    /// - Sessions whose token is none of their principal's any more end, with all their visitors; so do
    ///   those of principals that vanished or are disabled. Their clients are told that it was revoked.
    /// - Tunnels that their principal may no longer have are taken away, and their clients told why.
    ///   Visitors inside stay.
    /// - Lower limits end nothing: they count for what comes.
    ///
    /// The shared token stays what it was.
    ///
    /// # Errors
    /// One of them cannot be used; nothing has changed then.
    pub fn set_principals(
        &self,
        principals: impl IntoIterator<Item = PrincipalConfig>,
    ) -> Result<(), Error> {
        let principals: Vec<PrincipalConfig> = principals.into_iter().collect();
        Ok(self.engine.set_principals(&principals)?)
    }

    /// Replaces the limits. They hold for what comes from then on: sessions that begin, tunnels that are
    /// registered, visitors of all tunnels, wrong tokens. Nothing ends by a lower one, and sessions keep
    /// the rates, the memory and the room for streams that they began with.
    ///
    /// `max_handshakes_in_flight` and `max_receive_memory` stay what they were: only another start changes
    /// them.
    ///
    /// # Errors
    /// One of them cannot be used; nothing has changed then.
    pub fn set_limits(&self, limits: &LimitsConfig) -> Result<(), Error> {
        check_limits(limits)?;
        self.engine.set_limits(limits);
        if let Some(ingress) = self.http.as_ref().and_then(|http| http.of.upgrade()) {
            ingress.set_max_visitors(limits.max_visitors);
        }
        Ok(())
    }

    /// Replaces the [proxies that are believed](ServerBuilder::trusted_proxies), for connections that come from then on.
    /// Those inside are who they were taken for when they came. Whether proxies begin with a header of the PROXY protocol
    /// stays what it was.
    ///
    /// # Errors
    /// One of them is no network, or there are none and the server expects such headers; nothing has changed then.
    pub fn set_trusted_proxies<N: Into<String>>(
        &self,
        networks: impl IntoIterator<Item = N>,
    ) -> Result<(), Error> {
        let networks: Vec<String> = networks.into_iter().map(Into::into).collect();
        self.proxies.set(proxies(&networks, self.proxies.announce())?);
        Ok(())
    }

    /// Replaces the plugins that are asked about requests, for requests that come from then on: those under way keep
    /// theirs to the end. In the phases of sessions, registrations and streams it is still those of before that are
    /// called.
    pub fn set_request_plugins(&self, plugins: impl IntoIterator<Item = Arc<dyn Plugin>>) {
        if let Some(ingress) = self.http.as_ref().and_then(|http| http.of.upgrade()) {
            let plugins = plugins.into_iter().collect();
            ingress.set_plugins(Chain::measured_by(self.plugin_meter.clone(), plugins));
        }
    }

    /// Replaces the pages that browsers see when an answer is the server's own, for answers from now on.
    /// The default is the built-in ones.
    pub fn set_error_pages(&self, pages: ErrorPages) {
        if let Some(ingress) = self.http.as_ref().and_then(|http| http.of.upgrade()) {
            ingress.set_error_pages(pages);
        }
    }

    /// Tunnels registered at present, over all clients.
    pub fn tunnels(&self) -> usize {
        self.engine.tunnels()
    }

    /// Takes no new visitors and clients, lets what is open finish within the drain grace, and
    /// closes. The ports are free when it returns, unless others hold their sockets too. Says how
    /// much had to be cut.
    ///
    /// Who was accepted before has half a second to ask for something, and is served.
    ///
    /// # Errors
    /// None at present.
    pub async fn shutdown(mut self) -> Result<Drained, Error> {
        let began = Instant::now();
        self.overview.set_phase(Phase::Draining);
        self.engine.close_door();
        let mut http = self.http.take();
        if let Some(serving) = &mut http {
            serving.stop.send_replace(true);
            let linger = LINGER.min(self.drain_grace / 4);
            if timeout(linger, &mut serving.task).await.is_ok() {
                http = None;
            }
        }
        let visitors = async {
            if let Some(mut serving) = http {
                // It keeps to the grace by itself; a panic inside it has been reported already.
                let _ = (&mut serving.task).await;
            }
        };
        // The requests' streams keep their sessions open.
        let rest = self.drain_grace.saturating_sub(began.elapsed());
        let ((), drained) = tokio::join!(visitors, self.engine.shutdown(rest));
        Ok(drained)
    }
}

/// How long clients serve on after the last visitor over HTTP was accepted: until each of those has
/// said what it wants, and gone if that was little.
const LINGER: Duration = Duration::from_secs(1);

/// For clients to find a server that takes over from another one: those that are waiting in the
/// queue too need one round trip or two, and others try again within a second.
const SETTLING: Duration = Duration::from_secs(3);

/// For the answer that a request has been cut, on its way to a visitor.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A dead client is noticed within three of these; NAT mappings stay alive.
const HEARTBEAT: Duration = Duration::from_secs(5);
