//! Streams that go on over a direct carrier.
//!
//! Whether a visitor will move much cannot be told when it comes. So it begins on a stream of the carrier that all share,
//! where short exchanges cost least, and when it turns out to move much the server asks for a carrier of its own for it, in
//! the middle. Each direction goes over on its own, behind what has been said before: neither waits for the other, since a
//! peer may well not read the one before it has been heard out in the other. PROTOCOL.md has the wire.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use ferrotunnel_common::StreamId;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::bulk::Bulk;
use crate::direct::{self, Streams};
use crate::registry::Owner;
use crate::seat::Seat;
use crate::splice::{End, Room, SpliceError, splice_paced};
use crate::stream::Stream;

/// A direct carrier that a stream goes on over.
pub(crate) type Onward = Box<dyn End>;

/// A stream that may go on over a direct carrier, as one end of a splice.
pub(crate) struct Movable {
    /// `None` once it has [let go](Self::let_go).
    stream: Option<Stream>,
    onward: Option<Onward>,
    /// Where the carrier is to come from.
    awaited: Option<oneshot::Receiver<Onward>>,
    reads: Way,
    writes: Way,
}

/// Where a direction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Stream,
    Carrier,
    /// It ended on the stream.
    Ended,
}

impl Movable {
    pub(crate) fn new(stream: Stream) -> Self {
        stream.make_movable();
        Self::fixed(stream)
    }

    /// One that stays where it is.
    pub(crate) fn fixed(stream: Stream) -> Self {
        let (reads, writes) = (Way::Stream, Way::Stream);
        Self { stream: Some(stream), onward: None, awaited: None, reads, writes }
    }

    /// The stream, unless it has let go of it.
    pub(crate) fn into_stream(self) -> Option<Stream> {
        self.stream
    }

    /// Whether it may be moved: nothing has ended, and it has not been moved yet.
    fn may_move(&self) -> bool {
        (self.reads, self.writes) == (Way::Stream, Way::Stream)
    }

    /// From now on our direction goes over that carrier, and that of the peer as soon as it says so.
    fn move_to(&mut self, mut onward: Onward) {
        onward.settle();
        self.onward = Some(onward);
        if let (Way::Stream, Some(stream)) = (self.writes, &mut self.stream) {
            stream.finish_moved();
            self.writes = Way::Carrier;
        }
    }

    /// Whether the stream has nothing left to do.
    pub(crate) fn has_moved(&self) -> bool {
        let ways = [self.reads, self.writes];
        !ways.contains(&Way::Stream) && ways.contains(&Way::Carrier)
    }

    /// Whether something travels over the carrier.
    fn is_onward(&self) -> bool {
        [self.reads, self.writes].contains(&Way::Carrier)
    }

    /// Lets go of a stream that has nothing left to do. What comes back is its place among what is counted beyond its
    /// session, if it has one, for as long as the visit lasts.
    pub(crate) fn let_go(&mut self) -> Option<Seat> {
        self.stream.take()?.take_seat()
    }

    /// The peer's direction goes on over the carrier; so does ours then.
    fn poll_move_reads(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.onward.is_none() {
            if self.awaited.is_none() {
                self.awaited = self.stream.as_ref().and_then(Stream::take_onward);
            }
            let Some(awaited) = &mut self.awaited else {
                let error = "it goes on over a carrier that nobody has seen";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            };
            let Ok(onward) = ready!(Pin::new(awaited).poll(cx)) else {
                let error = "the carrier that it goes on over broke";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)));
            };
            self.awaited = None;
            self.move_to(onward);
        }
        self.reads = Way::Carrier;
        Poll::Ready(Ok(()))
    }

    /// Where `way` leads.
    fn end(&mut self, way: Way) -> io::Result<&mut dyn End> {
        let end: Option<&mut dyn End> = match way {
            Way::Carrier => self.onward.as_mut().map(|it| it.as_mut() as &mut dyn End),
            Way::Stream | Way::Ended => self.stream.as_mut().map(|it| it as &mut dyn End),
        };
        end.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl End for Movable {
    fn keeps_words(&self) -> bool {
        !self.is_onward()
    }

    fn breaks_unheard(&self) -> bool {
        true
    }

    fn may_settle(&self) -> bool {
        self.stream.is_none() && self.onward.as_ref().is_some_and(|onward| onward.may_settle())
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        loop {
            match self.reads {
                Way::Ended => return Poll::Ready(Ok(false)),
                Way::Stream => {
                    let more = ready!(self.end(Way::Stream)?.poll_read(cx, room, chunks))?;
                    if more {
                        return Poll::Ready(Ok(true));
                    }
                    if !self.stream.as_ref().is_some_and(Stream::goes_on_elsewhere) {
                        self.reads = Way::Ended;
                        return Poll::Ready(Ok(false));
                    }
                    ready!(self.poll_move_reads(cx))?;
                }
                Way::Carrier => return self.end(Way::Carrier)?.poll_read(cx, room, chunks),
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Room>> {
        self.end(self.writes)?.poll_room(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        self.end(self.writes)?.poll_write(cx, chunks)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A stream keeps nothing back, and may be gone.
        if self.writes == Way::Ended {
            return Poll::Ready(Ok(()));
        }
        self.end(self.writes)?.poll_flush(cx)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.end(self.writes)?.poll_finish(cx))?;
        if self.writes == Way::Stream {
            self.writes = Way::Ended;
        }
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, bytes: usize) {
        // A direction is read on only when nothing of it is left: these bytes are from where it is.
        if let Ok(end) = self.end(self.reads) {
            end.release(bytes);
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        // Until then the two directions may go different ways.
        self.onward.as_ref().filter(|_| self.stream.is_none())?.tcp()
    }

    fn beneath(&self) -> Option<&TcpStream> {
        self.onward.as_ref()?.beneath()
    }

    fn take_break(&self) -> Option<io::Error> {
        let stays = [self.reads, self.writes].contains(&Way::Stream);
        let of_stream = self.stream.as_ref().filter(|_| stays).and_then(|it| it.take_break());
        of_stream.or_else(|| self.onward.as_ref()?.take_break())
    }

    fn settle(&mut self) {
        if let Some(onward) = &mut self.onward {
            onward.settle();
        }
    }

    fn complete(&mut self) {
        if let Some(onward) = &mut self.onward {
            onward.complete();
        }
    }

    fn abort(&mut self) {
        if let Some(stream) = &mut self.stream {
            End::abort(stream);
        }
        if let Some(onward) = &mut self.onward {
            onward.abort();
        }
    }
}

/// Copies between a stream and somebody else until both ends have finished, and goes along when the server moves it, if it
/// [may](Movable::new).
///
/// # Errors
/// As of [`splice`](crate::splice::splice).
pub(crate) async fn splice_movable<B: End + 'static>(
    mut stream: Stream,
    movable: impl FnOnce(Stream) -> Movable,
    other: B,
    bulk: &Bulk,
) -> Result<(), SpliceError> {
    let counted = stream.take_counted();
    let mut splice = splice_paced(movable(stream), other, [None, None], counted);
    if let Some(ended) = splice.copy_until(|splice| splice.a().has_moved()).await {
        return ended.map(drop);
    }
    let _seat = splice.a_mut().let_go();
    // It takes more room than most streams ever need.
    Box::pin(splice.run(bulk)).await.map(drop)
}

/// Gives a stream that turns out to be bulk a direct carrier.
pub(crate) struct Mover {
    owner: Arc<Owner>,
    streams: Streams,
    rush: Rush,
}

impl Mover {
    /// For a stream of that session; `streams` is how the visitors of its tunnel travel.
    pub(crate) fn new(owner: &Arc<Owner>, streams: Streams) -> Self {
        Self { owner: Arc::clone(owner), streams, rush: Rush::default() }
    }

    /// A carrier for that stream, if there is one or, where the client is near, will be in a moment.
    fn ask(&self, stream: StreamId) -> impl Future<Output = Option<Onward>> + Send + use<> {
        let (pool, is_near) = (Arc::clone(&self.owner.direct), self.owner.is_near());
        let streams = self.streams;
        async move { pool.onward(stream, streams, is_near).await }
    }

    /// Copies between a visitor and a stream until both have finished, and moves the stream once there is much to move.
    ///
    /// # Errors
    /// As of [`splice`](crate::splice::splice), or the visitor was cut off.
    pub(crate) async fn splice<A: End + 'static>(
        mut self,
        visitor: A,
        mut stream: Stream,
    ) -> io::Result<()> {
        let (id, counted) = (stream.id(), stream.take_counted());
        let mut splice = splice_paced(visitor, Movable::new(stream), [None, None], counted);
        let mut asking: Option<Pin<Box<dyn Future<Output = Option<Onward>> + Send>>> = None;
        let ended = std::future::poll_fn(|cx| {
            loop {
                if let Some(asked) = &mut asking
                    && let Poll::Ready(onward) = asked.as_mut().poll(cx)
                {
                    asking = None;
                    match onward {
                        Some(onward) if splice.b().may_move() => {
                            splice.b_mut().move_to(onward);
                            return Poll::Ready(None);
                        }
                        _ => self.rush.rest(),
                    }
                }
                if let Poll::Ready(ended) = Pin::new(&mut splice).poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                let is_bulk = self.rush.is_bulk(splice.moved());
                if !is_bulk || asking.is_some() || !splice.b().may_move() {
                    return Poll::Pending;
                }
                asking = Some(Box::pin(self.ask(id)));
            }
        });
        if let Some(ended) = ended.await {
            return ended.map(drop).map_err(io::Error::other);
        }
        // The carrier belongs to the session's pool for as long as it serves; the session may end before.
        let pool = Arc::clone(&self.owner.direct);
        drop(self);
        // It takes more room than most streams ever need.
        Box::pin(direct::attend_moving(pool, splice)).await
    }
}

/// Whether a visitor moves much in one go, which tells bulk from a lively exchange of short messages: the pieces that it moves
/// at each of its turns are large.
#[derive(Debug, Default)]
struct Rush {
    /// What had moved when the look began, and at the last turn.
    since: u64,
    last: u64,
    turns: u32,
    /// How much has to have moved until the next look begins.
    rests_until: u64,
}

impl Rush {
    /// To be asked at each turn.
    fn is_bulk(&mut self, moved: u64) -> bool {
        if moved == self.last {
            return false;
        }
        self.last = moved;
        if moved < self.rests_until {
            self.since = moved;
            return false;
        }
        self.turns += 1;
        let bytes = moved - self.since;
        if bytes < MUCH {
            return false;
        }
        let is_bulk = bytes >= u64::from(self.turns) * LARGE;
        (self.since, self.turns) = (moved, 0);
        is_bulk
    }

    /// There was no carrier: it asks for none for a while.
    fn rest(&mut self) {
        self.rests_until = self.last + REST;
    }
}

/// Bytes, both ways together, after which it may be bulk. What a carrier of its own saves for each MiB of it is about a fifth
/// of what dialling one costs both ends.
const MUCH: u64 = (2 << 20) / SCALE[0];

/// Bytes at each turn, on the average. Programs that copy by small buffers move as little as that between busy neighbours; an exchange
/// of messages has turns of either side, and one of 10 KiB each and their headers stays below.
const LARGE: u64 = (12 << 10) / SCALE[0];

/// Bytes that move until it is looked at again after there was no carrier.
const REST: u64 = (64 << 20) / SCALE[1];

/// In tests all of that is so much less, 4 KiB and 24 bytes and again 4 KiB: visitors of the simulation have some KiB to say, since
/// thousands of them are played, and are to move all the same.
const SCALE: [u64; 2] = if cfg!(test) { [512, 16_384] } else { [1, 1] };

#[cfg(test)]
mod tests;
