//! What goes wrong at the other end shows.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ferrotunnel_loadgen::http::{self, HttpLoad, HttpVersion};
use ferrotunnel_loadgen::{Load, Outcome, Rhythm, pingpong};
use ferrotunnel_tests::{LocalService, read_head};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const STALL: Duration = Duration::from_millis(300);

/// HTTP that stands still once, for everybody.
struct Stalling {
    service: LocalService,
    asked: Arc<AtomicUsize>,
    // Last, so that its tasks end last.
    _runtime: Runtime,
}

impl Stalling {
    /// Nothing is answered for a while once that many requests have come.
    fn after(requests: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let stall = Arc::new(parking_lot::Mutex::new(None));
        let counter = Arc::clone(&asked);
        let service = runtime.block_on(LocalService::each(move |mut socket| {
            let (asked, stall) = (Arc::clone(&counter), Arc::clone(&stall));
            async move {
                while read_head(&mut socket).await.ends_with("\r\n\r\n") {
                    if asked.fetch_add(1, Ordering::SeqCst) == requests {
                        *stall.lock() = Some(Instant::now() + STALL);
                    }
                    let until = *stall.lock();
                    if let Some(until) = until {
                        tokio::time::sleep_until(until).await;
                    }
                    if socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                        return;
                    }
                }
            }
        }));
        Self { service, asked, _runtime: runtime }
    }

    fn load(&self, rhythm: Rhythm) -> Outcome {
        let settings = HttpLoad {
            host: "origin".to_owned(),
            path: "/".to_owned(),
            version: HttpVersion::One,
            load: load(4, rhythm, Duration::from_secs(30)),
        };
        http::run(self.service.addr(), &settings).unwrap()
    }
}

fn load(connections: usize, rhythm: Rhythm, patience: Duration) -> Load {
    Load {
        threads: 1,
        connections,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(1),
        rhythm,
        patience,
    }
}

fn open(per_second: u32) -> Rhythm {
    Rhythm::Open { per_second: NonZeroU32::new(per_second).unwrap() }
}

#[test]
fn a_stall_delays_whatever_was_due_meanwhile() {
    let origin = Stalling::after(300);
    let outcome = origin.load(open(1_000));
    assert_eq!((outcome.answered, outcome.failed, outcome.unanswered), (1_000, 0, 0));
    assert_eq!(origin.asked.load(Ordering::SeqCst), 1_000);
    // Three in ten requests were due during the stall, and waited for what was left of it. A tool
    // that omits them sees four slow requests, one for each connection.
    let (p80, p99) = (outcome.latencies.at(0.8), outcome.latencies.at(0.99));
    assert!(p99 >= Duration::from_millis(250), "p99 {p99:?}");
    assert!(p80 >= Duration::from_millis(50), "p80 {p80:?}");
    assert!(outcome.latencies.max() >= Duration::from_millis(290));
}

#[test]
fn a_closed_loop_shows_a_stall_once_for_each_connection() {
    let origin = Stalling::after(300);
    let outcome = origin.load(Rhythm::Closed);
    assert_eq!(origin.asked.load(Ordering::SeqCst) as u64, outcome.answered);
    assert!(outcome.latencies.max() >= Duration::from_millis(290));
}

#[test]
fn what_is_never_answered_counts_with_its_age() {
    let runtime = Runtime::new().unwrap();
    // Answers nothing.
    let service = runtime.block_on(LocalService::each(async |mut socket| {
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    }));
    let load = load(2, open(10), Duration::from_millis(500));
    let outcome = pingpong::run(service.addr(), 10, &load).unwrap();
    assert_eq!((outcome.answered, outcome.failed, outcome.unanswered), (0, 0, 10));
    // The first waited for the second and the patience; the last was due 100 ms before the end.
    assert_eq!(outcome.latencies.count(), 10);
    assert!(outcome.latencies.max() >= Duration::from_millis(1_490));
    assert!(outcome.latencies.at(0.01) >= Duration::from_millis(590));
}

#[test]
fn failures_are_counted_and_named() {
    let runtime = Runtime::new().unwrap();
    let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let service = runtime.block_on(LocalService::each(async move |mut socket| {
        while read_head(&mut socket).await.ends_with("\r\n\r\n") {
            let _ = socket.write_all(answer).await;
        }
    }));
    let settings = HttpLoad {
        host: "origin".to_owned(),
        path: "/".to_owned(),
        version: HttpVersion::One,
        load: load(2, open(20), Duration::from_secs(30)),
    };
    let outcome = http::run(service.addr(), &settings).unwrap();
    assert_eq!((outcome.answered, outcome.failed, outcome.latencies.count()), (0, 20, 0));
    assert_eq!(outcome.faults["status 404 Not Found"], 20);
}

#[test]
fn an_echo_that_differs_is_a_failure() {
    let runtime = Runtime::new().unwrap();
    let service = runtime.block_on(LocalService::each(async |mut socket| {
        let mut message = [0; 10];
        while socket.read_exact(&mut message).await.is_ok() {
            let _ = socket.write_all(b"yyyyyyyyyy").await;
        }
    }));
    let load = load(1, open(10), Duration::from_secs(30));
    let outcome = pingpong::run(service.addr(), 10, &load).unwrap();
    assert_eq!((outcome.answered, outcome.failed), (0, 10));
}

#[test]
fn where_nobody_listens_there_is_no_result() {
    let nobody: SocketAddr = Runtime::new().unwrap().block_on(LocalService::nobody());
    let load = load(3, open(10), Duration::from_secs(30));
    let failure = pingpong::run(nobody, 10, &load).unwrap_err();
    assert!(failure.to_string().contains("cannot connect"), "{failure}");
}
