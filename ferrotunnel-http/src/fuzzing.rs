//! Doors for the fuzzer to what visitors' bytes meet first. No other build has them.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    answer::{Asker, Form, last_words},
    connection, detect,
    error_pages::ErrorPages,
    framing::Framing,
    host::Asked,
    refusal::Refusal,
    request_id,
};

pub use crate::plain::heard::{Heard, heard};

/// What is made of a connection's bytes before any parser sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The bytes that the parser gets to see.
    pub good: usize,
    /// The first lines of the requests, cut where they are long, and whether all of the request has come.
    pub heads: Vec<Vec<u8>>,
    /// What ended the connection, and what the visitor is told.
    pub stopped: Option<(String, Bytes)>,
}

/// Follows bytes that come in pieces. No request is ever answered by another protocol.
pub fn follow<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Followed {
    let (mut framing, mut followed) = (Framing::default(), Followed::default());
    for mut piece in pieces {
        while !piece.is_empty() {
            framing.decide(false);
            // By bytes, so that each head is seen when it has come.
            let judged = framing.follow(&piece[..1]);
            match judged {
                Ok(count) => {
                    followed.good += count;
                    piece = &piece[count..];
                }
                Err(stopped) => {
                    let seen = framing.seen_last();
                    let mut headers = seen.headers();
                    let asker = Asker {
                        form: Form::wanted_by(&headers),
                        id: request_id::of(&mut headers),
                        measured: None,
                    };
                    let is_head = seen.request_line().starts_with(b"HEAD ");
                    let refusal = Refusal::Unclear(stopped.why);
                    let words = last_words(&refusal, &asker, &ErrorPages::default(), is_head);
                    followed.stopped = Some((stopped.why.to_string(), words.bytes));
                    return followed;
                }
            }
            if framing.heads() > followed.heads.len() {
                followed.heads.push(framing.seen_last().request_line().to_vec());
            }
        }
    }
    followed
}

/// The same for bytes that come at once: how many are good, how many heads, and why no more.
pub fn follow_at_once(bytes: &[u8]) -> (usize, usize, Option<String>) {
    let (mut framing, mut good) = (Framing::default(), 0);
    loop {
        framing.decide(false);
        match framing.follow(&bytes[good..]) {
            Ok(0) => return (good, framing.heads(), None),
            Ok(count) => good += count,
            Err(stopped) => {
                return (good + stopped.good, framing.heads(), Some(stopped.why.to_string()));
            }
        }
        if good == bytes.len() {
            return (good, framing.heads(), None);
        }
    }
}

/// The first lines of the requests that the parser makes of bytes, as far as it goes.
pub fn parse(bytes: &[u8]) -> Vec<String> {
    let lines = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let line = format!("{} {} {:?}", request.method(), request.uri(), request.version());
        lines.borrow_mut().push(line);
        async {
            // To its end, so that the next request is found behind it.
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = connection::http1().serve_connection(TokioIo::new(Tape(bytes)), service);
    let mut connection = pin!(connection);
    let mut cx = Context::from_waker(Waker::noop());
    // Nothing of it waits, but a body that is cut off hands itself over in several turns.
    for _ in 0..MOST_TURNS {
        if connection.as_mut().poll(&mut cx).is_ready() {
            break;
        }
    }
    lines.into_inner()
}

const MOST_TURNS: usize = 100_000;

/// Whether bytes begin HTTP/2, and how many of them were looked at.
pub fn is_http2(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes;
    let detected = pin!(detect::detect(&mut rest)).poll(&mut Context::from_waker(Waker::noop()));
    match detected {
        Poll::Ready(Ok(Some((version, read_ahead)))) => {
            assert_eq!([&read_ahead, rest].concat(), bytes, "not a byte is lost");
            Some(version == detect::Version::Http2)
        }
        _ => None,
    }
}

/// Whom a request is for: the host, and the same as it goes on to the local service.
pub fn asked_host(uri: &str, hosts: &[&[u8]], version: Version) -> Option<(String, String)> {
    let uri: Uri = uri.parse().ok()?;
    let mut headers = HeaderMap::new();
    for host in hosts {
        headers.append(HOST, HeaderValue::from_bytes(host).ok()?);
    }
    let asked = Asked::by(&uri, &headers, version).ok()??;
    Some((asked.host().to_owned(), asked.text().to_owned()))
}

/// A connection whose peer has said all and takes every answer.
struct Tape<'a>(&'a [u8]);

impl AsyncRead for Tape<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(buf.remaining()));
        buf.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
