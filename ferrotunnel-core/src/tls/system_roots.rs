//! The CAs that the system trusts, where it keeps them in files: Linux, the BSDs, macOS.
//!
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` say where, as they do for OpenSSL and most programs.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::dialer::RootSettings;
use crate::error::BuildError;

/// Adds them. Systems have some that cannot be used; they are left out.
pub(super) fn add_to(roots: &mut RootCertStore, settings: RootSettings) -> Result<(), BuildError> {
    let place = Place::of_the_system();
    let reason = match place.certificates() {
        Ok(certificates) => {
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added > 0 {
                return Ok(());
            }
            "there are none where systems keep them".to_owned()
        }
        Err((path, error)) => format!("{}: {error}", path.display()),
    };
    let RootSettings { file, system } = settings;
    Err(BuildError::Tls(format!(
        "no CAs of the system are found ({system}): {reason}; name a file of CAs ({file}), or in \
         SSL_CERT_FILE"
    )))
}

/// Where certificates are.
enum Place {
    File(PathBuf),
    Folders(Vec<PathBuf>),
}

impl Place {
    fn of_the_system() -> Self {
        // Whoever names a place means it and no other.
        if let Some(file) = env::var_os("SSL_CERT_FILE") {
            return Self::File(file.into());
        }
        if let Some(folders) = env::var_os("SSL_CERT_DIR") {
            return Self::Folders(env::split_paths(&folders).collect());
        }
        let probed = openssl_probe::probe();
        let of_macos = || Some(PathBuf::from(OF_MACOS)).filter(|file| file.exists());
        match probed.cert_file.or_else(of_macos) {
            Some(file) => Self::File(file),
            None => Self::Folders(probed.cert_dir),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, (&Path, io::Error)> {
        let mut certificates = Vec::new();
        match self {
            Self::File(file) => {
                certificates_of(file, &mut certificates).map_err(|error| (&**file, error))?;
            }
            Self::Folders(folders) => {
                for folder in folders {
                    let entries = std::fs::read_dir(folder).map_err(|error| (&**folder, error))?;
                    for entry in entries.flatten() {
                        // Folders inside, and links to what has gone.
                        let _ = certificates_of(&entry.path(), &mut certificates);
                    }
                }
            }
        }
        // Folders name each under several names.
        certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        certificates.dedup();
        Ok(certificates)
    }
}

/// Nobody probes for it.
const OF_MACOS: &str = "/etc/ssl/cert.pem";

fn certificates_of(file: &Path, to: &mut Vec<CertificateDer<'static>>) -> io::Result<()> {
    let text = std::fs::read(file)?;
    to.extend(CertificateDer::pem_slice_iter(&text).flatten());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_taken_from_a_file_and_from_folders_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem()
        };
        let (one, two) = (made("one"), made("two"));
        std::fs::write(dir.path().join("both.pem"), format!("{one}words\n{two}")).unwrap();
        std::fs::write(dir.path().join("1234.0"), &one).unwrap();
        std::fs::write(dir.path().join("README"), "no certificate").unwrap();
        std::fs::create_dir(dir.path().join("inside")).unwrap();
        let count = |place: Place| place.certificates().map(|found| found.len()).unwrap();
        assert_eq!(count(Place::File(dir.path().join("both.pem"))), 2);
        assert_eq!(count(Place::Folders(vec![dir.path().to_owned()])), 2);
        assert_eq!(count(Place::Folders(Vec::new())), 0);
        let gone = Place::File(dir.path().join("gone.pem"));
        let (named, error) = gone.certificates().unwrap_err();
        assert!(named.ends_with("gone.pem") && error.kind() == io::ErrorKind::NotFound);
    }
}
