//! What there is to ask, described in OpenAPI for programs that make other programs of it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, ResponseBuilder, SecurityRequirement};
use utoipa::{Modify, OpenApi};

use super::shapes::Side;
use super::{Room, actions, answers, events, inspector, login};

/// What both sides have.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "FerroTunnel admin interface",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    paths(
        answers::health,
        answers::ready,
        answers::metrics,
        description,
        answers::status,
        answers::sessions,
        answers::tunnels,
        answers::streams,
        answers::traffic,
        events::events,
        actions::drain,
        actions::reload,
        actions::close_session,
        actions::pause,
        actions::resume,
        login::login,
        login::logout,
    )
)]
struct Both;

/// What only a server has.
#[derive(OpenApi)]
#[openapi(paths(answers::principals, answers::limits, actions::revoke))]
struct ServerOnly;

/// How the token is shown.
struct Token;

impl Modify for Token {
    fn modify(&self, described: &mut openapi::OpenApi) {
        let components = described.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("token", bearer);
        let cookie = ApiKey::Cookie(ApiKeyValue::new("ferrotunnel_admin"));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
        described.security = Some(vec![
            SecurityRequirement::new("token", [""; 0]),
            SecurityRequirement::new("cookie", [""; 0]),
        ]);
    }
}

/// What anything may be answered with, since `guard` stands before it.
struct Guarded {
    has_token: bool,
}

impl Modify for Guarded {
    fn modify(&self, described: &mut openapi::OpenApi) {
        let denied = |why: &str| {
            let problem =
                ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let answer = ResponseBuilder::new().description(why);
            RefOr::T(answer.content("application/problem+json", problem).build())
        };
        for item in described.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten()
            {
                let answers = &mut operation.responses.responses;
                let not_meant =
                    "Another page could have sent it, or it came by a name that is not ours";
                answers.insert("403".to_owned(), denied(not_meant));
                if self.has_token {
                    let token = || denied("The token is missing, or another one");
                    answers.entry("401".to_owned()).or_insert_with(token);
                }
            }
        }
    }
}

/// The description of a side's interface, in which the token is shown if it has one.
fn described(side: Side, is_inspecting: bool, has_token: bool) -> openapi::OpenApi {
    let mut described = Both::openapi();
    if side == Side::Server {
        described.merge(ServerOnly::openapi());
    }
    if is_inspecting {
        described.merge(inspector::Described::openapi());
    }
    Guarded { has_token }.modify(&mut described);
    if has_token {
        Token.modify(&mut described);
    }
    described
}

/// This description.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "readings",
    responses((status = 200, content_type = "application/json", body = Object))
)]
pub(super) async fn description(State(room): State<Arc<Room>>) -> impl IntoResponse {
    let is_inspecting = room.overview.inspector.is_some();
    let described = described(room.house().side(), is_inspecting, room.token.is_some());
    let text = serde_json::to_string(&described).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], text)
}
