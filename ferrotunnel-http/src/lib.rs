//! The HTTP ingress of a FerroTunnel server.
//!
//! A request walks: [`HttpIngress`] accepts -> `connection` detects HTTP/1.1 or HTTP/2 -> `host`
//! says whom it is for -> `forward` cleans its headers -> `sending` takes a connection from `local`,
//! which runs through a stream of the tunnel -> the response comes back the same way. Bodies and
//! trailers pass as they arrive; nothing is ever collected.
//!
//! Not here: which tunnel has which host ([`ferrotunnel_core::Routes`] knows), TLS, plugins.

mod answer;
mod body;
mod config;
mod connection;
mod connector;
mod detect;
mod error_pages;
mod executor;
mod forward;
mod forwarded;
mod framing;
mod grpc;
mod headers;
mod host;
mod in_flight;
mod ingress;
mod interim;
mod leave;
mod leaving;
mod local;
mod multiplexed;
mod page;
mod problem;
mod refusal;
mod request_id;
mod sending;
mod upgrade;
mod visitor;
mod visitor_io;
mod websocket;
mod wording;

#[cfg(test)]
mod arbitrary_heads;

pub use config::HttpConfig;
pub use error_pages::{ErrorPages, ErrorPagesError};
pub use ingress::HttpIngress;
