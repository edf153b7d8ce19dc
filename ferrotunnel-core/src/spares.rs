//! Streams that are open and carry nothing: they are let go where somebody else finds no place.
//!
//! An ingress keeps connections to a local service for requests to come. Each has the places of a visitor who is not
//! there; who comes over another session or to another tunnel cannot use it, and is not to be turned away for it.

use std::sync::Weak;

use parking_lot::Mutex;

use crate::stream::Stream;
use crate::sweep::Sweep;

/// Who keeps streams that nobody uses at the moment.
pub trait Spare: Send + Sync + 'static {
    /// Gives one of them away, if there is any. It is asked by whoever is about to open a stream, and must not wait.
    fn give_away(&self) -> Option<Stream>;
}

/// All who keep such streams of one tunnel, session or principal.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Keepers>);

#[derive(Default)]
struct Keepers {
    all: Vec<Weak<dyn Spare>>,
    sweep: Sweep<LEAST_TO_LOOK>,
    /// Who is asked first the next time.
    next: usize,
}

impl std::fmt::Debug for Spares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spares").field("keepers", &self.0.lock().all.len()).finish()
    }
}

impl Spares {
    /// One more who keeps some, for as long as it lives.
    pub(crate) fn add(&self, keeper: Weak<dyn Spare>) {
        let mut keepers = self.0.lock();
        let Keepers { all, sweep, .. } = &mut *keepers;
        sweep.before_one_more(all.len(), || {
            all.retain(|one| one.strong_count() > 0);
            all.len()
        });
        all.push(keeper);
    }

    /// One of those streams. `None`: nobody has any, as far as it was asked for.
    pub(crate) fn take(&self) -> Option<Stream> {
        let count = self.0.lock().all.len();
        for _ in 0..count.min(MOST_ASKED) {
            // Whoever is asked is asked behind the lock.
            let keeper = {
                let mut keepers = self.0.lock();
                let at = keepers.next.checked_rem(keepers.all.len())?;
                keepers.next = at + 1;
                keepers.all[at].upgrade()
            };
            if let Some(stream) = keeper.and_then(|keeper| keeper.give_away()) {
                return Some(stream);
            }
        }
        None
    }
}

/// With fewer it is not worth the time.
const LEAST_TO_LOOK: usize = 8;

/// Keepers that one visitor has asked, who may all have nothing; the next one asks others.
const MOST_ASKED: usize = 64;

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Has nothing, and counts who asks for it.
    #[derive(Default)]
    pub(crate) struct Asked(pub(crate) AtomicUsize);

    impl Spare for Asked {
        fn give_away(&self) -> Option<Stream> {
            self.0.fetch_add(1, Ordering::Relaxed);
            None
        }
    }

    #[test]
    fn those_that_have_gone_leave_nothing_behind() {
        let spares = Spares::default();
        let stays: Arc<dyn Spare> = Arc::new(Asked::default());
        spares.add(Arc::downgrade(&stays));
        for _ in 0..10_000 {
            let goes: Arc<dyn Spare> = Arc::new(Asked::default());
            spares.add(Arc::downgrade(&goes));
        }
        assert!(spares.0.lock().all.len() <= LEAST_TO_LOOK);
        assert!(spares.0.lock().all.iter().any(|one| one.strong_count() > 0));
        assert!(spares.take().is_none());
    }

    #[test]
    fn who_asks_asks_so_many_and_the_next_one_asks_others() {
        let spares = Spares::default();
        let keepers: Vec<Arc<Asked>> = (0..2 * MOST_ASKED).map(|_| Arc::default()).collect();
        for keeper in &keepers {
            let keeper: Arc<dyn Spare> = keeper.clone();
            spares.add(Arc::downgrade(&keeper));
        }
        let asked = || keepers.iter().map(|it| it.0.load(Ordering::Relaxed)).sum::<usize>();
        assert!(spares.take().is_none());
        assert_eq!(asked(), MOST_ASKED);
        assert!(spares.take().is_none());
        assert!(keepers.iter().all(|it| it.0.load(Ordering::Relaxed) == 1));
    }
}
