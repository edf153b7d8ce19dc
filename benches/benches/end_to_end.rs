//! Whole tunnels: a real server and a real client, over loopback, beside the same work without
//! them. Both ends, the visitor and the local service share this machine's processors.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferrotunnel::{Client, RunningServer, Server, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Bytes of one throughput measurement.
const BULK: u64 = 64 << 20;

#[derive(Clone, Copy)]
enum Path {
    Direct,
    Plaintext,
    Tls,
}

impl Path {
    const ALL: [(&'static str, Self); 3] =
        [("direct", Self::Direct), ("plaintext", Self::Plaintext), ("tls", Self::Tls)];
}

/// A local service, and where visitors reach it.
struct Setup {
    visitors: SocketAddr,
    _tunnel: Option<(RunningServer, Client)>,
}

async fn setup(path: Path, service: SocketAddr) -> Setup {
    if matches!(path, Path::Direct) {
        return Setup { visitors: service, _tunnel: None };
    }
    let mut server = Server::builder().bind("127.0.0.1:0").no_http().token("bench");
    if matches!(path, Path::Plaintext) {
        server = server.plaintext();
    }
    let server = server.build().unwrap().spawn().await.unwrap();
    let mut client = Client::builder()
        .server_addr(server.tunnel_addr().to_string())
        .token("bench")
        .tunnel(Tunnel::tcp().local_addr(service.to_string()));
    if matches!(path, Path::Plaintext) {
        client = client.plaintext();
    }
    let client = client.build().unwrap();
    let info = client.start().await.unwrap();
    let visitors = info.public_url.trim_start_matches("tcp://").parse().unwrap();
    Setup { visitors, _tunnel: Some((server, client)) }
}

/// Sends `BULK` bytes to whoever connects and says a byte.
async fn source() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let block = vec![7; 256 << 10];
                while socket.read_u8().await.is_ok() {
                    for _ in 0..BULK / block.len() as u64 {
                        socket.write_all(&block).await.unwrap();
                    }
                }
            });
        }
    });
    addr
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                    socket.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    addr
}

fn throughput(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("download");
    group.throughput(Throughput::Bytes(BULK)).sample_size(10);
    for (name, path) in Path::ALL {
        let setup = runtime.block_on(async { setup(path, source().await).await });
        let mut visitor = runtime.block_on(TcpStream::connect(setup.visitors)).unwrap();
        let mut buffer = vec![0; 256 << 10];
        group.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(async {
                    visitor.write_u8(1).await.unwrap();
                    let mut left = BULK;
                    while left > 0 {
                        left -= visitor.read(&mut buffer).await.unwrap() as u64;
                    }
                });
            });
        });
    }
    group.finish();
}

fn latency(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("round trip of 64 B");
    for (name, path) in Path::ALL {
        let setup = runtime.block_on(async { setup(path, echo().await).await });
        let mut visitor = runtime.block_on(TcpStream::connect(setup.visitors)).unwrap();
        visitor.set_nodelay(true).unwrap();
        let mut buffer = [7; 64];
        group.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(async {
                    visitor.write_all(&buffer).await.unwrap();
                    visitor.read_exact(&mut buffer).await.unwrap();
                });
            });
        });
    }
    group.finish();
}

fn connections(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut group = c.benchmark_group("new connection to first answer");
    for (name, path) in Path::ALL {
        let setup = runtime.block_on(async { setup(path, echo().await).await });
        group.measurement_time(Duration::from_secs(2)).bench_function(name, |b| {
            b.iter_custom(|count| {
                let began = Instant::now();
                runtime.block_on(async {
                    for _ in 0..count {
                        let mut visitor = TcpStream::connect(setup.visitors).await.unwrap();
                        // No TIME_WAIT: a long run would use up the ports.
                        visitor.set_zero_linger().unwrap();
                        visitor.write_all(b"x").await.unwrap();
                        visitor.read_u8().await.unwrap();
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, throughput, latency, connections);
criterion_main!(benches);
