//! Errors, one enum per operation.

use std::io;
use std::net::SocketAddr;

use ferrotunnel_protocol::Violation;
use ferrotunnel_protocol::frame::{GoAwayCode, Refusal};

/// A setting cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A certificate or key.
    #[error("tls: {0}")]
    Tls(String),
    /// The target of a tunnel is no address.
    #[error("local address {0:?} is not host:port, a port, or unix:/path")]
    Target(String),
}

/// A server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener's port is taken, or its address is not ours.
    #[error("cannot listen on {addr} ({setting}): {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// The setting it came from.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A setting cannot be used.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// A client has no session, or no longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Name lookup, dialling, or the carrier failed.
    #[error("cannot reach {server}: {source}")]
    Unreachable {
        /// The server as it was given.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error(
        "no TLS with {server}: {source}; if the server runs with --plaintext, so must the client"
    )]
    Tls {
        /// The server as it was given.
        server: String,
        /// What the TLS library said.
        source: io::Error,
    },
    /// The server, or a proof, says that the token is not the server's.
    #[error(
        "the server does not accept this token; check --token or FERROTUNNEL_TOKEN on both sides"
    )]
    WrongToken,
    /// The other end does not know the token, so it is not the server.
    #[error("the server cannot prove that it knows the token; is this the right server?")]
    ServerNotTrusted,
    /// A newer session took over.
    #[error("a newer client took over this tunnel: {0}")]
    Superseded(String),
    /// The server ended the session.
    #[error("the server ended the session ({code}): {reason}")]
    GoAway {
        /// Why, for programs.
        code: GoAwayCode,
        /// Why, for people.
        reason: String,
    },
    /// The server refused a tunnel.
    #[error("the server refused the tunnel ({}): {}", .0.code, .0.reason)]
    Refused(Refusal),
    /// The server broke the protocol, or is none.
    #[error("{server} does not speak FerroTunnel: {violation}{}", hint(*violation))]
    Protocol {
        /// The server as it was given.
        server: String,
        /// What was broken.
        violation: Violation,
    },
    /// The carrier ended or broke before there was a session.
    #[error(
        "{server} hung up during the handshake: {source}; if it uses TLS, which is the default, drop --plaintext"
    )]
    HungUp {
        /// The server as it was given.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The carrier ended or broke.
    #[error("the connection to the server was lost: {0}")]
    Lost(io::Error),
    /// The system is out of something.
    #[error("{0}")]
    System(String),
    /// The client was shut down.
    #[error("the client was shut down")]
    Shutdown,
}

fn hint(violation: Violation) -> &'static str {
    match violation {
        Violation::HandshakeTimeout => {
            " (if the server uses TLS, which is the default, drop --plaintext)"
        }
        _ => "",
    }
}

impl ConnectError {
    /// Whether trying again may help. Only a wrong token, a takeover and a refused tunnel are
    /// final; a client whose token was right before tries again all the same.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::WrongToken
                | Self::ServerNotTrusted
                | Self::Superseded(_)
                | Self::Refused(_)
                | Self::Shutdown
        )
    }

    /// Whether one end does not trust the other's token, or somebody on the way says so.
    pub(crate) fn is_distrust(&self) -> bool {
        matches!(self, Self::WrongToken | Self::ServerNotTrusted)
    }

    /// Whether the server's machine refused the connection, so that trying again soon costs it next to nothing.
    pub(crate) fn is_cheap(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused
        )
    }

    /// The same words for everybody who waits: it holds system errors, which cannot be cloned.
    pub(crate) fn copy(&self) -> Self {
        match self {
            Self::WrongToken => Self::WrongToken,
            Self::ServerNotTrusted => Self::ServerNotTrusted,
            Self::Superseded(reason) => Self::Superseded(reason.clone()),
            Self::Refused(refusal) => Self::Refused(refusal.clone()),
            Self::Shutdown => Self::Shutdown,
            Self::GoAway { code, reason } => Self::GoAway { code: *code, reason: reason.clone() },
            Self::Protocol { server, violation } => {
                Self::Protocol { server: server.clone(), violation: *violation }
            }
            Self::Unreachable { server, source } => {
                Self::Unreachable { server: server.clone(), source: same(source) }
            }
            Self::Tls { server, source } => {
                Self::Tls { server: server.clone(), source: same(source) }
            }
            Self::HungUp { server, source } => {
                Self::HungUp { server: server.clone(), source: same(source) }
            }
            Self::Lost(source) => Self::Lost(same(source)),
            Self::System(text) => Self::System(text.clone()),
        }
    }
}

fn same(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
