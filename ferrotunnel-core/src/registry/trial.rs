//! A visitor's stream for as long as nobody has answered: whom one member cannot deliver is the next
//! one's, with all that the visitor has said.
//!
//! Nothing may be heard twice. So somebody who has spoken goes on to another member only when it is
//! certain that no local service has heard it. Who has said nothing goes on whatever became of the
//! session.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel_common::{ClientId, SessionId};
use ferrotunnel_protocol::frame::ResetCode;
use ferrotunnel_protocol::{Held, StreamError, WriteError};
use tokio::time::{Instant, Sleep};

use super::port::WayIn;
use super::tunnel::{Opened, ServedBy};
use crate::arrivals::Arriving;
use crate::buffer::CHUNKS_AT_ONCE;
use crate::splice::{End, Room};
use crate::stream::{Stream, to_io, write_to_io};

/// One end of a splice that changes the stream beneath it until the first answer.
pub(crate) struct Trial {
    stream: Stream,
    /// Until somebody has answered, or there is too much to be said again.
    attempt: Option<Box<Attempt>>,
    /// What the present stream has yet to be told of what was said before it, last chunk first.
    unsaid: Vec<Bytes>,
    /// It is to be told of the end behind that.
    is_end_due: bool,
    /// Read when a write met the end of the stream.
    heard: Vec<Bytes>,
}

struct Attempt {
    way_in: WayIn,
    visitor: SocketAddr,
    ingress: SocketAddr,
    by: ServedBy,
    failed: Vec<Failed>,
    said: Vec<Bytes>,
    said_bytes: usize,
    /// The same, against the budget.
    held: Held,
    /// When it is not kept any longer; `None` while there is nothing.
    until: Option<Pin<Box<Sleep>>>,
    has_finished: bool,
    /// The clients are away, and one of them may come back.
    away: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// It may have to be opened for the next one.
    _arriving: Option<Arriving>,
}

/// Who could not deliver the visitor.
#[derive(Clone, Copy)]
enum Failed {
    /// Its local service is the same over each of its carriers.
    Client(ClientId),
    Session(SessionId),
}

impl Trial {
    /// `opened` is a stream that nothing was said over yet, of a tunnel that is behind `way_in`.
    pub(super) fn new(
        opened: (Stream, ServedBy),
        way_in: WayIn,
        (visitor, ingress): (SocketAddr, SocketAddr),
        arriving: Option<Arriving>,
    ) -> Self {
        let (stream, by) = opened;
        let held = Held::of(&way_in.budget);
        let attempt = Attempt {
            way_in,
            visitor,
            ingress,
            by,
            failed: Vec::new(),
            said: Vec::new(),
            said_bytes: 0,
            held,
            until: None,
            has_finished: false,
            away: None,
            _arriving: arriving,
        };
        let attempt = Some(Box::new(attempt));
        Self { stream, attempt, unsaid: Vec::new(), is_end_due: false, heard: Vec::new() }
    }

    /// Ready when there is a stream to talk over.
    fn poll_present(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(attempt) = &mut self.attempt else { return Poll::Ready(()) };
        if attempt.has_lasted(cx) {
            self.attempt = None;
        }
        while let Some(attempt) = &mut self.attempt
            && let Some(away) = &mut attempt.away
        {
            ready!(away.as_mut().poll(cx));
            attempt.away = None;
            // Another session may be over and not have left yet.
            if !self.open_next() && !self.waits_for_another() {
                self.attempt = None;
            }
        }
        Poll::Ready(())
    }

    /// Whether somebody may come who can have the visitor.
    fn waits_for_another(&mut self) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let another = attempt.way_in.tunnel().and_then(|tunnel| tunnel.another());
        attempt.away = another.map(|another| Box::pin(another) as Pin<Box<_>>);
        attempt.away.is_some()
    }

    /// How much the present stream takes of what is new.
    fn poll_capacity(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WriteError>> {
        ready!(self.poll_present(cx));
        loop {
            let room = ready!(self.stream.poll_capacity(cx))?;
            let Some(chunk) = self.unsaid.pop() else { return Poll::Ready(Ok(room)) };
            self.unsaid.extend(self.stream.try_write(chunk)?);
            if self.unsaid.is_empty() && std::mem::take(&mut self.is_end_due) {
                self.stream.finish();
            }
        }
    }

    /// The same; a stream that is of no more use is followed by the next.
    fn poll_any_capacity(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.poll_capacity(cx)) {
                Ok(room) => return Poll::Ready(Ok(room)),
                Err(error) => {
                    if self.attempt.is_none() || !ready!(self.poll_next(cx)) {
                        return Poll::Ready(Err(write_to_io(error)));
                    }
                }
            }
        }
    }

    /// A write met the end of the stream: whether another one has taken its place. What came over it
    /// before its end is an answer.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match ready!(self.stream.poll_read_chunks(cx, &mut self.heard, CHUNKS_AT_ONCE)) {
            Ok(_) => {
                self.attempt = None;
                Poll::Ready(false)
            }
            Err(error) => Poll::Ready(self.goes_on(&error)),
        }
    }

    /// Whether another member has the visitor now, or will have it.
    fn goes_on(&mut self, error: &StreamError) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        let failed = match error {
            StreamError::Reset {
                code: ResetCode::LocalUnreachable | ResetCode::UnknownTunnel,
                ..
            } => Failed::Client(attempt.by.client),
            StreamError::Unserved => Failed::Session(attempt.by.session),
            // What was said may have been heard.
            StreamError::SessionClosed if attempt.said.is_empty() => {
                Failed::Session(attempt.by.session)
            }
            _ => {
                self.attempt = None;
                return false;
            }
        };
        tracing::debug!(visitor = %attempt.visitor, %error, "the visitor is the next member's");
        attempt.failed.push(failed);
        if attempt.failed.len() <= MOST_FAILURES && self.open_next() {
            return true;
        }
        let Some(attempt) = &mut self.attempt else { return false };
        match failed {
            Failed::Session(session) if attempt.failed.len() <= MOST_FAILURES => {
                let Some(tunnel) = attempt.way_in.tunnel() else {
                    self.attempt = None;
                    return false;
                };
                attempt.away = Some(Box::pin(tunnel.another_than(session)));
                true
            }
            _ => {
                self.attempt = None;
                false
            }
        }
    }

    fn open_next(&mut self) -> bool {
        let Some(attempt) = &mut self.attempt else { return false };
        // Its places are for the next.
        self.stream.stand_up();
        let failed = &attempt.failed;
        let may = |one: ServedBy| {
            !failed.iter().any(|failed| match failed {
                Failed::Client(client) => *client == one.client,
                Failed::Session(session) => *session == one.session,
            })
        };
        let Some(tunnel) = attempt.way_in.tunnel() else { return false };
        // It may be another one by now.
        if tunnel.access().is_some_and(|access| !access.admits(attempt.visitor.ip())) {
            return false;
        }
        match tunnel.open_on(attempt.visitor, attempt.ingress, may) {
            Ok(Opened { stream, by, .. }) => {
                self.stream = stream;
                attempt.by = by;
                self.unsaid = attempt.said.iter().rev().cloned().collect();
                self.is_end_due = attempt.has_finished;
                if self.unsaid.is_empty() && std::mem::take(&mut self.is_end_due) {
                    self.stream.finish();
                }
                true
            }
            Err(error) => {
                tracing::debug!(visitor = %attempt.visitor, %error, "and there is none");
                false
            }
        }
    }
}

impl Attempt {
    /// Whether it may still be said again.
    fn keep(&mut self, chunk: Bytes) -> bool {
        self.said_bytes += chunk.len();
        let fits = self.said_bytes <= MOST_SAID && self.held.grow(chunk.len() as u32);
        self.said.push(chunk);
        self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(KEPT_FOR)));
        fits && self.said.len() <= MOST_CHUNKS
    }

    /// Whether what was said has been kept for long enough. While there is nobody it is for whoever comes.
    fn has_lasted(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(until) = &mut self.until else { return false };
        match until.as_mut().poll(cx) {
            Poll::Pending => false,
            Poll::Ready(()) if self.away.is_some() => {
                until.as_mut().reset(Instant::now() + KEPT_FOR);
                // It is to wake whoever waits.
                let _ = until.as_mut().poll(cx).is_pending();
                false
            }
            Poll::Ready(()) => true,
        }
    }
}

impl End for Trial {
    fn keeps_words(&self) -> bool {
        true
    }

    fn breaks_unheard(&self) -> bool {
        true
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        if !self.heard.is_empty() {
            chunks.append(&mut self.heard);
            return Poll::Ready(Ok(true));
        }
        loop {
            ready!(self.poll_present(cx));
            if !self.unsaid.is_empty() {
                // Nobody else may ask for room any more. An error is met by the read.
                let _ = self.poll_capacity(cx);
            }
            match ready!(self.stream.poll_read_chunks(cx, chunks, CHUNKS_AT_ONCE)) {
                Ok(more) => {
                    self.attempt = None;
                    return Poll::Ready(Ok(more));
                }
                Err(error) if self.goes_on(&error) => {
                    // The other direction waits for room in the stream that is gone.
                    crate::yielding::behind_ready_tasks(cx);
                }
                Err(error) => return Poll::Ready(Err(to_io(error))),
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Room>> {
        self.poll_any_capacity(cx)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_any_capacity(cx))?;
            let Some(chunk) = chunks.first_mut() else { return Poll::Ready(Ok(0)) };
            // What broke the stream in between is met by the next look at it; until then nothing of the chunk has
            // been taken, and the next stream is to have it whole.
            let Ok(rest) = self.stream.try_write(chunk.clone()) else { continue };
            let taken = chunk.len() - rest.as_ref().map_or(0, Bytes::len);
            let said = chunk.split_to(taken);
            if chunk.is_empty() {
                chunks.remove(0);
            }
            if taken > 0
                && let Some(attempt) = &mut self.attempt
                && !attempt.keep(said)
            {
                self.attempt = None;
            }
            return Poll::Ready(Ok(taken));
        }
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(attempt) = &mut self.attempt {
            attempt.has_finished = true;
        }
        if self.unsaid.is_empty() {
            self.stream.finish();
        } else {
            self.is_end_due = true;
        }
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, bytes: usize) {
        self.stream.release(bytes);
    }

    fn take_break(&self) -> Option<io::Error> {
        // Until then it is followed by the next.
        self.attempt.is_none().then(|| self.stream.take_break()).flatten()
    }

    fn abort(&mut self) {
        End::abort(&mut self.stream);
    }
}

/// What is kept of a visitor whom nobody has answered yet: the window that a stream begins with, which
/// is what a member takes before its local service has to be there.
const MOST_SAID: usize = 64 << 10;

/// How long it is kept for a member that has the visitor and does not say a word: a local service that cannot be reached is
/// known within ten seconds, and a session that is gone within fifteen.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30);

/// And in how many pieces, each of which keeps the buffer that it was read into.
const MOST_CHUNKS: usize = 32;

/// Members that are tried. Those that failed a moment ago come last, so one that works is found early.
const MOST_FAILURES: usize = 16;
