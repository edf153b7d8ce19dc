//! What a splice needs of a pipe.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::TcpStream;

/// Bytes that a sink takes now.
pub type Room = usize;

/// One end of a splice: a pipe that reads and writes whole chunks.
///
/// Sealed by its use: implemented for sockets, for TLS over them, for tunnel streams and, through
/// [`Io`](super::Io), for anything that is `AsyncRead + AsyncWrite`.
pub trait End: Unpin + Send {
    /// Whether a break takes back nothing that was said before it: what was written here arrives
    /// before an abort, and what is read here after a break, an end included, was meant.
    ///
    /// Sockets are not like that. RST throws away what still waits to be sent, and a socket whose
    /// error a write has taken reads like one that has ended. An end that changes what it is made of may change this.
    fn keeps_words(&self) -> bool {
        false
    }

    /// Whether it may break while it is not read, and nobody is told: only [`take_break`](Self::take_break) knows then.
    fn breaks_unheard(&self) -> bool {
        false
    }

    /// Whether [`settle`](Self::settle) takes it along to another thread.
    fn may_settle(&self) -> bool {
        false
    }

    /// Appends what there is, at most `room` bytes where that can be kept. `false`: the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>>;

    /// Waits until a write takes something, and tells about how much.
    fn poll_room(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<Room>> {
        Poll::Ready(Ok(Room::MAX))
    }

    /// Writes from the front of `chunks`, drops what was written and tells how much it was.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>>;

    /// Pushes out what was written.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the writing direction.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes that were read from here have been written to the other end.
    fn release(&mut self, _bytes: usize) {}

    /// The socket itself, where nothing stands between it and the bytes.
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    /// The socket that is beneath, whatever stands between it and the bytes.
    fn beneath(&self) -> Option<&TcpStream> {
        self.tcp()
    }

    /// Why it broke, if it has, though what it said before has not been read yet. Costs a system call or a lock. A socket's
    /// next read does not tell any more.
    fn take_break(&self) -> Option<io::Error> {
        None
    }

    /// From now on it is the calling thread that is told when something happens. Where that cannot be had it stays as it
    /// was, which is slower.
    ///
    /// Whoever waits for it has to ask again.
    fn settle(&mut self) {}

    /// Both directions have ended well: to drop it is no abort any more.
    fn complete(&mut self) {}

    /// Something broke: the peer must not take what it has for the whole. Where nothing else can be
    /// done, dropping the pipe without an end to its direction has to say it.
    fn abort(&mut self) {}
}
