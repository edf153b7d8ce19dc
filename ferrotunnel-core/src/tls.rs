//! TLS 1.3 carriers.
//!
//! A client does not check the server's certificate by name or issuer: the token's proof covers
//! the exporter of the connection, and who does not know the token cannot make it. The signature
//! of the handshake is checked all the same.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature,
};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsStream;

use crate::auth::Binding;
use crate::error::BuildError;

/// A server's certificate chain and its private key.
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsIdentity({} certificates)", self.chain.len())
    }
}

impl TlsIdentity {
    /// A fresh self-signed certificate; enough, since clients trust the token's proof.
    ///
    /// # Errors
    /// The crypto library failed.
    pub fn self_signed() -> Result<Self, BuildError> {
        let made = rcgen::generate_simple_self_signed(vec!["ferrotunnel".to_owned()])
            .map_err(|error| BuildError::Tls(error.to_string()))?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Ok(Self { chain: vec![made.cert.der().clone()], key })
    }

    /// Reads PEM files.
    ///
    /// # Errors
    /// A file is missing or holds no certificate or key; the error names it and its setting.
    pub fn from_pem_files(cert: &Path, key: &Path) -> Result<Self, BuildError> {
        let broken = |path: &Path, setting, error: &dyn std::fmt::Display| {
            let (path, reason) = (path.to_owned(), error.to_string());
            BuildError::File { path, setting, reason }
        };
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| broken(cert, CERT_SETTING, &error))?;
        if chain.is_empty() {
            return Err(broken(cert, CERT_SETTING, &"the file holds no certificate"));
        }
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|error| broken(key, KEY_SETTING, &error))?;
        Ok(Self { chain, key })
    }
}

pub(crate) fn server_config(identity: TlsIdentity) -> Result<Arc<ServerConfig>, BuildError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(identity.chain, identity.key)
        })
        .map_err(|error| {
            let settings = "tls_identity_files, --tls-cert, --tls-key";
            BuildError::Tls(format!("certificate and key cannot be used ({settings}): {error}"))
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A client reconnects seldom; tickets would cost each session memory for nothing.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

pub(crate) fn client_config() -> Result<Arc<ClientConfig>, BuildError> {
    let provider = provider();
    let verifier = TokenBound { algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| BuildError::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The name a client puts into its handshake; nobody checks it and it is not sent.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into())
}

/// The exporter of an established connection (RFC 9266).
pub(crate) fn binding<S>(stream: &TlsStream<S>) -> Result<Binding, rustls::Error> {
    let output = [0; 32];
    let exported = match stream {
        TlsStream::Client(stream) => {
            stream.get_ref().1.export_keying_material(output, EXPORTER_LABEL, Some(&[]))
        }
        TlsStream::Server(stream) => {
            stream.get_ref().1.export_keying_material(output, EXPORTER_LABEL, Some(&[]))
        }
    };
    exported.map(Binding::Exporter)
}

/// AES-128-GCM first: with AES instructions, which every server processor of the last decade has,
/// it is the fastest of the three, and its 128 bits are not what an attacker would break first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        ..aws_lc_rs::default_provider()
    })
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

/// What people know the files by: the builder's method and the option of the command line.
const CERT_SETTING: &str = "tls_identity_files, --tls-cert";
const KEY_SETTING: &str = "tls_identity_files, --tls-key";

const ALPN: &[u8] = b"ferrotunnel/1";
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
