//! Who counts requests, and the time of plugins. It sees less than a plugin, decides nothing, and costs less.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

/// Hears of each request at its beginning, when the head of its answer is there, and when all is over. It is called
/// where requests are served, so it must not take its time.
pub trait RequestMeter: Debug + Send + Sync + 'static {
    /// A request has come.
    fn begun(&self);

    /// Where requests of a tunnel are counted, its path included if it has one; `None`: those for no tunnel. A server asks
    /// once for each tunnel that is registered, an inspector for each stream.
    fn of(&self, tunnel: Option<&str>) -> Arc<dyn TunnelMeter>;

    /// The answer is the server's own, and why, as in its `FerroTunnel-Error`.
    fn refused(&self, kind: &'static str);

    /// The last byte of an answer has been handed out, or nobody wants it any more.
    fn ended(&self, took: Duration);
}

/// Hears of the requests of one tunnel.
pub trait TunnelMeter: Debug + Send + Sync + 'static {
    /// The head of an answer is there, or there will be none.
    fn answered(&self, answered: &Answered<'_>);

    /// It is over by now, and took so long in all.
    fn ended(&self, now: Instant, took: Duration);
}

/// Hears how long plugins take. It is called where they are, so it must not take its time.
pub trait PluginMeter: Debug + Send + Sync + 'static {
    /// A plugin has had one of its phases, which took so long, whatever it waited for included.
    fn spent(&self, plugin: &str, took: Duration);
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Answered<'a> {
    /// What was asked for.
    pub method: &'a Method,
    /// `None`: the visitor has left before there was an answer.
    pub status: Option<StatusCode>,
    /// Since the request had come.
    pub took: Duration,
}

impl<'a> Answered<'a> {
    /// A request with its answer.
    pub fn new(method: &'a Method, status: Option<StatusCode>, took: Duration) -> Self {
        Self { method, status, took }
    }
}
