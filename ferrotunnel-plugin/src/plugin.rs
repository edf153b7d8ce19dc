//! The trait that plugins implement.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};

use crate::action::{PluginAction, Result};
use crate::context::{
    RegistrationAnswer, RegistrationContext, RequestContext, SessionContext, StreamContext,
};
use crate::early::EarlyAnswer;
use crate::exchange::{Dir, Outcome};

/// A say in what passes through tunnels. Every method has a default that does nothing.
///
/// A server has all phases. A client moves bytes and parses no HTTP, so it has those of sessions, of the answer to a
/// registration, and of streams; the others are never called there.
///
/// One plugin is asked about many requests at once: what it keeps needs locks or atomics. An error or a panic costs
/// the request a 500, the session or the registration a refusal, a body its end; it is logged, and everybody else goes
/// on.
///
/// ```
/// use ferrotunnel_plugin::{Plugin, PluginAction, RequestContext, Result, async_trait, http::Request};
///
/// struct NeedsKey;
///
/// #[async_trait]
/// impl Plugin for NeedsKey {
///     async fn on_request(&self, request: &mut Request<()>, _: &RequestContext) -> Result<PluginAction> {
///         if request.headers().contains_key("x-api-key") {
///             return Ok(PluginAction::Continue);
///         }
///         Ok(PluginAction::Reject { status: 401, reason: "send a key in X-Api-Key".into() })
///     }
/// }
/// ```
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// What it is called in logs; by default the name of its type.
    fn name(&self) -> &str {
        std::any::type_name::<Self>()
    }

    /// At a server: a client has proven its token, and its session is about to begin. [`PluginAction::Reject`] refuses
    /// it, and the client is told the reason; it comes back as after any refusal, with growing pauses. What has not
    /// decided after 10 s has refused, here and in [`on_registration`](Self::on_registration).
    ///
    /// At a client: a session has begun. There is nothing to refuse any more.
    async fn on_session(&self, _session: &SessionContext) -> Result<PluginAction> {
        Ok(PluginAction::Continue)
    }

    /// A client asks for a tunnel. [`PluginAction::Reject`] refuses it; what passes is still for the server to grant.
    /// What the same session asks for later waits meanwhile. Not at a client.
    async fn on_registration(&self, _wanted: &RegistrationContext) -> Result<PluginAction> {
        Ok(PluginAction::Continue)
    }

    /// A registration has been answered, at a server and at a client. At a client `name` of the context is that of
    /// the tunnel in use, and a tunnel that is lost later is told here too.
    async fn on_registration_answered(
        &self,
        _wanted: &RegistrationContext,
        _answer: &RegistrationAnswer,
    ) -> Result<()> {
        Ok(())
    }

    /// The head of a request is there, as the visitor sent it. What is changed in it goes on changed: method, path and
    /// query, headers. What cannot be changed is to whom it goes, and what frames the body: `Content-Length`,
    /// `Transfer-Encoding` and the version stay.
    async fn on_request(
        &self,
        _request: &mut Request<()>,
        _context: &RequestContext,
    ) -> Result<PluginAction> {
        Ok(PluginAction::Continue)
    }

    /// The head of the response is there, whoever [made it](RequestContext::answered_by). Only plugins whose
    /// [`on_request`](Self::on_request) has run are asked, the last first. What frames the body stays here too. An
    /// action other than [`PluginAction::Continue`] replaces the response; the plugins that follow see that.
    async fn on_response(
        &self,
        _response: &mut Response<()>,
        _context: &RequestContext,
    ) -> Result<PluginAction> {
        Ok(PluginAction::Continue)
    }

    /// Whether it is asked about more than requests: sessions, registrations and streams. Asked once, at the start; if no
    /// plugin says so, streams come and go without any.
    fn wants_sessions(&self) -> bool {
        true
    }

    /// Whether to call [`on_request_chunk`](Self::on_request_chunk), [`on_response_chunk`](Self::on_response_chunk) and
    /// [`holds_body`](Self::holds_body); asked once, at the start. If no plugin says so, bodies pass without any.
    fn wants_body_chunks(&self) -> bool {
        false
    }

    /// A part of the request's body passes, as it came. Bodies are never collected. An error cuts it.
    ///
    /// To be brief: all that its connection carries waits meanwhile.
    fn on_request_chunk(&self, _chunk: &Bytes, _context: &RequestContext) -> Result<()> {
        Ok(())
    }

    /// A part of the response's body passes, as it came. Otherwise like [`on_request_chunk`](Self::on_request_chunk).
    fn on_response_chunk(&self, _chunk: &Bytes, _context: &RequestContext) -> Result<()> {
        Ok(())
    }

    /// Asked before each part of a body is taken from whoever sends it: for how long to leave it there. It is asked again
    /// after that time, and the part comes when no plugin wants to wait any more. Who sends is held back by that, and
    /// nothing is kept here. To be brief.
    fn holds_body(&self, _dir: Dir, _context: &RequestContext) -> Duration {
        Duration::ZERO
    }

    /// The request is over, well or not. To be brief. Called for plugins whose [`on_request`](Self::on_request) has
    /// run, the last first.
    fn on_finished(&self, _context: &RequestContext, _outcome: &Outcome) {}

    /// A visitor got an answer before there was a request to ask about. To be brief. For such a request no other
    /// phase is called.
    fn on_early_answer(&self, _answer: &EarlyAnswer) {}

    /// A stream was opened. To be brief.
    fn on_stream_opened(&self, _stream: &StreamContext) {}

    /// A stream has ended. To be brief.
    fn on_stream_closed(&self, _stream: &StreamContext) {}
}
