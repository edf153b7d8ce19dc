//! Messages of WebSockets (RFC 6455), compressed ones too (RFC 7692).

use flate2::{Decompress, FlushDecompress, Status};

use crate::exchange::Exchange;
use crate::head::Headers;
use crate::http1::Lost;
use crate::record::{From, MessageKind};
use crate::store::Loan;

/// That messages may be compressed, and whether each begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deflate {
    visitor_begins_anew: bool,
    service_begins_anew: bool,
}

impl Deflate {
    /// What the service's answer says.
    pub(crate) fn agreed(headers: &Headers) -> Option<Self> {
        let mut extensions = headers
            .named("sec-websocket-extensions")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|list| list.split(','));
        let name = |extension: &&str| {
            extension.split(';').next().map(str::trim) == Some("permessage-deflate")
        };
        let extension = extensions.find(name)?;
        let has = |wanted: &str| extension.split(';').any(|one| one.trim() == wanted);
        Some(Self {
            visitor_begins_anew: has("client_no_context_takeover"),
            service_begins_anew: has("server_no_context_takeover"),
        })
    }
}

/// Takes one direction apart.
#[derive(Debug)]
pub(crate) struct Messages {
    from: From,
    head: Vec<u8>,
    frame: Option<Frame>,
    /// The message whose frames are coming; others may be in between that are whole.
    message: Option<Open>,
    control: Vec<u8>,
    inflate: Option<Inflate>,
    may_be_compressed: bool,
    has_closed: bool,
}

#[derive(Debug)]
struct Frame {
    is_final: bool,
    control: Option<MessageKind>,
    mask: Option<[u8; 4]>,
    /// How many bytes were seen.
    at: u64,
    left: u64,
}

#[derive(Debug)]
struct Open {
    kind: MessageKind,
    is_compressed: bool,
    kept: Vec<u8>,
    size: u64,
}

impl Messages {
    pub(crate) fn new(from: From, deflate: Option<&Deflate>) -> Self {
        let inflate = deflate.map(|deflate| match from {
            From::Visitor => Inflate::new(deflate.visitor_begins_anew),
            From::Service => Inflate::new(deflate.service_begins_anew),
        });
        Self {
            from,
            head: Vec::new(),
            frame: None,
            message: None,
            control: Vec::new(),
            may_be_compressed: inflate.is_some(),
            inflate,
            has_closed: false,
        }
    }

    /// Whether the end was announced.
    pub(crate) fn has_closed(&self) -> bool {
        self.has_closed
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], exchange: &Exchange) -> Result<(), Lost> {
        loop {
            match &self.frame {
                Some(frame) if frame.left > 0 => {
                    if bytes.is_empty() {
                        return Ok(());
                    }
                    let used = self.payload(bytes);
                    bytes = bytes.get(used..).unwrap_or_default();
                }
                Some(_) => self.end_frame(exchange),
                None => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
                    self.head.push(*byte);
                    bytes = rest;
                    self.begin_frame(exchange)?;
                }
            }
        }
    }

    /// Section 5.2.
    fn begin_frame(&mut self, exchange: &Exchange) -> Result<(), Lost> {
        let [first, second, ref rest @ ..] = *self.head.as_slice() else { return Ok(()) };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let is_masked = second & 0x80 != 0;
        let masked = if is_masked { 4 } else { 0 };
        if rest.len() < extended + masked {
            return Ok(());
        }
        let (length, mask) = rest.split_at(extended);
        let left = match extended {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let mask = is_masked.then(|| mask.try_into().unwrap_or_default());
        let (is_final, is_compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        if first & 0x30 != 0 || (is_compressed && !self.may_be_compressed) {
            return Err(Lost("a WebSocket frame with bits that were not agreed on"));
        }
        let control = match first & 0x0f {
            0 => None,
            1 => self.begin_message(MessageKind::Text, is_compressed, exchange)?,
            2 => self.begin_message(MessageKind::Binary, is_compressed, exchange)?,
            8 => Some(MessageKind::Close),
            9 => Some(MessageKind::Ping),
            10 => Some(MessageKind::Pong),
            _ => return Err(Lost("a WebSocket frame of an unknown kind")),
        };
        let is_odd = match control {
            Some(_) => left > 125 || !is_final,
            None => self.message.is_none(),
        };
        if is_odd || left > i64::MAX as u64 {
            return Err(Lost("a WebSocket frame that must not be"));
        }
        self.head.clear();
        self.frame = Some(Frame { is_final, control, mask, at: 0, left });
        Ok(())
    }

    fn begin_message(
        &mut self,
        kind: MessageKind,
        is_compressed: bool,
        exchange: &Exchange,
    ) -> Result<Option<MessageKind>, Lost> {
        if self.message.is_some() {
            return Err(Lost("a WebSocket message within another"));
        }
        if let Some(inflate) = self.inflate.as_mut().filter(|_| is_compressed) {
            inflate.begin(exchange);
        }
        self.message = Some(Open { kind, is_compressed, kept: Vec::new(), size: 0 });
        Ok(None)
    }

    /// Takes in what belongs to the frame. Returns how much that was.
    fn payload(&mut self, bytes: &[u8]) -> usize {
        let Some(frame) = &mut self.frame else { return 0 };
        let count = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
        let data = bytes.get(..count).unwrap_or_default();
        let at = frame.at;
        frame.at += count as u64;
        frame.left -= count as u64;
        let mask = frame.mask;
        if frame.control.is_some() {
            self.control.extend(unmasked(data, mask, at));
            return count;
        }
        let Some(message) = &mut self.message else { return count };
        match self.inflate.as_mut().filter(|inflate| message.is_compressed && !inflate.is_lost()) {
            None => {
                message.size += count as u64;
                let room = MOST_KEPT.saturating_sub(message.kept.len());
                let data = data.get(..room).unwrap_or(data);
                message.kept.extend(unmasked(data, mask, at));
            }
            Some(inflate) => {
                // What it stands for depends on all of it.
                let mut piece = at;
                for data in data.chunks(MOST_KEPT) {
                    let clear: Vec<u8> = unmasked(data, mask, piece).collect();
                    inflate.feed(&clear, message);
                    piece += data.len() as u64;
                }
            }
        }
        count
    }

    fn end_frame(&mut self, exchange: &Exchange) {
        let Some(frame) = self.frame.take() else { return };
        if let Some(kind) = frame.control {
            self.has_closed |= kind == MessageKind::Close;
            let control = std::mem::take(&mut self.control);
            exchange.message(self.from, kind, control.len() as u64, &control, false);
            return;
        }
        if !frame.is_final {
            return;
        }
        let Some(mut message) = self.message.take() else { return };
        let mut is_compressed = message.is_compressed;
        if let Some(inflate) =
            self.inflate.as_mut().filter(|inflate| is_compressed && !inflate.is_lost())
        {
            // Section 7.2.2 of RFC 7692.
            inflate.feed(&[0, 0, 0xff, 0xff], &mut message);
            is_compressed = inflate.is_lost();
        }
        let Open { kind, kept, size, .. } = message;
        exchange.message(self.from, kind, size, &kept, is_compressed);
    }
}

fn unmasked(bytes: &[u8], mask: Option<[u8; 4]>, at: u64) -> impl Iterator<Item = u8> {
    let mask = mask.unwrap_or_default();
    let keys = mask.into_iter().cycle().skip((at % 4) as usize);
    bytes.iter().zip(keys).map(|(byte, key)| byte ^ key)
}

/// One direction's decompression, which goes on from message to message.
struct Inflate {
    state: State,
    begins_anew: bool,
    /// Of the message under way.
    made: u64,
}

enum State {
    /// Nothing compressed has come yet.
    Idle,
    Going(Decompress, #[expect(dead_code, reason = "kept for as long as the memory is")] Loan),
    /// It is not worth it, there is no memory for it, or it does not work: from now on messages are shown as they are.
    Lost,
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflate").field("is_lost", &self.is_lost()).finish_non_exhaustive()
    }
}

impl Inflate {
    fn new(begins_anew: bool) -> Self {
        Self { state: State::Idle, begins_anew, made: 0 }
    }

    fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    fn begin(&mut self, exchange: &Exchange) {
        self.made = 0;
        match &mut self.state {
            State::Idle => {
                let loan = exchange.lend(INFLATER);
                let going = |loan| State::Going(Decompress::new(false), loan);
                self.state = loan.map_or(State::Lost, going);
            }
            State::Going(state, _) if self.begins_anew => state.reset(false),
            State::Going(..) | State::Lost => {}
        }
    }

    fn feed(&mut self, mut bytes: &[u8], message: &mut Open) {
        let State::Going(state, _) = &mut self.state else { return };
        let mut piece = [0; 4 << 10];
        loop {
            let (read, written) = (state.total_in(), state.total_out());
            let status = state.decompress(bytes, &mut piece, FlushDecompress::Sync);
            let read = (state.total_in() - read) as usize;
            let written = (state.total_out() - written) as usize;
            bytes = bytes.get(read..).unwrap_or_default();
            self.made += written as u64;
            if status.is_err() || self.made > MOST_INFLATED {
                self.state = State::Lost;
                message.kept.clear();
                return;
            }
            message.size += written as u64;
            let room = MOST_KEPT.saturating_sub(message.kept.len());
            message.kept.extend(piece.iter().take(written.min(room)));
            if let Ok(Status::StreamEnd) = status {
                // The next block begins anew (section 7.2.3.4 of RFC 7692).
                state.reset(false);
                if bytes.is_empty() {
                    return;
                }
            }
            if read == 0 && written == 0 {
                return;
            }
        }
    }
}

/// Of each message: what one looks at in a list.
pub(crate) const MOST_KEPT: usize = 4 << 10;

/// What decompressing one direction takes: a window of 32 KiB, and the tables of codes.
const INFLATER: usize = 44 << 10;

/// What the bytes of one message may become until nobody looks on: a few milliseconds of work.
const MOST_INFLATED: u64 = 4 << 20;
