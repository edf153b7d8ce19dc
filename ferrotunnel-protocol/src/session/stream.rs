//! One stream: two halves that end on their own.
//!
//! ```text
//!            finish()                FIN sent
//!   send:  Open ------> Finishing ---------> Finished
//!   recv:  Open ------> Finished             (FIN received)
//!   either half, by reset() here or Reset from the peer ------> Aborted
//!   either half, by reset_after_data() --> Parting -- Reset sent --> Aborted
//! ```
//!
//! On the wire a stream is closed when both halves are Finished, or when it is Aborted. Its entry
//! stays until the application has also let go of it.
//!
//! A direction that goes on over a direct carrier is finished here: `finish_moved()`, FIN with MOVED.
//!
//! While it is Parting, what was queued still leaves. Nothing is read any more and no credit is
//! returned, so what the peer may send meanwhile is bounded by what it had been granted.

use std::collections::VecDeque;

use bytes::Bytes;
use ferrotunnel_common::TunnelKind;

use super::event::StreamError;
use super::flow::{ReceiveWindow, SendCredit};
use super::scheduler::Turn;
use crate::codec::DataEnd;
use crate::frame::Reset;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) kind: TunnelKind,
    pub(super) opener: Opener,
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    /// Why the stream was aborted. Boxed: it is rare, and streams are many.
    pub(super) aborted: Option<Box<StreamError>>,
    /// The Reset that goes behind what is queued: the stream is Parting. Boxed for the same reason.
    pub(super) parting: Option<Box<Reset>>,
    /// The application holds a handle.
    pub(super) held: bool,
    /// Counted as open on the wire.
    pub(super) counted: bool,
    /// It may be agreed that its directions go on elsewhere.
    pub(super) movable: bool,
    /// That is agreed.
    pub(super) moving: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opener {
    Us,
    Peer,
}

#[derive(Debug)]
pub(super) struct SendHalf {
    pub(super) credit: SendCredit,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) queued: usize,
    pub(super) state: SendState,
    pub(super) turn: Turn,
    /// A writer found no room and waits for an event.
    pub(super) waiting: bool,
    /// Its end, once it has one.
    pub(super) end: DataEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendState {
    Open,
    Finishing,
    Finished,
}

#[derive(Debug)]
pub(super) struct RecvHalf {
    pub(super) window: ReceiveWindow,
    pub(super) queue: VecDeque<Bytes>,
    /// Bytes in `queue`; the rest of `window.held()` was read but not released.
    pub(super) queued: u32,
    pub(super) finished: bool,
    /// It goes on elsewhere.
    pub(super) moved: bool,
    /// A reader found nothing and waits for an event.
    pub(super) waiting: bool,
    /// Listed for a grant.
    pub(super) grant_listed: bool,
}

impl Stream {
    pub(super) fn new(kind: TunnelKind, opener: Opener, credit: u32, window: u32) -> Self {
        Self {
            kind,
            opener,
            send: SendHalf {
                credit: SendCredit::new(credit),
                queue: VecDeque::new(),
                queued: 0,
                state: SendState::Open,
                turn: Turn::default(),
                waiting: false,
                end: DataEnd::Fin,
            },
            recv: RecvHalf {
                window: ReceiveWindow::new(window),
                queue: VecDeque::new(),
                queued: 0,
                finished: false,
                moved: false,
                waiting: false,
                grant_listed: false,
            },
            aborted: None,
            parting: None,
            held: true,
            counted: true,
            movable: false,
            moving: false,
        }
    }

    pub(super) fn is_closed_on_wire(&self) -> bool {
        self.aborted.is_some() || (self.send.state == SendState::Finished && self.recv.finished)
    }

    /// Nobody reads or writes it any more, whatever still travels.
    pub(super) fn is_over(&self) -> bool {
        self.aborted.is_some() || self.parting.is_some()
    }

    pub(super) fn has_output(&self) -> bool {
        !self.send.queue.is_empty() || self.send.state == SendState::Finishing
    }
}

impl SendHalf {
    /// Drops what waits to be sent. Returns how many bytes that was.
    pub(super) fn discard(&mut self) -> usize {
        self.queue = VecDeque::new();
        std::mem::take(&mut self.queued)
    }
}

impl RecvHalf {
    /// Drops what waits to be read. Returns how many bytes that was.
    pub(super) fn discard(&mut self) -> usize {
        self.queue = VecDeque::new();
        std::mem::take(&mut self.queued) as usize
    }

    /// Queues bytes of a stream. Small pieces are joined: a peer that sends single bytes to a
    /// reader that does not take them would otherwise make us hold some seventy bytes for each.
    /// Any two neighbours in the queue are together longer than [`JOIN_BELOW`].
    ///
    /// A piece for a reader that is not waiting may lie here for long. It is a slice of a read
    /// buffer, all of which it would keep alive: below [`OWN_BELOW`] it gets memory of its own.
    pub(super) fn push_bytes(&mut self, mut bytes: Bytes) {
        self.queued += bytes.len() as u32;
        if !self.waiting && (JOIN_BELOW..OWN_BELOW).contains(&bytes.len()) {
            bytes = Bytes::copy_from_slice(&bytes);
        }
        if let Some(last) = self.queue.back_mut()
            && last.len() + bytes.len() <= JOIN_BELOW
        {
            match std::mem::take(last).try_into_mut() {
                Ok(mut joined) => {
                    joined.extend_from_slice(&bytes);
                    *last = joined.freeze();
                    return;
                }
                Err(shared) => *last = shared,
            }
        }
        self.queue.push_back(bytes);
    }

    /// Queues a datagram.
    pub(super) fn push_datagram(&mut self, payload: Bytes) {
        self.queued += payload.len() as u32;
        self.queue.push_back(payload);
    }
}

/// Bytes of neighbouring pieces that are joined. Pieces of this size are copied out of the read
/// buffer anyway, and only a reader that is behind has neighbours.
const JOIN_BELOW: usize = 2048;

/// Pieces below this size are copied for a reader that is behind. A piece can then keep at most
/// sixteen times its size alive (a read buffer has 256 KiB), and bulk, which comes in larger
/// pieces, is not copied.
const OWN_BELOW: usize = 16 << 10;
