//! A local service that speaks HTTP/1.1, HTTP/2 and WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Identity;
use crate::ledger::Ledger;
use crate::pattern::{Pattern, Way};
use crate::visitor::http::{DOWN, NUMBER, PatternBody, RECEIVED, TENANT, UP, number_in};

pub(super) async fn serve(socket: TcpStream, identity: Identity, ledger: Arc<Ledger>) {
    let shared = Arc::new((identity, ledger));
    let answer = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // What broke is judged by whoever asked.
    let _ = server.serve_connection_with_upgrades(TokioIo::new(socket), answer).await;
}

type Shared = Arc<(Identity, Arc<Ledger>)>;

async fn answer(mut request: Request<Incoming>, shared: &Shared) -> Response<PatternBody> {
    let (identity, ledger) = &**shared;
    let asked = |name| number_in(request.headers(), name);
    let (Some(tenant), Some(number)) = (asked(TENANT), asked(NUMBER)) else {
        ledger.forbid(format!("local service of {}: WRONG: headers were lost", identity.name));
        return plain(StatusCode::BAD_REQUEST);
    };
    if tenant != u64::from(identity.tenant) {
        let name = &identity.name;
        ledger.forbid(format!("local service of {name}: WRONG: a visitor of tenant {tenant}"));
    }
    let (up, down) = (asked(UP).unwrap_or_default(), asked(DOWN).unwrap_or_default());
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY).cloned() {
        return switch(&mut request, &key, shared);
    }
    let mut heard = Pattern::of(number, Way::Up);
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        // A visitor that left, or a client that was killed.
        let Ok(frame) = frame else { return plain(StatusCode::BAD_REQUEST) };
        let Some(data) = frame.data_ref() else { continue };
        if heard.check(data).is_err() {
            ledger.forbid(format!("local service of {}: WRONG: a body differs", identity.name));
            return plain(StatusCode::BAD_REQUEST);
        }
        ledger.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    if heard.position() != up {
        // Neither framing of HTTP/1.1 nor HTTP/2 lets a body end early by itself.
        let name = &identity.name;
        ledger.forbid(format!("local service of {name}: WRONG: a body ended before its time"));
    }
    // Every second one tells its length, every other one comes in chunks.
    let mut response =
        Response::new(PatternBody::new(number, Way::Down, down, down.is_multiple_of(2)));
    sign(response.headers_mut(), identity, number, heard.position());
    response
}

/// Says who answers, and to what.
fn sign(headers: &mut HeaderMap, identity: &Identity, number: u64, received: u64) {
    headers.insert(TENANT, HeaderValue::from(identity.tenant));
    headers.insert(NUMBER, HeaderValue::from(number));
    headers.insert(RECEIVED, HeaderValue::from(received));
}

fn plain(status: StatusCode) -> Response<PatternBody> {
    let mut response = Response::new(PatternBody::new(0, Way::Down, 0, true));
    *response.status_mut() = status;
    response
}

/// Becomes a WebSocket that sends back every message.
fn switch(
    request: &mut Request<Incoming>,
    key: &HeaderValue,
    shared: &Shared,
) -> Response<PatternBody> {
    let number = number_in(request.headers(), NUMBER).unwrap_or_default();
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    sign(headers, &shared.0, number, 0);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}
