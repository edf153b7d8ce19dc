//! Finding text in what is kept: names, headers, bodies and messages, with bounded work.

use crate::decode::decode;
use crate::head::{Headers, header};
use crate::mask::Mask;
use crate::record::{Content, Record};

/// One look through the records for a text, in whatever case of its ASCII letters.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    wanted: &'a [u8],
    mask: &'a Mask,
    /// Bytes of bodies and messages that may still be looked through.
    left: usize,
    /// There were more.
    is_cut: bool,
}

impl<'a> Search<'a> {
    /// Nothing is wanted: everything has it.
    pub(crate) fn of(wanted: Option<&'a str>, mask: &'a Mask) -> Self {
        let wanted = wanted.unwrap_or_default().as_bytes();
        Self { wanted, mask, left: MOST_SEARCHED, is_cut: false }
    }

    /// Whether not everything was looked through.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether it is anywhere in that.
    pub(crate) fn finds(&mut self, record: &Record) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let bodies = {
            let content = record.content.lock();
            if self.is_in_names(&content) {
                return true;
            }
            // Copies: what passes must not wait for whoever searches.
            bodies(&content)
        };
        bodies.iter().any(|(encoding, kept)| self.is_in_body(encoding.as_deref(), kept))
    }

    fn is_in_names(&self, content: &Content) -> bool {
        let (request, [asked, answered]) = (&content.request, &content.seldom().trailers);
        let texts = [request.path(), request.host(), &*content.origin.tunnel];
        texts.into_iter().any(|text| self.is_in(text.as_bytes()))
            || self.is_in_headers(&request.headers)
            || self.is_in_headers(asked)
            || self.is_in_headers(answered)
            || content.response.as_ref().is_some_and(|it| self.is_in_headers(&it.headers))
    }

    /// What is hidden is not to be guessed letter by letter either.
    fn is_in_headers(&self, headers: &Headers) -> bool {
        headers.iter().any(|(name, value)| {
            self.is_in(name.as_bytes()) || (!self.mask.hides(name) && self.is_in(value))
        })
    }

    fn is_in_body(&mut self, encoding: Option<&str>, kept: &[u8]) -> bool {
        if kept.is_empty() {
            return false;
        }
        if self.left == 0 {
            self.is_cut = true;
            return false;
        }
        let decoded = encoding.and_then(|encoding| decode(encoding, kept));
        let text = decoded.as_ref().map_or(kept, |decoded| &decoded.bytes);
        self.left = self.left.saturating_sub(text.len());
        self.is_in(text)
    }

    fn is_in(&self, text: &[u8]) -> bool {
        text.windows(self.wanted.len()).any(|part| part.eq_ignore_ascii_case(self.wanted))
    }
}

/// Bodies with their encodings, and messages.
fn bodies(content: &Content) -> Vec<(Option<String>, Vec<u8>)> {
    let encoding = |headers| header(headers, "content-encoding").map(str::to_owned);
    let answered = content.response.as_ref().and_then(|response| encoding(&response.headers));
    let asked = encoding(&content.request.headers);
    let bodies = [(asked, &content.request_body), (answered, &content.response_body)];
    let bodies = bodies.into_iter().map(|(encoding, body)| (encoding, body.kept.clone()));
    bodies
        .chain(content.seldom().messages.iter().map(|message| (None, message.kept.clone())))
        .collect()
}

/// As much as is kept by default, and some tenths of a second. Of compressed bodies that is less than all.
const MOST_SEARCHED: usize = 32 << 20;
