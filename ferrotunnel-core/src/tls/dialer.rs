//! The client's side of TLS carriers: which server it takes for the right one, and what it shows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::config;
use super::handshake::{self, Secured};
use super::identity::IdentityFiles;
use super::issuers::Servers;
use super::pem::PemFile;
use super::system_roots;
use super::watch::FromFiles;
use crate::error::BuildError;

/// What a client wants to see of its server over TLS, and what it shows.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// How to verify the server's certificate. Without it any will do: the token's proof, which
    /// covers the exporter of the connection, tells whether it is the server.
    pub verification: Option<Verification>,
    /// The client's certificate, for servers that want one.
    pub identity: Option<IdentityFiles>,
}

/// How a server's certificate is verified: its name, and who may have issued it.
#[derive(Clone, Debug)]
pub struct Verification {
    name: ServerName<'static>,
    roots: Roots,
}

/// Whom a client trusts to issue a server's certificate.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The CAs of this PEM file.
    File(PathBuf),
    /// The CAs that the system trusts.
    System,
    /// Either of both.
    FileAndSystem(PathBuf),
}

impl Verification {
    /// The name is a host name or an address.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(name: &str, roots: Roots) -> Result<Self, BuildError> {
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = ServerName::try_from(inner.to_owned())
            .map_err(|_| BuildError::ServerName(name.to_owned()))?;
        Ok(Self { name, roots })
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, BuildError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = self.roots.file() {
            PemFile { path, setting: CA_SETTING }.add_to(&mut roots)?;
        }
        if matches!(self.roots, Roots::System | Roots::FileAndSystem(_)) {
            system_roots::add_to(&mut roots)?;
        }
        let servers =
            Servers::issued_by(roots).map_err(|error| BuildError::Tls(error.to_string()))?;
        Ok(Arc::new(servers))
    }
}

impl Roots {
    fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) | Self::FileAndSystem(path) => Some(path),
            Self::System => None,
        }
    }
}

/// Makes TLS connections with the certificates that the files hold now, all to one name.
pub(crate) struct TlsDialer {
    name: ServerName<'static>,
    configs: Arc<FromFiles<Arc<ClientConfig>>>,
}

impl TlsDialer {
    pub(crate) fn new(settings: ClientTls) -> Result<Self, BuildError> {
        let ClientTls { verification, identity } = settings;
        let name = match &verification {
            Some(verification) => verification.name.clone(),
            None => nobody(),
        };
        let ca = verification.as_ref().and_then(|verification| verification.roots.file().cloned());
        let files = identity.clone();
        // Each configuration has tickets of its own. One that resumes does not look at the server's
        // certificate again, but only a server that showed a good one to this very configuration has
        // the secret of the ticket; changed CAs and a changed certificate begin without any.
        let make = move |_: Option<&Arc<ClientConfig>>| {
            let identity = identity.as_ref().map(IdentityFiles::load).transpose()?;
            match &verification {
                Some(verification) => config::verifying(verification.verifier()?, identity),
                None => config::bound_to_the_token(identity),
            }
        };
        Ok(Self { name, configs: Arc::new(FromFiles::load(files, ca, Box::new(make))?) })
    }

    /// One connection. How long it may take is the caller's business.
    pub(crate) async fn connect(&self, socket: TcpStream) -> io::Result<Secured> {
        if self.configs.has_files() {
            let configs = Arc::clone(&self.configs);
            // Files may lie on a disk that is far away.
            let _ = tokio::task::spawn_blocking(move || configs.look()).await;
        }
        handshake::connect(&self.configs.current(), self.name.clone(), socket).await
    }
}

/// The name of a server that is not verified: nobody checks it and it is not sent.
pub(super) fn nobody() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into())
}

const CA_SETTING: &str = "tls_ca_file, --tls-ca";
