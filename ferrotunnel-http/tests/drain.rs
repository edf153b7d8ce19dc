//! What shutdown does to visitors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use ferrotunnel_http::HttpConfig;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{PATIENCE, Public, Settings, get, hear, hear_head, local, request, rest, say};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::mpsc, time::timeout};

/// Answers at once, except that `/slow` waits for a word from the test and `/never` for the
/// visitor's end. Says what has arrived.
async fn service() -> (std::net::SocketAddr, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let (arrived, arrivals) = mpsc::channel(8);
    let (go, may_go) = mpsc::channel::<()>(1);
    let may_go = std::sync::Arc::new(tokio::sync::Mutex::new(may_go));
    let addr = local(move |_, mut socket| {
        let (arrived, may_go) = (arrived.clone(), may_go.clone());
        async move {
            while let Some(head) = hear_head(&mut socket).await {
                arrived.send(head.clone()).await.unwrap();
                if head.contains("/slow") {
                    may_go.lock().await.recv().await.unwrap();
                }
                if head.contains("/never") {
                    let _ = socket.read(&mut [0]).await;
                    return;
                }
                say(&mut socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    (addr.await, arrivals, go)
}

async fn public(grace: Duration) -> (Public, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let (addr, arrivals, go) = service().await;
    let mut http = HttpConfig::default();
    http.drain_grace = grace;
    let settings = Settings { http, ..Settings::default() };
    (Public::with(addr, settings).await, arrivals, go)
}

#[tokio::test]
async fn drain_finishes_open_requests() {
    let (public, mut arrivals, go) = public(PATIENCE).await;
    let mut idle = public.connect().await;
    say(&mut idle, &request("GET / HTTP/1.1", "")).await;
    hear(&mut idle, "ok").await;
    arrivals.recv().await.unwrap();
    let mut silent = public.connect().await;
    let mut slow = public.connect().await;
    say(&mut slow, &request("GET /slow HTTP/1.1", "")).await;
    arrivals.recv().await.unwrap();

    public.stop.send(true).unwrap();
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed at once");
    assert_eq!(rest(&mut silent).await, "");
    assert!(TcpStream::connect(public.addr).await.is_err(), "the port is free");
    assert!(!public.serving.is_finished());
    go.send(()).await.unwrap();
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
    timeout(PATIENCE, public.serving).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn what_is_answered_in_a_drain_is_the_last_of_its_connection() {
    let (public, mut arrivals, go) = public(PATIENCE).await;
    let mut visitor = public.connect().await;
    say(&mut visitor, &request("GET / HTTP/1.1", "")).await;
    let answer = hear(&mut visitor, "ok").await;
    assert!(!answer.to_lowercase().contains("connection: close"), "{answer}");
    arrivals.recv().await.unwrap();
    say(&mut visitor, &request("GET /slow HTTP/1.1", "")).await;
    arrivals.recv().await.unwrap();
    public.stop.send(true).unwrap();
    go.send(()).await.unwrap();
    let answer = rest(&mut visitor).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn who_was_accepted_before_a_drain_may_still_ask() {
    let (public, _arrivals, _go) = public(PATIENCE).await;
    let mut fresh = public.connect().await;
    let mut begun = public.connect().await;
    say(&mut begun, "GET / HTTP/1.1\r\n").await;
    // Accepted after them, so they are in.
    assert!(public.ask(&get("/")).await.ends_with("ok"));
    public.stop.send(true).unwrap();
    // By then both have heard of it too.
    assert!(TcpStream::connect(public.addr).await.is_err(), "the port is free");
    say(&mut fresh, &request("GET / HTTP/1.1", "")).await;
    say(&mut begun, "Host: app.localhost\r\n\r\n").await;
    for visitor in [&mut fresh, &mut begun] {
        let answer = rest(visitor).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
    timeout(PATIENCE, public.serving).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn a_request_that_comes_after_the_tunnels_have_left_is_told_when_to_come_back() {
    let (public, _arrivals, _go) = public(PATIENCE).await;
    let mut late = public.connect().await;
    say(&mut late, "GET / HTTP/1.1\r\n").await;
    assert!(public.ask(&get("/")).await.ends_with("ok"));
    public.stop.send(true).unwrap();
    public.begin_shutdown().await;
    say(&mut late, "Host: app.localhost\r\n\r\n").await;
    let answer = rest(&mut late).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("ferrotunnel-error: draining\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
}

#[tokio::test]
async fn a_drain_says_goodbye_over_http2_and_finishes_what_is_open() {
    let (public, mut arrivals, go) = public(PATIENCE).await;
    let io = TokioIo::new(public.connect().await);
    let (mut visitor, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.unwrap();
    let ended = tokio::spawn(connection);
    let ask =
        |path| Request::get(format!("http://app.localhost{path}")).body(Empty::new()).unwrap();
    assert_eq!(visitor.send_request(ask("/")).await.unwrap().status(), 200);
    arrivals.recv().await.unwrap();
    let slow = tokio::spawn(visitor.send_request(ask("/slow")));
    arrivals.recv().await.unwrap();
    public.stop.send(true).unwrap();
    // Those that were under way at that moment are answered; one is told to go elsewhere.
    let refused = async {
        while visitor.send_request(ask("/")).await.is_ok() {
            let _ = arrivals.try_recv();
        }
    };
    timeout(PATIENCE, refused).await.expect("the server does not say goodbye");
    assert!(!slow.is_finished() && !public.serving.is_finished());
    go.send(()).await.unwrap();
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    // GOAWAY with no error, and no cut.
    ended.await.unwrap().unwrap();
    timeout(PATIENCE, public.serving).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut() {
    let (public, mut arrivals, _go) = public(Duration::from_millis(50)).await;
    let mut never = public.connect().await;
    say(&mut never, &request("GET /never HTTP/1.1", "")).await;
    arrivals.recv().await.unwrap();
    public.stop.send(true).unwrap();
    assert_eq!(rest(&mut never).await, "");
    public.until_streams(0).await;
    timeout(PATIENCE, public.serving).await.expect("the drain does not end").unwrap();
}

#[tokio::test]
async fn an_ingress_ends_with_whoever_could_stop_it() {
    let (mut public, _arrivals, _go) = public(PATIENCE).await;
    assert!(public.ask(&get("/")).await.ends_with("ok"));
    let (unused, _) = tokio::sync::watch::channel(false);
    drop(std::mem::replace(&mut public.stop, unused));
    timeout(PATIENCE, public.serving).await.expect("the ingress goes on").unwrap();
}

#[tokio::test]
async fn a_client_that_goes_does_not_wait_for_idle_connections() {
    let mut http = HttpConfig::default();
    http.pool_idle_timeout = 2 * PATIENCE;
    let settings = Settings { http, ..Settings::default() };
    let public = Public::with(support::echo().await, settings).await;
    assert!(public.ask(&get("/")).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(public.streams(), 1);
    let leaving = timeout(PATIENCE / 2, public.shut_client_down()).await;
    assert!(leaving.is_ok(), "the client waits for a connection that nobody uses");
}
