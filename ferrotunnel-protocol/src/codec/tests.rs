use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::frame::Ping;
use crate::frame::tests::{any_frame, any_handshake_frame, hex, trusting};

fn drain(decoder: &mut Decoder, input: &mut BytesMut) -> Vec<Decoded> {
    std::iter::from_fn(|| decoder.decode(input).unwrap()).collect()
}

fn data(stream: u32, bytes: impl Into<Bytes>, fin: bool) -> Decoded {
    piece(stream, bytes, if fin { DataEnd::Fin } else { DataEnd::Open })
}

fn piece(stream: u32, bytes: impl Into<Bytes>, end: DataEnd) -> Decoded {
    Decoded::Data { stream: StreamId(stream), bytes: bytes.into(), end }
}

/// Pieces of one `Data` frame glued together again.
fn glued(items: Vec<Decoded>) -> Vec<Decoded> {
    let mut whole: Vec<Decoded> = Vec::new();
    for item in items {
        match (whole.last_mut(), item) {
            (
                Some(Decoded::Data { stream, bytes, end: end @ DataEnd::Open }),
                Decoded::Data { stream: next, bytes: more, end: last },
            ) if *stream == next => {
                *bytes = [&bytes[..], &more[..]].concat().into();
                *end = last;
            }
            (_, item) => whole.push(item),
        }
    }
    whole
}

#[test]
fn data_comes_in_pieces_and_fin_with_the_last() {
    let mut decoder = trusting();
    let mut input = BytesMut::from(&hex("07 01 0005 00000003  6161")[..]);
    assert_eq!(drain(&mut decoder, &mut input), [data(3, "aa", false)]);
    assert_eq!(decoder.wants(0), 3);
    assert_eq!(drain(&mut decoder, &mut input), []);
    input.extend_from_slice(b"bb");
    assert_eq!(drain(&mut decoder, &mut input), [data(3, "bb", false)]);
    input.extend_from_slice(b"c\x07");
    assert_eq!(drain(&mut decoder, &mut input), [data(3, "c", true)]);
    assert_eq!(&input[..], b"\x07");
}

#[test]
fn a_header_alone_gives_no_piece() {
    let mut decoder = trusting();
    let mut input = BytesMut::from(&hex("07 00 0005 00000003")[..]);
    assert_eq!(drain(&mut decoder, &mut input), []);
    assert!(input.is_empty());
    assert_eq!(decoder.wants(0), 5);
}

#[test]
fn an_empty_data_frame_is_one_empty_piece() {
    let mut input = BytesMut::from(&hex("07 00 0000 00000003  07 01 0000 00000003")[..]);
    let items = drain(&mut trusting(), &mut input);
    assert_eq!(items, [data(3, "", false), data(3, "", true)]);
}

#[test]
fn a_small_piece_does_not_pin_the_read_buffer() {
    let mut input = BytesMut::with_capacity(256 * 1024);
    input.extend_from_slice(&hex("07 00 0800 00000003"));
    input.extend_from_slice(&[7; COPY_BELOW]);
    let buffer = input.as_ptr() as usize..input.as_ptr() as usize + 256 * 1024;
    let Ok(Some(Decoded::Data { bytes, .. })) = trusting().decode(&mut input) else {
        panic!("no piece");
    };
    assert_eq!(bytes, [7; COPY_BELOW][..]);
    assert!(!buffer.contains(&(bytes.as_ptr() as usize)));
}

#[test]
fn a_large_piece_is_not_copied() {
    let mut input = BytesMut::from(&hex("07 00 0801 00000003")[..]);
    input.extend_from_slice(&[7; COPY_BELOW + 1]);
    let payload = input[HEADER_LEN..].as_ptr();
    let Ok(Some(Decoded::Data { bytes, .. })) = trusting().decode(&mut input) else {
        panic!("no piece");
    };
    assert_eq!(bytes.as_ptr(), payload);
}

#[test]
fn wants_counts_what_is_missing() {
    let mut decoder = trusting();
    assert_eq!(decoder.wants(0), 0);
    let mut input = BytesMut::from(&hex("0b 00 0008")[..]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.wants(input.len()), 4);
    input.extend_from_slice(&hex("00000000 010203"));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!(decoder.wants(input.len()), 5);
    input.extend_from_slice(&hex("0405060708"));
    let ping = Frame::Ping(Ping { ack: false, opaque: [1, 2, 3, 4, 5, 6, 7, 8] });
    assert_eq!(decoder.decode(&mut input), Ok(Some(Decoded::Frame(ping))));
    assert_eq!(decoder.wants(input.len()), 0);
}

#[test]
fn an_oversized_handshake_frame_is_refused_from_its_header() {
    for (header, result) in [
        ("02 00 0200 00000000", Ok(None)),
        ("02 00 0201 00000000", Err(FrameError::BeforeAuthentication)),
        ("02 00 ffff 00000000", Err(FrameError::BeforeAuthentication)),
    ] {
        let mut input = BytesMut::from(&hex(header)[..]);
        assert_eq!(Decoder::default().decode(&mut input), result, "{header}");
    }
}

#[test]
fn other_frames_before_authentication_are_refused_from_their_header() {
    for kind in [4, 5, 6, 7, 8, 9, 10, 11] {
        let (length, stream) = if kind == 11 { (8, 0) } else { (1, 1) };
        let header = [kind, 0, 0, length, 0, 0, 0, stream];
        let mut decoder = Decoder::default();
        let result = decoder.decode(&mut BytesMut::from(&header[..]));
        assert_eq!(result, Err(FrameError::BeforeAuthentication));
        assert!(trusting().decode(&mut BytesMut::from(&header[..])).is_ok());
    }
}

#[test]
fn zeros_are_refused_at_once() {
    let mut input = BytesMut::zeroed(10_000_000);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&mut input), Err(FrameError::UnknownType(0)));
    assert_eq!(decoder.wants(input.len()), 0);
}

#[test]
fn nothing_is_decoded_after_an_error() {
    let mut decoder = trusting();
    // Credit of 0, and a sound Ping behind it.
    let mut input = BytesMut::from(
        &hex("08 00 0004 00000001 00000000  0b 00 0008 00000000 0102030405060708")[..],
    );
    assert_eq!(decoder.decode(&mut input), Err(FrameError::BadValue));
    assert_eq!(decoder.decode(&mut input), Err(FrameError::BadValue));
}

#[test]
fn the_first_stream_frame_may_follow_the_handshake_in_one_read() {
    let mut decoder = Decoder::default();
    let mut input =
        BytesMut::from(&hex("0c 00 0007 00000000 00000000 0001 00  07 00 0001 00000001 61")[..]);
    assert!(matches!(decoder.decode(&mut input), Ok(Some(Decoded::Frame(Frame::GoAway(_))))));
    decoder.authenticated();
    assert_eq!(drain(&mut decoder, &mut input), [data(1, "a", false)]);
}

/// A frame, or the parts of a `Data` frame.
#[derive(Clone, Debug)]
enum Sent {
    Frame(Frame),
    Data(u32, Vec<u8>, DataEnd),
}

impl Sent {
    fn encode(&self) -> Bytes {
        match self {
            Self::Frame(frame) => frame.encode(),
            Self::Data(stream, bytes, end) => {
                let header = Header {
                    kind: FrameType::Data,
                    flags: end.flags(),
                    length: bytes.len() as u16,
                    stream: *stream,
                };
                [&header.encode(), &bytes[..]].concat().into()
            }
        }
    }

    fn decoded(self) -> Decoded {
        match self {
            Self::Frame(frame) => Decoded::Frame(frame),
            Self::Data(stream, bytes, end) => piece(stream, bytes, end),
        }
    }
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let end = prop_oneof![Just(DataEnd::Open), Just(DataEnd::Fin), Just(DataEnd::Moved)];
    let data = (1..=3_u32, vec(any::<u8>(), 0..6000), end);
    prop_oneof![
        any_frame().prop_map(Sent::Frame),
        data.prop_map(|(stream, bytes, end)| Sent::Data(stream, bytes, end)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn chops_change_nothing(
        sent in vec(any_sent(), 0..12),
        chops in vec(prop_oneof![1..20_usize, 1..5000_usize], 1..40),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(Sent::encode).collect();
        let expected = glued(sent.into_iter().map(Sent::decoded).collect());

        let mut input = BytesMut::from(&bytes[..]);
        prop_assert_eq!(&glued(drain(&mut trusting(), &mut input)), &expected);
        prop_assert!(input.is_empty());

        let mut decoder = trusting();
        let mut chops = chops.into_iter().cycle();
        let mut rest = &bytes[..];
        let mut items = Vec::new();
        while !rest.is_empty() {
            let (chop, later) = rest.split_at(chops.next().unwrap().min(rest.len()));
            rest = later;
            input.extend_from_slice(chop);
            items.extend(drain(&mut decoder, &mut input));
            // What stays behind is at most the frame in progress.
            prop_assert!(input.len() < HEADER_LEN || decoder.wants(input.len()) > 0);
        }
        prop_assert_eq!(decoder.wants(input.len()), 0);
        prop_assert_eq!(glued(items), expected);
    }

    #[test]
    fn wants_is_exact_for_whole_frames(frame in any_handshake_frame()) {
        let bytes = frame.encode();
        let mut decoder = Decoder::default();
        let mut input = BytesMut::from(&bytes[..1]);
        prop_assert_eq!(decoder.decode(&mut input), Ok(None));
        let mut rest = &bytes[1..];
        while decoder.wants(input.len()) > 0 {
            let (next, later) = rest.split_at(decoder.wants(input.len()));
            rest = later;
            input.extend_from_slice(next);
            if let Some(item) = decoder.decode(&mut input).unwrap() {
                prop_assert_eq!(item, Decoded::Frame(frame.clone()));
            }
        }
        prop_assert!(rest.is_empty());
    }
}
