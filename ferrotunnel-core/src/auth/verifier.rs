//! What a server keeps of a token.

use std::fmt;
use std::io;
use std::str::FromStr;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use ferrotunnel_common::{Token, base32};
use ferrotunnel_protocol::frame::SERVER_PROOF_LEN;

use super::keys::KEY_LEN;
use super::{Binding, CLIENT, ClientKey, NoKeys, Nonces, SERVER, message, random};

/// What a server needs to check clients with one token and to prove itself to them. Nobody can log in
/// with it, and the token cannot be computed from it; but who has it can pass for the server, so it is
/// nothing to publish, and `Debug` shows the id only.
///
/// Its text, as a settings file holds it, is `ftv1:` id `:` public key `:` server key.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    token_id: String,
    public: [u8; KEY_LEN],
    server_key: [u8; KEY_LEN],
}

/// Why a text is no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierError {
    /// It is the secret itself.
    #[error(
        "this is a token and not its verifier, which begins with ftv1: and is printed beside it; the server needs no token"
    )]
    Token,
    /// It begins with something else.
    #[error("a verifier begins with ftv1:")]
    Prefix,
    /// There are not three fields.
    #[error(
        "a verifier has three fields behind ftv1, with colons between them; copy it again as a whole"
    )]
    Fields,
    /// One of the fields is not what it can be.
    #[error("the {0} of the verifier has a typing error; copy it again as a whole")]
    Field(&'static str),
    /// All fields could be right, but not together.
    #[error("the verifier has a typing error; copy it again as a whole")]
    Checksum,
}

impl Verifier {
    pub(super) fn new(token_id: String, public: [u8; KEY_LEN], server_key: [u8; KEY_LEN]) -> Self {
        Self { token_id, public, server_key }
    }

    /// The verifier of a token.
    pub(crate) fn of(token: &Token) -> Result<Self, NoKeys> {
        ClientKey::derive(token).map(|key| key.verifier())
    }

    /// Which token it checks.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    pub(crate) fn is_client_proof(&self, proof: &[u8], binding: &Binding, nonces: &Nonces) -> bool {
        // Everything here is public, so its time tells nothing.
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        key.verify(&message(CLIENT, binding, nonces), proof).is_ok()
    }

    pub(crate) fn server_proof(
        &self,
        binding: &Binding,
        nonces: &Nonces,
    ) -> [u8; SERVER_PROOF_LEN] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.server_key);
        let tag = hmac::sign(&key, &message(SERVER, binding, nonces));
        let mut proof = [0; SERVER_PROOF_LEN];
        for (to, from) in proof.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        proof
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (public, server_key) = (base32::encode(&self.public), base32::encode(&self.server_key));
        let body = format!("{PREFIX}{}:{public}:{server_key}", self.token_id);
        write!(f, "{body}{}", base32::checksum(&body))
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let is_token = text.starts_with("ft1_");
            return Err(if is_token { VerifierError::Token } else { VerifierError::Prefix });
        };
        let mut fields = rest.split(':');
        let (Some(token_id), Some(public), Some(last), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(VerifierError::Fields);
        };
        if base32::decode::<{ Token::ID_BYTES }>(token_id).is_none() {
            return Err(VerifierError::Field("id"));
        }
        let public = base32::decode(public).ok_or(VerifierError::Field("public key"))?;
        let wrong = VerifierError::Field("server key");
        let at = last.len().checked_sub(base32::CHECKSUM_LEN).ok_or(wrong)?;
        let (server_key, checksum) = last.split_at_checked(at).ok_or(wrong)?;
        let server_key = base32::decode(server_key).ok_or(wrong)?;
        if text.strip_suffix(checksum).map(base32::checksum).as_deref() != Some(checksum) {
            return Err(VerifierError::Checksum);
        }
        Ok(Self { token_id: token_id.to_owned(), public, server_key })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

/// A fresh named token, and the verifier that lets a server know its holder.
///
/// # Errors
/// The system gives no random numbers.
pub fn issue_token() -> io::Result<(Token, Verifier)> {
    let id = random().map_err(io::Error::other)?;
    let token = Token::named(id, random().map_err(io::Error::other)?);
    let verifier = Verifier::of(&token).map_err(io::Error::other)?;
    Ok((token, verifier))
}

const PREFIX: &str = "ftv1:";
