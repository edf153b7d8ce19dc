//! Tells the local service who the visitor is: `X-Forwarded-*` and `Forwarded` (RFC 7239).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
};

use crate::{host::Asked, visitor::Visitor};

/// Sets what is known of the visitor and takes out what the visitor said about itself: anybody
/// can write these headers, so only ours may reach the local service.
pub(crate) fn set(headers: &mut HeaderMap, visitor: &Visitor, asked: Option<&Asked>) {
    drop_claims(headers);
    // All of it at once, so that it is put together in one allocation.
    let forwarded = match asked {
        None => visitor.forwarded_prefix.clone(),
        Some(asked) => {
            headers.insert(X_FORWARDED_HOST, asked.value().clone());
            // The host has neither quotes nor backslashes in it.
            [&visitor.forwarded_prefix, ";host=\"", asked.text(), "\""].concat()
        }
    };
    headers.insert(X_FORWARDED_FOR, visitor.forwarded_for.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(visitor.scheme()));
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(forwarded)) {
        headers.insert(FORWARDED, value);
    }
}

fn drop_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Whether a header says where a request came from. CGI and WSGI show `-` and `_` alike to the
/// application, so `X_Forwarded_For` is as good a lie as `X-Forwarded-For`.
fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    // Names are lower case in a HeaderMap; nearly all are sorted out by these two compares.
    match name.first() {
        Some(b'x') => {
            let same = |a: &u8, b: &u8| a == b || (*a == b'_' && *b == b'-');
            let starts_with = |what: &[u8]| {
                name.len() >= what.len() && name.iter().zip(what).all(|(a, b)| same(a, b))
            };
            starts_with(b"x-forwarded-") || (name.len() == 9 && starts_with(b"x-real-ip"))
        }
        Some(b'f') => name == b"forwarded",
        _ => false,
    }
}

/// HTTP/1.1 asks for a `Host` header always; this is for visitors that did not say one.
pub(crate) fn set_host(headers: &mut HeaderMap, asked: Option<&Asked>) {
    match asked {
        Some(asked) if asked.in_target() => headers.insert(HOST, asked.value().clone()),
        Some(_) => None,
        None => headers.insert(HOST, HeaderValue::from_static("localhost")),
    };
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visitor::Admission;
    use http::Version;

    fn forwarded(visitor: &str, pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let visitor = Visitor::new(
            visitor.parse().unwrap(),
            "127.0.0.1:80".parse().unwrap(),
            Admission::Inside,
        );
        let asked = Asked::by(&"/".parse().unwrap(), &headers, Version::HTTP_10).unwrap();
        set(&mut headers, &visitor, asked.as_ref());
        headers
    }

    #[test]
    fn the_local_service_learns_who_asked_for_what() {
        let headers = forwarded("192.0.2.7:4711", &[("host", "app.localhost:8080")]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "app.localhost:8080");
        assert_eq!(headers["forwarded"], "for=192.0.2.7;proto=http;host=\"app.localhost:8080\"");
        assert_eq!(headers["host"], "app.localhost:8080");
    }

    #[test]
    fn ipv6_is_quoted_and_bracketed_in_forwarded_only() {
        let headers = forwarded("[2001:db8::1]:4711", &[]);
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=http");
        assert!(!headers.contains_key("x-forwarded-host"));
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        let headers = forwarded("[::ffff:192.0.2.7]:4711", &[]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
    }

    #[test]
    fn spoofed_forwarded_headers_are_replaced() {
        let spoofed = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-server", "bank"),
            ("x-real-ip", "10.0.0.1"),
            ("x-real_ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x-request-id", "kept"),
            ("from", "kept"),
        ];
        let headers = forwarded("192.0.2.7:1", &spoofed);
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let kept = ["x-request-id", "from", "x-forwarded-for", "x-forwarded-proto", "forwarded"];
        assert_eq!(names.len(), kept.len(), "{names:?}");
        assert!(kept.iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
    }
}
