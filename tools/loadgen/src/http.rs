//! HTTP requests over connections that are kept.

mod answer;
mod one;
mod two;

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::HOST;
use hyper::{Request, Uri, Version};

use crate::failure::Failure;
use crate::load::{self, Load};
use crate::tally::Outcome;

/// What is asked, and how.
#[derive(Clone, Debug)]
pub struct HttpLoad {
    /// The host in the request.
    pub host: String,
    /// The path in the request, with its query.
    pub path: String,
    /// The version visitors speak.
    pub version: HttpVersion,
    /// How much.
    pub load: Load,
}

/// The version visitors speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// One request after the other on each connection.
    One,
    /// Several at once on each connection, without TLS.
    Two {
        /// How many at once.
        streams: usize,
    },
}

/// Sends requests. Every answer that is not 2xx is a failure.
///
/// # Errors
/// Nobody listens there, the settings make no request, or there is no thread to be had.
pub fn run(addr: SocketAddr, settings: &HttpLoad) -> Result<Outcome, Failure> {
    let request = request(settings)?;
    match settings.version {
        HttpVersion::One => load::run(&settings.load, async || {
            let lane = one::Lane::connect(addr, request.clone()).await;
            Ok(vec![lane.map_err(|fault| Failure::Connect(addr, fault))?])
        }),
        HttpVersion::Two { streams } => load::run(&settings.load, async || {
            let lanes = two::Lane::connect(addr, &request, streams).await;
            lanes.map_err(|fault| Failure::Connect(addr, fault))
        }),
    }
}

fn request(settings: &HttpLoad) -> Result<Request<Empty<Bytes>>, Failure> {
    let HttpLoad { host, path, version, .. } = settings;
    Ok(match version {
        HttpVersion::One => Request::get(path).header(HOST, host).body(Empty::new())?,
        HttpVersion::Two { .. } => {
            let uri = Uri::builder().scheme("http").authority(&**host).path_and_query(path);
            Request::get(uri.build()?).version(Version::HTTP_2).body(Empty::new())?
        }
    })
}
