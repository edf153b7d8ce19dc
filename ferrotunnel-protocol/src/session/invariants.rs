//! The laws of a session, checked in tests and fuzzing.

use ferrotunnel_common::StreamId;
use hashbrown::HashSet;

use super::config::MIN_WINDOW;
use super::event::StreamError;
use super::stream::Opener;
use super::{Session, State};

impl Session {
    /// Checks every law over all streams. Linear in their number: for tests and fuzzing.
    ///
    /// # Panics
    /// When a law is broken, which is always a bug of this crate.
    pub fn check_invariants(&self) {
        let (mut queued, mut grown, mut ours, mut theirs) = (0, 0, 0, 0);
        let mut unread_datagrams = 0;
        let in_line = once_each(self.scheduler.iter(), "scheduler");
        let due = once_each(self.grants.iter().copied(), "grants");
        for (id, stream) in &self.streams {
            stream.recv.window.check();
            let in_queue: usize = stream.send.queue.iter().map(bytes::Bytes::len).sum();
            assert_eq!(in_queue, stream.send.queued, "stream {id}: send queue count");
            assert!(
                stream.send.queued <= stream.send.credit.bytes(),
                "stream {id}: queued beyond its credit"
            );
            let unread: usize = stream.recv.queue.iter().map(bytes::Bytes::len).sum();
            assert_eq!(unread as u32, stream.recv.queued, "stream {id}: receive queue count");
            if stream.kind != ferrotunnel_common::TunnelKind::Udp {
                assert!(stream.recv.queued <= stream.recv.window.held(), "stream {id}: held");
            }
            if stream.kind == ferrotunnel_common::TunnelKind::Udp {
                unread_datagrams += unread;
            }
            queued += stream.send.queued;
            grown += u64::from(stream.recv.window.bytes().saturating_sub(MIN_WINDOW));
            assert_eq!(stream.counted, !stream.is_closed_on_wire(), "stream {id}: counted");
            assert!(stream.counted || stream.held, "stream {id}: kept for nobody");
            if let Some(error) = &stream.aborted {
                assert!(stream.send.queue.is_empty(), "stream {id}: sends after its end");
                let by_peer = matches!(**error, StreamError::Reset { .. });
                assert!(by_peer || unread == 0, "stream {id}: keeps what nobody may read");
            }
            if stream.parting.is_some() {
                assert_eq!(unread, 0, "stream {id}: keeps what nobody may read");
                let waits = stream.has_output() && stream.aborted.is_none();
                assert!(waits || stream.is_closed_on_wire(), "stream {id}: its Reset is lost");
            }
            match (stream.counted, stream.opener) {
                (true, Opener::Us) => ours += 1,
                (true, Opener::Peer) => theirs += 1,
                (false, _) => {}
            }
            if self.state == State::Closed {
                continue;
            }
            let listed = stream.send.turn.is_listed();
            assert_eq!(listed, in_line.contains(id), "stream {id}: listed");
            assert!(
                listed || stream.aborted.is_some() || !stream.has_output(),
                "stream {id}: has output, is in no list"
            );
            assert_eq!(stream.recv.grant_listed, due.contains(id), "stream {id}: grant listed");
        }
        assert_eq!(queued, self.queued_bytes, "queued bytes of the session");
        assert_eq!(grown, self.grown_bytes, "grown windows of the session");
        assert_eq!((ours, theirs), (self.open_ours, self.open_theirs), "open streams");
        assert!(ours <= self.config.max_streams && theirs <= self.config.max_streams, "too many");
        assert!(grown <= self.config.growth_memory_bytes, "grown beyond the session's memory");
        let their_entries = self.streams.len() - ours as usize;
        let our_entries =
            self.streams.values().filter(|stream| stream.opener == Opener::Us).count();
        assert!(their_entries <= self.entry_limit + our_entries, "stream entries without bound");
        assert_eq!(unread_datagrams, self.unread_datagram_bytes, "unread datagrams");
        let datagrams: usize = self.datagrams.iter().map(|(_, payload)| payload.len()).sum();
        assert_eq!(datagrams, self.datagram_bytes, "queued datagrams");
        if self.state == State::Closed {
            assert_eq!(self.queued_bytes, 0, "a closed session queues nothing");
        }
    }

    /// Whether nothing at all is left in any store.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
            && self.scheduler.is_empty()
            && self.grants.is_empty()
            && self.datagrams.is_empty()
            && self.queued_bytes == 0
            && self.unread_datagram_bytes == 0
            && self.grown_bytes == 0
            && self.open_ours == 0
            && self.open_theirs == 0
    }
}

fn once_each(ids: impl Iterator<Item = StreamId>, list: &str) -> HashSet<StreamId> {
    let mut seen = HashSet::new();
    for id in ids {
        assert!(seen.insert(id), "{list}: stream {id} stands in line twice");
    }
    seen
}
