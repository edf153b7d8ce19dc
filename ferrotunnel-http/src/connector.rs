//! Opens streams for hyper's client: what a TCP connector is elsewhere, a tunnel is here.

use std::{
    cell::Cell,
    future::{Ready, ready},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use ferrotunnel_core::{OpenError, SessionId, Stream, StreamError, Tunnel};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};

use crate::{traced::opening, visitor::Visitor};

/// Opens streams of one tunnel over one session, as long as that has it.
#[derive(Clone)]
pub(crate) struct Connector {
    tunnel: Arc<Tunnel>,
    session: SessionId,
}

/// On whose behalf streams are opened while a request of theirs is being sent. A pooled
/// connection outlives that visitor; `X-Forwarded-For` says who is behind each request.
pub(crate) struct Opening {
    visitor: SocketAddr,
    ingress: SocketAddr,
    /// Of the last stream that was opened: where the reason is left when it breaks.
    broke: Cell<Option<Broke>>,
}

/// Empty for as long as a stream is whole.
pub(crate) type Broke = Arc<OnceLock<StreamError>>;

tokio::task_local! {
    /// The client hands nothing of a request but its URI to the connector, but it calls the
    /// connector from within the task that awaits the response.
    pub(crate) static OPENING: Opening;
}

impl Connector {
    pub(crate) fn new(tunnel: Arc<Tunnel>, session: SessionId) -> Self {
        Self { tunnel, session }
    }

    pub(crate) fn open(
        &self,
        visitor: SocketAddr,
        ingress: SocketAddr,
    ) -> Result<Stream, OpenError> {
        opening(|trace| self.tunnel.open_at(self.session, visitor, ingress, trace))
    }

    fn connect(&self) -> Result<TunnelIo, OpenError> {
        let broke = Broke::default();
        let (visitor, ingress) = OPENING
            .try_with(|opening| {
                opening.broke.set(Some(broke.clone()));
                (opening.visitor, opening.ingress)
            })
            .unwrap_or((UNKNOWN, UNKNOWN));
        Ok(TunnelIo::new(self.open(visitor, ingress)?, broke))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TunnelIo;
    type Error = OpenError;
    type Future = Ready<Result<TunnelIo, OpenError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.connect())
    }
}

impl Opening {
    pub(crate) fn by(visitor: &Visitor) -> Self {
        Self { visitor: visitor.address, ingress: visitor.ingress, broke: Cell::new(None) }
    }

    /// The new stream that was opened since, if there was one.
    pub(crate) fn opened(self) -> Option<Broke> {
        self.broke.into_inner()
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

    /// The first request is on its way.
    fn begins(&mut self) {
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

impl Connection for TunnelIo {
    fn connected(&self) -> Connected {
        Connected::new()
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

/// Stands for "nobody in particular".
const UNKNOWN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
