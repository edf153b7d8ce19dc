//! Heads of messages as HTTP/1.1 has them: those of requests are written, those of answers are read.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    request, response,
};
use hyper::ext::ReasonPhrase;

use super::{
    bad::Bad,
    body::{MOST_HEADERS, Rest},
};
use crate::config::MAX_BUFFERED;

/// Writes the head of a request that has no body.
pub(crate) fn write(head: &request::Parts, to: &mut BytesMut) -> Bytes {
    let (path, query) = (head.uri.path(), head.uri.query());
    let lines: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let query_len = query.map_or(0, |query| query.len() + 1);
    // Behind the method and the target comes the rest of their line, and the empty one comes last.
    to.reserve(head.method.as_str().len() + path.len() + query_len + lines + 14);
    let mut add = |part: &[u8]| to.extend_from_slice(part);
    add(head.method.as_str().as_bytes());
    add(b" ");
    add(path.as_bytes());
    if let Some(query) = query {
        add(b"?");
        add(query.as_bytes());
    }
    add(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        add(name.as_str().as_bytes());
        add(b": ");
        add(value.as_bytes());
        add(b"\r\n");
    }
    add(b"\r\n");
    to.split().freeze()
}

/// The head of an answer, and what it says of what follows.
pub(crate) struct Head {
    pub(crate) parts: response::Parts,
    pub(crate) body: Rest,
    /// Another answer may follow over the same connection.
    pub(crate) may_stay: bool,
}

/// What the headers of an answer say of its body and its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Framing {
    length: Length,
    /// What the last of `Transfer-Encoding` ends with is `chunked`.
    chunked: Option<bool>,
    closes: bool,
}

/// What `Content-Length` says, however often.
#[derive(Clone, Copy, Debug, Default)]
enum Length {
    #[default]
    Unsaid,
    Is(u64),
    Unclear,
}

/// Takes the head of an answer off what has come. `None`: not all of it has.
pub(crate) fn take(unread: &mut Bytes) -> Result<Option<(response::Parts, Framing)>, Bad> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let looked_at = unread.get(..MAX_BUFFERED).unwrap_or(unread);
    let read = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        looked_at,
        &mut room,
    );
    let len = match read {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if looked_at.len() >= MAX_BUFFERED => {
            return Err(Bad::TooLong);
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Bad::TooLong),
        Err(_) => return Err(Bad::Head),
    };
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = parsed.code.and_then(|it| StatusCode::from_u16(it).ok()).ok_or(Bad::Head)?;
    parts.version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    if parsed.reason != parts.status.canonical_reason() {
        let reason = parsed.reason.unwrap_or_default().as_bytes();
        parts.extensions.insert(ReasonPhrase::try_from(reason).map_err(|_| Bad::Head)?);
    }
    let mut framing = Framing::default();
    parts.headers.reserve(parsed.headers.len());
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| Bad::Header)?;
        // No copy: it goes to the visitor at once, and what it is a part of goes with it.
        let value = HeaderValue::from_maybe_shared(unread.slice_ref(header.value));
        let value = value.map_err(|_| Bad::Header)?;
        framing.hear(&name, &value);
        parts.headers.append(name, value);
    }
    let _ = unread.split_to(len);
    Ok(Some((parts, framing)))
}

impl Head {
    /// What a final answer says (RFC 9112, section 6.3).
    pub(crate) fn of(parts: response::Parts, said: Framing, asked: &Method) -> Result<Self, Bad> {
        let body = said.body(parts.status, parts.version, asked)?;
        let may_stay = parts.version == Version::HTTP_11 && !said.closes;
        Ok(Self { parts, body, may_stay })
    }
}

impl Framing {
    /// Asked of each header as it is read: to look for them afterwards would cost more.
    fn hear(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == CONTENT_LENGTH {
            self.length = self.length.said(value);
        } else if *name == TRANSFER_ENCODING {
            self.chunked = Some(ends_chunked(value));
        } else if *name == CONNECTION {
            self.closes |= says_close(value);
        }
    }

    fn body(self, status: StatusCode, version: Version, asked: &Method) -> Result<Rest, Bad> {
        if *asked == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Ok(Rest::Nothing);
        }
        match (self.chunked, self.length) {
            (Some(_), _) if version == Version::HTTP_10 => Err(Bad::Length),
            (Some(true), _) => Ok(Rest::Chunks(Box::default())),
            (Some(false), _) | (None, Length::Unsaid) => Ok(Rest::UntilEnd),
            (None, Length::Is(length)) => Ok(Rest::Sized(length)),
            (None, Length::Unclear) => Err(Bad::Length),
        }
    }
}

impl Length {
    /// Once more: it has to be the same number.
    fn said(self, value: &HeaderValue) -> Self {
        let Ok(value) = value.to_str() else { return Self::Unclear };
        value.split(',').fold(self, |length, said| match (length, number(said.trim())) {
            (Self::Unsaid, Some(said)) => Self::Is(said),
            (Self::Is(known), Some(said)) if known == said => length,
            _ => Self::Unclear,
        })
    }
}

/// Whether chunks are the last thing that was made of a body.
fn ends_chunked(coding: &HeaderValue) -> bool {
    let last = coding.to_str().ok().and_then(|coding| coding.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

fn says_close(options: &HeaderValue) -> bool {
    let mut options = options.to_str().unwrap_or_default().split(',');
    options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Digits and nothing else: `u64` would take a sign.
fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    // The highest two stand for other kinds of bodies in hyper, which refuses them.
    text.parse().ok().filter(|number| is_number && *number < u64::MAX - 1)
}
