//! A local service that speaks TLS.
//!
//! Which protocol to offer it (ALPN) is decided by what the server has begun to speak over the stream: it speaks
//! HTTP/2 with prior knowledge to some services, and HTTP/1.1 to others. So the first bytes are waited for, which
//! in HTTP are the visitor's to send.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::counters::Counted;
use crate::socket;
use crate::splice::{End, Io, Prefixed, splice_paced};
use crate::tls::LocalTls;

/// Copies until both ends have finished. Gives the visitor's end back if there is no TLS with the service.
pub(super) async fn forward<E: End>(
    mut visitor: E,
    socket: TcpStream,
    tls: &LocalTls,
    counted: Option<Counted>,
) -> Result<(), (E, io::Error)> {
    socket::tune(&socket);
    let first = match first_bytes(&mut visitor).await {
        Ok(first) => first,
        Err(error) => {
            tracing::debug!(%error, "a visitor broke off before it had said anything");
            return Ok(());
        }
    };
    let local = match connect(socket, tls, first.starts_with(PREFACE)).await {
        Ok(local) => local,
        Err(error) => return Err((visitor, error)),
    };
    let visitor = Prefixed::put_back(first, visitor);
    if let Err(error) = splice_paced(visitor, Io::new(local), [None, None], counted).await {
        tracing::debug!(%error, "connection broke");
    }
    Ok(())
}

/// TLS with the service.
pub(super) async fn connect(
    socket: TcpStream,
    tls: &LocalTls,
    is_http2: bool,
) -> io::Result<TlsStream<TcpStream>> {
    let config = tls.config(is_http2).map_err(io::Error::other)?;
    let handshake = TlsConnector::from(config).connect(tls.name.clone(), socket);
    match timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(Ok(local)) => Ok(local),
        Ok(Err(error)) => Err(with_advice(error)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// As many as tell whether it is HTTP/2.
async fn first_bytes(visitor: &mut impl End) -> io::Result<Bytes> {
    let mut seen = BytesMut::new();
    let mut chunks = Vec::new();
    loop {
        let is_more = poll_fn(|cx| visitor.poll_read(cx, FIRST_READ, &mut chunks)).await?;
        for chunk in chunks.drain(..) {
            seen.extend_from_slice(&chunk);
        }
        let may_be_http2 = seen.len() < PREFACE.len() && PREFACE.starts_with(&seen);
        if !is_more || !may_be_http2 {
            return Ok(seen.freeze());
        }
    }
}

fn with_advice(error: io::Error) -> io::Error {
    let is_about_a_certificate = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_)));
    if !is_about_a_certificate {
        return error;
    }
    io::Error::new(
        error.kind(),
        format!(
            "{error}: name the CA that has issued it (local_ca_file, --local-ca), or, if nobody else can be at \
             that address, take any certificate (--local-insecure)"
        ),
    )
}

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of a request; what is beyond it can wait.
const FIRST_READ: usize = 4 << 10;

/// As for connecting: a local service is near.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
