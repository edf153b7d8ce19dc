//! What sessions leave behind: visitors with carriers of their own go on when their session has ended.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::Credential;
use crate::direct::Pool;
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
    pub(super) fn keep(&self, credential: &Arc<Credential>, pool: &Arc<Pool>) {
        // Each carrier holds a share; most sessions have none.
        if Arc::strong_count(pool) == 1 {
            return;
        }
        let mut left = self.0.lock();
        let Pools { all, sweep } = &mut *left;
        sweep.before_one_more(all.len(), || {
            all.retain(|(_, pool)| pool.strong_count() > 0);
            all.len()
        });
        all.push((Arc::clone(credential), Arc::downgrade(pool)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::issue_token;
    use crate::principals::Principal;

    #[test]
    fn sessions_whose_visitors_have_gone_leave_nothing_behind() {
        let (_, verifier) = issue_token().unwrap();
        let credential =
            Arc::new(Credential { verifier, principal: Arc::new(Principal::shared()) });
        let left = Left::default();
        // A carrier of a session that has ended serves somebody, and has a share of the pool for as long.
        let leave = || {
            let pool = Arc::new(Pool::default());
            let carrier = Arc::clone(&pool);
            left.keep(&credential, &pool);
            carrier
        };
        let stays = leave();
        (0..10_000).for_each(|_| drop(leave()));
        assert!(left.0.lock().all.len() <= LEAST_TO_LOOK);
        assert!(stays.reserve().is_ok());
        left.cut_unless(|_| false);
        assert!(stays.reserve().is_err() && left.0.lock().all.is_empty());
    }
}
