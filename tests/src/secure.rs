//! Visitors over TLS, with stock rustls.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::visitor::{Answer, collect};

/// What a visitor over TLS trusts and speaks.
#[derive(Clone, Debug)]
pub struct SecureVisitor {
    config: Arc<ClientConfig>,
}

impl SecureVisitor {
    /// One that trusts the CAs of a file, and offers these protocols.
    pub fn trusting(ca: &Path, alpn: &[&str]) -> Self {
        Self::speaking(ca, alpn, rustls::ALL_VERSIONS)
    }

    /// The same with these versions of TLS.
    pub fn speaking(
        ca: &Path,
        alpn: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|&name| name.into()).collect();
        Self { config: Arc::new(config) }
    }

    /// The same with something particular about it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// The first words of such a connection.
    pub fn hello(&self, host: &str) -> Vec<u8> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut connection = rustls::ClientConnection::new(self.config.clone(), name).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello).unwrap();
        hello
    }

    /// A connection for that name or address.
    ///
    /// # Errors
    /// What the TLS library says.
    pub async fn connect(
        &self,
        server: SocketAddr,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(server).await?, name).await
    }

    /// The same over a socket that is connected already.
    ///
    /// # Errors
    /// What the TLS library says.
    pub async fn connect_over(
        &self,
        socket: TcpStream,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await
    }

    /// The certificate that is shown for that name.
    ///
    /// # Errors
    /// What the TLS library says.
    pub async fn shown(
        &self,
        server: SocketAddr,
        name: &str,
    ) -> std::io::Result<CertificateDer<'static>> {
        let connected = self.connect(server, name).await?;
        Ok(connected.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }

    /// One GET over a connection for `name`, in the version of HTTP that the server chose; the request is for
    /// `host`.
    pub async fn ask(
        &self,
        server: SocketAddr,
        name: &str,
        host: &str,
        path: &str,
    ) -> Response<Incoming> {
        let io = self.connect(server, name).await.unwrap();
        let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(io);
        let request = Request::builder();
        if is_http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            let uri = format!("https://{host}{path}");
            let request = request.uri(uri).version(Version::HTTP_2);
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let request = request.uri(path).header(HOST, host);
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
        }
    }

    /// The same with the whole answer.
    pub async fn get_for(&self, server: SocketAddr, name: &str, host: &str, path: &str) -> Answer {
        collect(Box::pin(self.ask(server, name, host, path)).await).await
    }

    /// One GET of a host at that port.
    pub async fn get(&self, server: SocketAddr, name: &str, path: &str) -> Answer {
        self.get_for(server, name, &format!("{name}:{}", server.port()), path).await
    }
}

/// The first message of a program that has stopped learning at TLS 1.1: a name, and nothing of signatures.
pub fn hello_of_tls_1_1(host: &str) -> Vec<u8> {
    let short = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    let with_len = |bytes: &[u8]| [&short(bytes.len())[..], bytes].concat();
    let name = with_len(&[&[0][..], &with_len(host.as_bytes())].concat());
    // server_name, supported_groups (P-256), ec_point_formats (uncompressed).
    let extensions =
        [&[0, 0][..], &with_len(&name), &[0, 10, 0, 4, 0, 2, 0, 23], &[0, 11, 0, 2, 1, 0]].concat();
    // ECDHE-RSA-AES256-SHA, and no compression.
    let choices = [0, 2, 0xc0, 0x14, 1, 0];
    let body = [&[3, 2][..], &[7; 32], &[0], &choices, &with_len(&extensions)].concat();
    let message = [&[1, 0][..], &with_len(&body)].concat();
    [&[22, 3, 1][..], &with_len(&message)].concat()
}
