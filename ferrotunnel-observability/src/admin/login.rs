//! A browser that has shown the token once, and has a cookie for it. What is in the cookie is not the token.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ferrotunnel_plugin::SecretHash;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use utoipa::ToSchema;

use super::shapes::Problem;
use super::{Room, shapes};

/// Who is logged in, the oldest first. Only hashes are kept.
#[derive(Default)]
pub(crate) struct Logins(Mutex<VecDeque<(SecretHash, Instant)>>);

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("count", &self.0.lock().len()).finish()
    }
}

impl Logins {
    /// Lets one more in: what its cookie is. `None`: the system gives no random numbers.
    fn begin(&self, now: Instant) -> Option<String> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).ok()?;
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut logins = self.0.lock();
        if logins.len() >= MOST_LOGINS {
            logins.pop_front();
        }
        logins.push_back((SecretHash::of(secret.as_bytes()), now));
        Some(secret)
    }

    /// Whether one of the cookies is of somebody who is in.
    pub(crate) fn knows(&self, headers: &HeaderMap, now: Instant) -> bool {
        let mut logins = self.0.lock();
        logins.retain(|(_, since)| now.saturating_duration_since(*since) < LASTS);
        cookies(headers).any(|shown| logins.iter().any(|(hash, _)| hash.is_of(shown)))
    }

    fn end(&self, headers: &HeaderMap) {
        let mut logins = self.0.lock();
        for shown in cookies(headers) {
            logins.retain(|(hash, _)| !hash.is_of(shown));
        }
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| name.trim() == NAME).map(|(_, value)| value.trim().as_bytes())
}

/// What is to be shown.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Login {
    /// The admin token.
    token: String,
}

/// Shows the token once, for a cookie that counts as the token for twelve hours.
#[utoipa::path(
    post,
    path = "/api/v1/login",
    tag = "login",
    request_body = Login,
    responses(
        (status = 204, description = "The cookie is in `Set-Cookie`"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "It is not in the form of the schema"),
        (status = 401, body = Problem, content_type = "application/problem+json", description = "It is another token"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "This interface has no token"),
    ),
    security(())
)]
pub(crate) async fn login(State(room): State<Arc<Room>>, body: Body) -> Response {
    let Some(token) = &room.token else { return no_token() };
    let wrong = |why: &str| Problem::new(StatusCode::BAD_REQUEST, why).into_response();
    let Ok(body) = to_bytes(body, LONGEST_BODY).await else { return wrong("that is too long") };
    let Ok(login) = serde_json::from_slice::<Login>(&body) else {
        return wrong("send {\"token\": \"..\"}");
    };
    if !token.is(login.token.trim().as_bytes()) {
        return Problem::new(StatusCode::UNAUTHORIZED, "that is not the admin token")
            .into_response();
    }
    let secret = room.logins.begin(Instant::now());
    let cookie = secret.and_then(|secret| {
        let lasts = LASTS.as_secs();
        let cookie = format!("{NAME}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={lasts}");
        HeaderValue::try_from(cookie).ok()
    });
    match cookie {
        Some(cookie) => (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response(),
        None => {
            let why = "the system gives no random numbers";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
        }
    }
}

/// Makes the cookie worthless.
#[utoipa::path(
    post,
    path = "/api/v1/logout",
    tag = "login",
    params(shapes::Mark),
    responses(
        (status = 204, description = "The cookie that was shown is none any more"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "This interface has no token"),
    )
)]
pub(crate) async fn logout(State(room): State<Arc<Room>>, headers: HeaderMap) -> Response {
    if room.token.is_none() {
        return no_token();
    }
    room.logins.end(&headers);
    let gone = format!("{NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, gone)]).into_response()
}

fn no_token() -> Response {
    Problem::not_found("this interface has no token that could be shown").into_response()
}

const NAME: &str = "ferrotunnel_admin";

/// A day's work.
const LASTS: Duration = Duration::from_secs(12 * 3_600);

/// Browsers at once; one more takes the place of the oldest.
const MOST_LOGINS: usize = 64;

/// In bytes; a token has some hundred at most.
const LONGEST_BODY: usize = 4 << 10;
