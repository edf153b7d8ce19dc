//! Arbitrary operations on two sessions, with a carrier between them that chops and stalls.
//!
//! Whatever the applications do, in whatever order: every law holds after every operation, bytes
//! arrive in order and complete, wake-ups are not lost, and after both sides have finished nothing
//! is left. One operation feeds bytes that the peer never sent; from then on only the laws of the
//! session itself are expected, and that its memory goes back.

#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::{ClientId, SessionId, StreamId, TunnelKind};
use ferrotunnel_protocol::frame::{
    CLIENT_PROOF_LEN, GoAwayCode, NONCE_LEN, Register, Registered, ResetCode, SERVER_PROOF_LEN,
};
use ferrotunnel_protocol::{
    Accept, Config, Event, HelloRequest, OpenRequest, OutFrame, Read, ReceiveBudget, Session,
    State, StreamError, WriteError,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut script = Script(input);
    let mut world = World::new(&mut script);
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = script.take() else { break };
        world.operate(operation, &mut script);
        world.check();
    }
    world.settle();
});

/// More tell nothing new and take long.
const MOST_OPERATIONS: usize = 2_000;

/// The input, read as operations and their arguments; at its end arguments are 0.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.take().unwrap_or_default()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Small numbers are as likely as large ones, up to 128 KiB.
    fn size(&mut self) -> usize {
        let (shift, low) = (self.byte() % 10, self.byte());
        usize::from(low) << shift
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// One end with its driver and its application.
struct End {
    session: Session,
    budget: ReceiveBudget,
    input: BytesMut,
    /// On the way to the other end.
    sent: VecDeque<Bytes>,
    streams: BTreeMap<StreamId, Local>,
}

/// What an application knows of a stream.
struct Local {
    kind: TunnelKind,
    sent: usize,
    finished: bool,
    received: usize,
    unreleased: usize,
    ended: bool,
    may_read: bool,
    may_write: bool,
    /// A write said that the peer reset the stream; what it had said before is yet to be read.
    deaf: bool,
}

/// What a stream has come to, whoever still knows it.
#[derive(Default)]
struct Truth {
    /// Somebody may see an error.
    broken: bool,
    /// Length of the direction from the client and from the server, once finished.
    totals: [Option<usize>; 2],
    /// The same where an end broke off behind its data.
    parted: [Option<usize>; 2],
    /// Whether the direction is to go on elsewhere.
    moved: [bool; 2],
}

struct World {
    start: Instant,
    now: Instant,
    registers: u32,
    ends: [End; 2],
    truth: BTreeMap<StreamId, Truth>,
    content: Bytes,
    /// Somebody drains or has closed: any stream may break.
    ending: bool,
    /// An end was fed bytes that its peer did not send.
    forged: bool,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let now = Instant::now();
        let mut config = || Config {
            max_streams: [1, 5, 300][script.below(3)],
            growth_memory_bytes: 1 << (16 + script.below(9)),
            budget: ReceiveBudget::new(1 << (18 + script.below(9))),
            ..Config::default()
        };
        let end = |session, budget| End {
            session,
            budget,
            input: BytesMut::new(),
            sent: VecDeque::new(),
            streams: BTreeMap::new(),
        };
        let (client, server) = (config(), config());
        let (client_budget, server_budget) = (client.budget.clone(), server.budget.clone());
        let ends = [
            end(Session::client(client, now), client_budget),
            end(Session::server(server, [7; NONCE_LEN], now), server_budget),
        ];
        let content = (0..PERIOD + (256 << 10)).map(|at| (at % PERIOD * 7 / 3) as u8).collect();
        let truth = BTreeMap::new();
        let mut world = Self {
            start: now,
            now,
            registers: 0,
            ends,
            truth,
            content,
            ending: false,
            forged: false,
        };
        world.exchange();
        world.ends.iter().for_each(|end| assert_eq!(end.session.state(), State::Established));
        world
    }

    fn operate(&mut self, operation: u8, script: &mut Script<'_>) {
        let at = usize::from(operation >> 7);
        match operation & 0x7f {
            operation @ 0..60 => self.operate_on_stream(at, operation, script),
            60..72 => self.open(at, script),
            72..86 => {
                self.transmit(at, script.size());
            }
            86..100 => {
                self.deliver(at, 1 + script.size());
            }
            100..106 => self.pass(Duration::from_millis(script.size() as u64 / 16)),
            106 => self.register(),
            107 => self.drain(at, script),
            108 => self.forge(at, script),
            _ => self.exchange(),
        }
    }

    fn operate_on_stream(&mut self, at: usize, operation: u8, script: &mut Script<'_>) {
        let streams = &self.ends[at].streams;
        if streams.is_empty() {
            return;
        }
        let Some(&id) = streams.keys().nth(script.below(streams.len())) else { return };
        match operation {
            0..20 => self.write(at, id, 1 + script.size()),
            20..36 => self.read(at, id, 1 + script.below(20)),
            36..44 => self.release(at, id, script.size()),
            44..47 => self.finish(at, id, false),
            47 => self.finish(at, id, true),
            48 => self.reset(at, id),
            49 => self.reset_after_data(at, id),
            50..54 => self.forget_if_done(at, id),
            54 => self.forget(at, id),
            _ => self.send_datagram(at, id, script.size()),
        }
    }

    fn check(&self) {
        for end in &self.ends {
            end.session.check_invariants();
            let violation = end.session.violation();
            let excused = self.forged || self.ending;
            assert!(violation.is_none() || excused, "an honest peer: {violation:?}");
        }
    }

    fn open(&mut self, at: usize, script: &mut Script<'_>) {
        let kind = if script.byte().is_multiple_of(4) { TunnelKind::Udp } else { TunnelKind::Tcp };
        let request = OpenRequest { tunnel: 1, kind, visitor: None, ingress: None, trace: None };
        if let Ok(id) = self.ends[at].session.open(request) {
            self.ends[at].session.make_movable(id);
            self.ends[at].session.agree_to_move(id);
            self.ends[at].streams.insert(id, Local::new(kind));
            // A GoAway may be on its way here.
            self.truth.insert(id, Truth { broken: self.ending, ..Truth::default() });
        }
    }

    /// What a direction of a stream carries at an offset.
    fn content(&self, id: StreamId, from: usize, offset: usize, len: usize) -> Bytes {
        let start = (offset + id.0 as usize * 977 + from * 31) % PERIOD;
        self.content.slice(start..start + len)
    }

    fn write(&mut self, at: usize, id: StreamId, size: usize) {
        let local = &self.ends[at].streams[&id];
        if local.finished || local.deaf || !local.may_write || local.kind == TunnelKind::Udp {
            return;
        }
        let chunk = self.content(id, at, local.sent, size);
        let end = &mut self.ends[at];
        match end.session.write(id, chunk) {
            Ok(rest) => {
                let rest = rest.map_or(0, |rest| rest.len());
                let waits = rest > 0 && end.session.capacity(id) == Ok(0);
                let local = end.streams.get_mut(&id).expect("known");
                local.sent += size - rest;
                local.may_write = !waits;
            }
            Err(WriteError::Stream(error)) => self.broke_writing(at, id, &error),
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self, at: usize, id: StreamId, max: usize) {
        let end = &mut self.ends[at];
        let local = end.streams.get_mut(&id).expect("known");
        if !local.may_read || local.ended {
            return;
        }
        let mut chunks = Vec::new();
        match end.session.read(id, &mut chunks, max) {
            Ok(Read::Chunks) => assert!(!chunks.is_empty()),
            Ok(Read::Pending) => local.may_read = false,
            Ok(read @ (Read::Finished | Read::Moved)) => {
                local.ended = true;
                let moved = self.truth.get(&id).is_some_and(|truth| truth.moved[1 - at]);
                assert!(self.forged || (read == Read::Moved) == moved, "stream {id}: which end");
            }
            Err(error) => return self.broke(at, id, &error),
        }
        if local.kind == TunnelKind::Udp {
            return;
        }
        if self.forged {
            local.unreleased += chunks.iter().map(Bytes::len).sum::<usize>();
            return;
        }
        let (mut offset, ended) = (local.received, local.ended);
        for chunk in &chunks {
            assert!(self.content(id, 1 - at, offset, chunk.len()) == chunk, "stream {id}: bytes");
            offset += chunk.len();
        }
        let local = self.ends[at].streams.get_mut(&id).expect("known");
        local.unreleased += offset - local.received;
        local.received = offset;
        if ended {
            assert_eq!(Some(offset), self.truth[&id].totals[1 - at], "stream {id} is complete");
        }
    }

    fn release(&mut self, at: usize, id: StreamId, most: usize) {
        let end = &mut self.ends[at];
        let local = end.streams.get_mut(&id).expect("known");
        let bytes = local.unreleased.min(most);
        local.unreleased -= bytes;
        end.session.release(id, bytes);
    }

    fn finish(&mut self, at: usize, id: StreamId, moves: bool) {
        // Nobody moves what the other end has not agreed to.
        let moves = moves && self.ends[1 - at].streams.contains_key(&id);
        let end = &mut self.ends[at];
        let local = end.streams.get_mut(&id).expect("known");
        let is_first = !std::mem::replace(&mut local.finished, true);
        match moves {
            true => end.session.finish_moved(id),
            false => end.session.finish(id),
        }
        let truth = self.truth.entry(id).or_default();
        truth.totals[at] = Some(local.sent);
        truth.moved[at] |= moves && is_first;
    }

    fn reset(&mut self, at: usize, id: StreamId) {
        self.truth.entry(id).or_default().broken = true;
        self.ends[at].session.reset(id, ResetCode::Internal, "chance");
    }

    /// The application goes on holding it until it finds out that the stream is over.
    fn reset_after_data(&mut self, at: usize, id: StreamId) {
        let end = &mut self.ends[at];
        let local = &end.streams[&id];
        end.session.reset_after_data(id, ResetCode::LocalFailed, LAST_WORDS);
        let truth = self.truth.entry(id).or_default();
        truth.parted[at] = Some(local.sent);
        truth.broken = true;
    }

    /// After an end to both directions nothing may be lost by letting go.
    fn forget_if_done(&mut self, at: usize, id: StreamId) {
        let end = &mut self.ends[at];
        let local = &end.streams[&id];
        if (local.finished || local.deaf) && local.ended {
            end.session.forget(id);
            end.streams.remove(&id);
        }
    }

    fn forget(&mut self, at: usize, id: StreamId) {
        self.truth.entry(id).or_default().broken = true;
        self.ends[at].session.forget(id);
        self.ends[at].streams.remove(&id);
    }

    fn broke(&mut self, at: usize, id: StreamId, error: &StreamError) {
        let excused = self.forged || self.ending || self.truth[&id].broken;
        assert!(excused, "stream {id} of an honest peer: {error}");
        let local = &self.ends[at].streams[&id];
        if let StreamError::Reset { reason, .. } = error
            && reason == LAST_WORDS
            && local.kind != TunnelKind::Udp
            && !self.forged
        {
            let said = self.truth[&id].parted[1 - at];
            assert_eq!(Some(local.received), said, "stream {id}: all that was said before");
        }
        self.ends[at].session.forget(id);
        self.ends[at].streams.remove(&id);
    }

    /// What the peer said before it broke off is still to be read.
    fn broke_writing(&mut self, at: usize, id: StreamId, error: &StreamError) {
        if !matches!(error, StreamError::Reset { .. }) {
            return self.broke(at, id, error);
        }
        let excused = self.forged || self.ending || self.truth[&id].broken;
        assert!(excused, "stream {id} of an honest peer: {error}");
        if let Some(local) = self.ends[at].streams.get_mut(&id) {
            local.deaf = true;
        }
    }

    fn send_datagram(&mut self, at: usize, id: StreamId, size: usize) {
        let payload = self.content(id, at, 0, size);
        let end = &mut self.ends[at];
        let local = &end.streams[&id];
        if local.kind != TunnelKind::Udp || local.finished || local.deaf {
            return;
        }
        match end.session.send_datagram(id, payload) {
            Ok(_) => {}
            Err(WriteError::Stream(error)) => self.broke_writing(at, id, &error),
            Err(error) => panic!("{error}"),
        }
    }

    fn transmit(&mut self, at: usize, budget: usize) -> bool {
        let end = &mut self.ends[at];
        let claimed = end.session.has_output();
        let mut out = VecDeque::new();
        let bytes = end.session.poll_transmit(self.now, &mut out, budget);
        assert_eq!(bytes, out.iter().map(OutFrame::len).sum::<usize>());
        assert!(claimed || bytes == 0, "output that has_output() did not tell of");
        for frame in out {
            end.sent.extend([Bytes::copy_from_slice(frame.head()), frame.body().clone()]);
        }
        self.collect(at);
        bytes > 0
    }

    /// To the end `at`.
    fn deliver(&mut self, at: usize, most: usize) -> bool {
        let mut left = most;
        while left > 0
            && let Some(piece) = self.ends[1 - at].sent.front_mut()
        {
            let part = piece.split_to(piece.len().min(left));
            if piece.is_empty() {
                self.ends[1 - at].sent.pop_front();
            }
            left -= part.len();
            self.feed(at, &part);
        }
        left < most
    }

    fn feed(&mut self, at: usize, bytes: &[u8]) {
        let end = &mut self.ends[at];
        end.input.extend_from_slice(bytes);
        // What is wrong is kept by the session and judged in `check`.
        let _ = end.session.handle_input(self.now, &mut end.input);
        self.collect(at);
    }

    fn forge(&mut self, at: usize, script: &mut Script<'_>) {
        self.forged = true;
        let length = usize::from(script.byte()) * 4;
        self.feed(at, script.bytes(length));
    }

    fn collect(&mut self, at: usize) {
        while let Some(event) = self.ends[at].session.poll_event() {
            self.handle(at, event);
        }
    }

    fn handle(&mut self, at: usize, event: Event) {
        let end = &mut self.ends[at];
        match event {
            Event::Challenged(_) => end.session.hello(HelloRequest {
                client_id: ClientId([1; 16]),
                token_id: String::new(),
                nonce: [2; NONCE_LEN],
                proof: [3; CLIENT_PROOF_LEN],
                software: String::new(),
                direct_for: None,
            }),
            Event::HelloReceived(_) => {
                end.session.accept(
                    Accept {
                        session_id: SessionId(1),
                        proof: [4; SERVER_PROOF_LEN],
                        software: String::new(),
                    },
                    self.now,
                );
            }
            Event::Welcomed(_) => end.session.confirm(self.now),
            Event::Opened(id, open) => {
                end.session.make_movable(id);
                end.session.agree_to_move(id);
                self.truth.entry(id).or_default();
                assert!(end.streams.insert(id, Local::new(open.kind)).is_none());
            }
            Event::Readable(id) => {
                if let Some(local) = end.streams.get_mut(&id) {
                    assert!(!local.may_read, "woken only when waiting");
                    local.may_read = true;
                }
            }
            Event::Writable(id) => {
                if let Some(local) = end.streams.get_mut(&id) {
                    assert!(!local.may_write, "woken only when waiting");
                    local.may_write = true;
                }
            }
            Event::Register(number, _) => {
                end.session.registered(number, Registered::Ok { address: String::new() });
            }
            _ => {}
        }
        // The handshake stops reading where a proof is checked.
        let _ = self.ends[at].session.handle_input(self.now, &mut self.ends[at].input);
    }

    /// At most a minute in all: Pings that lie on the carrier for longer, while single bytes keep it
    /// alive, look like a flood when they come.
    fn pass(&mut self, span: Duration) {
        self.now = (self.now + span).min(self.start + Duration::from_secs(60));
        for at in [CLIENT, SERVER] {
            let session = &mut self.ends[at].session;
            if session.poll_timeout().is_some_and(|at| at <= self.now) {
                let silent = session.handle_timeout(self.now).is_err();
                assert!(session.poll_timeout().is_none_or(|at| at > self.now), "the timer spins");
                self.ending |= silent;
            }
            self.collect(at);
        }
    }

    fn register(&mut self) {
        let register = Register {
            kind: TunnelKind::Http,
            name: "app".into(),
            hosts: Vec::new(),
            port: 0,
            options: Vec::new(),
        };
        // More without an answer are a flood.
        if self.registers < 500 {
            self.registers += 1;
            self.ends[CLIENT].session.register(self.registers, register);
        }
    }

    fn drain(&mut self, at: usize, script: &mut Script<'_>) {
        self.ending = true;
        let code = if script.byte().is_multiple_of(8) {
            GoAwayCode::Superseded
        } else {
            GoAwayCode::Drain
        };
        self.ends[at].session.drain(code, "chance");
    }

    /// Until nothing is under way.
    fn exchange(&mut self) {
        loop {
            let sent = [CLIENT, SERVER].map(|at| self.transmit(at, 64 << 10));
            let received = [CLIENT, SERVER].map(|at| self.deliver(at, usize::MAX));
            if sent == [false, false] && received == [false, false] {
                return;
            }
        }
    }

    /// Everybody finishes, reads to the end and lets go.
    fn settle(mut self) {
        self.exchange();
        let mut rounds = 0;
        while self.ends.iter().any(|end| !end.streams.is_empty()) {
            rounds += 1;
            let given_up = self.forged && rounds > 100;
            assert!(rounds < 1_000, "a stream that never completes");
            for at in [CLIENT, SERVER] {
                let ids: Vec<StreamId> = self.ends[at].streams.keys().copied().collect();
                for id in ids {
                    self.settle_one(at, id, given_up);
                }
            }
            self.exchange();
            self.check();
        }
        self.exchange();
        self.check();
        for end in &self.ends {
            // A forged Open may be of a stream that nobody will ever end.
            assert!(end.session.is_empty() || self.forged, "{:?}", end.session);
            assert!(end.budget.used_bytes() == 0 || self.forged);
        }
        if self.ending && !self.forged {
            self.ends.iter().for_each(|end| assert_eq!(end.session.state(), State::Closed));
        }
        for End { session, budget, .. } in self.ends {
            drop(session);
            assert_eq!(budget.used_bytes(), 0);
        }
    }

    fn settle_one(&mut self, at: usize, id: StreamId, given_up: bool) {
        let steps: [&dyn Fn(&mut Self); 4] = [
            &|world| world.read(at, id, usize::MAX),
            &|world| world.release(at, id, usize::MAX),
            &|world| {
                if !world.ends[at].streams[&id].finished && !world.ends[at].streams[&id].deaf {
                    world.finish(at, id, false);
                }
            },
            &|world| if given_up { world.forget(at, id) } else { world.forget_if_done(at, id) },
        ];
        for step in steps {
            if self.ends[at].streams.contains_key(&id) {
                step(self);
            }
        }
    }
}

impl Local {
    fn new(kind: TunnelKind) -> Self {
        Self {
            kind,
            sent: 0,
            finished: false,
            received: 0,
            unreleased: 0,
            ended: false,
            may_read: true,
            may_write: true,
            deaf: false,
        }
    }
}

/// Why an end broke off behind its data.
const LAST_WORDS: &str = "last words";

/// Content repeats after this many bytes: a prime, so that no chunk or window size divides it.
const PERIOD: usize = 65_521;
