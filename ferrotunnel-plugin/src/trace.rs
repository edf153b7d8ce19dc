//! Who keeps traces of requests. Like a meter it decides nothing; what it says of a request goes with it to the local
//! service.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ferrotunnel_common::{SessionId, TraceContext};
use http::{Method, StatusCode, Version};

/// Gives each request a span, and hears of it when all is over. It is called where requests are served, so it must
/// not take its time.
pub trait RequestTracer: Debug + Send + Sync + 'static {
    /// A request has come, from a visitor who names the span that it is part of, or does not. Returns the request's
    /// own, which says whether it is kept.
    fn begun(&self, parent: Option<TraceContext>) -> TraceContext;

    /// A name for one more span.
    fn next_span(&self) -> [u8; 8];

    /// A request that is kept is over: the last byte of its answer has been handed out, or nobody wants it any more.
    fn ended(&self, request: &TracedRequest<'_>);
}

/// A request, and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TracedRequest<'a> {
    /// Its span.
    pub span: TraceContext,
    /// The span that it is part of, as its visitor says.
    pub parent: Option<TraceContext>,
    /// What else the visitor says of the trace, as in `tracestate`.
    pub state: Option<&'a str>,
    /// When it came.
    pub at: SystemTime,
    /// Until it was over.
    pub took: Duration,
    /// What was asked for.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The path, without a query: that may hold secrets.
    pub path: &'a str,
    /// The host as it was asked for, with its port if there was one.
    pub host: Option<&'a str>,
    /// Of HTTP.
    pub version: Version,
    /// What the visitor's program calls itself.
    pub user_agent: Option<&'a str>,
    /// Who asks; for whom a trusted proxy does.
    pub visitor: SocketAddr,
    /// Who is connected.
    pub peer: SocketAddr,
    /// As in `X-Request-Id`.
    pub request_id: &'a str,
    /// The tunnel that it was for, with its path if it has one.
    pub tunnel: Option<&'a str>,
    /// A session that has the tunnel.
    pub session: Option<SessionId>,
    /// `None`: the visitor has left before there was an answer.
    pub status: Option<StatusCode>,
    /// Why the answer is the server's own, as in its `FerroTunnel-Error`.
    pub refusal: Option<&'static str>,
    /// What it consisted of, in no particular order.
    pub steps: &'a [Step],
}

impl<'a> TracedRequest<'a> {
    /// A request for the root of nothing that has had no answer.
    pub fn new(span: TraceContext, method: &'a Method, visitor: SocketAddr) -> Self {
        Self {
            span,
            parent: None,
            state: None,
            at: SystemTime::now(),
            took: Duration::ZERO,
            method,
            scheme: "http",
            path: "/",
            host: None,
            version: Version::HTTP_11,
            user_agent: None,
            visitor,
            peer: visitor,
            request_id: "",
            tunnel: None,
            session: None,
            status: None,
            refusal: None,
            steps: &[],
        }
    }
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub kind: StepKind,
    /// Its span, in the trace of the request.
    pub span: [u8; 8],
    /// The span that it is part of.
    pub parent: [u8; 8],
    /// Since the request had come.
    pub after: Duration,
    /// Until it was done.
    pub took: Duration,
    /// Why it came to nothing.
    pub error: Option<String>,
}

/// What a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepKind {
    /// The decision whose it is, and whether the visitor may come. A client that is away may be waited for.
    Route,
    /// Plugins were asked about the head of the request.
    RequestPlugins,
    /// Plugins were asked about the head of the response.
    ResponsePlugins,
    /// The exchange with the local service, to the last byte of the response. Its span is the one that the local service is
    /// told of.
    Forward,
    /// A stream was opened to the client: none was idle.
    StreamOpen,
    /// Until the head of the response was there.
    FirstByte,
}
