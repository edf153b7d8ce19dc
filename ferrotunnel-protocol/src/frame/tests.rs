//! Golden bytes, round trips and damaged encodings.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use ferrotunnel_common::{ClientId, SessionId, StreamId, TraceContext, TunnelKind};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::{DataEnd, Decoded, Decoder};

/// Bytes from hex digits; whatever is no hex digit is for the reader's eye.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A decoder past the handshake.
pub(crate) fn trusting() -> Decoder {
    let mut decoder = Decoder::default();
    decoder.authenticated();
    decoder
}

/// The one frame that `bytes` are.
fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
    let mut input = BytesMut::from(bytes);
    match trusting().decode(&mut input)? {
        Some(Decoded::Frame(frame)) => {
            assert!(input.is_empty());
            Ok(frame)
        }
        other => panic!("not one whole frame: {other:?}"),
    }
}

/// A frame of `kind` with this payload.
fn raw(kind: FrameType, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, flags, length: payload.len() as u16, stream };
    [&header.encode(), payload].concat()
}

#[track_caller]
fn golden(frame: Frame, text: &str) {
    let bytes = hex(text);
    assert_eq!(frame.encode(), bytes, "encoding {frame:?}");
    assert_eq!(decode(&bytes), Ok(frame));
}

const N: &str = "11111111 11111111 11111111 11111111 11111111 11111111 11111111 11111111";
const P: &str = "22222222 22222222 22222222 22222222 22222222 22222222 22222222 22222222";

#[test]
fn golden_challenge() {
    let frame = Challenge { min_version: 1, max_version: 3, nonce: [0x11; 32] };
    golden(Frame::Challenge(frame), &format!("01 00 0022 00000000  01 03 {N}"));
}

#[test]
fn golden_hello() {
    let frame = Hello {
        version: 1,
        client_id: ClientId([0x33; 16]),
        token_id: "ci".into(),
        nonce: [0x11; 32],
        proof: [0x22; 64],
        software: "ft/1".into(),
        initial_window: 65_536,
        direct_for: None,
    };
    golden(
        Frame::Hello(frame.clone()),
        &format!(
            "02 00 0085 00000000  01 33333333 33333333 33333333 33333333 \
             02 63 69 {N} {P} {P} 04 66 74 2f 31 00010000 00000000 00000000"
        ),
    );
    golden(
        Frame::Hello(Hello { direct_for: Some(SessionId(0x0123_4567_89ab_cdef)), ..frame }),
        &format!(
            "02 00 0085 00000000  01 33333333 33333333 33333333 33333333 \
             02 63 69 {N} {P} {P} 04 66 74 2f 31 00010000 01234567 89abcdef"
        ),
    );
}

#[test]
fn golden_welcome() {
    let frame = Welcome {
        session_id: SessionId(0x0123_4567_89ab_cdef),
        proof: [0x22; 32],
        heartbeat_ms: 5_000,
        max_streams: 1_000,
        max_tunnels: 16,
        initial_window: 262_144,
        software: "ft/1".into(),
    };
    let terms = format!("01234567 89abcdef {P} 00001388 000003e8 00000010 00040000");
    let frame =
        |software: &str| Frame::Welcome(Welcome { software: software.into(), ..frame.clone() });
    golden(frame("ft/1"), &format!("03 00 003d 00000000  {terms} 04 66 74 2f 31"));
    // As it was before servers told what they are.
    golden(frame(""), &format!("03 00 0038 00000000  {terms}"));
    let said_empty = hex(&format!("03 00 0039 00000000  {terms} 00"));
    assert_eq!(decode(&said_empty), Ok(frame("")));
    // A client of then reads its fields and ignores the rest.
    let now = frame("ft/1").encode();
    assert_eq!(now[HEADER_LEN..][..0x38], hex(&terms));
    let cut_off = hex(&format!("03 00 003b 00000000  {terms} 04 66 74"));
    assert_eq!(decode(&cut_off), Err(FrameError::Truncated));
}

#[test]
fn golden_register() {
    let frame = Register {
        kind: TunnelKind::Http,
        name: "app".into(),
        hosts: vec!["a.b".into(), "*.c".into()],
        port: 0,
        options: vec![("k".into(), "vw".into())],
    };
    golden(
        Frame::Register(7, frame),
        "04 00 0017 00000007  01 03 617070 02 03 612e62 03 2a2e63 0000 01 01 6b 0002 7677",
    );
}

#[test]
fn golden_unregister() {
    golden(Frame::Unregister(7), "04 01 0000 00000007");
}

#[test]
fn golden_registered() {
    golden(
        Frame::Registered(7, Registered::Ok { address: ":22".into() }),
        "05 00 0006 00000007  00 0003 3a3232",
    );
    let refusal = Refusal { code: RefusalCode::NameTaken, reason: "no".into() };
    golden(Frame::Registered(7, Registered::Refused(refusal)), "05 00 0005 00000007  01 0002 6e6f");
}

#[test]
fn golden_open() {
    let frame = Open {
        tunnel: 7,
        kind: TunnelKind::Tcp,
        visitor: Some("192.0.2.1:50000".parse().unwrap()),
        ingress: Some("[2001:db8::1]:443".parse().unwrap()),
        send_window: 65_536,
        receive_window: 16_777_216,
        trace: None,
    };
    golden(
        Frame::Open(StreamId(2), frame),
        "06 00 0027 00000002  00000007 02 04 c0000201 c350 \
         06 20010db8 00000000 00000000 00000001 01bb 00010000 01000000",
    );
    let frame = Open {
        tunnel: 0,
        kind: TunnelKind::Udp,
        visitor: None,
        ingress: None,
        send_window: 0,
        receive_window: 0,
        trace: None,
    };
    golden(
        Frame::Open(StreamId(1), frame.clone()),
        "06 00 000f 00000001  00000000 03 00 00 00000000 00000000",
    );
    golden(
        Frame::Open(
            StreamId(1),
            Open { trace: TraceContext::new([0xab; 16], [0xcd; 8], 1), ..frame },
        ),
        "06 00 0028 00000001  00000000 03 00 00 00000000 00000000 \
         abababab abababab abababab abababab cdcdcdcd cdcdcdcd 01",
    );
}

#[test]
fn golden_data() {
    let header = Header { kind: FrameType::Data, flags: FIN, length: 3, stream: 9 };
    let bytes = hex("07 01 0003 00000009  616263");
    assert_eq!(header.encode(), bytes[..HEADER_LEN]);
    let mut input = BytesMut::from(&bytes[..]);
    assert_eq!(
        trusting().decode(&mut input),
        Ok(Some(Decoded::Data {
            stream: StreamId(9),
            bytes: Bytes::from_static(b"abc"),
            end: DataEnd::Fin
        }))
    );
}

#[test]
fn golden_data_that_goes_on_elsewhere() {
    let bytes = hex("07 03 0001 00000009  61");
    let end = DataEnd::Moved;
    assert_eq!(raw(FrameType::Data, end.flags(), 9, b"a"), bytes);
    let mut input = BytesMut::from(&bytes[..]);
    let data = Decoded::Data { stream: StreamId(9), bytes: Bytes::from_static(b"a"), end };
    assert_eq!(trusting().decode(&mut input), Ok(Some(data)));
}

#[test]
fn golden_window_update() {
    golden(
        Frame::WindowUpdate(StreamId(9), WindowUpdate { credit: 32_768 }),
        "08 00 0004 00000009  00008000",
    );
    golden(
        Frame::WindowUpdate(StreamId::SESSION, WindowUpdate { credit: MAX_WINDOW }),
        "08 00 0004 00000000  01000000",
    );
}

#[test]
fn golden_reset() {
    let frame = Reset { code: ResetCode::LocalUnreachable, reason: "off".into() };
    golden(Frame::Reset(StreamId(9), frame), "09 00 0006 00000009  0002 03 6f6666");
}

#[test]
fn golden_datagram() {
    golden(Frame::Datagram(StreamId(2), Bytes::from_static(b"hi")), "0a 00 0002 00000002  6869");
    golden(Frame::Datagram(StreamId(2), Bytes::new()), "0a 00 0000 00000002");
}

#[test]
fn golden_ping() {
    let opaque = [1, 2, 3, 4, 5, 6, 7, 8];
    golden(Frame::Ping(Ping { ack: false, opaque }), "0b 00 0008 00000000  01020304 05060708");
    golden(Frame::Ping(Ping { ack: true, opaque }), "0b 01 0008 00000000  01020304 05060708");
}

#[test]
fn golden_go_away() {
    let frame =
        GoAway { last_stream: StreamId(5), code: GoAwayCode::ShuttingDown, reason: "bye".into() };
    golden(Frame::GoAway(frame), "0c 00 000a 00000000  00000005 0003 03 627965");
}

#[test]
fn golden_move() {
    golden(Frame::Move(StreamId(6)), "0d 00 0000 00000006");
}

#[test]
fn unknown_types_are_refused() {
    for kind in [0, 14, 15, 0x80, 0xff] {
        let header = [kind, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Header::decode(&header), Err(FrameError::UnknownType(kind)));
    }
}

#[test]
fn reserved_flags_are_refused() {
    for kind in 1..=13 {
        let defined = match kind {
            7 => 0x03,
            4 | 11 => 0x01,
            _ => 0x00,
        };
        for flags in 0..=u8::MAX {
            let result = Header::decode(&[kind, flags, 0, 0, 0, 0, 0, 1]);
            match flags & !defined {
                0 if kind == 7 && flags == MOVED => {
                    assert_eq!(result, Err(FrameError::ReservedFlag(MOVED)), "without FIN");
                }
                0 => assert_eq!(result.unwrap().flags, flags),
                reserved => assert_eq!(result, Err(FrameError::ReservedFlag(reserved))),
            }
        }
    }
}

#[test]
fn a_frame_on_the_wrong_stream_is_refused() {
    let good = |frame: &Frame| frame.encode().to_vec();
    for frame in [
        Frame::Unregister(1),
        Frame::Registered(1, Registered::Ok { address: String::new() }),
        Frame::Reset(StreamId(1), Reset { code: ResetCode::Timeout, reason: String::new() }),
        Frame::Datagram(StreamId(1), Bytes::new()),
        Frame::Move(StreamId(1)),
    ] {
        let mut bytes = good(&frame);
        bytes[7] = 0;
        assert_eq!(decode(&bytes), Err(FrameError::WrongStream), "{}", frame.name());
    }
    for frame in [
        Frame::Challenge(Challenge { min_version: 1, max_version: 1, nonce: [0; 32] }),
        Frame::Ping(Ping { ack: false, opaque: [0; 8] }),
    ] {
        let mut bytes = good(&frame);
        bytes[7] = 1;
        assert_eq!(decode(&bytes), Err(FrameError::WrongStream), "{}", frame.name());
    }
    assert_eq!(decode(&raw(FrameType::Data, 0, 0, b"x")), Err(FrameError::WrongStream));
}

#[test]
fn values_out_of_range_are_refused() {
    let wrong = [
        (FrameType::WindowUpdate, 1, hex("00000000")),
        (FrameType::WindowUpdate, 1, hex("01000001")),
        (FrameType::WindowUpdate, 0, hex("00000000")),
        (FrameType::WindowUpdate, 0, hex("01000001")),
        (FrameType::Challenge, 0, hex(&format!("00 01 {N}"))),
        (FrameType::Challenge, 0, hex(&format!("02 01 {N}"))),
        // heartbeat too short, too long; no streams; window too large
        (FrameType::Welcome, 0, hex(&format!("{:016} {P} 00000063 00000001 00000000 00000000", 0))),
        (FrameType::Welcome, 0, hex(&format!("{:016} {P} 000927c1 00000001 00000000 00000000", 0))),
        (FrameType::Welcome, 0, hex(&format!("{:016} {P} 00000064 00000000 00000000 00000000", 0))),
        (FrameType::Welcome, 0, hex(&format!("{:016} {P} 00000064 00000001 00000000 01000001", 0))),
        (FrameType::Hello, 0, hex(&format!("01 {:032} 00 {N} {P} {P} 00 01000001", 0))),
        // kind 0 and 5; address family 5; windows too large
        (FrameType::Open, 1, hex("00000000 00 00 00 00000000 00000000")),
        (FrameType::Open, 1, hex("00000000 05 00 00 00000000 00000000")),
        (FrameType::Open, 1, hex("00000000 01 05 00 00000000 00000000")),
        (FrameType::Open, 1, hex("00000000 01 00 00 01000001 00000000")),
        (FrameType::Open, 1, hex("00000000 01 00 00 00000000 01000001")),
        (FrameType::Register, 1, hex("09 00 00 0000 00")),
    ];
    for (kind, stream, payload) in wrong {
        let result = decode(&raw(kind, 0, stream, &payload));
        assert_eq!(result, Err(FrameError::BadValue), "{kind:?} {payload:02x?}");
    }
}

#[test]
fn lists_and_texts_beyond_their_caps_are_refused() {
    let wrong = [
        hex("01 40"),
        hex("01 00 21"),
        hex("01 00 01 fe"),
        hex("01 00 00 0000 21"),
        hex("01 00 00 0000 01 41"),
        hex("01 00 00 0000 01 00 0401"),
    ];
    for payload in wrong {
        let result = decode(&raw(FrameType::Register, 0, 1, &payload));
        assert_eq!(result, Err(FrameError::FieldTooLong), "{payload:02x?}");
    }
}

#[test]
fn the_payload_of_an_unregister_is_ignored() {
    let bytes = raw(FrameType::Register, REMOVE, 7, b"\xff\xff\xff");
    assert_eq!(decode(&bytes), Ok(Frame::Unregister(7)));
}

#[test]
fn long_reasons_are_cut_between_characters() {
    let reason = "é".repeat(600);
    let cut = |bytes: usize| "é".repeat(bytes / 2);

    let code = ResetCode::Internal;
    let frame = Frame::Reset(StreamId(1), Reset { code, reason: reason.clone() });
    let sent = Frame::Reset(StreamId(1), Reset { code, reason: cut(255) });
    assert_eq!(decode(&frame.encode()), Ok(sent));

    let code = GoAwayCode::Refused;
    let go_away = |reason| Frame::GoAway(GoAway { last_stream: StreamId(0), code, reason });
    assert_eq!(decode(&go_away(reason.clone()).encode()), Ok(go_away(cut(255))));

    let code = RefusalCode::Internal;
    let refused = |reason| Frame::Registered(1, Registered::Refused(Refusal { code, reason }));
    assert_eq!(decode(&refused(reason.clone()).encode()), Ok(refused(cut(1024))));

    let hello = |software| {
        Frame::Hello(Hello {
            version: 1,
            client_id: ClientId([0; 16]),
            token_id: String::new(),
            nonce: [0; 32],
            proof: [0; 64],
            software,
            initial_window: 0,
            direct_for: None,
        })
    };
    assert_eq!(decode(&hello(reason.clone()).encode()), Ok(hello(cut(64))));

    let welcome = |software| {
        Frame::Welcome(Welcome {
            session_id: SessionId(1),
            proof: [0; 32],
            heartbeat_ms: 100,
            max_streams: 1,
            max_tunnels: 0,
            initial_window: 0,
            software,
        })
    };
    assert_eq!(decode(&welcome(reason).encode()), Ok(welcome(cut(64))));
}

#[test]
fn a_refusal_never_travels_as_a_success() {
    let refusal = Refusal { code: RefusalCode::Other(0), reason: String::new() };
    let frame = Frame::Registered(1, Registered::Refused(refusal));
    let sent = Refusal { code: RefusalCode::Internal, reason: String::new() };
    assert_eq!(decode(&frame.encode()), Ok(Frame::Registered(1, Registered::Refused(sent))));
}

#[test]
fn codes_keep_their_numbers() {
    for number in 0..=300 {
        assert_eq!(ResetCode::from_wire(number).to_wire(), number);
        assert_eq!(GoAwayCode::from_wire(number).to_wire(), number);
        let named = (1..=7).contains(&number);
        assert_eq!(ResetCode::from_wire(number).as_str() != "other", named);
        assert_eq!(GoAwayCode::from_wire(number).as_str() != "other", named);
    }
    for number in 1..=u8::MAX {
        assert_eq!(RefusalCode::from_wire(number).to_wire(), number);
        assert_eq!(RefusalCode::from_wire(number).as_str() != "other", number <= 9);
    }
    assert_eq!(ResetCode::LocalUnreachable.to_string(), "local-unreachable");
    assert_eq!(GoAwayCode::ShuttingDown.to_string(), "shutting-down");
    assert_eq!(RefusalCode::Other(99).to_string(), "other(99)");
}

const PROTOCOL: &str = include_str!("../../PROTOCOL.md");

/// The frames of the document's one `hex` block: sender, name and bytes.
fn documented_frames() -> Vec<(Side, &'static str, Vec<u8>)> {
    let (_, block) = PROTOCOL.split_once("```hex\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let mut frames: Vec<(Side, &str, Vec<u8>)> = Vec::new();
    for line in block.lines() {
        if let Some(payload) = line.strip_prefix(' ') {
            frames.last_mut().unwrap().2.extend(hex(payload));
            continue;
        }
        let (side, line) = line.split_once(' ').unwrap();
        let (name, header) = line.split_once(' ').unwrap();
        let side = match side {
            "client" => Side::Client,
            "server" => Side::Server,
            other => panic!("who is {other}?"),
        };
        frames.push((side, name, hex(header)));
    }
    frames
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

fn example() -> Vec<Decoded> {
    let ascending = |from: u8| std::array::from_fn(|i| from + i as u8);
    let data = |text: &'static str, fin| Decoded::Data {
        stream: StreamId(2),
        bytes: Bytes::from_static(text.as_bytes()),
        end: if fin { DataEnd::Fin } else { DataEnd::Open },
    };
    let ping = |ack| Frame::Ping(Ping { ack, opaque: [0, 0, 0, 0, 0, 0, 0, 1] });
    let frames = [
        Frame::Challenge(Challenge { min_version: 1, max_version: 1, nonce: ascending(0) }),
        Frame::Hello(Hello {
            version: 1,
            client_id: ClientId(std::array::from_fn(|i| i as u8)),
            token_id: String::new(),
            nonce: ascending(0x20),
            proof: hex("664158e130653579e3f041416608a59a853500c7c43f544efcfbe27d25b66614\
                 b586cd9b0fa3c806beaa363c70daf84e152b68b064c18b163e441d77a4753f0a")
            .try_into()
            .unwrap(),
            software: "example/1.0".into(),
            initial_window: 64 << 10,
            direct_for: None,
        }),
        Frame::Welcome(Welcome {
            session_id: SessionId(255),
            proof: hex("4206a01530c279803710b99638ad058fd32f8f7c9a558735928c4022b9c9ba65")
                .try_into()
                .unwrap(),
            heartbeat_ms: 5_000,
            max_streams: 65_536,
            max_tunnels: 1_024,
            initial_window: 64 << 10,
            software: "example/1.0".into(),
        }),
        Frame::Register(
            1,
            Register {
                kind: TunnelKind::Http,
                name: "app".into(),
                hosts: vec![],
                port: 0,
                options: vec![],
            },
        ),
        Frame::Registered(1, Registered::Ok { address: "http://app.localhost:8080/".into() }),
        Frame::Open(
            StreamId(2),
            Open {
                tunnel: 1,
                kind: TunnelKind::Http,
                visitor: Some("192.0.2.7:50000".parse().unwrap()),
                ingress: Some("192.0.2.1:8080".parse().unwrap()),
                send_window: 64 << 10,
                receive_window: 64 << 10,
                trace: None,
            },
        ),
    ];
    let tail = [
        Frame::WindowUpdate(StreamId::SESSION, WindowUpdate { credit: 16 << 10 }),
        ping(false),
        ping(true),
        Frame::Unregister(1),
        Frame::GoAway(GoAway {
            last_stream: StreamId(0),
            code: GoAwayCode::ShuttingDown,
            reason: "restart".into(),
        }),
    ];
    let stream = [
        data("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n", false),
        data("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", true),
        data("", true),
    ];
    let whole = |frames: Vec<Frame>| frames.into_iter().map(Decoded::Frame);
    whole(frames.into()).chain(stream).chain(whole(tail.into())).collect()
}

#[test]
fn the_documented_example_is_what_we_encode() {
    let documented = documented_frames();
    let expected = example();
    assert_eq!(documented.len(), expected.len());
    for ((_, name, bytes), item) in documented.iter().zip(&expected) {
        match item {
            Decoded::Frame(frame) => {
                assert_eq!(*name, frame.name());
                assert_eq!(frame.encode(), *bytes, "{name}");
            }
            Decoded::Data { stream, bytes: payload, end } => {
                assert_eq!(*name, "Data");
                assert_eq!(raw(FrameType::Data, end.flags(), stream.0, payload), *bytes);
            }
        }
    }
}

#[test]
fn the_documented_example_is_what_we_decode() {
    let documented = documented_frames();
    for side in [Side::Client, Side::Server] {
        let from_side = documented.iter().filter(|(from, ..)| *from == side);
        let mut input: BytesMut = from_side.clone().flat_map(|(.., bytes)| bytes).collect();
        let mut decoder = trusting();
        let expected = documented.iter().zip(example()).filter(|((from, ..), _)| *from == side);
        for (_, item) in expected {
            assert_eq!(decoder.decode(&mut input), Ok(Some(item)));
        }
        assert!(input.is_empty());
    }
}

#[test]
fn every_code_is_documented_with_its_word() {
    let documented =
        |number: u16, word: &str| PROTOCOL.contains(&format!("| {number} | `{word}` |"));
    for number in 1..=7 {
        assert!(documented(number, ResetCode::from_wire(number).as_str()), "reset {number}");
        assert!(documented(number, GoAwayCode::from_wire(number).as_str()), "go away {number}");
    }
    for number in 1..=9_u8 {
        let word = RefusalCode::from_wire(number).as_str();
        assert!(documented(number.into(), word), "refusal {number}");
    }
}

fn text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..=max).prop_map(move |chars| {
        let mut text: String = chars.into_iter().collect();
        while text.len() > max {
            text.pop();
        }
        text
    })
}

/// What arrives as it was sent.
fn words(max: usize) -> impl Strategy<Value = String> {
    text(max).prop_map(|text| {
        let is_plain = |c: &char| {
            !c.is_control()
                && !('\u{2028}'..='\u{202e}').contains(c)
                && !('\u{2066}'..='\u{2069}').contains(c)
                && !['\u{61c}', '\u{200e}', '\u{200f}'].contains(c)
        };
        text.chars().filter(is_plain).collect()
    })
}

fn kind() -> impl Strategy<Value = TunnelKind> {
    prop_oneof![
        Just(TunnelKind::Http),
        Just(TunnelKind::Tcp),
        Just(TunnelKind::Udp),
        Just(TunnelKind::Tls)
    ]
}

fn address() -> impl Strategy<Value = Option<SocketAddr>> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    proptest::option::of((ip, any::<u16>()).prop_map(SocketAddr::from))
}

fn open() -> impl Strategy<Value = Open> {
    let windows = (0..=MAX_WINDOW, 0..=MAX_WINDOW);
    let trace = any::<([u8; 16], [u8; 8], u8)>();
    let trace = trace.prop_map(|(trace, span, flags)| TraceContext::new(trace, span, flags));
    let trace = proptest::option::of(trace).prop_map(Option::flatten);
    (any::<u32>(), kind(), address(), address(), windows, trace).prop_map(
        |(tunnel, kind, visitor, ingress, (send_window, receive_window), trace)| Open {
            tunnel,
            kind,
            visitor,
            ingress,
            send_window,
            receive_window,
            trace,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let proof = any::<([u8; 32], [u8; 32])>().prop_map(|halves| {
        let mut proof = [0; 64];
        proof[..32].copy_from_slice(&halves.0);
        proof[32..].copy_from_slice(&halves.1);
        proof
    });
    let bytes = (any::<[u8; 16]>(), any::<[u8; 32]>(), proof);
    let rest = (0..=MAX_WINDOW, any::<u64>());
    (any::<u8>(), bytes, text(64), words(64), rest).prop_map(
        |(version, (client_id, nonce, proof), token_id, software, (initial_window, session))| {
            Hello {
                version,
                client_id: ClientId(client_id),
                token_id,
                nonce,
                proof,
                software,
                initial_window,
                direct_for: Some(session).filter(|id| *id != 0).map(SessionId),
            }
        },
    )
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let numbers = (100..=600_000_u32, 1..=u32::MAX, any::<u32>(), 0..=MAX_WINDOW);
    (any::<u64>(), any::<[u8; 32]>(), numbers, words(64)).prop_map(
        |(
            session_id,
            proof,
            (heartbeat_ms, max_streams, max_tunnels, initial_window),
            software,
        )| Welcome {
            session_id: SessionId(session_id),
            proof,
            heartbeat_ms,
            max_streams,
            max_tunnels,
            initial_window,
            software,
        },
    )
}

fn register() -> impl Strategy<Value = Register> {
    let options = vec((text(64), text(1024)), 0..=4);
    (kind(), text(63), vec(text(253), 0..=32), any::<u16>(), options).prop_map(
        |(kind, name, hosts, port, options)| Register { kind, name, hosts, port, options },
    )
}

fn registered() -> impl Strategy<Value = Registered> {
    prop_oneof![
        words(1024).prop_map(|address| Registered::Ok { address }),
        (1..=u8::MAX, words(1024)).prop_map(|(code, reason)| {
            Registered::Refused(Refusal { code: RefusalCode::from_wire(code), reason })
        }),
    ]
}

/// A frame allowed before authentication.
pub(crate) fn any_handshake_frame() -> impl Strategy<Value = Frame> {
    let challenge = (1..=u8::MAX, any::<u8>(), any::<[u8; 32]>()).prop_map(|(min, max, nonce)| {
        Challenge { min_version: min, max_version: max.max(min), nonce }
    });
    let go_away = (any::<u32>(), any::<u16>(), words(255)).prop_map(|(last, code, reason)| {
        GoAway { last_stream: StreamId(last), code: GoAwayCode::from_wire(code), reason }
    });
    prop_oneof![
        challenge.prop_map(Frame::Challenge),
        hello().prop_map(Frame::Hello),
        welcome().prop_map(Frame::Welcome),
        go_away.prop_map(Frame::GoAway),
    ]
}

/// Any frame but `Data`.
pub(crate) fn any_frame() -> impl Strategy<Value = Frame> {
    let number = 1..=u32::MAX;
    let stream = || (1..=u32::MAX).prop_map(StreamId);
    let update = (any::<u32>(), 1..=MAX_WINDOW);
    let reset = (any::<u16>(), words(255))
        .prop_map(|(code, reason)| Reset { code: ResetCode::from_wire(code), reason });
    let datagram = vec(any::<u8>(), 0..=5000);
    let ping = (any::<bool>(), any::<[u8; 8]>()).prop_map(|(ack, opaque)| Ping { ack, opaque });
    prop_oneof![
        4 => any_handshake_frame(),
        1 => ping.prop_map(Frame::Ping),
        1 => (number.clone(), register()).prop_map(|(n, frame)| Frame::Register(n, frame)),
        1 => number.clone().prop_map(Frame::Unregister),
        1 => (number, registered()).prop_map(|(n, frame)| Frame::Registered(n, frame)),
        1 => (stream(), open()).prop_map(|(id, frame)| Frame::Open(id, frame)),
        1 => update.prop_map(|(id, credit)| {
            Frame::WindowUpdate(StreamId(id), WindowUpdate { credit })
        }),
        1 => (stream(), reset).prop_map(|(id, frame)| Frame::Reset(id, frame)),
        1 => stream().prop_map(Frame::Move),
        1 => (stream(), datagram).prop_map(|(id, bytes)| Frame::Datagram(id, bytes.into())),
    ]
}

/// How many bytes the frame has at its end for a field that may be missing: it is whole without them too.
fn optional_tail(frame: &Frame) -> usize {
    match frame {
        Frame::Open(_, Open { trace: Some(_), .. }) => TraceContext::LEN,
        Frame::Welcome(welcome) if !welcome.software.is_empty() => {
            let without = Welcome { software: String::new(), ..welcome.clone() };
            frame.payload_len() - Frame::Welcome(without).payload_len()
        }
        _ => 0,
    }
}

/// Whatever comes of damaged bytes, but no panic; and what still decodes encodes to itself again.
fn survives(bytes: &[u8]) {
    for mut decoder in [Decoder::default(), trusting()] {
        let mut input = BytesMut::from(bytes);
        while let Ok(Some(item)) = decoder.decode(&mut input) {
            if let Decoded::Frame(frame) = item {
                assert_eq!(decode(&frame.encode()), Ok(frame));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_frame_survives_the_round_trip(frame in any_frame()) {
        let bytes = frame.encode();
        prop_assert_eq!(bytes.len() - HEADER_LEN, frame.payload_len());
        prop_assert_eq!(decode(&bytes), Ok(frame));
    }

    #[test]
    fn handshake_frames_fit_before_authentication(frame in any_handshake_frame()) {
        let mut input = BytesMut::from(frame.encode());
        prop_assert_eq!(Decoder::default().decode(&mut input), Ok(Some(Decoded::Frame(frame))));
    }

    #[test]
    fn a_flipped_byte_never_panics(
        frame in any_frame(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut bytes = frame.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        survives(&bytes);
    }

    #[test]
    fn a_truncated_frame_waits_for_the_rest(frame in any_frame(), at in any::<prop::sample::Index>()) {
        let mut input = BytesMut::from(frame.encode());
        input.truncate(at.index(input.len()));
        prop_assert_eq!(trusting().decode(&mut input), Ok(None));
    }

    #[test]
    fn a_truncated_payload_is_refused(frame in any_frame(), at in any::<prop::sample::Index>()) {
        let mut bytes = frame.encode().to_vec();
        prop_assume!(!matches!(frame, Frame::Datagram(..) | Frame::Unregister(_) | Frame::Move(_)));
        bytes.truncate(HEADER_LEN + at.index(bytes.len() - HEADER_LEN));
        let required = frame.payload_len() - optional_tail(&frame);
        prop_assume!(optional_tail(&frame) == 0 || bytes.len() - HEADER_LEN != required);
        let length = (bytes.len() - HEADER_LEN) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        prop_assert_eq!(decode(&bytes), Err(FrameError::Truncated));
    }

    #[test]
    fn bytes_after_the_last_field_are_ignored(frame in any_frame(), more in vec(any::<u8>(), 1..100)) {
        prop_assume!(!matches!(frame, Frame::Datagram(..) | Frame::Open(_, Open { trace: None, .. })));
        prop_assume!(!matches!(&frame, Frame::Welcome(welcome) if welcome.software.is_empty()));
        let mut bytes = frame.encode().to_vec();
        bytes.extend(more);
        let length = (bytes.len() - HEADER_LEN) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        prop_assert_eq!(decode(&bytes), Ok(frame));
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        survives(&bytes);
    }

    #[test]
    fn any_payload_never_panics(
        kind in 1..=13_u8,
        flag in 0..=3_u8,
        stream in 0..=1_u32,
        payload in vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![kind, flag];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        survives(&bytes);
    }
}
