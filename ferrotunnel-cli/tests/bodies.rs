//! Large bodies through the program, with the memory of its server and of its client in view.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that measures says what")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrotunnel_tests::memory::{Process, peak_of, restart_peak_of};
use ferrotunnel_tests::{LocalService, open, open_http2, read_head, run_for};
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::server::{Server, host, http_client};

/// What goes each way; `FT_BODY_MIB` says another number. An unoptimised build on two cores moves all four of these in some
/// seconds.
const MIB: u64 = 256;

/// What either process may grow by: the windows of both directions (16 MiB each at most), what is on its way in user space,
/// and what the allocator keeps.
const FLAT: u64 = 64 << 20;

/// For all four on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(150);

type Upload = BoxBody<Bytes, std::convert::Infallible>;

fn block() -> Bytes {
    Bytes::from(vec![b'x'; 256 << 10])
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
    let (mut heard, mut last) = (0, Bytes::new());
    while let Some(frame) = body.frame().await {
        last = frame.unwrap().into_data().unwrap();
        heard += last.len() as u64;
    }
    match is_upload {
        true => assert_eq!(last, bytes.to_string()),
        false => assert_eq!(heard, bytes),
    }
}

#[test]
fn large_bodies_leave_the_memory_of_server_and_client_flat() {
    run_for(PATIENCE, async {
        let mib = std::env::var("FT_BODY_MIB").ok().map_or(MIB, |text| text.parse().unwrap());
        let bytes = mib << 20;
        let service = large_site(bytes).await;
        let server = Server::start();
        let client = http_client(server.tunnel, "app", service.addr(), &[]);
        let processes = [("server", server.process.id()), ("client", client.id())];
        for (is_http2, is_upload) in [(false, false), (false, true), (true, false), (true, true)] {
            let version = if is_http2 { "HTTP/2" } else { "HTTP/1.1" };
            let way = if is_upload { "up" } else { "down" };
            let before = processes.map(|(_, id)| restart_peak_of(Process::Id(id)).unwrap());
            let began = Instant::now();
            transfer(server.http, is_http2, is_upload, bytes).await;
            println!("{mib} MiB {way} over {version}: {:?}", began.elapsed());
            for ((name, id), before) in processes.into_iter().zip(before) {
                let growth = peak_of(Process::Id(id)).unwrap().saturating_sub(before);
                println!("  the {name} had {} MiB and grew by {} MiB", before >> 20, growth >> 20);
                assert!(growth < FLAT, "the {name} grew by {growth} bytes");
            }
        }
    });
}
