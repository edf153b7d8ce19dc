//! The requests that were seen to pass, where somebody inspects them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferrotunnel_inspector::{
    Edits, Filter, Inspector, News, ReplayError, RequestDetail, Requests, Whose,
};
use futures_util::stream;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use utoipa::{OpenApi, ToSchema};

use super::Room;
use super::shapes::{self, Problem};

/// What there is to ask only where requests are inspected.
#[derive(OpenApi)]
#[openapi(paths(list, clear, detail, body, replay, har))]
pub(super) struct Described;

/// Without an inspector none of this is there.
pub(super) fn routes() -> Router<Arc<Room>> {
    Router::new()
        .route("/api/v1/requests", get(list))
        .route("/api/v1/requests", delete(clear))
        .route("/api/v1/requests.har", get(har))
        .route("/api/v1/requests/{id}", get(detail))
        .route("/api/v1/requests/{id}/body/{whose}", get(body))
        .route("/api/v1/requests/{id}/replay", post(replay))
}

/// Which requests to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// At most so many; 100 if nothing is said, 1,000 at most.
    #[param(minimum = 0, maximum = 65535)]
    limit: Option<u16>,
    /// Only those that came before that one.
    before: Option<String>,
    /// Only those that have that in tunnel, host, path, headers, messages or captured bodies, in whatever case.
    q: Option<String>,
    /// Only those with that method.
    method: Option<String>,
    /// Only those with that status, like `404`, `4xx`, `open` or `failed`.
    status: Option<String>,
}

/// How much is shown.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Shown {
    /// With the values of secret headers.
    #[serde(default)]
    reveal: bool,
    /// Of the archive: only that request.
    id: Option<String>,
}

/// What is to be different from the request that is repeated. Without a body it is repeated as it was.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changes {
    /// Another method.
    method: Option<String>,
    /// Another path, with its query.
    path: Option<String>,
    /// Other headers, all of them, as names and values. A secret that is not shown stays what it was.
    headers: Option<Vec<[String; 2]>>,
    /// Another body, which is text.
    body_text: Option<String>,
    /// Another body, in base64.
    body_base64: Option<String>,
}

/// A request that is being repeated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Begun {
    /// The new request.
    id: String,
}

/// The requests that are kept, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/requests",
    tag = "inspector",
    params(Wanted),
    responses(
        (status = 200, body = Requests),
        (status = 400, body = String, content_type = "text/plain", description = "A parameter cannot be read"),
    )
)]
pub(crate) async fn list(
    State(room): State<Arc<Room>>,
    Query(wanted): Query<Wanted>,
) -> Outcome<Json<Requests>> {
    let Wanted { limit, before, q, method, status } = wanted;
    let mut filter = Filter::default();
    (filter.limit, filter.before, filter.q) = (limit.map(usize::from), before, q);
    (filter.method, filter.status) = (method, status);
    let inspector = room.inspector()?;
    if filter.q.as_deref().unwrap_or_default().is_empty() {
        return Ok(Json(inspector.list(&filter)));
    }
    // Too long for a thread that others wait for.
    let inspector = inspector.clone();
    let searching = tokio::task::spawn_blocking(move || inspector.list(&filter));
    let broken = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the search broke off");
    searching.await.map(Json).map_err(broken)
}

/// Throws all away.
#[utoipa::path(
    delete,
    path = "/api/v1/requests",
    tag = "inspector",
    params(shapes::Mark),
    responses((status = 204, description = "There is none any more"))
)]
pub(crate) async fn clear(State(room): State<Arc<Room>>) -> Outcome<StatusCode> {
    room.inspector()?.clear();
    Ok(StatusCode::NO_CONTENT)
}

/// Everything about one.
#[utoipa::path(
    get,
    path = "/api/v1/requests/{id}",
    tag = "inspector",
    params(("id" = String, Path, description = "The request's"), Shown),
    responses(
        (status = 200, body = RequestDetail),
        (status = 400, body = String, content_type = "text/plain", description = "A parameter cannot be read"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "It is not kept"),
    )
)]
pub(crate) async fn detail(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    Query(shown): Query<Shown>,
) -> Outcome<Json<RequestDetail>> {
    room.inspector()?.get(&id, shown.reveal).map(Json).ok_or_else(not_kept)
}

/// What was captured of a body, as it came.
#[utoipa::path(
    get,
    path = "/api/v1/requests/{id}/body/{whose}",
    tag = "inspector",
    params(
        ("id" = String, Path, description = "The request's"),
        ("whose" = String, Path, description = "`request` or `response`"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "It is not kept, or there is no such body"),
    )
)]
pub(crate) async fn body(
    State(room): State<Arc<Room>>,
    Path((id, whose)): Path<(String, String)>,
) -> Outcome<Response> {
    let side = match whose.as_str() {
        "request" => Whose::Request,
        "response" => Whose::Response,
        _ => {
            return Err(Problem::not_found(
                "a body is that of the request or that of the response",
            ));
        }
    };
    let body = room.inspector()?.body(&id, side).ok_or_else(not_kept)?;
    // Never shown by the browser as what it says it is: it comes from strangers.
    let name = format!("attachment; filename=\"{whose}.bin\"");
    let headers =
        [(CONTENT_TYPE, "application/octet-stream"), (CONTENT_DISPOSITION, name.as_str())];
    Ok((headers, body.bytes).into_response())
}

/// Says a request again to the local service, the way a visitor's goes. What comes of it is a request of its own.
#[utoipa::path(
    post,
    path = "/api/v1/requests/{id}/replay",
    tag = "inspector",
    params(("id" = String, Path, description = "The request's"), shapes::Mark),
    request_body(content = Changes, description = "What is to be different"),
    responses(
        (status = 202, body = Begun, description = "It is on its way"),
        (status = 400, body = Problem, content_type = "application/problem+json", description = "What was changed makes no request"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "It is not kept"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "It cannot be repeated; the detail says why"),
        (status = 413, body = String, content_type = "text/plain", description = "That is more than 2 MiB"),
    )
)]
pub(crate) async fn replay(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
    said: Bytes,
) -> Outcome<Response> {
    let inspector = room.inspector()?;
    // Whatever else is wrong, this is what has to be mended first.
    if !inspector.has(&id) {
        return Err(not_kept());
    }
    let changes = match said.as_ref() {
        [] => Changes::default(),
        said => serde_json::from_slice(said).map_err(|error| invalid(error.to_string()))?,
    };
    let new = inspector.replay(&id, changes.read()?)?;
    Ok((StatusCode::ACCEPTED, Json(Begun { id: new })).into_response())
}

/// All that are over, or one, as an HTTP archive (HAR 1.2).
#[utoipa::path(
    get,
    path = "/api/v1/requests.har",
    tag = "inspector",
    params(Shown),
    responses(
        (status = 200, body = Object, content_type = "application/json"),
        (status = 400, body = String, content_type = "text/plain", description = "A parameter cannot be read"),
    )
)]
pub(crate) async fn har(
    State(room): State<Arc<Room>>,
    Query(shown): Query<Shown>,
) -> Outcome<Response> {
    let archive = room.inspector()?.archive(shown.id.as_deref(), shown.reveal);
    let pieces = stream::unfold(archive, async |mut archive| {
        let piece = archive.next()?;
        // Each takes up to some milliseconds, and others wait for this thread.
        tokio::task::yield_now().await;
        Some((Ok::<_, Infallible>(piece), archive))
    });
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CONTENT_DISPOSITION, "attachment; filename=\"ferrotunnel.har\""),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// News of requests is made only while somebody listens: it is three summaries for each.
#[derive(Debug, Default)]
pub(super) struct Requested {
    hearing: Mutex<Hearing>,
    wanted: Notify,
}

#[derive(Debug, Default)]
enum Hearing {
    #[default]
    Nobody,
    /// Whoever tells has not begun yet.
    Soon(Receiver<News>),
    Now,
}

type Outcome<T> = Result<T, Problem>;

fn not_kept() -> Problem {
    Problem::not_found("there is no such request, or it is not kept any more")
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

impl Changes {
    fn read(self) -> Result<Edits, Problem> {
        let body = match (self.body_text, self.body_base64) {
            (Some(_), Some(_)) => {
                return Err(invalid("body_text and body_base64 are two bodies; give one"));
            }
            (Some(text), None) => Some(text.into_bytes()),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(text);
                Some(bytes.map_err(|error| invalid(format!("body_base64: {error}")))?)
            }
            (None, None) => None,
        };
        let headers = self.headers.map(|headers| headers.into_iter().map(<(_, _)>::from).collect());
        let mut edits = Edits::default();
        (edits.method, edits.path) = (self.method, self.path);
        (edits.headers, edits.body) = (headers, body);
        Ok(edits)
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        let status = match error {
            ReplayError::NotFound => StatusCode::NOT_FOUND,
            ReplayError::Invalid(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}

impl Room {
    fn inspector(&self) -> Result<&Inspector, Problem> {
        let inspector = self.overview.inspector.as_ref();
        inspector.ok_or_else(|| Problem::not_found("requests are not inspected here"))
    }

    /// Somebody has begun to listen: from now on there is news of requests.
    pub(super) fn want_requests(&self) {
        let Some(inspector) = &self.overview.inspector else { return };
        let mut hearing = self.requests.hearing.lock();
        if let Hearing::Nobody = *hearing {
            *hearing = Hearing::Soon(inspector.subscribe());
            self.requests.wanted.notify_one();
        }
    }

    /// Tells of requests while somebody listens. What happens to one within a moment is told once, so that a busy tunnel does
    /// not drown those who do.
    pub(super) async fn watch_requests(self: Arc<Self>) {
        loop {
            self.requests.wanted.notified().await;
            let hearing = std::mem::replace(&mut *self.requests.hearing.lock(), Hearing::Now);
            let Hearing::Soon(mut news) = hearing else { continue };
            while self.are_requests_wanted() {
                match news.recv().await {
                    Ok(first) => {
                        tokio::time::sleep(A_MOMENT).await;
                        self.tell_requests(gathered(first, &mut news));
                    }
                    // What was missed is in the list.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    fn are_requests_wanted(&self) -> bool {
        // Under the lock: whoever begins to listen is either seen here, or asks for news behind this.
        let mut hearing = self.requests.hearing.lock();
        let is_heard = self.events.is_heard();
        if !is_heard {
            *hearing = Hearing::Nobody;
        }
        is_heard
    }

    fn tell_requests(&self, news: Vec<News>) {
        for one in news {
            match one {
                News::Request(summary) => self.events.tell("request", summary.as_ref()),
                News::Cleared => self.events.tell("requests_cleared", &serde_json::json!({})),
                _ => {}
            }
        }
    }
}

/// What there is by now, of each request only the last, and of many the newest.
fn gathered(first: News, news: &mut Receiver<News>) -> Vec<News> {
    let mut found = vec![first];
    // Bounded by what the channel holds.
    loop {
        match news.try_recv() {
            Ok(one) => found.push(one),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    let mut seen = std::collections::HashSet::new();
    let mut last: Vec<News> = Vec::new();
    for one in found.into_iter().rev() {
        match &one {
            News::Request(summary) if !seen.insert(summary.id.clone()) => {}
            News::Request(_) if last.len() >= MOST_AT_ONCE => {}
            News::Cleared => {
                last.push(one);
                break;
            }
            _ => last.push(one),
        }
    }
    last.reverse();
    last
}

/// People do not see the difference.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Below what somebody who listens may be behind.
const MOST_AT_ONCE: usize = 128;
