//! A TLS connection as an end of a splice.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::stream::TlsStream;
use crate::buffer::{self, ReadSize};
use crate::splice::{End, Room};

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
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        let take = |piece: bytes::BytesMut| chunks.push(buffer::unpinned(piece));
        let (size, room) = (&mut self.read_size, room.max(1));
        let taken = ready!(self.stream.poll_pieces(cx, size, room, SLICES, take))?;
        Poll::Ready(Ok(taken > 0))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        if chunks.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = buffer::fill_slices(&mut slices, chunks.iter());
        let slices = slices.get(..used).unwrap_or_default();
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        buffer::advance(chunks, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Slices of one vectored write, and pieces of one read: what both ends of a splice do at a time.
const SLICES: usize = 16;
