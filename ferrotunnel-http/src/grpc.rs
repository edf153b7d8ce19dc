//! Calls of gRPC: how they are told, and how an answer of ours reaches their callers, who make
//! nothing of HTTP's own status.

use std::fmt::{self, Write as _};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::{refusal::Refusal, wording::Wording};

/// Whether a request is a gRPC call, with whatever encoding of its messages.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    // `application/grpc-web` is something else: plain HTTP to the local service and the browser.
    content_type
        .and_then(|value| value.as_bytes().strip_prefix(GRPC.as_bytes()))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// The code that gRPC has for it, as digits; `None` if there must be no answer with 200.
pub(crate) fn status(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        // 200 would tell that the connection is open.
        Refusal::Connect | Refusal::Protocol => None,
        // Whoever sees the status opens another connection.
        Refusal::Misdirected => None,
        Refusal::Timeout => Some("4"),
        Refusal::OverLimit
        | Refusal::Full
        | Refusal::OneOfTooMany
        | Refusal::TooManyGuesses(_)
        | Refusal::TooManyRequests(_) => Some("8"),
        Refusal::Unauthorized(_) => Some("16"),
        Refusal::AddressNotAllowed => Some("7"),
        Refusal::NoSuchTunnel(_) => Some("12"),
        // What callers make of 400 by themselves: internal.
        Refusal::BadHost(_)
        | Refusal::Unclear(_)
        | Refusal::UnclearPath
        | Refusal::BadBody
        | Refusal::PluginFailed => Some("13"),
        Refusal::Rejected(rejected) => Some(of_http(rejected.status)),
        // Unavailable: callers may try again.
        Refusal::LocalUnreachable
        | Refusal::BadAnswer
        | Refusal::SessionLost
        | Refusal::Draining
        | Refusal::Paused
        | Refusal::ChecksBusy
        | Refusal::TunnelClosed => Some("14"),
    }
}

/// The code that comes closest to a status of HTTP.
fn of_http(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::FORBIDDEN => "7",
        StatusCode::NOT_FOUND => "12",
        StatusCode::TOO_MANY_REQUESTS => "8",
        StatusCode::GATEWAY_TIMEOUT => "4",
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
        _ => "13",
    }
}

/// The headers of an answer that is headers only ("Trailers-Only" in gRPC over HTTP/2).
pub(crate) fn set_status(headers: &mut HeaderMap, status: &'static str, wording: &Wording) {
    let message = PercentEncoded(wording.text().trim_end()).to_string();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(status));
    // What was encoded is printable ASCII.
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// Text as `grpc-message` has it: bytes beyond printable ASCII, and `%`, as `%XX`.
struct PercentEncoded<'a>(&'a str);

impl fmt::Display for PercentEncoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b' '..=b'~' if byte != b'%' => f.write_char(char::from(byte)),
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The content type of gRPC calls, before a `+` and their encoding.
const GRPC: &str = "application/grpc";
