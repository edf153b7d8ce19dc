//! A place among what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of those that are counted; counted no more when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    count: Arc<AtomicUsize>,
    /// Given back with it.
    other: Option<Box<Seat>>,
}

impl Seat {
    pub(crate) fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(count), other: None }
    }

    /// Unless there are `most` already.
    pub(crate) fn take_within(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        // Given back at once if it is none.
        let seat = Self { count: Arc::clone(count), other: None };
        (before < most).then_some(seat)
    }

    /// Both in one.
    pub(crate) fn with(mut self, mut other: Self) -> Self {
        debug_assert!(other.other.is_none(), "they join one by one");
        other.other = self.other.take();
        self.other = Some(Box::new(other));
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
