//! A request that is counted, or of which a trace is kept. Where nobody does either, nothing of this runs.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Instant,
};

use ferrotunnel_core::Tunnel;
use ferrotunnel_plugin::{Answered, RequestMeter, RequestTracer, TunnelMeter};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use parking_lot::Mutex;

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
    tunnel: Mutex<Option<Arc<Tunnel>>>,
    refusal: OnceLock<&'static str>,
    is_answered: AtomicBool,
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
            tunnel: Mutex::new(None),
            refusal: OnceLock::new(),
            is_answered: AtomicBool::new(false),
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
        self.tunnel.lock().get_or_insert_with(|| Arc::clone(tunnel));
    }

    /// The answer is ours, and why.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        let _ = self.refusal.set(Wording::of(refusal).kind);
    }

    /// The head of the answer is there; its body holds the last share.
    pub(crate) fn answered(self: Arc<Self>, response: &mut Response<Body>) {
        self.status.store(response.status().as_u16(), Ordering::Relaxed);
        if let Some(meter) = &self.meter {
            self.count(meter.as_ref());
        }
        response.body_mut().is_measured(self);
    }

    fn count(&self, meter: &dyn RequestMeter) {
        self.is_answered.store(true, Ordering::Relaxed);
        let answered = Answered::new(&self.method, self.status(), self.began.elapsed());
        at(self.tunnel.lock().as_ref(), meter, |counts| counts.answered(&answered));
        if let Some(kind) = self.refusal.get() {
            meter.refused(kind);
        }
    }

    fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.status.load(Ordering::Relaxed)).ok()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            if !self.is_answered.load(Ordering::Relaxed) {
                self.count(meter.as_ref());
            }
            let now = Instant::now();
            let took = now - self.began;
            at(self.tunnel.get_mut().as_ref(), meter.as_ref(), |counts| counts.ended(now, took));
            meter.ended(took);
        }
        if let Some(traced) = &self.traced {
            let refusal = self.refusal.get().copied();
            let tunnel = self.tunnel.lock();
            traced.ended(&self.method, tunnel.as_ref(), self.status(), refusal);
        }
    }
}

/// Where requests of a tunnel are counted is looked up once, and kept with it.
fn at(tunnel: Option<&Arc<Tunnel>>, meter: &dyn RequestMeter, tell: impl FnOnce(&dyn TunnelMeter)) {
    match tunnel {
        Some(tunnel) => {
            if let Some(counts) = tunnel.keep(|| meter.of(Some(tunnel.label()))) {
                tell(counts.as_ref());
            }
        }
        None => tell(meter.of(None).as_ref()),
    }
}
