//! A server, and clients that know their way to it.

use std::net::SocketAddr;

use bytes::Bytes;
use ferrotunnel::{
    Client, ClientBuilder, ClientEvent, Plugin, RunningServer, Server, ServerBuilder, Streams,
    Tunnel, TunnelInfo,
};
use http_body_util::{Empty, Full};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use tokio::sync::broadcast::Receiver;

use crate::link::Link;
use crate::patience::{eventually, soon};
use crate::service::own_ip;
use crate::site::Site;
use crate::visitor::{self, Answer};

/// What lies between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TLS 1.3 with a self-signed certificate, as by default.
    Tls,
    /// Nothing.
    Plaintext,
}

/// The secret of all clients and servers here.
pub const TOKEN: &str = "correct-horse-battery-staple";

/// A running server on free ports of loopback.
#[derive(Debug)]
pub struct TestBed {
    /// The server.
    pub server: RunningServer,
    carrier: Carrier,
}

impl TestBed {
    /// A server with the defaults.
    pub async fn start(carrier: Carrier) -> Self {
        Self::with(carrier, |server| server).await
    }

    /// A server with other settings.
    pub async fn with(
        carrier: Carrier,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let server = change(Self::server(carrier)).build().unwrap();
        Self { server: server.spawn().await.unwrap(), carrier }
    }

    /// A server with the defaults on an [address of its own](own_ip), for tests in which a public
    /// port has to come back.
    pub async fn alone(carrier: Carrier) -> Self {
        let addr = SocketAddr::new(own_ip(), 0);
        Self::with(carrier, |server| server.bind(addr).http_bind(addr)).await
    }

    /// A server with the defaults on the ports of one that is gone, once they are free.
    pub async fn again(carrier: Carrier, tunnel: SocketAddr, http: SocketAddr) -> Self {
        let server = soon("the ports", async {
            loop {
                let server = Self::server(carrier).bind(tunnel).http_bind(http).build().unwrap();
                match server.spawn().await {
                    Ok(server) => return server,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        Self { server: server.await, carrier }
    }

    /// The settings of such a server.
    pub fn server(carrier: Carrier) -> ServerBuilder {
        let server = Server::builder().bind("127.0.0.1:0").http_bind("127.0.0.1:0").token(TOKEN);
        match carrier {
            Carrier::Tls => server,
            Carrier::Plaintext => server.plaintext(),
        }
    }

    /// A client that knows address, token and carrier, and nothing else.
    pub fn client(&self) -> ClientBuilder {
        self.client_of(self.server.tunnel_addr())
    }

    /// A client that reaches the server by way of a link.
    pub fn client_over(&self, link: &Link) -> ClientBuilder {
        self.client_of(link.addr())
    }

    fn client_of(&self, server: SocketAddr) -> ClientBuilder {
        client_of(server, self.carrier)
    }

    /// A client with one HTTP tunnel, ready for visitors.
    pub async fn http(&self, name: &str, local: SocketAddr) -> Client {
        let tunnel = Tunnel::http(name).local_addr(local.to_string());
        let client = self.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        client
    }

    /// A client with one TCP tunnel, and where visitors reach it.
    pub async fn tcp(&self, local: SocketAddr) -> (Client, SocketAddr) {
        tcp_of(self.client(), local).await
    }

    /// The same by way of a link.
    pub async fn tcp_over(&self, link: &Link, local: SocketAddr) -> (Client, SocketAddr) {
        tcp_of(self.client_over(link), local).await
    }

    /// A client with one TCP tunnel whose visitors get carriers of their own, when one waits already.
    pub async fn direct(&self, local: SocketAddr) -> (Client, SocketAddr) {
        let tunnel = Tunnel::tcp().local_addr(local.to_string()).streams(Streams::Direct);
        let client = self.client().tunnel(tunnel).build().unwrap();
        let info = client.start().await.unwrap();
        eventually("a direct carrier to wait", || self.server.direct().waiting > 0).await;
        (client, public_addr(&info.public_url))
    }

    /// Where visitors of HTTP tunnels connect.
    pub fn http_addr(&self) -> SocketAddr {
        self.server.http_addr().unwrap()
    }

    /// The host of the tunnel of that name, as a visitor writes it.
    pub fn host(&self, name: &str) -> String {
        format!("{name}.localhost:{}", self.http_addr().port())
    }

    /// Uploads to a local service that answers 413 `too much` before it has read them: each visitor
    /// gets that answer.
    pub async fn uploads_are_too_much(&self, name: &str) {
        for round in 0..20 {
            let body = Full::from(Site::pattern());
            let asking = Request::post("/").header(HOST, self.host(name)).body(body).unwrap();
            let answer = soon("an answer", visitor::send(self.http_addr(), asking)).await.unwrap();
            let answer = visitor::collect(answer).await;
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "round {round}: {answer:?}");
            assert_eq!(answer.body, "too much");
        }
    }

    /// A GET for a host with further headers, over a connection of its own.
    pub async fn ask(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut asking = Request::get(path).header(HOST, host);
        for (name, value) in headers {
            asking = asking.header(*name, *value);
        }
        let asking = asking.body(Empty::<Bytes>::new()).unwrap();
        let answer = soon("an answer", visitor::send(self.http_addr(), asking)).await.unwrap();
        visitor::collect(answer).await
    }

    /// One request over a connection of its own.
    pub async fn get(&self, name: &str, path: &str) -> Answer {
        visitor::get(self.http_addr(), &self.host(name), path).await
    }
}

async fn tcp_of(client: ClientBuilder, local: SocketAddr) -> (Client, SocketAddr) {
    // What is tested here is the one carrier that all share.
    let tunnel = Tunnel::tcp().local_addr(local.to_string()).streams(Streams::Multiplexed);
    let client = client.tunnel(tunnel).build().unwrap();
    let info = client.start().await.unwrap();
    (client, public_addr(&info.public_url))
}

/// A server with a plugin, for [`TestBed::with`].
pub fn with_plugin(plugin: impl Plugin) -> impl FnOnce(ServerBuilder) -> ServerBuilder {
    |server| server.plugin(plugin)
}

/// A client of any server here.
pub fn client_of(server: SocketAddr, carrier: Carrier) -> ClientBuilder {
    let client = Client::builder().server_addr(server.to_string()).token(TOKEN);
    match carrier {
        Carrier::Tls => client,
        Carrier::Plaintext => client.plaintext(),
    }
}

/// The address in `tcp://host:port`.
pub fn public_addr(url: &str) -> SocketAddr {
    url.strip_prefix("tcp://").unwrap().parse().unwrap()
}

/// The next tunnel that is ready.
pub async fn ready(events: &mut Receiver<ClientEvent>) -> TunnelInfo {
    loop {
        match soon("a tunnel", events.recv()).await.unwrap() {
            ClientEvent::TunnelReady(info) => return info,
            ClientEvent::Ended { reason } => unreachable!("the client ended: {reason:?}"),
            _ => {}
        }
    }
}
