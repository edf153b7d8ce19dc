//! The admin interface: is the server well, what does it have, what has it counted. It answers questions and changes nothing.
//!
//! Whoever may ask is decided by `guard`; the port is none that visitors come to, so no path of a tunnel is taken.

mod answers;
mod guard;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use ferrotunnel_core::accept::accept_into_places;
use ferrotunnel_core::tasks::Tasks;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::guard::{AdminError, AdminToken, check_bind};

use crate::metrics::ServerMetrics;
use crate::process::ProcessMetrics;

/// A running admin interface; it ends when dropped.
pub struct Admin {
    addr: SocketAddr,
    room: Arc<Room>,
    _tasks: Tasks,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Its listeners are not all there yet.
    Starting,
    /// It takes clients and visitors.
    Ready,
    /// It finishes what is open, and takes nothing new.
    Draining,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// What answers are made of.
struct Room {
    metrics: ServerMetrics,
    registry: Registry,
    phase: RwLock<Phase>,
    token: Option<AdminToken>,
    bound: SocketAddr,
    started: Instant,
}

impl Admin {
    /// Answers on that listener from now on, in the phase [`Starting`](Phase::Starting). With a token only who shows it is
    /// answered.
    ///
    /// # Errors
    /// The listener is reached from elsewhere, and there is no token; or its address is not to be found out.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(
        listener: TcpListener,
        token: Option<AdminToken>,
        metrics: ServerMetrics,
    ) -> Result<Self, AdminError> {
        let addr = listener.local_addr().map_err(AdminError::Listener)?;
        check_bind(addr, token.as_ref())?;
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        ProcessMetrics::default().register(&mut registry);
        let room = Arc::new(Room {
            metrics,
            registry,
            phase: RwLock::new(Phase::Starting),
            token,
            bound: addr,
            started: Instant::now(),
        });
        let router = router(&room);
        let tasks = Tasks::default();
        let connections = Tasks::default();
        let on_connection = move |io: TcpStream, peer: SocketAddr, place| {
            let service = TowerToHyperService::new(router.clone());
            connections.spawn(async move {
                let _place = place;
                let serving = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .max_buf_size(MAX_BUFFERED)
                    .serve_connection(TokioIo::new(io), service);
                if let Err(error) = serving.await {
                    tracing::debug!(%peer, %error, "a connection of the admin interface broke");
                }
            });
        };
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        tasks.spawn(accept_into_places(listener, places, on_connection, || {
            tracing::debug!("the admin interface has all the connections that it may have");
        }));
        Ok(Self { addr, room, _tasks: tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The server has come to another phase.
    pub fn set_phase(&self, phase: Phase) {
        *self.room.phase.write() = phase;
    }
}

fn router(room: &Arc<Room>) -> Router {
    let guarding = {
        let room = Arc::clone(room);
        axum::middleware::from_fn(move |request, next| {
            guard::guard(Arc::clone(&room), request, next)
        })
    };
    Router::new()
        .route("/healthz", get(answers::health))
        .route("/readyz", get(answers::ready))
        .route("/metrics", get(answers::metrics))
        .route("/api/v1/status", get(answers::status))
        .route("/api/v1/sessions", get(answers::sessions))
        .route("/api/v1/tunnels", get(answers::tunnels))
        .layer(guarding)
        .with_state(Arc::clone(room))
}

/// For the head of a request, and between two; scrapers come back every 15 s or so on a new connection if need be.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longer heads than this nobody needs here.
const MAX_BUFFERED: usize = 16 << 10;

/// A few people and programs at once, and not enough to harm the server.
const MOST_CONNECTIONS: usize = 64;
