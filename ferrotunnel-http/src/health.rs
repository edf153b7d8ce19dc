//! Asks a local service over HTTP whether it is well.

use std::sync::Arc;

use ferrotunnel_core::client::{Examine, Pipe};
use http::{Method, Request, StatusCode, Version, header::HOST, uri::PathAndQuery};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::body::Body;

/// What a local service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS (h2c).
    Http2,
}

/// An examination that sends `GET path`, and is happy with every answer from 200 to 399.
///
/// # Errors
/// The path is none, or the host.
pub fn asks_for(path: &str, host: &str, speaks: Speaks) -> Result<Examine, http::Error> {
    let path = path.parse::<PathAndQuery>()?;
    let head = Request::builder()
        .method(Method::GET)
        .uri(format!("http://{host}{path}"))
        .header(http::header::USER_AGENT, concat!("ferrotunnel/", env!("CARGO_PKG_VERSION")))
        .body(())?;
    Ok(Arc::new(move |pipe| {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = head.uri().clone();
        *request.headers_mut() = head.headers().clone();
        Box::pin(ask(pipe, request, speaks))
    }))
}

async fn ask(
    pipe: Box<dyn Pipe>,
    mut request: Request<Body>,
    speaks: Speaks,
) -> Result<(), String> {
    let io = TokioIo::new(pipe);
    let wrong = |error: hyper::Error| format!("it does not answer over HTTP: {error}");
    let status = match speaks {
        Speaks::Http1 => {
            let (mut sender, connection) = http1::handshake(io).await.map_err(wrong)?;
            let authority = request.uri().authority().map_or("", |host| host.as_str());
            let host = authority.parse().map_err(|_| "its host is no header".to_owned())?;
            request.headers_mut().insert(HOST, host);
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(http::Uri::default, http::Uri::from);
            served(sender.send_request(request), connection).await.map_err(wrong)?
        }
        Speaks::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let executor = TokioExecutor::new();
            let (mut sender, connection) = http2::handshake(executor, io).await.map_err(wrong)?;
            served(sender.send_request(request), connection).await.map_err(wrong)?
        }
    };
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("it answers with {}", status.as_u16()))
    }
}

/// The status of the answer, with the connection driven meanwhile. It ends when nobody drives it any more.
async fn served(
    answer: impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<StatusCode> {
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?.status()),
        ended = connection => {
            ended?;
            Ok(answer.await?.status())
        }
    }
}
