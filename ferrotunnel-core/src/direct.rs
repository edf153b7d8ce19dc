//! Direct streams: carriers that the client dials ahead of time and that serve one visitor each.
//!
//! Such a visitor's bytes are neither framed nor scheduled, loss on its carrier stalls nobody else,
//! and on a plaintext carrier the kernel moves them from socket to socket. PROTOCOL.md has the wire.

mod together;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::{StreamId, TunnelKind};
use ferrotunnel_protocol::frame::{Open, Ping};
use ferrotunnel_protocol::{Decoded, Decoder, Frame, SILENT_BEATS};
use parking_lot::Mutex;
use together::Together;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::arrivals::Arriving;
use crate::auth;
use crate::bulk::{Bulk, Copying, Place, copy_with};
use crate::carrier::Carrier;
use crate::counters::Tally;
use crate::crowd::CrowdSeat;
use crate::moving::{Movable, Onward};
use crate::options;
use crate::seat::Seat;
use crate::socket;
use crate::splice::{End, Prefixed, Socket as _, SocketEnd, Splice, splice_paced};
use crate::tcp_ingress::Visitor;
use crate::throttle::Pacing;
use crate::visitor_socket::{Detached, VisitorSocket};

/// How the visitors of a TCP or TLS tunnel travel between server and client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Streams {
    /// All over the session's one carrier.
    #[default]
    Multiplexed,
    /// Each over a carrier of its own, as long as one is waiting; otherwise multiplexed, until it turns out to move much.
    /// Where the server is near, those who come together wait a moment for theirs.
    Direct,
    /// Where the server is near all begin multiplexed, and those who turn out to move much get a carrier of their own in the middle.
    /// Where it is far away each gets one at once, as long as one of a few is waiting. All stay multiplexed where several
    /// clients of a group share the visitors.
    Auto,
}

impl Streams {
    /// What a tunnel's options say.
    pub(crate) fn of(options: &[(String, String)]) -> Self {
        // A value of a later version falls back to what always works.
        options::value(options, options::STREAMS)
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    }

    /// The option that says so at registration.
    pub fn to_option(self) -> Option<(String, String)> {
        let value = match self {
            Self::Multiplexed => return None,
            Self::Direct => "direct",
            Self::Auto => "auto",
        };
        Some((options::STREAMS.to_owned(), value.to_owned()))
    }
}

impl FromStr for Streams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "multiplexed" => Ok(Self::Multiplexed),
            "direct" => Ok(Self::Direct),
            "auto" => Ok(Self::Auto),
            _ => Err(format!("{text:?} is not multiplexed, direct or auto")),
        }
    }
}

/// How many carriers there are for single visitors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectCarriers {
    /// Ready for a visitor.
    pub waiting: usize,
    /// Serving one.
    pub serving: usize,
}

/// The direct carriers of one session that wait for a visitor.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    waiting: Mutex<Waiting>,
    /// Carriers that serve nobody yet, in line or not.
    kept: Arc<AtomicUsize>,
    /// Visitors served at present.
    open: Arc<AtomicUsize>,
    /// The same over all sessions, those that have ended included.
    all_open: Arc<AtomicUsize>,
    /// What becomes of visitors inside.
    fate: watch::Sender<Fate>,
    /// Streams that are about to go over.
    moving: Together,
    /// Where those go on that move much.
    bulk: Bulk,
}

/// What becomes of the visitors of a session, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// They stay, whether the session goes on or not.
    #[default]
    Stay,
    /// The session was lost without a word, and the client with it, perhaps: they do not stay for long where it is silent.
    Doubted,
    /// They are cut off.
    Cut,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    /// How to reach the tasks that hold the carriers.
    carriers: Vec<oneshot::Sender<Errand>>,
    /// Visitors, new ones and those that move, that wait for one. Never both.
    queue: VecDeque<oneshot::Sender<Ready>>,
    /// Carriers that have ever come to stand in line.
    arrived: u64,
    /// Visitors that may wait.
    waits: Allowance,
    /// Dials that a client has left which keeps a few carriers only. It makes them for visitors who find one
    /// waiting, too.
    dials: Allowance,
}

impl Waiting {
    /// Whether one more visitor may wait. If so, it is counted.
    fn admits_to_queue(&mut self, streams: Streams, now: Instant) -> bool {
        // Each of those who wait already has one more dial made.
        let has_dials = streams != Streams::Auto || self.dials.has(self.queue.len() as u32, now);
        let admits = !self.closed && has_dials && self.waits.has(0, now);
        if admits {
            self.waits.take(now);
        }
        admits
    }
}

/// So many at once after a rest, and then one after each pause.
#[derive(Debug, Default)]
struct Allowance {
    /// Moves on by a pause with each that is taken; how far it lies in the past is how many are left. `None`: none was taken yet.
    after: Option<Instant>,
}

impl Allowance {
    fn after(&self, now: Instant) -> Instant {
        let rested = now.checked_sub(QUEUE_PAUSE * QUEUE_BURST).unwrap_or(now);
        self.after.unwrap_or(rested).max(rested)
    }

    /// Whether there is one more after so many.
    fn has(&self, others: u32, now: Instant) -> bool {
        self.after(now) + QUEUE_PAUSE * others <= now
    }

    fn take(&mut self, now: Instant) {
        // A client that also has tunnels with direct streams dials as it likes, and owes nothing for that.
        self.after = Some((self.after(now) + QUEUE_PAUSE).min(now + QUEUE_PAUSE));
    }

    fn rest_until(&mut self, then: Instant) {
        self.after = Some(then);
    }
}

/// A carrier that was taken out of the line, to be given an errand.
#[derive(Debug)]
pub(crate) struct Ready(oneshot::Sender<Errand>);

/// Why a visitor has no carrier to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// None was waiting, or none is wanted.
    Nobody,
    /// It broke before anything was said. Its client may be gone, too.
    LostCarrier,
}

/// What a carrier is needed for.
#[derive(Debug)]
enum Errand {
    Visit(Box<Visit>),
    Move(Move),
}

impl Errand {
    /// The carrier is of no use.
    fn fall_back(self) {
        match self {
            Self::Visit(visit) => visit.fall_back(),
            // Whoever waits for it stays where it is.
            Self::Move(_) => {}
        }
    }
}

/// A stream of the session that is to go on over the carrier, and who has it.
struct Move {
    stream: StreamId,
    give: oneshot::Sender<Onward>,
}

impl std::fmt::Debug for Move {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Move").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// A visitor on the way to its carrier's task, which may live on another thread.
struct Visit {
    socket: Detached,
    trip: Trip,
}

/// All that is known of such a visitor.
struct Trip {
    addr: SocketAddr,
    ingress: SocketAddr,
    kind: TunnelKind,
    tunnel: u32,
    /// Its place among the visitors served, and the streams of its principal and its tunnel.
    seat: Seat,
    place: Option<CrowdSeat>,
    /// What it has said already.
    words: Bytes,
    /// Until the client has been told of it.
    arriving: Option<Arriving>,
    /// What holds back its two directions, from the visitor and to it.
    pacing: [Option<Box<Pacing>>; 2],
    /// Of its tunnel.
    tally: Tally,
    otherwise: Box<dyn FnOnce(Visitor, Met) + Send>,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit").field("addr", &self.trip.addr).finish_non_exhaustive()
    }
}

impl Visit {
    fn fall_back(self) {
        match self.socket.attach() {
            Ok(socket) => self.trip.fall_back(socket),
            Err(error) => tracing::warn!(%error, "cannot take a visitor back"),
        }
    }
}

impl Trip {
    /// What the client is told of the visitor.
    fn open(&self) -> Open {
        Open {
            tunnel: self.tunnel,
            kind: self.kind,
            visitor: Some(self.addr),
            ingress: Some(self.ingress),
            send_window: 0,
            receive_window: 0,
            trace: None,
        }
    }

    fn fall_back(self, socket: VisitorSocket) {
        let Self { addr, ingress, seat, place, words, arriving, otherwise, .. } = self;
        // It takes one again where it goes, and is not to stand in its own way.
        drop(seat);
        socket.close_in_peace();
        otherwise(Visitor { socket, addr, ingress, place, words, arriving }, Met::LostCarrier);
    }
}

impl Pool {
    /// `all_open` counts the visitors of this pool too; those that move much go on over the threads of `bulk`.
    pub(crate) fn new(all_open: Arc<AtomicUsize>, bulk: Bulk) -> Self {
        Self { all_open, bulk, ..Self::default() }
    }

    /// A place among the visitors served, unless there are `most` already.
    pub(crate) fn take_visitor(&self, most: usize) -> Option<Seat> {
        Some(Seat::take_within(&self.open, most)?.with(Seat::take(&self.all_open)))
    }

    /// Visitors served at present.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Carriers in line.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().carriers.iter().filter(|carrier| !carrier.is_closed()).count()
    }

    /// Carriers that serve nobody yet, in line or not.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Whether a carrier is in line, unless it has just died.
    pub(crate) fn is_ready(&self) -> bool {
        !self.waiting.lock().carriers.is_empty()
    }

    /// A place for one more carrier, unless there are enough or the session is about to end.
    pub(crate) fn reserve(&self) -> Result<Seat, &'static str> {
        let seat = Seat::take(&self.kept);
        if self.waiting.lock().closed {
            Err("the session takes nothing new")
        } else if self.kept.load(Ordering::Relaxed) > MOST_WAITING {
            Err("enough direct carriers are waiting")
        } else {
            Ok(seat)
        }
    }

    /// The session takes nothing new: carriers that wait are closed, visitors inside stay, those that wait for a
    /// carrier go on without.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let left = (std::mem::take(&mut waiting.carriers), std::mem::take(&mut waiting.queue));
        drop(waiting);
        drop(left);
    }

    /// A place in the queue for a visitor of a tunnel with such streams that finds no carrier waiting, if it is worth the
    /// time: carriers come at the speed of the client's dials. The future tells what has come of it; `None`: nothing.
    pub(crate) fn queue(
        self: &Arc<Self>,
        streams: Streams,
    ) -> Option<impl Future<Output = Option<Ready>> + Send + use<>> {
        let mut waiting = self.waiting.lock();
        if !waiting.admits_to_queue(streams, Instant::now()) {
            return None;
        }
        let (give, mut receive) = oneshot::channel();
        waiting.queue.push_back(give);
        let mut arrived = waiting.arrived;
        drop(waiting);
        let pool = Arc::clone(self);
        Some(async move {
            let until = Instant::now() + QUEUE_TIME;
            loop {
                let look = until.min(Instant::now() + QUEUE_STALL);
                if let Ok(ready) = timeout_at(look, &mut receive).await {
                    return ready.ok();
                }
                let before = std::mem::replace(&mut arrived, pool.waiting.lock().arrived);
                if before == arrived || look == until {
                    receive.close();
                    // It may have come in this very moment.
                    let late = receive.try_recv().ok();
                    if late.is_none() {
                        pool.disappoint();
                    }
                    return late;
                }
            }
        })
    }

    /// A client that brings no carriers in time keeps nobody waiting for a while.
    fn disappoint(&self) {
        let mut waiting = self.waiting.lock();
        waiting.queue.retain(|visitor| !visitor.is_closed());
        waiting.waits.rest_until(Instant::now() + DISAPPOINTMENT);
    }

    /// The same, and visitors inside are cut off too.
    pub(crate) fn cut(&self) {
        self.close();
        self.fate.send_replace(Fate::Cut);
    }

    /// The client has fallen silent: a visitor inside learns of it within a while, should it be gone.
    pub(crate) fn doubt(&self) {
        self.fate.send_if_modified(|fate| {
            let is_news = *fate < Fate::Doubted;
            *fate = (*fate).max(Fate::Doubted);
            is_news
        });
    }

    /// Gives the visitor of a tunnel, by its kind and number, a carrier of its own, `ready` if it has waited for it, or
    /// does `otherwise` when none is waiting. `seat` is its place among the [visitors served](Self::take_visitor) and the
    /// streams of the principal.
    pub(crate) fn serve(
        &self,
        ready: Option<Ready>,
        (kind, tunnel): (TunnelKind, u32),
        seat: Seat,
        (pacing, tally): ([Option<Box<Pacing>>; 2], Tally),
        visitor: Visitor,
        otherwise: impl FnOnce(Visitor, Met) + Send + 'static,
    ) {
        let Some(carrier) = ready.map(|ready| ready.0).or_else(|| self.take()) else {
            drop(seat);
            return otherwise(visitor, Met::Nobody);
        };
        let Visitor { socket, addr, ingress, place, words, arriving } = visitor;
        // Whatever happens on the way: it must not look like an end that was meant.
        socket.abort_on_close();
        match socket.detach() {
            Ok(socket) => {
                let otherwise = Box::new(otherwise);
                let trip = Trip {
                    addr,
                    ingress,
                    kind,
                    tunnel,
                    seat,
                    place,
                    words,
                    arriving,
                    pacing,
                    tally,
                    otherwise,
                };
                self.give(carrier, Errand::Visit(Box::new(Visit { socket, trip })));
            }
            Err(error) => tracing::warn!(%error, "cannot hand a visitor over"),
        }
    }

    /// A carrier for a stream of this session, of a tunnel with such streams: one that is in line, or, if it `may_wait`, one that
    /// comes in a moment. The client has agreed to it by then.
    pub(crate) async fn onward(
        self: &Arc<Self>,
        stream: StreamId,
        streams: Streams,
        may_wait: bool,
    ) -> Option<Onward> {
        let asking = self.moving.ask();
        let carrier = match self.take() {
            Some(carrier) => carrier,
            None if may_wait => self.queue(streams)?.await?.0,
            None => return None,
        };
        let (give, onward) = oneshot::channel();
        self.give(carrier, Errand::Move(Move { stream, give }));
        let onward = onward.await.ok()?;
        asking.with_the_others().await;
        Some(onward)
    }

    fn give(&self, mut carrier: oneshot::Sender<Errand>, mut errand: Errand) {
        loop {
            match carrier.send(errand) {
                Ok(()) => return,
                Err(back) => errand = back,
            }
            match self.take() {
                Some(next) => carrier = next,
                None => return errand.fall_back(),
            }
        }
    }

    /// The youngest was heard of last.
    fn take(&self) -> Option<oneshot::Sender<Errand>> {
        let mut waiting = self.waiting.lock();
        while let Some(carrier) = waiting.carriers.pop() {
            if !carrier.is_closed() {
                return Some(carrier);
            }
        }
        None
    }

    /// A carrier has come.
    fn arrived(&self) {
        self.waiting.lock().dials.take(Instant::now());
    }

    /// Puts a carrier in line, or gives it to the first in the queue; `None` when the session takes nothing new.
    fn line_up(&self) -> Option<oneshot::Receiver<Errand>> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return None;
        }
        waiting.arrived += 1;
        waiting.carriers.retain(|carrier| !carrier.is_closed());
        let (give, receive) = oneshot::channel();
        let mut ready = Ready(give);
        while let Some(visitor) = waiting.queue.pop_front() {
            match visitor.send(ready) {
                Ok(()) => return Some(receive),
                // It has given up.
                Err(back) => ready = back,
            }
        }
        waiting.carriers.push(ready.0);
        Some(receive)
    }
}

/// The server's end of a direct carrier: waits for its visitor, then serves it. `input` is what was
/// read beyond the handshake, which ended with a first Ping.
///
/// # Errors
/// The carrier broke, or the client talked out of turn.
pub(crate) async fn attend<C: Carrier>(
    mut carrier: C,
    input: BytesMut,
    pool: &Pool,
    seat: Seat,
    heartbeat: Duration,
) -> io::Result<()> {
    hear(&mut carrier, input, heartbeat).await?;
    pool.arrived();
    let retire_at = Instant::now() + LIFE;
    loop {
        let Some(mut line) = pool.line_up() else { return Ok(()) };
        let mut byte = [0];
        tokio::select! {
            biased;
            // The client has nothing to say: this is its end.
            _ = carrier.read(&mut byte) => {
                line.close();
                if let Ok(errand) = line.try_recv() {
                    errand.fall_back();
                }
                return Ok(());
            }
            errand = &mut line => match errand {
                Ok(errand) => {
                    drop(seat);
                    return run(carrier, errand, pool, heartbeat).await;
                }
                // The session is over, or whoever was to have it has gone.
                Err(_) => continue,
            },
            () = tokio::time::sleep(heartbeat) => {}
        }
        line.close();
        // Somebody may have come in the meantime.
        if let Ok(errand) = line.try_recv() {
            drop(seat);
            return run(carrier, errand, pool, heartbeat).await;
        }
        if Instant::now() >= retire_at {
            return Ok(());
        }
        ping(&mut carrier, heartbeat).await?;
    }
}

/// What the carrier has waited for.
async fn run<C: Carrier>(
    carrier: C,
    errand: Errand,
    pool: &Pool,
    heartbeat: Duration,
) -> io::Result<()> {
    if let Some(socket) = carrier.socket() {
        socket::tune_direct(socket);
    }
    match errand {
        Errand::Visit(visit) => serve(carrier, *visit, pool).await,
        Errand::Move(errand) => hand_over(carrier, errand, heartbeat).await,
    }
}

/// Asks the client for a stream that is to go on over the carrier, and gives that to who has the stream.
async fn hand_over<C: Carrier>(
    mut carrier: C,
    errand: Move,
    heartbeat: Duration,
) -> io::Result<()> {
    let Move { stream, mut give } = errand;
    carrier.write_all(&Frame::Move(stream).encode()).await?;
    carrier.flush().await?;
    let mut talk = Talk::new(BytesMut::new());
    let answer = tokio::select! {
        answer = timeout(heartbeat * SILENT_BEATS, talk.next(&mut carrier)) => answer??,
        // Whoever waited for it has gone.
        () = give.closed() => return Ok(()),
    };
    match answer {
        Frame::Move(agreed) if agreed == stream => {
            let _ = give.send(onward(carrier, talk.input));
            Ok(())
        }
        _ => Err(out_of_turn()),
    }
}

/// A carrier that a stream goes on over, from which `input` was read already.
pub(crate) fn onward(carrier: impl Carrier, input: BytesMut) -> Onward {
    Box::new(Prefixed::new(frozen(input), carrier.into_end()))
}

/// Frozen, an empty buffer would go on holding its memory.
fn frozen(input: BytesMut) -> Bytes {
    if input.is_empty() { Bytes::new() } else { input.freeze() }
}

/// Makes sure that the client is still there. A carrier that is asked is not in line.
async fn ping<C: Carrier>(carrier: &mut C, heartbeat: Duration) -> io::Result<()> {
    let opaque = auth::random().map_err(io::Error::other)?;
    carrier.write_all(&Frame::Ping(Ping { ack: false, opaque }).encode()).await?;
    carrier.flush().await?;
    let answer = hear(carrier, BytesMut::new(), heartbeat).await?;
    if answer.opaque == opaque { Ok(()) } else { Err(out_of_turn()) }
}

/// The answer to a Ping, and nothing else.
async fn hear<C: Carrier>(
    carrier: &mut C,
    input: BytesMut,
    heartbeat: Duration,
) -> io::Result<Ping> {
    let mut talk = Talk::new(input);
    match timeout(heartbeat * SILENT_BEATS, talk.next(carrier)).await?? {
        Frame::Ping(ping) if ping.ack && talk.input.is_empty() => Ok(ping),
        _ => Err(out_of_turn()),
    }
}

async fn serve<C: Carrier>(mut carrier: C, visit: Visit, pool: &Pool) -> io::Result<()> {
    let mut fate = pool.fate.subscribe();
    let open = Frame::Open(STREAM, visit.trip.open()).encode();
    let opening = async {
        carrier.write_all(&open).await?;
        carrier.flush().await
    };
    if let Err(error) = opening.await {
        visit.fall_back();
        return Err(error);
    }
    let Visit { socket, mut trip } = visit;
    trip.arriving = None;
    let socket = socket.attach()?;
    let mut first = BytesMut::new();
    // What is said may be heard, and then it is not said again. Who has said something already is waiting for an
    // answer, not about to speak.
    if trip.words.is_empty() {
        first.reserve(READ_BYTES);
        let broke = tokio::select! {
            biased;
            _ = socket.readable() => None,
            heard = carrier.read_buf(&mut first) => heard.err(),
            // Its principal may not be here any more, or its client; somebody else may have the tunnel.
            _ = fate.wait_for(|fate| *fate != Fate::Stay) => {
                Some(io::ErrorKind::ConnectionAborted.into())
            }
        };
        if let Some(error) = broke {
            trip.fall_back(socket);
            return Err(error);
        }
    }
    let Trip { seat, place, words, pacing, tally, otherwise, .. } = trip;
    drop(otherwise);
    let (_seat, _place) = (seat, place);
    let visitor = Prefixed::new(words, SocketEnd::aborting(socket));
    let counted = Some(tally.begin());
    let carrier = Prefixed::new(frozen(first), carrier.into_end());
    attended(pool, splice_paced(visitor, carrier, pacing, counted)).await
}

/// Copies between a visitor and its carrier until both have finished, or its fate is decided.
fn attended<A: End + 'static, B: End + 'static>(
    pool: &Pool,
    splice: Splice<A, B>,
) -> impl Future<Output = io::Result<()>> + Send + use<A, B> {
    let (splice, fate) = (splice.beside(&pool.bulk), pool.fate.subscribe());
    let attended = Attended { splice, fate, known: Fate::Stay, believed_at: None };
    copy_with(attended, pool.bulk.clone())
}

/// Copies between a visitor and a stream whose direction to the client goes over a carrier already, until both have finished, or their
/// fate is decided.
pub(crate) async fn attend_moving<A: End + 'static>(
    pool: Arc<Pool>,
    mut splice: Splice<A, Movable>,
) -> io::Result<()> {
    let mut fate = pool.fate.subscribe();
    tokio::select! {
        ended = splice.copy_until(|splice| splice.b().has_moved()) => if let Some(ended) = ended {
            return ended.map(drop).map_err(io::Error::other);
        },
        // The stream may have heard both ends by then, and would not break with its session. Both ends close without a
        // goodbye.
        _ = fate.wait_for(|fate| *fate == Fate::Cut) => return Ok(()),
    }
    // From now on it counts among the visitors with a carrier, and not among the streams. It is one of those that there may be.
    let _visitor = pool.take_visitor(usize::MAX);
    let _seat = splice.b_mut().let_go();
    attended(&pool, splice).await
}

/// A visitor on its carrier.
struct Attended<A: End, B: End> {
    splice: Splice<A, B>,
    fate: watch::Receiver<Fate>,
    /// As far as it was heard of.
    known: Fate,
    /// While its client is doubted, until when.
    believed_at: Option<Instant>,
}

impl<A: End + 'static, B: End + 'static> Copying for Attended<A, B> {
    type Outcome = io::Result<()>;

    /// Until its fate is decided, too.
    async fn copy(&mut self) -> Option<io::Result<()>> {
        loop {
            tokio::select! {
                ended = self.splice.copy() => {
                    return ended.map(|ended| ended.map(drop).map_err(io::Error::other));
                }
                now = self.fate.wait_for(|fate| *fate > self.known) => match now.map(|fate| *fate) {
                    Ok(Fate::Doubted) => {
                        self.known = Fate::Doubted;
                        if let Some(socket) = self.splice.b().beneath() {
                            socket::doubt(socket);
                            self.believed_at = Some(Instant::now() + DOUBT);
                        }
                    }
                    // The pool lives as long as this. Both ends close without a goodbye: that is a break.
                    _ => return Some(Ok(())),
                },
                () = sleep_until(self.believed_at.unwrap_or_else(Instant::now)), if self.believed_at.is_some() => {
                    self.believed_at = None;
                    if let Some(socket) = self.splice.b().beneath() {
                        socket::tune_direct(socket);
                    }
                }
            }
        }
    }

    fn settle(&mut self, place: Place) {
        self.splice.settle(place);
    }

    fn cut_off() -> io::Result<()> {
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// What the server wants of a direct carrier.
#[derive(Debug)]
pub(crate) enum Call {
    /// It is for that visitor.
    Visitor(Open),
    /// That stream of the session is to go on over it.
    Stream(StreamId),
}

/// The client's end of a direct carrier: answers Pings until it is called. `None`: the server
/// does not need it any more. `input` is what was read beyond the handshake; afterwards it holds
/// the visitor's first bytes.
///
/// # Errors
/// The carrier broke, the server is silent or talks out of turn.
pub(crate) async fn wait<C: Carrier>(
    carrier: &mut C,
    input: &mut BytesMut,
    heartbeat: Duration,
) -> io::Result<Option<Call>> {
    let mut talk = Talk::new(std::mem::take(input));
    loop {
        let frame = match timeout(heartbeat * SILENT_BEATS, talk.next(carrier)).await? {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        match frame {
            Frame::Ping(ping) if !ping.ack => {
                carrier.write_all(&Frame::Ping(Ping { ack: true, ..ping }).encode()).await?;
                carrier.flush().await?;
            }
            // Announced together with the Welcome when memory is short; it concerns no one here.
            Frame::WindowUpdate(StreamId::SESSION, _) => {}
            Frame::Open(STREAM, open) => {
                *input = talk.input;
                return Ok(Some(Call::Visitor(open)));
            }
            Frame::Move(stream) => {
                *input = talk.input;
                return Ok(Some(Call::Stream(stream)));
            }
            _ => return Err(out_of_turn()),
        }
    }
}

/// Frames on a carrier that waits.
struct Talk {
    decoder: Decoder,
    input: BytesMut,
}

impl Talk {
    fn new(input: BytesMut) -> Self {
        let mut decoder = Decoder::default();
        decoder.authenticated();
        Self { decoder, input }
    }

    async fn next<C: Carrier>(&mut self, carrier: &mut C) -> io::Result<Frame> {
        loop {
            match self.decoder.decode(&mut self.input).map_err(io::Error::other)? {
                Some(Decoded::Frame(frame)) => return Ok(frame),
                Some(Decoded::Data { .. }) => return Err(out_of_turn()),
                None => {}
            }
            // No frame that may come here is larger, and a carrier that waits should cost little.
            self.input.reserve(READ_BYTES);
            if carrier.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn out_of_turn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the peer of a direct carrier talks out of turn")
}

/// The one stream of a direct carrier, opened by the server.
const STREAM: StreamId = StreamId(2);

/// Carriers of one session that may wait for visitors; more are refused. One costs a descriptor and
/// a few KiB.
pub(crate) const MOST_WAITING: usize = 64;

/// A carrier that nobody needed for that long is closed by the server. Only the server may: the
/// client could close one that is being given a visitor.
const LIFE: Duration = Duration::from_secs(300);

/// A Ping, a Move, or an Open with two IPv6 addresses.
const READ_BYTES: usize = 256;

/// A round trip from which on loss has to be reckoned with: no local network has that. Below it a dial takes less
/// than anybody notices.
pub(crate) const FAR: Duration = Duration::from_millis(5);

/// Visitors that may wait for a carrier within a moment, after a rest: more connections than any program opens at
/// once to move bulk. Measured over TLS, their dials cost each end 30 ms of processor time.
pub(crate) const QUEUE_BURST: u32 = 128;

/// Between two that may wait, in the long run: a steady flow of short visits is better off multiplexed than with
/// a handshake for each.
pub(crate) const QUEUE_PAUSE: Duration = Duration::from_millis(100);

/// How long a visitor waits at most. The last of a burst waits 70 ms over TLS on two processors, longer on a busy
/// machine.
const QUEUE_TIME: Duration = Duration::from_millis(200);

/// How long it waits while no carrier comes at all. A client that has dialled as many as it may dials ten a second, and
/// visitors who come one after the other are not to be held up by that.
const QUEUE_STALL: Duration = Duration::from_millis(50);

/// How long the client of a session that fell silent is doubted: by then data or the kernel's own questions have shown
/// whether it is there.
const DOUBT: Duration = Duration::from_secs(120);

/// How long nobody waits after one who did so in vain.
const DISAPPOINTMENT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
