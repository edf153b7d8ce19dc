//! A whole tunnel in one process: server, client, ingress, and scripted local services.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]
#![allow(dead_code, reason = "each test file uses its part")]

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use ferrotunnel_common::{LimitsConfig, Token, TunnelKind};
use ferrotunnel_core::{
    Shards,
    client::{
        ClientConfig, ClientEngine, ClientTransport, Connections, Retry, ServerMode, Target,
        TunnelHandle, TunnelSpec,
    },
    server::{ServerConfig, ServerEngine, Transport},
};
use ferrotunnel_http::{HttpConfig, HttpIngress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::JoinHandle,
    time::timeout,
};

/// What visitors see: an ingress with one tunnel, `app.localhost`.
pub(crate) struct Public {
    pub(crate) addr: SocketAddr,
    /// Set to true to shut the ingress down.
    pub(crate) stop: watch::Sender<bool>,
    /// Ends when the ingress has shut down.
    pub(crate) serving: JoinHandle<()>,
    server: ServerEngine,
    client: ClientEngine,
    _tunnel: TunnelHandle,
}

/// What a test may change.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) http: HttpConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) h2c: bool,
}

impl Public {
    pub(crate) async fn of(local: SocketAddr) -> Self {
        Self::with(local, Settings::default()).await
    }

    pub(crate) async fn speaking_http2(local: SocketAddr) -> Self {
        Self::with(local, Settings { h2c: true, ..Settings::default() }).await
    }

    pub(crate) async fn with(local: SocketAddr, settings: Settings) -> Self {
        let token = Token::new("token-for-tests").unwrap();
        let server = ServerEngine::start(ServerConfig {
            bind: ANY_PORT.into(),
            transport: Transport::Plaintext,
            token: Some(token.clone()),
            principals: Vec::new(),
            domain: "localhost".into(),
            reserved_names: Vec::new(),
            only_tunnel_answers: false,
            http_port: Some(80),
            https_port: None,
            tcp_ip: ANY_PORT.ip(),
            limits: settings.limits,
            shards: Shards::inherit(),
            visitor_grace: Duration::ZERO,
            access: ferrotunnel_core::AccessConfig::default(),
            heartbeat: Duration::from_secs(5),
            software: "test".to_owned(),
        })
        .unwrap();
        let config = ClientConfig {
            servers: vec![server.addr().to_string()],
            server_mode: ServerMode::default(),
            transport: ClientTransport::Plaintext,
            token,
            software: "test".into(),
            retry: Retry::Never,
            connect_timeout: Duration::from_secs(5),
            handshake_deadline: PATIENCE,
            connections: Connections::default(),
            shards: Shards::inherit(),
        };
        let client = ClientEngine::start(config, broadcast::Sender::new(16)).unwrap();
        let options = settings.h2c.then(|| ("h2c".to_owned(), "true".to_owned()));
        let spec = TunnelSpec {
            kind: TunnelKind::Http,
            name: "app".into(),
            hosts: Vec::new(),
            port: 0,
            options: options.into_iter().collect(),
            proxy_protocol: None,
            target: Target::Addrs(vec![local]),
            health: None,
        };
        let (tunnel, _) = client.add(spec).await.unwrap();
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ingress =
            Arc::new(HttpIngress::new(server.routes(), Shards::inherit(), &settings.http));
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(ingress.serve(listener, stopped));
        Self { addr, stop, serving, server, client, _tunnel: tunnel }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let visitor = TcpStream::connect(self.addr).await.unwrap();
        visitor.set_nodelay(true).unwrap();
        visitor
    }

    /// Sends a request and reads until the server closes.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut visitor = self.connect().await;
        say(&mut visitor, request).await;
        rest(&mut visitor).await
    }

    /// The server takes nothing new, and all tunnels leave.
    pub(crate) async fn begin_shutdown(&self) {
        self.server.begin_shutdown().await;
    }

    /// The tunnel's client says goodbye, and goes when the last stream has ended.
    pub(crate) async fn shut_client_down(&self) {
        self.client.shutdown(PATIENCE).await;
    }

    /// Connections to the local service at present.
    pub(crate) fn streams(&self) -> usize {
        self.server.streams()
    }

    pub(crate) async fn until_streams(&self, count: usize) {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let reached = timeout(PATIENCE, async {
            while self.streams() != count {
                tick.tick().await;
            }
        });
        assert!(reached.await.is_ok(), "{} streams, not {count}", self.streams());
    }
}

/// A local service that runs a script for each connection, which it also numbers from 0.
pub(crate) async fn local<S, F>(script: S) -> SocketAddr
where
    S: Fn(usize, TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(script(number, socket));
        }
    });
    addr
}

/// A local service that answers each request with the head it got, number of the connection first.
pub(crate) async fn echo() -> SocketAddr {
    local(|number, mut socket| async move {
        while let Some(head) = hear_head(&mut socket).await {
            let body = format!("{number} {head}");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let sent = if body[2..].starts_with("HEAD") { head } else { head + &body };
            say(&mut socket, &sent).await;
        }
    })
    .await
}

/// An address that refuses connections.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind(ANY_PORT).await.unwrap().local_addr().unwrap()
}

pub(crate) fn get(path: &str) -> String {
    request(&format!("GET {path} HTTP/1.1"), "Connection: close\r\n")
}

/// A request to `app.localhost` without a body.
pub(crate) fn request(line: &str, headers: &str) -> String {
    format!("{line}\r\nHost: app.localhost\r\n{headers}\r\n")
}

pub(crate) async fn say(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}

/// The head of the next message; `None` when the peer has closed.
pub(crate) async fn hear_head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads until `end` has come.
pub(crate) async fn hear(socket: &mut TcpStream, end: &str) -> String {
    let mut heard = Vec::new();
    let heard_all = timeout(PATIENCE, async {
        while !heard.ends_with(end.as_bytes()) {
            heard.push(socket.read_u8().await.unwrap());
        }
    });
    let all = heard_all.await.is_ok();
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(all, "{end:?} did not come, only {heard:?}");
    heard
}

/// Reads until the peer closes.
pub(crate) async fn rest(socket: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let closed = timeout(PATIENCE, socket.read_to_end(&mut heard)).await;
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(closed.is_ok(), "the connection stays open after {heard:?}");
    heard
}

/// Status line and headers of a message, and what follows.
pub(crate) fn parts(message: &str) -> (&str, &str) {
    message.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {message:?}"))
}

/// Long enough for a machine that does something else at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
