//! One request on its way to a local service, until the head of the response is there.

use std::{error::Error, future::Future, pin::Pin, sync::Arc};

use ferrotunnel_core::{Servant, Tunnel};
use http::{Method, Request, Response, request};

use crate::{
    again::Again,
    body::Body,
    local::{Connections, Local},
    plain,
    pool::{self, Pool, Then},
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
pub(crate) struct Sending {
    way: Way,
    servant: Servant,
}

enum Way {
    /// Without hyper. The tunnel is for a second time, if that is allowed.
    Plain(Result<plain::Call, Box<plain::Failed>>, Option<Arc<Tunnel>>),
    /// Boxed: most are plain, and all would pay for it.
    Hyper(Box<Hyper>),
}

struct Hyper {
    /// An error if it could not even begin.
    call: Result<Call, Refusal>,
    /// For a second time, if that is allowed.
    spare: Option<Spare>,
}

enum Call {
    /// Over a connection of this pool.
    Pooled(pool::Call, Arc<Pool>),
    Fresh(pool::Call),
    Multiplexed(Pin<Box<dyn Future<Output = Result<Response<Body>, Refusal>> + Send>>),
}

/// A request that may be sent a second time.
struct Spare {
    request: Request<Body>,
    /// That of a group has a body: this is the way to its beginning.
    body: Option<Again>,
    tunnel: Arc<Tunnel>,
    via: Via,
}

/// What came of a call.
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart at once; a box would cost every request an allocation"
)]
enum Called {
    Answered(Response<Body>),
    Failed {
        refusal: Refusal,
        /// A connection that had been kept ended, maybe before the request was heard.
        was_stale: bool,
    },
}

impl Sending {
    /// The request goes out when [`Sending::response`] is awaited.
    pub(crate) fn new(
        local: &Local,
        tunnel: &Arc<Tunnel>,
        via: Via,
        visitor: &Arc<Visitor>,
        mut request: Request<Body>,
    ) -> Result<Self, Refusal> {
        let (connections, servant) = local.choose(tunnel)?;
        let has_body = !http_body::Body::is_end_stream(request.body());
        let may_be_repeated = (!has_body && is_repeatable(request.method())) || tunnel.is_shared();
        let spare = may_be_repeated.then(|| {
            let body = has_body.then(|| keep_body(&mut request));
            Spare { request: copy(&request), body, tunnel: Arc::clone(tunnel), via }
        });
        let call = Call::new(connections, via, visitor, request);
        Ok(Self { way: Way::Hyper(Box::new(Hyper { call, spare })), servant })
    }

    /// The same for one that is plain. Interim answers are told to whom that is given.
    pub(crate) fn plain(
        local: &Local,
        tunnel: &Arc<Tunnel>,
        via: Via,
        visitor: &Visitor,
        request: &request::Parts,
        hears: Option<Arc<Visitor>>,
    ) -> Result<Self, Refusal> {
        let (connections, servant) = local.choose(tunnel)?;
        let then = if via == Via::Pooled { Then::Keep } else { Then::End };
        let may_be_repeated = is_repeatable(&request.method) || tunnel.is_shared();
        let call = plain::Call::new(&connections.pool, visitor, request, hears, then);
        let way = Way::Plain(call, may_be_repeated.then(|| Arc::clone(tunnel)));
        Ok(Self { way, servant })
    }

    /// Returns as soon as the head of the response is there.
    ///
    /// A local service may hang up on an idle connection while a request is on its way there; the
    /// longer the tunnel, the likelier. The client repeats requests that were not begun; those
    /// that were may be repeated by a proxy if they are idempotent (RFC 9110, section 9.2.2), and
    /// can be if they have no body. It is done over a connection that cannot be stale. In a group
    /// any request is repeated when a member has not reached its local service, or has said goodbye meanwhile, so that
    /// nobody has heard anything of it: then it is another's turn. Of a body that can be done while little of it has come.
    pub(crate) async fn response(
        self,
        visitor: &Arc<Visitor>,
        local: &Local,
    ) -> Result<Response<Body>, Refusal> {
        let Self { way, servant } = self;
        let failed = match way {
            Way::Plain(call, tunnel) => match (answered_plainly(call, visitor).await, tunnel) {
                (Ok(response), _) => return Ok(response.map(|body| body.served_by(servant))),
                (Err(failed), tunnel) => Err((failed, tunnel)),
            },
            Way::Hyper(hyper) => Ok(hyper),
        };
        // Boxed: few fail, and all would pay for it.
        match failed {
            Err((failed, None)) => Err(failed.refusal),
            Err((failed, Some(tunnel))) => {
                Box::pin(repeat_plainly(*failed, tunnel, visitor, local)).await
            }
            Ok(hyper) => Box::pin(hyper.response(servant, visitor, local)).await,
        }
    }
}

impl Hyper {
    async fn response(
        self: Box<Self>,
        servant: Servant,
        visitor: &Arc<Visitor>,
        local: &Local,
    ) -> Result<Response<Body>, Refusal> {
        let Self { call, spare } = *self;
        match (answered(call, visitor).await, spare) {
            (Called::Answered(response), _) => Ok(response.map(|body| body.served_by(servant))),
            (Called::Failed { refusal, .. }, None) => Err(refusal),
            // Boxed: few fail, and all would pay for it.
            (Called::Failed { refusal, was_stale }, Some(spare)) => {
                Box::pin(spare.repeat(refusal, was_stale, visitor, local)).await
            }
        }
    }
}

impl Spare {
    /// The request from its beginning, if that is still to be had.
    fn request(&self) -> Option<Request<Body>> {
        let mut request = copy(&self.request);
        if let Some(again) = &self.body {
            *request.body_mut() = again.body()?;
        }
        Some(request)
    }

    async fn repeat(
        self,
        mut refusal: Refusal,
        mut was_stale: bool,
        visitor: &Arc<Visitor>,
        local: &Local,
    ) -> Result<Response<Body>, Refusal> {
        let fresh = match self.via {
            Via::Pooled | Via::Fresh | Via::Once => Via::Fresh,
            via @ (Via::Multiplexed | Via::Apart) => via,
        };
        // One that was stale may be followed by members that do not reach their service.
        for _ in 0..MOST_REPEATS {
            let may_follow = may_follow(&refusal, was_stale, self.request.method(), &self.tunnel);
            let Some(request) = may_follow.then(|| self.request()).flatten() else { break };
            let (connections, servant) = local.choose(&self.tunnel)?;
            let call = Call::new(connections, fresh, visitor, request);
            match answered(call, visitor).await {
                Called::Answered(response) => {
                    return Ok(response.map(|body| body.served_by(servant)));
                }
                Called::Failed { refusal: again, .. } => (refusal, was_stale) = (again, false),
            }
        }
        Err(refusal)
    }
}

/// As [`Spare::repeat`].
async fn repeat_plainly(
    mut failed: plain::Failed,
    tunnel: Arc<Tunnel>,
    visitor: &Visitor,
    local: &Local,
) -> Result<Response<Body>, Refusal> {
    for _ in 0..MOST_REPEATS {
        if !may_follow(&failed.refusal, failed.was_stale, &failed.asked.method, &tunnel) {
            break;
        }
        let (connections, servant) = local.choose(&tunnel)?;
        let call = plain::Call::again(&connections.pool, visitor, failed.asked, Then::End);
        match answered_plainly(call, visitor).await {
            Ok(response) => return Ok(response.map(|body| body.served_by(servant))),
            Err(again) => failed = plain::Failed { was_stale: false, ..*again },
        }
    }
    Err(failed.refusal)
}

async fn answered_plainly(
    call: Result<plain::Call, Box<plain::Failed>>,
    visitor: &Visitor,
) -> Result<Response<Body>, Box<plain::Failed>> {
    call?.answer(visitor).await
}

impl Call {
    fn new(
        connections: Arc<Connections>,
        via: Via,
        visitor: &Arc<Visitor>,
        request: Request<Body>,
    ) -> Result<Self, Refusal> {
        Ok(match via {
            Via::Pooled => {
                let pool = connections.pool.clone();
                Self::Pooled(pool.send(visitor, request, Then::Keep)?, pool)
            }
            Via::Fresh | Via::Once => {
                Self::Fresh(connections.pool.send(visitor, request, Then::End)?)
            }
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
        })
    }

    async fn answer(self, visitor: &Visitor) -> Called {
        let (answered, pool) = match self {
            Self::Multiplexed(exchange) => {
                return match exchange.await {
                    Ok(response) => Called::Answered(response),
                    Err(refusal) => Called::Failed { refusal, was_stale: false },
                };
            }
            Self::Fresh(call) => (call.answer().await, None),
            Self::Pooled(call, pool) => (call.answer().await, Some(pool)),
        };
        match (answered, pool) {
            (Ok(response), _) => Called::Answered(response),
            (Err(failed), None) => failed.into(),
            // Boxed: few fail, and all would pay for it.
            (Err(failed), Some(pool)) => Box::pin(again(failed, pool, visitor)).await,
        }
    }
}

async fn answered(call: Result<Call, Refusal>, visitor: &Visitor) -> Called {
    match call {
        Ok(call) => call.answer(visitor).await,
        Err(refusal) => Called::Failed { refusal, was_stale: false },
    }
}

/// Sends a request once more that was not begun, until a connection takes it or a new one does not.
async fn again(mut failed: pool::Failed, pool: Arc<Pool>, visitor: &Visitor) -> Called {
    while failed.was_kept
        && let Some(request) = failed.request.take()
    {
        let call = match pool.send(visitor, request, Then::Keep) {
            Ok(call) => call,
            Err(error) => return Called::Failed { refusal: error.into(), was_stale: false },
        };
        match call.answer().await {
            Ok(response) => return Called::Answered(response),
            Err(again) => failed = again,
        }
    }
    failed.into()
}

impl From<pool::Failed> for Called {
    fn from(failed: pool::Failed) -> Self {
        let was_stale = failed.was_kept && broke_off(&failed.error);
        // A stream may break before the request is handed to it. Then only the stream knows why.
        let reason = if failed.was_kept { None } else { failed.broke.get() };
        let refusal = match Refusal::of(&failed.error) {
            Refusal::BadAnswer => reason.map_or(Refusal::BadAnswer, Refusal::from),
            other => other,
        };
        Self::Failed { refusal, was_stale }
    }
}

/// Whether a request that failed so may be sent again.
fn may_follow(refusal: &Refusal, was_stale: bool, method: &Method, tunnel: &Tunnel) -> bool {
    (was_stale && is_repeatable(method)) || refusal.is_undelivered(tunnel.is_shared())
}

/// How often a request is sent again at most.
const MOST_REPEATS: u32 = 3;

/// Whether nothing is done twice when a service hears it twice.
fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Has a request read its body in such a way that it can be read again.
fn keep_body(request: &mut Request<Body>) -> Again {
    let again = Again::new(std::mem::replace(request.body_mut(), Body::empty()));
    if let Some(body) = again.body() {
        *request.body_mut() = body;
    }
    again
}

/// A copy of a request without its body. It shares names and values with the original.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Whether the connection ended, as opposed to an answer that made no sense.
fn broke_off(error: &hyper::Error) -> bool {
    error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || error.source().is_some_and(|cause| cause.is::<std::io::Error>())
}
