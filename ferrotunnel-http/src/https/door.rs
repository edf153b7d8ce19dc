//! Where visitors over TLS come in: the handshake, in a task of its own and under a deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ferrotunnel_core::{BuildError, CarrierDoor, FromFiles, Hello};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::StartHandshake;
use tracing::debug;

use super::certificate::Certificate;
use super::config::HttpsConfig;
use super::shown::Manner;
use super::store::Store;
use super::{TlsVisitor, files};
use crate::connection::{FIRST_WORDS, asked_to_stop};
use crate::ingress::HttpIngress;
use crate::visitor::Secured;

/// The TLS of an [`HttpIngress`].
#[derive(Debug)]
pub struct Https {
    files: Option<Arc<FromFiles<Store>>>,
    /// Where clients go that dial their carriers here.
    carriers: Option<CarrierDoor>,
    config: HttpsConfig,
    places: Arc<Semaphore>,
}

/// What came of the first words of a connection.
enum Greeted {
    /// Nothing more is to be done.
    Gone,
    Visitor(Box<TlsVisitor>, Secured),
}

impl Https {
    /// Loads the certificates.
    ///
    /// # Errors
    /// There is none, or one cannot be used; the error names it.
    pub fn new(config: HttpsConfig) -> Result<Self, BuildError> {
        let manner = Manner::new(config.oldest_tls)?;
        let files = files::load(&config, &manner)?;
        let places = Arc::new(Semaphore::new(config.max_handshakes));
        Ok(Self { files, carriers: None, config, places })
    }

    /// The same for a port at which clients dial carriers too. They are told from visitors by the protocol
    /// that they offer (ALPN).
    #[must_use]
    pub fn with_carriers(mut self, carriers: CarrierDoor) -> Self {
        self.carriers = Some(carriers);
        self
    }

    /// Looks after the certificates for as long as it is polled.
    pub async fn watch(self: Arc<Self>) {
        if let Some(files) = &self.files {
            Arc::clone(files).watch().await;
        }
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
        socket: TcpStream,
        (peer, address): (SocketAddr, SocketAddr),
        place: OwnedSemaphorePermit,
        mut shutdown: watch::Receiver<bool>,
    ) {
        // The state of a handshake is not to stay for as long as the visitor does.
        let greeting = Box::pin(self.greet(socket, peer));
        let greeted = match until_stopped(greeting, &mut shutdown).await {
            Some(Ok(greeted)) => greeted,
            Some(Err(error)) => return debug!(visitor = %peer, %error, "no TLS with a visitor"),
            None => return,
        };
        drop(place);
        let Greeted::Visitor(io, secured) = greeted else { return };
        if let Some((visitor, place)) = ingress.admit(peer, address) {
            let serving = Arc::clone(ingress.serving());
            drop((self, ingress));
            serving.attend(*io, visitor.secured(secured), place, shutdown).await;
        }
    }

    async fn greet(&self, socket: TcpStream, peer: SocketAddr) -> io::Result<Greeted> {
        let deadline = Instant::now() + self.config.handshake_timeout;
        let hello = timeout_at(deadline, Hello::read(socket)).await??;
        if let Some(carriers) = &self.carriers
            && hello.is_carrier()
        {
            carriers.admit(hello, peer).await;
            return Ok(Greeted::Gone);
        }
        let Hello { mut socket, accepted, .. } = hello;
        let said = accepted.client_hello();
        let asked = said.server_name().map(|name| Box::from(name.trim_end_matches('.')));
        let Some(shown) = self.certificate(asked.as_deref()) else {
            let _ = socket.write_all(&UNRECOGNIZED_NAME).await;
            let asked = asked.as_deref().unwrap_or("nobody in particular");
            return Err(io::Error::other(format!("there is no certificate for {asked}")));
        };
        let config = Arc::clone(&shown.config);
        let handshake = StartHandshake::from_parts(accepted, socket).into_stream(config);
        let io = timeout_at(deadline, handshake).await??;
        Ok(Greeted::Visitor(Box::new(TlsVisitor(io)), Secured { asked, shown }))
    }

    /// For a visitor that asks for that host.
    fn certificate(&self, asked: Option<&str>) -> Option<Arc<Certificate>> {
        let files = self.files.as_ref().map(|files| files.current());
        let found = asked
            .zip(files.as_ref())
            .and_then(|(asked, files)| files.find(asked.to_ascii_lowercase().as_str()).cloned());
        found.or_else(|| files?.first().cloned())
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
