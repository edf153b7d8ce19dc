//! What a visitor has said in the head of a request over HTTP/1: as much of it as an answer of ours and a log need, when
//! nothing can be made of the rest.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, HOST, REFERER, USER_AGENT},
};

use crate::request_id::X_REQUEST_ID;

/// The first line of a head, and some of its headers, as they came.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Lines without their ends, with a line feed behind each: it can be in none of them.
    text: Vec<u8>,
}

impl Seen {
    /// A request begins, with this line or with what has come of it.
    pub(crate) fn begin(&mut self, line: &[u8]) {
        self.text.clear();
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.keep(&line[..line.len().min(LONGEST_FIRST_LINE)]);
    }

    /// One of its headers.
    pub(crate) fn header(&mut self, name: &[u8], line: &[u8]) {
        // Most headers are not asked about by more than their length.
        let is_wanted = KEPT.iter().any(|kept| {
            let kept = kept.as_str().as_bytes();
            kept.len() == name.len() && kept.eq_ignore_ascii_case(name)
        });
        if is_wanted && self.text.len() + line.len() < MOST {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
    }

    pub(crate) fn request_line(&self) -> &[u8] {
        self.lines().next().unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in self.lines().skip(1) {
            let mut parts = line.splitn(2, |&byte| byte == b':');
            if let (Some(name), Some(value)) = (parts.next(), parts.next())
                && let Ok(name) = HeaderName::from_bytes(name)
                && let Ok(value) = HeaderValue::from_bytes(value.trim_ascii())
            {
                headers.append(name, value);
            }
        }
        headers
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|&byte| byte == b'\n')
    }
}

static KEPT: [HeaderName; 5] = [ACCEPT, HOST, REFERER, USER_AGENT, X_REQUEST_ID];

/// Enough to find the request in other logs. Each connection over HTTP/1 keeps what is said.
const LONGEST_FIRST_LINE: usize = 256;

/// All of it: what browsers say of themselves fits in.
const MOST: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_little_and_found_again() {
        let mut seen = Seen::default();
        assert_eq!((seen.request_line(), seen.headers().len()), (&b""[..], 0));
        seen.begin(b"GET /old HTTP/1.1\r\n");
        seen.begin(b"GET /\"x HTTP/1.1\r\nhost: a\r\n");
        for (name, line) in [
            (&b"Accept"[..], &b"Accept: text/html "[..]),
            (b"accept", b"accept:a/b"),
            (b"cookie", b"cookie: secret=1"),
            (b"user-agent", &[b'x'; MOST]),
        ] {
            seen.header(name, line);
        }
        assert_eq!(seen.request_line(), b"GET /\"x HTTP/1.1");
        let headers = seen.headers();
        assert_eq!(headers.get_all(ACCEPT).iter().collect::<Vec<_>>(), ["text/html", "a/b"]);
        assert_eq!(headers.keys_len(), 1);
        seen.begin(&[b'x'; 5000]);
        assert_eq!(seen.request_line().len(), LONGEST_FIRST_LINE);
    }
}
