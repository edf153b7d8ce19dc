//! Visitors whose TLS ends at the local service. The host that they ask for in their first words says which one that
//! is; nothing else is looked at.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::net::TcpStream;

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

    /// The host that this is for, if a tunnel's local service is to answer it, and nobody else.
    pub fn host(&self, hello: &Hello) -> Option<String> {
        hello.host().filter(|host| self.tunnel(host).is_some())
    }

    /// The tunnel for a host name in lower case, if its local service ends TLS.
    pub(crate) fn tunnel(&self, host: &str) -> Option<Arc<Tunnel>> {
        self.0.0.passing(host)
    }

    /// Brings a visitor to the tunnel of that host, and has it wait for the tunnel's client if that is away.
    pub(crate) fn admit(&self, host: Arc<str>, visitor: Visitor) {
        let Inner { visitors, config, arrivals, .. } = &*self.0.0;
        let visitor = Visitor { arriving: Some(arrivals.one_more()), ..visitor };
        // Whoever waits is not to keep the registry.
        let registry: Weak<Inner> = Arc::downgrade(&self.0.0);
        let find = move || registry.upgrade()?.passing(&host);
        WayIn::new(find, visitors.clone(), config.budget.clone()).admit(visitor);
    }

    /// Takes the visitor in who said that.
    pub fn take(&self, hello: Hello, host: String) -> Passing {
        let (socket, words) = hello.into_parts();
        Passing { door: self.clone(), host: host.into(), socket, words: words.freeze() }
    }
}

/// A visitor whose TLS is not the server's.
#[derive(Debug)]
pub struct Passing {
    door: PassingDoor,
    host: Arc<str>,
    socket: TcpStream,
    words: Bytes,
}

impl Passing {
    /// Its connection.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Brings it to the tunnel, first words included, and waits for the tunnel's client if that is away. `place` is
    /// the visitor's among those of its source.
    pub fn admit(self, (addr, ingress): (SocketAddr, SocketAddr), place: Option<CrowdSeat>) {
        let Self { door, host, socket, words } = self;
        let (socket, arriving) = (socket.into(), None);
        door.admit(host, Visitor { socket, addr, ingress, place, words, arriving });
    }
}

impl Inner {
    /// The TLS tunnel for a host name in lower case.
    pub(super) fn passing(&self, host: &str) -> Option<Arc<Tunnel>> {
        let maps = self.maps.read();
        let found = maps.hosts.find(host, "/", |host| self.config.reserves(host)).ok()?;
        found.passes_tls().then(|| Arc::clone(found))
    }
}
