//! Files of certificates.

use std::fmt::Display;
use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::error::BuildError;

/// A PEM file, and the setting that people know it by.
#[derive(Clone, Copy)]
pub(super) struct PemFile<'a> {
    pub(super) path: &'a Path,
    pub(super) setting: &'static str,
}

impl PemFile<'_> {
    pub(super) fn broken(self, reason: impl Display) -> BuildError {
        let (path, reason) = (self.path.to_owned(), reason.to_string());
        BuildError::File { path, setting: self.setting, reason }
    }

    pub(super) fn read(self) -> Result<Vec<u8>, BuildError> {
        std::fs::read(self.path).map_err(|error| self.broken(error))
    }

    /// All its certificates, at least one.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, BuildError> {
        let certificates = CertificateDer::pem_slice_iter(&self.read()?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.broken(error))?;
        if certificates.is_empty() {
            return Err(self.broken("the file holds no certificate in PEM form"));
        }
        Ok(certificates)
    }

    /// All its revocation lists, at least one.
    pub(super) fn revocation_lists(
        self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, BuildError> {
        let lists = CertificateRevocationListDer::pem_slice_iter(&self.read()?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.broken(error))?;
        if lists.is_empty() {
            return Err(self.broken("the file holds no revocation list in PEM form (X509 CRL)"));
        }
        Ok(lists)
    }

    /// Adds its certificates as roots. One that cannot be used is an error: to leave it out would look
    /// like a refusal of everything that it issued.
    pub(super) fn add_to(self, roots: &mut RootCertStore) -> Result<(), BuildError> {
        for (number, certificate) in (1..).zip(self.certificates()?) {
            roots.add(certificate).map_err(|error| {
                self.broken(format_args!("certificate {number} cannot be used as a CA: {error}"))
            })?;
        }
        Ok(())
    }
}
