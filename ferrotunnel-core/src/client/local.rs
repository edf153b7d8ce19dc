//! A stream's way to the local service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_protocol::frame::{Open, ResetCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::TunnelSpec;
use super::target::Target;
use crate::dial;
use crate::socket;
use crate::splice::{End, Outcome, SocketEnd, SpliceError, splice};
use crate::stream::Stream;

/// Dials the local service and copies until both ends have finished. A refusal becomes
/// `Reset(LocalUnreachable)`.
pub(super) async fn forward(stream: Stream, spec: Arc<TunnelSpec>, visit: Visit) {
    let id = stream.id();
    match reach(&spec, &visit).await {
        Ok(local) => {
            if let Err(error) = splice_with(stream, local).await {
                tracing::debug!(stream = %id, %error, "connection broke");
            }
        }
        Err(error) => {
            tracing::warn!(stream = %id, %error, "cannot reach the local service");
            stream.reset(ResetCode::LocalUnreachable, &error.kind().to_string());
        }
    }
}

/// The same for a visitor with a carrier of its own. A refusal aborts the carrier.
pub(super) async fn forward_direct(mut carrier: impl End, spec: Arc<TunnelSpec>, visit: Visit) {
    match reach(&spec, &visit).await {
        Ok(local) => {
            if let Err(error) = splice_with(carrier, local).await {
                tracing::debug!(%error, "direct connection broke");
            }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot reach the local service");
            carrier.abort();
        }
    }
}

/// Who comes, and where to.
pub(super) struct Visit {
    visitor: Option<SocketAddr>,
    ingress: Option<SocketAddr>,
}

impl From<&Open> for Visit {
    fn from(open: &Open) -> Self {
        Self { visitor: open.visitor, ingress: open.ingress }
    }
}

/// A connection to the local service, which has been told who comes if it wants to know.
async fn reach(spec: &TunnelSpec, visit: &Visit) -> io::Result<Local> {
    let mut local = dial(spec).await?;
    if let Some(version) = spec.proxy_protocol {
        let header = version.header(visit.visitor, visit.ingress)?;
        match &mut local {
            Local::Tcp(local) => local.write_all(&header).await?,
            #[cfg(unix)]
            Local::Unix(local) => local.write_all(&header).await?,
        }
    }
    Ok(local)
}

async fn dial(spec: &TunnelSpec) -> io::Result<Local> {
    match &spec.target {
        Target::Addrs(addrs) => {
            let addrs = addrs.iter().copied();
            dial::connect(addrs, CONNECT_TIMEOUT).await.map(Local::Tcp)
        }
        Target::Name(name) => timed(dial::dial(name, CONNECT_TIMEOUT)).await.map(Local::Tcp),
        #[cfg(unix)]
        Target::Unix(path) => timed(tokio::net::UnixStream::connect(path)).await.map(Local::Unix),
        Target::InProcess(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn splice_with(pipe: impl End, local: Local) -> Result<Outcome, SpliceError> {
    match local {
        Local::Tcp(local) => {
            socket::tune(&local);
            splice(pipe, SocketEnd::new(local), None).await
        }
        #[cfg(unix)]
        Local::Unix(local) => splice(pipe, SocketEnd::new(local), None).await,
    }
}

enum Local {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

async fn timed<T>(dialling: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(CONNECT_TIMEOUT, dialling).await {
        Ok(dialled) => dialled,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A local service is near: what has not answered by then will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
