//! An end of which a first piece was read already.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::end::{End, Room};

/// Gives what was read already, then goes on with the end.
#[derive(Debug)]
pub(crate) struct Prefixed<E> {
    prefix: Bytes,
    /// Of a prefix from elsewhere, what has not been handed on.
    unreleased: usize,
    end: E,
}

impl<E> Prefixed<E> {
    /// The prefix comes from elsewhere: the end is told nothing of it.
    pub(crate) fn new(prefix: Bytes, end: E) -> Self {
        Self { unreleased: prefix.len(), prefix, end }
    }

    /// The prefix was read from that end, which hears of it as of the rest once it has been handed on: all of a stream's
    /// credit may be in there.
    pub(crate) fn put_back(prefix: Bytes, end: E) -> Self {
        Self { unreleased: 0, prefix, end }
    }
}

impl<E: End> End for Prefixed<E> {
    fn keeps_words(&self) -> bool {
        self.end.keeps_words()
    }

    fn breaks_unheard(&self) -> bool {
        self.end.breaks_unheard()
    }

    fn may_settle(&self) -> bool {
        self.end.may_settle()
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        if self.prefix.is_empty() {
            return self.end.poll_read(cx, room, chunks);
        }
        chunks.push(std::mem::take(&mut self.prefix));
        Poll::Ready(Ok(true))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Room>> {
        self.end.poll_room(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        self.end.poll_write(cx, chunks)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.poll_finish(cx)
    }

    fn release(&mut self, bytes: usize) {
        let of_prefix = bytes.min(self.unreleased);
        self.unreleased -= of_prefix;
        self.end.release(bytes - of_prefix);
    }

    fn beneath(&self) -> Option<&TcpStream> {
        self.end.beneath()
    }

    fn take_break(&self) -> Option<io::Error> {
        self.end.take_break()
    }

    fn settle(&mut self) {
        self.end.settle();
    }

    fn complete(&mut self) {
        self.end.complete();
    }

    fn tcp(&self) -> Option<&TcpStream> {
        self.end.tcp().filter(|_| self.prefix.is_empty())
    }

    fn abort(&mut self) {
        self.end.abort();
    }
}
