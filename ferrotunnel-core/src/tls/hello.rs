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
            let mut fresh = bytes.get(seen..).unwrap_or_default();
            while fresh.has_remaining() {
                if acceptor.read_tls(&mut fresh)? == 0 {
                    break;
                }
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(Self { socket, accepted, bytes }),
                Err((error, mut alert)) => {
                    let mut words = Vec::new();
                    let _ = alert.write_all(&mut words);
                    let _ = socket.write_all(&words).await;
                    return Err(invalid(error));
                }
            }
        }
    }

    /// Whether it is a client of ours that dials a carrier.
    pub fn is_carrier(&self) -> bool {
        let hello = self.accepted.client_hello();
        hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ALPN))
    }

    /// The host that it asks for (SNI), in lower case.
    pub(crate) fn host(&self) -> Option<String> {
        let hello = self.accepted.client_hello();
        Some(hello.server_name()?.trim_end_matches('.').to_ascii_lowercase())
    }

    /// For a handshake that reads the words again.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.socket, self.bytes)
    }
}
