//! Sends a request to the local service of a tunnel, over a connection that runs through a
//! stream.

use std::{
    error::Error,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use ferrotunnel_core::{Routes, Tunnel};
use http::{Method, Request, Response};
use hyper_util::{
    client::legacy::{self, Client},
    rt::TokioTimer,
};

use crate::{
    answer::Refusal,
    body::Body,
    config::HttpConfig,
    connection::MAX_BUFFERED,
    connector::{Connector, OPENING, Opening},
    multiplexed::Multiplexed,
    tasks::Tasks,
    visitor::Visitor,
};

/// What kind of connection a request goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// A kept HTTP/1.1 connection, or a new one if none is idle.
    Pooled,
    /// A new HTTP/1.1 connection that is not kept.
    Fresh,
    /// A shared HTTP/2 connection.
    Multiplexed,
}

/// A request on its way. Small, because every visitor's connection keeps room for one.
pub(crate) enum Sending {
    /// With a copy that may be sent if the kept connection turns out to be stale.
    Pooled(legacy::ResponseFuture, Option<Box<Request<Body>>>),
    Fresh(legacy::ResponseFuture),
    Multiplexed(Pin<Box<dyn Future<Output = Result<Response<Body>, Refusal>> + Send>>),
}

/// The connections to the local services of all tunnels.
pub(crate) struct Local {
    pooled: Client<Connector, Body>,
    fresh: Client<Connector, Body>,
    multiplexed: Arc<Multiplexed>,
}

impl Local {
    pub(crate) fn new(routes: Arc<dyn Routes>, config: &HttpConfig, tasks: Tasks) -> Self {
        let connector = Connector::new(routes);
        let mut builder = Client::builder(tasks.clone());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.pool_idle_timeout)
            .http1_max_buf_size(MAX_BUFFERED)
            // The Host header is the visitor's.
            .set_host(false);
        let pooled = builder
            .pool_max_idle_per_host(config.pool_max_idle_per_tunnel)
            .build(connector.clone());
        let fresh = builder.pool_max_idle_per_host(0).build(connector);
        Self { pooled, fresh, multiplexed: Arc::new(Multiplexed::new(tasks)) }
    }

    /// Begins to send; the rest happens when the result is awaited.
    pub(crate) fn send(
        &self,
        via: Via,
        tunnel: &Arc<Tunnel>,
        visitor: &Arc<Visitor>,
        request: Request<Body>,
    ) -> Sending {
        match via {
            Via::Pooled => {
                let spare = spare(&request);
                Sending::Pooled(self.pooled.request(request), spare)
            }
            Via::Fresh => Sending::Fresh(self.fresh.request(request)),
            Via::Multiplexed => {
                let (multiplexed, tunnel) = (self.multiplexed.clone(), tunnel.clone());
                let visitor = visitor.clone();
                let exchange = async move { multiplexed.send(&tunnel, &visitor, request).await };
                Sending::Multiplexed(Box::pin(exchange))
            }
        }
    }

    /// Returns as soon as the head of the response is there.
    ///
    /// A local service may hang up on an idle connection while a request is on its way there; the
    /// longer the tunnel, the likelier. The client repeats requests that were not begun; those
    /// that were may be repeated by a proxy if they are idempotent (RFC 9110, section 9.2.2), and
    /// can be if they have no body. It is done once, over a connection that cannot be stale.
    pub(crate) async fn response(
        &self,
        sending: Sending,
        visitor: &Visitor,
    ) -> Result<Response<Body>, Refusal> {
        let (call, spare) = match sending {
            Sending::Multiplexed(exchange) => return exchange.await,
            Sending::Fresh(call) => (call, None),
            Sending::Pooled(call, spare) => (call, spare),
        };
        let mut call = pin!(OPENING.scope(Opening::by(visitor), call));
        let mut result = call.as_mut().await;
        let was_kept = !call.take_value().is_some_and(|opening| opening.opened());
        if let (Err(error), Some(spare)) = (&result, spare)
            && was_kept
            && broke_off(error)
        {
            let again = self.fresh.request(*spare);
            result = OPENING.scope(Opening::by(visitor), again).await;
        }
        match result {
            Ok(response) => Ok(response.map(Body::passing)),
            Err(error) => Err(Refusal::of(&error)),
        }
    }
}

/// A copy of a request that may be sent twice. It shares names and values with the original.
fn spare(request: &Request<Body>) -> Option<Box<Request<Body>>> {
    let repeatable = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
        && http_body::Body::is_end_stream(request.body());
    if !repeatable {
        return None;
    }
    let mut spare = Request::new(Body::empty());
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.version_mut() = request.version();
    *spare.headers_mut() = request.headers().clone();
    Some(Box::new(spare))
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
