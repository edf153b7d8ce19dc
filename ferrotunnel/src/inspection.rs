//! How an inspector repeats requests: from the client on as a visitor's stream goes, and from the server on as a visitor's
//! request does.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferrotunnel_core::client::{Pipe, Reacher};
use ferrotunnel_core::{Routes, Sharing, Tunnel, TunnelUid};
use ferrotunnel_http::routed_host;
use ferrotunnel_inspector::{Reach, Reached};

/// To the local services of a client.
#[derive(Debug)]
pub(crate) struct OverClient(pub(crate) Reacher);

impl Reach for OverClient {
    fn reach(&self, number: u64, _host: &str, _path: &str, is_http2: bool) -> Reached {
        let reacher = self.0.clone();
        Box::pin(async move { reacher.reach(number, is_http2).await })
    }
}

/// Through the tunnels of a server.
pub(crate) struct OverServer(pub(crate) Arc<dyn Routes>);

impl fmt::Debug for OverServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OverServer")
    }
}

impl Reach for OverServer {
    fn reach(&self, number: u64, host: &str, path: &str, _is_http2: bool) -> Reached {
        // A client that came back has the same host under another number.
        let tunnel = self.0.tunnel(TunnelUid(number));
        let tunnel = tunnel.or_else(|| self.0.http(routed_host(host)?, without_query(path)).ok());
        Box::pin(async move { tunnel.and_then(|tunnel| open(&tunnel)).ok_or_else(gone)? })
    }
}

fn open(tunnel: &Arc<Tunnel>) -> Option<io::Result<Box<dyn Pipe>>> {
    let servant = tunnel.choose()?;
    let stream = tunnel.open_at(servant.session(), NOBODY, NOBODY, None, Sharing::Alone);
    Some(match stream {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(io::Error::other(error)),
    })
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no client has this tunnel")
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// A replay has no visitor.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_looked_for_without_its_query() {
        assert_eq!((without_query("/a?b?c"), without_query("/a")), ("/a", "/a"));
    }
}
