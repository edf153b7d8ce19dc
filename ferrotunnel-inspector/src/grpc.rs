//! Messages of gRPC within a body: a flag, a length and that many bytes.

use crate::exchange::Exchange;
use crate::head::{Headers, header};
use crate::record::{From, MessageKind};
use crate::websocket::MOST_KEPT;

/// Takes a body apart into messages.
#[derive(Debug)]
pub(crate) struct Messages {
    from: From,
    prefix: Vec<u8>,
    kept: Vec<u8>,
    size: u64,
    left: u64,
}

impl Messages {
    pub(crate) fn new(from: From) -> Self {
        Self { from, prefix: Vec::new(), kept: Vec::new(), size: 0, left: 0 }
    }

    pub(crate) fn feed(&mut self, mut bytes: &[u8], exchange: &Exchange) {
        while !bytes.is_empty() {
            if self.prefix.len() < PREFIX {
                let count = bytes.len().min(PREFIX - self.prefix.len());
                let (prefix, rest) = bytes.split_at(count);
                self.prefix.extend_from_slice(prefix);
                bytes = rest;
                let [_, a, b, c, d] = *self.prefix.as_slice() else { return };
                self.size = u32::from_be_bytes([a, b, c, d]).into();
                self.left = self.size;
            } else {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                let (data, rest) = bytes.split_at(count);
                let kept = data.len().min(MOST_KEPT - self.kept.len().min(MOST_KEPT));
                self.kept.extend_from_slice(data.get(..kept).unwrap_or_default());
                self.left -= count as u64;
                bytes = rest;
            }
            if self.prefix.len() == PREFIX && self.left == 0 {
                let is_compressed = self.prefix.first() == Some(&1);
                let kind = MessageKind::Grpc;
                exchange.message(self.from, kind, self.size, &self.kept, is_compressed);
                self.prefix.clear();
                self.kept.clear();
            }
        }
    }
}

/// How a call has ended: the code and the words, which come as trailers, or as headers if there was nothing else to say.
pub(crate) fn status(headers: &Headers, trailers: &Headers) -> Option<(u32, String)> {
    let of = |list: &Headers| {
        let code = header(list, "grpc-status")?.parse().ok()?;
        Some((code, percent_decoded(header(list, "grpc-message").unwrap_or_default())))
    };
    of(trailers).or_else(|| of(headers))
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) if *byte == b'%' => {
                decoded.push(code);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

const PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_an_error_may_be_in_any_language() {
        assert_eq!(percent_decoded("nicht gefunden: %C3%A4%zz%"), "nicht gefunden: ä%zz%");
    }
}
