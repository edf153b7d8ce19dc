//! Mutual authentication from a token alone.
//!
//! A token never travels. Both ends derive `K = HKDF-SHA256(token)` and prove that they know it
//! by an HMAC over both nonces and the TLS 1.3 exporter of this very connection (RFC 9266), so a
//! proof can be neither relayed nor replayed, and a self-signed certificate is safe. On a
//! plaintext carrier the binding is empty: the token still does not travel, but nothing is hidden.

use aws_lc_rs::{hkdf, hmac, rand};
use ferrotunnel_common::{ClientId, SessionId, Token};
use ferrotunnel_protocol::frame::PROOF_LEN;

/// Who a token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(String);

impl Principal {
    /// The principal of the one shared token.
    pub(crate) fn shared() -> Self {
        Self("default".to_owned())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A random number that both proofs cover.
pub(crate) type Nonce = [u8; PROOF_LEN];

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

/// The key derived from a token.
#[derive(Clone)]
pub(crate) struct ProofKey(hmac::Key);

impl ProofKey {
    pub(crate) fn derive(token: &Token) -> Self {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(token.secret());
        let mut key = [0; 32];
        let filled =
            extracted.expand(&[INFO], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
        debug_assert!(filled.is_ok(), "32 bytes are a legal HKDF length");
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    pub(crate) fn client_proof(&self, binding: &Binding, nonces: &Nonces) -> [u8; PROOF_LEN] {
        self.sign(CLIENT, binding, nonces)
    }

    pub(crate) fn server_proof(&self, binding: &Binding, nonces: &Nonces) -> [u8; PROOF_LEN] {
        self.sign(SERVER, binding, nonces)
    }

    /// Compares in constant time.
    pub(crate) fn is_client_proof(&self, proof: &[u8], binding: &Binding, nonces: &Nonces) -> bool {
        hmac::verify(&self.0, &message(CLIENT, binding, nonces), proof).is_ok()
    }

    /// Compares in constant time.
    pub(crate) fn is_server_proof(&self, proof: &[u8], binding: &Binding, nonces: &Nonces) -> bool {
        hmac::verify(&self.0, &message(SERVER, binding, nonces), proof).is_ok()
    }

    fn sign(&self, role: &[u8], binding: &Binding, nonces: &Nonces) -> [u8; PROOF_LEN] {
        let tag = hmac::sign(&self.0, &message(role, binding, nonces));
        let mut proof = [0; PROOF_LEN];
        for (to, from) in proof.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        proof
    }
}

fn message(role: &[u8], binding: &Binding, nonces: &Nonces) -> Vec<u8> {
    [role, binding.bytes(), &nonces.server, &nonces.client].concat()
}

/// Which tokens a server knows.
#[derive(Clone)]
pub(crate) struct Authenticator {
    shared: ProofKey,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator(redacted)")
    }
}

impl Authenticator {
    pub(crate) fn shared(token: &Token) -> Self {
        Self { shared: ProofKey::derive(token) }
    }

    /// The key and principal of a token id; the shared token has the empty id.
    pub(crate) fn find(&self, token_id: &str) -> Option<(&ProofKey, Principal)> {
        token_id.is_empty().then(|| (&self.shared, Principal::shared()))
    }
}

/// The system's random source failed; without it no handshake is safe.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandom;

pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
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

const SALT: &[u8] = b"ferrotunnel/1";
const INFO: &[u8] = b"token proof";
const CLIENT: &[u8] = b"client";
const SERVER: &[u8] = b"server";

#[cfg(test)]
mod tests {
    use super::*;

    fn key(token: &str) -> ProofKey {
        ProofKey::derive(&Token::new(token).unwrap())
    }

    const NONCES: Nonces = Nonces { server: [1; 32], client: [2; 32] };
    const BINDING: Binding = Binding::Exporter([3; 32]);

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// The vectors of PROTOCOL.md.
    #[test]
    fn proofs_are_those_of_the_protocol_text() {
        let sequence = |from: u8| std::array::from_fn(|at| from + at as u8);
        let nonces = Nonces { server: sequence(0), client: sequence(32) };
        let key = key("swordfish");
        let bound = Binding::Exporter([0xbb; 32]);
        for (proof, expected) in [
            (
                key.client_proof(&Binding::Plaintext, &nonces),
                "350fe98d5b88a26ac9d14c4b61f27c825b6472f655a999affd1ef3e2cb9cc0ae",
            ),
            (
                key.server_proof(&Binding::Plaintext, &nonces),
                "ccfba4ff3cab6db5fd4c792360a2729873948a6d3732d6806a035b843a0b3ed0",
            ),
            (
                key.client_proof(&bound, &nonces),
                "3930fc3416d30366cfc16ae3cadce90fd2d8784d26b5b0dbc1633cd82dbfa2db",
            ),
            (
                key.server_proof(&bound, &nonces),
                "fb2f200e2689279136305edea69291dbeae4731fffc78d507ed32b1ec9eb352f",
            ),
        ] {
            assert_eq!(proof.to_vec(), hex(expected));
        }
    }

    #[test]
    fn a_proof_holds_for_its_token_connection_role_and_nonces_only() {
        let proof = key("secret").client_proof(&BINDING, &NONCES);
        assert!(key("secret").is_client_proof(&proof, &BINDING, &NONCES));
        assert!(!key("other").is_client_proof(&proof, &BINDING, &NONCES));
        assert!(!key("secret").is_server_proof(&proof, &BINDING, &NONCES));
        assert!(!key("secret").is_client_proof(&proof, &Binding::Exporter([4; 32]), &NONCES));
        assert!(!key("secret").is_client_proof(&proof, &Binding::Plaintext, &NONCES));
        let swapped = Nonces { server: NONCES.client, client: NONCES.server };
        assert!(!key("secret").is_client_proof(&proof, &BINDING, &swapped));
        assert!(!key("secret").is_client_proof(&proof[..31], &BINDING, &NONCES));
    }
}
