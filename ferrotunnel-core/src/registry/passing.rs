//! Visitors whose TLS ends at the local service. The host that they ask for in their first words says which one that
//! is; nothing else is looked at.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::port::WayIn;
use super::{Inner, Registry, Tunnel};
use crate::crowd::CrowdSeat;
use crate::tcp_ingress::Visitor;
use crate::tls::Hello;

/// Where visitors come in that said their first words at a port of somebody else's. A cheap handle.
#[derive(Clone, Debug)]
pub struct PassingDoor(Registry);

impl PassingDoor {
    pub(crate) fn of(registry: Registry) -> Self {
        Self(registry)
    }

    /// Whether a tunnel's local service is to answer that, and nobody else.
    pub fn is_for(&self, hello: &Hello) -> bool {
        hello.host().is_some_and(|host| self.0.0.passing(&host).is_some())
    }

    /// Brings a visitor to the tunnel, first words included, and waits for its client if that is away. `place` is
    /// the visitor's among those of its source.
    pub fn admit(
        &self,
        hello: Hello,
        (addr, ingress): (SocketAddr, SocketAddr),
        place: Option<CrowdSeat>,
    ) {
        let host: Arc<str> = hello.host().unwrap_or_default().into();
        // Whoever waits is not to keep the registry.
        let registry: Weak<Inner> = Arc::downgrade(&self.0.0);
        let find = move || registry.upgrade()?.passing(&host);
        let (socket, words) = hello.into_parts();
        let way_in = WayIn { find, visitors: self.0.0.visitors.clone() };
        way_in.admit(Visitor { socket, addr, ingress, place, words: words.freeze() });
    }
}

impl Inner {
    /// The TLS tunnel for a host name in lower case.
    fn passing(&self, host: &str) -> Option<Arc<Tunnel>> {
        let maps = self.maps.read();
        let found = maps.hosts.find(host, "/", |host| self.config.reserves(host)).ok()?;
        found.passes_tls().then(|| Arc::clone(found))
    }
}
