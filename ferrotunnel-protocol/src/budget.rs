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
    /// How often parts of the whole became tight, by themselves.
    parts_tight: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Count {
    limit_bytes: u64,
    used_bytes: AtomicU64,
    /// What `is_tight` said last.
    tight: AtomicBool,
    /// How often it became so.
    times_tight: Arc<AtomicU64>,
}

impl ReceiveBudget {
    /// A budget of that many bytes.
    pub fn new(limit_bytes: u64) -> Self {
        let own = Arc::new(Count::new(limit_bytes, Arc::default()));
        Self { own, whole: None, parts_tight: Arc::default() }
    }

    /// A budget of that many bytes within this one: what is counted there counts here too. A part of a part is
    /// one of the same whole.
    #[must_use]
    pub fn part(&self, limit_bytes: u64) -> Self {
        let whole = self.whole.as_ref().unwrap_or(&self.own);
        let parts_tight = Arc::clone(&self.parts_tight);
        let own = Arc::new(Count::new(limit_bytes, Arc::clone(&parts_tight)));
        Self { own, whole: Some(Arc::clone(whole)), parts_tight }
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

    /// How often it became tight; of a part, how often any part of its whole did.
    pub fn times_tight(&self) -> u64 {
        self.own.times_tight.load(Ordering::Relaxed)
    }

    /// How often any of its parts became tight.
    pub fn times_parts_tight(&self) -> u64 {
        self.parts_tight.load(Ordering::Relaxed)
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

/// Memory beside windows that counts against a budget until it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: ReceiveBudget,
    bytes: u32,
}

impl Held {
    /// Nothing yet.
    pub fn of(budget: &ReceiveBudget) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Holds that much more, if that leaves the last quarter free. Returns whether it does.
    #[must_use]
    pub fn grow(&mut self, bytes: u32) -> bool {
        let fits = self.budget.try_reserve(bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

impl Count {
    fn new(limit_bytes: u64, times_tight: Arc<AtomicU64>) -> Self {
        let (used_bytes, tight) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { limit_bytes, used_bytes, tight, times_tight }
    }

    fn used(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn is_tight(&self) -> bool {
        let (used, limit) = (self.used(), self.limit_bytes);
        let was = self.tight.load(Ordering::Relaxed);
        let is = used >= if was { limit / 4 * 3 } else { limit / 8 * 7 };
        if is != was && self.tight.swap(is, Ordering::Relaxed) == was && is {
            self.times_tight.fetch_add(1, Ordering::Relaxed);
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
        assert_eq!((budget.times_tight(), budget.times_parts_tight()), (1, 0));
    }

    #[test]
    fn what_is_held_beside_windows_is_given_back_with_its_holder() {
        let budget = ReceiveBudget::new(100);
        let (mut one, mut other) = (Held::of(&budget), Held::of(&budget));
        assert!(one.grow(40) && one.grow(20) && !other.grow(20) && other.grow(15));
        assert_eq!(budget.used_bytes(), 75);
        drop(one);
        assert_eq!(budget.used_bytes(), 15);
        drop(other);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_part_is_spent_alone_and_the_whole_by_all_its_parts() {
        let whole = ReceiveBudget::new(1_000);
        let (one, other) = (whole.part(400), whole.part(4_000));
        assert!(one.try_reserve(300));
        assert!(!one.try_reserve(1), "that is three quarters of its own");
        one.reserve(50);
        assert!(one.is_tight() && !other.is_tight() && !whole.is_tight());
        assert_eq!((whole.times_tight(), whole.times_parts_tight()), (0, 1));
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
