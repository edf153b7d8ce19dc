//! The splice between two sockets, over loopback: one hop without a session.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferrotunnel_core::splice::{SocketEnd, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Bytes of one round of bulk.
const BULK: usize = 1 << 20;

/// A visitor and a service with a splice between them. It ends with the runtime.
async fn joined() -> (TcpStream, TcpStream) {
    let (visitor, a) = connection().await;
    let (b, service) = connection().await;
    tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
    (visitor, service)
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    (near, far)
}

/// One thread: two would measure where the scheduler puts them.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn bulk(c: &mut Criterion) {
    let runtime = runtime();
    let (mut visitor, mut service) = runtime.block_on(joined());
    let sent = vec![7; BULK];
    let mut received = vec![0; 256 << 10];
    let mut group = c.benchmark_group("splice");
    group.throughput(Throughput::Bytes(BULK as u64)).bench_function("1 MiB", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let receive = async {
                    let mut left = BULK;
                    while left > 0 {
                        left -= service.read(&mut received).await.unwrap();
                    }
                };
                let (written, ()) = tokio::join!(visitor.write_all(&sent), receive);
                written.unwrap();
            });
        });
    });
    group.finish();
}

fn ping_pong(c: &mut Criterion) {
    let runtime = runtime();
    let (mut visitor, mut service) = runtime.block_on(joined());
    let mut message = [7; 64];
    c.bench_function("splice/64 B there and back", |b| {
        b.iter(|| {
            runtime.block_on(async {
                visitor.write_all(&message).await.unwrap();
                service.read_exact(&mut message).await.unwrap();
                service.write_all(&message).await.unwrap();
                visitor.read_exact(&mut message).await.unwrap();
            });
        });
    });
}

criterion_group!(benches, bulk, ping_pong);
criterion_main!(benches);
