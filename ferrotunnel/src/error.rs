//! One opaque error, with a kind for programs and a sentence for people.

use std::io;

use ferrotunnel_core::{BuildError, ConnectError, StartError};

/// What went wrong. Its text says what to do next.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Inner);

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing or makes no sense.
    Config,
    /// A file that a setting names cannot be read, or what it holds cannot be used.
    File,
    /// A port is taken, or an address is not of this machine.
    AddrInUse,
    /// The server does not accept the token, or cannot prove that it knows it.
    Unauthorized,
    /// One side did not take the other's TLS certificate.
    Certificate,
    /// The server cannot be reached, or the connection to it was lost.
    Unreachable,
    /// The other end does not speak FerroTunnel, or broke the protocol.
    Protocol,
    /// The server refused a tunnel.
    Refused,
    /// A newer client took the tunnel over.
    Superseded,
    /// The client was shut down.
    Shutdown,
    /// Anything else.
    Other,
}

#[derive(Debug, thiserror::Error)]
enum Inner {
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    File(String),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Error {
    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self(Inner::Config(text.into()))
    }

    pub(crate) fn file(text: impl Into<String>) -> Self {
        Self(Inner::File(text.into()))
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match &self.0 {
            Inner::File(_)
            | Inner::Start(StartError::Build(BuildError::Tls(_) | BuildError::File { .. })) => {
                ErrorKind::File
            }
            Inner::Start(StartError::Build(BuildError::System(_))) => ErrorKind::Other,
            Inner::Config(_) | Inner::Start(StartError::Build(_)) => ErrorKind::Config,
            Inner::Start(StartError::Bind { .. }) => ErrorKind::AddrInUse,
            Inner::Connect(error) => match error {
                ConnectError::WrongToken | ConnectError::ServerNotTrusted => {
                    ErrorKind::Unauthorized
                }
                ConnectError::Certificate { .. } => ErrorKind::Certificate,
                ConnectError::Superseded(_) => ErrorKind::Superseded,
                ConnectError::Refused(_) => ErrorKind::Refused,
                ConnectError::Shutdown => ErrorKind::Shutdown,
                ConnectError::Protocol { .. } => ErrorKind::Protocol,
                ConnectError::Unreachable { .. }
                | ConnectError::Tls { .. }
                | ConnectError::HungUp { .. }
                | ConnectError::Lost { .. }
                | ConnectError::GoAway { .. } => ErrorKind::Unreachable,
                _ => ErrorKind::Other,
            },
            Inner::Start(_) | Inner::Io(_) => ErrorKind::Other,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match &self.0 {
            Inner::Connect(error) => error.is_retryable(),
            Inner::Start(StartError::Bind { .. }) => true,
            _ => false,
        }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        Self(error.into())
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self(Inner::Start(error.into()))
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self(error.into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self(error.into())
    }
}
