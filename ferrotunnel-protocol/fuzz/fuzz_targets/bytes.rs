//! Arbitrary bytes into the decoder, in arbitrary chops.
//!
//! No input may panic, chops may change nothing, little may stay buffered, and a frame that was
//! decoded encodes to bytes that decode to the same frame.

#![no_main]

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::frame::{FrameType, HEADER_LEN, Header, MAX_PAYLOAD};
use ferrotunnel_protocol::{Decoded, Decoder, Frame, FrameError};
use libfuzzer_sys::fuzz_target;

/// Bytes of the input that say how the rest of it is served.
const CHOPS: usize = 8;

/// Payload that a stranger may make the decoder wait for, see PROTOCOL.md.
const MAX_UNAUTHENTICATED: usize = 512;

fuzz_target!(|input: &[u8]| {
    let Some((trust, input)) = input.split_first() else { return };
    let Some((chops, stream)) = input.split_first_chunk::<CHOPS>() else { return };
    let trust = if trust % 2 == 0 { Trust::Stranger } else { Trust::Authenticated };

    let whole = decode(trust, [stream]);
    let chopped = decode(trust, pieces(stream, chops));
    assert_eq!(whole, chopped);

    for item in whole.items {
        assert_eq!(decode(trust, [&encode(&item)[..]]).items, [item]);
    }
});

#[derive(Clone, Copy)]
enum Trust {
    Stranger,
    Authenticated,
}

impl Trust {
    fn max_buffered(self) -> usize {
        match self {
            Self::Stranger => MAX_UNAUTHENTICATED,
            Self::Authenticated => MAX_PAYLOAD,
        }
    }
}

/// All that came out, with the pieces of one `Data` frame glued together again.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    items: Vec<Decoded>,
    error: Option<FrameError>,
}

impl Outcome {
    /// A frame of no payload is one piece; pieces of one frame meet where `wants` says that the
    /// earlier one left something to come.
    fn push(&mut self, item: Decoded, continues: bool) {
        match (self.items.last_mut(), item) {
            (
                Some(Decoded::Data { bytes, end, .. }),
                Decoded::Data { bytes: more, end: last, .. },
            ) if continues => {
                *bytes = Bytes::from([&bytes[..], &more[..]].concat());
                *end = last;
            }
            (_, item) => self.items.push(item),
        }
    }
}

fn decode<'a>(trust: Trust, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::default();
    if let Trust::Authenticated = trust {
        decoder.authenticated();
    }
    let mut outcome = Outcome::default();
    let mut input = BytesMut::new();
    let mut continues = false;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(item)) => {
                    outcome.push(item, continues);
                    continues = input.is_empty() && decoder.wants(0) > 0;
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut input), Err(error));
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
        assert!(input.len() < trust.max_buffered());
        assert!(input.len() < HEADER_LEN || decoder.wants(input.len()) > 0);
    }
    outcome
}

/// `stream` cut into lengths that repeat; 0 stands for the largest.
fn pieces<'a>(stream: &'a [u8], chops: &'a [u8; CHOPS]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    chops.iter().cycle().map_while(move |&chop| {
        let length = if chop == 0 { 4096 } else { usize::from(chop) };
        let (piece, later) = rest.split_at(length.min(rest.len()));
        rest = later;
        (!piece.is_empty()).then_some(piece)
    })
}

fn encode(item: &Decoded) -> Bytes {
    match item {
        Decoded::Frame(frame) => Frame::encode(frame),
        Decoded::Data { stream: StreamId(stream), bytes, end } => {
            let header = Header {
                kind: FrameType::Data,
                flags: end.flags(),
                length: bytes.len() as u16,
                stream: *stream,
            };
            Bytes::from([&header.encode(), &bytes[..]].concat())
        }
    }
}
