//! What both sides offer and accept.
//!
//! Unless it is told to verify it, a client does not check the server's certificate by name or
//! issuer: the token's proof covers the exporter of the connection, and who does not know the token
//! cannot make it. The signature of the handshake is checked all the same.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature,
};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::identity::TlsIdentity;
use super::ticket_store::ConnectionTickets;
use crate::error::BuildError;

/// `clients`: who looks at their certificates, if they need any.
pub(super) fn server_config(
    identity: TlsIdentity,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, BuildError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| BuildError::Tls(error.to_string()))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut config =
        builder.with_single_cert(identity.chain, identity.key).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A client that comes back, or dials a direct carrier, shows its ticket instead of checking a
    // signature. Two each: every connection brings the next, and some are dialled at the same time.
    config.ticketer = tickets;
    config.send_tls13_tickets = 2;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // The records are ours.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// A client that takes any certificate of its server.
pub(super) fn bound_to_the_token(
    identity: Option<TlsIdentity>,
) -> Result<Arc<ClientConfig>, BuildError> {
    let verifier = TokenBound { algorithms: provider().signature_verification_algorithms };
    let mut config = client_config(Arc::new(verifier), identity)?;
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// A client that verifies its server, and tells it by which name; an address is not told.
pub(super) fn verifying(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<TlsIdentity>,
) -> Result<Arc<ClientConfig>, BuildError> {
    Ok(Arc::new(client_config(verifier, identity)?))
}

/// The same for a connection with those tickets.
pub(super) fn with_tickets(
    config: &ClientConfig,
    tickets: &Arc<ConnectionTickets>,
) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = Resumption::store(Arc::clone(tickets) as Arc<dyn ClientSessionStore>);
    Arc::new(config)
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<TlsIdentity>,
) -> Result<ClientConfig, BuildError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| BuildError::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(TlsIdentity { chain, key }) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&error))?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Each connection has its own.
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Ok(config)
}

fn unusable(error: &rustls::Error) -> BuildError {
    let settings = "tls_identity_files, --tls-cert, --tls-key";
    let reason = match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not belong to the certificate".to_owned()
        }
        error => error.to_string(),
    };
    BuildError::Tls(format!("certificate and key cannot be used ({settings}): {reason}"))
}

/// AES-128-GCM first: with AES instructions, which every server processor of the last decade has,
/// it is the fastest of the three, and its 128 bits are not what an attacker would break first.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        ..aws_lc_rs::default_provider()
    })
}

/// For tests that make configurations of their own.
#[cfg(test)]
pub(super) fn any_certificate() -> Arc<dyn ServerCertVerifier> {
    Arc::new(TokenBound { algorithms: provider().signature_verification_algorithms })
}

/// Accepts any certificate whose key signed the handshake. What makes that safe is the proof over
/// the exporter, which the handshake of the session demands right after.
#[derive(Debug)]
struct TokenBound {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for TokenBound {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What clients of ours offer, and nobody else.
pub(super) const ALPN: &[u8] = b"ferrotunnel/1";
