//! Mutual authentication from a token alone.
//!
//! A token never travels. Its holder derives two keys from it: one to sign with, and one by which it
//! knows its server. The server keeps a [`Verifier`]: the public half of the first and the second. Both
//! proofs cover both nonces and the TLS 1.3 exporter of this very connection (RFC 9266), so they can be
//! neither relayed nor replayed, and a self-signed certificate is safe. On a plaintext carrier the
//! binding is empty: the token still does not travel, but nothing is hidden. PROTOCOL.md has the
//! scheme, docs/security.md what it gives.

mod authenticator;
mod keys;
mod verifier;

use aws_lc_rs::rand;
use ferrotunnel_common::{ClientId, SessionId};
use ferrotunnel_protocol::frame::NONCE_LEN;

pub(crate) use self::authenticator::{Authenticator, Credential, Known};
pub(crate) use self::keys::{ClientKey, NoKeys};
pub use self::verifier::{Verifier, VerifierError, issue_token};

/// A random number that both proofs cover.
pub(crate) type Nonce = [u8; NONCE_LEN];

/// What ties a proof to one connection: the TLS exporter, or nothing on plaintext.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Binding {
    Exporter([u8; 32]),
    Plaintext,
}

impl Binding {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Exporter(bytes) => bytes,
            Self::Plaintext => &[],
        }
    }
}

/// The two nonces of a handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nonces {
    pub(crate) server: Nonce,
    pub(crate) client: Nonce,
}

/// What the proof of a side is about.
fn message(role: &[u8], binding: &Binding, nonces: &Nonces) -> Vec<u8> {
    [role, binding.bytes(), &nonces.server, &nonces.client].concat()
}

const CLIENT: &[u8] = b"client";
const SERVER: &[u8] = b"server";

/// The system's random source failed; without it no handshake is safe.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandom;

pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    #[cfg(test)]
    if crate::simulation::throw(&mut bytes) {
        return Ok(bytes);
    }
    rand::fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

pub(crate) fn random_session_id() -> Result<SessionId, NoRandom> {
    // 0 means "none" in a Hello.
    random().map(|bytes| SessionId(u64::from_be_bytes(bytes).max(1)))
}

pub(crate) fn random_client_id() -> Result<ClientId, NoRandom> {
    random().map(ClientId)
}

#[cfg(test)]
mod tests;
