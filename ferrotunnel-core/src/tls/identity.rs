//! What one side shows: a certificate chain and its key.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::pem::PemFile;
use crate::error::BuildError;

/// A certificate chain and its private key.
pub struct TlsIdentity {
    /// The certificate first, then whoever issued it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsIdentity({} certificates)", self.chain.len())
    }
}

impl Clone for TlsIdentity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl TlsIdentity {
    /// A fresh self-signed certificate; enough, since clients trust the token's proof.
    ///
    /// # Errors
    /// The crypto library failed.
    pub(crate) fn self_signed() -> Result<Self, BuildError> {
        let made = rcgen::generate_simple_self_signed(vec!["ferrotunnel".to_owned()])
            .map_err(|error| BuildError::Tls(error.to_string()))?;
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Ok(Self { chain: vec![made.cert.der().clone()], key })
    }
}

/// Where a certificate chain and its private key are, in PEM files. Who uses them looks from time to
/// time whether they have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The chain: the certificate first, then whoever issued it, as far as the peer has not got them.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl IdentityFiles {
    pub(super) fn paths(&self) -> [PathBuf; 2] {
        [self.cert.clone(), self.key.clone()]
    }

    /// Reads them. The settings are what people know the two files by.
    ///
    /// # Errors
    /// A file is missing or holds no certificate or key; the error names it and its setting.
    pub fn load(&self, [cert, key]: [&'static str; 2]) -> Result<TlsIdentity, BuildError> {
        let chain = PemFile { path: &self.cert, setting: cert }.certificates()?;
        let file = PemFile { path: &self.key, setting: key };
        let key = PrivateKeyDer::from_pem_slice(&file.read()?).map_err(|error| {
            file.broken(format_args!("the file holds no private key in PEM form: {error}"))
        })?;
        Ok(TlsIdentity { chain, key })
    }

    /// Says what to do when others may read the key.
    pub(super) fn warn_of_open_key(&self) {
        if is_open_to_others(&self.key) {
            let key = self.key.display();
            tracing::warn!("others on this machine may read the private key: chmod 600 {key}");
        }
    }
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

/// What people know the files of carriers by: the builder's method and the options of the command line.
pub(super) const SETTINGS: [&str; 2] =
    ["tls_identity_files, --tls-cert", "tls_identity_files, --tls-key"];
