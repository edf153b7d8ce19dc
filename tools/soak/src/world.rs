//! A server and its clients: processes, each of which may be killed at any time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ferrotunnel_loadgen::{Binary, Carrier, Failure, Process, ServerSettings, Usage};
use parking_lot::Mutex;

use crate::ledger::Ledger;
use crate::levels::Holding;
use crate::origin::{Identity, Origin, Speaks};
use crate::presence::Party;
use crate::tasks;
use crate::visitor::Address;

/// A server and its clients.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) tenants: Vec<Tenant>,
    /// Whether its server is killed too.
    pub(crate) server_is_killed: bool,
    binary: Binary,
    carrier: Carrier,
    bind: SocketAddr,
    http_bind: SocketAddr,
    server: Arc<Party>,
    server_post: Post,
    ledger: Arc<Ledger>,
}

/// A client with its one tunnel, and the local service behind it.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) address: Arc<Address>,
    pub(crate) trade: Trade,
    pub(crate) origin: Origin,
    /// The process of the client; its tunnel is a party of its own, that needs the server too.
    process: Arc<Party>,
    arguments: Vec<String>,
    url: String,
    post: Post,
}

/// What a tenant's tunnel carries, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trade {
    /// TCP, all visitors over one connection.
    Multiplexed,
    /// The same over two.
    TwoCarriers,
    /// TCP, each visitor over a connection of its own, as far as they are ready.
    Direct,
    /// TCP, as by default.
    Auto,
    /// HTTP.
    Http,
    /// HTTP with a local service that is spoken to in HTTP/2.
    Http2,
}

impl Trade {
    pub(crate) fn speaks(self) -> Speaks {
        match self {
            Self::Http | Self::Http2 => Speaks::Http,
            _ => Speaks::Bytes,
        }
    }

    fn more(self) -> &'static [&'static str] {
        match self {
            Self::Multiplexed => &["--streams", "multiplexed"],
            Self::TwoCarriers => &["--streams", "multiplexed", "--connections", "2"],
            Self::Direct => &["--streams", "direct"],
            Self::Auto | Self::Http => &[],
            Self::Http2 => &["--http2"],
        }
    }
}

/// Where a process is, when it is there.
#[derive(Debug, Default)]
struct Post {
    process: Mutex<Option<Process>>,
    /// Its number for the system, and where it tells of itself; never locked for longer than to look.
    known_by: Mutex<Option<(u32, Option<SocketAddr>)>>,
}

impl Post {
    fn put(&self, process: Process) {
        *self.known_by.lock() = Some((process.id(), process.admin_addr()));
        *self.process.lock() = Some(process);
    }

    fn take(&self) -> Option<Process> {
        *self.known_by.lock() = None;
        self.process.lock().take()
    }

    /// What it has now, without waiting for whoever starts or kills it.
    fn holding(&self) -> Option<Holding> {
        let (id, admin) = (*self.known_by.lock())?;
        // In this order: to be asked costs it a descriptor.
        let usage = Usage::of(id).ok()?;
        Some(Holding { usage, tasks: admin.and_then(|admin| tasks::of(admin).ok()) })
    }
}

/// What a world is made of.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) carrier: Carrier,
    pub(crate) server_is_killed: bool,
    pub(crate) trades: &'static [Trade],
}

impl World {
    /// Makes one; nothing runs yet but the local services.
    pub(crate) async fn new(
        plan: &Plan,
        binary: &Binary,
        ports: &mut impl Iterator<Item = u16>,
        first_tenant: u32,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Failure> {
        let mut port = || {
            let port = ports.next().ok_or(Failure::Ports { needed: 1, free: 0 })?;
            Ok::<_, Failure>(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let (bind, http_bind) = (port()?, port()?);
        let server = Party::new(format!("server {}", plan.name));
        let mut tenants = Vec::new();
        for (number, trade) in (first_tenant..).zip(plan.trades) {
            let name = format!("{}-{number}-{trade:?}", plan.name).to_lowercase();
            let process = Party::new(&name);
            let identity =
                Identity { tenant: number, name: name.clone(), client: Arc::clone(&process) };
            let origin = Origin::start(trade.speaks(), identity, Arc::clone(ledger)).await;
            let origin = origin.map_err(|error| Failure::Listen(bind, error))?;
            let mut arguments = Vec::new();
            let (addr, host, url) = match trade.speaks() {
                Speaks::Bytes => {
                    let addr = port()?;
                    arguments.extend(["tcp".to_owned(), origin.addr().to_string()]);
                    arguments.extend(["--remote-port".to_owned(), addr.port().to_string()]);
                    (addr, String::new(), format!("tcp://{addr}"))
                }
                Speaks::Http => {
                    arguments.extend(["http".to_owned(), origin.addr().to_string()]);
                    arguments.extend(["--name".to_owned(), name.clone()]);
                    let host = format!("{name}.localhost:{}", http_bind.port());
                    (http_bind, host.clone(), format!("http://{host}/"))
                }
            };
            let more = trade.more().iter().chain(&ADMIN).chain(&["--no-inspect"]);
            arguments.extend(more.map(|word| (*word).to_owned()));
            let address = Address {
                tenant: number,
                tunnel: Party::new(format!("tunnel {name}")),
                server: Arc::clone(&server),
                name,
                addr,
                host,
            };
            tenants.push(Tenant {
                address: Arc::new(address),
                trade: *trade,
                origin,
                process,
                arguments,
                url,
                post: Post::default(),
            });
        }
        Ok(Self {
            name: plan.name,
            tenants,
            server_is_killed: plan.server_is_killed,
            binary: binary.clone(),
            carrier: plan.carrier,
            bind,
            http_bind,
            server,
            server_post: Post::default(),
            ledger: Arc::clone(ledger),
        })
    }

    /// Starts the server where it was. Waits; not to be called where others run.
    pub(crate) fn start_server(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let (process, _, _) = self.binary.server(&ServerSettings {
            bind: self.bind,
            http_bind: self.http_bind,
            carrier: self.carrier,
            threads: 1,
            more: ADMIN.map(str::to_owned).to_vec(),
            patience: RETURN,
        })?;
        self.server_post.put(process);
        self.server.is_back();
        self.ledger.returned(began.elapsed());
        Ok(())
    }

    /// Kills the server as `kill -9` does. Its tunnels are gone with it.
    pub(crate) fn kill_server(&self) {
        self.server.leaves();
        for tenant in &self.tenants {
            tenant.address.tunnel.leaves();
        }
        self.look_at(self.server_post.take().as_ref(), self.server.name());
        self.ledger.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts a client, and waits until it has its tunnel.
    pub(crate) fn start_client(&self, tenant: &Tenant) -> Result<(), Failure> {
        let began = Instant::now();
        let (process, url) = self.binary.client(self.bind, self.carrier, &tenant.arguments)?;
        self.check_url(tenant, &url);
        tenant.post.put(process);
        tenant.process.is_back();
        tenant.address.tunnel.is_back();
        self.ledger.returned(began.elapsed());
        Ok(())
    }

    /// Waits until a client that lost its server has its tunnel again.
    pub(crate) fn await_return(&self, tenant: &Tenant) -> Result<(), Failure> {
        let began = Instant::now();
        let mut process = tenant.post.process.lock();
        let Some(process) = &mut *process else { return Ok(()) };
        let said = process.wait_for("tunnel_ready", RETURN)?;
        self.check_url(tenant, said["public_url"].as_str().unwrap_or_default());
        tenant.address.tunnel.is_back();
        self.ledger.returned(began.elapsed());
        Ok(())
    }

    fn check_url(&self, tenant: &Tenant, url: &str) {
        if url != tenant.url {
            let (name, wanted) = (&tenant.address.name, &tenant.url);
            self.ledger.forbid(format!("{name} has the URL {url} in place of {wanted}"));
        }
    }

    /// Kills a client as `kill -9` does.
    pub(crate) fn kill_client(&self, tenant: &Tenant) {
        self.client_leaves(tenant);
        self.look_at(tenant.post.take().as_ref(), &tenant.address.name);
    }

    /// Asks a client to end, and waits until it has.
    pub(crate) fn dismiss_client(&self, tenant: &Tenant) {
        self.client_leaves(tenant);
        if let Some(mut process) = tenant.post.take() {
            process.terminate();
            self.must_end(&mut process, &tenant.address.name, Ending::Clean);
        }
    }

    /// Starts a client anew while the old one is still there, which has to give way.
    pub(crate) fn relieve_client(&self, tenant: &Tenant) -> Result<(), Failure> {
        self.client_leaves(tenant);
        let old = tenant.post.take();
        let began = Instant::now();
        let (process, url) = self.binary.client(self.bind, self.carrier, &tenant.arguments)?;
        self.check_url(tenant, &url);
        self.ledger.returned(began.elapsed());
        tenant.post.put(process);
        if let Some(mut old) = old {
            self.must_end(&mut old, &tenant.address.name, Ending::Any);
        }
        tenant.process.is_back();
        tenant.address.tunnel.is_back();
        Ok(())
    }

    fn client_leaves(&self, tenant: &Tenant) {
        tenant.process.leaves();
        tenant.address.tunnel.leaves();
        self.ledger.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks the server to end, and waits until it has.
    pub(crate) fn dismiss_server(&self) {
        self.server.leaves();
        if let Some(mut process) = self.server_post.take() {
            process.terminate();
            self.must_end(&mut process, self.server.name(), Ending::Clean);
        }
    }

    fn must_end(&self, process: &mut Process, name: &str, ending: Ending) {
        let end = Instant::now() + ENDS_WITHIN;
        let status = loop {
            match process.ended() {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => pause(LOOK_EVERY),
            }
        };
        self.look_at(Some(process), name);
        match status {
            None => {
                self.ledger.forbid(format!("{name} did not end within {ENDS_WITHIN:?}"));
            }
            Some(status) if ending == Ending::Clean && !status.success() => {
                self.ledger.forbid(format!("{name} was asked to end, and ended with {status}"));
            }
            Some(_) => {}
        }
    }

    /// Sees to it that nobody has lost anything that was not taken from them. To be called while
    /// everybody is there.
    pub(crate) fn look_around(&self) {
        let parties = self.tenants.iter().map(|tenant| (&tenant.post, &tenant.address.name[..]));
        for (post, name) in parties.chain([(&self.server_post, self.server.name())]) {
            let mut process = post.process.lock();
            let Some(process) = &mut *process else { continue };
            while let Some(said) = process.said() {
                if ["disconnected", "tunnel_lost", "ended"].iter().any(|it| said["event"] == **it) {
                    self.ledger.forbid(format!("{name} lost what nobody had taken: {said}"));
                }
            }
            if let Some(status) = process.ended() {
                self.ledger.forbid(format!("{name} ended by itself, with {status}"));
            }
            self.look_at(Some(process), name);
        }
    }

    fn look_at(&self, process: Option<&Process>, name: &str) {
        if let Some(panic) = process.and_then(Process::panicked) {
            self.ledger.forbid(format!("{name}: {panic}"));
        }
    }

    /// What the server has now. Waits for its answer.
    pub(crate) fn held_by_server(&self) -> Option<Holding> {
        self.server_post.holding()
    }

    /// What each client that is there has now. Waits for their answers.
    pub(crate) fn held_by_clients(&self) -> impl Iterator<Item = Holding> {
        self.tenants.iter().filter_map(|tenant| tenant.post.holding())
    }
}

/// Waits on a thread on which nothing else runs.
#[expect(clippy::disallowed_methods, reason = "who kills has a thread of its own")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// How a process has to end that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With success.
    Clean,
    /// In whatever way: who gives way to another has failed.
    Any,
}

/// Where each process tells of its tasks.
const ADMIN: [&str; 2] = ["--admin-bind", "127.0.0.1:0"];

/// Until a server listens and a client that lost it has its tunnel again. About a second is the
/// aim; this is when we stop waiting, on a busy machine.
const RETURN: Duration = Duration::from_secs(30);

/// Until a process that was asked to end has: ten seconds for what is open, and some more.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(20);
