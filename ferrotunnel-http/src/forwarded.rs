//! Tells the local service who the visitor is: `X-Forwarded-*` and `Forwarded` (RFC 7239).

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use ferrotunnel_core::TrustedProxies;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{FORWARDED, HOST},
};

use crate::{
    headers::look_alike,
    host::Asked,
    visitor::{Admission, Visitor},
};

/// Sets what is known of the visitor and takes out what the visitor said about itself: anybody
/// can write these headers, so only ours may reach the local service.
///
/// A proxy that is believed has said for whom it asks: that stays, and is extended by the proxy itself.
pub(crate) fn set(headers: &mut HeaderMap, visitor: &Visitor, asked: Option<&Asked>) {
    if visitor.speaks_for_others {
        return extend(headers, visitor, asked);
    }
    drop_claims(headers, |_| false);
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
    headers.insert(X_FORWARDED_PORT, visitor.forwarded_port.clone());
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(forwarded)) {
        headers.insert(FORWARDED, value);
    }
}

fn extend(headers: &mut HeaderMap, visitor: &Visitor, asked: Option<&Asked>) {
    // No proxy writes names with an underscore: they are its visitor's.
    drop_claims(headers, |name| !name.as_str().contains('_'));
    append(headers, &X_FORWARDED_FOR, visitor.forwarded_for.as_bytes());
    let mut forwarded = visitor.forwarded_prefix.clone();
    if let Some(asked) = asked {
        forwarded.push_str(&[";host=\"", asked.text(), "\""].concat());
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| asked.value().clone());
    }
    append(headers, &FORWARDED, forwarded.as_bytes());
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(visitor.scheme()));
    headers.entry(X_FORWARDED_PORT).or_insert_with(|| visitor.forwarded_port.clone());
}

/// Whether a proxy, which has to be one that is believed, says that its visitor came over TLS.
pub(crate) fn is_https(headers: &HeaderMap) -> bool {
    let is = |value: &HeaderValue, expected: &[u8]| {
        value.as_bytes().rsplit(|byte| *byte == b',').next().is_some_and(|last| {
            last.split(|byte| *byte == b';')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(expected))
        })
    };
    match headers.get_all(X_FORWARDED_PROTO).iter().next_back() {
        Some(proto) => is(proto, b"https"),
        None => {
            headers.get_all(FORWARDED).iter().next_back().is_some_and(|one| is(one, b"proto=https"))
        }
    }
}

/// Adds to a list of proxies, which is one header from then on.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &[u8]) {
    let mut whole = Vec::new();
    for before in headers.get_all(name) {
        whole.extend_from_slice(before.as_bytes());
        whole.extend_from_slice(b", ");
    }
    whole.extend_from_slice(value);
    // Put together from header values it is one again.
    if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(whole)) {
        headers.insert(name, whole);
    }
}

/// For whom a proxy asks that is believed: the last in its list that is no such proxy itself. `None`: for itself.
///
/// `X-Forwarded-For` says so, and `Forwarded` where there is none.
pub(crate) fn behind(
    visitor: &Visitor,
    headers: &HeaderMap,
    proxies: &TrustedProxies,
) -> Option<Arc<Visitor>> {
    if !visitor.speaks_for_others {
        return None;
    }
    let address = match headers.contains_key(X_FORWARDED_FOR) {
        true => last_stranger(items(headers, &X_FORWARDED_FOR).map(node), proxies),
        false => last_stranger(items(headers, &FORWARDED).map(for_of), proxies),
    }?;
    Some(Arc::new(Visitor::new(address, visitor.ingress, Admission::Inside)))
}

/// From the right: each proxy has added the one before it, and what is left of a stranger the stranger has written.
fn last_stranger(
    chain: impl Iterator<Item = Option<SocketAddr>>,
    proxies: &TrustedProxies,
) -> Option<SocketAddr> {
    let mut last = None;
    for one in chain {
        // A proxy may keep to itself who asked it; what is further left cannot be told then.
        let Some(address) = one else { break };
        last = Some(address);
        if !proxies.has(address.ip()) {
            break;
        }
    }
    last
}

/// The items of a list, the last one first.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let values = headers.get_all(name).iter().collect::<Vec<_>>();
    values.into_iter().rev().flat_map(|value| {
        // One that cannot be read is no address either.
        value.to_str().unwrap_or("?").rsplit(',').map(str::trim)
    })
}

/// An address with or without a port, IPv6 in brackets or not.
fn node(text: &str) -> Option<SocketAddr> {
    let whole = || text.parse().ok();
    let alone = || {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        bare.parse().ok().map(|ip| SocketAddr::new(ip, 0))
    };
    whole().or_else(alone)
}

/// The `for=` of one element of `Forwarded`.
fn for_of(element: &str) -> Option<SocketAddr> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        name.eq_ignore_ascii_case("for").then(|| node(value)).flatten()
    })
}

fn drop_claims(headers: &mut HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) {
    let is_dropped = |name: &&HeaderName| is_claim(name) && !is_kept(name);
    let claims: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Whether a header says where a request came from. CGI and WSGI show `-` and `_` alike to the
/// application, so `X_Forwarded_For` is as good a lie as `X-Forwarded-For`.
pub(crate) fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    // Names are lower case in a HeaderMap; nearly all are sorted out by these two compares.
    match name.first() {
        Some(b'x') => {
            let prefix = b"x-forwarded-";
            name.get(..prefix.len()).is_some_and(|start| look_alike(start, prefix))
                || look_alike(name, b"x-real-ip")
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
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(headers["x-forwarded-port"], "80");
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
        let kept = [
            "x-request-id",
            "from",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-port",
            "forwarded",
        ];
        assert_eq!(names.len(), kept.len(), "{names:?}");
        assert!(kept.iter().all(|name| names.contains(name)), "{names:?}");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
    }

    fn proxy() -> (Visitor, TrustedProxies) {
        let addr = "10.0.0.1:1".parse().unwrap();
        let visitor = Visitor::new(addr, "127.0.0.1:80".parse().unwrap(), Admission::Inside);
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        (visitor.speaking_for_others(true), TrustedProxies::new(networks.into(), false))
    }

    type Said = &'static [(&'static str, &'static str)];

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_extended() {
        let mut said = headers(&[
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7;proto=https"),
            ("x_forwarded_for", "1.1.1.1"),
        ]);
        set(&mut said, &proxy().0, None);
        assert_eq!(said["x-forwarded-for"], "192.0.2.7, 10.0.0.2, 10.0.0.1");
        assert_eq!(said["forwarded"], "for=192.0.2.7;proto=https, for=10.0.0.1;proto=http");
        for (name, value) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "192.0.2.7"),
        ] {
            assert_eq!(said[name], value);
        }
        assert!(!said.contains_key("x_forwarded_for"));

        let mut nothing = HeaderMap::new();
        set(&mut nothing, &proxy().0, None);
        assert_eq!(nothing["x-forwarded-for"], "10.0.0.1");
        assert_eq!(nothing["x-forwarded-proto"], "http");
        assert_eq!(nothing["x-forwarded-port"], "80");
    }

    #[test]
    fn the_visitor_is_the_last_that_no_trusted_proxy_is() {
        let (visitor, proxies) = proxy();
        let cases: [(Said, Option<&str>); 14] = [
            (&[], None),
            (&[("x-forwarded-for", "192.0.2.7")], Some("192.0.2.7:0")),
            (&[("x-forwarded-for", "192.0.2.7:4711")], Some("192.0.2.7:4711")),
            (&[("x-forwarded-for", "2001:db8::7")], Some("[2001:db8::7]:0")),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.7")], Some("192.0.2.7:0")),
            (&[("x-forwarded-for", "1.1.1.1, 192.0.2.7,10.0.0.9, fd00::1")], Some("192.0.2.7:0")),
            (
                &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "192.0.2.7")],
                Some("192.0.2.7:0"),
            ),
            // All of the house.
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], Some("10.0.0.3:0")),
            // What cannot be read hides what is left of it.
            (&[("x-forwarded-for", "1.1.1.1, unknown")], None),
            (&[("x-forwarded-for", "1.1.1.1, ?, 10.0.0.2")], Some("10.0.0.2:0")),
            (
                &[("forwarded", "for=1.1.1.1, For=\"[2001:db8::7]:80\";proto=https")],
                Some("[2001:db8::7]:80"),
            ),
            (&[("forwarded", "for=\"x, for=192.0.2.7")], Some("192.0.2.7:0")),
            (&[("forwarded", "for=1.1.1.1, for=_hidden")], None),
            (
                &[("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "192.0.2.7")],
                Some("192.0.2.7:0"),
            ),
        ];
        for (said, expected) in cases {
            let found = behind(&visitor, &headers(said), &proxies).map(|found| found.address);
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{said:?}");
        }
        let stranger = visitor.speaking_for_others(false);
        assert!(
            behind(&stranger, &headers(&[("x-forwarded-for", "192.0.2.7")]), &proxies).is_none()
        );
    }
}
