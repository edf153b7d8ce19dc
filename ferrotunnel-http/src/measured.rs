//! A request that is counted. Where nobody counts, nothing of this runs.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ferrotunnel_core::Tunnel;
use ferrotunnel_plugin::{Answered, RequestMeter};
use http::{Method, Response};

use crate::{body::Body, refusal::Refusal, wording::Wording};

/// Shared by those who work on the request. The last share goes with the body of its answer, and with that it is over.
pub(crate) struct Measured {
    meter: Arc<dyn RequestMeter>,
    began: Instant,
    method: Method,
    tunnel: OnceLock<Arc<Tunnel>>,
    refusal: OnceLock<&'static str>,
    is_answered: AtomicBool,
}

impl Measured {
    pub(crate) fn begin(meter: &Arc<dyn RequestMeter>, method: &Method) -> Arc<Self> {
        meter.begun();
        Arc::new(Self {
            meter: Arc::clone(meter),
            began: Instant::now(),
            method: method.clone(),
            tunnel: OnceLock::new(),
            refusal: OnceLock::new(),
            is_answered: AtomicBool::new(false),
        })
    }

    /// Whose it is.
    pub(crate) fn is_for(&self, tunnel: &Arc<Tunnel>) {
        // It may have waited, and have been routed more than once.
        let _ = self.tunnel.set(Arc::clone(tunnel));
    }

    /// The answer is ours, and why.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        let _ = self.refusal.set(Wording::of(refusal).kind);
    }

    /// The head of the answer is there; its body holds the last share.
    pub(crate) fn answered(self: Arc<Self>, response: Response<Body>) -> Response<Body> {
        self.is_answered.store(true, Ordering::Relaxed);
        let mut answered = self.so_far();
        answered.status = Some(response.status());
        self.meter.answered(&answered);
        response.map(|body| body.measured(self))
    }

    fn so_far(&self) -> Answered<'_> {
        let mut answered = Answered::new(&self.method, self.began.elapsed());
        answered.tunnel = self.label();
        answered.refusal = self.refusal.get().copied();
        answered
    }

    fn label(&self) -> Option<&str> {
        self.tunnel.get().map(|tunnel| tunnel.label())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if !self.is_answered.load(Ordering::Relaxed) {
            self.meter.answered(&self.so_far());
        }
        self.meter.ended(self.label(), self.began.elapsed());
    }
}
