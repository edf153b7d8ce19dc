//! Heartbeat and round-trip time.

use std::time::{Duration, Instant};

/// Notices a silent peer and measures the round trip with the same Pings.
#[derive(Debug)]
pub(super) struct Liveness {
    heartbeat: Duration,
    last_heard: Instant,
    last_sent: Instant,
    next_opaque: u64,
    in_flight: Option<(u64, Instant)>,
    last_sample: Option<Instant>,
    smoothed: Option<Duration>,
    least: LeastOver,
    ping_wanted: bool,
    probe: Option<Probe>,
}

/// A sign of life that was asked for out of turn.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// From when on any byte is one. What comes before may have been on its way for long.
    fresh_from: Instant,
    deadline: Instant,
    /// The answer to this Ping, or to a later one, is one at any time.
    opaque: u64,
}

impl Liveness {
    pub(super) fn new(heartbeat: Duration, now: Instant) -> Self {
        Self {
            heartbeat,
            last_heard: now,
            last_sent: now,
            next_opaque: 0,
            in_flight: None,
            last_sample: None,
            smoothed: None,
            least: LeastOver::default(),
            ping_wanted: true,
            probe: None,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        if self.probe.is_some_and(|probe| now >= probe.fresh_from) {
            self.probe = None;
        }
    }

    /// Wants a sign of life within that time. One that is asked for already keeps its deadline.
    pub(super) fn probe(&mut self, now: Instant, within: Duration) {
        if self.probe.is_none() {
            self.ping_wanted = true;
            self.probe = Some(Probe {
                fresh_from: now + within / FRESH_PART,
                deadline: now + within,
                opaque: self.next_opaque + 1,
            });
        }
    }

    pub(super) fn is_probed(&self) -> bool {
        self.probe.is_some()
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// When `handle_timeout` has something to do.
    ///
    /// A Ping that waits for the carrier sets no deadline: the timer would fire again and again
    /// for as long as the carrier blocks.
    pub(super) fn deadline(&self) -> Instant {
        let silent = self.last_heard + self.heartbeat * SILENT_BEATS;
        let silent = self.probe.map_or(silent, |probe| probe.deadline.min(silent));
        if self.ping_wanted { silent } else { silent.min(self.next_ping()) }
    }

    /// After a heartbeat of quiet in either direction, but a heartbeat after the last Ping if that
    /// one is still without answer.
    fn next_ping(&self) -> Instant {
        let quiet_since = self.last_heard.min(self.last_sent);
        let since = self.in_flight.map_or(quiet_since, |(_, sent_at)| sent_at.max(quiet_since));
        since + self.heartbeat
    }

    pub(super) fn is_peer_silent(&self, now: Instant) -> bool {
        now.duration_since(self.last_heard) >= self.heartbeat * SILENT_BEATS
            || self.probe.is_some_and(|probe| now >= probe.deadline)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_ping() {
            self.ping_wanted = true;
        }
    }

    /// A stream wants its window tuned: measure again if the last sample is old.
    pub(super) fn want_sample(&mut self, now: Instant) {
        let fresh = self.last_sample.is_some_and(|at| now.duration_since(at) < SAMPLE_EVERY);
        if !fresh && self.in_flight.is_none() {
            self.ping_wanted = true;
        }
    }

    pub(super) fn wants_ping(&self) -> bool {
        self.ping_wanted
    }

    /// The Ping to send now, if one is wanted.
    pub(super) fn take_ping(&mut self, now: Instant) -> Option<[u8; 8]> {
        if !std::mem::take(&mut self.ping_wanted) {
            return None;
        }
        self.next_opaque += 1;
        self.in_flight = Some((self.next_opaque, now));
        Some(self.next_opaque.to_be_bytes())
    }

    /// The Ping that waits for its answer.
    #[cfg(test)]
    pub(super) fn in_flight(&self) -> Option<[u8; 8]> {
        self.in_flight.map(|(opaque, _)| opaque.to_be_bytes())
    }

    pub(super) fn handle_ack(&mut self, opaque: [u8; 8], now: Instant) {
        let Some((expected, sent_at)) = self.in_flight else { return };
        if opaque != expected.to_be_bytes() {
            return;
        }
        self.in_flight = None;
        self.probe = self.probe.filter(|probe| expected < probe.opaque);
        self.last_sample = Some(now);
        let sample = now.duration_since(sent_at).max(Duration::from_micros(1));
        // RFC 6298's smoothing: 7/8 of the past, 1/8 of the sample.
        self.smoothed = Some(self.smoothed.map_or(sample, |past| (past * 7 + sample) / 8));
        self.least.add(sample, now);
    }

    /// Smoothed, for people.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The least of the last minutes, for tuning: a queue of our own making must not look like
    /// a long link, or windows would feed on the delay they cause.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least.value()
    }
}

/// Least sample over the present and the previous period.
#[derive(Debug, Default)]
struct LeastOver {
    since: Option<Instant>,
    present: Option<Duration>,
    previous: Option<Duration>,
}

impl LeastOver {
    fn add(&mut self, sample: Duration, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) >= LEAST_PERIOD {
            self.previous = self.present.take();
            self.since = Some(now);
        }
        self.present = Some(self.present.map_or(sample, |least| least.min(sample)));
    }

    fn value(&self) -> Option<Duration> {
        match (self.present, self.previous) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        }
    }
}

/// Heartbeats without a sound after which a peer is dead: two may be lost on a path that changes.
pub const SILENT_BEATS: u32 = 3;

/// The part of a probe's time after which any byte counts: what had arrived unnoticed before it began
/// has been read by then.
const FRESH_PART: u32 = 4;

/// Round trips are measured at most this often under load: 24 bytes a second.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Half of the time over which the least round trip is remembered. A carrier seldom changes its
/// route, but a bulk transfer keeps it full for minutes, and its queue must not pass for distance.
const LEAST_PERIOD: Duration = Duration::from_secs(120);
