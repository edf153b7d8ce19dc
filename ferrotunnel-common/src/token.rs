//! The secret that a client and a server know.

use std::fmt;

use crate::base32;

/// A secret that a client proves to know and that never travels. `Debug` does not show it.
///
/// There are two kinds. A *named* token was made by [`Token::named`] and looks like
/// `ft1_` id `_` secret checksum: a server knows several of them, each by its id. Every other text is a
/// *shared* token, the one that a server and all its clients have; its id is empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: Vec<u8>,
}

/// Why a string is not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Nothing is left after trimming the line end.
    #[error("the token is empty; set it with --token or FERROTUNNEL_TOKEN")]
    Empty,
    /// Blanks and control characters inside a token are always a mistake of quoting or pasting.
    #[error("the token contains a space or control character; check its quoting")]
    Blank,
    /// Longer than [`Token::MAX_LEN`].
    #[error("the token is longer than 1024 bytes; was a whole file pasted?")]
    TooLong,
    /// It is meant to be a named token, but has lost or gained characters.
    #[error(
        "the token has a typing error: it has {found} characters instead of {FULL_LEN}; copy it again as a whole"
    )]
    Length {
        /// How many it has.
        found: usize,
    },
    /// It is meant to be a named token, but some of it is not what it was.
    #[error("the token has a typing error: {0}; copy it again as a whole")]
    Typo(&'static str),
}

impl Token {
    /// Longest token in bytes. A token is hashed, so more would add no strength.
    pub const MAX_LEN: usize = 1024;

    /// Takes a token of either kind as typed or read from a file; one trailing line end and blanks
    /// around it are dropped, since editors and shells add them.
    ///
    /// # Errors
    /// It is no token, or a named one with a typing error: those are told from wrong tokens here, so
    /// that nobody has to ask a server.
    pub fn new(text: impl Into<String>) -> Result<Self, TokenError> {
        let text: String = text.into();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(TokenError::Empty);
        }
        if trimmed.len() > Self::MAX_LEN {
            return Err(TokenError::TooLong);
        }
        if trimmed.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TokenError::Blank);
        }
        if has_prefix(trimmed) {
            return parse_named(trimmed);
        }
        // The chance that somebody chose a shared secret that ends like this is one in a billion.
        let start = trimmed.len().saturating_sub(FULL_LEN - PREFIX.len());
        let tail = trimmed.get(start..).unwrap_or_default();
        if parse_named(&format!("{PREFIX}{tail}")).is_ok() {
            return Err(TokenError::Typo("its beginning is wrong"));
        }
        Ok(Self { id: String::new(), secret: trimmed.as_bytes().to_owned() })
    }

    /// A token of 256 bits, known by an id. Both must come from a cryptographic random generator: the
    /// secret so that nobody guesses it, the id so that a server never has it twice.
    pub fn named(id: [u8; Self::ID_BYTES], secret: [u8; Self::SECRET_BYTES]) -> Self {
        Self { id: base32::encode(&id), secret: secret.to_vec() }
    }

    /// Bytes of a named token's id. It is no secret.
    pub const ID_BYTES: usize = 5;

    /// Bytes of a named token's secret.
    pub const SECRET_BYTES: usize = 32;

    /// By what the server knows it; empty for the shared token. It is no secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret bytes, for key derivation only.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The token as it is typed, for whoever is to have it.
    pub fn reveal(&self) -> String {
        if self.id.is_empty() {
            return String::from_utf8_lossy(&self.secret).into_owned();
        }
        let body = format!("{PREFIX}{}_{}", self.id, base32::encode(&self.secret));
        let checksum = base32::checksum(&body);
        body + &checksum
    }
}

/// Whether the beginning is a named token's, be it in capitals or with its last two letters swapped.
fn has_prefix(text: &str) -> bool {
    let begins = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    begins(PREFIX) || text.len() == FULL_LEN && begins(PREFIX.trim_end_matches('_'))
}

fn parse_named(text: &str) -> Result<Token, TokenError> {
    if text.chars().count() != FULL_LEN {
        return Err(TokenError::Length { found: text.chars().count() });
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(TokenError::Typo("it has capital letters"));
    }
    let parsed = text.strip_prefix(PREFIX).and_then(|rest| {
        let (id, rest) = rest.split_at_checked(ID_LEN)?;
        let (secret, checksum) = rest.strip_prefix('_')?.split_at_checked(SECRET_LEN)?;
        let body = text.strip_suffix(checksum)?;
        let token = Token::named(base32::decode(id)?, base32::decode(secret)?);
        (base32::checksum(body) == checksum).then_some(token)
    });
    parsed.ok_or(TokenError::Typo("a character in it is wrong"))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// What named tokens begin with; the number is the version of their form.
const PREFIX: &str = "ft1_";

const ID_LEN: usize = 8;
const SECRET_LEN: usize = 52;

/// Prefix, id, underscore, secret, checksum.
const FULL_LEN: usize = 4 + ID_LEN + 1 + SECRET_LEN + base32::CHECKSUM_LEN;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named() -> Token {
        Token::named([1, 2, 3, 4, 5], std::array::from_fn(|at| at as u8))
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let token = Token::new("hunter2").unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
        assert!(!format!("{:?}", named()).contains("0123"));
    }

    #[test]
    fn a_trailing_line_end_is_trimmed() {
        assert_eq!(Token::new("abc\r\n").unwrap().secret(), b"abc");
        assert_eq!(Token::new("  abc ").unwrap().secret(), b"abc");
        assert_eq!(Token::new(format!("{}\n", named().reveal())), Ok(named()));
    }

    #[test]
    fn bad_tokens_are_told_apart() {
        assert_eq!(Token::new(" \n").unwrap_err(), TokenError::Empty);
        assert_eq!(Token::new("a b").unwrap_err(), TokenError::Blank);
        assert_eq!(Token::new("a\nb").unwrap_err(), TokenError::Blank);
        assert_eq!(Token::new("x".repeat(1025)).unwrap_err(), TokenError::TooLong);
    }

    #[test]
    fn a_shared_token_has_no_id_and_stays_as_it_is() {
        for text in ["swordfish", "ft2_abc", "ft1", "ft1-secret", "é".repeat(40).as_str()] {
            let token = Token::new(text).unwrap();
            assert_eq!((token.id(), token.reveal().as_str()), ("", text));
        }
    }

    #[test]
    fn a_named_token_is_one_string() {
        let text = named().reveal();
        assert_eq!(
            text,
            "ft1_04106105_000g40r40m30e209185gr38e1w8124gk2gahc5rr34d1p70x3rfg1nwfttr"
        );
        assert_eq!(text.len(), FULL_LEN);
        assert_eq!(Token::new(text).unwrap().id(), "04106105");
    }

    #[test]
    fn what_is_lost_or_in_capitals_is_said() {
        let text = named().reveal();
        let error = |text: &str| Token::new(text).unwrap_err().to_string();
        let short = error(&text[..60]);
        assert!(short.contains("typing error") && short.contains("60"), "{short}");
        assert!(error("ft1_").contains("typing error"));
        assert!(error(&text.to_uppercase()).contains("capital"));
        for beginning in
            [&text[1..], &text[4..], &format!("token={text}"), &text.replace("ft1_", "ft7_")]
        {
            assert!(error(beginning).contains("beginning"), "{beginning}");
        }
    }

    proptest! {
        #[test]
        fn every_named_token_is_read_back(id: [u8; 5], secret: [u8; 32]) {
            let token = Token::named(id, secret);
            prop_assert_eq!(Token::new(token.reveal()), Ok(token));
        }

        #[test]
        fn every_wrong_character_is_noticed(
            id: [u8; 5],
            secret: [u8; 32],
            wrong in proptest::char::range('!', '~'),
        ) {
            let text = Token::named(id, secret).reveal();
            for at in 0..text.len() {
                if text[at..].starts_with(wrong) {
                    continue;
                }
                for rest in [at, at + 1] {
                    // Put in, and in place of another.
                    let changed = format!("{}{wrong}{}", &text[..at], &text[rest..]);
                    let error = Token::new(&changed).unwrap_err();
                    prop_assert!(error.to_string().contains("typing error"), "{}", changed);
                }
                let lost = format!("{}{}", &text[..at], &text[at + 1..]);
                prop_assert!(Token::new(&lost).is_err(), "{}", lost);
            }
        }

        #[test]
        fn neighbours_that_changed_places_are_noticed(id: [u8; 5], secret: [u8; 32]) {
            let text = Token::named(id, secret).reveal();
            for at in 1..text.len() {
                let mut changed: Vec<char> = text.chars().collect();
                changed.swap(at - 1, at);
                let changed: String = changed.into_iter().collect();
                prop_assert!(changed == text || Token::new(&changed).is_err(), "{}", changed);
            }
        }
    }
}
