//! A request that is counted, or of which a trace is kept. Where nobody does either, nothing of this runs.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Instant,
};

use ferrotunnel_core::Tunnel;
use ferrotunnel_plugin::{Answered, RequestMeter, RequestTracer, TunnelMeter};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::{body::Body, refusal::Refusal, traced::Traced, visitor::Visitor, wording::Wording};

/// Who wants to know of requests.
pub(crate) struct Watchers {
    pub(crate) meter: Option<Arc<dyn RequestMeter>>,
    pub(crate) tracer: Option<Arc<dyn RequestTracer>>,
}

/// Shared by those who work on the request. The last share goes with the body of its answer, and with that it is over.
pub(crate) struct Measured {
    meter: Option<Arc<dyn RequestMeter>>,
    traced: Option<Traced>,
    began: Instant,
    method: Method,
    tunnel: OnceLock<Arc<Tunnel>>,
    refusal: OnceLock<&'static str>,
    /// Where it is counted, once there is an answer.
    counted: OnceLock<Arc<dyn TunnelMeter>>,
    /// 0 until there is an answer.
    status: AtomicU16,
}

impl Measured {
    /// `None` if nobody wants to know.
    pub(crate) fn begin<B>(
        watchers: &Watchers,
        request: &mut Request<B>,
        visitor: &Visitor,
        id: &HeaderValue,
    ) -> Option<Arc<Self>> {
        if watchers.meter.is_none() && watchers.tracer.is_none() {
            return None;
        }
        let meter = watchers.meter.clone();
        if let Some(meter) = &meter {
            meter.begun();
        }
        let traced = watchers.tracer.as_ref();
        let traced = traced.map(|tracer| Traced::begin(tracer, request, visitor, id));
        Some(Arc::new(Self {
            meter,
            traced,
            began: Instant::now(),
            method: request.method().clone(),
            tunnel: OnceLock::new(),
            refusal: OnceLock::new(),
            counted: OnceLock::new(),
            status: AtomicU16::new(0),
        }))
    }

    /// The trace of it, if somebody keeps traces.
    pub(crate) fn traced(&self) -> Option<&Traced> {
        self.traced.as_ref()
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
        self.status.store(response.status().as_u16(), Ordering::Relaxed);
        if let Some(meter) = &self.meter {
            self.count(meter.as_ref());
        }
        response.map(|body| body.measured(self))
    }

    fn count(&self, meter: &dyn RequestMeter) -> &dyn TunnelMeter {
        let tunnel = self.tunnel.get().map(|tunnel| tunnel.label());
        let counted = self.counted.get_or_init(|| meter.of(tunnel));
        counted.answered(&Answered::new(&self.method, self.status(), self.began.elapsed()));
        if let Some(kind) = self.refusal.get() {
            meter.refused(kind);
        }
        counted.as_ref()
    }

    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status.load(Ordering::Relaxed)).ok()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            let counted = match self.counted.get() {
                Some(counted) => counted.as_ref(),
                None => self.count(meter.as_ref()),
            };
            let now = Instant::now();
            let took = now - self.began;
            counted.ended(now, took);
            meter.ended(took);
        }
        if let Some(traced) = &self.traced {
            let refusal = self.refusal.get().copied();
            traced.ended(&self.method, self.tunnel.get(), self.status(), refusal);
        }
    }
}
