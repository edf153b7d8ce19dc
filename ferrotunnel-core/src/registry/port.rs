//! A public TCP port, and the tunnel behind it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Tunnel;
use crate::crowd::Crowd;
use crate::proxies::TrustedProxies;
use crate::tasks::Tasks;
use crate::tcp_ingress::{Bound, Ingress, Visitor};

/// A port that visitors can reach. A takeover replaces the tunnel while the listener stays.
#[derive(Debug)]
pub(super) struct Port {
    current: Arc<Mutex<Arc<Tunnel>>>,
    /// Ends with the port.
    _listener: Ingress,
}

impl Port {
    pub(super) fn open(
        bound: Bound,
        tunnel: Arc<Tunnel>,
        visitors: Tasks,
        listeners: &Tasks,
        crowd: Arc<Crowd>,
        proxies: TrustedProxies,
    ) -> Self {
        let current = Arc::new(Mutex::new(tunnel));
        let find = {
            let current = Arc::clone(&current);
            move || Some(Arc::clone(&current.lock()))
        };
        let way_in = WayIn { find, visitors: visitors.clone() };
        let admit = move |visitor| way_in.admit(visitor);
        let listener = bound.serve(admit, visitors, listeners, crowd, proxies);
        Self { current, _listener: listener }
    }

    /// The tunnel that visitors reach now.
    pub(super) fn current(&self) -> Arc<Tunnel> {
        Arc::clone(&self.current.lock())
    }

    pub(super) fn replace(&self, tunnel: Arc<Tunnel>) {
        *self.current.lock() = tunnel;
    }
}

/// From where visitors come in to the tunnel of the moment, if there is one.
#[derive(Clone)]
pub(super) struct WayIn<F> {
    pub(super) find: F,
    pub(super) visitors: Tasks,
}

impl<F> WayIn<F>
where
    F: Fn() -> Option<Arc<Tunnel>> + Clone + Send + 'static,
{
    pub(super) fn admit(&self, visitor: Visitor) {
        let Some(tunnel) = (self.find)() else { return visitor.too_late() };
        if tunnel.access().is_some_and(|access| !access.admits(visitor.addr.ip())) {
            return visitor.deny(tunnel.name());
        }
        if let Some(away) = tunnel.away() {
            let way_in = self.clone();
            self.visitors.spawn(async move {
                away.await;
                way_in.admit(visitor);
            });
            return;
        }
        let multiplex = {
            let (tunnel, visitors) = (Arc::clone(&tunnel), self.visitors.clone());
            move |visitor: Visitor| {
                let opened = tunnel.open_on(visitor.addr, visitor.ingress);
                visitor.multiplex(opened, &visitors);
            }
        };
        tunnel.serve_directly(visitor, multiplex);
    }
}
