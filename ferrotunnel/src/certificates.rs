//! What a client was told about certificates, and what it comes to.

use std::path::PathBuf;

use ferrotunnel_core::client::ClientTransport;
use ferrotunnel_core::{ClientTls, IdentityFiles, Roots, Verification};

use crate::error::Error;

/// Certificates as a builder was given them; nothing is wrong before [`transport`](Self::transport).
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) system_roots: bool,
    pub(crate) server_name: Option<String>,
    pub(crate) identity: Option<IdentityFiles>,
}

impl TlsSettings {
    /// How to reach servers, or which settings contradict each other.
    pub(crate) fn transport(
        self,
        plaintext: bool,
        servers: &[String],
    ) -> Result<ClientTransport, Error> {
        if plaintext {
            return match self.first() {
                None => Ok(ClientTransport::Plaintext),
                Some(setting) => Err(Error::config(format!(
                    "{setting}: a carrier in plaintext has no certificates; drop it or plaintext"
                ))),
            };
        }
        let Self { ca, system_roots, server_name, identity } = self;
        let roots = match (ca, system_roots) {
            (Some(ca), true) => Some(Roots::FileAndSystem(ca)),
            (Some(ca), false) => Some(Roots::File(ca)),
            (None, true) => Some(Roots::System),
            (None, false) => None,
        };
        let verification = match (roots, server_name) {
            (Some(roots), name) => {
                let verification = Verification::new(name.as_deref(), roots)?;
                verification.check_names(servers)?;
                Some(verification)
            }
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::config(
                    "tls_server_name is set, but nothing verifies the server's certificate: \
                     set tls_ca_file or tls_verify too",
                ));
            }
        };
        Ok(ClientTransport::Tls(ClientTls { verification, identity }))
    }

    /// A setting that was given, by the name of its method.
    fn first(&self) -> Option<&'static str> {
        let given = [
            ("tls_ca_file", self.ca.is_some()),
            ("tls_verify", self.system_roots),
            ("tls_server_name", self.server_name.is_some()),
            ("tls_identity_files", self.identity.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified() -> TlsSettings {
        TlsSettings { ca: Some("ca.pem".into()), ..TlsSettings::default() }
    }

    fn complaint(settings: TlsSettings, plaintext: bool, server: &str) -> String {
        settings.transport(plaintext, &[server.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn every_setting_contradicts_plaintext() {
        let name = TlsSettings { server_name: Some("a".to_owned()), ..TlsSettings::default() };
        let system = TlsSettings { system_roots: true, ..TlsSettings::default() };
        let files = IdentityFiles { cert: "c".into(), key: "k".into() };
        let identity = TlsSettings { identity: Some(files), ..TlsSettings::default() };
        for (settings, named) in [
            (verified(), "tls_ca_file"),
            (system, "tls_verify"),
            (name, "tls_server_name"),
            (identity, "tls_identity_files"),
        ] {
            let text = complaint(settings, true, "a:1");
            assert!(text.contains(named) && text.contains("plaintext"), "{text}");
        }
        assert!(TlsSettings::default().transport(true, &["a:1".to_owned()]).is_ok());
    }

    #[test]
    fn a_name_without_verification_is_refused() {
        let name = TlsSettings { server_name: Some("a".to_owned()), ..TlsSettings::default() };
        let text = complaint(name, false, "a:1");
        assert!(text.contains("tls_ca_file") && text.contains("tls_verify"), "{text}");
    }

    #[test]
    fn names_and_addresses_can_be_verified_and_nothing_else() {
        for server in ["tunnel.example.com:7835", "127.0.0.1:1", "[::1]:1"] {
            assert!(verified().transport(false, &[server.to_owned()]).is_ok(), "{server}");
        }
        let text = complaint(verified(), false, "no name:1");
        assert!(text.contains("no name") && text.contains("tls_server_name"), "{text}");
        let named = TlsSettings { server_name: Some("::1".to_owned()), ..verified() };
        assert!(named.transport(false, &["no name:1".to_owned()]).is_ok());
    }
}
