//! What is derived from a token, and the client's side of the proofs.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hkdf, hmac};
use ferrotunnel_common::Token;
use ferrotunnel_protocol::frame::CLIENT_PROOF_LEN;

use super::{Binding, CLIENT, Nonces, SERVER, Verifier, message};

/// What a client makes and checks proofs with.
#[derive(Clone)]
pub(crate) struct ClientKey {
    token_id: String,
    pair: std::sync::Arc<Ed25519KeyPair>,
    server_key: [u8; KEY_LEN],
}

/// The cipher library gives no keys, which leaves nothing to do but to say so.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the cipher library cannot derive keys from a token")]
pub(crate) struct NoKeys;

impl ClientKey {
    pub(crate) fn derive(token: &Token) -> Result<Self, NoKeys> {
        // The id is part of the salt: one secret under two ids gives keys that have nothing in common.
        let salt = [SALT, token.id().as_bytes()].concat();
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(token.secret());
        let seed = expand(&extracted, CLIENT_KEY)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NoKeys)?;
        Ok(Self {
            token_id: token.id().to_owned(),
            pair: std::sync::Arc::new(pair),
            server_key: expand(&extracted, SERVER_KEY)?,
        })
    }

    /// By what the server knows the token.
    pub(crate) fn token_id(&self) -> &str {
        &self.token_id
    }

    /// What a server needs to check this client.
    pub(crate) fn verifier(&self) -> Verifier {
        let mut public = [0; KEY_LEN];
        for (to, from) in public.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        Verifier::new(self.token_id.clone(), public, self.server_key)
    }

    pub(crate) fn proof(&self, binding: &Binding, nonces: &Nonces) -> [u8; CLIENT_PROOF_LEN] {
        let signature = self.pair.sign(&message(CLIENT, binding, nonces));
        let mut proof = [0; CLIENT_PROOF_LEN];
        for (to, from) in proof.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        proof
    }

    /// Compares in constant time.
    pub(crate) fn is_server_proof(&self, proof: &[u8], binding: &Binding, nonces: &Nonces) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.server_key);
        hmac::verify(&key, &message(SERVER, binding, nonces), proof).is_ok()
    }
}

fn expand(extracted: &hkdf::Prk, info: &[u8]) -> Result<[u8; KEY_LEN], NoKeys> {
    let mut key = [0; KEY_LEN];
    let info = [info];
    let okm = extracted.expand(&info, hkdf::HKDF_SHA256).map_err(|_| NoKeys)?;
    okm.fill(&mut key).map_err(|_| NoKeys)?;
    Ok(key)
}

/// Bytes of a public key, and of the server's key.
pub(super) const KEY_LEN: usize = 32;

const SALT: &[u8] = b"ferrotunnel/1";
const CLIENT_KEY: &[u8] = b"client key";
const SERVER_KEY: &[u8] = b"server key";
