//! Where the messages of a visitor begin and end (RFC 9112), and whether anybody could see that otherwise.
//!
//! hyper reads what it can make sense of: line ends without CR, a length beside chunks, codings below chunks. Whoever
//! stands before us may make another sense of it, and then one's body is the other's next request. So bytes are
//! followed here on their way to hyper, and what is not plain ends the connection.
//!
//! Not here: everything that has but one reading, however strange. That is for hyper and for the local service.

use std::mem;

use crate::{config::MAX_BUFFERED, headers::look_alike, seen::Seen};

/// Follows the bytes of one connection over HTTP/1.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: At,
    head: Head,
    /// The beginning of a line whose end has yet to come.
    line: Vec<u8>,
    heads: usize,
    seen: Seen,
    /// hyper takes a connection for one that may be switched from the first request on that asked for it.
    declined: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    RequestLine,
    Header,
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// Bytes behind a request for an upgrade: the answer says what they are.
    Undecided,
    /// Another protocol.
    Beyond,
}

/// What the head of a request has said about its body so far.
#[derive(Debug, Default)]
struct Head {
    http10: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    headers: usize,
    /// Of all lines so far.
    bytes: usize,
}

/// What is wrong with a message; the text is shown to the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    #[error("a line does not end with CR LF, or has a control character in it")]
    Line,
    #[error("the first line is not a method, a target and HTTP/1.1, with one space between them")]
    RequestLine,
    #[error("a header is not a name, a colon and a value")]
    Header,
    #[error("a header goes on in a second line")]
    Folded,
    #[error("the length of the body is told more than once")]
    Lengths,
    #[error("Content-Length is not a number")]
    Length,
    #[error("Transfer-Encoding is not just \"chunked\", or comes with HTTP/1.0")]
    Coding,
    #[error("a header has to do with the body and an underscore in its name")]
    Underscore,
    #[error("the size of a chunk is not a hexadecimal number, or not that of its data")]
    Chunk,
    #[error("a trailer has to do with the body or the host")]
    Trailer,
    #[error("the head of the request is longer than 64 KiB")]
    TooLong,
    #[error("it has more than 100 headers")]
    TooMany,
    #[error("the first line of the request is longer than 64 KiB")]
    TargetTooLong,
    /// hyper does not take it, for a reason that it keeps to itself.
    #[error(
        "the target is no path and no URL, or something else of the head is not as it has to be"
    )]
    Malformed,
}

/// Where it went wrong: the bytes before it are fine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    pub(crate) good: usize,
    pub(crate) why: Unclear,
}

impl Framing {
    /// Follows the next bytes. Returns how many of them have been followed; those behind a request for an
    /// upgrade are not.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, Stopped> {
        let mut good = 0;
        loop {
            let rest = &bytes[good..];
            match &mut self.at {
                At::Beyond => return Ok(bytes.len()),
                At::Undecided => return Ok(good),
                _ if rest.is_empty() => return Ok(good),
                At::Sized(left) | At::Chunk(left) if *left > 0 => {
                    let some = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= some as u64;
                    good += some;
                    if self.at == At::Sized(0) {
                        self.at = self.after_body();
                    }
                }
                At::Sized(_) => self.at = self.after_body(),
                At::Chunk(_) => self.at = At::ChunkEnd,
                _ => {
                    let stopped = |why| Stopped { good, why };
                    let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                        self.keep(rest).map_err(stopped)?;
                        return Ok(bytes.len());
                    };
                    self.line_ends(&rest[..=end]).map_err(stopped)?;
                    good += end + 1;
                }
            }
        }
    }

    /// Heads that have come whole.
    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    pub(crate) fn is_undecided(&self) -> bool {
        self.at == At::Undecided
    }

    /// Whether more of a message has to come that has begun.
    pub(crate) fn is_within_message(&self) -> bool {
        match self.at {
            At::RequestLine => !self.line.is_empty(),
            At::Undecided | At::Beyond => false,
            _ => true,
        }
    }

    /// What has been said in the head that was read last, or is being read. `None`, if that is not the head behind so
    /// many others.
    pub(crate) fn seen(&self, earlier: usize) -> Option<&Seen> {
        (self.heads_begun().checked_sub(1)? == earlier).then_some(&self.seen)
    }

    /// Heads of which anything has come.
    pub(crate) fn heads_begun(&self) -> usize {
        let is_begun =
            self.at == At::Header || (self.at == At::RequestLine && !self.line.is_empty());
        self.heads + usize::from(is_begun)
    }

    /// Requests before the one that was read last, or is being read.
    pub(crate) fn earlier(&self) -> usize {
        if self.is_in_head() { self.heads } else { self.heads.saturating_sub(1) }
    }

    /// The same for whatever was wrong.
    pub(crate) fn seen_last(&self) -> &Seen {
        &self.seen
    }

    /// What is too long in a head of which no more will be read.
    pub(crate) fn too_long(&mut self) -> Unclear {
        if self.at != At::RequestLine || self.line.is_empty() {
            return Unclear::TooLong;
        }
        self.seen.begin(&self.line);
        Unclear::TargetTooLong
    }

    /// Whether the head of a request is being read.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.at, At::RequestLine | At::Header)
    }

    /// What was agreed on for the bytes behind a request for an upgrade.
    pub(crate) fn decide(&mut self, switched: bool) {
        if self.at == At::Undecided {
            self.at = if switched { At::Beyond } else { At::RequestLine };
            self.declined |= !switched;
        }
    }

    /// Whether a request for an upgrade was declined, if it is not followed by anything else than whole requests,
    /// whose answers have ends of their own.
    pub(crate) fn is_whole_after_declining(&self) -> bool {
        let is_between = self.at == At::RequestLine && self.line.is_empty();
        self.is_undecided() || (self.declined && is_between && !self.head.http10)
    }

    /// Keeps the beginning of a line, and looks at what hyper acts upon before the end has come.
    fn keep(&mut self, part: &[u8]) -> Result<(), Unclear> {
        let is_chunk_end = self.at == At::ChunkEnd;
        if is_chunk_end && !b"\r\n".starts_with(&[&self.line[..], part].concat()) {
            return Err(Unclear::Chunk);
        }
        if self.line.len() + part.len() > MAX_BUFFERED {
            self.line.extend_from_slice(part);
            return Err(self.too_long());
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn line_ends(&mut self, end: &[u8]) -> Result<(), Unclear> {
        if self.line.is_empty() {
            return self.handle_line(end);
        }
        let mut line = mem::take(&mut self.line);
        line.extend_from_slice(end);
        self.handle_line(&line)
    }

    fn handle_line(&mut self, line: &[u8]) -> Result<(), Unclear> {
        if self.at == At::ChunkEnd {
            self.at = At::ChunkSize;
            return if line == b"\r\n" { Ok(()) } else { Err(Unclear::Chunk) };
        }
        if self.at == At::RequestLine && !matches!(line, b"\r\n") {
            self.seen.begin(line);
        }
        let line = line.strip_suffix(b"\r\n").ok_or(Unclear::Line)?;
        if line.iter().any(|&byte| is_control(byte)) {
            return Err(Unclear::Line);
        }
        match self.at {
            // Empty lines before a request are those of old browsers behind a body (RFC 9112, section 2.2).
            At::RequestLine if line.is_empty() => {}
            At::RequestLine if line.len() > MAX_BUFFERED => return Err(Unclear::TargetTooLong),
            At::RequestLine => {
                // Behind a CONNECT there may be anything, too.
                let upgrade = line.starts_with(b"CONNECT ");
                let http10 = request_line(line)?;
                self.head = Head { http10, upgrade, bytes: line.len(), ..Head::default() };
                self.at = At::Header;
            }
            At::Header if line.is_empty() => {
                self.heads += 1;
                self.at = match self.head {
                    Head { chunked: true, .. } => At::ChunkSize,
                    Head { length: Some(length @ 1..), .. } => At::Sized(length),
                    _ => self.after_body(),
                };
            }
            At::Header => {
                let name = self.head.take(line)?;
                self.seen.header(name, line);
            }
            At::ChunkSize => {
                self.at = match chunk_size(line).ok_or(Unclear::Chunk)? {
                    0 => At::Trailer,
                    size => At::Chunk(size),
                }
            }
            At::Trailer if line.is_empty() => self.at = self.after_body(),
            At::Trailer => {
                let (name, _) = header(line)?;
                if is_about_body(name) || name.eq_ignore_ascii_case(b"host") {
                    return Err(Unclear::Trailer);
                }
            }
            At::Sized(_) | At::Chunk(_) | At::ChunkEnd | At::Undecided | At::Beyond => {}
        }
        Ok(())
    }

    fn after_body(&self) -> At {
        if self.head.upgrade { At::Undecided } else { At::RequestLine }
    }
}

impl Head {
    /// One header; returns its name.
    fn take<'a>(&mut self, line: &'a [u8]) -> Result<&'a [u8], Unclear> {
        let (name, value) = header(line)?;
        self.headers += 1;
        self.bytes += line.len();
        if self.headers > MOST_HEADERS {
            return Err(Unclear::TooMany);
        }
        if self.bytes > MAX_BUFFERED {
            return Err(Unclear::TooLong);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() || self.chunked {
                return Err(Unclear::Lengths);
            }
            self.length = Some(decimal(value).ok_or(Unclear::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.length.is_some() || self.chunked {
                return Err(Unclear::Lengths);
            }
            self.chunked = !self.http10 && value.eq_ignore_ascii_case(b"chunked");
            return if self.chunked { Ok(name) } else { Err(Unclear::Coding) };
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            // HTTP/1.0 has no upgrades, and hyper knows that.
            self.upgrade |= !self.http10;
        } else if is_about_body(name) {
            // CGI and what came after it show `-` and `_` alike to the application.
            return Err(Unclear::Underscore);
        }
        Ok(name)
    }
}

/// As many as hyper takes.
const MOST_HEADERS: usize = 100;

/// Whether the line is one of HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Unclear> {
    let mut parts = line.split(|&byte| byte == b' ');
    let parts = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(method), Some(target), Some(version), None) = parts else {
        return Err(Unclear::RequestLine);
    };
    let is_method = !method.is_empty() && method.iter().all(|&byte| is_token_byte(byte));
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" if is_method && !target.is_empty() => Ok(version.ends_with(b"0")),
        _ => Err(Unclear::RequestLine),
    }
}

fn header(line: &[u8]) -> Result<(&[u8], &[u8]), Unclear> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Unclear::Folded);
    }
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Unclear::Header)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_name = !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte));
    // Only space and tab are space in HTTP; what control characters are left was refused before.
    if is_name { Ok((name, value.trim_ascii())) } else { Err(Unclear::Header) }
}

fn is_about_body(name: &[u8]) -> bool {
    look_alike(name, b"content-length") || look_alike(name, b"transfer-encoding")
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// `chunk-size [ chunk-ext ]`; extensions say nothing to anybody, but have to look like some.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let is_extension = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    // 16 digits are 64 bits; leading zeros beyond that are nobody's honest number.
    if !is_extension || digits.is_empty() || digits.len() > 16 {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may be in no line. A tab may; what is beyond ASCII is somebody's old encoding.
fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: a\r\n";

    fn followed(text: &str) -> Result<usize, Stopped> {
        Framing::default().follow(text.as_bytes())
    }

    #[test]
    fn requests_follow_each_other() {
        let sized = format!("{HEAD}Content-Length: 5\r\n\r\nGET /");
        let chunked = format!(
            "{HEAD}Transfer-Encoding: Chunked\r\n\r\n5;x=y\r\nGET /\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n"
        );
        let all = sized + &chunked + "\r\nGET / HTTP/1.0\r\n\r\n";
        let mut framing = Framing::default();
        assert_eq!(framing.follow(all.as_bytes()), Ok(all.len()));
        assert_eq!((framing.heads(), framing.at), (3, At::RequestLine));
    }

    #[test]
    fn what_is_good_comes_before_what_is_not() {
        let good = format!("{HEAD}content-length: 4\r\n");
        let bad = format!("{good}content-length: 4\r\n\r\n");
        assert_eq!(followed(&bad), Err(Stopped { good: good.len(), why: Unclear::Lengths }));
    }

    #[test]
    fn the_answer_decides_what_follows_a_request_for_an_upgrade() {
        let head = "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n";
        let text = format!("{head}\n\n\n");
        let mut framing = Framing::default();
        assert_eq!(framing.follow(text.as_bytes()), Ok(head.len()));
        assert!(framing.is_undecided());
        framing.decide(true);
        assert_eq!(framing.follow(b"\n\n\n"), Ok(3));

        let mut framing = Framing::default();
        assert_eq!(framing.follow(text.as_bytes()), Ok(head.len()));
        framing.decide(false);
        assert_eq!(framing.follow(b"\n"), Err(Stopped { good: 0, why: Unclear::Line }));
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut framing = Framing::default();
        let piece = [b'x'; 16 << 10];
        let stopped = (0..8).find_map(|_| framing.follow(&piece).err());
        assert_eq!(stopped, Some(Stopped { good: 0, why: Unclear::TargetTooLong }));
        assert_eq!(framing.seen_last().request_line()[..4], piece[..4]);

        let many = (0..101).map(|_| "x: y\r\n").collect::<String>();
        let why = |text: String| followed(&text).map_err(|stopped| stopped.why);
        assert_eq!(why(format!("{HEAD}{many}")), Err(Unclear::TooMany));
        let large = format!("x: {}\r\n", "y".repeat(1000)).repeat(66);
        assert_eq!(why(format!("{HEAD}{large}")), Err(Unclear::TooLong));
    }

    fn anything() -> impl Strategy<Value = Vec<u8>> {
        let parts = [
            "GET / HTTP/1.1\r\n",
            "POST /x HTTP/1.0\r\n",
            "content-length: 3\r\n",
            "transfer-encoding: chunked\r\n",
            "upgrade: x\r\n",
            "x: y\r\n",
            "\r\n",
            "\n",
            "\r",
            "3\r\n",
            "abc",
            "0\r\n",
            " ",
        ];
        prop::collection::vec(prop::sample::select(parts.to_vec()), 0..12)
            .prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn however_bytes_are_cut_they_are_judged_alike(bytes in anything(), cut in 0_usize..64) {
            let mut whole = Framing::default();
            let at_once = whole.follow(&bytes);
            let (mut parted, mut seen) = (Framing::default(), 0);
            let mut piecewise = Ok(0);
            for piece in bytes.chunks(cut + 1) {
                match parted.follow(piece) {
                    Ok(count) => seen += count,
                    Err(stopped) => { piecewise = Err(stopped.why); break }
                }
            }
            let piecewise = piecewise.map(|_| seen);
            prop_assert_eq!(at_once.map_err(|stopped| stopped.why), piecewise);
            prop_assert_eq!(whole.heads(), parted.heads());
        }
    }
}
