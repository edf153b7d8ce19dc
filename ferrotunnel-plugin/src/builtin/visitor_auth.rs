//! A secret that visitors have to know.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::{Plugin, PluginAction, RequestContext, Result, SecretHash};

/// Lets in only visitors who know a secret, which is none of the tokens of clients. What is kept is its hash.
///
/// A visitor shows it in one of these ways, and the local service does not see it:
///
/// - `Authorization: Bearer SECRET`, for programs;
/// - `Authorization: Basic ..` with the secret as the password and any name, which is what browsers ask for;
/// - `FerroTunnel-Secret: SECRET`, where the local service has an `Authorization` of its own.
///
/// Over HTTP without TLS everybody on the way can read it.
#[derive(Debug)]
pub struct VisitorAuth {
    secrets: Vec<VisitorSecret>,
}

/// The hash of a secret. As text it is `sha256:` and 64 hexadecimal digits, which
/// `printf %s SECRET | sha256sum` prints.
///
/// One round of SHA-256 withstands guessing only if the secret is long and random, as tokens are; a password that
/// people think of does not belong here.
#[derive(Clone, PartialEq, Eq)]
pub struct VisitorSecret(SecretHash);

/// Why a text is no [`VisitorSecret`]. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VisitorSecretError {
    /// It is no `sha256:` with 64 hexadecimal digits.
    NoHash,
    /// It has too few characters to be a secret.
    TooShort,
}

impl fmt::Display for VisitorSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHash => f.write_str(
                "a hash of a visitor secret is sha256: and 64 hexadecimal digits; make one by printf %s SECRET | sha256sum",
            ),
            Self::TooShort => write!(
                f,
                "a visitor secret has {LEAST} characters or more, so that nobody guesses it; make one by openssl rand -hex 16"
            ),
        }
    }
}

impl std::error::Error for VisitorSecretError {}

impl VisitorSecret {
    /// The hash of this secret.
    ///
    /// # Errors
    /// It is too short.
    pub fn of(secret: &str) -> std::result::Result<Self, VisitorSecretError> {
        if secret.chars().count() < LEAST {
            return Err(VisitorSecretError::TooShort);
        }
        Ok(Self(SecretHash::of(secret.as_bytes())))
    }
}

/// One guess in 2^40 at least, if it is random.
const LEAST: usize = 12;

impl fmt::Display for VisitorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for VisitorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitorSecret(redacted)")
    }
}

impl FromStr for VisitorSecret {
    type Err = VisitorSecretError;

    fn from_str(text: &str) -> std::result::Result<Self, VisitorSecretError> {
        text.parse().map(Self).map_err(|_| VisitorSecretError::NoHash)
    }
}

impl VisitorAuth {
    /// Lets in who knows one of these. Several are for the time in which one is replaced; with none nobody comes in.
    pub fn new(secrets: impl IntoIterator<Item = VisitorSecret>) -> Self {
        Self { secrets: secrets.into_iter().collect() }
    }

    fn knows(&self, secret: &[u8]) -> bool {
        // All are looked at, so that the time does not tell which one it was.
        self.secrets.iter().fold(false, |known, one| known | one.0.is_of(secret))
    }

    /// Takes the secret out of the headers, if it is there in one of its ways.
    fn admits(&self, headers: &mut HeaderMap) -> bool {
        if let Some(value) = headers.get(&OWN_HEADER) {
            let known = self.knows(value.as_bytes());
            headers.remove(&OWN_HEADER);
            return known;
        }
        let known = headers.get(AUTHORIZATION).is_some_and(|value| {
            let Some((scheme, rest)) = split_scheme(value.as_bytes()) else { return false };
            if scheme.eq_ignore_ascii_case(b"bearer") {
                return self.knows(rest);
            }
            let decoded = scheme.eq_ignore_ascii_case(b"basic").then(|| base64(rest)).flatten();
            decoded.is_some_and(|pair| {
                let colon = pair.iter().position(|byte| *byte == b':');
                colon.and_then(|colon| pair.get(colon + 1..)).is_some_and(|word| self.knows(word))
            })
        });
        if known {
            headers.remove(AUTHORIZATION);
        }
        known
    }
}

/// Marks a request that was sent back.
#[derive(Clone, Copy)]
struct Challenged;

#[async_trait]
impl Plugin for VisitorAuth {
    fn name(&self) -> &str {
        "visitor-auth"
    }

    fn wants_sessions(&self) -> bool {
        false
    }

    async fn on_request(
        &self,
        request: &mut Request<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        if self.admits(request.headers_mut()) {
            return Ok(PluginAction::Continue);
        }
        context.insert(Challenged);
        Ok(PluginAction::Reject {
            status: StatusCode::UNAUTHORIZED.as_u16(),
            reason: "Visitors of this server need a secret.".to_owned(),
        })
    }

    /// A 401 has to say how to do better (RFC 9110, section 15.5.2).
    async fn on_response(
        &self,
        response: &mut Response<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        if context.get::<Challenged>().is_some() {
            let headers = response.headers_mut();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tunnel\""));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tunnel\""));
        }
        Ok(PluginAction::Continue)
    }
}

const OWN_HEADER: HeaderName = HeaderName::from_static("ferrotunnel-secret");

fn split_scheme(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(blank);
    Some((scheme, rest.trim_ascii()))
}

/// Decodes base64 (RFC 4648, section 4), with or without its padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    let (digits, padding) = text.split_at(end);
    if padding.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "correct horse";

    fn admits(name: &'static str, value: &str) -> (bool, HeaderMap) {
        let auth = VisitorAuth::new([
            VisitorSecret::of("another one!").unwrap(),
            VisitorSecret::of(SECRET).unwrap(),
        ]);
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        (auth.admits(&mut headers), headers)
    }

    #[test]
    fn the_secret_is_taken_in_each_of_its_ways_and_goes_no_further() {
        for (name, value) in [
            ("authorization", "Bearer correct horse"),
            ("authorization", "bearer  correct horse"),
            ("authorization", "Basic YW55Ym9keTpjb3JyZWN0IGhvcnNl"),
            ("authorization", "basic OmNvcnJlY3QgaG9yc2U="),
            ("ferrotunnel-secret", "correct horse"),
        ] {
            let (known, headers) = admits(name, value);
            assert!(known && headers.is_empty(), "{value}");
        }
    }

    #[test]
    fn what_is_no_secret_is_not_taken() {
        for (name, value) in [
            ("authorization", ""),
            ("authorization", "Bearer"),
            ("authorization", "Bearer correct"),
            ("authorization", "Bearer correct horses"),
            ("authorization", "Basic correct horse"),
            ("authorization", "Basic Y29ycmVjdCBob3JzZQ=="),
            ("authorization", "Digest correct horse"),
            ("ferrotunnel-secret", ""),
            ("cookie", "correct horse"),
        ] {
            assert!(!admits(name, value).0, "{value}");
        }
        assert!(!VisitorAuth::new([]).knows(b""));
        // The local service may understand it.
        assert_eq!(admits("authorization", "Digest x").1.len(), 1);
    }

    #[test]
    fn hashes_are_text_and_show_no_secret() {
        let secret = VisitorSecret::of(SECRET).unwrap();
        let text = secret.to_string();
        // printf %s 'correct horse' | sha256sum
        assert_eq!(text.len(), "sha256:".len() + 64);
        assert_eq!(text.parse(), Ok(secret.clone()));
        assert_eq!(text.to_uppercase().replace("SHA256", "sha256").parse(), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "VisitorSecret(redacted)");
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(abc.parse::<VisitorSecret>().unwrap().0.is_of(b"abc"));
        for wrong in
            ["", "sha256:", &abc[..70], &abc[7..], &abc.replace('b', "g"), &abc.replace("ba", "ä")]
        {
            assert_eq!(wrong.parse::<VisitorSecret>(), Err(VisitorSecretError::NoHash), "{wrong}");
        }
        assert_eq!(VisitorSecret::of("too short"), Err(VisitorSecretError::TooShort));
    }

    #[test]
    fn base64_is_decoded_strictly() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zg", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for wrong in ["Zg===", "Z g=", "Zm-v", "Zg=a"] {
            assert_eq!(base64(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
