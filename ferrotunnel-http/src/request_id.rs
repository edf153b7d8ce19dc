//! One name for a request in the logs of all who have to do with it: `X-Request-Id`.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The id of a request, which also goes to the local service. A visitor may bring one, if it is such that it can be
/// written into any log as it is.
pub(crate) fn of(headers: &mut HeaderMap) -> HeaderValue {
    let mut brought = headers.get_all(X_REQUEST_ID).iter();
    if let (Some(id), None) = (brought.next(), brought.next())
        && is_sane(id.as_bytes())
    {
        return id.clone();
    }
    let id = pick();
    headers.insert(X_REQUEST_ID, id.clone());
    id
}

/// A new one. It tells nothing: neither how many there have been, nor which one comes next.
pub(crate) fn pick() -> HeaderValue {
    // Its keys are the system's random numbers, and other ones each time.
    let id = RandomState::new().hash_one(0);
    let digit = |at: usize| DIGITS[(id >> (60 - 4 * at) & 15) as usize];
    let text: [u8; 16] = std::array::from_fn(digit);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

fn is_sane(id: &[u8]) -> bool {
    let is_sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(byte);
    (1..=MAX_LEN).contains(&id.len()) && id.iter().all(is_sane)
}

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A UUID has 36 bytes, the longest ids of the usual tracing systems have some 100.
const MAX_LEN: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(brought: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for id in brought {
            headers.append(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
        }
        let id = of(&mut headers);
        let passed_on: Vec<_> = headers.get_all(X_REQUEST_ID).iter().collect();
        assert_eq!(passed_on, [&id]);
        id.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_sane_id_is_kept() {
        for id in
            ["1", "6f0c1bd7-6a2c-4d3f-9b6e-0d1a2b3c4d5e", "Root=1-5e:a+b/c=", &"x".repeat(128)]
        {
            assert_eq!(passed_on(&[id]), id);
        }
    }

    #[test]
    fn any_other_is_replaced() {
        let longer = "x".repeat(129);
        for brought in [
            &[][..],
            &[""],
            &["a b"],
            &["a\tb"],
            &["a\"b"],
            &["<a>"],
            &["${jndi}"],
            &["a,b"],
            &["a", "b"],
            &["a", "a"],
            &[&longer],
        ] {
            let id = passed_on(brought);
            assert_eq!(id.len(), 16, "{brought:?}");
            assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
        assert_ne!(passed_on(&[]), passed_on(&[]));
    }
}
