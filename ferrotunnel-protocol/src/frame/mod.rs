//! The thirteen frames: one small file each, with load and encode side by side.
//!
//! Every frame starts with eight bytes, big-endian: `type u8 | flags u8 | length u16 | stream u32`.
//! Fields are in fixed order; bytes after the last known field are ignored, which is how a version
//! grows.

mod challenge;
mod fields;
mod go_away;
mod header;
mod hello;
mod open;
mod ping;
mod register;
mod registered;
mod reset;
mod welcome;
mod window_update;

#[cfg(test)]
pub(crate) mod tests;

pub use challenge::Challenge;
pub use go_away::{GoAway, GoAwayCode};
pub use header::{ACK, FIN, FrameType, HEADER_LEN, Header, MAX_PAYLOAD, MOVED, REMOVE};
pub use hello::Hello;
pub use open::Open;
pub use ping::Ping;
pub use register::{Register, TunnelOptions};
pub use registered::{Refusal, RefusalCode, Registered};
pub use reset::{Reset, ResetCode};
pub use welcome::Welcome;
pub use window_update::{MAX_WINDOW, WindowUpdate};

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::StreamId;

use crate::error::FrameError;

/// Length in bytes of a nonce.
pub const NONCE_LEN: usize = 32;

/// Length in bytes of the client's proof, a signature.
pub const CLIENT_PROOF_LEN: usize = 64;

/// Length in bytes of the server's proof.
pub const SERVER_PROOF_LEN: usize = 32;

/// A decoded frame other than `Data`, whose payload the decoder hands out in pieces as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Server to client: version range and nonce.
    Challenge(Challenge),
    /// Client to server: who it is, with its proof.
    Hello(Hello),
    /// Server to client: the proof of the server, and the terms of the session.
    Welcome(Welcome),
    /// Client to server: adds a tunnel. The number is the client's own, in the stream field.
    Register(u32, Register),
    /// Client to server: takes a tunnel away (`Register` with its REMOVE flag, no payload).
    Unregister(u32),
    /// Server to client: the answer to `Register`; later, the loss of a tunnel to a newer session.
    Registered(u32, Registered),
    /// Opens a stream.
    Open(StreamId, Open),
    /// Credit: on a stream, more bytes; on stream 0, the window of streams opened from now on.
    WindowUpdate(StreamId, WindowUpdate),
    /// Aborts both directions of a stream.
    Reset(StreamId, Reset),
    /// One datagram of a UDP flow.
    Datagram(StreamId, Bytes),
    /// Asks for, or (ACK) is, a sign of life.
    Ping(Ping),
    /// No new streams after this.
    GoAway(GoAway),
    /// On a direct carrier. From the server: that stream of the session is to go on here; from the client: it may.
    Move(StreamId),
}

impl Frame {
    /// The whole frame, header included, in one allocation of its exact size.
    ///
    /// Never fails: text beyond its cap is cut, and so is a datagram beyond [`MAX_PAYLOAD`].
    pub fn encode(&self) -> Bytes {
        let length = self.payload_len();
        debug_assert!(length <= MAX_PAYLOAD);
        let header = Header {
            kind: self.kind(),
            flags: self.flags(),
            length: length as u16,
            stream: self.stream(),
        };
        let mut out = BytesMut::with_capacity(HEADER_LEN + length);
        out.extend_from_slice(&header.encode());
        self.encode_payload(&mut out);
        debug_assert_eq!(out.len(), HEADER_LEN + length);
        out.freeze()
    }

    /// The header's stream field: a stream, the number of a tunnel, or 0 for the session.
    pub fn stream(&self) -> u32 {
        match self {
            Self::Register(tunnel, _) | Self::Unregister(tunnel) | Self::Registered(tunnel, _) => {
                *tunnel
            }
            Self::Open(stream, _)
            | Self::WindowUpdate(stream, _)
            | Self::Reset(stream, _)
            | Self::Datagram(stream, _)
            | Self::Move(stream) => stream.0,
            Self::Challenge(_)
            | Self::Hello(_)
            | Self::Welcome(_)
            | Self::Ping(_)
            | Self::GoAway(_) => StreamId::SESSION.0,
        }
    }

    /// The name of the frame's type; `Register` for both its forms.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Reads the payload of any frame but `Data`, which never waits for the whole of it.
    pub(crate) fn load(header: Header, payload: Bytes) -> Result<Self, FrameError> {
        header.check_stream()?;
        let stream = StreamId(header.stream);
        Ok(match header.kind {
            FrameType::Challenge => Self::Challenge(Challenge::load(&payload)?),
            FrameType::Hello => Self::Hello(Hello::load(&payload)?),
            FrameType::Welcome => Self::Welcome(Welcome::load(&payload)?),
            FrameType::Register if header.has(REMOVE) => Self::Unregister(header.stream),
            FrameType::Register => Self::Register(header.stream, Register::load(&payload)?),
            FrameType::Registered => Self::Registered(header.stream, Registered::load(&payload)?),
            FrameType::Open => Self::Open(stream, Open::load(&payload)?),
            FrameType::Data => return Err(FrameError::UnknownType(header.kind as u8)),
            FrameType::WindowUpdate => Self::WindowUpdate(stream, WindowUpdate::load(&payload)?),
            FrameType::Reset => Self::Reset(stream, Reset::load(&payload)?),
            FrameType::Datagram => Self::Datagram(stream, payload),
            FrameType::Ping => {
                let ping = Ping::load(&payload)?;
                Self::Ping(Ping { ack: header.has(ACK), ..ping })
            }
            FrameType::GoAway => Self::GoAway(GoAway::load(&payload)?),
            FrameType::Move => Self::Move(stream),
        })
    }

    fn kind(&self) -> FrameType {
        match self {
            Self::Challenge(_) => FrameType::Challenge,
            Self::Hello(_) => FrameType::Hello,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Register(..) | Self::Unregister(_) => FrameType::Register,
            Self::Registered(..) => FrameType::Registered,
            Self::Open(..) => FrameType::Open,
            Self::WindowUpdate(..) => FrameType::WindowUpdate,
            Self::Reset(..) => FrameType::Reset,
            Self::Datagram(..) => FrameType::Datagram,
            Self::Ping(_) => FrameType::Ping,
            Self::GoAway(_) => FrameType::GoAway,
            Self::Move(_) => FrameType::Move,
        }
    }

    fn flags(&self) -> u8 {
        match self {
            Self::Unregister(_) => REMOVE,
            Self::Ping(Ping { ack: true, .. }) => ACK,
            _ => 0,
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Challenge(frame) => frame.encoded_len(),
            Self::Hello(frame) => frame.encoded_len(),
            Self::Welcome(frame) => frame.encoded_len(),
            Self::Register(_, frame) => frame.encoded_len(),
            Self::Unregister(_) | Self::Move(_) => 0,
            Self::Registered(_, frame) => frame.encoded_len(),
            Self::Open(_, frame) => frame.encoded_len(),
            Self::WindowUpdate(_, frame) => frame.encoded_len(),
            Self::Reset(_, frame) => frame.encoded_len(),
            Self::Datagram(_, payload) => payload.len().min(MAX_PAYLOAD),
            Self::Ping(frame) => frame.encoded_len(),
            Self::GoAway(frame) => frame.encoded_len(),
        }
    }

    fn encode_payload(&self, out: &mut BytesMut) {
        match self {
            Self::Challenge(frame) => frame.encode(out),
            Self::Hello(frame) => frame.encode(out),
            Self::Welcome(frame) => frame.encode(out),
            Self::Register(_, frame) => frame.encode(out),
            Self::Unregister(_) | Self::Move(_) => {}
            Self::Registered(_, frame) => frame.encode(out),
            Self::Open(_, frame) => frame.encode(out),
            Self::WindowUpdate(_, frame) => frame.encode(out),
            Self::Reset(_, frame) => frame.encode(out),
            Self::Datagram(_, payload) => {
                debug_assert!(payload.len() <= MAX_PAYLOAD);
                out.extend_from_slice(payload.get(..MAX_PAYLOAD).unwrap_or(payload));
            }
            Self::Ping(frame) => frame.encode(out),
            Self::GoAway(frame) => frame.encode(out),
        }
    }
}
