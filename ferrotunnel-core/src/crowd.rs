//! Visitors per source.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::source::Source;

/// Who is inside, by where they come from: at most so many of one source, which is an IPv4 address or a /64 of
/// IPv6. It holds one entry for each source that has somebody inside. While there is no limit nobody is counted.
#[derive(Debug)]
pub struct Crowd {
    /// [`NO_LIMIT`] without one.
    most: AtomicUsize,
    inside: Mutex<HashMap<Source, usize>>,
    turned_away: AtomicU64,
}

/// One visitor's place; free again when dropped.
#[derive(Debug)]
pub struct CrowdSeat {
    counted: Option<(Arc<Crowd>, Source)>,
}

impl Crowd {
    pub(crate) fn new(most: Option<u32>) -> Self {
        let most = AtomicUsize::new(number(most));
        Self { most, inside: Mutex::default(), turned_away: AtomicU64::new(0) }
    }

    /// Another limit, or none, for those who come from now on. Who came while there was none is not counted.
    pub(crate) fn set_most(&self, most: Option<u32>) {
        self.most.store(number(most), Ordering::Relaxed);
    }

    /// A place for a visitor from there, unless its source has all that it may have: that is counted.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<CrowdSeat> {
        let most = self.most.load(Ordering::Relaxed);
        if most == NO_LIMIT {
            return Some(CrowdSeat { counted: None });
        }
        let source = Source::of(from);
        let mut inside = self.inside.lock();
        let count = inside.entry(source).or_default();
        if *count >= most {
            drop(inside);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        drop(inside);
        Some(CrowdSeat { counted: Some((Arc::clone(self), source)) })
    }

    /// How often somebody found no place.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for CrowdSeat {
    fn drop(&mut self) {
        let Some((crowd, source)) = &self.counted else { return };
        let mut inside = crowd.inside.lock();
        if let Some(count) = inside.get_mut(source) {
            *count -= 1;
            if *count == 0 {
                inside.remove(source);
            }
        }
    }
}

fn number(most: Option<u32>) -> usize {
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(NO_LIMIT)
}

/// More than there can be.
const NO_LIMIT: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_places_and_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::new(Some(2)));
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut seats: Vec<_> = (0..2).map(|_| crowd.enter(one).unwrap()).collect();
        assert!(crowd.enter(one).is_none());
        seats.push(crowd.enter(other).unwrap());
        drop(seats.remove(0));
        seats.push(crowd.enter(one).unwrap());
        assert!(crowd.enter(one).is_none());
        assert_eq!(crowd.turned_away(), 2);
        seats.clear();
        assert!(crowd.inside.lock().is_empty());
    }

    #[test]
    fn another_limit_holds_for_whoever_comes() {
        let crowd = Arc::new(Crowd::new(None));
        let from = IpAddr::from([192, 0, 2, 1]);
        let early: Vec<_> = (0..3).map(|_| crowd.enter(from).unwrap()).collect();
        assert!(crowd.inside.lock().is_empty(), "nobody is counted without need");
        crowd.set_most(Some(1));
        let first = crowd.enter(from).unwrap();
        assert!(crowd.enter(from).is_none());
        drop(early);
        assert!(crowd.enter(from).is_none());
        crowd.set_most(None);
        drop(crowd.enter(from).unwrap());
        drop(first);
        assert!(crowd.inside.lock().is_empty());
    }
}
