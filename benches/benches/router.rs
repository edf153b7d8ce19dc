//! From a host name to its tunnel, with few and with many hosts.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark that fails stops")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ferrotunnel_benches::Directory;

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("look a host up");
    for count in [1, 1_000, 10_000] {
        let directory = Directory::new(count);
        let mut hosts = directory.hosts().iter().cycle();
        group.bench_function(format!("among {count}"), |b| {
            b.iter(|| {
                directory.routes().http(black_box(hosts.next().unwrap()), black_box("/")).unwrap()
            });
        });
        group.bench_function(format!("that is not among {count}"), |b| {
            b.iter(|| {
                assert!(
                    directory
                        .routes()
                        .http(black_box("nobody.example.org"), black_box("/"))
                        .is_err()
                );
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
