//! A server and its clients on this machine, for tests, and patience with them.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ferrotunnel_common::{LimitsConfig, Token};

use crate::access::AccessConfig;
use crate::client::{ClientConfig, ClientTransport, Connections, Retry, ServerMode};
use crate::server::{ServerConfig, Transport};
use crate::shards::Shards;

pub(crate) const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

fn token() -> Token {
    Token::new("secret").unwrap()
}

pub(crate) fn server_config() -> ServerConfig {
    ServerConfig {
        bind: ANY.into(),
        transport: Transport::Plaintext,
        token: Some(token()),
        principals: Vec::new(),
        domain: "localhost".to_owned(),
        reserved_names: Vec::new(),
        only_tunnel_answers: false,
        http_port: Some(80),
        https_port: None,
        tcp_ip: ANY.ip(),
        limits: LimitsConfig::default(),
        shards: Shards::inherit(),
        visitor_grace: Duration::ZERO,
        access: AccessConfig::default(),
        heartbeat: Duration::from_secs(5),
        software: String::new(),
    }
}

pub(crate) fn client_config(server: String, connections: Connections) -> ClientConfig {
    ClientConfig {
        servers: vec![server],
        server_mode: ServerMode::default(),
        transport: ClientTransport::Plaintext,
        token: token(),
        software: String::new(),
        retry: Retry::Forever,
        connect_timeout: Duration::from_secs(5),
        handshake_deadline: Duration::from_secs(10),
        connections,
        shards: Shards::inherit(),
    }
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

pub(crate) async fn until(is_so: impl Fn() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
