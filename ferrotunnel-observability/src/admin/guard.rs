//! Who may ask. A page in somebody's browser can reach a port on their own machine, so being on loopback is not enough: the
//! name that was asked for must be one that no stranger can point here (DNS rebinding), and no other page may ask. What
//! changes something must come in a form besides that no page can make another's browser send.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ferrotunnel_common::{Token, TokenError};
use ferrotunnel_plugin::SecretHash;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    ORIGIN, REFERRER_POLICY, TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Room;
use super::shapes::Problem;

/// Why there is no admin interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Others could reach it, and nobody would ask who they are.
    #[error(
        "{0} is reached from other machines, and there is no token that they would have to show; bind to 127.0.0.1, or set \
         one (admin_token, --admin-token-file)"
    )]
    NoToken(SocketAddr),
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// What should be listened on is no listener.
    #[error("no listener for the admin interface: {0}")]
    Listener(io::Error),
}

/// The secret of those who may ask. Only its hash is kept.
#[derive(Clone)]
pub struct AdminToken(SecretHash);

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

impl AdminToken {
    /// Takes what a token between server and client could be, too.
    ///
    /// # Errors
    /// It is empty, too long, or has characters that no header can carry.
    pub fn new(secret: &str) -> Result<Self, AdminError> {
        Token::new(secret)?;
        Ok(Self(SecretHash::of(secret.trim().as_bytes())))
    }

    pub(super) fn is(&self, shown: &[u8]) -> bool {
        self.0.is_of(shown)
    }
}

/// Whether the interface may listen there.
///
/// # Errors
/// Others could reach it, and there is no token.
pub fn check_bind(addr: SocketAddr, token: Option<&AdminToken>) -> Result<(), AdminError> {
    match token {
        None if !addr.ip().to_canonical().is_loopback() => Err(AdminError::NoToken(addr)),
        _ => Ok(()),
    }
}

/// Lets a request through, or says why not. Nothing of an answer is for other pages or for caches.
pub(super) async fn guard(room: Arc<Room>, request: Request, next: Next) -> Response {
    let checked = check(&room, &request);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    };
    for (name, value) in MANNERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// It was asked for under a name that is not ours.
    Host,
    /// Another page asks.
    Origin,
    /// The token is missing, or wrong.
    Token,
    /// A page of somebody else's could have sent it.
    Form,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let problem = |why: &str| Problem::new(StatusCode::FORBIDDEN, why).into_response();
        match self {
            Self::Host => problem("ask by the address that this listens on, or localhost"),
            Self::Origin => problem("pages of other origins may not ask"),
            Self::Form => problem(
                "send JSON (content-type: application/json), or no body and the header x-ferrotunnel-action: 1",
            ),
            Self::Token => {
                let challenge = [(WWW_AUTHENTICATE, "Bearer realm=\"ferrotunnel admin\"")];
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "show the admin token");
                (challenge, problem).into_response()
            }
        }
    }
}

fn check(room: &Room, request: &Request) -> Result<(), Denied> {
    let headers = request.headers();
    let host = only(headers, &HOST).ok_or(Denied::Host)?;
    if !is_ours(host, room.bound.ip()) {
        return Err(Denied::Host);
    }
    if headers.contains_key(ORIGIN) {
        let origin = only(headers, &ORIGIN).unwrap_or_default();
        let authority = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        if authority != Some(host) {
            return Err(Denied::Origin);
        }
    }
    if let Some(token) = &room.token
        && !is_open(request.uri().path())
    {
        let shown = only(headers, &AUTHORIZATION).and_then(bearer);
        let is_shown = match shown {
            Some(shown) => token.is(shown.as_bytes()),
            // Who shows something else is not who once logged in.
            None => {
                !headers.contains_key(AUTHORIZATION) && room.logins.knows(headers, Instant::now())
            }
        };
        if !is_shown {
            return Err(Denied::Token);
        }
    }
    if request.method().is_safe() || is_deliberate(headers) { Ok(()) } else { Err(Denied::Form) }
}

/// Whether that is shown to everybody: the page, which holds nothing, and the place where the token is shown.
fn is_open(path: &str) -> bool {
    match path {
        "/healthz" | "/readyz" | "/metrics" => false,
        "/api/v1/login" => true,
        path => path != "/api" && !path.starts_with("/api/"),
    }
}

/// Whether no form of a page could have sent this: those know three types of content, and no headers of their own.
fn is_deliberate(headers: &HeaderMap) -> bool {
    let kind = only(headers, &CONTENT_TYPE).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return true;
    }
    let is_empty = !headers.contains_key(TRANSFER_ENCODING)
        && only(headers, &CONTENT_LENGTH).is_none_or(|length| length == "0");
    is_empty && only(headers, &ACTION) == Some("1")
}

/// Shows that somebody means it.
const ACTION: HeaderName = HeaderName::from_static("x-ferrotunnel-action");

fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Whether a host is one that a stranger's DNS cannot make of it: localhost, or the address itself. On all addresses at
/// once any address will do, for an address is no name.
fn is_ours(host: &str, bound: IpAddr) -> bool {
    // The port may be another one: whoever came through a tunnel of SSH has typed that one's.
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let Ok(ip) = bare.parse::<IpAddr>() else { return false };
    let (ip, bound) = (ip.to_canonical(), bound.to_canonical());
    ip.is_loopback() || bound.is_unspecified() || ip == bound
}

const MANNERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    // What the dashboard's page needs, and nothing from elsewhere.
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
         font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_stranger_can_point_here_are_ours() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        for host in ["localhost", "LOCALHOST:4041", "127.0.0.1:80", "[::1]:9", "127.8.8.8"] {
            assert!(is_ours(host, loopback), "{host}");
        }
        let strange = [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil@127.0.0.1",
            "192.0.2.1",
            "",
            "a b",
            "[::2]",
        ];
        for host in strange {
            assert!(!is_ours(host, loopback), "{host}");
        }
        let elsewhere: IpAddr = [192, 0, 2, 1].into();
        assert!(is_ours("192.0.2.1:4041", elsewhere));
        assert!(!is_ours("192.0.2.2:4041", elsewhere) && !is_ours("evil.example", elsewhere));
        let everywhere: IpAddr = [0, 0, 0, 0].into();
        assert!(is_ours("192.0.2.2", everywhere) && !is_ours("evil.example", everywhere));
    }

    #[test]
    fn forms_of_other_pages_change_nothing() {
        let is_deliberate = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            is_deliberate(&map)
        };
        assert!(is_deliberate(&[("content-type", "application/json")]));
        assert!(is_deliberate(&[("content-type", "Application/JSON; charset=utf-8")]));
        assert!(is_deliberate(&[("x-ferrotunnel-action", "1")]));
        assert!(is_deliberate(&[("x-ferrotunnel-action", "1"), ("content-length", "0")]));
        for headers in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "text/plain; application/json")],
            &[("content-type", "application/json"), ("content-type", "text/plain")],
            &[("x-ferrotunnel-action", "0")],
            &[("x-ferrotunnel-action", "1"), ("content-length", "1")],
            &[("x-ferrotunnel-action", "1"), ("transfer-encoding", "chunked")],
            &[("content-type", "multipart/form-data; boundary=x")],
        ] {
            assert!(!is_deliberate(headers), "{headers:?}");
        }
    }

    #[test]
    fn beyond_loopback_there_must_be_a_token() {
        let token = AdminToken::new("a-long-enough-secret").unwrap();
        for addr in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            check_bind(addr.parse().unwrap(), None).unwrap();
        }
        for addr in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let addr = addr.parse().unwrap();
            let words = check_bind(addr, None).unwrap_err().to_string();
            assert!(words.contains("--admin-token-file"), "{words}");
            check_bind(addr, Some(&token)).unwrap();
        }
        assert!(!format!("{token:?}").contains("secret"));
    }
}
