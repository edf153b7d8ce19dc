//! A tunnel stream as an end of a splice.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use ferrotunnel_protocol::frame::ResetCode;

use super::end::{End, Room};
use crate::buffer::CHUNKS_AT_ONCE;
use crate::stream::{Stream, to_io, write_to_io};

impl End for Stream {
    fn keeps_words(&self) -> bool {
        true
    }

    fn breaks_unheard(&self) -> bool {
        true
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        self.poll_read_chunks(cx, chunks, CHUNKS_AT_ONCE).map_err(to_io)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Room>> {
        self.poll_capacity(cx).map_err(write_to_io)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        if chunks.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_capacity(cx)).map_err(write_to_io)?;
        let chunk = chunks.remove(0);
        let offered = chunk.len();
        let rest = self.try_write(chunk).map_err(write_to_io)?;
        let taken = offered - rest.as_ref().map_or(0, Bytes::len);
        if let Some(rest) = rest {
            chunks.insert(0, rest);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, bytes: usize) {
        Self::release(self, bytes);
    }

    fn take_break(&self) -> Option<io::Error> {
        self.broke().map(to_io)
    }

    fn abort(&mut self) {
        if let Some(tap) = self.tap() {
            tap.broke("the connection broke");
        }
        self.reset_after_data(ResetCode::LocalFailed, "");
    }
}
