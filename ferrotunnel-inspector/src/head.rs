//! Heads of requests and answers, whatever they came in.

use std::net::SocketAddr;

/// Names as they were written, and values, which need not be text.
pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) version: Version,
    pub(crate) headers: Headers,
}

/// What was answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Headers,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
}

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
    let found = headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(&found.1).ok().map(str::trim)
}

/// Whether a list among the headers has that word.
pub(crate) fn has_token(headers: &Headers, name: &str, token: &str) -> bool {
    let named = headers.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
    let mut values = named.filter_map(|(_, value)| std::str::from_utf8(value).ok());
    values.any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token)))
}

/// What a value looks like; bytes that are no text are taken for Latin-1, as browsers do.
pub(crate) fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// What keeping them costs.
pub(crate) fn weight(headers: &Headers) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + size_of::<(String, Vec<u8>)>())
        .sum()
}

/// Who is behind a request, as the server has told the local service, or else who the stream was opened for.
pub(crate) fn visitor(headers: &Headers, opened_for: Option<SocketAddr>) -> Option<String> {
    let told = header(headers, "x-forwarded-for").and_then(|list| list.split(',').next());
    let told = told.map(str::trim).filter(|first| !first.is_empty()).map(str::to_owned);
    told.or_else(|| opened_for.map(|visitor| visitor.ip().to_string()))
}
