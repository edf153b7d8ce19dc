//! Requests that two programs could read in two ways. A visitor gets a 400 for them or loses its connection, and the
//! local service never sees more than one reading.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;

use ferrotunnel_tests::{Carrier, LocalService, TestBed, over_both, run, soon};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a local service was sent, byte by byte, over all of its connections.
#[derive(Clone, Default)]
struct Recording(Arc<Mutex<Vec<u8>>>);

impl Recording {
    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock())).into_owned()
    }
}

/// Where the first request ends, for somebody who takes what we send at its word.
fn end_of_request(heard: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(heard);
    let head = text.find("\r\n\r\n")? + 4;
    if text[..head].contains("transfer-encoding: chunked\r\n") {
        return Some(head + text[head..].find("0\r\n\r\n")? + 5);
    }
    let length = text[..head].split_once("content-length: ");
    let length = length.map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
    (heard.len() >= head + length).then_some(head + length)
}

/// A local service that writes down what it gets, and answers `ok` to every request.
async fn recorder() -> (LocalService, Recording) {
    let recording = Recording::default();
    let log = recording.clone();
    let service = LocalService::each(move |mut socket| {
        let log = log.clone();
        async move {
            let mut piece = [0; 4096];
            let mut heard = Vec::new();
            while let Ok(count @ 1..) = socket.read(&mut piece).await {
                log.0.lock().extend_from_slice(&piece[..count]);
                heard.extend_from_slice(&piece[..count]);
                while let Some(end) = end_of_request(&heard) {
                    heard.drain(..end);
                    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    if socket.write_all(ok).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await;
    (service, recording)
}

/// Sends bytes as they are, in as many pieces as there are, and reads until the server closes.
async fn ask(server: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut visitor = TcpStream::connect(server).await.unwrap();
    visitor.set_nodelay(true).unwrap();
    for piece in pieces {
        // It may have been refused already.
        if visitor.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let hear = async {
        while let Ok(count @ 1..) = visitor.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..count]);
        }
    };
    soon(&String::from_utf8_lossy(&pieces.concat()), hear).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// What follows a request that ends too early for somebody.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: app.localhost\r\n\r\n";

/// Heads, and what comes right behind them. None of this may reach anybody.
const HEADS: &[(&str, &str)] = &[
    ("both lengths", "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("both, the other way", "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"),
    ("both, content-length 0", "content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two content-lengths", "content-length: 4\r\ncontent-length: 5\r\n\r\nabcde"),
    ("two that agree", "content-length: 4\r\ncontent-length: 4\r\n\r\nabcd"),
    ("a list of lengths", "content-length: 4, 4\r\n\r\nabcd"),
    ("a list of other lengths", "content-length: 4, 5\r\n\r\nabcd"),
    ("a length with a plus", "content-length: +4\r\n\r\nabcd"),
    ("a length with a minus", "content-length: -4\r\n\r\nabcd"),
    ("a length in hex", "content-length: 0x4\r\n\r\nabcd"),
    ("a length with an underscore", "content-length: 1_0\r\n\r\nabcd"),
    ("a length with a space in it", "content-length: 1 0\r\n\r\nabcd"),
    ("a length with a fraction", "content-length: 4.0\r\n\r\nabcd"),
    ("no length at all", "content-length:\r\n\r\nabcd"),
    ("a length beyond 64 bits", "content-length: 18446744073709551620\r\n\r\nabcd"),
    ("a length of foreign digits", "content-length: \u{664}\r\n\r\nabcd"),
    ("a space before the colon", "content-length : 4\r\n\r\nabcd"),
    ("a tab before the colon", "transfer-encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the name", "x: y\r\n content-length: 4\r\n\r\nabcd"),
    ("an unknown coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("identity", "transfer-encoding: identity\r\ncontent-length: 4\r\n\r\nabcd"),
    ("identity after chunked", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("chunked after identity", "transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    ("another coding below chunked", "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n"),
    (
        "chunked in two lines",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("no coding", "transfer-encoding:\r\ncontent-length: 4\r\n\r\nabcd"),
    ("a coding in quotes", "transfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("a coding with a parameter", "transfer-encoding: chunked;x=y\r\n\r\n0\r\n\r\n"),
    ("a vertical tab in the coding", "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("a form feed in the coding", "transfer-encoding:\x0cchunked\r\n\r\n0\r\n\r\n"),
    ("a NUL in the coding", "transfer-encoding: chunked\0\r\n\r\n0\r\n\r\n"),
    ("underscores for dashes", "transfer_encoding: chunked\r\ncontent-length: 4\r\n\r\nabcd"),
    ("underscores in the length", "content_length: 4\r\n\r\nabcd"),
    ("a folded coding", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("a folded length", "content-length:\r\n\t4\r\n\r\nabcd"),
    ("any folded header", "x-folded: a\r\n b\r\n\r\n"),
    ("a bare LF behind a header", "x: y\ncontent-length: 4\r\n\r\nabcd"),
    ("a bare LF that ends the head", "x: y\r\n\n"),
    ("only bare LFs", "x: y\n\n"),
    ("a bare CR in a value", "x: y\rcontent-length: 4\r\n\r\nabcd"),
    ("a bare CR in a name", "x\r: y\r\n\r\n"),
    ("a bare CR that ends the head", "x: y\r\r\n\r\n"),
    ("a NUL in a value", "x: a\0b\r\n\r\n"),
    ("a header without a colon", "x\r\n\r\n"),
    ("a header without a name", ": x\r\n\r\n"),
    ("a name in brackets", "[x]: y\r\n\r\n"),
    ("a name with a letter of its own", "x\u{e9}: y\r\n\r\n"),
    ("two hosts", "host: other.localhost\r\n\r\n"),
    ("the same host twice", "host: app.localhost\r\n\r\n"),
    ("two hosts, one above all", "Host : app.localhost\r\n\r\n"),
];

/// The first lines of requests that have nothing else, or all of their own.
const LINES: &[(&str, &str)] = &[
    ("two spaces", "GET  / HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("a tab", "GET\t/ HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("a space in the target", "GET /a b HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("a space behind it all", "GET / HTTP/1.1 \r\nhost: app.localhost\r\n\r\n"),
    ("a space before it all", " GET / HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("no version", "GET /\r\nhost: app.localhost\r\n\r\n"),
    ("a version to come", "GET / HTTP/1.2\r\nhost: app.localhost\r\n\r\n"),
    ("HTTP/2 in words", "GET / HTTP/2.0\r\nhost: app.localhost\r\n\r\n"),
    ("a version in small letters", "GET / http/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("a bare LF behind the line", "GET / HTTP/1.1\nhost: app.localhost\r\n\r\n"),
    ("nothing but bare LFs", "GET / HTTP/1.1\nhost: app.localhost\n\n"),
    ("a folded first header", "GET / HTTP/1.1\r\n host: app.localhost\r\n\r\n"),
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    ("a method in brackets", "G(E)T / HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("a NUL in the target", "GET /\0 HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("a target that is a name", "GET app.localhost HTTP/1.1\r\nhost: app.localhost\r\n\r\n"),
    ("another host in the target", "GET http://app.localhost/ HTTP/1.1\r\nhost: other\r\n\r\n"),
    (
        "another port in the target",
        "GET http://app.localhost:1/ HTTP/1.1\r\nhost: app.localhost:2\r\n\r\n",
    ),
    (
        "a user in the target",
        "GET http://app@app.localhost/ HTTP/1.1\r\nhost: app.localhost\r\n\r\n",
    ),
    ("a host with a user", "GET / HTTP/1.1\r\nhost: x@app.localhost\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nhost: app.localhost/x\r\n\r\n"),
    ("two hosts in one", "GET / HTTP/1.1\r\nhost: app.localhost, other\r\n\r\n"),
    (
        "chunks in HTTP/1.0",
        "POST / HTTP/1.0\r\nhost: app.localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a first line as a header",
        "POST / HTTP/1.1\r\nhost: app.localhost\r\nGET /smuggled HTTP/1.1\r\nx: y\r\n\r\n",
    ),
];

/// Bodies in chunks that are none. Their heads were good, so they may have reached the local service.
const CHUNKS: &[(&str, &str)] = &[
    ("no size", "\r\nabcd\r\n0\r\n\r\n"),
    ("a size that is none", "g\r\nabcd\r\n0\r\n\r\n"),
    ("a size with 0x", "0x4\r\nabcd\r\n0\r\n\r\n"),
    ("a size with a plus", "+4\r\nabcd\r\n0\r\n\r\n"),
    ("a size with a minus", "-1\r\nabcd\r\n0\r\n\r\n"),
    ("a size with an underscore", "0_4\r\nabcd\r\n0\r\n\r\n"),
    ("a space before the size", " 4\r\nabcd\r\n0\r\n\r\n"),
    ("a space behind the size", "4 \r\nabcd\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "10000000000000004\r\nabcd\r\n0\r\n\r\n"),
    ("a bare LF behind the size", "4\nabcd\r\n0\r\n\r\n"),
    ("a bare LF behind the data", "4\r\nabcd\n0\r\n\r\n"),
    ("a bare CR behind the size", "4\rabcd\r\n0\r\n\r\n"),
    ("a bare CR behind the data", "4\r\nabcd\r0\r\n\r\n"),
    ("data that is longer", "4\r\nabcdef\r\n0\r\n\r\n"),
    ("nothing behind the data", "4\r\nabcd0\r\n\r\n"),
    ("a bare LF in an extension", "4;x\ny\r\nabcd\r\n0\r\n\r\n"),
    ("a bare CR in an extension", "4;x\ry\r\nabcd\r\n0\r\n\r\n"),
    ("a NUL in an extension", "4;\0\r\nabcd\r\n0\r\n\r\n"),
    ("a bare LF behind the last", "4\r\nabcd\r\n0\n\r\n"),
    ("a bare LF at the end", "4\r\nabcd\r\n0\r\n\n"),
    ("a bare LF behind a trailer", "4\r\nabcd\r\n0\r\nx: y\n\r\n"),
    ("a folded trailer", "4\r\nabcd\r\n0\r\nx: y\r\n z\r\n\r\n"),
    ("a length among the trailers", "4\r\nabcd\r\n0\r\ncontent-length: 4\r\n\r\n"),
    ("a coding among the trailers", "4\r\nabcd\r\n0\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("a host among the trailers", "4\r\nabcd\r\n0\r\nhost: other\r\n\r\n"),
    ("a trailer without a colon", "4\r\nabcd\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
];

fn is_refused(name: &str, answer: &str) {
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
    let status_lines = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count();
    assert!(status_lines <= 1, "{name}: {answer}");
}

#[test]
fn a_head_that_can_be_read_in_two_ways_reaches_nobody() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let (service, recording) = recorder().await;
        let _client = bed.http("app", service.addr()).await;
        let heads = HEADS.iter().map(|(name, rest)| {
            (name, format!("POST / HTTP/1.1\r\nhost: app.localhost\r\n{rest}{SMUGGLED}"))
        });
        let lines = LINES.iter().map(|(name, text)| (name, format!("{text}{SMUGGLED}")));
        for (name, request) in heads.chain(lines) {
            let bytes = request.as_bytes();
            // At once, in two pieces, and byte by byte.
            let halves = bytes.split_at(bytes.len() / 2);
            let crumbs: Vec<&[u8]> = bytes.chunks(1).collect();
            for pieces in [&[bytes][..], &[halves.0, halves.1], &crumbs] {
                let answer = ask(bed.http_addr(), pieces).await;
                is_refused(name, &answer);
                assert_eq!(recording.take(), "", "{name} came through");
            }
        }
    });
}

#[test]
fn a_refused_head_behind_a_good_request_does_not_spoil_it() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let (service, recording) = recorder().await;
        let _client = bed.http("app", service.addr()).await;
        for (name, rest) in HEADS {
            let good = "GET /good HTTP/1.1\r\nhost: app.localhost\r\n\r\n";
            let bad =
                format!("{good}POST /bad HTTP/1.1\r\nhost: app.localhost\r\n{rest}{SMUGGLED}");
            let answer = ask(bed.http_addr(), &[bad.as_bytes()]).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer}");
            assert!(answer.contains("\r\n\r\nok"), "{name}: {answer}");
            assert!(answer.matches("HTTP/1.1 200 ").count() == 1, "{name}: {answer}");
            let heard = recording.take();
            assert!(heard.starts_with("GET /good HTTP/1.1\r\n"), "{name}: {heard}");
            assert_eq!(heard.matches(" HTTP/1.1\r\n").count(), 1, "{name}: {heard}");
        }
    });
}

#[test]
fn chunks_that_can_be_read_in_two_ways_end_the_request() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let (service, recording) = recorder().await;
        let _client = bed.http("app", service.addr()).await;
        for (number, (name, chunks)) in CHUNKS.iter().enumerate() {
            // What one began may be heard of during the next.
            let head = format!(
                "POST /{number} HTTP/1.1\r\nhost: app.localhost\r\ntransfer-encoding: chunked\r\n\r\n"
            );
            let body = format!("{chunks}{SMUGGLED}");
            for pieces in
                [&[head.as_bytes(), body.as_bytes()][..], &[(head.clone() + &body).as_bytes()]]
            {
                let answer = ask(bed.http_addr(), pieces).await;
                is_refused(name, &answer);
                let heard = recording.take();
                for before in 0..=number {
                    // Once in pieces and once whole.
                    let heads = heard.matches(&format!("POST /{before} HTTP/1.1\r\n")).count();
                    assert!(heads <= 2, "{name}: {heard}");
                }
                let heads = heard.matches(" HTTP/1.1\r\n").count();
                assert_eq!(heads, heard.matches("POST /").count(), "{name}: {heard}");
                assert!(!heard.contains("smuggled"), "{name}: {heard}");
                assert!(!heard.contains("0\r\n\r\n"), "{name} came to an end: {heard}");
            }
        }
    });
}

#[test]
fn what_is_forwarded_has_one_reading() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (service, recording) = recorder().await;
        let _client = bed.http("app", service.addr()).await;
        let forwarded = "x-forwarded-host: app.localhost\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\
             forwarded: for=127.0.0.1;proto=http;host=\"app.localhost\"\r\n";
        let cases = [
            (
                "POST /a HTTP/1.1\r\nhost: app.localhost\r\nconnection: close\r\nContent-Length:  4 \r\n\r\nabcd",
                format!(
                    "POST /a HTTP/1.1\r\nhost: app.localhost\r\ncontent-length: 4\r\n{forwarded}"
                ),
                "abcd",
            ),
            (
                "\r\nPOST /b HTTP/1.1\r\nhost: app.localhost\r\nconnection: close\r\nTransfer-Encoding: CHUNKED\r\n\r\n\
                 0004 ; x=\"y\"\r\nabcd\r\n00\r\n\r\n",
                format!("POST /b HTTP/1.1\r\nhost: app.localhost\r\n{forwarded}"),
                "4\r\nabcd\r\n0\r\n\r\n",
            ),
        ];
        for (request, head, body) in cases {
            let answer = ask(bed.http_addr(), &[request.as_bytes()]).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            let heard = recording.take();
            let (heard_head, heard_body) = heard.split_once("\r\n\r\n").unwrap();
            for line in head.lines() {
                assert!(heard_head.lines().any(|heard| heard == line), "{line} is not in {heard}");
            }
            let lengths = ["content-length", "transfer-encoding"];
            let lengths = lengths.map(|name| heard_head.to_lowercase().matches(name).count());
            assert_eq!(lengths.iter().sum::<usize>(), 1, "{heard}");
            assert_eq!(heard_body, body);
        }
    });
}

type Pair = (&'static str, &'static str);

/// Requests over HTTP/2, header by header, with the data behind them.
const FRAMES: &[(&str, &[Pair], &str)] = &[
    ("another host", &[GET, SCHEME, PATH, AUTHORITY, ("host", "other.localhost")], ""),
    ("another port", &[GET, SCHEME, PATH, AUTHORITY, ("host", "app.localhost:1")], ""),
    ("two hosts", &[GET, SCHEME, PATH, ("host", "app.localhost"), ("host", "other")], ""),
    ("two authorities", &[GET, SCHEME, PATH, AUTHORITY, (":authority", "other.localhost")], ""),
    ("no host at all", &[GET, SCHEME, PATH], ""),
    ("a user in the authority", &[GET, SCHEME, PATH, (":authority", "x@app.localhost")], ""),
    ("a path in the authority", &[GET, SCHEME, PATH, (":authority", "app.localhost/x")], ""),
    ("no path", &[GET, SCHEME, AUTHORITY], ""),
    ("an empty path", &[GET, SCHEME, (":path", ""), AUTHORITY], ""),
    ("two paths", &[GET, SCHEME, PATH, PATH, AUTHORITY], ""),
    ("a space in the path", &[GET, SCHEME, (":path", "/ HTTP/1.1 x"), AUTHORITY], ""),
    (
        "a head in the path",
        &[
            GET,
            SCHEME,
            (":path", "/ HTTP/1.1\r\nhost: app.localhost\r\n\r\nGET /smuggled"),
            AUTHORITY,
        ],
        "",
    ),
    ("a head in the method", &[(":method", "GET / HTTP/1.1\r\nx:"), SCHEME, PATH, AUTHORITY], ""),
    ("a line end in a value", &[GET, SCHEME, PATH, AUTHORITY, ("x", "y\r\ncontent-length: 4")], ""),
    ("a bare LF in a value", &[GET, SCHEME, PATH, AUTHORITY, ("x", "y\nz: 4")], ""),
    ("a NUL in a value", &[GET, SCHEME, PATH, AUTHORITY, ("x", "y\0z")], ""),
    ("a colon in a name", &[GET, SCHEME, PATH, AUTHORITY, ("x: y", "z")], ""),
    ("a line end in a name", &[GET, SCHEME, PATH, AUTHORITY, ("x\r\ny", "z")], ""),
    ("capitals in a name", &[GET, SCHEME, PATH, AUTHORITY, ("X", "y")], ""),
    ("a coding", &[POST, SCHEME, PATH, AUTHORITY, ("transfer-encoding", "chunked")], "0\r\n\r\n"),
    ("a connection", &[GET, SCHEME, PATH, AUTHORITY, ("connection", "close")], ""),
    ("an upgrade", &[GET, SCHEME, PATH, AUTHORITY, ("upgrade", "websocket")], ""),
    ("a pseudo-header at the end", &[GET, SCHEME, AUTHORITY, ("x", "y"), PATH], ""),
    ("an unknown pseudo-header", &[GET, SCHEME, PATH, AUTHORITY, (":x", "y")], ""),
    ("two lengths", &[POST, SCHEME, PATH, AUTHORITY, LENGTH, ("content-length", "5")], "abcd"),
    ("a length that is none", &[POST, SCHEME, PATH, AUTHORITY, ("content-length", "+4")], "abcd"),
];

/// The same for bodies that are not as long as their head says: that may have reached the local service.
const LENGTHS: &[(&str, &str)] = &[("3", "abcd"), ("5", "abcd"), ("0", "abcd"), ("4", "")];

const GET: (&str, &str) = (":method", "GET");
const POST: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "app.localhost");
const LENGTH: (&str, &str) = ("content-length", "4");

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Literals that are not indexed (RFC 7541, section 6.2.2): no library would write what we need.
fn headers(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// What became of a request: the first byte of its answer's headers, or `None` if it got none. A ping behind it says
/// when all there is to come has come.
async fn ask_in_frames(server: SocketAddr, pairs: &[(&str, &str)], data: &str) -> Option<u8> {
    let mut visitor = TcpStream::connect(server).await.unwrap();
    let end = if data.is_empty() { 5 } else { 4 };
    let mut asking = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    asking.extend(frame(4, 0, 0, &[]));
    asking.extend(frame(1, end, 1, &headers(pairs)));
    if !data.is_empty() {
        asking.extend(frame(0, 1, 1, data.as_bytes()));
    }
    let _ = visitor.write_all(&asking).await;
    let hear = async {
        loop {
            let mut head = [0; 9];
            visitor.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            visitor.read_exact(&mut payload).await.ok()?;
            match head[3] {
                1 => return Some(payload[0]),
                // RST_STREAM and GOAWAY.
                3 | 7 => return None,
                _ => {}
            }
        }
    };
    soon(&format!("{pairs:?}"), hear).await
}

#[test]
fn requests_over_http2_cannot_say_two_things_either() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let (service, recording) = recorder().await;
        let _client = bed.http("app", service.addr()).await;
        let fine = [POST, SCHEME, PATH, AUTHORITY, LENGTH, ("host", "APP.localhost:80")];
        assert_eq!(ask_in_frames(bed.http_addr(), &fine, "abcd").await, Some(STATUS_200));
        assert!(recording.take().ends_with("\r\n\r\nabcd"));
        for (name, pairs, data) in FRAMES {
            let answer = ask_in_frames(bed.http_addr(), pairs, data).await;
            assert!(matches!(answer, None | Some(STATUS_400)), "{name}: {answer:?}");
            assert_eq!(recording.take(), "", "{name} came through");
        }
        for (length, data) in LENGTHS {
            let pairs = [POST, SCHEME, PATH, AUTHORITY, ("content-length", length)];
            let answer = ask_in_frames(bed.http_addr(), &pairs, data).await;
            assert!(matches!(answer, None | Some(STATUS_400)), "{length} for {data}: {answer:?}");
            let heard = recording.take();
            assert!(!heard.ends_with(&format!("{length}\r\n\r\n{data}")), "{heard}");
        }
    });
}

/// Indexes of the static table (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;
const STATUS_400: u8 = 0x8c;
