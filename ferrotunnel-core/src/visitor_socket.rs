//! What a visitor of a public port comes over: a socket, or in the simulation a wire that stands for one.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[cfg(test)]
use crate::simulation::Wire;
use crate::splice::Socket;

#[derive(Debug)]
pub(crate) enum VisitorSocket {
    Tcp(TcpStream),
    #[cfg(test)]
    Simulated(Wire),
}

/// The same on the way to another thread.
#[derive(Debug)]
pub(crate) enum Detached {
    Tcp(std::net::TcpStream),
    #[cfg(test)]
    Simulated(Wire),
}

/// Does the same whatever it is.
macro_rules! of {
    ($this:expr, $socket:ident => $action:expr) => {
        match $this {
            Self::Tcp($socket) => $action,
            #[cfg(test)]
            Self::Simulated($socket) => $action,
        }
    };
}

impl VisitorSocket {
    /// Leaves the reactor of this thread.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(socket) => socket.into_std().map(Detached::Tcp),
            #[cfg(test)]
            Self::Simulated(wire) => Ok(Detached::Simulated(wire)),
        }
    }

    /// Waits until a read finds something.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }
}

impl Detached {
    /// Joins the reactor of the calling thread.
    pub(crate) fn attach(self) -> io::Result<VisitorSocket> {
        match self {
            Self::Tcp(socket) => TcpStream::from_std(socket).map(VisitorSocket::Tcp),
            #[cfg(test)]
            Self::Simulated(wire) => Ok(VisitorSocket::Simulated(wire)),
        }
    }
}

impl From<TcpStream> for VisitorSocket {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl Socket for VisitorSocket {
    const SETTLES: bool = TcpStream::SETTLES;

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of!(self, socket => socket.poll_readable(cx))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        of!(self, socket => socket.tcp())
    }

    fn take_break(&self) -> Option<io::Error> {
        of!(self, socket => socket.take_break())
    }

    fn settle(&mut self) {
        of!(self, socket => socket.settle());
    }

    fn close_in_peace(&self) {
        of!(self, socket => socket.close_in_peace());
    }

    fn abort_on_close(&self) {
        of!(self, socket => socket.abort_on_close());
    }
}

impl AsyncRead for VisitorSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for VisitorSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        of!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of!(self.get_mut(), socket => Pin::new(socket).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        of!(self, socket => socket.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
    }
}
