//! Windows that follow bandwidth x delay, and the limits of that.

use std::time::Duration;

use ferrotunnel_common::StreamId;

use super::pair::{Pair, Setup};
use super::windows::window;
use crate::budget::ReceiveBudget;
use crate::session::config::MIN_WINDOW;
use crate::session::{Config, Read, Side};

/// 200 Mbit/s with a round trip of 100 ms: 2.5 MB are under way when the link is full.
fn long_link(client: Config) -> Pair {
    Pair::with(Setup {
        client,
        one_way: Duration::from_millis(50),
        bytes_per_second: Some(LINK),
        watched: false,
        ..Setup::default()
    })
}

const LINK: u64 = 25_000_000;

/// The server sends all it can on each stream for that long; the client reads all. Returns the
/// bytes that came.
fn bulk(pair: &mut Pair, ids: &[StreamId], span: Duration) -> usize {
    let mut received = 0;
    pair.run(span, |pair| {
        for id in ids {
            pair.server.write_most(*id, 1 << 20);
            received += pair.client.read_all(*id).unwrap().0.len();
        }
    });
    received
}

#[test]
fn one_stream_fills_a_long_link() {
    let mut pair = long_link(Config::default());
    let id = pair.open(Side::Server);
    bulk(&mut pair, &[id], Duration::from_secs(3));
    assert!(window(&pair.client, id) >= 4 << 20, "{}", window(&pair.client, id));
    let received = bulk(&mut pair, &[id], Duration::from_secs(4));
    let share = received as f64 / (4 * LINK) as f64;
    assert!(share >= 0.95, "{share:.3} of the link");
}

#[test]
fn a_window_grows_to_what_the_link_holds_and_no_further() {
    let mut pair = long_link(Config::default());
    pair.server.link.bytes_per_second = Some(LINK / 20);
    let id = pair.open(Side::Server);
    bulk(&mut pair, &[id], Duration::from_secs(20));
    // Under way: 125 kB. A window within two round trips means two to four times as much.
    let window = window(&pair.client, id);
    assert!((256 << 10..=1 << 20).contains(&window), "{window}");
}

#[test]
fn on_a_short_link_a_window_covers_what_the_tasks_take() {
    let mut pair = Pair::with(Setup {
        one_way: Duration::from_micros(30),
        watched: false,
        ..Setup::default()
    });
    let id = pair.open(Side::Server);
    let mut received = 0;
    for _ in 0..1_000 {
        // Each end acts five times in a millisecond, though a Ping takes 60 microseconds.
        pair.server.write_most(id, 1 << 20);
        pair.pass(Duration::from_micros(200));
        received += pair.client.read_all(id).unwrap().0.len();
    }
    assert!(received > 200_000_000, "{received} bytes in 0.2 s");
}

/// What lies in a window is what everybody else on the carrier waits behind.
#[test]
fn on_a_short_link_a_window_that_is_wide_grows_only_for_who_is_faster_still() {
    let grown_at = |micros| {
        let one_way = Duration::from_micros(30);
        let mut pair = Pair::with(Setup { one_way, watched: false, ..Setup::default() });
        let id = pair.open(Side::Server);
        for _ in 0..200 {
            pair.server.write_most(id, 1 << 20);
            pair.pass(Duration::from_micros(micros));
            pair.client.read_all(id).unwrap();
        }
        window(&pair.client, id)
    };
    assert_eq!(grown_at(60), 1 << 20);
    assert_eq!(grown_at(30), 2 << 20);
}

#[test]
fn on_a_short_link_a_slow_reader_does_not_grow_its_window() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Server);
    for _ in 0..1_000 {
        pair.server.write_most(id, 1 << 20);
        pair.pass(Duration::from_millis(10));
        let mut chunks = Vec::new();
        pair.client.session.read(id, &mut chunks, 1).unwrap();
        pair.client.session.release(id, chunks.concat().len());
    }
    assert_eq!(window(&pair.client, id), MIN_WINDOW);
}

/// What is behind a stream takes something before anybody reads it.
#[test]
fn on_a_short_link_buffers_that_fill_up_do_not_grow_a_window() {
    let one_way = Duration::from_micros(30);
    let mut pair = Pair::with(Setup { one_way, watched: false, ..Setup::default() });
    let id = pair.open(Side::Server);
    let read = |pair: &mut Pair, most: usize| {
        let mut received = 0;
        while received < most {
            pair.server.write_most(id, 1 << 20);
            pair.pass(Duration::from_micros(200));
            received += pair.client.read_all(id).unwrap().0.len();
        }
    };
    read(&mut pair, 300 << 10);
    assert_eq!(window(&pair.client, id), MIN_WINDOW);
    read(&mut pair, 1 << 20);
    assert!(window(&pair.client, id) > MIN_WINDOW, "somebody reads");
}

#[test]
fn a_slow_reader_does_not_grow_its_window() {
    let mut pair = long_link(Config::default());
    let id = pair.open(Side::Server);
    let (mut received, mut chunks) = (0, Vec::new());
    for tick in 1..=2_000 {
        pair.pass(Duration::from_millis(10));
        pair.server.write_most(id, 1 << 20);
        // 100 kB a second.
        while received < tick * 1_000
            && pair.client.session.read(id, &mut chunks, 1) == Ok(Read::Chunks)
        {
            let bytes = chunks.pop().unwrap().len();
            pair.client.session.release(id, bytes);
            received += bytes;
        }
    }
    assert!(received > 1_000_000, "{received} bytes");
    assert_eq!(window(&pair.client, id), MIN_WINDOW);
}

#[test]
fn a_window_that_nobody_reads_does_not_grow() {
    let mut pair = long_link(Config::default());
    let id = pair.open(Side::Server);
    pair.run(Duration::from_secs(5), |pair| {
        pair.server.write_most(id, 1 << 20);
    });
    assert_eq!(window(&pair.client, id), MIN_WINDOW);
    assert_eq!(pair.client.session.stats().grown_bytes, 0);
}

#[test]
fn growth_stays_within_the_memory_of_the_session() {
    let client = Config { growth_memory_bytes: 1 << 20, ..Config::default() };
    let mut pair = long_link(client);
    let ids: Vec<StreamId> = (0..4).map(|_| pair.open(Side::Server)).collect();
    bulk(&mut pair, &ids, Duration::from_secs(3));
    let grown = pair.client.session.stats().grown_bytes;
    assert!((512 << 10..=1 << 20).contains(&grown), "{grown}");
    for id in &ids {
        assert!(window(&pair.client, *id) >= MIN_WINDOW);
    }
    for id in ids {
        pair.client.session.forget(id);
        pair.server.session.forget(id);
    }
    pair.exchange();
    pair.assert_empty();
}

#[test]
fn growth_leaves_a_quarter_of_the_process_budget_free() {
    let client = Config { budget: ReceiveBudget::new(2 << 20), ..Config::default() };
    let mut pair = long_link(client);
    let ids: Vec<StreamId> = (0..4).map(|_| pair.open(Side::Server)).collect();
    bulk(&mut pair, &ids, Duration::from_secs(3));
    let used = pair.client.budget.used_bytes();
    assert!((1 << 20..=3 << 19).contains(&used), "{used}");
    assert!(pair.client.session.stats().grown_bytes > 0);
}

#[test]
fn memory_of_a_session_that_is_dropped_goes_back() {
    let mut pair = long_link(Config::default());
    let id = pair.open(Side::Server);
    bulk(&mut pair, &[id], Duration::from_secs(1));
    let budget = pair.client.budget.clone();
    assert!(budget.used_bytes() > u64::from(MIN_WINDOW));
    drop(pair);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn contention_tells_who_competes_for_the_carrier() {
    let mut pair = long_link(Config::default());
    let span = Duration::from_secs(1);
    let ids = [pair.open(Side::Server), pair.open(Side::Server)];
    bulk(&mut pair, &ids, Duration::from_secs(4));
    let now = pair.now;
    let sender = pair.server.session.contention(now, span);
    assert_eq!((sender.sending, sender.receiving), (2, 0), "{sender:?}");
    let receiver = pair.client.session.contention(now, span);
    assert_eq!((receiver.queued, receiver.sending, receiver.receiving), (0, 0, 2), "{receiver:?}");
    // The sender grants nothing, so nothing but the look made it measure the way under load.
    bulk(&mut pair, &ids, span);
    let (now, before) = (pair.now, sender.round_trip);
    assert_ne!(pair.server.session.contention(now, span).round_trip, before);
    // Half a minute later nothing competes any more.
    pair.run(Duration::from_secs(30), |pair| {
        for id in ids {
            let _ = pair.client.read_all(id);
        }
    });
    let now = pair.now;
    assert_eq!(pair.client.session.contention(now, span).receiving, 0);
    assert_eq!(pair.server.session.contention(now, span).queued, 0);
}

/// Where a carrier is full, a stream gets what its window is of all windows.
#[test]
fn busy_streams_that_come_later_get_windows_as_wide_as_the_first() {
    for (one_way, speed) in [(50, 1_500_000_000), (500, 200_000_000), (5_000, 100_000_000)] {
        let mut pair = Pair::with(Setup {
            one_way: Duration::from_micros(one_way),
            bytes_per_second: Some(speed),
            watched: false,
            ..Setup::default()
        });
        let mut ids = vec![pair.open(Side::Server)];
        let round_trip = Duration::from_micros(2 * one_way).max(Duration::from_millis(1));
        // The first has the link to itself, and a window for that.
        bulk(&mut pair, &ids, round_trip * 50);
        let first = window(&pair.client, ids[0]);
        assert!(first >= 4 * MIN_WINDOW, "{first}");
        ids.extend((1..8).map(|_| pair.open(Side::Server)));
        bulk(&mut pair, &ids, round_trip * 100);
        let windows: Vec<u32> = ids.iter().map(|id| window(&pair.client, *id)).collect();
        assert!(windows.iter().all(|one| *one == windows[0]), "{windows:?}");
    }
}

#[test]
fn a_slow_reader_beside_a_busy_stream_keeps_its_window() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let (busy, slow) = (pair.open(Side::Server), pair.open(Side::Server));
    let mut taken = 0;
    for _ in 0..2_000 {
        pair.server.write_most(busy, 1 << 20);
        pair.server.write_most(slow, 1 << 20);
        pair.pass(Duration::from_micros(100));
        pair.client.read_all(busy).unwrap();
        // A socket that takes a little at a time, though often: 10 MB a second.
        let mut chunks = Vec::new();
        while taken < 1_000 && pair.client.session.read(slow, &mut chunks, 1) == Ok(Read::Chunks) {
            taken += std::mem::take(&mut chunks).concat().len();
        }
        let released = taken.min(1_000);
        pair.client.session.release(slow, released);
        taken -= released;
    }
    assert!(window(&pair.client, busy) > MIN_WINDOW);
    assert_eq!(window(&pair.client, slow), MIN_WINDOW);
}
