//! How client and server speak with each other, and which certificates they show and want to see.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ferrotunnel::{ClientBuilder, ServerBuilder};

use crate::args::ClientTlsArgs;
use crate::failure::Failure;

/// A server's side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerEncryption {
    /// TLS; without an identity with a certificate made at start.
    Tls { identity: Option<Identity>, client_ca: Option<PathBuf>, client_crl: Option<PathBuf> },
    /// None: the token still never travels, but nothing is hidden.
    Plaintext,
}

/// A client's side.
#[derive(Debug)]
pub(super) enum ClientEncryption {
    /// TLS; without verification the token proves who is who.
    Tls { identity: Option<Identity>, verification: Option<Verification> },
    /// None.
    Plaintext,
}

/// A certificate chain and its private key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    flags: [&'static str; 2],
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// How a client verifies the server's certificate; by one of the two ways at least.
#[derive(Debug)]
pub(super) struct Verification {
    ca: Option<PathBuf>,
    system: bool,
    name: Option<String>,
}

impl ServerEncryption {
    pub(super) fn new(
        plaintext: bool,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        client_ca: Option<PathBuf>,
        client_crl: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let given = [
            ("--tls-cert", cert.is_some()),
            ("--tls-key", key.is_some()),
            ("--tls-client-ca", client_ca.is_some()),
            ("--tls-client-crl", client_crl.is_some()),
        ];
        if plaintext {
            return no_certificates(&given).map(|()| Self::Plaintext);
        }
        if client_crl.is_some() && client_ca.is_none() {
            return Err(Failure::usage(
                "--tls-client-crl needs --tls-client-ca, the CAs whose revocation lists it has",
            ));
        }
        Ok(Self::Tls { identity: Identity::new(FLAGS, cert, key)?, client_ca, client_crl })
    }

    /// Whether the files can be read.
    pub(super) fn check_files(&self) -> Result<(), Failure> {
        let Self::Tls { identity, client_ca, client_crl } = self else { return Ok(()) };
        if let Some(identity) = identity {
            identity.check_files()?;
        }
        client_ca.as_deref().map_or(Ok(()), |ca| check_readable("--tls-client-ca", ca))?;
        client_crl.as_deref().map_or(Ok(()), |crl| check_readable("--tls-client-crl", crl))
    }

    /// Reads no file.
    pub(super) fn apply(self, mut builder: ServerBuilder) -> ServerBuilder {
        let Self::Tls { identity, client_ca, client_crl } = self else {
            return builder.plaintext();
        };
        if let Some(Identity { cert, key, .. }) = identity {
            builder = builder.tls_identity_files(cert, key);
        }
        if let Some(ca) = client_ca {
            builder = builder.tls_client_ca_file(ca);
        }
        if let Some(crl) = client_crl {
            builder = builder.tls_client_crl_file(crl);
        }
        builder
    }
}

impl ClientEncryption {
    pub(super) fn new(plaintext: bool, args: ClientTlsArgs) -> Result<Self, Failure> {
        let ClientTlsArgs { tls_ca, tls_verify, tls_server_name, tls_cert, tls_key } = args;
        let tls_verify = tls_verify.unwrap_or(false);
        let given = [
            ("--tls-ca", tls_ca.is_some()),
            ("--tls-verify", tls_verify),
            ("--tls-server-name", tls_server_name.is_some()),
            ("--tls-cert", tls_cert.is_some()),
            ("--tls-key", tls_key.is_some()),
        ];
        if plaintext {
            return no_certificates(&given).map(|()| Self::Plaintext);
        }
        let verification = match (tls_ca, tls_verify, tls_server_name) {
            (None, false, None) => None,
            (None, false, Some(_)) => {
                return Err(Failure::usage(
                    "--tls-server-name is of no use while nothing verifies the server's certificate; \
                     add --tls-ca or --tls-verify",
                ));
            }
            (ca, system, name) => Some(Verification { ca, system, name }),
        };
        Ok(Self::Tls { identity: Identity::new(FLAGS, tls_cert, tls_key)?, verification })
    }

    /// Whether the files can be read.
    pub(super) fn check_files(&self) -> Result<(), Failure> {
        let Self::Tls { identity, verification } = self else { return Ok(()) };
        if let Some(identity) = identity {
            identity.check_files()?;
        }
        let ca = verification.as_ref().and_then(|verification| verification.ca.as_deref());
        ca.map_or(Ok(()), |ca| check_readable("--tls-ca", ca))
    }

    /// Reads no file.
    pub(super) fn apply(self, mut builder: ClientBuilder) -> ClientBuilder {
        let Self::Tls { identity, verification } = self else { return builder.plaintext() };
        if let Some(Identity { cert, key, .. }) = identity {
            builder = builder.tls_identity_files(cert, key);
        }
        if let Some(Verification { ca, system, name }) = verification {
            if let Some(ca) = ca {
                builder = builder.tls_ca_file(ca);
            }
            if system {
                builder = builder.tls_verify();
            }
            if let Some(name) = name {
                builder = builder.tls_server_name(name);
            }
        }
        builder
    }
}

impl Identity {
    pub(super) fn check_files(&self) -> Result<(), Failure> {
        let [cert, key] = self.flags;
        check_readable(cert, &self.cert)?;
        check_readable(key, &self.key)
    }

    /// The flags are those that certificate and key are given by.
    pub(super) fn new(
        flags: [&'static str; 2],
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<Self>, Failure> {
        let [of_cert, of_key] = flags;
        match (cert, key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some(Self { flags, cert, key })),
            (Some(_), None) => Err(Failure::usage(format!(
                "{of_cert} needs {of_key}, the private key of the certificate"
            ))),
            (None, Some(_)) => {
                Err(Failure::usage(format!("{of_key} needs {of_cert}, the certificate of the key")))
            }
        }
    }
}

/// Of carriers.
const FLAGS: [&str; 2] = ["--tls-cert", "--tls-key"];

/// Without encryption there is nothing to show certificates in.
fn no_certificates(given: &[(&str, bool)]) -> Result<(), Failure> {
    let unused: Vec<_> =
        given.iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| *flag).collect();
    if unused.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--plaintext has no use for {}; drop one or the other",
        unused.join(" and ")
    )))
}

/// The library names the file; who types has a flag that may be wrong.
pub(crate) fn check_readable(flag: &str, path: &Path) -> Result<(), Failure> {
    // A directory can be opened, but not read.
    match File::open(path).and_then(|mut file| file.read(&mut [0])) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::failed(format!(
            "{flag}: cannot read {}: {error}; give the path of a PEM file that this user may read",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn file() -> Option<PathBuf> {
        Some(PathBuf::from("f"))
    }

    fn usage<T: std::fmt::Debug>(refused: Result<T, Failure>) -> String {
        let failure = refused.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        failure.to_string()
    }

    #[test]
    fn encryption_is_on_unless_turned_off() {
        let made = ServerEncryption::new(false, None, None, None, None).unwrap();
        assert_eq!(
            made,
            ServerEncryption::Tls { identity: None, client_ca: None, client_crl: None }
        );
        let plaintext = ServerEncryption::new(true, None, None, None, None).unwrap();
        assert_eq!(plaintext, ServerEncryption::Plaintext);
        let own = ServerEncryption::new(false, file(), file(), file(), file()).unwrap();
        assert!(matches!(
            own,
            ServerEncryption::Tls { identity: Some(_), client_ca: Some(_), client_crl: Some(_) }
        ));
        let client = ClientEncryption::new(false, ClientTlsArgs::default()).unwrap();
        let is_default =
            matches!(client, ClientEncryption::Tls { identity: None, verification: None });
        assert!(is_default, "{client:?}");
    }

    #[test]
    fn half_an_identity_is_a_usage_error_that_names_the_other_half() {
        let server = |cert, key| usage(ServerEncryption::new(false, cert, key, None, None));
        assert!(server(file(), None).contains("--tls-key"));
        let without_ca = ServerEncryption::new(false, None, None, None, file());
        assert!(usage(without_ca).contains("needs --tls-client-ca"));
        assert!(server(None, file()).contains("--tls-cert"));
        let client = |tls_cert, tls_key| {
            let args = ClientTlsArgs { tls_cert, tls_key, ..ClientTlsArgs::default() };
            usage(ClientEncryption::new(false, args))
        };
        assert!(client(file(), None).contains("needs --tls-key"));
        assert!(client(None, file()).contains("needs --tls-cert"));
    }

    #[test]
    fn plaintext_names_every_flag_that_it_has_no_use_for() {
        let text = usage(ServerEncryption::new(true, file(), file(), file(), file()));
        assert!(
            text.contains("--tls-cert and --tls-key and --tls-client-ca and --tls-client-crl"),
            "{text}"
        );
        let args = ClientTlsArgs {
            tls_ca: file(),
            tls_verify: Some(true),
            tls_server_name: Some("a".to_owned()),
            tls_cert: file(),
            tls_key: file(),
        };
        let text = usage(ClientEncryption::new(true, args));
        for flag in ["--tls-ca ", "--tls-verify", "--tls-server-name", "--tls-cert", "--tls-key"] {
            assert!(text.contains(flag), "{flag} is not in: {text}");
        }
    }

    #[test]
    fn a_name_that_nothing_verifies_is_a_usage_error() {
        let args = |tls_ca, tls_verify| ClientTlsArgs {
            tls_ca,
            tls_verify: Some(tls_verify),
            tls_server_name: Some("a.example".to_owned()),
            ..ClientTlsArgs::default()
        };
        let text = usage(ClientEncryption::new(false, args(None, false)));
        assert!(text.contains("--tls-ca") && text.contains("--tls-verify"), "{text}");
        for args in [args(file(), false), args(None, true), args(file(), true)] {
            let verified = ClientEncryption::new(false, args).unwrap();
            assert!(matches!(verified, ClientEncryption::Tls { verification: Some(_), .. }));
        }
    }
}
