//! Words that every FerroTunnel crate uses: ids, [`Token`], [`LimitsConfig`], default ports.
//!
//! An item enters only when two crates that do not depend on each other need it. There is no
//! runtime, no serialisation format and no cryptography here.

pub mod base32;
mod id;
mod kind;
mod limits;
mod token;
mod trace;

pub use id::{ClientId, SessionId, StreamId};
pub use kind::TunnelKind;
pub use limits::LimitsConfig;
pub use token::{Token, TokenError};
pub use trace::TraceContext;

/// Port on which a server expects its clients.
pub const DEFAULT_TUNNEL_PORT: u16 = 7835;

/// Port on which a server answers visitors over HTTP. Above 1024, so no privilege is needed.
pub const DEFAULT_HTTP_PORT: u16 = 8080;

/// Domain under which HTTP tunnels get their names. Browsers and curl resolve `*.localhost` to
/// the loopback address without any DNS.
pub const DEFAULT_DOMAIN: &str = "localhost";
