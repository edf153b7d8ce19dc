//! HTTP/1.1 connections to a local service, which are kept for the next request.
//!
//! A connection is moved along by whoever waits for its answer: the visitor's own task sends the request, reads the answer
//! and passes it on, and no other task has to be woken for it. Only where both directions have to go on by themselves
//! does a connection have a task: while a request has a body, for as long as somebody waits for the answer, and when it may become
//! something else than HTTP. So does one that has been given up and is to end in an orderly way.
//!
//! Here hyper moves a connection. Requests without a body do without it ([`crate::plain`]), over connections that rest
//! here as well: what rests can go on either way, so that a local service has no more connections than requests at once.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    thread::{self, ThreadId},
    time::Duration,
};

use ferrotunnel_core::{OpenError, Sharing, Spare, Stream, tasks::Tasks};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    task::unconstrained,
    time::{Instant, sleep},
};
use tracing::debug;

use crate::{
    body::Body,
    config::MAX_BUFFERED,
    connector::{Broke, Connector, TunnelIo},
    plain,
    visitor::Visitor,
};

/// The connections to the local service of one tunnel by one session that nobody uses at the moment, and the way to others.
pub(crate) struct Pool {
    connector: Connector,
    builder: http1::Builder,
    resting: Mutex<Resting>,
    most: usize,
    /// How long one may rest.
    idle: Duration,
    /// One that rests has something to say: most likely that it has ended.
    stirred: Arc<Notify>,
    tasks: Tasks,
}

/// The last one that came is the first to go, so those at the front are the oldest.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "they come boxed and go boxed, and are not small")]
struct Resting {
    kept: Vec<Box<Kept>>,
    plain: Vec<Box<plain::Connection>>,
}

/// One connection.
struct Kept {
    /// `None`: there is to be no other request.
    sender: Option<SendRequest<Body>>,
    connection: Moved,
    watch: Arc<Watch>,
    /// Wakes the watch, always: so nothing has to be registered anew when a connection changes hands.
    waker: Waker,
    broke: Broke,
    /// Its stream keeps to a rate.
    is_paced: bool,
    rests_since: Instant,
    pool: Weak<Pool>,
    tasks: Tasks,
}

/// What hyper has of a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "most are of the larger kind, and what it is a part of is boxed"
)]
enum Moved {
    Http(http1::Connection<TunnelIo, Body>),
    /// May become something else, for which hyper has no name.
    Switching(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
}

/// Knows who is to hear of a connection.
struct Watch {
    state: Mutex<Watched>,
    stirred: Arc<Notify>,
}

struct Watched {
    owner: Owner,
    /// It has not been looked at since.
    has_stirred: bool,
    /// Whoever is just doing what stirs it for nothing. From elsewhere it may have ended meanwhile.
    overlooked: Option<ThreadId>,
}

enum Owner {
    Nobody,
    /// The task that is to be woken, until it is.
    Task(Option<Waker>),
}

/// A connection in somebody's hands. When it is dropped before its exchange is over, that is given up, and with it the
/// connection.
pub(crate) struct Lease(Held);

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Connection(Box<Kept>),
    /// A task moves it along. That is told when all of the answer has been taken, and gives up when nobody waits for it any more.
    Moved(oneshot::Sender<()>),
}

/// A request that was handed to a connection and waits for the head of its answer.
pub(crate) struct Call {
    answer: Pin<Box<dyn Future<Output = Answered> + Send>>,
    lease: Lease,
    /// The connection is not new.
    was_kept: bool,
    /// Of the connection.
    broke: Broke,
}

type Answered = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// A request that was not answered.
pub(crate) struct Failed {
    pub(crate) error: hyper::Error,
    /// It was not begun, and nobody has heard of it.
    pub(crate) request: Option<Request<Body>>,
    /// The connection was not new, and so may have ended before.
    pub(crate) was_kept: bool,
    pub(crate) broke: Broke,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is kept for others.
    Keep,
    /// It is a new one, and ends with its request, or becomes something else.
    End,
}

impl Pool {
    pub(crate) fn new(
        connector: Connector,
        most: usize,
        idle: Duration,
        tasks: Tasks,
    ) -> Arc<Self> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_BUFFERED);
        let stirred = Arc::new(Notify::new());
        let pool = Arc::new(Self {
            connector,
            builder,
            resting: Mutex::default(),
            most,
            idle,
            stirred: stirred.clone(),
            tasks,
        });
        pool.tasks.spawn(tend(Arc::downgrade(&pool), stirred, idle.max(LEAST_PAUSE)));
        let keeper: Weak<Self> = Arc::downgrade(&pool);
        pool.connector.kept_by(keeper);
        pool
    }

    /// Hands the request to a connection.
    pub(crate) fn send(
        self: &Arc<Self>,
        visitor: &Visitor,
        request: Request<Body>,
        then: Then,
    ) -> Result<Call, OpenError> {
        let kept = if then == Then::Keep { self.take() } else { None };
        let was_kept = kept.is_some();
        let mut kept = match kept {
            Some(kept) => kept,
            None => {
                let stream = self.open(visitor)?;
                self.moved(stream, false, then)?
            }
        };
        let has_body = !http_body::Body::is_end_stream(request.body());
        // There is one until it is given up, which is when nobody can send any more.
        let sender = kept.sender.as_mut().ok_or(OpenError::SessionClosed)?;
        let answer = Box::pin(sender.try_send_request(request));
        let broke = kept.broke.clone();
        let lease = match then {
            Then::Keep if !has_body => Lease(Held::Connection(kept)),
            Then::Keep => kept.move_along_for_somebody(),
            Then::End => {
                kept.sender = None;
                kept.move_along_for_somebody()
            }
        };
        Ok(Call { answer, lease, was_kept, broke })
    }

    /// A connection for a request that needs no hyper, and whether it has been kept.
    pub(crate) fn plain(
        self: &Arc<Self>,
        visitor: &Visitor,
        then: Then,
    ) -> Result<(Box<plain::Connection>, bool), OpenError> {
        if then == Then::Keep {
            if let Some(plain) = self.take_plain() {
                return Ok((plain, true));
            }
            if let Some(stream) = self.take_kept().and_then(Kept::into_stream) {
                let mut plain = Box::new(self.plainly(stream, then));
                // What has come since hyper looked at it last, nobody has been told of.
                if plain.rest() {
                    return Ok((plain, true));
                }
                plain.finish();
            }
        }
        let stream = self.open(visitor)?;
        Ok((Box::new(self.plainly(stream, then)), false))
    }

    fn open(&self, visitor: &Visitor) -> Result<Stream, OpenError> {
        self.connector.open(visitor.address, visitor.ingress, Sharing::Alone)
    }

    fn plainly(self: &Arc<Self>, stream: Stream, then: Then) -> plain::Connection {
        let pool = if then == Then::Keep { Arc::downgrade(self) } else { Weak::new() };
        plain::Connection::new(stream, pool, &self.stirred)
    }

    /// One that rests and is whole, as far as is known. Until it is moved along nobody hears of it.
    fn take(self: &Arc<Self>) -> Option<Box<Kept>> {
        self.take_kept()
            .or_else(|| self.moved(self.take_plain()?.into_stream(), true, Then::Keep).ok())
    }

    fn take_kept(&self) -> Option<Box<Kept>> {
        loop {
            let mut kept = self.resting.lock().kept.pop()?;
            if kept.rests_since.elapsed() > self.idle || !self.connector.reuses(kept.is_paced) {
                kept.finish();
            } else if kept.is_fit() {
                kept.watch.hush();
                return Some(kept);
            }
        }
    }

    fn take_plain(&self) -> Option<Box<plain::Connection>> {
        loop {
            let mut plain = self.resting.lock().plain.pop()?;
            let may_stay =
                plain.rests_since.elapsed() <= self.idle && self.connector.reuses(plain.is_paced());
            if may_stay && plain.is_fit() {
                return Some(plain);
            }
            plain.finish();
        }
    }

    /// Leaves one to the next request.
    pub(crate) fn keep(&self, mut plain: Box<plain::Connection>) {
        let is_fit = plain.rest();
        let mut resting = self.resting.lock();
        if !is_fit || resting.len() >= self.most {
            drop(resting);
            return plain.finish();
        }
        resting.plain.push(plain);
        // While the list is locked: whoever was told of it before has not found it there.
        if resting.plain.last().is_some_and(|plain| plain.has_stirred()) {
            self.stirred.notify_one();
        }
    }

    /// A connection for hyper.
    fn moved(
        self: &Arc<Self>,
        stream: Stream,
        was_kept: bool,
        then: Then,
    ) -> Result<Box<Kept>, OpenError> {
        let broke = Broke::default();
        let is_paced = stream.is_paced();
        let mut io = TunnelIo::new(stream, broke.clone());
        if was_kept {
            io.begins();
        }
        // Nothing is said at the beginning of a connection, so this does not wait.
        let handshake = pin!(self.builder.handshake(io));
        let Poll::Ready(Ok((sender, connection))) =
            handshake.poll(&mut Context::from_waker(Waker::noop()))
        else {
            return Err(OpenError::SessionClosed);
        };
        let connection = match then {
            Then::Keep => Moved::Http(connection),
            Then::End => Moved::Switching(Box::pin(connection.with_upgrades())),
        };
        let watch = Arc::new(Watch::new(self.stirred.clone()));
        Ok(Box::new(Kept {
            sender: Some(sender),
            connection,
            waker: watch.clone().into(),
            watch,
            broke,
            is_paced,
            rests_since: Instant::now(),
            pool: Arc::downgrade(self),
            tasks: self.tasks.clone(),
        }))
    }

    /// Takes out those that have ended and those that have rested for too long.
    fn sweep(&self) {
        let mut resting = self.resting.lock();
        let Resting { kept, plain } = &mut *resting;
        let too_long = |since: Instant| since.elapsed() > self.idle;
        // They answer without waiting for anybody, and nobody needs this lock to answer them. With one that has ended
        // its stream ends, which others are told of: behind the lock.
        let (old_kept, ended_kept) =
            sorted_out(kept, |it| too_long(it.rests_since), |it| it.is_fit());
        let (old_plain, ended_plain) =
            sorted_out(plain, |it| too_long(it.rests_since), |it| it.is_fit());
        drop(resting);
        drop(ended_kept);
        ended_plain.into_iter().for_each(plain::Connection::finish);
        old_kept.into_iter().for_each(Kept::finish);
        old_plain.into_iter().for_each(plain::Connection::finish);
    }
}

/// Of each kind those that have rested the longest.
impl Spare for Pool {
    fn give_away(&self) -> Option<Stream> {
        loop {
            let mut resting = self.resting.lock();
            let Resting { kept, plain } = &mut *resting;
            if !plain.is_empty() {
                let plain = plain.remove(0);
                drop(resting);
                return Some(plain.into_stream());
            }
            let oldest = if kept.is_empty() { None } else { Some(kept.remove(0)) };
            drop(resting);
            // One that has something to say after its exchange goes in any case.
            if let Some(stream) = oldest?.into_stream() {
                return Some(stream);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let Resting { kept, plain } = mem::take(self.resting.get_mut());
        kept.into_iter().for_each(Kept::finish);
        plain.into_iter().for_each(plain::Connection::finish);
        self.stirred.notify_one();
    }
}

impl Resting {
    fn len(&self) -> usize {
        self.kept.len() + self.plain.len()
    }
}

impl Moved {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Self::Http(connection) => Pin::new(connection).poll(cx),
            Self::Switching(connection) => connection.as_mut().poll(cx),
        }
    }
}

/// Takes out those at the front that are old, and of the others those that are not fit.
fn sorted_out<T>(
    resting: &mut Vec<Box<T>>,
    is_old: impl Fn(&T) -> bool,
    mut is_fit: impl FnMut(&mut T) -> bool,
) -> (Vec<Box<T>>, Vec<Box<T>>) {
    let old = resting.partition_point(|it| is_old(it));
    let old = resting.drain(..old).collect();
    (old, resting.extract_if(.., |it| !is_fit(it)).collect())
}

/// Looks after connections that rest, for as long as there is a pool.
async fn tend(pool: Weak<Pool>, stirred: Arc<Notify>, pause: Duration) {
    loop {
        tokio::select! {
            () = stirred.notified() => {}
            () = sleep(pause) => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep();
    }
}

impl Kept {
    /// Moves the connection along. Ready when it has ended.
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.watch.belongs_to(cx.waker());
        let cx = &mut Context::from_waker(&self.waker);
        self.connection.poll(cx).map(|ended| {
            if let Err(error) = ended {
                debug!(%error, "a connection to a local service broke");
            }
        })
    }

    /// One that rests, for others to use in their way.
    fn into_stream(self: Box<Self>) -> Option<Stream> {
        let Moved::Http(connection) = self.connection else { return None };
        let parts = connection.into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_stream())
    }

    /// Whether the exchange is over, and another may begin.
    fn is_ready(&self) -> bool {
        self.sender.as_ref().is_some_and(SendRequest::is_ready)
    }

    /// Whether one that rests can be used. It stirs when it cannot, but may do so for nothing.
    fn is_fit(&mut self) -> bool {
        if !self.watch.has_stirred() {
            return true;
        }
        let has_ended = self.poll(&Context::from_waker(Waker::noop())).is_ready();
        let is_fit = !has_ended && self.is_ready();
        if is_fit && self.watch.belongs_to_nobody() {
            // It has stirred again meanwhile.
            self.watch.stirred.notify_one();
        }
        is_fit
    }

    /// The body of an answer of which all is there. Taking it stirs the connection once more, for nothing.
    fn take_body(&self, incoming: Incoming) -> Body {
        self.watch.overlooking_this_thread(|| Body::taken(incoming))
    }

    /// Leaves it to the next request.
    fn rest(mut self: Box<Self>) {
        let Some(pool) = self.pool.upgrade() else { return self.finish() };
        self.rests_since = Instant::now();
        let watch = self.watch.clone();
        let mut resting = pool.resting.lock();
        if resting.len() >= pool.most {
            drop(resting);
            return self.finish();
        }
        resting.kept.push(self);
        // From now on the pool is told, and also of what there was between the last look and now. While the list is
        // locked: behind it somebody may have taken the connection, and would never be told of its answer.
        let has_stirred = watch.belongs_to_nobody();
        drop(resting);
        if has_stirred {
            pool.stirred.notify_one();
        }
    }

    /// Goes on by itself until the exchange is over.
    fn move_along(self: Box<Self>) {
        // Without a runtime everything ends anyway.
        if Handle::try_current().is_ok() {
            self.tasks.clone().spawn(moved_along(self, None));
        }
    }

    /// The same, for as long as somebody waits for the answer.
    fn move_along_for_somebody(self: Box<Self>) -> Lease {
        let (taken, all_taken) = oneshot::channel();
        self.tasks.clone().spawn(moved_along(self, Some(all_taken)));
        Lease(Held::Moved(taken))
    }

    /// Ends when what there is to do is done.
    fn finish(mut self: Box<Self>) {
        self.sender = None;
        self.move_along();
    }
}

async fn moved_along(mut kept: Box<Kept>, mut all_taken: Option<oneshot::Receiver<()>>) {
    let is_ready = poll_fn(|cx| {
        if kept.poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        if let Some(Poll::Ready(Ok(()))) = kept.sender.as_mut().map(|sender| sender.poll_ready(cx))
        {
            return Poll::Ready(true);
        }
        match all_taken.as_mut().map(|all_taken| Pin::new(all_taken).poll(cx)) {
            // hyper would end it too, but not before the last of what it holds of the request has gone out. A local service that
            // does not read keeps that for ever.
            Some(Poll::Ready(Err(_))) => return Poll::Ready(false),
            Some(Poll::Ready(Ok(()))) => all_taken = None,
            Some(Poll::Pending) | None => {}
        }
        Poll::Pending
    });
    if is_ready.await {
        kept.rest();
    }
}

impl Watch {
    fn new(stirred: Arc<Notify>) -> Self {
        let state = Watched { owner: Owner::Task(None), has_stirred: false, overlooked: None };
        Self { state: Mutex::new(state), stirred }
    }

    fn belongs_to(&self, waker: &Waker) {
        let mut state = self.state.lock();
        state.has_stirred = false;
        if let Owner::Task(Some(known)) = &state.owner
            && known.will_wake(waker)
        {
            return;
        }
        state.owner = Owner::Task(Some(waker.clone()));
    }

    /// Tells nobody until somebody has looked. Who calls this is going to, or is at it.
    fn hush(&self) {
        self.state.lock().owner = Owner::Task(None);
    }

    /// Does something that stirs the connection, for nothing. Its holder need not be told either: it is going to look.
    fn overlooking_this_thread<T>(&self, act: impl FnOnce() -> T) -> T {
        {
            let mut state = self.state.lock();
            state.owner = Owner::Task(None);
            state.overlooked = Some(thread::current().id());
        }
        let done = act();
        self.state.lock().overlooked = None;
        done
    }

    /// Whether it has stirred since it was last looked at.
    fn belongs_to_nobody(&self) -> bool {
        let mut state = self.state.lock();
        state.owner = Owner::Nobody;
        state.has_stirred
    }

    fn has_stirred(&self) -> bool {
        self.state.lock().has_stirred
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.overlooked.is_some_and(|thread| thread == thread::current().id()) {
            return;
        }
        state.has_stirred = true;
        match &mut state.owner {
            Owner::Nobody => self.stirred.notify_one(),
            Owner::Task(waker) => {
                let waker = waker.take();
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }
}

impl Lease {
    /// Nobody's.
    pub(crate) fn none() -> Self {
        Self(Held::Nothing)
    }

    /// Whether there is a connection to be moved along. What is about to happen to it is done by its holder, who need not
    /// be told.
    pub(crate) fn hush(&self) -> bool {
        let Held::Connection(kept) = &self.0 else { return false };
        kept.watch.hush();
        true
    }

    /// Moves the connection along. Returns whether there is one.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> bool {
        let Held::Connection(kept) = &mut self.0 else { return false };
        if kept.poll(cx).is_ready() {
            self.0 = Held::Nothing;
        }
        true
    }

    /// All of the answer has been taken.
    pub(crate) fn done(&mut self) {
        match mem::take(&mut self.0) {
            Held::Connection(kept) if kept.is_ready() => kept.rest(),
            Held::Connection(kept) => kept.move_along(),
            // Nobody listens where the connection has ended by itself.
            Held::Moved(taken) => drop(taken.send(())),
            Held::Nothing => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Held::Connection(kept) = mem::take(&mut self.0) {
            kept.move_along();
        }
    }
}

impl Call {
    /// Returns as soon as the head of the answer is there.
    pub(crate) async fn answer(mut self) -> Result<Response<Body>, Failed> {
        let answered = poll_fn(|cx| {
            if self.lease.poll(cx) {
                // Who moves the connection along sees by itself what comes of it, and would only wake itself.
                // Not within the task's budget either: an answer that is there would be held back, and nobody woken.
                let answer = pin!(unconstrained(self.answer.as_mut()));
                return answer.poll(&mut Context::from_waker(Waker::noop()));
            }
            self.answer.as_mut().poll(cx)
        });
        match answered.await {
            Ok(response) => Ok(response.map(|incoming| match mem::take(&mut self.lease.0) {
                Held::Connection(kept) if kept.is_ready() => {
                    let body = kept.take_body(incoming);
                    kept.rest();
                    body
                }
                held => {
                    let mut lease = Lease(held);
                    if matches!(lease.0, Held::Moved(_))
                        && http_body::Body::is_end_stream(&incoming)
                    {
                        lease.done();
                    }
                    Body::moved_by(incoming, lease)
                }
            })),
            Err(mut failed) => Err(Failed {
                request: failed.take_message(),
                error: failed.into_error(),
                was_kept: self.was_kept,
                broke: self.broke,
            }),
        }
    }
}

/// A pause of no time at all would keep a processor busy.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stirs_a_connection_from_elsewhere_while_its_answer_is_taken_is_not_overlooked() {
        let watch = Arc::new(Watch::new(Arc::default()));
        watch.overlooking_this_thread(|| watch.wake_by_ref());
        assert!(!watch.has_stirred(), "taking it stirs the connection for nothing");
        watch.overlooking_this_thread(|| {
            thread::scope(|scope| drop(scope.spawn(|| watch.wake_by_ref())));
        });
        assert!(watch.has_stirred(), "the local service may have closed it");
        watch.overlooking_this_thread(|| ());
        assert!(watch.has_stirred(), "nobody has looked yet");
    }
}
