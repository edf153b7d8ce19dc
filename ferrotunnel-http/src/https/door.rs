//! Where visitors over TLS come in: the handshake, in a task of its own and under a deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ferrotunnel_core::{
    BuildError, CarrierDoor, FromFiles, HandshakeTurns, Hello, Passing, PassingDoor, Routes,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::StartHandshake;
use tracing::debug;

use super::acme::{Acme, Challenges};
use super::certificate::Certificate;
use super::config::HttpsConfig;
use super::shown::{ACME_TLS, Manner};
use super::store::Store;
use super::{TlsVisitor, files};
use crate::connection::{FIRST_WORDS, asked_to_stop};
use crate::ingress::{Coming, HttpIngress};
use crate::visitor::Secured;

/// The TLS of an [`HttpIngress`].
pub struct Https {
    files: Option<Arc<FromFiles<Store>>>,
    acme: Option<Arc<Acme>>,
    /// Which hosts somebody has registered; nobody else's get certificates.
    routes: Option<Arc<dyn Routes>>,
    /// Where clients go that dial their carriers here.
    carriers: Option<CarrierDoor>,
    /// Where visitors go whose TLS ends at a local service.
    passing: Option<PassingDoor>,
    config: HttpsConfig,
    places: Arc<Semaphore>,
    /// Those of visitors: carriers have their own, so neither is in the other's way.
    turns: HandshakeTurns,
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Https").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Until when a certificate is good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expiry {
    /// The hosts that it is for.
    pub names: Vec<String>,
    /// Its end.
    pub not_after: SystemTime,
}

/// What came of the first words of a connection.
enum Greeted {
    /// Nothing more is to be done.
    Gone,
    Visitor(TlsVisitor, Secured),
    /// A visitor for a local service that answers for itself.
    Passing(Passing),
}

impl Https {
    /// Loads the certificates.
    ///
    /// # Errors
    /// There is none, or one cannot be used; the error names it.
    pub fn new(config: HttpsConfig) -> Result<Self, BuildError> {
        let manner = Manner::new(config.oldest_tls)?;
        let files = files::load(&config, &manner)?;
        let acme = config.acme.clone().map(|acme| Acme::new(acme, &manner)).transpose()?;
        if files.is_none() && acme.is_none() {
            return Err(BuildError::Tls("HTTPS without any certificate".to_owned()));
        }
        let places = Arc::new(Semaphore::new(config.max_handshakes));
        let acme = acme.map(Arc::new);
        let turns = HandshakeTurns::of_this_machine();
        let (routes, carriers, passing) = (None, None, None);
        Ok(Self { files, acme, routes, carriers, passing, config, places, turns })
    }

    /// The same for a port at which clients dial carriers too. They are told from visitors by the protocol
    /// that they offer (ALPN).
    #[must_use]
    pub fn with_carriers(mut self, carriers: CarrierDoor) -> Self {
        self.carriers = Some(carriers);
        self
    }

    /// The same for a port that is also that of visitors whose TLS ends at a local service.
    #[must_use]
    pub fn with_passing(mut self, passing: PassingDoor) -> Self {
        self.passing = Some(passing);
        self
    }

    /// The same where hosts are registered there. Without it nothing is ordered from an ACME server.
    #[must_use]
    pub fn with_routes(mut self, routes: Arc<dyn Routes>) -> Self {
        self.routes = Some(routes);
        self
    }

    /// Looks after the certificates for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        let files = async {
            if let Some(files) = &self.files {
                Arc::clone(files).watch().await;
            }
        };
        let acme = async {
            if let Some((acme, routes)) = self.acme.as_ref().zip(self.routes.as_ref()) {
                Arc::clone(acme).run(Arc::clone(routes)).await;
            }
        };
        tokio::join!(files, acme);
    }

    /// Until when each certificate is good.
    pub fn expiries(&self) -> Vec<Expiry> {
        let files = self.files.as_ref().map(|files| files.current());
        let of_files = files.iter().flat_map(|files| files.all()).cloned();
        let of_acme = self.acme.iter().flat_map(|acme| acme.certificates());
        let expiry = |certificate: Arc<Certificate>| Expiry {
            names: certificate.names().to_vec(),
            not_after: certificate.valid.not_after,
        };
        of_files.chain(of_acme).map(expiry).collect()
    }

    /// What an ACME server asks to see over HTTP.
    pub(crate) fn challenges(&self) -> Option<Challenges> {
        self.acme.as_ref().map(|acme| acme.challenges().clone())
    }

    /// Loads the files of certificates now.
    ///
    /// # Errors
    /// They cannot be used; those of before stay in use.
    pub fn reload(&self) -> Result<(), BuildError> {
        self.files.as_ref().map_or(Ok(()), |files| files.reload())
    }

    pub(crate) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }

    /// One connection, from its first byte to its end. Its place is one among handshakes.
    pub(crate) async fn receive(
        self: Arc<Self>,
        ingress: Arc<HttpIngress>,
        mut socket: TcpStream,
        (peer, address): (SocketAddr, SocketAddr),
        place: OwnedSemaphorePermit,
        mut shutdown: watch::Receiver<bool>,
    ) {
        // The state of a handshake is not to stay for as long as the visitor does.
        let greeting = Box::pin(async {
            let Some((peer, address)) = ingress.announced(&mut socket, peer, address).await else {
                return Ok::<_, io::Error>(None);
            };
            // Before TLS: those who are too many from one address would keep others from their handshakes.
            let Some(coming) = ingress.comes(peer, place) else { return Ok(None) };
            let Coming { place, arrival } = coming;
            let greeted = self.greet(socket, peer, place).await?;
            Ok(Some((greeted, arrival, address)))
        });
        let (greeted, arrival, address) = match until_stopped(greeting, &mut shutdown).await {
            Some(Ok(Some(greeted))) => greeted,
            Some(Ok(None)) => return,
            Some(Err(error)) => return debug!(visitor = %peer, %error, "no TLS with a visitor"),
            None => return,
        };
        let (io, secured) = match greeted {
            Greeted::Visitor(io, secured) => (io, secured),
            Greeted::Passing(passing) => {
                if let Some((visitor, place)) = arrival.into_passing(passing.socket()) {
                    passing.admit((visitor, address), place);
                }
                return;
            }
            Greeted::Gone => return,
        };
        if let Some((visitor, place)) = ingress.admit_arrived(arrival, address) {
            let serving = Arc::clone(ingress.serving());
            drop((self, ingress));
            serving.attend(io, visitor.secured(secured), place, shutdown).await;
        }
    }

    async fn greet(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Greeted> {
        let mut deadline = Instant::now() + self.config.handshake_timeout;
        let hello = timeout_at(deadline, Hello::read(socket)).await??;
        if let Some(carriers) = &self.carriers
            && hello.is_carrier()
        {
            carriers.admit(hello, peer).await;
            return Ok(Greeted::Gone);
        }
        // Challenges of an ACME server too: such a host has a certificate of its own.
        if let Some(passing) = &self.passing
            && let Some(host) = passing.host(&hello)
        {
            return Ok(Greeted::Passing(passing.take(hello, host)));
        }
        let Hello { mut socket, accepted, .. } = hello;
        let said = accepted.client_hello();
        let is_challenge =
            said.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS));
        let asked = said.server_name().map(|name| Box::from(name.trim_end_matches('.')));
        if is_challenge {
            let config = self.acme.as_ref().zip(asked.as_deref());
            let config = config.and_then(|(acme, host)| acme.challenges().config(host));
            let config = config.ok_or_else(|| io::Error::other("there is no such challenge"))?;
            let handshake = StartHandshake::from_parts(accepted, socket).into_stream(config);
            timeout_at(deadline, handshake).await??.shutdown().await?;
            return Ok(Greeted::Gone);
        }
        let mut place = place;
        let shown = match (self.certificate(asked.as_deref()), self.orderable(asked.as_deref())) {
            (Some(shown), _) => Some(shown),
            (None, None) => self.any_certificate(),
            (None, Some((acme, host))) => {
                // Others come in meanwhile.
                drop(place);
                let ordered = acme.obtain(&host).await;
                deadline = Instant::now() + self.config.handshake_timeout;
                let again = timeout_at(deadline, self.places().acquire_owned()).await?;
                place = again.map_err(io::Error::other)?;
                ordered.or_else(|| self.any_certificate())
            }
        };
        let Some(shown) = shown else {
            let _ = socket.write_all(&UNRECOGNIZED_NAME).await;
            let asked = asked.as_deref().unwrap_or("nobody in particular");
            return Err(io::Error::other(format!("there is no certificate for {asked}")));
        };
        let config = Arc::clone(&shown.config);
        let handshake = StartHandshake::from_parts(accepted, socket).into_stream(config);
        let io = timeout_at(deadline, self.turns.through(peer.ip(), handshake)).await??;
        drop(place);
        Ok(Greeted::Visitor(TlsVisitor(Box::new(io)), Secured { asked, shown }))
    }

    /// For a visitor that asks for that host.
    fn certificate(&self, asked: Option<&str>) -> Option<Arc<Certificate>> {
        let Some(asked) = asked.map(str::to_ascii_lowercase) else { return self.any_certificate() };
        let files = self.files.as_ref().map(|files| files.current());
        let of_files = files.and_then(|files| files.find(&asked).cloned());
        of_files.or_else(|| self.acme.as_ref()?.find(&asked))
    }

    /// Who may order one for that host, which takes a while.
    fn orderable(&self, asked: Option<&str>) -> Option<(&Arc<Acme>, String)> {
        let asked = asked?.to_ascii_lowercase();
        let (acme, routes) = self.acme.as_ref().zip(self.routes.as_ref())?;
        routes.has_host(&asked).then_some((acme, asked))
    }

    /// For a visitor that asks for nobody, or for somebody unknown.
    fn any_certificate(&self) -> Option<Arc<Certificate>> {
        self.files.as_ref()?.current().first().cloned()
    }
}

/// The record that says so (RFC 8446, section 6): a fatal alert, number 112.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A step that a visitor who was accepted right before a drain has a moment for. `None`: it is over.
async fn until_stopped<T>(
    mut step: impl Future<Output = T> + Unpin,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<T> {
    tokio::select! {
        biased;
        done = &mut step => return Some(done),
        () = asked_to_stop(shutdown) => {}
    }
    tokio::select! {
        biased;
        done = &mut step => Some(done),
        () = sleep(FIRST_WORDS) => None,
    }
}
