//! Doors for the fuzzer to what strangers' bytes meet first. No other build has them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rustls::server::Acceptor;

use crate::proxy_protocol::{self, ProxyProtocol};
use crate::registry::names::check_public_host;
use crate::tls::MOST_FROM_STRANGER;
use crate::tls::hello::{self, Heard};

/// Whom a header of the PROXY protocol names, and how many bytes it has; `None`: it is no header.
pub fn receive_proxy_header(bytes: &[u8]) -> Option<(Option<(SocketAddr, SocketAddr)>, usize)> {
    let mut rest = bytes;
    let received = at_once(proxy_protocol::receive(&mut rest)).ok()?;
    Some((received, bytes.len() - rest.len()))
}

/// The header that a local service is sent.
pub fn proxy_header(version: ProxyProtocol, visitor: SocketAddr, ingress: SocketAddr) -> Vec<u8> {
    version.header(Some(visitor), Some(ingress)).unwrap_or_default()
}

/// What becomes of a connection's first words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstWords {
    /// More have to come.
    Unfinished,
    /// They are no TLS, or more than any hello has.
    Refused,
    /// It is a hello.
    Hello {
        /// A client of ours.
        is_carrier: bool,
        /// The host that is asked for.
        host: Option<String>,
    },
}

/// Hears first words piece by piece, as the ingress does.
pub fn hear_first_words<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> FirstWords {
    let (mut acceptor, mut heard) = (Acceptor::default(), 0);
    for piece in pieces {
        if heard == MOST_FROM_STRANGER {
            return FirstWords::Refused;
        }
        let piece = &piece[..piece.len().min(MOST_FROM_STRANGER - heard)];
        heard += piece.len();
        match hello::hear(&mut acceptor, piece) {
            Heard::Unfinished => {}
            Heard::Nonsense { .. } => return FirstWords::Refused,
            Heard::Whole(accepted) => {
                let (is_carrier, host) = (hello::is_carrier(&accepted), hello::host(&accepted));
                return FirstWords::Hello { is_carrier, host };
            }
        }
    }
    FirstWords::Unfinished
}

/// A public host as it is registered; `None`: it is none.
pub fn public_host(text: &str) -> Option<String> {
    check_public_host(text).ok()
}

/// The outcome of what waits for nobody.
fn at_once<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
