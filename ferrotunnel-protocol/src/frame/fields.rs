//! The fields of a payload: numbers, capped text, addresses.
//!
//! Reading is strict: a wrong field is an error of the peer. Writing cannot fail: what does not
//! fit is cut, so that a mistake of ours costs a word of text and never the session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use bytes::{BufMut, BytesMut};
use ferrotunnel_common::{TraceContext, TunnelKind};

use crate::error::FrameError;

/// Takes fields off the front of a payload.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u32_within(&mut self, range: RangeInclusive<u32>) -> Result<u32, FrameError> {
        let value = self.u32()?;
        if range.contains(&value) { Ok(value) } else { Err(FrameError::BadValue) }
    }

    /// The number of elements of a list.
    pub(super) fn count(&mut self, cap: u8) -> Result<u8, FrameError> {
        let count = self.u8()?;
        if count <= cap { Ok(count) } else { Err(FrameError::FieldTooLong) }
    }

    pub(super) fn str8(&mut self, cap: u8) -> Result<String, FrameError> {
        let len = self.u8()?;
        self.text(len.into(), cap.into())
    }

    pub(super) fn str16(&mut self, cap: u16) -> Result<String, FrameError> {
        let len = self.u16()?;
        self.text(len.into(), cap.into())
    }

    /// At the end of a payload, where it may be left out: who does not know of traces says nothing of them.
    pub(super) fn trace(&mut self) -> Result<Option<TraceContext>, FrameError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.array().map(TraceContext::from_bytes)
    }

    pub(super) fn kind(&mut self) -> Result<TunnelKind, FrameError> {
        match self.u8()? {
            1 => Ok(TunnelKind::Http),
            2 => Ok(TunnelKind::Tcp),
            3 => Ok(TunnelKind::Udp),
            4 => Ok(TunnelKind::Tls),
            _ => Err(FrameError::BadValue),
        }
    }

    pub(super) fn address(&mut self) -> Result<Option<SocketAddr>, FrameError> {
        let ip = match self.u8()? {
            0 => return Ok(None),
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(FrameError::BadValue),
        };
        Ok(Some(SocketAddr::new(ip, self.u16()?)))
    }

    /// Text for people: what would make more than words of it, in a log or a terminal, is a `?`.
    pub(super) fn words8(&mut self, cap: u8) -> Result<String, FrameError> {
        self.str8(cap).map(words)
    }

    /// Such text at the end of a payload, where it may be left out.
    pub(super) fn words8_if_any(&mut self, cap: u8) -> Result<String, FrameError> {
        if self.rest.is_empty() { Ok(String::new()) } else { self.words8(cap) }
    }

    /// Text for people with a length of two bytes.
    pub(super) fn words16(&mut self, cap: u16) -> Result<String, FrameError> {
        self.str16(cap).map(words)
    }

    // The cap is judged before the bytes: a length beyond it is wrong however much follows.
    fn text(&mut self, len: usize, cap: usize) -> Result<String, FrameError> {
        if len > cap {
            return Err(FrameError::FieldTooLong);
        }
        let (field, rest) = self.rest.split_at_checked(len).ok_or(FrameError::Truncated)?;
        self.rest = rest;
        let text = std::str::from_utf8(field).map_err(|_| FrameError::BadText)?;
        Ok(text.to_owned())
    }
}

/// Whoever has not proven anything yet can send some: it must not write lines of a log, or order a terminal about.
fn words(text: String) -> String {
    if text.contains(is_more_than_words) { text.replace(is_more_than_words, "?") } else { text }
}

/// Control characters, separators of lines, and what turns the direction of writing (Bidi_Control in UAX 9).
fn is_more_than_words(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

pub(super) fn put_str8(out: &mut BytesMut, text: &str, cap: u8) {
    let text = cut(text, cap.into());
    out.put_u8(text.len() as u8);
    out.put_slice(text.as_bytes());
}

pub(super) fn put_str16(out: &mut BytesMut, text: &str, cap: u16) {
    let text = cut(text, cap.into());
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}

pub(super) fn put_kind(out: &mut BytesMut, kind: TunnelKind) {
    out.put_u8(match kind {
        TunnelKind::Http => 1,
        TunnelKind::Tcp => 2,
        TunnelKind::Udp => 3,
        TunnelKind::Tls => 4,
    });
}

/// Scope and flow label of an IPv6 address mean nothing on another host and stay behind.
pub(super) fn put_address(out: &mut BytesMut, address: Option<SocketAddr>) {
    let Some(address) = address else {
        return out.put_u8(0);
    };
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

/// A number that the caller keeps within `range`; one outside it is moved to the nearest end,
/// since the peer would end the session over it.
pub(super) fn put_u32_within(out: &mut BytesMut, value: u32, range: RangeInclusive<u32>) {
    debug_assert!(range.contains(&value), "{value} is outside {range:?}");
    out.put_u32(value.clamp(*range.start(), *range.end()));
}

pub(super) fn str8_len(text: &str, cap: u8) -> usize {
    1 + cut(text, cap.into()).len()
}

pub(super) fn str16_len(text: &str, cap: u16) -> usize {
    2 + cut(text, cap.into()).len()
}

pub(super) fn address_len(address: Option<SocketAddr>) -> usize {
    match address {
        None => 1,
        Some(SocketAddr::V4(_)) => 1 + 4 + 2,
        Some(SocketAddr::V6(_)) => 1 + 16 + 2,
    }
}

/// The longest prefix of whole characters that is at most `cap` bytes.
fn cut(text: &str, cap: usize) -> &str {
    if text.len() <= cap {
        return text;
    }
    (0..=cap).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("🦀", 3), "");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn what_people_read_is_words_only() {
        let sent = "a\nINFO b\r\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2028}\u{61c}\u{200f}é 🦀";
        let mut field = vec![sent.len() as u8];
        field.extend(sent.as_bytes());
        let read = Reader::new(&field).words8(u8::MAX).unwrap();
        assert_eq!(read, "a?INFO b??[2J??????é 🦀");
        field.insert(0, 0);
        assert_eq!(Reader::new(&field).words16(u16::MAX).unwrap(), read);
    }

    #[test]
    fn a_length_beyond_the_cap_is_refused_before_its_bytes_arrive() {
        assert_eq!(Reader::new(&[65]).str8(64), Err(FrameError::FieldTooLong));
        assert_eq!(Reader::new(&[64]).str8(64), Err(FrameError::Truncated));
        assert_eq!(Reader::new(&[2, 0xc3, 0x28]).str8(64), Err(FrameError::BadText));
    }
}
