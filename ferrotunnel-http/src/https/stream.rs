//! A visitor's connection over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use ferrotunnel_core::splice::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What is served like any other socket.
///
/// Boxed: a connection of rustls' has more than a KiB, and the futures that serve it have room for it several times.
#[derive(Debug)]
pub(crate) struct TlsVisitor(pub(super) Box<TlsStream<TcpStream>>);

impl TlsVisitor {
    fn socket(&self) -> &TcpStream {
        self.0.get_ref().0
    }
}

impl Socket for TlsVisitor {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What has been read and not been asked for is there whatever the socket says.
        if self.0.get_ref().1.wants_read() {
            return self.socket().poll_read_ready(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    fn take_break(&self) -> Option<io::Error> {
        Socket::take_break(self.socket())
    }

    fn close_in_peace(&self) {
        Socket::close_in_peace(self.socket());
    }

    fn abort_on_close(&self) {
        Socket::abort_on_close(self.socket());
    }
}

impl AsyncRead for TlsVisitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsVisitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}
