//! A request of which a trace is kept: what it consisted of, and what its visitor and its local service are told by the
//! headers of W3C Trace Context. Where nobody keeps any, nothing of this runs.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ferrotunnel_core::{OpenError, Stream, Tunnel};
use ferrotunnel_plugin::{RequestTracer, Step, StepKind, TraceContext, TracedRequest};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{HOST, USER_AGENT},
};
use parking_lot::Mutex;

use crate::{measured::Measured, visitor::Visitor};

/// The trace of one request.
pub(crate) struct Traced {
    tracer: Arc<dyn RequestTracer>,
    span: TraceContext,
    /// What is told of it, if it is kept.
    kept: Option<Box<Kept>>,
}

struct Kept {
    began: Instant,
    at: SystemTime,
    parent: Option<TraceContext>,
    state: Option<String>,
    scheme: &'static str,
    path: String,
    host: Option<String>,
    version: Version,
    user_agent: Option<String>,
    peer: SocketAddr,
    request_id: HeaderValue,
    so_far: Mutex<SoFar>,
}

struct SoFar {
    visitor: SocketAddr,
    steps: Vec<Step>,
}

tokio::task_local! {
    /// The request that a stream is opened for, so that nothing on the way there has to hand it on: streams are opened while
    /// a request is being sent, or within the task that awaits its response.
    static UNDER_WAY: Arc<Measured>;
}

impl Traced {
    /// Whether anything is told of it.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(crate) fn begin<B>(
        tracer: &Arc<dyn RequestTracer>,
        request: &mut Request<B>,
        visitor: &Visitor,
        id: &HeaderValue,
    ) -> Self {
        let parent = parent(request.headers());
        if parent.is_none() {
            // It belongs to what cannot be read, or to nothing.
            request.headers_mut().remove(TRACESTATE);
        }
        let span = tracer.begun(parent);
        let kept = span.is_sampled().then(|| Box::new(Kept::of(request, visitor, id, parent)));
        Self { tracer: Arc::clone(tracer), span, kept }
    }

    /// For whom a proxy asks.
    pub(crate) fn is_by(&self, visitor: &Visitor) {
        if let Some(kept) = &self.kept {
            kept.so_far.lock().visitor = visitor.canonical();
        }
    }

    /// A part of the request is done that began then.
    pub(crate) fn did(&self, kind: StepKind, began: Instant) {
        self.step(kind, self.span.span, began, None);
    }

    /// It is known whose the request is.
    pub(crate) fn is_routed(&self, error: Option<&'static str>) {
        if let Some(kept) = &self.kept {
            self.step(StepKind::Route, self.span.span, kept.began, error.map(str::to_owned));
        }
    }

    /// The request is about to go to the local service, which is told of it.
    pub(crate) fn forwards(&self, headers: &mut HeaderMap) {
        let mut span = self.span;
        if let Some(kept) = &self.kept {
            span = span.with_span(self.tracer.next_span());
            let after = kept.began.elapsed();
            kept.so_far.lock().steps.push(Step {
                kind: StepKind::Forward,
                span: span.span,
                parent: self.span.span,
                after,
                // It goes on until the request is over.
                took: Duration::ZERO,
                error: None,
            });
        }
        if let Ok(value) = HeaderValue::try_from(span.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// The head of the response is there, or none will come.
    pub(crate) fn has_answer(&self, began: Instant, error: Option<&'static str>) {
        let parent = self.forward();
        self.step(StepKind::FirstByte, parent, began, error.map(str::to_owned));
    }

    /// The span of the exchange with the local service, as far as it has begun.
    fn forward(&self) -> [u8; 8] {
        let so_far = self.kept.as_ref().map(|kept| kept.so_far.lock());
        let forward = so_far.as_ref().and_then(|so_far| {
            so_far.steps.iter().rev().find(|step| step.kind == StepKind::Forward)
        });
        forward.map_or(self.span.span, |step| step.span)
    }

    fn step(&self, kind: StepKind, parent: [u8; 8], began: Instant, error: Option<String>) {
        let Some(kept) = &self.kept else { return };
        let span = self.tracer.next_span();
        let (after, took) = (began.saturating_duration_since(kept.began), began.elapsed());
        kept.so_far.lock().steps.push(Step { kind, span, parent, after, took, error });
    }

    /// Opens a stream, of which its client is told that it is part of this.
    fn opens(
        &self,
        open: impl FnOnce(Option<TraceContext>) -> Result<Stream, OpenError>,
    ) -> Result<Stream, OpenError> {
        let Some(kept) = &self.kept else { return open(None) };
        let (span, parent, began) = (self.tracer.next_span(), self.forward(), Instant::now());
        let opened = open(Some(self.span.with_span(span)));
        kept.so_far.lock().steps.push(Step {
            kind: StepKind::StreamOpen,
            span,
            parent,
            after: began.saturating_duration_since(kept.began),
            took: began.elapsed(),
            error: opened.as_ref().err().map(ToString::to_string),
        });
        opened
    }

    /// The request is over.
    pub(crate) fn ended(
        &self,
        method: &Method,
        tunnel: Option<&Arc<Tunnel>>,
        status: Option<http::StatusCode>,
        refusal: Option<&'static str>,
    ) {
        let Some(kept) = &self.kept else { return };
        let mut so_far = kept.so_far.lock();
        let took = kept.began.elapsed();
        for step in so_far.steps.iter_mut().filter(|step| step.kind == StepKind::Forward) {
            step.took = took.saturating_sub(step.after);
            step.error = refusal.map(str::to_owned);
        }
        let mut request = TracedRequest::new(self.span, method, so_far.visitor);
        (request.parent, request.state) = (kept.parent, kept.state.as_deref());
        (request.at, request.took) = (kept.at, took);
        (request.scheme, request.path) = (kept.scheme, &kept.path);
        (request.host, request.version) = (kept.host.as_deref(), kept.version);
        (request.user_agent, request.peer) = (kept.user_agent.as_deref(), kept.peer);
        request.request_id = kept.request_id.to_str().unwrap_or_default();
        request.tunnel = tunnel.map(|tunnel| tunnel.label());
        request.session = tunnel.and_then(|tunnel| tunnel.session());
        (request.status, request.refusal) = (status, refusal);
        request.steps = &so_far.steps;
        self.tracer.ended(&request);
    }
}

impl Kept {
    fn of<B>(
        request: &Request<B>,
        visitor: &Visitor,
        id: &HeaderValue,
        parent: Option<TraceContext>,
    ) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let text = |name: HeaderName| {
            let value = headers.get(name)?.as_bytes();
            Some(String::from_utf8_lossy(&value[..value.len().min(LONGEST)]).into_owned())
        };
        let authority = uri.authority().map(|authority| cut(authority.as_str()));
        let path = uri.path();
        Self {
            began: Instant::now(),
            at: SystemTime::now(),
            parent,
            state: state(headers),
            scheme: visitor.scheme(),
            path: cut(path),
            // Never a user with a password: such requests are refused, but only later.
            host: authority.or_else(|| text(HOST)).map(without_user),
            version: request.version(),
            user_agent: text(USER_AGENT),
            peer: visitor.canonical(),
            request_id: id.clone(),
            so_far: Mutex::new(SoFar { visitor: visitor.canonical(), steps: Vec::new() }),
        }
    }
}

fn cut(text: &str) -> String {
    // What is in a URI is ASCII.
    text.get(..text.len().min(LONGEST)).unwrap_or_default().to_owned()
}

fn without_user(host: String) -> String {
    match host.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => host,
    }
}

/// Streams that are opened meanwhile are opened for that request.
pub(crate) async fn under_way<T>(request: Arc<Measured>, work: impl Future<Output = T>) -> T {
    UNDER_WAY.scope(request, work).await
}

/// The same for what is done at once.
pub(crate) fn meanwhile<T>(request: Arc<Measured>, work: impl FnOnce() -> T) -> T {
    UNDER_WAY.sync_scope(request, work)
}

/// Opens a stream, for the request that is under way.
pub(crate) fn opening(
    open: impl FnOnce(Option<TraceContext>) -> Result<Stream, OpenError>,
) -> Result<Stream, OpenError> {
    let under_way = UNDER_WAY.try_with(Arc::clone).ok();
    match under_way.as_ref().and_then(|request| request.traced()) {
        Some(traced) => traced.opens(open),
        None => open(None),
    }
}

/// The span that a request is part of, as its visitor says: one such header, of a version that begins like version 00 does.
fn parent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?.trim();
    let (version, rest) = text.split_once('-')?;
    let version: [u8; 1] = from_hex(version)?;
    let mut parts = rest.split('-');
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    if version[0] == u8::MAX || (version[0] == 0 && parts.next().is_some()) {
        return None;
    }
    let [flags] = from_hex(flags)?;
    // Of flags that are not known yet nothing is passed on (section 3.2.2.5 there, "trace-flags").
    TraceContext::new(from_hex(trace)?, from_hex(span)?, flags & KNOWN_FLAGS)
}

/// What else the visitor says of it.
fn state(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    let state = values.collect::<Vec<_>>().join(",");
    (1..=LONGEST_STATE).contains(&state.len()).then_some(state)
}

/// So many bytes in lower case, and nothing else.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.as_bytes().iter().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Sampled, and that the name of the trace is random (level 2).
const KNOWN_FLAGS: u8 = 3;

/// Of a path, a host and the like: enough to know them by. Each waits in a queue with its span.
const LONGEST: usize = 1 << 10;

/// What a `tracestate` may at least have that everybody passes on.
const LONGEST_STATE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        parent(&headers).map(|context| context.to_string())
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_taken_as_the_standard_wants_it() {
        assert_eq!(said(&[GOOD]).as_deref(), Some(GOOD));
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(said(&[&unsampled]), Some(unsampled));
        // A later version says the same at its beginning.
        let later = format!("{}-more", GOOD.replacen("00-", "42-", 1));
        assert_eq!(said(&[&later]).as_deref(), Some(GOOD));
        // Flags that nobody knows are not passed on.
        assert_eq!(said(&[&GOOD.replace("-01", "-f9")]).as_deref(), Some(GOOD));
    }

    #[test]
    fn what_is_no_traceparent_begins_a_trace() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(said(&[bad]), None, "{bad}");
        }
        assert_eq!(said(&[GOOD, GOOD]), None);
    }

    #[test]
    fn a_tracestate_may_come_in_parts() {
        let mut headers = HeaderMap::new();
        assert_eq!(state(&headers), None);
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        assert_eq!(state(&headers).as_deref(), Some("a=1,b=2"));
    }
}
