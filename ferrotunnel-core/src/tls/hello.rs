//! The first message of a TLS connection, read before anybody has decided what to answer.
//!
//! One port may serve both clients' carriers and visitors' HTTPS: they are told apart by the protocols that
//! the message offers (ALPN). What was read is kept, since whoever goes on has to see it too.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::config::ALPN;
use super::handshake::{MOST_FROM_STRANGER, READ_BYTES, invalid};

/// A connection that has said its first words.
pub struct Hello {
    /// Its peer is waiting for an answer.
    pub socket: TcpStream,
    /// What rustls makes of the words; it goes on from here to a connection.
    pub accepted: Accepted,
    /// The words as they came.
    bytes: BytesMut,
}

impl std::fmt::Debug for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hello({} bytes)", self.bytes.len())
    }
}

impl Hello {
    /// Waits for it. How long that may take is the caller's business.
    ///
    /// # Errors
    /// The peer does not speak TLS, or has gone.
    pub async fn read(mut socket: TcpStream) -> io::Result<Self> {
        let mut acceptor = Acceptor::default();
        let mut bytes = BytesMut::new();
        loop {
            let room = MOST_FROM_STRANGER.saturating_sub(bytes.len());
            if room == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a hello longer than any"));
            }
            if bytes.is_empty() {
                // Wait first, borrow then: a stranger that says nothing costs no buffer.
                socket.readable().await?;
            }
            bytes.reserve(room.min(READ_BYTES));
            let seen = bytes.len();
            if socket.read_buf(&mut (&mut bytes).limit(room)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match hear(&mut acceptor, bytes.get(seen..).unwrap_or_default()) {
                Heard::Unfinished => {}
                Heard::Whole(accepted) => return Ok(Self { socket, accepted: *accepted, bytes }),
                Heard::Nonsense { why, alert } => {
                    if let Some(version) = too_old(&bytes) {
                        let _ = socket.write_all(&PROTOCOL_VERSION).await;
                        let why = format!(
                            "{version} is all that it speaks; TLS 1.2 is the oldest that is understood"
                        );
                        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                    }
                    let _ = socket.write_all(&alert).await;
                    return Err(why);
                }
            }
        }
    }

    /// Whether it is a client of ours that dials a carrier.
    pub fn is_carrier(&self) -> bool {
        is_carrier(&self.accepted)
    }

    /// The host that it asks for (SNI), in lower case.
    pub(crate) fn host(&self) -> Option<String> {
        host(&self.accepted)
    }

    /// For a handshake that reads the words again.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.socket, self.bytes)
    }
}

/// What has come of the words so far.
pub(crate) enum Heard {
    Unfinished,
    Whole(Box<Accepted>),
    /// No TLS, or none that we speak.
    Nonsense {
        why: io::Error,
        /// What the peer is told.
        alert: Vec<u8>,
    },
}

/// The next words.
pub(crate) fn hear(acceptor: &mut Acceptor, mut fresh: &[u8]) -> Heard {
    while fresh.has_remaining() {
        match acceptor.read_tls(&mut fresh) {
            Ok(0) => break,
            Ok(_) => {}
            Err(why) => return Heard::Nonsense { why, alert: Vec::new() },
        }
    }
    match acceptor.accept() {
        Ok(None) => Heard::Unfinished,
        Ok(Some(accepted)) => Heard::Whole(Box::new(accepted)),
        Err((error, mut told)) => {
            let mut alert = Vec::new();
            let _ = told.write_all(&mut alert);
            Heard::Nonsense { why: invalid(error), alert }
        }
    }
}

/// The version of a first message that is older than what we speak, which says too little for rustls to read it.
fn too_old(words: &[u8]) -> Option<&'static str> {
    // A record of the handshake, in it the length of a ClientHello, and then its newest version (RFC 4346, 7.4.1.2).
    match words {
        [22, 3, _, _, _, 1, _, _, _, 3, minor, ..] => match minor {
            0 => Some("SSL 3.0"),
            1 => Some("TLS 1.0"),
            2 => Some("TLS 1.1"),
            _ => None,
        },
        _ => None,
    }
}

/// The record that says so (RFC 4346, section 7.2): a fatal alert, number 70.
const PROTOCOL_VERSION: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

pub(crate) fn is_carrier(accepted: &Accepted) -> bool {
    let hello = accepted.client_hello();
    hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ALPN))
}

pub(crate) fn host(accepted: &Accepted) -> Option<String> {
    let hello = accepted.client_hello();
    Some(hello.server_name()?.trim_end_matches('.').to_ascii_lowercase())
}
