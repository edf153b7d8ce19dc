//! How many exchanges a shared connection is busy with.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ferrotunnel_core::SharedPlace;

/// One exchange that a connection is busy with, until dropped.
pub(crate) struct InFlight {
    count: Arc<AtomicUsize>,
    /// Those of its visitor.
    places: Option<SharedPlace>,
}

impl InFlight {
    pub(crate) fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: count.clone(), places: None }
    }

    /// The same with its visitor's places.
    pub(crate) fn placed(mut self, places: SharedPlace) -> Self {
        self.places = Some(places);
        self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
