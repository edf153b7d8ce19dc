//! `Hello`: the client says who it is and proves that it knows the token.

use bytes::{BufMut, BytesMut};
use ferrotunnel_common::{ClientId, SessionId};

use super::fields::{Reader, put_str8, put_u32_within, str8_len};
use super::{CLIENT_PROOF_LEN, MAX_WINDOW, NONCE_LEN};
use crate::error::FrameError;

/// Identity and proof of a client.
///
/// Payload: `version u8 | client_id [16] | token_id str8 (<= 64) | nonce [32] | proof [64] |
/// software str8 (<= 64) | initial_window u32 | direct_for u64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The version picked from the server's range.
    pub version: u8,
    /// The running client, the same across its reconnects.
    pub client_id: ClientId,
    /// Which token the proof is made with; empty for the shared one.
    pub token_id: String,
    /// Fresh random bytes, part of both proofs.
    pub nonce: [u8; NONCE_LEN],
    /// A signature over `"client" || binding || nonces`, see PROTOCOL.md.
    pub proof: [u8; CLIENT_PROOF_LEN],
    /// Name and version of the program, for the server's logs.
    pub software: String,
    /// Window, in bytes, that the server may assume for streams it opens.
    pub initial_window: u32,
    /// The connection is no session of its own: it is to carry one visitor of that session, whose
    /// id is not 0.
    pub direct_for: Option<SessionId>,
}

const TOKEN_ID_CAP: u8 = 64;
const SOFTWARE_CAP: u8 = 64;

impl Hello {
    pub(crate) fn load(payload: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Reader::new(payload);
        Ok(Self {
            version: fields.u8()?,
            client_id: ClientId(fields.array()?),
            token_id: fields.str8(TOKEN_ID_CAP)?,
            nonce: fields.array()?,
            proof: fields.array()?,
            software: fields.words8(SOFTWARE_CAP)?,
            initial_window: fields.u32_within(0..=MAX_WINDOW)?,
            direct_for: Some(fields.u64()?).filter(|id| *id != 0).map(SessionId),
        })
    }

    /// The caller keeps `token_id` and `initial_window` within their limits; `software` is cut.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        debug_assert!(self.token_id.len() <= TOKEN_ID_CAP.into());
        out.put_u8(self.version);
        out.put_slice(&self.client_id.0);
        put_str8(out, &self.token_id, TOKEN_ID_CAP);
        out.put_slice(&self.nonce);
        out.put_slice(&self.proof);
        put_str8(out, &self.software, SOFTWARE_CAP);
        put_u32_within(out, self.initial_window, 0..=MAX_WINDOW);
        out.put_u64(self.direct_for.map_or(0, |session| session.0));
    }

    pub(super) fn encoded_len(&self) -> usize {
        let texts = str8_len(&self.token_id, TOKEN_ID_CAP) + str8_len(&self.software, SOFTWARE_CAP);
        1 + 16 + NONCE_LEN + CLIENT_PROOF_LEN + texts + 4 + 8
    }
}
