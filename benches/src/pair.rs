//! Two established sessions joined in memory.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::{ClientId, SessionId, StreamId, TunnelKind};
use ferrotunnel_protocol::{
    Accept, Config, Event, HelloRequest, OpenRequest, OutFrame, ReceiveBudget, Session,
};

/// A server's and a client's session, established, with nothing between them but a buffer.
#[derive(Debug)]
pub struct Pair {
    /// The end that opens streams and sends.
    pub server: Session,
    /// The end that receives.
    pub client: Session,
    now: Instant,
    frames: VecDeque<OutFrame>,
    wire: BytesMut,
    chunks: Vec<Bytes>,
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Goes through the handshake.
    pub fn new() -> Self {
        let now = Instant::now();
        // Ten thousand streams get their full window.
        let config = Config { budget: ReceiveBudget::new(4 << 30), ..Config::default() };
        let mut pair = Self {
            server: Session::server(config.clone(), [1; 32], now),
            client: Session::client(config, now),
            now,
            frames: VecDeque::new(),
            wire: BytesMut::new(),
            chunks: Vec::new(),
        };
        for _ in 0..3 {
            pair.to_client();
            while let Some(event) = pair.client.poll_event() {
                match event {
                    Event::Challenged(_) => pair.client.hello(HelloRequest {
                        client_id: ClientId([2; 16]),
                        token_id: String::new(),
                        nonce: [3; 32],
                        proof: [4; 64],
                        software: "bench".to_owned(),
                        direct_for: None,
                    }),
                    Event::Welcomed(_) => pair.client.confirm(now),
                    _ => {}
                }
            }
            pair.to_server();
            while let Some(event) = pair.server.poll_event() {
                if let Event::HelloReceived(_) = event {
                    let (session_id, software) = (SessionId(1), "bench".to_owned());
                    pair.server.accept(Accept { session_id, proof: [5; 32], software }, now);
                }
            }
        }
        pair
    }

    /// Opens that many streams from the server.
    pub fn open(&mut self, count: usize) -> Vec<StreamId> {
        let request = OpenRequest {
            tunnel: 1,
            kind: TunnelKind::Tcp,
            visitor: None,
            ingress: None,
            trace: None,
        };
        let ids = (0..count).map(|_| self.server.open(request).unwrap()).collect();
        self.to_client();
        while self.client.poll_event().is_some() {}
        ids
    }

    /// Carries what the server has to send to the client.
    pub fn to_client(&mut self) -> usize {
        carry(&mut self.server, &mut self.client, &mut self.frames, &mut self.wire, self.now)
    }

    /// Carries what the client has to send to the server.
    pub fn to_server(&mut self) -> usize {
        carry(&mut self.client, &mut self.server, &mut self.frames, &mut self.wire, self.now)
    }

    /// The client reads and releases all that `id` has; returns the bytes.
    pub fn drain(&mut self, id: StreamId) -> usize {
        self.client.read(id, &mut self.chunks, usize::MAX).unwrap();
        let bytes = self.chunks.drain(..).map(|chunk| chunk.len()).sum();
        self.client.release(id, bytes);
        bytes
    }

    /// Every stream sends one chunk, the client reads them all, credit flows back.
    pub fn round(&mut self, ids: &[StreamId], chunk: &Bytes) -> usize {
        for id in ids {
            self.server.write(*id, chunk.clone()).unwrap();
        }
        while self.to_client() > 0 {}
        while self.client.poll_event().is_some() {}
        let bytes = ids.iter().map(|id| self.drain(*id)).sum();
        self.to_server();
        while self.server.poll_event().is_some() {}
        bytes
    }

    /// Both ends of each stream finish, and forget it.
    pub fn close(&mut self, ids: Vec<StreamId>) {
        for id in &ids {
            self.server.finish(*id);
            self.client.finish(*id);
        }
        self.to_client();
        self.to_server();
        while self.client.poll_event().is_some() {}
        while self.server.poll_event().is_some() {}
        for id in ids {
            self.server.forget(id);
            self.client.forget(id);
        }
    }
}

fn carry(
    from: &mut Session,
    to: &mut Session,
    frames: &mut VecDeque<OutFrame>,
    wire: &mut BytesMut,
    now: Instant,
) -> usize {
    let bytes = from.poll_transmit(now, frames, 256 << 10);
    // The one copy of this bench; between two machines the kernel makes it.
    for frame in frames.drain(..) {
        wire.extend_from_slice(frame.head());
        wire.extend_from_slice(frame.body());
    }
    to.handle_input(now, wire).unwrap();
    bytes
}
