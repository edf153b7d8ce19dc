//! Connections to the interface. There are few places, so nobody keeps one for nothing: who does not read what was asked for
//! is let go of, and so is who has stayed for a while without ever having shown the token.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Whether somebody on this connection may ask. It stands beside each request.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<AtomicBool>);

impl Known {
    /// Somebody has shown that they may.
    pub(super) fn is_now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves one, until it ends.
pub(super) async fn serve(io: TcpStream, peer: SocketAddr, router: Router) {
    let known = Known::default();
    let service = {
        let (known, routed) = (known.clone(), TowerToHyperService::new(router));
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(known.clone());
            routed.call(request)
        })
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFERED)
        .serve_connection(TokioIo::new(Reading::of(io, STALL)), service);
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        () = sleep(UNKNOWN) => {
            if known.is() {
                serving.await
            } else {
                // What is being answered may be read to its end.
                serving.as_mut().graceful_shutdown();
                match timeout(STALL, serving).await {
                    Ok(served) => served,
                    Err(_) => return,
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection of the admin interface broke");
    }
}

/// A connection that breaks when its peer takes nothing for a while although there is something to take.
struct Reading<T> {
    io: T,
    patience: Duration,
    /// When the peer has waited for too long, while it is waited for.
    stalled: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl<T> Reading<T> {
    fn of(io: T, patience: Duration) -> Self {
        Self { io, patience, stalled: Box::pin(sleep(patience)), is_waiting: false }
    }

    fn unless_stalled<R>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.is_waiting = false;
            return polled;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.stalled.as_mut().reset(Instant::now() + self.patience);
        }
        match self.stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Reading<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Reading<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.unless_stalled(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.unless_stalled(cx, polled)
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

/// For the head of a request, and between two; scrapers come back every 15 s or so on a new connection if need be.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer heads than this nobody needs here.
const MAX_BUFFERED: usize = 16 << 10;

/// For the peer to take something of what it asked for.
const STALL: Duration = Duration::from_secs(30);

/// For the page to be loaded and the token to be shown; who needs longer dials again.
const UNKNOWN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_for_too_long_is_let_go_of_and_who_reads_slowly_is_not() {
        let (near, mut far) = duplex(4);
        let mut near = Reading::of(near, STALL);
        let began = Instant::now();
        for _ in 0..5 {
            near.write_all(b"full").await.unwrap();
            let slowly = async {
                sleep(STALL - Duration::from_secs(1)).await;
                far.read_exact(&mut [0; 4]).await.unwrap();
            };
            let (written, ()) = tokio::join!(near.write_all(b"more"), slowly);
            written.unwrap();
            far.read_exact(&mut [0; 4]).await.unwrap();
        }
        assert!(began.elapsed() > 4 * STALL);
        near.write_all(b"full").await.unwrap();
        let stalled = timeout(2 * STALL, near.write_all(b"more")).await.unwrap();
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(far);
    }
}
