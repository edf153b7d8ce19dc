//! Spans of what was done, with the attributes of OpenTelemetry's semantic conventions.

use std::borrow::Cow;
use std::time::SystemTime;

use ferrotunnel_common::TraceContext;
use ferrotunnel_core::Dialled;
use ferrotunnel_core::client::Target;
use ferrotunnel_plugin::{Step, StepKind, TracedRequest};
use http::{Method, StatusCode, Version};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

/// A request, and each of its steps.
pub(super) fn of_request(request: &TracedRequest<'_>) -> Vec<SpanData> {
    let state = request.state.and_then(|state| state.parse::<TraceState>().ok());
    let state = state.unwrap_or_default();
    let mut whole = span(request.span, request.parent.map(|parent| parent.span), &state);
    whole.parent_span_is_remote = request.parent.is_some();
    whole.span_kind = SpanKind::Server;
    whole.name = method(request.method).into();
    (whole.start_time, whole.end_time) = (request.at, request.at + request.took);
    whole.attributes = attributes(request);
    if let Some(error) = error(request) {
        whole.attributes.push(KeyValue::new("error.type", error));
        whole.status = Status::error("");
    }
    let steps = request.steps.iter().map(|step| of_step(step, request, &state));
    std::iter::once(whole).chain(steps).collect()
}

fn attributes(request: &TracedRequest<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method(request.method)),
        KeyValue::new("url.scheme", request.scheme),
        KeyValue::new("url.path", request.path.to_owned()),
        KeyValue::new("network.protocol.name", "http"),
        KeyValue::new("network.protocol.version", version(request.version)),
        KeyValue::new("client.address", request.visitor.ip().to_string()),
        KeyValue::new("client.port", i64::from(request.visitor.port())),
        KeyValue::new("network.peer.address", request.peer.ip().to_string()),
        KeyValue::new("network.peer.port", i64::from(request.peer.port())),
        KeyValue::new("ferrotunnel.request_id", request.request_id.to_owned()),
    ];
    if method(request.method) == OTHER {
        let as_sent = request.method.as_str().to_owned();
        attributes.push(KeyValue::new("http.request.method_original", as_sent));
    }
    if let Some((address, port)) = request.host.map(split_host) {
        attributes.push(KeyValue::new("server.address", address.to_owned()));
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    }
    if let Some(agent) = request.user_agent {
        attributes.push(KeyValue::new("user_agent.original", agent.to_owned()));
    }
    if let Some(status) = request.status {
        attributes.push(status_code(status));
    }
    if let Some(tunnel) = request.tunnel {
        attributes.push(KeyValue::new("ferrotunnel.tunnel", tunnel.to_owned()));
    }
    if let Some(session) = request.session {
        attributes.push(KeyValue::new("ferrotunnel.session", session.to_string()));
    }
    if let Some(refusal) = request.refusal {
        attributes.push(KeyValue::new("ferrotunnel.refusal", refusal));
    }
    attributes
}

/// What is wrong, if it is the server's or the local service's fault, or the visitor did not wait for it.
fn error(request: &TracedRequest<'_>) -> Option<String> {
    match (request.status, request.refusal) {
        (None, _) => Some("visitor-left".to_owned()),
        (Some(status), Some(refusal)) if status.is_server_error() => Some(refusal.to_owned()),
        (Some(status), None) if status.is_server_error() => Some(status.as_str().to_owned()),
        _ => None,
    }
}

fn of_step(step: &Step, request: &TracedRequest<'_>, state: &TraceState) -> SpanData {
    let mut span = span(request.span.with_span(step.span), Some(step.parent), state);
    (span.span_kind, span.name) = match step.kind {
        StepKind::Route => (SpanKind::Internal, "route".into()),
        StepKind::RequestPlugins => (SpanKind::Internal, "plugins request".into()),
        StepKind::ResponsePlugins => (SpanKind::Internal, "plugins response".into()),
        StepKind::Forward => (SpanKind::Client, method(request.method).into()),
        StepKind::StreamOpen => (SpanKind::Internal, "stream open".into()),
        StepKind::FirstByte => (SpanKind::Internal, "first byte".into()),
        _ => (SpanKind::Internal, "step".into()),
    };
    span.start_time = request.at + step.after;
    span.end_time = span.start_time + step.took;
    if step.kind == StepKind::Forward {
        span.attributes.push(KeyValue::new("http.request.method", method(request.method)));
        span.attributes.push(KeyValue::new("url.path", request.path.to_owned()));
        // The status of an answer of ours is not the local service's.
        let status = request.status.filter(|_| request.refusal.is_none());
        if let Some(status) = status {
            span.attributes.push(status_code(status));
            if status.is_client_error() || status.is_server_error() {
                let code = status.as_str().to_owned();
                span.attributes.push(KeyValue::new("error.type", code));
                span.status = Status::error("");
            }
        }
    }
    if let Some(error) = &step.error {
        span.attributes.push(KeyValue::new("error.type", error.clone()));
        span.status = Status::error("");
    }
    span
}

/// How a client dialled its local service.
pub(super) fn of_dial(dialled: &Dialled<'_>, id: [u8; 8]) -> SpanData {
    let state = TraceState::default();
    let mut span = span(dialled.trace.with_span(id), Some(dialled.trace.span), &state);
    span.parent_span_is_remote = true;
    (span.span_kind, span.name) = (SpanKind::Client, "local connect".into());
    (span.start_time, span.end_time) = (dialled.at, dialled.at + dialled.took);
    let target = dialled.target.to_string();
    match dialled.target {
        #[cfg(unix)]
        Target::Unix(path) => {
            span.attributes.push(KeyValue::new("network.transport", "unix"));
            let path = path.display().to_string();
            span.attributes.push(KeyValue::new("server.address", path));
        }
        _ => {
            let (address, port) = split_host(target.trim_start_matches("https://"));
            span.attributes.push(KeyValue::new("network.transport", "tcp"));
            span.attributes.push(KeyValue::new("server.address", address.to_owned()));
            let port = port.map(|port| KeyValue::new("server.port", i64::from(port)));
            span.attributes.extend(port);
        }
    }
    if let Some(error) = dialled.error {
        span.attributes.push(KeyValue::new("error.type", error.to_string()));
        span.status = Status::error("");
    }
    span
}

fn span(context: TraceContext, parent: Option<[u8; 8]>, state: &TraceState) -> SpanData {
    let (trace, id) = (TraceId::from_bytes(context.trace), SpanId::from_bytes(context.span));
    let flags = TraceFlags::new(context.flags);
    SpanData {
        span_context: SpanContext::new(trace, id, flags, false, state.clone()),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: Cow::Borrowed(""),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("ferrotunnel").with_version(env!("CARGO_PKG_VERSION")).build()
}

fn status_code(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

/// Those that everybody knows; whoever makes some up is not to make up names of spans.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "CONNECT" => "CONNECT",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "PATCH" => "PATCH",
        _ => OTHER,
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// A host, and its port if there is one.
fn split_host(host: &str) -> (&str, Option<u16>) {
    let bare = |host: &str| host.len();
    let end = match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => end + 2,
        None => host.rfind(':').unwrap_or(bare(host)),
    };
    let (address, rest) = host.split_at(end);
    let address = address.trim_start_matches('[').trim_end_matches(']');
    (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()))
}

/// As the conventions call a method that is not known.
const OTHER: &str = "_OTHER";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (host, address, port) in [
            ("app.example", "app.example", None),
            ("app.example:8080", "app.example", Some(8080)),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("", "", None),
        ] {
            assert_eq!(split_host(host), (address, port), "{host}");
        }
    }

    #[test]
    fn a_method_that_nobody_knows_names_no_span() {
        let odd = Method::from_bytes(b"BREW").unwrap();
        let context = TraceContext::new([1; 16], [2; 8], 1).unwrap();
        let request = TracedRequest::new(context, &odd, "192.0.2.7:1".parse().unwrap());
        let spans = of_request(&request);
        assert_eq!(spans[0].name, "_OTHER");
        let original = KeyValue::new("http.request.method_original", "BREW");
        assert!(spans[0].attributes.contains(&original));
        let left = KeyValue::new("error.type", "visitor-left");
        assert!(spans[0].attributes.contains(&left));
    }
}
