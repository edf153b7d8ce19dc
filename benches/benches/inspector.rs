//! What inspection costs a request, with a store that is full: each one that comes throws an old one away.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferrotunnel::Inspector;
use ferrotunnel_core::{Tap, TapMaker, TappedStream};

// As in the program: what is inspected is mostly memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ASKED: &[u8] = b"GET / HTTP/1.1\r\nhost: app.localhost\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
    x-forwarded-host: app.localhost\r\nx-forwarded-port: 8080\r\nforwarded: for=127.0.0.1;host=app.localhost;proto=http\r\n\
    x-request-id: 5f9fe4390aa95d88\r\n\r\n";

const ANSWERED: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Fri, 27 Nov 2026 17:21:21 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok";

/// As many streams as that, each of which has been asked something once in a while.
fn streams(taps: &dyn TapMaker, count: usize) -> Vec<Box<dyn Tap>> {
    (0..count).map(|_| taps.tap(TappedStream::new("app", 1, None)).unwrap()).collect()
}

/// One request over each: first all are asked, then all answer.
fn round(streams: &mut [Box<dyn Tap>]) {
    streams.iter_mut().for_each(|stream| stream.to_local(black_box(ASKED)));
    streams.iter_mut().for_each(|stream| stream.to_visitor(black_box(ANSWERED)));
}

/// So many threads do so many rounds each, all at once.
fn side_by_side(
    inspector: &Inspector,
    threads: usize,
    streams_each: usize,
    rounds: u64,
) -> Duration {
    let (taps, begin) = (inspector.taps(), Barrier::new(threads));
    std::thread::scope(|scope| {
        let each = || {
            let mut streams = streams(taps.as_ref(), streams_each);
            begin.wait();
            let began = Instant::now();
            (0..rounds).for_each(|_| round(&mut streams));
            began.elapsed()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    })
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("inspector");
    for (threads, streams_each) in [(1, 1), (1, 256), (2, 128)] {
        let inspector = Inspector::default();
        side_by_side(&inspector, 1, 1, 20_000);
        group.throughput(Throughput::Elements((threads * streams_each) as u64));
        group.bench_function(format!("{threads} threads, {streams_each} streams each"), |b| {
            b.iter_custom(|rounds| side_by_side(&inspector, threads, streams_each, rounds));
        });
    }
}

criterion_group!(inspector, requests);
criterion_main!(inspector);
