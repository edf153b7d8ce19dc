//! The handshake of WebSocket (RFC 6455, section 4), which we make ourselves with a local service on behalf of visitors over
//! HTTP/2: they have none (RFC 8441, section 5).

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand,
};
use http::{HeaderName, HeaderValue};

/// `Sec-WebSocket-Key`, which the local service has to make `Sec-WebSocket-Accept` of.
pub(crate) struct Key(String);

impl Key {
    /// One that no cache has an answer for. `None` only if the system has no random numbers left.
    pub(crate) fn pick() -> Option<Self> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).ok()?;
        Some(Self(base64(&nonce)))
    }

    pub(crate) fn value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }

    /// Whether the local service has understood that this is to be a WebSocket.
    pub(crate) fn is_accepted_by(&self, accept: Option<&HeaderValue>) -> bool {
        let whole = [self.0.as_bytes(), SALT].concat();
        let expected = base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole).as_ref());
        accept.is_some_and(|accept| accept.as_bytes() == expected.as_bytes())
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            let padding = digit > group.len();
            text.push(if padding { '=' } else { char::from(DIGITS[index as usize]) });
        }
    }
    text
}

pub(crate) const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

pub(crate) const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// RFC 6455, section 1.3.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, expected) in vectors {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn the_key_of_the_rfc_is_accepted_as_there() {
        let key = Key("dGhlIHNhbXBsZSBub25jZQ==".into());
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(key.is_accepted_by(Some(&accept)));
        assert!(!key.is_accepted_by(Some(&HeaderValue::from_static("yes"))));
        assert!(!key.is_accepted_by(None));
        assert_ne!(Key::pick().unwrap().0, Key::pick().unwrap().0);
    }
}
