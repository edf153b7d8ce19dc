//! Heads of requests and answers, whatever they came in.

use std::borrow::Cow;
use std::net::SocketAddr;

/// Names as they were written, and values, which need not be text. All are in one piece of memory: most lists are thrown
/// away unread, and what is to be written and forgotten for each field is what inspecting costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    /// What is kept with them and is none: so many bytes at the beginning.
    front: u32,
    /// A bit for each name that is there, see [`bit`]: most names that are looked for are not.
    names: u32,
    /// Of each field the lengths of name and value, then both.
    packed: Vec<u8>,
}

impl Headers {
    pub(crate) const NONE: Self = Self { front: 0, names: 0, packed: Vec::new() };

    /// These, and no room for more.
    pub(crate) fn packed<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone) -> Self {
        Self::behind([], fields)
    }

    /// These behind some other texts.
    fn behind<'a, const N: usize>(
        front: [&str; N],
        fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Self {
        let of_front = front.iter().map(|text| text.len()).sum();
        let of_fields = fields.clone().map(|(name, value)| FIELD + name.len() + value.len());
        let mut packed = Vec::with_capacity(of_front + of_fields.sum::<usize>());
        front.iter().for_each(|text| packed.extend_from_slice(text.as_bytes()));
        let mut headers = Self { front: length(of_front), names: 0, packed };
        fields.for_each(|(name, value)| headers.push(name, value));
        headers
    }

    pub(crate) fn push(&mut self, name: &str, value: &[u8]) {
        let lengths = u64::from(length(name.len())) | u64::from(length(value.len())) << u32::BITS;
        self.names |= bit(name.as_bytes());
        self.packed.extend_from_slice(&lengths.to_le_bytes());
        self.packed.extend_from_slice(name.as_bytes());
        self.packed.extend_from_slice(value);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.fields().map(|(name, value)| (std::str::from_utf8(name).unwrap_or_default(), value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packed.len() == self.front as usize
    }

    /// What keeping them costs.
    pub(crate) fn weight(&self) -> usize {
        self.packed.capacity()
    }

    /// The values under that name.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_it = move |one: &[u8]| one.eq_ignore_ascii_case(name.as_bytes());
        let all = if self.names & bit(name.as_bytes()) == 0 { &[][..] } else { self.all() };
        Self::fields_of(all).filter(move |(one, _)| is_it(one)).map(|(_, value)| value)
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        Self::fields_of(self.all())
    }

    fn all(&self) -> &[u8] {
        self.packed.get(self.front as usize..).unwrap_or_default()
    }

    fn fields_of(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        std::iter::from_fn(move || {
            let (name, after) = rest.split_first_chunk()?;
            let (value, after) = after.split_first_chunk()?;
            let (name, after) = after.split_at_checked(u32::from_le_bytes(*name) as usize)?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes(*value) as usize)?;
            rest = after;
            Some((name, value))
        })
    }

    /// Two texts in front of them, of which the first is so long.
    fn fronts(&self, first: u32) -> (&str, &str) {
        let front = self.packed.get(..self.front as usize).unwrap_or_default();
        let front = std::str::from_utf8(front).unwrap_or_default();
        front.split_at_checked(first as usize).unwrap_or_default()
    }
}

/// Texts are bounded far below what fits.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// One of 32 for a name in whatever case. Those that are looked for in each head share theirs with no other common one.
fn bit(name: &[u8]) -> u32 {
    let of = |end: Option<&u8>| u32::from(*end.unwrap_or(&0) & 0x1f);
    1 << (length(name.len()).wrapping_add(12 * (of(name.first()) + of(name.last()))) % u32::BITS)
}

/// What each field takes beside its text.
const FIELD: usize = 2 * size_of::<u32>();

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) method: Cow<'static, str>,
    pub(crate) version: Version,
    /// How long the path is. It is in front of the headers, and so is the authority.
    path: u32,
    pub(crate) headers: Headers,
}

/// What was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) headers: Headers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl RequestHead {
    /// `authority`: where it is not among the headers.
    pub(crate) fn new<'a>(
        (method, version): (Cow<'static, str>, Version),
        path: &str,
        authority: &str,
        fields: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    ) -> Self {
        let headers = Headers::behind([path, authority], fields);
        Self { method, version, path: length(path.len()), headers }
    }

    /// With the query.
    pub(crate) fn path(&self) -> &str {
        self.headers.fronts(self.path).0
    }

    /// Empty where it is among the headers.
    pub(crate) fn authority(&self) -> &str {
        self.headers.fronts(self.path).1
    }

    /// The host as it was asked for.
    pub(crate) fn host(&self) -> &str {
        match self.authority() {
            "" => header(&self.headers, "host").unwrap_or_default(),
            authority => authority,
        }
    }
}

/// A method; those that everybody uses take no memory.
pub(crate) fn method(name: &str) -> Cow<'static, str> {
    match METHODS.into_iter().find(|known| *known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_owned()),
    }
}

/// The words behind a status; the usual ones take no memory.
pub(crate) fn reason(status: u16, words: &str) -> Cow<'static, str> {
    let usual = http::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
    match usual.filter(|usual| *usual == words) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(words.to_owned()),
    }
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"];

impl Version {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// The first value of a header, if it is text.
pub(crate) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    std::str::from_utf8(headers.named(name).next()?).ok().map(str::trim)
}

/// Whether a list among the headers has that word.
pub(crate) fn has_token(headers: &Headers, name: &str, token: &str) -> bool {
    let mut values = headers.named(name).filter_map(|value| std::str::from_utf8(value).ok());
    values.any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token)))
}

/// What a value looks like; bytes that are no text are taken for Latin-1, as browsers do.
pub(crate) fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Who is behind a request, as the server has told the local service, or else who the stream was opened for.
pub(crate) fn visitor(headers: &Headers, opened_for: Option<SocketAddr>) -> Option<String> {
    let told = header(headers, "x-forwarded-for").and_then(|list| list.split(',').next());
    let told = told.map(str::trim).filter(|first| !first.is_empty()).map(str::to_owned);
    told.or_else(|| opened_for.map(|visitor| visitor.ip().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_what_was_put_in() {
        let fields: [(&str, &[u8]); 4] =
            [("Host", b"a"), ("x-empty", b""), ("Set-Cookie", b"\xff\0"), ("set-cookie", b"b")];
        let headers = Headers::packed(fields.into_iter());
        assert!(headers.iter().eq(fields) && !headers.is_empty());
        assert_eq!((header(&headers, "HOST"), header(&headers, "set-cookie")), (Some("a"), None));
        let cookies: Vec<_> = headers.named("set-cookie").collect();
        assert_eq!(cookies, [&b"\xff\0"[..], b"b"]);
        assert!(Headers::default().is_empty() && Headers::default().iter().next().is_none());
    }

    #[test]
    fn each_name_is_found_among_any_others_in_whatever_case() {
        let names: Vec<String> = (0..200).map(|number| format!("{number}-Name{number}")).collect();
        let headers = Headers::packed(names.iter().map(|name| (name.as_str(), name.as_bytes())));
        for name in &names {
            let found: Vec<_> = headers.named(&name.to_uppercase()).collect();
            assert_eq!(found, [name.as_bytes()]);
            // Alone, and those that are not there.
            let alone = Headers::packed([(name.as_str(), &b""[..])].into_iter());
            let has = |other: &&String| alone.named(&other.to_lowercase()).next().is_some();
            assert_eq!(names.iter().filter(has).collect::<Vec<_>>(), [name]);
        }
    }

    #[test]
    fn a_request_is_what_was_asked_for() {
        let fields: [(&str, &[u8]); 2] = [("host", b"b"), ("x", b"\xff")];
        let asked = |authority| {
            let line = (method("GET"), Version::Http2);
            RequestHead::new(line, "/\u{e9}?x", authority, fields.into_iter())
        };
        for (authority, host) in [("a:1", "a:1"), ("", "b")] {
            let head = asked(authority);
            assert_eq!(
                (head.path(), head.authority(), head.host()),
                ("/\u{e9}?x", authority, host)
            );
            assert!(head.headers.iter().eq(fields) && !head.headers.is_empty());
        }
        assert_eq!(RequestHead::default().path(), "");
    }

    #[test]
    fn words_are_what_was_said() {
        assert_eq!((&*method("GET"), &*method("get"), &*method("BREW")), ("GET", "get", "BREW"));
        assert_eq!((&*reason(200, "OK"), &*reason(200, "ok"), &*reason(7, "")), ("OK", "ok", ""));
    }
}
