//! The one body type that passes through: somebody else's stream of frames, or a page of ours.

use std::{
    error::Error,
    future::Future as _,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use ferrotunnel_core::Servant;
use ferrotunnel_plugin::{BrokenOff, Watch};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::{
    again::Reader, in_flight::InFlight, leave::Gate, measured::Measured, plain, pool::Lease,
    visitor::Visitor,
};

/// Of either side, or a plugin's.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

pub(crate) struct Body {
    source: Source,
    /// The connection that it comes from, where nobody else moves that along.
    lease: Lease,
    /// Counts this exchange on a shared HTTP/2 connection until its last byte has passed.
    _in_flight: Option<InFlight>,
    /// Who sends it is busy with it until then.
    servant: Option<Servant>,
    /// Plugins that see it pass. Boxed: few have any, and all would pay for it.
    watch: Option<Box<Watched>>,
    /// A request that is over with it, where requests are counted.
    _measured: Option<Arc<Measured>>,
    /// For as long as it is under way.
    _sent_to: Option<SentTo>,
    /// Until it is open nothing is asked for. Boxed: few wait, and all would pay for it.
    gate: Option<Box<Gate>>,
}

/// By plugins, which may hold it back.
struct Watched {
    watch: Watch,
    /// While they do.
    held: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    /// Ready when the next part may come.
    fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BrokenOff>> {
        loop {
            if let Some(held) = &mut self.held {
                ready!(held.as_mut().poll(cx));
                self.held = None;
            }
            let hold = self.watch.hold()?;
            if hold.is_zero() {
                return Poll::Ready(Ok(()));
            }
            self.held = Some(Box::pin(sleep(hold)));
        }
    }
}

/// Whom a body goes to.
struct SentTo(Arc<Visitor>);

impl Drop for SentTo {
    fn drop(&mut self) {
        self.0.is_sending.store(false, Ordering::Release);
    }
}

enum Source {
    Passing(Incoming),
    /// Of an answer that is read by whoever takes it.
    Plain(Box<plain::Connection>),
    /// Broke off; the error is told at the next turn.
    Broken(Option<BoxError>),
    /// Ours, or all there already.
    Whole(Option<Bytes>),
    /// The next frame is there already. Boxed: few have more than one, and all would pay for it.
    Begun(Box<Frame<Bytes>>, Incoming),
    /// May have to be read from the beginning. Boxed: few have to.
    Again(Box<Reader>),
}

impl Body {
    pub(crate) fn passing(incoming: Incoming) -> Self {
        Self::of(Source::Passing(incoming))
    }

    /// The same, off a connection that moves along while it is being read.
    pub(crate) fn moved_by(incoming: Incoming, lease: Lease) -> Self {
        Self { lease, ..Self::passing(incoming) }
    }

    pub(crate) fn answering(answer: Box<plain::Connection>) -> Self {
        Self::of(Source::Plain(answer))
    }

    /// The same, of which all has come already: what there is of it is taken now.
    pub(crate) fn taken(mut incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::passing(incoming);
        }
        let first = Pin::new(&mut incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        Self::of(match first {
            Poll::Pending => Source::Passing(incoming),
            Poll::Ready(None) => Source::Whole(None),
            Poll::Ready(Some(Err(error))) => Source::Broken(Some(error.into())),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if incoming.is_end_stream() => Source::Whole(Some(data)),
                Ok(data) => Source::Begun(Box::new(Frame::data(data)), incoming),
                Err(trailers) => Source::Begun(Box::new(trailers), incoming),
            },
        })
    }

    pub(crate) fn counted(incoming: Incoming, in_flight: InFlight) -> Self {
        Self { _in_flight: Some(in_flight), ..Self::passing(incoming) }
    }

    pub(crate) fn again(reader: Reader) -> Self {
        Self::of(Source::Again(Box::new(reader)))
    }

    pub(crate) fn empty() -> Self {
        Self::of(Source::Whole(None))
    }

    /// The same, and its servant is busy with it.
    pub(crate) fn served_by(self, servant: Servant) -> Self {
        Self { servant: Some(servant), ..self }
    }

    /// Who sends it, and will be busy with something else in its place.
    pub(crate) fn take_servant(&mut self) -> Option<Servant> {
        self.servant.take()
    }

    /// The same, asked for when the gate is open.
    pub(crate) fn behind(self, gate: Gate) -> Self {
        Self { gate: Some(Box::new(gate)), ..self }
    }

    /// Its request is over with it.
    pub(crate) fn is_measured(&mut self, measured: Arc<Measured>) {
        self._measured = Some(measured);
    }

    /// The same, on its way to a visitor over HTTP/1.
    pub(crate) fn sent_to(self, visitor: &Arc<Visitor>) -> Self {
        if http_body::Body::is_end_stream(&self) {
            return self;
        }
        visitor.is_sending.store(true, Ordering::Release);
        Self { _sent_to: Some(SentTo(Arc::clone(visitor))), ..self }
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            lease: Lease::none(),
            _in_flight: None,
            servant: None,
            watch: None,
            _measured: None,
            _sent_to: None,
            gate: None,
        }
    }

    /// The same, seen by plugins while it passes.
    pub(crate) fn watched(mut self, watch: Watch) -> Self {
        if http_body::Body::is_end_stream(&self) {
            // Nobody will ask for a frame.
            watch.end();
        }
        self.watch = Some(Box::new(Watched { watch, held: None }));
        self
    }
}

impl Body {
    /// Whether something is still to be taken from whoever sends it.
    fn has_more(&self) -> bool {
        !matches!(self.source, Source::Broken(_)) && !http_body::Body::is_end_stream(self)
    }

    fn breaks(
        &mut self,
        error: BoxError,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.source = Source::Broken(Some(error));
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::of(Source::Whole(Some(bytes)))
    }
}

/// Sizes, ends and errors are those of the source: a body that breaks off on one side is an error
/// on the other side, never a clean end.
///
/// An error comes one turn late. hyper drops what it has not written yet when a body fails, and a
/// local service that breaks off at once would take the head of its answer with it. The turn
/// between is when hyper writes; over HTTP/2 a task of its own does, which on one thread comes
/// first and on several nearly always.
impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll(cx));
            self.gate = None;
        }
        if self.watch.is_some()
            && self.has_more()
            && let Some(watched) = &mut self.watch
            && let Err(broken) = ready!(watched.poll_released(cx))
        {
            return self.breaks(broken.into(), cx);
        }
        let this = &mut *self;
        let frame = match &mut this.source {
            Source::Passing(incoming) => {
                let frame = if this.lease.hush() {
                    // Who moves the connection along sees by itself what comes of it, and would only wake itself.
                    let quiet = &mut Context::from_waker(Waker::noop());
                    match Pin::new(&mut *incoming).poll_frame(quiet) {
                        Poll::Pending => {
                            this.lease.poll(cx);
                            Pin::new(&mut *incoming).poll_frame(quiet)
                        }
                        frame => frame,
                    }
                } else {
                    Pin::new(&mut *incoming).poll_frame(cx)
                };
                match ready!(frame) {
                    Some(Err(error)) => return self.breaks(error.into(), cx),
                    other => {
                        if other.is_none() || incoming.is_end_stream() {
                            this.lease.done();
                        }
                        other.map(|frame| frame.map_err(Into::into))
                    }
                }
            }
            Source::Plain(answer) => match ready!(answer.poll_frame(cx)) {
                Err(error) => return self.breaks(error.into(), cx),
                Ok(frame) => {
                    if answer.is_over()
                        && let Source::Plain(answer) =
                            std::mem::replace(&mut this.source, Source::Whole(None))
                    {
                        answer.leave();
                    }
                    frame.map(Ok)
                }
            },
            Source::Broken(error) => return Poll::Ready(error.take().map(Err)),
            Source::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Source::Again(reader) => ready!(reader.poll_frame(cx)),
            Source::Begun(..) => match std::mem::replace(&mut this.source, Source::Whole(None)) {
                Source::Begun(frame, rest) => {
                    this.source = Source::Passing(rest);
                    Some(Ok(*frame))
                }
                _ => None,
            },
        };
        if let Some(Watched { watch, .. }) = self.watch.as_deref() {
            if let Some(Ok(frame)) = &frame
                && let Some(chunk) = frame.data_ref()
                && let Err(broken) = watch.chunk(chunk)
            {
                return self.breaks(broken.into(), cx);
            }
            if frame.is_none() || self.is_end_stream() {
                watch.end();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Passing(incoming) => incoming.is_end_stream(),
            Source::Plain(answer) => answer.is_over(),
            Source::Broken(error) => error.is_none(),
            Source::Whole(bytes) => bytes.is_none(),
            Source::Begun(..) => false,
            Source::Again(reader) => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passing(incoming) => incoming.size_hint(),
            Source::Plain(answer) => answer.size_hint(),
            Source::Begun(frame, rest) => {
                let first = frame.data_ref().map_or(0, |data| data.len() as u64);
                let rest = rest.size_hint();
                let mut whole = SizeHint::new();
                whole.set_lower(first + rest.lower());
                if let Some(upper) = rest.upper() {
                    whole.set_upper(first + upper);
                }
                whole
            }
            Source::Broken(_) => SizeHint::default(),
            Source::Again(reader) => reader.size_hint(),
            Source::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
