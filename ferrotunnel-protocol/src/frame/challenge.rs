//! `Challenge`: the server speaks first.

use bytes::{BufMut, BytesMut};

use super::NONCE_LEN;
use super::fields::Reader;
use crate::error::FrameError;

/// Version range of the server and its nonce.
///
/// Payload: `min_version u8 | max_version u8 | nonce [32]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Lowest version the server speaks.
    pub min_version: u8,
    /// Highest version the server speaks.
    pub max_version: u8,
    /// Fresh random bytes, part of both proofs.
    pub nonce: [u8; NONCE_LEN],
}

impl Challenge {
    const LEN: usize = 2 + NONCE_LEN;

    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        let min_version = fields.u8()?;
        let max_version = fields.u8()?;
        let nonce = fields.array()?;
        if min_version == 0 || min_version > max_version {
            return Err(FrameError::BadValue);
        }
        Ok(Self { min_version, max_version, nonce })
    }

    /// The caller keeps `1 <= min_version <= max_version`.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        debug_assert!(1 <= self.min_version && self.min_version <= self.max_version);
        let min = self.min_version.max(1);
        out.put_u8(min);
        out.put_u8(self.max_version.max(min));
        out.put_slice(&self.nonce);
    }

    pub(super) fn encoded_len(&self) -> usize {
        Self::LEN
    }
}
