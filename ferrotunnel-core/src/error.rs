//! Errors, one enum per operation.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ferrotunnel_protocol::Violation;
use ferrotunnel_protocol::frame::{GoAwayCode, Refusal};

use crate::tls::{self, CertificateFault, CertificateProblem};

/// A setting cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A certificate or key.
    #[error("tls: {0}")]
    Tls(String),
    /// A certificate or key file.
    #[error("{} ({setting}): {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The setting it came from.
        setting: &'static str,
        /// Why it cannot be used.
        reason: String,
    },
    /// The name of a server is none.
    #[error(
        "{0:?} is neither a host name nor an address: tls_server_name (--tls-server-name) says \
         which name the server's certificate is for"
    )]
    ServerName(String),
    /// The domain of HTTP tunnels is no host name.
    #[error(
        "domain {domain:?} is no host name: give one like example.com, at most {most} bytes long"
    )]
    Domain {
        /// As it was given.
        domain: String,
        /// Bytes that it may have.
        most: usize,
    },
    /// A reserved name is none.
    #[error("reserved_names: {name:?} is no name: give labels like www, without the domain")]
    ReservedName {
        /// As it was given.
        name: String,
    },
    /// A principal cannot be what its settings say.
    #[error("principal {name:?}: {reason}")]
    Principal {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The system gives no random numbers, or the cipher library no keys.
    #[error("{0}")]
    System(String),
    /// No server, or too many.
    #[error("a client has 1 to {most} servers")]
    Servers {
        /// Servers at most.
        most: usize,
    },
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
    /// A listener that was handed over cannot be used.
    #[error("cannot use the socket given in place of {setting}: {source}; pass one that listens")]
    Listener {
        /// The setting it came from.
        setting: &'static str,
        /// What is wrong with it.
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
        "no TLS with {server}: {}; if that is the server's port for clients and not one for visitors, and the server runs with --plaintext, so must the client",
        words(source)
    )]
    Tls {
        /// The server as it was given.
        server: String,
        /// What the TLS library said.
        source: io::Error,
    },
    /// One side did not take the other's certificate.
    #[error("no session with {server}: {problem}")]
    Certificate {
        /// The server as it was given.
        server: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// The server, or a proof, says that the token is not the server's.
    #[error(
        "the server does not accept this token; check --token, --token-file or FERROTUNNEL_TOKEN on both sides, and whether the server's operator revoked it"
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
        "{server} hung up during the handshake: {}; if it uses TLS, which is the default, drop --plaintext",
        words(source)
    )]
    HungUp {
        /// The server as it was given.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The carrier ended or broke.
    #[error("the connection to {server} broke: {}", words(source))]
    Lost {
        /// The server as it was given.
        server: String,
        /// What the system, or the TLS library, said.
        source: io::Error,
    },
    /// The system is out of something.
    #[error("{0}")]
    System(String),
    /// The client was told to close the session, and comes back.
    #[error("the session was closed by request")]
    Closed,
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
    /// Whether trying again may help. Only a wrong token, a certificate that is not taken, a takeover
    /// and a refused tunnel are final; a client that had a session before tries again all the same
    /// when it is about token or certificate. A server whose certificate is not valid yet is tried
    /// again in any case: clocks of machines that just started may be wrong.
    pub fn is_retryable(&self) -> bool {
        if let Self::Certificate { problem, .. } = self {
            return problem.fault() == CertificateFault::NotValidYet;
        }
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

    /// Whether one side did not take the other's certificate.
    pub(crate) fn is_about_a_certificate(&self) -> bool {
        matches!(self, Self::Certificate { .. })
    }

    /// Whether the server itself ended the session.
    pub(crate) fn is_farewell(&self) -> bool {
        matches!(self, Self::GoAway { .. })
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
            Self::Closed => Self::Closed,
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
            Self::Lost { server, source } => {
                Self::Lost { server: server.clone(), source: same(source) }
            }
            Self::Certificate { server, problem } => {
                Self::Certificate { server: server.clone(), problem: problem.clone() }
            }
            Self::System(text) => Self::System(text.clone()),
        }
    }
}

fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => tls::same_fault(error)
            .unwrap_or_else(|| io::Error::new(error.kind(), error.to_string())),
    }
}

/// What a carrier's error means to people. The system's words are good enough; those of the TLS
/// library are for its users, and stay in the source of the error.
pub(crate) fn words(error: &io::Error) -> String {
    if error.raw_os_error().is_some() {
        return error.to_string();
    }
    if let Some(alert) = tls::alert_in(error) {
        return format!("the other end gave up, with the TLS alert \"{alert}\"");
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the other end closed it without a goodbye".to_owned(),
        io::ErrorKind::InvalidData => "what came is not TLS, or was damaged on the way".to_owned(),
        io::ErrorKind::TimedOut => "nothing was heard for too long".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_words_of_the_tls_library_stay_in_the_source() {
        let library = "peer closed connection without sending TLS close_notify: https://docs.rs/x";
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, library);
        let error = ConnectError::Lost { server: "example.com:7835".to_owned(), source };
        for error in [error.copy(), error] {
            let text = error.to_string();
            assert!(text.starts_with("the connection to example.com:7835 broke: "), "{text}");
            assert!(!text.contains("close_notify") && !text.contains("docs.rs"), "{text}");
            assert_eq!(error.source().unwrap().to_string(), library);
        }
    }

    #[test]
    fn the_words_of_the_system_are_kept() {
        let reset = io::Error::from_raw_os_error(104);
        let text = reset.to_string();
        let error = ConnectError::Lost { server: "example.com:7835".to_owned(), source: reset };
        assert!(error.to_string().ends_with(&text) && error.copy().to_string().ends_with(&text));
    }
}
