//! What an authenticated peer can make us hold.
//!
//! | what | bound |
//! |---|---|
//! | unread bytes of streams | a window each, 64 KiB or 16 KiB, and `growth_memory_bytes` for all |
//! | pieces they lie in | one per KiB, beside those that slice a read buffer |
//! | unread datagrams | 8 MiB for all flows, and a window each; 1,024 to a flow |
//! | bytes waiting for a carrier that does not move | 4 MiB for all, and 16 KiB each |
//! | stream entries | twice `max_streams`, at least 1,024, beside our own |
//! | control frames waiting | a Reset for every entry, and 65,536 |
//! | streams listed for a grant | twice those that there are, and 1,024 |
//! | unanswered Pings | 16 |
//! | unanswered Registers | `max_tunnels` and 64 |
//! | events | those of one `handle_input`, so what its input makes |
//!
//! The tests of each are here, or with the frames concerned.

use bytes::BytesMut;
use ferrotunnel_common::{StreamId, TunnelKind};

use super::pair::{Pair, Setup, data, open_frame, request};
use crate::frame::{FIN, Frame, FrameType, Reset, ResetCode};
use crate::session::config::{GRANTS_LISTED, MAX_CONTROL_BEFORE_OPEN, MIN_ENTRY_LIMIT, MIN_WINDOW};
use crate::session::{Config, Event, OpenError, Side};

fn small() -> Pair {
    let server = Config { max_streams: 10, ..Config::default() };
    Pair::with(Setup { server, watched: false, ..Setup::default() })
}

#[test]
fn streams_that_come_and_go_faster_than_we_let_go_are_refused() {
    let mut pair = small();
    let now = pair.now;
    let reset = |id| {
        let reset = Reset { code: ResetCode::Cancelled, reason: String::new() };
        Frame::Reset(StreamId(id), reset).encode()
    };
    for id in (1..10_000).step_by(2) {
        pair.server.feed(&open_frame(id, TunnelKind::Tcp).encode(), now);
        pair.server.feed(&reset(id), now);
    }
    pair.check();
    assert_eq!(pair.server.violation, None);
    assert_eq!(pair.server.session.stats().streams, MIN_ENTRY_LIMIT);
    let refused = pair.server.take_headers(now);
    assert_eq!(refused.len(), 5_000 - MIN_ENTRY_LIMIT);
    assert!(refused.iter().all(|header| header.kind == FrameType::Reset));
    // Once the application has caught up, streams are welcome again.
    while let Some(event) = pair.server.events.pop_front() {
        if let Event::Opened(id, _) = event {
            pair.server.session.forget(id);
        }
    }
    assert!(pair.server.session.is_empty());
    pair.server.feed(&open_frame(10_001, TunnelKind::Tcp).encode(), now);
    assert_eq!(pair.server.session.stats().streams, 1);
}

#[test]
fn streams_that_ended_with_bytes_unread_are_bounded() {
    let mut pair = small();
    let now = pair.now;
    let mut held = 0;
    for id in (1..20_000).step_by(2).map(StreamId) {
        pair.server.feed(&open_frame(id.0, TunnelKind::Tcp).encode(), now);
        pair.server.session.finish(id);
        pair.server.take_output(now);
        pair.server.feed(&data(id, FIN, &[0; 1_000]), now);
        held = held.max(pair.server.session.stats().streams);
    }
    assert_eq!(held, MIN_ENTRY_LIMIT);
    assert_eq!(pair.server.budget.used_bytes(), held as u64 * u64::from(MIN_WINDOW));
    pair.check();
}

#[test]
fn a_client_keeps_its_own_limits_whatever_the_server_says() {
    let server = Config { max_streams: u32::MAX, ..Config::default() };
    let client = Config { max_streams: 600, ..Config::default() };
    let mut pair = Pair::with(Setup { client, server, watched: false, ..Setup::default() });
    let now = pair.now;
    for id in (2..6_000).step_by(2) {
        pair.client.feed(&open_frame(id, TunnelKind::Tcp).encode(), now);
    }
    assert_eq!(pair.client.violation, None);
    assert_eq!(pair.client.session.stats().streams, 1_200);
    pair.check();
}

#[test]
fn visitors_of_a_carrier_that_does_not_move_do_not_pile_up() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    pair.server.link.stalled = true;
    let mut opened = 0;
    loop {
        match pair.server.session.open(request(TunnelKind::Tcp)) {
            Ok(id) => {
                opened += 1;
                pair.server.write(id, b"GET / HTTP/1.1");
                pair.server.session.forget(id);
            }
            Err(error) => {
                assert_eq!(error, OpenError::LimitReached);
                break;
            }
        }
    }
    assert_eq!(opened, MAX_CONTROL_BEFORE_OPEN / 2);
    pair.check();
    pair.server.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.client.violation, None);
    assert!(pair.server.session.is_empty());
    pair.server.session.open(request(TunnelKind::Tcp)).unwrap();
}

/// Each is opened with less credit than it has a right to, so that it is due some at once, and is gone before that leaves.
#[test]
fn streams_that_come_and_go_while_the_carrier_does_not_move_leave_no_list_behind() {
    let mut pair = small();
    let now = pair.now;
    let Frame::Open(_, mut open) = open_frame(1, TunnelKind::Tcp) else { unreachable!() };
    open.send_window = 0;
    let stays = StreamId(1);
    pair.server.feed(&Frame::Open(stays, open.clone()).encode(), now);
    for id in (3..100_000).step_by(2).map(StreamId) {
        let reset = Reset { code: ResetCode::Cancelled, reason: String::new() };
        pair.server.feed(&Frame::Open(id, open.clone()).encode(), now);
        pair.server.feed(&Frame::Reset(id, reset).encode(), now);
        pair.server.session.forget(id);
    }
    pair.check();
    assert_eq!(pair.server.violation, None);
    assert_eq!(pair.server.session.stats().streams, 1);
    let listed = pair.server.session.grants.len();
    assert!(listed <= GRANTS_LISTED + 4, "{listed}");
    let granted = pair.server.take_headers(now);
    let granted = granted.iter().filter(|it| it.kind == FrameType::WindowUpdate);
    assert_eq!(granted.map(|it| it.stream).collect::<Vec<_>>(), [stays.0]);
}

#[test]
fn letting_go_of_all_streams_at_once_is_no_flood_of_the_peer() {
    let server = Config { max_streams: 2_000, ..Config::default() };
    let mut pair = Pair::with(Setup { server, watched: false, ..Setup::default() });
    let ids: Vec<StreamId> = [Side::Client, Side::Server]
        .into_iter()
        .flat_map(|side| [side; 2_000])
        .map(|side| pair.end(side).session.open(request(TunnelKind::Tcp)).unwrap())
        .collect();
    pair.exchange();
    pair.server.link.stalled = true;
    for id in &ids {
        pair.server.session.forget(*id);
    }
    let id = pair.client.session.open(request(TunnelKind::Tcp));
    assert_eq!(id, Err(OpenError::LimitReached), "the client has not heard");
    let now = pair.now;
    pair.server.feed(&Frame::Ping(crate::frame::Ping { ack: true, opaque: [0; 8] }).encode(), now);
    assert_eq!(pair.server.violation, None);
}

#[test]
fn one_read_of_the_smallest_frames_makes_few_events() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    pair.server.read_all(id).unwrap();
    let mut input = BytesMut::new();
    for _ in 0..30_000 {
        input.extend_from_slice(&data(id, 0, b"x"));
        input.extend_from_slice(&data(id, 0, b""));
    }
    pair.server.session.handle_input(pair.now, &mut input).unwrap();
    assert!(pair.server.session.events.len() <= 1);
    pair.check();
}
