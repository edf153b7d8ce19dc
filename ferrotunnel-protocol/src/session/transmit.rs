//! What to write next.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use ferrotunnel_common::StreamId;

use super::Session;
use super::config::{MIN_WINDOW, TIGHT_WINDOW};
use super::event::OutFrame;
use super::scheduler::{self, QUANTUM};
use super::stream::SendState;
use crate::frame::{Frame, FrameType, Header, MAX_PAYLOAD, Ping, WindowUpdate};

impl Session {
    /// Appends what should be written now: all control frames, then datagrams for at most a
    /// quantum, then data in scheduling order until `budget` bytes are reached. Returns the bytes
    /// appended; 0 when there is nothing to write.
    ///
    /// The caller keeps the output in order and asks again once it has been written: what was
    /// handed out no longer yields to more urgent frames.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut VecDeque<OutFrame>,
        budget: usize,
    ) -> usize {
        let mut bytes = 0;
        if self.is_open() {
            self.queue_pings(now);
            self.queue_initial_window();
            self.queue_grants(now);
        }
        while let Some(frame) = self.control.pop_front() {
            bytes += frame.len();
            out.push_back(OutFrame::whole(frame));
        }
        if self.is_open() {
            bytes += self.transmit_datagrams(out);
            bytes += self.transmit_data(out, budget.saturating_sub(bytes));
        }
        if bytes > 0 {
            self.liveness.sent(now);
        }
        bytes
    }

    /// Whether `poll_transmit` has something to give.
    pub fn has_output(&self) -> bool {
        !self.control.is_empty()
            || (self.is_open()
                && (!self.scheduler.is_empty()
                    || !self.grants.is_empty()
                    || !self.pings_owed.is_empty()
                    || !self.datagrams.is_empty()
                    || self.liveness.wants_ping()
                    || self.wanted_window() != self.announced_window))
    }

    fn queue_pings(&mut self, now: Instant) {
        while let Some(opaque) = self.pings_owed.pop_front() {
            self.push_control(&Frame::Ping(Ping { ack: true, opaque }));
        }
        if let Some(opaque) = self.liveness.take_ping(now) {
            self.push_control(&Frame::Ping(Ping { ack: false, opaque }));
        }
    }

    fn wanted_window(&self) -> u32 {
        if self.config.budget.is_tight() { TIGHT_WINDOW } else { MIN_WINDOW }
    }

    /// Tells the peer when memory became tight, or is no longer.
    fn queue_initial_window(&mut self) {
        let credit = self.wanted_window();
        if credit != self.announced_window {
            self.announced_window = credit;
            self.push_control(&Frame::WindowUpdate(StreamId::SESSION, WindowUpdate { credit }));
        }
    }

    fn queue_grants(&mut self, now: Instant) {
        while let Some(id) = self.grants.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.recv.grant_listed = false;
            if stream.recv.finished || stream.is_over() {
                continue;
            }
            let before = stream.recv.window.bytes();
            let (budget, grown) = (&self.config.budget, self.grown_bytes);
            let allowed = self.config.growth_memory_bytes;
            let (round_trip, widest) = (self.liveness.least(), &mut self.widest);
            let grant = stream.recv.window.take_grant(now, round_trip, widest, |from, to| {
                // At most half of what is left, so that the first to grow leave some to the last.
                let left = allowed.saturating_sub(grown);
                beyond_minimum(from, to) <= left / 2 && budget.try_reserve(to - from)
            });
            self.grown_bytes += beyond_minimum(before, stream.recv.window.bytes());
            if let Some(grant) = grant {
                let update = WindowUpdate { credit: grant.credit };
                self.push_control(&Frame::WindowUpdate(id, update));
                self.liveness.want_sample(now);
            }
        }
    }

    fn transmit_datagrams(&mut self, out: &mut VecDeque<OutFrame>) -> usize {
        let mut bytes = 0;
        while bytes < QUANTUM as usize
            && let Some((id, payload)) = self.datagrams.pop_front()
        {
            self.datagram_bytes -= payload.len();
            let sendable = self.streams.get(&id).is_some_and(|stream| {
                stream.aborted.is_none() && stream.send.state != SendState::Finished
            });
            if sendable {
                self.counters.bytes_out += payload.len() as u64;
                bytes += push_frame(out, FrameType::Datagram, 0, id, payload);
            }
        }
        bytes
    }

    fn transmit_data(&mut self, out: &mut VecDeque<OutFrame>, budget: usize) -> usize {
        let mut bytes = 0;
        while bytes < budget
            && let Some(head) = self.scheduler.head()
        {
            let id = head.stream;
            let Some(stream) = self.streams.get_mut(&id) else {
                self.scheduler.remove_head(head);
                continue;
            };
            if !stream.has_output() || stream.aborted.is_some() {
                self.scheduler.emptied(head, &mut stream.send.turn);
                continue;
            }
            if !self.scheduler.may_send(head, &mut stream.send.turn) {
                continue;
            }
            // Within the credit, as all that is queued is.
            let payload = take_payload(&mut stream.send.queue, MAX_PAYLOAD);
            stream.send.credit.spend(payload.len());
            stream.send.queued -= payload.len();
            self.queued_bytes -= payload.len();
            self.counters.bytes_out += payload.len() as u64;
            scheduler::Scheduler::sent(&mut stream.send.turn, payload.len());
            let last = stream.send.queue.is_empty();
            let fin = last && stream.send.state == SendState::Finishing;
            if fin {
                stream.send.state = SendState::Finished;
            }
            let reset = if last { stream.parting.clone() } else { None };
            let flags = if fin { stream.send.end.flags() } else { 0 };
            bytes += push_frame(out, FrameType::Data, flags, id, payload);
            self.wake_writer(id);
            if fin {
                self.settle(id);
            }
            if let Some(reset) = reset {
                self.part(id, *reset);
            }
        }
        bytes
    }
}

/// How much of the growth from one window to another is beyond what every stream has a right to.
fn beyond_minimum(from: u32, to: u32) -> u64 {
    u64::from(to.max(MIN_WINDOW) - from.max(MIN_WINDOW))
}

fn take_payload(queue: &mut VecDeque<Bytes>, limit: usize) -> Bytes {
    match queue.front_mut() {
        None => Bytes::new(),
        Some(chunk) if chunk.len() > limit => chunk.split_to(limit),
        Some(_) => queue.pop_front().unwrap_or_default(),
    }
}

fn push_frame(
    out: &mut VecDeque<OutFrame>,
    kind: FrameType,
    flags: u8,
    stream: StreamId,
    payload: Bytes,
) -> usize {
    let length = payload.len() as u16;
    let frame =
        OutFrame::with_header(Header { kind, flags, length, stream: stream.0 }.encode(), payload);
    let bytes = frame.len();
    out.push_back(frame);
    bytes
}
