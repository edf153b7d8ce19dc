//! How many visitors the tunnels have, whoever has registered them and how often.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::spares::Spares;
use crate::sweep::Sweep;

/// The counts of those tunnels that are registered, or that somebody is still inside of: a client that registers its
/// tunnel anew finds the visitors that it has, and the streams that nobody uses.
#[derive(Debug, Default)]
pub(super) struct Inside(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By principal and id.
    all: HashMap<(String, String), (Weak<AtomicUsize>, Weak<Spares>)>,
    sweep: Sweep<LEAST_TO_LOOK>,
}

impl Inside {
    /// The visitors of that tunnel of that principal, in whose places the count lives on, and who keeps streams of it.
    pub(super) fn of(&self, principal: &str, id: &str) -> (Arc<AtomicUsize>, Arc<Spares>) {
        let mut counts = self.0.lock();
        let key = (principal.to_owned(), id.to_owned());
        let Counts { all, sweep } = &mut *counts;
        let (count, spares) = match all.get(&key) {
            Some((count, spares)) => (count.upgrade(), spares.upgrade()),
            None => (None, None),
        };
        sweep.before_one_more(all.len(), || {
            all.retain(|_, (count, spares)| count.strong_count() > 0 || spares.strong_count() > 0);
            all.len()
        });
        let (count, spares) = (count.unwrap_or_default(), spares.unwrap_or_default());
        all.insert(key, (Arc::downgrade(&count), Arc::downgrade(&spares)));
        (count, spares)
    }
}

/// With fewer it is not worth the time.
const LEAST_TO_LOOK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seat::Seat;

    #[test]
    fn a_count_lives_as_long_as_somebody_is_inside_and_is_each_principal_s_own() {
        let inside = Inside::default();
        let seat = Seat::take_within(&inside.of("one", "http:app").0, 1).unwrap();
        assert!(Seat::take_within(&inside.of("one", "http:app").0, 1).is_none());
        assert!(Seat::take_within(&inside.of("other", "http:app").0, 1).is_some());
        assert!(Seat::take_within(&inside.of("one", "tcp:1").0, 1).is_some());
        drop(seat);
        assert!(Seat::take_within(&inside.of("one", "http:app").0, 1).is_some());
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let inside = Inside::default();
        let stays = inside.of("one", "http:stays");
        for name in 0..10_000 {
            inside.of("one", &format!("http:{name}"));
        }
        assert!(inside.0.lock().all.len() <= LEAST_TO_LOOK);
        assert!(Arc::ptr_eq(&stays.1, &inside.of("one", "http:stays").1));
        assert!(Arc::ptr_eq(&stays.0, &inside.of("one", "http:stays").0));
    }
}
