//! Answers that are ours and not the local service's. They are told apart by the
//! `FerroTunnel-Error` header, and each says what to do.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER,
        WWW_AUTHENTICATE,
    },
};

use crate::{
    body::Body,
    error_pages::{self, ErrorPages},
    grpc::{self, is_grpc},
    measured::Measured,
    page::{self, page},
    problem::{self, problem},
    refusal::{Challenge, Refusal},
    traced::Traced,
    wording::Wording,
};

/// What a visitor can make use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Json,
    Text,
    /// A status of gRPC's own: its callers make nothing of HTTP's.
    Grpc,
}

impl Form {
    pub(crate) fn wanted_by(headers: &HeaderMap) -> Self {
        if is_grpc(headers) {
            return Self::Grpc;
        }
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut best = (Self::Text, 0);
        for range in values.flat_map(|value| value.split(',')) {
            let (media_type, weight) = weighed(range);
            let form = match media_type {
                "text/html" | "application/xhtml+xml" => Self::Html,
                problem::MEDIA_TYPE | "application/json" => Self::Json,
                "text/plain" => Self::Text,
                _ => continue,
            };
            // Of two that are as welcome, the first.
            if weight > best.1 {
                best = (form, weight);
            }
        }
        best.0
    }
}

/// A media range and its weight in thousandths (RFC 9110, section 12.4.2).
fn weighed(range: &str) -> (&str, u16) {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(1.0);
    // The cast saturates; what is no weight weighs nothing.
    (media_type, (weight.clamp(0.0, 1.0) * 1_000.0) as u16)
}

/// Whom an answer is for.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) form: Form,
    pub(crate) id: HeaderValue,
    /// Its request, where requests are counted or traced.
    pub(crate) measured: Option<Arc<Measured>>,
}

impl Asker {
    /// The id of its request, as logs and pages have it.
    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The trace of its request, if somebody keeps traces.
    pub(crate) fn traced(&self) -> Option<&Traced> {
        self.measured.as_ref()?.traced()
    }
}

/// The answer to a request that is not forwarded.
pub(crate) fn answer(refusal: &Refusal, asker: &Asker, pages: &ErrorPages) -> Response<Body> {
    let wording = Wording::of(refusal);
    if let (Form::Grpc, Some(status)) = (asker.form, grpc::status(refusal)) {
        let mut response = ours(StatusCode::OK, &wording, Body::empty());
        grpc::set_status(response.headers_mut(), status, &wording);
        return response;
    }
    let Told { text, content_type, policy } = told(&wording, asker, pages);
    let mut response = readable(refusal, &wording, text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(policy) = policy {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    response
}

/// What is told to people or programs, and as what.
struct Told {
    text: String,
    content_type: &'static str,
    policy: Option<&'static str>,
}

fn told(wording: &Wording, asker: &Asker, pages: &ErrorPages) -> Told {
    let id = asker.id();
    let (text, content_type, policy) = match asker.form {
        Form::Html => match pages.page(wording, id) {
            Some(page) => (page, HTML, Some(error_pages::POLICY)),
            None => (page(wording, id), HTML, Some(page::POLICY)),
        },
        Form::Json => (problem(wording, id), problem::MEDIA_TYPE, None),
        Form::Text | Form::Grpc => (wording.text(), TEXT, None),
    };
    Told { text, content_type, policy }
}

/// The last words of a connection: an answer in bytes, to a request that nobody could make out.
pub(crate) struct LastWords {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) bytes: Bytes,
    pub(crate) body_len: usize,
}

pub(crate) fn last_words(
    refusal: &Refusal,
    asker: &Asker,
    pages: &ErrorPages,
    is_head: bool,
) -> LastWords {
    let wording = Wording::of(refusal);
    let Told { text, content_type, policy } = told(&wording, asker, pages);
    let (status, kind, len) = (wording.status, wording.kind, text.len());
    let policy = policy.map(|policy| format!("{CONTENT_SECURITY_POLICY}: {policy}\r\n"));
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nferrotunnel-error: {kind}\r\nx-request-id: {}\r\ncontent-type: {content_type}\r\n{}\
         content-length: {len}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
        asker.id(),
        policy.unwrap_or_default(),
    );
    let body_len = if is_head { 0 } else { len };
    bytes.push_str(&text[..body_len]);
    LastWords { status, kind, bytes: bytes.into(), body_len }
}

/// An answer with a status of HTTP and a text for people.
fn readable(refusal: &Refusal, wording: &Wording, text: String) -> Response<Body> {
    let mut response = ours(wording.status, wording, Body::from(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if *refusal == Refusal::Connect {
        headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
    }
    if let Some(seconds) = retry_after(refusal) {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Refusal::Unauthorized(challenge) = refusal {
        challenge_with(headers, challenge);
    }
    response
}

fn ours(status: StatusCode, wording: &Wording, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(FERROTUNNEL_ERROR, HeaderValue::from_static(wording.kind));
    response
}

/// Both ways where there are two: a client takes the one that it knows (RFC 9110, section 11.6.1).
fn challenge_with(headers: &mut HeaderMap, challenge: &Challenge) {
    // Names of tunnels need no quoting.
    let Challenge { realm, basic, bearer } = challenge;
    let basic = basic.then(|| format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
    let bearer = bearer.then(|| format!("Bearer realm=\"{realm}\""));
    for text in basic.into_iter().chain(bearer) {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
}

fn retry_after(refusal: &Refusal) -> Option<u64> {
    match refusal {
        Refusal::TooManyGuesses(seconds) | Refusal::TooManyRequests(seconds) => Some(*seconds),
        // Room is made as soon as any other visitor is done, and a client that lost its
        // session is back in about a second.
        Refusal::OverLimit
        | Refusal::Full
        | Refusal::OneOfTooMany
        | Refusal::TunnelClosed
        | Refusal::ChecksBusy
        | Refusal::SessionLost => Some(1),
        Refusal::Draining => Some(5),
        // Somebody has to say that it goes on.
        Refusal::Paused => Some(30),
        _ => None,
    }
}

const HTML: &str = "text/html; charset=utf-8";

const TEXT: &str = "text/plain; charset=utf-8";

pub(crate) const FERROTUNNEL_ERROR: HeaderName = HeaderName::from_static("ferrotunnel-error");

/// 405 has to name what is allowed (RFC 9110, section 15.5.6). What else there may be is for the
/// local service to say.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{framing::Unclear, host::BadHost};
    use http_body::Body as _;

    const ALL: [Refusal; 22] = [
        Refusal::BadHost(BadHost::Missing),
        Refusal::Misdirected,
        Refusal::UnclearPath,
        Refusal::Unclear(Unclear::Lengths),
        Refusal::Unclear(Unclear::TooLong),
        Refusal::BadBody,
        Refusal::Connect,
        Refusal::Protocol,
        Refusal::AddressNotAllowed,
        Refusal::TooManyGuesses(1),
        Refusal::ChecksBusy,
        Refusal::TooManyRequests(1),
        Refusal::LocalUnreachable,
        Refusal::BadAnswer,
        Refusal::SessionLost,
        Refusal::OverLimit,
        Refusal::Full,
        Refusal::OneOfTooMany,
        Refusal::Draining,
        Refusal::Paused,
        Refusal::TunnelClosed,
        Refusal::Timeout,
    ];

    fn answer(refusal: &Refusal, form: Form) -> Response<Body> {
        let asker = Asker { form, id: HeaderValue::from_static("the-id"), measured: None };
        super::answer(refusal, &asker, &ErrorPages::default())
    }

    async fn body_of(response: Response<Body>) -> String {
        let mut body = response.into_body();
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let bytes = frame.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn every_answer_of_ours_says_so_in_a_header() {
        for refusal in ALL {
            let response = answer(&refusal, Form::Text);
            assert!(response.headers().contains_key("ferrotunnel-error"), "{refusal:?}");
            assert!(response.status().as_u16() >= 400, "{refusal:?}");
        }
    }

    #[test]
    fn grpc_callers_get_a_status_of_theirs_and_no_body() {
        let cases = [
            (Refusal::LocalUnreachable, "14"),
            (Refusal::NoSuchTunnel("ä%.example".into()), "12"),
            (Refusal::OverLimit, "8"),
            (Refusal::Timeout, "4"),
            (Refusal::AddressNotAllowed, "7"),
            (Refusal::TooManyRequests(7), "8"),
            (
                Refusal::Unauthorized(Challenge { realm: "app".into(), basic: true, bearer: true }),
                "16",
            ),
        ];
        for (refusal, code) in cases {
            let response = answer(&refusal, Form::Grpc);
            assert_eq!(response.status(), 200);
            assert!(response.body().is_end_stream());
            let headers = response.headers();
            assert_eq!(headers["content-type"], "application/grpc");
            assert_eq!(headers["grpc-status"], code);
            assert_eq!(headers["ferrotunnel-error"], Wording::of(&refusal).kind);
            let message = headers["grpc-message"].to_str().unwrap();
            assert!(message.starts_with(Wording::of(&refusal).title), "{message}");
            if code == "12" {
                assert!(message.contains("\"%C3%A4%25.example\""), "{message}");
            }
        }
    }

    #[test]
    fn who_is_to_come_again_is_told_when_and_who_is_asked_is_told_how() {
        for seconds in [1, 1_200] {
            for refusal in [Refusal::TooManyGuesses(seconds), Refusal::TooManyRequests(seconds)] {
                let response = answer(&refusal, Form::Text);
                assert_eq!(response.status(), 429);
                assert_eq!(response.headers()["retry-after"], seconds.to_string());
            }
        }
        let challenge = |basic, bearer| {
            let challenge = Challenge { realm: "app".into(), basic, bearer };
            let response = answer(&Refusal::Unauthorized(challenge), Form::Html);
            assert_eq!(response.status(), 401);
            let all = response.headers().get_all("www-authenticate").iter();
            all.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (basic, bearer) = ("Basic realm=\"app\", charset=\"UTF-8\"", "Bearer realm=\"app\"");
        assert_eq!(challenge(true, false), [basic]);
        assert_eq!(challenge(false, true), [bearer]);
        assert_eq!(challenge(true, true), [basic, bearer]);
    }

    #[test]
    fn connect_is_never_answered_with_200() {
        assert_eq!(answer(&Refusal::Connect, Form::Grpc).status(), 405);
    }

    #[test]
    fn the_form_follows_the_request() {
        let wanted = |name: HeaderName, value: &'static str| {
            Form::wanted_by(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
        };
        assert_eq!(wanted(CONTENT_TYPE, "application/grpc"), Form::Grpc);
        assert_eq!(wanted(CONTENT_TYPE, "application/grpc+proto"), Form::Grpc);
        assert_ne!(wanted(CONTENT_TYPE, "application/grpc-web"), Form::Grpc);
        assert_eq!(wanted(CONTENT_TYPE, "application/json"), Form::Text);
        for (accept, form) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Html),
            ("*/*", Form::Text),
            ("", Form::Text),
            ("image/avif,image/webp,*/*;q=0.8", Form::Text),
            ("application/json", Form::Json),
            ("application/json, text/plain, */*", Form::Json),
            ("application/problem+json", Form::Json),
            ("text/html;q=0.5, application/json", Form::Json),
            ("application/json;q=0.5, text/html", Form::Html),
            ("text/html;q=0, application/json;q=0.1", Form::Json),
            ("application/json;q=many", Form::Json),
            ("text/html;q=NaN", Form::Text),
        ] {
            assert_eq!(wanted(ACCEPT, accept), form, "{accept}");
        }
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        let seconds = |refusal| {
            let response = answer(&refusal, Form::Text);
            assert_eq!(response.status(), 503, "{refusal:?}");
            response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(seconds(Refusal::OverLimit), 1);
        assert_eq!(seconds(Refusal::Full), 1);
        assert_eq!(seconds(Refusal::TunnelClosed), 1);
        assert_eq!(seconds(Refusal::Draining), 5);
        assert_eq!(seconds(Refusal::Paused), 30);
        for refusal in ALL.map(|refusal| answer(&refusal, Form::Html)) {
            let unavailable = refusal.status() == 503;
            assert!(!unavailable || refusal.headers().contains_key("retry-after"));
        }
    }

    #[tokio::test]
    async fn browsers_get_a_page_and_programs_get_text() {
        let mut headers = HeaderMap::new();
        assert_eq!(Form::wanted_by(&headers), Form::Text);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml,*/*"));
        assert_eq!(Form::wanted_by(&headers), Form::Html);
        for refusal in ALL {
            let page = body_of(answer(&refusal, Form::Html)).await;
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
            let problem = body_of(answer(&refusal, Form::Json)).await;
            assert!(problem.starts_with('{') && problem.ends_with("\"the-id\"}\n"), "{problem}");
            let text = body_of(answer(&refusal, Form::Text)).await;
            assert!(!text.contains('<') && text.ends_with(".\n"), "{text}");
        }
    }
}
