//! Whether streams stand in each other's way.

use std::time::{Duration, Instant};

use super::Session;

/// How many streams share the carrier's speed, and what that does to its round trip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contention {
    /// Streams with data that waits for the carrier.
    pub queued: usize,
    /// Streams whose writer waits for room: what they have sent is still under way, or not read.
    pub sending: usize,
    /// Streams that took at least half a window of data within the time looked at.
    pub receiving: usize,
    /// Smoothed round trip, with everything that queues before a Ping.
    pub round_trip: Option<Duration>,
    /// The least of the last minutes: the way itself.
    pub least_round_trip: Option<Duration>,
}

impl Session {
    /// Looks at every stream once; `span` is how far back receiving counts. While several are busy
    /// the round trip is measured anew for the next look.
    pub fn contention(&mut self, now: Instant, span: Duration) -> Contention {
        let since = now.checked_sub(span).unwrap_or(now);
        let mut seen = Contention {
            round_trip: self.liveness.smoothed(),
            least_round_trip: self.liveness.least(),
            ..Contention::default()
        };
        for stream in self.streams.values() {
            seen.queued += usize::from(stream.send.queued > 0);
            seen.sending += usize::from(stream.send.waiting);
            seen.receiving += usize::from(stream.recv.window.granted_after(since));
        }
        if self.is_open() && seen.queued.max(seen.sending).max(seen.receiving) >= 2 {
            self.liveness.want_sample(now);
        }
        seen
    }
}
