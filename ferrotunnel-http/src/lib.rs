//! The HTTP ingress of a FerroTunnel server.
//!
//! A request walks: [`HttpIngress`] accepts -> `connection` detects HTTP/1.1 or HTTP/2 -> `host`
//! says whom it is for -> `plugged` asks the
//! plugins, if there are any -> `forward` cleans its headers, and changes those that `header_rules` says -> `sending` takes a connection from `local`,
//! which runs through a stream of the tunnel -> the response comes back the same way. Bodies and
//! trailers pass as they arrive; nothing is ever collected.
//!
//! Not here: which tunnel has which host ([`ferrotunnel_core::Routes`] knows), what plugins do. Visitors over TLS come by
//! way of `https`.

mod access;
mod again;
mod answer;
mod body;
mod config;
mod connection;
mod connector;
mod detect;
mod early;
mod error_pages;
mod executor;
mod forward;
mod forwarded;
mod framing;
mod front;
#[cfg(fuzzing)]
pub mod fuzzing;
mod grpc;
mod header_rules;
mod headers;
mod health;
mod host;
mod https;
mod in_flight;
mod ingress;
mod interim;
mod leave;
mod leaving;
mod local;
mod measured;
mod multiplexed;
mod page;
mod plain;
mod plugged;
mod pool;
mod problem;
mod refusal;
mod request_id;
mod seen;
mod sending;
mod strip;
mod traced;
mod upgrade;
mod visitor;
mod visitor_io;
mod websocket;
mod wording;

#[cfg(test)]
mod arbitrary_heads;

pub use access::{
    BasicUser, BearerToken, HttpAccess, PasswordError, VisitorRate, hash_password, make_gate,
};
pub use config::HttpConfig;
pub use error_pages::{ErrorPages, ErrorPagesError};
pub use header_rules::{HeaderRule, HeaderRules, make_header_rules};
pub use health::{Speaks, asks_for};
pub use host::routed_host;
pub use https::{AcmeConfig, Expiry, ExternalAccount, Https, HttpsConfig, LETS_ENCRYPT, OldestTls};
pub use ingress::HttpIngress;
