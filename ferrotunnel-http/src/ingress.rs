//! The public listener for HTTP visitors.

use std::{
    future::poll_fn,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use ferrotunnel_core::{
    Crowd, CrowdSeat, Routes, Shards, TrustedProxies,
    accept::{accept_into_places, accept_loop, arrived_at},
    receive_announced,
    splice::Socket,
    tasks::Tasks,
};
use ferrotunnel_plugin::Chain;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    config::HttpConfig,
    connection::{Serving, asked_to_stop},
    error_pages::ErrorPages,
    forward::Forwarder,
    https::Https,
    visitor::{Admission, Visitor},
};

/// Serves visitors over HTTP/1.1 and HTTP/2 (told apart by their first bytes), and forwards each
/// request to the tunnel that its host names. One ingress may serve several listeners; they share
/// the connections to local services.
///
/// Every path belongs to the tunnels. Answers that are the ingress's own carry a
/// `FerroTunnel-Error` header. CONNECT is refused with 405: this is no forward proxy.
pub struct HttpIngress {
    serving: Arc<Serving>,
    drain_grace: Duration,
    /// What hyper starts by itself ends with the ingress.
    tasks: Tasks,
    shards: Shards,
    /// One for each visitor inside; there are more of them than anybody allows.
    places: Arc<Semaphore>,
    /// At first [`HttpConfig::max_visitors`].
    most: AtomicUsize,
    /// Who counts those that find no place.
    routes: Arc<dyn Routes>,
    /// For those who find no place and are told so.
    door_places: Arc<Semaphore>,
    /// Places by where visitors come from, where those are limited.
    crowd: Option<Arc<Crowd>>,
    proxies: TrustedProxies,
}

impl HttpIngress {
    /// An ingress that looks tunnels up in `routes`, and serves its visitors on `shards`.
    pub fn new(routes: Arc<dyn Routes>, shards: Shards, config: &HttpConfig) -> Self {
        Self::beside(None, routes, shards, config)
    }

    /// The same beside this HTTPS, whose certificates may ask for something over HTTP.
    pub fn beside(
        https: Option<&Https>,
        routes: Arc<dyn Routes>,
        shards: Shards,
        config: &HttpConfig,
    ) -> Self {
        let tasks = Tasks::default();
        let challenges = https.and_then(Https::challenges);
        let forwarder = Forwarder::new(Arc::clone(&routes), config, challenges, tasks.clone());
        let serving = Arc::new(Serving::new(config, tasks.clone(), forwarder));
        let places = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let most = AtomicUsize::new(config.max_visitors);
        let door_places = Arc::new(Semaphore::new(MOST_AT_THE_DOOR));
        let drain_grace = config.drain_grace;
        let proxies = config.proxies.clone();
        Self {
            serving,
            drain_grace,
            tasks,
            shards,
            places,
            most,
            routes,
            door_places,
            crowd: None,
            proxies,
        }
    }

    /// The same with a limit on visitors from one source; more are answered with a 429 and closed.
    #[must_use]
    pub fn limited_by(mut self, crowd: Arc<Crowd>) -> Self {
        self.crowd = Some(crowd);
        self
    }

    /// So many visitors at once from now on; those inside stay.
    pub fn set_max_visitors(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Other plugins for requests that come from now on.
    pub fn set_plugins(&self, plugins: Option<Chain>) {
        self.serving.set_plugins(plugins);
    }

    /// Other pages of the operator's from now on.
    pub fn set_error_pages(&self, pages: ErrorPages) {
        self.serving.set_error_pages(pages);
    }

    /// For a visitor who has just come, unless there are as many as there may be.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let inside = Semaphore::MAX_PERMITS - self.places.available_permits();
        (inside <= self.most.load(Ordering::Relaxed)).then_some(place)
    }

    /// Who has come, with a place inside or at the door; `None` if there is neither.
    fn admit(
        &self,
        peer: SocketAddr,
        address: SocketAddr,
    ) -> Option<(Visitor, OwnedSemaphorePermit)> {
        self.admit_arrived(self.arrive(peer), address)
    }

    /// Takes a place among those of a source, where that is limited.
    fn arrive(&self, peer: SocketAddr) -> Arrival {
        // Over the connections of a proxy come many visitors.
        let is_proxy = self.proxies.has(peer.ip());
        let crowd = self.crowd.as_ref().filter(|_| !is_proxy);
        let of_source = crowd.map(|crowd| crowd.enter(peer.ip()));
        let is_one_of_too_many = matches!(of_source, Some(None));
        Arrival { peer, is_proxy, is_one_of_too_many, of_source: of_source.flatten(), door: None }
    }

    /// The same for who has yet to make a handshake, and has a place for it. Who is one too many of a source
    /// gives that to others, and is told so at the door; `None`: there are too many of those, too.
    pub(crate) fn comes(
        &self,
        peer: SocketAddr,
        handshake: OwnedSemaphorePermit,
    ) -> Option<Coming> {
        let mut arrival = self.arrive(peer);
        if !arrival.is_one_of_too_many {
            return Some(Coming { place: handshake, arrival });
        }
        arrival.door = Some(self.at_the_door(peer)?);
        let place = self.at_the_door(peer)?;
        Some(Coming { place, arrival })
    }

    fn at_the_door(&self, peer: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let place = self.door_places.clone().try_acquire_owned().ok();
        if place.is_none() {
            debug!(visitor = %peer, "closed at once: the ingress is full");
        }
        place
    }

    /// The same for who has arrived.
    pub(crate) fn admit_arrived(
        &self,
        arrival: Arrival,
        address: SocketAddr,
    ) -> Option<(Visitor, OwnedSemaphorePermit)> {
        let Arrival { peer, is_proxy, is_one_of_too_many, of_source, door } = arrival;
        let place = if is_one_of_too_many { None } else { self.place() };
        if place.is_none() && !is_one_of_too_many {
            self.routes.visitor_turned_away();
        }
        if let Some(place) = place {
            let visitor = Visitor::new(peer, address, Admission::Inside);
            return Some((visitor.placed(of_source).speaking_for_others(is_proxy), place));
        }
        let refusal = match is_one_of_too_many {
            true => Admission::OneOfTooMany,
            false => Admission::TurnedAway,
        };
        let door = door.or_else(|| self.at_the_door(peer))?;
        Some((Visitor::new(peer, address, refusal), door))
    }

    /// Who comes, and where to: as a proxy says first that is trusted to say it. `None`: it does not.
    pub(crate) async fn announced(
        &self,
        io: &mut TcpStream,
        peer: SocketAddr,
        address: SocketAddr,
    ) -> Option<(SocketAddr, SocketAddr)> {
        if !self.proxies.announces(peer.ip()) {
            return Some((peer, address));
        }
        match receive_announced(io, peer, address).await {
            Ok(announced) => Some(announced),
            Err(error) => {
                warn!(proxy = %peer, %error, "a trusted proxy does not say for whom it comes");
                Socket::abort_on_close(io);
                None
            }
        }
    }

    /// Serves a connection of a proxy that says first for whom it comes.
    async fn serve_announced(
        self: Arc<Self>,
        mut io: TcpStream,
        peer: SocketAddr,
        address: SocketAddr,
        shutdown: watch::Receiver<bool>,
    ) {
        let Some((visitor, ingress)) = self.announced(&mut io, peer, address).await else { return };
        if let Some((visitor, place)) = self.admit(visitor, ingress) {
            let serving = self.serving.clone();
            // The ingress ends what runs in it when it goes, and this is not to keep it.
            drop(self);
            Box::pin(serving.attend(io, visitor, place, shutdown)).await;
        }
    }

    /// Accepts and serves until `shutdown` becomes true, or its sender is dropped. Then the
    /// listener closes at once, requests in progress may finish for
    /// [`HttpConfig::drain_grace`], and what is still open after that is cut. When this returns,
    /// no connection is left; when it is dropped, all are cut.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: watch::Receiver<bool>) {
        let address = listener.local_addr().unwrap_or(UNKNOWN);
        let connections = Mutex::new(JoinSet::new());
        let mut stop = shutdown.clone();
        tokio::select! {
            biased;
            () = asked_to_stop(&mut stop) => {}
            () = accept_loop(listener, |io, peer| {
                let (ingress, shutdown) = (self.clone(), shutdown.clone());
                let address = arrived_at(&io, address);
                let mut connections = connections.lock();
                if self.proxies.announces(peer.ip()) {
                    let serve = move |io| ingress.serve_announced(io, peer, address, shutdown);
                    self.shards.serve_exchanges(&mut connections, io, serve);
                } else if let Some((visitor, place)) = self.admit(peer, address) {
                    let serving = self.serving.clone();
                    let serve = move |io| serving.attend(io, visitor, place, shutdown);
                    self.shards.serve_exchanges(&mut connections, io, serve);
                }
            }) => {}
            () = forget_finished(&connections) => {}
        }
        drain(connections.into_inner(), self.drain_grace).await;
    }

    /// The same for visitors over TLS. Who dials a carrier at that port is brought to the engine, if that
    /// is asked for.
    pub async fn serve_https(
        self: Arc<Self>,
        https: Arc<Https>,
        listener: TcpListener,
        shutdown: watch::Receiver<bool>,
    ) {
        let address = listener.local_addr().unwrap_or(UNKNOWN);
        let connections = Mutex::new(JoinSet::new());
        let mut stop = shutdown.clone();
        let on_connection = |io: TcpStream, peer: SocketAddr, place| {
            let (this, https) = (Arc::clone(&self), Arc::clone(&https));
            let shutdown = shutdown.clone();
            let address = arrived_at(&io, address);
            let serve = move |io| https.receive(this, io, (peer, address), place, shutdown);
            self.shards.serve_exchanges(&mut connections.lock(), io, serve);
        };
        let places = https.places();
        let on_full = || debug!("as many handshakes of visitors are under way as are allowed");
        tokio::select! {
            biased;
            () = asked_to_stop(&mut stop) => {}
            () = accept_into_places(listener, places, on_connection, on_full) => {}
            () = forget_finished(&connections) => {}
        }
        drain(connections.into_inner(), self.drain_grace).await;
    }

    pub(crate) fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }
}

/// Who has come, before it is decided where to.
pub(crate) struct Arrival {
    peer: SocketAddr,
    is_proxy: bool,
    is_one_of_too_many: bool,
    of_source: Option<CrowdSeat>,
    /// Its place at the door, where it has one already.
    door: Option<OwnedSemaphorePermit>,
}

impl Arrival {
    /// For who is to be served elsewhere: its address, and its place among those of its source. `None`: it is one
    /// too many of those, which nobody can tell it.
    pub(crate) fn into_passing(self, io: &TcpStream) -> Option<(SocketAddr, Option<CrowdSeat>)> {
        if self.is_one_of_too_many {
            debug!(visitor = %self.peer, "visitor turned away: its address has all that it may have");
            Socket::abort_on_close(io);
            return None;
        }
        Some((self.peer, self.of_source))
    }
}

/// Who makes a handshake, with a place for that.
pub(crate) struct Coming {
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) arrival: Arrival,
}

impl Drop for HttpIngress {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Frees what ended connections leave in the set, for as long as it is polled. It is polled again
/// after each accept, which is when the set may have become more than empty.
async fn forget_finished(connections: &Mutex<JoinSet<()>>) {
    poll_fn(|cx| {
        let mut connections = connections.lock();
        while let Poll::Ready(Some(_)) = connections.poll_join_next(cx) {}
        Poll::<()>::Pending
    })
    .await;
}

async fn drain(mut connections: JoinSet<()>, grace: Duration) {
    let finished = timeout(grace, async { while connections.join_next().await.is_some() {} });
    if finished.await.is_err() {
        debug!(connections = connections.len(), "the grace is over, cutting what is open");
        connections.shutdown().await;
    }
}

/// Visitors who are told at once that all places are taken; more are closed without a word. Each
/// costs a descriptor and some 20 KiB, and that for a short time only.
const MOST_AT_THE_DOOR: usize = 256;

const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
