//! The client's side of TLS carriers: which server it takes for the right one, and what it shows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::config;
use super::handshake::{self, Secured};
use super::identity::{IdentityFiles, SETTINGS};
use super::issuers::Servers;
use super::pem::PemFile;
use super::system_roots;
use super::ticket_store::{ConnectionTickets, Purpose, TicketStore};
use super::watch::{Files, FromFiles};
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
    /// `None`: the host by which the server is known.
    name: Option<ServerName<'static>>,
    roots: Roots,
}

/// Whom a client trusts to issue a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The CAs of this PEM file.
    File(PathBuf),
    /// The CAs that the system trusts.
    System,
    /// Either of both.
    FileAndSystem(PathBuf),
}

impl Verification {
    /// The name is a host name or an address; without one it is the host by which a server is known.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(name: Option<&str>, roots: Roots) -> Result<Self, BuildError> {
        let name = name.map(server_name).transpose()?;
        Ok(Self { name, roots })
    }

    /// Whether servers that are known by these `host:port` can be verified.
    ///
    /// # Errors
    /// The host of one is neither a host name nor an address, and there is no other name for it.
    pub fn check_names(&self, servers: &[String]) -> Result<(), BuildError> {
        servers.iter().try_for_each(|server| self.name_of(server).map(drop))
    }

    fn name_of(&self, server: &str) -> Result<ServerName<'static>, BuildError> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => server_name(server.rsplit_once(':').map_or(server, |(host, _)| host)),
        }
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, BuildError> {
        let roots = self.roots.load(ROOT_SETTINGS)?;
        let servers =
            Servers::issued_by(roots).map_err(|error| BuildError::Tls(error.to_string()))?;
        Ok(Arc::new(servers))
    }
}

/// What people know CAs by, to be told which setting is wrong.
#[derive(Clone, Copy, Debug)]
pub struct RootSettings {
    /// The setting that names a file of them.
    pub file: &'static str,
    /// The setting that asks for those of the system.
    pub system: &'static str,
}

impl Roots {
    /// Reads them.
    ///
    /// # Errors
    /// A file cannot be used, or the system has none; the error names the setting.
    pub fn load(&self, settings: RootSettings) -> Result<RootCertStore, BuildError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = self.file() {
            PemFile { path, setting: settings.file }.add_to(&mut roots)?;
        }
        if matches!(self, Self::System | Self::FileAndSystem(_)) {
            system_roots::add_to(&mut roots, settings)?;
        }
        Ok(roots)
    }

    fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) | Self::FileAndSystem(path) => Some(path),
            Self::System => None,
        }
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, BuildError> {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    ServerName::try_from(inner.to_owned()).map_err(|_| BuildError::ServerName(name.to_owned()))
}

/// Makes TLS connections with the certificates that the files hold now.
pub(crate) struct TlsDialer {
    verification: Option<Verification>,
    generations: Arc<FromFiles<Generation>>,
}

impl TlsDialer {
    pub(crate) fn new(settings: ClientTls) -> Result<Self, BuildError> {
        let ClientTls { verification, identity } = settings;
        let known = verification.clone();
        let ca: Vec<_> = verification.iter().filter_map(|it| it.roots.file().cloned()).collect();
        let files = identity.clone();
        let make = move |_: Option<&Generation>| {
            let identity = identity.as_ref().map(|files| files.load(SETTINGS)).transpose()?;
            let config = match &verification {
                Some(verification) => config::verifying(verification.verifier()?, identity)?,
                None => config::bound_to_the_token(identity)?,
            };
            Ok(Generation::new(config))
        };
        let list = move || Files::of(files.clone(), ca.clone());
        let generations = Arc::new(FromFiles::load(list, make)?);
        Ok(Self { verification: known, generations })
    }

    /// One connection to the server that is known by that `host:port`. How long it may take is the caller's business. Its
    /// tickets are [kept](ConnectionTickets::keep) once the server has welcomed the client.
    pub(crate) async fn connect(
        &self,
        server: &str,
        socket: TcpStream,
        purpose: Purpose,
    ) -> io::Result<(Secured, Arc<ConnectionTickets>)> {
        let name = name_of(self.verification.as_ref(), server).map_err(io::Error::other)?;
        if self.generations.has_files() {
            let generations = Arc::clone(&self.generations);
            // Files may lie on a disk that is far away.
            let _ = tokio::task::spawn_blocking(move || generations.look()).await;
        }
        let generation = self.generations.current();
        let tickets =
            ConnectionTickets::new(&generation.tickets_at(Instant::now(), server), purpose);
        let config = config::with_tickets(&generation.config, &tickets);
        Ok((handshake::connect(&config, name, socket).await?, tickets))
    }
}

/// By which name the server is asked for.
fn name_of(
    verification: Option<&Verification>,
    server: &str,
) -> Result<ServerName<'static>, BuildError> {
    verification.map_or_else(|| Ok(nobody()), |verification| verification.name_of(server))
}

/// What one generation of the files came to.
///
/// A client that resumes does not look at the server's certificate again. That is as good, since only
/// a server that showed a good one has the secret of the ticket; but the certificate may have expired
/// since, and each resumed connection brings the next ticket. So tickets are forgotten from time to
/// time, and each generation has its own: changed CAs and a changed certificate begin without any.
///
/// Servers that are not verified have one name among them, so each has a store of its own as well: the
/// ticket of one is of no use at another.
struct Generation {
    config: Arc<ClientConfig>,
    kept: Mutex<Kept>,
}

struct Kept {
    since: Instant,
    /// By the `host:port` that a client knows a server by; there are as many as it was told of.
    by_server: HashMap<String, Arc<TicketStore>>,
}

impl Generation {
    fn new(config: Arc<ClientConfig>) -> Self {
        let kept = Mutex::new(Kept { since: Instant::now(), by_server: HashMap::new() });
        Self { config, kept }
    }

    fn tickets_at(&self, now: Instant, server: &str) -> Arc<TicketStore> {
        let mut kept = self.kept.lock();
        if now.saturating_duration_since(kept.since) >= TICKETS_KEPT {
            *kept = Kept { since: now, by_server: HashMap::new() };
        }
        let known = kept.by_server.entry_ref(server);
        Arc::clone(known.or_default())
    }
}

/// How long a server's certificate is not looked at again at most. One whole handshake in that time
/// costs nothing, and certificates are good for days at least.
const TICKETS_KEPT: Duration = Duration::from_secs(60 * 60);

/// The name of a server that is not verified: nobody checks it and it is not sent.
pub(super) fn nobody() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into())
}

const ROOT_SETTINGS: RootSettings =
    RootSettings { file: "tls_ca_file, --tls-ca", system: "tls_verify, --tls-verify" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_forgotten_after_a_while() {
        let generation = Generation::new(config::bound_to_the_token(None).unwrap());
        let began = Instant::now();
        let [first, again, later, still] = [0, 3_000, 3_700, 7_000]
            .map(|seconds| generation.tickets_at(began + Duration::from_secs(seconds), "a:1"));
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&again, &later) && Arc::ptr_eq(&later, &still));
        let other = generation.tickets_at(began + Duration::from_secs(7_000), "b:1");
        assert!(!Arc::ptr_eq(&other, &still));
    }
}
