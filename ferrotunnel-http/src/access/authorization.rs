//! What a visitor shows: the `Authorization` header (RFC 9110, section 11.6.2).

use base64ct::{Base64, Encoding};
use http::{HeaderMap, header::AUTHORIZATION};

/// What a visitor shows, as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    /// `user:password`; there is a colon in it.
    Basic(Vec<u8>),
    Bearer(&'a [u8]),
}

impl<'a> Shown<'a> {
    /// `None`: nothing, or nothing that can be understood, or more than one thing.
    pub(super) fn by(headers: &'a HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let (header, None) = (all.next()?, all.next()) else { return None };
        let value = header.as_bytes();
        let end = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, rest) = value.split_at_checked(end)?;
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return (!rest.is_empty()).then_some(Self::Bearer(rest));
        }
        if !scheme.eq_ignore_ascii_case(b"basic") || rest.len() > MOST_BYTES {
            return None;
        }
        let pair = Base64::decode_vec(std::str::from_utf8(rest).ok()?).ok()?;
        pair.contains(&b':').then_some(Self::Basic(pair))
    }
}

/// A user name and a password, in base64: what is longer is neither.
const MOST_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn shown(values: &[&'static str], expected: Option<&Shown<'_>>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        assert_eq!(Shown::by(&headers).as_ref(), expected, "{values:?}");
    }

    #[test]
    fn a_user_with_a_password_and_a_token_are_understood() {
        let basic = Shown::Basic(b"Aladdin:open sesame".to_vec());
        shown(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="], Some(&basic));
        shown(&["bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ=="], Some(&basic));
        shown(&["Bearer mF_9.B5f-4.1JqM"], Some(&Shown::Bearer(b"mF_9.B5f-4.1JqM")));
        shown(&["bearer x"], Some(&Shown::Bearer(b"x")));
    }

    #[test]
    fn anything_else_shows_nothing() {
        for values in [
            &[][..],
            &["Basic"],
            &["Basic "],
            &["Bearer"],
            &["Bearer "],
            &["Basic !!!"],
            &["Basic QWxhZGRpbg=="],
            &["Digest username=\"x\""],
            &["QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &["Bearer one", "Bearer two"],
        ] {
            shown(values, None);
        }
    }
}
