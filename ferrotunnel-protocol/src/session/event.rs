//! What a session tells its driver, and the answers of its stream methods.

use bytes::Bytes;
use ferrotunnel_common::StreamId;

use crate::frame::{Challenge, GoAway, Hello, Open, Register, Registered, ResetCode, Welcome};

/// Something that the driver must act on or pass on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Client: compute the proof and call `hello`.
    Challenged(Challenge),
    /// Server: check the proof and call `accept` or `close`.
    HelloReceived(Box<Hello>),
    /// Client: check the server's proof and call `confirm` or `close`.
    Welcomed(Box<Welcome>),
    /// Server: a tunnel is asked for; answer with `registered`.
    Register(u32, Box<Register>),
    /// Server: a tunnel is taken away.
    Unregister(u32),
    /// Client: the answer to `register`, or the loss of a tunnel.
    Registered(u32, Box<Registered>),
    /// The peer opened a stream.
    Opened(StreamId, Box<Open>),
    /// A reader that found nothing may try again.
    Readable(StreamId),
    /// A writer that found no room may try again.
    Writable(StreamId),
    /// The peer takes no new streams, or ends the session.
    GoAway(Box<GoAway>),
}

/// What `read` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// At least one chunk was handed out.
    Chunks,
    /// Nothing yet; `Event::Readable` will tell.
    Pending,
    /// The peer finished its direction and everything was read.
    Finished,
    /// The same, but the direction goes on over the direct carrier that has asked for the stream.
    Moved,
}

/// Why a stream is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer aborted it.
    #[error("stream reset by peer: {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Reset {
        /// Why, for programs.
        code: ResetCode,
        /// Why, for people; may be empty.
        reason: String,
    },
    /// The peer is draining, and did not begin it: nobody has heard what was written.
    #[error("the peer is draining")]
    Unserved,
    /// This side aborted or released it.
    #[error("stream is closed")]
    Closed,
    /// The session ended underneath.
    #[error("the session has ended")]
    SessionClosed,
}

/// Why `write` refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The stream is of no more use.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// This side has already finished its direction.
    #[error("write after finish")]
    Finished,
    /// The stream is a flow of datagrams, which takes no bytes.
    #[error("bytes on a flow of datagrams")]
    Flow,
}

/// Why `open` refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The session ended, or is not established yet.
    #[error("the session has ended")]
    SessionClosed,
    /// One of both sides takes nothing new.
    #[error("the session is draining")]
    Draining,
    /// As many streams are open as agreed.
    #[error("too many open streams in this session")]
    LimitReached,
}

/// One piece of output: an optional frame header and the bytes after it, to be written in order.
#[derive(Debug)]
pub struct OutFrame {
    /// Header of a data frame; empty for control frames, whose header is part of `body`.
    head: [u8; crate::frame::HEADER_LEN],
    head_len: u8,
    /// Payload, never copied on its way here.
    body: Bytes,
}

impl OutFrame {
    pub(super) fn with_header(head: [u8; crate::frame::HEADER_LEN], body: Bytes) -> Self {
        Self { head, head_len: crate::frame::HEADER_LEN as u8, body }
    }

    pub(super) fn whole(body: Bytes) -> Self {
        Self { head: [0; crate::frame::HEADER_LEN], head_len: 0, body }
    }

    /// The header bytes; empty when the header is part of the body.
    pub fn head(&self) -> &[u8] {
        self.head.get(..usize::from(self.head_len)).unwrap_or_default()
    }

    /// The bytes after the header.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        usize::from(self.head_len) + self.body.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl StreamError {
    /// The stream error inside an I/O error of a stream, if that is what it is.
    pub fn from_io(error: &std::io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}
