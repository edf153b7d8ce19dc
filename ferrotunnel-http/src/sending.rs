//! One request on its way to a local service, until the head of the response is there.

use std::{
    error::Error,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use http::{Method, Request, Response};
use hyper_util::client::legacy;

use crate::{
    body::Body,
    connector::{OPENING, Opening},
    local::Connections,
    refusal::Refusal,
    visitor::Visitor,
};

/// What kind of connection a request goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// A kept HTTP/1.1 connection, or a new one if none is idle.
    Pooled,
    /// A new HTTP/1.1 connection that is not kept.
    Fresh,
    /// The same for a request that may be sent again: its local service is told of one visitor only.
    Once,
    /// A shared HTTP/2 connection.
    Multiplexed,
    /// A new HTTP/2 connection for that request alone.
    Apart,
}

/// A request that waits for its response. Small, because every visitor's connection keeps room
/// for one.
pub(crate) enum Sending {
    Pooled(legacy::ResponseFuture, Option<Spare>),
    Fresh(legacy::ResponseFuture),
    Multiplexed(Pin<Box<dyn Future<Output = Result<Response<Body>, Refusal>> + Send>>),
}

/// A request that may be sent a second time, and the connections to do so.
pub(crate) struct Spare {
    request: Box<Request<Body>>,
    connections: Arc<Connections>,
}

impl Sending {
    /// The request goes out when [`Sending::response`] is awaited.
    pub(crate) fn new(
        connections: Arc<Connections>,
        via: Via,
        visitor: &Arc<Visitor>,
        request: Request<Body>,
    ) -> Self {
        match via {
            Via::Pooled => {
                let spare = copy(&request);
                let call = connections.pooled.request(request);
                Self::Pooled(call, spare.map(|request| Spare { request, connections }))
            }
            Via::Once => {
                let spare = copy(&request);
                let call = connections.fresh.request(request);
                Self::Pooled(call, spare.map(|request| Spare { request, connections }))
            }
            Via::Fresh => Self::Fresh(connections.fresh.request(request)),
            Via::Apart => {
                let visitor = visitor.clone();
                Self::Multiplexed(Box::pin(async move {
                    connections.multiplexed.apart().send(&visitor, request).await
                }))
            }
            Via::Multiplexed => {
                let visitor = visitor.clone();
                Self::Multiplexed(Box::pin(async move {
                    connections.multiplexed.send(&visitor, request).await
                }))
            }
        }
    }

    /// Returns as soon as the head of the response is there.
    ///
    /// A local service may hang up on an idle connection while a request is on its way there; the
    /// longer the tunnel, the likelier. The client repeats requests that were not begun; those
    /// that were may be repeated by a proxy if they are idempotent (RFC 9110, section 9.2.2), and
    /// can be if they have no body. It is done over a connection that cannot be stale. In a group
    /// it is done as well when a member has not reached its local service: then it is another's turn.
    pub(crate) async fn response(self, visitor: &Visitor) -> Result<Response<Body>, Refusal> {
        let (call, spare) = match self {
            Self::Multiplexed(exchange) => return exchange.await,
            Self::Fresh(call) => (call, None),
            Self::Pooled(call, spare) => (call, spare),
        };
        let mut call = pin!(OPENING.scope(Opening::by(visitor), call));
        let mut result = call.as_mut().await;
        let mut was_kept = !call.take_value().is_some_and(|opening| opening.opened());
        // One that was stale may be followed by a member that does not reach its service.
        let mut tries = MOST_REPEATS;
        while let (Err(error), Some(spare)) = (&result, &spare)
            && tries > 0
            && ((was_kept && broke_off(error))
                || (spare.connections.tunnel.is_shared()
                    && Refusal::of(error) == Refusal::LocalUnreachable))
            && let Some(request) = copy(&spare.request)
        {
            (tries, was_kept) = (tries - 1, false);
            let again = spare.connections.fresh.request(*request);
            result = OPENING.scope(Opening::by(visitor), again).await;
        }
        match result {
            Ok(response) => Ok(response.map(Body::passing)),
            Err(error) => Err(Refusal::of(&error)),
        }
    }
}

/// How often a request is sent again at most.
const MOST_REPEATS: u32 = 3;

/// A copy of a request that may be sent twice. It shares names and values with the original.
fn copy(request: &Request<Body>) -> Option<Box<Request<Body>>> {
    let repeatable = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && http_body::Body::is_end_stream(request.body());
    if !repeatable {
        return None;
    }
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}

/// Whether the connection ended, as opposed to an answer that made no sense.
fn broke_off(error: &legacy::Error) -> bool {
    if error.is_connect() {
        return false;
    }
    let hyper = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    hyper.is_some_and(|error| {
        error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || error.source().is_some_and(|cause| cause.is::<std::io::Error>())
    })
}
