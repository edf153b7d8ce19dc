//! A browser that has shown the token once, and has a cookie and a key for it. Neither is the token.
//!
//! A cookie goes to whoever listens on another port of the same host, too, such as a tunnel of somebody else's. So it is worth
//! nothing alone: the page has a key besides, which the browser keeps for pages of this very origin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse, Response};
use ferrotunnel_plugin::SecretHash;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::shapes::Problem;
use super::{Room, shapes};

/// Who is logged in, the oldest first. Only hashes are kept.
pub(crate) struct Logins {
    /// Of the cookie. It has the port in it, so that two interfaces of one host have one each.
    name: String,
    those: Mutex<VecDeque<One>>,
}

struct One {
    cookie: SecretHash,
    key: SecretHash,
    since: Instant,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("count", &self.those.lock().len()).finish()
    }
}

impl Logins {
    /// Of the interface on that port.
    pub(crate) fn at(port: u16) -> Self {
        Self { name: cookie_name(port), those: Mutex::default() }
    }

    /// Lets one more in: what its cookie and its key are. `None`: the system gives no random numbers.
    fn begin(&self, now: Instant) -> Option<(String, String)> {
        let (cookie, key) = (secret()?, secret()?);
        let mut those = self.those.lock();
        if those.len() >= MOST_LOGINS {
            those.pop_front();
        }
        let of = |secret: &str| SecretHash::of(secret.as_bytes());
        those.push_back(One { cookie: of(&cookie), key: of(&key), since: now });
        Some((cookie, key))
    }

    /// Whether one of the cookies and the key are of somebody who is in. They may be of two logins: a browser that has
    /// logged in anew on another page shows that one's cookie here.
    pub(crate) fn knows(&self, headers: &HeaderMap, now: Instant) -> bool {
        let mut those = self.those.lock();
        those.retain(|one| now.saturating_duration_since(one.since) < LASTS);
        key(headers).is_some_and(|key| those.iter().any(|one| one.key.is_of(key)))
            && self.cookies(headers).any(|shown| those.iter().any(|one| one.cookie.is_of(shown)))
    }

    fn end(&self, headers: &HeaderMap) {
        let mut those = self.those.lock();
        for shown in self.cookies(headers) {
            those.retain(|one| !one.cookie.is_of(shown));
        }
        if let Some(key) = key(headers) {
            those.retain(|one| !one.key.is_of(key));
        }
    }

    fn cookies<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| name.trim() == self.name).map(|(_, value)| value.trim().as_bytes())
    }

    /// What sets the cookie.
    fn set(&self, value: &str, lasts: Duration) -> Option<HeaderValue> {
        let (name, lasts) = (&self.name, lasts.as_secs());
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={lasts}");
        HeaderValue::try_from(cookie).ok()
    }
}

/// What the cookie of the interface on that port is called.
pub(crate) fn cookie_name(port: u16) -> String {
    format!("ferrotunnel_admin_{port}")
}

fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut keys = headers.get_all(&KEY).iter();
    let key = keys.next()?;
    keys.next().is_none().then(|| key.as_bytes())
}

fn secret() -> Option<String> {
    let mut secret = [0; 32];
    rand::fill(&mut secret).ok()?;
    Some(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What is to be shown.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Login {
    /// The admin token.
    token: String,
}

/// What a browser has that is logged in, beside its cookie.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoggedIn {
    /// To be sent along as `x-ferrotunnel-key`.
    key: String,
}

/// Shows the token once, for a cookie and a key that together count as the token for twelve hours.
#[utoipa::path(
    post,
    path = "/api/v1/login",
    tag = "login",
    request_body = Login,
    responses(
        (status = 200, body = LoggedIn, description = "The cookie is in `Set-Cookie`"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "It is not in the form of the schema"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "It is another token"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "This interface has no token"),
        (status = 408, body = Problem, content_type = "application/problem+json", description = "It did not come in within ten seconds"),
    ),
    security(())
)]
pub(crate) async fn login(State(room): State<Arc<Room>>, body: Body) -> Response {
    let Some(token) = &room.token else { return no_token() };
    let wrong = |why: &str| Problem::new(StatusCode::BAD_REQUEST, why).into_response();
    // Whoever is here has shown nothing yet.
    let Ok(body) = timeout(PATIENCE, to_bytes(body, LONGEST_BODY)).await else {
        let why = "what was announced did not come";
        return Problem::new(StatusCode::REQUEST_TIMEOUT, why).into_response();
    };
    let Ok(body) = body else { return wrong("that is too long") };
    let Ok(login) = serde_json::from_slice::<Login>(&body) else {
        return wrong("send {\"token\": \"..\"}");
    };
    if !token.is(login.token.trim().as_bytes()) {
        return Problem::new(StatusCode::UNAUTHORIZED, "that is not the admin token")
            .into_response();
    }
    let begun = room.logins.begin(Instant::now());
    let begun = begun.and_then(|(cookie, key)| Some((room.logins.set(&cookie, LASTS)?, key)));
    match begun {
        Some((cookie, key)) => ([(SET_COOKIE, cookie)], Json(LoggedIn { key })).into_response(),
        None => {
            let why = "the system gives no random numbers";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
        }
    }
}

/// Makes the cookie and the key worthless.
#[utoipa::path(
    post,
    path = "/api/v1/logout",
    tag = "login",
    params(shapes::Mark),
    responses(
        (status = 204, description = "The cookie and the key that were shown are none any more"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "This interface has no token"),
    )
)]
pub(crate) async fn logout(State(room): State<Arc<Room>>, headers: HeaderMap) -> Response {
    if room.token.is_none() {
        return no_token();
    }
    room.logins.end(&headers);
    let gone = room.logins.set("", Duration::ZERO).map(|gone| (SET_COOKIE, gone));
    (StatusCode::NO_CONTENT, AppendHeaders(gone)).into_response()
}

fn no_token() -> Response {
    Problem::not_found("this interface has no token that could be shown").into_response()
}

/// What the key is sent in.
pub(crate) const KEY: HeaderName = HeaderName::from_static("x-ferrotunnel-key");

/// A day's work.
const LASTS: Duration = Duration::from_secs(12 * 3_600);

/// Browsers at once; one more takes the place of the oldest.
const MOST_LOGINS: usize = 64;

/// For a token to come in.
const PATIENCE: Duration = Duration::from_secs(10);

/// In bytes; a token has some hundred at most.
const LONGEST_BODY: usize = 4 << 10;
