//! Resets, and what was said before them.

use ferrotunnel_common::{StreamId, TunnelKind};

use super::pair::{Pair, Setup, data, request, zeros};
use crate::frame::{FrameType, GoAwayCode, ResetCode};
use crate::session::config::MIN_WINDOW;
use crate::session::{Config, Event, Read, Side, State, StreamError, WriteError};

/// Breaks off behind what is queued.
fn part(pair: &mut Pair, side: Side, id: StreamId) {
    pair.end(side).session.reset_after_data(id, ResetCode::LocalFailed, "broke off");
}

fn broke_off() -> StreamError {
    StreamError::Reset { code: ResetCode::LocalFailed, reason: "broke off".into() }
}

/// What comes before the error, and the error.
fn read_to_error(pair: &mut Pair, side: Side, id: StreamId) -> (Vec<u8>, StreamError) {
    let mut chunks = Vec::new();
    let end = pair.end(side);
    loop {
        match end.session.read(id, &mut chunks, 1) {
            Ok(Read::Chunks) => {}
            Ok(end) => panic!("{end:?} after {} chunks", chunks.len()),
            Err(error) => return (chunks.concat(), error),
        }
    }
}

/// A stream whose opener, the client, has a whole window queued and breaks off behind it.
fn parting() -> (Pair, StreamId) {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.link.stalled = true;
    pair.client.write_most(id, MIN_WINDOW as usize);
    part(&mut pair, Side::Client, id);
    pair.check();
    (pair, id)
}

#[test]
fn what_is_queued_arrives_before_a_reset_behind_it() {
    let (mut pair, id) = parting();
    pair.client.transmit_budget = 1_000;
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.server.session.write(id, zeros(1)), Err(broke_off().into()), "at once");
    let (bytes, error) = read_to_error(&mut pair, Side::Server, id);
    assert_eq!((bytes.len(), error), (MIN_WINDOW as usize, broke_off()));
    assert_eq!(pair.client.sent(FrameType::Reset), 1);
    pair.client.session.forget(id);
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn without_anything_queued_it_is_a_reset() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    part(&mut pair, Side::Client, id);
    let now = pair.now;
    let sent: Vec<FrameType> =
        pair.client.take_headers(now).iter().map(|header| header.kind).collect();
    assert_eq!(sent, [FrameType::Reset]);
    assert_eq!(pair.client.read_all(id), Err(StreamError::Closed));
}

#[test]
fn for_who_breaks_off_the_stream_is_over_at_once() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.write(id, b"unread");
    pair.exchange();
    pair.client.link.stalled = true;
    pair.client.write_most(id, MIN_WINDOW as usize);
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    part(&mut pair, Side::Client, id);
    part(&mut pair, Side::Client, id);
    pair.client.session.finish(id);
    assert_eq!(pair.client.read_all(id), Err(StreamError::Closed));
    assert_eq!(pair.client.session.capacity(id), Err(WriteError::Stream(StreamError::Closed)));
    let now = pair.now;
    pair.client.collect(now);
    let woken = pair.client.take_events(|event| matches!(event, Event::Writable(it) if *it == id));
    assert_eq!(woken, 1, "who waits is told");
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.sent(FrameType::Reset), 1);
    assert_eq!(read_to_error(&mut pair, Side::Server, id).0.len(), MIN_WINDOW as usize);
}

#[test]
fn a_reset_behind_data_does_not_wait_for_the_reader() {
    let (mut pair, id) = parting();
    pair.client.session.forget(id);
    pair.client.link.stalled = false;
    // The server's application reads nothing at all.
    pair.exchange();
    assert!(pair.client.session.is_empty());
    assert_eq!(pair.client.budget.used_bytes(), 0);
}

#[test]
fn a_reset_behind_data_leaves_the_others_their_turn() {
    let (mut pair, id) = parting();
    let other = pair.client.session.open(request(TunnelKind::Tcp)).unwrap();
    pair.client.write_most(other, MIN_WINDOW as usize);
    let now = pair.now;
    let mut order = Vec::new();
    for header in (0..20).flat_map(|_| pair.client.take_headers(now)) {
        if matches!(header.kind, FrameType::Data | FrameType::Reset) {
            order.push((header.kind, header.stream));
        }
    }
    let data = |id: StreamId| (FrameType::Data, id.0);
    let reset = (FrameType::Reset, id.0);
    // A whole window is one byte more than a frame holds.
    assert_eq!(order.iter().filter(|item| **item == data(id)).count(), 2);
    assert_eq!(order.iter().filter(|item| **item == data(other)).count(), 2);
    let place = |wanted| order.iter().rposition(|item| *item == wanted).unwrap();
    assert!(place(reset) > place(data(id)), "{order:?}");
    let first_of_other = order.iter().position(|item| *item == data(other)).unwrap();
    assert!(first_of_other < place(data(id)), "{order:?}");
}

#[test]
fn what_comes_for_a_parting_stream_is_bounded_and_dropped() {
    let (mut pair, id) = parting();
    assert_eq!(pair.server.write_most(id, 1 << 20), MIN_WINDOW as usize);
    pair.exchange();
    assert_eq!(pair.server.session.capacity(id), Ok(0), "no credit comes back");
    assert!(pair.client.session.streams[&id].recv.queue.is_empty());
    assert_eq!(pair.client.sent(FrameType::WindowUpdate), 0);
    // The laws still hold for the peer.
    let now = pair.now;
    pair.client.feed(&data(id, 0, b"x"), now);
    assert_eq!(pair.client.violation, Some(crate::Violation::FlowControl));
}

#[test]
fn a_window_released_late_becomes_no_credit() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.write_most(id, MIN_WINDOW as usize);
    pair.exchange();
    let mut chunks = Vec::new();
    pair.client.session.read(id, &mut chunks, usize::MAX).unwrap();
    pair.client.session.release(id, MIN_WINDOW as usize / 2);
    pair.client.link.stalled = true;
    pair.client.write(id, b"last words");
    part(&mut pair, Side::Client, id);
    pair.client.session.release(id, MIN_WINDOW as usize / 2);
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.sent(FrameType::WindowUpdate), 0);
}

#[test]
fn an_end_before_the_reset_is_an_end() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.link.stalled = true;
    pair.client.write(id, b"an early answer");
    pair.client.session.finish(id);
    part(&mut pair, Side::Client, id);
    pair.client.session.forget(id);
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.server.session.write(id, zeros(1)), Err(broke_off().into()));
    let whole = (b"an early answer".to_vec(), Read::Finished);
    assert_eq!(pair.server.read_all(id), Ok(whole));
    assert_eq!(pair.server.read_all(id), Ok((Vec::new(), Read::Finished)));
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn a_stream_that_ends_well_meanwhile_needs_no_reset() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.link.stalled = true;
    pair.client.write(id, b"all");
    pair.client.session.finish(id);
    part(&mut pair, Side::Client, id);
    pair.server.session.finish(id);
    pair.exchange();
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.sent(FrameType::Reset), 0);
    assert_eq!(pair.client.read_all(id), Err(StreamError::Closed), "it was broken off here");
    assert_eq!(pair.server.read_all(id), Ok((b"all".to_vec(), Read::Finished)));
    pair.client.session.forget(id);
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn what_arrived_before_a_reset_can_be_read() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.client.write(id, b"sent before");
    pair.exchange();
    pair.client.session.reset(id, ResetCode::LocalFailed, "broke off");
    pair.exchange();
    assert_eq!(pair.server.session.write(id, zeros(1)), Err(broke_off().into()));
    assert_eq!(read_to_error(&mut pair, Side::Server, id), (b"sent before".to_vec(), broke_off()));
    assert_eq!(pair.server.session.read(id, &mut Vec::new(), 1), Err(broke_off()), "ever after");
}

#[test]
fn an_application_that_lets_go_instead_of_reading_leaves_nothing() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.client.write(id, b"never read");
    pair.exchange();
    pair.client.session.forget(id);
    pair.exchange();
    assert_eq!(pair.server.session.streams[&id].recv.queue.len(), 1);
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn the_peers_reset_cleans_up_a_parting_stream() {
    let (mut pair, id) = parting();
    pair.client.session.forget(id);
    assert_eq!(pair.client.session.stats().streams, 1);
    pair.server.session.reset(id, ResetCode::Cancelled, "");
    pair.exchange();
    assert_eq!(pair.client.session.stats().streams, 0);
    assert_eq!(pair.client.session.stats().queued_bytes, 0);
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.sent(FrameType::Reset), 0, "a Reset is not answered");
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn a_reset_at_once_overtakes_one_behind_data() {
    let (mut pair, id) = parting();
    pair.client.session.reset(id, ResetCode::Timeout, "");
    assert_eq!(pair.client.session.stats().queued_bytes, 0);
    pair.client.link.stalled = false;
    pair.exchange();
    let error = StreamError::Reset { code: ResetCode::Timeout, reason: String::new() };
    assert_eq!(pair.server.read_all(id), Err(error));
    assert_eq!(pair.client.sent(FrameType::Reset), 1);
}

#[test]
fn a_parting_stream_ends_with_its_session() {
    let (mut pair, id) = parting();
    pair.client.session.forget(id);
    pair.client.session.handle_eof();
    assert!(pair.client.session.is_empty());
    assert_eq!(pair.client.budget.used_bytes(), 0);
}

#[test]
fn a_draining_session_waits_for_a_parting_stream() {
    let (mut pair, id) = parting();
    pair.client.session.forget(id);
    pair.client.session.drain(GoAwayCode::Drain, "");
    assert_eq!(pair.client.session.state(), State::Draining);
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.session.state(), State::Closed);
    assert_eq!(read_to_error(&mut pair, Side::Server, id), (vec![0; 65_536], broke_off()));
}

#[test]
fn a_parting_stream_counts_as_open_until_its_reset_has_left() {
    let server = Config { max_streams: 1, ..Config::default() };
    let mut pair = Pair::with(Setup { server, chop: true, ..Setup::default() });
    for _ in 0..300 {
        let id = pair.open(Side::Client);
        pair.client.link.stalled = true;
        pair.client.write_most(id, MIN_WINDOW as usize);
        part(&mut pair, Side::Client, id);
        pair.client.session.forget(id);
        assert!(pair.client.session.open(request(TunnelKind::Tcp)).is_err());
        pair.client.link.stalled = false;
        pair.exchange();
        pair.server.session.forget(id);
    }
    assert_eq!(pair.client.violation.or(pair.server.violation), None);
    pair.assert_empty();
}
