//! `GoAway`: the session is about to end.

use std::fmt;

use bytes::{BufMut, BytesMut};
use ferrotunnel_common::StreamId;

use super::fields::{Reader, put_str8, str8_len};
use crate::error::FrameError;

/// No stream after `last_stream` will be served; what is open may finish unless the code says
/// that the session is over.
///
/// Payload: `last_stream u32 | code u16 | reason str8 (<= 255)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// Highest stream of the receiver that the sender has taken.
    pub last_stream: StreamId,
    /// For programs.
    pub code: GoAwayCode,
    /// For people; may be empty.
    pub reason: String,
}

/// The typed part of a [`GoAway`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoAwayCode {
    /// 1: take nothing new, finish what is open, then close; a new session is welcome elsewhere.
    Drain,
    /// 2: a newer session of the same principal took over; do not come back.
    Superseded,
    /// 3: the process ends; come back later.
    ShuttingDown,
    /// 4: over a limit or not wanted now; come back later.
    Refused,
    /// 5: the proof is wrong; final.
    WrongToken,
    /// 6: the peer broke the protocol.
    ProtocolError,
    /// 7: no common version.
    Version,
    /// Any other number, from a newer peer.
    Other(u16),
}

const REASON_CAP: u8 = 255;

impl GoAway {
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        Ok(Self {
            last_stream: StreamId(fields.u32()?),
            code: GoAwayCode::from_wire(fields.u16()?),
            reason: fields.words8(REASON_CAP)?,
        })
    }

    /// A long reason is cut.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.last_stream.0);
        out.put_u16(self.code.to_wire());
        put_str8(out, &self.reason, REASON_CAP);
    }

    pub(super) fn encoded_len(&self) -> usize {
        4 + 2 + str8_len(&self.reason, REASON_CAP)
    }
}

impl GoAwayCode {
    /// Whether the session is over at once, open streams included.
    pub fn is_immediate(self) -> bool {
        !matches!(self, Self::Drain | Self::ShuttingDown)
    }

    /// The number on the wire.
    pub fn to_wire(self) -> u16 {
        match self {
            Self::Drain => 1,
            Self::Superseded => 2,
            Self::ShuttingDown => 3,
            Self::Refused => 4,
            Self::WrongToken => 5,
            Self::ProtocolError => 6,
            Self::Version => 7,
            Self::Other(number) => number,
        }
    }

    /// The code with this number.
    pub fn from_wire(number: u16) -> Self {
        match number {
            1 => Self::Drain,
            2 => Self::Superseded,
            3 => Self::ShuttingDown,
            4 => Self::Refused,
            5 => Self::WrongToken,
            6 => Self::ProtocolError,
            7 => Self::Version,
            _ => Self::Other(number),
        }
    }

    /// The lower-case word for logs and metrics; `other` for any unknown number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Superseded => "superseded",
            Self::ShuttingDown => "shutting-down",
            Self::Refused => "refused",
            Self::WrongToken => "wrong-token",
            Self::ProtocolError => "protocol-error",
            Self::Version => "version",
            Self::Other(_) => "other",
        }
    }
}

/// The word, with its number if it is an unknown one: `other(99)`.
impl fmt::Display for GoAwayCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "other({number})"),
            known => f.write_str(known.as_str()),
        }
    }
}
