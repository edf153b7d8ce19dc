//! The plugins that a builder was given, and how the engine asks them.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ferrotunnel_core::client::Event;
use ferrotunnel_core::{
    Decision, DialTracer, Dialled, NewSession, OpenedStream, PATH, Register, Registered,
    ServerHooks, StreamHooks,
};
use ferrotunnel_plugin::{
    Chain, Plugin, PluginMeter, RegistrationAnswer, RegistrationContext, SessionContext,
    StreamContext, TunnelContext,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// In the order in which they are asked.
#[derive(Clone, Default)]
pub(crate) struct Plugins(Vec<Arc<dyn Plugin>>);

impl std::fmt::Debug for Plugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|plugin| plugin.name())).finish()
    }
}

impl Plugins {
    pub(crate) fn push(&mut self, plugin: impl Plugin) {
        self.push_shared(Arc::new(plugin));
    }

    pub(crate) fn push_shared(&mut self, plugin: Arc<dyn Plugin>) {
        self.0.push(plugin);
    }

    /// `None` if there are none.
    pub(crate) fn chain(&self, meter: Option<Arc<dyn PluginMeter>>) -> Option<Chain> {
        Chain::measured_by(meter, self.0.clone())
    }
}

/// The engine knows no plugins; it has hooks.
#[derive(Debug)]
pub(crate) struct Hooks(pub(crate) Chain);

/// The same at a client, where either may be left out.
#[derive(Debug)]
pub(crate) struct ClientHooks {
    pub(crate) plugins: Option<Hooks>,
    pub(crate) tracer: Option<Arc<dyn DialTracer>>,
}

impl StreamHooks for ClientHooks {
    fn opened(&self, stream: OpenedStream<'_>) -> Box<dyn Send + Sync> {
        match &self.plugins {
            Some(hooks) => hooks.opened(stream),
            // It takes no memory.
            None => Box::new(()),
        }
    }

    fn dialled(&self, dialled: &Dialled<'_>) {
        if let Some(tracer) = &self.tracer {
            tracer.dialled(dialled);
        }
    }
}

impl StreamHooks for Hooks {
    fn opened(&self, stream: OpenedStream<'_>) -> Box<dyn Send + Sync> {
        let OpenedStream { tunnel, kind, session, principal, visitor } = stream;
        let tunnel = TunnelContext::new(tunnel, kind, session, principal);
        let context = StreamContext::new(tunnel, visitor);
        self.0.stream_opened(&context);
        Box::new(OpenStream { chain: self.0.clone(), context })
    }
}

/// A stream that plugins have seen the beginning of, and will see the end of.
struct OpenStream {
    chain: Chain,
    context: StreamContext,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.chain.stream_closed(&self.context);
    }
}

impl ServerHooks for Hooks {
    fn session<'a>(&'a self, session: &'a NewSession) -> Decision<'a> {
        Box::pin(async move {
            let NewSession { session_id, client_id, principal, peer, software } = session;
            let context = SessionContext::new(*session_id, peer.to_string());
            self.0.session(&context.of_client(*client_id, principal, software)).await
        })
    }

    fn registration<'a>(&'a self, session: &'a NewSession, wanted: &'a Register) -> Decision<'a> {
        Box::pin(async move { self.0.registration(&asked(session, wanted)).await })
    }

    fn answered<'a>(
        &'a self,
        session: &'a NewSession,
        wanted: &'a Register,
        answer: &'a Registered,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let answer = match answer {
                Registered::Ok { address } => RegistrationAnswer::Registered(address.clone()),
                Registered::Refused(refusal) => RegistrationAnswer::Refused(refusal.reason.clone()),
            };
            self.0.registration_answered(&asked(session, wanted), &answer).await;
        })
    }
}

fn asked(session: &NewSession, wanted: &Register) -> RegistrationContext {
    let (id, kind) = (Some(session.session_id), Some(wanted.kind));
    // As its requests and streams will name it.
    let path = wanted.options.iter().find(|(key, path)| key == PATH && path != "/");
    let name = format!("{}{}", wanted.name, path.map_or("", |(_, path)| path));
    let context = RegistrationContext::new(id, &session.principal, kind, &name);
    context.at(wanted.hosts.clone(), wanted.port)
}

/// Tells a client's plugins what happens to it, until nothing can any more.
pub(crate) async fn tell(chain: Chain, mut events: Receiver<Event>) {
    // What stands, by server and name.
    let mut standing = HashMap::new();
    loop {
        match events.recv().await {
            Ok(Event::Connected { session_id, server }) => {
                if let Err(reason) = chain.session(&SessionContext::new(session_id, server)).await {
                    tracing::warn!(session = %session_id, %reason, "a plugin wants to refuse a session, which only a server can");
                }
            }
            Ok(Event::TunnelReady(info)) => {
                let (id, kind) = (Some(info.session_id), Some(info.kind));
                let context = RegistrationContext::new(id, "", kind, &info.name);
                let answer = RegistrationAnswer::Registered(info.public_url);
                chain.registration_answered(&context, &answer).await;
                standing.insert((info.server, info.name), context);
            }
            Ok(Event::TunnelLost { name, server, reason }) => {
                let context = standing.remove(&(server, name.clone()));
                let context =
                    context.unwrap_or_else(|| RegistrationContext::new(None, "", None, name));
                let answer = RegistrationAnswer::Refused(reason);
                chain.registration_answered(&context, &answer).await;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "plugins were too slow for the events of their client");
            }
            Err(RecvError::Closed) => return,
        }
    }
}
