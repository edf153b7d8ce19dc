//! What may be typed. What it means is in [`crate::settings`].
//!
//! Every setting can also come from the environment as `FERROTUNNEL_*`, and those of servers and of a client's
//! connection from a settings file; who wins is in [`crate::layers`], and how a setting is added too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use ferrotunnel::{Balance, Cidr, Connections, HealthCheck, PathPrefix, ServerMode, Streams};

pub(crate) use self::access::{AccessArgs, HttpAccessArgs};
pub(crate) use self::certificates::ClientTlsArgs;
pub(crate) use self::headers::HeaderArgs;
pub(crate) use self::https::HttpsArgs;
pub(crate) use self::plugins::PluginArgs;
use crate::failure::exit_codes;
use crate::layers::Given;
use crate::logging::LogFilter;
use crate::output::Format;
use crate::tunnel::{LocalTlsSettings, Rhythm, Sharing};
use crate::value::{self, AdminPlace, LocalTarget, Secret, ServerAddr};

mod access;
mod certificates;
mod headers;
mod https;
mod plugins;

/// Expose a service behind NAT through a public server.
#[derive(Debug, Parser)]
#[command(name = "ferrotunnel", version, propagate_version = false, arg_required_else_help = true)]
#[command(after_help = concat!("Start here: ferrotunnel demo\n\n", exit_codes!()))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Print events as JSON lines on stdout, for scripts
    #[arg(long, global = true, env = "FERROTUNNEL_JSON", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    json: bool,
    /// How much to log on stderr: off, error, warn, info, debug or trace, also for a part of the program, like
    /// info,ferrotunnel_core=debug; without it RUST_LOG says
    #[arg(long, global = true, env = "FERROTUNNEL_LOG_LEVEL", value_name = "LEVELS")]
    pub(crate) log_level: Option<LogFilter>,
    /// What the log on stderr looks like
    #[arg(
        long,
        global = true,
        env = "FERROTUNNEL_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub(crate) log_format: LogForm,
}

impl CommonArgs {
    /// How stdout is written.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Plain }
    }
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// Lines for people; in colour on a terminal
    #[default]
    Human,
    /// One JSON object a line
    Json,
}

/// One variant for each file in `commands/`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the public server: clients dial in, visitors come through it
    Server(Box<ServerCommand>),
    /// Expose a local address over HTTP, or all the tunnels of a settings file
    #[command(after_help = exit_codes!())]
    Client(ClientArgs),
    /// Expose a local HTTP service under a public host name
    #[command(after_help = exit_codes!())]
    Http(Box<HttpArgs>),
    /// Expose a local TCP service on a public port
    #[command(after_help = exit_codes!())]
    Tcp(TcpArgs),
    /// Expose a local service that speaks TLS under a public host name, with its own certificate
    #[command(after_help = exit_codes!())]
    Tls(TlsArgs),
    /// Run server, client and a small site in this one process, to see a tunnel work
    Demo(DemoArgs),
    /// Make tokens for the users of a server
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make certificates for development
    #[command(subcommand)]
    Cert(CertCommand),
    /// Hash a password or a bearer token, for --basic-auth and --bearer-token
    Password(PasswordArgs),
    /// Tell a running server or client to read its settings file again, and say what came of it
    Reload(ControlArgs),
    /// Say what a running server or client has: sessions and tunnels
    Status(ControlArgs),
    /// Look through a settings file without starting anything
    Check(CheckArgs),
    /// Print the version
    Version,
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
}

impl Command {
    /// What is logged when nobody says: a server's operator wants its doings, a client's user has the talk of the
    /// command itself.
    pub(crate) fn default_log_level(&self) -> &'static str {
        match self {
            Self::Server(_) => "info",
            _ => "warn",
        }
    }
}

/// Where the settings are that nobody typed.
///
/// There is no default path: a file that happens to lie in the directory where somebody types `ferrotunnel http 3000`
/// must not decide through whose server their service becomes public.
#[derive(Debug, Args)]
pub(crate) struct ConfigArg {
    /// A settings file in TOML; arguments and environment win over it. Without this no file is read
    #[arg(long, env = "FERROTUNNEL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The secret both ends know.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct TokenArg {
    /// The secret that server and clients share, or a client's own from `ferrotunnel token new`; prefer a file or the
    /// environment to keep it out of the process list
    #[arg(long, env = "FERROTUNNEL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// A file with the token and nothing else, which only this user may read
    #[arg(long, env = "FERROTUNNEL_TOKEN_FILE", value_name = "PATH")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What can be done with tokens; one variant for each file in `commands/token/`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for one user, and the lines by which a server knows it
    New(TokenNewArgs),
    /// Make a secret for the visitors of a server, and the lines by which it knows it
    Visitor,
}

/// What can be done with certificates; one variant for each file in `commands/cert/`.
#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make a certificate for visitors of your own, who trust it once they are told
    Dev(CertDevArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CertDevArgs {
    /// Hosts that it is for, besides localhost and the loopback addresses, like app.localhost or *.tunnel.localhost
    pub(crate) hosts: Vec<String>,
    /// Where the files go; the directory is made if need be
    #[arg(long, value_name = "DIR", default_value = "ferrotunnel-dev")]
    pub(crate) dir: PathBuf,
}

/// How requests are inspected.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct InspectArgs {
    /// How much of each body is kept, like 64KiB [default: 64KiB]
    #[arg(long, env = "FERROTUNNEL_INSPECT_BODY_BYTES", value_name = "SIZE", value_parser = value::body_bytes)]
    pub(crate) inspect_body_bytes: Option<usize>,
    /// A header whose values are secrets and shown only when asked for, beside Authorization, Cookie and the like; may be
    /// repeated
    #[arg(long, env = "FERROTUNNEL_INSPECT_HIDE", value_name = "HEADER", value_delimiter = ',', value_parser = value::header_name)]
    pub(crate) inspect_hide: Option<Vec<String>>,
}

/// How it ends.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DrainArg {
    /// How long open requests and streams may go on after SIGTERM or Ctrl-C; what is left then is cut [default: 30s]
    #[arg(long, env = "FERROTUNNEL_DRAIN_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) drain_timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenNewArgs {
    /// Who is to have it, as logs and refusals will name them: letters, digits, - and _
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ServerCommand {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) given: Given<ServerArgs>,
}

/// One layer of a server's settings: what one source says of them.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// Where clients dial in [default: 0.0.0.0:7835]
    #[arg(long, env = "FERROTUNNEL_BIND", value_name = "IP:PORT", value_parser = value::listen_addr)]
    pub(crate) bind: Option<SocketAddr>,
    /// Where visitors of HTTP tunnels come in [default: 0.0.0.0:8080]
    #[arg(long, env = "FERROTUNNEL_HTTP_BIND", value_name = "IP:PORT", value_parser = value::listen_addr)]
    pub(crate) http_bind: Option<SocketAddr>,
    /// The domain under which HTTP and TLS tunnels get their names: `app` becomes `app.DOMAIN` [default: localhost]
    #[arg(long, env = "FERROTUNNEL_DOMAIN")]
    pub(crate) domain: Option<String>,
    /// A name under the domain that no tunnel gets, like www or admin, nor anything below it; may be repeated
    #[arg(long, env = "FERROTUNNEL_RESERVED_NAMES", value_name = "NAME", value_delimiter = ',')]
    pub(crate) reserved_names: Option<Vec<String>>,
    /// Speak with clients without encryption; for trusted networks only
    #[arg(long, env = "FERROTUNNEL_PLAINTEXT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) plaintext: Option<bool>,
    /// Certificate chain for the tunnel port, PEM; without one a self-signed certificate is made, and the token proves
    /// who is who
    #[arg(long, env = "FERROTUNNEL_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, PEM
    #[arg(long, env = "FERROTUNNEL_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// CAs, PEM: every client must show a certificate that one of them has issued, besides proving the token
    #[arg(long, env = "FERROTUNNEL_TLS_CLIENT_CA", value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Revocation lists, PEM, of the CAs of --tls-client-ca: no client is let in whose certificate is on one
    #[arg(long, env = "FERROTUNNEL_TLS_CLIENT_CRL", value_name = "FILE")]
    pub(crate) tls_client_crl: Option<PathBuf>,
    /// The address on which TCP tunnels get their ports [default: that of --http-bind]
    #[arg(long, env = "FERROTUNNEL_TCP_BIND_IP", value_name = "IP")]
    pub(crate) tcp_bind_ip: Option<IpAddr>,
    /// A proxy in front of this server, as a network or address: what it says of visitors (X-Forwarded-*, Forwarded) is
    /// believed; may be repeated
    #[arg(
        long,
        env = "FERROTUNNEL_TRUSTED_PROXIES",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    pub(crate) trusted_proxies: Option<Vec<Cidr>>,
    /// Connections from --trusted-proxies, and no others, begin with a header of the PROXY protocol, v1 or v2, on the
    /// listeners of HTTP and HTTPS and the ports of TCP tunnels
    #[arg(long, env = "FERROTUNNEL_ACCEPT_PROXY", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) accept_proxy: Option<bool>,
    /// How long a tunnel whose client was lost keeps its name or port for it while visitors wait; 0s turns them away at
    /// once [default: 3s]
    #[arg(long, env = "FERROTUNNEL_VISITOR_GRACE", value_name = "TIME", value_parser = value::time_or_none)]
    pub(crate) visitor_grace: Option<Duration>,
    /// Pages for browsers when an answer is the server's own: 404.html and the like, and default.html
    #[arg(long, env = "FERROTUNNEL_ERROR_PAGES", value_name = "DIR")]
    pub(crate) error_pages: Option<PathBuf>,
    /// Threads that carry traffic [default: half of the processors, the others for many visitors of HTTP at once, and
    /// further ones for bulk]
    #[arg(long, env = "FERROTUNNEL_THREADS", value_name = "N", value_parser = value::threads)]
    pub(crate) threads: Option<u16>,
    /// A socket for `ferrotunnel status` and `ferrotunnel reload`, in a directory that only this user may write in, which is
    /// made if need be
    #[arg(long, env = "FERROTUNNEL_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Where the admin interface listens: health, metrics, who is connected, and what can be done about it; beyond loopback
    /// with a token only
    /// [default: nowhere]
    #[arg(long, env = "FERROTUNNEL_ADMIN_BIND", value_name = "IP:PORT", value_parser = value::listen_addr)]
    pub(crate) admin_bind: Option<SocketAddr>,
    /// A file with the secret that requests to the admin interface must show, and nothing else
    #[arg(long, env = "FERROTUNNEL_ADMIN_TOKEN_FILE", value_name = "PATH")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Keep the last requests of HTTP tunnels, with the beginning of what visitors and local services send, for the dashboard
    /// of the admin interface. Off by default: it is to look into other people's traffic
    #[arg(long, env = "FERROTUNNEL_INSPECT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) inspect: Option<bool>,
    #[command(flatten)]
    pub(crate) inspection: InspectArgs,
    #[command(flatten)]
    pub(crate) drain: DrainArg,
    #[command(flatten)]
    pub(crate) limits: LimitsArgs,
    #[command(flatten)]
    pub(crate) timeouts: HttpTimeoutArgs,
    #[command(flatten)]
    pub(crate) https: HttpsArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
}

/// What the server refuses to go beyond; unset ones keep the library's defaults.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitsArgs {
    /// Sessions at once; a client has one for each of its connections [default: 10000]
    #[arg(long, env = "FERROTUNNEL_MAX_SESSIONS", value_name = "N", value_parser = value::count::<usize>)]
    pub(crate) max_sessions: Option<usize>,
    /// Tunnels of one session [default: 1024]
    #[arg(long, env = "FERROTUNNEL_MAX_TUNNELS", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_tunnels: Option<u32>,
    /// Visitor connections open at once through one session [default: 65536]
    #[arg(long, env = "FERROTUNNEL_MAX_STREAMS", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_streams: Option<u32>,
    /// Connections on the tunnel port that have not proven the token yet; more wait until one of these is through
    /// [default: 1024]
    #[arg(long, env = "FERROTUNNEL_MAX_HANDSHAKES", value_name = "N", value_parser = value::count::<usize>)]
    pub(crate) max_handshakes: Option<usize>,
    /// Wrong tokens a second from one address, or from one /64 of IPv6, and as many handshakes that never come to a token;
    /// beyond it those from there who have not been in lately wait for their turn [default: 5]
    #[arg(long, env = "FERROTUNNEL_MAX_FAILED_HANDSHAKES", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_failed_handshakes: Option<u32>,
    /// Visitors of HTTP tunnels connected at once, over all clients [default: 100000]
    #[arg(long, env = "FERROTUNNEL_MAX_VISITORS", value_name = "N", value_parser = value::count::<usize>)]
    pub(crate) max_visitors: Option<usize>,
    /// Visitor connections open at once through one tunnel [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_VISITORS_PER_TUNNEL", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_visitors_per_tunnel: Option<u32>,
    /// Visitors connected at once from one address, or from one /64 of IPv6; all those behind a proxy of yours have one
    /// address [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_VISITORS_PER_ADDRESS", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_visitors_per_address: Option<u32>,
    /// Visitor connections a second through each connection of a client; more are turned away [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_STREAMS_PER_SECOND", value_name = "N", value_parser = value::count::<u32>)]
    pub(crate) max_streams_per_second: Option<u32>,
    /// Bytes a second each way through each connection of a client and the direct ones that belong to it, like 10MiB; what
    /// is beyond waits [default: no limit]
    #[arg(long, env = "FERROTUNNEL_MAX_BYTES_PER_SECOND", value_name = "SIZE", value_parser = value::size)]
    pub(crate) max_bytes_per_second: Option<u64>,
    /// Memory promised to data on its way through each connection of a client, within max-receive-memory
    /// [default: no limit of its own]
    #[arg(long, env = "FERROTUNNEL_MAX_SESSION_MEMORY", value_name = "SIZE", value_parser = value::size)]
    pub(crate) max_session_memory: Option<u64>,
    /// Memory promised to data on its way from clients to visitors, like 256MiB; when it is nearly spent, new streams
    /// start with smaller windows [default: 256MiB]
    #[arg(long, env = "FERROTUNNEL_MAX_RECEIVE_MEMORY", value_name = "SIZE", value_parser = value::size)]
    pub(crate) max_receive_memory: Option<u64>,
    /// How long a connection may take to prove the token, like 10s or 500ms [default: 10s]
    #[arg(long, env = "FERROTUNNEL_HANDSHAKE_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) handshake_timeout: Option<Duration>,
}

/// How long the HTTP side of a server waits; unset ones keep the library's defaults. Times are like 10s or 500ms.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Timeouts of HTTP")]
pub(crate) struct HttpTimeoutArgs {
    /// How long a visitor may take to send the head of a request, or may rest between two [default: 30s]
    #[arg(long, env = "FERROTUNNEL_HTTP_HEADER_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) http_header_timeout: Option<Duration>,
    /// How long a local service may take to begin its answer; beyond it visitors get a 504 [default: no limit]
    #[arg(long, env = "FERROTUNNEL_HTTP_RESPONSE_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) http_response_timeout: Option<Duration>,
    /// How long a connection to a local service is kept between two requests [default: 4s]
    #[arg(long, env = "FERROTUNNEL_HTTP_POOL_IDLE_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) http_pool_idle_timeout: Option<Duration>,
}

/// One layer of how a client finds its server and what it does when that fails: what one source says of it.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConnectArgs {
    /// The server to dial, needed here or in the settings file [default port: 7835]; may be repeated, see --server-mode
    #[arg(
        long = "server",
        env = "FERROTUNNEL_SERVER",
        value_name = "HOST:PORT",
        value_delimiter = ','
    )]
    pub(crate) servers: Option<Vec<ServerAddr>>,
    /// What several servers are for: the first in order that answers is used, and returned to when it answers again
    /// (failover), or all at once, each with a public address of its own (all) [default: failover]
    #[arg(long, env = "FERROTUNNEL_SERVER_MODE", value_name = "MODE", value_parser = value::server_mode)]
    pub(crate) server_mode: Option<ServerMode>,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// Speak with the server without encryption; it must be started with --plaintext too
    #[arg(long, env = "FERROTUNNEL_PLAINTEXT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) plaintext: Option<bool>,
    /// End with an error instead of trying again when the server cannot be reached or goes away
    #[arg(long, env = "FERROTUNNEL_EXIT_ON_FIRST_FAILURE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) exit_on_first_failure: Option<bool>,
    /// How long each address of a server may take to accept a connection, like 5s or 500ms [default: 5s]
    #[arg(long, env = "FERROTUNNEL_CONNECT_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) connect_timeout: Option<Duration>,
    /// How long TLS, and after it the proof of the token, may take each [default: 10s]
    #[arg(long, env = "FERROTUNNEL_HANDSHAKE_TIMEOUT", value_name = "TIME", value_parser = value::duration)]
    pub(crate) handshake_timeout: Option<Duration>,
    /// Connections to keep to each server, over which visitors are spread: a number up to 16, or auto for one and up to
    /// eight while visitors compete for it on a long way [default: auto]
    #[arg(long, env = "FERROTUNNEL_CONNECTIONS", value_name = "N", value_parser = value::connections)]
    pub(crate) connections: Option<Connections>,
    /// Where the admin interface listens: what this client has, and how it is; `off` for nowhere [default: 127.0.0.1:4040
    /// at a terminal and with an HTTP tunnel, or the next port that is free; otherwise off]
    #[arg(long, env = "FERROTUNNEL_ADMIN_BIND", value_name = "IP:PORT|off", value_parser = value::admin_place)]
    pub(crate) admin_bind: Option<AdminPlace>,
    /// A file with the secret that requests to the admin interface must show, and nothing else
    #[arg(long, env = "FERROTUNNEL_ADMIN_TOKEN_FILE", value_name = "PATH")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// A socket for `ferrotunnel status` and `ferrotunnel reload`, in a directory that only this user may write in, which is
    /// made if need be
    #[arg(long, env = "FERROTUNNEL_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Keep no requests of HTTP tunnels; by default the last are kept for the dashboard, where there is an admin interface
    #[arg(long, env = "FERROTUNNEL_NO_INSPECT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", value_parser = value::switch)]
    pub(crate) no_inspect: Option<bool>,
    #[command(flatten)]
    pub(crate) inspection: InspectArgs,
    #[command(flatten)]
    pub(crate) drain: DrainArg,
    // Last: its heading would stand above whatever comes behind it.
    #[command(flatten)]
    pub(crate) tls: ClientTlsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) connect: Given<ConnectArgs>,
    /// The local service: host:port, a port, unix:/path, or https://host:port. Given, it makes the one tunnel there is; without it the
    /// tunnels are those of the settings file
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_LOCAL_ADDR", value_name = "TARGET")]
    pub(crate) local_addr: Option<LocalTarget>,
    /// The public name; without one the server picks a readable one
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) local_tls: LocalTlsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// The local service: a port, host:port, unix:/path, or https://host:port
    #[arg(env = "FERROTUNNEL_LOCAL_ADDR", value_name = "TARGET")]
    pub(crate) target: LocalTarget,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) connect: Given<ConnectArgs>,
    /// The public name; without one the server picks a readable one
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_NAME")]
    pub(crate) name: Option<String>,
    /// A further public host name, in full, or *.shop.example for all with one label more; may be repeated
    #[arg(long = "host", help_heading = TUNNEL, env = "FERROTUNNEL_HOST", value_name = "HOST", value_delimiter = ',', value_parser = value::public_host)]
    pub(crate) hosts: Vec<String>,
    /// The part of its hosts that the tunnel is for, like /api; the rest may be other tunnels' [default: /]
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_PATH", value_name = "PATH", value_parser = value::url_path)]
    pub(crate) path: Option<PathPrefix>,
    /// Take --path off the paths of requests: the local service sees /x of /api/x, and the rest in X-Forwarded-Prefix
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_STRIP_PATH", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) strip_path: bool,
    /// The local service speaks HTTP/2 without TLS (h2c), as gRPC servers do
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_HTTP2", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) http2: bool,
    #[command(flatten)]
    pub(crate) sharing: SharingArgs,
    #[command(flatten)]
    pub(crate) local_tls: LocalTlsArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) http_access: HttpAccessArgs,
    #[command(flatten)]
    pub(crate) headers: HeaderArgs,
}

/// How several clients have one tunnel together.
#[derive(Debug, Args)]
#[command(next_help_heading = TUNNEL)]
pub(crate) struct SharingArgs {
    /// Share the visitors with other clients that register the same name or port under this group, instead of taking
    /// it over from them
    #[arg(long, env = "FERROTUNNEL_GROUP", value_name = "GROUP", value_parser = value::not_empty)]
    pub(crate) group: Option<String>,
    /// How visitors are spread over a group, or over the connections of this client: to the one with the fewest open
    /// (least-streams), or in turn (round-robin) [default: least-streams]
    #[arg(long, env = "FERROTUNNEL_BALANCE", value_name = "HOW", value_parser = value::balance)]
    pub(crate) balance: Option<Balance>,
    /// Look after the local service, and let the server send visitors to others of the group while it is down: tcp for a
    /// connection, or the path of an HTTP request
    #[arg(long, env = "FERROTUNNEL_HEALTH_CHECK", value_name = "HOW", value_parser = value::health_check)]
    pub(crate) health_check: Option<HealthCheck>,
    /// From one check to the next [default: 10s]
    #[arg(long, env = "FERROTUNNEL_HEALTH_INTERVAL", value_name = "TIME", value_parser = value::duration, requires = "health_check")]
    pub(crate) health_interval: Option<Duration>,
    /// How long a check may take [default: 5s]
    #[arg(long, env = "FERROTUNNEL_HEALTH_TIMEOUT", value_name = "TIME", value_parser = value::duration, requires = "health_check")]
    pub(crate) health_timeout: Option<Duration>,
    /// How many checks have to fail in a row [default: 3]
    #[arg(long, env = "FERROTUNNEL_HEALTH_THRESHOLD", value_name = "COUNT", value_parser = value::count::<u32>, requires = "health_check")]
    pub(crate) health_threshold: Option<u32>,
}

/// How a local service is verified that speaks TLS.
#[derive(Debug, Args)]
#[command(next_help_heading = TUNNEL)]
pub(crate) struct LocalTlsArgs {
    /// CAs, PEM: one of them must have issued the certificate of an https:// target [default: those that the system trusts]
    #[arg(long, env = "FERROTUNNEL_LOCAL_CA", value_name = "FILE")]
    pub(crate) local_ca: Option<PathBuf>,
    /// Take any certificate of an https:// target: whoever can be at its address sees and changes what visitors send
    #[arg(long, env = "FERROTUNNEL_LOCAL_INSECURE", conflicts_with = "local_ca", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) local_insecure: bool,
}

impl From<LocalTlsArgs> for LocalTlsSettings {
    fn from(args: LocalTlsArgs) -> Self {
        Self { ca: args.local_ca, insecure: args.local_insecure }
    }
}

impl From<SharingArgs> for Sharing {
    fn from(args: SharingArgs) -> Self {
        let rhythm = Rhythm {
            interval: args.health_interval,
            timeout: args.health_timeout,
            threshold: args.health_threshold,
        };
        let health = args.health_check.map(|check| rhythm.set(check));
        Self { group: args.group, balance: args.balance, health }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TcpArgs {
    /// The local service: a port, host:port, unix:/path, or https://host:port
    #[arg(env = "FERROTUNNEL_LOCAL_ADDR", value_name = "TARGET")]
    pub(crate) target: LocalTarget,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) connect: Given<ConnectArgs>,
    /// The public port; without one the server picks a free one
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_REMOTE_PORT", value_name = "PORT", value_parser = value::port)]
    pub(crate) remote_port: Option<u16>,
    /// How visitors travel: all over one connection to the server (multiplexed), each over one of its own as far as
    /// they are ready (direct), or those who turn out to move much, and all when the server is far away (auto)
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_STREAMS", value_name = "HOW", default_value = "auto", value_parser = value::streams)]
    pub(crate) streams: Streams,
    #[command(flatten)]
    pub(crate) sharing: SharingArgs,
    #[command(flatten)]
    pub(crate) local_tls: LocalTlsArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// The local service, which speaks TLS itself: a port, host:port, or unix:/path
    #[arg(env = "FERROTUNNEL_LOCAL_ADDR", value_name = "TARGET")]
    pub(crate) target: LocalTarget,
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    #[command(flatten)]
    pub(crate) connect: Given<ConnectArgs>,
    /// The public name; without one the server picks a readable one
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_NAME")]
    pub(crate) name: Option<String>,
    /// A further public host name, in full, or *.shop.example for all with one label more; may be repeated
    #[arg(long = "host", help_heading = TUNNEL, env = "FERROTUNNEL_HOST", value_name = "HOST", value_delimiter = ',', value_parser = value::public_host)]
    pub(crate) hosts: Vec<String>,
    /// How visitors travel: all over one connection to the server (multiplexed), each over one of its own as far as
    /// they are ready (direct), or those who turn out to move much, and all when the server is far away (auto)
    #[arg(long, help_heading = TUNNEL, env = "FERROTUNNEL_STREAMS", value_name = "HOW", default_value = "auto", value_parser = value::streams)]
    pub(crate) streams: Streams,
    #[command(flatten)]
    pub(crate) sharing: SharingArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The port of the public side on loopback; without one 8080, or a free one when that is taken
    #[arg(long, env = "FERROTUNNEL_DEMO_PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// Whose password it is; printed before its hash
    #[arg(value_name = "USER", conflicts_with = "bearer")]
    pub(crate) user: Option<String>,
    /// It is a bearer token
    #[arg(long)]
    pub(crate) bearer: bool,
}

/// How a running server or client is found.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArg,
    /// The control socket that it was started with [default: that of the settings file]
    #[arg(long, env = "FERROTUNNEL_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The settings file
    #[arg(env = "FERROTUNNEL_CONFIG", value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for
    pub(crate) shell: clap_complete::Shell,
}

/// The heading of what is said of a tunnel itself.
const TUNNEL: &str = "Tunnel";

#[cfg(test)]
mod tests;
