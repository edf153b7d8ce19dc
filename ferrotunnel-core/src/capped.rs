//! What is counted by name, where strangers may choose the names.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;

/// Counts that are kept for each of many names.
pub trait Counts: Send + Sync {
    /// For a name that has just come up.
    fn named(name: &str) -> Self;

    /// Whether nobody would miss it. Asked only while nobody holds it.
    fn is_idle(&self) -> bool;

    /// Adds what it has to `other`: it will be forgotten.
    fn add_to(&self, other: &Self);
}

/// Counts by name, for at most so many names. One more takes the place of one that is idle, whose counts go to `other`,
/// so that no sum ever falls; where none is, it counts as `other` itself.
#[derive(Debug)]
pub struct Capped<T> {
    most: usize,
    named: RwLock<HashMap<String, Arc<T>>>,
    other: Arc<T>,
}

impl<T: Counts> Capped<T> {
    /// For at most so many names.
    pub fn new(most: usize) -> Self {
        Self { most, named: RwLock::default(), other: Arc::new(T::named(OTHER)) }
    }

    /// The counts of that name.
    pub fn of(&self, name: &str) -> Arc<T> {
        if name == OTHER {
            return Arc::clone(&self.other);
        }
        if let Some(known) = self.named.read().get(name) {
            return Arc::clone(known);
        }
        let mut named = self.named.write();
        if let Some(known) = named.get(name) {
            return Arc::clone(known);
        }
        if named.len() >= self.most && !self.make_room(&mut named) {
            return Arc::clone(&self.other);
        }
        let fresh = Arc::new(T::named(name));
        named.insert(name.to_owned(), Arc::clone(&fresh));
        fresh
    }

    /// All there are, `other` last.
    pub fn all(&self) -> Vec<Arc<T>> {
        let mut all: Vec<_> = self.named.read().values().cloned().collect();
        all.push(Arc::clone(&self.other));
        all
    }

    /// Under the lock nobody can come to hold one that nobody holds.
    fn make_room(&self, named: &mut HashMap<String, Arc<T>>) -> bool {
        let idle = named.iter().find(|(_, one)| Arc::strong_count(one) == 1 && one.is_idle());
        let Some(name) = idle.map(|(name, _)| name.clone()) else { return false };
        if let Some(gone) = named.remove(&name) {
            gone.add_to(&self.other);
        }
        true
    }
}

/// Names that have no counts of their own.
pub const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct One(String, AtomicU64);

    impl Counts for One {
        fn named(name: &str) -> Self {
            Self(name.to_owned(), AtomicU64::new(0))
        }

        fn is_idle(&self) -> bool {
            true
        }

        fn add_to(&self, other: &Self) {
            other.1.fetch_add(self.1.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    #[test]
    fn beyond_the_cap_names_that_nobody_holds_make_room_and_no_sum_falls() {
        let capped = Capped::<One>::new(3);
        let held = [capped.of("a"), capped.of("b")];
        for name in (0..1_000).map(|number| number.to_string()) {
            capped.of(&name).1.fetch_add(1, Ordering::Relaxed);
            assert!(capped.all().len() <= 4);
        }
        held[0].1.fetch_add(7, Ordering::Relaxed);
        let sum: u64 = capped.all().iter().map(|one| one.1.load(Ordering::Relaxed)).sum();
        assert_eq!(sum, 1_007);
        assert_eq!(capped.of("a").1.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn where_all_are_held_the_rest_are_other() {
        let capped = Capped::<One>::new(2);
        let held = [capped.of("a"), capped.of("b")];
        assert_eq!(capped.of("c").0, OTHER);
        assert!(Arc::ptr_eq(&capped.of("c"), &capped.of("d")));
        drop(held);
        assert_eq!(capped.of("c").0, "c");
    }
}
