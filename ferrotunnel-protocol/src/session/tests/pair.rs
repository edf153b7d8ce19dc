//! Two sessions, a virtual clock, and a carrier between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::{ClientId, SessionId, StreamId, TunnelKind};

use super::ledger::Ledger;
use super::link::Link;
use super::rng::Rng;
use crate::budget::ReceiveBudget;
use crate::error::Violation;
use crate::frame::{
    CLIENT_PROOF_LEN, Frame, FrameType, GoAwayCode, HEADER_LEN, Header, NONCE_LEN, Open,
    SERVER_PROOF_LEN,
};
use crate::session::config::MIN_WINDOW;
use crate::session::{
    Accept, Config, Event, HelloRequest, OpenRequest, Read, Session, Side, State, StreamError,
};

/// One end: the session with what a driver would keep beside it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) session: Session,
    pub(super) budget: ReceiveBudget,
    /// Everything but the handshake, oldest first.
    pub(super) events: VecDeque<Event>,
    pub(super) violation: Option<Violation>,
    /// The way out.
    pub(super) link: Link,
    /// `None` in tests that move too many bytes to look at each.
    pub(super) ledger: Option<Ledger>,
    /// Times that `handle_timeout` was called.
    pub(super) timeouts: usize,
    /// What one `poll_transmit` is asked for.
    pub(super) transmit_budget: usize,
    input: BytesMut,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) client: End,
    pub(super) server: End,
}

/// What may differ from the defaults.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) client: Config,
    pub(super) server: Config,
    pub(super) one_way: Duration,
    pub(super) bytes_per_second: Option<u64>,
    pub(super) seed: u64,
    pub(super) chop: bool,
    pub(super) watched: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            client: Config::default(),
            server: Config::default(),
            one_way: Duration::ZERO,
            bytes_per_second: None,
            seed: 1,
            chop: false,
            watched: true,
        }
    }
}

impl Pair {
    /// Two ends with nothing exchanged yet.
    pub(super) fn strangers(setup: Setup) -> Self {
        let now = Instant::now();
        let mut rng = Rng::new(setup.seed);
        let mut end = |session: Session, budget: ReceiveBudget, side| {
            let mut link = Link::new(Rng::new(rng.next()), now);
            link.one_way = setup.one_way;
            link.bytes_per_second = setup.bytes_per_second;
            link.chop = setup.chop;
            End {
                session,
                budget,
                events: VecDeque::new(),
                violation: None,
                link,
                ledger: setup.watched.then(|| Ledger::new(side)),
                timeouts: 0,
                transmit_budget: 64 << 10,
                input: BytesMut::new(),
            }
        };
        let budgets = (setup.client.budget.clone(), setup.server.budget.clone());
        let client = end(Session::client(setup.client, now), budgets.0, Side::Client);
        let server =
            end(Session::server(setup.server, [7; NONCE_LEN], now), budgets.1, Side::Server);
        Self { now, client, server }
    }

    /// Two ends that know each other, with the first Pings behind them.
    pub(super) fn with(setup: Setup) -> Self {
        let mut pair = Self::strangers(setup);
        pair.exchange();
        assert_eq!(pair.client.session.state(), State::Established);
        assert_eq!(pair.server.session.state(), State::Established);
        pair
    }

    pub(super) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(super) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Lets everything happen that happens at this moment.
    pub(super) fn turn(&mut self) {
        loop {
            let moved = [
                self.client.turn(&mut self.server.link, self.now),
                self.server.turn(&mut self.client.link, self.now),
            ];
            if moved == [false, false] {
                return;
            }
        }
    }

    /// Lets time pass. `app` acts after every moment at which something happened.
    pub(super) fn run(&mut self, span: Duration, mut app: impl FnMut(&mut Self)) {
        let until = self.now + span;
        loop {
            self.turn();
            app(self);
            self.turn();
            self.check();
            if self.now >= until {
                return;
            }
            let next = self.next_instant(true).map_or(until, |next| next.min(until));
            assert!(next > self.now, "time stands still");
            self.now = next;
        }
    }

    pub(super) fn pass(&mut self, span: Duration) {
        self.run(span, |_| ());
    }

    /// Until nothing is under way any more; no timer fires.
    pub(super) fn exchange(&mut self) {
        loop {
            self.turn();
            let Some(next) = self.next_instant(false) else { break };
            self.now = next;
        }
        self.check();
    }

    fn next_instant(&self, timers: bool) -> Option<Instant> {
        [&self.client, &self.server]
            .into_iter()
            .flat_map(|end| {
                let link = end.link.next_instant(self.now, end.session.has_output());
                [link, end.session.poll_timeout().filter(|_| timers)]
            })
            .flatten()
            .min()
    }

    pub(super) fn check(&self) {
        self.client.session.check_invariants();
        self.server.session.check_invariants();
    }

    /// A stream between the two, known to both.
    pub(super) fn open(&mut self, by: Side) -> StreamId {
        self.open_kind(by, TunnelKind::Tcp)
    }

    pub(super) fn open_kind(&mut self, by: Side, kind: TunnelKind) -> StreamId {
        let id = self.end(by).session.open(request(kind)).unwrap();
        self.exchange();
        let other = self.end(other(by));
        let opened = other
            .events
            .iter()
            .position(|event| matches!(event, Event::Opened(it, _) if *it == id));
        other.events.remove(opened.expect("an Opened event"));
        id
    }

    /// Both ends are over or empty, and have given back all memory.
    pub(super) fn assert_empty(&self) {
        for end in [&self.client, &self.server] {
            assert!(end.session.is_empty(), "left over: {:?}", end.session);
            assert_eq!(end.budget.used_bytes(), 0, "budget of {:?}", end.session.side());
        }
    }
}

impl End {
    fn turn(&mut self, from: &mut Link, now: Instant) -> bool {
        let received = self.receive(from, now);
        self.keep_time(now);
        self.transmit(now) || received
    }

    /// Sends what it has and lets the other end receive it, which may answer later.
    pub(super) fn turn_link_only(&mut self, to: &mut Self, now: Instant) {
        self.transmit(now);
        to.receive(&mut self.link, now);
    }

    /// The code of the GoAway that is the last thing to be sent.
    pub(super) fn last_go_away(&mut self, now: Instant) -> Option<GoAwayCode> {
        let frame = self.take_output(now).pop()?;
        let header = Header::decode(frame.first_chunk()?).ok()?;
        match Frame::load(header, frame.slice(HEADER_LEN..)) {
            Ok(Frame::GoAway(go_away)) => Some(go_away.code),
            _ => None,
        }
    }

    /// The session is over and everything it had to say was handed out.
    pub(super) fn is_finished(&self) -> bool {
        self.session.state() == State::Closed && !self.session.has_output()
    }

    fn receive(&mut self, from: &mut Link, now: Instant) -> bool {
        let mut received = false;
        while let Some(piece) = from.pop(now) {
            if let Some(ledger) = &mut self.ledger {
                ledger.delivered(&piece);
            }
            self.feed(&piece, now);
            received = true;
        }
        received
    }

    /// Bytes from the peer, or from a test that plays one.
    pub(super) fn feed(&mut self, bytes: &[u8], now: Instant) {
        self.input.extend_from_slice(bytes);
        self.handle_input(now);
    }

    fn handle_input(&mut self, now: Instant) {
        let handled = self.session.handle_input(now, &mut self.input);
        self.violation = self.violation.or(handled.err());
        self.collect(now);
    }

    fn keep_time(&mut self, now: Instant) {
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.timeouts += 1;
            self.violation = self.violation.or(self.session.handle_timeout(now).err());
            let next = self.session.poll_timeout();
            assert!(next.is_none_or(|at| at > now), "the timer spins");
            self.collect(now);
        }
    }

    /// Takes the events; answers those of the handshake.
    pub(super) fn collect(&mut self, now: Instant) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Challenged(_) => self.session.hello(hello()),
                Event::HelloReceived(_) => self.session.accept(accept(), now),
                Event::Welcomed(_) => self.session.confirm(now),
                event => {
                    self.events.push_back(event);
                    continue;
                }
            }
            // The session stopped reading there.
            self.handle_input(now);
        }
    }

    fn transmit(&mut self, now: Instant) -> bool {
        let mut sent = false;
        while self.link.takes_more(now) {
            let batch = self.take_output(now);
            if batch.is_empty() {
                break;
            }
            sent = true;
            for frame in batch {
                self.link.push(frame, now);
            }
        }
        sent
    }

    /// What one `poll_transmit` gives, each frame in one piece.
    pub(super) fn take_output(&mut self, now: Instant) -> Vec<Bytes> {
        let claimed = self.session.has_output();
        let mut out = VecDeque::new();
        let bytes = self.session.poll_transmit(now, &mut out, self.transmit_budget);
        assert_eq!(bytes, out.iter().map(crate::OutFrame::len).sum::<usize>(), "bytes appended");
        assert!(claimed || bytes == 0, "output that has_output() did not tell of");
        let batch: Vec<Bytes> = out.iter().map(joined).collect();
        if let Some(ledger) = &mut self.ledger {
            ledger.sent_batch(&batch);
        }
        self.collect(now);
        batch
    }

    /// What one `poll_transmit` gives, as headers.
    pub(super) fn take_headers(&mut self, now: Instant) -> Vec<Header> {
        let header = |frame: &Bytes| Header::decode(frame.first_chunk().unwrap()).unwrap();
        self.take_output(now).iter().map(header).collect()
    }

    /// Everything that has arrived, which becomes credit at once.
    pub(super) fn read_all(&mut self, id: StreamId) -> Result<(Vec<u8>, Read), StreamError> {
        let mut chunks = Vec::new();
        loop {
            match self.session.read(id, &mut chunks, 16)? {
                Read::Chunks => {}
                end => {
                    let bytes = chunks.concat();
                    self.session.release(id, bytes.len());
                    return Ok((bytes, end));
                }
            }
        }
    }

    /// As much as there is room for; returns how much that was.
    pub(super) fn write_most(&mut self, id: StreamId, bytes: usize) -> usize {
        let rest = self.session.write(id, zeros(bytes)).unwrap();
        bytes - rest.map_or(0, |rest| rest.len())
    }

    /// All of it, which must fit.
    pub(super) fn write(&mut self, id: StreamId, bytes: &'static [u8]) {
        assert_eq!(self.session.write(id, Bytes::from_static(bytes)), Ok(None));
    }

    /// Removes all events that `wanted` takes; returns how many.
    pub(super) fn take_events(&mut self, wanted: impl Fn(&Event) -> bool) -> usize {
        let before = self.events.len();
        self.events.retain(|event| !wanted(event));
        before - self.events.len()
    }

    pub(super) fn sent(&self, kind: FrameType) -> usize {
        self.ledger.as_ref().expect("a watched pair").count(kind)
    }
}

pub(super) fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

pub(super) fn request(kind: TunnelKind) -> OpenRequest {
    OpenRequest { tunnel: 1, kind, visitor: None, ingress: None, trace: None }
}

pub(super) fn hello() -> HelloRequest {
    HelloRequest {
        client_id: ClientId([3; 16]),
        token_id: String::new(),
        nonce: [8; NONCE_LEN],
        proof: [9; CLIENT_PROOF_LEN],
        software: "pair".to_owned(),
        direct_for: None,
    }
}

pub(super) fn accept() -> Accept {
    Accept { session_id: SessionId(1), proof: [9; SERVER_PROOF_LEN], software: "pair".to_owned() }
}

/// Up to a megabyte that costs nothing.
pub(super) fn zeros(bytes: usize) -> Bytes {
    static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
    Bytes::from_static(&ZEROS[..bytes])
}

/// A Data frame as it travels.
pub(super) fn data(id: StreamId, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let header = Header { kind: FrameType::Data, flags, length, stream: id.0 };
    [&header.encode(), payload].concat()
}

/// An Open with the windows of a peer that knows ours.
pub(super) fn open_frame(id: u32, kind: TunnelKind) -> Frame {
    let open = Open {
        tunnel: 1,
        kind,
        visitor: None,
        ingress: None,
        send_window: MIN_WINDOW,
        receive_window: MIN_WINDOW,
        trace: None,
    };
    Frame::Open(StreamId(id), open)
}

fn joined(frame: &crate::OutFrame) -> Bytes {
    if frame.head().is_empty() {
        return frame.body().clone();
    }
    [frame.head(), frame.body()].concat().into()
}
