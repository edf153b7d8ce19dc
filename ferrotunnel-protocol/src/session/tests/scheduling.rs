//! Who sends first.

use std::collections::HashMap;

use ferrotunnel_common::StreamId;

use super::pair::{Pair, Setup, zeros};
use super::windows::give_credit;
use crate::frame::{FIN, FrameType, HEADER_LEN, Header, MAX_PAYLOAD, ResetCode};
use crate::session::Side;

/// Streams of the server with as much credit as they want.
fn bulk_pair(streams: usize) -> (Pair, Vec<StreamId>) {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let ids: Vec<StreamId> = (0..streams).map(|_| pair.open(Side::Server)).collect();
    pair.server.link.stalled = true;
    for id in &ids {
        give_credit(&mut pair.server, *id, 15 << 20);
    }
    (pair, ids)
}

fn data_order(headers: &[Header]) -> Vec<u32> {
    headers.iter().filter(|it| it.kind == FrameType::Data).map(|it| it.stream).collect()
}

#[test]
fn two_bulk_writers_get_equal_bytes_within_a_frame() {
    let (mut pair, ids) = bulk_pair(2);
    let now = pair.now;
    pair.server.transmit_budget = 1;
    let mut sent: HashMap<u32, i64> = HashMap::new();
    let mut most = 0;
    while sent.values().sum::<i64>() < 10 << 20 {
        // One writes large chunks, the other small ones.
        for (id, size) in ids.iter().zip([1 << 20, 1_000]) {
            while pair.server.session.capacity(*id).unwrap() > size.min(1 << 17) {
                pair.server.session.write(*id, zeros(size)).unwrap();
            }
        }
        for header in pair.server.take_headers(now) {
            *sent.entry(header.stream).or_default() += i64::from(header.length);
        }
        let of = |id: StreamId| sent.get(&id.0).copied().unwrap_or_default();
        most = most.max((of(ids[0]) - of(ids[1])).abs());
        pair.check();
    }
    assert!(most <= MAX_PAYLOAD as i64 + 1_000, "apart by {most} bytes");
}

#[test]
fn a_sparse_stream_overtakes_bulk() {
    let (mut pair, ids) = bulk_pair(3);
    let now = pair.now;
    for id in &ids[..2] {
        pair.server.write_most(*id, 1 << 20);
    }
    // Each has had its first turn.
    pair.server.transmit_budget = 2 * MAX_PAYLOAD;
    assert_eq!(data_order(&pair.server.take_headers(now)), [ids[0].0, ids[1].0]);
    pair.server.write(ids[2], b"ping");
    assert_eq!(data_order(&pair.server.take_headers(now))[0], ids[2].0);
}

#[test]
fn a_stream_that_pings_again_goes_first_again() {
    let (mut pair, ids) = bulk_pair(5);
    let now = pair.now;
    pair.server.transmit_budget = 16 << 10;
    for round in 0..1_000 {
        for id in &ids[..4] {
            if pair.server.session.capacity(*id).unwrap() > 0 {
                pair.server.session.write(*id, zeros(16 << 10)).unwrap();
            }
        }
        // In all more than a quantum.
        pair.server.write(ids[4], &[7; 500]);
        let order = data_order(&pair.server.take_headers(now));
        // In the beginning all are new, and each has a quantum to go first with.
        assert!(order[0] == ids[4].0 || round < 20, "ping {round} waits for {order:?}");
        give_more(&mut pair, &ids);
    }
}

#[test]
fn a_stream_that_empties_its_queue_gets_no_more_than_one_that_does_not() {
    // Found empty within the batch, or only with the next one.
    let budgets = |size| [1, size + HEADER_LEN + 1].map(|budget| (size, budget));
    for (size, budget) in [100, 10_000, 40_000, 60_000, MAX_PAYLOAD].into_iter().flat_map(budgets) {
        let (mut pair, ids) = bulk_pair(3);
        let now = pair.now;
        pair.server.transmit_budget = budget;
        let mut sent: HashMap<u32, usize> = HashMap::new();
        while sent.values().sum::<usize>() < 20 << 20 {
            for id in &ids[..2] {
                if pair.server.session.capacity(*id).unwrap() > 0 {
                    pair.server.write_most(*id, 1 << 17);
                }
            }
            // Never more than one frame at a time.
            if pair.server.session.streams[&ids[2]].send.queued == 0 {
                pair.server.session.write(ids[2], zeros(size)).unwrap();
            }
            for header in pair.server.take_headers(now) {
                *sent.entry(header.stream).or_default() += usize::from(header.length);
            }
            give_more(&mut pair, &ids);
        }
        let share = sent[&ids[2].0] as f64 / sent.values().sum::<usize>() as f64;
        assert!(share < 0.36, "{share} with chunks of {size}, budget {budget}");
    }
}

/// Credit for whoever runs short.
fn give_more(pair: &mut Pair, ids: &[StreamId]) {
    for id in ids {
        if pair.server.session.streams[id].send.credit.bytes() < 1 << 20 {
            give_credit(&mut pair.server, *id, 8 << 20);
        }
    }
}

#[test]
fn streams_cannot_jump_the_line_for_ever_by_emptying_their_queues() {
    let (mut pair, ids) = bulk_pair(3);
    let now = pair.now;
    // Two take turns: whenever the one is found empty, the other has become active again.
    pair.server.transmit_budget = 10_000 + HEADER_LEN + 1;
    let mut sent: HashMap<u32, usize> = HashMap::new();
    for _ in 0..500 {
        if pair.server.session.capacity(ids[0]).unwrap() > 0 {
            pair.server.write_most(ids[0], 1 << 17);
        }
        for id in &ids[1..] {
            if pair.server.session.streams[id].send.queued == 0 {
                pair.server.session.write(*id, zeros(10_000)).unwrap();
            }
        }
        for header in pair.server.take_headers(now) {
            *sent.entry(header.stream).or_default() += usize::from(header.length);
        }
    }
    let share = sent[&ids[0].0] as f64 / sent.values().sum::<usize>() as f64;
    assert!(share > 0.3, "{share}");
}

#[test]
fn control_frames_never_wait_behind_data() {
    let (mut pair, ids) = bulk_pair(2);
    let now = pair.now;
    for id in &ids {
        pair.server.write_most(*id, 1 << 20);
    }
    pair.server.transmit_budget = MAX_PAYLOAD;
    pair.server.take_output(now);
    pair.server.session.reset(ids[0], ResetCode::Timeout, "");
    let headers = pair.server.take_headers(now);
    assert_eq!((headers[0].kind, headers[0].stream), (FrameType::Reset, ids[0].0));
    assert!(data_order(&headers).iter().all(|id| *id == ids[1].0), "nothing after the Reset");
}

#[test]
fn control_frames_leave_even_without_budget_for_data() {
    let (mut pair, ids) = bulk_pair(1);
    let now = pair.now;
    pair.server.write(ids[0], b"later");
    pair.server.session.registered(1, crate::frame::Registered::Ok { address: String::new() });
    pair.server.transmit_budget = 0;
    let headers = pair.server.take_headers(now);
    assert_eq!(headers.len(), 1);
    assert_eq!(headers[0].kind, FrameType::Registered);
    assert!(pair.server.session.has_output());
}

#[test]
fn a_large_chunk_leaves_in_whole_frames() {
    let (mut pair, ids) = bulk_pair(1);
    let now = pair.now;
    assert_eq!(pair.server.write_most(ids[0], 200_000), 200_000);
    pair.server.session.finish(ids[0]);
    pair.server.transmit_budget = 1 << 20;
    let headers = pair.server.take_headers(now);
    let lengths: Vec<usize> = headers.iter().map(|it| it.length.into()).collect();
    assert_eq!(lengths, [MAX_PAYLOAD, MAX_PAYLOAD, MAX_PAYLOAD, 200_000 - 3 * MAX_PAYLOAD]);
    let fins: Vec<bool> = headers.iter().map(|it| it.flags & FIN != 0).collect();
    assert_eq!(fins, [false, false, false, true]);
}

#[test]
fn a_budget_is_overrun_by_one_frame_at_most() {
    let (mut pair, ids) = bulk_pair(3);
    let now = pair.now;
    for id in &ids {
        pair.server.write_most(*id, 1 << 20);
    }
    for budget in [1, 1_000, MAX_PAYLOAD, 100_000] {
        pair.server.transmit_budget = budget;
        let bytes: usize = pair.server.take_output(now).iter().map(bytes::Bytes::len).sum();
        assert!(bytes >= budget && bytes < budget + MAX_PAYLOAD + HEADER_LEN, "{bytes}");
    }
}

#[test]
fn the_line_forgets_streams_that_are_gone() {
    let (mut pair, ids) = bulk_pair(50);
    let now = pair.now;
    for id in &ids {
        pair.server.write(*id, b"never sent");
        pair.server.session.forget(*id);
        pair.check();
    }
    assert_eq!(pair.server.session.stats().queued_bytes, 0);
    let headers = pair.server.take_headers(now);
    assert!(headers.iter().all(|it| it.kind == FrameType::Reset));
    assert_eq!(headers.len(), 50);
    assert!(pair.server.session.is_empty());
    assert!(!pair.server.session.has_output());
}
