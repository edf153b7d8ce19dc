//! From strangers to a session.

use std::time::Duration;

use bytes::BytesMut;
use ferrotunnel_common::TunnelKind;

use super::pair::{Pair, Setup, accept, hello, open_frame, request};
use crate::error::{FrameError, Violation};
use crate::frame::{
    CLIENT_PROOF_LEN, Challenge, Frame, FrameType, GoAwayCode, Hello, NONCE_LEN, Register,
};
use crate::session::{Config, Event, OpenError, Session, Side, State};

#[test]
fn three_frames_establish_a_session() {
    let pair = Pair::new();
    let kinds = |end: &super::pair::End| -> Vec<FrameType> {
        end.ledger.as_ref().unwrap().sent.iter().map(|header| header.kind).collect()
    };
    // Then each measures the round trip with a Ping of its own.
    assert_eq!(kinds(&pair.client), [FrameType::Hello, FrameType::Ping, FrameType::Ping]);
    assert_eq!(
        kinds(&pair.server),
        [FrameType::Challenge, FrameType::Welcome, FrameType::Ping, FrameType::Ping]
    );
    assert!(pair.client.session.round_trip().is_some());
    assert!(pair.server.session.round_trip().is_some());
}

#[test]
fn the_settings_of_the_server_replace_the_clients() {
    let server = Config { max_streams: 7, heartbeat: Duration::from_secs(2), ..Config::default() };
    let pair = Pair::with(Setup { server, ..Setup::default() });
    assert_eq!(pair.client.session.config.max_streams, 7);
    let next = pair.client.session.poll_timeout().unwrap();
    assert_eq!(next - pair.now, Duration::from_secs(2));
}

#[test]
fn settings_out_of_range_mean_the_same_on_both_sides() {
    let server = Config { max_streams: 0, heartbeat: Duration::ZERO, ..Config::default() };
    let mut pair = Pair::with(Setup { server, ..Setup::default() });
    assert_eq!(pair.server.session.config.max_streams, 1);
    assert_eq!(pair.client.session.config.max_streams, 1);
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.client.session.state(), State::Established);
    assert!(pair.server.timeouts <= 60, "a heartbeat of 100 ms at the least");
}

#[test]
fn input_stops_where_a_proof_must_be_checked() {
    let now = std::time::Instant::now();
    let mut server = Session::server(Config::default(), [0; NONCE_LEN], now);
    let hello = Hello {
        version: crate::VERSION,
        client_id: hello().client_id,
        token_id: String::new(),
        nonce: [0; NONCE_LEN],
        proof: [0; CLIENT_PROOF_LEN],
        software: String::new(),
        initial_window: 0,
        direct_for: None,
    };
    let open = open_frame(1, TunnelKind::Tcp).encode();
    let mut input = BytesMut::from(&[Frame::Hello(hello).encode(), open.clone()].concat()[..]);
    server.handle_input(now, &mut input).unwrap();
    assert!(matches!(server.poll_event(), Some(Event::HelloReceived(_))));
    assert_eq!(input, open, "the rest waits for the verdict");
    server.handle_input(now, &mut input).unwrap();
    assert_eq!(input, open);
    server.accept(accept(), now);
    server.handle_input(now, &mut input).unwrap();
    assert!(matches!(server.poll_event(), Some(Event::Opened(..))));
    assert!(input.is_empty());
}

#[test]
fn input_stops_where_the_servers_proof_must_be_checked() {
    let now = std::time::Instant::now();
    let mut client = Session::client(Config::default(), now);
    let challenge = Challenge { min_version: 1, max_version: 1, nonce: [0; NONCE_LEN] };
    let open = open_frame(2, TunnelKind::Tcp).encode();
    let frames = [Frame::Challenge(challenge).encode(), welcome_frame().encode(), open.clone()];
    let mut input = BytesMut::from(&frames.concat()[..]);
    client.handle_input(now, &mut input).unwrap();
    assert!(matches!(client.poll_event(), Some(Event::Challenged(_))));
    assert!(input.len() > open.len(), "the Welcome waits for the Hello");
    client.hello(hello());
    client.handle_input(now, &mut input).unwrap();
    assert!(matches!(client.poll_event(), Some(Event::Welcomed(_))));
    assert_eq!(input, open, "the rest waits for the verdict");
    client.confirm(now);
    client.handle_input(now, &mut input).unwrap();
    assert!(matches!(client.poll_event(), Some(Event::Opened(..))));
}

#[test]
fn what_follows_a_welcome_at_once_is_not_lost() {
    let mut pair = Pair::strangers(Setup { chop: true, ..Setup::default() });
    pair.client.turn_link_only(&mut pair.server, pair.now);
    while pair.server.session.state() == State::Greeting {
        pair.client.turn_link_only(&mut pair.server, pair.now);
        pair.server.turn_link_only(&mut pair.client, pair.now);
    }
    let id = pair.server.session.open(request(TunnelKind::Tcp)).unwrap();
    pair.server.write(id, b"early");
    pair.exchange();
    assert_eq!(pair.client.read_all(id).unwrap().0, b"early");
}

#[test]
fn a_refused_client_learns_why() {
    let mut pair = Pair::strangers(Setup::default());
    pair.client.turn_link_only(&mut pair.server, pair.now);
    pair.server.session.close(GoAwayCode::WrongToken, "unknown token");
    pair.exchange();
    let Some(Event::GoAway(go_away)) = pair.client.events.pop_front() else {
        panic!("a GoAway");
    };
    assert_eq!((go_away.code, &*go_away.reason), (GoAwayCode::WrongToken, "unknown token"));
    assert_eq!(pair.client.session.state(), State::Closed);
    assert!(pair.server.is_finished());
    assert_eq!(pair.server.session.poll_timeout(), None);
}

#[test]
fn no_common_version_is_told_with_its_own_code() {
    let now = std::time::Instant::now();
    let challenge = Challenge { min_version: 2, max_version: 9, nonce: [0; NONCE_LEN] };
    let mut pair = Pair::strangers(Setup { watched: false, ..Setup::default() });
    pair.client.feed(&Frame::Challenge(challenge).encode(), now);
    assert_eq!(pair.client.violation, Some(Violation::Version));
    assert_eq!(pair.client.last_go_away(now), Some(GoAwayCode::Version));
}

#[test]
fn a_hello_of_another_version_is_refused() {
    let mut pair = Pair::strangers(Setup { watched: false, ..Setup::default() });
    let now = pair.now;
    pair.server.feed(&hello_frame(9).encode(), now);
    assert_eq!(pair.server.violation, Some(Violation::Version));
    assert_eq!(pair.server.last_go_away(now), Some(GoAwayCode::Version));
}

#[test]
fn handshake_frames_in_the_wrong_order_are_violations() {
    let refused = |side, frames: &[Frame]| {
        let mut pair = Pair::strangers(Setup { watched: false, ..Setup::default() });
        let now = pair.now;
        for frame in frames {
            assert_eq!(pair.end(side).violation, None, "before {frame:?}");
            pair.end(side).feed(&frame.encode(), now);
        }
        assert_eq!(pair.end(side).session.state(), State::Closed);
        pair.end(side).violation
    };
    let challenge = Challenge { min_version: 1, max_version: 1, nonce: [0; NONCE_LEN] };
    let challenge = Frame::Challenge(challenge);
    let unexpected = |name| Some(Violation::Unexpected(name));
    let welcome = welcome_frame();
    assert_eq!(refused(Side::Client, std::slice::from_ref(&welcome)), unexpected("Welcome"));
    assert_eq!(
        refused(Side::Client, &[challenge.clone(), challenge.clone()]),
        unexpected("Challenge")
    );
    assert_eq!(refused(Side::Client, &[hello_frame(1)]), unexpected("Hello"));
    assert_eq!(refused(Side::Server, std::slice::from_ref(&challenge)), unexpected("Challenge"));
    assert_eq!(refused(Side::Server, std::slice::from_ref(&welcome)), unexpected("Welcome"));
    let ping = Frame::Ping(crate::frame::Ping { ack: false, opaque: [0; 8] });
    let too_early = Some(FrameError::BeforeAuthentication.into());
    assert_eq!(refused(Side::Server, std::slice::from_ref(&ping)), too_early);
    // Once established they are as wrong.
    assert_eq!(refused(Side::Server, &[hello_frame(1), hello_frame(1)]), unexpected("Hello"));
    assert_eq!(
        refused(Side::Client, &[challenge.clone(), welcome, challenge]),
        unexpected("Challenge")
    );
}

#[test]
fn stream_frames_of_a_stranger_are_refused_by_their_header() {
    let mut pair = Pair::strangers(Setup { watched: false, ..Setup::default() });
    let now = pair.now;
    pair.server.feed(&open_frame(1, TunnelKind::Tcp).encode()[..8], now);
    assert_eq!(pair.server.violation, Some(FrameError::BeforeAuthentication.into()));
    assert_eq!(pair.server.last_go_away(now), Some(GoAwayCode::ProtocolError));
}

#[test]
fn a_stranger_that_says_nothing_is_dropped_at_the_deadline() {
    for side in [Side::Client, Side::Server] {
        let mut pair = Pair::strangers(Setup::default());
        pair.client.link.stalled = true;
        pair.server.link.stalled = true;
        assert_eq!(pair.end(side).session.poll_timeout(), Some(pair.now + Duration::from_secs(10)));
        pair.pass(Duration::from_secs(10) - Duration::from_nanos(1));
        assert_eq!(pair.end(side).session.state(), State::Greeting);
        pair.pass(Duration::from_nanos(1));
        assert_eq!(pair.end(side).violation, Some(Violation::HandshakeTimeout));
        assert_eq!(pair.end(side).session.state(), State::Closed);
        assert_eq!(pair.end(side).timeouts, 1);
    }
}

#[test]
fn a_deadline_beyond_all_time_is_none() {
    let config = Config { handshake_deadline: Duration::MAX, ..Config::default() };
    let pair = Pair::strangers(Setup { client: config, ..Setup::default() });
    assert_eq!(pair.client.session.poll_timeout(), None);
}

#[test]
fn nothing_can_be_done_before_the_session_is_established() {
    let mut pair = Pair::strangers(Setup::default());
    let now = pair.now;
    let client = &mut pair.client.session;
    assert_eq!(client.open(request(TunnelKind::Tcp)), Err(OpenError::SessionClosed));
    client.register(1, register());
    client.unregister(1);
    client.hello(hello());
    client.confirm(now);
    client.accept(accept(), now);
    assert_eq!(client.state(), State::Greeting);
    assert!(!client.has_output());
}

#[test]
fn the_end_of_the_carrier_ends_a_handshake() {
    let mut pair = Pair::strangers(Setup::default());
    pair.server.session.handle_eof();
    assert!(pair.server.is_finished());
    assert_eq!(pair.server.session.violation(), None);
}

#[test]
fn tunnels_are_registered_and_answered() {
    let mut pair = Pair::new();
    pair.client.session.register(5, register());
    pair.exchange();
    let Some(Event::Register(5, asked)) = pair.server.events.pop_front() else { panic!() };
    assert_eq!(*asked, register());
    let answer = crate::frame::Registered::Ok { address: "http://app/".into() };
    pair.server.session.registered(5, answer.clone());
    pair.exchange();
    let Some(Event::Registered(5, answered)) = pair.client.events.pop_front() else { panic!() };
    assert_eq!(*answered, answer);
    pair.client.session.unregister(5);
    pair.exchange();
    assert!(matches!(pair.server.events.pop_front(), Some(Event::Unregister(5))));
}

pub(super) fn register() -> Register {
    Register {
        kind: TunnelKind::Http,
        name: "app".into(),
        hosts: Vec::new(),
        port: 0,
        options: Vec::new(),
    }
}

fn hello_frame(version: u8) -> Frame {
    let hello = hello();
    Frame::Hello(Hello {
        version,
        client_id: hello.client_id,
        token_id: hello.token_id,
        nonce: hello.nonce,
        proof: hello.proof,
        software: hello.software,
        initial_window: 0,
        direct_for: None,
    })
}

fn welcome_frame() -> Frame {
    Frame::Welcome(crate::frame::Welcome {
        session_id: accept().session_id,
        proof: accept().proof,
        heartbeat_ms: 5_000,
        max_streams: 10,
        max_tunnels: 10,
        initial_window: 0,
        software: String::new(),
    })
}
