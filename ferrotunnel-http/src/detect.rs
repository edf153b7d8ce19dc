//! Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes of a connection.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Reads until the first bytes tell the version, and returns what it has read. `None`: closed
/// before any byte came, as probes and browsers that open a connection in advance do.
pub(crate) async fn detect<T>(io: &mut T) -> io::Result<Option<(Version, Bytes)>>
where
    T: AsyncRead + Unpin,
{
    let mut read = BytesMut::with_capacity(FIRST_READ);
    loop {
        let closed = io.read_buf(&mut read).await? == 0;
        if closed && read.is_empty() {
            return Ok(None);
        }
        let seen = read.len().min(PREFACE.len());
        let version = if closed || read[..seen] != PREFACE[..seen] {
            Version::Http1
        } else if seen == PREFACE.len() {
            Version::Http2
        } else {
            continue;
        };
        return Ok(Some((version, read.freeze())));
    }
}

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes read ahead at most. Holds the head of most requests, so that detection costs no read of
/// its own.
const FIRST_READ: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn detected(bytes: &[u8]) -> Option<Version> {
        let mut rest = bytes;
        let (version, read_ahead) = detect(&mut rest).await.unwrap()?;
        assert_eq!([&read_ahead, rest].concat(), bytes, "not a byte is lost");
        Some(version)
    }

    #[tokio::test]
    async fn the_preface_means_http2() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(b"and a settings frame");
        assert_eq!(detected(&bytes).await, Some(Version::Http2));
        assert_eq!(detected(PREFACE).await, Some(Version::Http2));
    }

    #[tokio::test]
    async fn anything_else_means_http1() {
        assert_eq!(detected(b"GET / HTTP/1.1\r\n\r\n").await, Some(Version::Http1));
        assert_eq!(detected(b"PRI * HTTP/1.1\r\n\r\n").await, Some(Version::Http1));
        assert_eq!(detected(b"PRI * HT").await, Some(Version::Http1));
        assert_eq!(detected(&[b'x'; 3 * FIRST_READ]).await, Some(Version::Http1));
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_no_request() {
        assert_eq!(detected(b"").await, None);
    }

    #[tokio::test]
    async fn a_preface_that_comes_byte_by_byte_is_recognised() {
        let (mut visitor, mut server) = tokio::io::duplex(1);
        let writer = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut visitor, PREFACE).await.unwrap();
        });
        let (version, _) = detect(&mut server).await.unwrap().unwrap();
        assert_eq!(version, Version::Http2);
        writer.await.unwrap();
    }
}
