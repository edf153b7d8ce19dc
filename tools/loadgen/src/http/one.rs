//! HTTP/1.1: a connection is a lane.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::answer::{Driver, finish};
use crate::dial::dial;
use crate::failure::Fault;
use crate::lane;

pub(super) struct Lane {
    addr: SocketAddr,
    request: Request<Empty<Bytes>>,
    connection: Option<Connection>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: Driver,
}

impl Connection {
    async fn to(addr: SocketAddr) -> Result<Self, Fault> {
        let socket = dial(addr).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        Ok(Self { sender, _driver: Driver::of(connection) })
    }
}

impl Lane {
    pub(super) async fn connect(
        addr: SocketAddr,
        request: Request<Empty<Bytes>>,
    ) -> Result<Self, Fault> {
        Ok(Self { addr, request, connection: Some(Connection::to(addr).await?) })
    }
}

impl lane::Lane for Lane {
    async fn exchange(&mut self) -> Result<(), Fault> {
        // Taken: a connection that fails is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::to(self.addr).await?,
        };
        // One that the other end closed between two requests is replaced, at the expense of this
        // one's latency.
        if connection.sender.ready().await.is_err() {
            connection = Connection::to(self.addr).await?;
        }
        let response = connection.sender.send_request(self.request.clone()).await?;
        let result = finish(response).await;
        if !matches!(result, Err(Fault::Http(_))) {
            self.connection = Some(connection);
        }
        result
    }
}
