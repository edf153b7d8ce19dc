//! What an operator may say about certificates from an ACME server.

use std::path::PathBuf;

/// Settings of certificates from an ACME server. Using one is to agree to its terms of service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcmeConfig {
    /// Where account, certificates and keys are kept, by server. It is made if need be, for this user only.
    pub state: PathBuf,
    /// The URL of the server's directory; [`LETS_ENCRYPT`] by default.
    pub server: String,
    /// Whom the server may write to about the account.
    pub email: Option<String>,
    /// The CAs that may have issued the server's own certificate, in a PEM file; without one those of the system.
    pub server_ca: Option<PathBuf>,
    /// A program that publishes records in the DNS. With one, a certificate for all names under the domain is
    /// ordered at the start, and no other for those.
    pub dns_hook: Option<PathBuf>,
    /// The domain whose names that certificate is for; that of the server where nothing else is said.
    pub domain: Option<String>,
}

impl AcmeConfig {
    /// Settings that keep everything there.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            server: LETS_ENCRYPT.to_owned(),
            email: None,
            server_ca: None,
            dns_hook: None,
            domain: None,
        }
    }
}

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
