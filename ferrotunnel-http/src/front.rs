//! Requests that are answered before anybody looks for a tunnel: those of an ACME server that looks for its
//! challenge, those that should have come over TLS, and those that came over TLS for somebody else.

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, LOCATION},
};

use crate::{
    body::Body,
    forwarded,
    host::{Asked, BadHost},
    https::Challenges,
    refusal::Refusal,
    visitor::{Admission, Secured, Visitor},
};

/// What is to become of a request.
pub(crate) enum Look {
    Passes,
    Refused(Refusal),
    Ours(Box<Response<Body>>),
}

/// Looks at requests first.
#[derive(Debug, Default)]
pub(crate) struct Front {
    /// What an ACME server asks to see.
    pub(crate) challenges: Option<Challenges>,
    /// Who comes without TLS is sent to this port.
    pub(crate) redirect: Option<u16>,
}

impl Front {
    pub(crate) fn look<B>(&self, visitor: &Visitor, request: &Request<B>) -> Look {
        if visitor.admission != Admission::Inside {
            return Look::Passes;
        }
        let asked = || Asked::by(request.uri(), request.headers(), request.version());
        if let Some(challenges) = &self.challenges
            && request.uri().path().starts_with("/.well-known/")
            && let Ok(Some(asked)) = asked()
            && let Some(answer) = challenges.at(asked.host(), request.uri().path())
        {
            return Look::Ours(Box::new(Response::new(Body::from(answer))));
        }
        match (&visitor.secured, self.redirect) {
            (Some(secured), _) => match asked() {
                Ok(Some(asked)) if is_misdirected(secured, asked.host()) => {
                    Look::Refused(Refusal::Misdirected)
                }
                _ => Look::Passes,
            },
            // A proxy that is believed has ended TLS.
            (None, Some(_))
                if visitor.speaks_for_others && forwarded::is_https(request.headers()) =>
            {
                Look::Passes
            }
            (None, Some(port)) => match asked() {
                Ok(Some(asked)) if !asked.host().is_empty() => redirect(request, &asked, port),
                Ok(_) => Look::Refused(BadHost::Missing.into()),
                Err(bad) => Look::Refused(bad.into()),
            },
            (None, None) => Look::Passes,
        }
    }
}

/// Whether a connection that was opened for one host is used for another one that its certificate is not for
/// (RFC 9110, section 7.4). A browser may use a connection for every host of the certificate (RFC 9113, section
/// 9.1.1), and who did not say whom it wanted has not looked at the name either.
fn is_misdirected(secured: &Secured, host: &str) -> bool {
    let Some(asked) = &secured.asked else { return false };
    !asked.eq_ignore_ascii_case(host) && !secured.shown.covers(host)
}

/// The same over TLS, with the same method and body (RFC 9110, section 15.4.9). Nobody is to remember it: the
/// operator may change their mind.
fn redirect<B>(request: &Request<B>, asked: &Asked, port: u16) -> Look {
    let host = asked.bracketed_host();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let Ok(location) = HeaderValue::try_from(format!("https://{host}{port}{path}")) else {
        return Look::Refused(BadHost::Malformed.into());
    };
    let mut response =
        Response::new(Body::from(Bytes::from_static(b"This site is served over HTTPS.\n")));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Look::Ours(Box::new(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(uri: &str, host: &str, port: u16) -> Option<String> {
        let request = Request::builder().uri(uri).header("host", host).body(()).unwrap();
        let visitor = Visitor::new(
            "192.0.2.7:1".parse().unwrap(),
            "127.0.0.1:80".parse().unwrap(),
            Admission::Inside,
        );
        match (Front { redirect: Some(port), ..Front::default() }).look(&visitor, &request) {
            Look::Ours(response) => {
                assert_eq!(response.status(), 308);
                Some(response.headers()["location"].to_str().unwrap().to_owned())
            }
            _ => None,
        }
    }

    #[test]
    fn who_comes_without_tls_is_sent_to_the_same_place_over_tls() {
        let cases = [
            ("/a?b=c", "app.example:8080", 443, "https://app.example/a?b=c"),
            ("/", "app.example", 8443, "https://app.example:8443/"),
            ("/", "[::1]:8080", 8443, "https://[::1]:8443/"),
            ("http://other.example/x", "other.example", 443, "https://other.example/x"),
            ("*", "app.example", 443, "https://app.example/"),
        ];
        for (uri, host, port, expected) in cases {
            assert_eq!(located(uri, host, port).as_deref(), Some(expected));
        }
        assert_eq!(located("/", "", 443), None);
        assert_eq!(located("/", "a b", 443), None);
    }

    #[test]
    fn who_came_over_tls_to_a_proxy_is_not_sent_there_again() {
        let front = Front { redirect: Some(443), ..Front::default() };
        let passes = |is_believed, name: &str, value: &str| {
            let request = Request::builder().uri("/").header("host", "app.example");
            let request = request.header(name, value).body(()).unwrap();
            let address = "192.0.2.7:1".parse().unwrap();
            let visitor = Visitor::new(address, "127.0.0.1:80".parse().unwrap(), Admission::Inside);
            let visitor = visitor.speaking_for_others(is_believed);
            matches!(front.look(&visitor, &request), Look::Passes)
        };
        assert!(passes(true, "x-forwarded-proto", "https"));
        assert!(passes(true, "x-forwarded-proto", "http, HTTPS"));
        assert!(passes(true, "forwarded", "for=192.0.2.9;proto=https"));
        assert!(!passes(true, "x-forwarded-proto", "https, http"));
        assert!(!passes(true, "forwarded", "for=192.0.2.9;proto=http"));
        assert!(!passes(false, "x-forwarded-proto", "https"));
    }
}
