//! TLS toward local services.
//!
//! They speak whatever version they do, and a splice moves what they say: here rustls' own connection does, through
//! tokio-rustls, and not the records of carriers.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::dialer::{RootSettings, Roots};
use crate::error::BuildError;

/// Whose certificates a client takes for a local service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalTrust {
    /// Those that one of these CAs has issued, for the host that is dialled.
    IssuedBy(Roots),
    /// Anybody's: whoever is at that address sees what visitors send.
    Anybody,
}

/// How a local service is spoken with over TLS. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct LocalTls {
    pub(crate) name: ServerName<'static>,
    trust: LocalTrust,
    made: Arc<OnceLock<[Arc<ClientConfig>; 2]>>,
}

impl LocalTls {
    pub(crate) fn new(name: ServerName<'static>) -> Self {
        let trust = LocalTrust::IssuedBy(Roots::System);
        Self { name, trust, made: Arc::default() }
    }

    pub(crate) fn trusting(self, trust: LocalTrust) -> Self {
        Self { trust, made: Arc::default(), ..self }
    }

    /// What is offered to the service, which is what will be spoken: HTTP/2 or HTTP/1.1. Reads the CAs when it is
    /// asked first.
    pub(crate) fn config(&self, is_http2: bool) -> Result<Arc<ClientConfig>, BuildError> {
        let [http1, http2] = match self.made.get() {
            Some(made) => made,
            None => {
                let made = self.make()?;
                self.made.get_or_init(|| made)
            }
        };
        Ok(Arc::clone(if is_http2 { http2 } else { http1 }))
    }

    fn make(&self) -> Result<[Arc<ClientConfig>; 2], BuildError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| BuildError::Tls(error.to_string()))?;
        let config = match &self.trust {
            LocalTrust::IssuedBy(roots) => {
                builder.with_root_certificates(roots.load(ROOT_SETTINGS)?).with_no_client_auth()
            }
            LocalTrust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
        };
        Ok(["http/1.1", "h2"].map(|protocol| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.into()];
            Arc::new(config)
        }))
    }
}

/// Takes any certificate whose key has signed the handshake.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const ROOT_SETTINGS: RootSettings =
    RootSettings { file: "local_ca_file, --local-ca", system: "an https:// target" };
