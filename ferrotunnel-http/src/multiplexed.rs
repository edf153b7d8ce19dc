//! HTTP/2 connections to local services that speak it, each shared by many visitors.
//!
//! hyper-util's pooled client cannot serve here: it takes the pool's key from the very authority
//! that the local service sees as `:authority`, and that one must be the visitor's.
//!
//! Each exchange has the places of a visitor with a connection of its own: which protocol the local service speaks is
//! its client's to say, and the limits are not.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ferrotunnel_core::{SharedPlace, Sharing, tasks::Tasks};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::time::sleep;
use tracing::debug;

use crate::{
    body::Body,
    connector::{Broke, Connector, TunnelIo},
    executor::Executor,
    in_flight::InFlight,
    refusal::Refusal,
    visitor::Visitor,
};

/// The connections to the local service of one tunnel by one session. Each leaves the list when it ends.
pub(crate) struct Multiplexed {
    connector: Connector,
    connections: Arc<Mutex<Vec<Shared>>>,
    builder: http2::Builder<Executor>,
    /// How long a connection may rest.
    idle: Duration,
    tasks: Tasks,
}

#[derive(Clone)]
struct Shared {
    sender: SendRequest<Body>,
    in_flight: Arc<AtomicUsize>,
    /// Exchanges that there have been.
    begun: Arc<AtomicUsize>,
    /// Exchanges that the local service allows at once, as far as it has said.
    limit: Arc<AtomicUsize>,
    broke: Broke,
    /// Its stream keeps to a rate.
    is_paced: bool,
}

impl Multiplexed {
    pub(crate) fn new(connector: Connector, idle: Duration, tasks: Tasks) -> Self {
        let mut builder = http2::Builder::new(Executor(tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        Self { connector, connections: Arc::default(), builder, idle: idle.max(LEAST_IDLE), tasks }
    }

    /// The same tunnel with connections of its own.
    pub(crate) fn apart(&self) -> Self {
        Self {
            connector: self.connector.clone(),
            connections: Arc::default(),
            builder: self.builder.clone(),
            idle: self.idle,
            tasks: self.tasks.clone(),
        }
    }

    pub(crate) async fn send(
        &self,
        visitor: &Visitor,
        request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let places = self.connector.enter(visitor.address)?;
        let (mut shared, mut in_flight, mut places) = self.lease_for(visitor, places).await?;
        let counted = |response: Response<Incoming>, in_flight: InFlight| {
            response.map(|body| Body::counted(body, in_flight))
        };
        let mut failed = match shared.sender.try_send_request(request).await {
            Ok(response) => return Ok(counted(response, in_flight.placed(places))),
            Err(failed) => failed,
        };
        // The local service went away (GOAWAY) before this request began; it may begin elsewhere.
        let Some(request) = failed.take_message() else {
            return Err(shared.refusal(&failed.into_error()));
        };
        (shared, in_flight, places) = self.lease_for(visitor, places).await?;
        match shared.sender.send_request(request).await {
            Ok(response) => Ok(counted(response, in_flight.placed(places))),
            Err(error) => Err(shared.refusal(&error)),
        }
    }

    /// A connection for a visitor with those places, which it gives back where there is none.
    async fn lease_for(
        &self,
        visitor: &Visitor,
        places: SharedPlace,
    ) -> Result<(Shared, InFlight, SharedPlace), Refusal> {
        match self.lease(visitor).await {
            Ok((shared, in_flight)) => Ok((shared, in_flight, places)),
            Err(refusal) => {
                places.give_back();
                Err(refusal)
            }
        }
    }

    /// A connection with room for one more exchange; a new one where all are full, so that
    /// visitors who stall fill up a connection but never the tunnel.
    async fn lease(&self, visitor: &Visitor) -> Result<(Shared, InFlight), Refusal> {
        if let Some(leased) = self.lease_open() {
            return Ok(leased);
        }
        let stream = self.connector.open(visitor.address, visitor.ingress, Sharing::Shared)?;
        let broke = Broke::default();
        let is_paced = stream.is_paced();
        let io = TunnelIo::new(stream, broke.clone());
        let (sender, connection) =
            self.builder.handshake(io).await.map_err(|error| Refusal::of(&error))?;
        let limit = Arc::new(AtomicUsize::new(MAX_IN_FLIGHT));
        let (in_flight, begun) = (Arc::default(), Arc::default());
        let shared = Shared { sender, in_flight, begun, limit: limit.clone(), broke, is_paced };
        let in_flight = shared.one_more();

        self.connections.lock().push(shared.clone());
        let connections = Arc::downgrade(&self.connections);
        let (idle, begun) = (self.idle, shared.begun.clone());
        self.tasks.spawn(async move {
            let mut connection = connection;
            let mut ended = poll_fn(|cx| {
                let ended = Pin::new(&mut connection).poll(cx);
                let allowed = connection.current_max_send_streams();
                limit.store(allowed.clamp(1, MAX_IN_FLIGHT), Ordering::Relaxed);
                ended
            });
            let mut begun_before = begun.load(Ordering::Relaxed);
            let ended = loop {
                tokio::select! {
                    ended = &mut ended => break ended,
                    () = sleep(idle) => {}
                }
                let Some(connections) = connections.upgrade() else { continue };
                let mut connections = connections.lock();
                let begun_now = begun.load(Ordering::Relaxed);
                if begun_now == std::mem::replace(&mut begun_before, begun_now) {
                    // Without a sender it ends. Nobody takes it meanwhile: that needs the lock.
                    connections
                        .retain(|shared| !Arc::ptr_eq(&shared.begun, &begun) || shared.is_busy());
                }
            };
            if let Err(error) = ended {
                debug!(%error, "connection to a local service ended");
            }
            drop(connection);
            if let Some(connections) = connections.upgrade() {
                connections.lock().retain(|shared| !shared.sender.is_closed());
            }
        });
        Ok((shared, in_flight))
    }

    fn lease_open(&self) -> Option<(Shared, InFlight)> {
        let mut open = self.connections.lock();
        // The first that has room is taken, so those at the end fall idle after a burst; one of
        // them is let go each time.
        let may_be = |one: &Shared| one.has_room() && self.connector.reuses(one.is_paced);
        let chosen = open.iter().position(may_be)?;
        let in_flight = open[chosen].one_more();
        let shared = open[chosen].clone();
        if open.last().is_some_and(|last| !last.is_busy()) {
            open.pop();
        }
        Some((shared, in_flight))
    }
}

impl Shared {
    fn one_more(&self) -> InFlight {
        self.begun.fetch_add(1, Ordering::Relaxed);
        InFlight::one_more(&self.in_flight)
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    fn has_room(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        !self.sender.is_closed() && self.in_flight.load(Ordering::Relaxed) < limit
    }

    /// h2 does not hand on the error of its connection, so the stream itself is asked.
    fn refusal(&self, error: &hyper::Error) -> Refusal {
        self.broke.get().map_or_else(|| Refusal::of(error), Refusal::from)
    }
}

/// A connection that goes at once is none to share; the timer's own step.
const LEAST_IDLE: Duration = Duration::from_millis(1);

/// Exchanges per connection; what most servers allow, and the least that RFC 9113 recommends.
const MAX_IN_FLIGHT: usize = 100;

/// What a local service may send to one visitor who does not read: 1 MiB is the memory at stake,
/// and 80 Mbit/s at a round trip of 100 ms.
const STREAM_WINDOW: u32 = 1 << 20;

/// More than all exchanges of a connection may have in flight together, so that it never runs
/// out: visitors who stall would take it from the others.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// Bytes of one upload held back for a local service that does not read.
const SEND_BUFFER: usize = 64 << 10;
