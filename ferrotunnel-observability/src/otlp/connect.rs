//! Connections to the receiver: TCP, and TLS by rustls with the one crypto provider of the tree.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ferrotunnel_core::{RootSettings, Roots};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::settings::{OtlpError, OtlpSettings};

/// Dials the receiver.
#[derive(Clone)]
pub(super) struct Connector {
    /// Where the URL wants it.
    tls: Option<TlsConnector>,
}

impl Connector {
    pub(super) fn http2(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        Self::speaking(b"h2", settings)
    }

    fn speaking(protocol: &[u8], settings: &OtlpSettings) -> Result<Self, OtlpError> {
        if !settings.endpoint.starts_with("https:") {
            return Ok(Self { tls: None });
        }
        let roots = match &settings.ca_file {
            Some(file) => Roots::File(file.clone()),
            None => Roots::System,
        };
        let wrong = |error: &dyn std::fmt::Display| OtlpError::Setting(error.to_string());
        let roots = roots.load(ROOT_SETTINGS).map_err(|error| wrong(&error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { tls: Some(Arc::new(config).into()) })
    }

    /// For gRPC; it dials when there is something to send.
    pub(super) fn channel(self, settings: &OtlpSettings) -> Result<Channel, OtlpError> {
        let endpoint = Endpoint::from_shared(settings.endpoint.clone())
            .map_err(|error| OtlpError::Exporter(error.to_string()))?;
        let endpoint = endpoint.timeout(settings.timeout).connect_timeout(CONNECT_WITHIN);
        Ok(endpoint.connect_with_connector_lazy(self))
    }

    async fn connect(self, uri: Uri) -> io::Result<Pipe> {
        let host = uri.host().ok_or(io::ErrorKind::InvalidInput)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let socket = TcpStream::connect((bare.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        let pipe: Box<dyn Io> = match self.tls.filter(|_| is_https) {
            None => Box::new(socket),
            Some(tls) => {
                let name = ServerName::try_from(bare).map_err(io::Error::other)?;
                Box::new(tls.connect(name, socket).await?)
            }
        };
        Ok(Pipe(TokioIo::new(pipe)))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Pipe;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Pipe>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async {
            let connected = timeout(CONNECT_WITHIN, connecting).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection, as hyper wants it.
pub(super) struct Pipe(TokioIo<Box<dyn Io>>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Sends batches over HTTP/1.1.
#[derive(Debug)]
pub(super) struct HttpSender {
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl HttpSender {
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        let connector = Connector::speaking(b"http/1.1", settings)?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, timeout: settings.timeout })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response =
            self.client.request(request.map(Full::new)).await.map_err(|error| reason(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

#[async_trait]
impl HttpClient for HttpSender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = timeout(self.timeout, self.send(request)).await;
        sent.unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

/// The innermost one: "client error (Connect)" alone helps nobody.
fn reason(error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut text = error.to_string();
    let mut source = StdError::source(error);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text.into()
}

const ROOT_SETTINGS: RootSettings = RootSettings {
    file: "OTEL_EXPORTER_OTLP_CERTIFICATE",
    system: "an https:// URL in OTEL_EXPORTER_OTLP_ENDPOINT",
};

/// For a connection, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// An answer says how many spans were refused, and why.
const MOST_ANSWER: usize = 1 << 20;
