//! Sockets as ends of a splice.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::end::{End, Room};
use crate::buffer::{self, ReadSize};
use crate::socket;

/// A socket with its read size.
pub struct SocketEnd<T> {
    socket: T,
    read_size: ReadSize,
    /// Whatever becomes of this process: without a good end it is closed with RST.
    aborts_when_dropped: bool,
}

/// What sockets have beyond `AsyncRead` and `AsyncWrite`.
pub trait Socket: tokio::io::AsyncRead + AsyncWrite + Unpin + Send {
    /// See [`End::may_settle`].
    const SETTLES: bool = false;

    /// Ready when a read finds something; costs no system call.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Itself, where it is one.
    fn tcp(&self) -> Option<&TcpStream>;

    /// The error that it has ended by, if it has. Its next read or write does not meet that any more.
    fn take_break(&self) -> Option<io::Error>;

    /// See [`End::settle`].
    fn settle(&mut self) {}

    /// The next close is an orderly one again.
    fn close_in_peace(&self);

    /// The next close sends RST where the socket knows it.
    fn abort_on_close(&self);
}

impl Socket for TcpStream {
    const SETTLES: bool = cfg!(unix);

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn take_break(&self) -> Option<io::Error> {
        socket::take_break(self)
    }

    fn settle(&mut self) {
        socket::settle(self);
    }

    fn close_in_peace(&self) {
        socket::close_in_peace(self);
    }

    fn abort_on_close(&self) {
        socket::abort_on_close(self);
    }
}

#[cfg(unix)]
impl Socket for UnixStream {
    const SETTLES: bool = true;

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    fn take_break(&self) -> Option<io::Error> {
        self.take_error().unwrap_or_else(Some)
    }

    fn settle(&mut self) {
        socket::settle_unix(self);
    }

    fn close_in_peace(&self) {}

    fn abort_on_close(&self) {}
}

impl<T: Socket> SocketEnd<T> {
    /// Takes a connected socket.
    pub fn new(socket: T) -> Self {
        Self { socket, read_size: ReadSize::default(), aborts_when_dropped: false }
    }

    /// Takes a socket whose peer cannot tell a whole from a part but by how it ends: even when this
    /// process is killed it must not look whole.
    pub fn aborting(socket: T) -> Self {
        socket.abort_on_close();
        Self { aborts_when_dropped: true, ..Self::new(socket) }
    }

    /// The same, but where an abort cannot be taken back once both directions have ended well: there only what breaks while
    /// the process lives is no end.
    pub(crate) fn guarded(socket: T) -> Self {
        if cfg!(target_vendor = "apple") { Self::new(socket) } else { Self::aborting(socket) }
    }
}

impl<T: Socket> End for SocketEnd<T> {
    fn breaks_unheard(&self) -> bool {
        true
    }

    fn may_settle(&self) -> bool {
        T::SETTLES
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        ready!(self.socket.poll_readable(cx))?;
        self.read_size.poll_read_chunk(&mut self.socket, cx, room, chunks)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        buffer::poll_write_chunks(&mut self.socket, cx, chunks)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        socket::poll_shutdown(&mut self.socket, cx)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        self.socket.tcp()
    }

    fn take_break(&self) -> Option<io::Error> {
        self.socket.take_break()
    }

    fn settle(&mut self) {
        self.socket.settle();
    }

    fn complete(&mut self) {
        if self.aborts_when_dropped {
            self.socket.close_in_peace();
        }
    }

    fn abort(&mut self) {
        self.socket.abort_on_close();
    }
}
