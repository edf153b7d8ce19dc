//! What is answered, once it is clear that it may be.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};

use super::{Phase, Room};

/// The process lives and answers.
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Whether visitors and clients should be sent here.
pub(super) async fn ready(State(room): State<Arc<Room>>) -> Response {
    let phase = room.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", phase.as_str())).into_response()
}

pub(super) async fn metrics(State(room): State<Arc<Room>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &room.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

pub(super) async fn status(State(room): State<Arc<Room>>) -> Response {
    let readings = room.metrics.readings();
    let counts = readings.as_ref().map(|readings| {
        let streams: u64 = readings.totals.iter().map(|totals| totals.streams).sum();
        (readings.sessions.len(), readings.tunnels.len(), streams)
    });
    let (sessions, tunnels, streams) = counts.unwrap_or_default();
    json_of(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": room.phase().as_str(),
        "uptime_seconds": room.started.elapsed().as_secs(),
        "sessions": sessions,
        "tunnels": tunnels,
        "streams": streams,
    }))
}

pub(super) async fn sessions(State(room): State<Arc<Room>>) -> Response {
    let mut sessions = room.metrics.readings().map(|it| it.sessions).unwrap_or_default();
    // The oldest first.
    sessions.sort_by_key(|session| std::cmp::Reverse(session.age));
    let sessions: Vec<Value> = sessions
        .iter()
        .map(|session| {
            json!({
                "session": session.session.to_string(),
                "client": session.client.to_string(),
                "principal": session.principal,
                "address": session.peer.to_string(),
                "software": session.software,
                "age_seconds": session.age.as_secs(),
                "round_trip_seconds": session.round_trip.map(|time| time.as_secs_f64()),
                "tunnels": session.tunnels,
                "streams": session.streams,
                "streams_opened": session.streams_opened,
                "bytes_from_client": session.bytes_from_client,
                "bytes_to_client": session.bytes_to_client,
            })
        })
        .collect();
    json_of(&json!({ "sessions": sessions }))
}

pub(super) async fn tunnels(State(room): State<Arc<Room>>) -> Response {
    let mut tunnels = room.metrics.readings().map(|it| it.tunnels).unwrap_or_default();
    tunnels.sort_by(|one, other| one.tunnel.cmp(&other.tunnel));
    let tunnels: Vec<Value> = tunnels
        .iter()
        .map(|tunnel| {
            let sessions: Vec<_> = tunnel.sessions.iter().map(ToString::to_string).collect();
            json!({
                "kind": tunnel.kind.as_str(),
                "tunnel": tunnel.tunnel,
                "hosts": tunnel.hosts,
                "principal": tunnel.principal,
                "sessions": sessions,
                "visitors": tunnel.visitors,
            })
        })
        .collect();
    json_of(&json!({ "tunnels": tunnels }))
}

fn json_of(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

impl Room {
    fn phase(&self) -> Phase {
        *self.phase.read()
    }
}

/// The version of the format that is written.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
