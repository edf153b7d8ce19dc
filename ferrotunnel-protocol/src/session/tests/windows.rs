//! Credit: who may send how much, and who is woken.

use bytes::Bytes;
use ferrotunnel_common::{StreamId, TunnelKind};

use super::pair::{End, Pair, Setup, data, open_frame, request, zeros};
use crate::budget::ReceiveBudget;
use crate::frame::{Frame, FrameType, MAX_PAYLOAD, Open, ResetCode};
use crate::session::config::{
    MIN_WINDOW, SEND_QUEUE_BYTES, SEND_QUEUE_FLOOR_BYTES, SESSION_QUEUE_BYTES, TIGHT_WINDOW,
};
use crate::session::{Config, Event, Read, Side};

#[test]
fn an_opener_sends_data_with_its_open() {
    let mut pair = Pair::new();
    let id = pair.server.session.open(request(TunnelKind::Tcp)).unwrap();
    pair.server.write(id, b"first byte, no round trip");
    let now = pair.now;
    let kinds: Vec<FrameType> = pair.server.take_headers(now).iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [FrameType::Open, FrameType::Data]);
}

#[test]
fn the_first_bytes_arrive_with_the_stream() {
    let mut pair = Pair::new();
    let id = pair.server.session.open(request(TunnelKind::Tcp)).unwrap();
    pair.server.write(id, b"hello");
    pair.exchange();
    assert!(matches!(pair.client.events.pop_front(), Some(Event::Opened(it, _)) if it == id));
    assert_eq!(pair.client.read_all(id), Ok((b"hello".to_vec(), Read::Pending)));
}

#[test]
fn a_stalled_reader_leaves_other_streams_alone() {
    let mut pair = Pair::new();
    let stalled: Vec<StreamId> = (0..50).map(|_| pair.open(Side::Server)).collect();
    let lively = pair.open(Side::Server);
    let mut moved = 0;
    for _ in 0..200 {
        for id in &stalled {
            pair.server.write_most(*id, MAX_PAYLOAD);
        }
        assert!(pair.server.session.capacity(lively).unwrap() > 0, "after {moved} bytes");
        pair.server.write_most(lively, MAX_PAYLOAD);
        pair.exchange();
        moved += pair.client.read_all(lively).unwrap().0.len();
        pair.exchange();
    }
    assert!(moved > 200 * 32_000, "{moved} bytes");
    for id in &stalled {
        assert_eq!(queued(&pair.client, *id), MIN_WINDOW, "each holds its own window, no more");
    }
}

#[test]
fn a_writer_that_has_to_wait_for_credit_is_a_stall_and_one_that_waits_for_the_carrier_is_none() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    let stalls = |pair: &Pair| pair.client.session.stats().window_stalls;
    while pair.client.session.capacity(id).unwrap() > 0 {
        pair.client.write_most(id, MAX_PAYLOAD);
        pair.exchange();
    }
    assert_eq!(stalls(&pair), 1);
    // To ask again is no other stall, and neither is what does not wait.
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    assert_eq!(stalls(&pair), 1);
    pair.server.read_all(id).unwrap();
    pair.exchange();
    assert!(pair.client.session.capacity(id).unwrap() > 0);
    assert_eq!(stalls(&pair), 1);
    while pair.client.session.capacity(id).unwrap() > 0 {
        pair.client.write_most(id, MAX_PAYLOAD);
        pair.exchange();
    }
    assert_eq!(stalls(&pair), 2);
    assert_eq!(pair.server.session.stats().window_stalls, 0);

    let wide = pair.open(Side::Client);
    give_credit(&mut pair.client, wide, 8 << 20);
    pair.client.link.stalled = true;
    while pair.client.session.capacity(wide).unwrap() > 0 {
        pair.client.write_most(wide, 1 << 20);
    }
    assert_eq!(stalls(&pair), 2);
}

#[test]
fn a_stalled_reader_holds_no_more_than_its_window() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    let mut sent = 0;
    for _ in 0..100 {
        sent += pair.client.write_most(id, MAX_PAYLOAD);
        pair.exchange();
    }
    assert_eq!(sent, MIN_WINDOW as usize);
    assert_eq!(queued(&pair.server, id), MIN_WINDOW);
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    // What was read but not passed on still counts.
    let mut chunks = Vec::new();
    pair.server.session.read(id, &mut chunks, usize::MAX).unwrap();
    pair.exchange();
    assert_eq!(pair.client.session.capacity(id), Ok(0));
}

#[test]
fn credit_comes_back_when_half_a_window_was_passed_on() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write_most(id, MIN_WINDOW as usize);
    pair.exchange();
    let half = MIN_WINDOW as usize / 2;
    let mut chunks = Vec::new();
    pair.server.session.read(id, &mut chunks, usize::MAX).unwrap();
    pair.server.session.release(id, half - 1);
    pair.exchange();
    assert_eq!(pair.server.sent(FrameType::WindowUpdate), 0);
    pair.server.session.release(id, 1);
    pair.exchange();
    assert_eq!(pair.server.sent(FrameType::WindowUpdate), 1);
    assert_eq!(pair.client.session.capacity(id), Ok(half));
}

#[test]
fn a_writer_without_credit_is_woken_when_there_is_some() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write_most(id, MIN_WINDOW as usize);
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    pair.exchange();
    assert_eq!(writable(&mut pair.client, id), 0, "sent, but the credit is gone");
    pair.server.read_all(id).unwrap();
    pair.exchange();
    assert_eq!(writable(&mut pair.client, id), 1);
    assert_eq!(pair.client.session.capacity(id), Ok(MIN_WINDOW as usize));
}

#[test]
fn a_writer_with_a_full_queue_is_woken_for_a_large_write() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    give_credit(&mut pair.client, id, 8 << 20);
    assert_eq!(pair.client.write_most(id, 1 << 20), SEND_QUEUE_BYTES);
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    pair.client.transmit_budget = 1;
    let now = pair.now;
    while queue(&pair.client, id) * 2 > SEND_QUEUE_BYTES {
        assert_eq!(writable(&mut pair.client, id), 0);
        assert_eq!(pair.client.session.capacity(id), Ok(0), "more than half full counts as full");
        pair.client.take_output(now);
    }
    assert_eq!(writable(&mut pair.client, id), 1);
    assert!(pair.client.session.capacity(id).unwrap() >= SEND_QUEUE_BYTES / 2);
}

#[test]
fn a_writer_that_did_not_wait_is_not_woken() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write(id, b"x");
    pair.exchange();
    pair.server.read_all(id).unwrap();
    pair.client.write(id, b"x");
    pair.exchange();
    assert!(pair.client.events.is_empty());
    assert!(readable(&mut pair.server, id) == 1 && pair.server.events.is_empty());
}

#[test]
fn in_a_crowded_session_every_writer_keeps_a_floor() {
    let mut pair = Pair::new();
    let bulk: Vec<StreamId> = (0..20).map(|_| pair.open(Side::Client)).collect();
    let late = pair.open(Side::Client);
    pair.client.link.stalled = true;
    for id in &bulk {
        give_credit(&mut pair.client, *id, 1 << 20);
        pair.client.write_most(*id, 1 << 20);
    }
    let queued = pair.client.session.stats().queued_bytes;
    assert!((SESSION_QUEUE_BYTES..SESSION_QUEUE_BYTES + SEND_QUEUE_BYTES * 2).contains(&queued));
    assert_eq!(pair.client.write_most(late, 1 << 20), SEND_QUEUE_FLOOR_BYTES);
}

#[test]
fn writers_of_a_crowded_session_are_all_woken() {
    let mut pair = Pair::new();
    let ids: Vec<StreamId> = (0..40).map(|_| pair.open(Side::Client)).collect();
    for id in &ids {
        give_credit(&mut pair.client, *id, 8 << 20);
    }
    pair.client.link.stalled = true;
    for _ in 0..3 {
        for id in &ids {
            while pair.client.session.capacity(*id).unwrap() > 0 {
                pair.client.write_most(*id, 1 << 20);
            }
        }
        let now = pair.now;
        let mut woken = 0;
        for _ in 0..10_000 {
            if pair.client.take_output(now).is_empty() {
                break;
            }
            woken += pair.client.take_events(|event| matches!(event, Event::Writable(_)));
        }
        assert_eq!(woken, ids.len(), "each once");
        pair.check();
    }
}

#[test]
fn a_reader_that_waits_is_woken_once_by_bytes_and_once_by_the_end() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    assert_eq!(pair.server.read_all(id).unwrap().1, Read::Pending);
    pair.client.write(id, b"a");
    pair.exchange();
    pair.client.write(id, b"b");
    pair.exchange();
    assert_eq!(readable(&mut pair.server, id), 1);
    assert_eq!(pair.server.read_all(id), Ok((b"ab".to_vec(), Read::Pending)));
    pair.client.session.finish(id);
    pair.exchange();
    assert_eq!(readable(&mut pair.server, id), 1);
    assert_eq!(pair.server.read_all(id), Ok((Vec::new(), Read::Finished)));
    assert_eq!(pair.server.read_all(id), Ok((Vec::new(), Read::Finished)));
}

#[test]
fn a_frame_without_bytes_wakes_nobody() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    assert_eq!(pair.server.read_all(id).unwrap().1, Read::Pending);
    let now = pair.now;
    pair.server.feed(&data(id, 0, b""), now);
    assert_eq!(readable(&mut pair.server, id), 0);
    assert_eq!(pair.server.read_all(id).unwrap().1, Read::Pending);
}

#[test]
fn those_who_wait_are_woken_by_a_reset() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write_most(id, MIN_WINDOW as usize);
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    pair.client.read_all(id).unwrap();
    pair.exchange();
    pair.server.session.reset(id, ResetCode::LocalUnreachable, "");
    pair.exchange();
    assert_eq!(writable(&mut pair.client, id), 1);
    assert_eq!(readable(&mut pair.client, id), 1);
}

#[test]
fn memory_that_is_short_makes_new_streams_start_small() {
    let budget = ReceiveBudget::new(1 << 20);
    let server = Config { budget: budget.clone(), ..Config::default() };
    let mut pair = Pair::with(Setup { server, ..Setup::default() });
    let early = pair.open(Side::Client);
    budget.reserve(950_000);
    pair.exchange();
    let (theirs, ours) = (pair.open(Side::Client), pair.open(Side::Server));
    assert_eq!(window(&pair.server, early), MIN_WINDOW, "open ones keep what they have");
    assert_eq!(window(&pair.server, theirs), TIGHT_WINDOW);
    assert_eq!(window(&pair.server, ours), TIGHT_WINDOW);
    assert_eq!(pair.client.session.capacity(theirs), Ok(TIGHT_WINDOW as usize));
    assert_eq!(window(&pair.client, ours), MIN_WINDOW, "the client has memory");

    budget.release(950_000);
    pair.exchange();
    let late = pair.open(Side::Client);
    assert_eq!(window(&pair.server, late), MIN_WINDOW);
    // A small one gets its due with its next grant.
    for id in [theirs, ours] {
        pair.client.write_most(id, TIGHT_WINDOW as usize);
        pair.exchange();
        pair.server.read_all(id).unwrap();
        pair.exchange();
        assert_eq!(window(&pair.server, id), MIN_WINDOW);
        assert_eq!(pair.client.session.capacity(id), Ok(MIN_WINDOW as usize));
    }
}

#[test]
fn a_small_window_returns_to_the_minimum_though_nothing_may_grow() {
    let budget = ReceiveBudget::new(1 << 20);
    let server = Config { budget: budget.clone(), growth_memory_bytes: 0, ..Config::default() };
    let mut pair = Pair::with(Setup { server, ..Setup::default() });
    budget.reserve(950_000);
    pair.exchange();
    let id = pair.open(Side::Client);
    budget.release(950_000);
    pair.client.write_most(id, TIGHT_WINDOW as usize);
    pair.exchange();
    pair.server.read_all(id).unwrap();
    pair.exchange();
    assert_eq!(window(&pair.server, id), MIN_WINDOW);
}

#[test]
fn short_memory_is_told_once_and_so_is_its_end() {
    let budget = ReceiveBudget::new(1 << 20);
    let server = Config { budget: budget.clone(), ..Config::default() };
    let mut pair = Pair::with(Setup { server, ..Setup::default() });
    for round in 1..=3 {
        budget.reserve(950_000);
        pair.exchange();
        pair.exchange();
        assert_eq!(pair.server.sent(FrameType::WindowUpdate), 2 * round - 1);
        budget.release(950_000);
        pair.exchange();
        pair.exchange();
        assert_eq!(pair.server.sent(FrameType::WindowUpdate), 2 * round);
    }
}

#[test]
fn streams_that_come_and_go_while_memory_is_short_are_not_told() {
    let budget = ReceiveBudget::new(1 << 20);
    let server = Config { budget: budget.clone(), ..Config::default() };
    let mut pair = Pair::with(Setup { server, ..Setup::default() });
    budget.reserve(850_000);
    for _ in 0..10 {
        budget.reserve(100_000);
        pair.exchange();
        budget.release(100_000);
        pair.exchange();
    }
    assert_eq!(pair.server.sent(FrameType::WindowUpdate), 1);
    budget.release(850_000);
    pair.exchange();
    assert_eq!(pair.server.sent(FrameType::WindowUpdate), 2);
}

#[test]
fn an_opener_that_assumes_no_credit_is_granted_some_at_once() {
    for send_window in [0, 1, 100] {
        let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
        let Frame::Open(id, open) = open_frame(1, TunnelKind::Tcp) else { unreachable!() };
        let now = pair.now;
        pair.server.feed(&Frame::Open(id, Open { send_window, ..open }).encode(), now);
        pair.check();
        assert_eq!(pair.server.budget.used_bytes(), TIGHT_WINDOW.into());
        let headers = pair.server.take_headers(now);
        assert_eq!(headers.len(), 1);
        assert_eq!((headers[0].kind, headers[0].stream), (FrameType::WindowUpdate, 1));
        // In fact all of the minimum, for memory is not short.
        for _ in 0..MIN_WINDOW / 1024 {
            pair.server.feed(&data(id, 0, &[0; 1024]), now);
        }
        assert_eq!(pair.server.violation, None);
        pair.server.session.forget(id);
        pair.exchange();
        assert_eq!(pair.server.budget.used_bytes(), 0);
    }
}

#[test]
fn small_pieces_are_joined_while_nobody_reads() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    let now = pair.now;
    for byte in 0..MIN_WINDOW {
        pair.server.feed(&data(id, 0, &[byte as u8]), now);
    }
    let chunks = pair.server.session.streams[&id].recv.queue.len();
    assert!(chunks <= MIN_WINDOW as usize / 1024, "{chunks} chunks");
    let (bytes, _) = pair.server.read_all(id).unwrap();
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    assert_eq!(bytes.len(), MIN_WINDOW as usize);
}

#[test]
fn what_does_not_fit_is_returned() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    let rest = pair.client.session.write(id, zeros(MIN_WINDOW as usize + 5)).unwrap();
    assert_eq!(rest.map(|rest| rest.len()), Some(5));
    let rest = pair.client.session.write(id, zeros(7)).unwrap();
    assert_eq!(rest.map(|rest| rest.len()), Some(7));
    assert_eq!(pair.client.session.write(id, Bytes::new()), Ok(None));
}

fn queued(end: &End, id: StreamId) -> u32 {
    end.session.streams[&id].recv.queued
}

fn queue(end: &End, id: StreamId) -> usize {
    end.session.streams[&id].send.queued
}

pub(super) fn window(end: &End, id: StreamId) -> u32 {
    end.session.streams[&id].recv.window.bytes()
}

/// Credit that a fast reader would have earned.
pub(super) fn give_credit(end: &mut End, id: StreamId, bytes: u32) {
    end.session.streams.get_mut(&id).unwrap().send.credit.add(bytes).unwrap();
    if let Some(ledger) = &mut end.ledger {
        ledger.give_credit(id, bytes);
    }
}

fn writable(end: &mut End, id: StreamId) -> usize {
    end.take_events(|event| matches!(event, Event::Writable(it) if *it == id))
}

fn readable(end: &mut End, id: StreamId) -> usize {
    end.take_events(|event| matches!(event, Event::Readable(it) if *it == id))
}

#[test]
fn a_piece_for_a_reader_that_is_behind_does_not_keep_the_read_buffer_alive() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.server.session.write(id, Bytes::from(vec![7; 3_000])).unwrap();
    pair.exchange();
    let mut chunks = Vec::new();
    pair.client.session.read(id, &mut chunks, 1).unwrap();
    let piece = chunks.pop().unwrap();
    assert_eq!(piece.len(), 3_000);
    assert!(piece.is_unique(), "a slice of something larger");
}
