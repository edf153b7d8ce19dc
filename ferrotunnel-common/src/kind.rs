//! What kind of traffic a tunnel carries.

use std::fmt;

/// The kind of a tunnel, which is also the kind of every stream opened for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// Routed by host name; the server speaks HTTP with the visitor.
    Http,
    /// A public TCP port; bytes pass untouched.
    Tcp,
    /// A public UDP port; a stream is one flow of datagrams.
    Udp,
    /// Routed by the TLS server name; the local service ends the TLS.
    Tls,
}

impl TunnelKind {
    /// The lower-case word used in URLs, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
