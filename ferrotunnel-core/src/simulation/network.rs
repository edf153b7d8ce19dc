//! The network between the sites of clients and the servers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dice::Dice;
use super::wire::{Carried, Latency, Link, Sender, Wire, wires};
use crate::server::ServerEngine;

/// The way from a client's machine to a server.
#[derive(Debug)]
struct Path {
    latency: Latency,
    /// Directions, by who sends, in which nothing gets through.
    stalled: [bool; 2],
    links: Vec<Weak<Mutex<Link>>>,
}

#[derive(Debug)]
pub(super) struct Network {
    inner: Mutex<Inner>,
    changed: Notify,
    carried: Arc<Mutex<Carried>>,
}

#[derive(Debug)]
struct Inner {
    dice: Dice,
    /// By site, and then by server.
    paths: Vec<Vec<Path>>,
    /// `None`: nobody listens.
    servers: Vec<Option<ServerEngine>>,
}

impl Network {
    pub(super) fn new(mut dice: Dice, sites: usize, servers: usize) -> Arc<Self> {
        let path = |dice: &mut Dice| Path {
            latency: Latency {
                least: Duration::from_millis([0, 1, 20, 150][dice.below(4)]),
                jitter_ms: [0, 1, 40][dice.below(3)],
            },
            stalled: [false; 2],
            links: Vec::new(),
        };
        let paths = (0..sites).map(|_| (0..servers).map(|_| path(&mut dice)).collect()).collect();
        let servers = (0..servers).map(|_| None).collect();
        let inner = Mutex::new(Inner { dice, paths, servers });
        Arc::new(Self { inner, changed: Notify::new(), carried: Arc::default() })
    }

    /// From everywhere to everywhere it is so far from now on.
    pub(super) fn set_latency(&self, latency: Latency) {
        let mut inner = self.inner.lock();
        inner.paths.iter_mut().flatten().for_each(|path| path.latency = latency);
    }

    /// How clients write the name of a server.
    pub(super) fn name(server: usize) -> String {
        format!("server-{server}:1")
    }

    /// Returns the one before: it is not to be dropped under the lock.
    pub(super) fn set_server(
        &self,
        server: usize,
        engine: Option<ServerEngine>,
    ) -> Option<ServerEngine> {
        std::mem::replace(&mut self.inner.lock().servers[server], engine)
    }

    pub(super) fn with_server<T>(
        &self,
        server: usize,
        look: impl FnOnce(&ServerEngine) -> T,
    ) -> Option<T> {
        self.inner.lock().servers[server].as_ref().map(look)
    }

    /// A direction between a site and a server is blocked, or not any more.
    pub(super) fn set_stalled(&self, site: usize, server: usize, from: Sender, stalled: bool) {
        let mut inner = self.inner.lock();
        let path = &mut inner.paths[site][server];
        if std::mem::replace(&mut path.stalled[from as usize], stalled) != stalled {
            for link in path.links.iter().filter_map(Weak::upgrade) {
                link.lock().set_stalled(from, stalled);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Everything gets through again, but for what is forgotten.
    pub(super) fn heal(&self) {
        let (sites, servers) = {
            let inner = self.inner.lock();
            (inner.paths.len(), inner.servers.len())
        };
        for (site, server) in (0..sites).flat_map(|site| (0..servers).map(move |it| (site, it))) {
            Sender::BOTH.into_iter().for_each(|from| self.set_stalled(site, server, from, false));
        }
    }

    /// Does something to one of the connections of a site, if there is one.
    pub(super) fn harm(&self, site: usize, dice: &mut Dice, harm: impl FnOnce(&mut Link)) {
        let links: Vec<_> = {
            let inner = self.inner.lock();
            let links = inner.paths[site].iter().flat_map(|path| &path.links);
            links.filter_map(Weak::upgrade).collect()
        };
        if !links.is_empty() {
            harm(&mut links[dice.below(links.len())].lock());
        }
    }

    /// What has become of visitors with a carrier each.
    pub(super) fn carried(&self) -> Carried {
        *self.carried.lock()
    }

    /// Connections with at least one end, to each server.
    pub(super) fn connections(&self) -> Vec<usize> {
        let inner = self.inner.lock();
        let to = |server: usize| {
            let links = inner.paths.iter().flat_map(|paths| &paths[server].links);
            links.filter(|link| link.strong_count() > 0).count()
        };
        (0..inner.servers.len()).map(to).collect()
    }
}

/// How a client of a site dials.
#[derive(Clone, Debug)]
pub(crate) struct Plug {
    pub(super) network: Arc<Network>,
    pub(super) site: usize,
}

impl Plug {
    pub(crate) async fn dial(&self, name: &str, limit: Duration) -> io::Result<Wire> {
        let servers = self.network.inner.lock().servers.len();
        let server = (0..servers).find(|server| Network::name(*server) == name);
        let server = server.ok_or(io::ErrorKind::NotFound)?;
        let there_and_back = async {
            loop {
                let changed = self.network.changed.notified();
                let way = {
                    let Inner { paths, dice, .. } = &mut *self.network.inner.lock();
                    let path = &paths[self.site][server];
                    let is_open = !path.stalled.contains(&true);
                    is_open.then(|| path.latency.of(dice) + path.latency.of(dice))
                };
                match way {
                    Some(time) => break tokio::time::sleep(time).await,
                    None => changed.await,
                }
            }
        };
        let reached = tokio::time::timeout(limit, there_and_back).await;
        reached.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let Inner { paths, dice, servers } = &mut *self.network.inner.lock();
        let Some(engine) = &servers[server] else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let path = &mut paths[self.site][server];
        let (near, far, link) =
            wires(dice.split(), path.latency, path.stalled, &self.network.carried);
        path.links.retain(|link| link.strong_count() > 0);
        path.links.push(link);
        engine.receive(far, SocketAddr::from((Ipv4Addr::LOCALHOST, 1 + self.site as u16)));
        Ok(near)
    }
}
