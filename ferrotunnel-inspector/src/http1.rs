//! HTTP/1.1, read along in both directions (RFC 9112).

mod framing;

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Instant;

use self::framing::{Framing, Part};
use crate::exchange::Exchange;
use crate::head::{self, Headers, RequestHead, ResponseHead, Version, has_token, header};
use crate::record::{From, Kind};
use crate::sse::Events;
use crate::stream_tap::Begins;
use crate::websocket::{Deflate, Messages};

/// What could not be followed. The rest of the connection is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) &'static str);

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Http1 {
    asking: Heads,
    answering: Heads,
    /// The request whose body is on its way.
    asked: Option<(Arc<Exchange>, Framing)>,
    /// The answer whose body is on its way.
    answer: Option<Answer>,
    /// Requests without an answer, in their order.
    waiting: VecDeque<Waiting>,
    /// The last request wants another protocol: what follows it means nothing until that is decided.
    is_undecided: bool,
    other: Option<Box<Other>>,
}

#[derive(Debug)]
struct Waiting {
    exchange: Arc<Exchange>,
    /// An answer to it has no body, whatever it says.
    is_head: bool,
    is_connect: bool,
}

#[derive(Debug)]
struct Answer {
    exchange: Arc<Exchange>,
    framing: Framing,
    events: Option<Box<Events>>,
}

/// The protocol that the connection has changed to.
#[derive(Debug)]
struct Other {
    exchange: Arc<Exchange>,
    /// Of a WebSocket: those of the visitor, and of the service.
    messages: Option<[Messages; 2]>,
}

/// Bytes of a head that is not there as a whole yet.
#[derive(Debug, Default)]
struct Heads {
    bytes: Vec<u8>,
    /// Up to where no end of a head was found.
    searched: usize,
}

impl Heads {
    /// Takes more bytes in. Returns the length of the head, once it is there.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>, Lost> {
        self.bytes.extend_from_slice(bytes);
        self.next_end()
    }

    fn next_end(&mut self) -> Result<Option<usize>, Lost> {
        let from = self.searched.saturating_sub(3);
        let rest = self.bytes.get(from..).unwrap_or_default();
        let is_end = |(at, byte): (usize, &u8)| {
            *byte == b'\n'
                && (rest.get(at + 1) == Some(&b'\n')
                    || (rest.get(at + 1) == Some(&b'\r') && rest.get(at + 2) == Some(&b'\n')))
        };
        let found = rest.iter().enumerate().position(is_end);
        match found {
            Some(at) => {
                let end = from + at + if rest.get(at + 1) == Some(&b'\n') { 2 } else { 3 };
                self.searched = end;
                Ok(Some(end))
            }
            None if self.bytes.len() > MOST_HEAD => Err(Lost("a head is too long")),
            None => {
                self.searched = self.bytes.len();
                Ok(None)
            }
        }
    }

    /// What is behind the head, which is used up.
    fn rest(&mut self, head: usize) -> Vec<u8> {
        self.searched = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.split_off(head.min(bytes.len()))
    }

    /// Nothing is there that belongs in front of what comes next.
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Http1 {
    pub(crate) fn asks(&mut self, bytes: &[u8], begins: &mut Begins) -> Result<(), Lost> {
        let mut held;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            if let Some(other) = &mut self.other {
                return other.passed(From::Visitor, bytes);
            }
            if let Some((exchange, framing)) = &mut self.asked {
                let (used, is_end) = framing.feed(bytes, &mut |part| match part {
                    Part::Data(data) => exchange.body(From::Visitor, data),
                    Part::Trailers(trailers) => exchange.trailers(From::Visitor, trailers),
                })?;
                bytes = bytes.get(used..).unwrap_or_default();
                if is_end {
                    exchange.request_end(begins.now());
                    self.asked = None;
                }
                continue;
            }
            if self.is_undecided {
                self.asking.bytes.extend_from_slice(bytes);
                return if self.asking.bytes.len() > MOST_HEAD {
                    Err(Lost("too much was sent before a change of protocol was agreed on"))
                } else {
                    Ok(())
                };
            }
            // Nearly always a head comes in one piece, and need not be copied to be read.
            if self.asking.is_empty()
                && let Some((head, end)) = Request::parse(bytes)?
            {
                bytes = bytes.get(end..).unwrap_or_default();
                self.begin(head, begins)?;
                continue;
            }
            let Some(mut end) = self.asking.take(bytes)? else { return Ok(()) };
            let head = loop {
                let whole = self.asking.bytes.get(..end).unwrap_or_default();
                if let Some((head, _)) = Request::parse(whole)? {
                    break head;
                }
                // Empty lines in front of it, which would be found again and again.
                self.asking.bytes.drain(..end);
                self.asking.searched = 0;
                let Some(next) = self.asking.next_end()? else { return Ok(()) };
                end = next;
            };
            held = self.asking.rest(end);
            bytes = &held;
            self.begin(head, begins)?;
        }
        Ok(())
    }

    fn begin(&mut self, request: Request, begins: &mut Begins) -> Result<(), Lost> {
        if self.waiting.len() >= MOST_WAITING {
            return Err(Lost("too many requests wait for answers"));
        }
        let Request { head, framing } = request;
        let is_head = head.method == "HEAD";
        let is_connect = head.method == "CONNECT";
        let wants_upgrade = header(&head.headers, "upgrade").is_some() || is_connect;
        let is_whole = matches!(framing, Framing::None);
        let exchange = Arc::new(begins.exchange(head, is_whole));
        if !is_whole {
            self.asked = Some((Arc::clone(&exchange), framing));
        }
        self.is_undecided = wants_upgrade;
        self.waiting.push_back(Waiting { exchange, is_head, is_connect });
        Ok(())
    }

    pub(crate) fn answers(&mut self, bytes: &[u8], begins: &mut Begins) -> Result<(), Lost> {
        let mut held;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            if let Some(other) = &mut self.other {
                return other.passed(From::Service, bytes);
            }
            if let Some(answer) = &mut self.answer {
                let (used, is_end) = answer.feed(bytes)?;
                bytes = bytes.get(used..).unwrap_or_default();
                if is_end {
                    self.end_answer(begins);
                }
                continue;
            }
            if self.answering.is_empty()
                && let Some((response, end)) = Response::parse(bytes)?
            {
                bytes = bytes.get(end..).unwrap_or_default();
                self.answered(response, begins)?;
                continue;
            }
            let Some(end) = self.answering.take(bytes)? else { return Ok(()) };
            let whole = self.answering.bytes.get(..end).unwrap_or_default();
            let Some((response, _)) = Response::parse(whole)? else {
                return Err(Lost("an answer that is none"));
            };
            held = self.answering.rest(end);
            bytes = &held;
            self.answered(response, begins)?;
        }
        Ok(())
    }

    fn answered(&mut self, response: Response, begins: &mut Begins) -> Result<(), Lost> {
        let Response { head, is_http10 } = response;
        let Some(waiting) = self.waiting.front() else {
            return Err(Lost("an answer that nobody has asked for"));
        };
        if head.status == 101 {
            return self.change(head, begins);
        }
        if (100..200).contains(&head.status) {
            waiting.exchange.interim(head);
            return Ok(());
        }
        let has_none = waiting.is_head || matches!(head.status, 204 | 304);
        // While it still waits, so that it hears why nobody can follow.
        let framing =
            if has_none { Framing::None } else { Framing::of_response(&head.headers, is_http10)? };
        let Some(Waiting { exchange, is_connect, .. }) = self.waiting.pop_front() else {
            return Ok(());
        };
        if is_connect && (200..300).contains(&head.status) {
            exchange.response(head, None, begins.now());
            self.other = Some(Box::new(Other { exchange, messages: None }));
            return self.other_from_visitor();
        }
        let is_sse = is_event_stream(&head.headers);
        let events = is_sse.then(Box::default);
        let kind = is_sse.then_some(Kind::Sse);
        exchange.response(head, kind, begins.now());
        self.answer = Some(Answer { exchange, framing, events });
        if let Some(Answer { framing: Framing::None, .. }) = self.answer {
            self.end_answer(begins);
        }
        if self.is_undecided && self.waiting.is_empty() {
            // It has stayed with HTTP.
            self.is_undecided = false;
            let bytes = std::mem::take(&mut self.asking).bytes;
            return self.asks(&bytes, begins);
        }
        Ok(())
    }

    fn end_answer(&mut self, begins: &mut Begins) {
        if let Some(answer) = self.answer.take() {
            answer.exchange.response_end(begins.now());
        }
    }

    /// The connection changes its protocol.
    fn change(&mut self, head: ResponseHead, begins: &mut Begins) -> Result<(), Lost> {
        let Some(Waiting { exchange, .. }) = self.waiting.pop_front() else { return Ok(()) };
        let is_websocket = has_token(&head.headers, "upgrade", "websocket");
        let messages = is_websocket.then(|| {
            let deflate = Deflate::agreed(&head.headers);
            let of = |from| Messages::new(from, deflate.as_ref());
            [of(From::Visitor), of(From::Service)]
        });
        let kind = is_websocket.then_some(Kind::WebSocket);
        exchange.response(head, kind, begins.now());
        self.other = Some(Box::new(Other { exchange, messages }));
        self.other_from_visitor()
    }

    /// What the visitor has said already in the other protocol.
    fn other_from_visitor(&mut self) -> Result<(), Lost> {
        let early = std::mem::take(&mut self.asking).bytes;
        match &mut self.other {
            Some(other) if !early.is_empty() => other.passed(From::Visitor, &early),
            _ => Ok(()),
        }
    }

    /// The local service says no more.
    pub(crate) fn visitor_end(&mut self) {
        if let Some(answer) = self.answer.take() {
            match answer.framing {
                Framing::UntilEnd => answer.exchange.response_end(Instant::now()),
                _ => answer.exchange.fail("the local service ended in the middle of its answer"),
            }
        }
        if let Some(other) = &self.other {
            other.exchange.done();
        }
        for waiting in self.waiting.drain(..) {
            waiting.exchange.fail("the local service closed the connection without an answer");
        }
    }

    /// The visitor says no more.
    pub(crate) fn local_end(&mut self) {
        if let Some((exchange, _)) = self.asked.take() {
            exchange.fail("the visitor ended in the middle of its request");
        }
    }

    pub(crate) fn broke(&mut self, why: &str) {
        let asked = self.asked.take().map(|(exchange, _)| exchange);
        let answer = self.answer.take().map(|answer| answer.exchange);
        let waiting = self.waiting.drain(..).map(|waiting| waiting.exchange);
        // Whoever has the whole answer need not take the rest of a request.
        let open: Vec<_> = answer.into_iter().chain(waiting).collect();
        for exchange in &open {
            exchange.fail(why);
        }
        drop(asked);
        if let Some(other) = self.other.take() {
            match other.has_closed() {
                true => other.exchange.done(),
                false => other.exchange.fail(why),
            }
        }
    }
}

impl Answer {
    fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), Lost> {
        let Self { exchange, framing, events } = self;
        framing.feed(bytes, &mut |part| match part {
            Part::Data(data) => {
                exchange.body(From::Service, data);
                if let Some(events) = events {
                    events.feed(data, exchange);
                }
            }
            Part::Trailers(trailers) => exchange.trailers(From::Service, trailers),
        })
    }
}

impl Other {
    fn passed(&mut self, from: From, bytes: &[u8]) -> Result<(), Lost> {
        self.exchange.passed(from, bytes.len());
        match &mut self.messages {
            None => Ok(()),
            Some(messages) => messages[from.index()].feed(bytes, &self.exchange),
        }
    }

    fn has_closed(&self) -> bool {
        self.messages.as_ref().is_some_and(|both| both.iter().any(Messages::has_closed))
    }
}

struct Request {
    head: RequestHead,
    framing: Framing,
}

impl Request {
    /// The first in there, and where it ends; `None`: there is more to come.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Lost> {
        let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let end = match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Lost("a request that is none")),
        };
        let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let line = (head::method(request.method.unwrap_or_default()), version);
        let path = request.path.unwrap_or_default();
        let head = RequestHead::new(line, path, "", fields(request.headers));
        let framing = Framing::of_request(&head.headers)?;
        Ok(Some((Self { head, framing }, end)))
    }
}

struct Response {
    head: ResponseHead,
    is_http10: bool,
}

impl Response {
    /// The first in there, and where it ends; `None`: there is more to come.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Lost> {
        let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        // As lenient as whoever takes the answer.
        let parsed = httparse::ParserConfig::default()
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
        let end = match parsed {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Lost("an answer that is none")),
        };
        let status = response.code.unwrap_or_default();
        let head = ResponseHead {
            status,
            reason: head::reason(status, response.reason.unwrap_or_default()),
            headers: owned(response.headers),
        };
        Ok(Some((Self { head, is_http10: response.version == Some(0) }, end)))
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    Headers::packed(fields(headers))
}

fn fields<'a>(
    headers: &'a [httparse::Header<'_>],
) -> impl Iterator<Item = (&'a str, &'a [u8])> + Clone {
    headers.iter().map(|one| (one.name, one.value))
}

pub(crate) fn is_event_stream(headers: &Headers) -> bool {
    let is_plain = header(headers, "content-encoding").is_none_or(|it| it == "identity");
    let kind = header(headers, "content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    is_plain && kind.eq_ignore_ascii_case("text/event-stream")
}

/// As long as those that the server and hyper take.
const MOST_HEAD: usize = 64 << 10;

/// More than hyper takes.
const MOST_HEADERS: usize = 128;

/// Pipelining is rare, and of that many nobody waits.
const MOST_WAITING: usize = 64;

#[cfg(test)]
pub(crate) mod tests;
