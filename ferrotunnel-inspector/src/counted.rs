//! Telling whoever counts requests of one that passes. What is kept of it may be thrown away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use ferrotunnel_plugin::{Answered, RequestMeter, TunnelMeter};
use http::{Method, StatusCode};

/// Where the requests of a stream are counted.
#[derive(Debug)]
pub(crate) struct Meters {
    all: Arc<dyn RequestMeter>,
    of: Arc<dyn TunnelMeter>,
}

impl Meters {
    pub(crate) fn of(all: &Arc<dyn RequestMeter>, tunnel: &str) -> Self {
        Self { all: Arc::clone(all), of: all.of(Some(tunnel)) }
    }
}

/// A request that is counted. Dropping it says that it is over.
#[derive(Debug)]
pub(crate) struct Counted {
    meters: Arc<Meters>,
    method: Method,
    began: Instant,
    stage: AtomicU8,
}

impl Counted {
    pub(crate) fn begin(meters: &Arc<Meters>, method: Method, now: Instant) -> Self {
        meters.all.begun();
        Self { meters: Arc::clone(meters), method, began: now, stage: AtomicU8::new(OPEN) }
    }

    /// The head of the answer has passed. A connection that becomes another protocol's is over as a request with that.
    pub(crate) fn answered(&self, status: u16, now: Instant) {
        let is_first =
            self.stage.compare_exchange(OPEN, ANSWERED, Ordering::Relaxed, Ordering::Relaxed);
        if is_first.is_err() {
            return;
        }
        self.tell(StatusCode::from_u16(status).ok(), now);
        let is_tunnel = self.method == Method::CONNECT && (200..300).contains(&status);
        if status == 101 || is_tunnel {
            self.over(now);
        }
    }

    /// The last byte of the answer has passed, or there is none to come.
    pub(crate) fn over(&self, now: Instant) {
        let stage = self.stage.swap(OVER, Ordering::Relaxed);
        if stage == OVER {
            return;
        }
        if stage == OPEN {
            self.tell(None, now);
        }
        let took = now - self.began;
        self.meters.of.ended(now, took);
        self.meters.all.ended(took);
    }

    fn tell(&self, status: Option<StatusCode>, now: Instant) {
        self.meters.of.answered(&Answered::new(&self.method, status, now - self.began));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.over(Instant::now());
    }
}

const OPEN: u8 = 0;
const ANSWERED: u8 = 1;
const OVER: u8 = 2;
