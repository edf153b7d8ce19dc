//! Certificates in files, which are loaded anew when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferrotunnel_core::{BuildError, Files, FromFiles, IdentityFiles};

use super::certificate::Certificate;
use super::config::HttpsConfig;
use super::shown::Manner;
use super::store::Store;

/// Loads the certificates of the settings; `None` if they name none.
///
/// At the start every file has to be of use. Later a directory may get one that is not: the certificates of before
/// stay then, and what is wrong is logged.
pub(super) fn load(
    config: &HttpsConfig,
    manner: &Manner,
) -> Result<Option<Arc<FromFiles<Store>>>, BuildError> {
    let (identity, directory) = (config.identity.clone(), config.directory.clone());
    if identity.is_none() && directory.is_none() {
        return Ok(None);
    }
    if let Some(directory) = &directory {
        std::fs::read_dir(directory).map_err(|error| BuildError::File {
            path: directory.clone(),
            setting: DIRECTORY_SETTING,
            reason: format!("{error}; give a directory of certificates that this user may read"),
        })?;
    }
    let manner = manner.clone();
    let (known, listed) = ((identity.clone(), directory.clone()), (identity, directory));
    // A directory that cannot be read has changed: what was loaded from it stays, and why is told.
    let list = move || files(known.0.as_ref(), known.1.as_deref()).unwrap_or_default();
    let make = move |_: Option<&Store>| {
        let files =
            files(listed.0.as_ref(), listed.1.as_deref()).map_err(|error| BuildError::File {
                path: listed.1.clone().unwrap_or_default(),
                setting: DIRECTORY_SETTING,
                reason: error.to_string(),
            })?;
        let mut store = Store::default();
        for identity in &files.identities {
            let settings = match &listed.0 {
                Some(own) if own == identity => SETTINGS,
                _ => [DIRECTORY_SETTING; 2],
            };
            let certificate = Certificate::new(identity.load(settings)?, &manner);
            store.add(Arc::new(certificate.map_err(|why| BuildError::File {
                path: identity.cert.clone(),
                setting: settings[0],
                reason: why.0,
            })?));
        }
        Ok(store)
    };
    FromFiles::load(list, make).map(|files| Some(Arc::new(files)))
}

fn files(identity: Option<&IdentityFiles>, directory: Option<&Path>) -> io::Result<Files> {
    let mut identities: Vec<_> = identity.cloned().into_iter().collect();
    let mut others = Vec::new();
    if let Some(directory) = directory {
        identities.extend(pairs_in(directory)?);
        others.push(directory.to_owned());
    }
    let mut files = Files::default();
    (files.identities, files.others) = (identities, others);
    Ok(files)
}

/// Certificates with a key beside them, in the order of their names. A certificate that has none yet may just be
/// on its way.
fn pairs_in(directory: &Path) -> io::Result<Vec<IdentityFiles>> {
    let mut certs: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "pem" || kind == "crt") {
            certs.push(path);
        }
    }
    certs.sort();
    let mut pairs = Vec::new();
    for cert in certs {
        let key = cert.with_extension("key");
        if key.try_exists()? {
            pairs.push(IdentityFiles { cert, key });
        }
    }
    Ok(pairs)
}

/// What people know the files by.
const SETTINGS: [&str; 2] =
    ["https_identity_files, --https-cert", "https_identity_files, --https-key"];
const DIRECTORY_SETTING: &str = "https_certificate_directory, --https-cert-dir";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_pairs_of_certificate_and_key() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.pem", "b.key", "a.crt", "a.key", "c.pem", "d.key", "e.txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let pair = |cert: &str, key: &str| IdentityFiles {
            cert: directory.path().join(cert),
            key: directory.path().join(key),
        };
        let expected = [pair("a.crt", "a.key"), pair("b.pem", "b.key")];
        assert_eq!(pairs_in(directory.path()).unwrap(), expected);
        assert!(pairs_in(&directory.path().join("none")).is_err());
    }
}
