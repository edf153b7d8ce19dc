//! HTTP/2: a connection has several lanes, one for each request at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use super::answer::{Driver, finish};
use crate::dial::dial;
use crate::failure::Fault;
use crate::lane;

pub(super) struct Lane {
    shared: Arc<Shared>,
    request: Request<Empty<Bytes>>,
    sender: SendRequest<Empty<Bytes>>,
}

/// The connection of several lanes. Whoever finds it closed replaces it for all.
struct Shared {
    addr: SocketAddr,
    connection: Mutex<Connection>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: Driver,
}

impl Connection {
    async fn to(addr: SocketAddr) -> Result<Self, Fault> {
        let socket = dial(addr).await?;
        let io = TokioIo::new(socket);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        Ok(Self { sender, _driver: Driver::of(connection) })
    }
}

impl Shared {
    async fn sender(&self) -> Result<SendRequest<Empty<Bytes>>, Fault> {
        let mut connection = self.connection.lock().await;
        if connection.sender.is_closed() {
            *connection = Connection::to(self.addr).await?;
        }
        Ok(connection.sender.clone())
    }
}

impl Lane {
    /// One connection, and as many lanes of it.
    pub(super) async fn connect(
        addr: SocketAddr,
        request: &Request<Empty<Bytes>>,
        lanes: usize,
    ) -> Result<Vec<Self>, Fault> {
        let connection = Connection::to(addr).await?;
        let sender = connection.sender.clone();
        let shared = Arc::new(Shared { addr, connection: Mutex::new(connection) });
        let lane = || Self {
            shared: Arc::clone(&shared),
            request: request.clone(),
            sender: sender.clone(),
        };
        Ok((0..lanes.max(1)).map(|_| lane()).collect())
    }
}

impl lane::Lane for Lane {
    async fn exchange(&mut self) -> Result<(), Fault> {
        if self.sender.ready().await.is_err() {
            self.sender = self.shared.sender().await?;
        }
        finish(self.sender.send_request(self.request.clone()).await?).await
    }
}
