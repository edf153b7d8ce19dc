//! Commands on streams: open, write, read, finish, reset, release.

use bytes::Bytes;
use ferrotunnel_common::{StreamId, TunnelKind};

use super::config::{
    DATAGRAM_QUEUE_BYTES, DATAGRAM_QUEUE_LEN, GRANTS_LISTED, MAX_CONTROL_BEFORE_OPEN, MIN_WINDOW,
    SEND_QUEUE_BYTES, SEND_QUEUE_FLOOR_BYTES, SESSION_QUEUE_BYTES, TIGHT_WINDOW,
};
use super::event::{Event, OpenError, Read, StreamError, WriteError};
use super::stream::{Opener, SendState, Stream};
use super::{OpenRequest, Session, State};
use crate::codec::DataEnd;
use crate::frame::{Frame, Open, Reset, ResetCode};

impl Session {
    /// Opens a stream. Data may be written at once.
    ///
    /// # Errors
    /// The session takes no new streams, has as many as agreed, or is so far behind with writing
    /// that their Opens would only pile up.
    pub fn open(&mut self, request: OpenRequest) -> Result<StreamId, OpenError> {
        match self.state {
            State::Established => {}
            State::Draining => return Err(OpenError::Draining),
            State::Greeting | State::Closed => return Err(OpenError::SessionClosed),
        }
        if self.open_ours >= self.config.max_streams
            || self.control.len() >= MAX_CONTROL_BEFORE_OPEN
        {
            return Err(OpenError::LimitReached);
        }
        let id = StreamId(self.next_stream);
        // After two thousand million streams a session must be replaced by a new one.
        self.next_stream = self.next_stream.checked_add(2).ok_or(OpenError::Draining)?;
        let receive_window = if self.config.budget.is_tight() { TIGHT_WINDOW } else { MIN_WINDOW };
        self.config.budget.reserve(receive_window);
        self.open_ours += 1;
        self.counters.streams_opened += 1;
        self.counters.opened_here += 1;
        let stream = Stream::new(request.kind, Opener::Us, self.peer_window, receive_window);
        self.streams.insert(id, Box::new(stream));
        self.push_control(&Frame::Open(
            id,
            Open {
                tunnel: request.tunnel,
                kind: request.kind,
                visitor: request.visitor,
                ingress: request.ingress,
                send_window: self.peer_window,
                receive_window,
                trace: request.trace,
            },
        ));
        Ok(id)
    }

    /// Bytes that `write` would take now: what the peer granted and the queue has room for. When
    /// it is 0, `Event::Writable` will tell.
    ///
    /// # Errors
    /// The stream is of no more use.
    pub fn capacity(&mut self, id: StreamId) -> Result<usize, WriteError> {
        let crowded = self.queued_bytes >= SESSION_QUEUE_BYTES;
        let stream = live(self.streams.get_mut(&id))?;
        if stream.kind == TunnelKind::Udp {
            return Err(WriteError::Flow);
        }
        if stream.send.state != SendState::Open {
            return Err(WriteError::Finished);
        }
        let room = stream.send.room(crowded);
        if room == 0 && !std::mem::replace(&mut stream.send.waiting, true) {
            self.counters.window_stalls += u64::from(stream.send.lacks_credit());
        }
        Ok(room)
    }

    /// Queues a chunk. It must fit into `capacity`: what does not fit is cut off and returned.
    ///
    /// # Errors
    /// The stream is of no more use; nothing was queued.
    pub fn write(&mut self, id: StreamId, mut chunk: Bytes) -> Result<Option<Bytes>, WriteError> {
        let room = self.capacity(id)?;
        let rest = (chunk.len() > room).then(|| chunk.split_off(room));
        if chunk.is_empty() {
            return Ok(rest);
        }
        let stream = live(self.streams.get_mut(&id))?;
        stream.send.queued += chunk.len();
        self.queued_bytes += chunk.len();
        stream.send.queue.push_back(chunk);
        self.scheduler.activate(id, &mut stream.send.turn);
        Ok(rest)
    }

    /// Sends one datagram on a flow, or drops it when the carrier is behind. Returns whether it
    /// was taken.
    ///
    /// # Errors
    /// The flow is of no more use.
    pub fn send_datagram(&mut self, id: StreamId, payload: Bytes) -> Result<bool, WriteError> {
        let stream = live(self.streams.get_mut(&id))?;
        if stream.send.state != SendState::Open {
            return Err(WriteError::Finished);
        }
        let fits = payload.len() <= crate::frame::MAX_PAYLOAD
            && self.datagrams.len() < DATAGRAM_QUEUE_LEN
            && self.datagram_bytes + payload.len() <= DATAGRAM_QUEUE_BYTES;
        if !fits || stream.kind != TunnelKind::Udp {
            self.counters.datagrams_dropped += 1;
            return Ok(false);
        }
        self.datagram_bytes += payload.len();
        self.datagrams.push_back((id, payload));
        Ok(true)
    }

    /// Hands out what has arrived, up to `max` chunks. The bytes go on counting against the
    /// stream's window until [`release`](Self::release). On a flow each chunk is one datagram.
    ///
    /// What arrived before a Reset of the peer, an end included, is handed out before the error.
    ///
    /// # Errors
    /// The stream was aborted. If that was done here, or the session ended, what had not been
    /// handed out is lost.
    pub fn read(
        &mut self,
        id: StreamId,
        chunks: &mut Vec<Bytes>,
        max: usize,
    ) -> Result<Read, StreamError> {
        let stream = readable(self.streams.get_mut(&id))?;
        if stream.recv.queue.is_empty() {
            if stream.recv.finished {
                return Ok(if stream.recv.moved { Read::Moved } else { Read::Finished });
            }
            stream.recv.waiting = true;
            return Ok(Read::Pending);
        }
        let count = max.min(stream.recv.queue.len());
        let before = stream.recv.queued;
        for chunk in stream.recv.queue.drain(..count) {
            stream.recv.queued -= chunk.len() as u32;
            chunks.push(chunk);
        }
        if stream.kind == TunnelKind::Udp {
            self.unread_datagram_bytes -= (before - stream.recv.queued) as usize;
        }
        Ok(Read::Chunks)
    }

    /// For an application that does not want to read yet: `Event::Readable` tells of the next that is heard of the
    /// stream, be it data, an end, or what breaks it.
    ///
    /// # Errors
    /// It is broken already.
    pub fn watch(&mut self, id: StreamId) -> Result<(), StreamError> {
        live(self.streams.get_mut(&id))?.recv.waiting = true;
        Ok(())
    }

    /// The application is done with that many bytes that it had read: they become credit. Of no
    /// effect on flows, which have none.
    pub fn release(&mut self, id: StreamId, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.kind == TunnelKind::Udp || stream.is_over() {
            return;
        }
        let due = stream.recv.window.release(bytes as u32);
        if due && !stream.recv.finished && !stream.recv.grant_listed {
            stream.recv.grant_listed = true;
            self.list_for_grant(id);
        }
    }

    /// A stream that ends leaves its id there until the carrier takes more, and streams may come and go for as long as it
    /// takes nothing: then those are looked for, which is less work than to list them was.
    pub(super) fn list_for_grant(&mut self, id: StreamId) {
        if self.grants.len() >= self.streams.len() * 2 + GRANTS_LISTED {
            let streams = &self.streams;
            self.grants.retain(|id| streams.contains_key(id));
        }
        self.grants.push_back(id);
    }

    /// Ends this side's direction after what is queued. Of no effect the second time.
    pub fn finish(&mut self, id: StreamId) {
        self.end(id, DataEnd::Fin);
    }

    /// The same, and tells the peer, who has [agreed](Self::agree_to_move) to it, that the direction goes on over the direct
    /// carrier that has asked for the stream. From now on the peer may do so too.
    pub fn finish_moved(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.moving = true;
        }
        self.end(id, DataEnd::Moved);
    }

    fn end(&mut self, id: StreamId, end: DataEnd) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.send.state == SendState::Open && !stream.is_over() {
            stream.send.state = SendState::Finishing;
            stream.send.end = end;
            self.scheduler.activate(id, &mut stream.send.turn);
        }
    }

    /// From now on it may be agreed that its directions go on elsewhere: whoever reads it knows what to do then.
    pub fn make_movable(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.movable = true;
        }
    }

    /// Agrees that it goes on elsewhere, if it is movable and neither direction has ended yet, as far as is known here. From
    /// then on the peer may move its direction. Returns whether it is agreed.
    pub fn agree_to_move(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let is_open = stream.send.state == SendState::Open && !stream.recv.finished;
        let agrees = stream.movable && is_open && !stream.is_over() && stream.held;
        stream.moving |= agrees;
        agrees
    }

    /// Aborts both directions at once and tells the peer. What is queued is dropped. Of no effect
    /// on a stream that has ended.
    pub fn reset(&mut self, id: StreamId, code: ResetCode, reason: &str) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.is_closed_on_wire() {
            return;
        }
        self.send_reset(id, Reset { code, reason: reason.to_owned() });
        self.abort_stream(id, StreamError::Closed);
    }

    /// Aborts both directions behind what is queued: it leaves as it would have otherwise, then
    /// the peer is told. For the application the stream is over at once. Of no effect on a stream
    /// that has ended.
    ///
    /// All that is queued is within the credit, so nothing is waited for but the carrier.
    pub fn reset_after_data(&mut self, id: StreamId, code: ResetCode, reason: &str) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_closed_on_wire() || stream.parting.is_some() {
            return;
        }
        if !stream.has_output() {
            return self.reset(id, code, reason);
        }
        stream.parting = Some(Box::new(Reset { code, reason: reason.to_owned() }));
        self.discard_unread(id);
        self.wake_both(id);
    }

    /// The application lets go of a stream: if it has not ended well it is reset, behind whatever
    /// [`finish`](Self::finish) has made whole. Its entry is freed once that, or what
    /// [`reset_after_data`](Self::reset_after_data) left to be sent, has left.
    pub fn forget(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.held = false;
        (stream.recv.waiting, stream.send.waiting) = (false, false);
        let unread = !stream.recv.queue.is_empty() || !stream.recv.finished;
        match stream.send.state {
            _ if stream.is_over() => {}
            SendState::Open => self.reset(id, ResetCode::Cancelled, ""),
            _ if unread => self.reset_after_data(id, ResetCode::Cancelled, ""),
            _ => {}
        }
        self.free_if_done(id);
    }

    /// Both halves may have ended: the stream then no longer counts as open.
    pub(super) fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_closed_on_wire() && std::mem::take(&mut stream.counted) {
            match stream.opener {
                Opener::Us => self.open_ours -= 1,
                Opener::Peer => self.open_theirs -= 1,
            }
            self.close_if_drained();
        }
        self.free_if_done(id);
    }

    pub(super) fn abort_stream(&mut self, id: StreamId, error: StreamError) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        // A stream that ended well keeps what its reader has not taken yet.
        if stream.is_closed_on_wire() {
            return;
        }
        self.queued_bytes -= stream.send.discard();
        // Who aborted a stream here is not told that the peer did the same meanwhile.
        let error = if stream.parting.take().is_some() { StreamError::Closed } else { error };
        // What came before a Reset of the peer is still the reader's, and its window has counted
        // it. Datagrams no window has counted.
        let keeps_unread =
            matches!(error, StreamError::Reset { .. }) && stream.kind != TunnelKind::Udp;
        stream.aborted = Some(Box::new(error));
        if !keeps_unread {
            self.discard_unread(id);
        }
        self.wake_both(id);
        self.settle(id);
    }

    /// Queues the Reset of a parting stream whose last byte has been handed out.
    pub(super) fn part(&mut self, id: StreamId, reset: Reset) {
        if self.streams.get(&id).is_some_and(|stream| !stream.is_closed_on_wire()) {
            self.send_reset(id, reset);
            self.abort_stream(id, StreamError::Closed);
        }
    }

    pub(super) fn send_reset(&mut self, id: StreamId, reset: Reset) {
        self.counters.resets.count_sent(reset.code);
        self.push_control(&Frame::Reset(id, reset));
    }

    fn discard_unread(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let bytes = stream.recv.discard();
        if stream.kind == TunnelKind::Udp {
            self.unread_datagram_bytes -= bytes;
        }
    }

    fn wake_both(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if std::mem::take(&mut stream.recv.waiting) {
            self.events.push_back(Event::Readable(id));
        }
        if std::mem::take(&mut stream.send.waiting) {
            self.events.push_back(Event::Writable(id));
        }
    }

    fn free_if_done(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.held || !stream.is_closed_on_wire() {
            return;
        }
        let window = stream.recv.window.bytes();
        self.discard_unread(id);
        self.config.budget.release(window);
        self.grown_bytes -= u64::from(window.saturating_sub(MIN_WINDOW));
        self.streams.remove(&id);
    }

    /// Wakes a waiting writer once it has room worth a write. A writer waits for its own queue,
    /// which moves when its own data is sent, or for credit: so to ask then is enough, whatever
    /// made the room small.
    pub(super) fn wake_writer(&mut self, id: StreamId) {
        let crowded = self.queued_bytes >= SESSION_QUEUE_BYTES;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.send.waiting && stream.send.room(crowded) > 0 {
            stream.send.waiting = false;
            self.events.push_back(Event::Writable(id));
        }
    }
}

impl super::stream::SendHalf {
    /// Bytes that may be queued. A queue that is more than half full counts as full, so that a
    /// writer is woken for a large write rather than for many small ones.
    fn room(&self, crowded: bool) -> usize {
        let limit = if crowded { SEND_QUEUE_FLOOR_BYTES } else { SEND_QUEUE_BYTES };
        let queue_room = if self.queued * 2 > limit { 0 } else { limit - self.queued };
        queue_room.min(self.credit_room())
    }

    fn credit_room(&self) -> usize {
        self.credit.bytes().saturating_sub(self.queued)
    }

    /// Whether all that the peer has granted is used up.
    fn lacks_credit(&self) -> bool {
        self.credit_room() == 0
    }
}

/// The stream, unless it is gone or over.
fn live(stream: Option<&mut Box<Stream>>) -> Result<&mut Stream, StreamError> {
    let stream = stream.ok_or(StreamError::Closed)?;
    match &stream.aborted {
        Some(error) => Err((**error).clone()),
        None if stream.parting.is_some() => Err(StreamError::Closed),
        None => Ok(stream),
    }
}

/// The stream, if there is something to read or may yet be.
fn readable(stream: Option<&mut Box<Stream>>) -> Result<&mut Stream, StreamError> {
    let stream = stream.ok_or(StreamError::Closed)?;
    match stream.aborted.as_deref() {
        // Nothing of it is left when the stream was aborted in another way.
        Some(StreamError::Reset { .. })
            if stream.recv.finished || !stream.recv.queue.is_empty() =>
        {
            Ok(stream)
        }
        _ => live(Some(stream)),
    }
}
