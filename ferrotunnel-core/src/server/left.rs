//! What sessions leave behind: visitors with carriers of their own go on when their session has ended.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::Credential;
use crate::direct::Pool;
use crate::registry::Owner;
use crate::sweep::Sweep;

/// The direct carriers of sessions that have ended, for as long as one of them lives: a token that is revoked takes its
/// visitors along, whether their session is still there or not.
#[derive(Default)]
pub(super) struct Left(Mutex<Pools>);

#[derive(Default)]
struct Pools {
    all: Vec<(Arc<Credential>, Weak<Pool>)>,
    sweep: Sweep<LEAST_TO_LOOK>,
}

impl Left {
    /// To be called before the session leaves the others, so that it is found here or there.
    pub(super) fn keep(&self, owner: &Owner) {
        // Each carrier holds a share; most sessions have none.
        if Arc::strong_count(&owner.direct) == 1 {
            return;
        }
        let mut left = self.0.lock();
        let Pools { all, sweep } = &mut *left;
        sweep.before_one_more(all.len(), || {
            all.retain(|(_, pool)| pool.strong_count() > 0);
            all.len()
        });
        all.push((Arc::clone(&owner.credential), Arc::downgrade(&owner.direct)));
    }

    /// Cuts off the visitors of those who do not count any more.
    pub(super) fn cut_unless(&self, counts: impl Fn(&Credential) -> bool) {
        self.0.lock().all.retain(|(credential, pool)| {
            let Some(pool) = pool.upgrade() else { return false };
            let stays = counts(credential);
            if !stays {
                pool.cut();
            }
            stays
        });
    }
}

/// With fewer it is not worth the time.
const LEAST_TO_LOOK: usize = 64;
