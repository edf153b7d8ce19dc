//! The one place that copies both ways between two pipes until both ends finish.
//!
//! Each direction ends on its own (half-close). A direction reads only when the other end has room,
//! so a stalled one holds no bytes but those already on their way. When either pipe breaks, what it
//! had said before is handed on and both are aborted: what arrived must not look whole.

mod end;
mod io_end;
#[cfg_attr(not(target_os = "linux"), path = "splice/no_kernel.rs")]
mod kernel;
mod looks;
mod parting;
mod prefixed;
mod socket_end;
mod stream_end;

pub use end::{End, Room};
pub use io_end::Io;
pub use looks::Looks;
pub(crate) use prefixed::Prefixed;
pub use socket_end::{Socket, SocketEnd};

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use kernel::KernelPipe;
use parting::{Parted, Parting, Side};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::bulk::{Bulk, Copying, Load, Place, copy_with};
use crate::counters::Counted;
use crate::throttle::{AT_ONCE, Pacing, Way};

/// Bytes that a finished splice moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// From the first end to the second.
    pub a_to_b: u64,
    /// From the second end to the first.
    pub b_to_a: u64,
}

/// Why a splice ended before both ends had finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpliceError {
    /// The first end broke.
    #[error("first end: {0}")]
    A(io::Error),
    /// The second end broke.
    #[error("second end: {0}")]
    B(io::Error),
    /// No byte moved for the idle timeout.
    #[error("idle for too long")]
    Idle,
}

/// Copies both ways until both ends have finished. Any byte in either direction resets the idle
/// timeout; without one an idle pair stays for ever.
///
/// # Errors
/// One end broke, or both were idle for too long. Both are aborted then.
pub async fn splice<A: End, B: End>(
    a: A,
    b: B,
    idle_timeout: Option<Duration>,
) -> Result<Outcome, SpliceError> {
    Splice::new(a, b, idle_timeout, [None, None], None).await
}

/// The same without an idle timeout, and no faster than that from the first end to the second, and back. The first is the
/// visitor's, as it is counted.
///
/// # Errors
/// One end broke. Both are aborted then.
pub(crate) fn splice_paced<A: End, B: End>(
    a: A,
    b: B,
    pacing: [Option<Box<Pacing>>; 2],
    counted: Option<Counted>,
) -> Splice<A, B> {
    Splice::new(a, b, None, pacing, counted)
}

/// A splice under way.
#[must_use]
pub(crate) struct Splice<A: End, B: End> {
    a: A,
    b: B,
    a_to_b: Direction,
    b_to_a: Direction,
    idle: Option<Box<Idle>>,
    /// One end broke.
    parting: Option<Box<Parting>>,
    counted: Option<Counted>,
    finished: bool,
    place: Place,
    load: Load,
}

impl<A: End, B: End> Splice<A, B> {
    fn new(
        a: A,
        b: B,
        idle_timeout: Option<Duration>,
        [forth, back]: [Option<Box<Pacing>>; 2],
        counted: Option<Counted>,
    ) -> Self {
        Self {
            a,
            b,
            a_to_b: Direction { pacing: forth, ..Direction::default() },
            b_to_a: Direction { pacing: back, ..Direction::default() },
            idle: idle_timeout.map(Idle::new),
            parting: None,
            counted,
            finished: false,
            place: Place::Fixed,
            load: Load::default(),
        }
    }

    /// Where it may go on while it moves much.
    pub(crate) fn beside(mut self, bulk: &Bulk) -> Self {
        if self.a.may_settle() && self.b.may_settle() && self.idle.is_none() {
            self.place = bulk.first_place();
        }
        self
    }

    fn is_misplaced(&mut self) -> bool {
        let moved = self.moved();
        self.parting.is_none() && self.load.is_misplaced(self.place, moved, Instant::now)
    }

    /// Copies until both ends have finished. `None`: it `is_enough` behind a turn before that.
    pub(crate) fn copy_until(
        &mut self,
        mut is_enough: impl FnMut(&mut Self) -> bool + Send,
    ) -> impl Future<Output = Option<Result<Outcome, SpliceError>>> + Send {
        std::future::poll_fn(move |cx| match Pin::new(&mut *self).poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if is_enough(self) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }

    /// Both ways together.
    pub(crate) fn moved(&self) -> u64 {
        self.a_to_b.moved + self.b_to_a.moved
    }

    /// The first end.
    pub(crate) fn a(&self) -> &A {
        &self.a
    }

    pub(crate) fn a_mut(&mut self) -> &mut A {
        &mut self.a
    }

    /// The second end.
    pub(crate) fn b(&self) -> &B {
        &self.b
    }

    pub(crate) fn b_mut(&mut self) -> &mut B {
        &mut self.b
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, SpliceError>> {
        if self.parting.is_some() {
            return self.poll_parting(cx);
        }
        let before = (self.a_to_b.moved, self.b_to_a.moved);
        let forth = self.a_to_b.poll_copy(cx, &mut self.a, &mut self.b);
        if let Poll::Ready(Err(fault)) = forth {
            let side = if fault.is_of_source() { Side::A } else { Side::B };
            return self.part(cx, side, fault, before);
        }
        let back = self.b_to_a.poll_copy(cx, &mut self.b, &mut self.a);
        if let Poll::Ready(Err(fault)) = back {
            let side = if fault.is_of_source() { Side::B } else { Side::A };
            return self.part(cx, side, fault, before);
        }
        // Who has ended is not read any more, and may wait for a peer that says nothing.
        let (side, unread) = match (forth, back) {
            (Poll::Ready(_), Poll::Ready(_)) => {
                let (a_to_b, b_to_a) = (self.a_to_b.moved, self.b_to_a.moved);
                return Poll::Ready(Ok(Outcome { a_to_b, b_to_a }));
            }
            (Poll::Ready(_), Poll::Pending) => (Side::A, self.a_to_b.poll_unread(cx, &self.a)),
            (Poll::Pending, Poll::Ready(_)) => (Side::B, self.b_to_a.poll_unread(cx, &self.b)),
            (Poll::Pending, Poll::Pending) => (Side::A, Poll::Pending),
        };
        if let Poll::Ready(Err(fault)) = unread {
            return self.part(cx, side, fault, before);
        }
        let moved = before != (self.a_to_b.moved, self.b_to_a.moved);
        if let Some(idle) = &mut self.idle
            && idle.poll_expired(cx, moved)
        {
            return Poll::Ready(Err(SpliceError::Idle));
        }
        Poll::Pending
    }
}

impl<A: End + 'static, B: End + 'static> Splice<A, B> {
    /// Copies until both ends have finished; on a thread for bulk, while it keeps this one busy.
    ///
    /// # Errors
    /// As of [`splice`].
    pub(crate) fn run(
        self,
        bulk: &Bulk,
    ) -> impl Future<Output = Result<Outcome, SpliceError>> + Send + use<A, B> {
        copy_with(self.beside(bulk), bulk.clone())
    }
}

impl<A: End + 'static, B: End + 'static> Copying for Splice<A, B> {
    type Outcome = Result<Outcome, SpliceError>;

    fn copy(&mut self) -> impl Future<Output = Option<Self::Outcome>> + Send {
        self.copy_until(Self::is_misplaced)
    }

    fn settle(&mut self, place: Place) {
        self.place = place;
        if place == Place::Fixed {
            return;
        }
        self.load.restart(self.moved());
        self.a.settle();
        self.b.settle();
        // Timers are of the runtime that they were made on. One that has an idle timeout never moves.
        for direction in [&mut self.a_to_b, &mut self.b_to_a] {
            direction.looks.settle();
            if let Some(pacing) = &mut direction.pacing {
                pacing.settle();
            }
        }
    }

    fn cut_off() -> Self::Outcome {
        Err(SpliceError::A(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off")))
    }
}

impl<A: End, B: End> Splice<A, B> {
    /// An end broke. `before`: what each had said before this turn.
    fn part(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
        fault: Fault,
        before: (u64, u64),
    ) -> Poll<Result<Outcome, SpliceError>> {
        // Nobody reads that any more, and the end that it comes from may need the room to go on.
        match side {
            Side::A => self.b.release(self.b_to_a.discard()),
            Side::B => self.a.release(self.a_to_b.discard()),
        }
        let parting = match side {
            Side::A => {
                let words = (&mut self.a_to_b, before.0);
                Parting::new(side, fault, self.a.keeps_words(), words, &mut self.b_to_a)
            }
            Side::B => {
                let words = (&mut self.b_to_a, before.1);
                Parting::new(side, fault, self.b.keeps_words(), words, &mut self.a_to_b)
            }
        };
        self.parting = Some(Box::new(parting));
        self.poll_parting(cx)
    }

    fn finish(&mut self) {
        self.finished = true;
        self.a.complete();
        self.b.complete();
    }

    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, SpliceError>> {
        let Some(mut parting) = self.parting.take() else { return Poll::Pending };
        let parted = match parting.side {
            Side::A => parting.poll(cx, &mut self.a_to_b, &mut self.a, &mut self.b),
            Side::B => parting.poll(cx, &mut self.b_to_a, &mut self.b, &mut self.a),
        };
        let Poll::Ready(parted) = parted else {
            self.parting = Some(parting);
            return Poll::Pending;
        };
        if let Parted::Orderly = parted {
            self.finish();
        }
        Poll::Ready(Err(parting.error))
    }
}

impl<A: End, B: End> Future for Splice<A, B> {
    type Output = Result<Outcome, SpliceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = (self.a_to_b.moved, self.b_to_a.moved);
        let result = self.poll_both(cx);
        if let Some(counted) = &self.counted {
            counted.moved(Way::In, self.a_to_b.moved - before.0);
            counted.moved(Way::Out, self.b_to_a.moved - before.1);
        }
        let result = ready!(result);
        if result.is_ok() {
            self.finish();
        }
        Poll::Ready(result)
    }
}

impl<A: End, B: End> Drop for Splice<A, B> {
    /// Broken, idle or cut off by a shutdown: what arrived must not look whole.
    fn drop(&mut self) {
        if !self.finished {
            self.a.abort();
            self.b.abort();
        }
    }
}

/// One direction of a splice.
#[derive(Default)]
struct Direction {
    chunks: Vec<Bytes>,
    /// Once this is a bulk transfer from socket to socket.
    kernel: Kernel,
    moved: u64,
    /// When bytes last moved to a sink that an abort would take them from.
    moved_at: Option<Instant>,
    /// Whether it is to be no faster than something.
    pacing: Option<Box<Pacing>>,
    /// At its source, while that is not read.
    looks: Looks,
    state: Flow,
}

/// Whether the kernel moves the bytes.
#[derive(Default)]
enum Kernel {
    /// Not yet: a short exchange is not worth two descriptors.
    #[default]
    Untried,
    /// It cannot, or there were no descriptors left for it.
    Unable,
    Moves(Box<KernelPipe>),
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Copying,
    /// The source has finished; what is left goes out, then the sink is finished.
    Finishing,
    Finished,
    /// The source broke, but may have said something before. Its end is not taken for one.
    LastWords,
    /// Nothing passes any more, and the sink is not told that this was all.
    Stopped,
}

/// Which end of a direction broke.
enum Fault {
    Source(io::Error),
    /// While its sink took nothing; it may have said something before.
    UnreadSource(io::Error),
    Sink(io::Error),
}

impl Fault {
    fn is_of_source(&self) -> bool {
        matches!(self, Self::Source(_) | Self::UnreadSource(_))
    }
}

impl Direction {
    fn poll_copy<S: End, D: End>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
    ) -> Poll<Result<(), Fault>> {
        for _ in 0..CHUNKS_PER_POLL {
            if self.is_empty() {
                match self.state {
                    Flow::Finished | Flow::Stopped => return Poll::Ready(Ok(())),
                    Flow::Finishing => {
                        ready!(sink.poll_finish(cx)).map_err(Fault::Sink)?;
                        self.state = Flow::Finished;
                        return Poll::Ready(Ok(()));
                    }
                    Flow::Copying | Flow::LastWords => ready!(self.poll_fill(cx, source, sink))?,
                }
            }
            while !self.is_empty() {
                let Poll::Ready(drained) = self.poll_drain(cx, sink) else {
                    return self.poll_unread(cx, source);
                };
                let count = drained.map_err(Fault::Sink)?;
                source.release(count);
                self.moved += count as u64;
                if let Some(pacing) = &self.pacing {
                    pacing.charge(count);
                }
            }
            if !sink.keeps_words() {
                self.moved_at = Some(Instant::now());
            }
        }
        crate::yielding::behind_new_events(cx);
        Poll::Pending
    }

    fn poll_fill<S: End, D: End>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        sink: &mut D,
    ) -> Poll<Result<(), Fault>> {
        let (mut is_held_back, mut most) = (false, Room::MAX);
        if let Some(pacing) = &mut self.pacing {
            is_held_back = pacing.poll_ready(cx).is_pending();
            most = AT_ONCE;
        }
        let read = match self.kernel(source, sink) {
            _ if is_held_back => Poll::Pending,
            Some((kernel, source)) => kernel.poll_fill(cx, source),
            None => {
                let Poll::Ready(room) = sink.poll_room(cx) else {
                    return self.poll_unread(cx, source);
                };
                let room = room.map_err(Fault::Sink)?.min(most);
                source.poll_read(cx, room, &mut self.chunks)
            }
        };
        match read {
            Poll::Ready(Ok(true)) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(false)) => {
                self.state = match self.state {
                    Flow::LastWords => Flow::Stopped,
                    _ => Flow::Finishing,
                };
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(Fault::Source(error))),
            Poll::Pending => {
                // The source is quiet: push out what the sink may still hold back.
                if let Poll::Ready(Err(error)) = sink.poll_flush(cx) {
                    return Poll::Ready(Err(Fault::Sink(error)));
                }
                Poll::Pending
            }
        }
    }
}

impl Direction {
    /// The sink takes nothing, or has had all, so the source is not read, and would not be heard to break.
    fn poll_unread<S: End>(&mut self, cx: &mut Context<'_>, source: &S) -> Poll<Result<(), Fault>> {
        if !source.breaks_unheard() {
            return Poll::Pending;
        }
        self.looks.poll(cx, || source.take_break()).map(|error| Err(Fault::UnreadSource(error)))
    }

    /// Nothing lies between the ends.
    fn is_empty(&self) -> bool {
        let is_kernel_empty = match &self.kernel {
            Kernel::Moves(pipe) => pipe.is_empty(),
            _ => true,
        };
        self.chunks.is_empty() && is_kernel_empty
    }

    /// Drops what lies between the ends, and says how much of it has not been released.
    fn discard(&mut self) -> usize {
        self.kernel = Kernel::Unable;
        self.chunks.drain(..).map(|chunk| chunk.len()).sum()
    }

    fn poll_drain<D: End>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut D,
    ) -> Poll<io::Result<usize>> {
        match (&mut self.kernel, sink.tcp()) {
            (Kernel::Moves(pipe), Some(sink)) if !pipe.is_empty() => pipe.poll_drain(cx, sink),
            _ => sink.poll_write(cx, &mut self.chunks),
        }
    }

    /// The pipe in the kernel and the socket to fill it from, if this is work for it.
    fn kernel<'a, S: End, D: End>(
        &'a mut self,
        source: &'a S,
        sink: &D,
    ) -> Option<(&'a mut KernelPipe, &'a TcpStream)> {
        if self.moved < BULK {
            return None;
        }
        let source = source.tcp().filter(|_| sink.tcp().is_some())?;
        if let Kernel::Untried = self.kernel {
            self.kernel = match KernelPipe::new() {
                Ok(pipe) => Kernel::Moves(Box::new(pipe)),
                Err(_) => Kernel::Unable,
            };
        }
        match &mut self.kernel {
            Kernel::Moves(pipe) => Some((pipe, source)),
            _ => None,
        }
    }
}

/// Ends a pair on which nothing moves. The timer is moved only when it fires.
struct Idle {
    limit: Duration,
    last_moved: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(limit: Duration) -> Box<Self> {
        let timer = Box::pin(tokio::time::sleep(limit));
        Box::new(Self { limit, last_moved: Instant::now(), timer })
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>, moved: bool) -> bool {
        if moved {
            self.last_moved = Instant::now();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = self.last_moved + self.limit;
            if until <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(until);
        }
        false
    }
}

/// Bytes after which one direction is a bulk transfer.
const BULK: u64 = 256 << 10;

/// Rounds of one direction before the other one, and other tasks of this thread, get their turn: a
/// quarter of a millisecond of bulk.
const CHUNKS_PER_POLL: usize = 2;

#[cfg(test)]
mod away_tests;
#[cfg(test)]
mod tests;
