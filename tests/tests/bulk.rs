//! Large transfers arrive whole, and nothing is collected on the way.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that is skipped, or measures, says so")]

use aws_lc_rs::digest::{Context, Digest, SHA256};
use axum::body::Body;
use ferrotunnel::{Streams, Tunnel};
use ferrotunnel_tests::memory::{peak_bytes, restart_peak};
use ferrotunnel_tests::{
    Carrier, LocalService, Site, TestBed, pattern_stream, public_addr, run_for, send,
};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HOST;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One at a time: memory is that of the whole process, in which server, client, visitor and local service live.
static ALONE: Mutex<()> = Mutex::new(());

/// What is sent each way. An unoptimised build on two cores moves it in 3 to 6 s.
const BYTES: u64 = 1 << 30;

/// What a transfer may make the process grow by: the windows of both directions (16 MiB at most each), what is on its
/// way in user space, and what the allocator keeps.
const MOST_GROWTH: u64 = 64 << 20;

/// For one transfer on a machine that does four other things.
const PATIENCE: Duration = Duration::from_secs(150);

fn expected() -> Digest {
    let pattern = Site::pattern();
    let mut digest = Context::new(&SHA256);
    let mut left = BYTES;
    while left > 0 {
        let count = left.min(pattern.len() as u64);
        digest.update(&pattern[..count as usize]);
        left -= count;
    }
    digest.finish()
}

async fn digest_of(mut body: Incoming) -> (u64, Digest) {
    let (mut bytes, mut digest) = (0, Context::new(&SHA256));
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        bytes += data.len() as u64;
        digest.update(&data);
    }
    (bytes, digest.finish())
}

/// Runs a transfer and looks at the most memory that this process had meanwhile.
fn flat(transfer: impl AsyncFnOnce()) {
    let _alone = ALONE.lock();
    run_for(PATIENCE, async {
        let before = restart_peak();
        transfer().await;
        if let (Some(before), Some(most)) = (before, peak_bytes()) {
            let growth = most.saturating_sub(before);
            println!("grew by {} MiB", growth >> 20);
            assert!(growth < MOST_GROWTH, "grew by {} MiB", growth >> 20);
        }
    });
}

fn same(heard: (u64, Digest)) {
    assert_eq!(heard.0, BYTES);
    assert_eq!(heard.1.as_ref(), expected().as_ref(), "checksum");
}

async fn download_over_http(carrier: Carrier) {
    let bed = TestBed::start(carrier).await;
    let site = Site::start().await;
    let _client = bed.http("app", site.addr()).await;
    let asking = Request::get(format!("/bytes/{BYTES}")).header(HOST, bed.host("app"));
    let response = send(bed.http_addr(), asking.body(Body::empty()).unwrap()).await.unwrap();
    same(digest_of(response.into_body()).await);
}

/// Up and, as it comes back, down at once.
async fn echo_over_http(carrier: Carrier) {
    let bed = TestBed::start(carrier).await;
    let site = Site::start().await;
    let _client = bed.http("app", site.addr()).await;
    let body = Body::from_stream(pattern_stream(BYTES));
    let asking = Request::post("/echo").header(HOST, bed.host("app")).body(body).unwrap();
    let response = send(bed.http_addr(), asking).await.unwrap();
    same(digest_of(response.into_body()).await);
}

/// Up and, as it comes back, down at once.
async fn echo_over_tcp(carrier: Carrier) {
    let bed = TestBed::start(carrier).await;
    let echo = LocalService::echo().await;
    let client = bed
        .client()
        .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Multiplexed));
    let client = client.build().unwrap();
    let public = public_addr(&client.start().await.unwrap().public_url);
    let (mut read, mut write) = TcpStream::connect(public).await.unwrap().into_split();
    let speak = async {
        let mut blocks = std::pin::pin!(pattern_stream(BYTES));
        while let Some(Ok(block)) = blocks.next().await {
            write.write_all(&block).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let listen = async {
        let (mut heard, mut digest) = (0, Context::new(&SHA256));
        let mut buffer = vec![0; 256 << 10];
        loop {
            match read.read(&mut buffer).await.unwrap() {
                0 => return (heard, digest.finish()),
                count => {
                    heard += count as u64;
                    digest.update(&buffer[..count]);
                }
            }
        }
    };
    let ((), heard) = tokio::join!(speak, listen);
    same(heard);
}

#[test]
fn a_gigabyte_comes_down_an_encrypted_http_tunnel_whole() {
    flat(async || download_over_http(Carrier::Tls).await);
}

#[test]
fn a_gigabyte_goes_up_and_down_an_encrypted_http_tunnel_whole() {
    flat(async || echo_over_http(Carrier::Tls).await);
}

#[test]
fn a_gigabyte_goes_up_and_down_a_plaintext_http_tunnel_whole() {
    flat(async || echo_over_http(Carrier::Plaintext).await);
}

#[test]
fn a_gigabyte_goes_up_and_down_an_encrypted_tcp_tunnel_whole() {
    flat(async || echo_over_tcp(Carrier::Tls).await);
}

#[test]
fn a_gigabyte_goes_up_and_down_a_plaintext_tcp_tunnel_whole() {
    flat(async || echo_over_tcp(Carrier::Plaintext).await);
}
