//! Receive memory of the whole process, shared by its sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts the receive windows granted over all sessions of a process. A cheap handle; clones share
/// one count. It is handed into each session from outside, so two servers in one process can have
/// two budgets.
///
/// A window is counted in full from the moment it is granted: that is what peers may fill without
/// asking again.
#[derive(Clone, Debug)]
pub struct ReceiveBudget {
    own: Arc<Count>,
    /// What it is a part of.
    whole: Option<Arc<Count>>,
}

#[derive(Debug)]
struct Count {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    /// What `is_tight` said last.
    tight: AtomicBool,
}

impl ReceiveBudget {
    /// A budget of that many bytes.
    pub fn new(limit_bytes: u64) -> Self {
        Self { own: Arc::new(Count::new(limit_bytes)), whole: None }
    }

    /// A budget of that many bytes within this one: what is counted there counts here too. A part of a part is
    /// one of the same whole.
    #[must_use]
    pub fn part(&self, limit_bytes: u64) -> Self {
        let whole = self.whole.as_ref().unwrap_or(&self.own);
        Self { own: Arc::new(Count::new(limit_bytes)), whole: Some(Arc::clone(whole)) }
    }

    /// Bytes granted at present.
    pub fn used_bytes(&self) -> u64 {
        self.own.used()
    }

    /// Whether memory is nearly spent, here or in the whole: new streams then start with the small window. It
    /// becomes tight at seven eighths, which growth alone never reaches, and is so until less than three
    /// quarters are in use: every session tells its peer of a change, so streams that come and go
    /// at the mark must not make one.
    pub fn is_tight(&self) -> bool {
        self.counts().fold(false, |is_tight, count| count.is_tight() | is_tight)
    }

    /// Counts a window that every stream has a right to; never refused.
    pub(crate) fn reserve(&self, bytes: u32) {
        self.counts().for_each(|count| count.add(bytes));
    }

    /// Counts the growth of a window, if it leaves the last quarter free, here and in the whole.
    pub(crate) fn try_reserve(&self, bytes: u32) -> bool {
        if !self.own.try_add(bytes) {
            return false;
        }
        let fits = self.whole.as_ref().is_none_or(|whole| whole.try_add(bytes));
        if !fits {
            self.own.subtract(bytes);
        }
        fits
    }

    pub(crate) fn release(&self, bytes: u32) {
        self.counts().for_each(|count| count.subtract(bytes));
    }

    fn counts(&self) -> impl Iterator<Item = &Count> {
        std::iter::once(&self.own).chain(&self.whole).map(|count| &**count)
    }
}

impl Count {
    fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, used_bytes: AtomicU64::new(0), tight: AtomicBool::new(false) }
    }

    fn used(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn is_tight(&self) -> bool {
        let (used, limit) = (self.used(), self.limit_bytes);
        let was = self.tight.load(Ordering::Relaxed);
        let is = used >= if was { limit / 4 * 3 } else { limit / 8 * 7 };
        if is != was {
            self.tight.store(is, Ordering::Relaxed);
        }
        is
    }

    fn add(&self, bytes: u32) {
        self.used_bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    fn try_add(&self, bytes: u32) -> bool {
        let ceiling = self.limit_bytes / 4 * 3;
        self.used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let next = used + u64::from(bytes);
                (next <= ceiling).then_some(next)
            })
            .is_ok()
    }

    fn subtract(&self, bytes: u32) {
        self.used_bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_stops_at_three_quarters_but_a_right_is_never_refused() {
        let budget = ReceiveBudget::new(100);
        assert!(budget.try_reserve(75));
        assert!(!budget.try_reserve(1));
        assert!(!budget.is_tight(), "growth alone leaves new streams their window");
        budget.reserve(50);
        assert_eq!(budget.used_bytes(), 125);
        assert!(budget.is_tight());
        budget.release(125);
        assert!(!budget.is_tight());
    }

    #[test]
    fn what_comes_and_goes_at_the_mark_changes_nothing() {
        let budget = ReceiveBudget::new(800);
        let clone = budget.clone();
        budget.reserve(699);
        assert!(!budget.is_tight());
        budget.reserve(1);
        assert!(budget.is_tight());
        budget.release(100);
        assert!(budget.is_tight() && clone.is_tight(), "600 are three quarters");
        budget.release(1);
        assert!(!budget.is_tight());
        budget.reserve(100);
        assert!(!budget.is_tight() && !clone.is_tight(), "699 are not seven eighths");
    }

    #[test]
    fn a_part_is_spent_alone_and_the_whole_by_all_its_parts() {
        let whole = ReceiveBudget::new(1_000);
        let (one, other) = (whole.part(400), whole.part(4_000));
        assert!(one.try_reserve(300));
        assert!(!one.try_reserve(1), "that is three quarters of its own");
        one.reserve(50);
        assert!(one.is_tight() && !other.is_tight() && !whole.is_tight());
        assert!(other.try_reserve(400));
        assert!(!other.try_reserve(1), "and that of the whole");
        assert_eq!([&one, &other, &whole].map(ReceiveBudget::used_bytes), [350, 400, 750]);
        other.reserve(125);
        assert!(other.is_tight() && whole.is_tight(), "what is short for all is short for each");
        one.release(350);
        other.release(525);
        assert_eq!([&one, &other, &whole].map(ReceiveBudget::used_bytes), [0; 3]);
        assert!(!one.is_tight() && !other.is_tight());
    }
}
