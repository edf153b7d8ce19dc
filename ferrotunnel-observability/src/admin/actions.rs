//! What can be done here. `guard` has seen to it that it was not another page that asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};

use super::house::Refused;
use super::shapes::{Done, Problem};
use super::{Room, shapes};

type Outcome = Result<Json<Done>, Problem>;

fn outcome(result: Result<String, Refused>) -> Outcome {
    Ok(Json(Done { done: true, detail: result? }))
}

/// Takes nothing new, finishes what is open and ends, as on SIGTERM.
#[utoipa::path(
    post,
    path = "/api/v1/drain",
    tag = "actions",
    params(shapes::Mark),
    responses(
        (status = 200, body = Done, description = "It has begun"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "The program does not let itself be ended here"),
    )
)]
pub(crate) async fn drain(State(room): State<Arc<Room>>) -> Outcome {
    outcome(room.wishing.drain())
}

/// Reads the settings file again, as on SIGHUP.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    tag = "actions",
    params(shapes::Mark),
    responses(
        (status = 200, body = Done, description = "What was read is in force"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "Nothing has changed; the detail says why"),
    )
)]
pub(crate) async fn reload(State(room): State<Arc<Room>>) -> Outcome {
    outcome(room.wishing.reload().await)
}

/// Ends a session with all its visitors. Its client comes back.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/{id}/close",
    tag = "actions",
    params(("id" = String, Path, description = "The session's"), shapes::Mark),
    responses(
        (status = 200, body = Done, description = "It has ended"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such session"),
    )
)]
pub(crate) async fn close_session(
    State(room): State<Arc<Room>>,
    Path(id): Path<String>,
) -> Outcome {
    outcome(room.house().close_session(&id))
}

/// Turns visitors of a tunnel away until it is resumed. Those inside stay.
#[utoipa::path(
    post,
    path = "/api/v1/tunnels/{id}/pause",
    tag = "actions",
    params(("id" = String, Path, description = "The tunnel's"), shapes::Mark),
    responses(
        (status = 200, body = Done, description = "It takes no visitors"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such tunnel"),
    )
)]
pub(crate) async fn pause(State(room): State<Arc<Room>>, Path(id): Path<String>) -> Outcome {
    outcome(room.house().pause(&id))
}

/// Lets visitors of a tunnel in again.
#[utoipa::path(
    post,
    path = "/api/v1/tunnels/{id}/resume",
    tag = "actions",
    params(("id" = String, Path, description = "The tunnel's"), shapes::Mark),
    responses(
        (status = 200, body = Done, description = "It takes visitors"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such tunnel"),
    )
)]
pub(crate) async fn resume(State(room): State<Arc<Room>>, Path(id): Path<String>) -> Outcome {
    outcome(room.house().resume(&id))
}

/// Takes no token of a principal any more, until the server ends or the settings give it another one, and ends its sessions.
#[utoipa::path(
    post,
    path = "/api/v1/principals/{name}/revoke",
    tag = "actions",
    params(("name" = String, Path, description = "The principal's"), shapes::Mark),
    responses(
        (status = 200, body = Done, description = "It is out"),
        (status = 404, body = Problem, content_type = "application/problem+json", description = "There is no such principal"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "It cannot be done; the detail says why"),
    )
)]
pub(crate) async fn revoke(State(room): State<Arc<Room>>, Path(name): Path<String>) -> Outcome {
    outcome(room.house().revoke(&name))
}
