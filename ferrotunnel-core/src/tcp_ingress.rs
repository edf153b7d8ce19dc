//! A public TCP port per tunnel.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::accept::accept_from;
use crate::registry::Tunnel;
use crate::socket;
use crate::splice::{SocketEnd, splice};
use crate::tasks::Tasks;

/// The tunnel that visitors of a port reach; a takeover replaces it while the listener stays.
#[derive(Clone, Debug)]
pub(crate) struct Target(Arc<Mutex<Arc<Tunnel>>>);

impl Target {
    pub(crate) fn new(tunnel: Arc<Tunnel>) -> Self {
        Self(Arc::new(Mutex::new(tunnel)))
    }

    pub(crate) fn current(&self) -> Arc<Tunnel> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) fn replace(&self, tunnel: Arc<Tunnel>) {
        *self.0.lock() = tunnel;
    }
}

/// A bound port that nobody serves yet.
pub(crate) struct Bound {
    listener: TcpListener,
    addr: SocketAddr,
}

pub(crate) fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let listener = socket::listen(addr)?;
    let addr = listener.local_addr()?;
    Ok(Bound { listener, addr })
}

impl Bound {
    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn serve(self, target: Target, visitors: Tasks, listeners: &Tasks) -> Ingress {
        let ingress = self.addr;
        let listener = Arc::new(Mutex::new(Some(self.listener)));
        let poll_accept = {
            let listener = Arc::clone(&listener);
            move |cx: &mut Context<'_>| match &*listener.lock() {
                Some(listener) => listener.poll_accept(cx),
                // Closed; the task is about to end.
                None => Poll::Pending,
            }
        };
        let accepting = accept_from(poll_accept, move |socket, visitor| {
            admit(socket, visitor, ingress, &target.current(), &visitors);
        });
        Ingress { listener, accepting: listeners.spawn(accepting) }
    }
}

/// A running listener; closes when dropped. Visitors inside stay.
#[derive(Debug)]
pub(crate) struct Ingress {
    /// Held here too, so that the port is free at once and not when the task has ended: the next
    /// client may ask for it in the same moment.
    listener: Arc<Mutex<Option<TcpListener>>>,
    accepting: AbortHandle,
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let listener = self.listener.lock().take();
        drop(listener);
        self.accepting.abort();
    }
}

fn admit(
    socket: TcpStream,
    visitor: SocketAddr,
    ingress: SocketAddr,
    tunnel: &Tunnel,
    visitors: &Tasks,
) {
    let stream = match tunnel.open(visitor, ingress) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%visitor, tunnel = tunnel.name(), %error, "visitor turned away");
            socket::abort_on_close(&socket);
            return;
        }
    };
    visitors.spawn(async move {
        let id = stream.id();
        if let Err(error) = splice(SocketEnd::new(socket), stream, None).await {
            tracing::debug!(%visitor, stream = %id, %error, "visitor's connection broke");
        }
    });
}
