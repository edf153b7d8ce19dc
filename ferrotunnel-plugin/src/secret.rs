//! The hash of a secret, in place of the secret. It stands here because all who keep one know this crate.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// The SHA-256 of a secret. As text it is `sha256:` and 64 hexadecimal digits, which `printf %s SECRET | sha256sum`
/// prints.
///
/// One round withstands guessing only if the secret is long and random; a password that people think of does not
/// belong here.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash([u8; SHA256_OUTPUT_LEN]);

/// A text is no `sha256:` with 64 hexadecimal digits. It is not repeated: it may be the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHash;

impl fmt::Display for NoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hash of a secret is sha256: and 64 hexadecimal digits")
    }
}

impl std::error::Error for NoHash {}

impl SecretHash {
    /// The hash of this secret.
    pub fn of(secret: &[u8]) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        // Both have the length of the one hash.
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, secret).as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// Whether it is that of the secret shown. Hashes have one length, and comparing them tells nothing about where
    /// they differ.
    pub fn is_of(&self, shown: &[u8]) -> bool {
        verify_slices_are_equal(&self.0, &Self::of(shown).0).is_ok()
    }
}

impl FromStr for SecretHash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let digits = text.strip_prefix(PREFIX).ok_or(NoHash)?.as_bytes();
        let mut hash = [0; SHA256_OUTPUT_LEN];
        if digits.len() != 2 * hash.len() {
            return Err(NoHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
            *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or(NoHash)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

const PREFIX: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_hash() {
        let hash = SecretHash::of(b"correct-horse-battery");
        let written = hash.to_string();
        // As `printf correct-horse-battery | sha256sum` has it.
        assert_eq!(
            written,
            "sha256:62249369389075490555a758353aec61500c6218fa597252d52dc4bd0148f12d"
        );
        assert_eq!(written.parse(), Ok(hash.clone()));
        assert_eq!(written.to_uppercase().replace("SHA", "sha").parse(), Ok(hash.clone()));
        assert!(hash.is_of(b"correct-horse-battery"));
        assert!(!hash.is_of(b"correct-horse-batterx") && !hash.is_of(b""));
        assert!(!format!("{hash:?}").contains(&written[7..]));
    }

    #[test]
    fn what_is_no_hash_is_none() {
        let digits = "0".repeat(64);
        for bad in ["", "sha256:", "sha256:zz", &digits, &format!("sha256:{digits}0")] {
            assert_eq!(bad.parse::<SecretHash>(), Err(NoHash), "{bad:?}");
        }
        let bad = format!("sha256:{}é", &digits[2..]);
        assert_eq!(bad.parse::<SecretHash>(), Err(NoHash));
        assert_eq!(format!("sha256:+{}", &digits[1..]).parse::<SecretHash>(), Err(NoHash));
    }
}
