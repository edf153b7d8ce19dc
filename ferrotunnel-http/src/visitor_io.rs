//! A visitor's connection as hyper sees it: what was read ahead comes first, and what was cut off
//! does not look whole. What can be read in two ways does not come through.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use ferrotunnel_core::splice::{Looks, Socket};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tracing::debug;

use crate::{
    forward::Forwarder,
    framing::{Framing, Unclear},
    interim::PROCESSING,
    leaving::Leaving,
    visitor::Visitor,
};

pub(crate) struct VisitorIo<T: Socket> {
    read_ahead: Bytes,
    /// What broke the connection right behind what was read last. It is told once, after that an end is read.
    broken: Option<io::Error>,
    io: T,
    http1: Option<Http1>,
}

/// What there is to know while HTTP/1 is spoken.
struct Http1 {
    visitor: Arc<Visitor>,
    /// Has the words for what is no request.
    forwarder: Arc<Forwarder>,
    framing: Framing,
    /// Ends with RST, not FIN, if it is dropped as it is now.
    cut: bool,
    /// hyper has flushed all it had to say: what it says next is the beginning of something.
    is_flushed: bool,
    /// The same, and no body of an answer is under way: what comes next is the beginning of an answer.
    is_between: bool,
    /// While what it goes on sending is thrown away at the end.
    linger: Option<Linger>,
    /// Answers that had begun when the last one began to be written.
    begun: usize,
    /// hyper waits for bytes, and so sees by itself when there are no more.
    reads: bool,
    side: Side,
    leaving: Option<Leaving>,
    /// While nobody reads.
    looks: Looks,
    /// What is being written between two words of hyper's.
    between: Bytes,
    refused: Option<Unclear>,
    /// What hyper reads in place of what was refused, until it has been read.
    spoiler: &'static [u8],
    /// What is said in place of hyper's word about what is no request, and then nothing more.
    last_words: Option<Bytes>,
}

/// The visitor's side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Open,
    /// It has ended, and hyper has not asked since.
    Ended,
    /// hyper knows.
    Closed,
}

impl<T: Socket> VisitorIo<T> {
    /// A connection that ends with RST, not FIN, when it is dropped before its write side was
    /// shut down. The body of an answer to HTTP/1.0, and whatever follows an upgrade, has no other
    /// end than that of its connection (RFC 9112, section 6.3).
    ///
    /// A visitor that sent no request in time is let go with FIN ([`Visitor::timed_out`]): RST
    /// would throw away what the kernel has yet to send of earlier answers.
    ///
    /// What can be read in two ways ([`Framing`]) does not reach hyper.
    ///
    /// What hyper does not take for a request gets an answer of ours, not hyper's.
    pub(crate) fn http1(
        io: T,
        read_ahead: Bytes,
        visitor: Arc<Visitor>,
        forwarder: Arc<Forwarder>,
    ) -> Self {
        let http1 = Http1 {
            visitor,
            forwarder,
            framing: Framing::default(),
            cut: true,
            is_flushed: true,
            is_between: true,
            begun: 0,
            linger: None,
            reads: false,
            side: Side::Open,
            leaving: None,
            looks: Looks::default(),
            between: Bytes::new(),
            refused: None,
            spoiler: b"",
            last_words: None,
        };
        Self { read_ahead, broken: None, io, http1: Some(http1) }
    }

    /// A connection that just ends: frames have told what is whole.
    pub(crate) fn http2(io: T, read_ahead: Bytes) -> Self {
        Self { read_ahead, broken: None, io, http1: None }
    }

    /// Writes what comes before the next word of hyper's.
    fn poll_before(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(http1) = &mut self.http1 else { return Poll::Ready(Ok(())) };
        let visitor = &http1.visitor;
        if http1.between.is_empty() && !visitor.switched.load(Ordering::Relaxed) {
            if http1.is_flushed {
                http1.between = visitor.interim.take(cx.waker());
            } else if !visitor.asking.load(Ordering::Acquire) {
                // It is in the middle of the answer.
                visitor.interim.clear();
            }
        }
        while !http1.between.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &http1.between))?;
            http1.between.advance(written);
            if let Some(leaving) = &mut http1.leaving {
                leaving.sent();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sees to it that a visitor who leaves is noticed, while hyper waits for others than the visitor.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(http1) = &mut self.http1 else { return Ok(()) };
        let reads = mem::take(&mut http1.reads);
        if http1.refused.is_some() {
            return Ok(());
        }
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        if http1.visitor.switched.load(Ordering::Relaxed) {
            return if reads { Ok(()) } else { self.poll_unread(cx) };
        }
        if !reads && http1.side == Side::Open && self.read_ahead.is_empty() {
            let mut next = [0; READ_AHEAD];
            let mut next = ReadBuf::new(&mut next);
            match Pin::new(&mut self.io).poll_read(cx, &mut next) {
                Poll::Ready(Ok(())) if !next.filled().is_empty() => {
                    self.read_ahead = Bytes::copy_from_slice(next.filled());
                }
                Poll::Ready(Ok(())) => {
                    http1.side = Side::Ended;
                    http1.leaving = Some(Leaving::watch());
                    if http1.visitor.asking.load(Ordering::Acquire) {
                        http1.between = [&http1.between, PROCESSING].concat().into();
                    }
                    // hyper may be about to ask, and then there is nothing to find out.
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {}
            }
        }
        if let Some(leaving) = &mut http1.leaving
            && let Poll::Ready(has_left) = leaving.poll(&self.io, cx)
        {
            http1.leaving = None;
            if has_left {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        let is_unread = !reads && (http1.side != Side::Open || !self.read_ahead.is_empty());
        if is_unread { self.poll_unread(cx) } else { Ok(()) }
    }

    /// While nothing of it is read, a visitor who breaks off has to be asked.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(http1) = &mut self.http1 else { return Ok(()) };
        match http1.looks.poll(cx, || self.io.take_break()) {
            Poll::Ready(error) => Err(error),
            Poll::Pending => Ok(()),
        }
    }

    /// Says its last words in place of what hyper has to say, and then swallows that. `None`: hyper has the word.
    fn poll_last_words(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        size: usize,
    ) -> Option<Poll<io::Result<usize>>> {
        let http1 = self.http1.as_mut()?;
        if let Some(leaving) = &mut http1.leaving {
            leaving.sent();
        }
        let begins = mem::take(&mut http1.is_flushed);
        let is_between = mem::take(&mut http1.is_between);
        // One that is on its way to a visitor was counted before; hyper's own is not.
        let answers = http1.visitor.answers.load(Ordering::Acquire);
        let is_an_answer = begins && mem::replace(&mut http1.begun, answers) != answers;
        if begins && is_between && !is_an_answer && http1.last_words.is_none() {
            http1.last_words = http1.instead_of(first, answers);
        }
        let words = http1.last_words.as_mut()?;
        while !words.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, words) {
                Poll::Ready(Ok(count)) => words.advance(count),
                other => return Some(other),
            }
        }
        Some(Poll::Ready(Ok(size)))
    }
}

impl Http1 {
    /// What to say in place of a word of hyper's about a request that it does not take: none of the answers, of which
    /// there have been so many, begins with it.
    fn instead_of(&mut self, first: &[u8], answers: usize) -> Option<Bytes> {
        if self.visitor.switched.load(Ordering::Acquire) {
            return None;
        }
        // Every request has its answer, so there is none to refuse.
        if self.refused.is_none() && self.framing.heads_begun() <= answers {
            return None;
        }
        // While one is refused it may still be at an earlier answer.
        let own = match first.get(..13)? {
            b"HTTP/1.1 400 " => Unclear::Malformed,
            b"HTTP/1.1 414 " => Unclear::TargetTooLong,
            b"HTTP/1.1 431 " => self.framing.too_long(),
            _ => return None,
        };
        let (why, seen) = match self.refused {
            Some(why) if answers >= self.framing.earlier() => (why, Some(self.framing.seen_last())),
            // It is one before that, of which hyper knows what is wrong.
            Some(_) => (own, None),
            None => (own, self.framing.seen(answers)),
        };
        self.refused = Some(why);
        Some(self.forwarder.refuse_unread(&self.visitor, why, seen))
    }

    /// Follows what hyper is about to read. Returns how much of it hyper may have.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        match self.framing.follow(bytes) {
            Ok(count) => count,
            Err(stopped) => {
                debug!(visitor = %self.visitor.address, why = %stopped.why, "a request was refused");
                self.refused = Some(stopped.why);
                self.spoiler = if self.framing.is_in_head() { HEAD_SPOILER } else { SPOILER };
                stopped.good
            }
        }
    }

    /// Whether it ended with an answer that declined an upgrade. hyper hands such a connection on, without an
    /// orderly close, to those who wait for the upgrade, and nobody does. Answers to those requests have an end
    /// of their own.
    fn is_declined(&self) -> bool {
        let is_answered = self.visitor.answers.load(Ordering::Acquire) >= self.framing.heads();
        let switched = self.visitor.switched.load(Ordering::Acquire);
        self.framing.is_whole_after_declining() && self.is_flushed && is_answered && !switched
    }

    /// Whether bytes behind a request for an upgrade have to wait until it is decided.
    fn must_wait(&mut self) -> bool {
        if !self.framing.is_undecided() {
            return false;
        }
        if self.visitor.answers.load(Ordering::Acquire) < self.framing.heads() {
            return true;
        }
        self.framing.decide(self.visitor.switched.load(Ordering::Acquire));
        false
    }
}

impl<T: Socket> Drop for VisitorIo<T> {
    fn drop(&mut self) {
        let is_cut = |http1: &Http1| {
            let timed_out = http1.visitor.timed_out.load(Ordering::Relaxed);
            http1.cut && !timed_out && !http1.is_declined()
        };
        if self.http1.as_ref().is_some_and(is_cut) {
            self.io.abort_on_close();
        }
    }
}

impl<T: Socket> AsyncRead for VisitorIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let mut must_wait = false;
        if let Some(http1) = &mut this.http1 {
            if http1.refused.is_some() {
                let len = http1.spoiler.len().min(buf.remaining());
                buf.put_slice(&http1.spoiler[..len]);
                http1.spoiler = &http1.spoiler[len..];
                return Poll::Ready(Ok(()));
            }
            must_wait = http1.must_wait();
            http1.reads = false;
            if http1.side != Side::Open && this.read_ahead.is_empty() {
                (http1.side, http1.leaving) = (Side::Closed, None);
                return Poll::Ready(Ok(()));
            }
        }
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Err(error));
        }
        if !this.read_ahead.is_empty() && !must_wait {
            let len = this.read_ahead.len().min(buf.remaining());
            let next = &this.read_ahead[..len];
            let count = this.http1.as_mut().map_or(len, |http1| http1.follow(next));
            buf.put_slice(&next[..count]);
            this.read_ahead.advance(count);
            if this.read_ahead.is_empty() {
                // Frees the buffer for the rest of the connection's life.
                this.read_ahead = Bytes::new();
            }
            must_wait = this.http1.as_mut().is_some_and(Http1::must_wait);
        }
        let ahead = buf.filled().len();
        let is_spoiled = this.http1.as_ref().is_some_and(|http1| http1.refused.is_some());
        // What was read ahead is little; the rest follows in the same turn, so that an upload goes in large pieces.
        if this.read_ahead.is_empty() && buf.remaining() > 0 && !is_spoiled {
            let read = Pin::new(&mut this.io).poll_read(cx, buf);
            if let Some(http1) = &mut this.http1 {
                http1.reads = read.is_pending();
            }
            match read {
                // It comes again at the next turn.
                Poll::Pending if ahead > before => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) if ahead > before => {
                    this.broken = Some(error);
                    return Poll::Ready(Ok(()));
                }
                read => ready!(read)?,
            }
            let Some(http1) = &mut this.http1 else { return Poll::Ready(Ok(())) };
            let new = &buf.filled()[ahead..];
            if new.is_empty() {
                if ahead == before {
                    http1.side = Side::Closed;
                }
                return Poll::Ready(Ok(()));
            }
            let count = if must_wait { 0 } else { http1.follow(new) };
            if count < new.len() {
                if http1.refused.is_none() {
                    this.read_ahead = Bytes::copy_from_slice(&new[count..]);
                }
                buf.set_filled(ahead + count);
            }
        }
        if buf.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        match &this.http1 {
            // The task that reads is the one that decides, or that was woken by the decision: it comes again.
            Some(http1) if http1.refused.is_none() => Poll::Pending,
            _ => Pin::new(this).poll_read(cx, buf),
        }
    }
}

impl<T: Socket> AsyncWrite for VisitorIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before(cx))?;
        match self.poll_last_words(cx, buf, buf.len()) {
            Some(written) => written,
            None => Pin::new(&mut self.io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before(cx))?;
        let first = bufs.first().map_or(&[][..], |buf| buf);
        match self.poll_last_words(cx, first, bufs.iter().map(|buf| buf.len()).sum()) {
            Some(written) => written,
            None => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        let Some(http1) = &mut self.http1 else { return Poll::Ready(Ok(())) };
        http1.is_flushed = true;
        // What hyper had of a body that is gone is out with that.
        http1.is_between = !http1.visitor.is_sending.load(Ordering::Acquire);
        self.poll_leaving(cx)?;
        if self.http1.as_ref().is_some_and(|http1| http1.visitor.asking.load(Ordering::Acquire)) {
            ready!(self.poll_before(cx))?;
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let is_shut = this.http1.as_ref().is_some_and(|http1| !http1.cut);
        if !is_shut {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        let Some(http1) = &mut this.http1 else { return Poll::Ready(Ok(())) };
        http1.cut = false;
        if http1.refused.is_none() && !http1.framing.is_within_message() {
            return Poll::Ready(Ok(()));
        }
        // What the visitor is still sending would be answered with RST, and that may destroy the answer on its way.
        let linger = http1.linger.get_or_insert_with(Linger::new);
        ready!(linger.poll(&mut this.io, cx));
        Poll::Ready(Ok(()))
    }
}

/// Reads and throws away for a while: until the visitor has ended, too.
struct Linger {
    /// Boxed: few need it.
    over: Pin<Box<Sleep>>,
    left: usize,
}

impl Linger {
    fn new() -> Self {
        Self { over: Box::pin(sleep(LINGER)), left: MOST_THROWN_AWAY }
    }

    fn poll<T: AsyncRead + Unpin>(&mut self, io: &mut T, cx: &mut Context<'_>) -> Poll<()> {
        let mut thrown_away = [0; 4 << 10];
        while self.left > 0 {
            let mut buf = ReadBuf::new(&mut thrown_away);
            match Pin::new(&mut *io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.left = self.left.saturating_sub(buf.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => return self.over.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

/// For an answer to arrive, and be read by somebody who writes first.
const LINGER: Duration = Duration::from_secs(2);

/// What a visitor has on its way who has not heard yet that it need not go on.
const MOST_THROWN_AWAY: usize = 4 << 20;

/// Bytes of a next request that are taken while there is no answer to this one: hardly more than is needed to see
/// that they are there.
const READ_AHEAD: usize = 256;

/// No head, no size of a chunk and no value of a header has this in it; where hyper takes it for part of something,
/// the end of the connection comes next.
const SPOILER: &[u8] = b"\0";

/// The end of a head makes hyper look at it: of a head that comes in pieces it looks at the first one, and then at the
/// whole.
const HEAD_SPOILER: &[u8] = b"\0\r\n\r\n";

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use ferrotunnel_core::{NoRoute, Routes, Tunnel, TunnelUid, tasks::Tasks};
    use tokio::{io::AsyncReadExt, net::TcpStream};

    use super::*;
    use crate::{config::HttpConfig, visitor::Admission};

    /// A connection that was reset: it says so once, as the system does, and has ended from then on.
    struct Broken {
        is_told: bool,
    }

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let is_told = mem::replace(&mut self.is_told, true);
            Poll::Ready(if is_told { Ok(()) } else { Err(io::ErrorKind::ConnectionReset.into()) })
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Socket for Broken {
        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn tcp(&self) -> Option<&TcpStream> {
            None
        }

        fn take_break(&self) -> Option<io::Error> {
            None
        }

        fn close_in_peace(&self) {}

        fn abort_on_close(&self) {}
    }

    struct Nowhere;

    impl Routes for Nowhere {
        fn http(&self, _: &str, _: &str) -> Result<Arc<Tunnel>, NoRoute> {
            Err(NoRoute::Unknown)
        }

        fn has_host(&self, _: &str) -> bool {
            false
        }

        fn principal_of(&self, _: &str) -> Option<String> {
            None
        }

        fn tunnel(&self, _: TunnelUid) -> Option<Arc<Tunnel>> {
            None
        }

        fn is_closed(&self) -> bool {
            false
        }

        fn visitor_turned_away(&self) {}
    }

    async fn read(io: &mut VisitorIo<Broken>) -> io::Result<String> {
        let mut bytes = [0; 1 << 10];
        let count = io.read(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    #[tokio::test]
    async fn a_break_behind_what_was_read_ahead_is_told_behind_it() {
        let broken = || Broken { is_told: false };
        let mut http2 = VisitorIo::http2(broken(), Bytes::from_static(b"words"));
        assert_eq!(read(&mut http2).await.unwrap(), "words");
        let error = read(&mut http2).await.expect_err("it looks as if it had ended");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let visitor = Arc::new(Visitor::new(addr, addr, Admission::Inside));
        let (config, tasks) = (HttpConfig::default(), Tasks::default());
        let forwarder = Arc::new(Forwarder::new(Arc::new(Nowhere), &config, None, tasks));
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: b\r\n\r\n";
        let read_ahead = Bytes::from([head, "words"].concat());
        let mut http1 = VisitorIo::http1(broken(), read_ahead, Arc::clone(&visitor), forwarder);
        assert_eq!(read(&mut http1).await.unwrap(), head);
        // It has been upgraded.
        visitor.answers.store(1, Ordering::Release);
        visitor.switched.store(true, Ordering::Release);
        assert_eq!(read(&mut http1).await.unwrap(), "words");
        let error = read(&mut http1).await.expect_err("it looks as if it had ended");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
