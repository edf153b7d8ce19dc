//! A public TCP port per tunnel.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ferrotunnel_protocol::OpenError;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::accept::{accept_from, arrived_at};
use crate::arrivals::{Arrivals, Arriving};
use crate::crowd::{Crowd, CrowdSeat};
use crate::moving::Mover;
use crate::proxies::{TrustedProxies, receive_announced};
use crate::shards::moved;
use crate::socket;
use crate::splice::{End, Prefixed, Socket as _, SocketEnd, splice};
use crate::stream::Stream;
use crate::tasks::Tasks;
use crate::visitor_socket::VisitorSocket;

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

    /// Hands every visitor to `admit` for whose source `crowd` has a place. A trusted proxy needs none: over its
    /// connections come many visitors. Those that it announces are counted by their own addresses.
    pub(crate) fn serve(
        self,
        admit: impl Fn(Visitor) + Clone + Send + Sync + 'static,
        visitors: Tasks,
        listeners: &Tasks,
        (arrivals, crowd): (Arc<Arrivals>, Arc<Crowd>),
        proxies: TrustedProxies,
    ) -> Ingress {
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
        let trusted = proxies.clone();
        let enter = move |socket, addr: SocketAddr, ingress, arriving| {
            let crowd = (!trusted.has(addr.ip())).then_some(&crowd);
            let place = crowd.map(|crowd| crowd.enter(addr.ip()));
            if matches!(place, Some(None)) {
                tracing::debug!(visitor = %addr, %ingress, "visitor turned away: its address has all that it may have");
                return socket::abort_on_close(&socket);
            }
            let place = place.flatten();
            let (socket, words) = (VisitorSocket::from(socket), Bytes::new());
            admit(Visitor { socket, addr, ingress, place, words, arriving: Some(arriving) });
        };
        let accepting = accept_from(poll_accept, move |mut socket, peer| {
            let ingress = arrived_at(&socket, ingress);
            let arriving = arrivals.one_more();
            if !proxies.announces(peer.ip()) {
                return enter(socket, peer, ingress, arriving);
            }
            let enter = enter.clone();
            visitors.spawn(async move {
                match receive_announced(&mut socket, peer, ingress).await {
                    Ok((addr, ingress)) => enter(socket, addr, ingress, arriving),
                    Err(error) => {
                        tracing::warn!(proxy = %peer, %ingress, %error, "a trusted proxy does not say for whom it comes");
                        socket::abort_on_close(&socket);
                    }
                }
            });
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

/// Somebody who connected to a public port and is to have a stream.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) socket: VisitorSocket,
    pub(crate) addr: SocketAddr,
    /// Where they connected to.
    pub(crate) ingress: SocketAddr,
    /// Its place among those of its source, where that is limited.
    pub(crate) place: Option<CrowdSeat>,
    /// What was read of it to find out where it wants to go. The local service hears it first.
    pub(crate) words: Bytes,
    /// For as long as it may still need a stream.
    pub(crate) arriving: Option<Arriving>,
}

impl Visitor {
    /// Sends the visitor away because of its address.
    pub(crate) fn deny(self, tunnel: &str) {
        tracing::debug!(visitor = %self.addr, tunnel, "visitor turned away: the tunnel does not allow its address");
        self.socket.abort_on_close();
    }

    /// Sends the visitor away because the tunnel takes nobody for now.
    pub(crate) fn find_paused(self, tunnel: &str) {
        tracing::debug!(visitor = %self.addr, tunnel, "visitor turned away: the tunnel is paused");
        self.socket.abort_on_close();
    }

    /// Sends the visitor away because the tunnel has left while it waited for the client.
    pub(crate) fn too_late(self) {
        tracing::debug!(visitor = %self.addr, "visitor turned away: its tunnel has left");
        self.socket.abort_on_close();
    }

    /// The tunnel takes nobody.
    pub(crate) fn turn_away(self, error: OpenError) {
        let Self { socket, addr, ingress, .. } = self;
        tracing::debug!(visitor = %addr, %ingress, %error, "visitor turned away");
        socket.abort_on_close();
    }

    /// Serves the visitor over a stream, in a task of its own: on that runtime, if one is named.
    pub(crate) fn serve(self, stream: impl End + 'static, home: Option<Handle>, visitors: &Tasks) {
        self.serve_by(|visitor| splice(visitor, stream, None), home, visitors);
    }

    /// The same, and the stream may move.
    pub(crate) fn serve_moving(
        self,
        stream: Stream,
        mover: Mover,
        home: Option<Handle>,
        visitors: &Tasks,
    ) {
        self.serve_by(|visitor| mover.splice(visitor, stream), home, visitors);
    }

    fn serve_by<S, T, E>(
        self,
        copy: impl FnOnce(Prefixed<SocketEnd<VisitorSocket>>) -> S + Send + 'static,
        home: Option<Handle>,
        visitors: &Tasks,
    ) where
        S: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: Display + Send,
    {
        let Self { socket, addr, ingress, place, words, arriving } = self;
        drop(arriving);
        let serve = move |socket: VisitorSocket| async move {
            let _place = place;
            let visitor = Prefixed::new(words, SocketEnd::guarded(socket));
            if let Err(error) = copy(visitor).await {
                tracing::debug!(visitor = %addr, %ingress, %error, "visitor's connection broke");
            }
        };
        match (home, socket) {
            (Some(home), VisitorSocket::Tcp(socket)) => {
                let serve = |socket| serve(VisitorSocket::Tcp(socket));
                drop(moved(socket, serve).map(|task| visitors.spawn_on(task, &home)));
            }
            (_, socket) => drop(visitors.spawn(serve(socket))),
        }
    }
}
