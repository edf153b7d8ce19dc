//! The part of a host's paths that a tunnel is for, and paths that not everybody reads alike.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// `/` is the whole host; `/api` is `/api` itself and all below it, but not `/apix`. Upper and lower case
/// differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PathPrefix(
    /// Empty for the whole host.
    Box<str>,
);

/// What is wrong with a path prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no path like /api: begin it with a slash, end it without one, and use letters, digits and \
     -._~!$&'()*+,=:@ in up to 255 bytes, with no empty part and none that is . or .."
)]
pub struct PathPrefixError(String);

impl PathPrefix {
    /// Whether it is all of a host.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        if self.is_whole() { "/" } else { &self.0 }
    }

    /// Whether a path is in it, compared byte by byte.
    pub fn covers(&self, path: impl AsRef<[u8]>) -> bool {
        let rest = path.as_ref().strip_prefix(self.0.as_bytes());
        self.is_whole() || rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }

    /// What is left of a path, with or without its query, when the prefix is taken off its front. `None`: it is
    /// not there.
    pub fn strip<'a>(&self, path_and_query: &'a str) -> Option<Cow<'a, str>> {
        let rest = path_and_query.strip_prefix(&*self.0)?;
        match rest.as_bytes().first() {
            Some(b'/') => {
                // Two slashes at the front would be read as a host by whoever resolves it.
                let left = without_slashes(rest);
                let is_one = rest.len() == left.len() + 1;
                Some(if is_one { Cow::Borrowed(rest) } else { Cow::Owned(format!("/{left}")) })
            }
            None | Some(b'?') => Some(Cow::Owned(format!("/{rest}"))),
            Some(_) => None,
        }
    }
}

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "/" {
            return Ok(Self::default());
        }
        let is_part = |part: &str| {
            let is_legal =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
            !matches!(part, "" | "." | "..") && part.bytes().all(is_legal)
        };
        let parts = text.strip_prefix('/');
        if text.len() <= LONGEST && parts.is_some_and(|parts| parts.split('/').all(is_part)) {
            Ok(Self(text.into()))
        } else {
            Err(PathPrefixError(text.to_owned()))
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What follows the slashes at the front, however they are written.
fn without_slashes(mut path: &str) -> &str {
    while let Some(rest) = ["/", "%2f", "%2F"].iter().find_map(|slash| path.strip_prefix(slash)) {
        path = rest;
    }
    path
}

/// Of a prefix; requests are compared with it, and the client's public address contains it.
const LONGEST: usize = 255;

/// How servers may read a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it was sent.
    AsSent,
    /// Or like this: percent signs decoded (RFC 3986, section 6.2.2.2), slashes that follow each other as one,
    /// and each part without what some cut off.
    ///
    /// Whoever reads between the two, say with slashes decoded or letters alone, arrives in one of these places:
    /// prefixes have nothing in them that could be decoded or cut, so one that covers such a reading covers
    /// this one, too.
    OrAs(Vec<u8>),
    /// With `.` and `..` in it, or what is another character for some: nobody knows where a local service
    /// arrives.
    Unclear,
}

impl Reading {
    pub(super) fn of(path: &str) -> Self {
        let is_plain = !path.contains(['%', '\\', ';']);
        if is_plain && !path.contains("//") && !path.contains("/.") {
            return Self::AsSent;
        }
        let decoded = decoded(path.as_bytes());
        let parts = decoded.split(|&byte| byte == b'/');
        let bare =
            |part: &'_ [u8]| part.iter().position(|byte| CUTS.contains(byte)).unwrap_or(part.len());
        let parts: Vec<&[u8]> = parts.map(|part| &part[..bare(part)]).collect();
        if decoded.contains(&b'\\')
            || decoded.windows(2).any(is_overlong)
            || parts.iter().any(|part| matches!(part, [b'.'] | [b'.', b'.']))
        {
            return Self::Unclear;
        }
        let mut merged = parts.join(&b'/');
        merged.dedup_by(|byte, before| *byte == b'/' && *before == b'/');
        Self::OrAs(merged)
    }
}

/// Where a part ends for some: parameters (RFC 3986, section 3.3), a query or fragment that appears when the path
/// is decoded before it is taken apart, and the end of a string in C.
const CUTS: &[u8] = b";?#\0";

/// The beginning of a character in more bytes than UTF-8 gives it (RFC 3629, section 10): lenient decoders find dots
/// and slashes in such.
fn is_overlong(pair: &[u8]) -> bool {
    matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let coded = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                digit(high).zip(digit(low)).map(|pair| (pair, after))
            }
            _ => None,
        };
        match coded {
            Some(((high, low), after)) => {
                decoded.push(high << 4 | low);
                rest = after;
            }
            None => decoded.push(byte),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> PathPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_ends_where_a_part_ends() {
        let api = prefix("/api/v1");
        for inside in ["/api/v1", "/api/v1/", "/api/v1/x", "/api/v1//"] {
            assert!(api.covers(inside), "{inside}");
        }
        for outside in ["/api", "/api/v10", "/api/v1;x", "/API/v1", "/", "", "*", "/x/api/v1"] {
            assert!(!api.covers(outside), "{outside}");
        }
        let whole = prefix("/");
        assert!(whole.is_whole() && whole.covers("/x") && whole.covers("*") && whole.covers(""));
        assert_eq!((whole.to_string(), api.to_string()), ("/".into(), "/api/v1".into()));
    }

    #[test]
    fn what_is_left_of_a_path_is_a_path() {
        let api = prefix("/api");
        let left = |text: &'static str| api.strip(text);
        assert_eq!(left("/api").as_deref(), Some("/"));
        assert_eq!(left("/api?q=/api").as_deref(), Some("/?q=/api"));
        assert_eq!(left("/api/").as_deref(), Some("/"));
        assert_eq!(left("/api/x/?q").as_deref(), Some("/x/?q"));
        assert_eq!(left("/api//%2f/%2Fx//y").as_deref(), Some("/x//y"));
        assert_eq!(left("/api/x%2Fy?q").as_deref(), Some("/x%2Fy?q"));
        assert_eq!((left("/apix"), left("/")), (None, None));
    }

    #[test]
    fn malformed_prefixes_are_refused_with_a_sentence() {
        let longest = format!("/{}", "a".repeat(LONGEST - 1));
        assert!(longest.parse::<PathPrefix>().is_ok());
        for bad in [
            "",
            "api",
            "/api/",
            "//",
            "/a//b",
            "/.",
            "/a/..",
            "/a b",
            "/%61",
            "/a?b",
            "/a#",
            "/ä",
            "/a\\b",
            "/a;b",
            &(longest + "a"),
        ] {
            let error = bad.parse::<PathPrefix>().unwrap_err().to_string();
            assert!(error.contains("is no path like /api"), "{error}");
        }
    }

    #[test]
    fn paths_are_unclear_that_lead_elsewhere_for_some() {
        for path in ["/", "/api/x", "/a.b/c..d", "*", "", "/a:b@c"] {
            assert_eq!(Reading::of(path), Reading::AsSent, "{path}");
        }
        for path in [
            "/.",
            "/..",
            "/api/../x",
            "/api/./x",
            "/api/..",
            "/%2e%2E/x",
            "/.%2e/x",
            "/%2e",
            "/api%2f..%2fx",
            "/api%2F.",
            "/api/..%2fx",
            "/api/..%3fx",
            "/api/..%00/x",
            "/api/%c0%ae%c0%ae/x",
            "/api%c0%af..",
            "/api%e0%80%afx",
            "/api%F0%80%80%afx",
            "/api\\x",
            "/api%5cx",
            "/..;/x",
            "/api/..;a=b/x",
            "/.;",
            "\\",
            "/%2e%2e%3b/x",
        ] {
            assert_eq!(Reading::of(path), Reading::Unclear, "{path}");
        }
        for (path, read) in [
            ("/%61pi", "/api"),
            ("//api", "/api"),
            ("/a///b//", "/a/b/"),
            ("/%7euser", "/~user"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/%2561", "/%61"),
            ("/api;v=1/x", "/api/x"),
            ("/a%3Bb/c;", "/a/c"),
            ("/api%2fx", "/api/x"),
            ("/a/b%2F%2Fc", "/a/b/c"),
            ("/a%00b/c", "/a/c"),
            ("/a%3Fb%23", "/a"),
            ("/%e0%a4%85", "/\u{905}"),
            ("/%f0%9f%a6%80", "/\u{1f980}"),
            ("/;a//b", "/b"),
        ] {
            assert_eq!(Reading::of(path), Reading::OrAs(read.into()), "{path}");
        }
    }
}
