//! Answers every request with the same body.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;

use super::Counters;

pub(super) async fn serve(
    socket: TcpStream,
    body: Bytes,
    delay: Duration,
    counters: Arc<Counters>,
) {
    let answer = service_fn(move |_: Request<Incoming>| {
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let body = body.clone();
        async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(socket), answer).await;
}
