//! Paths without the prefix of their tunnel, for local services that do not know of it.

use ferrotunnel_core::PathPrefix;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, request, uri::PathAndQuery};

/// Takes the prefix off the target of a request, and says so in a header from which local services make the links
/// of their pages. A target that does not begin with it stays: a plugin has written it.
pub(crate) fn strip(head: &mut request::Parts, prefix: &PathPrefix) {
    let whole = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = prefix.strip(whole).and_then(|rest| PathAndQuery::try_from(&*rest).ok());
    if let Some(rest) = rest {
        head.uri = Uri::from(rest);
        tell(&mut head.headers, prefix);
    }
}

/// What a believed proxy has taken off before stands before it; others' claims have been dropped.
fn tell(headers: &mut HeaderMap, prefix: &PathPrefix) {
    let before = headers.get(X_FORWARDED_PREFIX).and_then(|before| before.to_str().ok());
    let before = before.filter(|before| before.starts_with('/')).unwrap_or_default();
    let whole = format!("{}{prefix}", before.trim_end_matches('/'));
    if let Ok(value) = HeaderValue::try_from(whole) {
        headers.insert(X_FORWARDED_PREFIX, value);
    }
}

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(uri: &str, before: Option<&'static str>) -> (String, Option<String>) {
        let mut request = http::Request::builder().uri(uri);
        if let Some(before) = before {
            request = request.header(X_FORWARDED_PREFIX, before);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        strip(&mut head, &"/api".parse().unwrap());
        let told = head.headers.get(X_FORWARDED_PREFIX);
        (head.uri.to_string(), told.map(|told| told.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_local_service_sees_what_is_left_and_is_told_of_the_rest() {
        for (uri, left) in [
            ("/api/x?q=/api", "/x?q=/api"),
            ("/api", "/"),
            ("/api?q", "/?q"),
            ("/api//x", "/x"),
            ("http://app.example/api/x", "/x"),
        ] {
            assert_eq!(stripped(uri, None), (left.to_owned(), Some("/api".to_owned())), "{uri}");
        }
    }

    #[test]
    fn what_has_another_path_stays_as_it_is() {
        for uri in ["/apix", "/x/api", "*"] {
            assert_eq!(stripped(uri, None), (uri.to_owned(), None));
        }
    }

    #[test]
    fn the_prefix_of_a_proxy_stands_before_ours() {
        for (before, whole) in
            [("/shop", "/shop/api"), ("/shop/", "/shop/api"), ("/", "/api"), ("x", "/api")]
        {
            assert_eq!(stripped("/api/x", Some(before)).1.as_deref(), Some(whole));
        }
    }
}
