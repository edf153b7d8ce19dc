//! The one task that owns a session's carrier.
//!
//! A turn: read what is there, apply it under one lock as far as that is not too much work, take what
//! should be written, wake the streams concerned, write. Nothing in a turn waits, and a poll does a
//! bounded number of turns.

mod chores;

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::frame::{GoAway, Open, Register, Registered};
use ferrotunnel_protocol::{Event, OutFrame, Side, State, Violation};
use tokio::time::Sleep;

use crate::buffer::{Input, ReadSize};
use crate::carrier::Carrier;
use crate::clock;
use crate::shared::{Inner, Shared};
use crate::stream::Stream;
use crate::yielding;
use chores::Chores;

/// What a session tells its owner.
pub(crate) enum Incoming {
    Opened(Stream, Box<Open>),
    Register(u32, Box<Register>),
    Unregister(u32),
    Registered(u32, Box<Registered>),
    GoAway(Box<GoAway>),
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides are done, or the peer closed the carrier.
    Closed,
    /// The peer broke the protocol, was too slow or silent.
    Violation(Violation),
    /// The carrier broke.
    Carrier(io::Error),
}

/// Drives one session until it ends.
pub(crate) struct Driver<C, F> {
    carrier: C,
    shared: Arc<Shared>,
    on_incoming: F,
    input: Input,
    read_size: ReadSize,
    /// Bytes that the last read brought.
    just_read: usize,
    /// There is more in the input than one turn was to do.
    backlog: bool,
    /// At a server, what its client asks for.
    chores: Option<Chores>,
    output: Output,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    closing: bool,
    /// Bytes that it may still take and throw away when it is closed.
    patience: usize,
    /// Until then it goes on writing what it has accepted, if it is closing.
    lingers_until: Option<Instant>,
    /// Our direction of the carrier has ended.
    shut: bool,
    /// The last poll only let others go first.
    yielded: bool,
    wakers: Vec<Waker>,
    incoming: Vec<Incoming>,
}

impl<C: Carrier, F: FnMut(Incoming) + Unpin> Driver<C, F> {
    /// `input` is what the handshake read beyond itself.
    pub(crate) fn new(carrier: C, shared: Arc<Shared>, input: BytesMut, on_incoming: F) -> Self {
        let (side, stats) = shared.lock(|inner| (inner.machine.side(), inner.machine.stats()));
        let chores = (side == Side::Server).then(|| Chores::new(stats, clock::now()));
        Self {
            carrier,
            shared,
            on_incoming,
            input: Input::new(input),
            read_size: ReadSize::default(),
            just_read: 0,
            backlog: false,
            chores,
            output: Output::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_at: None,
            closing: false,
            patience: usize::MAX,
            lingers_until: None,
            shut: false,
            yielded: false,
            wakers: Vec::new(),
            incoming: Vec::new(),
        }
    }

    fn turns(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut more = true;
        for turn in 0..TURNS_PER_POLL {
            let paused = self.pauses(cx);
            let resumes = self.backlog && !paused;
            let read = match paused || self.backlog {
                true => false,
                false => match self.read(cx) {
                    Ok(read) => read,
                    Err(end) => return Poll::Ready(self.end(end)),
                },
            };
            let expired = self.poll_timer(cx);
            let idle = turn == 0 && !read && !resumes && !expired;
            self.yielded = idle && !self.yielded;
            if self.yielded {
                // Woken with nothing to read, so most likely by a stream that has something to
                // send: streams that are ready as well go first, once, and one write carries what
                // all of them have.
                yielding::behind_ready_tasks(cx);
                return Poll::Pending;
            }
            if expired && self.closing && !self.lingers_on(cx) {
                return Poll::Ready(self.end(End::Closed));
            }
            if !read && !resumes && !expired && !more {
                return Poll::Pending;
            }
            let Turn { state, violation, is_drained, has_output, is_for_owner, work } =
                self.turn(cx, expired, paused);
            if read {
                let left = if self.backlog { self.input.len() } else { 0 };
                self.read_size.learn_work(self.just_read.saturating_sub(left), self.backlog);
            }
            let written = match self.output.poll_write(&mut self.carrier, cx) {
                Ok(written) => written,
                Err(error) => return Poll::Ready(self.hear_out(cx, error)),
            };
            if state == State::Closed {
                if violation == Some(Violation::PeerSilent) {
                    return Poll::Ready(self.end(End::Closed));
                }
                if violation.is_some() {
                    self.patience = self.patience.min(MOST_AFTER_FAULT);
                }
                self.close_soon(cx, is_drained);
                if self.output.is_empty() && !has_output && !self.shut {
                    // Then on, until the peer closes too: closing with input unread would send a
                    // RST, which may destroy our last frames on their way.
                    let _ = ready!(Pin::new(&mut self.carrier).poll_shutdown(cx));
                    self.shut = true;
                }
            }
            more = has_output && (written || is_for_owner);
            if !read && !resumes && !more {
                return Poll::Pending;
            }
            if self.backlog || work >= WORK_PER_POLL || (read && self.closing) {
                break;
            }
        }
        yielding::behind_new_events(cx);
        Poll::Pending
    }

    /// A carrier that takes nothing more may still hold the peer's last words, and they say why.
    fn hear_out(&mut self, cx: &mut Context<'_>, error: io::Error) -> End {
        for _ in 0..LAST_READS {
            if !matches!(self.read(cx), Ok(true)) {
                break;
            }
            self.turn(cx, false, false);
        }
        self.end(End::Carrier(error))
    }

    /// Whether the client has asked for so much that it is not listened to for a moment.
    fn pauses(&mut self, cx: &mut Context<'_>) -> bool {
        // The end of a session is waited for in any case.
        !self.closing && self.chores.as_mut().is_some_and(|chores| chores.poll_pause(cx))
    }

    /// Reads once. `false`: there is nothing to read now.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        match self.carrier.poll_readable(cx) {
            Poll::Pending => {
                self.input.release();
                return Ok(false);
            }
            Poll::Ready(ready) => ready.map_err(End::Carrier)?,
        }
        match self.carrier.poll_read_input(cx, &mut self.read_size, &mut self.input) {
            Poll::Pending => {
                self.input.release();
                if self.carrier.has_heard() {
                    let now = clock::now();
                    self.shared.lock(|inner| inner.machine.handle_sign_of_life(now));
                }
                Ok(false)
            }
            Poll::Ready(Ok(0)) => Err(End::Closed),
            Poll::Ready(Ok(count)) => {
                self.just_read = count;
                if self.closing {
                    // Nobody looks at it any more, and a peer could send for ever: a little at a time, for
                    // to open it is work, too.
                    self.input.clear();
                    self.read_size = ReadSize::default();
                    self.patience = self.patience.saturating_sub(count);
                    if self.patience == 0 {
                        return Err(End::Closed);
                    }
                }
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(End::Carrier(error)),
        }
    }

    /// Everything that happens under the lock, once.
    fn turn(&mut self, cx: &mut Context<'_>, expired: bool, paused: bool) -> Turn {
        let now = clock::now();
        let (shared, output) = (&self.shared, &mut self.output);
        let (input, wakers, incoming) = (&mut self.input, &mut self.wakers, &mut self.incoming);
        let (backlog, chores) = (&mut self.backlog, &mut self.chores);
        let (mut turn, mut timeout, work) = shared.lock(|inner| {
            let before = inner.machine.stats().work_in();
            if !paused {
                *backlog = handle_input(inner, now, input, WORK_PER_POLL);
            }
            let stats = inner.machine.stats();
            if let Some(chores) = chores {
                chores.count(stats, now);
            }
            if expired {
                let _ = inner.machine.handle_timeout(now);
            }
            let room = output.room();
            if room > 0 {
                output.staged += inner.machine.poll_transmit(now, &mut output.frames, room);
            }
            while let Some(event) = inner.machine.poll_event() {
                sort(event, shared, inner, wakers, incoming);
            }
            if incoming.is_empty() {
                listen(inner, cx);
            } else {
                // What the owner says to it is seen below. If that woke this task, it would be back before the
                // tasks that it makes way for.
                inner.driver = None;
            }
            let (turn, timeout) = look(inner);
            (turn, timeout, stats.work_in() - before)
        });
        let is_for_owner = !self.incoming.is_empty();
        self.deliver();
        if is_for_owner {
            (turn, timeout) = self.shared.lock(|inner| {
                listen(inner, cx);
                look(inner)
            });
        }
        self.arm(cx, timeout);
        Turn { work, is_for_owner, ..turn }
    }

    fn deliver(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        for incoming in self.incoming.drain(..) {
            (self.on_incoming)(incoming);
        }
    }

    /// The timer is only ever moved forward: a deadline that moved back is found out when the
    /// timer fires, which is cheaper than moving it at every turn.
    fn arm(&mut self, cx: &mut Context<'_>, timeout: Option<Instant>) {
        if self.closing {
            return;
        }
        let Some(at) = timeout else { return };
        if self.timer_at.is_none_or(|armed| at < armed) {
            self.set_timer(cx, at);
        }
    }

    /// A timer that was set knows nobody to wake until it has been polled.
    fn set_timer(&mut self, cx: &mut Context<'_>, at: Instant) {
        self.timer_at = Some(at);
        self.timer.as_mut().reset(at.into());
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if self.timer_at.is_none() || self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.timer_at = None;
        true
    }

    /// A closed session gets a moment to write its last frames, and one that has drained a while: those are
    /// the ends of what its visitors were promised.
    fn close_soon(&mut self, cx: &mut Context<'_>, is_drained: bool) {
        if !self.closing {
            self.closing = true;
            let now = clock::now();
            self.lingers_until = is_drained.then(|| now + DRAINED_LINGER);
            self.set_timer(cx, now + LINGER);
        }
    }

    /// Whether it has not had its time yet, and something left to write.
    fn lingers_on(&mut self, cx: &mut Context<'_>) -> bool {
        let now = clock::now();
        let lingers = !self.shut && self.lingers_until.is_some_and(|until| now < until);
        if lingers {
            self.set_timer(cx, now + LINGER);
        }
        lingers
    }

    /// Ends every stream and wakes whoever waits.
    fn end(&mut self, end: End) -> End {
        let now = clock::now();
        let (shared, input) = (&self.shared, &mut self.input);
        let (wakers, incoming) = (&mut self.wakers, &mut self.incoming);
        let violation = shared.lock(|inner| {
            handle_input(inner, now, input, u64::MAX);
            inner.machine.handle_eof();
            inner.driver = None;
            while let Some(event) = inner.machine.poll_event() {
                sort(event, shared, inner, wakers, incoming);
            }
            inner.machine.violation()
        });
        self.deliver();
        violation.map_or(end, End::Violation)
    }
}

impl<C: Carrier, F: FnMut(Incoming) + Unpin> Future for Driver<C, F> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        self.turns(cx)
    }
}

impl<C, F> Drop for Driver<C, F> {
    /// A driver that is aborted leaves no stream waiting for ever.
    fn drop(&mut self) {
        let (shared, wakers, incoming) = (&self.shared, &mut self.wakers, &mut self.incoming);
        shared.lock(|inner| {
            inner.machine.handle_eof();
            while let Some(event) = inner.machine.poll_event() {
                sort(event, shared, inner, wakers, incoming);
            }
        });
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// Has itself woken for new output. Always, even if the carrier is blocked now: a write that ends the blockade in this very
/// turn leaves nothing else to wake the driver. It may have moved to another task.
fn listen(inner: &mut Inner, cx: &Context<'_>) {
    if inner.driver.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
        inner.driver = Some(cx.waker().clone());
    }
}

/// How the machine is at the end of a turn, and when its time comes.
fn look(inner: &Inner) -> (Turn, Option<Instant>) {
    let machine = &inner.machine;
    let turn = Turn {
        state: machine.state(),
        violation: machine.violation(),
        is_drained: machine.is_drained(),
        has_output: machine.has_output(),
        is_for_owner: false,
        work: 0,
    };
    (turn, machine.poll_timeout())
}

/// Applies what was read, up to so much work. Returns whether something is left for that.
fn handle_input(inner: &mut Inner, now: Instant, input: &mut Input, most: u64) -> bool {
    let end = inner.machine.stats().work_in().saturating_add(most);
    loop {
        let left = end.saturating_sub(inner.machine.stats().work_in());
        match inner.machine.handle_some_input(now, input.bytes(), left) {
            Ok(false) if input.join_next() => {}
            // A violation is kept by the machine, with its GoAway queued.
            handled => return handled.unwrap_or(false),
        }
    }
}

fn sort(
    event: Event,
    shared: &Arc<Shared>,
    inner: &mut Inner,
    wakers: &mut Vec<Waker>,
    incoming: &mut Vec<Incoming>,
) {
    let stream = |id: StreamId| Stream::new(Arc::clone(shared), id);
    match event {
        Event::Readable(id) => wakers.extend(inner.take_reader(id)),
        Event::Writable(id) => wakers.extend(inner.take_writer(id)),
        Event::Opened(id, open) => incoming.push(Incoming::Opened(stream(id), open)),
        Event::Register(number, register) => incoming.push(Incoming::Register(number, register)),
        Event::Unregister(number) => incoming.push(Incoming::Unregister(number)),
        Event::Registered(number, answer) => incoming.push(Incoming::Registered(number, answer)),
        Event::GoAway(go_away) => incoming.push(Incoming::GoAway(go_away)),
        // The handshake is over before a driver begins.
        _ => {}
    }
}

/// What a turn found out.
struct Turn {
    state: State,
    violation: Option<Violation>,
    /// It is closed since nothing is open any more.
    is_drained: bool,
    /// The machine has more to write than the stage had room for, or than it had when it was asked.
    has_output: bool,
    /// Something came that its owner may have answered since.
    is_for_owner: bool,
    /// What was done of what came, as [`Stats::work_in`](ferrotunnel_protocol::Stats::work_in) has it.
    work: u64,
}

/// What was taken from the machine and is not yet written.
#[derive(Debug)]
struct Output {
    frames: VecDeque<OutFrame>,
    /// Bytes of the first frame that are already written.
    written: usize,
    staged: usize,
    budget: usize,
    unflushed: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            written: 0,
            staged: 0,
            budget: LEAST_BUDGET,
            unflushed: false,
        }
    }
}

impl Output {
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && !self.unflushed
    }

    /// How much may be taken from the machine. What is staged cannot be overtaken by urgent
    /// frames any more, so a carrier that blocks gets a small stage and one that takes all a
    /// large one.
    fn room(&self) -> usize {
        self.budget.saturating_sub(self.staged)
    }

    /// Writes until all is written or the carrier takes no more. Returns whether it made way for
    /// more output.
    fn poll_write<C: Carrier>(
        &mut self,
        carrier: &mut C,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut progress = false;
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = self.fill(&mut slices);
            let slices = slices.get(..used).unwrap_or_default();
            match Pin::new(&mut *carrier).poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.advance(count);
                    self.unflushed = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.budget = (self.budget / 2).max(LEAST_BUDGET);
                    return Ok(progress && self.room() > 0);
                }
            }
        }
        if progress {
            self.budget = (self.budget * 2).min(MOST_BUDGET);
        }
        if self.unflushed {
            match Pin::new(carrier).poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.unflushed = false;
                }
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.written;
        let mut used = 0;
        for part in self.frames.iter().flat_map(|frame| [frame.head(), frame.body().as_ref()]) {
            if part.len() <= skip {
                skip -= part.len();
                continue;
            }
            let Some(slot) = slices.get_mut(used) else { break };
            *slot = IoSlice::new(part.get(skip..).unwrap_or_default());
            skip = 0;
            used += 1;
        }
        used
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        self.staged = self.staged.saturating_sub(count);
        while let Some(frame) = self.frames.front()
            && self.written >= frame.len()
        {
            self.written -= frame.len();
            self.frames.pop_front();
        }
    }
}

/// Turns before other tasks of this thread get theirs.
const TURNS_PER_POLL: usize = 2;

/// Work after which other tasks get their turns: 1,024 pieces of payload, or 64 frames that are to be answered or
/// change something, or 4 tunnels that come or go, which is some 20 us, and for tunnels some more. Of bulk, 256 KiB are five pieces; a peer can send as many bytes as 30,000 frames.
const WORK_PER_POLL: u64 = 1_024;

/// Reads from a carrier that takes no more writes: what a socket buffer may hold of control frames.
const LAST_READS: usize = 16;

/// Slices of one vectored write: header and payload of 32 frames.
const SLICES: usize = 64;

/// Bytes staged at least, for a carrier that is slow: 13 ms of a 10 Mbit/s link.
const LEAST_BUDGET: usize = 16 << 10;

/// Bytes staged at most: what one vectored write moves at full speed.
const MOST_BUDGET: usize = 256 << 10;

/// What a peer may still have under way when it is told of its fault, so that it hears of it: what the sockets on the way
/// hold. One that goes on is not listened to.
const MOST_AFTER_FAULT: usize = 4 << 20;

/// How long a closed session tries to write its last frames to a peer that does not read.
const LINGER: Duration = Duration::from_secs(2);

/// The same for one that has finished all that was open: what is staged then and sealed, 400 KiB at most, in this
/// time at 220 kbit/s. It is as long as a peer may be silent.
const DRAINED_LINGER: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
