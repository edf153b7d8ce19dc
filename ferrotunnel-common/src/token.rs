//! The shared secret that a client and a server know.

use std::fmt;

/// A secret that both ends know and that never travels. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

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
}

impl Token {
    /// Longest token in bytes. A token is hashed, so more would add no strength.
    pub const MAX_LEN: usize = 1024;

    /// Takes a token as typed or read from a file; one trailing line end and blanks around it are
    /// dropped, since editors and shells add them.
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
        Ok(Self(trimmed.to_owned()))
    }

    /// The secret bytes, for key derivation only.
    pub fn secret(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_secret() {
        let token = Token::new("hunter2").unwrap();
        assert!(!format!("{token:?}").contains("hunter2"));
    }

    #[test]
    fn a_trailing_line_end_is_trimmed() {
        assert_eq!(Token::new("abc\r\n").unwrap().secret(), b"abc");
        assert_eq!(Token::new("  abc ").unwrap().secret(), b"abc");
    }

    #[test]
    fn bad_tokens_are_told_apart() {
        assert_eq!(Token::new(" \n").unwrap_err(), TokenError::Empty);
        assert_eq!(Token::new("a b").unwrap_err(), TokenError::Blank);
        assert_eq!(Token::new("a\nb").unwrap_err(), TokenError::Blank);
        assert_eq!(Token::new("x".repeat(1025)).unwrap_err(), TokenError::TooLong);
    }
}
