//! One attempt: dial, TLS, handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ferrotunnel_common::{ClientId, SessionId, TunnelKind};
use ferrotunnel_protocol::{self as protocol, Side};
use tokio::net::TcpStream;

use super::roster::ServerIndex;
use super::{ClientConfig, Registration, TunnelSpec};
use crate::auth::{Binding, ClientKey};
use crate::carrier::Carrier;
use crate::dial;
use crate::driver::{Driver, End, Incoming};
use crate::error::{BuildError, ConnectError};
use crate::handshake::{self, Caller, Greeted, HandshakeError};
use crate::session::Session;
use crate::shared::Shared;
use crate::socket;
use crate::tls::{CertificateProblem, ClientTls, Purpose, Secured, TlsDialer, TlsStream};

/// How a client reaches its server.
#[derive(Clone, Debug)]
pub enum ClientTransport {
    /// TLS 1.3, bound to the token.
    Tls(ClientTls),
    /// No encryption: for networks that are trusted or encrypted already.
    Plaintext,
}

/// Makes sessions, one after the other, and the direct carriers that go with them.
pub(super) struct Connector {
    /// As they were given; never none.
    servers: Vec<String>,
    tls: Option<TlsDialer>,
    key: ClientKey,
    client_id: ClientId,
    software: String,
    connect_timeout: Duration,
    deadline: Duration,
    /// Dialled instead of the system's network.
    #[cfg(test)]
    plug: Option<crate::simulation::Plug>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// A carrier with an established session.
pub(super) struct Link {
    pub(super) carrier: AnyCarrier,
    pub(super) greeted: Greeted,
    /// Where it leads.
    pub(super) peer: Option<SocketAddr>,
}

pub(super) enum AnyCarrier {
    Tcp(TcpStream),
    Tls(TlsStream),
    #[cfg(test)]
    Simulated(crate::simulation::Wire),
}

impl AnyCarrier {
    pub(super) async fn drive(
        self,
        shared: Arc<Shared>,
        input: BytesMut,
        on_incoming: impl FnMut(Incoming) + Unpin,
    ) -> End {
        match self {
            Self::Tcp(carrier) => Driver::new(carrier, shared, input, on_incoming).await,
            Self::Tls(carrier) => Driver::new(carrier, shared, input, on_incoming).await,
            #[cfg(test)]
            Self::Simulated(carrier) => Driver::new(carrier, shared, input, on_incoming).await,
        }
    }
}

pub(super) fn session(machine: protocol::Session) -> (Session, Arc<Shared>) {
    let shared = Arc::new(Shared::new(machine));
    (Session::new(Arc::clone(&shared)), shared)
}

impl Connector {
    pub(super) fn new(config: ClientConfig, client_id: ClientId) -> Result<Self, BuildError> {
        let tls = match config.transport {
            ClientTransport::Tls(settings) => Some(TlsDialer::new(settings)?),
            ClientTransport::Plaintext => {
                tracing::warn!(
                    "the carrier is not encrypted: use plaintext on trusted networks only"
                );
                None
            }
        };
        Ok(Self {
            servers: config.servers,
            tls,
            key: ClientKey::derive(&config.token)
                .map_err(|error| BuildError::System(error.to_string()))?,
            client_id,
            software: config.software,
            connect_timeout: config.connect_timeout,
            deadline: config.handshake_deadline,
            #[cfg(test)]
            plug: None,
        })
    }

    /// The same over a network that is none of the system's.
    #[cfg(test)]
    pub(super) fn over(self, plug: crate::simulation::Plug) -> Self {
        Self { plug: Some(plug), ..self }
    }

    pub(super) fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// A server as it was given.
    pub(super) fn server(&self, server: ServerIndex) -> &str {
        self.servers.get(server.place()).map_or("", String::as_str)
    }

    /// Why there is no session any more, unless somebody has said so.
    pub(super) fn ended(&self, server: ServerIndex, end: End) -> ConnectError {
        match end {
            End::Closed => self.lost(server, io::ErrorKind::UnexpectedEof.into()),
            End::Carrier(error) => self.lost(server, error),
            End::Violation(protocol::Violation::PeerSilent) => {
                self.lost(server, io::ErrorKind::TimedOut.into())
            }
            End::Violation(violation) => {
                ConnectError::Protocol { server: self.server(server).to_owned(), violation }
            }
        }
    }

    fn lost(&self, server: ServerIndex, source: io::Error) -> ConnectError {
        ConnectError::Lost { server: self.server(server).to_owned(), source }
    }

    /// A session with a server, at `reached` if it was reached already.
    pub(super) async fn connect(
        &self,
        server: ServerIndex,
        reached: Option<SocketAddr>,
    ) -> Result<Link, ConnectError> {
        self.dial(server, reached, None).await
    }

    /// A direct carrier of a session, to the address that the session has reached.
    pub(super) async fn connect_direct(
        &self,
        server: ServerIndex,
        session: SessionId,
        reached: Option<SocketAddr>,
    ) -> Result<Link, ConnectError> {
        self.dial(server, reached, Some(session)).await
    }

    async fn dial(
        &self,
        server: ServerIndex,
        reached: Option<SocketAddr>,
        direct_for: Option<SessionId>,
    ) -> Result<Link, ConnectError> {
        // The name stays who the server is, whichever address is dialled.
        let name = self.server(server);
        #[cfg(test)]
        if let Some(plug) = &self.plug {
            let mut carrier = plug
                .dial(name, self.connect_timeout)
                .await
                .map_err(|source| ConnectError::Unreachable { server: name.to_owned(), source })?;
            let greeted = self.greet(server, &mut carrier, &Binding::Plaintext, direct_for).await?;
            return Ok(Link { carrier: AnyCarrier::Simulated(carrier), greeted, peer: None });
        }
        let dialled = match reached {
            Some(addr) => dial::connect([addr], self.connect_timeout).await,
            None => dial::dial(name, self.connect_timeout).await,
        };
        let socket = dialled
            .map_err(|source| ConnectError::Unreachable { server: name.to_owned(), source })?;
        socket::tune(&socket);
        socket::tune_carrier(&socket);
        let peer = socket.peer_addr().ok();
        let Some(tls) = &self.tls else {
            let mut carrier = socket;
            let greeted = self.greet(server, &mut carrier, &Binding::Plaintext, direct_for).await?;
            return Ok(Link { carrier: AnyCarrier::Tcp(carrier), greeted, peer });
        };
        let failed = |source| {
            self.about_a_certificate(server, source, |source| ConnectError::Tls {
                server: name.to_owned(),
                source,
            })
        };
        let purpose = match direct_for {
            None => Purpose::Session,
            Some(_) => Purpose::DirectCarrier,
        };
        let connecting = Box::pin(tls.connect(name, socket, purpose));
        let (secured, tickets) = tokio::time::timeout(self.deadline, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        let Secured { stream: mut carrier, binding, is_resumed, .. } = secured;
        tracing::debug!(is_resumed, "TLS handshake done");
        let greeted = self.greet(server, &mut carrier, &binding, direct_for).await?;
        tickets.keep();
        Ok(Link { carrier: AnyCarrier::Tls(carrier), greeted, peer })
    }

    async fn greet<C: Carrier>(
        &self,
        server: ServerIndex,
        carrier: &mut C,
        binding: &Binding,
        direct_for: Option<SessionId>,
    ) -> Result<Greeted, ConnectError> {
        let config =
            protocol::Config { handshake_deadline: self.deadline, ..protocol::Config::default() };
        let caller = Caller {
            key: &self.key,
            client_id: self.client_id,
            software: &self.software,
            direct_for,
        };
        handshake::client(carrier, config, binding, caller)
            .await
            .map_err(|error| self.explain(server, error))
    }

    /// What is wrong with a certificate, if that is it, and `otherwise` if not.
    fn about_a_certificate(
        &self,
        server: ServerIndex,
        source: io::Error,
        otherwise: impl FnOnce(io::Error) -> ConnectError,
    ) -> ConnectError {
        match CertificateProblem::of(&source, Side::Client) {
            Some(problem) => {
                ConnectError::Certificate { server: self.server(server).to_owned(), problem }
            }
            None => otherwise(source),
        }
    }

    fn explain(&self, server: ServerIndex, error: HandshakeError) -> ConnectError {
        match error {
            HandshakeError::WrongToken => ConnectError::WrongToken,
            HandshakeError::ServerNotTrusted => ConnectError::ServerNotTrusted,
            HandshakeError::Carrier(source) if self.tls.is_none() => {
                ConnectError::HungUp { server: self.server(server).to_owned(), source }
            }
            // A server looks at a client's certificate when the client is through with TLS already.
            HandshakeError::Carrier(source) => {
                self.about_a_certificate(server, source, |source| self.lost(server, source))
            }
            HandshakeError::Violation(violation) => {
                ConnectError::Protocol { server: self.server(server).to_owned(), violation }
            }
            HandshakeError::GoAway(go_away) => {
                ConnectError::GoAway { code: go_away.code, reason: go_away.reason }
            }
            error @ (HandshakeError::Refused(_) | HandshakeError::NoRandom(_)) => {
                ConnectError::System(error.to_string())
            }
        }
    }

    /// What the server's answer means to visitors. Only the client knows the name by which it
    /// reached the server.
    pub(super) fn place(
        &self,
        server: ServerIndex,
        session_id: SessionId,
        spec: &TunnelSpec,
        address: &str,
    ) -> Registration {
        let server = self.server(server);
        let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
        let (name, public_url) = match spec.kind {
            TunnelKind::Tcp | TunnelKind::Udp => {
                let port = address.trim_start_matches(':');
                (port.to_owned(), format!("{}://{host}:{port}", spec.kind))
            }
            TunnelKind::Http | TunnelKind::Tls => {
                let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
                let (authority, path) =
                    authority.split_at(authority.find('/').unwrap_or(authority.len()));
                let name = authority.split('.').next().unwrap_or_default();
                (format!("{name}{}", path.trim_end_matches('/')), address.to_owned())
            }
        };
        Registration { session_id, server: server.to_owned(), kind: spec.kind, name, public_url }
    }
}
