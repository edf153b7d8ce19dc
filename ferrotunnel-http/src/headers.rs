//! Headers that concern one hop only and must not pass a proxy (RFC 9110, section 7.6.1).

use crate::request_id::X_REQUEST_ID;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRANSFER_ENCODING, UPGRADE,
    },
};

/// Takes out what concerns the last hop only: `Connection` and whatever it lists, and the headers
/// that belong to it even when it does not list them. `TE: trailers` stays, in that one form:
/// gRPC services insist on it.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One look at the names that are there costs less than asking for each that could be.
    let present = OneHop::of(headers);
    if present.is_empty() {
        return;
    }
    // The length of a chunked body is what its chunks say, whatever else does (RFC 9112, section 6.3):
    // told on, it would cut the body, and that would look whole.
    if present.has(&TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    if present.has(&CONNECTION) {
        for name in listed_by_connection(headers) {
            headers.remove(name);
        }
    }
    let wants_trailers = present.has(&TE) && has_token(headers, &TE, "trailers");
    for name in present.names() {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a header must not pass, whether `Connection` lists it or not.
pub(crate) fn concerns_one_hop(name: &HeaderName) -> bool {
    OneHop::bit(name) != 0
}

/// Which of [`ONE_HOP`] are there: bit by bit, in its order.
struct OneHop(u16);

impl OneHop {
    fn of(headers: &HeaderMap) -> Self {
        let bits = headers.keys().map(Self::bit).fold(0, |all, bit| all | bit);
        Self(bits)
    }

    /// The bit of a name, or none.
    fn bit(name: &HeaderName) -> u16 {
        // Most names are told from all of these by their length, and the others from all but two.
        let range = match name.as_str().len() {
            2 => 0..1,
            7 => 1..2,
            10 => 2..4,
            14 => 4..5,
            16 => 5..6,
            17 => 6..8,
            18 => 8..9,
            19 => 9..10,
            _ => return 0,
        };
        let first = range.start;
        let found = ONE_HOP[range].iter().position(|one| one == name);
        found.map_or(0, |index| 1 << (first + index))
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    fn names(&self) -> impl Iterator<Item = &'static HeaderName> {
        let present = self.0;
        ONE_HOP
            .iter()
            .enumerate()
            .filter(move |(index, _)| present & 1 << index != 0)
            .map(|(_, name)| name)
    }
}

/// Whether a header that is a comma-separated list contains the token, in any case. Parameters
/// after a semicolon are not looked at.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| {
        let bare = t.split_once(';').map_or(t, |(bare, _)| bare.trim_end());
        bare.eq_ignore_ascii_case(token)
    })
}

/// HTTP/2 lets a visitor send its cookies in crumbs; HTTP/1.1 knows one `Cookie` header
/// (RFC 9113, section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Header values put together from header values are one again.
    if let Ok(cookie) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(COOKIE, cookie);
    }
}

fn listed_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &CONNECTION)
        // The usual two are no headers that could be there.
        .filter(|t| !t.eq_ignore_ascii_case("keep-alive") && !t.eq_ignore_ascii_case("close"))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        // Listing these would make the message say something else, or nothing (RFC 9110, 7.6.1:
        // "a sender MUST NOT send a connection option corresponding to .. all recipients").
        // The id of a request joins what is said of it in several places.
        .filter(|name| ![HOST, CONTENT_LENGTH, TE, X_REQUEST_ID].contains(name))
        .collect()
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// Whether two names of headers are one to an application: CGI and WSGI show `-` and `_` alike, and case does not
/// count.
pub(crate) fn look_alike(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| plain(*a) == plain(*b))
}

/// Headers of one hop, by the lengths of their names. Two only look like such: CGI and what came after it show `-` and `_`
/// alike to the application. Over HTTP/1.1 a message that has them is refused.
static ONE_HOP: [HeaderName; 10] = [
    TE,
    UPGRADE,
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("content_length"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    HeaderName::from_static("transfer_encoding"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn stripped(pairs: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut headers = map(pairs);
        strip_hop_by_hop(&mut headers);
        let text = |v: &HeaderValue| v.to_str().unwrap().to_owned();
        headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    fn nothing() -> Vec<(String, String)> {
        Vec::new()
    }

    #[test]
    fn the_id_stays_and_what_looks_like_a_length_goes() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("x-request-id, x-other"));
        for name in ["x-request-id", "x-other", "content_length", "transfer_encoding"] {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-request-id"]);
    }

    #[test]
    fn each_is_found_where_its_length_says() {
        for (index, name) in ONE_HOP.iter().enumerate() {
            assert_eq!(OneHop::bit(name), 1 << index, "{name}");
        }
        assert_eq!(OneHop::bit(&HOST), 0);
        assert_eq!(OneHop::bit(&HeaderName::from_static("user-agent")), 0);
    }

    #[test]
    fn what_belongs_to_one_hop_does_not_pass() {
        let one_hop = [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-authenticate", "Basic"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(stripped(&one_hop), nothing());
    }

    #[test]
    fn what_connection_lists_does_not_pass_either() {
        let listed = [
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-two", "again"),
        ];
        assert_eq!(stripped(&listed), nothing());
    }

    #[test]
    fn connection_cannot_list_what_frames_or_routes_the_message() {
        let kept = [("host", "app"), ("content-length", "3")];
        let listed = [("connection", "host, content-length"), kept[0], kept[1]];
        assert_eq!(stripped(&listed).len(), 2);
    }

    #[test]
    fn everything_else_passes() {
        let end_to_end = [("accept", "*/*"), ("trailer", "grpc-status"), ("via", "1.1 a")];
        assert_eq!(stripped(&end_to_end).len(), 3);
    }

    #[test]
    fn te_trailers_stays_alone() {
        let kept = vec![("te".to_owned(), "trailers".to_owned())];
        assert_eq!(stripped(&[("te", "trailers")]), kept);
        assert_eq!(stripped(&[("te", "gzip;q=0.5, Trailers"), ("connection", "TE")]), kept);
    }

    #[test]
    fn tokens_are_found_in_any_case_and_place() {
        let headers = map(&[("connection", "keep-alive"), ("connection", "foo , UPGRADE")]);
        assert!(has_token(&headers, &CONNECTION, "upgrade"));
        assert!(!has_token(&headers, &CONNECTION, "up"));
    }

    #[test]
    fn cookie_crumbs_become_one_cookie() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        let cookies: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }
}
