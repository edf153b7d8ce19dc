//! What the load is put on.

use std::net::{Ipv4Addr, SocketAddr};

use ferrotunnel::{Client, Server, Streams, Tunnel, TunnelKind};
use tokio::net::lookup_host;

use crate::binary::{Binary, PATIENCE, ServerSettings};
use crate::cost::Processes;
use crate::failure::Failure;
use crate::origin::{Counters, Origin, Service};
use crate::own_thread::{self, OwnThread};

/// Where visitors go.
#[derive(Clone, Debug)]
pub enum Place {
    /// Something that runs already, as `host:port`.
    Target(String),
    /// An origin without a tunnel before it: what the machine itself takes.
    Direct,
    /// An origin behind a server and a client.
    Tunnel(Tunnelled),
}

/// A server and a client: of this process, each on a thread of its own, or of processes of theirs.
#[derive(Clone, Debug)]
pub struct Tunnelled {
    /// What lies between them.
    pub carrier: Carrier,
    /// By what visitors find the tunnel.
    pub kind: TunnelKind,
    /// How the visitors of a TCP tunnel travel.
    pub visitors: Streams,
    /// Whether the client speaks HTTP/2 with the origin of an HTTP tunnel.
    pub origin_http2: bool,
    /// Threads of the server's own; with 0 it has the one it was started on.
    pub server_threads: usize,
    /// Of what server and client are processes of their own, if they are.
    pub binary: Option<Binary>,
}

/// What lies between server and client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TLS 1.3 with a self-signed certificate, as by default.
    Tls,
    /// Bare TCP.
    Plaintext,
}

/// A server and a client that run.
#[derive(Debug)]
enum Running {
    /// The client's thread is the first, and ends first.
    Threads {
        _client: OwnThread,
        _server: OwnThread,
    },
    Processes(Processes),
}

/// What was set up, until it is dropped.
#[derive(Debug)]
pub struct Stage {
    addr: SocketAddr,
    host: String,
    path: &'static str,
    // In this order: visitors' end first.
    tunnel: Option<Running>,
    origin: Option<Origin>,
}

impl Stage {
    /// Sets up a place with that service. Not to be called from a runtime.
    ///
    /// # Errors
    /// The target's name means nothing, or a part does not start.
    pub fn set(place: &Place, service: Service) -> Result<Self, Failure> {
        match place {
            Place::Target(target) => Ok(Self {
                addr: own_thread::single()?.block_on(look_up(target))?,
                host: target.clone(),
                path: "target",
                tunnel: None,
                origin: None,
            }),
            Place::Direct => {
                let origin = Origin::start(service, LOOPBACK)?;
                Ok(Self {
                    addr: origin.addr(),
                    host: origin.addr().to_string(),
                    path: "direct",
                    tunnel: None,
                    origin: Some(origin),
                })
            }
            Place::Tunnel(settings) => {
                let origin = Origin::start(service, LOOPBACK)?;
                let (tunnel, addr, host) = settings.start(origin.addr())?;
                let path = match (settings.carrier, &settings.binary) {
                    (Carrier::Tls, None) => "tunnel over TLS",
                    (Carrier::Plaintext, None) => "tunnel over plaintext",
                    (Carrier::Tls, Some(_)) => "tunnel over TLS between processes",
                    (Carrier::Plaintext, Some(_)) => "tunnel over plaintext between processes",
                };
                Ok(Self { addr, host, path, tunnel: Some(tunnel), origin: Some(origin) })
            }
        }
    }

    /// Where visitors connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What HTTP visitors call it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What lies between visitor and origin, for people.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Server and client, if they are processes of their own.
    pub fn processes(&self) -> Option<&Processes> {
        match &self.tunnel {
            Some(Running::Processes(processes)) => Some(processes),
            Some(Running::Threads { .. }) | None => None,
        }
    }

    /// What the origin has seen, if it is one of ours.
    pub fn counters(&self) -> Option<&Counters> {
        self.origin.as_ref().map(Origin::counters)
    }
}

impl Tunnelled {
    /// What runs, where visitors connect, and what they call it.
    fn start(&self, origin: SocketAddr) -> Result<(Running, SocketAddr, String), Failure> {
        let (running, http_addr, url) = match &self.binary {
            None => self.start_threads(origin)?,
            Some(binary) => self.start_processes(binary, origin)?,
        };
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host.trim_end_matches('/').to_owned();
        let addr = match http_addr {
            Some(addr) => addr,
            None => host.parse().map_err(|_| Failure::Url(url))?,
        };
        Ok((running, addr, host))
    }

    fn start_processes(
        &self,
        binary: &Binary,
        origin: SocketAddr,
    ) -> Result<(Running, Option<SocketAddr>, String), Failure> {
        let (server, tunnel_addr, http_addr) = binary.server(&ServerSettings {
            bind: LOOPBACK,
            http_bind: LOOPBACK,
            carrier: self.carrier,
            threads: self.server_threads,
            more: Vec::new(),
            patience: PATIENCE,
        })?;
        let origin = origin.to_string();
        // A tunnel without the option has them multiplexed.
        let visitors =
            self.visitors.to_option().map_or("multiplexed".to_owned(), |(_, value)| value);
        let (arguments, http_addr) = match self.kind {
            TunnelKind::Http if self.origin_http2 => {
                (vec!["http", &origin, "--name", NAME, "--http2"], Some(http_addr))
            }
            TunnelKind::Http => (vec!["http", &origin, "--name", NAME], Some(http_addr)),
            TunnelKind::Tcp | TunnelKind::Udp | TunnelKind::Tls => {
                (vec!["tcp", &origin, "--streams", &visitors], None)
            }
        };
        let (client, url) = binary.client(tunnel_addr, self.carrier, arguments)?;
        Ok((Running::Processes(Processes::new(server, client)), http_addr, url))
    }

    fn start_threads(
        &self,
        origin: SocketAddr,
    ) -> Result<(Running, Option<SocketAddr>, String), Failure> {
        let mut server = Server::builder().bind(LOOPBACK).token(TOKEN).threads(self.server_threads);
        server = match self.kind {
            TunnelKind::Http => server.http_bind(LOOPBACK),
            TunnelKind::Tcp | TunnelKind::Udp | TunnelKind::Tls => server.no_http(),
        };
        if self.carrier == Carrier::Plaintext {
            server = server.plaintext();
        }
        let server = server.build()?;
        let (server_thread, (tunnel_addr, http_addr)) =
            OwnThread::start("server", async move || {
                let running = server.spawn().await?;
                Ok(((running.tunnel_addr(), running.http_addr()), running))
            })?;

        let tunnel = match self.kind {
            TunnelKind::Http => Tunnel::http(NAME),
            TunnelKind::Tcp | TunnelKind::Udp | TunnelKind::Tls => {
                Tunnel::tcp().streams(self.visitors)
            }
        };
        let mut tunnel = tunnel.local_addr(origin.to_string());
        if self.origin_http2 {
            tunnel = tunnel.http2();
        }
        let mut client =
            Client::builder().server_addr(tunnel_addr.to_string()).token(TOKEN).tunnel(tunnel);
        if self.carrier == Carrier::Plaintext {
            client = client.plaintext();
        }
        let client = client.build()?;
        let (client_thread, url) = OwnThread::start("client", async move || {
            let info = client.start().await?;
            Ok((info.public_url, client))
        })?;

        let running = Running::Threads { _client: client_thread, _server: server_thread };
        Ok((running, http_addr, url))
    }
}

async fn look_up(target: &str) -> Result<SocketAddr, Failure> {
    let found = lookup_host(target).await;
    let mut found = found.map_err(|error| Failure::LookUp(target.to_owned(), error))?;
    found.next().ok_or_else(|| Failure::NoAddress(target.to_owned()))
}

pub(crate) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Server and client live on loopback alone, and no longer than this process.
pub(crate) const TOKEN: &str = "the-load-tools-own-token";

/// The name of the HTTP tunnel.
const NAME: &str = "loadgen";
