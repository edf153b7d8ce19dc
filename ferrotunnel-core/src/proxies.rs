//! Proxies in front of a server: whose word it takes for where a visitor comes from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::AsyncRead;
use tokio::time::timeout;

use crate::access::{Cidr, any_has};
use crate::proxy_protocol;

/// The addresses of proxies that a server believes. A cheap handle; all handles of one follow a change.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    networks: RwLock<Vec<Cidr>>,
    announce: bool,
}

impl TrustedProxies {
    /// Proxies in these networks; with `announce` their connections begin with a header of the PROXY protocol.
    pub fn new(networks: Vec<Cidr>, announce: bool) -> Self {
        Self(Arc::new(Inner { networks: RwLock::new(networks), announce }))
    }

    /// Proxies in these networks from now on. Whoever is inside is who it was taken for when it came.
    pub fn set(&self, networks: Vec<Cidr>) {
        *self.0.networks.write() = networks;
    }

    /// Whether their connections begin with a header of the PROXY protocol.
    pub fn announce(&self) -> bool {
        self.0.announce
    }

    /// Whether one of them has that address.
    pub fn has(&self, address: IpAddr) -> bool {
        any_has(&self.0.networks.read(), address)
    }

    /// Whether connections from there begin with a header of the PROXY protocol. Those of others must not: anybody
    /// could write one.
    pub fn announces(&self, address: IpAddr) -> bool {
        self.0.announce && self.has(address)
    }
}

/// Reads the header at the beginning of a proxy's connection, and nothing behind it: who connected to the proxy, and
/// where. For what a proxy asks by itself, to see whether we are there, that is `peer` and `ingress`.
///
/// # Errors
/// There is no header, or it is none, or it does not come in time.
pub async fn receive_announced(
    io: &mut (impl AsyncRead + Unpin),
    peer: SocketAddr,
    ingress: SocketAddr,
) -> io::Result<(SocketAddr, SocketAddr)> {
    let received = timeout(HEADER_WITHIN, proxy_protocol::receive(io)).await;
    Ok(received??.unwrap_or((peer, ingress)))
}

/// A proxy sends the header at once; a lost packet or two of it come again in time.
const HEADER_WITHIN: Duration = Duration::from_secs(5);
