//! Bearer tokens of visitors (RFC 6750), of which only a hash is kept.

use std::{fmt, str::FromStr};

use ferrotunnel_plugin::SecretHash;

/// The SHA-256 of a token that visitors may show. That is enough for something nobody can guess, and nothing else
/// should be a token: so one needs at least 16 characters.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(SecretHash);

impl BearerToken {
    /// Of the token itself.
    ///
    /// # Errors
    /// It is too short, or cannot be sent in a header.
    pub fn of_secret(secret: &str) -> Result<Self, String> {
        if secret.len() < LEAST_BYTES {
            return Err(format!(
                "a bearer token has at least {LEAST_BYTES} characters; make one with a generator of random text"
            ));
        }
        if !secret.bytes().all(is_token_byte) {
            return Err("a bearer token consists of letters, digits and -._~+/=".to_owned());
        }
        Ok(Self(SecretHash::of(secret.as_bytes())))
    }

    /// Whether that is the token.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        self.0.is_of(shown)
    }
}

/// RFC 6750, section 2.1.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

impl FromStr for BearerToken {
    type Err = String;

    /// `sha256:` and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, String> {
        // It may be the token itself, which must not get into a log.
        text.parse().map(Self).map_err(|_| {
            "a bearer token is given as sha256: and 64 hexadecimal digits; `ferrotunnel password --bearer` makes them"
                .to_owned()
        })
    }
}

impl fmt::Display for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// Some 80 bits and more if they are random.
const LEAST_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let token = BearerToken::of_secret("correct-horse-battery").unwrap();
        let written = token.to_string();
        // As `printf correct-horse-battery | sha256sum` has it.
        assert_eq!(
            written,
            "sha256:62249369389075490555a758353aec61500c6218fa597252d52dc4bd0148f12d"
        );
        assert_eq!(written.parse(), Ok(token.clone()));
        assert!(token.is(b"correct-horse-battery") && !token.is(b"correct-horse-batterx"));
        assert!(!format!("{token:?}").contains(&written[7..]));
    }

    #[test]
    fn what_is_no_token_and_no_hash_is_refused_and_not_repeated() {
        for bad in ["short", "with white space in it", "in-plain-text-é-----"] {
            assert!(!BearerToken::of_secret(bad).unwrap_err().contains(bad), "{bad:?}");
        }
        let hash = "0".repeat(64);
        for bad in ["secret-in-plain-text", "sha256:zz", &hash, &format!("sha256:{}é", &hash[2..])]
        {
            assert!(!bad.parse::<BearerToken>().unwrap_err().contains(bad), "{bad:?}");
        }
    }
}
