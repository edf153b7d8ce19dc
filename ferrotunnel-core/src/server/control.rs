//! What somebody at a server may do to it while it runs.

use std::sync::{Arc, Weak};

use super::{Hall, ServerEngine};
use crate::error::BuildError;

/// Ends sessions, keeps principals out and visitors away. It does not keep the server: when that is gone nothing happens.
#[derive(Clone, Debug)]
pub struct EngineControl(Weak<Hall>);

impl ServerEngine {
    /// For somebody at the server.
    pub fn control(&self) -> EngineControl {
        EngineControl(Arc::downgrade(&self.hall))
    }
}

impl EngineControl {
    /// Ends a session at once, with its visitors. Its client may come back. `id` is the session's, as it is written.
    /// Returns whether there was one.
    pub fn close_session(&self, id: &str) -> bool {
        let Some(hall) = self.0.upgrade() else { return false };
        let mut owners = hall.owners().into_iter();
        let Some(owner) = owners.find(|owner| owner.session_id.to_string() == id) else {
            return false;
        };
        tracing::info!(session = %owner.session_id, "closed by the operator");
        owner.close("the server's operator closed the session");
        true
    }

    /// The tokens that a principal has are not accepted any more until the server ends, and its sessions end with all their
    /// visitors. Returns how many those were, or `None` if there is no such principal.
    ///
    /// # Errors
    /// None at present.
    pub fn revoke(&self, principal: &str) -> Result<Option<usize>, BuildError> {
        let Some(hall) = self.0.upgrade() else { return Ok(None) };
        let mut roster = hall.roster.lock();
        let Some(change) = roster.revoke(principal)? else { return Ok(None) };
        tracing::info!(principal, "revoked by the operator");
        let owners = hall.owners();
        let before = owners.iter().filter(|owner| owner.principal().name() == principal).count();
        hall.apply(change);
        Ok(Some(before))
    }

    /// A tunnel takes no visitors from now on, also when it leaves and comes back; those inside stay. Returns whether there
    /// is one of that id.
    pub fn pause(&self, tunnel: &str) -> bool {
        let found = self.0.upgrade().is_some_and(|hall| hall.registry.pause(tunnel));
        if found {
            tracing::info!(tunnel, "paused by the operator");
        }
        found
    }

    /// It takes visitors again.
    pub fn resume(&self, tunnel: &str) -> bool {
        let found = self.0.upgrade().is_some_and(|hall| hall.registry.resume(tunnel));
        if found {
            tracing::info!(tunnel, "resumed by the operator");
        }
        found
    }
}
