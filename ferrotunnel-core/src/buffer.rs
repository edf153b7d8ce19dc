//! How much to read at once, and what was read.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

/// Read size that follows the traffic: a reader that fills its buffer gets a larger one, one that
/// leaves most of it empty gets a smaller one. So does one to whom few bytes are much work. Nothing
/// is held between reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize {
    /// What is borrowed for a read.
    size: usize,
    /// What a read brings at most.
    most: usize,
}

impl Default for ReadSize {
    fn default() -> Self {
        Self { size: LEAST_READ, most: MOST_READ }
    }
}

impl ReadSize {
    fn learn(&mut self, offered: usize, read: usize) {
        if read == offered && offered >= self.size {
            self.size = (self.size * 4).min(self.most);
        } else if read < self.size / 8 {
            self.size = (self.size / 2).max(LEAST_READ);
        }
    }

    /// So many bytes of what was read could be dealt with in one go, and whether others are left.
    pub(crate) fn learn_work(&mut self, done: usize, is_too_much: bool) {
        if is_too_much {
            self.most = done.clamp(LEAST_READ, MOST_READ);
            self.size = self.size.min(self.most);
        } else {
            self.most = (self.most * 2).min(MOST_READ);
        }
    }

    /// Reads once, at most `limit` bytes, into a buffer of its own that joins `chunks`. `false`: the
    /// end.
    ///
    /// To be called when `io` is ready: the buffer is made before the read.
    pub(crate) fn poll_read_chunk<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
        limit: usize,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        let offered = self.size.min(limit);
        let mut buffer = BytesMut::with_capacity(offered);
        let mut limited = bytes::BufMut::limit(&mut buffer, offered);
        let read = ready!(poll_read_buf(Pin::new(io), cx, &mut limited))?;
        self.learn(offered, read);
        if read == 0 {
            return Poll::Ready(Ok(false));
        }
        chunks.push(if read < offered / 2 { unpinned(buffer) } else { buffer.freeze() });
        Poll::Ready(Ok(true))
    }

    /// Reads once, behind what is in `buffer`. 0: the end.
    ///
    /// To be called when `io` is ready: room is made before the read.
    pub(crate) fn poll_read_more<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let spare = buffer.capacity() - buffer.len();
        if spare < self.size / 2 || spare < LEAST_SPARE {
            buffer.reserve(self.size);
        }
        // There may be more room than a read is to fill.
        let offered = (buffer.capacity() - buffer.len()).min(self.most);
        let mut limited = bytes::BufMut::limit(buffer, offered);
        let read = ready!(poll_read_buf(Pin::new(io), cx, &mut limited))?;
        self.learn(offered, read);
        Poll::Ready(Ok(read))
    }
}

/// What was read from a carrier and is not decoded yet: the bytes in turn, and pieces that join them
/// one after the other, without a copy where nothing was left over.
#[derive(Debug, Default)]
pub(crate) struct Input {
    bytes: BytesMut,
    behind: VecDeque<BytesMut>,
}

impl Input {
    pub(crate) fn new(bytes: BytesMut) -> Self {
        Self { bytes, behind: VecDeque::new() }
    }

    /// The bytes in turn.
    pub(crate) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Adds a piece.
    pub(crate) fn push(&mut self, piece: BytesMut) {
        self.behind.push_back(piece);
    }

    /// Lets the next piece join the bytes in turn. `false`: there is none.
    pub(crate) fn join_next(&mut self) -> bool {
        let Some(piece) = self.behind.pop_front() else { return false };
        if self.bytes.is_empty() {
            self.bytes = piece;
        } else {
            self.bytes.extend_from_slice(&piece);
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.behind.iter().map(BytesMut::len).sum::<usize>()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.behind.clear();
    }

    /// Gives the memory back, if nothing is left.
    pub(crate) fn release(&mut self) {
        if self.bytes.is_empty() && self.behind.is_empty() {
            *self = Self::default();
        }
    }
}

/// A few bytes must not keep a large buffer alive while they wait for a slow reader.
pub(crate) fn unpinned(piece: BytesMut) -> Bytes {
    if piece.len() <= COPY_BELOW { Bytes::copy_from_slice(&piece) } else { piece.freeze() }
}

/// Writes once from the front of `chunks`, drops what was written and tells how much it was.
pub(crate) fn poll_write_chunks<W: AsyncWrite + Unpin>(
    io: &mut W,
    cx: &mut Context<'_>,
    chunks: &mut Vec<Bytes>,
) -> Poll<io::Result<usize>> {
    if chunks.is_empty() {
        return Poll::Ready(Ok(0));
    }
    let mut slices = [IoSlice::new(&[]); CHUNKS_AT_ONCE];
    let mut used = 0;
    for (slot, chunk) in slices.iter_mut().zip(chunks.iter()) {
        *slot = IoSlice::new(chunk);
        used += 1;
    }
    let slices = slices.get(..used).unwrap_or_default();
    let count = ready!(Pin::new(io).poll_write_vectored(cx, slices))?;
    if count == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    advance(chunks, count);
    Poll::Ready(Ok(count))
}

/// Drops the first `written` bytes of `chunks`.
fn advance(chunks: &mut Vec<Bytes>, mut written: usize) {
    let mut whole = 0;
    for chunk in chunks.iter_mut() {
        if chunk.len() > written {
            chunk.advance(written);
            break;
        }
        written -= chunk.len();
        whole += 1;
    }
    chunks.drain(..whole);
}

/// Chunks that one end of a splice hands out, and the other takes with one vectored write: sixteen
/// full records of TLS are as much as one read of a socket brings.
pub(crate) const CHUNKS_AT_ONCE: usize = 16;

/// A quiet connection borrows this much per read: a request or a few frames.
const LEAST_READ: usize = 4 << 10;

/// A busy one borrows this much: four maximal frames. Beyond it a read outgrows the second-level
/// cache and gets slower.
const MOST_READ: usize = 4 * 65_535;

/// Below this much free space a buffer is not worth a read.
const LEAST_SPARE: usize = 1 << 10;

/// Below this, copying costs less than what a pinned buffer may.
const COPY_BELOW: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_size_follows_the_traffic() {
        let mut size = ReadSize::default();
        for _ in 0..5 {
            size.learn(size.size, size.size);
        }
        assert_eq!(size.size, MOST_READ);
        for _ in 0..10 {
            size.learn(size.size, 100);
        }
        assert_eq!(size.size, LEAST_READ);
    }

    #[test]
    fn a_read_brings_no_more_work_than_it_is_to_bring() {
        let mut size = ReadSize { size: MOST_READ, most: MOST_READ };
        size.learn_work(10_000, true);
        assert_eq!((size.size, size.most), (10_000, 10_000));
        size.learn(10_000, 10_000);
        assert_eq!(size.size, 10_000);
        size.learn_work(1, true);
        assert_eq!((size.size, size.most), (LEAST_READ, LEAST_READ), "never less");
        for _ in 0..10 {
            size.learn_work(size.size, false);
            size.learn(size.size, size.size);
        }
        assert_eq!((size.size, size.most), (MOST_READ, MOST_READ), "bulk again");
    }

    #[test]
    fn pieces_join_what_was_left_over() {
        let mut input = Input::new(BytesMut::from("ab"));
        input.push(BytesMut::from("cd"));
        input.push(BytesMut::from("ef"));
        assert!(input.join_next());
        assert_eq!(input.bytes(), "abcd");
        input.bytes().clear();
        assert!(input.join_next());
        assert_eq!(input.bytes(), "ef");
        assert!(!input.join_next());
    }

    #[test]
    fn advancing_drops_whole_chunks_and_cuts_the_next() {
        let mut chunks = vec![Bytes::from_static(b"abc"), Bytes::from_static(b"defg")];
        advance(&mut chunks, 5);
        assert_eq!(chunks, [Bytes::from_static(b"fg")]);
        advance(&mut chunks, 2);
        assert!(chunks.is_empty());
    }
}
