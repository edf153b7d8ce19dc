//! Telling whoever counts requests of one that passes. What is kept of it may be thrown away meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use ferrotunnel_plugin::{Answered, RequestMeter, TunnelMeter};
use http::{Method, StatusCode};

/// A request that is counted. Dropping it says that it is over.
#[derive(Debug)]
pub(crate) struct Counted {
    meter: Arc<dyn RequestMeter>,
    of: Arc<dyn TunnelMeter>,
    method: Method,
    began: Instant,
    stage: AtomicU8,
}

impl Counted {
    pub(crate) fn begin(meter: &Arc<dyn RequestMeter>, tunnel: &str, method: Method) -> Self {
        meter.begun();
        Self {
            meter: Arc::clone(meter),
            of: meter.of(Some(tunnel)),
            method,
            began: Instant::now(),
            stage: AtomicU8::new(OPEN),
        }
    }

    /// The head of the answer has passed. A connection that becomes another protocol's is over as a request with that.
    pub(crate) fn answered(&self, status: u16) {
        let is_first =
            self.stage.compare_exchange(OPEN, ANSWERED, Ordering::Relaxed, Ordering::Relaxed);
        if is_first.is_err() {
            return;
        }
        self.tell(StatusCode::from_u16(status).ok());
        let is_tunnel = self.method == Method::CONNECT && (200..300).contains(&status);
        if status == 101 || is_tunnel {
            self.over();
        }
    }

    /// The last byte of the answer has passed, or there is none to come.
    pub(crate) fn over(&self) {
        let stage = self.stage.swap(OVER, Ordering::Relaxed);
        if stage == OVER {
            return;
        }
        if stage == OPEN {
            self.tell(None);
        }
        let now = Instant::now();
        let took = now - self.began;
        self.of.ended(now, took);
        self.meter.ended(took);
    }

    fn tell(&self, status: Option<StatusCode>) {
        self.of.answered(&Answered::new(&self.method, status, self.began.elapsed()));
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.over();
    }
}

const OPEN: u8 = 0;
const ANSWERED: u8 = 1;
const OVER: u8 = 2;
