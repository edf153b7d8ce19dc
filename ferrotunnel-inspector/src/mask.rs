//! Secrets among headers, which are shown to nobody who does not ask for them.

use crate::head::{Headers, shown};

/// Which headers are secrets.
#[derive(Clone, Debug)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    pub(crate) fn new(further: &[String]) -> Self {
        let known = KNOWN.iter().map(|name| (*name).to_owned());
        Self(known.chain(further.iter().map(|name| name.trim().to_lowercase())).collect())
    }

    pub(crate) fn hides(&self, name: &str) -> bool {
        self.0.iter().any(|hidden| hidden.eq_ignore_ascii_case(name))
    }

    /// The headers as they may be shown.
    pub(crate) fn shown(&self, headers: &Headers, reveal: bool) -> Vec<[String; 2]> {
        let one = |(name, value): (&str, &[u8])| {
            let is_hidden = !reveal && self.hides(name);
            [name.to_owned(), if is_hidden { MASK.to_owned() } else { shown(value) }]
        };
        headers.iter().map(one).collect()
    }
}

/// What stands in the place of a secret. It tells nothing of its length either.
pub(crate) const MASK: &str = "••••";

const KNOWN: [&str; 5] =
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
