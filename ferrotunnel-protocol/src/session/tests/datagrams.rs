//! Flows: datagrams that come in order or not at all.

use bytes::Bytes;
use ferrotunnel_common::{StreamId, TunnelKind};

use super::pair::{Pair, Setup, zeros};
use crate::frame::{Frame, FrameType, MAX_PAYLOAD};
use crate::session::config::{
    DATAGRAM_QUEUE_BYTES, DATAGRAM_QUEUE_LEN, DATAGRAM_READ_BYTES, MIN_WINDOW,
    SESSION_DATAGRAM_READ_BYTES,
};
use crate::session::{Event, Read, Side, StreamError, WriteError};

fn flow() -> (Pair, StreamId) {
    let mut pair = Pair::new();
    let id = pair.open_kind(Side::Server, TunnelKind::Udp);
    (pair, id)
}

fn datagrams(pair: &mut Pair, side: Side, id: StreamId) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    pair.end(side).session.read(id, &mut chunks, usize::MAX).unwrap();
    chunks
}

#[test]
fn datagrams_keep_their_borders_and_order() {
    let (mut pair, id) = flow();
    for text in ["one", "", "three"] {
        assert_eq!(pair.server.session.send_datagram(id, text.into()), Ok(true));
    }
    pair.exchange();
    assert_eq!(datagrams(&mut pair, Side::Client, id), ["one", "", "three"]);
    assert_eq!(pair.client.session.send_datagram(id, "back".into()), Ok(true));
    pair.exchange();
    assert_eq!(datagrams(&mut pair, Side::Server, id), ["back"]);
}

#[test]
fn a_reader_of_a_flow_is_woken() {
    let (mut pair, id) = flow();
    assert!(datagrams(&mut pair, Side::Client, id).is_empty());
    pair.server.session.send_datagram(id, "".into()).unwrap();
    pair.exchange();
    assert!(matches!(pair.client.events.pop_front(), Some(Event::Readable(it)) if it == id));
    assert_eq!(datagrams(&mut pair, Side::Client, id).len(), 1);
}

#[test]
fn datagrams_are_dropped_when_the_carrier_is_behind() {
    let (mut pair, id) = flow();
    pair.server.link.stalled = true;
    let mut taken = 0;
    for _ in 0..1_000 {
        taken += usize::from(pair.server.session.send_datagram(id, zeros(1_200)).unwrap());
        pair.check();
    }
    assert_eq!(taken, DATAGRAM_QUEUE_BYTES / 1_200);
    assert_eq!(pair.server.session.stats().datagrams_dropped, 1_000 - taken as u64);
    pair.server.link.stalled = false;
    pair.exchange();
    assert_eq!(datagrams(&mut pair, Side::Client, id).len(), taken);
}

#[test]
fn datagrams_without_bytes_are_bounded_too() {
    let (mut pair, id) = flow();
    pair.server.link.stalled = true;
    for _ in 0..100_000 {
        pair.server.session.send_datagram(id, Bytes::new()).unwrap();
    }
    assert_eq!(pair.server.session.datagrams.len(), DATAGRAM_QUEUE_LEN);
    let now = pair.now;
    let empty = Frame::Datagram(id, Bytes::new()).encode();
    for _ in 0..100_000 {
        pair.client.feed(&empty, now);
    }
    assert_eq!(datagrams(&mut pair, Side::Client, id).len(), DATAGRAM_QUEUE_LEN);
    assert_eq!(pair.client.session.stats().datagrams_dropped, 100_000 - DATAGRAM_QUEUE_LEN as u64);
}

#[test]
fn datagrams_that_nobody_reads_are_dropped() {
    let (mut pair, id) = flow();
    for _ in 0..2_000 {
        pair.server.session.send_datagram(id, zeros(1_200)).unwrap();
        pair.exchange();
    }
    let unread = pair.client.session.unread_datagram_bytes;
    assert!(unread <= DATAGRAM_READ_BYTES as usize && unread > DATAGRAM_READ_BYTES as usize / 2);
    assert_eq!(datagrams(&mut pair, Side::Client, id).len() * 1_200, unread);
    assert_eq!(pair.client.session.unread_datagram_bytes, 0);
}

#[test]
fn many_flows_that_nobody_reads_stay_within_their_windows() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let flows: Vec<StreamId> =
        (0..200).map(|_| pair.open_kind(Side::Server, TunnelKind::Udp)).collect();
    let now = pair.now;
    for id in &flows {
        let frame = Frame::Datagram(*id, zeros(8 << 10)).encode();
        for _ in 0..64 {
            pair.client.feed(&frame, now);
        }
    }
    pair.check();
    let unread = pair.client.session.unread_datagram_bytes;
    let most = SESSION_DATAGRAM_READ_BYTES
        + DATAGRAM_READ_BYTES as usize
        + flows.len() * MIN_WINDOW as usize;
    assert!(unread <= most, "{unread} bytes");
    // Every flow has its own, whatever the others do.
    let last = flows[flows.len() - 1];
    assert_eq!(datagrams(&mut pair, Side::Client, last).len(), MIN_WINDOW as usize / (8 << 10));
    for id in flows {
        pair.client.session.forget(id);
        pair.server.session.forget(id);
    }
    pair.exchange();
    pair.assert_empty();
}

#[test]
fn a_datagram_beyond_the_format_is_dropped() {
    let (mut pair, id) = flow();
    assert_eq!(pair.server.session.send_datagram(id, zeros(MAX_PAYLOAD + 1)), Ok(false));
    assert_eq!(pair.server.session.send_datagram(id, zeros(MAX_PAYLOAD)), Ok(true));
    pair.exchange();
    assert_eq!(datagrams(&mut pair, Side::Client, id)[0].len(), MAX_PAYLOAD);
}

#[test]
fn a_flow_ends_in_both_directions_like_a_stream() {
    let (mut pair, id) = flow();
    pair.server.session.send_datagram(id, "last".into()).unwrap();
    pair.server.session.finish(id);
    pair.exchange();
    let mut chunks = Vec::new();
    assert_eq!(pair.client.session.read(id, &mut chunks, 9), Ok(Read::Chunks));
    assert_eq!(chunks, ["last"]);
    assert_eq!(pair.client.session.read(id, &mut chunks, 9), Ok(Read::Finished));
    assert_eq!(pair.server.session.send_datagram(id, "x".into()), Err(WriteError::Finished));
    // The other direction goes on.
    assert_eq!(pair.client.session.send_datagram(id, "still".into()), Ok(true));
    pair.exchange();
    assert_eq!(datagrams(&mut pair, Side::Server, id), ["still"]);
    pair.client.session.finish(id);
    pair.exchange();
    assert_eq!(pair.server.session.read(id, &mut chunks, 9), Ok(Read::Finished));
    pair.client.session.forget(id);
    pair.server.session.forget(id);
    pair.assert_empty();
}

#[test]
fn the_end_of_a_flow_may_overtake_datagrams_which_are_then_dropped() {
    let (mut pair, id) = flow();
    pair.server.link.stalled = true;
    pair.server.transmit_budget = 1 << 20;
    // More than a batch takes: it counts the headers too.
    for _ in 0..DATAGRAM_QUEUE_LEN {
        assert_eq!(pair.server.session.send_datagram(id, zeros(60)), Ok(true));
    }
    pair.server.session.finish(id);
    pair.server.link.stalled = false;
    pair.exchange();
    assert_eq!(datagrams(&mut pair, Side::Client, id).len(), MAX_PAYLOAD.div_ceil(68));
    assert!(!pair.server.session.has_output());
}

#[test]
fn a_datagram_after_the_end_is_dropped() {
    let (mut pair, id) = flow();
    pair.server.session.finish(id);
    pair.exchange();
    let now = pair.now;
    pair.client.feed(&Frame::Datagram(id, "late".into()).encode(), now);
    assert_eq!(pair.client.violation, None);
    assert_eq!(pair.client.session.read(id, &mut Vec::new(), 1), Ok(Read::Finished));
}

#[test]
fn datagrams_of_a_flow_that_is_gone_are_not_sent() {
    let (mut pair, id) = flow();
    pair.server.link.stalled = true;
    pair.server.session.send_datagram(id, zeros(100)).unwrap();
    pair.server.session.forget(id);
    pair.server.link.stalled = false;
    pair.exchange();
    assert_eq!(pair.server.sent(FrameType::Datagram), 0);
    assert_eq!(
        pair.client.read_all(id).unwrap_err().to_string(),
        "stream reset by peer: cancelled"
    );
    pair.client.session.forget(id);
    pair.assert_empty();
}

#[test]
fn a_flow_takes_no_bytes_and_a_stream_no_datagrams() {
    let (mut pair, id) = flow();
    assert_eq!(pair.server.session.write(id, zeros(1)), Err(WriteError::Flow));
    assert_eq!(pair.server.session.capacity(id), Err(WriteError::Flow));
    let stream = pair.open(Side::Server);
    assert_eq!(pair.server.session.send_datagram(stream, zeros(1)), Ok(false));
    pair.exchange();
    assert_eq!(pair.server.sent(FrameType::Datagram) + pair.server.sent(FrameType::Data), 0);
}

#[test]
fn datagrams_leave_a_share_to_data() {
    let mut pair = Pair::with(Setup { watched: false, ..Setup::default() });
    let flow = pair.open_kind(Side::Server, TunnelKind::Udp);
    let stream = pair.open(Side::Server);
    let now = pair.now;
    pair.server.write_most(stream, 10_000);
    while pair.server.session.send_datagram(flow, zeros(1_000)).unwrap() {}
    pair.server.transmit_budget = 128 << 10;
    let headers = pair.server.take_headers(now);
    assert_eq!(headers.iter().filter(|it| it.kind == FrameType::Data).count(), 1);
}

#[test]
fn unread_datagrams_are_lost_with_a_reset() {
    let (mut pair, id) = flow();
    pair.server.session.send_datagram(id, zeros(100)).unwrap();
    pair.exchange();
    pair.server.session.forget(id);
    pair.exchange();
    assert_eq!(pair.client.session.unread_datagram_bytes, 0);
    let read = pair.client.session.read(id, &mut Vec::new(), 1);
    assert!(matches!(read, Err(StreamError::Reset { .. })));
}
