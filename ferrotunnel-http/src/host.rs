//! Whom a request is for: `:authority` or `Host`, checked and without its port.

use http::{HeaderMap, HeaderValue, Uri, Version, header::HOST, uri::Authority};

/// The authority a visitor asked for, as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `host` or `host:port`. Checked: only the characters of an authority, no user part.
    value: HeaderValue,
    /// Where the host ends and the port begins.
    host_len: usize,
    /// Whether it came with the request target and not as a `Host` header.
    in_target: bool,
}

/// Why a request cannot be routed at all; the text is shown to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHost {
    #[error("the request has no Host header")]
    Missing,
    #[error("the request has more than one Host header")]
    Twice,
    #[error("the Host header is not a host name with an optional port")]
    Malformed,
    #[error("the request target is neither a path nor a URL")]
    Target,
    #[error("the Host header and the request target name two hosts")]
    Differs,
}

impl Asked {
    /// Reads the authority of a request. `None` only for HTTP/1.0, which need not name a host.
    ///
    /// An absolute request target and `:authority` go before `Host`, which has to say the same: who
    /// stands before us may go by the other one (RFC 9113, section 8.3.1). A `Host` header must be
    /// there once all the same in HTTP/1.1.
    pub(crate) fn by(
        uri: &Uri,
        headers: &HeaderMap,
        version: Version,
    ) -> Result<Option<Self>, BadHost> {
        let mut hosts = headers.get_all(HOST).iter();
        let header = hosts.next();
        if hosts.next().is_some() {
            return Err(BadHost::Twice);
        }
        if header.is_none() && version == Version::HTTP_11 {
            return Err(BadHost::Missing);
        }
        if uri.authority().is_some() && uri.scheme().is_none() {
            // `GET app HTTP/1.1`: that form is CONNECT's (RFC 9112, section 3.2.3).
            return Err(BadHost::Target);
        }
        let (value, in_target) = match (uri.authority(), header) {
            (Some(authority), header) => {
                if header.is_some_and(|host| !is_same(authority, host.as_bytes())) {
                    return Err(BadHost::Differs);
                }
                let value = HeaderValue::from_str(authority.as_str());
                (value.map_err(|_| BadHost::Malformed)?, true)
            }
            (None, Some(host)) => (host.clone(), false),
            (None, None) if version == Version::HTTP_10 => return Ok(None),
            (None, None) => return Err(BadHost::Missing),
        };
        let text = value.to_str().map_err(|_| BadHost::Malformed)?;
        let host_len = host_len(text).ok_or(BadHost::Malformed)?;
        Ok(Some(Self { value, host_len, in_target }))
    }

    /// Another host in place of the one that was asked for. `None`: the text is none.
    pub(crate) fn instead(text: &str) -> Option<Self> {
        let host_len = host_len(text).filter(|len| *len > 0)?;
        text.parse::<Authority>().ok()?;
        Some(Self { value: HeaderValue::from_str(text).ok()?, host_len, in_target: true })
    }

    /// The host for routing: no port, no brackets, no final dot; case as written.
    pub(crate) fn host(&self) -> &str {
        bare(&self.text()[..self.host_len])
    }

    /// The host as it stands in a URL.
    pub(crate) fn bracketed_host(&self) -> &str {
        &self.text()[..self.host_len]
    }

    /// Host and port as written.
    pub(crate) fn text(&self) -> &str {
        // Checked to be visible ASCII when it was read.
        self.value.to_str().unwrap_or_default()
    }

    /// The same as a header value; a clone of it shares the bytes.
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// Whether the `Host` header has to be written anew to say the same.
    pub(crate) fn in_target(&self) -> bool {
        self.in_target
    }
}

/// The host of `host[:port]` as routes know it: no port, no brackets, no final dot. `None`: it is no such thing.
pub fn routed_host(authority: &str) -> Option<&str> {
    host_len(authority).map(|len| bare(&authority[..len]))
}

fn bare(host: &str) -> &str {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether both name the same place. A port that goes without saying may be said on one side only.
fn is_same(authority: &Authority, host: &[u8]) -> bool {
    let bare = |text: &[u8]| {
        let text = text.strip_suffix(b":80").or_else(|| text.strip_suffix(b":443")).unwrap_or(text);
        text.strip_suffix(b":").unwrap_or(text).to_ascii_lowercase()
    };
    let whole = authority.as_str().as_bytes();
    whole.eq_ignore_ascii_case(host) || bare(whole) == bare(host)
}

/// Length of the host in `host[:port]`, if that is what the text is.
fn host_len(text: &str) -> Option<usize> {
    let len = if text.starts_with('[') {
        let len = text.find(']')? + 1;
        let inside = &text.as_bytes()[1..len - 1];
        let valid = inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        (valid && !inside.is_empty()).then_some(len)?
    } else {
        let len = text.find(':').unwrap_or(text.len());
        text.as_bytes()[..len].iter().all(|&b| is_name_byte(b)).then_some(len)?
    };
    let port = match text[len..].strip_prefix(':') {
        Some(port) => port,
        None if len == text.len() => "",
        None => return None,
    };
    let is_port = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    (is_port && len <= MAX_HOST).then_some(len)
}

/// `reg-name` of RFC 3986 without percent signs: no visitor that means a name sends those.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// No name of the DNS is longer, and a page of ours may repeat it.
const MAX_HOST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, uri: &str, hosts: &[&str]) -> Result<Option<String>, BadHost> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        let asked = Asked::by(&uri.parse().unwrap(), &headers, version)?;
        Ok(asked.map(|asked| asked.host().to_owned()))
    }

    #[test]
    fn a_text_that_names_a_place_has_a_host() {
        let hosts = [("a.b", "a.b"), ("a.b:80", "a.b"), ("a.b.", "a.b"), ("[::1]:80", "::1")];
        for (text, host) in hosts {
            assert_eq!(routed_host(text), Some(host));
        }
        assert_eq!((routed_host("a b"), routed_host("a:b")), (None, None));
    }

    fn http11(host: &str) -> Option<String> {
        asked(Version::HTTP_11, "/", &[host]).unwrap_or_default()
    }

    #[test]
    fn the_port_and_a_final_dot_are_no_part_of_the_host() {
        for host in ["app.localhost", "app.localhost:8080", "app.localhost.", "app.localhost.:80"] {
            assert_eq!(http11(host).as_deref(), Some("app.localhost"), "{host}");
        }
        assert_eq!(http11("app.localhost:").as_deref(), Some("app.localhost"));
        assert_eq!(http11("127.0.0.1:8080").as_deref(), Some("127.0.0.1"));
        assert_eq!(http11("[::1]:8080").as_deref(), Some("::1"));
        assert_eq!(http11("[::1]").as_deref(), Some("::1"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for host in [
            "a b",
            "user@app",
            "app/path",
            "app?x",
            "app:80:80",
            "app:http",
            "app:123456",
            "[::1",
            "[]",
            "[::1]x",
            "app\\x",
            "<app>",
            "%61pp",
            "app#",
            "a\tb",
        ] {
            let result = asked(Version::HTTP_11, "/", &[host]);
            assert_eq!(result, Err(BadHost::Malformed), "{host}");
        }
    }

    #[test]
    fn a_host_longer_than_any_name_is_refused() {
        let longest = "a".repeat(MAX_HOST);
        assert_eq!(http11(&longest), Some(longest.clone()));
        let longer = asked(Version::HTTP_11, "/", &[&(longest + "a")]);
        assert_eq!(longer, Err(BadHost::Malformed));
    }

    #[test]
    fn a_target_that_is_neither_path_nor_url_is_refused() {
        assert_eq!(asked(Version::HTTP_11, "app.localhost", &["app"]), Err(BadHost::Target));
        assert_eq!(asked(Version::HTTP_11, "*", &["app"]), Ok(Some("app".into())));
    }

    #[test]
    fn http11_needs_exactly_one_host() {
        assert_eq!(asked(Version::HTTP_11, "/", &[]), Err(BadHost::Missing));
        assert_eq!(asked(Version::HTTP_11, "/", &["a", "a"]), Err(BadHost::Twice));
        assert_eq!(asked(Version::HTTP_11, "http://a/", &[]), Err(BadHost::Missing));
    }

    #[test]
    fn an_empty_host_is_nobody_in_particular() {
        assert_eq!(http11("").as_deref(), Some(""));
    }

    #[test]
    fn http10_may_leave_the_host_out() {
        assert_eq!(asked(Version::HTTP_10, "/", &[]), Ok(None));
        assert_eq!(asked(Version::HTTP_10, "/", &["a"]), Ok(Some("a".into())));
        assert_eq!(asked(Version::HTTP_10, "/", &["a", "b"]), Err(BadHost::Twice));
    }

    #[test]
    fn the_target_and_the_host_header_name_one_host() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let by = |host| asked(version, "http://app.example:81/x", &[host]);
            assert_eq!(by("app.example:81"), Ok(Some("app.example".into())));
            assert_eq!(by("APP.example:81"), Ok(Some("app.example".into())));
            for other in ["other", "app.example", "app.example:82", "", "a.app.example:81"] {
                assert_eq!(by(other), Err(BadHost::Differs), "{other}");
            }
            let usual = asked(version, "http://app.example/x", &["app.example:80"]);
            assert_eq!(usual, Ok(Some("app.example".into())));
        }
    }

    #[test]
    fn http2_may_say_host_in_place_of_authority() {
        assert_eq!(asked(Version::HTTP_2, "/x", &["app"]), Ok(Some("app".into())));
        assert_eq!(asked(Version::HTTP_2, "/x", &[]), Err(BadHost::Missing));
    }

    #[test]
    fn a_user_part_in_the_target_is_refused() {
        let result = asked(Version::HTTP_11, "http://user@app.example/", &["user@app.example"]);
        assert_eq!(result, Err(BadHost::Malformed));
    }
}
