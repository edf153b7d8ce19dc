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
    /// What stands for an account of the operator's with whoever runs the server, where one is needed (external account
    /// binding, RFC 8555, section 7.3.4). Looked at once, when our account is made.
    pub external: Option<ExternalAccount>,
    /// The CAs that may have issued the server's own certificate, in a PEM file; without one those of the system.
    pub server_ca: Option<PathBuf>,
    /// A program that publishes records in the DNS. With one, a certificate for all names under the domain is
    /// ordered at the start, and no other for those.
    pub dns_hook: Option<PathBuf>,
    /// The domain whose names that certificate is for; that of the server where nothing else is said.
    pub domain: Option<String>,
}

/// An account with a CA that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccount {
    /// What the CA calls the key.
    pub key_id: String,
    /// A file with the key as CAs give it: in base64url, on one line.
    pub key_file: PathBuf,
}

impl AcmeConfig {
    /// Settings that keep everything there.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            server: LETS_ENCRYPT.to_owned(),
            email: None,
            external: None,
            server_ca: None,
            dns_hook: None,
            domain: None,
        }
    }
}

/// The directory of Let's Encrypt.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
