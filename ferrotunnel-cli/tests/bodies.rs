//! Large bodies through the program, with the memory of its server and of its client in view.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that measures says what")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrotunnel_tests::memory::{Process, peak_of, restart_peak_of};
use ferrotunnel_tests::{LocalService, TOKEN, get, open, open_http2, read_head, run_for};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::server::{Server, host, http_client};
use support::{Running, command};

/// What goes each way; `FT_BODY_MIB` says another number. An unoptimised build on two cores moves some 250 MiB a second, inspected
/// or not.
const MIB: u64 = 512;

/// The same where it is inspected at both ends, which is where somebody could come to keep it.
const MIB_INSPECTED: u64 = 1024;

/// What either process may grow by: the windows of both directions (16 MiB each at most), what is on its way in user space,
/// and what the allocator keeps.
const FLAT: u64 = 64 << 20;

/// For all four on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(150);

type Upload = BoxBody<Bytes, std::convert::Infallible>;

/// What every body consists of. Its parts differ, so that none can be left out, doubled or moved unnoticed within it.
fn block() -> Bytes {
    let part = |at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[1];
    (0..256 << 10).map(part).collect()
}

/// Holds a part of a body, which begins there, to what it has to be.
fn check(at: u64, part: &[u8], block: &[u8]) {
    let mut from = at as usize % block.len();
    let mut rest = part;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(block.len() - from));
        assert!(now == &block[from..from + now.len()], "another byte, not far behind {at}");
        (rest, from) = (later, 0);
    }
}

fn upload(bytes: u64) -> Upload {
    let block = block();
    let blocks = (0..bytes / block.len() as u64).map(move |_| Ok(Frame::data(block.clone())));
    BodyExt::boxed(StreamBody::new(stream::iter(blocks)))
}

/// Sends so many bytes to whoever asks for them, and tells others how many they have sent.
async fn large_site(bytes: u64) -> LocalService {
    LocalService::each(move |mut socket| async move {
        let head = read_head(&mut socket).await;
        let block = block();
        if head.starts_with("GET") {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..bytes / block.len() as u64 {
                socket.write_all(&block).await.unwrap();
            }
            // Until the last of it has been taken.
            let _ = socket.shutdown().await;
            let _ = socket.read(&mut [0; 16]).await;
            return;
        }
        let (mut taken, mut buffer) = (0, block.to_vec());
        while taken < bytes {
            let count = socket.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the upload broke off");
            check(taken, &buffer[..count], &block);
            taken += count as u64;
        }
        let len = taken.to_string().len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{taken}");
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

async fn ask(http: SocketAddr, is_http2: bool, request: Request<Upload>) -> Response<Incoming> {
    match is_http2 {
        true => open_http2(http).await.send_request(request).await.unwrap(),
        false => open(http).await.send_request(request).await.unwrap(),
    }
}

async fn transfer(http: SocketAddr, is_http2: bool, is_upload: bool, bytes: u64) {
    let target = if is_http2 { format!("http://{}/", host("app")) } else { "/".to_owned() };
    let mut request = Request::builder().uri(target);
    if !is_http2 {
        request = request.header(HOST, host("app"));
    }
    let request = match is_upload {
        true => request.method("POST").header(CONTENT_LENGTH, bytes).body(upload(bytes)),
        false => request.body(BodyExt::boxed(Empty::new())),
    };
    let answer = ask(http, is_http2, request.unwrap()).await;
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let (mut heard, mut last, block) = (0, Bytes::new(), block());
    while let Some(frame) = body.frame().await {
        last = frame.unwrap().into_data().unwrap();
        if !is_upload {
            check(heard, &last, &block);
        }
        heard += last.len() as u64;
    }
    match is_upload {
        true => assert_eq!(last, bytes.to_string()),
        false => assert_eq!(heard, bytes),
    }
}

fn body_mib(usual: u64) -> u64 {
    std::env::var("FT_BODY_MIB").ok().map_or(usual, |text| text.parse().unwrap())
}

/// All four, with the memory of both processes in view.
async fn transfer_all(bytes: u64, http: SocketAddr, processes: [(&str, u32); 2]) {
    for (is_http2, is_upload) in [(false, false), (false, true), (true, false), (true, true)] {
        let version = if is_http2 { "HTTP/2" } else { "HTTP/1.1" };
        let way = if is_upload { "up" } else { "down" };
        let before = processes.map(|(_, id)| restart_peak_of(Process::Id(id)).unwrap());
        let began = Instant::now();
        transfer(http, is_http2, is_upload, bytes).await;
        println!("{} MiB {way} over {version}: {:?}", bytes >> 20, began.elapsed());
        for ((name, id), before) in processes.into_iter().zip(before) {
            let growth = peak_of(Process::Id(id)).unwrap().saturating_sub(before);
            println!("  the {name} had {} MiB and grew by {} MiB", before >> 20, growth >> 20);
            assert!(growth < FLAT, "the {name} grew by {growth} bytes");
        }
    }
}

#[test]
fn large_bodies_leave_the_memory_of_server_and_client_flat() {
    run_for(PATIENCE, async {
        let bytes = body_mib(MIB) << 20;
        let service = large_site(bytes).await;
        let server = Server::start();
        let client = http_client(server.tunnel, "app", service.addr(), &[]);
        let processes = [("server", server.process.id()), ("client", client.id())];
        transfer_all(bytes, server.http, processes).await;
    });
}

#[test]
fn large_bodies_that_are_inspected_are_the_same_and_shown_with_their_lengths() {
    run_for(PATIENCE, async {
        let bytes = body_mib(MIB_INSPECTED) << 20;
        let service = large_site(bytes).await;
        let bind = ["--admin-bind", "127.0.0.1:0"];
        let args = Server::args("127.0.0.1:0", "127.0.0.1:0");
        let server = Running::spawn(command(&[&args, &bind[..], &["--inspect"]].concat()));
        let listening = server.event();
        let addr = |of: &serde_json::Value, name: &str| -> SocketAddr {
            of[name].as_str().unwrap().parse().unwrap()
        };
        let (tunnel, http) = (addr(&listening, "tunnel_addr"), addr(&listening, "http_addr"));
        let (local, at) = (service.addr().to_string(), tunnel.to_string());
        let args = ["http", &local, "--server", &at, "--token", TOKEN, "--name", "app", "--json"];
        let client = Running::start(&[&args[..], &bind[..]].concat());
        let listens = client.event_of("admin_listening");
        client.event_of("tunnel_ready");
        transfer_all(bytes, http, [("server", server.id()), ("client", client.id())]).await;

        for admin in [addr(&listening, "admin_addr"), addr(&listens, "admin_addr")] {
            let requests = ended(admin, 4).await;
            let lengths = |name: &str| -> Vec<u64> {
                requests.iter().rev().map(|one| one[name].as_u64().unwrap()).collect()
            };
            // Down and up over each version, with the count of bytes for an answer.
            let digits = bytes.to_string().len() as u64;
            assert_eq!(lengths("request_bytes"), [0, bytes, 0, bytes]);
            assert_eq!(lengths("response_bytes"), [bytes, digits, bytes, digits]);
            let upload = requests[0]["id"].as_str().unwrap();
            let shown = get(admin, "localhost", &format!("/api/v1/requests/{upload}")).await;
            let shown: serde_json::Value = shown.body.parse().unwrap();
            let body = &shown["request"]["body"];
            assert_eq!((&body["size"], &body["truncated"]), (&bytes.into(), &true.into()));
            assert_eq!(body["captured"], 64 << 10);
        }
    });
}

/// The requests that an inspector has, once there are so many that are over.
async fn ended(admin: SocketAddr, count: usize) -> Vec<serde_json::Value> {
    loop {
        let list = get(admin, "localhost", "/api/v1/requests").await.body;
        let list: serde_json::Value = list.parse().unwrap();
        let requests = list["requests"].as_array().unwrap();
        if requests.len() == count && requests.iter().all(|one| one["state"] == "done") {
            return requests.clone();
        }
    }
}
