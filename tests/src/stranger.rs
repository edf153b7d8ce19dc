//! Peers on the tunnel port that have not proven anything.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::bed::Carrier;

/// A connection to the tunnel port, past TLS where there is TLS, and before the protocol's own handshake.
pub struct Stranger {
    io: Pin<Box<dyn Io>>,
    binding: Vec<u8>,
}

/// What a client of TLS keeps between its connections: the tickets that they brought.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<ClientConfig>);

impl Default for Tickets {
    fn default() -> Self {
        Self(trusting())
    }
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stranger")
    }
}

impl Stranger {
    /// Connects, and shakes hands as far as TLS goes.
    pub async fn connect(server: SocketAddr, carrier: Carrier) -> Self {
        Self::connect_again(server, carrier, &Tickets::default()).await
    }

    /// The same as somebody who may have been there before.
    pub async fn connect_again(server: SocketAddr, carrier: Carrier, tickets: &Tickets) -> Self {
        let socket = TcpStream::connect(server).await.unwrap();
        socket.set_nodelay(true).unwrap();
        match carrier {
            Carrier::Plaintext => Self { io: Box::pin(socket), binding: Vec::new() },
            Carrier::Tls => {
                let name = ServerName::try_from("ferrotunnel").unwrap();
                let tls =
                    TlsConnector::from(Arc::clone(&tickets.0)).connect(name, socket).await.unwrap();
                let (_, connection) = tls.get_ref();
                let binding = vec![0; 32];
                let label = b"EXPORTER-Channel-Binding";
                let binding = connection.export_keying_material(binding, label, None).unwrap();
                Self { io: Box::pin(tls), binding }
            }
        }
    }

    /// What a proof has to cover, so that it holds on this connection only: nothing where there is
    /// no TLS.
    pub fn binding(&self) -> &[u8] {
        &self.binding
    }

    /// Sends bytes; whether they arrive is another matter.
    pub async fn say(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
        let _ = self.io.flush().await;
    }

    /// The next bytes, exactly as many.
    pub async fn hear(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.io.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// What comes, and what goes.
    pub fn split(self) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
        tokio::io::split(self.io)
    }

    /// Reads until the server has closed, in whatever way, and returns what it said.
    pub async fn hear_out(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.io.read_to_end(&mut bytes).await;
        bytes
    }
}

/// What a client of TLS says first, as anybody may say it again.
pub fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("ferrotunnel").unwrap();
    let mut client = ClientConnection::new(trusting(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// TLS 1.3 as a client that takes any certificate.
fn trusting() -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAll(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"ferrotunnel/1".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
struct TakesAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
