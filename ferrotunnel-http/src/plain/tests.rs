//! What is read here is what hyper's client reads, whatever pieces it comes in.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::{ReasonPhrase, on_informational};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::heard::{Heard, heard};
use crate::config::MAX_BUFFERED;

/// What hyper's client makes of it.
async fn heard_by_hyper(method: &Method, answer: &[u8]) -> Heard {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_BUFFERED);
    let (mut sender, connection) = builder.handshake(TokioIo::new(ours)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    request.headers_mut().insert(HOST, "app".parse().unwrap());
    let interim = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&interim);
    on_informational(&mut request, move |head| {
        told.lock().push((head.status(), head.headers().clone()));
    });
    let asked = sender.send_request(request);
    let answered = async {
        let (mut from, mut to) = tokio::io::split(theirs);
        let mut line = [0];
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            from.read_exact(&mut line).await.unwrap();
            seen.push(line[0]);
        }
        let _ = to.write_all(answer).await;
        (from, to)
    };
    let (response, ends) = tokio::join!(asked, async {
        let (from, mut to) = answered.await;
        let _ = to.shutdown().await;
        from
    });
    let mut heard = Heard { interim: std::mem::take(&mut *interim.lock()), ..Heard::default() };
    let Ok(response) = response else { return heard };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // It is for whoever asked to say what to make of it. Here nobody asks.
        return heard;
    }
    let (head, mut body) = response.into_parts();
    let reason =
        head.extensions.get::<ReasonPhrase>().map(|it| Bytes::copy_from_slice(it.as_ref()));
    heard.head = Some((head.status, head.version, reason, head.headers));
    heard.size = hyper::body::Body::size_hint(&body).exact();
    heard.is_whole = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => heard.data.extend_from_slice(&data),
                Err(frame) => heard.trailers = frame.into_trailers().ok(),
            },
        }
    };
    drop((ends, sender));
    let _ = connection.await;
    heard
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Both, for all that hyper tells: it says of no connection whether it stays.
fn compare(method: &Method, answer: &[u8], pieces: &[&[u8]], expected: &Heard) {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(600)]);
    let mut heard = heard(method, pieces);
    heard.may_stay = false;
    assert_eq!(&heard, expected, "{method} {text:?} in {} pieces", pieces.len());
}

fn compare_in_pieces(method: &Method, answer: &[u8], expected: &Heard) {
    compare(method, answer, &[answer], expected);
    // Each byte alone, and in two at every place.
    let bytes: Vec<&[u8]> = answer.chunks(1).collect();
    compare(method, answer, &bytes, expected);
    if answer.len() < 1_000 {
        for place in 1..answer.len() {
            let (one, two) = answer.split_at(place);
            compare(method, answer, &[one, two], expected);
        }
    }
}

fn same_as_hyper(answer: &[u8]) {
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        let expected = in_runtime(heard_by_hyper(&method, answer));
        compare_in_pieces(&method, answer, &expected);
    }
}

const ANSWERS: &[&str] = &[
    // Lengths.
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 4\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 00005\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551613\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551614\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
    // Chunks.
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nA \t\r\n0123456789\r\n0000\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\x01b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\nX: b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\r\n b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: a\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellooo\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000005\r\nhello\r\n0\r\n\r\n",
    // Until the end.
    "HTTP/1.1 200 OK\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
    // HTTP/1.0.
    "HTTP/1.0 200 OK\r\n\r\nhello",
    "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    // None at all.
    "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    // Interim ones.
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 What\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTT",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
    // First lines.
    "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 299\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 299 So so\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 \u{e9}t\u{e9}\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 a\tb\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 a\x01b\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 600 No\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 999 No\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "\r\n\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    " HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "hello",
    "<html>\r\n\r\n",
    "SSH-2.0-OpenSSH_9.6\r\n",
    "",
    "H",
    "\r\n",
    // Line ends and headers.
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi",
    "HTTP/1.1 200 OK\rContent-Length: 2\r\r\r\nhi",
    "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX: \t a \t\r\nContent-Length:   2  \r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX: \u{e9}\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX\u{e9}: a\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX(: a\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX_y: a\r\nx-Y: B\r\nx_y: c\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-L",
];

#[test]
fn answers_are_what_they_are_to_hyper() {
    ANSWERS.iter().for_each(|answer| same_as_hyper(answer.as_bytes()));
}

#[test]
fn limits_are_those_of_hyper() {
    let headers = |count: usize| {
        let lines: String = (0..count).map(|number| format!("x-{number}: a\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nhi")
    };
    let long = |len: usize| {
        let value = "a".repeat(len);
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: {value}\r\n\r\nhi")
    };
    let trailers = |count: usize, len: usize| {
        let value = "a".repeat(len);
        let lines: String = (0..count).map(|number| format!("x-{number}: {value}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{lines}\r\n")
    };
    let extension = |len: usize| {
        let value = "a".repeat(len);
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;{value}\r\nhi\r\n0\r\n\r\n")
    };
    let mut answers: Vec<_> = [99, 100, 101].map(headers).into();
    answers.extend([99, 100, 101].map(|count| trailers(count, 1)));
    // The line itself is seven bytes, and two end them all.
    answers.extend((16_370..16_390).map(|len| trailers(1, len)));
    answers.extend((16_380..16_388).map(extension));
    for answer in answers.iter().map(String::as_bytes) {
        let expected = in_runtime(heard_by_hyper(&Method::GET, answer));
        compare(&Method::GET, answer, &[answer], &expected);
        let bytes: Vec<&[u8]> = answer.chunks(1).collect();
        compare(&Method::GET, answer, &bytes, &expected);
    }
    // Between these two it depends on how much hyper happens to have read at once; here 64 KiB are the most.
    for (len, is_taken) in [(60_000, true), (MAX_BUFFERED - 60, true), (3 * MAX_BUFFERED, false)] {
        let answer = long(len);
        let expected = in_runtime(heard_by_hyper(&Method::GET, answer.as_bytes()));
        assert_eq!(expected.is_whole, is_taken);
        compare(&Method::GET, answer.as_bytes(), &[answer.as_bytes()], &expected);
        let pieces: Vec<&[u8]> = answer.as_bytes().chunks(1_000).collect();
        compare(&Method::GET, answer.as_bytes(), &pieces, &expected);
    }
}

/// Parts of answers, good and bad, and in any order.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 Well\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 500\n",
    ]);
    let line = prop::sample::select(vec![
        "Content-Length: 5\r\n",
        "Content-Length: 7\r\n",
        "content-length: 5, 5\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "X-A: 1\r\n",
        "X-A: \r\n",
        "X-B: 2\n",
        "X-C : 3\r\n",
        " folded\r\n",
    ]);
    let part = prop::sample::select(vec![
        "hello",
        "5\r\nhello\r\n",
        "3;x=y\r\nabc\r\n",
        "1 \r\na\r\n",
        "0\r\n",
        "0\r\nA: b\r\n",
        "\r\n",
        "A: b\r\n",
        "a",
        "\n",
    ]);
    let parts = (first, prop::collection::vec(line, 0..5), prop::collection::vec(part, 0..6));
    (parts, prop::option::of((any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |((first, lines, parts), changed)| {
            let text = format!("{first}{}\r\n{}", lines.concat(), parts.concat());
            let mut bytes = text.into_bytes();
            if let Some((place, byte)) = changed {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_answer_is_what_it_is_to_hyper(answer in answer(), places in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        for method in [Method::GET, Method::HEAD] {
            let expected = in_runtime(heard_by_hyper(&method, &answer));
            let mut places: Vec<_> = places.iter().map(|place| place.index(answer.len())).collect();
            places.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for place in places {
                pieces.push(&answer[from..place]);
                from = place;
            }
            pieces.push(&answer[from..]);
            compare(&method, &answer, &pieces, &expected);
        }
    }
}

/// hyper's own word for it would be whether it takes a second request.
#[test]
fn a_connection_stays_only_behind_an_answer_that_is_whole_and_says_nothing_else() {
    let may_stay = |method, answer: &str| heard(&method, &[answer.as_bytes()]).may_stay;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    ] {
        assert!(may_stay(Method::GET, answer), "{answer:?}");
    }
    assert!(may_stay(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"));
    assert!(may_stay(Method::HEAD, "HTTP/1.1 200 OK\r\n\r\n"));
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, there",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nConnection: keep-alive\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi",
    ] {
        assert!(!may_stay(Method::GET, answer), "{answer:?}");
    }
    assert!(!may_stay(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
}

/// What a request is in bytes when hyper sends it.
async fn sent_by_hyper(request: Request<Empty<Bytes>>) -> Vec<u8> {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
    let connection = tokio::spawn(connection);
    let asking = tokio::spawn(async move { sender.send_request(request).await.is_ok() });
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(theirs.read_u8().await.unwrap());
    }
    drop(theirs);
    let _ = (asking.await, connection.await);
    seen
}

#[test]
fn requests_are_written_as_hyper_writes_them() {
    for (method, target) in [
        ("GET", "/"),
        ("GET", "/a/b%20c;d=e?f=g&h=%C3%A9"),
        ("HEAD", "/?"),
        ("OPTIONS", "*"),
        ("DELETE", "//x"),
        ("POST", "/x"),
        ("PURGE", "/x?y?z"),
    ] {
        let request = || {
            Request::builder()
                .method(method)
                .uri(target)
                .header(HOST, "app.example:8080")
                .header("x-two", "1")
                .header("x-other", "\u{e9}\tx")
                .header("X-Two", "2")
                .header("x-empty", "")
                .body(Empty::<Bytes>::new())
                .unwrap()
        };
        let (parts, _) = request().into_parts();
        let ours = super::head::write(&parts, &mut bytes::BytesMut::new());
        assert_eq!(ours, in_runtime(sent_by_hyper(request())), "{method} {target}");
    }
}

#[test]
fn what_is_more_than_a_head_is_not_plain() {
    let is_plain = |request: http::request::Builder| {
        super::is_plain(&request.body(()).unwrap().into_parts().0)
    };
    let get = || Request::get("/x");
    assert!(is_plain(get()));
    assert!(is_plain(Request::post("/x").header("content-length", "0")));
    assert!(!is_plain(Request::post("/x").header("content-length", "1")));
    assert!(!is_plain(get().header("content-length", "0").header("content-length", "5")));
    assert!(!is_plain(get().header("transfer-encoding", "chunked")));
    assert!(!is_plain(get().header("expect", "100-continue")));
    assert!(!is_plain(Request::connect("app.example:80")));
    assert!(!is_plain(Request::get("http://app.example/")));
    assert!(!is_plain(get().version(Version::HTTP_2)));
}
