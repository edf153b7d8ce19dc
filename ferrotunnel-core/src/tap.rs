//! Seeing what passes through the streams of HTTP tunnels.
//!
//! Whoever looks is shown each chunk as it is handed on, by reference, and has no way to hold it up, to change it or
//! to keep it in place of the one it goes to. What the bytes mean is not known here.

use std::fmt;
use std::net::SocketAddr;

/// Says which streams are looked at.
pub trait TapMaker: Send + Sync + fmt::Debug {
    /// Who looks at a stream that was opened just now. `None`: nobody.
    fn tap(&self, stream: TappedStream<'_>) -> Option<Box<dyn Tap>>;
}

/// A stream of an HTTP tunnel.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TappedStream<'a> {
    /// The tunnel's name, with its path.
    pub tunnel: &'a str,
    /// By which this process finds the tunnel again.
    pub number: u64,
    /// Who has made it necessary; others may follow over the same stream.
    pub visitor: Option<SocketAddr>,
}

impl<'a> TappedStream<'a> {
    /// One of that tunnel.
    pub fn new(tunnel: &'a str, number: u64, visitor: Option<SocketAddr>) -> Self {
        Self { tunnel, number, visitor }
    }
}

/// Looks at one stream. It is dropped with it, and must not block: it is called in the course of traffic.
pub trait Tap: Send {
    /// The local service is being dialled. At a server nobody knows.
    fn dialling(&mut self) {}

    /// It was reached, or why not. At a server nobody knows.
    fn dialled(&mut self, _result: Result<(), &str>) {}

    /// Bytes on their way to the local service.
    fn to_local(&mut self, bytes: &[u8]);

    /// Bytes on their way to the visitor.
    fn to_visitor(&mut self, bytes: &[u8]);

    /// The visitor's direction has ended in order.
    fn local_end(&mut self) {}

    /// The local service's direction has ended in order.
    fn visitor_end(&mut self) {}

    /// The stream broke, or was broken off. Comes once at most.
    fn broke(&mut self, _why: &str) {}
}

/// A tap at the end of a stream that is ours.
pub(crate) struct Tapped {
    tap: Box<dyn Tap>,
    /// What is read goes to the local service: this is a client.
    is_client: bool,
}

impl fmt::Debug for Tapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tapped")
    }
}

impl Tapped {
    pub(crate) fn new(tap: Box<dyn Tap>, is_client: bool) -> Box<Self> {
        Box::new(Self { tap, is_client })
    }

    pub(crate) fn read(&mut self, bytes: &[u8]) {
        if self.is_client { self.tap.to_local(bytes) } else { self.tap.to_visitor(bytes) }
    }

    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        if self.is_client { self.tap.to_visitor(bytes) } else { self.tap.to_local(bytes) }
    }

    pub(crate) fn read_end(&mut self) {
        if self.is_client { self.tap.local_end() } else { self.tap.visitor_end() }
    }

    pub(crate) fn wrote_end(&mut self) {
        if self.is_client { self.tap.visitor_end() } else { self.tap.local_end() }
    }

    pub(crate) fn tap(&mut self) -> &mut dyn Tap {
        self.tap.as_mut()
    }
}
