//! The one body type that passes through: somebody else's stream of frames, or a page of ours.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::in_flight::InFlight;

pub(crate) struct Body {
    source: Source,
    /// Counts this exchange on a shared HTTP/2 connection until its last byte has passed.
    _in_flight: Option<InFlight>,
}

enum Source {
    Passing(Incoming),
    Ours(Option<Bytes>),
}

impl Body {
    pub(crate) fn passing(incoming: Incoming) -> Self {
        Self { source: Source::Passing(incoming), _in_flight: None }
    }

    pub(crate) fn counted(incoming: Incoming, in_flight: InFlight) -> Self {
        Self { source: Source::Passing(incoming), _in_flight: Some(in_flight) }
    }

    pub(crate) fn empty() -> Self {
        Self { source: Source::Ours(None), _in_flight: None }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { source: Source::Ours(Some(bytes)), _in_flight: None }
    }
}

/// Sizes, ends and errors are those of the source: a body that breaks off on one side is an error
/// on the other side, never a clean end.
impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.source {
            Source::Passing(incoming) => Pin::new(incoming).poll_frame(cx),
            Source::Ours(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Passing(incoming) => incoming.is_end_stream(),
            Source::Ours(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Passing(incoming) => incoming.size_hint(),
            Source::Ours(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
