//! Visitors with a carrier to themselves whose local service could not be reached.
//!
//! Such a carrier has no word for that: it breaks, as it does when the client goes. So the server brings the visitor again over
//! the session, where there is one, and what is known of the local service already is said then. Otherwise the service
//! would be dialled once more, and a visitor of one that does not answer would wait twice as long.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Those of one tunnel, each until it comes again.
#[derive(Debug, Default)]
pub(super) struct MissedDirectly(Mutex<VecDeque<Missed>>);

#[derive(Debug)]
struct Missed {
    visitor: SocketAddr,
    why: io::ErrorKind,
    at: Instant,
}

impl MissedDirectly {
    /// To be said before its carrier breaks.
    pub(super) fn will_come_again(&self, visitor: SocketAddr, why: io::ErrorKind, now: Instant) {
        let mut missed = self.0.lock();
        missed.retain(|one| now - one.at < KEPT_FOR);
        if missed.len() == MOST {
            missed.pop_front();
        }
        missed.push_back(Missed { visitor, why, at: now });
    }

    /// Why that visitor did not get through a moment ago; once.
    pub(super) fn came_again(&self, visitor: SocketAddr, now: Instant) -> Option<io::ErrorKind> {
        let mut missed = self.0.lock();
        let at = missed.iter().position(|one| one.visitor == visitor)?;
        let one = missed.remove(at)?;
        (now - one.at < KEPT_FOR).then_some(one.why)
    }
}

/// The server brings a visitor again as soon as it hears that the carrier broke. Longer than that takes on a bad way, and so
/// short that nobody else comes from the same port of the same address.
const KEPT_FOR: Duration = Duration::from_secs(5);

/// As many as there may be carriers that wait; whoever is forgotten has the local service dialled again.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn who_comes_again_hears_once_what_is_known() {
        let (missed, now) = (MissedDirectly::default(), Instant::now());
        missed.will_come_again(visitor(1), io::ErrorKind::TimedOut, now);
        assert_eq!(missed.came_again(visitor(2), now), None);
        assert_eq!(missed.came_again(visitor(1), now), Some(io::ErrorKind::TimedOut));
        assert_eq!(missed.came_again(visitor(1), now), None);
        missed.will_come_again(visitor(1), io::ErrorKind::TimedOut, now);
        assert_eq!(missed.came_again(visitor(1), now + KEPT_FOR), None, "it may be back");
    }

    #[test]
    fn only_so_many_are_known() {
        let (missed, now) = (MissedDirectly::default(), Instant::now());
        for port in 0..=64 {
            missed.will_come_again(visitor(port), io::ErrorKind::ConnectionRefused, now);
        }
        assert_eq!(missed.came_again(visitor(0), now), None);
        assert!(missed.came_again(visitor(1), now).is_some());
        missed.will_come_again(visitor(65), io::ErrorKind::ConnectionRefused, now + KEPT_FOR);
        assert_eq!(missed.0.lock().len(), 1);
    }
}
