//! Which tokens a server knows at present.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::{Binding, Nonces, Verifier};
use crate::principals::Principal;

/// What a client has proven: which token it has, and so who it is.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) verifier: Verifier,
    pub(crate) principal: Arc<Principal>,
}

impl Credential {
    pub(crate) fn token_id(&self) -> &str {
        self.verifier.token_id()
    }

    /// Which token it is, for people who read logs: the shared one has no id.
    pub(crate) fn token_shown(&self) -> &str {
        match self.token_id() {
            "" => "shared",
            id => id,
        }
    }
}

/// All tokens that may be used, by id. Those of principals that are disabled are not among them.
pub(crate) type Known = HashMap<String, Arc<Credential>>;

/// Tells clients from strangers. What it knows can be replaced at any time.
pub(crate) struct Authenticator {
    known: RwLock<Arc<Known>>,
    /// Stands in for the verifier of an id that nobody has, so that asking for one takes as long and
    /// gets the same answer. Nobody knows its token.
    nobody: Verifier,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator(redacted)")
    }
}

impl Authenticator {
    /// # Errors
    /// The system gives no random numbers.
    pub(crate) fn new(known: Known) -> std::io::Result<Self> {
        let (_, nobody) = super::issue_token()?;
        Ok(Self { known: RwLock::new(Arc::new(known)), nobody })
    }

    /// Who made the proof, unless it is wrong or the token is none that may be used.
    pub(crate) fn check(
        &self,
        token_id: &str,
        proof: &[u8],
        binding: &Binding,
        nonces: &Nonces,
    ) -> Option<Arc<Credential>> {
        let found = self.known.read().get(token_id).cloned();
        let verifier = found.as_ref().map_or(&self.nobody, |found| &found.verifier);
        let is_right = verifier.is_client_proof(proof, binding, nonces);
        found.filter(|_| is_right)
    }

    /// Whether a token of that id may be used.
    pub(crate) fn knows(&self, token_id: &str) -> bool {
        self.known.read().contains_key(token_id)
    }

    /// Whether what was proven once would still be accepted, and for the same principal: one that was
    /// removed and made anew under its name meanwhile is another.
    pub(crate) fn still_knows(&self, credential: &Credential) -> bool {
        self.known.read().get(credential.token_id()).is_some_and(|now| {
            now.verifier == credential.verifier
                && Arc::ptr_eq(&now.principal, &credential.principal)
        })
    }

    /// From now on these are known, and no others.
    pub(crate) fn replace(&self, known: Known) {
        *self.known.write() = Arc::new(known);
    }
}
