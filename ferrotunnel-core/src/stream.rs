//! The handle on one stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::frame::ResetCode;
use ferrotunnel_protocol::{Read, Side, StreamError, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::clock;
use crate::counters::Counted;
use crate::moving::Onward;
use crate::registry::Health;
use crate::seat::Seat;
use crate::shared::Shared;
use crate::tap::{Tap, Tapped};
use crate::throttle::{AT_ONCE, Pacing, Way};

/// One multiplexed, flow-controlled byte pipe.
///
/// It reads and writes like a socket, or in whole chunks without copying. Shutting down the write
/// side ends that direction only. A stream that is dropped before both directions ended resets its
/// peer.
pub struct Stream {
    shared: Arc<Shared>,
    id: StreamId,
    /// Bytes handed out since the last call, which become credit with the next.
    to_release: usize,
    /// What `poll_read` has not copied out yet, last chunk first.
    unread: Vec<Bytes>,
    heard_out: bool,
    /// It was a direct carrier that the peer's direction goes on over.
    goes_on_elsewhere: bool,
    /// Its place among what is counted beyond its session; given back with it.
    seat: Option<Seat>,
    /// What holds back its two directions, to the peer and from it.
    pacing: [Option<Box<Pacing>>; 2],
    /// Who hears that the peer could not reach its local service.
    health: Option<Arc<Health>>,
    /// Whose bytes they are, and at which end of the session they are counted.
    counted: Option<(Counted, Side)>,
    /// Who sees what passes.
    tapped: Option<Box<Tapped>>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        let (unread, seat, health) = (Vec::new(), None, None);
        Self {
            shared,
            id,
            to_release: 0,
            unread,
            heard_out: false,
            goes_on_elsewhere: false,
            seat,
            pacing: [None, None],
            health,
            counted: None,
            tapped: None,
        }
    }

    /// The same with a place, one more if it has one, that it keeps for as long as it lives.
    pub(crate) fn seated(mut self, seat: Seat) -> Self {
        self.seat = Some(match self.seat.take() {
            None => seat,
            Some(first) => first.with(seat),
        });
        self
    }

    /// Gives its places back: it is of no more use.
    pub(crate) fn stand_up(&mut self) {
        self.seat = None;
    }

    /// The same, and it says when the peer could not reach its local service.
    pub(crate) fn telling(mut self, health: &Arc<Health>) -> Self {
        self.health = Some(Arc::clone(health));
        self
    }

    /// The same, and no faster than that in its directions: to the peer, and from it.
    pub(crate) fn paced(mut self, pacing: [Option<Box<Pacing>>; 2]) -> Self {
        self.pacing = pacing;
        self
    }

    /// Whether there may be a rate that its bytes keep to: one that is set later holds for it only then.
    pub fn is_paced(&self) -> bool {
        self.pacing.iter().any(Option::is_some)
    }

    /// The same, and its bytes are counted, at that end of the session.
    pub(crate) fn counted(mut self, counted: Counted, side: Side) -> Self {
        self.counted = Some((counted, side));
        self
    }

    /// The same, and somebody sees what passes. It has to be called before anything does.
    #[must_use]
    pub fn tapped(mut self, tap: Box<dyn Tap>) -> Self {
        let is_client = self.shared.lock(|inner| inner.machine.side() == Side::Client);
        self.tapped = Some(Tapped::new(tap, is_client));
        self
    }

    /// Who sees what passes.
    pub(crate) fn tap(&mut self) -> Option<&mut dyn Tap> {
        Some(self.tapped.as_mut()?.tap())
    }

    /// Its id within the session.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The next bytes, or `None` when the peer has finished.
    ///
    /// # Errors
    /// The stream was reset, and what had come before was read; or its session ended.
    pub async fn read_chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The same for whoever is polled. Ready at once for as long as there is something and no rate keeps it back.
    ///
    /// # Errors
    /// As [`read_chunk`](Self::read_chunk).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.unread.is_empty() && !ready!(self.poll_unread(cx))? {
            return Poll::Ready(Ok(None));
        }
        let chunk = self.unread.pop();
        self.to_release += chunk.as_ref().map_or(0, Bytes::len);
        Poll::Ready(Ok(chunk))
    }

    /// Ready when there is anything to hear: bytes, the end, or that the stream is broken. Nothing of it is lost, and a
    /// rate limit does not keep it back: what comes next is read at once, and paid for by what comes behind it.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.unread.is_empty() {
            return Poll::Ready(());
        }
        let mut chunks = std::mem::take(&mut self.unread);
        let read = self.poll_read_at_will(cx, &mut chunks, 1);
        if let [_, Some(pacing)] = &self.pacing {
            pacing.charge(chunks.iter().map(Bytes::len).sum());
        }
        self.unread = chunks;
        read.map(drop)
    }

    /// Takes some chunks from the session. `false`: the peer has finished.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        let mut chunks = std::mem::take(&mut self.unread);
        let read = self.poll_read_chunks(cx, &mut chunks, READ_CHUNKS);
        chunks.reverse();
        self.unread = chunks;
        read
    }

    /// Whether a read has met the end of the peer's direction, or the error that broke the stream.
    /// What had come before is read by then.
    pub fn is_heard_out(&self) -> bool {
        self.heard_out
    }

    /// Writes all of `chunk`, without copying it.
    ///
    /// # Errors
    /// The stream was reset, finished, or its session ended.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        let mut rest = Some(chunk);
        while let Some(chunk) = rest {
            std::future::poll_fn(|cx| self.poll_capacity(cx)).await?;
            rest = self.try_write(chunk)?;
        }
        Ok(())
    }

    /// The same for whoever is polled. What has been taken is no longer in `bytes`, and nothing is when it is ready; after an
    /// error what is missing may have been sent or not.
    ///
    /// # Errors
    /// As [`write_chunk`](Self::write_chunk).
    pub fn poll_write_bytes(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        while !bytes.is_empty() {
            // Most often there is room, and asking for it first would take the lock twice.
            if self.pacing[0].is_some() {
                ready!(self.poll_capacity(cx))?;
            }
            match self.try_write(std::mem::take(bytes))? {
                None => break,
                Some(rest) => *bytes = rest,
            }
            ready!(self.poll_capacity(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends this side's direction; the peer may go on.
    pub fn finish(&mut self) {
        if let Some(tapped) = &mut self.tapped {
            tapped.wrote_end();
        }
        self.shared.command(|inner| inner.machine.finish(self.id));
    }

    /// Both directions may go on over a direct carrier from now on.
    pub(crate) fn make_movable(&self) {
        self.shared.lock(|inner| inner.machine.make_movable(self.id));
    }

    /// Ends this side's direction here; it goes on over the direct carrier that has asked for the stream.
    pub(crate) fn finish_moved(&mut self) {
        self.shared.command(|inner| inner.machine.finish_moved(self.id));
    }

    /// Whether the end that a read has met is none: the peer's direction goes on over a direct carrier.
    pub(crate) fn goes_on_elsewhere(&self) -> bool {
        self.goes_on_elsewhere
    }

    /// Where the direct carrier comes from that has asked for it, if one has.
    pub(crate) fn take_onward(&self) -> Option<oneshot::Receiver<Onward>> {
        self.shared.lock(|inner| inner.onward.remove(&self.id))
    }

    /// Counts what passes.
    fn count(&self, is_read: bool, bytes: usize) {
        if let Some((counted, side)) = &self.counted {
            // What a server reads from a client goes to the visitor.
            let way = match (side, is_read) {
                (Side::Server, true) | (Side::Client, false) => Way::Out,
                (Side::Server, false) | (Side::Client, true) => Way::In,
            };
            counted.moved(way, bytes as u64);
        }
    }

    /// Whose bytes they are, for somebody else to count: it counts them no more.
    pub(crate) fn take_counted(&mut self) -> Option<Counted> {
        self.counted.take().map(|(counted, _)| counted)
    }

    /// Its places among what is counted beyond its session, for somebody else to keep.
    pub(crate) fn take_seat(&mut self) -> Option<Seat> {
        self.seat.take()
    }

    /// Aborts both directions and tells the peer why. What was written and has not left yet is
    /// dropped.
    pub fn reset(mut self, code: ResetCode, reason: &str) {
        if let Some(tap) = self.tap() {
            tap.broke(reason);
        }
        self.shared.command(|inner| inner.machine.reset(self.id, code, reason));
    }

    /// The same behind what was written, which still leaves.
    pub(crate) fn reset_after_data(&self, code: ResetCode, reason: &str) {
        self.shared.command(|inner| inner.machine.reset_after_data(self.id, code, reason));
    }

    /// Hands out up to `max` chunks. `true`: there are some; `false`: the peer has finished. They
    /// become credit when `release` says so.
    pub(crate) fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
        max: usize,
    ) -> Poll<Result<bool, StreamError>> {
        let [_, Some(pacing)] = &mut self.pacing else {
            return self.poll_read_at_will(cx, chunks, max);
        };
        if pacing.poll_ready(cx).is_pending() && !self.is_broken(cx.waker()) {
            return Poll::Pending;
        }
        let before: usize = chunks.iter().map(Bytes::len).sum();
        let read = self.poll_read_at_will(cx, chunks, 1);
        if let [_, Some(pacing)] = &self.pacing {
            pacing.charge(chunks.iter().map(Bytes::len).sum::<usize>() - before);
        }
        read
    }

    /// Why it is broken, if it is; what came before that may not have been read yet.
    pub(crate) fn broke(&self) -> Option<StreamError> {
        self.shared.lock(|inner| inner.machine.watch(self.id).err())
    }

    /// While it is held back: whether that is over because it is broken. If not, the task hears of it.
    fn is_broken(&self, waker: &Waker) -> bool {
        self.shared.lock(|inner| {
            let is_broken = inner.machine.watch(self.id).is_err();
            if !is_broken {
                inner.wait_to_read(self.id, waker);
            }
            is_broken
        })
    }

    fn poll_read_at_will(
        &mut self,
        cx: &Context<'_>,
        chunks: &mut Vec<Bytes>,
        max: usize,
    ) -> Poll<Result<bool, StreamError>> {
        if !self.unread.is_empty() {
            // Left over by a reader of bytes, the next one last.
            let count = max.min(self.unread.len());
            chunks.extend(self.unread.drain(self.unread.len() - count..).rev());
            return Poll::Ready(Ok(true));
        }
        let released = std::mem::take(&mut self.to_release);
        let had = chunks.len();
        let read = self.shared.command(|inner| {
            if released > 0 {
                inner.machine.release(self.id, released);
            }
            match inner.machine.read(self.id, chunks, max) {
                Ok(Read::Chunks) => Poll::Ready(Ok(true)),
                Ok(Read::Finished) => Poll::Ready(Ok(false)),
                Ok(Read::Moved) => {
                    self.goes_on_elsewhere = true;
                    Poll::Ready(Ok(false))
                }
                Ok(Read::Pending) => {
                    inner.wait_to_read(self.id, cx.waker());
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        });
        if let Poll::Ready(Ok(true)) = &read
            && self.counted.is_some()
        {
            self.count(true, chunks.iter().skip(had).map(Bytes::len).sum());
        }
        if let Some(tapped) = &mut self.tapped {
            match &read {
                Poll::Ready(Ok(true)) => chunks.iter().skip(had).for_each(|it| tapped.read(it)),
                Poll::Ready(Ok(false)) if !self.heard_out => tapped.read_end(),
                Poll::Ready(Err(error)) if !self.heard_out => {
                    tapped.tap().broke(&error.to_string());
                }
                _ => {}
            }
        }
        self.heard_out |= matches!(read, Poll::Ready(Ok(false) | Err(_)));
        if let (Poll::Ready(Err(StreamError::Reset { code, .. })), Some(health)) =
            (&read, &self.health)
            && *code == ResetCode::LocalUnreachable
        {
            health.failed(clock::now());
        }
        // Whoever has said something can be reached.
        if let Poll::Ready(Ok(true)) = &read
            && let Some(health) = self.health.take()
        {
            health.worked();
        }
        read
    }

    /// Bytes that were read are out of our hands: they become credit at the next read.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.to_release += bytes;
    }

    /// How many bytes a write takes now; waits until it is at least one.
    pub(crate) fn poll_capacity(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, WriteError>> {
        let [Some(pacing), _] = &mut self.pacing else { return self.poll_room(cx) };
        if pacing.poll_ready(cx).is_pending() && !self.is_broken(cx.waker()) {
            return Poll::Pending;
        }
        self.poll_room(cx).map_ok(|room| room.min(AT_ONCE))
    }

    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<Result<usize, WriteError>> {
        self.shared.lock(|inner| match inner.machine.capacity(self.id) {
            Ok(0) => {
                inner.wait_to_write(self.id, cx.waker());
                Poll::Pending
            }
            other => Poll::Ready(other),
        })
    }

    /// Queues what there is room for and returns the rest.
    pub(crate) fn try_write(&mut self, chunk: Bytes) -> Result<Option<Bytes>, WriteError> {
        let offered = chunk.len();
        let shown = self.tapped.as_ref().map(|_| chunk.clone());
        let rest = self.queue(chunk)?;
        let taken = offered - rest.as_ref().map_or(0, Bytes::len);
        if let (Some(tapped), Some(shown)) = (&mut self.tapped, &shown) {
            tapped.wrote(shown.get(..taken).unwrap_or_default());
        }
        Ok(rest)
    }

    /// The same, shown to nobody.
    fn queue(&mut self, chunk: Bytes) -> Result<Option<Bytes>, WriteError> {
        let offered = chunk.len();
        let rest = self.shared.command(|inner| inner.machine.write(self.id, chunk))?;
        let taken = offered - rest.as_ref().map_or(0, Bytes::len);
        if let [Some(pacing), _] = &self.pacing {
            pacing.charge(taken);
        }
        self.count(false, taken);
        Ok(rest)
    }

    /// Sends one datagram on a flow, or drops it when the carrier is behind; returns whether it
    /// was taken.
    ///
    /// # Errors
    /// The flow was reset, finished, or its session ended.
    pub fn send_datagram(&self, payload: Bytes) -> Result<bool, WriteError> {
        self.shared.command(|inner| inner.machine.send_datagram(self.id, payload))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.command(|inner| {
            inner.stop_waiting(self.id);
            inner.onward.remove(&self.id);
            inner.machine.forget(self.id);
        });
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.unread.is_empty() && !ready!(this.poll_unread(cx)).map_err(to_io)? {
            return Poll::Ready(Ok(()));
        }
        while buf.remaining() > 0
            && let Some(chunk) = this.unread.last_mut()
        {
            let count = chunk.len().min(buf.remaining());
            buf.put_slice(chunk.get(..count).unwrap_or_default());
            chunk.advance(count);
            this.to_release += count;
            if chunk.is_empty() {
                this.unread.pop();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The first bytes in there, so many.
fn show(tapped: &mut Tapped, bufs: &[IoSlice<'_>], mut taken: usize) {
    for buf in bufs {
        let shown = buf.get(..taken).unwrap_or(buf);
        if !shown.is_empty() {
            tapped.wrote(shown);
        }
        taken -= shown.len();
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        loop {
            let room = ready!(self.poll_capacity(cx)).map_err(write_to_io)?;
            let mut chunk = Vec::with_capacity(total.min(room));
            for buf in bufs {
                let count = buf.len().min(room - chunk.len());
                chunk.extend_from_slice(buf.get(..count).unwrap_or_default());
            }
            let offered = chunk.len();
            let rest = self.queue(chunk.into()).map_err(write_to_io)?;
            let taken = offered - rest.map_or(0, |rest| rest.len());
            // Others may have filled the session's queue since. Nothing taken would mean that nothing ever will be.
            if taken > 0 {
                // What was copied is shown where it came from: a share of the copy would cost more than the look.
                if let Some(tapped) = &mut self.tapped {
                    show(tapped, bufs, taken);
                }
                return Poll::Ready(Ok(taken));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver writes as soon as the carrier takes more; there is nothing to push.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

/// An `io::Error` that carries the [`StreamError`].
pub(crate) fn to_io(error: StreamError) -> io::Error {
    let kind = match error {
        StreamError::Reset { .. } => io::ErrorKind::ConnectionReset,
        _ => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}

pub(crate) fn write_to_io(error: WriteError) -> io::Error {
    match error {
        WriteError::Stream(error) => to_io(error),
        other => io::Error::new(io::ErrorKind::BrokenPipe, other),
    }
}

/// Chunks taken from the session at once, under one lock.
const READ_CHUNKS: usize = 8;
