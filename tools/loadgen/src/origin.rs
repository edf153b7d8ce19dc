//! The local service behind the tunnel. It does as little as possible, and counts it, so that
//! what the other end reports can be checked.

mod bulk;
mod echo;
mod http;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bulk::Direction;
use crate::failure::Failure;
use crate::own_thread::OwnThread;

/// What an origin does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Sends back what it gets.
    Echo,
    /// The other end of bulk transfers of that direction; ends with its visitor's end.
    Bulk(Direction),
    /// Answers every HTTP request, over HTTP/1.1 or HTTP/2.
    Http {
        /// Bytes of an answer's body.
        size: usize,
        /// How long an answer takes.
        delay: Duration,
    },
}

/// A service on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    counters: Arc<Counters>,
    _thread: OwnThread,
}

/// What an origin has seen.
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// HTTP requests that arrived.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bulk transfers and echoes that arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes of bulk transfers and echoes that the socket took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Origin {
    /// Serves on that address; with port 0 the system picks one. Not to be called from a runtime.
    ///
    /// # Errors
    /// The address cannot be used, or there is no thread to be had.
    pub fn start(service: Service, listen: SocketAddr) -> Result<Self, Failure> {
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let (thread, addr) = OwnThread::start("origin", async move || {
            let failed = |error| Failure::Listen(listen, error);
            let listener = TcpListener::bind(listen).await.map_err(failed)?;
            let addr = listener.local_addr().map_err(failed)?;
            let mut tasks = JoinSet::new();
            tasks.spawn(accept(listener, service, counted));
            Ok((addr, tasks))
        })?;
        Ok(Self { addr, counters, _thread: thread })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has seen so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

async fn accept(listener: TcpListener, service: Service, counters: Arc<Counters>) {
    let body = match service {
        Service::Http { size, .. } => Bytes::from(vec![b'x'; size]),
        Service::Echo | Service::Bulk(_) => Bytes::new(),
    };
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // No descriptor is left, most likely: one comes free when a connection ends.
            tokio::time::sleep(NEXT_TRY).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        counters.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(socket, service, body.clone(), Arc::clone(&counters)));
    }
}

async fn serve(socket: TcpStream, service: Service, body: Bytes, counters: Arc<Counters>) {
    // A connection that breaks is counted by the end that makes the load.
    let _ = socket.set_nodelay(true);
    match service {
        Service::Echo => echo::serve(socket, &counters).await,
        Service::Bulk(direction) => bulk::serve(socket, direction, &counters).await,
        Service::Http { delay, .. } => http::serve(socket, body, delay, counters).await,
    }
}

/// Soon enough for whoever waits, rare enough to cost nothing.
const NEXT_TRY: Duration = Duration::from_millis(10);
