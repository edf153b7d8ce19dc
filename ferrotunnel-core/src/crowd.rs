//! Visitors per source.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::source::Source;

/// Who is inside, by where they come from: at most so many of one source, which is an IPv4 address or a /64 of
/// IPv6. It holds one entry for each source that has somebody inside.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    inside: Mutex<HashMap<Source, usize>>,
    turned_away: AtomicU64,
}

/// One visitor's place; free again when dropped.
#[derive(Debug)]
pub struct CrowdSeat {
    crowd: Arc<Crowd>,
    source: Source,
}

impl Crowd {
    pub(crate) fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { most, inside: Mutex::default(), turned_away: AtomicU64::new(0) }
    }

    /// A place for a visitor from there, unless its source has all that it may have: that is counted.
    pub fn enter(self: &Arc<Self>, from: IpAddr) -> Option<CrowdSeat> {
        let source = Source::of(from);
        let mut inside = self.inside.lock();
        let count = inside.entry(source).or_default();
        if *count >= self.most {
            drop(inside);
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        drop(inside);
        Some(CrowdSeat { crowd: Arc::clone(self), source })
    }

    /// How often somebody found no place.
    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Drop for CrowdSeat {
    fn drop(&mut self) {
        let mut inside = self.crowd.inside.lock();
        if let Some(count) = inside.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_its_own_places_and_leaves_nothing_behind() {
        let crowd = Arc::new(Crowd::new(2));
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
}
