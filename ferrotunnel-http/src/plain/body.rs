//! The body of an answer: where it ends, and what of its bytes is not its own.
//!
//! What is taken and what is refused is what hyper's client takes and refuses, limits included, so that it makes no
//! difference to a local service which of the two asks it. There is one exception: behind an answer in HTTP/1.0 there is no
//! other request, also where the local service would have one.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::bad::Bad;

/// What is still to come of a body.
#[derive(Debug)]
pub(crate) enum Rest {
    /// So many bytes.
    Sized(u64),
    /// Boxed: it is more than the others need, and an answer in chunks has more work to do than that.
    Chunks(Box<Chunks>),
    /// All that comes before the end of the connection.
    UntilEnd,
    Nothing,
}

/// A body in chunks (RFC 9112, section 7.1).
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    at: At,
    /// Of the chunk whose size is being read, or of whose data is to come.
    left: u64,
    extensions: usize,
    trailers: Vec<u8>,
    trailer_count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    #[default]
    Start,
    Size,
    /// Space behind a size.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// In a line behind the last chunk.
    Trailer,
    TrailerLf,
    /// Where such a line begins, or all ends.
    EndCr,
    EndLf,
}

impl Rest {
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing | Self::Sized(0))
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Sized(left) => SizeHint::with_exact(*left),
            Self::Nothing => SizeHint::with_exact(0),
            Self::Chunks(_) | Self::UntilEnd => SizeHint::default(),
        }
    }

    /// Takes the next part from what has come. `None`: more has to come, or there is nothing left.
    pub(crate) fn take(&mut self, unread: &mut Bytes) -> Result<Option<Frame<Bytes>>, Bad> {
        let data = match self {
            Self::Nothing => return Ok(None),
            Self::Sized(left) => {
                let data = up_to(*left, unread);
                *left -= data.len() as u64;
                data
            }
            Self::UntilEnd => std::mem::take(unread),
            Self::Chunks(chunks) => {
                let part = chunks.take(unread)?;
                return Ok(match part {
                    Part::Data(data) => Some(Frame::data(data)),
                    Part::More => None,
                    Part::End(trailers) => {
                        *self = Self::Nothing;
                        trailers.map(Frame::trailers)
                    }
                });
            }
        };
        Ok((!data.is_empty()).then(|| Frame::data(data)))
    }

    /// The connection has ended. An error, unless that is how the body ends.
    pub(crate) fn end(&mut self) -> Result<(), Bad> {
        match self {
            Self::UntilEnd | Self::Nothing | Self::Sized(0) => {
                *self = Self::Nothing;
                Ok(())
            }
            Self::Sized(_) | Self::Chunks(_) => Err(Bad::CutOff),
        }
    }
}

fn up_to(count: u64, unread: &mut Bytes) -> Bytes {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count >= unread.len() { std::mem::take(unread) } else { unread.split_to(count) }
}

/// What comes next in chunks.
enum Part {
    Data(Bytes),
    End(Option<HeaderMap>),
    More,
}

impl Chunks {
    fn take(&mut self, unread: &mut Bytes) -> Result<Part, Bad> {
        loop {
            if self.at == At::Data {
                let data = up_to(self.left, unread);
                if data.is_empty() {
                    return Ok(Part::More);
                }
                self.left -= data.len() as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Part::Data(data));
            }
            let mut read = 0;
            let ends = loop {
                let Some(&byte) = unread.get(read) else { break false };
                read += 1;
                if self.at == At::EndLf && byte == b'\n' {
                    break true;
                }
                self.at = self.step(byte)?;
                if self.at == At::Data {
                    break false;
                }
            };
            unread.advance(read);
            if ends {
                return self.trailers().map(Part::End);
            }
            if self.at != At::Data {
                return Ok(Part::More);
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<At, Bad> {
        Ok(match (self.at, byte) {
            (At::Start | At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(Bad::Chunk)?;
                let left = self.left.checked_mul(16).and_then(|it| it.checked_add(digit.into()));
                self.left = left.ok_or(Bad::Chunk)?;
                At::Size
            }
            (At::Size | At::Space, b'\t' | b' ') => At::Space,
            (At::Size | At::Space, b';') => At::Extension,
            (At::Size | At::Space | At::Extension, b'\r') => At::SizeLf,
            (At::Extension, b'\n') => return Err(Bad::Chunk),
            (At::Extension, _) => {
                self.extensions += 1;
                if self.extensions >= MOST_OF_EXTENSIONS {
                    return Err(Bad::TooLong);
                }
                At::Extension
            }
            (At::SizeLf, b'\n') if self.left == 0 => At::EndCr,
            (At::SizeLf, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Start,
            (At::EndCr, b'\r') => {
                if !self.trailers.is_empty() {
                    self.keep(byte)?;
                }
                At::EndLf
            }
            (At::Trailer, b'\r') => {
                self.keep(byte)?;
                At::TrailerLf
            }
            (At::EndCr | At::Trailer, _) => {
                self.keep(byte)?;
                At::Trailer
            }
            (At::TrailerLf, b'\n') => {
                if self.trailer_count >= MOST_HEADERS {
                    return Err(Bad::TooLong);
                }
                self.trailer_count += 1;
                self.keep(byte)?;
                At::EndCr
            }
            _ => return Err(Bad::Chunk),
        })
    }

    fn keep(&mut self, byte: u8) -> Result<(), Bad> {
        self.trailers.push(byte);
        if self.trailers.len() >= MOST_OF_TRAILERS { Err(Bad::TooLong) } else { Ok(()) }
    }

    fn trailers(&mut self) -> Result<Option<HeaderMap>, Bad> {
        if self.trailers.is_empty() {
            return Ok(None);
        }
        self.keep(b'\n')?;
        let mut parsed = vec![httparse::EMPTY_HEADER; self.trailer_count];
        let Ok(httparse::Status::Complete((_, parsed))) =
            httparse::parse_headers(&self.trailers, &mut parsed)
        else {
            return Err(Bad::Header);
        };
        let mut trailers = HeaderMap::with_capacity(parsed.len());
        for trailer in parsed {
            let name = HeaderName::try_from(trailer.name).map_err(|_| Bad::Header)?;
            let value = HeaderValue::from_bytes(trailer.value).map_err(|_| Bad::Header)?;
            trailers.append(name, value);
        }
        Ok(Some(trailers))
    }
}

/// hyper's number, for heads and for trailers: no honest service comes near it.
pub(crate) const MOST_HEADERS: usize = 100;

/// Of all trailers of an answer; hyper's number.
const MOST_OF_TRAILERS: usize = 16 << 10;

/// Of all extensions of chunks of an answer, which nobody reads; hyper's number.
const MOST_OF_EXTENSIONS: usize = 16 << 10;
