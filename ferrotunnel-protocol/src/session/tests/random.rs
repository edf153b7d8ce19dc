//! Random work on both ends against a model of what must come of it.
//!
//! `FT_CASES=1000` runs that many cases instead of the few of every day, `FT_SEED=..` one of them
//! again. The applications here only read and write after the event that told them to, so a
//! wake-up that is lost shows as a stream that never completes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel_common::{StreamId, TunnelKind};

use super::pair::{End, Pair, Setup, other, request};
use super::rng::Rng;
use crate::budget::ReceiveBudget;
use crate::frame::{GoAwayCode, Register, Registered, ResetCode};
use crate::session::{Config, Event, OpenError, Read, Side, State, StreamError, WriteError};

#[test]
fn random_work_keeps_every_law() {
    if let Some(seed) = number("FT_SEED") {
        run_case(seed);
        return;
    }
    for seed in 1..=number("FT_CASES").unwrap_or(EVERYDAY_CASES) {
        run_case(seed);
    }
}

const EVERYDAY_CASES: u64 = 48;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number")))
}

/// Says how to run a failed case again.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with FT_SEED={}", self.0);
        }
    }
}

fn run_case(seed: u64) {
    let _replay = Replay(seed);
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle();
}

const STEPS: usize = 600;

/// What one end's application knows of a stream.
#[derive(Debug)]
struct Local {
    kind: TunnelKind,
    sent: usize,
    /// Bytes it means to send in all.
    quota: usize,
    finished: bool,
    received: usize,
    unreleased: usize,
    ended: bool,
    may_read: bool,
    may_write: bool,
    /// A write said that the peer reset the stream; what it had said before is yet to be read.
    deaf: bool,
    datagrams_sent: u64,
    last_datagram: u64,
}

impl Local {
    fn new(kind: TunnelKind, quota: usize) -> Self {
        Self {
            kind,
            sent: 0,
            quota,
            finished: false,
            received: 0,
            unreleased: 0,
            ended: false,
            may_read: true,
            may_write: true,
            deaf: false,
            datagrams_sent: 0,
            last_datagram: 0,
        }
    }

    fn is_flow(&self) -> bool {
        self.kind == TunnelKind::Udp
    }
}

/// What both directions of a stream have come to, whoever still knows it.
#[derive(Debug, Default)]
struct Truth {
    /// Somebody may see an error: it was reset, dropped early, or crossed with a GoAway.
    broken: bool,
    /// Length of the direction from the client and from the server, once finished.
    totals: [Option<usize>; 2],
    /// The same where an end broke off behind its data.
    parted: [Option<usize>; 2],
    /// Whether the direction is to go on elsewhere.
    moved: [bool; 2],
}

#[derive(Debug)]
struct World {
    pair: Pair,
    rng: Rng,
    apps: [BTreeMap<StreamId, Local>; 2],
    truth: BTreeMap<StreamId, Truth>,
    bytes: Bytes,
    registers: [u32; 2],
    draining: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let small = rng.one_in(3);
        let config = |rng: &mut Rng| Config {
            budget: ReceiveBudget::new(if small { 1 << 20 } else { 64 << 20 }),
            growth_memory_bytes: 1 << (18 + rng.below(7)),
            max_streams: 40,
            ..Config::default()
        };
        let setup = Setup {
            client: config(&mut rng),
            server: config(&mut rng),
            one_way: Duration::from_millis([0, 0, 1, 10, 50][rng.below(5)]),
            bytes_per_second: [None, None, Some(5_000_000)][rng.below(3)],
            seed: rng.next(),
            chop: rng.one_in(2),
            watched: true,
        };
        let mut pair = Pair::with(setup);
        pair.client.transmit_budget = 1 << (10 + rng.below(9));
        pair.server.transmit_budget = 1 << (10 + rng.below(9));
        let mut bytes = vec![0; PERIOD + 128 * 1024];
        bytes.fill_with(|| rng.next() as u8);
        let (head, tail) = bytes.split_at_mut(PERIOD);
        for (i, byte) in tail.iter_mut().enumerate() {
            *byte = head[i % PERIOD];
        }
        Self {
            pair,
            rng,
            apps: [BTreeMap::new(), BTreeMap::new()],
            truth: BTreeMap::new(),
            bytes: bytes.into(),
            registers: [0, 0],
            draining: false,
        }
    }

    /// What a direction of a stream carries at an offset.
    fn content(&self, id: StreamId, from: Side, offset: usize, len: usize) -> Bytes {
        let start = (offset + id.0 as usize * 977 + index(from) * 31) % PERIOD;
        self.bytes.slice(start..start + len)
    }

    fn step(&mut self) {
        let side = if self.rng.one_in(2) { Side::Client } else { Side::Server };
        match self.rng.below(100) {
            0..10 => self.open(side),
            10..40 => self.on_random(side, Self::write),
            40..65 => self.on_random(side, Self::read),
            65..75 => self.on_random(side, Self::release),
            75..80 => self.on_random(side, Self::finish),
            80 if self.rng.one_in(2) => self.on_random(side, Self::reset),
            80 => self.on_random(side, Self::reset_after_data),
            81..85 => self.on_random(side, Self::forget_if_done),
            85 => self.on_random(side, Self::forget),
            86..90 => self.on_random(side, Self::send_datagram),
            90 => self.register(),
            91..93 => {
                let stall = self.rng.one_in(3);
                self.pair.end(side).link.stalled = stall;
            }
            93 if self.rng.one_in(20) => self.drain(side),
            _ => {
                let span = Duration::from_micros(self.rng.size(60_000) as u64);
                self.pair.pass(span);
            }
        }
        self.after();
    }

    fn after(&mut self) {
        self.pair.turn();
        self.pair.check();
        for side in [Side::Client, Side::Server] {
            assert_eq!(self.pair.end(side).violation, None, "an honest peer");
            while let Some(event) = self.pair.end(side).events.pop_front() {
                self.handle(side, event);
            }
        }
    }

    fn handle(&mut self, side: Side, event: Event) {
        match event {
            Event::Opened(id, open) => {
                let quota = self.rng.size(MOST_BYTES);
                assert!(self.apps[index(side)].insert(id, Local::new(open.kind, quota)).is_none());
                self.pair.end(side).session.make_movable(id);
                self.pair.end(side).session.agree_to_move(id);
            }
            Event::Readable(id) => {
                if let Some(local) = self.apps[index(side)].get_mut(&id) {
                    assert!(!local.may_read, "woken only when waiting");
                    local.may_read = true;
                }
            }
            Event::Writable(id) => {
                if let Some(local) = self.apps[index(side)].get_mut(&id) {
                    assert!(!local.may_write, "woken only when waiting");
                    local.may_write = true;
                }
            }
            Event::Register(number, _) => {
                assert_eq!(side, Side::Server);
                let answer = Registered::Ok { address: "somewhere".into() };
                self.pair.server.session.registered(number, answer);
            }
            Event::Registered(..) => {
                assert_eq!(side, Side::Client);
                self.registers[1] += 1;
            }
            Event::GoAway(go_away) => {
                assert!(self.draining);
                assert_eq!(go_away.code, GoAwayCode::Drain);
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn on_random(&mut self, side: Side, act: fn(&mut Self, Side, StreamId)) {
        let ids: Vec<StreamId> = self.apps[index(side)].keys().copied().collect();
        if let Some(id) = self.rng.pick(&ids) {
            act(self, side, id);
        }
    }

    fn local(&mut self, side: Side, id: StreamId) -> (&mut Local, &mut End) {
        (self.apps[index(side)].get_mut(&id).unwrap(), self.pair.end(side))
    }

    fn open(&mut self, side: Side) {
        let kind = if self.rng.one_in(5) { TunnelKind::Udp } else { TunnelKind::Tcp };
        let quota = self.rng.size(MOST_BYTES);
        match self.pair.end(side).session.open(request(kind)) {
            Ok(id) => {
                self.pair.end(side).session.make_movable(id);
                self.pair.end(side).session.agree_to_move(id);
                self.apps[index(side)].insert(id, Local::new(kind, quota));
                // A GoAway may be on its way here.
                self.truth.insert(id, Truth { broken: self.draining, ..Truth::default() });
            }
            Err(OpenError::LimitReached) => {}
            Err(OpenError::Draining | OpenError::SessionClosed) => assert!(self.draining),
        }
    }

    fn write(&mut self, side: Side, id: StreamId) {
        let most = 1 + self.rng.below(128 * 1024);
        let local = &self.apps[index(side)][&id];
        let size = self.rng.size(most).min(local.quota - local.sent);
        if !local.may_write || local.finished || local.deaf || local.is_flow() || size == 0 {
            return;
        }
        let chunk = self.content(id, side, local.sent, size);
        let (local, end) = self.local(side, id);
        match end.session.write(id, chunk) {
            Ok(rest) => {
                let rest = rest.map_or(0, |rest| rest.len());
                local.sent += size - rest;
                if rest > 0 && end.session.capacity(id) == Ok(0) {
                    local.may_write = false;
                }
            }
            Err(WriteError::Stream(error)) => self.broke_writing(side, id, &error),
            Err(error) => panic!("{error}"),
        }
    }

    fn read(&mut self, side: Side, id: StreamId) {
        let max = 1 + self.rng.below(8);
        let hoards = self.rng.one_in(4);
        let is_moved = self.truth.get(&id).is_some_and(|it| it.moved[index(other(side))]);
        let (local, end) = self.local(side, id);
        if !local.may_read || local.ended {
            return;
        }
        let mut chunks = Vec::new();
        let read = match end.session.read(id, &mut chunks, max) {
            Ok(read) => read,
            Err(error) => return self.broke(side, id, &error),
        };
        match read {
            Read::Chunks => assert!(!chunks.is_empty()),
            Read::Pending => local.may_read = false,
            Read::Finished | Read::Moved => {
                local.ended = true;
                assert_eq!(read == Read::Moved, is_moved, "stream {id}: which end it was");
            }
        }
        if local.is_flow() {
            for datagram in &chunks {
                let number = u64::from_be_bytes(*datagram.first_chunk().unwrap());
                assert!(number > local.last_datagram, "datagrams in order, each once at most");
                local.last_datagram = number;
            }
        } else {
            self.check_content(side, id, &chunks);
        }
        if !hoards {
            self.release(side, id);
        }
    }

    fn check_content(&mut self, side: Side, id: StreamId, chunks: &[Bytes]) {
        for chunk in chunks {
            let offset = self.apps[index(side)][&id].received;
            for (i, part) in chunk.chunks(64 * 1024).enumerate() {
                let expected = self.content(id, other(side), offset + i * 64 * 1024, part.len());
                assert!(expected == part, "stream {id}: bytes at {offset}");
            }
            let (local, _) = self.local(side, id);
            local.received += chunk.len();
            local.unreleased += chunk.len();
        }
        let local = &self.apps[index(side)][&id];
        if local.ended {
            let total = self.truth[&id].totals[index(other(side))];
            assert_eq!(Some(local.received), total, "stream {id} is complete");
        }
    }

    fn release(&mut self, side: Side, id: StreamId) {
        let all = self.rng.one_in(2);
        let part = self.rng.size(32 * 1024);
        let (local, end) = self.local(side, id);
        let bytes = if all { local.unreleased } else { part.min(local.unreleased) };
        local.unreleased -= bytes;
        end.session.release(id, bytes);
    }

    fn finish(&mut self, side: Side, id: StreamId) {
        // Nobody moves what the other end has not agreed to.
        let may_move = self.apps[index(other(side))].contains_key(&id);
        let moves = may_move && self.rng.one_in(3);
        let (local, end) = self.local(side, id);
        let is_first = !std::mem::replace(&mut local.finished, true);
        let sent = local.sent;
        match moves {
            true => end.session.finish_moved(id),
            false => end.session.finish(id),
        }
        let truth = self.truth.get_mut(&id).unwrap();
        truth.totals[index(side)] = Some(sent);
        truth.moved[index(side)] |= moves && is_first;
    }

    fn reset(&mut self, side: Side, id: StreamId) {
        self.truth.get_mut(&id).unwrap().broken = true;
        self.pair.end(side).session.reset(id, ResetCode::Internal, "chance");
    }

    /// Its application may let go of it at once, or hold it for a while.
    fn reset_after_data(&mut self, side: Side, id: StreamId) {
        let lets_go = self.rng.one_in(2);
        let (local, end) = self.local(side, id);
        let sent = local.sent;
        end.session.reset_after_data(id, ResetCode::LocalFailed, LAST_WORDS);
        let truth = self.truth.get_mut(&id).unwrap();
        truth.parted[index(side)] = Some(sent);
        truth.broken = true;
        if lets_go {
            self.pair.end(side).session.forget(id);
            self.apps[index(side)].remove(&id);
        }
    }

    /// After an end to both directions nothing may be lost by letting go.
    fn forget_if_done(&mut self, side: Side, id: StreamId) {
        let (local, end) = self.local(side, id);
        if (local.finished || local.deaf) && local.ended {
            end.session.forget(id);
            self.apps[index(side)].remove(&id);
        }
    }

    fn forget(&mut self, side: Side, id: StreamId) {
        self.truth.get_mut(&id).unwrap().broken = true;
        self.pair.end(side).session.forget(id);
        self.apps[index(side)].remove(&id);
    }

    fn broke(&mut self, side: Side, id: StreamId, error: &StreamError) {
        let truth = &self.truth[&id];
        assert!(truth.broken, "stream {id} of an honest peer: {error}");
        let local = &self.apps[index(side)][&id];
        if let StreamError::Reset { reason, .. } = error
            && reason == LAST_WORDS
            && !local.is_flow()
        {
            let sent = truth.parted[index(other(side))];
            assert_eq!(Some(local.received), sent, "stream {id}: all that was said before");
        }
        self.pair.end(side).session.forget(id);
        self.apps[index(side)].remove(&id);
    }

    /// What the peer said before it broke off is still to be read.
    fn broke_writing(&mut self, side: Side, id: StreamId, error: &StreamError) {
        if matches!(error, StreamError::Reset { .. }) {
            assert!(self.truth[&id].broken, "stream {id} of an honest peer: {error}");
            self.local(side, id).0.deaf = true;
        } else {
            self.broke(side, id, error);
        }
    }

    fn send_datagram(&mut self, side: Side, id: StreamId) {
        let size = 8 + self.rng.size(2_000);
        let (local, end) = self.local(side, id);
        if !local.is_flow() || local.finished || local.deaf {
            return;
        }
        local.datagrams_sent += 1;
        let mut payload = vec![0; size];
        payload[..8].copy_from_slice(&local.datagrams_sent.to_be_bytes());
        match end.session.send_datagram(id, payload.into()) {
            Ok(_) => {}
            Err(WriteError::Stream(error)) => self.broke_writing(side, id, &error),
            Err(error) => panic!("{error}"),
        }
    }

    fn register(&mut self) {
        if !self.draining {
            self.registers[0] += 1;
            let register = Register {
                kind: TunnelKind::Http,
                name: "app".into(),
                hosts: Vec::new(),
                port: 0,
                options: Vec::new(),
            };
            self.pair.client.session.register(self.registers[0], register);
        }
    }

    fn drain(&mut self, side: Side) {
        self.draining = true;
        // Whatever the peer has opened and this end has not heard of is refused.
        let known = &self.apps[index(side)];
        for id in self.apps[index(other(side))].keys() {
            let theirs = (id.0 % 2 == 1) != (side == Side::Client);
            if theirs && !known.contains_key(id) {
                self.truth.get_mut(id).unwrap().broken = true;
            }
        }
        self.pair.end(side).session.drain(GoAwayCode::Drain, "chance");
    }

    /// Everybody sends what they mean to, finishes, reads to the end and lets go.
    fn settle(&mut self) {
        self.pair.client.link.stalled = false;
        self.pair.server.link.stalled = false;
        if self.rng.one_in(3) {
            let side = if self.rng.one_in(2) { Side::Client } else { Side::Server };
            self.drain(side);
        }
        for _ in 0..MOST_ROUNDS {
            if self.apps.iter().all(BTreeMap::is_empty) {
                break;
            }
            for side in [Side::Client, Side::Server] {
                self.settle_all_of(side);
            }
            self.pair.pass(Duration::from_millis(20));
            self.after();
        }
        for app in &self.apps {
            assert!(app.is_empty(), "never completed: {app:?}\n{:?}", self.pair);
        }
        self.pair.exchange();
        self.after();
        self.pair.assert_empty();
        if self.draining {
            assert_eq!(self.pair.client.session.state(), State::Closed);
            assert_eq!(self.pair.server.session.state(), State::Closed);
        } else {
            assert_eq!(self.registers[0], self.registers[1], "every Register is answered once");
        }
    }

    fn settle_all_of(&mut self, side: Side) {
        let ids: Vec<StreamId> = self.apps[index(side)].keys().copied().collect();
        for id in ids {
            for act in [Self::write, Self::read, Self::release, Self::finish_if_sent] {
                if self.apps[index(side)].contains_key(&id) {
                    act(self, side, id);
                }
            }
            if self.apps[index(side)].contains_key(&id) {
                self.forget_if_done(side, id);
            }
        }
    }

    fn finish_if_sent(&mut self, side: Side, id: StreamId) {
        let local = &self.apps[index(side)][&id];
        if !local.finished && !local.deaf && (local.is_flow() || local.sent == local.quota) {
            self.finish(side, id);
        }
    }
}

fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

/// Content repeats after this many bytes: a prime, so that no chunk or window size divides it.
const PERIOD: usize = 65_521;

/// Why an end broke off behind its data.
const LAST_WORDS: &str = "last words";

/// What one direction carries at most.
const MOST_BYTES: usize = 1 << 20;

/// Rounds of 20 ms in which everything must be through.
const MOST_ROUNDS: usize = 20_000;
