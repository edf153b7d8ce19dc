//! Every fault of a peer, and what is no fault.

use ferrotunnel_common::{StreamId, TunnelKind};

use super::handshake::register;
use super::pair::{Pair, Setup, data, open_frame};
use crate::error::{FrameError, Violation};
use crate::frame::{
    FIN, Frame, GoAway, GoAwayCode, MAX_WINDOW, MOVED, Open, Ping, Registered, Reset, ResetCode,
    WindowUpdate,
};
use crate::session::config::{MAX_PINGS_OWED, MIN_WINDOW};
use crate::session::{Config, Side, State};

/// A pair whose ends can be fed what the other never sent.
fn pair() -> Pair {
    Pair::with(Setup { watched: false, ..Setup::default() })
}

/// What the server makes of these bytes from its client.
fn verdict(frames: &[Vec<u8>]) -> Option<Violation> {
    let mut pair = pair();
    let now = pair.now;
    for frame in frames {
        assert_eq!(pair.server.violation, None, "too early");
        pair.server.feed(frame, now);
        pair.check();
    }
    let violation = pair.server.violation;
    assert_eq!(pair.server.session.violation(), violation);
    if violation.is_some() {
        assert_eq!(pair.server.session.state(), State::Closed);
        assert_eq!(pair.server.last_go_away(now), Some(GoAwayCode::ProtocolError));
        assert!(pair.server.is_finished());
    }
    violation
}

fn open(id: u32) -> Vec<u8> {
    encoded(&open_frame(id, TunnelKind::Tcp))
}

fn encoded(frame: &Frame) -> Vec<u8> {
    frame.encode().to_vec()
}

fn reset(id: u32) -> Vec<u8> {
    encoded(&Frame::Reset(
        StreamId(id),
        Reset { code: ResetCode::Cancelled, reason: String::new() },
    ))
}

fn credit(id: u32, credit: u32) -> Vec<u8> {
    encoded(&Frame::WindowUpdate(StreamId(id), WindowUpdate { credit }))
}

fn datagram(id: u32) -> Vec<u8> {
    encoded(&Frame::Datagram(StreamId(id), "ping".into()))
}

#[test]
fn bytes_that_are_no_frame_end_the_session() {
    let unknown = Some(Violation::Frame(FrameError::UnknownType(99)));
    assert_eq!(verdict(&[vec![99, 0, 0, 0, 0, 0, 0, 0]]), unknown);
}

#[test]
fn frames_of_the_other_side_are_unexpected() {
    let registered = Frame::Registered(1, Registered::Ok { address: String::new() });
    assert_eq!(verdict(&[encoded(&registered)]), Some(Violation::Unexpected("Registered")));
    let mut pair = pair();
    let now = pair.now;
    pair.client.feed(&Frame::Register(1, register()).encode(), now);
    assert_eq!(pair.client.violation, Some(Violation::Unexpected("Register")));
}

#[test]
fn bytes_on_a_flow_and_datagrams_on_a_stream_are_unexpected() {
    let flow = encoded(&open_frame(1, TunnelKind::Udp));
    let bytes = data(StreamId(1), 0, b"x");
    assert_eq!(verdict(&[flow, bytes]), Some(Violation::Unexpected("Data")));
    assert_eq!(verdict(&[open(1), datagram(1)]), Some(Violation::Unexpected("Datagram")));
}

#[test]
fn stream_ids_have_the_openers_parity_and_ascend() {
    assert_eq!(verdict(&[open(2)]), Some(Violation::StreamId));
    assert_eq!(verdict(&[open(3), open(3)]), Some(Violation::StreamId));
    assert_eq!(verdict(&[open(3), open(1)]), Some(Violation::StreamId));
    assert_eq!(verdict(&[open(3), open(7), open(u32::MAX)]), None, "gaps are allowed");
}

#[test]
fn frames_for_streams_that_never_were_are_violations() {
    for id in [1, 2] {
        for frame in [data(StreamId(id), 0, b"x"), credit(id, 1), reset(id), datagram(id)] {
            assert_eq!(verdict(&[frame]), Some(Violation::IdleStream));
        }
    }
}

#[test]
fn frames_for_streams_that_are_gone_are_ignored() {
    // An id that was skipped counts as gone.
    for frame in [data(StreamId(1), FIN, b"x"), credit(1, 1), reset(1), datagram(1)] {
        assert_eq!(verdict(&[open(3), frame]), None);
    }
    let mut pair = pair();
    for by in [Side::Client, Side::Server] {
        let id = pair.open(by);
        pair.server.session.forget(id);
        pair.client.session.forget(id);
        pair.exchange();
        let now = pair.now;
        for frame in [data(id, FIN, b"x"), credit(id.0, 1), reset(id.0), datagram(id.0)] {
            pair.server.feed(&frame, now);
            pair.client.feed(&frame, now);
        }
    }
    pair.exchange();
    assert_eq!((pair.client.violation, pair.server.violation), (None, None));
    pair.assert_empty();
}

#[test]
fn frames_that_cross_with_a_reset_are_ignored() {
    let mut pair = pair();
    let id = pair.open(Side::Client);
    pair.server.session.reset(id, ResetCode::Timeout, "");
    let now = pair.now;
    for frame in [data(id, 0, b"x"), credit(id.0, MAX_WINDOW), credit(id.0, 1), data(id, FIN, b"")]
    {
        pair.server.feed(&frame, now);
    }
    assert_eq!(pair.server.violation, None);
    pair.check();
}

#[test]
fn more_bytes_than_granted_are_a_violation() {
    let most = data(StreamId(1), 0, &[0; MIN_WINDOW as usize - 1]);
    assert_eq!(
        verdict(&[open(1), most, data(StreamId(1), 0, b"x"), data(StreamId(1), 0, b"x")]),
        Some(Violation::FlowControl)
    );
    let greedy = Open {
        tunnel: 0,
        kind: TunnelKind::Tcp,
        visitor: None,
        ingress: None,
        send_window: MIN_WINDOW + 1,
        receive_window: 0,
        trace: None,
    };
    assert_eq!(
        verdict(&[encoded(&Frame::Open(StreamId(1), greedy))]),
        Some(Violation::FlowControl)
    );
}

#[test]
fn credit_beyond_the_largest_window_is_a_violation() {
    let rest = MAX_WINDOW - MIN_WINDOW;
    assert_eq!(verdict(&[open(1), credit(1, rest)]), None);
    assert_eq!(verdict(&[open(1), credit(1, rest), credit(1, 1)]), Some(Violation::WindowOverflow));
}

#[test]
fn bytes_after_the_end_of_a_stream_are_a_violation() {
    for late in [data(StreamId(1), 0, b"x"), data(StreamId(1), FIN, b"")] {
        assert_eq!(
            verdict(&[open(1), data(StreamId(1), FIN, b"all"), late]),
            Some(Violation::DataAfterFin)
        );
    }
}

#[test]
fn a_direction_that_goes_on_elsewhere_unasked_is_a_violation() {
    let moved = data(StreamId(1), FIN | MOVED, b"all");
    assert_eq!(verdict(&[open(1), moved]), Some(Violation::Moved));
    assert_eq!(
        verdict(&[open(1), encoded(&Frame::Move(StreamId(1)))]),
        Some(Violation::Unexpected("Move"))
    );
}

#[test]
fn a_peer_that_ignores_the_limit_of_streams_is_a_violation() {
    let server = Config { max_streams: 2, ..Config::default() };
    let mut pair = Pair::with(Setup { server, watched: false, ..Setup::default() });
    let now = pair.now;
    for id in [1, 3] {
        pair.server.feed(&open(id), now);
    }
    assert_eq!(pair.server.violation, None);
    pair.server.feed(&open(5), now);
    assert_eq!(pair.server.violation, Some(Violation::TooManyStreams));
}

#[test]
fn pings_that_outrun_their_answers_are_a_flood() {
    let ping = encoded(&Frame::Ping(Ping { ack: false, opaque: [1; 8] }));
    assert_eq!(verdict(&vec![ping.clone(); MAX_PINGS_OWED]), None);
    assert_eq!(verdict(&vec![ping; MAX_PINGS_OWED + 1]), Some(Violation::Flood));
}

#[test]
fn registers_that_outrun_their_answers_are_a_flood() {
    let server = Config { max_tunnels: 10, ..Config::default() };
    let mut pair = Pair::with(Setup { server, watched: false, ..Setup::default() });
    let now = pair.now;
    let mut number = 0;
    let mut ask = |pair: &mut Pair| {
        number += 1;
        pair.server.feed(&Frame::Register(number, register()).encode(), now);
        number
    };
    // Answered ones do not count, even beyond what the client may have.
    for _ in 0..1_000 {
        let number = ask(&mut pair);
        let answer = Registered::Ok { address: String::new() };
        pair.server.session.registered(number, answer);
    }
    for _ in 0..74 {
        ask(&mut pair);
    }
    assert_eq!(pair.server.violation, None);
    ask(&mut pair);
    assert_eq!(pair.server.violation, Some(Violation::Flood));
}

#[test]
fn a_peer_that_says_goodbye_again_and_again_is_a_flood() {
    let go_away = encoded(&Frame::GoAway(GoAway {
        last_stream: StreamId(0),
        code: GoAwayCode::Drain,
        reason: String::new(),
    }));
    let mut frames = vec![open(1)];
    frames.extend(vec![go_away.clone(); 8]);
    assert_eq!(verdict(&frames), None);
    frames.push(go_away);
    assert_eq!(verdict(&frames), Some(Violation::Flood));
}

#[test]
fn opens_after_a_goaway_are_a_flood_if_they_never_end() {
    let mut pair = pair();
    pair.open(Side::Client);
    pair.server.link.stalled = true;
    pair.server.session.drain(GoAwayCode::Drain, "");
    let now = pair.now;
    let mut answered = 0;
    for id in (3..).step_by(2) {
        if pair.server.violation.is_some() {
            break;
        }
        pair.server.feed(&open(id), now);
        answered += 1;
        assert!(answered < 500_000, "memory without bound");
    }
    assert_eq!(pair.server.violation, Some(Violation::Flood));
}

#[test]
fn one_violation_ends_every_stream_and_is_told_once() {
    let mut pair = pair();
    let (a, b) = (pair.open(Side::Client), pair.open(Side::Server));
    let now = pair.now;
    pair.server.feed(&[99; 8], now);
    pair.server.feed(&[99; 8], now);
    assert_eq!(pair.server.session.handle_timeout(now), Ok(()));
    pair.exchange();
    assert_eq!(pair.client.session.state(), State::Closed);
    for id in [a, b] {
        assert!(pair.client.read_all(id).is_err());
        assert!(pair.server.read_all(id).is_err());
        pair.client.session.forget(id);
        pair.server.session.forget(id);
    }
    pair.assert_empty();
}
