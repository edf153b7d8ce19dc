//! A certificate for development: a CA that issues it, and then forgets how to.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::error::Error;

/// Files of a certificate for development.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DevCertificate {
    /// What visitors have to trust. Its key was never written anywhere.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key, which only this user may read.
    pub key: PathBuf,
    /// What it is for.
    pub hosts: Vec<String>,
}

/// Makes a certificate for these hosts, for `localhost` and for the loopback addresses, and a CA that has issued
/// it, in that directory: `dev-ca.pem`, `dev.pem` and `dev.key`. It is good for two years.
///
/// Whoever trusts the CA trusts this certificate and nothing else: the CA's key is forgotten at once, so that nobody
/// can steal it.
///
/// # Errors
/// A host is none, or one that no browser takes a certificate for; or there are such files already.
pub fn dev_certificate(directory: &Path, hosts: &[String]) -> Result<DevCertificate, Error> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    for host in hosts {
        check(host)?;
        let host = host.to_ascii_lowercase();
        if !names.contains(&host) {
            names.push(host);
        }
    }
    let broken = |error: rcgen::Error| Error::config(format!("cannot make a certificate: {error}"));
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    name(&mut ca, "FerroTunnel development CA");
    let ca =
        CertifiedIssuer::self_signed(ca, KeyPair::generate().map_err(broken)?).map_err(broken)?;
    let mut leaf = CertificateParams::new(names.clone()).map_err(broken)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    name(&mut leaf, "FerroTunnel development");
    let key = KeyPair::generate().map_err(broken)?;
    let cert = leaf.signed_by(&key, &ca).map_err(broken)?;

    let made = DevCertificate {
        ca: directory.join("dev-ca.pem"),
        cert: directory.join("dev.pem"),
        key: directory.join("dev.key"),
        hosts: names,
    };
    fs::create_dir_all(directory).map_err(|error| cannot_write(directory, &error))?;
    let files = [(&made.key, key.serialize_pem()), (&made.cert, cert.pem()), (&made.ca, ca.pem())];
    for (at, (path, text)) in files.iter().enumerate() {
        if let Err(error) = write(path, text) {
            // One without the others is of no use, and would be in the way of the next run.
            for (path, _) in files.iter().take(at) {
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
    }
    Ok(made)
}

fn name(params: &mut CertificateParams, common_name: &str) {
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A clock that is a little behind is no reason to refuse it.
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3_600)).into();
    params.not_after = (now + GOOD_FOR).into();
}

/// What clients of TLS take for the name of a host.
fn check(host: &str) -> Result<(), Error> {
    let bare = host.strip_prefix("*.");
    let labels: Vec<&str> = bare.unwrap_or(host).split('.').collect();
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.len() > 253 || !labels.iter().all(is_label) {
        return Err(Error::config(format!("{host:?} is no name of a host, like app.localhost")));
    }
    if bare.is_some() && labels.len() < 2 {
        return Err(Error::config(format!(
            "{host:?}: no browser takes a star right below {}; name the hosts one by one, or choose a domain like \
             *.tunnel.{}",
            labels[0], labels[0]
        )));
    }
    Ok(())
}

/// For this user only. Nothing is overwritten: it may be trusted, or in use.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| cannot_write(path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| {
        let _ = fs::remove_file(path);
        cannot_write(path, &error)
    })
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "; it is left as it is: remove it, or choose another directory"
        }
        _ => "",
    };
    Error::file(format!("{}: {error}{advice}", path.display()))
}

/// Two years: what macOS and iOS take of CAs that users have added.
const GOOD_FOR: Duration = Duration::from_secs(2 * 365 * 86_400);
