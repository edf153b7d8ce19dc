//! A public TCP port, and the tunnel behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Tunnel;
use crate::tasks::Tasks;
use crate::tcp_ingress::{Bound, Ingress};

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
        let open = {
            let current = Arc::clone(&current);
            move |visitor: SocketAddr, ingress: SocketAddr| {
                let tunnel = Arc::clone(&current.lock());
                tunnel.open(visitor, ingress)
            }
        };
        Self { current, _listener: bound.serve(open, visitors, listeners) }
    }

    /// The tunnel that visitors reach now.
    pub(super) fn current(&self) -> Arc<Tunnel> {
        Arc::clone(&self.current.lock())
    }

    pub(super) fn replace(&self, tunnel: Arc<Tunnel>) {
        *self.current.lock() = tunnel;
    }
}
