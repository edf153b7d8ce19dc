//! What is answered, once it is clear that it may be.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::encode;

use super::shapes::{Limits, Principals, Problem, Sessions, Status, Streams, Traffic, Tunnels};
use super::{Phase, Room};

/// The process lives and answers.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, body = String, content_type = "text/plain", description = "It does"))
)]
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Whether visitors and clients should be sent here.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "They should"),
        (status = 503, body = String, content_type = "text/plain", description = "It is starting, or draining"),
    )
)]
pub(super) async fn ready(State(room): State<Arc<Room>>) -> Response {
    let phase = room.overview.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", phase.as_str())).into_response()
}

/// Metrics in the OpenMetrics format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, body = String, content_type = "application/openmetrics-text", description = "All of them"))
)]
pub(super) async fn metrics(State(room): State<Arc<Room>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &room.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// How the process is.
#[utoipa::path(get, path = "/api/v1/status", tag = "readings", responses((status = 200, body = Status)))]
pub(super) async fn status(State(room): State<Arc<Room>>) -> Json<Status> {
    Json(room.overview.status())
}

/// Who is connected.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "readings", responses((status = 200, body = Sessions)))]
pub(super) async fn sessions(State(room): State<Arc<Room>>) -> Json<Sessions> {
    Json(room.house().sessions())
}

/// What visitors can reach.
#[utoipa::path(get, path = "/api/v1/tunnels", tag = "readings", responses((status = 200, body = Tunnels)))]
pub(super) async fn tunnels(State(room): State<Arc<Room>>) -> Json<Tunnels> {
    Json(room.house().tunnels())
}

/// Who is inside.
#[utoipa::path(get, path = "/api/v1/streams", tag = "readings", responses((status = 200, body = Streams)))]
pub(super) async fn streams(State(room): State<Arc<Room>>) -> Json<Streams> {
    Json(room.house().streams(MOST_STREAMS))
}

/// What has passed in each of the last 600 seconds.
#[utoipa::path(get, path = "/api/v1/traffic", tag = "readings", responses((status = 200, body = Traffic)))]
pub(super) async fn traffic(State(room): State<Arc<Room>>) -> Json<Traffic> {
    Json(room.history.read())
}

/// Who may use the server.
#[utoipa::path(get, path = "/api/v1/principals", tag = "readings", responses((status = 200, body = Principals)))]
pub(super) async fn principals(State(room): State<Arc<Room>>) -> Result<Json<Principals>, Problem> {
    room.house().principals().map(Json).ok_or_else(not_here)
}

/// What the server refuses to go beyond.
#[utoipa::path(get, path = "/api/v1/limits", tag = "readings", responses((status = 200, body = Limits)))]
pub(super) async fn limits(State(room): State<Arc<Room>>) -> Result<Json<Limits>, Problem> {
    room.house().limits().map(Json).ok_or_else(not_here)
}

fn not_here() -> Problem {
    Problem::not_found("this side has none")
}

pub(super) async fn no_such_path() -> Problem {
    Problem::not_found("there is nothing of that name; /api/v1/openapi.json says what there is")
}

pub(super) async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the header Allow says what may be done here")
}

/// The version of the format that is written.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Some 150 KB of text.
const MOST_STREAMS: usize = 1_000;
