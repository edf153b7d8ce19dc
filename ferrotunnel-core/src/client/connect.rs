//! One attempt: dial, TLS, handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ferrotunnel_common::{ClientId, SessionId, TunnelKind};
use ferrotunnel_protocol::{self as protocol, Side};
use tokio::net::TcpStream;

use super::{ClientConfig, Registration, TunnelSpec};
use crate::auth::{Binding, ClientKey};
use crate::carrier::Carrier;
use crate::driver::{Driver, End, Incoming};
use crate::error::{BuildError, ConnectError};
use crate::handshake::{self, Caller, Greeted, HandshakeError};
use crate::session::Session;
use crate::shared::Shared;
use crate::socket;
use crate::tls::{CertificateProblem, ClientTls, Secured, TlsDialer, TlsStream};

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
    server: String,
    tls: Option<TlsDialer>,
    key: ClientKey,
    client_id: ClientId,
    software: String,
    deadline: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("server", &self.server).finish_non_exhaustive()
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
            server: config.server,
            tls,
            key: ClientKey::derive(&config.token)
                .map_err(|error| BuildError::System(error.to_string()))?,
            client_id,
            software: config.software,
            deadline: config.handshake_deadline,
        })
    }

    /// Why there is no session any more, unless somebody has said so.
    pub(super) fn ended(&self, end: End) -> ConnectError {
        match end {
            End::Closed => self.lost(io::ErrorKind::UnexpectedEof.into()),
            End::Carrier(error) => self.lost(error),
            End::Violation(protocol::Violation::PeerSilent) => {
                self.lost(io::ErrorKind::TimedOut.into())
            }
            End::Violation(violation) => {
                ConnectError::Protocol { server: self.server.clone(), violation }
            }
        }
    }

    fn lost(&self, source: io::Error) -> ConnectError {
        ConnectError::Lost { server: self.server.clone(), source }
    }

    /// A session, with the server at `reached` if one was reached already.
    pub(super) async fn connect(&self, reached: Option<SocketAddr>) -> Result<Link, ConnectError> {
        self.dial(reached, None).await
    }

    /// A direct carrier of a session, to the address that the session has reached.
    pub(super) async fn connect_direct(
        &self,
        session: SessionId,
        reached: Option<SocketAddr>,
    ) -> Result<Link, ConnectError> {
        self.dial(reached, Some(session)).await
    }

    async fn dial(
        &self,
        reached: Option<SocketAddr>,
        direct_for: Option<SessionId>,
    ) -> Result<Link, ConnectError> {
        let server = reached.map_or_else(|| self.server.clone(), |addr| addr.to_string());
        let socket = socket::dial(&server)
            .await
            .map_err(|source| ConnectError::Unreachable { server: self.server.clone(), source })?;
        socket::tune(&socket);
        socket::tune_carrier(&socket);
        let peer = socket.peer_addr().ok();
        let Some(tls) = &self.tls else {
            let mut carrier = socket;
            let greeted = self.greet(&mut carrier, &Binding::Plaintext, direct_for).await?;
            return Ok(Link { carrier: AnyCarrier::Tcp(carrier), greeted, peer });
        };
        let failed = |source| {
            self.about_a_certificate(source, |source| ConnectError::Tls {
                server: self.server.clone(),
                source,
            })
        };
        let connecting = Box::pin(tls.connect(socket));
        let secured = tokio::time::timeout(self.deadline, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        let Secured { stream: mut carrier, binding, is_resumed, .. } = secured;
        tracing::debug!(is_resumed, "TLS handshake done");
        let greeted = self.greet(&mut carrier, &binding, direct_for).await?;
        Ok(Link { carrier: AnyCarrier::Tls(carrier), greeted, peer })
    }

    async fn greet<C: Carrier>(
        &self,
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
            .map_err(|error| self.explain(error))
    }

    /// What is wrong with a certificate, if that is it, and `otherwise` if not.
    fn about_a_certificate(
        &self,
        source: io::Error,
        otherwise: impl FnOnce(io::Error) -> ConnectError,
    ) -> ConnectError {
        match CertificateProblem::of(&source, Side::Client) {
            Some(problem) => ConnectError::Certificate { server: self.server.clone(), problem },
            None => otherwise(source),
        }
    }

    fn explain(&self, error: HandshakeError) -> ConnectError {
        match error {
            HandshakeError::WrongToken => ConnectError::WrongToken,
            HandshakeError::ServerNotTrusted => ConnectError::ServerNotTrusted,
            HandshakeError::Carrier(source) if self.tls.is_none() => {
                ConnectError::HungUp { server: self.server.clone(), source }
            }
            // A server looks at a client's certificate when the client is through with TLS already.
            HandshakeError::Carrier(source) => {
                self.about_a_certificate(source, |source| self.lost(source))
            }
            HandshakeError::Violation(violation) => {
                ConnectError::Protocol { server: self.server.clone(), violation }
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
        session_id: SessionId,
        spec: &TunnelSpec,
        address: &str,
    ) -> Registration {
        let host = self.server.rsplit_once(':').map_or(self.server.as_str(), |(host, _)| host);
        let (name, public_url) = match spec.kind {
            TunnelKind::Tcp | TunnelKind::Udp => {
                let port = address.trim_start_matches(':');
                (port.to_owned(), format!("{}://{host}:{port}", spec.kind))
            }
            TunnelKind::Http | TunnelKind::Tls => {
                let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
                let name = authority.split('.').next().unwrap_or_default();
                (name.to_owned(), address.to_owned())
            }
        };
        Registration { session_id, kind: spec.kind, name, public_url }
    }
}
