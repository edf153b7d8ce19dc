//! Bodies and messages as people want to see them. Bounded: some kilobytes may stand for gigabytes.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

/// What was made of something encoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) bytes: Vec<u8>,
    /// There would be more.
    pub(crate) is_cut: bool,
}

/// Takes a content encoding off. `None`: it is not known, or this is no such thing.
pub(crate) fn decode(encoding: &str, bytes: &[u8]) -> Option<Decoded> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => bounded(GzDecoder::new(bytes)),
        // Two things are called by that name, and servers send both.
        "deflate" => {
            bounded(ZlibDecoder::new(bytes)).or_else(|| bounded(DeflateDecoder::new(bytes)))
        }
        "br" => bounded(brotli_decompressor::Decompressor::new(bytes, 4 << 10)),
        _ => None,
    }
}

fn bounded(mut reader: impl Read) -> Option<Decoded> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4 << 10];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Some(Decoded { bytes, is_cut: false }),
            Ok(count) => bytes.extend_from_slice(piece.get(..count)?),
            // What was kept may be the beginning only.
            Err(_) if !bytes.is_empty() => return Some(Decoded { bytes, is_cut: true }),
            Err(_) => return None,
        }
        if bytes.len() >= MOST_DECODED {
            bytes.truncate(MOST_DECODED);
            return Some(Decoded { bytes, is_cut: true });
        }
    }
}

/// The text, if it is text. Where the end is missing, half a character is none.
pub(crate) fn text(bytes: &[u8], is_cut: bool) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        Err(error) if is_cut && error.error_len().is_none() => {
            let whole = bytes.get(..error.valid_up_to())?;
            String::from_utf8(whole.to_vec()).ok()
        }
        Err(_) => None,
    }
}

/// Nobody reads more than a megabyte, and it is made anew each time that somebody looks.
const MOST_DECODED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_encoded_is_read() {
        let whole = Some(Decoded { bytes: b"hello".to_vec(), is_cut: false });
        assert_eq!(decode("gzip", &gzip(b"hello")), whole);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"hello").unwrap();
        assert_eq!(decode("deflate", &zlib.finish().unwrap()), whole);
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(b"hello").unwrap();
        assert_eq!(decode("Deflate", &raw.finish().unwrap()), whole);
        // RFC 7932: one uncompressed meta-block, then an empty last one.
        assert_eq!(decode("br", b"\x0b\x02\x80hello\x03"), whole);
        assert_eq!(decode("zstd", b"x"), None);
        assert_eq!(decode("gzip", b"no gzip"), None);
    }

    #[test]
    fn a_bomb_is_cut_off() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 128 << 10);
        let decoded = decode("gzip", &bomb).unwrap();
        assert!(decoded.is_cut);
        assert_eq!(decoded.bytes.len(), MOST_DECODED);
    }

    #[test]
    fn the_beginning_is_better_than_nothing() {
        let whole = gzip(&b"one line after the other\n".repeat(1_000));
        let decoded = decode("gzip", &whole[..whole.len() / 2]).unwrap();
        assert!(decoded.is_cut && decoded.bytes.starts_with(b"one line"));
    }

    #[test]
    fn half_a_character_is_none() {
        assert_eq!(text("aé".as_bytes(), false).as_deref(), Some("aé"));
        assert_eq!(text(&"aé".as_bytes()[..2], true).as_deref(), Some("a"));
        assert_eq!(text(&"aé".as_bytes()[..2], false), None);
        assert_eq!(text(b"a\xffb", true), None);
    }
}
