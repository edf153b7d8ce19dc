//! Commands on the session: handshake, tunnels, drain and close.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ferrotunnel_common::{ClientId, SessionId, TraceContext, TunnelKind};

use super::config::{MIN_WINDOW, TUNNEL_CHORES};
use super::{Greeting, Session, State};
use crate::frame::{
    CLIENT_PROOF_LEN, Frame, GoAwayCode, Hello, NONCE_LEN, Register, Registered, SERVER_PROOF_LEN,
    Welcome,
};

/// What a client says of itself; the session adds the rest of the Hello.
#[derive(Clone, Debug)]
pub struct HelloRequest {
    /// The running client.
    pub client_id: ClientId,
    /// Which token the proof is made with; empty for the shared one.
    pub token_id: String,
    /// Fresh random bytes.
    pub nonce: [u8; NONCE_LEN],
    /// Proof that the client knows the token.
    pub proof: [u8; CLIENT_PROOF_LEN],
    /// Program name and version.
    pub software: String,
    /// The session one of whose visitors the connection is to carry; `None` begins a session.
    pub direct_for: Option<SessionId>,
}

/// The server's answer to a Hello whose proof is right.
#[derive(Clone, Debug)]
pub struct Accept {
    /// Name of the new session.
    pub session_id: SessionId,
    /// Proof that the server knows the token.
    pub proof: [u8; SERVER_PROOF_LEN],
    /// Program name and version; empty to say nothing of it.
    pub software: String,
}

/// A stream to be opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest {
    /// The number under which the client registered the tunnel; 0 when a client opens.
    pub tunnel: u32,
    /// What the stream carries.
    pub kind: TunnelKind,
    /// Who connected.
    pub visitor: Option<SocketAddr>,
    /// Where they connected to.
    pub ingress: Option<SocketAddr>,
    /// The span in whose course it is opened, if that is kept.
    pub trace: Option<TraceContext>,
}

impl Session {
    /// Client: answers the Challenge. Ignored in any other moment.
    pub fn hello(&mut self, request: HelloRequest) {
        if self.greeting != Greeting::MustHello || self.state != State::Greeting {
            return;
        }
        self.greeting = Greeting::AwaitWelcome;
        self.push_control(&Frame::Hello(Hello {
            version: crate::VERSION,
            client_id: request.client_id,
            token_id: request.token_id,
            nonce: request.nonce,
            proof: request.proof,
            software: request.software,
            initial_window: MIN_WINDOW,
            direct_for: request.direct_for,
        }));
    }

    /// Server: the proof is right; the session is established. Ignored in any other moment.
    ///
    /// `handle_input` stopped reading at the Hello: call it again with what is left.
    pub fn accept(&mut self, accept: Accept, now: Instant) {
        if self.greeting != Greeting::MustAccept || self.state != State::Greeting {
            return;
        }
        self.push_control(&Frame::Welcome(Welcome {
            session_id: accept.session_id,
            proof: accept.proof,
            heartbeat_ms: self.config.heartbeat.as_millis() as u32,
            max_streams: self.config.max_streams,
            max_tunnels: self.config.max_tunnels,
            initial_window: MIN_WINDOW,
            software: accept.software,
        }));
        self.establish(now);
    }

    /// Client: the server's proof is right; the session is established. Ignored in any other
    /// moment.
    ///
    /// `handle_input` stopped reading at the Welcome: call it again with what is left.
    pub fn confirm(&mut self, now: Instant) {
        if self.greeting == Greeting::MustConfirm && self.state == State::Greeting {
            self.establish(now);
        }
    }

    fn establish(&mut self, now: Instant) {
        self.greeting = Greeting::Done;
        self.state = State::Established;
        self.deadline = None;
        self.decoder.authenticated();
        self.liveness = super::Liveness::new(self.config.heartbeat, now);
    }

    /// Client: asks for a tunnel under a number of its own (not 0). The answer is
    /// `Event::Registered`.
    pub fn register(&mut self, number: u32, register: Register) {
        if self.is_open() {
            self.push_control(&Frame::Register(number, register));
        }
    }

    /// Client: takes a tunnel away.
    pub fn unregister(&mut self, number: u32) {
        if self.is_open() {
            self.push_control(&Frame::Unregister(number));
        }
    }

    /// Server: answers `Event::Register`, or tells later that the tunnel is lost.
    pub fn registered(&mut self, number: u32, answer: Registered) {
        if self.is_open() {
            self.registers_owed = self.registers_owed.saturating_sub(1);
            if matches!(answer, Registered::Ok { .. }) {
                self.counters.chores_in += TUNNEL_CHORES;
            }
            self.push_control(&Frame::Registered(number, answer));
        }
    }

    /// Takes nothing new, lets what is open finish, then closes. `code` is `Drain` or
    /// `ShuttingDown`; others close at once.
    pub fn drain(&mut self, code: GoAwayCode, reason: &str) {
        match self.state {
            State::Established | State::Draining if !code.is_immediate() => {
                if self.sent_go_away.is_none() {
                    self.push_go_away(code, reason);
                }
                self.state = State::Draining;
                self.close_if_drained();
            }
            _ => self.go_away_now(code, reason),
        }
    }

    /// Tells the peer and closes at once, open streams included.
    pub fn close(&mut self, code: GoAwayCode, reason: &str) {
        self.go_away_now(code, reason);
    }

    /// Wants a sign of life from the peer within that time, as when the way to it may be gone: after a
    /// sleep, or a change of network. Without one the peer is taken for dead, as after three heartbeats
    /// of silence.
    pub fn probe(&mut self, now: Instant, within: Duration) {
        if self.is_open() {
            self.liveness.probe(now, within);
        }
    }
}
