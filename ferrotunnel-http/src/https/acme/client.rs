//! HTTP toward the ACME server: over one connection at a time, which is used again while it lasts.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel_core::{BuildError, RootSettings, Roots};
use http::{HeaderValue, Request, Response, Uri, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::AcmeConfig;

/// A cheap handle.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    tls: TlsConnector,
    kept: Mutex<Option<Kept>>,
}

/// A connection that may still be of use.
struct Kept {
    authority: String,
    sender: SendRequest<BodyWrapper<Bytes>>,
}

type Failure = Box<dyn StdError + Send + Sync>;

impl Client {
    pub(super) fn new(config: &AcmeConfig) -> Result<Self, BuildError> {
        let roots = match &config.server_ca {
            Some(file) => Roots::File(file.clone()),
            None => Roots::System,
        };
        let roots = roots.load(ROOT_SETTINGS)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(super::super::shown::tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(Inner { tls: Arc::new(tls).into(), kept: Mutex::new(None) })))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let answered = timeout(ANSWER_WITHIN, inner.send(request)).await;
            let answered =
                answered.unwrap_or_else(|_| Err("the ACME server does not answer".into()));
            answered.map(BytesResponse::from).map_err(instant_acme::Error::Other)
        })
    }
}

impl Inner {
    async fn send(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, Failure> {
        let (authority, host, port) = origin(request.uri())?;
        let target = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        request.headers_mut().insert(HOST, HeaderValue::try_from(authority.as_str())?);
        *request.uri_mut() = Uri::try_from(target)?;
        let mut kept = self.kept.lock().await;
        let mut usable = None;
        if let Some(mut one) = kept.take().filter(|one| one.authority == authority)
            && one.sender.ready().await.is_ok()
        {
            usable = Some(one.sender);
        }
        let mut sender = match usable {
            Some(sender) => sender,
            None => self.connect(host, port).await?,
        };
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?.to_bytes();
        *kept = Some(Kept { authority, sender });
        Ok(Response::from_parts(head, Full::new(body)))
    }

    async fn connect(
        &self,
        host: String,
        port: u16,
    ) -> Result<SendRequest<BodyWrapper<Bytes>>, Failure> {
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let socket = TcpStream::connect((bare.as_str(), port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(bare)?;
        let io = self.tls.connect(name, socket).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Host and port as they are written, the host and the port.
fn origin(uri: &Uri) -> Result<(String, String, u16), io::Error> {
    match (uri.scheme_str(), uri.authority()) {
        (Some("https"), Some(authority)) => {
            let port = authority.port_u16().unwrap_or(443);
            Ok((authority.to_string(), authority.host().to_owned(), port))
        }
        _ => Err(io::Error::other("the ACME server has no https:// URL")),
    }
}

const ROOT_SETTINGS: RootSettings =
    RootSettings { file: "acme_server_ca_file, --acme-server-ca", system: "acme, --acme-dir" };

/// For one request, connection included.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A chain of certificates has some KiB.
const MOST_ANSWER: usize = 1 << 20;
