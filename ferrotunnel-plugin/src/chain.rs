//! Several plugins, asked one after the other.

use std::sync::Arc;
use std::time::Instant;

use http::Request;

use crate::action::{Answer, PluginAction, Result};
use crate::contain::{awaited, called};
use crate::context::{
    RegistrationAnswer, RegistrationContext, RequestContext, SessionContext, StreamContext,
};
use crate::early::EarlyAnswer;
use crate::exchange::Exchange;
use crate::meter::PluginMeter;
use crate::plugin::Plugin;

/// Plugins in the order in which they are asked. A cheap handle; there is at least one in it.
#[derive(Clone)]
pub struct Chain(Arc<Links>);

struct Links {
    plugins: Vec<Arc<dyn Plugin>>,
    /// Those of them that want to see bodies.
    watching: Vec<usize>,
    meter: Option<Arc<dyn PluginMeter>>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.plugins.iter().map(|plugin| name(&**plugin))).finish()
    }
}

impl Chain {
    /// `None` without any plugin: whoever would call the chain has one branch to pass then.
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Option<Self> {
        Self::measured_by(None, plugins)
    }

    /// The same with somebody who hears how long they take; without, nobody looks at a clock.
    pub fn measured_by(
        meter: Option<Arc<dyn PluginMeter>>,
        plugins: Vec<Arc<dyn Plugin>>,
    ) -> Option<Self> {
        let wants = |plugin: &dyn Plugin| {
            settle(plugin, "wants_body_chunks", called(|| plugin.wants_body_chunks()))
        };
        let watching = (0..plugins.len()).filter(|at| wants(&*plugins[*at]) == Some(true));
        let watching = watching.collect();
        (!plugins.is_empty()).then(|| Self(Arc::new(Links { plugins, watching, meter })))
    }

    /// Those of them that are asked about more than requests; `None` if there are none.
    pub fn of_sessions(&self) -> Option<Self> {
        let wants = |plugin: &dyn Plugin| {
            let wants = called(|| plugin.wants_sessions());
            settle(plugin, "wants_sessions", wants) == Some(true)
        };
        let plugins = self.plugins().iter().filter(|plugin| wants(&***plugin));
        Self::measured_by(self.0.meter.clone(), plugins.cloned().collect())
    }

    pub(crate) fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.0.plugins
    }

    pub(crate) fn watching(&self) -> &[usize] {
        &self.0.watching
    }

    /// Has a phase of a plugin, and measures it.
    pub(crate) async fn awaited<F>(
        &self,
        plugin: &dyn Plugin,
        begin: impl FnOnce() -> F,
    ) -> std::result::Result<F::Output, String>
    where
        F: Future + Unpin,
    {
        let clock = self.clock(plugin);
        let came = awaited(begin).await;
        drop(clock);
        came
    }

    /// The same for one that does not wait.
    pub(crate) fn called<T>(
        &self,
        plugin: &dyn Plugin,
        call: impl FnOnce() -> T,
    ) -> std::result::Result<T, String> {
        let clock = self.clock(plugin);
        let came = called(call);
        drop(clock);
        came
    }

    fn clock<'a>(&'a self, plugin: &'a dyn Plugin) -> Option<Clock<'a>> {
        let meter = &**self.0.meter.as_ref()?;
        Some(Clock { meter, plugin, began: Instant::now() })
    }

    /// Asks about the head of a request. The exchange has to be kept until it is over: when its last share is
    /// dropped, the plugins hear that it has finished.
    pub async fn request(
        &self,
        request: &mut Request<()>,
        context: RequestContext,
    ) -> (Arc<Exchange>, Option<Answer>) {
        let mut exchange = Exchange::new(self.clone(), context);
        let mut answer = None;
        for plugin in self.plugins() {
            let asked =
                self.awaited(&**plugin, || plugin.on_request(request, exchange.context())).await;
            match action(&**plugin, "on_request", asked) {
                Ok(decided) => {
                    exchange.has_seen();
                    answer = decided;
                }
                // What it had begun is unknown, so it is not asked about the rest.
                Err(Failed) => answer = Some(Answer::Failed),
            }
            if answer.is_some() {
                exchange.is_answered_by(&**plugin);
                break;
            }
        }
        (Arc::new(exchange), answer)
    }

    /// Whether a session may begin; the error is for the client.
    ///
    /// # Errors
    /// A plugin says no, or failed.
    pub async fn session(&self, session: &SessionContext) -> std::result::Result<(), String> {
        for plugin in self.plugins() {
            let asked = self.awaited(&**plugin, || plugin.on_session(session)).await;
            permission(&**plugin, "on_session", asked)?;
        }
        Ok(())
    }

    /// Whether a client may have a tunnel; the error is for the client.
    ///
    /// # Errors
    /// A plugin says no, or failed.
    pub async fn registration(
        &self,
        wanted: &RegistrationContext,
    ) -> std::result::Result<(), String> {
        for plugin in self.plugins() {
            let asked = self.awaited(&**plugin, || plugin.on_registration(wanted)).await;
            permission(&**plugin, "on_registration", asked)?;
        }
        Ok(())
    }

    /// Tells what a registration came to.
    pub async fn registration_answered(
        &self,
        wanted: &RegistrationContext,
        answer: &RegistrationAnswer,
    ) {
        for plugin in self.plugins() {
            let told =
                self.awaited(&**plugin, || plugin.on_registration_answered(wanted, answer)).await;
            settle(&**plugin, "on_registration_answered", flat(told));
        }
    }

    /// Tells of an answer that no plugin was asked about.
    pub fn early_answer(&self, early: &EarlyAnswer) {
        for plugin in self.plugins() {
            let told = self.called(&**plugin, || plugin.on_early_answer(early));
            settle(&**plugin, "on_early_answer", told);
        }
    }

    /// Tells that a stream was opened.
    pub fn stream_opened(&self, stream: &StreamContext) {
        for plugin in self.plugins() {
            let told = self.called(&**plugin, || plugin.on_stream_opened(stream));
            settle(&**plugin, "on_stream_opened", told);
        }
    }

    /// Tells that a stream has ended, the last plugin first.
    pub fn stream_closed(&self, stream: &StreamContext) {
        for plugin in self.plugins().iter().rev() {
            let told = self.called(&**plugin, || plugin.on_stream_closed(stream));
            settle(&**plugin, "on_stream_closed", told);
        }
    }
}

/// Measures one phase of a plugin, also one that is not waited for to its end.
struct Clock<'a> {
    meter: &'a dyn PluginMeter,
    plugin: &'a dyn Plugin,
    began: Instant,
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        self.meter.spent(name(self.plugin), self.began.elapsed());
    }
}

/// A plugin failed, and that is logged.
#[derive(Debug)]
pub(crate) struct Failed;

/// What a phase came to, with whatever went wrong in it.
type Asked<T> = std::result::Result<Result<T>, String>;

pub(crate) fn flat<T>(asked: Asked<T>) -> std::result::Result<T, String> {
    asked.and_then(|result| result.map_err(|error| error.to_string()))
}

/// The value, unless the plugin failed.
pub(crate) fn settle<T>(
    plugin: &dyn Plugin,
    phase: &str,
    came: std::result::Result<T, String>,
) -> Option<T> {
    came.inspect_err(|error| {
        tracing::error!(plugin = name(plugin), phase, %error, "a plugin failed");
    })
    .ok()
}

/// What an answer to a request comes to.
pub(crate) fn action(
    plugin: &dyn Plugin,
    phase: &str,
    asked: Asked<PluginAction>,
) -> std::result::Result<Option<Answer>, Failed> {
    settle(plugin, phase, flat(asked).and_then(PluginAction::parsed)).ok_or(Failed)
}

/// What an action comes to where there is no request to answer.
fn permission(
    plugin: &dyn Plugin,
    phase: &str,
    asked: Asked<PluginAction>,
) -> std::result::Result<(), String> {
    let decided = match flat(asked) {
        Ok(PluginAction::Continue) => return Ok(()),
        Ok(PluginAction::Reject { reason, .. }) => return Err(reason),
        Ok(_) => Err("only to continue or to reject makes sense here".to_owned()),
        Err(error) => Err(error),
    };
    settle::<()>(plugin, phase, decided);
    Err("the server could not decide about it; its log says why".to_owned())
}

/// What it is called, if it can say so.
pub(crate) fn name(plugin: &dyn Plugin) -> &str {
    called(|| plugin.name()).unwrap_or("a plugin that cannot say its name")
}
