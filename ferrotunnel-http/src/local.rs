//! Sends a request to the local service of a tunnel, over a connection that runs through a
//! stream.

use std::{error::Error, pin::pin, sync::Arc};

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

/// The connections to the local services of all tunnels.
pub(crate) struct Local {
    pooled: Client<Connector, Body>,
    fresh: Client<Connector, Body>,
    multiplexed: Multiplexed,
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
        Self { pooled, fresh, multiplexed: Multiplexed::new(tasks) }
    }

    /// Returns as soon as the head of the response is there.
    pub(crate) async fn send(
        &self,
        via: Via,
        tunnel: &Tunnel,
        visitor: &Visitor,
        request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let response = match via {
            Via::Pooled => self.send_pooled(visitor, request).await,
            Via::Fresh => OPENING.scope(Opening::by(visitor), self.fresh.request(request)).await,
            Via::Multiplexed => return self.multiplexed.send(tunnel, visitor, request).await,
        };
        match response {
            Ok(response) => Ok(response.map(Body::passing)),
            Err(error) => Err(Refusal::of(&error)),
        }
    }

    /// A local service may hang up on an idle connection while a request is on its way there; the
    /// longer the tunnel, the likelier. The client repeats requests that were not begun; those
    /// that were may be repeated by a proxy if they are idempotent (RFC 9110, section 9.2.2), and
    /// can be if they have no body. It is done once, over a connection that cannot be stale.
    async fn send_pooled(
        &self,
        visitor: &Visitor,
        request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, legacy::Error> {
        let spare = spare(&request);
        let mut call = pin!(OPENING.scope(Opening::by(visitor), self.pooled.request(request)));
        let result = call.as_mut().await;
        let was_kept = !call.take_value().is_some_and(|opening| opening.opened());
        match (result, spare) {
            (Err(error), Some(spare)) if was_kept && broke_off(&error) => {
                OPENING.scope(Opening::by(visitor), self.fresh.request(spare)).await
            }
            (result, _) => result,
        }
    }
}

/// A copy of a request that may be sent twice. It shares names and values with the original.
fn spare(request: &Request<Body>) -> Option<Request<Body>> {
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
    Some(spare)
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
