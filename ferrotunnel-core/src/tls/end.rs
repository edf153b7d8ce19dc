//! A TLS connection as an end of a splice.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::stream::TlsStream;
use crate::buffer::{self, CHUNKS_AT_ONCE, ReadSize};
use crate::carrier::Carrier;
use crate::socket;
use crate::splice::{End, Room, Socket};

/// A stream with its read size. Data is handed out where it was opened.
pub(super) struct TlsEnd {
    stream: TlsStream,
    read_size: ReadSize,
}

impl TlsEnd {
    pub(super) fn new(stream: TlsStream) -> Self {
        Self { stream, read_size: ReadSize::default() }
    }
}

impl End for TlsEnd {
    fn breaks_unheard(&self) -> bool {
        true
    }

    fn may_settle(&self) -> bool {
        <TcpStream as Socket>::SETTLES
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        let take = |piece: bytes::BytesMut| chunks.push(buffer::unpinned(piece));
        let (size, room) = (&mut self.read_size, room.max(1));
        let taken = ready!(self.stream.poll_pieces(cx, size, room, CHUNKS_AT_ONCE, take))?;
        Poll::Ready(Ok(taken > 0))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        buffer::poll_write_chunks(&mut self.stream, cx, chunks)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn beneath(&self) -> Option<&TcpStream> {
        self.stream.socket()
    }

    fn take_break(&self) -> Option<io::Error> {
        socket::take_break(self.beneath()?)
    }

    fn settle(&mut self) {
        self.stream.settle();
    }
}
