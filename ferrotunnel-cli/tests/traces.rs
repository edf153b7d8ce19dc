//! Traces of requests, as a receiver of OTLP gets them from a server and a client that are processes of their own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use ferrotunnel_tests::{Answer, Authority, LocalService, Site, TOKEN, collect, run, send};
use http_body_util::Empty;
use hyper::Request;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use support::server::Server;
use support::{Running, command};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;

/// A span, whose it is, and what was sent with it.
#[derive(Clone, Debug)]
struct Got {
    service: String,
    span: Span,
    key: Option<String>,
}

impl Got {
    fn of(request: ExportTraceServiceRequest, key: Option<&str>) -> Vec<Self> {
        let all = request.resource_spans.into_iter().flat_map(|of_one| {
            let attributes = of_one.resource.unwrap().attributes;
            let service = text(&attributes, "service.name").unwrap();
            let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let key = key.map(str::to_owned);
            spans.map(move |span| Self { service: service.clone(), span, key: key.clone() })
        });
        all.collect()
    }

    fn says(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

fn text(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Takes spans.
struct Receiver {
    endpoint: String,
    protocol: &'static str,
    /// Where it is spoken to over TLS: what ends that, and who vouches for it.
    tls: Option<(LocalService, Authority)>,
    spans: mpsc::Receiver<Got>,
}

struct Grpc(mpsc::Sender<Got>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let key = request.metadata().get("x-key").map(|key| key.to_str().unwrap().to_owned());
        for got in Got::of(request.into_inner(), key.as_deref()) {
            self.0.try_send(got).unwrap();
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    async fn grpc() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, spans) = mpsc::channel(1024);
        let service = TraceServiceServer::new(Grpc(sender));
        let incoming = TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        Self { endpoint, protocol: "grpc", tls: None, spans }
    }

    async fn http() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, spans) = mpsc::channel(1024);
        let take = move |headers: HeaderMap, body: Bytes| {
            let key = headers.get("x-key").map(|key| key.to_str().unwrap().to_owned());
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for got in Got::of(request, key.as_deref()) {
                sender.try_send(got).unwrap();
            }
            std::future::ready(StatusCode::OK)
        };
        let app = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { endpoint, protocol: "http/protobuf", tls: None, spans }
    }

    /// The same behind TLS, with a certificate that no CA of the system has issued.
    async fn over_tls(self) -> Self {
        let ca = Authority::new("ca of the receiver");
        let alpn = if self.protocol == "grpc" { "h2" } else { "http/1.1" };
        let plain = self.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let door = LocalService::behind_tls(plain, &ca.server("127.0.0.1"), alpn).await;
        Self { endpoint: format!("https://{}", door.addr()), tls: Some((door, ca)), ..self }
    }

    /// With what says where it is.
    fn known_to(&self, mut command: Command) -> Command {
        if let Some((_, ca)) = &self.tls {
            command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.file());
        }
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol)
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20secret")
            .env("OTEL_BSP_SCHEDULE_DELAY", "1");
        command
    }

    /// All spans up to that many.
    async fn take(&mut self, count: usize) -> Vec<Got> {
        let mut all = Vec::new();
        while all.len() < count {
            let next = timeout(support::PATIENCE, self.spans.recv()).await;
            all.push(next.unwrap_or_else(|_| panic!("only {all:#?}")).unwrap());
        }
        all
    }
}

fn server(receiver: &Receiver, more: &[&str], vars: &[(&str, &str)]) -> Server {
    let args = Server::args("127.0.0.1:0", "127.0.0.1:0");
    let mut command = receiver.known_to(command(&[&args[..], more].concat()));
    command.envs(vars.iter().copied());
    Server::spawn(command)
}

fn client(receiver: &Receiver, server: SocketAddr, local: SocketAddr) -> Running {
    let (local, server) = (local.to_string(), server.to_string());
    let args = ["http", &local, "--server", &server, "--token", TOKEN, "--name", "app"];
    let client = Running::spawn(receiver.known_to(command(&args)));
    assert!(client.line().starts_with("http://app."));
    client
}

async fn get(http: SocketAddr, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get("/head?token=secret").header("host", "app.localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    collect(send(http, request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()).await
}

/// A header as the local service has seen it.
fn seen(answer: &Answer, name: &str) -> Option<String> {
    let begin = format!("{name}: ");
    answer.body.lines().find_map(|line| Some(line.strip_prefix(&begin)?.to_owned()))
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

const VISITOR: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Requests one page, and looks at its trace.
async fn one_trace(mut receiver: Receiver) {
    let site = Site::start().await;
    let server = server(&receiver, &["--max-requests-per-address", "1000"], &[]);
    let _client = client(&receiver, server.tunnel, site.addr());
    let told = [("traceparent", VISITOR), ("tracestate", "a=1"), ("x-request-id", "the-id")];
    let answer = get(server.http, &told).await;
    assert_eq!(answer.status, StatusCode::OK);
    let spans = receiver.take(8).await;
    let names: BTreeSet<_> = spans.iter().map(|got| got.span.name.as_str()).collect();
    let expected = [
        "GET",
        "first byte",
        "local connect",
        "plugins request",
        "plugins response",
        "route",
        "stream open",
    ];
    assert_eq!(names, BTreeSet::from(expected), "{spans:#?}");
    assert!(spans.iter().all(|got| hex(&got.span.trace_id) == TRACE));
    assert!(spans.iter().all(|got| got.key.as_deref() == Some("a secret")));
    let ids: BTreeSet<_> = spans.iter().map(|got| got.span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans.len());

    let of = |name: &str, kind: i32| {
        let found = spans.iter().find(|got| got.span.name == name && got.span.kind == kind);
        found.unwrap_or_else(|| panic!("no {name}: {spans:#?}"))
    };
    let (inside, from, to) = (1, 2, 3);
    let whole = of("GET", from);
    assert_eq!(hex(&whole.span.parent_span_id), "00f067aa0ba902b7");
    assert_eq!((whole.service.as_str(), &*whole.span.trace_state), ("ferrotunnel-server", "a=1"));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/head"),
        ("url.scheme", "http"),
        ("http.response.status_code", "200"),
        ("server.address", "app.localhost"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("ferrotunnel.tunnel", "app"),
        ("ferrotunnel.request_id", "the-id"),
    ] {
        assert_eq!(whole.says(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(whole.says("error.type"), None);
    let is_part_of = |part: &Got, of: &Got| {
        assert_eq!(part.span.parent_span_id, of.span.span_id, "{part:#?}");
        assert!(part.span.start_time_unix_nano <= part.span.end_time_unix_nano);
        // Two processes of one machine have one clock.
        assert!(of.span.start_time_unix_nano <= part.span.start_time_unix_nano);
    };
    for name in ["route", "plugins request", "plugins response"] {
        is_part_of(of(name, inside), whole);
    }
    let forward = of("GET", to);
    is_part_of(forward, whole);
    is_part_of(of("first byte", inside), forward);
    let stream = of("stream open", inside);
    is_part_of(stream, forward);
    let connect = of("local connect", to);
    is_part_of(connect, stream);
    assert_eq!(connect.service, "ferrotunnel-client");
    assert_eq!(connect.says("server.address").as_deref(), Some("127.0.0.1"));
    assert_eq!(connect.says("server.port"), Some(site.addr().port().to_string()));

    let passed_on = format!("00-{TRACE}-{}-01", hex(&forward.span.span_id));
    assert_eq!(seen(&answer, "traceparent"), Some(passed_on));
    assert_eq!(seen(&answer, "tracestate").as_deref(), Some("a=1"));
    // What comes over a connection that there is already opens no stream.
    get(server.http, &[]).await;
    let more = receiver.take(6).await;
    assert!(more.iter().all(|got| got.span.name != "stream open"), "{more:#?}");
    assert!(more.iter().all(|got| hex(&got.span.trace_id) != TRACE));
}

#[test]
fn one_trace_goes_from_the_visitor_to_the_local_service_over_grpc() {
    run(async { one_trace(Receiver::grpc().await).await });
}

#[test]
fn one_trace_goes_from_the_visitor_to_the_local_service_over_http() {
    run(async { one_trace(Receiver::http().await).await });
}

#[test]
fn a_receiver_over_tls_gets_the_same_with_a_ca_of_its_own() {
    run(async { one_trace(Receiver::grpc().await.over_tls().await).await });
    run(async { one_trace(Receiver::http().await.over_tls().await).await });
}

/// Nothing is sent to who only says that it is the receiver.
#[test]
fn a_receiver_over_tls_that_nobody_vouches_for_gets_nothing() {
    run(async {
        for receiver in [Receiver::grpc().await, Receiver::http().await] {
            let mut receiver = receiver.over_tls().await;
            // Of the same name, and another.
            let other = Authority::new("ca of the receiver");
            let door = receiver.tls.take().map(|(door, _)| door).unwrap();
            receiver.tls = Some((door, other));
            let site = Site::start().await;
            let mut server = server(&receiver, &[], &[]);
            let _client = support::server::http_client(server.tunnel, "app", site.addr(), &[]);
            assert_eq!(get(server.http, &[]).await.status, StatusCode::OK);
            server.process.talk_with("traces cannot be sent");
            server.process.signal("TERM");
            assert!(server.process.ended().success());
            assert!(receiver.spans.try_recv().is_err());
        }
    });
}

#[test]
fn a_refusal_and_a_service_that_is_away_are_errors_with_a_type() {
    run(async {
        let mut receiver = Receiver::grpc().await;
        let nobody = LocalService::nobody().await;
        let server = server(&receiver, &[], &[("OTEL_SERVICE_NAME", "edge")]);
        let _client = client(&receiver, server.tunnel, nobody);
        let answer = get(server.http, &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let spans = receiver.take(6).await;
        let whole = spans.iter().find(|got| got.span.kind == 2).unwrap();
        assert_eq!(whole.service, "edge");
        assert_eq!(whole.says("error.type").as_deref(), Some("local-unreachable"));
        assert_eq!(whole.says("http.response.status_code").as_deref(), Some("502"));
        assert_eq!(whole.says("ferrotunnel.request_id"), Some(id));
        assert_eq!(whole.span.status.as_ref().unwrap().code, 2);
        assert!(whole.span.parent_span_id.is_empty());
        let connect = spans.iter().find(|got| got.span.name == "local connect").unwrap();
        assert_eq!(connect.says("error.type").as_deref(), Some("connection refused"));
    });
}

#[test]
fn what_is_not_sampled_is_not_sent_and_its_local_service_knows() {
    run(async {
        let mut receiver = Receiver::http().await;
        let site = Site::start().await;
        let vars = [("OTEL_TRACES_SAMPLER", "parentbased_always_off")];
        let mut server = server(&receiver, &[], &vars);
        let mut client = client(&receiver, server.tunnel, site.addr());
        let unsampled = VISITOR.replace("-01", "-00");
        for headers in [&[][..], &[("traceparent", unsampled.as_str())]] {
            let told = seen(&get(server.http, headers).await, "traceparent").unwrap();
            assert!(told.ends_with("-00") || told.ends_with("-02"), "{told}");
            assert!(!told.contains("00f067aa0ba902b7"), "{told}");
        }
        // Both send what they have when they end: nothing.
        client.signal("TERM");
        assert!(client.ended().success());
        server.process.signal("TERM");
        assert!(server.process.ended().success());
        assert!(receiver.spans.try_recv().is_err());
    });
}

#[test]
fn without_the_variables_headers_of_traces_pass_as_they_are() {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        let _client = support::server::http_client(server.tunnel, "app", site.addr(), &[]);
        let told = get(server.http, &[("traceparent", "odd"), ("tracestate", "a=1")]).await;
        assert_eq!(seen(&told, "traceparent").as_deref(), Some("odd"));
        assert_eq!(seen(&told, "tracestate").as_deref(), Some("a=1"));
    });
}

#[test]
fn a_receiver_that_is_away_is_told_of_once_and_holds_nobody_up() {
    run(async {
        let nobody = LocalService::nobody().await;
        let (_, spans) = mpsc::channel(1024);
        let endpoint = format!("http://{nobody}");
        let receiver = Receiver { endpoint, protocol: "http/protobuf", tls: None, spans };
        let site = Site::start().await;
        let vars = [("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "1")];
        let more = ["--admin-bind", "127.0.0.1:0"];
        let args = Server::args("127.0.0.1:0", "127.0.0.1:0");
        let mut command = receiver.known_to(command(&[&args[..], &more].concat()));
        command.envs(vars);
        let process = Running::spawn(command);
        let listening: serde_json::Value = process.line().parse().unwrap();
        let addr = |name: &str| listening[name].as_str().unwrap().parse::<SocketAddr>().unwrap();
        let (tunnel, http, admin) = (addr("tunnel_addr"), addr("http_addr"), addr("admin_addr"));
        let _client = support::server::http_client(tunnel, "app", site.addr(), &[]);
        for _ in 0..50 {
            assert_eq!(get(http, &[]).await.status, StatusCode::OK);
        }
        process.talk_with("traces cannot be sent");
        // As many as there were are dropped, for one reason or the other.
        let dropped = async {
            loop {
                let request = Request::get("/metrics").header("host", admin.to_string());
                let request = request.body(Empty::<Bytes>::new()).unwrap();
                let metrics = collect(send(admin, request).await.unwrap()).await.body;
                let count = |result: &str| {
                    let name = format!("ferrotunnel_spans_total{{result=\"{result}\"}} ");
                    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
                    line.unwrap_or_else(|| panic!("{metrics}")).parse::<f64>().unwrap()
                };
                assert_eq!(count("sent"), 0.0);
                if count("no-room") + count("not-taken") >= 200.0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(support::PATIENCE, dropped).await.unwrap();
        process.signal("TERM");
        let rest = process.rest_of_stderr();
        assert!(!rest.contains("traces cannot be sent"), "{rest}");
    });
}

#[test]
fn a_variable_that_cannot_be_used_is_named_before_anything_listens() {
    let mut command = command(&Server::args("127.0.0.1:0", "127.0.0.1:0"));
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317");
    let output = command.output().unwrap();
    support::assert_refused(&output, 2, &["OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"]);
}
