//! One request with the plugins that have seen it, until the end of its response.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::action::Answer;
use crate::chain::{Chain, action, flat, name, settle};
use crate::context::{AnsweredBy, RequestContext};
use crate::plugin::Plugin;

/// A request and how far it has come. Shared by whoever still carries a part of it; with the last share it is over.
pub struct Exchange {
    chain: Chain,
    context: RequestContext,
    /// So many plugins have seen the request, from the first on.
    seen: usize,
    /// 0 until there is a response.
    status: AtomicU16,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    is_complete: AtomicBool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Of the response as the visitor got it; `None` if the visitor left before there was any.
    pub status: Option<StatusCode>,
    /// Bytes of the request's body that went on to the local service.
    pub request_bytes: u64,
    /// Bytes of the response's body that went on to the visitor.
    pub response_bytes: u64,
    /// Whether the response came to its end, as opposed to one that broke off or that the visitor did not wait for.
    pub is_complete: bool,
    /// Since the plugins were first asked.
    pub duration: Duration,
}

/// A body's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// From the visitor to the local service.
    Request,
    /// From the local service to the visitor.
    Response,
}

/// Sees one body of an exchange pass.
pub struct Watch {
    exchange: Arc<Exchange>,
    dir: Dir,
}

/// A plugin wants a body to break off here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plugin broke the body off")
    }
}

impl std::error::Error for BrokenOff {}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("context", &self.context)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Exchange {
    pub(crate) fn new(chain: Chain, context: RequestContext) -> Self {
        Self {
            chain,
            context,
            seen: 0,
            status: AtomicU16::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            is_complete: AtomicBool::new(false),
        }
    }

    pub(crate) fn has_seen(&mut self) {
        self.seen += 1;
    }

    pub(crate) fn is_answered_by(&self, plugin: &dyn Plugin) {
        self.context.set_answered_by(AnsweredBy::Plugin(name(plugin).to_owned()));
    }

    /// What the plugins know.
    pub fn context(&self) -> &RequestContext {
        &self.context
    }

    /// Asks about the head of a response. If that is replaced, `in_its_place` makes the head of the answer and keeps
    /// the rest of it.
    pub async fn response(
        &self,
        response: &mut Response<()>,
        mut in_its_place: impl FnMut(Answer) -> Response<()>,
    ) {
        if self.context.answered_by().is_none() {
            self.context.set_answered_by(AnsweredBy::LocalService);
        }
        for plugin in self.seers() {
            let asked =
                self.chain.awaited(&**plugin, || plugin.on_response(response, &self.context));
            let asked = asked.await;
            let decided = action(&**plugin, "on_response", asked);
            if let Some(answer) = decided.unwrap_or(Some(Answer::Failed)) {
                self.is_answered_by(&**plugin);
                *response = in_its_place(answer);
            }
        }
        self.status.store(response.status().as_u16(), Ordering::Relaxed);
    }

    /// The answer is the server's own.
    pub fn is_answered_by_server(&self) {
        if self.context.answered_by().is_none() {
            self.context.set_answered_by(AnsweredBy::Server);
        }
    }

    /// Lets one of its bodies be seen.
    pub fn watch(self: &Arc<Self>, dir: Dir) -> Watch {
        Watch { exchange: Arc::clone(self), dir }
    }

    /// Those who have seen the request, the last first.
    fn seers(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        self.chain.plugins().iter().take(self.seen).rev()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let outcome = Outcome {
            status: StatusCode::from_u16(self.status.load(Ordering::Relaxed)).ok(),
            request_bytes: self.request_bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes.load(Ordering::Relaxed),
            is_complete: self.is_complete.load(Ordering::Relaxed),
            duration: self.context.began().elapsed(),
        };
        for plugin in self.seers() {
            let told = self.chain.called(&**plugin, || plugin.on_finished(&self.context, &outcome));
            settle(&**plugin, "on_finished", told);
        }
    }
}

impl Watch {
    /// For how long the next part of the body is to stay where it is; to be asked again then.
    ///
    /// # Errors
    /// It is not to come at all.
    pub fn hold(&self) -> Result<Duration, BrokenOff> {
        let exchange = &*self.exchange;
        let mut longest = Duration::ZERO;
        for plugin in self.watching() {
            let hold =
                exchange.chain.called(&**plugin, || plugin.holds_body(self.dir, &exchange.context));
            let hold = settle(&**plugin, "holds_body", hold).ok_or(BrokenOff)?;
            longest = longest.max(hold);
        }
        Ok(longest)
    }

    /// A part of the body passes.
    ///
    /// # Errors
    /// It is not to, nor what follows.
    pub fn chunk(&self, chunk: &Bytes) -> Result<(), BrokenOff> {
        let exchange = &*self.exchange;
        let passed = match self.dir {
            Dir::Request => &exchange.request_bytes,
            Dir::Response => &exchange.response_bytes,
        };
        for plugin in self.watching() {
            let context = &exchange.context;
            let seen = match self.dir {
                Dir::Request => {
                    let seen = exchange
                        .chain
                        .called(&**plugin, || plugin.on_request_chunk(chunk, context));
                    settle(&**plugin, "on_request_chunk", flat(seen))
                }
                Dir::Response => {
                    let seen = exchange
                        .chain
                        .called(&**plugin, || plugin.on_response_chunk(chunk, context));
                    settle(&**plugin, "on_response_chunk", flat(seen))
                }
            };
            seen.ok_or(BrokenOff)?;
        }
        passed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Those who have seen the request and want to see its bodies.
    fn watching(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        let chain = &self.exchange.chain;
        let watching = chain.watching().iter().filter(|at| **at < self.exchange.seen);
        watching.filter_map(|at| chain.plugins().get(*at))
    }

    /// The body has come to its end.
    pub fn end(&self) {
        if self.dir == Dir::Response {
            self.exchange.is_complete.store(true, Ordering::Relaxed);
        }
    }
}
