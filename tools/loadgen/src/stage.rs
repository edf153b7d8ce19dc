//! What the load is put on.

use std::net::{Ipv4Addr, SocketAddr};

use ferrotunnel::{Client, Server, Tunnel, TunnelKind};
use tokio::net::lookup_host;

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

/// A server and a client of this process, each on a thread of its own.
#[derive(Clone, Debug)]
pub struct Tunnelled {
    /// What lies between them.
    pub carrier: Carrier,
    /// By what visitors find the tunnel.
    pub kind: TunnelKind,
    /// Whether the client speaks HTTP/2 with the origin of an HTTP tunnel.
    pub origin_http2: bool,
    /// Threads of the server's own; with 0 it has the one it was started on.
    pub server_threads: usize,
}

/// What lies between server and client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TLS 1.3 with a self-signed certificate, as by default.
    Tls,
    /// Bare TCP.
    Plaintext,
}

/// What was set up, until it is dropped.
#[derive(Debug)]
pub struct Stage {
    addr: SocketAddr,
    host: String,
    path: &'static str,
    // In this order: visitors' end first.
    _tunnel: Option<(OwnThread, OwnThread)>,
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
                _tunnel: None,
                origin: None,
            }),
            Place::Direct => {
                let origin = Origin::start(service, LOOPBACK)?;
                Ok(Self {
                    addr: origin.addr(),
                    host: origin.addr().to_string(),
                    path: "direct",
                    _tunnel: None,
                    origin: Some(origin),
                })
            }
            Place::Tunnel(settings) => {
                let origin = Origin::start(service, LOOPBACK)?;
                let (tunnel, addr, host) = settings.start(origin.addr())?;
                let path = match settings.carrier {
                    Carrier::Tls => "tunnel over TLS",
                    Carrier::Plaintext => "tunnel over plaintext",
                };
                Ok(Self { addr, host, path, _tunnel: Some(tunnel), origin: Some(origin) })
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

    /// What the origin has seen, if it is one of ours.
    pub fn counters(&self) -> Option<&Counters> {
        self.origin.as_ref().map(Origin::counters)
    }
}

impl Tunnelled {
    /// The threads, where visitors connect, and what they call it.
    fn start(
        &self,
        origin: SocketAddr,
    ) -> Result<((OwnThread, OwnThread), SocketAddr, String), Failure> {
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
            TunnelKind::Tcp | TunnelKind::Udp | TunnelKind::Tls => Tunnel::tcp(),
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

        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host.trim_end_matches('/').to_owned();
        let addr = match http_addr {
            Some(addr) => addr,
            None => host.parse().map_err(|_| Failure::Url(url))?,
        };
        // The client's thread ends first.
        Ok(((client_thread, server_thread), addr, host))
    }
}

async fn look_up(target: &str) -> Result<SocketAddr, Failure> {
    let found = lookup_host(target).await;
    let mut found = found.map_err(|error| Failure::LookUp(target.to_owned(), error))?;
    found.next().ok_or_else(|| Failure::NoAddress(target.to_owned()))
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Server and client live in this process and on loopback alone.
const TOKEN: &str = "the-load-tools-own-token";

/// The name of the HTTP tunnel.
const NAME: &str = "loadgen";
