//! The connections to local services: each runs through a stream of its tunnel.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ferrotunnel_core::{Routes, Tunnel, TunnelUid, tasks::Tasks};
use hyper_util::{
    client::legacy::{self, Client},
    rt::TokioTimer,
};
use parking_lot::RwLock;

use crate::{
    body::Body,
    config::{HttpConfig, MAX_BUFFERED},
    connector::Connector,
    executor::Executor,
    multiplexed::Multiplexed,
};

/// The connections of all tunnels that requests have gone to.
///
/// Each tunnel has its own, so that they can go when it goes: a tunnel whose client is shutting
/// down would have to wait for idle connections otherwise.
pub(crate) struct Local {
    routes: Arc<dyn Routes>,
    open: Arc<Open>,
    builder: legacy::Builder,
    pool_max_idle: usize,
    idle: Duration,
    tasks: Tasks,
}

type Open = RwLock<HashMap<TunnelUid, Arc<Connections>>>;

/// The connections to the local service of one tunnel.
pub(crate) struct Connections {
    pub(crate) tunnel: Arc<Tunnel>,
    /// Keeps HTTP/1.1 connections for the next request.
    pub(crate) pooled: Client<Connector, Body>,
    /// Opens an HTTP/1.1 connection for each request.
    pub(crate) fresh: Client<Connector, Body>,
    /// Shares HTTP/2 connections.
    pub(crate) multiplexed: Multiplexed,
}

impl Local {
    pub(crate) fn new(routes: Arc<dyn Routes>, config: &HttpConfig, tasks: Tasks) -> Self {
        let mut builder = Client::builder(Executor(tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.pool_idle_timeout)
            .http1_max_buf_size(MAX_BUFFERED)
            // The Host header is the visitor's.
            .set_host(false);
        let pool_max_idle = config.pool_max_idle_per_tunnel;
        let idle = config.pool_idle_timeout;
        Self { routes, open: Arc::default(), builder, pool_max_idle, idle, tasks }
    }

    pub(crate) fn connections(&self, tunnel: &Arc<Tunnel>) -> Arc<Connections> {
        if let Some(connections) = self.open.read().get(&tunnel.uid()) {
            return connections.clone();
        }
        let mut open = self.open.write();
        if open.is_empty() {
            self.tasks.spawn(forget_gone(Arc::downgrade(&self.open), self.routes.clone()));
        }
        open.entry(tunnel.uid()).or_insert_with(|| self.connect_to(tunnel)).clone()
    }

    fn connect_to(&self, tunnel: &Arc<Tunnel>) -> Arc<Connections> {
        let connector = Connector::new(tunnel.clone());
        let mut builder = self.builder.clone();
        Arc::new(Connections {
            tunnel: tunnel.clone(),
            pooled: builder.pool_max_idle_per_host(self.pool_max_idle).build(connector.clone()),
            fresh: builder.pool_max_idle_per_host(0).build(connector),
            multiplexed: Multiplexed::new(tunnel.clone(), self.idle, self.tasks.clone()),
        })
    }
}

/// Closes the idle connections of tunnels that have left. Runs while there are any.
async fn forget_gone(open: Weak<Open>, routes: Arc<dyn Routes>) {
    let mut tick = tokio::time::interval(FORGET_AFTER);
    loop {
        tick.tick().await;
        let Some(open) = open.upgrade() else { return };
        let mut open = open.write();
        open.retain(|uid, _| routes.tunnel(*uid).is_some());
        if open.is_empty() {
            return;
        }
    }
}

/// What a client that shuts down may have to wait for its idle connections: not long enough to be
/// noticed, and four lookups a second for a tunnel cost nothing.
const FORGET_AFTER: Duration = Duration::from_millis(250);
