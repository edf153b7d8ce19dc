//! The connections to local services: each runs through a stream of one of the sessions that have its tunnel.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ferrotunnel_core::{
    OpenError, Routes, Servant, SessionId, TapMaker, Tunnel, TunnelUid, tasks::Tasks,
};
use parking_lot::RwLock;

use crate::{config::HttpConfig, connector::Connector, multiplexed::Multiplexed, pool::Pool};

/// The connections of all tunnels that requests have gone to.
///
/// Each session that has a tunnel has its own for it. So they can go when it goes, and a client that is
/// shutting down need not wait for idle connections; and which client a request goes to is decided for each
/// request, whatever connections there are already.
pub(crate) struct Local {
    routes: Arc<dyn Routes>,
    open: Arc<Open>,
    pool_max_idle: usize,
    idle: Duration,
    taps: Option<Arc<dyn TapMaker>>,
    tasks: Tasks,
}

type Open = RwLock<HashMap<(TunnelUid, SessionId), Arc<Connections>>>;

/// The connections to the local service of one tunnel by one session.
pub(crate) struct Connections {
    /// HTTP/1.1, kept for the next request.
    pub(crate) pool: Arc<Pool>,
    /// Shares HTTP/2 connections.
    pub(crate) multiplexed: Multiplexed,
}

impl Local {
    pub(crate) fn new(routes: Arc<dyn Routes>, config: &HttpConfig, tasks: Tasks) -> Self {
        let pool_max_idle = config.pool_max_idle_per_tunnel;
        let idle = config.pool_idle_timeout;
        let taps = config.taps.clone();
        Self { routes, open: Arc::default(), pool_max_idle, idle, taps, tasks }
    }

    /// The connections over which the tunnel's next request goes. It counts as open while the servant lives.
    pub(crate) fn choose(
        &self,
        tunnel: &Arc<Tunnel>,
    ) -> Result<(Arc<Connections>, Servant), OpenError> {
        let servant = tunnel.choose().ok_or(OpenError::SessionClosed)?;
        Ok((self.connections(tunnel, servant.session()), servant))
    }

    fn connections(&self, tunnel: &Arc<Tunnel>, session: SessionId) -> Arc<Connections> {
        let key = (tunnel.uid(), session);
        if let Some(connections) = self.open.read().get(&key) {
            return connections.clone();
        }
        let mut open = self.open.write();
        if open.is_empty() {
            self.tasks.spawn(forget_gone(Arc::downgrade(&self.open), self.routes.clone()));
        }
        open.entry(key).or_insert_with(|| self.connect_to(tunnel, session)).clone()
    }

    fn connect_to(&self, tunnel: &Arc<Tunnel>, session: SessionId) -> Arc<Connections> {
        let connector = Connector::new(tunnel.clone(), session, self.taps.clone());
        let (most, idle, tasks) = (self.pool_max_idle, self.idle, self.tasks.clone());
        Arc::new(Connections {
            pool: Pool::new(connector.clone(), most, idle, tasks),
            multiplexed: Multiplexed::new(connector, self.idle, self.tasks.clone()),
        })
    }
}

/// Closes the idle connections of tunnels and sessions that have left. Runs while there are any.
async fn forget_gone(open: Weak<Open>, routes: Arc<dyn Routes>) {
    let mut tick = tokio::time::interval(FORGET_AFTER);
    loop {
        tick.tick().await;
        let Some(open) = open.upgrade() else { return };
        let mut open = open.write();
        open.retain(|(uid, session), _| {
            routes.tunnel(*uid).is_some_and(|tunnel| tunnel.is_with(*session))
        });
        if open.is_empty() {
            return;
        }
    }
}

/// What a client that shuts down may have to wait for its idle connections: not long enough to be
/// noticed, and four lookups a second for a tunnel cost nothing.
const FORGET_AFTER: Duration = Duration::from_millis(250);
