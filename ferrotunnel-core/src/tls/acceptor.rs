//! The server's side of TLS carriers: what it shows, and which clients it lets in.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use rustls::client::VerifierBuilderError;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;

use super::config;
use super::handshake::{self, Secured};
use super::identity::{IdentityFiles, SETTINGS, TlsIdentity};
use super::issuers::Clients;
use super::passes::{Issuer, Pass, Passes, Standing, TokenMark, Words};
use super::pem::PemFile;
use super::tickets::Tickets;
use super::turns::HandshakeTurns;
use super::watch::{Files, FromFiles};
use crate::error::BuildError;

/// What a server shows to clients over TLS, and what it wants to see of them.
#[derive(Clone, Debug, Default)]
pub struct ServerTls {
    /// Its certificate and key; without them it makes a self-signed certificate at its start.
    pub identity: Option<IdentityFiles>,
    /// A PEM file of CAs: every client must show a certificate that one of them has issued.
    pub client_ca: Option<PathBuf>,
    /// A PEM file of revocation lists, one at least of each CA in the way from a client's certificate to
    /// `client_ca`: who is on one is not let in, and neither is anybody once a list has expired.
    pub client_crl: Option<PathBuf>,
}

/// Takes TLS connections with the certificates that the files hold now.
pub(crate) struct TlsAcceptor {
    generations: Arc<FromFiles<Generation>>,
    turns: HandshakeTurns,
    passes: Arc<Passes>,
}

/// What one generation of the files came to.
struct Generation {
    config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    tickets: Arc<Tickets>,
}

impl TlsAcceptor {
    pub(crate) fn new(settings: ServerTls) -> Result<Self, BuildError> {
        let ServerTls { identity, client_ca, client_crl } = settings;
        let made = match &identity {
            None => Some(TlsIdentity::self_signed()?),
            Some(_) => None,
        };
        let files = identity.clone();
        let others: Vec<_> = client_ca.iter().chain(&client_crl).cloned().collect();
        let generations = FromFiles::load(
            move || Files::of(files.clone(), others.clone()),
            move |old: Option<&Generation>| {
                let shown = match (&identity, &made) {
                    (Some(files), _) => files.load(SETTINGS)?,
                    (None, Some(made)) => made.clone(),
                    (None, None) => TlsIdentity::self_signed()?,
                };
                let clients = client_ca.as_deref().map(|path| {
                    let cas = PemFile { path, setting: CLIENT_CA_SETTING };
                    let crl = client_crl.as_deref();
                    let crl = crl.map(|path| PemFile { path, setting: CLIENT_CRL_SETTING });
                    client_verifier(cas, crl)
                });
                Generation::new(shown, clients.transpose()?, old)
            },
        )?;
        let turns = HandshakeTurns::of_this_machine();
        Ok(Self { generations: Arc::new(generations), turns, passes: Passes::new() })
    }

    /// Waits for the first words of a peer, of which `input` was read already, and says what they are. They stay there
    /// for [`accept`](Self::accept). How long that may take is the caller's business.
    pub(crate) async fn hear(
        &self,
        socket: &mut TcpStream,
        input: &mut BytesMut,
    ) -> io::Result<Words> {
        Ok(self.passes.judge(handshake::first_record(socket, input).await?))
    }

    /// Whoever comes with one of those tickets is that, and so is listened to at once.
    pub(crate) fn give(&self, passes: &[Pass], standing: Standing) {
        self.passes.give(passes, standing);
    }

    /// What a token of that id is for passes.
    pub(crate) fn mark(&self, token_id: &str) -> TokenMark {
        self.passes.mark(token_id)
    }

    /// It is a stranger again.
    pub(crate) fn revoke(&self, passes: &[Pass]) {
        self.passes.revoke(passes);
    }

    /// One connection, of which `input` was read already. How long it may take is the caller's business.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
        input: BytesMut,
        from: IpAddr,
    ) -> io::Result<Secured> {
        let generation = self.generations.current();
        let turns = Some((&self.turns, from));
        let issuer = Issuer::new(&generation.tickets, &self.passes);
        let mut config = ServerConfig::clone(&generation.config);
        config.ticketer = Arc::clone(&issuer) as Arc<dyn ProducesTickets>;
        let mut secured = handshake::accept(config, socket, input, turns).await?;
        secured.passes = issuer.issued();
        // A ticket stands for the signature of the client's key. Whether the certificate is still good,
        // and whether there is one at all, is looked at each time: it may have expired since.
        let shown = std::mem::take(&mut secured.certificates);
        if secured.is_resumed
            && let Some(clients) = &generation.clients
            && let Err(error) = check(&**clients, &shown)
        {
            secured.stream.refuse(handshake::alert_for(&error)).await;
            return Err(handshake::invalid(error));
        }
        Ok(secured)
    }

    /// Loads the files now, for connections from now on.
    pub(crate) fn reload(&self) -> Result<(), BuildError> {
        self.generations.reload()
    }

    /// Loads the files whenever they change. Ends at once if there are none.
    pub(crate) async fn watch(self: Arc<Self>) {
        Arc::clone(&self.generations).watch().await;
    }
}

impl Generation {
    fn new(
        identity: TlsIdentity,
        clients: Option<Arc<dyn ClientCertVerifier>>,
        old: Option<&Self>,
    ) -> Result<Self, BuildError> {
        let tickets = match old {
            // Tickets of before say nothing about the CAs of now.
            Some(old) if clients.is_none() => Arc::clone(&old.tickets),
            _ => Tickets::new()?,
        };
        let config = config::server_config(identity, clients.clone(), tickets.clone())?;
        Ok(Self { config, clients, tickets })
    }
}

fn client_verifier(
    cas: PemFile<'_>,
    crl: Option<PemFile<'_>>,
) -> Result<Arc<dyn ClientCertVerifier>, BuildError> {
    let mut roots = RootCertStore::empty();
    cas.add_to(&mut roots)?;
    let lists = crl.map(PemFile::revocation_lists).transpose()?.unwrap_or_default();
    Ok(Arc::new(Clients::issued_by(roots, lists).map_err(|error| match (&error, crl) {
        (VerifierBuilderError::InvalidCrl(_), Some(crl)) => crl.broken(error),
        _ => cas.broken(error),
    })?))
}

fn check(
    clients: &dyn ClientCertVerifier,
    shown: &[CertificateDer<'_>],
) -> Result<(), rustls::Error> {
    let (first, others) = shown.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    clients.verify_client_cert(first, others, UnixTime::now()).map(drop)
}

const CLIENT_CA_SETTING: &str = "tls_client_ca_file, --tls-client-ca";

const CLIENT_CRL_SETTING: &str = "tls_client_crl_file, --tls-client-crl";

#[cfg(test)]
mod tests;
