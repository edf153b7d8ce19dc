//! Who counts requests, and the time of plugins. It sees less than a plugin, decides nothing, and costs less.

use std::fmt::Debug;
use std::time::Duration;

use http::{Method, StatusCode};

/// Hears of each request at its beginning, when the head of its answer is there, and when all is over. It is called
/// where requests are served, so it must not take its time.
pub trait RequestMeter: Debug + Send + Sync + 'static {
    /// A request has come.
    fn begun(&self);

    /// The head of its answer is there, or there will be none.
    fn answered(&self, answered: &Answered<'_>);

    /// The last byte of the answer has been handed out, or nobody wants it any more.
    fn ended(&self, tunnel: Option<&str>, took: Duration);
}

/// Hears how long plugins take. It is called where they are, so it must not take its time.
pub trait PluginMeter: Debug + Send + Sync + 'static {
    /// A plugin has had one of its phases, which took so long, whatever it waited for included.
    fn spent(&self, plugin: &str, took: Duration);
}

/// How a request was answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered<'a> {
    /// The tunnel that it was for, with its path if it has one; `None`: it was for none.
    pub tunnel: Option<&'a str>,
    /// What was asked for.
    pub method: &'a Method,
    /// `None`: the visitor has left before there was an answer.
    pub status: Option<StatusCode>,
    /// Why the answer is the server's own, as in its `FerroTunnel-Error`.
    pub refusal: Option<&'static str>,
    /// Since the request had come.
    pub took: Duration,
}

impl<'a> Answered<'a> {
    /// A request for nothing that has had no answer.
    pub fn new(method: &'a Method, took: Duration) -> Self {
        Self { tunnel: None, method, status: None, refusal: None, took }
    }
}
