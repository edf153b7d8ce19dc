//! A stream's way to the local service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ferrotunnel_common::{TraceContext, TunnelKind};
use ferrotunnel_protocol::frame::{Open, ResetCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::TunnelSpec;
use super::counts::{Book, LocalFailure, OfTunnel};
use super::health::Pipe;
use super::https;
use super::state::asked_for;
use super::target::Target;
use crate::bulk::Bulk;
use crate::clock;
use crate::counters::{Counted, Tally};
use crate::dial;
use crate::hooks::{Dialled, StreamHooks};
use crate::moving::{Movable, splice_movable};
use crate::socket;
use crate::splice::{End, Outcome, SocketEnd, SpliceError, splice_paced};
use crate::stream::Stream;
use crate::tls::LocalTls;

/// Dials the local service and copies until both ends have finished. A refusal becomes
/// `Reset(LocalUnreachable)`.
pub(super) async fn forward(mut stream: Stream, spec: Arc<TunnelSpec>, visit: Visit, bulk: Bulk) {
    let id = stream.id();
    if let Some(why) = visit.came_again() {
        return stream.reset(ResetCode::LocalUnreachable, &why.to_string());
    }
    if let Some(tap) = stream.tap() {
        tap.dialling();
    }
    let reached = reach(&spec, &visit.visitor).await;
    if let Some(tap) = stream.tap() {
        match &reached {
            Ok(_) => tap.dialled(Ok(())),
            Err(error) => {
                tap.dialled(Err(&error.to_string()));
                hear(&mut stream).await;
            }
        }
    }
    // Who looks at what passes has to see all of it.
    let may_move = spec.kind != TunnelKind::Http && stream.tap().is_none();
    let movable = if may_move { Movable::new } else { Movable::fixed };
    let broke = |copied| {
        if let Err(error) = copied {
            tracing::debug!(stream = %id, %error, "connection broke");
        }
    };
    match reached {
        Ok(Local::Https(socket, tls)) => {
            // Its state is larger than that of other splices.
            let counted = stream.take_counted();
            let forwarding = https::forward(movable(stream), socket, &tls, counted);
            if let Err((movable, error)) = Box::pin(forwarding).await {
                tracing::warn!(stream = %id, tunnel = %name(&spec), local = %spec.target, %error, "no TLS with the local service");
                visit.missed_tls(&error);
                if let Some(stream) = movable.into_stream() {
                    stream.reset(ResetCode::LocalUnreachable, &error.kind().to_string());
                }
            }
        }
        Ok(Local::Tcp(local)) => {
            socket::tune(&local);
            broke(splice_movable(stream, movable, SocketEnd::guarded(local), &bulk).await);
        }
        #[cfg(unix)]
        Ok(Local::Unix(local)) => {
            broke(splice_movable(stream, movable, SocketEnd::guarded(local), &bulk).await);
        }
        #[cfg(test)]
        Ok(Local::Simulated(local)) => {
            broke(splice_movable(stream, movable, SocketEnd::guarded(local), &bulk).await);
        }
        Err(error) => {
            tracing::warn!(stream = %id, tunnel = %name(&spec), local = %spec.target, %error, "cannot reach the local service");
            visit.missed(&error);
            stream.reset(ResetCode::LocalUnreachable, &error.kind().to_string());
        }
    }
}

/// The same for a visitor with a carrier of its own. A refusal aborts the carrier, and becomes `Reset(LocalUnreachable)` when
/// the server brings the visitor again.
pub(super) async fn forward_direct(
    mut carrier: impl End + 'static,
    spec: Arc<TunnelSpec>,
    visit: Visit,
    tally: Tally,
    bulk: Bulk,
) {
    let counted = Some(tally.begin());
    match reach(&spec, &visit.visitor).await {
        Ok(Local::Https(socket, tls)) => {
            let forwarding = https::forward(carrier, socket, &tls, counted);
            if let Err((mut carrier, error)) = Box::pin(forwarding).await {
                tracing::warn!(tunnel = %name(&spec), local = %spec.target, %error, "no TLS with the local service");
                visit.missed_tls(&error);
                visit.will_come_again(&error);
                carrier.abort();
            }
        }
        Ok(local) => {
            if let Err(error) = splice_with(carrier, local, counted, &bulk).await {
                tracing::debug!(%error, "direct connection broke");
            }
        }
        Err(error) => {
            tracing::warn!(tunnel = %name(&spec), local = %spec.target, %error, "cannot reach the local service");
            visit.missed(&error);
            visit.will_come_again(&error);
            carrier.abort();
        }
    }
}

/// Which of a client's tunnels the log speaks of.
fn name(spec: &TunnelSpec) -> String {
    asked_for((spec.kind, &spec.name, spec.port), &spec.options)
}

/// Lets who looks at a stream see what was asked for that cannot be answered.
async fn hear(stream: &mut Stream) {
    let _ = tokio::time::timeout(HEARD_WITHIN, stream.read_chunk()).await;
}

/// Who comes, and where to.
pub(super) struct Visitor {
    visitor: Option<SocketAddr>,
    ingress: Option<SocketAddr>,
    /// In the course of what, and who wants to know of it.
    traced: Option<(TraceContext, Arc<dyn StreamHooks>)>,
}

impl Visitor {
    /// Nobody: the client asks by itself.
    pub(super) fn of_ours() -> Self {
        Self { visitor: None, ingress: None, traced: None }
    }

    /// As the server says, and who sees streams here.
    pub(super) fn of(open: &Open, hooks: Option<&Arc<dyn StreamHooks>>) -> Self {
        let traced = open.trace.zip(hooks.cloned());
        Self { visitor: open.visitor, ingress: open.ingress, traced }
    }

    /// Dials, and tells who wants to know of it.
    async fn dial(&self, target: &Target) -> io::Result<Local> {
        let Some((trace, hooks)) = &self.traced else { return dial(target).await };
        let (at, began) = (SystemTime::now(), clock::now());
        let dialled = dial(target).await;
        let error = dialled.as_ref().err().map(io::Error::kind);
        let took = clock::now() - began;
        hooks.dialled(&Dialled { trace: *trace, target, at, took, error });
        dialled
    }
}

/// A visitor of a tunnel, and who counts it.
pub(super) struct Visit {
    visitor: Visitor,
    of: Arc<OfTunnel>,
    book: Arc<Book>,
}

impl Visit {
    pub(super) fn new(visitor: Visitor, of: Arc<OfTunnel>, book: &Arc<Book>) -> Self {
        Self { visitor, of, book: Arc::clone(book) }
    }

    /// There is no connection to the local service.
    fn missed(&self, error: &io::Error) {
        self.book.missed(&self.of, LocalFailure::of(error), error);
    }

    /// It had a carrier to itself, which has no word for that.
    fn will_come_again(&self, error: &io::Error) {
        if let Some(visitor) = self.visitor.visitor {
            self.of.missed_directly().will_come_again(visitor, error.kind(), clock::now());
        }
    }

    /// Why it did not get through a moment ago, when it had a carrier to itself.
    fn came_again(&self) -> Option<io::ErrorKind> {
        self.of.missed_directly().came_again(self.visitor.visitor?, clock::now())
    }

    /// There is one, but no TLS over it.
    fn missed_tls(&self, error: &io::Error) {
        self.book.missed(&self.of, LocalFailure::Tls, error);
    }
}

/// A connection to the local service, which has been told who comes if it wants to know.
pub(super) async fn reach(spec: &TunnelSpec, visitor: &Visitor) -> io::Result<Local> {
    let mut local = visitor.dial(&spec.target).await?;
    if let Some(version) = spec.proxy_protocol {
        let header = version.header(visitor.visitor, visitor.ingress)?;
        match &mut local {
            Local::Tcp(local) => local.write_all(&header).await?,
            #[cfg(unix)]
            Local::Unix(local) => local.write_all(&header).await?,
            // Before TLS begins, as proxies do it.
            Local::Https(local, _) => local.write_all(&header).await?,
            #[cfg(test)]
            Local::Simulated(local) => local.write_all(&header).await?,
        }
    }
    Ok(local)
}

/// Dials the local service.
async fn dial(target: &Target) -> io::Result<Local> {
    match target {
        Target::Https(https) => {
            let socket = dial_tcp(&https.at).await?;
            Ok(Local::Https(socket, https.tls.clone()))
        }
        #[cfg(unix)]
        Target::Unix(path) => timed(tokio::net::UnixStream::connect(path)).await.map(Local::Unix),
        #[cfg(test)]
        Target::Simulated(service) => service.connect().map(Local::Simulated),
        target => dial_tcp(target).await.map(Local::Tcp),
    }
}

async fn dial_tcp(target: &Target) -> io::Result<TcpStream> {
    match target {
        Target::Addrs(addrs) => {
            let addrs = addrs.iter().copied();
            dial::connect(addrs, CONNECT_TIMEOUT).await
        }
        Target::Name(name) => timed(dial::dial(name, CONNECT_TIMEOUT)).await,
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn splice_with(
    pipe: impl End + 'static,
    local: Local,
    counted: Option<Counted>,
    bulk: &Bulk,
) -> Result<Outcome, SpliceError> {
    let unpaced = [None, None];
    match local {
        Local::Tcp(local) => {
            socket::tune(&local);
            splice_paced(pipe, SocketEnd::guarded(local), unpaced, counted).run(bulk).await
        }
        #[cfg(unix)]
        Local::Unix(local) => {
            splice_paced(pipe, SocketEnd::guarded(local), unpaced, counted).run(bulk).await
        }
        #[cfg(test)]
        Local::Simulated(local) => {
            splice_paced(pipe, SocketEnd::guarded(local), unpaced, counted).run(bulk).await
        }
        Local::Https(..) => Ok(Outcome::default()),
    }
}

/// A connection to the local service.
pub(super) enum Local {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
    Https(TcpStream, LocalTls),
    #[cfg(test)]
    Simulated(crate::simulation::Wire),
}

impl Local {
    /// As somebody talks to it who knows nothing of how it is reached.
    pub(super) async fn into_pipe(self, is_http2: bool) -> io::Result<Box<dyn Pipe>> {
        Ok(match self {
            Self::Tcp(local) => Box::new(local),
            #[cfg(unix)]
            Self::Unix(local) => Box::new(local),
            Self::Https(socket, tls) => Box::new(https::connect(socket, &tls, is_http2).await?),
            #[cfg(test)]
            Self::Simulated(local) => Box::new(local),
        })
    }
}

async fn timed<T>(dialling: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(CONNECT_TIMEOUT, dialling).await {
        Ok(dialled) => dialled,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A request comes right behind the `Open` of its stream.
const HEARD_WITHIN: Duration = Duration::from_millis(100);

/// A local service is near: what has not answered by then will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
