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
pub struct ReceiveBudget(Arc<Count>);

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
        Self(Arc::new(Count {
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            tight: AtomicBool::new(false),
        }))
    }

    /// Bytes granted at present.
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether memory is nearly spent: new streams then start with the small window. It becomes
    /// tight at seven eighths, which growth alone never reaches, and is so until less than three
    /// quarters are in use: every session tells its peer of a change, so streams that come and go
    /// at the mark must not make one.
    pub fn is_tight(&self) -> bool {
        let (used, limit) = (self.used_bytes(), self.0.limit_bytes);
        let was = self.0.tight.load(Ordering::Relaxed);
        let is = used >= if was { limit / 4 * 3 } else { limit / 8 * 7 };
        if is != was {
            self.0.tight.store(is, Ordering::Relaxed);
        }
        is
    }

    /// Counts a window that every stream has a right to; never refused.
    pub(crate) fn reserve(&self, bytes: u32) {
        self.0.used_bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    /// Counts the growth of a window, if it leaves the last quarter free.
    pub(crate) fn try_reserve(&self, bytes: u32) -> bool {
        let ceiling = self.0.limit_bytes / 4 * 3;
        self.0
            .used_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let next = used + u64::from(bytes);
                (next <= ceiling).then_some(next)
            })
            .is_ok()
    }

    pub(crate) fn release(&self, bytes: u32) {
        self.0.used_bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
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
}
