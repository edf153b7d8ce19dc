//! Life, silence and round trips on a virtual clock.

use std::time::Duration;

use super::pair::{Pair, Setup, data, zeros};
use crate::error::Violation;
use crate::frame::{Frame, FrameType, Ping};
use crate::session::{Side, State};

const BEAT: Duration = Duration::from_secs(5);

#[test]
fn an_idle_pair_lives_for_an_hour_on_few_pings() {
    let mut pair = Pair::with(Setup { one_way: Duration::from_millis(20), ..Setup::default() });
    pair.pass(Duration::from_secs(3600));
    assert_eq!(pair.client.session.state(), State::Established);
    assert_eq!(pair.server.session.state(), State::Established);
    for end in [&pair.client, &pair.server] {
        // Questions and answers together: two in every five seconds.
        let pings = end.sent(FrameType::Ping);
        assert!((720..=1_450).contains(&pings), "{pings} Pings");
        assert!(end.timeouts <= 1_450, "{} timeouts", end.timeouts);
    }
}

#[test]
fn a_silent_peer_is_noticed_after_three_heartbeats() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Client);
    pair.server.link.stalled = true;
    let since = pair.now;
    let pings = pair.client.sent(FrameType::Ping);
    pair.pass(3 * BEAT - Duration::from_millis(1));
    assert_eq!(pair.client.session.state(), State::Established);
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.client.violation, Some(Violation::PeerSilent));
    assert_eq!(pair.now - since, Duration::from_secs(15));
    assert_eq!(pair.client.sent(FrameType::Ping) - pings, 2, "asked, and asked again");
    assert!(pair.client.read_all(id).is_err());
    assert!(pair.client.timeouts <= 4, "{} timeouts", pair.client.timeouts);
}

#[test]
fn a_blackholed_carrier_is_noticed_on_both_sides() {
    let mut pair = Pair::new();
    let id = pair.open(Side::Server);
    pair.client.link.stalled = true;
    pair.server.link.stalled = true;
    pair.run(3 * BEAT, |pair| {
        let _ = pair.server.session.write(id, zeros(1_000));
    });
    for end in [&pair.client, &pair.server] {
        assert_eq!(end.violation, Some(Violation::PeerSilent));
        // Nothing could be written, so a Ping waited all the while.
        assert!(end.timeouts <= 3, "the timer does not spin: {} timeouts", end.timeouts);
    }
}

#[test]
fn a_peer_that_sends_but_never_answers_pings_is_alive() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    pair.client.link.stalled = true;
    for _ in 0..300 {
        pair.pass(Duration::from_secs(1));
        let now = pair.now;
        pair.server.feed(&data(id, 0, b"x"), now);
        pair.server.read_all(id).unwrap();
    }
    assert_eq!(pair.server.violation, None);
    assert!(pair.server.timeouts <= 70, "{} timeouts", pair.server.timeouts);
}

#[test]
fn bytes_that_only_lie_there_are_no_sign_of_life() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    pair.client.link.stalled = true;
    let now = pair.now;
    // The beginning of a Ping whose end never comes.
    pair.server.feed(&[11, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3], now);
    for _ in 0..15 {
        assert_eq!(pair.server.violation, None);
        pair.pass(Duration::from_secs(1));
        let now = pair.now;
        pair.server.feed(&[], now);
    }
    assert_eq!(pair.server.violation, Some(Violation::PeerSilent));
}

#[test]
fn a_partial_frame_that_grows_is_a_sign_of_life() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    pair.client.link.stalled = true;
    for byte in [11, 0, 0, 8, 0, 0, 0, 0, 1] {
        let now = pair.now;
        pair.server.feed(&[byte], now);
        pair.pass(2 * BEAT);
    }
    assert_eq!(pair.server.violation, None);
}

#[test]
fn a_busy_download_needs_few_pings() {
    let mut pair = Pair::with(Setup {
        one_way: Duration::from_millis(10),
        bytes_per_second: Some(1_000_000),
        ..Setup::default()
    });
    let id = pair.open(Side::Server);
    pair.run(Duration::from_secs(30), |pair| {
        pair.server.write_most(id, 1 << 20);
        pair.client.read_all(id).unwrap();
    });
    // At most one a second to tune the window, and the answers.
    for end in [&pair.client, &pair.server] {
        let pings = end.sent(FrameType::Ping);
        assert!((25..=50).contains(&pings), "{pings} Pings");
        assert_eq!(end.violation, None);
    }
}

#[test]
fn the_round_trip_is_measured() {
    let one_way = Duration::from_millis(20);
    let mut pair = Pair::with(Setup { one_way, ..Setup::default() });
    assert_eq!(pair.client.session.round_trip(), Some(one_way * 2));
    assert_eq!(pair.server.session.round_trip(), Some(one_way * 2));
    // It follows a path that changes, for people slowly.
    pair.client.link.one_way = Duration::from_millis(120);
    pair.pass(Duration::from_secs(20));
    // For tuning the least of the last quarter minute, at least, counts.
    assert_eq!(pair.client.session.liveness.least(), Some(one_way * 2));
    pair.pass(Duration::from_secs(600));
    let measured = pair.client.session.round_trip().unwrap();
    assert!(
        measured.abs_diff(Duration::from_millis(140)) < Duration::from_millis(2),
        "{measured:?}"
    );
    assert_eq!(pair.client.session.liveness.least(), Some(Duration::from_millis(140)));
}

#[test]
fn an_answer_that_matches_no_ping_is_ignored() {
    let mut pair = Pair::new();
    let before = pair.client.session.round_trip();
    let now = pair.now + Duration::from_secs(1);
    let ping = Frame::Ping(Ping { ack: true, opaque: [0xee; 8] });
    for _ in 0..100 {
        pair.client.feed(&ping.encode(), now);
    }
    assert_eq!(pair.client.violation, None);
    assert_eq!(pair.client.session.round_trip(), before);
    assert!(!pair.client.session.has_output());
}

#[test]
fn a_ping_is_answered_before_any_data() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Server);
    pair.server.write_most(id, 1 << 16);
    let now = pair.now;
    let ping = Frame::Ping(Ping { ack: false, opaque: *b"question" });
    pair.server.feed(&ping.encode(), now);
    let first = pair.server.take_output(now).remove(0);
    assert_eq!(first, Frame::Ping(Ping { ack: true, opaque: *b"question" }).encode());
}

#[test]
fn a_timeout_that_comes_early_does_nothing() {
    let mut pair = Pair::new();
    let next = pair.client.session.poll_timeout().unwrap();
    let now = pair.now + Duration::from_secs(1);
    assert_eq!(pair.client.session.handle_timeout(now), Ok(()));
    assert_eq!(pair.client.session.poll_timeout(), Some(next));
    assert!(!pair.client.session.has_output());
}

const PROBE: Duration = Duration::from_secs(2);

#[test]
fn a_peer_that_is_asked_for_a_sign_of_life_gives_one() {
    let mut pair = Pair::with(Setup { one_way: Duration::from_millis(200), ..Setup::default() });
    let pings = pair.client.sent(FrameType::Ping);
    let now = pair.now;
    pair.client.session.probe(now, PROBE);
    // Once is enough.
    pair.client.session.probe(now, PROBE);
    pair.pass(Duration::from_millis(399));
    assert!(pair.client.session.is_probed());
    pair.pass(Duration::from_millis(1));
    assert!(!pair.client.session.is_probed());
    assert_eq!(pair.client.sent(FrameType::Ping) - pings, 1);
    // What was answered has no deadline any more, though nothing else is said.
    pair.server.link.stalled = true;
    pair.pass(2 * PROBE);
    assert_eq!(pair.client.violation, None);
    assert_eq!(pair.client.session.state(), State::Established);
}

#[test]
fn a_peer_that_gives_no_sign_of_life_is_dead_long_before_its_heartbeats_are_missed() {
    // Whether or not our question can leave.
    for blocked in [false, true] {
        let mut pair = Pair::new();
        pair.server.link.stalled = true;
        pair.client.link.stalled = blocked;
        let now = pair.now;
        pair.client.session.probe(now, PROBE);
        pair.pass(PROBE - Duration::from_millis(1));
        assert_eq!(pair.client.violation, None);
        pair.pass(Duration::from_millis(1));
        assert_eq!(pair.client.violation, Some(Violation::PeerSilent));
        assert!(pair.client.timeouts <= 2, "{} timeouts", pair.client.timeouts);
    }
}

#[test]
fn what_lay_there_when_a_sign_of_life_was_asked_for_is_none() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    pair.server.link.stalled = true;
    let now = pair.now;
    pair.client.session.probe(now, PROBE);
    pair.client.feed(&data(id, 0, b"old"), now);
    pair.pass(PROBE);
    assert_eq!(pair.client.violation, Some(Violation::PeerSilent));
}

#[test]
fn a_busy_peer_whose_answer_is_held_up_is_alive() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let id = pair.open(Side::Client);
    pair.server.link.stalled = true;
    let now = pair.now;
    pair.client.session.probe(now, PROBE);
    pair.pass(PROBE / 2);
    let now = pair.now;
    pair.client.feed(&data(id, 0, b"new"), now);
    pair.pass(PROBE);
    assert_eq!(pair.client.violation, None);
}

#[test]
fn an_old_answer_is_no_sign_of_life() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    // A question of before, whose answer is on its way already.
    pair.pass(BEAT - Duration::from_millis(1));
    pair.server.link.stalled = true;
    pair.pass(Duration::from_millis(1));
    let asked = pair.client.session.liveness.in_flight();
    let now = pair.now;
    pair.client.session.probe(now, PROBE);
    let ping = Frame::Ping(Ping { ack: true, opaque: asked.unwrap() });
    pair.client.feed(&ping.encode(), now);
    pair.pass(PROBE);
    assert_eq!(pair.client.violation, Some(Violation::PeerSilent));
}
