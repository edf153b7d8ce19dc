//! Heads that nobody in his right mind would send: what is made of them holds for any bytes.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::host::Asked;
use crate::visitor::{Admission, Visitor};
use crate::{forwarded, headers};

/// Names that mean something here, in any case and with either dash, and names that do not.
fn names() -> impl Strategy<Value = HeaderName> {
    let known = vec![
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "cookie",
        "forwarded",
        "x-forwarded-for",
        "X_Forwarded_For",
        "x-forwarded-host",
        "x-forwarded_proto",
        "x-forwarded-",
        "x-real-ip",
        "x_real_ip",
        "x-mine",
        "x-real-ipv6",
        "proxy-authorization",
        "trailer",
    ];
    let parsed = |name: &str| HeaderName::from_bytes(name.as_bytes()).unwrap();
    prop_oneof![
        4 => select(known).prop_map(parsed),
        1 => "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}".prop_map(move |name| parsed(&name)),
    ]
}

/// Any value that can come over a wire at all; often one that means something.
fn values() -> impl Strategy<Value = HeaderValue> {
    let text = "[ -~\t]{0,40}".prop_map(String::into_bytes);
    let list = vec(names(), 0..6).prop_map(|names| {
        names.iter().map(|name| name.as_str().as_bytes()).collect::<Vec<_>>().join(&b", "[..])
    });
    prop_oneof![text, list, vec(any::<u8>(), 0..40)]
        .prop_filter_map("no value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn maps() -> impl Strategy<Value = HeaderMap> {
    vec((names(), values()), 0..20).prop_map(|pairs| {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name, value);
        }
        map
    })
}

fn all<'a>(map: &'a HeaderMap, name: &HeaderName) -> Vec<&'a HeaderValue> {
    map.get_all(name).iter().collect()
}

fn visitor() -> Visitor {
    Visitor::new("192.0.2.7:1".parse().unwrap(), "127.0.0.1:80".parse().unwrap(), Admission::Inside)
}

proptest! {
    #[test]
    fn a_host_that_is_taken_has_nothing_in_it_but_a_host(value in values(), uri in "[ -~]{0,30}") {
        let Ok(uri) = uri.parse::<Uri>() else { return Ok(()) };
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            let mut map = HeaderMap::new();
            map.insert(HOST, value.clone());
            let Ok(Some(asked)) = Asked::by(&uri, &map, version) else { continue };
            let host = asked.host();
            prop_assert!(host.len() <= 255);
            let foreign = |c: char| c.is_whitespace() || c.is_control() || "@/\\?#<>\"%[]".contains(c);
            prop_assert!(!host.contains(foreign), "{host:?}");
            // It goes into a quoted string of `Forwarded`, and into a header of its own.
            prop_assert!(!asked.text().contains(['"', '\\', '\r', '\n', ' ']));
            prop_assert!(asked.text().contains(host));
            prop_assert_eq!(asked.in_target(), uri.authority().is_some());
        }
    }

    #[test]
    fn nothing_of_one_hop_is_left_and_nothing_of_the_message_is_lost(map in maps()) {
        let mut stripped = map.clone();
        headers::strip_hop_by_hop(&mut stripped);
        for name in ["connection", "keep-alive", "proxy-connection", "proxy-authorization",
            "transfer-encoding", "upgrade"]
        {
            prop_assert!(!stripped.contains_key(name), "{name}");
        }
        prop_assert_eq!(all(&stripped, &HOST), all(&map, &HOST));
        if map.contains_key("transfer-encoding") {
            prop_assert!(!stripped.contains_key(CONTENT_LENGTH));
        } else {
            prop_assert_eq!(all(&stripped, &CONTENT_LENGTH), all(&map, &CONTENT_LENGTH));
        }
        prop_assert!(all(&stripped, &TE).iter().all(|te| *te == "trailers"));
        let listed: Vec<String> = map.get_all(CONNECTION).iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(',').map(|name| name.trim().to_ascii_lowercase()))
            .filter(|name| !["host", "content-length", "te"].contains(&&name[..]))
            .collect();
        for name in stripped.keys() {
            prop_assert!(!listed.iter().any(|listed| listed == name.as_str()), "{name}");
            prop_assert!(map.contains_key(name), "{name} was not there");
        }
        let mut again = stripped.clone();
        headers::strip_hop_by_hop(&mut again);
        prop_assert_eq!(again, stripped);
    }

    #[test]
    fn what_a_visitor_claims_of_itself_changes_nothing(map in maps(), host in "[a-z.]{1,20}") {
        let mut asked_by = HeaderMap::new();
        asked_by.insert(HOST, HeaderValue::from_str(&host).unwrap());
        let asked = Asked::by(&Uri::from_static("/"), &asked_by, Version::HTTP_11).unwrap();
        let (mut claimed, mut silent) = (map.clone(), HeaderMap::new());
        forwarded::set(&mut claimed, &visitor(), asked.as_ref());
        forwarded::set(&mut silent, &visitor(), asked.as_ref());
        let is_claim = |name: &HeaderName| {
            let name = name.as_str().replace('_', "-");
            name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
        };
        let claims = |map: &HeaderMap| {
            let claims = map.iter().filter(|(name, _)| is_claim(name));
            let mut claims: Vec<_> =
                claims.map(|(name, value)| (name.to_string(), value.clone())).collect();
            claims.sort_by(|a, b| a.0.cmp(&b.0));
            claims
        };
        prop_assert_eq!(claims(&claimed), claims(&silent));
        prop_assert_eq!(all(&claimed, &FORWARDED).len(), 1);
        // And nothing else is touched.
        for name in map.keys().filter(|name| !is_claim(name)) {
            prop_assert_eq!(all(&claimed, name), all(&map, name));
        }
    }

    #[test]
    fn cookies_are_joined_byte_for_byte(map in maps()) {
        let mut joined = map.clone();
        headers::join_cookies(&mut joined);
        let crumbs: Vec<_> = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let cookies: Vec<_> = joined.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        prop_assert!(cookies.len() <= 1);
        prop_assert_eq!(cookies.concat(), crumbs.join(&b"; "[..]));
    }
}
