//! What plugins are told about what they are asked about.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use ferrotunnel_common::{ClientId, SessionId, TunnelKind};
use http::Extensions;
use parking_lot::Mutex;

/// One request, from its head to the end of its response. The same in all phases of it.
#[derive(Debug)]
pub struct RequestContext {
    visitor: SocketAddr,
    ingress: SocketAddr,
    tunnel: Option<TunnelContext>,
    began: Instant,
    began_at: SystemTime,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    extensions: Extensions,
    answered_by: Option<AnsweredBy>,
}

/// Who made the answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnsweredBy {
    /// The local service behind the tunnel.
    LocalService,
    /// The server itself: there is no such tunnel, the local service cannot be reached, and the like.
    Server,
    /// The plugin of this name.
    Plugin(String),
}

/// The tunnel that a request or a stream is for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelContext {
    /// Its name, and behind it its path if it has only one, like `app/api`; for `tcp` its port.
    pub name: String,
    /// What it carries.
    pub kind: TunnelKind,
    /// A session it is registered over; the first, where several clients or connections have it.
    pub session: Option<SessionId>,
    /// Whose it is. At a client this is empty: the server alone knows.
    pub principal: String,
}

impl TunnelContext {
    /// A tunnel with that name.
    pub fn new(
        name: impl Into<String>,
        kind: TunnelKind,
        session: Option<SessionId>,
        principal: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), kind, session, principal: principal.into() }
    }
}

impl RequestContext {
    /// A request that begins now.
    pub fn new(visitor: SocketAddr, ingress: SocketAddr, tunnel: Option<TunnelContext>) -> Self {
        Self {
            visitor,
            ingress,
            tunnel,
            began: Instant::now(),
            began_at: SystemTime::now(),
            noted: Mutex::default(),
        }
    }

    /// Where the visitor's connection comes from, or whom a trusted proxy speaks for. IPv4 addresses are written as such,
    /// on every listener.
    pub fn visitor(&self) -> SocketAddr {
        self.visitor
    }

    /// The listener that the visitor came in by.
    pub fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// The tunnel that has the host which was asked for; `None` if none has, which the server will answer with a 404.
    pub fn tunnel(&self) -> Option<&TunnelContext> {
        self.tunnel.as_ref()
    }

    /// Over which session the tunnel is registered.
    pub fn session(&self) -> Option<SessionId> {
        self.tunnel.as_ref().and_then(|tunnel| tunnel.session)
    }

    /// Whose tunnel it is.
    pub fn principal(&self) -> Option<&str> {
        self.tunnel.as_ref().map(|tunnel| tunnel.principal.as_str())
    }

    /// When the plugins were first asked, for measuring.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When the plugins were first asked, for telling.
    pub fn began_at(&self) -> SystemTime {
        self.began_at
    }

    /// Leaves a value for a later phase, or for a later plugin. One of each type; returns the one before.
    pub fn insert<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.noted.lock().extensions.insert(value)
    }

    /// What was left of this type.
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.noted.lock().extensions.get().cloned()
    }

    /// Takes what was left of this type.
    pub fn remove<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.noted.lock().extensions.remove()
    }

    /// Who made the answer. Known from the response phase on.
    pub fn answered_by(&self) -> Option<AnsweredBy> {
        self.noted.lock().answered_by.clone()
    }

    pub(crate) fn set_answered_by(&self, by: AnsweredBy) {
        self.noted.lock().answered_by = Some(by);
    }
}

/// A session that is about to begin, at a server; or has begun, at a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionContext {
    /// Its name.
    pub session: SessionId,
    /// The other side: at a server where the client comes from, at a client the server as it was given.
    pub peer: String,
    /// The client's number for itself, at a server.
    pub client: Option<ClientId>,
    /// Whose token it has proven. Empty at a client.
    pub principal: String,
    /// What the client calls itself, as it says; empty at a client.
    pub software: String,
}

impl SessionContext {
    /// A session with that peer.
    pub fn new(session: SessionId, peer: impl Into<String>) -> Self {
        Self {
            session,
            peer: peer.into(),
            client: None,
            principal: String::new(),
            software: String::new(),
        }
    }

    /// The same with what a server knows of its client.
    #[must_use]
    pub fn of_client(
        mut self,
        client: ClientId,
        principal: impl Into<String>,
        software: impl Into<String>,
    ) -> Self {
        self.client = Some(client);
        (self.principal, self.software) = (principal.into(), software.into());
        self
    }
}

/// A tunnel that a client asks a server for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistrationContext {
    /// The session that asks. At a client it is not known of a tunnel that has not stood yet.
    pub session: Option<SessionId>,
    /// Whose session it is. Empty at a client.
    pub principal: String,
    /// What the tunnel is to carry. At a client it is not known of a tunnel that has not stood yet.
    pub kind: Option<TunnelKind>,
    /// The name that is asked for; empty: the server picks one.
    pub name: String,
    /// Further host names.
    pub hosts: Vec<String>,
    /// The port that is asked for; 0: the server picks one, or it is no tunnel with a port.
    pub port: u16,
}

impl RegistrationContext {
    /// A registration of that kind and name.
    pub fn new(
        session: Option<SessionId>,
        principal: impl Into<String>,
        kind: Option<TunnelKind>,
        name: impl Into<String>,
    ) -> Self {
        let (principal, name) = (principal.into(), name.into());
        Self { session, principal, kind, name, hosts: Vec::new(), port: 0 }
    }

    /// The same with the hosts and the port that it asks for.
    #[must_use]
    pub fn at(mut self, hosts: Vec<String>, port: u16) -> Self {
        (self.hosts, self.port) = (hosts, port);
        self
    }
}

/// What a registration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationAnswer {
    /// It stands; this is where visitors reach it.
    Registered(String),
    /// It was refused, or at a client: taken away again. This is why.
    Refused(String),
}

/// A stream of a tunnel: a visitor's connection over TCP, or a connection that carries requests one after the other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamContext {
    /// The tunnel.
    pub tunnel: TunnelContext,
    /// Who it was opened for. Over HTTP later requests of others may follow on it.
    pub visitor: Option<SocketAddr>,
    /// When.
    pub opened: Instant,
}

impl StreamContext {
    /// A stream that is opened now.
    pub fn new(tunnel: TunnelContext, visitor: Option<SocketAddr>) -> Self {
        Self { tunnel, visitor, opened: Instant::now() }
    }
}
