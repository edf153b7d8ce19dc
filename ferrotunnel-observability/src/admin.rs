//! The admin interface: is the process well, what does it have, what has it counted; and a few things that can be done to it.
//! The same for both sides: what a side has it says as a [`House`].
//!
//! Whoever may ask is decided by `guard`; the port is none that visitors come to, so no path of a tunnel is taken.

mod actions;
mod answers;
mod client;
mod connection;
pub(crate) mod durations;
mod events;
mod files;
mod guard;
mod house;
mod inspector;
mod login;
mod openapi;
mod overview;
mod problem;
mod server;
pub(crate) mod shapes;
mod traffic;
mod wishes;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use ferrotunnel_core::accept::accept_into_places;
use ferrotunnel_core::tasks::Tasks;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::client::WatchedClient;
pub use self::guard::{AdminError, AdminToken, check_bind};
pub use self::overview::Overview;
pub use self::wishes::{AdminWish, AdminWishes, Reply};

use self::events::Events;
use self::house::House;
use self::inspector::Requested;
use self::login::Logins;
use self::shapes::Side;
use self::traffic::History;
use self::wishes::Wishing;
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

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Its listeners, or its tunnels, are not all there yet.
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
    overview: Arc<Overview>,
    registry: Registry,
    token: Option<AdminToken>,
    logins: Logins,
    wishing: Wishing,
    history: History,
    events: Events,
    requests: Requested,
    bound: SocketAddr,
}

impl Room {
    fn house(&self) -> &dyn House {
        self.overview.house.as_ref()
    }
}

impl Admin {
    /// Answers on that listener from now on. With a token only who shows it is answered.
    ///
    /// # Errors
    /// The listener is reached from elsewhere, and there is no token; or its address is not to be found out.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(
        listener: TcpListener,
        token: Option<AdminToken>,
        overview: Arc<Overview>,
    ) -> Result<Self, AdminError> {
        let addr = listener.local_addr().map_err(AdminError::Listener)?;
        check_bind(addr, token.as_ref())?;
        let mut registry = Registry::default();
        overview.house.register(&mut registry);
        ProcessMetrics::default().register(&mut registry);
        let room = Arc::new(Room {
            overview,
            registry,
            token,
            logins: Logins::at(addr.port()),
            wishing: Wishing::default(),
            history: History::default(),
            events: Events::default(),
            requests: Requested::default(),
            bound: addr,
        });
        let router = router(&room);
        let tasks = Tasks::default();
        let connections = Tasks::default();
        let on_connection = move |io: TcpStream, peer: SocketAddr, place| {
            let router = router.clone();
            connections.spawn(async move {
                let _place = place;
                connection::serve(io, peer, router).await;
            });
        };
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        tasks.spawn(accept_into_places(listener, places, on_connection, || {
            tracing::debug!("the admin interface has all the connections that it may have");
        }));
        tasks.spawn(Arc::clone(&room).watch());
        if room.overview.inspector.is_some() {
            tasks.spawn(Arc::clone(&room).watch_requests());
        }
        Ok(Self { addr, room, _tasks: tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What is asked for that only the program can do. It is there once; without anybody who has it such wishes are refused.
    pub fn wishes(&self) -> Option<AdminWishes> {
        self.room.wishing.granted()
    }
}

fn router(room: &Arc<Room>) -> Router {
    let guarding = {
        let room = Arc::clone(room);
        axum::middleware::from_fn(move |request, next| {
            guard::guard(Arc::clone(&room), request, next)
        })
    };
    let mut routes = Router::new()
        .route("/healthz", get(answers::health))
        .route("/readyz", get(answers::ready))
        .route("/metrics", get(answers::metrics))
        .route("/api/v1/openapi.json", get(openapi::description))
        .route("/api/v1/status", get(answers::status))
        .route("/api/v1/sessions", get(answers::sessions))
        .route("/api/v1/tunnels", get(answers::tunnels))
        .route("/api/v1/streams", get(answers::streams))
        .route("/api/v1/traffic", get(answers::traffic))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/drain", post(actions::drain))
        .route("/api/v1/reload", post(actions::reload))
        .route("/api/v1/sessions/{id}/close", post(actions::close_session))
        .route("/api/v1/tunnels/{id}/pause", post(actions::pause))
        .route("/api/v1/tunnels/{id}/resume", post(actions::resume))
        .route("/api/v1/login", post(login::login))
        .route("/api/v1/logout", post(login::logout));
    if room.house().side() == Side::Server {
        routes = routes
            .route("/api/v1/principals", get(answers::principals))
            .route("/api/v1/principals/{name}/revoke", post(actions::revoke))
            .route("/api/v1/limits", get(answers::limits));
    }
    if room.overview.inspector.is_some() {
        routes = routes.merge(inspector::routes());
    }
    routes
        .fallback(files::file)
        .method_not_allowed_fallback(answers::wrong_method)
        .layer(guarding)
        .with_state(Arc::clone(room))
}

/// A few people and programs at once, and not enough to harm the server.
const MOST_CONNECTIONS: usize = 64;
