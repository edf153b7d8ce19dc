//! A request that plugins are asked about. Without plugins nothing of this runs.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use ferrotunnel_core::Tunnel;
use ferrotunnel_plugin::{Answer, Chain, Dir, RequestContext, StepKind, TunnelContext};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, LOCATION, TRANSFER_ENCODING, UPGRADE},
};
use hyper::body::Incoming;
use tracing::debug;

use crate::{
    answer::{Asker, answer},
    body::Body,
    error_pages::ErrorPages,
    forward::{Forwarder, Stopped},
    host::Asked,
    refusal::{Refusal, Rejected},
    visitor::Visitor,
};

/// A request that has come as far as the plugins.
pub(crate) struct Asking {
    pub(crate) request: Request<Incoming>,
    pub(crate) asked: Option<Asked>,
    /// Whose it is, if anybody's: plugins see those too that are nobody's.
    /// The tunnel of a refusal is the one that keeps the visitor out.
    pub(crate) routed: Result<Arc<Tunnel>, (Refusal, Option<Arc<Tunnel>>)>,
    /// For whom a proxy asks.
    pub(crate) behind: Option<Arc<Visitor>>,
}

impl Forwarder {
    /// Answers a request, with a response that the plugins have seen.
    pub(crate) async fn ask_plugins(
        self: Arc<Self>,
        plugins: Chain,
        visitor: Arc<Visitor>,
        asking: Box<Asking>,
        asker: Asker,
    ) -> Result<Response<Body>, Stopped> {
        let Asking { request, asked, routed, behind } = *asking;
        let tunnel = match &routed {
            Ok(tunnel) => Some(tunnel),
            Err((_, tunnel)) => tunnel.as_ref(),
        };
        let whose = behind.as_ref().unwrap_or(&visitor);
        let about = tunnel.map(|tunnel| about(tunnel));
        let context = RequestContext::new(whose.canonical(), whose.ingress, about);

        let (mut head, body) = request.into_parts();
        let (is_head, is_http1) = (head.method == Method::HEAD, head.version != Version::HTTP_2);
        let is_connect = head.method == Method::CONNECT;
        let framing = Framing::of(head.version, &head.headers);
        // Among them the other end of an upgrade.
        let extensions = std::mem::take(&mut head.extensions);
        let mut shown = Request::from_parts(head, ());
        let traced = asker.traced().map(|traced| (traced, Instant::now()));
        let (exchange, decided) = plugins.request(&mut shown, context).await;
        if let Some((traced, began)) = traced {
            traced.did(StepKind::RequestPlugins, began);
        }
        let (mut head, ()) = shown.into_parts();
        framing.restore(&mut head.version, &mut head.headers);
        head.extensions = extensions;
        let pages = || self.pages.read().clone();

        let response = match (decided, routed) {
            (Some(decided), _) => Ok(said(decided, &asker, &pages())),
            (None, Err((refusal, _))) => Err(refusal),
            (None, Ok(_)) if (head.method == Method::CONNECT) != is_connect => {
                Err(Refusal::Connect)
            }
            (None, Ok(tunnel)) => {
                let body = Body::passing(body).watched(exchange.watch(Dir::Request));
                let request = Request::from_parts(head, body);
                match self.forward_to(&tunnel, &visitor, behind, asked.as_ref(), request, &asker) {
                    Ok(sent) => self.finish(sent, &visitor).await,
                    Err(refusal) => Err(refusal),
                }
            }
        };
        let response = response.unwrap_or_else(|refusal| {
            let (visitor, request) = (visitor.address, asker.id());
            debug!(%visitor, request, ?refusal, "a request was not forwarded");
            exchange.is_answered_by_server();
            if let Some(measured) = &asker.measured {
                measured.refused(&refusal);
            }
            let mut response = answer(&refusal, &asker, &pages());
            if is_http1 && refusal.is_doubt() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        });
        let by_local = exchange.context().answered_by().is_none();

        let (head, mut body) = response.into_parts();
        let was = head.status;
        let mut framing = Framing::of(head.version, &head.headers);
        let mut shown = Response::from_parts(head, ());
        let replace = |decided| {
            let (head, instead) = said(decided, &asker, &pages()).into_parts();
            body = instead;
            framing = Framing::of(head.version, &head.headers);
            Response::from_parts(head, ())
        };
        let traced = asker.traced().map(|traced| (traced, Instant::now()));
        exchange.response(&mut shown, replace).await;
        if let Some((traced, began)) = traced {
            traced.did(StepKind::ResponsePlugins, began);
        }
        let (mut head, ()) = shown.into_parts();
        framing.restore(&mut head.version, &mut head.headers);
        if head.status != was {
            if was == StatusCode::SWITCHING_PROTOCOLS {
                // The local service has switched, and nobody follows.
                drop(visitor.upgrade.lock().take());
                visitor.switched.store(false, Ordering::Release);
                head.headers.remove(CONNECTION);
                head.headers.remove(UPGRADE);
            } else if head.status.is_informational() {
                head.status = StatusCode::INTERNAL_SERVER_ERROR;
                tracing::error!(status = %was, "a plugin made an interim status of a final one");
            }
        }
        if is_connect && head.status.is_success() && !(by_local && was.is_success()) {
            // It would tell the visitor that it is connected with something.
            head.status = StatusCode::INTERNAL_SERVER_ERROR;
            tracing::error!("a plugin answered a CONNECT as if it were granted");
        }
        let watch = exchange.watch(Dir::Response);
        if is_head {
            // It is not sent, whatever it is.
            watch.end();
        }
        Ok(Response::from_parts(head, body.watched(watch)))
    }
}

fn about(tunnel: &Tunnel) -> TunnelContext {
    TunnelContext::new(tunnel.label(), tunnel.kind(), tunnel.session(), tunnel.principal_name())
}

/// What a plugin answers.
fn said(decided: Answer, asker: &Asker, pages: &ErrorPages) -> Response<Body> {
    match decided {
        Answer::Reject { status, reason } => {
            let rejected = Box::new(Rejected { status, reason });
            answer(&Refusal::Rejected(rejected), asker, pages)
        }
        Answer::Respond(mut response) => {
            FRAMING.iter().for_each(|name| drop(response.headers_mut().remove(name)));
            *response.version_mut() = Version::HTTP_11;
            response.map(Body::from)
        }
        Answer::Redirect { status, location } => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response.headers_mut().insert(LOCATION, location);
            response
        }
        Answer::Failed => answer(&Refusal::PluginFailed, asker, pages),
    }
}

/// What says where a message ends and what its connection becomes. Whoever could change it could make two
/// requests of one.
struct Framing {
    version: Version,
    headers: [Vec<HeaderValue>; 4],
}

impl Framing {
    fn of(version: Version, headers: &HeaderMap) -> Self {
        let headers = FRAMING.map(|name| headers.get_all(name).iter().cloned().collect());
        Self { version, headers }
    }

    fn restore(self, version: &mut Version, headers: &mut HeaderMap) {
        *version = self.version;
        for (name, values) in FRAMING.into_iter().zip(self.headers) {
            headers.remove(&name);
            for value in values {
                headers.append(name.clone(), value);
            }
        }
    }
}

const FRAMING: [HeaderName; 4] = [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE];
