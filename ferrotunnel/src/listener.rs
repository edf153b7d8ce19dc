//! A tunnel that this process serves itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use ferrotunnel_core::Stream;
use ferrotunnel_core::client::{Registration, TunnelHandle, Visit};
use tokio::sync::mpsc;

/// Accepts the visitors of one tunnel as streams; no local port is involved. axum serves it
/// directly. The tunnel is taken away when the listener is dropped.
#[derive(Debug)]
pub struct TunnelListener {
    info: Registration,
    visits: mpsc::Receiver<Visit>,
    _handle: TunnelHandle,
}

impl TunnelListener {
    pub(crate) fn new(
        info: Registration,
        handle: TunnelHandle,
        visits: mpsc::Receiver<Visit>,
    ) -> Self {
        Self { info, visits, _handle: handle }
    }

    /// The tunnel, with its public URL.
    pub fn info(&self) -> &Registration {
        &self.info
    }

    /// The next visitor, with the address it came from. Visitors of HTTP tunnels share pooled
    /// connections, so for them the address is that of whoever opened it; `X-Forwarded-For` tells
    /// each request's own.
    ///
    /// # Errors
    /// The client has ended, or lost the tunnel to a newer one.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self.visits.recv().await {
            Some(visit) => Ok((visit.stream, visit.visitor.unwrap_or(UNKNOWN))),
            None => Err(io::Error::new(io::ErrorKind::NotConnected, "the tunnel is gone")),
        }
    }
}

impl axum::serve::Listener for TunnelListener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match Self::accept(self).await {
            Ok(visit) => visit,
            // axum's listeners cannot end: a client that has ended brings no more visitors.
            Err(_) => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        // There is no local socket.
        Ok(UNKNOWN)
    }
}

const UNKNOWN: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
