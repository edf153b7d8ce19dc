//! A public TCP port, and the tunnel behind it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Tunnel;
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
    ) -> Self {
        let current = Arc::new(Mutex::new(tunnel));
        let admit = {
            let current = Arc::clone(&current);
            move |visitor: Visitor| {
                let (tunnel, visitors) = (Arc::clone(&current.lock()), visitors.clone());
                let multiplex = {
                    let tunnel = Arc::clone(&tunnel);
                    move |visitor: Visitor| {
                        let opened = tunnel.open_on(visitor.addr, visitor.ingress);
                        visitor.multiplex(opened, &visitors);
                    }
                };
                tunnel.serve_directly(visitor, multiplex);
            }
        };
        Self { current, _listener: bound.serve(admit, listeners) }
    }

    /// The tunnel that visitors reach now.
    pub(super) fn current(&self) -> Arc<Tunnel> {
        Arc::clone(&self.current.lock())
    }

    pub(super) fn replace(&self, tunnel: Arc<Tunnel>) {
        *self.current.lock() = tunnel;
    }
}
