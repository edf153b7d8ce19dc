//! The plugins that come along.

mod access_log;
mod circuit_breaker;
mod line;
mod rate_limit;
mod rates;
mod visitor_auth;
mod writer;

pub use access_log::{AccessLog, LogFormat};
pub use circuit_breaker::CircuitBreaker;
pub use rate_limit::RateLimit;
pub use visitor_auth::{VisitorAuth, VisitorSecret, VisitorSecretError};
