//! What an operator may say about the TLS of visitors.

use std::path::PathBuf;
use std::time::Duration;

use ferrotunnel_core::IdentityFiles;

use super::acme::AcmeConfig;

/// Settings of the HTTPS ingress.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpsConfig {
    /// A certificate with its key. Visitors that name no host, or one for which there is no certificate, are
    /// shown this one.
    pub identity: Option<IdentityFiles>,
    /// A directory of certificates: `NAME.pem` or `NAME.crt` with `NAME.key` beside it. Which one a visitor is
    /// shown is decided by the names in the certificates.
    pub directory: Option<PathBuf>,
    /// Certificates for the hosts that clients register, from an ACME server.
    pub acme: Option<AcmeConfig>,
    /// The oldest version of TLS that visitors may speak.
    pub oldest_tls: OldestTls,
    /// How long a visitor may take from its first byte to the end of the handshake.
    pub handshake_timeout: Duration,
    /// Handshakes of visitors at once. Each may hold some 20 KiB; others wait in the kernel's queue.
    pub max_handshakes: usize,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OldestTls {
    /// TLS 1.2, which everything speaks that is in use.
    #[default]
    V1_2,
    /// TLS 1.3 only.
    V1_3,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self {
            identity: None,
            directory: None,
            acme: None,
            oldest_tls: OldestTls::default(),
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 1_024,
        }
    }
}
