//! What the arguments mean: each kind of settings can only say what a builder of the library accepts.

mod certificates;

use std::net::{IpAddr, SocketAddr};

use ferrotunnel::{Client, Connections, LimitsConfig, Retry, Server, Tunnel};

use crate::args::{
    ClientArgs, ConnectArgs, HttpArgs, HttpTimeoutArgs, LimitsArgs, ServerArgs, TcpArgs, TokenArg,
};
use crate::failure::Failure;
use crate::runtime::{client_threads, server_threads};
use crate::value::{Secret, ServerAddr};

use self::certificates::{ClientEncryption, ServerEncryption};

/// A server as it shall run.
#[derive(Debug)]
pub(crate) struct ServerSettings {
    token: Secret,
    bind: SocketAddr,
    http_bind: SocketAddr,
    domain: Option<String>,
    encryption: ServerEncryption,
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
        builder = self.encryption.apply(builder)?;
        Ok(builder.build()?)
    }
}

impl TryFrom<ServerArgs> for ServerSettings {
    type Error = Failure;

    fn try_from(args: ServerArgs) -> Result<Self, Failure> {
        Ok(Self {
            encryption: ServerEncryption::new(
                args.plaintext,
                args.tls_cert,
                args.tls_key,
                args.tls_client_ca,
            )?,
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
    server: ServerAddr,
    token: Secret,
    encryption: ClientEncryption,
    retry: Retry,
    connections: Connections,
    tunnel: Tunnel,
}

impl ClientSettings {
    /// Where the server is.
    pub(crate) fn server(&self) -> &ServerAddr {
        &self.server
    }

    /// The client of these settings.
    pub(crate) fn build(self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .server_addr(self.server.to_string())
            .token(self.token.reveal())
            .retry(self.retry)
            .connections(self.connections)
            .threads(client_threads(self.connections))
            .tunnel(self.tunnel);
        builder = self.encryption.apply(builder)?;
        Ok(builder.build()?)
    }

    fn new(connect: ConnectArgs, tunnel: Tunnel) -> Result<Self, Failure> {
        Ok(Self {
            server: connect.server,
            token: token(connect.token)?,
            encryption: ClientEncryption::new(connect.plaintext, connect.tls)?,
            retry: if connect.exit_on_first_failure { Retry::Never } else { Retry::Forever },
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
    use std::time::Duration;

    use super::*;
    use crate::failure::Exit;

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
