//! How streams begin and end, and that nothing is left of them.

use ferrotunnel_common::{StreamId, TunnelKind};

use super::pair::{Pair, Setup, request, zeros};
use crate::frame::{FrameType, ResetCode};
use crate::session::config::MIN_WINDOW;
use crate::session::{Config, Event, OpenError, Read, Side, State, StreamError, WriteError};

fn cancelled() -> StreamError {
    StreamError::Reset { code: ResetCode::Cancelled, reason: String::new() }
}

#[test]
fn half_close_works_both_ways() {
    for (first, second) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
        let mut pair = Pair::new();
        let id = pair.open(Side::Server);
        pair.end(first).write(id, b"question");
        pair.end(first).session.finish(id);
        pair.exchange();
        assert_eq!(pair.end(second).read_all(id), Ok((b"question".to_vec(), Read::Finished)));
        // The other direction goes on for as long as it likes.
        for _ in 0..10 {
            pair.end(second).write(id, b"answer");
            pair.exchange();
            assert_eq!(pair.end(first).read_all(id), Ok((b"answer".to_vec(), Read::Pending)));
        }
        pair.end(second).session.finish(id);
        pair.exchange();
        assert_eq!(pair.end(first).read_all(id), Ok((Vec::new(), Read::Finished)));
        pair.client.session.forget(id);
        pair.server.session.forget(id);
        pair.exchange();
        pair.assert_empty();
        assert_eq!(pair.client.sent(FrameType::Reset) + pair.server.sent(FrameType::Reset), 0);
    }
}

#[test]
fn a_direction_that_goes_on_elsewhere_ends_behind_its_bytes() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    assert!(!pair.client.session.agree_to_move(id), "nobody there knows what to do then");
    pair.client.session.make_movable(id);
    assert!(pair.client.session.agree_to_move(id));
    pair.server.write(id, b"the beginning");
    pair.server.session.finish_moved(id);
    // The first end holds.
    pair.server.session.finish(id);
    assert_eq!(pair.server.session.write(id, zeros(1)), Err(WriteError::Finished));
    pair.exchange();
    assert!(!pair.client.session.agree_to_move(id), "it has begun to");
    assert_eq!(pair.client.read_all(id), Ok((b"the beginning".to_vec(), Read::Moved)));
    pair.client.session.finish_moved(id);
    pair.exchange();
    assert_eq!(pair.server.read_all(id), Ok((Vec::new(), Read::Moved)));
    pair.client.session.forget(id);
    pair.server.session.forget(id);
    pair.exchange();
    pair.assert_empty();
    assert_eq!(pair.client.sent(FrameType::Reset) + pair.server.sent(FrameType::Reset), 0);
}

#[test]
fn finish_takes_what_is_queued_along() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.link.stalled = true;
    pair.client.write_most(id, MIN_WINDOW as usize);
    pair.client.session.finish(id);
    pair.client.session.finish(id);
    assert_eq!(pair.client.session.write(id, zeros(1)), Err(WriteError::Finished));
    assert_eq!(pair.client.session.capacity(id), Err(WriteError::Finished));
    pair.client.link.stalled = false;
    pair.exchange();
    let (bytes, end) = pair.server.read_all(id).unwrap();
    assert_eq!((bytes.len(), end), (MIN_WINDOW as usize, Read::Finished));
}

#[test]
fn a_stream_without_a_byte_can_finish() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.session.finish(id);
    pair.server.session.finish(id);
    pair.exchange();
    assert_eq!(pair.server.read_all(id).unwrap().1, Read::Finished);
    assert_eq!(pair.client.read_all(id).unwrap().1, Read::Finished);
}

#[test]
fn an_end_may_be_told_without_any_credit_left() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write_most(id, MIN_WINDOW as usize);
    pair.exchange();
    pair.client.session.finish(id);
    pair.exchange();
    assert_eq!(pair.server.read_all(id).unwrap().1, Read::Finished);
}

#[test]
fn a_dropped_stream_resets_its_peer() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    assert_eq!(pair.server.read_all(id).unwrap().1, Read::Pending);
    pair.client.session.forget(id);
    pair.exchange();
    assert!(matches!(pair.server.events.pop_front(), Some(Event::Readable(it)) if it == id));
    assert_eq!(pair.server.read_all(id), Err(cancelled()));
    assert_eq!(pair.server.session.write(id, zeros(1)), Err(cancelled().into()));
    assert_eq!(pair.client.read_all(id), Err(StreamError::Closed));
    pair.server.session.forget(id);
    assert_eq!(pair.server.sent(FrameType::Reset), 0, "a Reset is not answered");
    pair.exchange();
    pair.assert_empty();
}

#[test]
fn a_stream_dropped_with_bytes_unread_resets_its_peer() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write(id, b"unread");
    pair.client.session.finish(id);
    pair.exchange();
    pair.server.session.forget(id);
    pair.exchange();
    assert_eq!(pair.client.read_all(id), Err(cancelled()));
}

#[test]
fn who_has_ended_its_own_direction_need_not_read_to_the_end() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.write(id, b"unread");
    pair.client.session.finish(id);
    pair.exchange();
    pair.server.write(id, b"an answer that needs none of it");
    pair.server.session.finish(id);
    pair.server.session.forget(id);
    pair.exchange();
    let answer = b"an answer that needs none of it".to_vec();
    assert_eq!(pair.client.read_all(id), Ok((answer, Read::Finished)));
    pair.client.session.forget(id);
    pair.assert_empty();
}

#[test]
fn letting_go_after_both_ends_loses_nothing() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.server.write(id, b"question");
    pair.server.session.finish(id);
    pair.exchange();
    assert_eq!(pair.client.read_all(id).unwrap().1, Read::Finished);
    pair.client.link.stalled = true;
    pair.client.write_most(id, MIN_WINDOW as usize);
    pair.client.session.finish(id);
    // Still all of it in the queue.
    pair.client.session.forget(id);
    pair.client.session.forget(id);
    assert_eq!(pair.client.session.stats().streams, 1);
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.session.stats().streams, 0);
    let (bytes, end) = pair.server.read_all(id).unwrap();
    assert_eq!((bytes.len(), end), (MIN_WINDOW as usize, Read::Finished));
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn letting_go_after_one_s_own_end_loses_nothing_of_it() {
    for unread in [false, true] {
        let mut pair = Pair::new();
        let id = pair.open(Side::Server);
        pair.server.write(id, b"question, and more to come");
        pair.exchange();
        if !unread {
            pair.client.read_all(id).unwrap();
        }
        pair.client.link.stalled = true;
        pair.client.write_most(id, MIN_WINDOW as usize);
        pair.client.session.finish(id);
        pair.client.session.forget(id);
        pair.client.link.stalled = false;
        pair.exchange();
        let (bytes, end) = pair.server.read_all(id).unwrap();
        assert_eq!((bytes.len(), end), (MIN_WINDOW as usize, Read::Finished), "{unread}");
        // The other direction is of no more use, and that is told behind it.
        assert_eq!(pair.client.sent(FrameType::Reset), 1);
        assert!(pair.server.session.capacity(id).is_err());
        pair.server.session.forget(id);
        pair.exchange();
        pair.assert_empty();
    }
}

#[test]
fn a_stream_that_ended_well_can_be_read_later() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.session.finish(id);
    pair.client.write(id, b"late reader");
    pair.client.session.finish(id);
    pair.exchange();
    // Nothing that comes now takes the bytes away.
    pair.server.session.reset(id, ResetCode::Internal, "");
    assert_eq!(pair.server.sent(FrameType::Reset), 0);
    pair.server.session.handle_eof();
    assert_eq!(pair.server.read_all(id), Ok((b"late reader".to_vec(), Read::Finished)));
    pair.server.session.forget(id);
    assert!(pair.server.session.is_empty());
}

#[test]
fn a_reset_drops_what_is_queued_and_tells_why() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.client.write(id, b"never sent");
    pair.client.session.reset(id, ResetCode::LocalUnreachable, "nobody listens on port 3000");
    pair.client.session.reset(id, ResetCode::Internal, "twice");
    assert_eq!(pair.client.read_all(id), Err(StreamError::Closed));
    pair.exchange();
    let Err(StreamError::Reset { code, reason }) = pair.server.read_all(id) else { panic!() };
    assert_eq!((code, &*reason), (ResetCode::LocalUnreachable, "nobody listens on port 3000"));
    assert_eq!(pair.client.sent(FrameType::Reset), 1);
    assert_eq!(pair.client.sent(FrameType::Data), 0);
    assert_eq!(pair.client.session.stats().streams, 1, "until the application lets go");
}

#[test]
fn resets_that_cross_are_one_end() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.client.session.forget(id);
    pair.server.session.forget(id);
    pair.exchange();
    pair.assert_empty();
}

#[test]
fn bytes_that_were_queued_leave_with_their_stream() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.server.write_most(id, MIN_WINDOW as usize);
    assert_eq!(pair.server.session.stats().queued_bytes, MIN_WINDOW as usize);
    pair.server.session.forget(id);
    assert_eq!(pair.server.session.stats().queued_bytes, 0);
    pair.check();
}

#[test]
fn credit_that_is_due_leaves_with_its_stream() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.server.write_most(id, MIN_WINDOW as usize);
    pair.exchange();
    let mut chunks = Vec::new();
    pair.client.session.read(id, &mut chunks, usize::MAX).unwrap();
    pair.client.session.release(id, MIN_WINDOW as usize);
    pair.client.session.reset(id, ResetCode::Timeout, "");
    pair.client.session.release(id, 1);
    pair.exchange();
    assert_eq!(pair.client.sent(FrameType::WindowUpdate), 0);
    pair.client.session.forget(id);
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn letting_go_wakes_nobody() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.read_all(id).unwrap();
    pair.client.write_most(id, 1 << 20);
    assert_eq!(pair.client.session.capacity(id), Ok(0));
    pair.client.session.forget(id);
    pair.exchange();
    assert!(pair.client.events.is_empty());
}

#[test]
fn commands_on_a_stream_that_is_gone_do_nothing() {
    let mut pair = Pair::new();
    let gone = StreamId(77);
    let session = &mut pair.client.session;
    session.finish(gone);
    session.reset(gone, ResetCode::Internal, "");
    session.forget(gone);
    session.release(gone, 10);
    assert_eq!(session.write(gone, zeros(1)), Err(StreamError::Closed.into()));
    assert_eq!(session.capacity(gone), Err(StreamError::Closed.into()));
    assert_eq!(session.send_datagram(gone, zeros(1)), Err(StreamError::Closed.into()));
    assert!(!session.has_output());
}

#[test]
fn the_end_of_the_carrier_is_no_clean_end_of_a_stream() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.write(id, b"half of an ans");
    pair.exchange();
    pair.client.session.handle_eof();
    assert_eq!(pair.client.read_all(id), Err(StreamError::SessionClosed));
    assert_eq!(pair.client.session.state(), State::Closed);
    assert_eq!(pair.client.session.open(request(TunnelKind::Tcp)), Err(OpenError::SessionClosed));
    pair.client.session.forget(id);
    assert!(pair.client.session.is_empty());
    assert!(pair.client.is_finished());
}

#[test]
fn more_streams_than_agreed_are_refused_here() {
    let server = Config { max_streams: 3, ..Config::default() };
    let mut pair = Pair::with(Setup { server, ..Setup::default() });
    for side in [Side::Client, Side::Server] {
        let ids: Vec<StreamId> = (0..3).map(|_| pair.open(side)).collect();
        let refused = pair.end(side).session.open(request(TunnelKind::Tcp));
        assert_eq!(refused, Err(OpenError::LimitReached));
        // One that ends makes room, even before the peer has heard of it.
        pair.end(side).session.forget(ids[0]);
        pair.open(side);
    }
    assert_eq!(pair.client.violation.or(pair.server.violation), None);
}

#[test]
fn room_for_a_stream_is_made_at_the_same_moment_on_both_sides() {
    let server = Config { max_streams: 1, ..Config::default() };
    let mut pair = Pair::with(Setup { server, chop: true, ..Setup::default() });
    for _ in 0..300 {
        let id = pair.server.session.open(request(TunnelKind::Tcp)).unwrap();
        pair.server.session.finish(id);
        pair.exchange();
        pair.client.events.clear();
        pair.client.session.finish(id);
        pair.exchange();
        pair.client.session.forget(id);
        pair.server.session.forget(id);
    }
    assert_eq!(pair.client.violation.or(pair.server.violation), None);
    pair.assert_empty();
}

#[test]
fn a_hundred_thousand_streams_in_sequence_leave_nothing() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    for round in 0..100_000 {
        let by = if round % 2 == 0 { Side::Server } else { Side::Client };
        let id = pair.end(by).session.open(request(TunnelKind::Tcp)).unwrap();
        pair.end(by).write(id, b"?");
        pair.end(by).session.finish(id);
        pair.turn();
        let answering = super::pair::other(by);
        assert!(matches!(pair.end(answering).events.pop_front(), Some(Event::Opened(..))));
        assert_eq!(pair.end(answering).read_all(id).unwrap().1, Read::Finished);
        if round % 3 == 0 {
            pair.end(answering).session.reset(id, ResetCode::LocalFailed, "");
        } else {
            pair.end(answering).session.finish(id);
        }
        pair.turn();
        pair.client.session.forget(id);
        pair.server.session.forget(id);
    }
    pair.exchange();
    pair.assert_empty();
    assert_eq!(pair.client.session.stats().streams_opened, 100_000);
    for end in [&pair.client, &pair.server] {
        assert!(end.session.streams.capacity() < 64, "stores stay as small as what is in them");
        assert!(end.session.control.capacity() < 64);
    }
}
