//! One line of an access log.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ferrotunnel_common::SessionId;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use serde_json::json;
use time::OffsetDateTime;

use super::access_log::LogFormat;
use crate::{AnsweredBy, EarlyAnswer, Outcome, RequestContext};

/// What is kept of a request until it is over: plugins behind may change it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    id: Option<HeaderValue>,
}

impl Asked {
    pub(super) fn of(request: &Request<()>) -> Self {
        let header = |name: HeaderName| request.headers().get(name).cloned();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: header(header::HOST),
            referer: header(header::REFERER),
            user_agent: header(header::USER_AGENT),
            id: header(HeaderName::from_static("x-request-id")),
        }
    }

    fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// HTTP/2 has it in its URI.
    fn host(&self) -> Option<String> {
        let authority = self.uri.authority().map(|authority| authority.to_string());
        authority.or_else(|| self.host.as_ref().map(text))
    }
}

/// A header as text; what is no UTF-8 in it is replaced.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The line, with its end.
pub(super) fn line(
    format: LogFormat,
    asked: &Asked,
    context: &RequestContext,
    outcome: &Outcome,
) -> String {
    let tunnel = context.tunnel();
    let first = format!("{} {} {:?}", asked.method, asked.path(), asked.version);
    Entry {
        at: context.began_at(),
        visitor: context.visitor(),
        tunnel: tunnel.map(|tunnel| tunnel.name.as_str()),
        session: context.session(),
        principal: context.principal(),
        first_line: first.as_bytes(),
        method: Some(asked.method.as_str()),
        host: asked.host(),
        path: Some(asked.path()),
        version: Some(&format!("{:?}", asked.version)),
        status: outcome.status.map(|status| status.as_u16()),
        answered_by: context.answered_by().map(|by| match by {
            AnsweredBy::LocalService => "local-service".to_owned(),
            AnsweredBy::Server => "server".to_owned(),
            AnsweredBy::Plugin(name) => name,
        }),
        request_bytes: outcome.request_bytes,
        response_bytes: outcome.response_bytes,
        duration: outcome.duration,
        is_complete: outcome.is_complete,
        referer: asked.referer.as_ref(),
        user_agent: asked.user_agent.as_ref(),
        request_id: asked.id.as_ref(),
        early: None,
    }
    .line(format)
}

/// The same for what was answered early. What is said of its first line is what can be made out of it.
pub(super) fn early_line(format: LogFormat, early: &EarlyAnswer) -> String {
    let header = |name: HeaderName| early.headers.get(name);
    let parts = std::str::from_utf8(&early.request_line).unwrap_or_default();
    let parts: Vec<_> = parts.split(' ').collect();
    let (method, path, version) = match parts[..] {
        [method, path, version] => (Some(method), Some(path), Some(version)),
        _ => (None, None, None),
    };
    Entry {
        at: early.at,
        visitor: early.visitor,
        tunnel: None,
        session: None,
        principal: None,
        first_line: &early.request_line,
        method,
        host: header(header::HOST).map(text),
        path,
        version,
        status: Some(early.status.as_u16()),
        answered_by: Some("server".to_owned()),
        request_bytes: 0,
        response_bytes: early.response_bytes,
        duration: Duration::ZERO,
        is_complete: true,
        referer: header(header::REFERER),
        user_agent: header(header::USER_AGENT),
        request_id: Some(&early.request_id),
        early: Some(early),
    }
    .line(format)
}

/// What there is to say of a request, whoever answered it.
struct Entry<'a> {
    at: SystemTime,
    visitor: SocketAddr,
    tunnel: Option<&'a str>,
    session: Option<SessionId>,
    principal: Option<&'a str>,
    /// Empty if nothing of it was read.
    first_line: &'a [u8],
    method: Option<&'a str>,
    host: Option<String>,
    path: Option<&'a str>,
    version: Option<&'a str>,
    status: Option<u16>,
    answered_by: Option<String>,
    request_bytes: u64,
    response_bytes: u64,
    duration: Duration,
    is_complete: bool,
    referer: Option<&'a HeaderValue>,
    user_agent: Option<&'a HeaderValue>,
    request_id: Option<&'a HeaderValue>,
    early: Option<&'a EarlyAnswer>,
}

impl Entry<'_> {
    fn line(&self, format: LogFormat) -> String {
        let mut line = match format {
            LogFormat::Common => self.common(),
            LogFormat::Combined => {
                let (referer, agent) = (Quoted(self.referer), Quoted(self.user_agent));
                format!("{} {referer} {agent}", self.common())
            }
            LogFormat::Json => self.json(),
        };
        line.push('\n');
        line
    }

    fn common(&self) -> String {
        let (visitor, time) = (self.visitor.ip(), Clf(self.at));
        let status = self.status.unwrap_or(LEFT);
        let bytes = match self.response_bytes {
            0 => "-".to_owned(),
            bytes => bytes.to_string(),
        };
        let first = match self.first_line {
            [] => "-".to_owned(),
            line => Escaped(line).to_string(),
        };
        format!("{visitor} - - [{time}] \"{first}\" {status} {bytes}")
    }

    fn json(&self) -> String {
        let mut line = json!({
            "event": "request",
            "time": Rfc3339(self.at).to_string(),
            "visitor": self.visitor,
            "tunnel": self.tunnel,
            "session": self.session.map(|session| session.to_string()),
            "principal": self.principal,
            "method": self.method,
            "host": self.host,
            "path": self.path,
            "version": self.version,
            "status": self.status,
            "answered_by": self.answered_by,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "duration_ms": u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            "complete": self.is_complete,
            "referer": self.referer.map(text),
            "user_agent": self.user_agent.map(text),
            "request_id": self.request_id.map(text),
        });
        if let Some(early) = self.early {
            line["error"] = early.error.clone().into();
            // It may be cut, or no text at all.
            let first = String::from_utf8_lossy(self.first_line);
            line["request_line"] = (!first.is_empty()).then_some(first).into();
        }
        line.to_string()
    }
}

/// For visitors who left before there was an answer, as other servers have it.
const LEFT: u16 = 499;

/// A value in quotes, or a dash.
struct Quoted<'a>(Option<&'a HeaderValue>);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("\"-\""),
            Some(value) => write!(f, "\"{}\"", Escaped(value.as_bytes())),
        }
    }
}

/// What a visitor wrote, so that it can neither end a field nor reach a terminal: quotes, backslashes and all that is
/// not printable ASCII as `\xHH`.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b' '..=b'~' if !matches!(byte, b'"' | b'\\') => f.write_char(char::from(*byte)),
            _ => write!(f, "\\x{byte:02X}"),
        })
    }
}

/// `10/Oct/2000:13:55:36 +0000`
struct Clf(SystemTime);

impl fmt::Display for Clf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from(self.0);
        let month = time.month().to_string();
        let month = month.get(..3).unwrap_or(&month);
        let (day, year) = (time.day(), time.year());
        let (hour, minute, second) = time.to_hms();
        write!(f, "{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
    }
}

/// `2000-10-10T13:55:36.123Z`
struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from(self.0);
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second, milli) = time.to_hms_milli();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_formats_want() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(971_186_136_042);
        assert_eq!(Clf(time).to_string(), "10/Oct/2000:13:55:36 +0000");
        assert_eq!(Rfc3339(time).to_string(), "2000-10-10T13:55:36.042Z");
    }

    #[test]
    fn what_was_answered_early_has_a_line_as_well() {
        let visitor = "192.0.2.7:1".parse().unwrap();
        let mut early = EarlyAnswer::new(visitor, http::StatusCode::BAD_REQUEST);
        early.at = SystemTime::UNIX_EPOCH;
        let begins = "192.0.2.7 - - [01/Jan/1970:00:00:00 +0000]";
        let unread = early_line(LogFormat::Common, &early);
        assert_eq!(unread, format!("{begins} \"-\" 400 -\n"));
        early.request_line = b"GET /\"\x1b[1m HTTP/1.1".to_vec();
        early.headers.insert(header::USER_AGENT, HeaderValue::from_static("cat"));
        let read = early_line(LogFormat::Combined, &early);
        assert_eq!(read, format!("{begins} \"GET /\\x22\\x1B[1m HTTP/1.1\" 400 - \"-\" \"cat\"\n"));
        early.error = Some("bad-request".to_owned());
        let json = early_line(LogFormat::Json, &early);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["method"], &json["path"]), (&"GET".into(), &"/\"\u{1b}[1m".into()));
        assert_eq!((&json["error"], &json["status"]), (&"bad-request".into(), &400.into()));
        // What was cut, or is no text, is there all the same.
        for (said, shown) in [
            (&b"GET /a-long-way-to-no"[..], "GET /a-long-way-to-no"),
            (b"\x16\x03\x01 /\xff", "\u{16}\u{3}\u{1} /\u{fffd}"),
        ] {
            early.request_line = said.to_vec();
            let json: serde_json::Value =
                serde_json::from_str(&early_line(LogFormat::Json, &early)).unwrap();
            assert_eq!(json["request_line"], shown);
            assert_eq!(json["path"], serde_json::Value::Null);
        }
    }

    #[test]
    fn a_visitor_cannot_forge_a_line() {
        let forged = HeaderValue::from_bytes(b"a\" 200 \\ \xff\t").unwrap();
        let quoted = Quoted(Some(&forged)).to_string();
        assert_eq!(quoted, "\"a\\x22 200 \\x5C \\xFF\\x09\"");
        assert_eq!(Quoted(None).to_string(), "\"-\"");
    }
}
