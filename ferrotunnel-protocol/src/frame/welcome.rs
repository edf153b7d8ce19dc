//! `Welcome`: the server proves itself and states the terms.

use std::ops::RangeInclusive;

use bytes::{BufMut, BytesMut};
use ferrotunnel_common::SessionId;

use super::fields::{Reader, put_str8, put_u32_within, str8_len};
use super::{MAX_WINDOW, SERVER_PROOF_LEN};
use crate::error::FrameError;

/// The server's proof and the terms of the session.
///
/// Payload: `session_id u64 | proof [32] | heartbeat_ms u32 | max_streams u32 | max_tunnels u32 |
/// initial_window u32 | software str8 (<= 64)`, the last of them only where it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Name of the session, for logs on both ends.
    pub session_id: SessionId,
    /// `HMAC(server key, "server" || binding || nonces)`.
    pub proof: [u8; SERVER_PROOF_LEN],
    /// A side that heard nothing for this long sends a Ping. Milliseconds, 100 to 600,000.
    pub heartbeat_ms: u32,
    /// Streams that each side may have opened at once; at least 1. Counted per opener: with one
    /// count for both, two honest sides that open at the same moment would go beyond it.
    pub max_streams: u32,
    /// Tunnels this session may register.
    pub max_tunnels: u32,
    /// Window, in bytes, that the client may assume for streams it opens.
    pub initial_window: u32,
    /// Name and version of the program, for whoever looks at the client. Empty: the server does not say.
    pub software: String,
}

/// Below a tenth of a second heartbeats would be traffic; above ten minutes they would notice
/// nothing and keep no NAT entry alive.
const HEARTBEAT_MS: RangeInclusive<u32> = 100..=600_000;

const SOFTWARE_CAP: u8 = 64;

impl Welcome {
    const LEN: usize = 8 + SERVER_PROOF_LEN + 4 * 4;

    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        Ok(Self {
            session_id: SessionId(fields.u64()?),
            proof: fields.array()?,
            heartbeat_ms: fields.u32_within(HEARTBEAT_MS)?,
            max_streams: fields.u32_within(1..=u32::MAX)?,
            max_tunnels: fields.u32()?,
            initial_window: fields.u32_within(0..=MAX_WINDOW)?,
            software: fields.words8_if_any(SOFTWARE_CAP)?,
        })
    }

    /// The caller keeps every number within its range; `software` is cut.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.session_id.0);
        out.put_slice(&self.proof);
        put_u32_within(out, self.heartbeat_ms, HEARTBEAT_MS);
        put_u32_within(out, self.max_streams, 1..=u32::MAX);
        out.put_u32(self.max_tunnels);
        put_u32_within(out, self.initial_window, 0..=MAX_WINDOW);
        if !self.software.is_empty() {
            put_str8(out, &self.software, SOFTWARE_CAP);
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        let software = match self.software.is_empty() {
            true => 0,
            false => str8_len(&self.software, SOFTWARE_CAP),
        };
        Self::LEN + software
    }
}
