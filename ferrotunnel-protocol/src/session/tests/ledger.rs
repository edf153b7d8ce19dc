//! What one end may send, by the frames that passed: kept apart from the session to check it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::StreamId;

use crate::codec::{Decoded, Decoder};
use crate::frame::{FIN, Frame, FrameType, HEADER_LEN, Header};
use crate::session::Side;

/// Watches all that one end sends, at the moment it is handed out, and all that it receives, at the
/// moment it is delivered.
#[derive(Debug)]
pub(super) struct Ledger {
    side: Side,
    lanes: BTreeMap<StreamId, Lane>,
    last_opened: u32,
    incoming: Decoder,
    unread: BytesMut,
    /// Headers of everything sent.
    pub(super) sent: Vec<Header>,
}

#[derive(Debug, Default)]
struct Lane {
    credit: u64,
    finished: bool,
    reset: bool,
}

impl Ledger {
    pub(super) fn new(side: Side) -> Self {
        let mut incoming = Decoder::default();
        incoming.authenticated();
        Self {
            side,
            lanes: BTreeMap::new(),
            last_opened: 0,
            incoming,
            unread: BytesMut::new(),
            sent: Vec::new(),
        }
    }

    /// Frames of this type that were sent.
    pub(super) fn count(&self, kind: FrameType) -> usize {
        self.sent.iter().filter(|header| header.kind == kind).count()
    }

    /// One batch of `poll_transmit`.
    pub(super) fn sent_batch(&mut self, frames: &[Bytes]) {
        let mut data_seen = false;
        for frame in frames {
            let header = Header::decode(frame.first_chunk().expect("a whole header")).unwrap();
            let payload = frame.slice(HEADER_LEN..);
            assert_eq!(
                usize::from(header.length),
                payload.len(),
                "one frame at a time: {header:?}"
            );
            let is_data = header.kind == FrameType::Data;
            let is_control = !is_data && header.kind != FrameType::Datagram;
            assert!(!(is_control && data_seen), "a control frame behind data: {header:?}");
            data_seen |= is_data;
            self.sent_one(header, payload);
            self.sent.push(header);
        }
    }

    fn sent_one(&mut self, header: Header, payload: Bytes) {
        let id = StreamId(header.stream);
        match header.kind {
            FrameType::Open => {
                let Ok(Frame::Open(_, open)) = Frame::load(header, payload) else {
                    panic!("a bad Open")
                };
                assert!(id.0 > self.last_opened, "ids ascend");
                assert_eq!(id.0 % 2 == 1, self.side == Side::Client, "parity");
                self.last_opened = id.0;
                let credit = open.send_window.into();
                self.lanes.insert(id, Lane { credit, ..Lane::default() });
            }
            FrameType::Data => {
                let lane = self.live_lane(id);
                let length = u64::from(header.length);
                assert!(length <= lane.credit, "stream {id}: {length} bytes, {} left", lane.credit);
                lane.credit -= length;
                lane.finished = header.flags & FIN != 0;
            }
            FrameType::Datagram => {
                self.live_lane(id);
            }
            FrameType::Reset => {
                // An Open that comes too late is answered without a lane of its own.
                let lane = self.lanes.entry(id).or_default();
                assert!(!lane.reset, "stream {id}: reset twice");
                lane.reset = true;
            }
            FrameType::WindowUpdate if header.stream != 0 => {
                let lane = self.lanes.get(&id).expect("credit for a known stream");
                assert!(!lane.reset, "stream {id}: credit after Reset");
            }
            _ => {}
        }
    }

    fn live_lane(&mut self, id: StreamId) -> &mut Lane {
        let lane = self.lanes.get_mut(&id).expect("bytes only on a known stream");
        assert!(!lane.finished && !lane.reset, "stream {id}: bytes after its end");
        lane
    }

    /// Credit from a test that plays the peer.
    pub(super) fn give_credit(&mut self, id: StreamId, bytes: u32) {
        self.lanes.entry(id).or_default().credit += u64::from(bytes);
    }

    pub(super) fn delivered(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(item) = self.incoming.decode(&mut self.unread).expect("a well-formed frame")
        {
            match item {
                Decoded::Frame(Frame::Open(id, open)) => {
                    let lane = Lane { credit: open.receive_window.into(), ..Lane::default() };
                    self.lanes.insert(id, lane);
                }
                Decoded::Frame(Frame::WindowUpdate(id, update)) if id != StreamId::SESSION => {
                    self.lanes.entry(id).or_default().credit += u64::from(update.credit);
                }
                _ => {}
            }
        }
    }
}
