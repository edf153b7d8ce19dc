//! How much to read at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Read size that follows the traffic: a reader that fills its buffer gets a larger one, one that
/// leaves most of it empty gets a smaller one. Nothing is held between reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize(usize);

impl Default for ReadSize {
    fn default() -> Self {
        Self(LEAST_READ)
    }
}

impl ReadSize {
    pub(crate) fn bytes(self) -> usize {
        self.0
    }

    pub(crate) fn learn(&mut self, offered: usize, read: usize) {
        if read == offered && offered >= self.0 {
            self.0 = (self.0 * 4).min(MOST_READ);
        } else if read < self.0 / 8 {
            self.0 = (self.0 / 2).max(LEAST_READ);
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
        let offered = self.0.min(limit);
        let mut buffer = BytesMut::with_capacity(offered);
        let mut limited = bytes::BufMut::limit(&mut buffer, offered);
        let read = std::task::ready!(poll_read_buf(Pin::new(io), cx, &mut limited))?;
        self.learn(offered, read);
        if read == 0 {
            return Poll::Ready(Ok(false));
        }
        // A few bytes must not keep a large buffer alive while they wait for a slow reader.
        chunks.push(if read <= COPY_BELOW && read < offered / 2 {
            Bytes::copy_from_slice(&buffer)
        } else {
            buffer.freeze()
        });
        Poll::Ready(Ok(true))
    }
}

/// Fills `slices` from `chunks`; returns how many are used.
pub(crate) fn fill_slices<'a>(
    slices: &mut [IoSlice<'a>],
    chunks: impl Iterator<Item = &'a Bytes>,
) -> usize {
    let mut used = 0;
    for (slot, chunk) in slices.iter_mut().zip(chunks) {
        *slot = IoSlice::new(chunk);
        used += 1;
    }
    used
}

/// Drops the first `written` bytes of `chunks`.
pub(crate) fn advance(chunks: &mut Vec<Bytes>, mut written: usize) {
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

/// A quiet connection borrows this much per read: a request or a few frames.
const LEAST_READ: usize = 4 << 10;

/// A busy one borrows this much: four maximal frames. Beyond it a read outgrows the second-level
/// cache and gets slower.
const MOST_READ: usize = 4 * 65_535;

/// Below this, copying costs less than what a pinned buffer may.
const COPY_BELOW: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_size_follows_the_traffic() {
        let mut size = ReadSize::default();
        for _ in 0..5 {
            size.learn(size.bytes(), size.bytes());
        }
        assert_eq!(size.bytes(), MOST_READ);
        for _ in 0..10 {
            size.learn(size.bytes(), 100);
        }
        assert_eq!(size.bytes(), LEAST_READ);
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
