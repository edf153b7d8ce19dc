//! HPACK (RFC 7541): what lists of headers are written with. Reading only, and within bounds.

use std::collections::VecDeque;

use super::huffman;
use crate::head::Headers;

/// The state of one direction of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    most: usize,
}

/// A list cannot be read, so neither can any after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, most: FIRST_SIZE }
    }
}

impl Decoder {
    /// Reads a whole list. What is beyond [`MOST_LISTED`] is read and left out.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Headers, Unreadable> {
        let mut input = Input(block);
        let mut listed = Listed::default();
        while let Some(first) = input.peek() {
            if first & 0x80 != 0 {
                let (name, value) = self.field(input.integer(7)?)?;
                listed.push(name, value);
            } else if first & 0xe0 == 0x20 {
                let most = input.integer(5)?;
                if most > MOST_SIZE {
                    return Err(Unreadable);
                }
                self.most = most;
                self.make_room(0);
            } else {
                let is_kept = first & 0xc0 == 0x40;
                let name = match input.integer(if is_kept { 6 } else { 4 })? {
                    0 => input.text()?,
                    index => self.field(index)?.0.to_vec(),
                };
                let value = input.text()?;
                listed.push(&name, &value);
                if is_kept {
                    self.insert(name, value);
                }
            }
        }
        Ok(listed.headers)
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Unreadable> {
        let at = index.checked_sub(1).ok_or(Unreadable)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.table.get(at - STATIC.len()).ok_or(Unreadable)?;
        Ok((name, value))
    }

    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = name.len() + value.len() + OVERHEAD;
        self.make_room(size);
        // What is larger than the table only empties it (section 4.4).
        if size <= self.most {
            self.size += size;
            self.table.push_front((name, value));
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.most {
            let Some((name, value)) = self.table.pop_back() else { return };
            self.size -= name.len() + value.len() + OVERHEAD;
        }
    }
}

#[derive(Default)]
struct Listed {
    headers: Headers,
    size: usize,
}

impl Listed {
    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + OVERHEAD;
        if self.size <= MOST_LISTED {
            self.headers.push(&String::from_utf8_lossy(name), value);
        }
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*first)
    }

    /// Section 5.1.
    fn integer(&mut self, prefix: u8) -> Result<usize, Unreadable> {
        let mask = (1u8 << prefix) - 1;
        let first = self.byte()? & mask;
        let mut value = usize::from(first);
        if first < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unreadable)
    }

    /// Section 5.2.
    fn text(&mut self) -> Result<Vec<u8>, Unreadable> {
        let is_huffman = self.peek().ok_or(Unreadable)? & 0x80 != 0;
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        if is_huffman { huffman::decode(text).ok_or(Unreadable) } else { Ok(text.to_vec()) }
    }
}

/// What every table may hold before anybody has said anything (section 4.2).
const FIRST_SIZE: usize = 4 << 10;

/// What a table may grow to here. More than any implementation in use asks for; where somebody does, nobody looks on.
const MOST_SIZE: usize = 64 << 10;

/// Of each field, beside its text (section 4.1).
const OVERHEAD: usize = 32;

/// A list of few bytes may name large fields again and again.
const MOST_LISTED: usize = 64 << 10;

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut Decoder, hex: &str) -> Vec<String> {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let headers = decoder.decode(&bytes).unwrap();
        let line =
            |(name, value): (&str, &[u8])| format!("{name}={}", String::from_utf8_lossy(value));
        headers.iter().map(line).collect()
    }

    #[test]
    fn the_requests_of_the_rfc_are_read() {
        // Appendix C.4: three requests over one connection, with Huffman codes.
        let mut decoder = Decoder::default();
        let first = read(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff");
        let plain = [":method=GET", ":scheme=http", ":path=/", ":authority=www.example.com"];
        assert_eq!(first, plain);
        let second = read(&mut decoder, "828684be5886a8eb10649cbf");
        assert_eq!(second[3..], [":authority=www.example.com", "cache-control=no-cache"]);
        let third = read(&mut decoder, "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf");
        assert_eq!(third[4], "custom-key=custom-value");
        assert_eq!((decoder.table.len(), decoder.size), (3, 164));
    }

    #[test]
    fn a_table_forgets_the_oldest() {
        // Appendix C.5, with a table of 256 bytes.
        let mut decoder = Decoder::default();
        let mut first = vec![0x3f, 0xe1, 0x01];
        first.extend([0x48, 0x03]);
        first.extend(b"302");
        decoder.decode(&first).unwrap();
        assert_eq!((decoder.most, decoder.size), (256, 42));
        for _ in 0..10 {
            decoder.decode(b"\x48\x03307").unwrap();
        }
        assert_eq!((decoder.table.len(), decoder.size), (6, 252));
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        for wrong in [
            &[0x80][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xbe],
            &[0x40, 0x05, b'a'],
            &[0x3f, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(Decoder::default().decode(wrong).unwrap_err(), Unreadable, "{wrong:x?}");
        }
    }

    #[test]
    fn a_small_list_of_large_fields_is_cut_off() {
        let mut decoder = Decoder::default();
        let mut block = vec![0x40, 1, b'a', 0x7f, 0x81, 0x1e];
        block.extend(vec![b'x'; 3_968]);
        block.extend(vec![0xbe; 10_000]);
        let headers = decoder.decode(&block).unwrap();
        let count = headers.iter().count();
        assert!(count <= MOST_LISTED / 4_000, "{count}");
    }
}
