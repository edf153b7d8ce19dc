//! Opens streams for HTTP, and gives them to hyper's client: what a TCP connector is elsewhere, a tunnel is here.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, Waker},
};

use ferrotunnel_core::{
    OpenError, SessionId, SharedPlace, Sharing, Spare, Stream, StreamError, TapMaker, TappedStream,
    Tunnel,
};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use crate::traced::opening;

/// Opens streams of one tunnel over one session, as long as that has it.
#[derive(Clone)]
pub(crate) struct Connector {
    tunnel: Arc<Tunnel>,
    session: SessionId,
    /// Who sees what passes.
    taps: Option<Arc<dyn TapMaker>>,
}

/// Empty for as long as a stream is whole.
pub(crate) type Broke = Arc<OnceLock<StreamError>>;

impl Connector {
    pub(crate) fn new(
        tunnel: Arc<Tunnel>,
        session: SessionId,
        taps: Option<Arc<dyn TapMaker>>,
    ) -> Self {
        Self { tunnel, session, taps }
    }

    /// Who keeps such streams for later, as long as nobody else needs their places.
    pub(crate) fn kept_by(&self, keeper: Weak<dyn Spare>) {
        self.tunnel.kept_by(self.session, keeper);
    }

    /// Whether a stream that was opened before may serve others still, by whether it keeps to a rate.
    pub(crate) fn reuses(&self, is_paced: bool) -> bool {
        self.tunnel.reuses(is_paced)
    }

    /// The places of a visitor on a stream that is shared.
    pub(crate) fn enter(&self, visitor: SocketAddr) -> Result<SharedPlace, OpenError> {
        self.tunnel.enter(self.session, visitor)
    }

    /// A stream on behalf of a visitor. A pooled connection outlives that visitor; `X-Forwarded-For` says who is behind
    /// each request.
    pub(crate) fn open(
        &self,
        visitor: SocketAddr,
        ingress: SocketAddr,
        sharing: Sharing,
    ) -> Result<Stream, OpenError> {
        let stream =
            opening(|trace| self.tunnel.open_at(self.session, visitor, ingress, trace, sharing))?;
        let Some(taps) = &self.taps else { return Ok(stream) };
        let seen = TappedStream::new(self.tunnel.label(), self.tunnel.uid().0, Some(visitor));
        Ok(match taps.tap(seen) {
            None => stream,
            Some(tap) => stream.tapped(tap),
        })
    }
}

/// A stream as hyper wants it.
pub(crate) struct TunnelIo {
    stream: TokioIo<Stream>,
    /// Where the reason is left when the stream breaks, for those who cannot see the error.
    broke: Broke,
    has_written: bool,
    /// Who is to hear that the stream has broken once something was written.
    held_back: Option<Waker>,
}

impl TunnelIo {
    pub(crate) fn new(stream: Stream, broke: Broke) -> Self {
        Self { stream: TokioIo::new(stream), broke, has_written: false, held_back: None }
    }

    pub(crate) fn into_stream(self) -> Stream {
        self.stream.into_inner()
    }

    /// The first request is on its way, or was long ago.
    pub(crate) fn begins(&mut self) {
        self.has_written = true;
        if let Some(waker) = self.held_back.take() {
            waker.wake();
        }
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && let Some(error) = StreamError::from_io(error)
        {
            // The first reason is the true one.
            let _ = self.broke.set(error.clone());
        }
        result
    }

    /// A local service may answer early and break off. hyper gives a connection up when a write
    /// fails, with an answer that it has not taken yet; so on a stream that was reset writes come
    /// to nothing quietly until reading, which cannot block any more, has come to the end.
    fn note_write(&self, result: Poll<io::Result<usize>>, size: usize) -> Poll<io::Result<usize>> {
        let was_reset = matches!(&result, Poll::Ready(Err(error))
            if matches!(StreamError::from_io(error), Some(StreamError::Reset { .. })));
        let result = self.note(result);
        if was_reset && !self.stream.inner().is_heard_out() {
            Poll::Ready(Ok(size))
        } else {
            result
        }
    }
}

impl Read for TunnelIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let result = self.note(result);
        if matches!(result, Poll::Ready(Err(_))) && !self.has_written {
            // hyper ends a connection at once that breaks without a request, and the request that is just being
            // handed to it may then be answered by nobody: its channel can lose what comes while it closes. So
            // the request comes first. Where there is none to come, the connection ends by itself.
            self.held_back = Some(cx.waker().clone());
            return Poll::Pending;
        }
        result
    }
}

impl Write for TunnelIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begins();
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(result, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begins();
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(result, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
