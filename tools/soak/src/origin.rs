//! The local services: one for each tenant, which knows who it is and what it has to get.

mod http;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::exchange;
use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::presence::Party;

/// What a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// The exchange of numbered bytes.
    Bytes,
    /// HTTP/1.1, HTTP/2 and WebSocket.
    Http,
}

/// A service, until it is dropped.
#[derive(Debug)]
pub struct Origin {
    addr: SocketAddr,
    open: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// Who a service is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its number, which visitors name.
    pub tenant: u32,
    /// What it is called.
    pub name: String,
    /// The process of the client that connects to it. The system ends in an orderly way what that
    /// had open when it is killed; nothing else may end before its time.
    pub client: Arc<Party>,
}

impl Origin {
    /// Serves on a free port of loopback.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(
        speaks: Speaks,
        identity: Identity,
        ledger: Arc<Ledger>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let open = Arc::<AtomicU64>::default();
        let task = tokio::spawn(accept(listener, speaks, identity, ledger, Arc::clone(&open)));
        Ok(Self { addr, open, task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    speaks: Speaks,
    identity: Identity,
    ledger: Arc<Ledger>,
    open: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(NEXT_TRY).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let counted = Counted::one_of(&open);
        let (identity, ledger) = (identity.clone(), Arc::clone(&ledger));
        connections.spawn(async move {
            let _ = socket.set_nodelay(true);
            match speaks {
                Speaks::Bytes => bytes(socket, &identity, &ledger).await,
                Speaks::Http => http::serve(socket, identity, ledger).await,
            }
            drop(counted);
        });
    }
}

async fn bytes(mut socket: TcpStream, identity: &Identity, ledger: &Ledger) {
    let client = identity.client.watch();
    let outcome = exchange::serve(&mut socket, identity.tenant, ledger).await;
    let excused = match &outcome {
        Ok(()) => return,
        Err(fault) => match fault {
            // Visitors leave, and servers die. Which of them it was is not known here; the visitor
            // that stayed knows.
            Fault::Broken(..) | Fault::Refused(..) | Fault::Stuck(_) => true,
            Fault::CutShort(_) => client.was_away(),
            Fault::Wrong(_) => false,
        },
    };
    if let Err(fault) = outcome
        && !excused
    {
        ledger.forbid(format!("local service of {}: {fault}", identity.name));
    }
    // What is left unread makes the system reset the connection.
    drop(socket);
}

/// Counts for as long as it lives.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn one_of(open: &Arc<AtomicU64>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// When no descriptor is left one comes free soon.
const NEXT_TRY: Duration = Duration::from_millis(10);
