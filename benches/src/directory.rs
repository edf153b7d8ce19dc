//! A real server whose registry has many hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::{LimitsConfig, Token, TunnelKind};
use ferrotunnel_core::client::{
    ClientConfig, ClientEngine, ClientTransport, Connections, Retry, ServerMode, TunnelHandle,
    TunnelSpec,
};
use ferrotunnel_core::server::{ServerConfig, ServerEngine, Transport};
use ferrotunnel_core::{Routes, Shards};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;

/// A server, and one client that has registered host names with it.
pub struct Directory {
    routes: Arc<dyn Routes>,
    hosts: Vec<String>,
    _tunnels: Vec<TunnelHandle>,
    _client: ClientEngine,
    _server: ServerEngine,
    /// Last: the engines end on it.
    _runtime: Runtime,
}

impl Directory {
    /// Registers that many hosts.
    pub fn new(count: usize) -> Self {
        // One thread, which runs only in here: nothing happens beside a measurement.
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let hosts: Vec<String> = (0..count).map(|at| format!("app-{at}.example.org")).collect();
        let (server, client, tunnels) = runtime.block_on(start(&hosts));
        Self {
            routes: server.routes(),
            hosts,
            _tunnels: tunnels,
            _client: client,
            _server: server,
            _runtime: runtime,
        }
    }

    /// What the HTTP ingress asks.
    pub fn routes(&self) -> &dyn Routes {
        &*self.routes
    }

    /// The hosts that are registered.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }
}

async fn start(hosts: &[String]) -> (ServerEngine, ClientEngine, Vec<TunnelHandle>) {
    let mut limits = LimitsConfig::default();
    limits.max_tunnels_per_session = u32::MAX;
    let server = ServerEngine::start(ServerConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
        transport: Transport::Plaintext,
        token: Some(Token::new("bench").unwrap()),
        principals: Vec::new(),
        domain: "localhost".to_owned(),
        reserved_names: Vec::new(),
        only_tunnel_answers: false,
        http_port: Some(80),
        https_port: None,
        tcp_ip: Ipv4Addr::LOCALHOST.into(),
        limits,
        shards: Shards::inherit(),
        visitor_grace: Duration::ZERO,
        access: ferrotunnel_core::AccessConfig::default(),
        heartbeat: Duration::from_secs(20),
        software: "bench".to_owned(),
    })
    .unwrap();
    let config = ClientConfig {
        servers: vec![server.addr().to_string()],
        server_mode: ServerMode::default(),
        transport: ClientTransport::Plaintext,
        token: Token::new("bench").unwrap(),
        software: "bench".to_owned(),
        retry: Retry::Never,
        connect_timeout: Duration::from_secs(5),
        handshake_deadline: Duration::from_secs(10),
        connections: Connections::Exactly(1),
        shards: Shards::inherit(),
    };
    let client = ClientEngine::start(config, broadcast::channel(1).0).unwrap();
    let mut tunnels = Vec::new();
    for hosts in hosts.chunks(HOSTS_PER_TUNNEL) {
        let spec = TunnelSpec {
            kind: TunnelKind::Http,
            name: String::new(),
            hosts: hosts.to_vec(),
            port: 0,
            options: Vec::new(),
            proxy_protocol: None,
            target: "1".parse().unwrap(),
            health: None,
        };
        tunnels.push(client.add(spec).await.unwrap().0);
    }
    (server, client, tunnels)
}

/// The most that one `Register` takes.
const HOSTS_PER_TUNNEL: usize = 32;
