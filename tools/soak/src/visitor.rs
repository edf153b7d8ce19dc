//! Visitors, of all kinds.

pub mod http;
pub mod rude;
pub mod tcp;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::ledger::{Ledger, Needs};
use crate::presence::{Party, Watch};

/// A tunnel, as visitors see it.
#[derive(Debug)]
pub struct Address {
    /// The number of its local service.
    pub tenant: u32,
    /// For people.
    pub name: String,
    /// Where to connect.
    pub addr: SocketAddr,
    /// The host to ask for, with HTTP.
    pub host: String,
    /// Its server.
    pub server: Arc<Party>,
    /// Its tunnel: there while client and server both are, and know each other.
    pub tunnel: Arc<Party>,
}

/// What all visitors share.
#[derive(Debug)]
pub struct Visits {
    /// Where they are counted.
    pub ledger: Arc<Ledger>,
    numbers: AtomicU64,
}

impl Visits {
    /// To count in that ledger.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger, numbers: AtomicU64::new(1) }
    }

    /// The number of the next conversation.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    async fn dial(&self, address: &Address) -> Result<TcpStream, Fault> {
        let socket = TcpStream::connect(address.addr).await;
        let socket = socket.map_err(|error| Fault::io("connecting", &error))?;
        socket.set_nodelay(true).map_err(|error| Fault::io("connecting", &error))?;
        self.ledger.connections.fetch_add(1, Ordering::Relaxed);
        Ok(socket)
    }

    /// One conversation: the error, if it was one, is judged and counted. Says whether it went well.
    async fn one(
        &self,
        kind: &'static str,
        address: &Address,
        server: &Watch,
        talk: impl Future<Output = Result<(), Fault>>,
    ) -> bool {
        let needs = Needs { server: server.clone(), client: address.tunnel.watch() };
        let talk = tokio::time::timeout(PATIENCE, talk).await;
        match talk.unwrap_or(Err(Fault::Stuck("for a minute"))) {
            Ok(()) => {
                self.ledger.went_well(kind);
                true
            }
            Err(fault) => {
                self.ledger.judge(kind, &address.name, &fault, &needs);
                false
            }
        }
    }
}

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A short echo over TCP.
    Echo,
    /// Some bytes each way at once, with half-close.
    Exchange,
    /// Many bytes each way at once, with half-close.
    Long,
    /// One request on a connection of its own.
    OneRequest,
    /// Several requests one after the other, over HTTP/1.1.
    KeepAlive,
    /// Several requests at once, over HTTP/2.
    Http2,
    /// Messages to a WebSocket and back.
    WebSocket,
    /// Leaves in some rude way.
    Rude,
}

impl Visits {
    /// One visit, to its end. Says whether it went well.
    pub async fn visit(&self, kind: Kind, address: &Address, dice: &mut Dice) -> bool {
        match kind {
            Kind::Echo => tcp::echo(self, address, dice).await,
            Kind::Exchange => tcp::streams("exchange", self, address, dice, SOME).await,
            Kind::Long => tcp::streams("long stream", self, address, dice, MANY).await,
            Kind::OneRequest => http::one_request(self, address, dice).await,
            Kind::KeepAlive => http::keep_alive(self, address, dice).await,
            Kind::Http2 => http::http2(self, address, dice).await,
            Kind::WebSocket => websocket::visit(self, address, dice).await,
            Kind::Rude => rude::visit(self, address, dice).await,
        }
    }
}

/// A conversation takes far less on a busy machine of two processors; one that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes each way of an exchange, below that.
const SOME: u64 = 64 << 10;

/// Bytes each way of a long stream, below that: more than windows and sockets hold.
const MANY: u64 = 16 << 20;
