//! How many carriers a client keeps when nobody says a number.

use std::time::{Duration, Instant};

use ferrotunnel_protocol::Contention;

use crate::direct::FAR;

/// One carrier, and more while streams compete for it on a long way.
///
/// Loss on a carrier holds up all streams on it, and its sender halves its speed for all of them;
/// over several carriers it does so for a part of them. Where the server is near, loss passes too
/// quickly to matter, and one thread with one carrier is the fastest.
#[derive(Debug)]
pub(super) struct Growth {
    wanted: usize,
    /// Looks in a row that found streams competing.
    strained: u32,
    calm_since: Instant,
}

impl Growth {
    pub(super) fn new(now: Instant) -> Self {
        Self { wanted: 1, strained: 0, calm_since: now }
    }

    /// What was seen on the carriers since the last look, a [`LOOK_EVERY`] ago. Returns how many
    /// there should be.
    pub(super) fn look(&mut self, now: Instant, seen: &[Contention]) -> usize {
        if seen.iter().any(is_strained) {
            self.calm_since = now;
            self.strained += 1;
            if self.strained >= STRAINED_LOOKS {
                self.strained = 0;
                // No more carriers than streams that could use them.
                let streams: usize = seen.iter().map(busy).sum();
                self.wanted = self.wanted.max((self.wanted * 2).min(streams).min(MOST));
            }
        } else {
            self.strained = 0;
            if now.duration_since(self.calm_since) >= CALM {
                self.wanted = 1;
            }
        }
        self.wanted
    }
}

/// Streams that wait for the carrier, or for what is held up on it.
fn busy(seen: &Contention) -> usize {
    seen.queued.max(seen.sending).max(seen.receiving)
}

/// Whether several streams compete for one carrier that is slower than they are.
fn is_strained(seen: &Contention) -> bool {
    let (Some(round_trip), Some(least)) = (seen.round_trip, seen.least_round_trip) else {
        return false;
    };
    // What is under way is out of sight; but Pings and their answers are held up by it.
    let held_up = round_trip >= least + least / 4;
    least >= FAR && (seen.queued >= 2 || (seen.sending.max(seen.receiving) >= 2 && held_up))
}

/// How often to look: as often as round trips are measured under load.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A burst that is over by the next look needs no carrier.
const STRAINED_LOOKS: u32 = 2;

/// Carriers at most, without being told: measured at 1 % loss, eight move seven times what one does.
/// Each costs both ends a session: with TLS some 13 KiB at the server and 50 at the client.
const MOST: usize = 8;

/// Quiet after which one carrier is enough again. Those who come back every other minute should
/// find the carriers ready.
const CALM: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn carrier(queued: usize, receiving: usize, least: u64, now: u64) -> Contention {
        let mut seen = Contention::default();
        seen.queued = queued;
        seen.receiving = receiving;
        seen.least_round_trip = Some(Duration::from_millis(least));
        seen.round_trip = Some(Duration::from_millis(now));
        seen
    }

    /// Looks that often at the same thing.
    fn after(growth: &mut Growth, now: &mut Instant, looks: u32, seen: &[Contention]) -> usize {
        let mut wanted = 0;
        for _ in 0..looks {
            *now += LOOK_EVERY;
            wanted = growth.look(*now, seen);
        }
        wanted
    }

    #[test]
    fn carriers_double_while_streams_compete_and_leave_after_a_calm() {
        let mut now = Instant::now();
        let mut growth = Growth::new(now);
        let bulk = [carrier(20, 0, 50, 60)];
        assert_eq!(after(&mut growth, &mut now, 1, &bulk), 1);
        assert_eq!(after(&mut growth, &mut now, 1, &bulk), 2);
        assert_eq!(after(&mut growth, &mut now, 2, &bulk), 4);
        assert_eq!(after(&mut growth, &mut now, 20, &bulk), MOST);
        let quiet = [carrier(1, 0, 50, 50); MOST];
        assert_eq!(after(&mut growth, &mut now, CALM.as_secs() as u32 - 1, &quiet), MOST);
        assert_eq!(after(&mut growth, &mut now, 1, &quiet), 1);
    }

    #[test]
    fn there_are_no_more_carriers_than_streams() {
        let mut now = Instant::now();
        let mut growth = Growth::new(now);
        assert_eq!(after(&mut growth, &mut now, 20, &[carrier(3, 0, 50, 60)]), 3);
    }

    #[test]
    fn what_is_under_way_counts_while_answers_are_held_up() {
        let mut now = Instant::now();
        let mut growth = Growth::new(now);
        assert_eq!(after(&mut growth, &mut now, 10, &[carrier(0, 4, 50, 55)]), 1);
        assert_eq!(after(&mut growth, &mut now, 10, &[carrier(0, 4, 50, 65)]), 4);
        let mut growth = Growth::new(now);
        let mut sending = carrier(0, 0, 50, 55);
        sending.sending = 4;
        assert_eq!(after(&mut growth, &mut now, 10, &[sending]), 1);
        sending.round_trip = Some(Duration::from_millis(65));
        assert_eq!(after(&mut growth, &mut now, 10, &[sending]), 4);
    }

    #[test]
    fn a_near_server_a_single_stream_and_a_short_burst_need_no_more() {
        let mut now = Instant::now();
        let mut growth = Growth::new(now);
        assert_eq!(after(&mut growth, &mut now, 20, &[carrier(8, 8, 1, 4)]), 1);
        assert_eq!(after(&mut growth, &mut now, 20, &[carrier(1, 1, 50, 90)]), 1);
        for _ in 0..10 {
            after(&mut growth, &mut now, 1, &[carrier(8, 0, 50, 60)]);
            assert_eq!(after(&mut growth, &mut now, 1, &[carrier(0, 0, 50, 50)]), 1);
        }
    }
}
