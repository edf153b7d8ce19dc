//! Nobody can stall anybody: a visitor or a local service that stops reading affects itself only.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ferrotunnel::{Streams, Tunnel};
use ferrotunnel_tests::{
    LocalService, Site, TestBed, begin, over_both, public_addr, send, soon, until_still,
    upload_without_end,
};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What one stalled visitor may make all the buffers on its way take: sockets of visitor, server, client and local
/// service, which the kernel grows to some 6 MiB each, and the window of the stream in between.
const MOST_IN_FLIGHT: u64 = 64 << 20;

/// A visitor that asks for a body without end, reads the head and then nothing more.
async fn stalled(bed: &TestBed) -> TcpStream {
    begin(bed.http_addr(), &bed.host("app"), "/endless").await
}

/// Others are served until what the stalled ones are owed no longer grows.
async fn until_stalled(bed: &TestBed, produced: impl Fn() -> u64) -> u64 {
    let ask = async || assert_eq!(soon("an answer", bed.get("app", "/hello")).await.body, "hello");
    until_still(produced, ask).await
}

/// One that reads gets all it asked for, and that is more than any buffer holds.
async fn downloads(bed: &TestBed) {
    let asking = Request::get("/bytes/20000000").header(HOST, bed.host("app"));
    let asking = asking.body(Empty::<Bytes>::new()).unwrap();
    let response = send(bed.http_addr(), asking).await.unwrap();
    let body = soon("a download beside", response.into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes().len(), 20_000_000);
}

#[test]
fn slow_visitor_does_not_stall_others() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let echo = LocalService::echo().await;
        // One session carries them all.
        let client = bed
            .client()
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Multiplexed))
            .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);

        let mut slow = stalled(&bed).await;
        let in_flight = until_stalled(&bed, || site.produced()).await;
        assert!(
            in_flight < MOST_IN_FLIGHT,
            "{in_flight} bytes wait for a visitor that does not read"
        );

        // Downloads, and a conversation.
        for _ in 0..3 {
            downloads(&bed).await;
        }
        let mut quick = TcpStream::connect(public).await.unwrap();
        for round in 0..100_u32 {
            quick.write_all(&round.to_be_bytes()).await.unwrap();
            assert_eq!(soon("an echo", quick.read_u32()).await.unwrap(), round);
        }

        // And the slow one gets all that it is owed, once it reads again.
        let mut owed = vec![0; 10_000_000];
        soon("what was owed", slow.read_exact(&mut owed)).await.unwrap();
    });
}

#[test]
fn many_stalled_visitors_leave_room_for_one_more() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut slow = Vec::new();
        for _ in 0..50 {
            slow.push(stalled(&bed).await);
        }
        until_stalled(&bed, || site.produced()).await;
        downloads(&bed).await;
    });
}

#[test]
fn a_local_service_that_does_not_read_stalls_its_own_visitor_only() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let deaf = LocalService::each(|socket| async move {
            std::future::pending::<()>().await;
            drop(socket);
        })
        .await;
        let site = Site::start().await;
        let client = bed
            .client()
            .tunnel(Tunnel::tcp().local_addr(deaf.addr().to_string()).streams(Streams::Multiplexed))
            .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let visitor = TcpStream::connect(public).await.unwrap();
        let (uploading, sent) = upload_without_end(visitor);
        let in_flight = until_stalled(&bed, || sent.load(Ordering::Relaxed)).await;
        assert!(
            in_flight < MOST_IN_FLIGHT,
            "{in_flight} bytes wait for a service that does not read"
        );
        assert!(!uploading.is_finished());
        uploading.abort();
    });
}

#[test]
fn a_stalled_exchange_leaves_the_others_of_its_http2_connection_alone() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
        // A visitor whose own connection window is no obstacle.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 30).initial_window_size(1 << 20);
        let (mut visitor, connection) = builder.handshake::<_, Bytes>(socket).await.unwrap();
        tokio::spawn(connection);
        let url = |path: &str| {
            let uri = format!("http://{}{path}", bed.host("app"));
            Request::get(uri).body(()).unwrap()
        };
        let mut slow = Vec::new();
        for _ in 0..5 {
            let (response, _) = visitor.send_request(url("/endless"), true).unwrap();
            slow.push(soon("a head", response).await.unwrap());
        }
        for _ in 0..100 {
            let (response, _) = visitor.send_request(url("/hello"), true).unwrap();
            let mut body = soon("a head", response).await.unwrap().into_body();
            let bytes = soon("a body", body.data()).await.unwrap().unwrap();
            assert_eq!(bytes, "hello");
        }
        drop(slow);
    });
}

#[test]
fn a_stalled_grpc_like_exchange_leaves_others_of_the_local_connection_alone() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").http2().local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        // All visitors share a few HTTP/2 connections to the local service.
        let mut slow = Vec::new();
        for _ in 0..20 {
            slow.push(stalled(&bed).await);
        }
        until_stalled(&bed, || site.produced()).await;
        downloads(&bed).await;
    });
}
