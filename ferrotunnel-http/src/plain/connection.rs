//! One connection through a stream, over which one request goes after the other.

use std::{
    mem,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use ferrotunnel_core::{Stream, StreamError, yielding::behind_new_events};
use http::{Method, request, response};
use http_body::{Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

use super::{bad::Bad, head, reading::Reading};
use crate::{pool::Pool, visitor::Visitor};

/// A request, as often as it has to be said.
#[derive(Default)]
pub(crate) struct Asked {
    pub(super) head: Bytes,
    pub(crate) method: Method,
    /// Who hears of interim answers.
    pub(super) hears: Option<Arc<Visitor>>,
}

/// When it is dropped before its exchange is over, that is given up, and its stream with it.
pub(crate) struct Connection {
    stream: Stream,
    reading: Reading,
    /// Where heads of requests are written.
    writing: BytesMut,
    /// Until there is an answer.
    asked: Asked,
    /// What the stream has not taken yet of the request.
    unsaid: Bytes,
    /// Some of the request has been taken, or may have been.
    has_begun: bool,
    stirring: Arc<Stirring>,
    /// Of `stirring`.
    waker: Waker,
    pub(crate) rests_since: Instant,
    /// Where it is left behind each answer. Nobody's, if it is not to be kept.
    pool: Weak<Pool>,
}

/// Tells the pool when a connection that rests has something to say, which it should not: most likely it has ended.
struct Stirring {
    has_stirred: AtomicBool,
    pool_stirred: Arc<Notify>,
}

/// Why there is no answer, or not all of one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Answer(#[from] Bad),
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The request has not been begun: nobody has heard of it.
    #[error("the local service had closed the connection")]
    Before,
}

impl Connection {
    /// Whoever looks after those that rest hears when one of them should not any more.
    pub(crate) fn new(stream: Stream, pool: Weak<Pool>, stirred: &Arc<Notify>) -> Self {
        let pool_stirred = Arc::clone(stirred);
        let stirring = Arc::new(Stirring { has_stirred: AtomicBool::new(false), pool_stirred });
        Self {
            stream,
            reading: Reading::new(),
            writing: BytesMut::new(),
            asked: Asked::default(),
            unsaid: Bytes::new(),
            has_begun: false,
            waker: Arc::clone(&stirring).into(),
            stirring,
            rests_since: Instant::now(),
            pool,
        }
    }

    /// One that rests, for others to use in their way.
    pub(crate) fn into_stream(self: Box<Self>) -> Stream {
        self.stream
    }

    /// Whether its stream keeps to a rate.
    pub(crate) fn is_paced(&self) -> bool {
        self.stream.is_paced()
    }

    /// What the request is in bytes.
    pub(crate) fn write(&mut self, request: &request::Parts) -> Bytes {
        let head = head::write(request, &mut self.writing);
        if head.len() > MOST_KEPT_TO_WRITE {
            self.writing = BytesMut::new();
        }
        head
    }

    /// Has the request go out when the answer is waited for.
    pub(crate) fn ask(&mut self, asked: Asked) {
        self.unsaid = asked.head.clone();
        self.asked = asked;
        self.has_begun = false;
        self.reading.begin();
    }

    /// The request that was not answered.
    pub(crate) fn take_asked(&mut self) -> Asked {
        mem::take(&mut self.asked)
    }

    /// The head of the answer. Interim ones before it are told to whom they are for.
    ///
    /// The end of a connection that the session has heard of, and nobody has been told of yet, is met behind the request:
    /// it is then an answer that was cut off.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, Broken>> {
        if !self.has_begun && !self.is_fit() {
            return Poll::Ready(Err(Broken::Before));
        }
        for _ in 0..MOST_AT_ONCE {
            self.say(cx);
            let chunk = match ready!(self.stream.poll_chunk(cx)) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Poll::Ready(Err(Bad::CutOff.into())),
                Err(error) => return Poll::Ready(Err(error.into())),
            };
            self.reading.hear(chunk);
            let Asked { method, hears, .. } = &self.asked;
            let head = self.reading.head(method, |status, headers| {
                if let Some(visitor) = hears {
                    visitor.interim.push(status, headers);
                }
            })?;
            if let Some(head) = head {
                // With it goes a share of what the next request is to be written in.
                self.asked = Asked::default();
                return Poll::Ready(Ok(head));
            }
        }
        // A peer who sends without end what comes to nothing holds up nobody.
        behind_new_events(cx);
        Poll::Pending
    }

    /// Says what there is room for. A local service may answer early and break off, so what cannot be said any more is
    /// no error: what is read says why.
    fn say(&mut self, cx: &mut Context<'_>) {
        let left = self.unsaid.len();
        if left > 0 {
            // One that fails may have taken some before.
            let said = self.stream.poll_write_bytes(cx, &mut self.unsaid);
            let has_failed = matches!(said, Poll::Ready(Err(_)));
            self.has_begun |= has_failed || self.unsaid.len() < left;
        }
    }

    /// The whole body, if it has come with the head and is not in chunks.
    pub(crate) fn whole_body(&mut self) -> Option<Bytes> {
        self.reading.whole()
    }

    /// The next part of the body. `None`: it is over.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        for _ in 0..MOST_AT_ONCE {
            if let Some(frame) = self.reading.frame()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.is_over() {
                return Poll::Ready(Ok(None));
            }
            self.say(cx);
            match ready!(self.stream.poll_chunk(cx))? {
                Some(chunk) => self.reading.hear(chunk),
                None => self.reading.end()?,
            }
        }
        behind_new_events(cx);
        Poll::Pending
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.reading.size_hint()
    }

    /// Whether all of the answer has been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.reading.is_over()
    }

    /// The pool, if it is to be kept and is one of its.
    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.upgrade()
    }

    /// All of the answer has been taken: it is the next request's, if there may be one.
    pub(crate) fn leave(self: Box<Self>) {
        let may_stay = self.unsaid.is_empty() && self.reading.may_stay();
        match self.pool() {
            Some(pool) if may_stay => pool.keep(self),
            _ => self.finish(),
        }
    }

    /// From now on the pool hears of it. Whether it can be used for another request.
    pub(crate) fn rest(&mut self) -> bool {
        self.rests_since = Instant::now();
        self.is_silent()
    }

    /// Whether one that rests can be used, as far as has been heard.
    pub(crate) fn is_fit(&mut self) -> bool {
        !self.has_stirred() || self.is_silent()
    }

    /// Whether there has been anything to be heard since it was looked at last.
    pub(crate) fn has_stirred(&self) -> bool {
        self.stirring.has_stirred.load(Ordering::Acquire)
    }

    /// Whether there is nothing to be heard. If there will be, it stirs.
    fn is_silent(&mut self) -> bool {
        self.stirring.has_stirred.store(false, Ordering::Release);
        let stirred = self.stream.poll_readable(&mut Context::from_waker(&self.waker));
        let is_silent = stirred.is_pending();
        if !is_silent {
            // It stays so.
            self.stirring.has_stirred.store(true, Ordering::Release);
        }
        is_silent
    }

    /// There is to be no other request.
    pub(crate) fn finish(mut self: Box<Self>) {
        self.stream.finish();
    }
}

impl Wake for Stirring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_stirred.store(true, Ordering::Release);
        self.pool_stirred.notify_one();
    }
}

/// Chunks that are taken in one turn while nothing has come of them: heads that are not whole, interim answers, sizes of chunks.
const MOST_AT_ONCE: usize = 32;

/// Heads of most requests are shorter. What a longer one was written in goes with it: a connection that rests holds no more.
const MOST_KEPT_TO_WRITE: usize = 4 << 10;
