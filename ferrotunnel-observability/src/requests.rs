//! Requests, counted by tunnel.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferrotunnel_core::{Capped, Counts, MOST_TUNNELS_COUNTED};
use ferrotunnel_plugin::{Answered, RequestMeter, TunnelMeter};
use http::{Method, StatusCode};
use parking_lot::RwLock;

use crate::admin::durations::Durations;
use crate::admin::shapes::{RequestCounts, StatusCount};
use crate::histogram::Histogram;

/// Requests that the HTTP ingress of one server has seen.
#[derive(Debug)]
pub(crate) struct Requests {
    begun: AtomicU64,
    /// Of all that are over, more finely than by tunnel.
    pub(crate) durations: Durations,
    /// At most as many tunnels as the engine counts.
    pub(crate) by_tunnel: Capped<OfTunnel>,
    /// Kinds are words of ours, some thirty.
    pub(crate) refusals: RwLock<Vec<(&'static str, AtomicU64)>>,
}

/// Those of one tunnel.
#[derive(Debug)]
pub(crate) struct OfTunnel {
    /// Empty: for no tunnel.
    pub(crate) tunnel: String,
    counts: [[AtomicU64; STATUSES.len()]; METHODS.len()],
    pub(crate) first_byte: Histogram,
    pub(crate) duration: Histogram,
    since: Instant,
    /// When the last one was over, in milliseconds from there.
    used: AtomicU64,
}

/// The requests of each tunnel at one moment, by status.
#[derive(Debug)]
pub(crate) struct ByStatus {
    of: HashMap<String, RequestCounts>,
    /// Of some tunnels they are counted with those of others.
    is_full: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            durations: Durations::default(),
            by_tunnel: Capped::new(MOST_TUNNELS_COUNTED),
            refusals: RwLock::default(),
        }
    }
}

impl Requests {
    /// How many have begun and are not over.
    pub(crate) fn open(&self) -> i64 {
        // First those that are over: they have begun before.
        let over = self.durations.count();
        self.begun.load(Ordering::Relaxed).saturating_sub(over).try_into().unwrap_or(i64::MAX)
    }

    pub(crate) fn by_status(&self) -> ByStatus {
        let all = self.by_tunnel.all();
        // `other` is the last, and always there.
        let is_full = all.len() > MOST_TUNNELS_COUNTED;
        let of = all.iter().map(|of| (of.tunnel.clone(), of.by_status())).collect();
        ByStatus { of, is_full }
    }

    /// How many are over, and how many of all were answered with 500 and more.
    pub(crate) fn finished(&self) -> (u64, u64) {
        let errors = self.by_tunnel.all().iter().map(|of| of.errors()).sum();
        (self.durations.count(), errors)
    }
}

impl RequestMeter for Requests {
    fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, tunnel: Option<&str>) -> Arc<dyn TunnelMeter> {
        self.by_tunnel.of(tunnel.unwrap_or_default())
    }

    fn refused(&self, kind: &'static str) {
        if let Some((_, count)) = self.refusals.read().iter().find(|(known, _)| *known == kind) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut refusals = self.refusals.write();
        match refusals.iter().find(|(known, _)| *known == kind) {
            Some((_, count)) => drop(count.fetch_add(1, Ordering::Relaxed)),
            None => refusals.push((kind, AtomicU64::new(1))),
        }
    }

    fn ended(&self, took: Duration) {
        self.durations.observe(took);
    }
}

impl TunnelMeter for OfTunnel {
    fn answered(&self, answered: &Answered<'_>) {
        let (method, status) = (method(answered.method), status(answered.status));
        if let Some(count) = self.counts.get(method).and_then(|statuses| statuses.get(status)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if answered.status.is_some() {
            self.first_byte.observe(answered.took);
        }
    }

    fn ended(&self, now: Instant, took: Duration) {
        self.duration.observe(took);
        let millis = now.saturating_duration_since(self.since).as_millis();
        // Whoever is a moment late may set it back by that moment.
        self.used.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl OfTunnel {
    fn errors(&self) -> u64 {
        let of = |statuses: &[AtomicU64; STATUSES.len()]| -> u64 {
            ERRORS
                .iter()
                .filter_map(|at| statuses.get(*at))
                .map(|it| it.load(Ordering::Relaxed))
                .sum()
        };
        self.counts.iter().map(of).sum()
    }

    fn by_status(&self) -> RequestCounts {
        let counts = STATUSES.iter().enumerate().map(|(at, status)| {
            let counts = self.counts.iter().filter_map(|statuses| statuses.get(at));
            StatusCount { status, count: counts.map(|it| it.load(Ordering::Relaxed)).sum() }
        });
        let by_status: Vec<_> = counts.filter(|one| one.count > 0).collect();
        RequestCounts { total: by_status.iter().map(|one| one.count).sum(), by_status }
    }

    /// Method, status and how many, where there are any.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        METHODS.into_iter().zip(&self.counts).flat_map(|(method, statuses)| {
            STATUSES.into_iter().zip(statuses).filter_map(move |(status, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then_some((method, status, count))
            })
        })
    }
}

impl ByStatus {
    /// Those of that tunnel; `None` if they are not counted by themselves.
    pub(crate) fn of(&self, tunnel: &str) -> Option<RequestCounts> {
        match self.of.get(tunnel) {
            None if self.is_full => None,
            known => Some(known.cloned().unwrap_or_default()),
        }
    }
}

impl Counts for OfTunnel {
    fn named(name: &str) -> Self {
        Self {
            tunnel: name.to_owned(),
            counts: Default::default(),
            first_byte: Histogram::default(),
            duration: Histogram::default(),
            since: Instant::now(),
            used: AtomicU64::new(0),
        }
    }

    fn is_idle(&self) -> bool {
        let used = Duration::from_millis(self.used.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(used) > FORGOTTEN_AFTER
    }

    fn add_to(&self, other: &Self) {
        for (mine, sum) in self.counts.iter().flatten().zip(other.counts.iter().flatten()) {
            sum.fetch_add(mine.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.first_byte.add_to(&other.first_byte);
        self.duration.add_to(&other.duration);
    }
}

fn method(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

fn status(status: Option<StatusCode>) -> usize {
    match status.map(|status| status.as_u16() / 100) {
        Some(class @ 1..=5) => usize::from(class) - 1,
        // A local service may answer 600 and more, too.
        Some(_) => 5,
        None => 6,
    }
}

/// Anybody may think of methods; those that are not among these are the last.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "other"];

/// Classes, by the first digit; the last: the visitor has left before there was an answer.
const STATUSES: [&str; 7] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other", "none"];

/// Those of 500 and more, among them.
const ERRORS: [usize; 2] = [4, 5];

/// A tunnel whose place another one may take: whoever draws graphs has drawn this one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_make_more_series() {
        let requests = Requests::default();
        for number in 0..3 * MOST_TUNNELS_COUNTED {
            let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
            let status = StatusCode::from_u16(600 + u16::try_from(number % 300).unwrap()).ok();
            requests.begun();
            let of = requests.of(Some(&format!("t{number}")));
            of.answered(&Answered::new(&method, status, Duration::ZERO));
            assert_eq!(requests.open(), 1);
            of.ended(Instant::now(), Duration::ZERO);
            requests.ended(Duration::ZERO);
        }
        let all = requests.by_tunnel.all();
        assert_eq!(all.len(), MOST_TUNNELS_COUNTED + 1);
        let counts: Vec<_> = all.iter().flat_map(|of| of.counts().collect::<Vec<_>>()).collect();
        assert!(counts.iter().all(|(method, status, _)| (*method, *status) == ("other", "other")));
        let sum: u64 = counts.iter().map(|(.., count)| count).sum();
        assert_eq!(sum, 3 * MOST_TUNNELS_COUNTED as u64);
        assert_eq!((requests.open(), requests.finished()), (0, (sum, sum)));
    }
}
