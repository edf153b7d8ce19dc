//! Answers that the plugins were not asked about, which they are told of.

use ferrotunnel_plugin::{Chain, EarlyAnswer};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{ACCEPT, HOST, REFERER, USER_AGENT},
};
use http_body::Body as _;
use tracing::debug;

use crate::{
    answer::{Asker, FERROTUNNEL_ERROR, Form, LastWords, last_words},
    body::Body,
    forward::Forwarder,
    framing::Unclear,
    refusal::Refusal,
    request_id,
    seen::Seen,
    visitor::Visitor,
};

/// A request that plugins are not asked about; they are told of its answer.
pub(crate) struct Asking {
    plugins: Chain,
    line: Vec<u8>,
    headers: HeaderMap,
}

impl Asking {
    pub(crate) fn of<B>(request: &Request<B>, plugins: &Chain) -> Self {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let line = format!("{} {path} {:?}", request.method(), request.version()).into_bytes();
        let mut headers = HeaderMap::new();
        if let Some(authority) = request.uri().authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            headers.insert(HOST, host);
        }
        for name in [HOST, REFERER, USER_AGENT, ACCEPT] {
            if let Some(value) = request.headers().get(&name) {
                headers.entry(name).or_insert(value.clone());
            }
        }
        Self { plugins: plugins.clone(), line, headers }
    }

    /// Tells of the answer.
    pub(crate) fn tell(self, visitor: &Visitor, asker: &Asker, response: &Response<Body>) {
        let error = response.headers().get(FERROTUNNEL_ERROR);
        let mut early = EarlyAnswer::new(visitor.canonical(), response.status());
        // Its body is not sent.
        let is_head = self.line.starts_with(HEAD);
        early.request_line = self.line;
        early.headers = self.headers;
        early.request_id = asker.id.clone();
        early.error = error.and_then(|error| error.to_str().ok()).map(str::to_owned);
        if !is_head {
            early.response_bytes = response.body().size_hint().exact().unwrap_or_default();
        }
        self.plugins.early_answer(&early);
    }
}

impl Forwarder {
    /// The answer to what is no request, in bytes. It is the last one of its connection.
    pub(crate) fn refuse_unread(
        &self,
        visitor: &Visitor,
        why: Unclear,
        seen: Option<&Seen>,
    ) -> bytes::Bytes {
        let mut headers = seen.map(Seen::headers).unwrap_or_default();
        let asker = Asker {
            form: Form::wanted_by(&headers),
            id: request_id::of(&mut headers),
            measured: None,
        };
        headers.remove(request_id::X_REQUEST_ID);
        let line = seen.map(Seen::request_line).unwrap_or_default();
        let refusal = Refusal::Unclear(why);
        debug!(visitor = %visitor.address, request = asker.id(), ?refusal, "a request was not forwarded");
        let is_head = line.starts_with(HEAD);
        let words = last_words(&refusal, &asker, &self.pages.read(), is_head);
        let LastWords { status, kind, bytes, body_len } = words;
        if let Some(plugins) = self.plugins() {
            let mut early = EarlyAnswer::new(visitor.canonical(), status);
            early.request_line = line.to_vec();
            early.headers = headers;
            early.request_id = asker.id;
            early.error = Some(kind.to_owned());
            early.response_bytes = body_len as u64;
            plugins.early_answer(&early);
        }
        bytes
    }
}

/// How a request begins whose answer has no body.
const HEAD: &[u8] = b"HEAD ";

/// Whether a head over HTTP/2 is longer than one may be over HTTP/1.1, counted as RFC 9113, section 6.5.2, does.
pub(crate) fn is_too_long<B>(request: &Request<B>, most: usize) -> bool {
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len())
        + uri.authority().map_or(0, |authority| authority.as_str().len());
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
    target + request.headers().iter().map(size).sum::<usize>() > most
}
