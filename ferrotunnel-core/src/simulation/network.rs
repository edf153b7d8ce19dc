//! The network between the sites of clients and the one server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::dice::Dice;
use super::wire::{Latency, Link, Sender, Wire, wires};
use crate::server::ServerEngine;

/// A client's machine and its way to the server.
#[derive(Debug)]
struct Site {
    latency: Latency,
    /// Directions, by who sends, in which nothing gets through.
    stalled: [bool; 2],
    links: Vec<Weak<Mutex<Link>>>,
}

#[derive(Debug)]
pub(super) struct Network {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    dice: Dice,
    sites: Vec<Site>,
    /// `None`: nobody listens.
    server: Option<ServerEngine>,
}

impl Network {
    pub(super) fn new(mut dice: Dice, sites: usize) -> Arc<Self> {
        let site = |dice: &mut Dice| Site {
            latency: Latency {
                least: Duration::from_millis([0, 1, 20, 150][dice.below(4)]),
                jitter_ms: [0, 1, 40][dice.below(3)],
            },
            stalled: [false; 2],
            links: Vec::new(),
        };
        let sites = (0..sites).map(|_| site(&mut dice)).collect();
        let inner = Mutex::new(Inner { dice, sites, server: None });
        Arc::new(Self { inner, changed: Notify::new() })
    }

    /// Returns the one before: it is not to be dropped under the lock.
    pub(super) fn set_server(&self, server: Option<ServerEngine>) -> Option<ServerEngine> {
        std::mem::replace(&mut self.inner.lock().server, server)
    }

    pub(super) fn with_server<T>(&self, look: impl FnOnce(&ServerEngine) -> T) -> Option<T> {
        self.inner.lock().server.as_ref().map(look)
    }

    /// A direction of a site is blocked, or not any more.
    pub(super) fn set_stalled(&self, site: usize, from: Sender, stalled: bool) {
        let mut inner = self.inner.lock();
        let site = &mut inner.sites[site];
        if std::mem::replace(&mut site.stalled[from as usize], stalled) != stalled {
            for link in site.links.iter().filter_map(Weak::upgrade) {
                link.lock().set_stalled(from, stalled);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Everything gets through again, but for what is forgotten.
    pub(super) fn heal(&self, sites: usize) {
        for site in 0..sites {
            Sender::BOTH.into_iter().for_each(|from| self.set_stalled(site, from, false));
        }
    }

    /// Does something to one of the connections of a site, if there is one.
    pub(super) fn harm(&self, site: usize, dice: &mut Dice, harm: impl FnOnce(&mut Link)) {
        let links: Vec<_> =
            self.inner.lock().sites[site].links.iter().filter_map(Weak::upgrade).collect();
        if !links.is_empty() {
            harm(&mut links[dice.below(links.len())].lock());
        }
    }

    /// Connections with at least one end.
    pub(super) fn connections(&self) -> usize {
        let inner = self.inner.lock();
        let links = inner.sites.iter().flat_map(|site| &site.links);
        links.filter(|link| link.strong_count() > 0).count()
    }
}

/// How a client of a site dials.
#[derive(Clone, Debug)]
pub(crate) struct Plug {
    pub(super) network: Arc<Network>,
    pub(super) site: usize,
}

impl Plug {
    pub(crate) async fn dial(&self, limit: Duration) -> io::Result<Wire> {
        let there_and_back = async {
            loop {
                let changed = self.network.changed.notified();
                let way = {
                    let Inner { sites, dice, .. } = &mut *self.network.inner.lock();
                    let site = &sites[self.site];
                    let is_open = !site.stalled.contains(&true);
                    is_open.then(|| site.latency.of(dice) + site.latency.of(dice))
                };
                match way {
                    Some(time) => break tokio::time::sleep(time).await,
                    None => changed.await,
                }
            }
        };
        let reached = tokio::time::timeout(limit, there_and_back).await;
        reached.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let Inner { sites, dice, server } = &mut *self.network.inner.lock();
        let Some(server) = server else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let site = &mut sites[self.site];
        let (near, far, link) = wires(dice.split(), site.latency, site.stalled);
        site.links.retain(|link| link.strong_count() > 0);
        site.links.push(link);
        server.receive(far, SocketAddr::from((Ipv4Addr::LOCALHOST, 1 + self.site as u16)));
        Ok(near)
    }
}
