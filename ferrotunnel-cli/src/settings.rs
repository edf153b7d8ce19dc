//! What the arguments mean: each kind of settings can only say what a builder of the library accepts.

mod certificates;
mod changes;
mod https;
mod inspection;
mod places;
mod plugins;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrotunnel::{
    Cidr, Client, Connections, DEFAULT_HTTP_PORT, DEFAULT_TUNNEL_PORT, ErrorPages, Inspector,
    InspectorSettings, LimitsConfig, PrincipalConfig, Retry, Server, ServerBuilder, ServerMode,
};

use crate::args::{ClientTlsArgs, ConnectArgs, HttpTimeoutArgs, LimitsArgs, ServerArgs, TokenArg};
use crate::failure::Failure;
use crate::layers::{Encrypted, Layers};
use crate::output;
use crate::runtime::{bulk_threads, client_threads, server_threads, spare_server_threads};
use crate::systemd::Sockets;
use crate::token_file;
use crate::traces::Traces;
use crate::tunnel::TunnelSettings;
use crate::value::{AdminPlace, Secret, ServerAddr};

use self::certificates::ClientEncryption;
pub(crate) use self::certificates::{ServerEncryption, check_readable};
pub(crate) use self::changes::{changes, client_changes};
pub(crate) use self::https::HttpsSettings;
pub(crate) use self::places::Places;
pub(crate) use self::plugins::{
    DEFAULT_PAUSE, NewPlugins, PluginSettings, Plugins, STDOUT, hash as visitor_secret,
};

/// A server as it shall run.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    /// Without one, only principals come in.
    token: Option<Secret>,
    principals: Vec<PrincipalConfig>,
    pub(crate) bind: SocketAddr,
    pub(crate) http_bind: SocketAddr,
    pub(crate) https: Option<HttpsSettings>,
    pub(crate) domain: Option<String>,
    reserved_names: Vec<String>,
    pub(crate) encryption: ServerEncryption,
    tcp_bind_ip: Option<IpAddr>,
    trusted_proxies: Vec<Cidr>,
    accept_proxy: bool,
    visitor_grace: Option<Duration>,
    pub(crate) error_pages: Option<PathBuf>,
    limits: LimitsConfig,
    timeouts: HttpTimeoutArgs,
    plugins: PluginSettings,
    admin_bind: Option<SocketAddr>,
    admin_token: Option<Secret>,
    /// If somebody is to see requests pass.
    inspector: Option<InspectorSettings>,
    /// Where some of it comes from, to be shown.
    pub(crate) config_file: Option<PathBuf>,
    threads: usize,
    spare_threads: usize,
    bulk_threads: usize,
    drain_timeout: Duration,
}

impl ServerSettings {
    /// What all sources say together, and the defaults where they say nothing.
    pub(crate) fn resolve(
        layers: Layers<ServerArgs>,
        principals: Vec<PrincipalConfig>,
    ) -> Result<Self, Failure> {
        warn_of_ruled_out(&layers);
        let args = layers.resolve();
        let token = token(args.token)?;
        if token.is_none() && principals.is_empty() {
            return Err(Failure::usage(
                "no token; set --token or FERROTUNNEL_TOKEN to the secret that server and clients share, --token-file or \
                 FERROTUNNEL_TOKEN_FILE to a file that holds it, or give each user a token of their own by [principals] \
                 of a settings file (--config)",
            ));
        }
        if args.inspect == Some(true) && args.admin_bind.is_none() {
            return Err(Failure::usage(
                "--inspect is for the dashboard of the admin interface, which is missing; give --admin-bind, too",
            ));
        }
        Ok(Self {
            encryption: ServerEncryption::new(
                args.plaintext.unwrap_or(false),
                args.tls_cert,
                args.tls_key,
                args.tls_client_ca,
                args.tls_client_crl,
            )?,
            token,
            principals,
            bind: args.bind.unwrap_or(DEFAULT_BIND),
            http_bind: args.http_bind.unwrap_or(DEFAULT_HTTP_BIND),
            https: HttpsSettings::new(args.https)?,
            domain: args.domain,
            reserved_names: args.reserved_names.unwrap_or_default(),
            tcp_bind_ip: args.tcp_bind_ip,
            trusted_proxies: args.trusted_proxies.unwrap_or_default(),
            accept_proxy: args.accept_proxy.unwrap_or(false),
            visitor_grace: args.visitor_grace,
            error_pages: args.error_pages,
            limits: limits(&args.limits),
            timeouts: args.timeouts,
            plugins: PluginSettings::new(args.plugins)?,
            admin_bind: args.admin_bind,
            admin_token: admin_token(args.admin_token_file.as_deref())?,
            inspector: args.inspect.unwrap_or(false).then(|| inspection::settings(args.inspection)),
            config_file: None,
            threads: server_threads(args.threads.map(usize::from)),
            spare_threads: spare_server_threads(args.threads.map(usize::from)),
            bulk_threads: bulk_threads(args.threads.map(usize::from)),
            drain_timeout: args.drain.drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
        })
    }

    /// The token that those share who have none of their own, if there is one.
    pub(crate) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// How long a drain may take.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// The server of these settings. It listens on the sockets that were passed on, whatever the
    /// settings say.
    pub(crate) fn build(
        self,
        sockets: Sockets,
        traces: &Traces,
    ) -> Result<(Server, Plugins), Failure> {
        self.encryption.check_files()?;
        self.https.as_ref().map_or(Ok(()), HttpsSettings::check_files)?;
        if sockets.https.is_some() && self.https.is_none() {
            return Err(Failure::usage(
                "a socket for HTTPS was passed, and there is no HTTPS; say with --https-bind and its certificates what \
                 visitors are shown",
            ));
        }
        let pages = error_pages(self.error_pages.as_deref())?;
        let plugins = Plugins::start(self.plugins.clone())?;
        let mut builder = self.builder().error_pages(pages).shared_plugins(plugins.all());
        if let Some(listener) = sockets.https {
            builder = builder.https_listener(listener);
        }
        if let Some(listener) = sockets.tunnel {
            builder = builder.tunnel_listener(listener);
        }
        if let Some(listener) = sockets.http {
            builder = builder.http_listener(listener);
        }
        Ok((traces.server(builder).build()?, plugins))
    }

    /// Whether the library takes them. Reads no file.
    pub(crate) fn check(self) -> Result<(), Failure> {
        self.builder().build()?;
        Ok(())
    }

    /// Whether a server could start with that, as far as can be found out without being it: every file that it
    /// needs is read. Returns the pages that it would show. A token that cannot be read is no fault of the rest.
    pub(crate) fn check_start(
        args: ServerArgs,
        principals: Vec<PrincipalConfig>,
    ) -> Result<ErrorPages, Failure> {
        let token = match &args.token.token_file {
            None if args.token.token.is_some() => args.token,
            _ => args.token.or_some(),
        };
        let layers = Layers { file: ServerArgs { token, ..args }, ..Layers::default() };
        let settings = Self::resolve(layers, principals)?;
        settings.encryption.check_files()?;
        settings.https.as_ref().map_or(Ok(()), HttpsSettings::check_files)?;
        settings.plugins.check_log()?;
        let pages = error_pages(settings.error_pages.as_deref())?;
        settings.builder().build()?.check()?;
        Ok(pages)
    }

    /// Opens no file, and has no plugins.
    fn builder(self) -> ServerBuilder {
        let mut builder = Server::builder()
            .principals(self.principals)
            .bind(self.bind)
            .http_bind(self.http_bind)
            .limits(self.limits)
            .threads(self.threads)
            .spare_threads(self.spare_threads)
            .bulk_threads(self.bulk_threads)
            .drain_grace(self.drain_timeout);
        if let Some(token) = self.token {
            builder = builder.token(token.reveal());
        }
        if let Some(addr) = self.admin_bind {
            builder = builder.admin_bind(addr);
        }
        if let Some(settings) = self.inspector {
            builder = builder.inspector(&Inspector::new(settings));
        }
        if let Some(token) = self.admin_token {
            builder = builder.admin_token(token.reveal());
        }
        if let Some(path) = self.config_file {
            builder = builder.config_file(path);
        }
        if let Some(domain) = self.domain {
            builder = builder.domain(domain);
        }
        builder = builder.reserved_names(self.reserved_names);
        builder = builder.trusted_proxies(self.trusted_proxies.iter().map(Cidr::to_string));
        if self.accept_proxy {
            builder = builder.accept_proxy();
        }
        if let Some(ip) = self.tcp_bind_ip {
            builder = builder.tcp_bind_ip(ip);
        }
        if let Some(grace) = self.visitor_grace {
            builder = builder.visitor_grace(grace);
        }
        if let Some(timeout) = self.timeouts.http_header_timeout {
            builder = builder.http_header_timeout(timeout);
        }
        if let Some(timeout) = self.timeouts.http_response_timeout {
            builder = builder.http_response_timeout(timeout);
        }
        if let Some(timeout) = self.timeouts.http_pool_idle_timeout {
            builder = builder.http_pool_idle_timeout(timeout);
        }
        if let Some(https) = self.https {
            if https.bind == self.bind && self.bind.port() != 0 {
                // Also where one of the two is a socket that was passed on.
                builder = builder.clients_on_https_port();
            }
            builder = https.apply(builder);
        }
        self.encryption.apply(builder)
    }
}

/// The secret of the admin interface.
fn admin_token(file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    let read = |path| token_file::read("--admin-token-file", path);
    Ok(file.map(read).transpose()?.map(Secret::from))
}

/// The pages of a directory, and without one the built-in ones.
pub(crate) fn error_pages(dir: Option<&Path>) -> Result<ErrorPages, Failure> {
    let pages = dir.map_or_else(|| Ok(ErrorPages::default()), ErrorPages::read);
    pages.map_err(|error| Failure::failed(format!("--error-pages: {error}")))
}

/// Who turns encryption off further up may not know what the settings file asks for.
fn warn_of_ruled_out<T: Encrypted + Clone>(layers: &Layers<T>) {
    let ruled_out = layers.ruled_out();
    if !ruled_out.is_empty() {
        output::warning(format_args!(
            "--plaintext (FERROTUNNEL_PLAINTEXT) rules out {}, which the environment or the settings file asks for: no \
             certificate is shown or verified, and nothing is encrypted",
            ruled_out.join(" and ")
        ));
    }
}

/// Whether a server could run by what one layer says alone, as far as the library can tell without opening anything.
/// What another layer may still bring is not missed.
pub(crate) fn accept_server(layer: ServerArgs) -> Result<(), Failure> {
    // Half an identity is none yet; the files are looked at when they are used.
    let needs_domain = layer.domain.is_none() && layer.https.acme_dns_hook.is_some();
    let domain = if needs_domain { Some("example.com".to_owned()) } else { layer.domain.clone() };
    let layer = ServerArgs {
        domain,
        tls_cert: None,
        tls_key: None,
        tls_client_ca: None,
        tls_client_crl: None,
        // The secret may be named elsewhere, and is read when it is used.
        admin_bind: None,
        admin_token_file: None,
        inspect: None,
        https: layer.https.clone().completed(),
        // Those who send it may be named elsewhere.
        accept_proxy: layer.accept_proxy.filter(|_| layer.trusted_proxies.is_some()),
        ..layer.with_some_token()
    };
    ServerSettings::resolve(Layers { file: layer, ..Layers::default() }, Vec::new())?.check()
}

/// A client as it shall run, with its tunnels.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    servers: Vec<ServerAddr>,
    server_mode: ServerMode,
    token: Secret,
    encryption: ClientEncryption,
    retry: Retry,
    connect_timeout: Option<Duration>,
    handshake_timeout: Option<Duration>,
    connections: Connections,
    /// `None`: nobody has said.
    admin_bind: Option<AdminPlace>,
    admin_token: Option<Secret>,
    control: Option<PathBuf>,
    /// Somebody at a terminal looks after it.
    admin_for_people: bool,
    /// Unless nobody is to see requests pass.
    inspector: Option<InspectorSettings>,
    /// Where some of it comes from, to be shown.
    pub(crate) config_file: Option<PathBuf>,
    tunnels: Vec<TunnelSettings>,
    drain_timeout: Duration,
}

impl ClientSettings {
    /// What all sources say together, and the defaults where they say nothing.
    pub(crate) fn resolve(
        layers: Layers<ConnectArgs>,
        tunnels: Vec<TunnelSettings>,
    ) -> Result<Self, Failure> {
        warn_of_ruled_out(&layers);
        let args = layers.resolve();
        let exits = args.exit_on_first_failure.unwrap_or(false);
        Ok(Self {
            servers: servers(args.servers)?,
            server_mode: args.server_mode.unwrap_or_default(),
            token: token(args.token)?.ok_or_else(no_token)?,
            encryption: ClientEncryption::new(args.plaintext.unwrap_or(false), args.tls)?,
            retry: if exits { Retry::Never } else { Retry::Forever },
            connect_timeout: args.connect_timeout,
            handshake_timeout: args.handshake_timeout,
            connections: args.connections.unwrap_or_default(),
            admin_bind: args.admin_bind,
            admin_token: admin_token(args.admin_token_file.as_deref())?,
            control: args.control,
            admin_for_people: false,
            inspector: (!args.no_inspect.unwrap_or(false))
                .then(|| inspection::settings(args.inspection)),
            config_file: None,
            tunnels,
            drain_timeout: args.drain.drain_timeout.unwrap_or(DEFAULT_DRAIN_TIMEOUT),
        })
    }

    /// How long a drain may take.
    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// Where others of this user ask how it is, if anywhere.
    pub(crate) fn control(&self) -> Option<PathBuf> {
        self.control.clone()
    }

    /// Whether a site is shown through it.
    pub(crate) fn has_http(&self) -> bool {
        self.tunnels.iter().any(|tunnel| matches!(tunnel, TunnelSettings::Http { .. }))
    }

    /// Somebody at a terminal looks after it: where nothing is said, it has an admin interface.
    pub(crate) fn is_looked_after(&mut self) {
        self.admin_for_people = true;
    }

    /// Where the servers are.
    pub(crate) fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    /// How several are used.
    pub(crate) fn server_mode(&self) -> ServerMode {
        self.server_mode
    }

    /// The client of these settings.
    pub(crate) fn build(self, traces: &Traces) -> Result<Client, Failure> {
        self.encryption.check_files()?;
        self.builder(traces)
    }

    /// Whether a client could start with that; the files that it needs are read.
    pub(crate) fn check_start(
        args: ConnectArgs,
        tunnels: Vec<TunnelSettings>,
    ) -> Result<(), Failure> {
        let settings = Self::resolve(Layers { file: args, ..Layers::default() }, tunnels)?;
        settings.build(&Traces::default()).map(drop)
    }

    /// Reads no file.
    fn builder(self, traces: &Traces) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .servers(self.servers.iter().map(ToString::to_string))
            .server_mode(self.server_mode)
            .token(self.token.reveal())
            .retry(self.retry)
            .connections(self.connections)
            .threads(client_threads(self.connections))
            .bulk_threads(bulk_threads(None))
            .drain_grace(self.drain_timeout);
        if let Some(timeout) = self.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = self.handshake_timeout {
            builder = builder.handshake_timeout(timeout);
        }
        let (mut builder, has_admin) = match self.admin_bind {
            Some(AdminPlace::At(addr)) => (builder.admin_bind(addr), true),
            None if self.admin_for_people => (builder.admin_bind_or_next(DEFAULT_ADMIN_BIND), true),
            Some(AdminPlace::Off) | None => (builder, false),
        };
        // Elsewhere nobody would ever look at them.
        if let Some(settings) = self.inspector.filter(|_| has_admin) {
            builder = builder.inspector(&Inspector::new(settings));
        }
        // Nor is there anything to keep from others.
        if let Some(token) = self.admin_token.filter(|_| has_admin) {
            builder = builder.admin_token(token.reveal());
        }
        if let Some(path) = self.config_file {
            builder = builder.config_file(path);
        }
        for tunnel in self.tunnels {
            builder = builder.tunnel(tunnel.into());
        }
        Ok(self.encryption.apply(traces.client(builder)).build()?)
    }
}

/// Whether a client could run by what one layer says alone, as far as the library can tell without opening anything.
/// What another layer may still bring is not missed.
pub(crate) fn accept_client(
    layer: ConnectArgs,
    tunnels: Vec<TunnelSettings>,
) -> Result<(), Failure> {
    let token = layer.token.or_some();
    let servers = layer.servers.or_else(|| Some(vec!["localhost".parse().ok()?]));
    // Half an identity is none yet, and a name may still get something that is verified by it.
    let mut tls = ClientTlsArgs { tls_cert: None, tls_key: None, ..layer.tls };
    if tls.tls_server_name.is_some() {
        tls.tls_verify = Some(true);
    }
    // The secret of the admin interface may be named elsewhere, and is read when it is used.
    let (admin_bind, admin_token_file) = (None, None);
    let layer = ConnectArgs { servers, token, tls, admin_bind, admin_token_file, ..layer };
    ClientSettings::resolve(Layers { file: layer, ..Layers::default() }, tunnels)?
        .builder(&Traces::default())?;
    Ok(())
}

fn servers(addrs: Option<Vec<ServerAddr>>) -> Result<Vec<ServerAddr>, Failure> {
    addrs.ok_or_else(|| {
        Failure::usage(
            "no server; set --server or FERROTUNNEL_SERVER to HOST:PORT of the server, or server in [client] of a \
             settings file (--config)",
        )
    })
}

/// The token as given, if it was; what a token may contain is the library's to judge.
pub(crate) fn token(arg: TokenArg) -> Result<Option<Secret>, Failure> {
    match (arg.token, arg.token_file) {
        (Some(token), None) => Ok(Some(token)),
        (None, Some(path)) => token_file::read("--token-file", &path).map(Secret::from).map(Some),
        (Some(_), Some(_)) => Err(Failure::usage(
            "the token is given twice, by --token or FERROTUNNEL_TOKEN and by --token-file or FERROTUNNEL_TOKEN_FILE; \
             drop one of them",
        )),
        (None, None) => Ok(None),
    }
}

fn no_token() -> Failure {
    Failure::usage(
        "no token; set --token or FERROTUNNEL_TOKEN to the secret that server and clients share, --token-file or \
         FERROTUNNEL_TOKEN_FILE to a file that holds it, or either in a settings file (--config)",
    )
}

impl TokenArg {
    /// With a token, where only the rest of the settings is looked at.
    fn or_some(self) -> Self {
        Self { token: Some(self.token.unwrap_or_else(|| "any".into())), token_file: None }
    }

    /// Whether there is one, in whichever form.
    pub(crate) fn is_given(&self) -> bool {
        self.token.is_some() || self.token_file.is_some()
    }
}

impl ServerArgs {
    /// Whether any of it needs encryption.
    pub(crate) fn has_certificates(&self) -> bool {
        self.tls_cert.is_some()
            || self.tls_key.is_some()
            || self.tls_client_ca.is_some()
            || self.tls_client_crl.is_some()
    }

    /// With a token, and without halves of what may become whole, where only the rest of the settings is looked at.
    pub(crate) fn with_some_token(self) -> Self {
        let plugins = self.plugins.without_halves();
        Self { token: self.token.or_some(), plugins, ..self }
    }
}

/// The library's limits, with its defaults where nothing was said.
pub(crate) fn limits(args: &LimitsArgs) -> LimitsConfig {
    let mut limits = LimitsConfig::default();
    limits.max_sessions = args.max_sessions.unwrap_or(limits.max_sessions);
    limits.max_tunnels_per_session = args.max_tunnels.unwrap_or(limits.max_tunnels_per_session);
    limits.max_streams_per_session = args.max_streams.unwrap_or(limits.max_streams_per_session);
    limits.max_handshakes_in_flight =
        args.max_handshakes.unwrap_or(limits.max_handshakes_in_flight);
    limits.handshake_deadline = args.handshake_timeout.unwrap_or(limits.handshake_deadline);
    limits.max_failed_handshakes_per_address =
        args.max_failed_handshakes.unwrap_or(limits.max_failed_handshakes_per_address);
    limits.max_visitors = args.max_visitors.unwrap_or(limits.max_visitors);
    limits.max_visitors_per_tunnel =
        args.max_visitors_per_tunnel.or(limits.max_visitors_per_tunnel);
    limits.max_visitors_per_address =
        args.max_visitors_per_address.or(limits.max_visitors_per_address);
    limits.max_streams_per_second = args.max_streams_per_second.or(limits.max_streams_per_second);
    limits.max_bytes_per_second = args.max_bytes_per_second.or(limits.max_bytes_per_second);
    limits.max_receive_memory_per_session =
        args.max_session_memory.or(limits.max_receive_memory_per_session);
    limits.max_receive_memory = args.max_receive_memory.unwrap_or(limits.max_receive_memory);
    limits
}

/// Every IPv4 address: a server is there to be reached.
pub(crate) const DEFAULT_BIND: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_TUNNEL_PORT);

/// Likewise.
pub(crate) const DEFAULT_HTTP_BIND: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_HTTP_PORT);

/// Of a client's admin interface: on this machine only, where people look for that of a tunnel.
const DEFAULT_ADMIN_BIND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4_040);

/// As long as web servers and orchestrators give by default, and well within what systemd waits for.
pub(crate) const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use crate::layers::Given;

    #[test]
    fn limits_that_were_not_typed_keep_their_defaults() {
        assert_eq!(limits(&LimitsArgs::default()), LimitsConfig::default());
        let typed = LimitsArgs {
            max_streams: Some(7),
            handshake_timeout: Some(Duration::from_secs(3)),
            max_visitors: Some(8),
            max_receive_memory: Some(9 << 20),
            ..LimitsArgs::default()
        };
        let limits = limits(&typed);
        assert_eq!(limits.max_streams_per_session, 7);
        assert_eq!(limits.handshake_deadline, Duration::from_secs(3));
        assert_eq!(limits.max_visitors, 8);
        assert_eq!(limits.max_receive_memory, 9 << 20);
        assert_eq!(limits.max_sessions, LimitsConfig::default().max_sessions);
    }

    #[test]
    fn a_missing_token_says_every_way_to_let_somebody_in() {
        let server = Layers { given: Given::default(), file: ServerArgs::default() };
        let failure = ServerSettings::resolve(server.clone(), Vec::new()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let words = failure.to_string();
        for way in [
            "--token or FERROTUNNEL_TOKEN",
            "--token-file or FERROTUNNEL_TOKEN_FILE",
            "[principals]",
        ] {
            assert!(words.contains(way), "{way} is not in: {words}");
        }
        assert!(ServerSettings::resolve(server, vec![PrincipalConfig::new("web")]).is_ok());
        let words = no_token().to_string();
        assert!(
            words.contains("--token or FERROTUNNEL_TOKEN") && words.contains("--token-file"),
            "{words}"
        );
    }
}
