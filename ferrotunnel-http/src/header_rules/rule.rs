//! One rule on a header, as somebody writes it, and which headers there are rules for.

use std::fmt;

use ferrotunnel_core::LONGEST_OPTION;
use ferrotunnel_plugin::Dir;
use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, EXPECT, HOST, TRAILER},
};

use crate::{answer::FERROTUNNEL_ERROR, forwarded, headers, request_id::X_REQUEST_ID};

/// What becomes of one header of requests or of responses.
///
/// All rules of a tunnel are done in one order: what is removed, then what is set, then what is added.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderRule {
    what: What,
    name: String,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Remove,
    Set,
    Add,
}

impl HeaderRule {
    /// All headers of that name go.
    pub fn remove(name: impl Into<String>) -> Self {
        Self { what: What::Remove, name: name.into(), value: String::new() }
    }

    /// There is one header of that name, with that value, whatever there was before.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: What::Set, name: name.into(), value: value.into() }
    }

    /// There is one header more, beside others of that name.
    pub fn add(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: What::Add, name: name.into(), value: value.into() }
    }

    /// The same as [`set`](Self::set), written `NAME: VALUE`.
    ///
    /// # Errors
    /// It has no colon.
    pub fn set_line(line: &str) -> Result<Self, String> {
        pair(line).map(|(name, value)| Self::set(name, value))
    }

    /// The same as [`add`](Self::add), written `NAME: VALUE`.
    ///
    /// # Errors
    /// It has no colon.
    pub fn add_line(line: &str) -> Result<Self, String> {
        pair(line).map(|(name, value)| Self::add(name, value))
    }

    /// The same if there can be such a rule for requests, or for responses.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn fit_for(self, dir: Dir) -> Result<Self, String> {
        self.read(dir).map(|_| self)
    }

    /// What is done.
    pub(super) fn what(&self) -> What {
        self.what
    }

    /// Name and value as they will be sent. The value may be a secret, so no error repeats it.
    pub(super) fn read(&self, dir: Dir) -> Result<(HeaderName, HeaderValue), String> {
        if self.name.starts_with(':') {
            return Err(format!("{:?} is no header but a part of the request line", self.name));
        }
        let name = HeaderName::from_bytes(self.name.as_bytes()).map_err(|_| {
            "a name of a header is made of letters, digits and hyphens, like X-Example".to_owned()
        })?;
        if let Some(why) = taboo(&name, dir) {
            return Err(format!("the header {:?} cannot be changed: {why}", name.as_str()));
        }
        if name.as_str().len() + 2 + self.value.len() > LONGEST_OPTION {
            let most = LONGEST_OPTION - 2;
            return Err(format!("name and value have more than {most} bytes together"));
        }
        let value = self.value.trim_matches([' ', '\t']);
        // Others may be sent, but what they are read as is anybody's guess (RFC 9110, section 5.5).
        let value = HeaderValue::from_str(value).ok().filter(|value| value.to_str().is_ok());
        let value = value.ok_or_else(|| {
            format!("the value of {:?} has more in it than visible ASCII characters", name.as_str())
        })?;
        Ok((name, value))
    }
}

impl fmt::Debug for HeaderRule {
    /// The value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderRule")
            .field("what", &self.what)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn pair(line: &str) -> Result<(&str, &str), String> {
    // The name of a pseudo header begins with a colon; it is judged later.
    let end = line.char_indices().skip(1).find(|(_, c)| *c == ':');
    let (at, _) = end.ok_or_else(|| "give NAME: VALUE".to_owned())?;
    Ok((line[..at].trim(), line[at + 1..].trim_matches([' ', '\t'])))
}

/// Why no rule may concern a header, if none may.
fn taboo(name: &HeaderName, dir: Dir) -> Option<&'static str> {
    // Applications may take one spelling for the other, and so does what applies the rules.
    let plain = HeaderName::try_from(name.as_str().replace('_', "-"));
    let name = plain.as_ref().unwrap_or(name);
    if *name == HOST {
        return Some("what the local service sees as its host is a setting of its own");
    }
    if headers::concerns_one_hop(name)
        || [CONTENT_LENGTH, TRAILER, EXPECT, HTTP2_SETTINGS].contains(name)
        || name.as_str().starts_with("sec-websocket-")
    {
        return Some("it is about one connection, or says where a message ends");
    }
    if *name == FERROTUNNEL_ERROR {
        return Some("it marks answers of the server's own");
    }
    if *name == X_REQUEST_ID {
        return Some("requests are found by it in logs");
    }
    if dir == Dir::Request && forwarded::is_claim(name) {
        return Some("the server says there who the visitor is");
    }
    None
}

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_underscore_is_no_way_round_what_no_rule_may_touch() {
        for name in ["content_length", "transfer_encoding", "sec_websocket_key", "x_request_id"] {
            for dir in [Dir::Request, Dir::Response] {
                assert!(!refused(HeaderRule::remove(name), dir).is_empty(), "{name}");
            }
        }
    }

    fn refused(rule: HeaderRule, dir: Dir) -> String {
        rule.fit_for(dir).unwrap_err()
    }

    #[test]
    fn what_frames_a_message_or_tells_where_it_is_from_is_nobodys_to_change() {
        for name in [
            "Connection",
            "content-length",
            "TRANSFER-ENCODING",
            "upgrade",
            "te",
            "trailer",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "expect",
            "host",
            "sec-websocket-key",
            "sec-websocket-extensions",
            "ferrotunnel-error",
            "x-request-id",
            ":authority",
        ] {
            for dir in [Dir::Request, Dir::Response] {
                for rule in [
                    HeaderRule::remove(name),
                    HeaderRule::set(name, "x"),
                    HeaderRule::add(name, "x"),
                ] {
                    let error = refused(rule, dir);
                    assert!(error.contains(&*name.to_ascii_lowercase()), "{error}");
                }
            }
        }
        for name in ["x-forwarded-for", "X_Forwarded_Proto", "forwarded", "x-real-ip"] {
            refused(HeaderRule::remove(name), Dir::Request);
            assert!(HeaderRule::remove(name).fit_for(Dir::Response).is_ok());
        }
    }

    #[test]
    fn lines_are_split_at_the_first_colon() {
        let read = |line| HeaderRule::set_line(line)?.read(Dir::Request);
        for (line, name, value) in [
            ("X-A: one: two", "x-a", "one: two"),
            ("x-a:b", "x-a", "b"),
            ("x-a:", "x-a", ""),
            ("x-a :\t b\t", "x-a", "b"),
        ] {
            let (as_name, as_value) = read(line).unwrap();
            assert_eq!((as_name.as_str(), as_value.to_str().unwrap()), (name, value));
        }
        for bad in ["", "x-a", ":", "x a: b", "\u{e9}: b", ":path: /", ": b"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_and_logs_do_not_repeat_values() {
        for rule in [
            HeaderRule::set("x-a", "secret\r\nx-b: 1"),
            HeaderRule::set("x-a", "secret\u{e9}"),
            HeaderRule::set("x-a", "secret".repeat(200)),
            HeaderRule::set("host", "secret"),
        ] {
            assert!(!format!("{rule:?}").contains("secret"));
            assert!(!refused(rule, Dir::Request).contains("secret"));
        }
        let error = HeaderRule::add_line("secret").unwrap_err();
        assert!(!error.contains("secret"));
        let longest = "v".repeat(LONGEST_OPTION - 5);
        assert!(HeaderRule::set("x-a", longest).fit_for(Dir::Request).is_ok());
    }
}
