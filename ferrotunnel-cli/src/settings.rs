//! What the arguments mean: each kind of settings can only say what a builder of the library accepts.

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrotunnel::{Client, Connections, LimitsConfig, Retry, Server, ServerMode, Tunnel};

use crate::args::{
    ClientArgs, ConnectArgs, HttpArgs, HttpTimeoutArgs, LimitsArgs, ServerArgs, TcpArgs, TokenArg,
};
use crate::failure::Failure;
use crate::runtime::{client_threads, server_threads};
use crate::value::{Secret, ServerAddr};

/// How client and server speak with each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// TLS with a certificate made at start; the token proves who is who.
    SelfSigned,
    /// TLS with the operator's own certificate.
    Identity { cert: PathBuf, key: PathBuf },
    /// None: the token still never travels, but nothing is hidden.
    Plaintext,
}

/// A server as it shall run.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    token: Secret,
    bind: SocketAddr,
    http_bind: SocketAddr,
    domain: Option<String>,
    encryption: Encryption,
    tcp_bind_ip: Option<IpAddr>,
    limits: LimitsConfig,
    timeouts: HttpTimeoutArgs,
    threads: usize,
}

impl ServerSettings {
    /// The server of these settings.
    pub(crate) fn build(self) -> Result<Server, Failure> {
        let mut builder = Server::builder()
            .token(self.token.reveal())
            .bind(self.bind)
            .http_bind(self.http_bind)
            .limits(self.limits)
            .threads(self.threads);
        if let Some(domain) = self.domain {
            builder = builder.domain(domain);
        }
        if let Some(ip) = self.tcp_bind_ip {
            builder = builder.tcp_bind_ip(ip);
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
        builder = match self.encryption {
            Encryption::SelfSigned => builder,
            Encryption::Identity { cert, key } => {
                check_readable("--tls-cert", &cert)?;
                check_readable("--tls-key", &key)?;
                builder.tls_identity_files(cert, key)
            }
            Encryption::Plaintext => builder.plaintext(),
        };
        Ok(builder.build()?)
    }
}

impl TryFrom<ServerArgs> for ServerSettings {
    type Error = Failure;

    fn try_from(args: ServerArgs) -> Result<Self, Failure> {
        Ok(Self {
            encryption: encryption(args.plaintext, args.tls_cert, args.tls_key)?,
            token: token(args.token)?,
            bind: args.bind,
            http_bind: args.http_bind,
            domain: args.domain,
            tcp_bind_ip: args.tcp_bind_ip,
            limits: limits(&args.limits),
            timeouts: args.timeouts,
            threads: server_threads(args.threads.map(usize::from)),
        })
    }
}

/// A client as it shall run, with its one tunnel.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    servers: Vec<ServerAddr>,
    server_mode: ServerMode,
    token: Secret,
    plaintext: bool,
    retry: Retry,
    connect_timeout: Option<Duration>,
    handshake_timeout: Option<Duration>,
    connections: Connections,
    tunnel: Tunnel,
}

impl ClientSettings {
    /// Where the servers are.
    pub(crate) fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    /// How several are used.
    pub(crate) fn server_mode(&self) -> ServerMode {
        self.server_mode
    }

    /// The client of these settings.
    pub(crate) fn build(self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .servers(self.servers.iter().map(ToString::to_string))
            .server_mode(self.server_mode)
            .token(self.token.reveal())
            .retry(self.retry)
            .connections(self.connections)
            .threads(client_threads(self.connections))
            .tunnel(self.tunnel);
        if let Some(timeout) = self.connect_timeout {
            builder = builder.connect_timeout(timeout);
        }
        if let Some(timeout) = self.handshake_timeout {
            builder = builder.handshake_timeout(timeout);
        }
        if self.plaintext {
            builder = builder.plaintext();
        }
        Ok(builder.build()?)
    }

    fn new(connect: ConnectArgs, tunnel: Tunnel) -> Result<Self, Failure> {
        Ok(Self {
            servers: connect.servers,
            server_mode: connect.server_mode,
            token: token(connect.token)?,
            plaintext: connect.plaintext,
            retry: if connect.exit_on_first_failure { Retry::Never } else { Retry::Forever },
            connect_timeout: connect.connect_timeout,
            handshake_timeout: connect.handshake_timeout,
            connections: connect.connections,
            tunnel,
        })
    }
}

impl TryFrom<ClientArgs> for ClientSettings {
    type Error = Failure;

    fn try_from(args: ClientArgs) -> Result<Self, Failure> {
        let name = args.name.unwrap_or_default();
        Self::new(args.connect, Tunnel::http(&name).local_addr(args.local_addr.to_string()))
    }
}

impl TryFrom<HttpArgs> for ClientSettings {
    type Error = Failure;

    fn try_from(args: HttpArgs) -> Result<Self, Failure> {
        let name = args.name.unwrap_or_default();
        let mut tunnel = Tunnel::http(&name).local_addr(args.target.to_string());
        for host in args.hosts {
            tunnel = tunnel.host(host);
        }
        if args.http2 {
            tunnel = tunnel.http2();
        }
        Self::new(args.connect, tunnel)
    }
}

impl TryFrom<TcpArgs> for ClientSettings {
    type Error = Failure;

    fn try_from(args: TcpArgs) -> Result<Self, Failure> {
        let mut tunnel = Tunnel::tcp().local_addr(args.target.to_string()).streams(args.streams);
        if let Some(port) = args.remote_port {
            tunnel = tunnel.remote_port(port);
        }
        Self::new(args.connect, tunnel)
    }
}

/// The token as given; what a token may contain is the library's to judge.
fn token(arg: TokenArg) -> Result<Secret, Failure> {
    arg.token.ok_or_else(|| {
        Failure::failed("no token; set --token or FERROTUNNEL_TOKEN to the secret that server and clients share")
    })
}

fn encryption(
    plaintext: bool,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Encryption, Failure> {
    match (plaintext, cert, key) {
        (false, None, None) => Ok(Encryption::SelfSigned),
        (true, None, None) => Ok(Encryption::Plaintext),
        (false, Some(cert), Some(key)) => Ok(Encryption::Identity { cert, key }),
        (false, Some(_), None) => {
            Err(Failure::usage("--tls-cert needs --tls-key, the private key of the certificate"))
        }
        (false, None, Some(_)) => {
            Err(Failure::usage("--tls-key needs --tls-cert, the certificate of the key"))
        }
        (true, ..) => Err(Failure::usage(
            "--plaintext has no use for --tls-cert and --tls-key; drop one or the other",
        )),
    }
}

/// The library names the file; who types has a flag that may be wrong.
fn check_readable(flag: &str, path: &Path) -> Result<(), Failure> {
    // A directory can be opened, but not read.
    match File::open(path).and_then(|mut file| file.read(&mut [0])) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::failed(format!(
            "{flag}: cannot read {}: {error}; give the path of a PEM file that this user may read",
            path.display()
        ))),
    }
}

fn limits(args: &LimitsArgs) -> LimitsConfig {
    let mut limits = LimitsConfig::default();
    limits.max_sessions = args.max_sessions.unwrap_or(limits.max_sessions);
    limits.max_tunnels_per_session = args.max_tunnels.unwrap_or(limits.max_tunnels_per_session);
    limits.max_streams_per_session = args.max_streams.unwrap_or(limits.max_streams_per_session);
    limits.max_handshakes_in_flight =
        args.max_handshakes.unwrap_or(limits.max_handshakes_in_flight);
    limits.handshake_deadline = args.handshake_timeout.unwrap_or(limits.handshake_deadline);
    limits.max_visitors = args.max_visitors.unwrap_or(limits.max_visitors);
    limits.max_receive_memory = args.max_receive_memory.unwrap_or(limits.max_receive_memory);
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn encryption_is_on_unless_turned_off() {
        let file = || Some(PathBuf::from("f"));
        assert_eq!(encryption(false, None, None).unwrap(), Encryption::SelfSigned);
        assert_eq!(encryption(true, None, None).unwrap(), Encryption::Plaintext);
        assert!(matches!(encryption(false, file(), file()).unwrap(), Encryption::Identity { .. }));
    }

    #[test]
    fn half_an_identity_is_a_usage_error_that_names_the_other_half() {
        let file = || Some(PathBuf::from("f"));
        let without_key = encryption(false, file(), None).unwrap_err();
        assert_eq!(without_key.exit(), Exit::Usage);
        assert!(without_key.to_string().contains("--tls-key"));
        assert!(encryption(false, None, file()).unwrap_err().to_string().contains("--tls-cert"));
        assert!(encryption(true, file(), file()).unwrap_err().to_string().contains("--plaintext"));
    }

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
    fn a_missing_token_says_both_ways_to_set_it() {
        let failure = token(TokenArg { token: None }).unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(failure.to_string().contains("--token"));
        assert!(failure.to_string().contains("FERROTUNNEL_TOKEN"));
    }
}
