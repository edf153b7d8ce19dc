//! Faults of the peer.

/// Why bytes are not a frame. Each one ends the session: after it the frame boundaries cannot be
/// trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The type byte is none of the thirteen.
    #[error("unknown frame type {0}")]
    UnknownType(u8),
    /// A flag bit that this frame type does not define is set.
    #[error("reserved flag bits {0:#04x} are set")]
    ReservedFlag(u8),
    /// The payload ends before its last fixed field.
    #[error("the payload is shorter than its fields")]
    Truncated,
    /// A length prefix is beyond the cap of its field.
    #[error("a field is longer than its cap")]
    FieldTooLong,
    /// A field holds a value outside its range.
    #[error("a field is out of range")]
    BadValue,
    /// Text is not UTF-8.
    #[error("a text field is not UTF-8")]
    BadText,
    /// A session frame on a stream, or a stream frame on stream 0.
    #[error("a frame is on the wrong stream")]
    WrongStream,
    /// A frame that is not allowed before authentication, or too long for it.
    #[error("a frame before authentication is not a handshake frame or is too long")]
    BeforeAuthentication,
}

/// A fault of the peer: what was broken. All of these end the session, because a peer that broke
/// one rule cannot be trusted with the rest; what concerns one stream only is no fault and is
/// answered with a `Reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Bytes that are no frame.
    #[error("malformed frame: {0}")]
    Frame(#[from] FrameError),
    /// A frame that the present state or the sender's side does not allow.
    #[error("unexpected {0} frame")]
    Unexpected(&'static str),
    /// No common protocol version.
    #[error("no common protocol version")]
    Version,
    /// A stream id of the wrong parity, or not above every earlier one.
    #[error("stream id out of order")]
    StreamId,
    /// A frame for a stream that was never opened.
    #[error("frame for a stream that was never opened")]
    IdleStream,
    /// More bytes than the granted window. Credit is per stream, yet a peer that ignores it once
    /// cannot be trusted with memory, so the session ends.
    #[error("flow control: more bytes than granted")]
    FlowControl,
    /// Credit that overflows the largest window.
    #[error("flow control: window overflow")]
    WindowOverflow,
    /// Data after FIN.
    #[error("data after the end of a stream")]
    DataAfterFin,
    /// A direction that goes on elsewhere, though nobody has agreed to that.
    #[error("a stream that may not move goes on elsewhere")]
    Moved,
    /// More streams than agreed.
    #[error("more streams than agreed")]
    TooManyStreams,
    /// Control frames that must be answered arrive faster than the answers leave.
    #[error("too many unanswered control frames")]
    Flood,
    /// The handshake did not finish before its deadline.
    #[error("handshake deadline passed")]
    HandshakeTimeout,
    /// Nothing was heard from the peer for the idle timeout.
    #[error("peer is silent")]
    PeerSilent,
}
