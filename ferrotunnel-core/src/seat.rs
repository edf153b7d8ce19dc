//! A place among what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One of those that are counted; counted no more when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    count: Arc<AtomicUsize>,
    /// Given back with it.
    other: Option<Box<Seat>>,
    /// Who waits for that.
    kept: Option<Kept>,
}

/// Dropped with a seat.
struct Kept(#[expect(dead_code, reason = "its drop is what it is for")] Box<dyn Send + Sync>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Seat {
    pub(crate) fn take(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(count), other: None, kept: None }
    }

    /// One that is counted by nobody.
    pub(crate) fn uncounted() -> Self {
        Self { count: Arc::new(AtomicUsize::new(1)), other: None, kept: None }
    }

    /// The same, and keeps something until it is given back.
    pub(crate) fn with_only(kept: Box<dyn Send + Sync>) -> Self {
        Self::uncounted().keeping(kept)
    }

    /// The same, and keeps something until it is given back.
    pub(crate) fn keeping(mut self, kept: Box<dyn Send + Sync>) -> Self {
        self.kept = Some(Kept(kept));
        self
    }

    /// Unless there are `most` already.
    pub(crate) fn take_within(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        // Given back at once if it is none.
        let seat = Self { count: Arc::clone(count), other: None, kept: None };
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
