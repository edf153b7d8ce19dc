//! Many clients of one server: how long until all are there, what they cost it, and how they come
//! back when it has died.
//!
//! The server is a process of its own, so that its cost is its own and it can be killed. The clients
//! are those of the library, all in this process.

mod outcome;
mod roster;

pub use outcome::{Arrival, Knocks, Return, SessionsOutcome};

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrotunnel::{Client, Streams, Tunnel};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::roster::Roster;
use crate::binary::{Binary, PATIENCE, ServerSettings};
use crate::cost::Usage;
use crate::dial::{dial, knock};
use crate::failure::Failure;
use crate::origin::{Origin, Service};
use crate::own_thread::{self, OwnThread};
use crate::port::free_ports;
use crate::process::Process;
use crate::stage::{Carrier, LOOPBACK, TOKEN};

/// How many, and what happens to them.
#[derive(Clone, Debug)]
pub struct SessionsLoad {
    /// The server.
    pub binary: Binary,
    /// What lies between.
    pub carrier: Carrier,
    /// Clients, each with a session.
    pub count: usize,
    /// TCP tunnels of each.
    pub tunnels: usize,
    /// Clients that connect at once at first.
    pub at_once: usize,
    /// Tunnels that have to carry an echo.
    pub checks: usize,
    /// Who chooses the ports of the tunnels.
    pub ports: Ports,
    /// Threads that the clients live on.
    pub threads: usize,
    /// Threads of the server's own.
    pub server_threads: usize,
    /// The server's limit of connections in their handshake; its own if there is none.
    pub max_handshakes: Option<usize>,
    /// How long the sessions at rest are looked at.
    pub rest: Duration,
    /// Whether the server is killed and started again.
    pub restart: bool,
    /// How long an arrival or a return may stand still: without one more tunnel it is over.
    pub patience: Duration,
}

/// Who chooses a tunnel's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The server, by chance, from those of the dynamic range.
    Picked,
    /// The client, from those below.
    Asked,
}

/// Does all of it.
///
/// # Errors
/// The server does not start, or not again, or this machine has too little of something.
pub fn run(load: &SessionsLoad) -> Result<SessionsOutcome, Failure> {
    let mut sessions = Sessions::start(load)?;
    let arrival = sessions.arrive()?;
    let knocks = sessions.knock(load.checks)?;
    let rest_cpu = sessions.rest(load.rest)?;
    let (server_with, own_with) = (sessions.server_usage()?, Usage::own());
    let returned = match load.restart {
        true => {
            let down = sessions.kill_server();
            sessions.start_server()?;
            let returned = sessions.come_back(&down)?;
            Some((returned, sessions.knock(load.checks)?))
        }
        false => None,
    };
    Ok(SessionsOutcome {
        sessions: load.count,
        tunnels: load.count * load.tunnels,
        server_before: sessions.server_before,
        server_with,
        own: sessions.own_before.zip(own_with),
        arrival,
        knocks,
        rest: load.rest,
        rest_cpu,
        returned,
        faults: sessions.roster.faults(),
        setbacks: sessions.roster.setbacks(),
    })
}

/// A server and its clients, until they are dropped.
#[derive(Debug)]
pub struct Sessions {
    load: SessionsLoad,
    roster: Arc<Roster>,
    /// Threads of clients; they end before their server and their origin.
    clients: Vec<OwnThread>,
    server: Option<Process>,
    addr: SocketAddr,
    /// Those that the clients ask for, if they do.
    ports: Vec<u16>,
    origin: Origin,
    server_before: Usage,
    own_before: Option<Usage>,
}

impl Sessions {
    /// Starts the server. Not to be called from a runtime.
    ///
    /// # Errors
    /// It does not start, or so many sessions do not fit.
    pub fn start(load: &SessionsLoad) -> Result<Self, Failure> {
        check_restart(load)?;
        check_open_files(load)?;
        let origin = Origin::start(Service::Echo, LOOPBACK)?;
        let asked = match load.ports {
            Ports::Picked => 0,
            Ports::Asked => load.count * load.tunnels,
        };
        let mut ports = free_ports(1 + asked);
        if ports.len() < 1 + asked {
            return Err(Failure::Ports { needed: 1 + asked, free: ports.len() });
        }
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.pop().unwrap_or_default()));
        let mut sessions = Self {
            load: load.clone(),
            roster: Arc::new(Roster::new(load.count)),
            clients: Vec::new(),
            server: None,
            addr,
            ports,
            origin,
            server_before: Usage::default(),
            own_before: Usage::own(),
        };
        sessions.start_server()?;
        sessions.server_before = sessions.server_usage()?;
        Ok(sessions)
    }

    /// Starts the server where it was before.
    ///
    /// # Errors
    /// It does not start in time.
    pub fn start_server(&mut self) -> Result<(), Failure> {
        let SessionsLoad { count, tunnels, max_handshakes, .. } = self.load;
        let mut more = vec!["--max-sessions".to_owned(), count.to_string()];
        more.extend(["--max-tunnels".to_owned(), tunnels.to_string()]);
        if let Some(most) = max_handshakes {
            more.extend(["--max-handshakes".to_owned(), most.to_string()]);
        }
        let (process, addr, _) = self.load.binary.server(&ServerSettings {
            bind: self.addr,
            http_bind: LOOPBACK,
            carrier: self.load.carrier,
            threads: self.load.server_threads,
            more,
            patience: PATIENCE,
        })?;
        self.addr = addr;
        self.server = Some(process);
        Ok(())
    }

    /// Kills the server, as `kill -9` does, and says when that was. What tunnels there were does
    /// not count any more.
    pub fn kill_server(&mut self) -> Down {
        let before = self.roster.forget();
        let at = Instant::now();
        drop(self.server.take());
        Down { at, before }
    }

    /// What the server has cost since it was started last.
    ///
    /// # Errors
    /// It has ended.
    pub fn server_usage(&self) -> Result<Usage, Failure> {
        self.server.as_ref().ok_or(Failure::NotReady("the server"))?.usage()
    }

    /// Starts the clients, and waits until all their tunnels are there.
    ///
    /// # Errors
    /// A client has settings that make none, or there is no thread to be had.
    pub fn arrive(&mut self) -> Result<Arrival, Failure> {
        let began = Instant::now();
        let permits = Arc::new(Semaphore::new(self.load.at_once.max(1)));
        let threads = self.load.threads.clamp(1, self.load.count.max(1));
        for thread in 0..threads {
            let indices = (thread..self.load.count).step_by(threads);
            let clients = indices.map(|index| Ok((index, self.client(index)?)));
            let clients = clients.collect::<Result<Vec<_>, Failure>>()?;
            let (roster, permits) = (Arc::clone(&self.roster), Arc::clone(&permits));
            let (thread, ()) = OwnThread::start("clients", async move || {
                let mut tasks = JoinSet::new();
                for (index, client) in clients {
                    tasks.spawn(live(index, client, Arc::clone(&roster), Arc::clone(&permits)));
                }
                Ok(((), tasks))
            })?;
            self.clients.push(thread);
        }
        let ready = self.roster.wait(self.tunnels(), self.load.patience);
        let last = ready.last().map_or(began, |(_, at)| *at);
        Ok(Arrival {
            ready: ready.len(),
            time: last.saturating_duration_since(began),
            server: self.server_usage()?,
        })
    }

    fn tunnels(&self) -> usize {
        self.load.count * self.load.tunnels
    }

    fn client(&self, index: usize) -> Result<Client, Failure> {
        let mut client = Client::builder().server_addr(self.addr.to_string()).token(TOKEN);
        for number in 0..self.load.tunnels {
            let port = self.ports.get(index * self.load.tunnels + number);
            let tunnel = Tunnel::tcp().remote_port(port.copied().unwrap_or_default());
            let tunnel = tunnel.streams(Streams::Multiplexed);
            client = client.tunnel(tunnel.local_addr(self.origin.addr().to_string()));
        }
        if self.load.carrier == Carrier::Plaintext {
            client = client.plaintext();
        }
        Ok(client.build()?)
    }

    /// Processor time of the server while nothing but heartbeats happens.
    ///
    /// # Errors
    /// It has ended.
    pub fn rest(&self, time: Duration) -> Result<Duration, Failure> {
        let runtime = own_thread::single()?;
        let before = self.server_usage()?;
        runtime.block_on(async { sleep(time).await });
        Ok(self.server_usage()?.cpu.saturating_sub(before.cpu))
    }

    /// Lets `count` of the tunnels, or as many as there are, carry an echo each: one in so many,
    /// from a random one on.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn knock(&self, count: usize) -> Result<Knocks, Failure> {
        let ready = self.roster.ready();
        let count = count.min(ready.len());
        let first = RandomState::new().hash_one(()) as usize % ready.len().max(1);
        let chosen = (0..count).filter_map(|at| {
            let index = first + at * ready.len() / count;
            ready.get(index % ready.len()).map(|(addr, _)| *addr)
        });
        let before = self.origin.counters().connections();
        let answered = own_thread::single()?.block_on(async {
            let knocks = chosen.map(|addr| timeout(self.load.patience, echo(addr)));
            let knocks = stream::iter(knocks).buffer_unordered(KNOCKS_AT_ONCE);
            knocks.filter(|knock| std::future::ready(matches!(knock, Ok(true)))).count().await
        });
        let seen = self.origin.counters().connections() - before;
        // Both ends have to agree that a visitor came through.
        let carried = answered.min(usize::try_from(seen).unwrap_or(usize::MAX));
        Ok(Knocks { asked: count, carried })
    }

    /// Waits until all tunnels are there again.
    ///
    /// # Errors
    /// The server has ended.
    pub fn come_back(&self, down: &Down) -> Result<Return, Failure> {
        let up = Instant::now();
        let ready = self.roster.wait(self.tunnels(), self.load.patience);
        let server = self.server_usage()?;
        let after = |at: &Instant| at.saturating_duration_since(up);
        let kept = ready.iter().filter(|(addr, _)| down.before.contains(addr)).count();
        Ok(Return {
            ready: ready.len(),
            down: up - down.at,
            times: ready.iter().map(|(_, at)| after(at)).collect(),
            same_port: kept,
            server,
        })
    }
}

/// What was there when the server was killed.
#[derive(Debug)]
pub struct Down {
    at: Instant,
    before: std::collections::HashSet<SocketAddr>,
}

/// One client, until its thread ends.
async fn live(index: usize, client: Client, roster: Arc<Roster>, permits: Arc<Semaphore>) {
    let mut events = client.events();
    let starting = async {
        // Closed it never is.
        let _permit = permits.acquire().await;
        if let Err(error) = client.start().await {
            roster.fault(error.to_string());
        }
    };
    let watching = async {
        loop {
            match events.recv().await {
                Ok(event) => roster.tell(index, event),
                Err(RecvError::Lagged(_)) => roster.fault("events were missed".to_owned()),
                Err(RecvError::Closed) => break,
            }
        }
    };
    tokio::join!(starting, watching);
    // Without the client its tunnels would be gone.
    std::future::pending::<()>().await;
}

async fn echo(addr: SocketAddr) -> bool {
    match dial(addr).await {
        Ok(mut socket) => knock(&mut socket).await.is_ok(),
        Err(_) => false,
    }
}

/// A client keeps its last events for whoever is slow to take them. Of more tunnels than these some
/// would come back unseen.
fn check_restart(load: &SessionsLoad) -> Result<(), Failure> {
    if load.restart && load.tunnels > MOST_TUNNELS_SEEN {
        return Err(Failure::UnseenTunnels(MOST_TUNNELS_SEEN));
    }
    Ok(())
}

/// Says beforehand what would otherwise show in thousands of failures.
fn check_open_files(load: &SessionsLoad) -> Result<(), Failure> {
    // At the server a carrier, and a listener for each tunnel; here the other end of the carrier.
    let needed = (load.count * (1 + load.tunnels) + OTHER_FILES) as u64;
    match open_files_limit() {
        Some(limit) if limit < needed => Err(Failure::OpenFiles { needed, limit }),
        _ => Ok(()),
    }
}

/// A process that is started from here has the same.
#[cfg(unix)]
fn open_files_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};

    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn open_files_limit() -> Option<u64> {
    None
}

/// Files beside those of sessions: visitors of echoes under way, runtimes, outputs.
const OTHER_FILES: usize = 80;

/// Echoes under way at once.
const KNOCKS_AT_ONCE: usize = 16;

/// Half of the events that a client keeps, since there are others among them.
const MOST_TUNNELS_SEEN: usize = 32;
