//! Tickets by which a client resumes.
//!
//! The state is in the ticket and costs the server no memory; with it goes the chain that the client
//! has shown, if it has shown one.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;

use crate::error::BuildError;

/// Makes tickets that fit into a client's first message.
#[derive(Debug)]
pub(super) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// With keys of their own, which they change from time to time.
    pub(super) fn new() -> Result<Arc<Self>, BuildError> {
        let made =
            aws_lc_rs::Ticketer::new().map_err(|error| BuildError::Tls(error.to_string()))?;
        Ok(Arc::new(Self(made)))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // A client whose chain is longer does without: we would not take its next hello.
        (plain.len() <= MOST_STATE).then(|| self.0.encrypt(plain)).flatten()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// Half of what a stranger may say before we have answered, which is one record. A chain has some KiB.
const MOST_STATE: usize = 8 << 10;
