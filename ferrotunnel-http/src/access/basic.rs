//! User names and passwords of visitors (RFC 7617), of which only a hash is kept.

use std::{fmt, str::FromStr};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::phc::PasswordHash,
};

/// A user that visitors may be, and the Argon2id hash of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicUser {
    name: String,
    /// A PHC string that was read once, so it can be read again.
    hash: String,
}

/// Why a password cannot be hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Nobody could not guess it.
    #[error("the password is empty")]
    Empty,
    /// What a header has no room for.
    #[error("the password is longer than {MOST_BYTES} bytes")]
    TooLong,
    /// The system gave no randomness, or no memory.
    #[error("the system cannot hash a password now")]
    System,
}

/// The Argon2id hash of a password, with parameters that OWASP recommends (19 MiB, two passes) and a random salt.
///
/// # Errors
/// See [`PasswordError`].
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    if password.len() > MOST_BYTES {
        return Err(PasswordError::TooLong);
    }
    let mut salt = [0; SALT_BYTES];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| PasswordError::System)?;
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    let hash = hasher.hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|_| PasswordError::System)
}

impl BasicUser {
    /// A user and the hash of the password, as [`hash_password`] gives it.
    ///
    /// # Errors
    /// The name has a colon, white space or control characters in it, or the hash is none or takes too much to check.
    pub fn new(name: &str, hash: &str) -> Result<Self, String> {
        Self::check_name(name)?;
        check(hash).map_err(|why| format!("user {name:?}: {why}"))?;
        Ok(Self { name: name.to_owned(), hash: hash.to_owned() })
    }

    /// Whether a user may be called that.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_name(name: &str) -> Result<(), String> {
        let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
        if !name.is_empty() && name.chars().all(fits) {
            return Ok(());
        }
        Err(format!(
            "{name:?} is no user name: one has no colon, white space or control characters in it"
        ))
    }

    /// What the user is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of the password.
    pub fn password_hash(&self) -> &str {
        &self.hash
    }

    /// Whether that is the password. It takes tens of milliseconds of a processor, and as much memory as the hash says:
    /// 64 MiB at most.
    pub(super) fn has_password(&self, password: &[u8]) -> bool {
        Argon2::default().verify_password(password, self.hash.as_str()).is_ok()
    }
}

/// A hash comes from a client, and its parameters say what it costs this server to check a password against it.
fn check(hash: &str) -> Result<(), String> {
    // It may be the password itself, which must not get into a log.
    let wrong = || {
        "that is no Argon2 hash, which begins with $argon2id$; `ferrotunnel password` makes one"
            .to_owned()
    };
    let hash = PasswordHash::new(hash).map_err(|_| wrong())?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
        return Err(wrong());
    }
    let params = Params::try_from(&hash).map_err(|_| wrong())?;
    let is_cheap = params.m_cost() <= MOST_KIB
        && params.t_cost() <= MOST_PASSES
        && params.p_cost() <= MOST_LANES
        && u64::from(params.m_cost()) * u64::from(params.t_cost()) <= MOST_WORK;
    if is_cheap {
        return Ok(());
    }
    Err(format!(
        "a hash may take at most {MOST_KIB} KiB, {MOST_PASSES} passes and {MOST_LANES} lanes to check, and that \
         memory only twice; `ferrotunnel password` makes one that does not"
    ))
}

impl FromStr for BasicUser {
    type Err = String;

    /// `USER:HASH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, hash) = text.split_once(':').ok_or(
            "a user is given as USER:HASH; `ferrotunnel password USER` asks for a password and makes that",
        )?;
        Self::new(name, hash)
    }
}

impl fmt::Display for BasicUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.hash)
    }
}

impl fmt::Debug for BasicUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is longer is no password, and hashing it is work as well.
const MOST_BYTES: usize = 1_024;

/// As RFC 9106 recommends.
const SALT_BYTES: usize = 16;

/// The memory of one check; there are a few at a time.
const MOST_KIB: u32 = 64 << 10;

const MOST_PASSES: u32 = 10;

const MOST_LANES: u32 = 4;

/// KiB times passes: some 150 ms on a processor of today.
const MOST_WORK: u64 = 2 * MOST_KIB as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_and_no_hash_is_made_twice() {
        let (one, other) = (hash_password("secret").unwrap(), hash_password("secret").unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        let user = BasicUser::new("alice", &one).unwrap();
        assert!(user.has_password(b"secret") && !user.has_password(b"Secret"));
        assert_eq!(user.to_string().parse(), Ok(user.clone()));
        assert!(!format!("{user:?}").contains("argon2"));
    }

    #[test]
    fn what_nobody_should_use_is_not_hashed() {
        assert_eq!(hash_password(""), Err(PasswordError::Empty));
        assert_eq!(hash_password(&"x".repeat(1_025)), Err(PasswordError::TooLong));
    }

    #[test]
    fn what_costs_the_server_too_much_is_refused() {
        let with = |params: &str| {
            let hash = hash_password("secret").unwrap().replace("m=19456,t=2,p=1", params);
            BasicUser::new("alice", &hash).map(drop)
        };
        assert_eq!(with("m=65536,t=2,p=4"), Ok(()));
        for dear in ["m=65537,t=1,p=1", "m=65536,t=3,p=1", "m=8,t=11,p=1", "m=64,t=1,p=5"] {
            assert!(with(dear).unwrap_err().contains("at most"), "{dear}");
        }
    }

    #[test]
    fn what_is_no_user_is_refused_and_no_password_is_repeated() {
        let hash = hash_password("secret").unwrap();
        for name in ["", "a b", "a\nb", "a:b"] {
            assert!(BasicUser::new(name, &hash).is_err(), "{name:?}");
        }
        for bad in
            ["alice:plain-text", "alice:", "alice:$argon2id$", "alice:$2b$12$abc", "plain-text"]
        {
            let error = bad.parse::<BasicUser>().unwrap_err();
            assert!(
                error.contains("ferrotunnel password") && !error.contains("plain-text"),
                "{error}"
            );
        }
        let other = hash.replace("argon2id", "argon2d");
        assert!(BasicUser::new("alice", &other).is_err());
    }
}
