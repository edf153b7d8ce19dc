//! The streaming decoder: bytes in whatever chops they arrive, frames out.
//!
//! It holds no bytes of its own. A `Data` payload passes through in pieces as it comes; every
//! other frame waits for the whole of its payload, at most [`MAX_PAYLOAD`](crate::frame::MAX_PAYLOAD)
//! bytes. What the frames mean, and whether they may come now, is the session's business.

use bytes::{Buf, Bytes, BytesMut};
use ferrotunnel_common::StreamId;

use crate::error::FrameError;
use crate::frame::{FIN, Frame, FrameType, HEADER_LEN, Header, MOVED};

/// Longest payload in bytes before authentication. The longest handshake frame of this version has
/// 262 (`GoAway`); the rest is room for later versions to add fields. It bounds what a stranger
/// makes us hold.
const MAX_UNAUTHENTICATED: u16 = 512;

/// Payloads of at most this many bytes are copied out. A slice would keep the whole read buffer,
/// up to 256 KiB, alive for as long as a slow reader leaves a few bytes lying; copying two KiB
/// costs less than the allocation that goes with it.
const COPY_BELOW: usize = 2048;

/// One item of the incoming byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame.
    Frame(Frame),
    /// The next piece of a `Data` frame.
    Data {
        /// Whose bytes these are.
        stream: StreamId,
        /// The piece; empty only for a frame without payload.
        bytes: Bytes,
        /// What follows in this direction of the stream; an end comes with the last piece of its frame.
        end: DataEnd,
    },
}

/// What comes behind a piece of `Data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEnd {
    /// More, perhaps.
    Open,
    /// Nothing: FIN.
    Fin,
    /// Nothing here: the direction goes on over a direct carrier (FIN and MOVED).
    Moved,
}

impl DataEnd {
    fn of(header: Header) -> Self {
        match (header.has(FIN), header.has(MOVED)) {
            (false, _) => Self::Open,
            (true, false) => Self::Fin,
            (true, true) => Self::Moved,
        }
    }

    /// The flags of a frame that ends so.
    pub fn flags(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Fin => FIN,
            Self::Moved => FIN | MOVED,
        }
    }
}

/// Turns bytes into frames. A new one expects a handshake.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    trust: Trust,
}

impl Decoder {
    /// The next item in `input`, or `None` when more bytes are needed. What is consumed is split
    /// off `input`; call again until `None`.
    ///
    /// # Errors
    ///
    /// The first [`FrameError`], as early as the bytes at hand tell it, and the same one ever
    /// after: no frame boundary can be trusted behind it.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, FrameError> {
        self.step(input).inspect_err(|&error| self.state = State::Failed(error))
    }

    /// From now on stream frames and full-size payloads are allowed.
    pub fn authenticated(&mut self) {
        self.trust = Trust::Authenticated;
    }

    /// How many bytes, beside the `buffered` ones that `decode` left, complete the item in
    /// progress; 0 if that is unknown or nothing is in progress. Pieces of `Data` come out earlier,
    /// yet a buffer of this size takes the rest of the payload at once.
    pub fn wants(&self, buffered: usize) -> usize {
        let whole = match self.state {
            State::Header if buffered > 0 => HEADER_LEN,
            State::Header | State::Failed(_) => 0,
            State::Payload(header) => header.length.into(),
            State::Data { left, .. } => left,
        };
        whole.saturating_sub(buffered)
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Option<Decoded>, FrameError> {
        if let State::Header = self.state {
            let Some(bytes) = input.first_chunk() else {
                return Ok(None);
            };
            self.state = self.begin(Header::decode(bytes)?)?;
            input.advance(HEADER_LEN);
        }
        match self.state {
            State::Header => Ok(None),
            State::Payload(header) => self.payload(header, input),
            State::Data { stream, left, end } => Ok(self.piece(stream, left, end, input)),
            State::Failed(error) => Err(error),
        }
    }

    /// What a header alone decides: nothing is waited for that would be refused anyway.
    fn begin(&self, header: Header) -> Result<State, FrameError> {
        self.trust.admits(header)?;
        header.check_stream()?;
        Ok(match header.kind {
            FrameType::Data => State::Data {
                stream: StreamId(header.stream),
                left: header.length.into(),
                end: DataEnd::of(header),
            },
            _ => State::Payload(header),
        })
    }

    fn payload(
        &mut self,
        header: Header,
        input: &mut BytesMut,
    ) -> Result<Option<Decoded>, FrameError> {
        let length = usize::from(header.length);
        if input.len() < length {
            return Ok(None);
        }
        self.state = State::Header;
        let payload = match header.kind {
            FrameType::Datagram => take(input, length),
            // Its fields are copied out at once; the slice does not outlive this call.
            _ => input.split_to(length).freeze(),
        };
        Frame::load(header, payload).map(|frame| Some(Decoded::Frame(frame)))
    }

    fn piece(
        &mut self,
        stream: StreamId,
        left: usize,
        end: DataEnd,
        input: &mut BytesMut,
    ) -> Option<Decoded> {
        if left > 0 && input.is_empty() {
            return None;
        }
        let bytes = take(input, left.min(input.len()));
        let left = left - bytes.len();
        self.state = match left {
            0 => State::Header,
            left => State::Data { stream, left, end },
        };
        let end = if left == 0 { end } else { DataEnd::Open };
        Some(Decoded::Data { stream, bytes, end })
    }
}

/// Where in the byte stream we are.
#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before a header.
    #[default]
    Header,
    /// Before the payload of a frame other than `Data`.
    Payload(Header),
    /// Within, or right before, the payload of a `Data` frame.
    Data { stream: StreamId, left: usize, end: DataEnd },
    /// The peer sent something that is no frame.
    Failed(FrameError),
}

/// How much the peer may send.
#[derive(Clone, Copy, Debug, Default)]
enum Trust {
    #[default]
    Stranger,
    Authenticated,
}

impl Trust {
    fn admits(self, header: Header) -> Result<(), FrameError> {
        let handshake = matches!(
            header.kind,
            FrameType::Challenge | FrameType::Hello | FrameType::Welcome | FrameType::GoAway
        );
        match self {
            Self::Authenticated => Ok(()),
            Self::Stranger if handshake && header.length <= MAX_UNAUTHENTICATED => Ok(()),
            Self::Stranger => Err(FrameError::BeforeAuthentication),
        }
    }
}

/// The next `length` bytes of `input`, which holds at least as many.
fn take(input: &mut BytesMut, length: usize) -> Bytes {
    if length > COPY_BELOW {
        return input.split_to(length).freeze();
    }
    let bytes = input.get(..length).map(Bytes::copy_from_slice).unwrap_or_default();
    input.advance(length);
    bytes
}

#[cfg(test)]
mod tests;
