//! What can be wrong with what the peer sends, and which alert says so.

use std::io;

use rustls::AlertDescription;

/// Why a connection cannot go on. All of it is fatal (RFC 8446, section 6.2).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    #[error("a record that was damaged or is not the peer's")]
    BadRecordMac,
    #[error("a record longer than TLS allows")]
    RecordOverflow,
    #[error("a message that may not come now")]
    UnexpectedMessage,
    #[error("a message that is malformed")]
    Malformed,
    #[error("the peer gave up: {0:?}")]
    Alert(AlertDescription),
    #[error("the end of the connection without a goodbye")]
    Truncated,
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    #[error("a key that cannot be used any more")]
    Internal,
}

impl Fault {
    /// What the peer is told, unless there is nobody to tell it to.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        Some(match self {
            Self::BadRecordMac => AlertDescription::BadRecordMac,
            Self::RecordOverflow => AlertDescription::RecordOverflow,
            Self::UnexpectedMessage => AlertDescription::UnexpectedMessage,
            Self::Malformed => AlertDescription::DecodeError,
            Self::Rustls(rustls::Error::InvalidMessage(_)) => AlertDescription::DecodeError,
            Self::Rustls(_) | Self::Internal => AlertDescription::InternalError,
            Self::Alert(_) | Self::Truncated => return None,
        })
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault {
            Fault::Truncated => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, fault)
    }
}
