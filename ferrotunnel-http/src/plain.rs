//! Requests that are no more than a head, over HTTP/1.1, and their answers. That is most of them, and for those hyper's
//! client does much that is not needed: both halves of a connection that may be moved by anybody, behind channels.
//! Here whoever waits for the answer reads the stream, and what came over it goes on without being copied.
//!
//! Not here: requests with a body, those that ask for another protocol, and those that wait for leave.
//! [`crate::pool`] has hyper send these.

mod bad;
mod body;
mod connection;
mod head;
#[cfg(any(test, fuzzing))]
pub(crate) mod heard;
mod reading;
#[cfg(test)]
mod tests;

use std::{future::poll_fn, sync::Arc};

use bytes::BytesMut;
use ferrotunnel_core::OpenError;
use http::{
    Method, Response, Version,
    header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
    request,
};
use tracing::debug;

pub(crate) use self::connection::{Broken, Connection};
use self::{bad::Bad, connection::Asked};
use crate::{
    body::Body,
    pool::{Pool, Then},
    refusal::Refusal,
    visitor::Visitor,
};

/// A request that was handed to a connection, which has it, and waits for the head of its answer. Small, because it is
/// moved about.
pub(crate) struct Call {
    connection: Box<Connection>,
    /// The connection is not new.
    was_kept: bool,
}

/// A request that was not answered.
pub(crate) struct Failed {
    pub(crate) refusal: Refusal,
    /// A connection that had been kept ended, maybe before the request was heard.
    pub(crate) was_stale: bool,
    pub(crate) asked: Asked,
}

/// Whether a request without a body is no more than its head, which says so.
pub(crate) fn is_plain(request: &request::Parts) -> bool {
    let is_empty = |length: &http::HeaderValue| length.as_bytes() == b"0";
    let headers = &request.headers;
    request.version == Version::HTTP_11
        && request.method != Method::CONNECT
        && request.uri.authority().is_none()
        && !headers.contains_key(TRANSFER_ENCODING)
        && !headers.contains_key(EXPECT)
        && headers.get_all(CONTENT_LENGTH).iter().all(is_empty)
}

impl Call {
    /// Over a connection of that pool.
    pub(crate) fn new(
        pool: &Arc<Pool>,
        visitor: &Visitor,
        request: &request::Parts,
        hears: Option<Arc<Visitor>>,
        then: Then,
    ) -> Result<Self, Box<Failed>> {
        let method = request.method.clone();
        match pool.plain(visitor, then) {
            Ok((mut connection, was_kept)) => {
                let head = connection.write(request);
                connection.ask(Asked { head, method, hears });
                Ok(Self { connection, was_kept })
            }
            Err(error) => {
                let head = head::write(request, &mut BytesMut::new());
                Err(Failed::before(error, Asked { head, method, hears }))
            }
        }
    }

    /// The same for one that was not answered.
    pub(crate) fn again(
        pool: &Arc<Pool>,
        visitor: &Visitor,
        asked: Asked,
        then: Then,
    ) -> Result<Self, Box<Failed>> {
        match pool.plain(visitor, then) {
            Ok((mut connection, was_kept)) => {
                connection.ask(asked);
                Ok(Self { connection, was_kept })
            }
            Err(error) => Err(Failed::before(error, asked)),
        }
    }

    /// Returns as soon as the head of the answer is there.
    pub(crate) async fn answer(mut self, visitor: &Visitor) -> Result<Response<Body>, Box<Failed>> {
        loop {
            let broken = match poll_fn(|cx| self.connection.poll_head(cx)).await {
                Ok(parts) => return Ok(self.answered(parts)),
                Err(broken) => broken,
            };
            // One that was not begun is said once more, until a connection takes it or a new one does not.
            match self.connection.pool() {
                Some(pool) if matches!(broken, Broken::Before) => {
                    let asked = self.connection.take_asked();
                    self = Self::again(&pool, visitor, asked, Then::Keep)?;
                }
                _ => return Err(self.failed(&broken)),
            }
        }
    }

    fn answered(self, parts: http::response::Parts) -> Response<Body> {
        let mut connection = self.connection;
        let body = match connection.whole_body() {
            Some(whole) => {
                connection.leave();
                if whole.is_empty() { Body::empty() } else { Body::from(whole) }
            }
            None => Body::answering(connection),
        };
        Response::from_parts(parts, body)
    }

    fn failed(mut self, broken: &Broken) -> Box<Failed> {
        debug!(error = %broken, was_kept = self.was_kept, "a local service did not answer");
        let refusal = match broken {
            Broken::Stream(error) => Refusal::from(error),
            Broken::Answer(_) => Refusal::BadAnswer,
            // Nor is there a pool any more that it could go on in.
            Broken::Before => Refusal::TunnelClosed,
        };
        let ended =
            matches!(broken, Broken::Stream(_) | Broken::Before | Broken::Answer(Bad::CutOff));
        let asked = self.connection.take_asked();
        Box::new(Failed { refusal, was_stale: self.was_kept && ended, asked })
    }
}

impl Failed {
    /// There is no connection for it.
    fn before(error: OpenError, asked: Asked) -> Box<Self> {
        Box::new(Self { refusal: error.into(), was_stale: false, asked })
    }
}
