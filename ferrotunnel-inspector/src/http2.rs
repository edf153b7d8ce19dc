//! HTTP/2, read along in both directions (RFC 9113).

mod hpack;
mod huffman;

use std::collections::HashMap;

use self::hpack::Decoder;
use crate::exchange::Exchange;
use crate::grpc;
use crate::head::{self, Headers, RequestHead, ResponseHead, Version, header};
use crate::http1::{Lost, is_event_stream};
use crate::record::{From, Kind};
use crate::sse::Events;
use crate::stream_tap::Begins;

/// A connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    /// Of the visitor's direction, and of the service's.
    directions: [Direction; 2],
    streams: HashMap<u32, Stream>,
}

#[derive(Debug, Default)]
struct Direction {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: Vec<u8>,
    frame: Option<Frame>,
    decoder: Decoder,
    /// A list of headers that goes on in the next frame.
    block: Option<Block>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    left: usize,
    /// Bytes at the end of data that mean nothing; `None`: it says so in the first byte.
    padding: Option<usize>,
    /// Of everything but data.
    payload: Vec<u8>,
}

#[derive(Debug)]
struct Block {
    stream: u32,
    /// Somebody's promise: read, because all lists share a table, and left out.
    is_promise: bool,
    is_end: bool,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    exchange: Exchange,
    is_answered: bool,
    has_ended: [bool; 2],
    events: Option<Box<Events>>,
    messages: Option<Box<[grpc::Messages; 2]>>,
}

impl Http2 {
    pub(crate) fn new() -> Self {
        let visitor = Direction { preface: PREFACE.len(), ..Direction::default() };
        Self { directions: [visitor, Direction::default()], streams: HashMap::new() }
    }

    pub(crate) fn feed(
        &mut self,
        from: From,
        mut bytes: &[u8],
        begins: &mut Begins,
    ) -> Result<(), Lost> {
        while !bytes.is_empty() {
            let direction = &mut self.directions[from.index()];
            if direction.preface > 0 {
                let count = direction.preface.min(bytes.len());
                direction.preface -= count;
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let Some(frame) = &mut direction.frame else {
                let count = bytes.len().min(FRAME_HEAD - direction.head.len());
                let (head, rest) = bytes.split_at(count);
                direction.head.extend_from_slice(head);
                bytes = rest;
                if let Some(frame) = Frame::begin(&direction.head) {
                    direction.head.clear();
                    let is_list = frame.is_kept() && frame.kind != RST_STREAM;
                    let held = direction.block.as_ref().map_or(0, |block| block.bytes.len());
                    if is_list && held + frame.left > MOST_BLOCK {
                        return Err(Lost("a list of headers is too long"));
                    }
                    if direction.block.is_some() != (frame.kind == CONTINUATION) {
                        return Err(Lost("a list of headers that does not go on"));
                    }
                    let is_empty = frame.left == 0;
                    direction.frame = Some(frame);
                    if is_empty {
                        self.end_frame(from, begins)?;
                    }
                }
                continue;
            };
            let count = frame.left.min(bytes.len());
            let (part, rest) = bytes.split_at(count);
            bytes = rest;
            frame.left -= count;
            let is_end = frame.left == 0;
            match frame.kind {
                DATA => {
                    let (stream, data) = (frame.stream, frame.data(part));
                    if let Some(stream) = self.streams.get_mut(&stream) {
                        stream.data(from, data);
                    }
                }
                _ if frame.is_kept() => frame.payload.extend_from_slice(part),
                _ => {}
            }
            if is_end {
                self.end_frame(from, begins)?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self, from: From, begins: &mut Begins) -> Result<(), Lost> {
        let direction = &mut self.directions[from.index()];
        let Some(frame) = direction.frame.take() else { return Ok(()) };
        let is_end = frame.flags & END_STREAM != 0;
        match frame.kind {
            DATA if is_end => self.end(from, frame.stream, begins),
            HEADERS | PUSH_PROMISE => {
                let is_promise = frame.kind == PUSH_PROMISE;
                direction.block = Some(Block {
                    stream: frame.stream,
                    is_promise,
                    is_end: is_end && !is_promise,
                    bytes: frame.list()?.to_vec(),
                });
            }
            CONTINUATION => match &mut direction.block {
                Some(block) if block.stream == frame.stream => block.bytes.extend(&frame.payload),
                _ => return Err(Lost("a list of headers that does not go on")),
            },
            RST_STREAM => {
                let code = frame.payload.get(..4).and_then(|code| code.try_into().ok());
                self.reset(from, frame.stream, code.map_or(0, u32::from_be_bytes));
            }
            _ => {}
        }
        if matches!(frame.kind, HEADERS | PUSH_PROMISE | CONTINUATION)
            && frame.flags & END_HEADERS != 0
        {
            return self.headers(from, begins);
        }
        Ok(())
    }

    fn headers(&mut self, from: From, begins: &mut Begins) -> Result<(), Lost> {
        let direction = &mut self.directions[from.index()];
        let Some(block) = direction.block.take() else { return Ok(()) };
        let unreadable = |_| Lost("a list of headers that cannot be read");
        let headers = direction.decoder.decode(&block.bytes).map_err(unreadable)?;
        if block.is_promise {
            return Ok(());
        }
        let has_room = self.streams.len() < MOST_STREAMS;
        match (self.streams.get_mut(&block.stream), from) {
            (None, From::Visitor) if has_room => {
                let exchange = begins.exchange(request(&headers), false);
                let is_grpc = exchange.kind() == Kind::Grpc;
                let messages = || Box::new([From::Visitor, From::Service].map(grpc::Messages::new));
                let messages = is_grpc.then(messages);
                let (has_ended, is_answered) = ([false, false], false);
                let stream = Stream { exchange, is_answered, has_ended, events: None, messages };
                self.streams.insert(block.stream, stream);
            }
            // Of a stream that nobody looks at.
            (None, From::Visitor) => {
                begins.lose_sight();
                return Ok(());
            }
            (None, From::Service) => return Ok(()),
            (Some(stream), From::Service) if !stream.is_answered => {
                stream.answer(&headers, begins);
            }
            (Some(stream), from) => stream.exchange.trailers(from, headers),
        }
        if block.is_end {
            self.end(from, block.stream, begins);
        }
        Ok(())
    }

    /// One direction of a stream has ended.
    fn end(&mut self, from: From, id: u32, begins: &mut Begins) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.has_ended[from.index()] = true;
        match from {
            From::Visitor => stream.exchange.request_end(begins.now()),
            From::Service => stream.exchange.response_end(begins.now()),
        }
        if stream.has_ended == [true, true] {
            self.streams.remove(&id);
        }
    }

    fn reset(&mut self, from: From, id: u32, code: u32) {
        let Some(stream) = self.streams.remove(&id) else { return };
        // Whoever has answered may say that the rest of the request is not needed.
        if !stream.has_ended[From::Service.index()] {
            let who = match from {
                From::Visitor => "the visitor",
                From::Service => "the local service",
            };
            stream.exchange.fail(&format!("{who} broke it off: {}", code_name(code)));
        }
    }

    pub(crate) fn broke(&mut self, why: &str) {
        for (_, stream) in self.streams.drain() {
            if !stream.has_ended[From::Service.index()] {
                stream.exchange.fail(why);
            }
        }
    }
}

impl Frame {
    fn begin(head: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s, t, u, v] = *head else { return None };
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff,
            left: u32::from_be_bytes([0, a, b, c]) as usize,
            padding: (flags & PADDED == 0).then_some(0),
            payload: Vec::new(),
        })
    }

    /// Whether it has to be there as a whole.
    fn is_kept(&self) -> bool {
        matches!(self.kind, HEADERS | PUSH_PROMISE | CONTINUATION | RST_STREAM)
    }

    /// What of a part of it is data. `left` is what comes behind it.
    fn data<'a>(&mut self, mut part: &'a [u8]) -> &'a [u8] {
        let padding = match (self.padding, part.split_first()) {
            (Some(padding), _) => padding,
            (None, Some((padding, rest))) => {
                part = rest;
                usize::from(*padding)
            }
            (None, None) => return part,
        };
        self.padding = Some(padding);
        // Of the padding some is behind this part.
        let here = padding.saturating_sub(self.left).min(part.len());
        part.get(..part.len() - here).unwrap_or_default()
    }

    /// The list of headers, or its beginning, within the payload.
    fn list(&self) -> Result<&[u8], Lost> {
        let wrong = Lost("a frame that is shorter than it says");
        let mut list = self.payload.as_slice();
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            let (length, rest) = list.split_first().ok_or(wrong)?;
            (padding, list) = (usize::from(*length), rest);
        }
        let in_front = match self.kind {
            HEADERS if self.flags & PRIORITY != 0 => 5,
            PUSH_PROMISE => 4,
            _ => 0,
        };
        list = list.get(in_front..).ok_or(wrong)?;
        let end = list.len().checked_sub(padding).ok_or(wrong)?;
        list.get(..end).ok_or(wrong)
    }
}

impl Stream {
    fn data(&mut self, from: From, bytes: &[u8]) {
        self.exchange.body(from, bytes);
        if let Some(messages) = &mut self.messages {
            messages[from.index()].feed(bytes, &self.exchange);
        }
        if let (Some(events), From::Service) = (&mut self.events, from) {
            events.feed(bytes, &self.exchange);
        }
    }

    fn answer(&mut self, headers: &Headers, begins: &mut Begins) {
        let status = header(headers, ":status").and_then(|status| status.parse().ok());
        let status = status.unwrap_or_default();
        let own = Headers::packed(fields(headers));
        let head = ResponseHead { status, headers: own, ..ResponseHead::default() };
        if (100..200).contains(&status) {
            return self.exchange.interim(head);
        }
        self.is_answered = true;
        let is_sse = is_event_stream(&head.headers);
        self.events = is_sse.then(Box::default);
        self.exchange.response(head, is_sse.then_some(Kind::Sse), begins.now());
    }
}

fn request(headers: &Headers) -> RequestHead {
    let of = |name: &str| header(headers, name).unwrap_or_default();
    let line = (head::method(of(":method")), Version::Http2);
    RequestHead::new(line, of(":path"), of(":authority"), fields(headers))
}

/// Those that HTTP/2 has not made up (RFC 9113, section 8.3).
fn fields(headers: &Headers) -> impl Iterator<Item = (&str, &[u8])> + Clone {
    headers.iter().filter(|(name, _)| !name.starts_with(':'))
}

/// RFC 9113, section 7.
fn code_name(code: u32) -> String {
    let known = match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        2 => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        5 => "STREAM_CLOSED",
        7 => "REFUSED_STREAM",
        8 => "CANCEL",
        11 => "ENHANCE_YOUR_CALM",
        code => return format!("code {code}"),
    };
    known.to_owned()
}

/// What every connection begins with.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Packed, it is longer than any list that hyper takes.
const MOST_BLOCK: usize = 128 << 10;

/// The server sends up to 100 at once.
const MOST_STREAMS: usize = 1_000;

#[cfg(test)]
mod tests;
