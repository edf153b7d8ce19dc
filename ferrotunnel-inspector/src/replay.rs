//! Saying a request again to the local service, the way a visitor's goes.
//!
//! Its answer is seen as every other: the connection has a tap. Bounded in time and in number, and nothing of the answer is
//! kept beside what the tap keeps.

mod pipe;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrotunnel_core::client::Pipe;
use ferrotunnel_core::tasks::Tasks;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;

use self::pipe::{SharedTap, Tapped};
use crate::exchange::{Exchange, Source};
use crate::head::{self, Headers, RequestHead, Version};
use crate::mask::MASK;
use crate::record::{Kind, Origin, Record};
use crate::store::{Shared, now_millis};
use crate::stream_tap::StreamTap;

/// Reaches local services, as visitors do.
pub trait Reach: Send + Sync + fmt::Debug {
    /// A connection to the local service of a tunnel: by its number, or, if that is gone, by what is asked for there.
    fn reach(&self, number: u64, host: &str, path: &str, is_http2: bool) -> Reached;
}

/// A connection that is being made.
pub type Reached = Pin<Box<dyn Future<Output = io::Result<Box<dyn Pipe>>> + Send>>;

/// What is to be different from the request that is repeated.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Edits {
    /// Another method.
    pub method: Option<String>,
    /// Another path, with its query.
    pub path: Option<String>,
    /// Other headers, all of them. A secret that was not revealed stays what it was.
    pub headers: Option<Vec<(String, String)>>,
    /// Another body.
    pub body: Option<Vec<u8>>,
}

/// Why a request was not repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It is not kept.
    #[error("there is no such request")]
    NotFound,
    /// Its body was not captured as a whole.
    #[error(
        "not all of its body was captured: give another one, or capture more (--inspect-body-bytes)"
    )]
    Truncated,
    /// It is not over.
    #[error("its body is still on its way")]
    Unfinished,
    /// It became something else than a request and an answer.
    #[error("a connection that changes its protocol cannot be repeated")]
    OtherProtocol,
    /// That many are under way.
    #[error("{MOST_REPLAYS} requests are being repeated already")]
    TooMany,
    /// There is nothing to send it over.
    #[error("there is no tunnel to send it through")]
    NoTunnel,
    /// What was changed makes no request.
    #[error("{0}")]
    Invalid(String),
}

/// Writes the new request down, and returns its id and what sends it.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    record: &Record,
    edits: Edits,
) -> Result<(u64, impl Future<Output = ()> + Send + 'static), ReplayError> {
    let reach = shared.reach.read().clone().ok_or(ReplayError::NoTunnel)?;
    let permit = Arc::clone(&shared.replays).try_acquire_owned();
    let permit = permit.map_err(|_| ReplayError::TooMany)?;
    let Prepared { origin, head, request } = Prepared::of(record, edits)?;
    let is_http2 = head.version == Version::Http2;
    let reached = reach.reach(origin.number, head.host(), head.path(), is_http2);
    let source = Arc::new(Source::new(Arc::clone(shared), origin));
    let exchange = Exchange::begin(&source, head, (Instant::now(), now_millis()), false);
    let id = exchange.id();
    let tap = SharedTap::new(StreamTap::new(source, Some(exchange)));
    Ok((id, send(reached, request, is_http2, tap, permit)))
}

struct Prepared {
    origin: Origin,
    head: RequestHead,
    request: Request<Replayed>,
}

impl Prepared {
    fn of(record: &Record, edits: Edits) -> Result<Self, ReplayError> {
        let content = record.content.lock();
        let asked = &content.request;
        let is_upgrade = content.kind == Kind::WebSocket
            || content.response.as_ref().is_some_and(|response| response.status == 101);
        if is_upgrade || asked.method == "CONNECT" {
            return Err(ReplayError::OtherProtocol);
        }
        let has_body = edits.body.is_some();
        let body = match edits.body {
            Some(body) => body,
            None if content.request_body.is_truncated() => return Err(ReplayError::Truncated),
            None if !content.is_whole[0] => return Err(ReplayError::Unfinished),
            None => content.request_body.kept.clone(),
        };
        let trailers = match has_body {
            true => Headers::default(),
            false => content.seldom().trailers[0].clone(),
        };
        let origin =
            Origin { visitor: None, replay_of: Some(record.id), ..Origin::clone(&content.origin) };
        let asked = asked.clone();
        drop(content);
        let line = (edits.method.map_or(asked.method.clone(), Cow::Owned), asked.version);
        let path = edits.path.as_deref().unwrap_or(asked.path());
        let changed = edits.headers.map(|headers| unmasked(&headers, &asked.headers));
        let headers = changed.as_ref().unwrap_or(&asked.headers);
        let host = head::header(headers, "host").filter(|_| changed.is_some());
        let authority = match asked.authority() {
            "" => "",
            authority => host.unwrap_or(authority),
        };
        let head = RequestHead::new(line, path, authority, headers.iter());
        let request = to_request(&head, body, &trailers, has_body)?;
        Ok(Self { origin, head, request })
    }
}

/// Secrets that were not shown are those of the original.
fn unmasked(headers: &[(String, String)], original: &Headers) -> Headers {
    let mut taken: Vec<&str> = Vec::new();
    let mut found = Headers::default();
    for (name, value) in headers {
        let mut value = value.as_bytes();
        if value == MASK.as_bytes() {
            let before = taken.iter().filter(|one| one.eq_ignore_ascii_case(name)).count();
            if let Some(secret) = original.named(name).nth(before) {
                value = secret;
            }
        }
        taken.push(name);
        found.push(name, value);
    }
    found
}

fn to_request(
    head: &RequestHead,
    body: Vec<u8>,
    trailers: &Headers,
    is_another_body: bool,
) -> Result<Request<Replayed>, ReplayError> {
    let invalid = |what: &str| ReplayError::Invalid(format!("{what} cannot be sent"));
    let is_http2 = head.version == Version::Http2;
    let method = Method::from_bytes(head.method.as_bytes()).map_err(|_| invalid("that method"))?;
    let uri = if is_http2 {
        let host = if head.host().is_empty() { "localhost" } else { head.host() };
        format!("http://{host}{}", head.path())
    } else {
        head.path().to_owned()
    };
    let uri = Uri::try_from(uri).map_err(|_| invalid("that path"))?;
    let mut headers = to_map(&head.headers)?;
    let was_chunked = head::has_token(&head.headers, "transfer-encoding", "chunked");
    let had_length = headers.remove(header::CONTENT_LENGTH).is_some();
    for name in OF_ONE_CONNECTION {
        headers.remove(*name);
    }
    let is_chunked = was_chunked && !is_http2 && !is_another_body;
    if is_chunked {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if had_length || (!body.is_empty() && (!is_http2 || is_another_body)) {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    if is_http2 {
        headers.remove(header::HOST);
    }
    let trailers = Some(to_map(trailers)?).filter(|trailers| !trailers.is_empty());
    let body = Bytes::from(body);
    let is_sized = !is_chunked && trailers.is_none();
    let replayed =
        Replayed { data: Some(body).filter(|body| !body.is_empty()), trailers, is_sized };
    let mut request = Request::new(replayed);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn to_map(headers: &Headers) -> Result<HeaderMap, ReplayError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        let (Ok(name), Ok(value)) = pair else {
            return Err(ReplayError::Invalid(format!("the header {name:?} cannot be sent")));
        };
        map.append(name, value);
    }
    Ok(map)
}

async fn send(
    reached: Reached,
    request: Request<Replayed>,
    is_http2: bool,
    tap: SharedTap,
    _permit: OwnedSemaphorePermit,
) {
    tap.dialling();
    let sending = async {
        let pipe = match reached.await {
            Ok(pipe) => pipe,
            Err(error) => {
                tap.dialled(Err(&error.to_string()));
                return tap.broke("");
            }
        };
        tap.dialled(Ok(()));
        let io = TokioIo::new(Tapped::new(pipe, tap.clone()));
        let sent =
            if is_http2 { over_http2(io, request).await } else { over_http1(io, request).await };
        if let Err(error) = sent {
            tap.broke(&error.to_string());
        }
    };
    if tokio::time::timeout(MOST_TIME, sending).await.is_err() {
        tap.broke("it took longer than a minute, and is not waited for any more");
    }
}

async fn over_http1(io: TokioIo<Tapped>, request: Request<Replayed>) -> hyper::Result<()> {
    let (mut sender, connection) = http1::handshake(io).await?;
    let answered = async move {
        let response = sender.send_request(request).await?;
        // Without the sender the connection ends behind the answer.
        drop(sender);
        drain(response.into_body()).await
    };
    let (answered, _) = tokio::join!(answered, connection);
    answered
}

async fn over_http2(io: TokioIo<Tapped>, request: Request<Replayed>) -> hyper::Result<()> {
    let helpers = Helpers::default();
    let executor = Executor(helpers.0.clone());
    let (mut sender, connection) = http2::Builder::new(executor).handshake(io).await?;
    let answered = async move {
        let response = sender.send_request(request).await?;
        let drained = drain(response.into_body()).await;
        drop(sender);
        drained
    };
    let (answered, _) = tokio::join!(answered, connection);
    answered
}

async fn drain(mut body: Incoming) -> hyper::Result<()> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// What hyper starts beside a connection; it ends with it.
#[derive(Default)]
struct Helpers(Tasks);

impl Drop for Helpers {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}

#[derive(Clone)]
struct Executor(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The body of a repeated request.
struct Replayed {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// Its length is told beforehand.
    is_sized: bool,
}

impl Body for Replayed {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.is_sized && self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized {
            SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
        } else {
            SizeHint::default()
        }
    }
}

/// Headers that say something about the connection that the request came over (RFC 9110, section 7.6.1).
const OF_ONE_CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Nobody watches more than that at once, and the local service may be a small one.
pub(crate) const MOST_REPLAYS: usize = 8;

/// An event stream never ends by itself.
const MOST_TIME: Duration = Duration::from_secs(60);
