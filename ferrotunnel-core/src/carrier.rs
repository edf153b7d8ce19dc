//! The byte transport between client and server.

use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::splice::{End, Io, SocketEnd};

/// What the driver needs beyond reading and writing: to know that a read would find something
/// before it borrows a buffer for it.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready when a read may find something. `exhausted` tells that the last read found nothing.
    fn poll_readable(&self, cx: &mut Context<'_>, exhausted: bool) -> Poll<io::Result<()>>;

    /// The socket that the bytes travel over.
    fn socket(&self) -> Option<&TcpStream>;

    /// One end of a splice, for a carrier that serves a single visitor.
    fn into_end(self) -> impl End;
}

impl Carrier for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>, _exhausted: bool) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn into_end(self) -> impl End {
        SocketEnd::aborting(self)
    }
}

impl Carrier for TlsStream<TcpStream> {
    /// The TLS library may hold decrypted bytes that the socket knows nothing of, until a read
    /// has found none.
    fn poll_readable(&self, cx: &mut Context<'_>, exhausted: bool) -> Poll<io::Result<()>> {
        if exhausted { self.get_ref().0.poll_read_ready(cx) } else { Poll::Ready(Ok(())) }
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0)
    }

    /// What ends without TLS's own goodbye was cut off, so dropping it is enough to abort it.
    fn into_end(self) -> impl End {
        Io::new(self)
    }
}

#[cfg(test)]
impl Carrier for tokio::io::DuplexStream {
    fn poll_readable(&self, _cx: &mut Context<'_>, _exhausted: bool) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn into_end(self) -> impl End {
        Io::new(self)
    }
}
