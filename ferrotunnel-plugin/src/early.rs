//! Answers to what never became a request that plugins could be asked about.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, StatusCode};

/// The server's own answer to a request that nobody could make out, that came over the wrong connection or to the wrong
/// place, or for whose visitor there was no room.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EarlyAnswer {
    /// Who came; a proxy, if one stands in between.
    pub visitor: SocketAddr,
    /// When it was answered.
    pub at: SystemTime,
    /// The first line of the request as far as it was read, without its end. Nobody has checked it.
    pub request_line: Vec<u8>,
    /// Those of `Host`, `Referer`, `User-Agent` and `Accept` that were read.
    pub headers: HeaderMap,
    /// As in `X-Request-Id` of the answer.
    pub request_id: HeaderValue,
    /// Of the answer.
    pub status: StatusCode,
    /// As in `FerroTunnel-Error` of the answer.
    pub error: Option<String>,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

impl EarlyAnswer {
    /// An answer with that status to a visitor of whom nothing else is known.
    pub fn new(visitor: SocketAddr, status: StatusCode) -> Self {
        Self {
            visitor,
            at: SystemTime::now(),
            request_line: Vec::new(),
            headers: HeaderMap::new(),
            request_id: HeaderValue::from_static(""),
            status,
            error: None,
            response_bytes: 0,
        }
    }
}
