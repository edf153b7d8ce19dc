//! Where bodies of HTTP/1.1 end (RFC 9112, sections 6 and 7).

use super::{Lost, MOST_HEADERS, owned};
use crate::head::{Headers, has_token};

/// How a body is framed, and how far it has come.
#[derive(Debug)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked(Chunked),
    /// It ends with the connection.
    UntilEnd,
}

/// A piece of a body.
pub(super) enum Part<'a> {
    Data(&'a [u8]),
    Trailers(Headers),
}

#[derive(Debug)]
pub(super) enum Chunked {
    /// The line with the size of a chunk: the size so far, how many digits it has, and whether they are over.
    Size {
        size: u64,
        digits: u8,
        is_over: bool,
    },
    Data(u64),
    /// The end of the line behind a chunk.
    End,
    Trailers(Vec<u8>),
}

impl Chunked {
    const START: Self = Self::Size { size: 0, digits: 0, is_over: false };
}

impl Framing {
    pub(super) fn of_request(headers: &Headers) -> Result<Self, Lost> {
        if is_chunked(headers) {
            return Ok(Self::Chunked(Chunked::START));
        }
        Ok(match length(headers)? {
            None | Some(0) => Self::None,
            Some(length) => Self::Length(length),
        })
    }

    pub(super) fn of_response(headers: &Headers, is_http10: bool) -> Result<Self, Lost> {
        if !is_http10 && is_chunked(headers) {
            return Ok(Self::Chunked(Chunked::START));
        }
        Ok(match length(headers)? {
            None => Self::UntilEnd,
            Some(0) => Self::None,
            Some(length) => Self::Length(length),
        })
    }

    /// Takes bytes in. Returns how many belong to the body, and whether it has ended.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        tell: &mut dyn FnMut(Part<'_>),
    ) -> Result<(usize, bool), Lost> {
        match self {
            Self::None => Ok((0, true)),
            Self::UntilEnd => {
                tell(Part::Data(bytes));
                Ok((bytes.len(), false))
            }
            Self::Length(left) => {
                let data = at_most(bytes, *left);
                *left -= data.len() as u64;
                tell(Part::Data(data));
                Ok((data.len(), *left == 0))
            }
            Self::Chunked(chunked) => chunked.feed(bytes, tell),
        }
    }
}

impl Chunked {
    fn feed(
        &mut self,
        bytes: &[u8],
        tell: &mut dyn FnMut(Part<'_>),
    ) -> Result<(usize, bool), Lost> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self {
                Self::Data(left) => {
                    let data = at_most(rest, *left);
                    *left -= data.len() as u64;
                    tell(Part::Data(data));
                    at += data.len();
                    if *left == 0 {
                        *self = Self::End;
                    }
                }
                Self::Trailers(lines) => {
                    let (used, trailers) = take_trailers(lines, rest)?;
                    at += used;
                    if let Some(trailers) = trailers {
                        if !trailers.is_empty() {
                            tell(Part::Trailers(trailers));
                        }
                        return Ok((at, true));
                    }
                }
                Self::Size { .. } | Self::End => {
                    self.line(rest.first().copied().unwrap_or_default())?;
                    at += 1;
                }
            }
        }
        Ok((at, false))
    }

    /// One byte of the lines between chunks.
    fn line(&mut self, byte: u8) -> Result<(), Lost> {
        let wrong = Lost("a chunk without a size");
        match self {
            Self::End => match byte {
                b'\r' => {}
                b'\n' => *self = Self::START,
                _ => return Err(Lost("a chunk that goes on behind its end")),
            },
            Self::Size { size, digits, is_over } => match byte {
                b'\n' if *digits == 0 => return Err(wrong),
                b'\n' if *size == 0 => *self = Self::Trailers(Vec::new()),
                b'\n' => *self = Self::Data(*size),
                _ if *is_over => {}
                _ => match char::from(byte).to_digit(16) {
                    Some(_) if *digits >= 16 => return Err(wrong),
                    Some(digit) => {
                        *size = *size << 4 | u64::from(digit);
                        *digits += 1;
                    }
                    None if *digits == 0 => return Err(wrong),
                    // An extension, or the end of the line.
                    None => *is_over = true,
                },
            },
            Self::Data(_) | Self::Trailers(_) => {}
        }
        Ok(())
    }
}

/// Bytes used, and the trailers once they are whole.
fn take_trailers(lines: &mut Vec<u8>, bytes: &[u8]) -> Result<(usize, Option<Headers>), Lost> {
    for (at, byte) in bytes.iter().enumerate() {
        lines.push(*byte);
        let is_end = *byte == b'\n'
            && (matches!(lines.as_slice(), b"\n" | b"\r\n")
                || lines.ends_with(b"\n\n")
                || lines.ends_with(b"\n\r\n"));
        if is_end {
            let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
            let trailers = match httparse::parse_headers(lines, &mut headers) {
                Ok(httparse::Status::Complete((_, trailers))) => owned(trailers),
                _ => return Err(Lost("trailers that are none")),
            };
            return Ok((at + 1, Some(trailers)));
        }
        if lines.len() > MOST_TRAILERS {
            return Err(Lost("trailers are too long"));
        }
    }
    Ok((bytes.len(), None))
}

fn at_most(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    bytes.get(..most).unwrap_or(bytes)
}

fn is_chunked(headers: &Headers) -> bool {
    has_token(headers, "transfer-encoding", "chunked")
}

/// Several lengths that are the same are one.
fn length(headers: &Headers) -> Result<Option<u64>, Lost> {
    let mut found = None;
    for value in headers.named("content-length") {
        let wrong = Lost("a length that is none");
        for one in std::str::from_utf8(value).map_err(|_| wrong)?.split(',') {
            let one: u64 = one.trim().parse().map_err(|_| wrong)?;
            if found.is_some_and(|before| before != one) {
                return Err(Lost("two lengths for one body"));
            }
            found = Some(one);
        }
    }
    Ok(found)
}

const MOST_TRAILERS: usize = 16 << 10;
