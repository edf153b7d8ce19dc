//! The one body type that passes through: somebody else's stream of frames, or a page of ours.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::{in_flight::InFlight, leave::Gate};

pub(crate) struct Body {
    source: Source,
    /// Counts this exchange on a shared HTTP/2 connection until its last byte has passed.
    _in_flight: Option<InFlight>,
    /// Boxed: few wait, and all would pay for it.
    gate: Option<Box<Gate>>,
}

enum Source {
    Passing(Incoming),
    /// Broke off; the error is told at the next turn.
    Broken(Option<hyper::Error>),
    Ours(Option<Bytes>),
}

impl Body {
    pub(crate) fn passing(incoming: Incoming) -> Self {
        Self { source: Source::Passing(incoming), _in_flight: None, gate: None }
    }

    pub(crate) fn counted(incoming: Incoming, in_flight: InFlight) -> Self {
        Self { source: Source::Passing(incoming), _in_flight: Some(in_flight), gate: None }
    }

    /// The same, asked for when the gate is open.
    pub(crate) fn behind(self, gate: Gate) -> Self {
        Self { gate: Some(Box::new(gate)), ..self }
    }

    pub(crate) fn empty() -> Self {
        Self { source: Source::Ours(None), _in_flight: None, gate: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { source: Source::Ours(Some(bytes)), _in_flight: None, gate: None }
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
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll(cx));
            self.gate = None;
        }
        match &mut self.source {
            Source::Passing(incoming) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(Some(Err(error))) => {
                    self.source = Source::Broken(Some(error));
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                other => other,
            },
            Source::Broken(error) => Poll::Ready(error.take().map(Err)),
            Source::Ours(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Passing(incoming) => incoming.is_end_stream(),
            Source::Broken(error) => error.is_none(),
            Source::Ours(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passing(incoming) => incoming.size_hint(),
            Source::Broken(_) => SizeHint::default(),
            Source::Ours(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
