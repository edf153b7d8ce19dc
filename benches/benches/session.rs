//! The pure session: processor time only, no socket and no task.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferrotunnel_benches::Pair;

/// One chunk on each of many open streams and the credit back.
fn rounds(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    for streams in [1, 100, 10_000] {
        for (name, size) in [("100 B", 100), ("16 KiB", 16 << 10)] {
            let mut pair = Pair::new();
            let ids = pair.open(streams);
            let chunk = Bytes::from(vec![7; size]);
            group.throughput(Throughput::Bytes((streams * size) as u64));
            group.bench_function(format!("{streams} streams, {name} each"), |b| {
                b.iter(|| assert_eq!(pair.round(&ids, &chunk), streams * size));
            });
        }
    }
    group.finish();
}

/// A stream from its opening to its end, both sides.
fn churn(c: &mut Criterion) {
    c.bench_function("open, send, finish, forget", |b| {
        let mut pair = Pair::new();
        let chunk = Bytes::from_static(&[7; 100]);
        b.iter(|| {
            let ids = pair.open(1);
            pair.round(&ids, &chunk);
            pair.close(ids);
        });
        assert_eq!(pair.server.stats().streams, 0);
    });
}

criterion_group!(benches, rounds, churn);
criterion_main!(benches);
