//! What is heard of one answer after the other over a connection, without the connection.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, response};
use http_body::{Frame, SizeHint};

use super::{
    bad::Bad,
    body::Rest,
    head::{self, Head},
};
use crate::config::MAX_BUFFERED;

/// Reads answers, in whatever pieces they come.
#[derive(Debug)]
pub(crate) struct Reading {
    /// What has come and has not been taken.
    unread: Bytes,
    /// So much of it is no whole head.
    partial: usize,
    rest: Rest,
    may_stay: bool,
}

impl Reading {
    pub(crate) fn new() -> Self {
        Self { unread: Bytes::new(), partial: 0, rest: Rest::Nothing, may_stay: false }
    }

    /// An answer is to come.
    pub(crate) fn begin(&mut self) {
        self.partial = 0;
        self.may_stay = false;
    }

    /// The next bytes have come.
    pub(crate) fn hear(&mut self, chunk: Bytes) {
        if self.unread.is_empty() {
            self.unread = chunk;
            return;
        }
        // Only what is a part of a head waits for more. Nobody else has it, so mostly there is nothing to copy.
        let mut whole = BytesMut::from(std::mem::take(&mut self.unread));
        whole.extend_from_slice(&chunk);
        self.unread = whole.freeze();
    }

    /// The head of the answer to a request of that method, when it has come. Interim ones before it are told.
    pub(crate) fn head(
        &mut self,
        asked: &Method,
        mut interim: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Option<response::Parts>, Bad> {
        while !self.unread.is_empty() {
            let may_be_whole = self.partial == 0
                || self.unread.len() >= MAX_BUFFERED
                || ends_head(&self.unread, self.partial);
            let parts = if may_be_whole { head::take(&mut self.unread)? } else { None };
            let Some((parts, said)) = parts else {
                self.partial = self.unread.len();
                return Ok(None);
            };
            self.partial = 0;
            if parts.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Bad::Switched);
            }
            if parts.status.is_informational() {
                interim(parts.status, &parts.headers);
                continue;
            }
            let head = Head::of(parts, said, asked)?;
            (self.rest, self.may_stay) = (head.body, head.may_stay);
            return Ok(Some(head.parts));
        }
        Ok(None)
    }

    /// The whole body, if it is one of which nothing is to be said behind it, and is there.
    pub(crate) fn whole(&mut self) -> Option<Bytes> {
        match self.rest {
            Rest::Nothing => Some(Bytes::new()),
            Rest::Sized(len) if len <= self.unread.len() as u64 => {
                self.rest = Rest::Nothing;
                Some(self.unread.split_to(len as usize))
            }
            // An empty one, which need not be said in chunks again.
            Rest::Chunks(_) if self.unread == b"0\r\n\r\n"[..] => {
                self.rest = Rest::Nothing;
                self.unread.clear();
                Some(Bytes::new())
            }
            _ => None,
        }
    }

    /// The next part of the body. `None`: more has to come, or it is over.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Bad> {
        self.rest.take(&mut self.unread)
    }

    /// Nothing more will come.
    pub(crate) fn end(&mut self) -> Result<(), Bad> {
        self.may_stay = false;
        self.rest.end()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }

    /// Whether all of the answer has been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_nothing()
    }

    /// Whether another request may follow. What comes behind an answer is nobody's.
    pub(crate) fn may_stay(&self) -> bool {
        self.may_stay && self.is_over() && self.unread.is_empty()
    }
}

/// Whether a head may end in what has come behind the first `seen` bytes. Most that come in pieces do not end in the
/// second one, and to read a head from its beginning for each would be work without end for who sends single bytes.
fn ends_head(bytes: &[u8], seen: usize) -> bool {
    let new = bytes.get(seen.saturating_sub(3)..).unwrap_or_default();
    new.windows(2).any(|two| two == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}
