//! An established TLS connection over its socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::end::TlsEnd;
use super::fault::Fault;
use super::open;
use super::outbox::Outbox;
use super::records::Records;
use crate::buffer::{Input, ReadSize};
use crate::carrier::Carrier;
use crate::socket;
use crate::splice::End;

/// Reads and writes through records. A quiet one holds no buffers.
pub(crate) struct TlsStream {
    socket: TcpStream,
    records: Box<Records>,
    /// Sealed, as it was read.
    input: BytesMut,
    /// What a reader with little room has left of a record.
    plain: BytesMut,
    outbox: Outbox,
    /// Bytes of a record came that is not whole yet.
    has_heard: bool,
    /// Nothing of ours may follow what we have said.
    is_finished: bool,
}

impl TlsStream {
    /// `input` is what the handshake read beyond itself, `output` what it has not written.
    pub(super) fn new(
        socket: TcpStream,
        records: Records,
        input: BytesMut,
        output: Vec<u8>,
    ) -> Self {
        Self {
            socket,
            records: Box::new(records),
            input: if input.is_empty() { BytesMut::new() } else { input },
            plain: BytesMut::new(),
            outbox: Outbox::new(output),
            has_heard: false,
            is_finished: false,
        }
    }

    /// The next piece of data among what was read.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> io::Result<Option<BytesMut>> {
        if !self.plain.is_empty() {
            return Ok(Some(std::mem::take(&mut self.plain)));
        }
        let is_news = !self.records.is_broken();
        self.records.open(&mut self.input).map_err(|fault| {
            if is_news {
                self.complain(cx, &fault);
            }
            fault.into()
        })
    }

    /// See [`End::settle`].
    pub(super) fn settle(&mut self) {
        socket::settle(&mut self.socket);
    }

    /// Hands out what there is, until it is `limit` bytes or `most` pieces. Ready with how many bytes
    /// it was, 0 at the end.
    pub(super) fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        size: &mut ReadSize,
        limit: usize,
        most: usize,
        mut take: impl FnMut(BytesMut),
    ) -> Poll<io::Result<usize>> {
        loop {
            let (mut taken, mut pieces) = (0, 0);
            while taken < limit && pieces < most {
                match self.next_piece(cx) {
                    Ok(Some(piece)) => {
                        taken += piece.len();
                        pieces += 1;
                        take(piece);
                    }
                    Ok(None) => break,
                    // It comes again, behind what came before it.
                    Err(_) if taken > 0 => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if taken > 0 {
                self.has_heard = false;
                return Poll::Ready(Ok(taken));
            }
            if self.records.is_ended() {
                self.input = BytesMut::new();
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_fill(cx, size))?;
        }
    }

    /// Reads once.
    fn poll_fill(&mut self, cx: &mut Context<'_>, size: &mut ReadSize) -> Poll<io::Result<()>> {
        let readable = self.poll_socket_readable(cx);
        ready!(readable)?;
        let read = size.poll_read_more(&mut self.socket, cx, &mut self.input);
        if read.is_pending() && self.input.is_empty() {
            // The socket was less ready than it seemed.
            self.input = BytesMut::new();
        }
        match ready!(read)? {
            0 => self.records.fail(Fault::Truncated),
            _ => self.has_heard = true,
        }
        Poll::Ready(Ok(()))
    }

    fn poll_socket_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let readable = self.socket.poll_read_ready(cx);
        if readable.is_pending() && self.input.is_empty() {
            self.input = BytesMut::new();
        }
        readable
    }

    /// Writes what is sealed.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, self.outbox.unsent()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer what was wrong, as far as the socket takes it now.
    fn complain(&mut self, cx: &mut Context<'_>, fault: &Fault) {
        if let Some(alert) = fault.alert()
            && self.finish(alert).is_ok()
        {
            let _ = self.poll_drain(cx);
        }
    }

    /// Our last words.
    fn finish(&mut self, alert: AlertDescription) -> Result<(), Fault> {
        if std::mem::replace(&mut self.is_finished, true) {
            return Ok(());
        }
        self.records.seal_alert(alert, &mut self.outbox).map_err(|fault| self.break_off(fault))
    }

    /// Sealing failed: what lies half-sealed must not leave.
    fn break_off(&mut self, fault: Fault) -> Fault {
        self.outbox = Outbox::default();
        self.is_finished = true;
        self.records.fail(fault.clone());
        fault
    }

    /// Ends it before it has served for anything, and tells the peer why, as far as it listens.
    pub(super) async fn refuse(mut self, alert: AlertDescription) {
        if self.finish(alert).is_ok() {
            let _ = self.shutdown().await;
        }
    }

    #[cfg(test)]
    pub(super) fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    #[cfg(test)]
    pub(super) fn into_parts(self) -> (Records, Outbox) {
        (*self.records, self.outbox)
    }

    /// Bytes of buffers.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.input.capacity() + self.plain.capacity() + self.outbox.held()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut piece = BytesMut::new();
        let polled = self.poll_pieces(cx, &mut ReadSize::default(), 1, 1, |taken| piece = taken);
        ready!(polled)?;
        let count = piece.len().min(buf.remaining());
        let (now, _) = piece.split_at(count);
        buf.put_slice(now);
        piece.advance(count);
        if !piece.is_empty() {
            self.plain = piece;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Takes nothing new while something waits for the socket: whoever writes shall notice when it
    /// does not keep up.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_finished {
            // What was wrong says more than that nothing can be written any more.
            let fault = this.records.fault().map(io::Error::from);
            return Poll::Ready(Err(fault.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())));
        }
        if this.outbox.unsent().len() > MOST_JOINED {
            ready!(this.poll_drain(cx))?;
        }
        let taken = match this.records.seal(bufs, &mut this.outbox) {
            Ok(taken) => taken,
            Err(fault) => return Poll::Ready(Err(this.break_off(fault).into())),
        };
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        self.outbox.release();
        Poll::Ready(Ok(()))
    }

    /// Says goodbye, then ends the socket's direction. The other one goes on.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish(AlertDescription::CloseNotify)?;
        ready!(self.as_mut().poll_flush(cx))?;
        socket::poll_shutdown(&mut self.socket, cx)
    }
}

impl Carrier for TlsStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.plain.is_empty()
            || self.records.is_ended()
            || self.records.is_broken()
            || open::is_openable(&self.input)
        {
            return Poll::Ready(Ok(()));
        }
        self.poll_socket_readable(cx)
    }

    fn poll_read_input(
        &mut self,
        cx: &mut Context<'_>,
        size: &mut ReadSize,
        input: &mut Input,
    ) -> Poll<io::Result<usize>> {
        self.poll_pieces(cx, size, usize::MAX, usize::MAX, |piece| input.push(piece))
    }

    fn has_heard(&mut self) -> bool {
        std::mem::take(&mut self.has_heard)
    }

    fn socket(&self) -> Option<&TcpStream> {
        Some(&self.socket)
    }

    /// What ends without TLS's own goodbye was cut off, so dropping it is enough to abort it.
    fn into_end(self) -> impl End + 'static {
        TlsEnd::new(self)
    }
}

/// Sealed bytes that wait for what is written next, to leave with it: a ticket is smaller, and not
/// worth a packet.
const MOST_JOINED: usize = 1 << 10;
