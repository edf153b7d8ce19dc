//! Visitors over TLS, and where their certificates come from.

use std::net::SocketAddr;
use std::path::PathBuf;

use ferrotunnel::{AcmeConfig, ExternalAccount, ServerBuilder};

use super::certificates::{Identity, check_readable};
use crate::args::HttpsArgs;
use crate::failure::Failure;
use crate::token_file::warn_if_open;

/// HTTPS as a server shall have it.
#[derive(Debug)]
pub(crate) struct HttpsSettings {
    pub(crate) bind: SocketAddr,
    identity: Option<Identity>,
    directory: Option<PathBuf>,
    redirects: bool,
    tls13_only: bool,
    acme: Option<AcmeConfig>,
}

impl HttpsSettings {
    /// `None` without HTTPS.
    pub(super) fn new(args: HttpsArgs) -> Result<Option<Self>, Failure> {
        let acme = acme(&args)?;
        let Some(bind) = args.https_bind else {
            return match needs_https(&args) {
                Some(flag) => Err(Failure::usage(format!(
                    "{flag} is of no use without HTTPS; say with --https-bind where visitors come in"
                ))),
                None => Ok(None),
            };
        };
        let identity =
            Identity::new(["--https-cert", "--https-key"], args.https_cert, args.https_key)?;
        if identity.is_none() && args.https_cert_dir.is_none() && acme.is_none() {
            return Err(Failure::usage(
                "--https-bind needs certificates: give --https-cert and --https-key, --https-cert-dir, or --acme-dir to get \
                 them from an ACME server; `ferrotunnel cert dev` makes one for development",
            ));
        }
        Ok(Some(Self {
            bind,
            identity,
            directory: args.https_cert_dir,
            redirects: args.https_redirect.unwrap_or(false),
            tls13_only: args.https_tls13_only.unwrap_or(false),
            acme,
        }))
    }

    /// Whether the files can be read.
    pub(super) fn check_files(&self) -> Result<(), Failure> {
        self.identity.as_ref().map_or(Ok(()), Identity::check_files)?;
        let external = self.acme.as_ref().and_then(|acme| acme.external.as_ref());
        if let Some(ExternalAccount { key_file, .. }) = external {
            check_readable(EAB_KEY_FILE, key_file)?;
            warn_if_open(EAB_KEY_FILE, key_file, key_file.metadata().ok());
        }
        let ca = self.acme.as_ref().and_then(|acme| acme.server_ca.as_deref());
        ca.map_or(Ok(()), |ca| check_readable("--acme-server-ca", ca))
    }

    /// Reads no file.
    pub(super) fn apply(self, mut builder: ServerBuilder) -> ServerBuilder {
        builder = builder.https_bind(self.bind);
        if let Some(Identity { cert, key, .. }) = self.identity {
            builder = builder.https_identity_files(cert, key);
        }
        if let Some(directory) = self.directory {
            builder = builder.https_certificate_directory(directory);
        }
        if self.redirects {
            builder = builder.redirect_to_https();
        }
        if self.tls13_only {
            builder = builder.https_tls13_only();
        }
        match self.acme {
            Some(acme) => builder.acme(acme),
            None => builder,
        }
    }
}

/// The only secret among the files of ACME that is not written by this program.
const EAB_KEY_FILE: &str = "--acme-eab-key-file";

fn acme(args: &HttpsArgs) -> Result<Option<AcmeConfig>, Failure> {
    let Some(dir) = &args.acme_dir else {
        let given = [
            ("--acme-server", args.acme_server.is_some()),
            ("--acme-email", args.acme_email.is_some()),
            ("--acme-eab-key-id", args.acme_eab_key_id.is_some()),
            ("--acme-eab-key-file", args.acme_eab_key_file.is_some()),
            ("--acme-server-ca", args.acme_server_ca.is_some()),
            ("--acme-dns-hook", args.acme_dns_hook.is_some()),
        ];
        return match given.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Failure::usage(format!(
                "{flag} is of no use without --acme-dir, the directory in which certificates are kept"
            ))),
            None => Ok(None),
        };
    };
    let mut acme = AcmeConfig::new(dir);
    if let Some(server) = &args.acme_server {
        acme.server = server.clone();
    }
    acme.email = args.acme_email.clone();
    acme.external = match (&args.acme_eab_key_id, &args.acme_eab_key_file) {
        (Some(key_id), Some(key_file)) => {
            Some(ExternalAccount { key_id: key_id.clone(), key_file: key_file.clone() })
        }
        (None, None) => None,
        (Some(_), None) => return Err(half("--acme-eab-key-id", "--acme-eab-key-file")),
        (None, Some(_)) => return Err(half("--acme-eab-key-file", "--acme-eab-key-id")),
    };
    acme.server_ca = args.acme_server_ca.clone();
    acme.dns_hook = args.acme_dns_hook.clone();
    Ok(Some(acme))
}

fn half(flag: &str, other: &str) -> Failure {
    Failure::usage(format!("{flag} means nothing without {other}; give that too"))
}

/// The first of what was given that does nothing by itself.
fn needs_https(args: &HttpsArgs) -> Option<&'static str> {
    let given = [
        ("--https-cert", args.https_cert.is_some()),
        ("--https-key", args.https_key.is_some()),
        ("--https-cert-dir", args.https_cert_dir.is_some()),
        ("--https-redirect", args.https_redirect == Some(true)),
        ("--https-tls13-only", args.https_tls13_only == Some(true)),
        ("--acme-dir", args.acme_dir.is_some()),
    ];
    given.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
}

impl HttpsArgs {
    /// As if other layers brought what this one does not say.
    pub(super) fn completed(mut self) -> Self {
        let says_something = self != Self::default();
        if says_something {
            let some = || Some(PathBuf::from("any"));
            self.https_bind = self.https_bind.or(Some(SocketAddr::from(([127, 0, 0, 1], 0))));
            (self.https_cert, self.https_key) = (some(), some());
            self.acme_dir = self.acme_dir.or_else(some);
            self.acme_eab_key_id = Some("any".to_owned());
            self.acme_eab_key_file = some();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn refused(args: HttpsArgs) -> String {
        let failure = HttpsSettings::new(args).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        failure.to_string()
    }

    fn file() -> Option<PathBuf> {
        Some("f".into())
    }

    fn bound() -> HttpsArgs {
        HttpsArgs { https_bind: "0.0.0.0:443".parse().ok(), ..HttpsArgs::default() }
    }

    #[test]
    fn without_a_word_there_is_no_https() {
        assert!(HttpsSettings::new(HttpsArgs::default()).unwrap().is_none());
    }

    #[test]
    fn what_is_missing_is_named() {
        for (args, word) in [
            (bound(), "--acme-dir"),
            (HttpsArgs { https_cert: file(), ..bound() }, "--https-key"),
            (HttpsArgs { https_key: file(), ..bound() }, "--https-cert"),
            (HttpsArgs { https_redirect: Some(true), ..HttpsArgs::default() }, "--https-bind"),
            (HttpsArgs { https_cert_dir: file(), ..HttpsArgs::default() }, "--https-bind"),
            (HttpsArgs { acme_dir: file(), ..HttpsArgs::default() }, "--https-bind"),
            (HttpsArgs { acme_dns_hook: file(), ..bound() }, "--acme-dir"),
            (HttpsArgs { acme_eab_key_file: file(), ..bound() }, "--acme-dir"),
            (
                HttpsArgs { acme_dir: file(), acme_eab_key_file: file(), ..bound() },
                "--acme-eab-key-id",
            ),
            (
                HttpsArgs { acme_dir: file(), acme_eab_key_id: Some("k".into()), ..bound() },
                "--acme-eab-key-file",
            ),
        ] {
            let text = refused(args);
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }

    #[test]
    fn any_of_the_three_ways_to_certificates_will_do() {
        for args in [
            HttpsArgs { https_cert: file(), https_key: file(), ..bound() },
            HttpsArgs { https_cert_dir: file(), ..bound() },
            HttpsArgs { acme_dir: file(), ..bound() },
        ] {
            assert!(HttpsSettings::new(args).unwrap().is_some());
        }
    }
}
