//! Anything that reads and writes, as an end of a splice: upgraded HTTP connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::end::{End, Room};
use crate::buffer::ReadSize;

/// Wraps any `AsyncRead + AsyncWrite`.
#[derive(Debug)]
pub struct Io<T> {
    io: T,
    read_size: ReadSize,
}

impl<T> Io<T> {
    /// Takes the pipe.
    pub fn new(io: T) -> Self {
        Self { io, read_size: ReadSize::default() }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> End for Io<T> {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        self.read_size.poll_read_chunk(&mut self.io, cx, room, chunks)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let Some(chunk) = chunks.first_mut() else { return Poll::Ready(Ok(0)) };
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, chunk))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        chunk.advance(count);
        if chunk.is_empty() {
            chunks.remove(0);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
