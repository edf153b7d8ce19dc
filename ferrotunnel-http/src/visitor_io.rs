//! A visitor's connection as hyper sees it: what was read ahead comes first, and what was cut off
//! does not look whole.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use ferrotunnel_core::splice::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::visitor::Visitor;

pub(crate) struct VisitorIo<T: Socket> {
    read_ahead: Bytes,
    io: T,
    /// Whose connection ends with RST, not FIN, if it is dropped as it is now.
    cut: Option<Arc<Visitor>>,
}

impl<T: Socket> VisitorIo<T> {
    /// A connection that ends with RST, not FIN, when it is dropped before its write side was
    /// shut down. The body of an answer to HTTP/1.0, and whatever follows an upgrade, has no other
    /// end than that of its connection (RFC 9112, section 6.3).
    ///
    /// A visitor that sent no request in time is let go with FIN ([`Visitor::timed_out`]): RST
    /// would throw away what the kernel has yet to send of earlier answers.
    pub(crate) fn http1(io: T, read_ahead: Bytes, visitor: Arc<Visitor>) -> Self {
        Self { read_ahead, io, cut: Some(visitor) }
    }

    /// A connection that just ends: frames have told what is whole.
    pub(crate) fn http2(io: T, read_ahead: Bytes) -> Self {
        Self { read_ahead, io, cut: None }
    }
}

impl<T: Socket> Drop for VisitorIo<T> {
    fn drop(&mut self) {
        if self.cut.as_ref().is_some_and(|visitor| !visitor.timed_out.load(Ordering::Relaxed)) {
            self.io.abort_on_close();
        }
    }
}

impl<T: Socket> AsyncRead for VisitorIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(&self.read_ahead[..len]);
        self.read_ahead.advance(len);
        if self.read_ahead.is_empty() {
            // Frees the buffer for the rest of the connection's life.
            self.read_ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Socket> AsyncWrite for VisitorIo<T> {
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
        self.cut = None;
        Poll::Ready(Ok(()))
    }
}
