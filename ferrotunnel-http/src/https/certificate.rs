//! A certificate with its key, the names that it is good for, and when it ends.

use std::sync::Arc;

use ferrotunnel_core::{BuildError, TlsIdentity};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use webpki::EndEntityCert;

use super::shown::Manner;
use super::validity::{Number, Validity, number, validity};

/// What visitors are shown.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// What a handshake goes by.
    pub(super) config: Arc<ServerConfig>,
    /// In lower case; `*.example.com` for all names right below one. Addresses are not among them: nobody asks
    /// for a certificate by one.
    names: Vec<String>,
    pub(super) valid: Validity,
    /// By what its issuer knows it, if that says so.
    pub(super) number: Option<Number>,
}

impl Certificate {
    /// Looks through it, and whether the key is its own.
    pub(super) fn new(identity: TlsIdentity, manner: &Manner) -> Result<Self, Unusable> {
        let TlsIdentity { chain, key } = identity;
        let first = chain.first().ok_or_else(|| unreadable("it is empty"))?;
        let parsed = EndEntityCert::try_from(first).map_err(unreadable)?;
        // The common name is none of them: nothing has looked at it for years.
        let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
        let number = number(first);
        let valid = validity(first).ok_or_else(|| unreadable("it does not say until when"))?;
        let key =
            CertifiedKey::from_der(chain, key, manner.provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    Unusable("the key does not belong to the certificate".to_owned())
                }
                error => Unusable(error.to_string()),
            })?;
        let config = manner.visitors(Arc::new(key))?;
        Ok(Self { config, names, valid, number })
    }

    /// Its names, in lower case.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether it is for that host, which may be written in any case.
    pub(crate) fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix('*') {
            // One label and no more (RFC 9525, section 6.3).
            Some(rest) => host.find('.').and_then(|dot| host.split_at_checked(dot)).is_some_and(
                |(label, under)| !label.is_empty() && under.eq_ignore_ascii_case(rest),
            ),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// Why a certificate cannot be shown.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) String);

impl From<BuildError> for Unusable {
    fn from(error: BuildError) -> Self {
        Self(error.to_string())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Unusable {
    Unusable(format!("this is no certificate: {error}"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls_pki_types::PrivateKeyDer;

    use super::super::config::OldestTls;
    use super::*;

    pub(in super::super) fn made(names: &[&str]) -> TlsIdentity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        TlsIdentity { chain: vec![certificate.der().clone()], key }
    }

    fn certificate(names: &[&str]) -> Certificate {
        Certificate::new(made(names), &Manner::new(OldestTls::V1_2).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_for_its_names_and_for_one_label_in_place_of_a_star() {
        let made = certificate(&["App.example", "*.b.example"]);
        for host in ["app.example", "APP.EXAMPLE", "x.b.example", "X.B.example"] {
            assert!(made.covers(host), "{host}");
        }
        for host in ["", "example", "b.example", ".b.example", "x.y.b.example", "xb.example", "*"] {
            assert!(!made.covers(host), "{host}");
        }
    }

    #[test]
    fn it_is_known_when_a_certificate_ends() {
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let made = certificate(&["a.example"]);
        assert_eq!(seconds(made.valid.not_before), 1_577_836_800);
        assert_eq!(seconds(made.valid.not_after), 2_208_988_800);
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let (mut one, other) = (made(&["a.example"]), made(&["a.example"]));
        one.key = other.key;
        let manner = Manner::new(OldestTls::V1_2).unwrap();
        let Unusable(why) = Certificate::new(one, &manner).unwrap_err();
        assert!(why.contains("does not belong"), "{why}");
    }
}
