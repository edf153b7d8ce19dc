//! The byte transport between client and server.

use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::buffer::{Input, ReadSize};
use crate::splice::{End, SocketEnd};

/// What the driver needs beyond writing: to know that a read would find something before it borrows
/// a buffer for it, and to have what was read without a copy.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Ready when a read may find something.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads once, about as much as `size` says, behind what is in `input`. 0: the end.
    ///
    /// To be called when it is readable.
    fn poll_read_input(
        &mut self,
        cx: &mut Context<'_>,
        size: &mut ReadSize,
        input: &mut Input,
    ) -> Poll<io::Result<usize>>;

    /// Whether bytes have come since the last call, or since the last that were read, that are not whole yet: a sign of
    /// life all the same.
    fn has_heard(&mut self) -> bool {
        false
    }

    /// The socket that the bytes travel over.
    fn socket(&self) -> Option<&TcpStream>;

    /// One end of a splice, for a carrier that serves a single visitor.
    fn into_end(self) -> impl End + 'static;
}

impl Carrier for TcpStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_read_input(
        &mut self,
        cx: &mut Context<'_>,
        size: &mut ReadSize,
        input: &mut Input,
    ) -> Poll<io::Result<usize>> {
        size.poll_read_more(self, cx, input.bytes())
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn into_end(self) -> impl End + 'static {
        SocketEnd::aborting(self)
    }
}

#[cfg(test)]
impl Carrier for tokio::io::DuplexStream {
    fn poll_readable(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read_input(
        &mut self,
        cx: &mut Context<'_>,
        size: &mut ReadSize,
        input: &mut Input,
    ) -> Poll<io::Result<usize>> {
        size.poll_read_more(self, cx, input.bytes())
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn into_end(self) -> impl End + 'static {
        crate::splice::Io::new(self)
    }
}
