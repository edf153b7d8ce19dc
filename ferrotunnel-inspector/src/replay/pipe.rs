//! A connection of ours with a tap.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ferrotunnel_core::Tap as _;
use ferrotunnel_core::client::Pipe;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream_tap::StreamTap;

/// A tap that is told things from two places: the connection, and whoever has made it.
#[derive(Clone, Debug)]
pub(super) struct SharedTap(Arc<Mutex<StreamTap>>);

impl SharedTap {
    pub(super) fn new(tap: StreamTap) -> Self {
        Self(Arc::new(Mutex::new(tap)))
    }

    pub(super) fn dialling(&self) {
        self.0.lock().dialling();
    }

    pub(super) fn dialled(&self, result: Result<(), &str>) {
        self.0.lock().dialled(result);
    }

    pub(super) fn broke(&self, why: &str) {
        self.0.lock().broke(why);
    }
}

/// The connection.
pub(super) struct Tapped {
    pipe: Box<dyn Pipe>,
    tap: SharedTap,
}

impl Tapped {
    pub(super) fn new(pipe: Box<dyn Pipe>, tap: SharedTap) -> Self {
        Self { pipe, tap }
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let (had_room, read) = (buf.remaining() > 0, Pin::new(&mut self.pipe).poll_read(cx, buf));
        ready!(read)?;
        match buf.filled().get(before..).unwrap_or_default() {
            [] if had_room => self.tap.0.lock().visitor_end(),
            bytes => self.tap.0.lock().to_visitor(bytes),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.pipe).poll_write(cx, buf))?;
        self.tap.0.lock().to_local(buf.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
