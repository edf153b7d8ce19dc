//! The end of a session.

use ferrotunnel_common::{StreamId, TunnelKind};

use super::handshake::register;
use super::pair::{Pair, Setup, open_frame, request};
use crate::frame::{Frame, FrameType, GoAway, GoAwayCode, ResetCode};
use crate::session::{Event, OpenError, Read, Side, State, StreamError};

fn states(pair: &Pair) -> (State, State) {
    (pair.client.session.state(), pair.server.session.state())
}

#[test]
fn a_drain_finishes_open_streams_then_both_close() {
    for drainer in [Side::Client, Side::Server] {
        let mut pair = Pair::new();
        let (a, b) = (pair.open(Side::Client), pair.open(Side::Server));
        pair.end(drainer).session.drain(GoAwayCode::Drain, "restart");
        pair.exchange();
        assert_eq!(states(&pair), (State::Draining, State::Draining));
        for id in [a, b] {
            pair.client.write(id, b"goes on");
            pair.client.session.finish(id);
            pair.exchange();
            assert_eq!(pair.server.read_all(id), Ok((b"goes on".to_vec(), Read::Finished)));
            assert_eq!(states(&pair), (State::Draining, State::Draining));
            pair.server.write(id, b"to its end");
            pair.server.session.finish(id);
            pair.exchange();
        }
        assert_eq!(states(&pair), (State::Closed, State::Closed));
        for id in [a, b] {
            assert_eq!(pair.client.read_all(id), Ok((b"to its end".to_vec(), Read::Finished)));
            pair.client.session.forget(id);
            pair.server.session.forget(id);
        }
        assert!(pair.client.is_finished() && pair.server.is_finished());
        pair.assert_empty();
        assert_eq!(pair.client.sent(FrameType::Reset) + pair.server.sent(FrameType::Reset), 0);
    }
}

#[test]
fn a_session_without_streams_drains_at_once() {
    let mut pair = Pair::new();
    pair.server.session.drain(GoAwayCode::ShuttingDown, "");
    assert_eq!(pair.server.session.state(), State::Closed);
    assert!(!pair.server.is_finished(), "the GoAway has yet to leave");
    pair.exchange();
    assert!(pair.server.is_finished());
    assert_eq!(pair.client.session.state(), State::Closed);
}

#[test]
fn the_last_end_of_a_stream_closes_a_draining_session_whoever_comes_last() {
    for last in ["received", "sent", "reset", "forgotten", "reset by the peer"] {
        let mut pair = Pair::new();
        let id = pair.open(Side::Client);
        pair.server.session.drain(GoAwayCode::Drain, "");
        pair.exchange();
        match last {
            "received" => {
                pair.server.session.finish(id);
                pair.exchange();
                pair.client.session.finish(id);
            }
            "sent" => {
                pair.client.session.finish(id);
                pair.exchange();
                pair.server.session.finish(id);
            }
            "reset" => pair.server.session.reset(id, ResetCode::Timeout, ""),
            "forgotten" => pair.server.session.forget(id),
            _ => pair.client.session.reset(id, ResetCode::Timeout, ""),
        }
        pair.exchange();
        assert_eq!(states(&pair), (State::Closed, State::Closed), "{last}");
    }
}

#[test]
fn bytes_in_the_queue_leave_before_a_drained_session_closes() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.session.finish(id);
    pair.exchange();
    pair.client.link.stalled = true;
    pair.client.write(id, b"last words");
    pair.client.session.finish(id);
    pair.client.session.drain(GoAwayCode::Drain, "");
    assert_eq!(pair.client.session.state(), State::Draining);
    pair.client.link.stalled = false;
    pair.exchange();
    assert_eq!(states(&pair), (State::Closed, State::Closed));
    assert_eq!(pair.server.read_all(id), Ok((b"last words".to_vec(), Read::Finished)));
}

#[test]
fn nothing_new_is_taken_while_draining() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.session.drain(GoAwayCode::Drain, "");
    pair.exchange();
    for side in [Side::Client, Side::Server] {
        let refused = pair.end(side).session.open(request(TunnelKind::Tcp));
        assert_eq!(refused, Err(OpenError::Draining));
    }
    // What is there may still use all of the session.
    pair.client.write(id, b"x");
    pair.client.session.register(1, register());
    pair.exchange();
    assert_eq!(pair.server.read_all(id).unwrap().0, b"x");
    assert_eq!(pair.server.take_events(|event| matches!(event, Event::Register(..))), 1);
}

#[test]
fn a_stream_whose_open_crosses_with_the_goaway_was_not_served() {
    let mut pair = Pair::new();
    let served = pair.open(Side::Client);
    let crossing = pair.client.session.open(request(TunnelKind::Tcp)).unwrap();
    pair.client.write(crossing, b"early");
    assert_eq!(pair.client.read_all(crossing).unwrap().1, Read::Pending);
    pair.server.session.drain(GoAwayCode::Drain, "");
    pair.exchange();
    assert_eq!(pair.client.read_all(crossing), Err(StreamError::Unserved));
    let told = pair.client.take_events(|event| matches!(event, Event::Readable(_)));
    assert_eq!(told, 1);
    let mut go_aways = pair.client.events.iter().filter_map(|event| match event {
        Event::GoAway(go_away) => Some(go_away.last_stream),
        _ => None,
    });
    assert_eq!(go_aways.next(), Some(served));
    assert_eq!(pair.server.take_events(|event| matches!(event, Event::Opened(..))), 0);
    assert_eq!(pair.client.read_all(served).unwrap().1, Read::Pending);
    assert_eq!(pair.server.violation, None);
}

#[test]
fn both_may_drain_at_once() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.session.drain(GoAwayCode::Drain, "");
    pair.server.session.drain(GoAwayCode::ShuttingDown, "");
    pair.server.session.drain(GoAwayCode::ShuttingDown, "again");
    pair.exchange();
    assert_eq!(pair.server.sent(FrameType::GoAway), 1);
    pair.client.session.forget(id);
    pair.exchange();
    assert_eq!(states(&pair), (State::Closed, State::Closed));
}

#[test]
fn a_superseded_session_ends_at_once() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.server.write(id, b"lost");
    pair.server.session.close(GoAwayCode::Superseded, "a newer session");
    assert_eq!(pair.server.read_all(id), Err(StreamError::SessionClosed));
    pair.exchange();
    assert_eq!(states(&pair), (State::Closed, State::Closed));
    assert_eq!(pair.client.read_all(id), Err(StreamError::SessionClosed));
    let Some(Event::GoAway(go_away)) = pair.client.events.pop_front() else { panic!() };
    assert_eq!(go_away.code, GoAwayCode::Superseded);
    assert!(pair.client.is_finished() && pair.server.is_finished());
}

#[test]
fn a_drain_can_be_cut_short() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    pair.server.session.drain(GoAwayCode::Drain, "");
    let now = pair.now;
    pair.server.take_output(now);
    // An Open that comes too late does not raise what was promised.
    pair.server.feed(&open_frame(id.0 + 2, TunnelKind::Tcp).encode(), now);
    pair.server.session.drain(GoAwayCode::Superseded, "enough");
    assert_eq!(pair.server.session.state(), State::Closed);
    let last = pair.server.take_output(now).pop().unwrap();
    let header = crate::frame::Header::decode(last.first_chunk().unwrap()).unwrap();
    let Ok(Frame::GoAway(go_away)) = Frame::load(header, last.slice(8..)) else { panic!() };
    assert_eq!((go_away.code, go_away.last_stream), (GoAwayCode::Superseded, id));
}

#[test]
fn an_unknown_code_ends_the_session_at_once() {
    let mut pair = Pair::new();
    pair.open(Side::Client);
    let now = pair.now;
    let go_away =
        GoAway { last_stream: StreamId(0), code: GoAwayCode::Other(900), reason: String::new() };
    pair.client.feed(&Frame::GoAway(go_away).encode(), now);
    assert_eq!(pair.client.session.state(), State::Closed);
    assert_eq!(pair.client.violation, None);
}

#[test]
fn a_closed_session_does_nothing_more() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.client.session.close(GoAwayCode::ShuttingDown, "");
    let now = pair.now;
    pair.client.take_output(now);
    let session = &mut pair.client.session;
    session.close(GoAwayCode::ShuttingDown, "");
    session.drain(GoAwayCode::Drain, "");
    session.register(1, register());
    session.finish(id);
    session.reset(id, ResetCode::Internal, "");
    session.release(id, 0);
    session.forget(id);
    assert_eq!(session.poll_timeout(), None);
    assert_eq!(session.handle_timeout(now), Ok(()));
    assert!(!session.has_output());
    assert!(!session.has_output() && session.is_empty());
    pair.client.feed(&[99; 20], now);
    assert_eq!(pair.client.violation, None, "what still comes is not looked at");
}
