//! Names of tunnels: what is allowed, and readable ones for those that ask for none.

use ferrotunnel_protocol::frame::RefusalCode;

use crate::auth;
use crate::error::BuildError;

/// A DNS label (RFC 1035, RFC 1123): letters, digits and inner hyphens, at most 63. Lower-cased.
pub(crate) fn check_label(name: &str) -> Result<String, (RefusalCode, String)> {
    let legal = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if legal {
        Ok(name.to_ascii_lowercase())
    } else {
        let reason = format!("{name:?} is no name: use letters, digits and hyphens, at most 63");
        Err((RefusalCode::InvalidName, reason))
    }
}

/// A host name of such labels, at most 253 bytes. Lower-cased.
pub(crate) fn check_host(host: &str) -> Result<String, (RefusalCode, String)> {
    let host = host.trim_end_matches('.');
    if host.is_empty() || host.len() > 253 {
        let reason = format!("{host:?} is no host name");
        return Err((RefusalCode::InvalidName, reason));
    }
    host.split('.').try_for_each(|label| check_label(label).map(drop))?;
    Ok(host.to_ascii_lowercase())
}

/// A host name as a tunnel may stand under it: one of its own, or `*.` and one, for all that have a label in place
/// of the asterisk. Lower-cased.
pub(crate) fn check_public_host(host: &str) -> Result<String, (RefusalCode, String)> {
    let Some(rest) = host.strip_prefix("*.") else { return check_host(host) };
    let host = format!("*.{}", check_host(rest)?);
    if host.len() > 253 {
        return Err((RefusalCode::InvalidName, format!("{host:?} is no host name")));
    }
    Ok(host)
}

/// A label that no tunnel gets, lower-cased.
///
/// # Errors
/// It is no label.
pub fn parse_reserved_name(text: &str) -> Result<String, BuildError> {
    check_label(text).map_err(|_| BuildError::ReservedName { name: text.to_owned() })
}

/// The domain under which HTTP tunnels get their names: a host name, lower-cased, and short enough
/// for every name to fit in front of it. Dots around it are ignored.
///
/// # Errors
/// It is no host name, or too long.
pub fn parse_domain(text: &str) -> Result<String, BuildError> {
    check_host(text.trim_matches('.'))
        .ok()
        .filter(|domain| domain.len() <= MAX_DOMAIN_LEN)
        .ok_or_else(|| BuildError::Domain { domain: text.to_owned(), most: MAX_DOMAIN_LEN })
}

/// A host name without the longest label and its dot.
const MAX_DOMAIN_LEN: usize = 253 - 64;

/// A readable random name that is not taken. `unique` makes it so where chance does not.
pub(super) fn pick(unique: u64, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = random_name();
    for _ in 0..MAX_TRIES {
        if !is_taken(&name) {
            return name;
        }
        name = random_name();
    }
    format!("{name}-{unique}")
}

/// There are 25 million names: whoever misses this often will go on missing.
const MAX_TRIES: u32 = 100;

fn random_name() -> String {
    // Without random numbers no client could have authenticated.
    let dice: [u8; 4] = auth::random().unwrap_or_default();
    let word = |list: &[&'static str], die: u8| {
        list.get(usize::from(die) % list.len()).copied().unwrap_or("tunnel")
    };
    let [a, b, c, d] = dice;
    let number = u16::from_be_bytes([c, d]) % 10_000;
    format!("{}-{}-{number}", word(QUALITIES, a), word(ANIMALS, b))
}

const QUALITIES: &[&str] = &[
    "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp",
    "deft", "eager", "early", "fair", "fleet", "fond", "fresh", "gentle", "glad", "golden",
    "happy", "keen", "kind", "light", "lively", "lucky", "merry", "mild", "neat", "nimble",
    "noble", "plain", "proud", "quick", "quiet", "rapid", "ready", "royal", "rustic", "sharp",
    "silent", "smart", "snug", "solid", "steady", "sunny", "swift", "tidy", "vivid", "warm",
];

const ANIMALS: &[&str] = &[
    "badger", "beaver", "bison", "crane", "dolphin", "eagle", "falcon", "ferret", "finch", "fox",
    "gecko", "gull", "hare", "hawk", "heron", "ibex", "jackal", "koala", "lemur", "lynx", "magpie",
    "marten", "mole", "moose", "newt", "orca", "osprey", "otter", "owl", "panda", "pelican",
    "pigeon", "plover", "puffin", "quail", "raven", "robin", "salmon", "seal", "shrew", "sparrow",
    "squid", "stork", "swan", "tapir", "tern", "trout", "walrus", "weasel", "wren",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_dns() {
        assert_eq!(check_label("My-App1").unwrap(), "my-app1");
        for bad in ["", "-a", "a-", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hosts_are_labels_with_dots() {
        assert_eq!(check_host("Shop.Example.com.").unwrap(), "shop.example.com");
        for bad in ["", ".", "a..b", "*.example.com", "a b.c"] {
            assert!(check_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wildcard_is_an_asterisk_before_a_host_name() {
        assert_eq!(check_public_host("*.Shop.Example.").unwrap(), "*.shop.example");
        assert_eq!(check_public_host("shop.example").unwrap(), "shop.example");
        let longest = format!("*.{}", ["x".repeat(63).as_str(); 4].join("."));
        for bad in
            ["*", "*.", "*x.example", "a.*.example", "*.*.example", "*..example", "", &longest]
        {
            assert!(check_public_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn domains_leave_room_for_a_name() {
        assert_eq!(parse_domain(".Tunnel.Example.").unwrap(), "tunnel.example");
        let longest = format!("{}xxx", "x.".repeat(93));
        assert_eq!(parse_domain(&longest).unwrap().len(), MAX_DOMAIN_LEN);
        for bad in ["", ".", "a b/", "*.example.com", "a:80", &format!("x{longest}")] {
            assert!(parse_domain(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn picked_names_are_labels_and_avoid_what_is_taken() {
        let first = pick(7, |_| false);
        assert!(check_label(&first).is_ok());
        let tries = std::cell::Cell::new(0);
        let second = pick(7, |_| {
            tries.set(tries.get() + 1);
            tries.get() < 3
        });
        assert!(check_label(&second).is_ok());
        assert_eq!(tries.get(), 3);
        let last = pick(7, |_| true);
        assert!(check_label(&last).is_ok() && last.ends_with("-7"), "{last}");
    }
}
