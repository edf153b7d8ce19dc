//! What the tool reports is what the origin saw: through tunnels, over every version of HTTP.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::num::NonZeroU32;
use std::time::Duration;

use ferrotunnel::{Streams, TunnelKind};
use ferrotunnel_loadgen::bulk::{self, BulkLoad, Direction};
use ferrotunnel_loadgen::connect::{self, Farewell};
use ferrotunnel_loadgen::http::{self, HttpLoad, HttpVersion};
use ferrotunnel_loadgen::{
    Carrier, Load, Outcome, Place, Rhythm, Service, Stage, Tunnelled, idle, pingpong,
};

const HTTP: Service = Service::Http { size: 128, delay: Duration::ZERO };

fn load(connections: usize, rhythm: Rhythm) -> Load {
    Load {
        threads: 2,
        connections,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(300),
        rhythm,
        patience: Duration::from_secs(30),
    }
}

fn open(per_second: u32) -> Rhythm {
    Rhythm::Open { per_second: NonZeroU32::new(per_second).unwrap() }
}

fn tunnel(carrier: Carrier, kind: TunnelKind) -> Tunnelled {
    Tunnelled {
        carrier,
        kind,
        visitors: Streams::Auto,
        origin_http2: false,
        server_threads: 0,
        binary: None,
    }
}

fn tcp() -> Place {
    Place::Tunnel(tunnel(Carrier::Plaintext, TunnelKind::Tcp))
}

#[track_caller]
fn all_good(outcome: &Outcome) {
    assert_eq!((outcome.failed, outcome.unanswered), (0, 0), "{:?}", outcome.faults);
    assert!(outcome.answered > 0);
    // There was no warm-up.
    assert_eq!(outcome.latencies.count(), outcome.answered);
    assert!(outcome.per_second > 0.0);
}

#[test]
fn the_origin_sees_as_many_requests_as_are_reported() {
    let http = |carrier| Place::Tunnel(tunnel(carrier, TunnelKind::Http));
    let h2c = Tunnelled { origin_http2: true, ..tunnel(Carrier::Tls, TunnelKind::Http) };
    let places =
        [Place::Direct, http(Carrier::Tls), http(Carrier::Plaintext), tcp(), Place::Tunnel(h2c)];
    for place in places {
        for version in [HttpVersion::One, HttpVersion::Two { streams: 4 }] {
            for rhythm in [Rhythm::Closed, open(500)] {
                let stage = Stage::set(&place, HTTP).unwrap();
                let settings = HttpLoad {
                    host: stage.host().to_owned(),
                    path: "/".to_owned(),
                    version,
                    load: load(3, rhythm),
                };
                let outcome = http::run(stage.addr(), &settings).unwrap();
                println!("{place:?} {version:?} {rhythm:?}: {}", outcome.answered);
                all_good(&outcome);
                assert_eq!(stage.counters().unwrap().requests(), outcome.answered);
                if rhythm != Rhythm::Closed {
                    assert_eq!(outcome.answered, 150, "500 a second for 300 ms");
                }
            }
        }
    }
}

#[test]
fn the_origin_sees_as_many_messages_as_are_reported() {
    for rhythm in [Rhythm::Closed, open(500)] {
        let stage = Stage::set(&tcp(), Service::Echo).unwrap();
        let outcome = pingpong::run(stage.addr(), 100, &load(3, rhythm)).unwrap();
        all_good(&outcome);
        let counters = stage.counters().unwrap();
        assert_eq!(counters.connections(), 3);
        assert_eq!(counters.received(), 100 * outcome.answered);
    }
}

#[test]
fn the_origin_sees_as_many_connections_as_are_reported() {
    for farewell in [Farewell::Orderly, Farewell::Reset] {
        for rhythm in [Rhythm::Closed, open(200)] {
            let stage = Stage::set(&tcp(), Service::Echo).unwrap();
            let outcome = connect::run(stage.addr(), farewell, &load(3, rhythm)).unwrap();
            all_good(&outcome);
            assert_eq!(stage.counters().unwrap().connections(), outcome.answered);
        }
    }
}

#[test]
fn the_warm_up_is_in_no_latency() {
    let stage = Stage::set(&Place::Direct, Service::Echo).unwrap();
    let load = Load { warmup: Duration::from_millis(200), ..load(2, open(1_000)) };
    let outcome = pingpong::run(stage.addr(), 64, &load).unwrap();
    assert_eq!((outcome.answered, outcome.latencies.count()), (500, 300));
}

#[test]
fn the_bytes_of_a_bulk_transfer_are_those_that_arrived() {
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        for carrier in [Carrier::Tls, Carrier::Plaintext] {
            let place = Place::Tunnel(tunnel(carrier, TunnelKind::Tcp));
            let stage = Stage::set(&place, Service::Bulk(direction)).unwrap();
            let load = BulkLoad {
                direction,
                streams: 3,
                duration: Duration::from_millis(300),
                patience: Duration::from_secs(30),
                threads: 2,
            };
            let outcome = bulk::run(stage.addr(), &load).unwrap();
            assert_eq!((outcome.streams.len(), outcome.failed()), (3, 0), "{direction:?}");
            let origin = stage.counters().unwrap();
            assert_eq!((origin.received(), origin.sent()), (outcome.up(), outcome.down()));
            assert_eq!(outcome.up() > 0, direction != Direction::Down);
            assert_eq!(outcome.down() > 0, direction != Direction::Up);
        }
    }
}

#[test]
fn idle_streams_are_open_and_stay_so() {
    let stage = Stage::set(&tcp(), Service::Echo).unwrap();
    let outcome = idle::run(stage.addr(), 50, 10, Duration::from_millis(100), None).unwrap();
    assert_eq!((outcome.opened, outcome.alive), (50, 50));
    assert_eq!(stage.counters().unwrap().connections(), 50);
    assert_eq!(stage.counters().unwrap().received(), 100);
}
