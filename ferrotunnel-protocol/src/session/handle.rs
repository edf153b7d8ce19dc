//! What happened: input, time, the end of the carrier.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::StreamId;

use super::config::{
    DATAGRAM_QUEUE_LEN, DATAGRAM_READ_BYTES, EXTRA_REGISTERS_OWED, MAX_CONTROL_QUEUE, MAX_GO_AWAYS,
    MAX_PINGS_OWED, SESSION_DATAGRAM_READ_BYTES,
};
use super::event::{Event, StreamError};
use super::stream::{Opener, Stream};
use super::{Counters, Greeting, Session, Side, State, work};
use crate::codec::{DataEnd, Decoded};
use crate::error::Violation;
use crate::frame::{
    Challenge, Frame, GoAway, Hello, Open, Ping, Reset, ResetCode, Welcome, WindowUpdate,
};
use ferrotunnel_common::TunnelKind;

impl Session {
    /// Decodes and applies all whole frames in `input`, and Data as far as it has come. Stops
    /// early where the driver has to act first: at a Hello, at a Welcome. The rest stays in
    /// `input`.
    ///
    /// # Errors
    /// A fault of the peer. The session is then closed and a GoAway is queued.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), Violation> {
        self.handle_some_input(now, input, u64::MAX).map(drop)
    }

    /// The same for so much [work](super::Stats::work_in). Returns whether it stopped for that.
    ///
    /// # Errors
    /// As for [`handle_input`](Self::handle_input).
    pub fn handle_some_input(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        most: u64,
    ) -> Result<bool, Violation> {
        if input.is_empty() || self.state == State::Closed {
            return Ok(false);
        }
        if input.len() != self.leftover_input {
            self.liveness.heard(now);
        }
        let handled = self.decode_some(now, input, most);
        self.leftover_input = input.len();
        handled.map_err(|violation| self.fail(violation))
    }

    /// Bytes came that a layer below keeps until there are more of them.
    pub fn handle_sign_of_life(&mut self, now: Instant) {
        self.liveness.heard(now);
    }

    fn decode_some(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        most: u64,
    ) -> Result<bool, Violation> {
        let end = self.work_done().saturating_add(most);
        while self.state != State::Closed && !self.must_answer() {
            if self.work_done() >= end {
                return Ok(true);
            }
            match self.decoder.decode(input)? {
                None => break,
                Some(Decoded::Data { stream, bytes, end }) => {
                    self.handle_data(stream, bytes, end)?;
                }
                Some(Decoded::Frame(frame)) => {
                    if !matches!(frame, Frame::Datagram(..)) {
                        self.counters.chores_in += 1;
                    }
                    self.handle_frame(now, frame)?;
                }
            }
            self.counters.frames_in += 1;
            self.refuse_flood()?;
        }
        Ok(false)
    }

    fn work_done(&self) -> u64 {
        let Counters { frames_in, chores_in, tunnels_in, .. } = self.counters;
        work(frames_in, chores_in, tunnels_in)
    }

    /// A peer that asks for answers and does not take them may not fill our memory.
    fn refuse_flood(&self) -> Result<(), Violation> {
        let flooded = self.pings_owed.len() > MAX_PINGS_OWED
            || self.control.len() > MAX_CONTROL_QUEUE + self.entry_limit
            || self.registers_owed > self.config.max_tunnels.saturating_add(EXTRA_REGISTERS_OWED)
            || self.go_aways > MAX_GO_AWAYS;
        if flooded { Err(Violation::Flood) } else { Ok(()) }
    }

    fn must_answer(&self) -> bool {
        matches!(self.greeting, Greeting::MustHello | Greeting::MustAccept | Greeting::MustConfirm)
    }

    /// The time came that `poll_timeout` told.
    ///
    /// # Errors
    /// The peer was too slow or is silent; the session is then closed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        match self.state {
            State::Closed => Ok(()),
            State::Greeting => match self.deadline {
                Some(deadline) if now >= deadline => Err(self.fail(Violation::HandshakeTimeout)),
                _ => Ok(()),
            },
            State::Established | State::Draining => {
                if self.liveness.is_peer_silent(now) {
                    return Err(self.fail(Violation::PeerSilent));
                }
                self.liveness.handle_timeout(now);
                Ok(())
            }
        }
    }

    /// The carrier ended or broke. Every stream ends with it.
    pub fn handle_eof(&mut self) {
        if self.state != State::Closed {
            self.control.clear();
            self.shut();
        }
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), Violation> {
        match (frame, self.side) {
            (Frame::Challenge(challenge), Side::Client) => self.handle_challenge(challenge),
            (Frame::Hello(hello), Side::Server) => self.handle_hello(hello),
            (Frame::Welcome(welcome), Side::Client) => self.handle_welcome(welcome),
            (Frame::GoAway(go_away), _) => {
                self.handle_go_away(go_away);
                Ok(())
            }
            (frame, _) if !self.is_open() => Err(Violation::Unexpected(frame.name())),
            (Frame::Register(number, register), Side::Server) => {
                self.registers_owed += 1;
                self.counters.tunnels_in += 1;
                self.events.push_back(Event::Register(number, Box::new(register)));
                Ok(())
            }
            (Frame::Unregister(number), Side::Server) => {
                self.counters.tunnels_in += 1;
                self.events.push_back(Event::Unregister(number));
                Ok(())
            }
            (Frame::Registered(number, answer), Side::Client) => {
                self.events.push_back(Event::Registered(number, Box::new(answer)));
                Ok(())
            }
            (Frame::Open(id, open), _) => self.handle_open(id, open),
            (Frame::WindowUpdate(StreamId::SESSION, update), _) => {
                self.peer_window = update.credit;
                Ok(())
            }
            (Frame::WindowUpdate(id, update), _) => self.handle_window_update(id, update),
            (Frame::Reset(id, reset), _) => self.handle_reset(id, reset),
            (Frame::Datagram(id, payload), _) => self.handle_datagram(id, payload),
            (Frame::Ping(ping), _) => self.handle_ping(now, ping),
            (frame, _) => Err(Violation::Unexpected(frame.name())),
        }
    }

    fn handle_challenge(&mut self, challenge: Challenge) -> Result<(), Violation> {
        if self.greeting != Greeting::AwaitChallenge {
            return Err(Violation::Unexpected("Challenge"));
        }
        if !(challenge.min_version..=challenge.max_version).contains(&crate::VERSION) {
            return Err(Violation::Version);
        }
        self.greeting = Greeting::MustHello;
        self.events.push_back(Event::Challenged(challenge));
        Ok(())
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), Violation> {
        if self.greeting != Greeting::AwaitHello {
            return Err(Violation::Unexpected("Hello"));
        }
        if hello.version != crate::VERSION {
            return Err(Violation::Version);
        }
        self.peer_window = hello.initial_window;
        self.greeting = Greeting::MustAccept;
        self.events.push_back(Event::HelloReceived(Box::new(hello)));
        Ok(())
    }

    fn handle_welcome(&mut self, welcome: Welcome) -> Result<(), Violation> {
        if self.greeting != Greeting::AwaitWelcome {
            return Err(Violation::Unexpected("Welcome"));
        }
        self.peer_window = welcome.initial_window;
        self.config.heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms));
        self.config.max_streams = welcome.max_streams;
        self.config.max_tunnels = welcome.max_tunnels;
        self.greeting = Greeting::MustConfirm;
        self.events.push_back(Event::Welcomed(Box::new(welcome)));
        Ok(())
    }

    fn handle_go_away(&mut self, go_away: GoAway) {
        self.go_aways += 1;
        let immediate = go_away.code.is_immediate() || self.state == State::Greeting;
        let last_stream = go_away.last_stream;
        self.events.push_back(Event::GoAway(Box::new(go_away)));
        if immediate {
            self.shut();
            return;
        }
        self.state = State::Draining;
        let unserved: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(id, stream)| stream.opener == Opener::Us && **id > last_stream)
            .map(|(id, _)| *id)
            .collect();
        for id in unserved {
            self.abort_stream(id, StreamError::Unserved);
        }
        self.close_if_drained();
    }

    fn handle_open(&mut self, id: StreamId, open: Open) -> Result<(), Violation> {
        let from_client = id.0 % 2 == 1;
        if from_client != (self.side == Side::Server) || id.0 <= self.last_peer_stream {
            return Err(Violation::StreamId);
        }
        self.last_peer_stream = id.0;
        if open.send_window > self.largest_announced {
            return Err(Violation::FlowControl);
        }
        if self.sent_go_away.is_some() {
            let code = ResetCode::Cancelled;
            self.send_reset(id, Reset { code, reason: "draining".into() });
            return Ok(());
        }
        if self.open_theirs >= self.config.max_streams {
            return Err(Violation::TooManyStreams);
        }
        // Streams that come and go faster than the application lets go of them.
        if self.streams.len() - self.open_ours as usize >= self.entry_limit {
            let code = ResetCode::LimitExceeded;
            self.send_reset(id, Reset { code, reason: String::new() });
            return Ok(());
        }
        self.open_theirs += 1;
        self.counters.streams_opened += 1;
        let mut stream =
            Stream::new(open.kind, Opener::Peer, open.receive_window, open.send_window);
        self.config.budget.reserve(stream.recv.window.bytes());
        if stream.recv.window.is_grant_due() && open.kind != TunnelKind::Udp {
            stream.recv.grant_listed = true;
            self.list_for_grant(id);
        }
        self.streams.insert(id, Box::new(stream));
        self.events.push_back(Event::Opened(id, Box::new(open)));
        Ok(())
    }

    fn handle_data(&mut self, id: StreamId, bytes: Bytes, end: DataEnd) -> Result<(), Violation> {
        let fin = end != DataEnd::Open;
        if !self.is_open() {
            return Err(Violation::Unexpected("Data"));
        }
        let Some(stream) = self.streams.get_mut(&id) else {
            self.counters.chores_in += 1;
            return self.must_have_existed(id);
        };
        if stream.aborted.is_some() {
            self.counters.chores_in += 1;
            return Ok(());
        }
        if stream.recv.finished {
            return Err(Violation::DataAfterFin);
        }
        if end == DataEnd::Moved && !stream.moving {
            return Err(Violation::Moved);
        }
        if stream.kind == TunnelKind::Udp && !bytes.is_empty() {
            return Err(Violation::Unexpected("Data"));
        }
        stream.recv.window.receive(bytes.len())?;
        self.counters.bytes_in += bytes.len() as u64;
        if bytes.is_empty() && !fin {
            self.counters.chores_in += 1;
            return Ok(());
        }
        if !bytes.is_empty() && stream.parting.is_none() {
            stream.recv.push_bytes(bytes);
        }
        stream.recv.finished = fin;
        stream.recv.moved = end == DataEnd::Moved;
        if std::mem::take(&mut stream.recv.waiting) {
            self.events.push_back(Event::Readable(id));
        }
        if fin {
            self.settle(id);
        }
        Ok(())
    }

    fn handle_window_update(
        &mut self,
        id: StreamId,
        update: WindowUpdate,
    ) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return self.must_have_existed(id);
        };
        if stream.aborted.is_some() {
            return Ok(());
        }
        stream.send.credit.add(update.credit)?;
        self.wake_writer(id);
        Ok(())
    }

    fn handle_reset(&mut self, id: StreamId, reset: Reset) -> Result<(), Violation> {
        if !self.streams.contains_key(&id) {
            return self.must_have_existed(id);
        }
        self.counters.resets.count_received(reset.code);
        self.abort_stream(id, StreamError::Reset { code: reset.code, reason: reset.reason });
        Ok(())
    }

    fn handle_datagram(&mut self, id: StreamId, payload: Bytes) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else {
            self.counters.chores_in += 1;
            return self.must_have_existed(id);
        };
        if stream.kind != TunnelKind::Udp {
            return Err(Violation::Unexpected("Datagram"));
        }
        if stream.is_over() || stream.recv.finished {
            return Ok(());
        }
        let limit = if self.unread_datagram_bytes < SESSION_DATAGRAM_READ_BYTES {
            DATAGRAM_READ_BYTES
        } else {
            stream.recv.window.bytes()
        };
        if stream.recv.queued + payload.len() as u32 > limit
            || stream.recv.queue.len() >= DATAGRAM_QUEUE_LEN
        {
            self.counters.datagrams_dropped += 1;
            return Ok(());
        }
        self.counters.bytes_in += payload.len() as u64;
        self.unread_datagram_bytes += payload.len();
        stream.recv.push_datagram(payload);
        if std::mem::take(&mut stream.recv.waiting) {
            self.events.push_back(Event::Readable(id));
        }
        Ok(())
    }

    fn handle_ping(&mut self, now: Instant, ping: Ping) -> Result<(), Violation> {
        if ping.ack {
            self.liveness.handle_ack(ping.opaque, now);
            return Ok(());
        }
        self.pings_owed.push_back(ping.opaque);
        Ok(())
    }

    /// A frame for a stream that is gone is late, one for a stream that never was is a fault.
    fn must_have_existed(&self, id: StreamId) -> Result<(), Violation> {
        let ours = (id.0 % 2 == 1) == (self.side == Side::Client);
        let existed = if ours { id.0 < self.next_stream } else { id.0 <= self.last_peer_stream };
        if existed { Ok(()) } else { Err(Violation::IdleStream) }
    }
}
