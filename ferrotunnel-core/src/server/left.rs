//! What sessions leave behind: visitors with carriers of their own go on when their session has ended.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::Credential;
use crate::direct::Pool;
use crate::registry::Owner;

/// The direct carriers of sessions that have ended, for as long as one of them lives: a token that is revoked takes its
/// visitors along, whether their session is still there or not.
#[derive(Default)]
pub(super) struct Left(Mutex<Vec<(Arc<Credential>, Weak<Pool>)>>);

impl Left {
    /// To be called before the session leaves the others, so that it is found here or there.
    pub(super) fn keep(&self, owner: &Owner) {
        // Each carrier holds a share; most sessions have none.
        if Arc::strong_count(&owner.direct) == 1 {
            return;
        }
        let mut left = self.0.lock();
        // So there are never more than carriers, and those sessions that end at this moment.
        left.retain(|(_, pool)| pool.strong_count() > 0);
        left.push((Arc::clone(&owner.credential), Arc::downgrade(&owner.direct)));
    }

    /// Cuts off the visitors of those who do not count any more.
    pub(super) fn cut_unless(&self, counts: impl Fn(&Credential) -> bool) {
        self.0.lock().retain(|(credential, pool)| {
            let Some(pool) = pool.upgrade() else { return false };
            let stays = counts(credential);
            if !stays {
                pool.cut();
            }
            stays
        });
    }
}
