//! Closes a visitor's connection so that what was cut off does not look whole.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use ferrotunnel_core::splice::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{detect::Prefixed, visitor::Visitor};

/// An HTTP/1 connection that ends with RST, not FIN, when it is dropped before its write side was
/// shut down. The body of an answer to HTTP/1.0, and whatever follows an upgrade, has no other end
/// than that of its connection (RFC 9112, section 6.3). HTTP/2 needs none of this: its frames tell.
///
/// A visitor that sent no request in time is let go with FIN ([`Visitor::timed_out`]): RST would
/// throw away what the kernel has yet to send of earlier answers.
pub(crate) struct CutUnlessShut<T: Socket> {
    io: Prefixed<T>,
    visitor: Arc<Visitor>,
    shut: bool,
}

impl<T: Socket> CutUnlessShut<T> {
    pub(crate) fn new(io: Prefixed<T>, visitor: Arc<Visitor>) -> Self {
        Self { io, visitor, shut: false }
    }
}

impl<T: Socket> Drop for CutUnlessShut<T> {
    fn drop(&mut self) {
        if !self.shut && !self.visitor.timed_out.load(Ordering::Relaxed) {
            self.io.connection().abort_on_close();
        }
    }
}

impl<T: Socket> AsyncRead for CutUnlessShut<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: Socket> AsyncWrite for CutUnlessShut<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}
