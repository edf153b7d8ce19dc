//! One connection: bytes arrive in order and late, or not at all.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
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
use crate::splice::{End, Io};

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
        for way in &mut self.ways {
            way.dead = true;
        }
    }

    /// Somebody between breaks it; who sends `from` there hears nothing of it.
    pub(super) fn cut(&mut self, half: Option<Sender>) {
        let at = Instant::now() + self.latency.of(&mut self.dice);
        for from in Sender::BOTH {
            if half == Some(from.other()) {
                self.way(from).dead = true;
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
    timer: Pin<Box<Sleep>>,
}

/// The client's end and the server's, and a handle on what is between.
pub(super) fn wires(
    mut dice: Dice,
    latency: Latency,
    stalled: [bool; 2],
) -> (Wire, Wire, Weak<Mutex<Link>>) {
    let room = [1 << 12, 1 << 16, 1 << 18][dice.below(3)];
    let ways = stalled.map(|stalled| Way::new(room, stalled));
    let link = Arc::new(Mutex::new(Link { ways, dice, latency }));
    let wire = |end| {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Wire { link: Arc::clone(&link), end, timer }
    };
    (wire(Sender::Client), wire(Sender::Server), Arc::downgrade(&link))
}

impl Wire {
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let at = {
                let mut link = self.link.lock();
                let way = link.way(self.end.other());
                way.reader = Some(cx.waker().clone());
                let Some((at, _)) = way.on_the_way.front() else { return Poll::Pending };
                if way.stalled || way.dead {
                    return Poll::Pending;
                }
                *at
            };
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(at);
            ready!(self.timer.as_mut().poll(cx));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_arrived(cx));
        let mut link = self.link.lock();
        let way = link.way(self.end.other());
        let (arrived, item) = way.on_the_way.front_mut().unwrap();
        let arrived = *arrived;
        match item {
            Item::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut link = self.link.lock();
        if link.way(self.end.other()).is_reset() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let link = &mut *link;
        let at = Instant::now() + link.latency.of(&mut link.dice);
        let chop = link.dice.size(1 << 16);
        let way = link.way(self.end);
        if way.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if way.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let count = buf.len().min(way.room - way.bytes).min(chop);
        if count == 0 {
            way.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        way.bytes += count;
        way.push(at, Item::Bytes(Bytes::copy_from_slice(&buf[..count])));
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        let way = link.way(self.end);
        if in_vain {
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

    fn into_end(self) -> impl End + 'static {
        Io::new(self)
    }
}
