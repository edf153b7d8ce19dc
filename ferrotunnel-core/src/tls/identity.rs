//! What a server shows: a certificate chain and its key.

use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::BuildError;

/// A server's certificate chain and its private key.
pub struct TlsIdentity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
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

/// What people know the files by: the builder's method and the option of the command line.
const CERT_SETTING: &str = "tls_identity_files, --tls-cert";
const KEY_SETTING: &str = "tls_identity_files, --tls-key";
