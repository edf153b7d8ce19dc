use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::exchange::Source;
use crate::record::{From, Origin};
use crate::settings::InspectorSettings;
use crate::store::Shared;
use crate::stream_tap::StreamTap;
use crate::view::RequestDetail;
use ferrotunnel_core::Tap as _;

/// A stream that somebody looks at.
pub(crate) struct Watched {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tap: StreamTap,
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self::with(InspectorSettings::default())
    }

    pub(crate) fn with(settings: InspectorSettings) -> Self {
        Self::of(Arc::new(Shared::new(settings)))
    }

    /// Another stream, whose requests are kept with those of that one.
    pub(crate) fn beside(other: &Self) -> Self {
        Self::of(Arc::clone(&other.shared))
    }

    fn of(shared: Arc<Shared>) -> Self {
        let origin = Origin { tunnel: "app".into(), number: 1, visitor: None, replay_of: None };
        let source = Source::new(Arc::clone(&shared), origin);
        Self { tap: StreamTap::new(Arc::new(source), None), shared }
    }

    pub(crate) fn say(&mut self, from: From, bytes: &[u8]) {
        match from {
            From::Visitor => self.tap.to_local(bytes),
            From::Service => self.tap.to_visitor(bytes),
        }
    }

    /// The oldest first.
    pub(crate) fn seen(&self) -> Vec<RequestDetail> {
        let mut all = self.shared.all(None);
        all.reverse();
        all.iter().map(|record| RequestDetail::of(record, &self.shared.mask, false)).collect()
    }
}

fn conversation(parts: &[(From, &str)]) -> Watched {
    conversation_within(InspectorSettings::default(), parts)
}

fn conversation_within(settings: InspectorSettings, parts: &[(From, &str)]) -> Watched {
    let mut watched = Watched::with(settings);
    for (from, part) in parts {
        watched.say(*from, part.as_bytes());
    }
    watched
}

const ASK: From = From::Visitor;
const ANSWER: From = From::Service;

fn one(watched: &Watched) -> RequestDetail {
    let seen = watched.seen();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    seen.into_iter().next().unwrap()
}

#[test]
fn a_request_and_its_answer_are_seen() {
    let watched = conversation(&[
        (
            ASK,
            "POST /a?b=1 HTTP/1.1\r\nHost: app.example\r\nX-Request-Id: 7\r\nContent-Length: 5\r\n\r\nhel",
        ),
        (ASK, "lo"),
        (ANSWER, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n"),
        (ANSWER, "ok"),
    ]);
    let seen = one(&watched);
    let line = &seen.summary;
    assert_eq!(
        (line.method.as_str(), line.path.as_str(), line.host.as_str()),
        ("POST", "/a?b=1", "app.example")
    );
    assert_eq!(
        (line.status, line.state, line.version, line.kind),
        (Some(200), "done", "1.1", "http")
    );
    assert_eq!((line.request_bytes, line.response_bytes), (5, 2));
    assert_eq!(line.request_id.as_deref(), Some("7"));
    assert_eq!(seen.request.body.text.as_deref(), Some("hello"));
    assert_eq!(seen.response.unwrap().body.text.as_deref(), Some("ok"));
}

#[test]
fn a_summary_tells_while_it_is_open() {
    let mut watched = conversation(&[(ASK, "GET / HTTP/1.1\r\nhost: a\r\n\r\n")]);
    assert_eq!(one(&watched).summary.state, "open");
    watched.say(ANSWER, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no");
    assert_eq!((one(&watched).summary.state, one(&watched).summary.status), ("open", Some(200)));
    watched.tap.broke("gone");
    assert_eq!(one(&watched).summary.error.as_deref(), Some("gone"));
    assert_eq!(one(&watched).summary.state, "failed");
}

#[test]
fn requests_that_come_at_once_get_their_own_answers() {
    let watched = conversation(&[
        (
            ASK,
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            ANSWER,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nx",
        ),
        (
            ANSWER,
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n",
        ),
    ]);
    let seen = watched.seen();
    let lines: Vec<_> =
        seen.iter().map(|one| (one.summary.path.as_str(), one.summary.status)).collect();
    assert_eq!(lines, [("/1", Some(404)), ("/2", Some(200)), ("/3", Some(304))]);
    assert!(seen.iter().all(|one| one.summary.state == "done"));
    assert_eq!(seen[0].interim[0].status, 103);
}

#[test]
fn chunks_and_trailers_are_seen_wherever_they_are_cut() {
    let ask = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for step in 1..ask.len() {
        let mut watched = Watched::new();
        ask.as_bytes().chunks(step).for_each(|part| watched.say(ASK, part));
        answer.as_bytes().chunks(step).for_each(|part| watched.say(ANSWER, part));
        let seen = one(&watched);
        assert_eq!(seen.summary.state, "done", "{step}");
        assert_eq!(seen.request.body.text.as_deref(), Some("hello!"));
        assert_eq!(seen.request.trailers, [["X-Sum".to_owned(), "1".to_owned()]]);
        assert_eq!(seen.response.unwrap().body.text.as_deref(), Some("abc"));
    }
}

#[test]
fn a_body_may_end_with_its_connection() {
    let mut watched = conversation(&[
        (ASK, "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        (ANSWER, "HTTP/1.0 200 OK\r\n\r\nall of it"),
    ]);
    assert_eq!(one(&watched).summary.state, "open");
    watched.tap.visitor_end();
    let seen = one(&watched);
    assert_eq!((seen.summary.state, seen.summary.version), ("done", "1.0"));
    assert_eq!(seen.response.unwrap().body.text.as_deref(), Some("all of it"));
}

#[test]
fn an_answer_that_is_cut_has_failed() {
    let mut watched = conversation(&[
        (ASK, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    ]);
    watched.tap.visitor_end();
    let seen = one(&watched);
    assert_eq!(seen.summary.state, "failed");
    assert!(seen.summary.error.unwrap().contains("middle"));
}

#[test]
fn who_is_answered_early_need_not_say_the_rest() {
    let mut watched = conversation(&[
        (ASK, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"),
        (ANSWER, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"),
    ]);
    watched.tap.broke("reset");
    drop(watched.tap);
    let record = &watched.shared.all(None)[0];
    let seen = RequestDetail::of(record, &watched.shared.mask, false);
    assert_eq!((seen.summary.state, seen.summary.status), ("done", Some(413)));
}

#[test]
fn a_websocket_is_taken_apart_into_messages() {
    let mut watched = conversation(&[
        (ASK, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (
            ANSWER,
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}\u{2}he",
        ),
    ]);
    // A text in two frames with a ping in between, then a masked one.
    watched.say(ANSWER, b"\x89\x01p\x80\x03llo");
    watched.say(ASK, b"\x81\x83\x01\x02\x03\x04");
    watched.say(ASK, &[b'a' ^ 1, b'b' ^ 2, b'c' ^ 3]);
    watched.say(ASK, b"\x88\x80\x00\x00\x00\x00");
    watched.tap.broke("gone");
    let seen = one(&watched);
    assert_eq!((seen.summary.kind, seen.summary.state), ("websocket", "done"));
    let kinds: Vec<_> =
        seen.messages.iter().map(|it| (it.from, it.kind, it.text.as_deref())).collect();
    let expected = [
        ("service", "ping", None),
        ("service", "text", Some("hello")),
        ("visitor", "text", Some("abc")),
        ("visitor", "close", None),
    ];
    assert_eq!(kinds, expected);
}

const COMPRESSED: &[(From, &str)] = &[
    (ASK, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (
        ANSWER,
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    ),
];

#[test]
fn what_decompresses_is_within_the_budget() {
    // A quarter of it is enough for one direction.
    let settings = InspectorSettings { budget_bytes: 200 << 10, ..InspectorSettings::default() };
    let mut watched = conversation_within(settings, COMPRESSED);
    let before = watched.shared.held();
    watched.say(ANSWER, &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    assert!(watched.shared.held() > before + (32 << 10), "it counts");
    watched.say(ASK, &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let seen = one(&watched);
    let messages: Vec<_> = seen.messages.iter().map(|it| (it.text.as_deref(), it.size)).collect();
    assert_eq!(messages, [(Some("Hello"), 5), (None, 7)]);
    let Watched { shared, tap } = watched;
    drop(tap);
    assert!(shared.held() < before + (32 << 10), "it is given back");
    shared.clear();
    assert_eq!(shared.held(), 0);
}

#[test]
fn a_compressed_message_is_shown_as_it_was_meant() {
    let mut watched = conversation(COMPRESSED);
    // RFC 7692, section 7.2.3.2: twice the same, the second time by a reference to the first.
    watched.say(ANSWER, &[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    watched.say(ANSWER, &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00]);
    let seen = one(&watched);
    let texts: Vec<_> = seen.messages.iter().map(|it| (it.text.as_deref(), it.size)).collect();
    assert_eq!(texts, [(Some("Hello"), 5), (Some("Hello"), 5)]);
}

#[test]
fn events_are_seen_as_they_come() {
    let mut watched = conversation(&[
        (ASK, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            ANSWER,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\nevent: a\ndata: 1\n\n\r\nda",
        ),
    ]);
    assert_eq!(one(&watched).messages.len(), 1);
    watched.say(ANSWER, b"ta: 2\r\n\r\n");
    let seen = one(&watched);
    let texts: Vec<_> = seen.messages.iter().map(|it| it.text.as_deref().unwrap()).collect();
    assert_eq!(texts, ["event: a\ndata: 1", "data: 2"]);
    assert_eq!((seen.summary.kind, seen.summary.state), ("sse", "open"));
}

#[test]
fn who_stays_with_http_after_all_is_followed() {
    let watched = conversation(&[
        (ASK, "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (ASK, "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            ANSWER,
            "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
    ]);
    let statuses: Vec<_> = watched.seen().iter().map(|one| one.summary.status).collect();
    assert_eq!(statuses, [Some(403), Some(200)]);
}

#[test]
fn empty_lines_before_a_request_are_passed_over() {
    for lines in ["\r\n", "\r\n\r\n", "\n\n", "\n\n\r\n\r\n\n"] {
        let ask = format!("{lines}GET /late HTTP/1.1\r\nHost: a\r\n\r\n");
        let watched = conversation(&[(ASK, &ask), (ANSWER, "HTTP/1.1 204 No\r\n\r\n")]);
        assert_eq!(one(&watched).summary.path, "/late", "{lines:?}");
        // The same, byte by byte.
        let mut chopped = Watched::new();
        ask.bytes().for_each(|byte| chopped.say(ASK, &[byte]));
        assert_eq!(one(&chopped).summary.path, "/late", "{lines:?}");
    }
}

#[test]
fn interim_answers_without_end_take_no_more_room() {
    let mut watched = conversation(&[(ASK, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")]);
    let hint = b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n";
    (0..100).for_each(|_| watched.say(ANSWER, hint));
    let held = watched.shared.held();
    (0..100).for_each(|_| watched.say(ANSWER, hint));
    assert_eq!(watched.shared.held(), held);
    assert!(!one(&watched).interim.is_empty());
}

#[test]
fn what_cannot_be_followed_is_let_go() {
    for (ask, answer) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "not HTTP at all\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"),
    ] {
        let mut watched = conversation(&[(ASK, ask), (ANSWER, answer)]);
        let seen = one(&watched).summary;
        assert_eq!(seen.state, "failed");
        let error = seen.error.unwrap();
        assert!(error.contains("could not follow"), "{answer}: {error}");
        watched.say(ASK, ask.as_bytes());
        assert_eq!(watched.seen().len(), 1);
    }
    let endless = "GET / HTTP/1.1\r\n".to_owned() + &"a: b\r\n".repeat(100_000);
    assert!(conversation(&[(ASK, &endless)]).seen().is_empty());
}

#[test]
fn secrets_are_masked_and_odd_values_are_shown() {
    let mut watched = Watched::new();
    watched.say(
        ASK,
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nX-Odd: \xff<b>\r\n\r\n",
    );
    let seen = one(&watched);
    assert_eq!(seen.request.headers[1][1], "••••");
    assert_eq!(seen.request.headers[2][1], "ÿ<b>");
}

/// Whole conversations, cut anywhere and with bytes changed.
fn hostile() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let texts: [(bool, &[u8]); 9] = [
        (true, b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n"),
        (true, b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
        (true, b"\x81\x83\x01\x02\x03\x04abc\x88\x80\x00\x00\x00\x00"),
        (true, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x0d\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x08\x61\x70\x70\x2e\x74\x65\x73\x74"),
        (false, b"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88\x00\x00\x05\x00\x01\x00\x00\x00\x01hello"),
        (false, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
        (false, b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
        (false, b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"),
        (false, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"),
    ];
    let piece =
        (0..texts.len(), vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), 1..40usize);
    vec(piece, 1..8).prop_map(move |pieces| {
        let mut said = Vec::new();
        for (which, changes, step) in pieces {
            let (is_visitor, text) = texts[which];
            let mut text = text.to_vec();
            for (at, byte) in changes {
                let at = at.index(text.len());
                text[at] = byte;
            }
            said.extend(text.chunks(step).map(|part| (is_visitor, part.to_vec())));
        }
        said
    })
}

proptest! {
    #[test]
    fn whatever_passes_nothing_falls_over(said in hostile(), noise in vec(any::<u8>(), 0..64)) {
        let mut watched = Watched::new();
        for (is_visitor, part) in &said {
            watched.say(if *is_visitor { ASK } else { ANSWER }, part);
        }
        watched.say(ASK, &noise);
        watched.say(ANSWER, &noise);
        let Watched { shared, tap } = watched;
        drop(tap);
        // Whoever is gone has no requests that are open.
        for record in shared.all(None) {
            let seen = RequestDetail::of(&record, &shared.mask, true);
            prop_assert_ne!(seen.summary.state, "open");
        }
        let text: String = crate::har::Archive::of(shared.all(None), &shared.mask, true).collect();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
