//! What shutdown does to visitors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::time::Duration;

use ferrotunnel_http::HttpConfig;
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
