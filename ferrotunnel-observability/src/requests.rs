//! Requests, counted by tunnel.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferrotunnel_core::{Capped, Counts, MOST_TUNNELS_COUNTED};
use ferrotunnel_plugin::{Answered, RequestMeter};
use http::{Method, StatusCode};
use parking_lot::{Mutex, RwLock};

use crate::admin::durations::Durations;
use crate::histogram::Histogram;

/// Requests that the HTTP ingress of one server has seen.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) open: AtomicI64,
    /// Those that are over, and those whose status was 500 and more.
    finished: AtomicU64,
    errors: AtomicU64,
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
    used: Mutex<Instant>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            open: AtomicI64::new(0),
            finished: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            durations: Durations::default(),
            by_tunnel: Capped::new(MOST_TUNNELS_COUNTED),
            refusals: RwLock::default(),
        }
    }
}

impl Requests {
    fn of(&self, tunnel: Option<&str>) -> Arc<OfTunnel> {
        let counts = self.by_tunnel.of(tunnel.unwrap_or_default());
        *counts.used.lock() = Instant::now();
        counts
    }

    /// How many are over, and how many of all ended badly.
    pub(crate) fn finished(&self) -> (u64, u64) {
        (self.finished.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed))
    }

    fn count_refusal(&self, kind: &'static str) {
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
}

impl RequestMeter for Requests {
    fn begun(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self, answered: &Answered<'_>) {
        let of = self.of(answered.tunnel);
        let (method, status) = (method(answered.method), status(answered.status));
        if let Some(count) = of.counts.get(method).and_then(|statuses| statuses.get(status)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if answered.status.is_some_and(|status| status.as_u16() >= 500) {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        if answered.status.is_some() {
            of.first_byte.observe(answered.took);
        }
        if let Some(kind) = answered.refusal {
            self.count_refusal(kind);
        }
    }

    fn ended(&self, tunnel: Option<&str>, took: Duration) {
        self.of(tunnel).duration.observe(took);
        self.durations.observe(took);
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OfTunnel {
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

impl Counts for OfTunnel {
    fn named(name: &str) -> Self {
        Self {
            tunnel: name.to_owned(),
            counts: Default::default(),
            first_byte: Histogram::default(),
            duration: Histogram::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    fn is_idle(&self) -> bool {
        self.used.lock().elapsed() > FORGOTTEN_AFTER
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
            let mut answered = Answered::new(&method, Duration::ZERO);
            let tunnel = format!("t{number}");
            answered.tunnel = Some(&tunnel);
            answered.status = StatusCode::from_u16(600 + u16::try_from(number % 300).unwrap()).ok();
            requests.begun();
            requests.answered(&answered);
            requests.ended(Some(&tunnel), Duration::ZERO);
        }
        let all = requests.by_tunnel.all();
        assert_eq!(all.len(), MOST_TUNNELS_COUNTED + 1);
        let counts: Vec<_> = all.iter().flat_map(|of| of.counts().collect::<Vec<_>>()).collect();
        assert!(counts.iter().all(|(method, status, _)| (*method, *status) == ("other", "other")));
        let sum: u64 = counts.iter().map(|(.., count)| count).sum();
        assert_eq!(sum, 3 * MOST_TUNNELS_COUNTED as u64);
        assert_eq!(requests.open.load(Ordering::Relaxed), 0);
    }
}
