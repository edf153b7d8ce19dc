//! `Registered`: the server's answer to `Register`.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::fields::{Reader, put_str16, str16_len};
use crate::error::FrameError;

/// The public address of a tunnel, or why there is none.
///
/// Payload: `code u8 | text str16 (<= 1024)`: code 0 with the public address, otherwise a
/// [`RefusalCode`] with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// Registered: where visitors reach it. For `http` a URL; for `tcp` `:port`, since only the
    /// client knows the name by which it reached the server.
    Ok {
        /// The public address.
        address: String,
    },
    /// Not registered, or no longer.
    Refused(Refusal),
}

/// Why a tunnel is not, or no longer, registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal, for programs.
    pub code: RefusalCode,
    /// The sentence for people.
    pub reason: String,
}

/// The typed part of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// 1: the name belongs to somebody else.
    NameTaken,
    /// 2: the port is taken or cannot be bound.
    PortUnavailable,
    /// 3: the principal may not have this.
    NotAllowed,
    /// 4: this server has no ingress of that kind.
    UnsupportedKind,
    /// 5: over a limit.
    LimitExceeded,
    /// 6: the name or host is not a valid one.
    InvalidName,
    /// 7: a newer session of the same principal took the tunnel over.
    Superseded,
    /// 8: a fault of the server.
    Internal,
    /// 9: another session of the same client has the tunnel now.
    Moved,
    /// Any other number, from a newer server.
    Other(u8),
}

const TEXT_CAP: u16 = 1024;

/// The code of [`Registered::Ok`].
const SUCCESS: u8 = 0;

impl Registered {
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        let code = fields.u8()?;
        let text = fields.words16(TEXT_CAP)?;
        Ok(match code {
            SUCCESS => Self::Ok { address: text },
            code => Self::Refused(Refusal { code: RefusalCode::from_wire(code), reason: text }),
        })
    }

    /// The caller keeps the address within its cap; a long reason is cut.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Ok { address } => {
                debug_assert!(address.len() <= TEXT_CAP.into());
                out.put_u8(SUCCESS);
                put_str16(out, address, TEXT_CAP);
            }
            Self::Refused(refusal) => {
                out.put_u8(refusal.code.to_wire());
                put_str16(out, &refusal.reason, TEXT_CAP);
            }
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let (Self::Ok { address: text } | Self::Refused(Refusal { reason: text, .. })) = self;
        1 + str16_len(text, TEXT_CAP)
    }
}

impl RefusalCode {
    /// The number on the wire.
    pub fn to_wire(self) -> u8 {
        match self {
            Self::NameTaken => 1,
            Self::PortUnavailable => 2,
            Self::NotAllowed => 3,
            Self::UnsupportedKind => 4,
            Self::LimitExceeded => 5,
            Self::InvalidName => 6,
            Self::Superseded => 7,
            Self::Internal => 8,
            Self::Moved => 9,
            // 0 says success, so it cannot be a refusal.
            Self::Other(0) => Self::Internal.to_wire(),
            Self::Other(number) => number,
        }
    }

    /// The code with this number.
    pub fn from_wire(number: u8) -> Self {
        match number {
            1 => Self::NameTaken,
            2 => Self::PortUnavailable,
            3 => Self::NotAllowed,
            4 => Self::UnsupportedKind,
            5 => Self::LimitExceeded,
            6 => Self::InvalidName,
            7 => Self::Superseded,
            8 => Self::Internal,
            9 => Self::Moved,
            _ => Self::Other(number),
        }
    }

    /// The lower-case word for logs and metrics; `other` for any unknown number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NameTaken => "name-taken",
            Self::PortUnavailable => "port-unavailable",
            Self::NotAllowed => "not-allowed",
            Self::UnsupportedKind => "unsupported-kind",
            Self::LimitExceeded => "limit-exceeded",
            Self::InvalidName => "invalid-name",
            Self::Superseded => "superseded",
            Self::Internal => "internal",
            Self::Moved => "moved",
            Self::Other(_) => "other",
        }
    }
}

/// The word, with its number if it is an unknown one: `other(99)`.
impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "other({number})"),
            known => f.write_str(known.as_str()),
        }
    }
}
