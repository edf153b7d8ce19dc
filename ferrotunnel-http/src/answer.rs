//! Answers that are ours and not the local service's. They are told apart by the
//! `FerroTunnel-Error` header, and each says what to do.

use std::{error::Error, fmt::Write as _, io};

use bytes::Bytes;
use ferrotunnel_core::{OpenError, ResetCode, StreamError};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER},
};

use crate::{body::Body, host::BadHost};

/// Why a visitor gets an answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request does not say, or not clearly, whom it is for.
    BadHost(BadHost),
    /// CONNECT: this is no forward proxy.
    Connect,
    /// No tunnel has the host that was asked for.
    NoSuchTunnel(Box<str>),
    /// The local service refused the connection.
    LocalUnreachable,
    /// The local service broke off, or what it said is no HTTP.
    BadAnswer,
    /// The session broke while the local service was working.
    SessionLost,
    /// The session or its client has all the streams it may have.
    OverLimit,
    /// The session finishes what is open and takes nothing new.
    Draining,
    /// The tunnel closed between routing and opening; its client is likely to be back soon.
    TunnelClosed,
    /// The local service took too long.
    Timeout,
}

/// What a visitor can make use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Text,
    /// A status of gRPC's own: its callers make nothing of HTTP's.
    Grpc,
}

struct Wording {
    status: StatusCode,
    /// Value of `FerroTunnel-Error`; part of the public interface.
    kind: &'static str,
    title: &'static str,
    advice: &'static str,
}

impl Refusal {
    /// Reads the cause out of an error of hyper's client.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(open) = error.downcast_ref::<OpenError>() {
                return Self::from(*open);
            }
            let of_stream = error.downcast_ref::<io::Error>().and_then(StreamError::from_io);
            if let Some(stream) = of_stream {
                return Self::from(stream);
            }
            next = error.source();
        }
        Self::BadAnswer
    }

    pub(crate) fn into_response(self, form: Form) -> Response<Body> {
        let wording = self.wording();
        let detail = match &self {
            Self::BadHost(bad) => Some(bad.to_string()),
            Self::NoSuchTunnel(host) => Some(format!("No tunnel is registered for \"{host}\".")),
            _ => None,
        };
        let (text, content_type) = match (form, self.grpc_status()) {
            (Form::Grpc, Some(status)) => return wording.grpc(status, detail.as_deref()),
            (Form::Html, _) => (wording.page(detail.as_deref()), "text/html; charset=utf-8"),
            _ => (wording.text(detail.as_deref()), "text/plain; charset=utf-8"),
        };
        let mut response = Response::new(Body::from(Bytes::from(text)));
        *response.status_mut() = wording.status;
        let headers = response.headers_mut();
        headers.insert(FERROTUNNEL_ERROR, HeaderValue::from_static(wording.kind));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if form == Form::Html {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        }
        if self == Self::Connect {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }

    fn retry_after(&self) -> Option<&'static str> {
        match self {
            // Room is made as soon as any other visitor is done, and a client that lost its
            // session is back in about a second.
            Self::OverLimit | Self::TunnelClosed | Self::SessionLost => Some("1"),
            Self::Draining => Some("5"),
            _ => None,
        }
    }

    /// The code that gRPC has for it, as digits; `None` if there must be no answer with 200.
    fn grpc_status(&self) -> Option<&'static str> {
        match self {
            // 200 would tell that the connection is open.
            Self::Connect => None,
            Self::Timeout => Some("4"),
            Self::OverLimit => Some("8"),
            Self::NoSuchTunnel(_) => Some("12"),
            // What callers make of 400 by themselves: internal.
            Self::BadHost(_) => Some("13"),
            // Unavailable: callers may try again.
            Self::LocalUnreachable
            | Self::BadAnswer
            | Self::SessionLost
            | Self::Draining
            | Self::TunnelClosed => Some("14"),
        }
    }

    fn wording(&self) -> Wording {
        let (status, kind, title, advice) = match self {
            Self::BadHost(_) => (
                StatusCode::BAD_REQUEST,
                "bad-host",
                "Bad request",
                "Send exactly one Host header that names the tunnel you want.",
            ),
            Self::Connect => (
                StatusCode::METHOD_NOT_ALLOWED,
                "connect-refused",
                "Not a forward proxy",
                "This server publishes tunnels; it opens no connections to other places. Remove \
                 it from the proxy settings of your client.",
            ),
            Self::NoSuchTunnel(_) => (
                StatusCode::NOT_FOUND,
                "no-such-tunnel",
                "No such tunnel",
                "Check the address. If the tunnel is yours, check that its client is running and \
                 connected.",
            ),
            Self::LocalUnreachable => (
                StatusCode::BAD_GATEWAY,
                "local-unreachable",
                "Local service unreachable",
                "The tunnel is up, but the service behind it refuses connections. If it is \
                 yours, start it, or correct the local address given to the tunnel's client.",
            ),
            Self::BadAnswer => (
                StatusCode::BAD_GATEWAY,
                "bad-answer",
                "Bad answer from the local service",
                "The service behind this tunnel broke off before it had answered, or does not \
                 speak the expected version of HTTP. If it is yours, look at its log.",
            ),
            Self::SessionLost => (
                StatusCode::BAD_GATEWAY,
                "session-lost",
                "The tunnel was interrupted",
                "The connection to the tunnel's client broke while your request was being worked \
                 on. The client reconnects by itself; try again, if asking twice does no harm.",
            ),
            Self::OverLimit => (
                StatusCode::SERVICE_UNAVAILABLE,
                "over-limit",
                "Too many visitors",
                "This tunnel has as many open connections as it may have. Try again in a moment.",
            ),
            Self::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "draining",
                "The tunnel is going away",
                "It finishes what is open and takes nothing new, usually for a restart. Try \
                 again in a moment.",
            ),
            Self::TunnelClosed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "tunnel-closed",
                "The tunnel has just closed",
                "Its client is likely to reconnect at once. Try again in a moment.",
            ),
            Self::Timeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                "The local service is too slow",
                "The service behind this tunnel did not answer in time. Try again later.",
            ),
        };
        Wording { status, kind, title, advice }
    }
}

impl Wording {
    fn text(&self, detail: Option<&str>) -> String {
        let Self { title, advice, .. } = self;
        match detail {
            Some(detail) => format!("{title}: {detail}\n{advice}\n"),
            None => format!("{title}\n{advice}\n"),
        }
    }

    /// An answer that is headers only ("Trailers-Only" in gRPC over HTTP/2).
    fn grpc(&self, status: &'static str, detail: Option<&str>) -> Response<Body> {
        let text = self.text(detail);
        let message = PercentEncoded(text.trim_end()).to_string();
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(FERROTUNNEL_ERROR, HeaderValue::from_static(self.kind));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(status));
        // What was encoded is printable ASCII.
        if let Ok(message) = HeaderValue::try_from(message) {
            headers.insert(GRPC_MESSAGE, message);
        }
        response
    }

    fn page(&self, detail: Option<&str>) -> String {
        let Self { status, kind, title, advice } = self;
        let code = status.as_u16();
        let mut page = String::with_capacity(PAGE_STYLE.len() + 1024);
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{PAGE_STYLE}</style>\n<main>\n<h1>{title}</h1>\n"
        );
        if let Some(detail) = detail {
            let _ = writeln!(page, "<p>{}</p>", Escaped(detail));
        }
        let _ = write!(
            page,
            "<p>{advice}</p>\n<footer>{code} {kind} &middot; FerroTunnel</footer>\n</main>\n</html>\n"
        );
        page
    }
}

impl Form {
    pub(crate) fn wanted_by(headers: &HeaderMap) -> Self {
        if is_grpc(headers) {
            return Self::Grpc;
        }
        let accepts_html = headers
            .get_all(ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.contains("text/html"));
        if accepts_html { Self::Html } else { Self::Text }
    }
}

/// Whether a request is a gRPC call, with whatever encoding of its messages.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    // `application/grpc-web` is something else: plain HTTP to the local service and the browser.
    content_type
        .and_then(|value| value.as_bytes().strip_prefix(GRPC.as_bytes()))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Text as `grpc-message` has it: bytes beyond printable ASCII, and `%`, as `%XX`.
struct PercentEncoded<'a>(&'a str);

impl std::fmt::Display for PercentEncoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b' '..=b'~' if byte != b'%' => f.write_char(char::from(byte)),
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// Text of a visitor inside a page.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

impl From<BadHost> for Refusal {
    fn from(bad: BadHost) -> Self {
        Self::BadHost(bad)
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::LimitReached => Self::OverLimit,
            OpenError::Draining => Self::Draining,
            _ => Self::TunnelClosed,
        }
    }
}

impl From<&StreamError> for Refusal {
    fn from(error: &StreamError) -> Self {
        match error {
            StreamError::Reset { code, .. } => match code {
                ResetCode::LocalUnreachable => Self::LocalUnreachable,
                ResetCode::Timeout => Self::Timeout,
                ResetCode::LimitExceeded => Self::OverLimit,
                ResetCode::UnknownTunnel => Self::TunnelClosed,
                _ => Self::BadAnswer,
            },
            StreamError::SessionClosed => Self::SessionLost,
            _ => Self::BadAnswer,
        }
    }
}

const FERROTUNNEL_ERROR: HeaderName = HeaderName::from_static("ferrotunnel-error");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The content type of gRPC calls, before a `+` and their encoding.
const GRPC: &str = "application/grpc";

/// 405 has to name what is allowed (RFC 9110, section 15.5.6). What else there may be is for the
/// local service to say.
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

/// The page has a style of its own and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const PAGE_STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;\
font:1rem/1.6 system-ui,sans-serif}\
main{max-width:34rem;padding:2rem}\
h1{font-size:1.5rem;margin:0 0 1rem}\
p{margin:0 0 1rem;overflow-wrap:anywhere}\
footer{opacity:.6;font-size:.85rem}";

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;

    const ALL: [Refusal; 9] = [
        Refusal::BadHost(BadHost::Missing),
        Refusal::Connect,
        Refusal::LocalUnreachable,
        Refusal::BadAnswer,
        Refusal::SessionLost,
        Refusal::OverLimit,
        Refusal::Draining,
        Refusal::TunnelClosed,
        Refusal::Timeout,
    ];

    async fn body_of(response: Response<Body>) -> String {
        let mut body = response.into_body();
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        let bytes = frame.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn every_answer_of_ours_says_so_in_a_header() {
        for refusal in ALL {
            let response = refusal.clone().into_response(Form::Text);
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
        ];
        for (refusal, code) in cases {
            let response = refusal.clone().into_response(Form::Grpc);
            assert_eq!(response.status(), 200);
            assert!(response.body().is_end_stream());
            let headers = response.headers();
            assert_eq!(headers["content-type"], "application/grpc");
            assert_eq!(headers["grpc-status"], code);
            assert_eq!(headers["ferrotunnel-error"], refusal.wording().kind);
            let message = headers["grpc-message"].to_str().unwrap();
            assert!(message.starts_with(refusal.wording().title), "{message}");
            if code == "12" {
                assert!(message.contains("\"%C3%A4%25.example\""), "{message}");
            }
        }
    }

    #[test]
    fn connect_is_never_answered_with_200() {
        assert_eq!(Refusal::Connect.into_response(Form::Grpc).status(), 405);
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
        assert_eq!(wanted(ACCEPT, "text/html,*/*"), Form::Html);
    }

    #[test]
    fn an_over_limit_answer_says_when_to_come_back() {
        let response = Refusal::OverLimit.into_response(Form::Text);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
    }

    #[tokio::test]
    async fn browsers_get_a_page_and_programs_get_text() {
        let mut headers = HeaderMap::new();
        assert_eq!(Form::wanted_by(&headers), Form::Text);
        headers.insert(ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml,*/*"));
        assert_eq!(Form::wanted_by(&headers), Form::Html);
        for refusal in ALL {
            let page = body_of(refusal.clone().into_response(Form::Html)).await;
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
            let text = body_of(refusal.into_response(Form::Text)).await;
            assert!(!text.contains('<') && text.ends_with(".\n"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_host_name_cannot_bring_markup_into_the_page() {
        let refusal = Refusal::NoSuchTunnel("<script>alert('x')</script>&".into());
        let page = body_of(refusal.into_response(Form::Html)).await;
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;"), "{page}");
    }

    #[test]
    fn the_cause_is_found_however_deep_it_lies() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);

        let reset = |code| StreamError::Reset { code, reason: String::new() };
        let cases = [
            (reset(ResetCode::LocalUnreachable), Refusal::LocalUnreachable),
            (reset(ResetCode::Timeout), Refusal::Timeout),
            (reset(ResetCode::LimitExceeded), Refusal::OverLimit),
            (reset(ResetCode::LocalFailed), Refusal::BadAnswer),
            (StreamError::SessionClosed, Refusal::SessionLost),
        ];
        for (error, expected) in cases {
            assert_eq!(Refusal::of(&Outer(io::Error::other(error))), expected);
        }
        assert_eq!(Refusal::of(&Outer(io::ErrorKind::BrokenPipe.into())), Refusal::BadAnswer);
    }
}
