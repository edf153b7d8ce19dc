//! How TLS is spoken with visitors, whatever certificate they are shown.

use std::sync::Arc;

use ferrotunnel_core::BuildError;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::config::OldestTls;

/// Makes what rustls wants for a certificate. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    provider: Arc<CryptoProvider>,
    oldest: OldestTls,
    /// One for all certificates. rustls takes a ticket only for the name that it was given under.
    tickets: Arc<dyn ProducesTickets>,
}

impl Manner {
    pub(super) fn new(oldest: OldestTls) -> Result<Self, BuildError> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(tls)?;
        Ok(Self { provider: Arc::new(aws_lc_rs::default_provider()), oldest, tickets })
    }

    pub(super) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// For visitors.
    pub(super) fn visitors(&self, key: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, BuildError> {
        let mut config = self.config(key, &[b"h2", b"http/1.1"])?;
        // The state is in the ticket and costs us no memory.
        config.ticketer = Arc::clone(&self.tickets);
        Ok(Arc::new(config))
    }

    /// For whoever checks that a name is ours; nothing comes behind the handshake (RFC 8737).
    pub(super) fn challenge(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<ServerConfig>, BuildError> {
        let key = self.provider.key_provider.load_private_key(key).map_err(tls)?;
        // Not looked through: it has an extension in it that nobody else knows, and that must be known.
        self.config(Arc::new(CertifiedKey::new(chain, key)), &[ACME_TLS]).map(Arc::new)
    }

    fn config(&self, key: Arc<CertifiedKey>, alpn: &[&[u8]]) -> Result<ServerConfig, BuildError> {
        let versions = match self.oldest {
            OldestTls::V1_2 => rustls::ALL_VERSIONS,
            OldestTls::V1_3 => &[&rustls::version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Always(key)));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// Which certificate it is has been decided when the handshake begins.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What an ACME server offers that looks for its challenge.
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

#[allow(clippy::needless_pass_by_value, reason = "the form of map_err")]
pub(super) fn tls(error: rustls::Error) -> BuildError {
    BuildError::Tls(error.to_string())
}
