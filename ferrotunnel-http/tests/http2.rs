//! Visitors and local services that speak HTTP/2.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use ferrotunnel_http::HttpConfig;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    PATIENCE, Public, Settings, echo, get, hear, hear_head, local, nobody, request, rest, say,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};

type Body = BoxBody<Bytes, Infallible>;

async fn visit(public: &Public) -> SendRequest<Body> {
    let io = TokioIo::new(public.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn to(uri: &str) -> Request<Body> {
    Request::get(uri).body(Empty::new().boxed()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A message of gRPC's shape: data, then the status in a trailer.
fn with_status(data: &'static str) -> Body {
    let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    let trailers = HeaderMap::from_iter([status]);
    Full::from(data).with_trailers(async { Some(Ok(trailers)) }).boxed()
}

/// Two bytes, and then more that never come.
#[derive(Default)]
struct Endless {
    begun: bool,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ok")))))
    }
}

/// A local service that speaks HTTP/2 with prior knowledge and nothing else.
async fn http2_local<S, F>(answer: S) -> SocketAddr
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    local(move |_, socket| serve_http2(socket, answer.clone(), Arc::default())).await
}

/// Goes away gracefully when notified.
async fn serve_http2<S, F>(socket: TcpStream, answer: S, leave: Arc<Notify>)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = leave.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[tokio::test]
async fn authority_only_h2_is_routed() {
    let public = Public::of(echo().await).await;
    let mut visitor = visit(&public).await;
    let mut request = to("http://app.localhost:8080/x");
    request.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
    request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
    let seen = text(visitor.send_request(request).await.unwrap()).await;
    assert!(seen.starts_with("0 GET /x HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("host: app.localhost:8080\r\n"), "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\r\n"), "{seen}");

    let stranger = visitor.send_request(to("http://nope.localhost/")).await.unwrap();
    assert_eq!(stranger.status(), 404);
    assert_eq!(stranger.headers()["ferrotunnel-error"], "no-such-tunnel");
}

#[tokio::test]
async fn grpc_trailers_survive() {
    let service = http2_local(|request| async move {
        assert_eq!(request.uri().to_string(), "http://app.localhost/Service/Method");
        assert_eq!(request.headers()["te"], "trailers");
        let asked = request.into_body().collect().await.unwrap();
        assert_eq!(asked.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(asked.to_bytes(), "question");
        let answer = Response::builder().header("content-type", "application/grpc");
        answer.body(with_status("answer")).unwrap()
    });
    // Nothing but the content type says that the local service wants HTTP/2.
    let public = Public::of(service.await).await;
    let mut visitor = visit(&public).await;
    for _ in 0..3 {
        let request = Request::post("http://app.localhost/Service/Method")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(with_status("question"))
            .unwrap();
        let response = visitor.send_request(request).await.unwrap();
        let answer = response.into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), "answer");
    }
    assert_eq!(public.streams(), 1, "one connection is shared");
}

#[tokio::test]
async fn http1_visitors_reach_a_local_service_that_speaks_http2() {
    let service = http2_local(|request| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        assert!(!request.headers().contains_key("host"));
        Response::new(Full::from(request.uri().to_string()).boxed())
    });
    let public = Public::speaking_http2(service.await).await;
    let answer = public.ask(&get("/x?y")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhttp://app.localhost/x?y"), "{answer}");
    let old = public.ask(&request("GET / HTTP/1.0", "")).await;
    assert!(old.starts_with("HTTP/1.0 200 OK"), "{old}");
}

#[tokio::test]
async fn a_truncated_body_is_an_error_over_http2_too() {
    let service = local(|_, mut socket| async move {
        hear_head(&mut socket).await.unwrap();
        say(&mut socket, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    });
    let public = Public::of(service.await).await;
    let response = visit(&public).await.send_request(to("http://app.localhost/")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn failures_of_a_local_service_are_told_apart_over_http2() {
    let public = Public::speaking_http2(nobody().await).await;
    for _ in 0..3 {
        let answer = public.ask(&get("/")).await;
        assert!(answer.contains("ferrotunnel-error: local-unreachable\r\n"), "{answer}");
    }
    let http1_only = local(|_, mut socket| async move {
        say(&mut socket, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
        rest(&mut socket).await;
    });
    let public = Public::speaking_http2(http1_only.await).await;
    let answer = public.ask(&get("/")).await;
    assert!(answer.contains("ferrotunnel-error: bad-answer\r\n"), "{answer}");
    public.until_streams(0).await;
}

#[tokio::test]
async fn visitors_who_stall_do_not_stall_others_on_a_shared_connection() {
    let service = http2_local(|request| async move {
        let len = if request.uri().path() == "/big" { 4 << 20 } else { 2 };
        Response::new(Full::from(vec![b'x'; len]).boxed())
    });
    let public = Public::speaking_http2(service.await).await;
    let mut stalled = Vec::new();
    for _ in 0..10 {
        let mut visitor = public.connect().await;
        say(&mut visitor, &request("GET /big HTTP/1.1", "")).await;
        hear(&mut visitor, "\r\n\r\n").await;
        stalled.push(visitor);
    }
    let answer = timeout(PATIENCE, public.ask(&get("/"))).await.expect("stalled");
    assert!(answer.ends_with("\r\n\r\nxx"), "{answer}");
    assert_eq!(public.streams(), 1);
}

#[tokio::test]
async fn a_full_connection_gets_company_for_as_long_as_it_is_needed() {
    let service = http2_local(|request| async move {
        let endless = request.uri().path() == "/endless";
        Response::new(if endless { Endless::default().boxed() } else { Full::from("ok").boxed() })
    });
    let public = Public::speaking_http2(service.await).await;
    let mut inside = Vec::new();
    // A connection carries 100 exchanges.
    for _ in 0..101 {
        let mut visitor = public.connect().await;
        say(&mut visitor, &request("GET /endless HTTP/1.1", "")).await;
        hear(&mut visitor, "ok\r\n").await;
        inside.push(visitor);
    }
    assert_eq!(public.streams(), 2);
    drop(inside);
    // What is not needed any more goes, one connection with each request.
    let leaving = timeout(PATIENCE, async {
        while public.streams() > 1 {
            public.ask(&get("/")).await;
        }
    });
    assert!(leaving.await.is_ok(), "a connection that nobody needs stays open");
}

#[tokio::test]
async fn a_shared_connection_goes_when_nobody_has_used_it_for_the_idle_time() {
    let gone = Arc::new(Notify::new());
    let tell = Arc::clone(&gone);
    let service = local(move |_, socket| {
        let tell = Arc::clone(&tell);
        async move {
            let answer = |_| async { Response::new(Full::from("ok").boxed()) };
            serve_http2(socket, answer, Arc::default()).await;
            tell.notify_one();
        }
    });
    let service = service.await;
    let mut settings = Settings { h2c: true, ..Settings::default() };
    settings.http.pool_idle_timeout = Duration::from_millis(100);
    let public = Public::with(service, settings).await;
    assert!(public.ask(&get("/")).await.ends_with("ok"));
    assert!(timeout(PATIENCE, gone.notified()).await.is_ok(), "an idle connection stays open");
    public.until_streams(0).await;
    assert!(public.ask(&get("/")).await.ends_with("ok"), "the next one opens another");
}

#[tokio::test]
async fn a_local_service_that_goes_away_gracefully_fails_no_request() {
    let service = local(|_, socket| async move {
        let leave = Arc::new(Notify::new());
        let leaving = leave.clone();
        let answer = move |_| {
            // With the first request of each connection, so that others are on their way.
            leaving.notify_one();
            async { Response::new(Full::from("ok").boxed()) }
        };
        serve_http2(socket, answer, leave).await;
    });
    let public = Public::speaking_http2(service.await).await;
    let visitor = visit(&public).await;
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let mut visitor = visitor.clone();
        asking.spawn(async move {
            for _ in 0..20 {
                let answer = visitor.send_request(to("http://app.localhost/")).await.unwrap();
                assert_eq!(answer.status(), 200, "{:?}", answer.headers());
            }
        });
    }
    while let Some(done) = asking.join_next().await {
        done.unwrap();
    }
}

/// A local service that answers nothing, and says when a request came and when its visitor left.
async fn silent() -> (SocketAddr, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel(4);
    let addr = local(move |_, mut socket| {
        let tell = tell.clone();
        async move {
            hear_head(&mut socket).await.unwrap();
            tell.send("came").await.unwrap();
            let _ = socket.read(&mut [0]).await;
            tell.send("left").await.unwrap();
        }
    });
    (addr.await, told)
}

#[tokio::test]
async fn a_request_that_its_visitor_resets_leaves_the_local_service_at_once() {
    let (addr, mut told) = silent().await;
    let public = Public::of(addr).await;
    let mut visitor = visit(&public).await;
    let asking = tokio::spawn(visitor.send_request(to("http://app.localhost/")));
    assert_eq!(told.recv().await, Some("came"));
    asking.abort();
    assert_eq!(timeout(PATIENCE, told.recv()).await.expect("not noticed"), Some("left"));
    public.until_streams(0).await;
}

#[tokio::test]
async fn http2_requests_that_outlive_the_grace_are_cut() {
    let (addr, mut told) = silent().await;
    let mut http = HttpConfig::default();
    http.drain_grace = Duration::from_millis(50);
    let public = Public::with(addr, Settings { http, ..Settings::default() }).await;
    let mut visitor = visit(&public).await;
    let asking = tokio::spawn(visitor.send_request(to("http://app.localhost/")));
    assert_eq!(told.recv().await, Some("came"));
    public.stop.send(true).unwrap();
    assert!(timeout(PATIENCE, asking).await.expect("not cut").unwrap().is_err());
    assert_eq!(timeout(PATIENCE, told.recv()).await.expect("not noticed"), Some("left"));
    timeout(PATIENCE, public.serving).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn a_client_that_goes_does_not_wait_for_an_idle_http2_connection() {
    let service = http2_local(|_| async { Response::new(Full::from("ok").boxed()) });
    let public = Public::speaking_http2(service.await).await;
    assert!(public.ask(&get("/")).await.ends_with("ok"));
    assert_eq!(public.streams(), 1);
    let leaving = timeout(PATIENCE / 2, public.shut_client_down()).await;
    assert!(leaving.is_ok(), "the client waits for a connection that nobody uses");
}
