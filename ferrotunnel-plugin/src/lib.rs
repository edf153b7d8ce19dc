//! Plugins: a say in what passes through a tunnel, and a look at it.
//!
//! A [`Plugin`] is asked in phases: a session, a registration, the head of a request, the chunks of its body, the
//! head and the chunks of the response, streams. A [`Chain`] asks several in the order they were given; the first that
//! answers a request itself ends it there, and the response passes those that had seen the request, backwards. A plugin
//! that panics costs the request it was asked about, and nothing else.
//!
//! Not here: sockets, HTTP connections and how a visitor is told. Those who carry traffic call the chain.

mod action;
mod builtin;
mod chain;
mod contain;
mod context;
mod early;
mod exchange;
mod meter;
mod plugin;
mod secret;
mod trace;

#[cfg(test)]
mod tests;

pub use action::{Answer, Error, PluginAction, Result};
/// The attribute that [`Plugin`]s are written with.
pub use async_trait::async_trait;
pub use builtin::{
    AccessLog, CircuitBreaker, LogFormat, RateLimit, VisitorAuth, VisitorSecret, VisitorSecretError,
};
pub use bytes::Bytes;
pub use chain::Chain;
pub use context::{
    AnsweredBy, RegistrationAnswer, RegistrationContext, RequestContext, SessionContext,
    StreamContext, TunnelContext,
};
pub use early::EarlyAnswer;
pub use exchange::{BrokenOff, Dir, Exchange, Outcome, Watch};
/// Which trace a request is part of.
pub use ferrotunnel_common::TraceContext;
/// The types of requests and responses.
pub use http;
pub use meter::{Answered, PluginMeter, RequestMeter, TunnelMeter};
pub use plugin::Plugin;
pub use secret::{NoHash, SecretHash};
pub use trace::{RequestTracer, Step, StepKind, TracedRequest};
