//! Certificates of a test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, PublicKeyData, RevokedCertParams,
    date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

/// A CA, its certificate in a file, and a folder for what it issues.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
    issued: AtomicUsize,
}

/// A certificate and its key, in files.
#[derive(Debug)]
pub struct Identity {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The certificate.
    pub der: CertificateDer<'static>,
    serial: u64,
}

impl Authority {
    /// A new one. Two of the same name are different.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder, issued: AtomicUsize::new(0) }
    }

    /// The file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for a server of that name or address.
    pub fn server(&self, name: &str) -> Identity {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// A certificate for a client.
    pub fn client(&self) -> Identity {
        self.issue("client", ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    /// A file with the list of those that are good no more, which is good itself until that year.
    pub fn revoke(&self, name: &str, revoked: &[&Identity], until: i32) -> PathBuf {
        let revoked = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial.into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.path().join(name);
        let list = list.signed_by(&self.issuer).unwrap();
        std::fs::write(&path, list.pem().unwrap()).unwrap();
        path
    }

    /// A certificate with something particular about it.
    pub fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages.push(usage);
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some((number as u64 + 1).into());
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind: &str| self.folder.path().join(format!("{number}.{kind}.pem"));
        let identity = Identity {
            cert: path("cert"),
            key: path("key"),
            der: made.der().clone(),
            serial: number as u64 + 1,
        };
        std::fs::write(&identity.cert, made.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

impl Identity {
    /// Puts its files where those of another one are, each by a rename.
    pub fn replace(&self, other: &Identity) {
        replace(&self.cert, &other.cert);
        replace(&self.key, &other.key);
    }
}

/// Puts a copy of a file in the place of another one, by a rename.
pub fn replace(file: &Path, other: &Path) {
    let new = other.with_extension("new");
    std::fs::copy(file, &new).unwrap();
    std::fs::rename(new, other).unwrap();
}

/// What a browser knows a key by, that of a certificate in a file of that key: the SHA-256 of its
/// `SubjectPublicKeyInfo`, in base64 (RFC 7469, section 2.4).
pub fn key_pin(key: &Path) -> String {
    let key = KeyPair::from_pem(&std::fs::read_to_string(key).unwrap()).unwrap();
    let digest = digest(&SHA256, &key.subject_public_key_info());
    let symbols = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut pin = String::new();
    for three in digest.as_ref().chunks(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        let at = |place: usize| char::from(symbols[bits >> (18 - 6 * place) & 63]);
        (0..4).for_each(|place| pin.push(if place > three.len() { '=' } else { at(place) }));
    }
    pin
}
