//! Who is there, what happens to them, and what has to hold all the while.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::{ClientId, LimitsConfig, SessionId, Token, TunnelKind};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dice::Dice;
use super::network::{Network, Plug};
use super::visit::{Ledger, Manner, Tally, Visit, attend};
use super::wire::{Link, Sender};
use crate::auth::issue_token;
use crate::client::{
    Acceptor, ClientConfig, ClientEngine, ClientTransport, Connections, Retry, ServerMode, Target,
    TunnelSpec,
};
use crate::error::ConnectError;
use crate::principals::PrincipalConfig;
use crate::server::{ServerConfig, ServerEngine, Transport};
use crate::shards::Shards;

pub(super) struct World {
    dice: Dice,
    network: Arc<Network>,
    ledger: Arc<Ledger>,
    tenants: Vec<Tenant>,
    principals: Vec<PrincipalConfig>,
    visitors: JoinSet<()>,
    visits: u32,
    clients: u32,
    /// When the server that crashed is started again.
    server_back: Option<Instant>,
}

/// A principal with one name, and the clients that want it.
struct Tenant {
    number: u32,
    token: Token,
    /// Where its clients run.
    sites: [usize; 2],
    clients: Vec<Client>,
    history: History,
}

impl Tenant {
    fn host(&self) -> String {
        format!("t{}.localhost", self.number)
    }
}

/// Who had a name, as far as was seen.
#[derive(Default)]
struct History {
    client: Option<ClientId>,
    sessions: HashSet<SessionId>,
    takeovers: u64,
    /// Sessions of clients that had it before.
    superseded: HashSet<SessionId>,
}

/// A running client.
struct Client {
    number: u32,
    site: usize,
    /// How many it keeps.
    carriers: RangeInclusive<usize>,
    engine: Arc<ClientEngine>,
    /// Holds the tunnel, and serves its visitors.
    serving: JoinSet<()>,
}

impl World {
    pub(super) fn new(mut dice: Dice) -> Self {
        let count = 1 + dice.below(3);
        let mut principals = Vec::new();
        let tenants = (0..count).map(|at| {
            let (token, verifier) = issue_token().unwrap();
            principals.push(PrincipalConfig::new(format!("p{at}")).verifier(verifier));
            let sites = [2 * at, 2 * at + 1];
            let history = History::default();
            Tenant { number: at as u32, token, sites, clients: Vec::new(), history }
        });
        let tenants = tenants.collect();
        let network = Network::new(dice.split(), 2 * count);
        Self {
            dice,
            network,
            ledger: Arc::default(),
            tenants,
            principals,
            visitors: JoinSet::new(),
            visits: 0,
            clients: 0,
            server_back: None,
        }
    }

    pub(super) async fn begin(&mut self) {
        self.start_server();
        for tenant in 0..self.tenants.len() {
            self.start_client(tenant);
        }
        tokio::time::sleep(self.dice.millis(2_000)).await;
    }

    fn start_server(&mut self) {
        self.server_back = None;
        let config = ServerConfig {
            // The door of the real network, where nobody comes.
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            transport: Transport::Plaintext,
            token: None,
            principals: self.principals.clone(),
            domain: "localhost".to_owned(),
            reserved_names: Vec::new(),
            only_tunnel_answers: false,
            http_port: Some(80),
            https_port: None,
            tcp_ip: Ipv4Addr::LOCALHOST.into(),
            limits: LimitsConfig::default(),
            shards: Shards::inherit(),
            visitor_grace: GRACE,
            access: crate::access::AccessConfig::default(),
            heartbeat: Duration::from_secs(5),
        };
        let before = self.network.set_server(Some(ServerEngine::start(config).unwrap()));
        assert!(before.is_none());
    }

    fn start_client(&mut self, tenant: usize) {
        let (connections, carriers) = match self.dice.below(3) {
            0 => (Connections::Auto, 1..=8),
            count => (Connections::Exactly(count as u8), count..=count),
        };
        let tenant = &mut self.tenants[tenant];
        let site = tenant.sites[self.dice.below(2)];
        let config = ClientConfig {
            servers: vec!["server:1".to_owned()],
            server_mode: ServerMode::default(),
            transport: ClientTransport::Plaintext,
            token: tenant.token.clone(),
            software: "simulated".to_owned(),
            retry: Retry::Forever,
            connect_timeout: Duration::from_secs(5),
            handshake_deadline: Duration::from_secs(10),
            connections,
            shards: Shards::inherit(),
        };
        let plug = Plug { network: Arc::clone(&self.network), site };
        let engine = ClientEngine::start_over(plug, config, broadcast::channel(16).0).unwrap();
        let engine = Arc::new(engine);
        self.clients += 1;
        let (number, of) = (self.clients, tenant.number);
        let mut serving = JoinSet::new();
        let (acceptor, mut visits) = Acceptor::channel();
        let (held, ledger, mut dice) =
            (Arc::clone(&engine), Arc::clone(&self.ledger), self.dice.split());
        serving.spawn(async move {
            let spec = TunnelSpec {
                kind: TunnelKind::Http,
                name: format!("t{of}"),
                hosts: Vec::new(),
                port: 0,
                options: Vec::new(),
                proxy_protocol: None,
                target: Target::InProcess(acceptor),
                health: None,
            };
            let mut guests = JoinSet::new();
            let adding = held.add(spec);
            let mut adding = Box::pin(adding);
            let mut handle = None;
            loop {
                tokio::select! {
                    added = &mut adding, if handle.is_none() => match added {
                        Ok((added, _)) => handle = Some(added),
                        // It says why it ended, which is judged elsewhere.
                        Err(_) => return,
                    },
                    Some(visit) = visits.recv() => {
                        let ledger = Arc::clone(&ledger);
                        let guest = attend(visit.stream, of, number, dice.split(), ledger);
                        guests.spawn(async move { drop(guest.await) });
                    }
                    Some(_) = guests.join_next() => {}
                    // The client has ended, and so has the last guest.
                    else => return,
                }
            }
        });
        tenant.clients.push(Client { number, site, carriers, engine, serving });
    }

    /// One thing happens, and then time passes.
    pub(super) async fn step(&mut self) {
        if self.server_back.is_some_and(|at| at <= Instant::now()) {
            self.start_server();
        }
        let tenant = self.dice.below(self.tenants.len());
        let sites = self.tenants[tenant].sites;
        let site = sites[self.dice.below(2)];
        let from = Sender::BOTH[self.dice.below(2)];
        match self.dice.below(24) {
            0 => self.network.harm(site, &mut self.dice, |link| link.cut(None)),
            1 => self.network.harm(site, &mut self.dice, |link| link.cut(Some(from))),
            2 => self.network.harm(site, &mut self.dice, Link::forget),
            3 => self.network.set_stalled(site, from, true),
            4 => {
                Sender::BOTH
                    .into_iter()
                    .for_each(|from| self.network.set_stalled(site, from, true));
            }
            5..8 => self.network.heal(2 * self.tenants.len()),
            8 => self.start_rival(tenant),
            9 => self.lose_client(tenant).await,
            10 => self.stop_client(tenant).await,
            11 => self.lose_server().await,
            12 => tokio::time::advance(Duration::from_secs(self.dice.size(300) as u64)).await,
            13 => self.tenants[tenant].clients.iter().for_each(|client| client.engine.awake()),
            _ => {
                for _ in 0..=self.dice.below(3) {
                    let tenant = self.dice.below(self.tenants.len());
                    self.visit(tenant);
                }
            }
        }
        let pause = self.dice.size(3_000) as u64;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.check();
    }

    fn start_rival(&mut self, tenant: usize) {
        self.bury_ended();
        if self.tenants[tenant].clients.len() < 3 {
            self.start_client(tenant);
        }
    }

    /// As by `kill -9`; another one is started on one of the machines.
    async fn lose_client(&mut self, tenant: usize) {
        let clients = &mut self.tenants[tenant].clients;
        if !clients.is_empty() {
            let Client { mut serving, engine, .. } =
                clients.swap_remove(self.dice.below(clients.len()));
            serving.shutdown().await;
            drop(engine);
        }
        self.start_client(tenant);
    }

    async fn stop_client(&mut self, tenant: usize) {
        let clients = &mut self.tenants[tenant].clients;
        if !clients.is_empty() {
            let mut client = clients.swap_remove(self.dice.below(clients.len()));
            client.engine.shutdown(self.dice.millis(3_000)).await;
            client.serving.shutdown().await;
        }
        self.start_client(tenant);
    }

    /// As by `kill -9`, or told to end.
    async fn lose_server(&mut self) {
        let Some(server) = self.network.set_server(None) else { return };
        if self.dice.one_in(2) {
            drop(server);
        } else {
            server.shutdown(self.dice.millis(1_000)).await;
        }
        self.server_back = Some(Instant::now() + self.dice.millis(20_000));
    }

    /// A visitor whose luck nobody cares about, as long as all that it hears is right.
    fn visit(&mut self, tenant: usize) {
        let manner = [Manner::Straight, Manner::Slow, Manner::Fickle][self.dice.below(3)];
        if let Some(visit) = self.visitor(tenant, manner) {
            let ledger = Arc::clone(&self.ledger);
            self.visitors.spawn(async move { ledger.count(visit.await.is_ok()) });
        }
        while self.visitors.try_join_next().is_some() {}
    }

    /// `None`: there is no server.
    fn visitor(
        &mut self,
        tenant: usize,
        manner: Manner,
    ) -> Option<impl Future<Output = std::io::Result<u32>> + use<>> {
        let routes = self.network.with_server(ServerEngine::routes)?;
        let tenant = &self.tenants[tenant];
        self.visits += 1;
        let (question, answer) = (self.dice.size(1 << 17), self.dice.size(1 << 17));
        let visit = Visit::new(tenant.number, self.visits, question, answer);
        let (dice, ledger) = (self.dice.split(), Arc::clone(&self.ledger));
        Some(visit.pay(routes, tenant.host(), dice, manner, ledger))
    }

    /// What holds at any time.
    fn check(&mut self) {
        self.ledger.check();
        let Some(routes) = self.network.with_server(ServerEngine::routes) else { return };
        for tenant in &mut self.tenants {
            let Ok(tunnel) = routes.http(&tenant.host(), "/") else { continue };
            tenant.history.see(&tunnel.servants());
        }
        for client in self.tenants.iter().flat_map(|tenant| &tenant.clients) {
            client.check();
        }
    }

    /// Takes out clients that have ended.
    fn bury_ended(&mut self) {
        for tenant in &mut self.tenants {
            tenant.clients.retain(|client| !client.engine.has_ended());
        }
    }

    /// The last fault is over. A minute later everything works, for everybody, and stays so.
    pub(super) async fn settle(&mut self) {
        self.network.heal(2 * self.tenants.len());
        if self.server_back.is_some() {
            self.start_server();
        }
        self.bury_ended();
        for tenant in 0..self.tenants.len() {
            if self.tenants[tenant].clients.is_empty() {
                self.start_client(tenant);
            }
        }
        for _ in 0..MINUTE.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.check();
        }
        while self.visitors.try_join_next().is_some() {}
        assert_eq!(self.visitors.len(), 0, "visitors neither heard all nor that it broke");
        self.bury_ended();
        for tenant in 0..self.tenants.len() {
            let [client] = self.tenants[tenant].clients.as_slice() else {
                let left = self.tenants[tenant].clients.iter();
                let left: Vec<_> = left.map(|client| (client.number, client.site)).collect();
                panic!("one client has the name, and no other wants it: {left:?}");
            };
            let number = client.number;
            for _ in 0..3 {
                let visit = self.visitor(tenant, Manner::Straight).unwrap();
                let served = tokio::time::timeout(MINUTE, visit).await.expect("a visitor waits");
                assert_eq!(served.expect("a visitor was not served"), number);
                let fickle = self.visitor(tenant, Manner::Fickle).unwrap();
                let _ = tokio::time::timeout(MINUTE, fickle).await.expect("a visitor waits");
            }
        }
        self.check();
        // For the news of those who left early to arrive.
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.assert_nothing_else_is_there();
    }

    /// All visitors have gone, and of each tenant there is one client.
    fn assert_nothing_else_is_there(&self) {
        let there = |server: &ServerEngine| (server.streams(), server.tunnels(), server.sessions());
        let (streams, tunnels, sessions) = self.network.with_server(there).unwrap();
        assert_eq!((streams, tunnels), (0, self.tenants.len()), "streams or tunnels are left");
        let clients = || self.tenants.iter().flat_map(|tenant| &tenant.clients);
        let least = clients().map(|client| client.carriers.start()).sum();
        let most = clients().map(|client| client.carriers.end()).sum();
        assert!((least..=most).contains(&sessions), "{sessions} sessions, not {least} to {most}");
        // A direct carrier is none of an HTTP tunnel's.
        assert_eq!(self.network.connections(), sessions, "connections are left");
    }

    /// Everybody leaves, and nothing is left of them.
    pub(super) async fn end(mut self) -> Tally {
        for mut client in self.tenants.iter_mut().flat_map(|tenant| tenant.clients.drain(..)) {
            let drained = client.engine.shutdown(MINUTE).await;
            assert_eq!(drained.cut, 0);
            client.serving.shutdown().await;
        }
        // For the last words to arrive, and as long as names are kept for those who are gone.
        tokio::time::sleep(GRACE + Duration::from_secs(20)).await;
        let server = self.network.set_server(None).unwrap();
        let left = (server.sessions(), server.streams(), server.tunnels());
        assert_eq!(left, (0, 0, 0), "sessions, streams or tunnels are left");
        server.shutdown(MINUTE).await;
        assert_eq!(self.network.connections(), 0, "connections are left");
        self.ledger.check();
        let takeovers = self.tenants.iter().map(|tenant| tenant.history.takeovers).sum();
        Tally { takeovers, ..self.ledger.visits() }
    }
}

impl Client {
    /// It ends for one reason only.
    fn check(&self) {
        if self.engine.has_ended() {
            let end = outcome(self.engine.wait());
            assert!(matches!(end, Some(Err(ConnectError::Superseded(_)))), "{end:?}");
        }
    }
}

/// The outcome of what is ready.
fn outcome<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    match what.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

impl History {
    fn see(&mut self, servants: &[(ClientId, SessionId)]) {
        let Some((client, _)) = servants.first() else { return };
        assert!(servants.iter().all(|(one, _)| one == client), "two clients have one name");
        if self.client != Some(*client) {
            self.takeovers += u64::from(self.client.replace(*client).is_some());
            self.superseded.extend(self.sessions.drain());
        }
        for (_, session) in servants {
            assert!(!self.superseded.contains(session), "a superseded session has its name back");
            self.sessions.insert(*session);
        }
    }
}

/// How long a name is kept for a client that is gone.
const GRACE: Duration = Duration::from_secs(10);

/// Within that everything is well again after the last fault.
const MINUTE: Duration = Duration::from_secs(60);
