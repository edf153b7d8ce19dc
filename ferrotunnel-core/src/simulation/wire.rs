//! One connection: bytes arrive in order and late, or not at all.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::ops::AddAssign;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::dice::Dice;
use crate::buffer::{Input, ReadSize};
use crate::carrier::Carrier;
use crate::splice::{End, Socket, SocketEnd};

/// Who sends in a direction, and which end a wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

impl Sender {
    pub(super) const BOTH: [Self; 2] = [Self::Client, Self::Server];

    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub(super) struct Link {
    ways: [Way; 2],
    dice: Dice,
    latency: Latency,
    /// Which ends are closed by a reset.
    aborts: [bool; 2],
    /// Which ends have been read for a visitor that has it to itself.
    read: [bool; 2],
}

/// What became of visitors with a carrier each, at the servers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    /// Those who had it from the beginning, and came to the end.
    pub(super) direct_whole: u64,
    /// The same, and they broke.
    pub(super) direct_broken: u64,
    /// Those whose streams went on over it, and that came to their end.
    pub(super) moved_whole: u64,
    /// The same, and they broke.
    pub(super) moved_broken: u64,
    /// The same, while one of their directions was still on the stream.
    pub(super) half_moved: u64,
}

impl Carried {
    /// Of what there was least.
    pub(super) fn least(self) -> u64 {
        let Self { direct_whole, direct_broken, moved_whole, moved_broken, half_moved } = self;
        [direct_whole, direct_broken, moved_whole, moved_broken, half_moved]
            .into_iter()
            .min()
            .unwrap()
    }
}

impl AddAssign for Carried {
    fn add_assign(&mut self, other: Self) {
        self.direct_whole += other.direct_whole;
        self.direct_broken += other.direct_broken;
        self.moved_whole += other.moved_whole;
        self.moved_broken += other.moved_broken;
        self.half_moved += other.half_moved;
    }
}

/// How long bytes travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) least: Duration,
    pub(super) jitter_ms: usize,
}

impl Latency {
    pub(super) fn of(self, dice: &mut Dice) -> Duration {
        self.least + dice.millis(self.jitter_ms)
    }
}

#[derive(Debug)]
struct Way {
    on_the_way: VecDeque<(Instant, Item)>,
    bytes: usize,
    /// What may be on the way: the buffers of both sockets and of what lies between.
    room: usize,
    /// Nothing gets through for now; it is sent again later.
    stalled: bool,
    /// Nothing will get through any more, and nobody says so.
    dead: bool,
    /// The sender says nothing more.
    ended: bool,
    /// Nobody listens any more.
    deaf: bool,
    /// When it died.
    died: Option<Instant>,
    /// Its reader has been told of the reset. As with sockets, it is told once: afterwards a read finds an end.
    told: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    End,
    Reset,
}

impl Way {
    fn new(room: usize, stalled: bool) -> Self {
        Self {
            on_the_way: VecDeque::new(),
            bytes: 0,
            room,
            stalled,
            dead: false,
            ended: false,
            deaf: false,
            died: None,
            told: false,
            reader: None,
            writer: None,
        }
    }

    fn push(&mut self, at: Instant, item: Item) {
        // In order: what was sent later arrives later.
        let at = self.on_the_way.back().map_or(at, |(last, _)| at.max(*last));
        self.on_the_way.push_back((at, item));
        self.wake();
    }

    fn wake(&mut self) {
        [self.reader.take(), self.writer.take()].into_iter().flatten().for_each(Waker::wake);
    }

    fn reset(&mut self, at: Instant) {
        self.on_the_way.clear();
        self.bytes = 0;
        self.ended = true;
        self.push(at, Item::Reset);
    }

    fn die(&mut self) {
        self.dead = true;
        self.died.get_or_insert_with(Instant::now);
        self.wake();
    }

    fn take_reset(&mut self) -> Option<io::Error> {
        let told = std::mem::replace(&mut self.told, true);
        (!told).then(|| io::ErrorKind::ConnectionReset.into())
    }

    fn is_reset(&self) -> bool {
        let arrived = |at: &Instant| *at <= Instant::now() && !self.stalled && !self.dead;
        matches!(self.on_the_way.front(), Some((at, Item::Reset)) if arrived(at))
    }
}

impl Link {
    fn way(&mut self, from: Sender) -> &mut Way {
        &mut self.ways[from as usize]
    }

    /// Nothing gets through in that direction until it is said otherwise.
    pub(super) fn set_stalled(&mut self, from: Sender, stalled: bool) {
        // What was lost meanwhile is sent again, and not at the same moment on each connection.
        let back = Instant::now() + self.latency.of(&mut self.dice) + self.dice.millis(1_000);
        let way = self.way(from);
        way.stalled = stalled;
        if !stalled {
            for (at, _) in &mut way.on_the_way {
                *at = back.max(*at);
            }
            way.wake();
        }
    }

    /// Somebody between has forgotten it, and says nothing.
    pub(super) fn forget(&mut self) {
        self.ways.iter_mut().for_each(Way::die);
    }

    /// Somebody between breaks it; who sends `from` there hears nothing of it.
    pub(super) fn cut(&mut self, half: Option<Sender>) {
        let at = Instant::now() + self.latency.of(&mut self.dice);
        for from in Sender::BOTH {
            if half == Some(from.other()) {
                self.way(from).die();
            } else {
                self.way(from).reset(at);
            }
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Arc<Mutex<Link>>,
    end: Sender,
    timer: Mutex<Pin<Box<Sleep>>>,
    /// The type of the frame that was sent last, and of that which is being sent, until it serves a visitor.
    frame: (u8, Option<u8>),
    /// Whether a single visitor has it.
    serves: bool,
    /// Where it is noted what becomes of that one.
    carried: Arc<Mutex<Carried>>,
}

/// A connection within one machine: the end of who comes from outside, which tells that this was not all when it is dropped
/// before it may be [closed in peace](Socket::close_in_peace), and that of who takes it.
pub(super) fn pipe(dice: Dice) -> (Wire, Wire) {
    let at_once = Latency { least: Duration::ZERO, jitter_ms: 0 };
    let (outside, inside, _) = wires(dice, at_once, [false; 2], &Arc::default());
    outside.abort_on_close();
    (outside, inside)
}

/// The client's end and the server's, and a handle on what is between.
pub(super) fn wires(
    mut dice: Dice,
    latency: Latency,
    stalled: [bool; 2],
    carried: &Arc<Mutex<Carried>>,
) -> (Wire, Wire, Weak<Mutex<Link>>) {
    let room = [1 << 12, 1 << 16, 1 << 18][dice.below(3)];
    let ways = stalled.map(|stalled| Way::new(room, stalled));
    let (aborts, read) = ([false; 2], [false; 2]);
    let link = Arc::new(Mutex::new(Link { ways, dice, latency, aborts, read }));
    let wire = |end| {
        let timer = Mutex::new(Box::pin(tokio::time::sleep(Duration::ZERO)));
        let (link, carried) = (Arc::clone(&link), Arc::clone(carried));
        Wire { link, end, timer, frame: (0, None), serves: false, carried }
    };
    (wire(Sender::Client), wire(Sender::Server), Arc::downgrade(&link))
}

impl Wire {
    /// Something has arrived, or nothing will any more.
    fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<()> {
        let at = {
            let mut link = self.link.lock();
            let given_up_at = self.given_up_at(&link);
            link.read[self.end as usize] |= self.serves;
            let way = link.way(self.end.other());
            way.reader = Some(cx.waker().clone());
            match way.on_the_way.front() {
                Some((at, _)) if !way.stalled && !way.dead => Some(*at),
                _ => given_up_at,
            }
        };
        self.poll_until(at, cx)
    }

    /// `None`: for ever.
    fn poll_until(&self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        let mut timer = self.timer.lock();
        timer.as_mut().reset(at);
        timer.as_mut().poll(cx)
    }

    /// When the system finds out that nobody answers any more. Sessions, and carriers that wait, find out by themselves.
    fn given_up_at(&self, link: &Link) -> Option<Instant> {
        let died = link.ways.iter().filter_map(|way| way.died).min();
        died.filter(|_| self.serves).map(|at| at + GIVEN_UP_AFTER)
    }

    fn is_given_up(&self, link: &Link) -> bool {
        self.given_up_at(link).is_some_and(|at| at <= Instant::now())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_arrived(cx));
        let mut link = self.link.lock();
        if self.is_given_up(&link) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let way = link.way(self.end.other());
        let (arrived, item) = way.on_the_way.front_mut().unwrap();
        let arrived = *arrived;
        match item {
            Item::Reset => Poll::Ready(way.take_reset().map_or(Ok(()), Err)),
            Item::End => Poll::Ready(Ok(())),
            Item::Bytes(bytes) => {
                let count = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes.split_to(count));
                let is_empty = !bytes.has_remaining();
                way.bytes -= count;
                if is_empty {
                    way.on_the_way.pop_front();
                }
                debug_assert!(arrived <= Instant::now());
                way.writer.take().into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut link = this.link.lock();
        if this.is_given_up(&link) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let given_up_at = this.given_up_at(&link);
        let incoming = link.way(this.end.other());
        if incoming.is_reset() {
            let error = incoming.take_reset();
            return Poll::Ready(Err(error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())));
        }
        let link = &mut *link;
        let at = Instant::now() + link.latency.of(&mut link.dice);
        let chop = link.dice.size(1 << 16);
        let way = link.way(this.end);
        if way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if way.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let count = buf.len().min(way.room - way.bytes).min(chop);
        if count == 0 {
            way.writer = Some(cx.waker().clone());
            ready!(this.poll_until(given_up_at, cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        this.frame.1 = this.frame.1.or(buf.first().copied());
        way.bytes += count;
        way.push(at, Item::Bytes(Bytes::copy_from_slice(&buf[..count])));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(frame) = self.frame.1.take() {
            self.frame.0 = frame;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut link = self.link.lock();
        let at = Instant::now();
        let way = link.way(self.end);
        if !std::mem::replace(&mut way.ended, true) {
            way.push(at, Item::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    /// As a system does it for a process that is gone: what was sent goes on, and the peer of one that
    /// has not read all is told that it was in vain.
    fn drop(&mut self) {
        let mut link = self.link.lock();
        let link = &mut *link;
        let at = Instant::now() + link.latency.of(&mut link.dice);
        let incoming = link.way(self.end.other());
        let in_vain = incoming.on_the_way.iter().any(|(_, item)| matches!(item, Item::Bytes(_)));
        incoming.deaf = true;
        incoming.on_the_way.clear();
        incoming.bytes = 0;
        incoming.wake();
        let aborts = link.aborts[self.end as usize];
        if self.serves && self.end == Sender::Server {
            let mut carried = self.carried.lock();
            let has_moved = self.frame.0 == MOVE;
            *match (has_moved, aborts) {
                (false, false) => &mut carried.direct_whole,
                (false, true) => &mut carried.direct_broken,
                (true, false) => &mut carried.moved_whole,
                (true, true) if link.read == [true; 2] => &mut carried.moved_broken,
                (true, true) => &mut carried.half_moved,
            } += 1;
        }
        let way = link.way(self.end);
        if in_vain || aborts {
            way.reset(at);
        } else if !std::mem::replace(&mut way.ended, true) {
            way.push(at, Item::End);
        }
    }
}

impl Carrier for Wire {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrived(cx).map(Ok)
    }

    fn poll_read_input(
        &mut self,
        cx: &mut Context<'_>,
        size: &mut ReadSize,
        input: &mut Input,
    ) -> Poll<io::Result<usize>> {
        size.poll_read_more(self, cx, input.bytes())
    }

    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn into_end(mut self) -> impl End + 'static {
        self.serves = true;
        SocketEnd::aborting(self)
    }
}

impl Socket for Wire {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_arrived(cx).map(Ok)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    fn take_break(&self) -> Option<io::Error> {
        let mut link = self.link.lock();
        let incoming = link.way(self.end.other());
        if incoming.is_reset() {
            return incoming.take_reset();
        }
        self.is_given_up(&link).then(|| io::ErrorKind::TimedOut.into())
    }

    fn close_in_peace(&self) {
        self.link.lock().aborts[self.end as usize] = false;
    }

    fn abort_on_close(&self) {
        self.link.lock().aborts[self.end as usize] = true;
    }
}

/// Sooner than in truth: what a splice does then takes its time, too, and all is to be over within a minute.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

/// The type of the frame that asks for a stream.
const MOVE: u8 = 13;
