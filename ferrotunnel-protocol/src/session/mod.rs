//! The pure session machine.

mod commands;
mod config;
mod contention;
mod event;
mod flow;
mod handle;
mod invariants;
mod liveness;
mod resets;
mod scheduler;
mod stream;
mod streams;
mod transmit;

#[cfg(test)]
mod tests;

pub use commands::{Accept, HelloRequest, OpenRequest};
pub use config::Config;
pub use contention::Contention;
pub use event::{Event, OpenError, OutFrame, Read, StreamError, WriteError};
pub use liveness::SILENT_BEATS;
pub use resets::Resets;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrotunnel_common::StreamId;
use hashbrown::HashMap;

use self::config::{CHORE_WORK, MIN_WINDOW, TIGHT_WINDOW, TUNNEL_WORK};
use self::flow::Widest;
use self::liveness::Liveness;
use self::scheduler::Scheduler;
use self::stream::Stream;
use crate::codec::Decoder;
use crate::error::Violation;
use crate::frame::{Frame, GoAwayCode};

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Dials, registers tunnels, opens odd streams.
    Client,
    /// Accepts, opens even streams.
    Server,
}

/// ```text
///  Greeting --accept/confirm--> Established --drain, GoAway--> Draining
///      |                             |                            |
///      +------------ close, violation, end of input --------------+--> Closed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The handshake is under way.
    Greeting,
    /// Tunnels and streams may come and go.
    Established,
    /// Nothing new; what is open finishes, then the session closes.
    Draining,
    /// Over. What `poll_transmit` still gives should be written, then the carrier closed.
    Closed,
}

/// One end of an authenticated client-server connection: handshake, tunnels, streams, windows,
/// scheduling and liveness, without a socket, a clock, a lock or a cipher.
///
/// Its methods come in four families:
///
/// - questions: [`side`](Self::side), [`state`](Self::state), [`round_trip`](Self::round_trip),
///   [`stats`](Self::stats), [`capacity`](Self::capacity), ..;
/// - `handle_*`, what happened: [`handle_input`](Self::handle_input),
///   [`handle_sign_of_life`](Self::handle_sign_of_life), [`handle_timeout`](Self::handle_timeout),
///   [`handle_eof`](Self::handle_eof);
/// - commands: [`hello`](Self::hello), [`accept`](Self::accept), [`confirm`](Self::confirm),
///   [`register`](Self::register), [`open`](Self::open), [`write`](Self::write),
///   [`read`](Self::read), [`finish`](Self::finish), [`finish_moved`](Self::finish_moved), [`reset`](Self::reset),
///   [`reset_after_data`](Self::reset_after_data), [`probe`](Self::probe),
///   [`drain`](Self::drain), [`close`](Self::close), ..;
/// - `poll_*`, what to do: [`poll_transmit`](Self::poll_transmit),
///   [`poll_timeout`](Self::poll_timeout), [`poll_event`](Self::poll_event). They are to be
///   called, in this order of interest, after anything else was.
///
/// No method waits. A stream that nobody reads fills its own window and nothing else.
#[derive(Debug)]
pub struct Session {
    side: Side,
    config: Config,
    state: State,
    is_drained: bool,
    greeting: Greeting,
    deadline: Option<Instant>,
    liveness: Liveness,
    decoder: Decoder,
    streams: HashMap<StreamId, Box<Stream>>,
    scheduler: Scheduler,
    /// Encoded frames that go before any data.
    control: VecDeque<Bytes>,
    pings_owed: VecDeque<[u8; 8]>,
    datagrams: VecDeque<(StreamId, Bytes)>,
    datagram_bytes: usize,
    /// Streams that may be due a grant.
    grants: VecDeque<StreamId>,
    events: VecDeque<Event>,
    next_stream: u32,
    /// Highest stream the peer opened.
    last_peer_stream: u32,
    /// Streams open on the wire, by who opened them.
    open_ours: u32,
    open_theirs: u32,
    /// Initial window we last announced, and the largest ever, which a peer may still assume.
    announced_window: u32,
    largest_announced: u32,
    /// Initial window the peer last announced.
    peer_window: u32,
    /// Window growth beyond the minimum, over all streams.
    grown_bytes: u64,
    widest: Widest,
    /// Data waiting for the carrier, over all streams.
    queued_bytes: usize,
    /// Datagrams waiting for their readers, over all flows.
    unread_datagram_bytes: usize,
    /// Entries, open or not, that the peer's streams may have here.
    entry_limit: usize,
    /// Registers of the peer without an answer.
    registers_owed: u32,
    /// GoAways heard.
    go_aways: u32,
    /// Bytes that the last `handle_input` left: only what comes on top is a sign of life.
    leftover_input: usize,
    /// Highest peer stream our GoAway promised to serve.
    sent_go_away: Option<u32>,
    violation: Option<Violation>,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    AwaitChallenge,
    MustHello,
    AwaitHello,
    MustAccept,
    AwaitWelcome,
    MustConfirm,
    Done,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    frames_in: u64,
    chores_in: u64,
    tunnels_in: u64,
    opened_here: u64,
    bytes_in: u64,
    bytes_out: u64,
    streams_opened: u64,
    datagrams_dropped: u64,
    window_stalls: u64,
    resets: Resets,
}

/// A snapshot of a session's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received, and pieces of Data in place of a whole one where it came in pieces.
    pub frames_in: u64,
    /// Those of them that are work and move nothing: all but payload, and the ends of what streams have to say. A tunnel
    /// that was granted is several.
    pub chores_in: u64,
    /// Times that the peer has asked for a tunnel or given one up.
    pub tunnels_in: u64,
    /// Payload bytes received on streams.
    pub bytes_in: u64,
    /// Payload bytes sent on streams.
    pub bytes_out: u64,
    /// Streams opened by either side since the start.
    pub streams_opened: u64,
    /// Those of them that this side has opened.
    pub opened_here: u64,
    /// Stream entries held now.
    pub streams: usize,
    /// Payload bytes waiting for the carrier.
    pub queued_bytes: usize,
    /// Receive windows granted beyond the minimum.
    pub grown_bytes: u64,
    /// Datagrams dropped on either way because somebody was behind.
    pub datagrams_dropped: u64,
    /// How often a stream that had used up all that its peer had granted had to wait for more.
    pub window_stalls: u64,
}

impl Stats {
    /// The work that frames were: of payload one each, of a chore 16 times as much, which may have to be answered or
    /// change what is known of a stream, and of a tunnel that comes or goes 16 times as much again.
    pub fn work_in(&self) -> u64 {
        work(self.frames_in, self.chores_in, self.tunnels_in)
    }
}

/// Of frames, among which are so many chores, and such about tunnels among those.
fn work(frames: u64, chores: u64, tunnels: u64) -> u64 {
    frames + chores * (CHORE_WORK - 1) + tunnels * (TUNNEL_WORK - CHORE_WORK)
}

impl Session {
    /// The client end. It waits for the server's Challenge.
    pub fn client(config: Config, now: Instant) -> Self {
        Self::new(Side::Client, Greeting::AwaitChallenge, config, now)
    }

    /// The server end. It speaks first: `nonce` must be fresh random bytes.
    pub fn server(config: Config, nonce: [u8; crate::frame::NONCE_LEN], now: Instant) -> Self {
        let mut session = Self::new(Side::Server, Greeting::AwaitHello, config, now);
        session.push_control(&Frame::Challenge(crate::frame::Challenge {
            min_version: crate::VERSION,
            max_version: crate::VERSION,
            nonce,
        }));
        session
    }

    fn new(side: Side, greeting: Greeting, config: Config, now: Instant) -> Self {
        let config = config.clamped();
        Self {
            side,
            state: State::Greeting,
            is_drained: false,
            greeting,
            deadline: now.checked_add(config.handshake_deadline),
            liveness: Liveness::new(config.heartbeat, now),
            decoder: Decoder::default(),
            streams: HashMap::new(),
            scheduler: Scheduler::default(),
            control: VecDeque::new(),
            pings_owed: VecDeque::new(),
            datagrams: VecDeque::new(),
            datagram_bytes: 0,
            grants: VecDeque::new(),
            events: VecDeque::new(),
            next_stream: match side {
                Side::Client => 1,
                Side::Server => 2,
            },
            last_peer_stream: 0,
            open_ours: 0,
            open_theirs: 0,
            announced_window: MIN_WINDOW,
            largest_announced: MIN_WINDOW,
            peer_window: TIGHT_WINDOW,
            grown_bytes: 0,
            widest: Widest::default(),
            queued_bytes: 0,
            unread_datagram_bytes: 0,
            entry_limit: config.entry_limit(),
            registers_owed: 0,
            go_aways: 0,
            leftover_input: 0,
            sent_go_away: None,
            violation: None,
            counters: Counters::default(),
            config,
        }
    }

    /// Which end this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Where the session stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it has ended by finishing all that was open, and not by a word or a fault of either side.
    pub fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// The peer's fault that ended the session, if one did.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// The least round trip of the last minutes: the way itself, without queues.
    pub fn least_round_trip(&self) -> Option<Duration> {
        self.liveness.least()
    }

    /// Whether a sign of life that was asked for by [`probe`](Self::probe) has not come yet.
    pub fn is_probed(&self) -> bool {
        self.liveness.is_probed()
    }

    /// Smoothed round trip between the two ends, from Pings.
    pub fn round_trip(&self) -> Option<Duration> {
        self.liveness.smoothed()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        Stats {
            frames_in: self.counters.frames_in,
            chores_in: self.counters.chores_in,
            tunnels_in: self.counters.tunnels_in,
            bytes_in: self.counters.bytes_in,
            bytes_out: self.counters.bytes_out,
            streams_opened: self.counters.streams_opened,
            opened_here: self.counters.opened_here,
            streams: self.streams.len(),
            queued_bytes: self.queued_bytes,
            grown_bytes: self.grown_bytes,
            datagrams_dropped: self.counters.datagrams_dropped,
            window_stalls: self.counters.window_stalls,
        }
    }

    /// Streams that were broken off, by code.
    pub fn resets(&self) -> Resets {
        self.counters.resets
    }

    /// When `handle_timeout` must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Greeting => self.deadline,
            State::Established | State::Draining => Some(self.liveness.deadline()),
        }
    }

    /// The next thing to act on.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn push_control(&mut self, frame: &Frame) {
        self.control.push_back(frame.encode());
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Established | State::Draining)
    }

    /// Ends the session: no stream works any more. What is in the control queue still leaves.
    fn shut(&mut self) {
        self.state = State::Closed;
        self.scheduler.clear();
        self.grants.clear();
        self.datagrams.clear();
        self.datagram_bytes = 0;
        self.pings_owed.clear();
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            self.abort_stream(id, StreamError::SessionClosed);
        }
    }

    /// Queues a GoAway and ends the session.
    fn go_away_now(&mut self, code: GoAwayCode, reason: &str) {
        if self.state == State::Closed {
            return;
        }
        self.push_go_away(code, reason);
        self.shut();
    }

    fn push_go_away(&mut self, code: GoAwayCode, reason: &str) {
        // A second GoAway may not promise more than the first.
        let last_stream = StreamId(self.sent_go_away.unwrap_or(self.last_peer_stream));
        self.sent_go_away = Some(last_stream.0);
        self.push_control(&Frame::GoAway(crate::frame::GoAway {
            last_stream,
            code,
            reason: reason.to_owned(),
        }));
    }

    fn fail(&mut self, violation: Violation) -> Violation {
        self.violation = Some(violation);
        let code = match violation {
            Violation::Version => GoAwayCode::Version,
            _ => GoAwayCode::ProtocolError,
        };
        self.go_away_now(code, &violation.to_string());
        violation
    }

    /// A draining session is over once its last stream has gone.
    fn close_if_drained(&mut self) {
        if self.state == State::Draining && self.open_ours == 0 && self.open_theirs == 0 {
            self.is_drained = true;
            self.shut();
        }
    }
}

impl Drop for Session {
    /// The process budget outlives the session.
    fn drop(&mut self) {
        for stream in self.streams.values() {
            self.config.budget.release(stream.recv.window.bytes());
        }
    }
}
