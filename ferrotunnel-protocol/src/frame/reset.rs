//! `Reset`: a stream ends at once, in both directions.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::fields::{Reader, put_str8, str8_len};
use crate::error::FrameError;

/// Why a stream ended.
///
/// Payload: `code u16 | reason str8 (<= 255)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// For programs.
    pub code: ResetCode,
    /// For people; may be empty.
    pub reason: String,
}

/// The typed part of a [`Reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetCode {
    /// 1: the sender lost interest, for example because its visitor left.
    Cancelled,
    /// 2: the local service refused the connection or cannot be reached.
    LocalUnreachable,
    /// 3: the local service, or the visitor, broke its connection off.
    LocalFailed,
    /// 4: over a limit.
    LimitExceeded,
    /// 5: no such tunnel at this client.
    UnknownTunnel,
    /// 6: too slow.
    Timeout,
    /// 7: a fault of the sender.
    Internal,
    /// Any other number, from a newer peer.
    Other(u16),
}

const REASON_CAP: u8 = 255;

impl Reset {
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        Ok(Self { code: ResetCode::from_wire(fields.u16()?), reason: fields.words8(REASON_CAP)? })
    }

    /// A long reason is cut.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u16(self.code.to_wire());
        put_str8(out, &self.reason, REASON_CAP);
    }

    pub(super) fn encoded_len(&self) -> usize {
        2 + str8_len(&self.reason, REASON_CAP)
    }
}

impl ResetCode {
    /// The number on the wire.
    pub fn to_wire(self) -> u16 {
        match self {
            Self::Cancelled => 1,
            Self::LocalUnreachable => 2,
            Self::LocalFailed => 3,
            Self::LimitExceeded => 4,
            Self::UnknownTunnel => 5,
            Self::Timeout => 6,
            Self::Internal => 7,
            Self::Other(number) => number,
        }
    }

    /// The code with this number.
    pub fn from_wire(number: u16) -> Self {
        match number {
            1 => Self::Cancelled,
            2 => Self::LocalUnreachable,
            3 => Self::LocalFailed,
            4 => Self::LimitExceeded,
            5 => Self::UnknownTunnel,
            6 => Self::Timeout,
            7 => Self::Internal,
            _ => Self::Other(number),
        }
    }

    /// The lower-case word for logs and metrics; `other` for any unknown number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::LocalUnreachable => "local-unreachable",
            Self::LocalFailed => "local-failed",
            Self::LimitExceeded => "limit-exceeded",
            Self::UnknownTunnel => "unknown-tunnel",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
            Self::Other(_) => "other",
        }
    }
}

/// The word, with its number if it is an unknown one: `other(99)`.
impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "other({number})"),
            known => f.write_str(known.as_str()),
        }
    }
}
