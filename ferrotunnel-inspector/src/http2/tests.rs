use crate::http1::tests::Watched;
use crate::record::From::{self, Service, Visitor};

use super::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PREFACE, RST_STREAM};

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    frame.extend(payload);
    frame
}

/// A list without compression.
fn list(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (name, value) in headers {
        list.push(0);
        for text in [name, value] {
            list.push(u8::try_from(text.len()).unwrap());
            list.extend(text.as_bytes());
        }
    }
    list
}

const CALL: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/pkg.Greeter/Hello"),
    (":authority", "app.test"),
    ("content-type", "application/grpc"),
];

fn conversation() -> Vec<(From, Vec<u8>)> {
    let call = list(CALL);
    let (first, rest) = call.split_at(10);
    let padded = [&[3][..], b"\0\0\0\0\x02hi", b"\0\0\0"].concat();
    vec![
        (Visitor, PREFACE.to_vec()),
        (Visitor, frame(4, 0, 0, &[])),
        (Visitor, frame(HEADERS, 0, 1, first)),
        (Visitor, frame(CONTINUATION, END_HEADERS, 1, rest)),
        (Visitor, frame(DATA, PADDED | END_STREAM, 1, &padded)),
        (Service, frame(HEADERS, END_HEADERS, 1, &[0x88])),
        (Service, frame(DATA, 0, 1, b"\0\0\0\0\x05he")),
        (Service, frame(DATA, 0, 1, b"llo")),
        (
            Service,
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &list(&[("grpc-status", "5"), ("grpc-message", "no%20one")]),
            ),
        ),
    ]
}

#[test]
fn a_call_is_seen_wherever_it_is_cut() {
    for step in 1..60 {
        let mut watched = Watched::new();
        for (from, bytes) in conversation() {
            bytes.chunks(step).for_each(|part| watched.say(from, part));
        }
        let seen = watched.seen().remove(0);
        let line = &seen.summary;
        assert_eq!((line.method.as_str(), line.path.as_str()), ("POST", "/pkg.Greeter/Hello"));
        assert_eq!((line.host.as_str(), line.version, line.kind), ("app.test", "2", "grpc"));
        assert_eq!((line.status, line.state), (Some(200), "done"), "{step}: {:?}", line.error);
        assert_eq!((line.request_bytes, line.response_bytes), (7, 10));
        let messages: Vec<_> =
            seen.messages.iter().map(|it| (it.from, it.base64.as_deref())).collect();
        assert_eq!(messages, [("visitor", Some("aGk=")), ("service", Some("aGVsbG8="))]);
        let grpc = seen.grpc.unwrap();
        assert_eq!((grpc.status, grpc.message.as_deref()), (Some(5), Some("no one")));
    }
}

#[test]
fn streams_do_not_get_into_each_others_way() {
    let mut watched = Watched::new();
    watched.say(Visitor, PREFACE);
    for stream in [1, 3, 5] {
        let path = format!("/{stream}");
        let head = list(&[(":method", "GET"), (":path", &path), (":authority", "a")]);
        watched.say(Visitor, &frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
    }
    for stream in [5, 1] {
        watched.say(Service, &frame(HEADERS, END_HEADERS, stream, &list(&[(":status", "201")])));
        watched.say(Service, &frame(DATA, END_STREAM, stream, &[b'0' + stream]));
    }
    watched.say(Service, &frame(RST_STREAM, 0, 3, &8u32.to_be_bytes()));
    let seen = watched.seen();
    let states: Vec<_> =
        seen.iter().map(|one| (one.summary.path.as_str(), one.summary.state)).collect();
    assert_eq!(states, [("/1", "done"), ("/3", "failed"), ("/5", "done")]);
    assert_eq!(seen[1].summary.error.as_deref(), Some("the local service broke it off: CANCEL"));
    let body = |at: usize| seen[at].response.as_ref().unwrap().body.text.clone().unwrap();
    assert_eq!((body(0), body(2)), ("1".to_owned(), "5".to_owned()));
}

#[test]
fn a_list_that_cannot_be_read_ends_it() {
    let mut watched = Watched::new();
    watched.say(Visitor, PREFACE);
    watched.say(Visitor, &frame(HEADERS, END_HEADERS, 1, &list(CALL)));
    watched.say(Visitor, &frame(HEADERS, END_HEADERS, 3, &[0x80]));
    assert_eq!(watched.seen()[0].summary.state, "failed");
    let mut watched = Watched::new();
    watched.say(Visitor, PREFACE);
    watched.say(Visitor, &[0xff, 0xff, 0xff, HEADERS, 0, 0, 0, 0, 1]);
    watched.say(Visitor, &vec![0; 1 << 20]);
    assert!(watched.seen().is_empty());
}
