//! `Ping`: a sign of life, and the measure of the round trip.

use bytes::{BufMut, BytesMut};

use super::fields::Reader;
use crate::error::FrameError;

/// Eight opaque bytes, returned unchanged with the ACK flag.
///
/// Payload: `opaque [8]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// This one answers.
    pub ack: bool,
    /// Chosen by the asker.
    pub opaque: [u8; 8],
}

impl Ping {
    const LEN: usize = 8;

    /// A question; the ACK flag is the header's.
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let opaque = Reader::new(payload).array()?;
        Ok(Self { ack: false, opaque })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.opaque);
    }

    pub(super) fn encoded_len(&self) -> usize {
        Self::LEN
    }
}
