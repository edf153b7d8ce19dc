//! Tells HTTP/2 with prior knowledge from HTTP/1.1 by the first bytes of a connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// A connection whose first bytes were read ahead.
pub(crate) struct Prefixed<T> {
    prefix: Bytes,
    io: T,
}

/// Reads until the first bytes tell the version. `None`: closed before any byte came, as probes
/// and browsers that open a connection in advance do.
pub(crate) async fn detect<T>(mut io: T) -> io::Result<Option<(Version, Prefixed<T>)>>
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
        return Ok(Some((version, Prefixed { prefix: read.freeze(), io })));
    }
}

impl<T> Prefixed<T> {
    pub(crate) fn connection(&self) -> &T {
        &self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let len = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..len]);
        self.prefix.advance(len);
        if self.prefix.is_empty() {
            // Frees the read-ahead buffer for the rest of the connection's life.
            self.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
        let (version, mut io) = detect(bytes).await.unwrap()?;
        let mut again = Vec::new();
        io.read_to_end(&mut again).await.unwrap();
        assert_eq!(again, bytes, "not a byte is lost");
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
        let (mut visitor, server) = tokio::io::duplex(1);
        let writer = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut visitor, PREFACE).await.unwrap();
        });
        let (version, _) = detect(server).await.unwrap().unwrap();
        assert_eq!(version, Version::Http2);
        writer.await.unwrap();
    }
}
