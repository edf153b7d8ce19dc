//! Who is there, what happens to them, and what has to hold all the while.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::{LimitsConfig, TunnelKind};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dice::Dice;
use super::network::{Network, Plug};
use super::tenant::{Client, Sharing, Tenant};
use super::visit::{Ledger, Manner, Tally, Visit, attend};
use super::wire::{Link, Sender};
use crate::auth::issue_token;
use crate::client::{
    Acceptor, ClientConfig, ClientEngine, ClientTransport, Connections, Retry, ServerMode, Target,
    TunnelSpec,
};
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
    /// When each server that has gone is started again.
    servers_back: Vec<Option<Instant>>,
    /// Servers that let their visitors finish.
    drains: JoinSet<()>,
    /// What happens is told, when a seed is played again.
    diary: Diary,
}

impl World {
    pub(super) fn new(mut dice: Dice) -> Self {
        let (count, servers) = (1 + dice.below(3), 1 + dice.below(2));
        let mut principals = Vec::new();
        let tenants = (0..count).map(|at| {
            let (token, verifier) = issue_token().unwrap();
            principals.push(PrincipalConfig::new(format!("p{at}")).verifier(verifier));
            Tenant::new(at, token, servers, &mut dice)
        });
        let tenants = tenants.collect();
        let network = Network::new(dice.split(), 2 * count, servers);
        Self {
            dice,
            network,
            ledger: Arc::default(),
            tenants,
            principals,
            visitors: JoinSet::new(),
            visits: 0,
            clients: 0,
            servers_back: vec![None; servers],
            drains: JoinSet::new(),
            diary: Diary::default(),
        }
    }

    /// The same with what happens told.
    pub(super) fn told(mut self) -> Self {
        self.diary = Diary::begin();
        self.tenants.iter().for_each(|tenant| self.diary.note(|| tenant.to_string()));
        self
    }

    fn servers(&self) -> std::ops::Range<usize> {
        0..self.servers_back.len()
    }

    pub(super) async fn begin(&mut self) {
        self.servers().for_each(|server| self.start_server(server));
        for tenant in 0..self.tenants.len() {
            self.start_client(tenant);
        }
        tokio::time::sleep(self.dice.millis(2_000)).await;
    }

    fn start_server(&mut self, server: usize) {
        self.servers_back[server] = None;
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
            software: "simulated".to_owned(),
        };
        let engine = ServerEngine::start(config).unwrap();
        assert!(self.network.set_server(server, Some(engine)).is_none());
    }

    fn start_client(&mut self, tenant: usize) {
        let (connections, carriers) = match self.dice.below(3) {
            0 => (Connections::Auto, 1..=8),
            count => (Connections::Exactly(count as u8), count..=count),
        };
        let tenant = &mut self.tenants[tenant];
        let site = tenant.sites[self.dice.below(2)];
        let config = ClientConfig {
            servers: tenant.servers.iter().map(|server| Network::name(*server)).collect(),
            server_mode: tenant.mode,
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
        let (events, mut told) = broadcast::channel(64);
        let engine = ClientEngine::start_over(plug, config, events).unwrap();
        let engine = Arc::new(engine);
        self.clients += 1;
        let (number, of) = (self.clients, tenant.number);
        let mut serving = JoinSet::new();
        let diary = self.diary;
        diary.note(|| format!("client {number} of t{of} starts at site {site}"));
        if diary.is_kept() {
            serving.spawn(async move {
                while let Ok(event) = told.recv().await {
                    diary.note(|| format!("client {number} of t{of}: {event:?}"));
                }
            });
        }
        let (acceptor, mut visits) = Acceptor::channel();
        let options = tenant.options();
        let (held, ledger, mut dice) =
            (Arc::clone(&engine), Arc::clone(&self.ledger), self.dice.split());
        serving.spawn(async move {
            let spec = TunnelSpec {
                kind: TunnelKind::Http,
                name: format!("t{of}"),
                hosts: Vec::new(),
                port: 0,
                options,
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
        for server in self.servers() {
            if self.servers_back[server].is_some_and(|at| at <= Instant::now()) {
                self.start_server(server);
            }
        }
        let tenant = self.dice.below(self.tenants.len());
        let sites = self.tenants[tenant].sites;
        let site = sites[self.dice.below(2)];
        let server = self.dice.below(self.servers_back.len());
        let from = Sender::BOTH[self.dice.below(2)];
        let what = self.dice.below(25);
        self.diary.note(|| match what {
            0 => format!("a connection of site {site} is cut"),
            1 => format!("one is cut, of which {from:?} hears nothing"),
            2 => format!("one of site {site} is forgotten"),
            3 => format!("what {from:?} says between site {site} and server {server} stalls"),
            4 => format!("between site {site} and server {server} everything stalls"),
            5..8 => "everything gets through again".to_owned(),
            8 => format!("t{tenant} gets one more client"),
            9 => format!("t{tenant} loses a client"),
            10 => format!("t{tenant} stops a client"),
            11 => format!("server {server} is lost"),
            12 => "time jumps".to_owned(),
            13 => format!("clients of t{tenant} wake up"),
            14 => format!("server {server} drains"),
            _ => "visitors come".to_owned(),
        });
        match what {
            0 => self.network.harm(site, &mut self.dice, |link| link.cut(None)),
            1 => self.network.harm(site, &mut self.dice, |link| link.cut(Some(from))),
            2 => self.network.harm(site, &mut self.dice, Link::forget),
            3 => self.network.set_stalled(site, server, from, true),
            4 => {
                // To one of the servers, or the cable of the site.
                let all = self.dice.one_in(2);
                for server in self.servers().filter(|one| all || *one == server) {
                    Sender::BOTH
                        .into_iter()
                        .for_each(|from| self.network.set_stalled(site, server, from, true));
                }
            }
            5..8 => self.network.heal(),
            8 => self.start_rival(tenant),
            9 => self.lose_client(tenant).await,
            10 => self.stop_client(tenant).await,
            11 => self.lose_server(server).await,
            12 => tokio::time::advance(Duration::from_secs(self.dice.size(300) as u64)).await,
            13 => self.tenants[tenant].clients.iter().for_each(|client| client.engine.awake()),
            14 => self.drain_server(server),
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
    async fn lose_server(&mut self, server: usize) {
        let Some(engine) = self.network.set_server(server, None) else { return };
        if self.dice.one_in(2) {
            drop(engine);
        } else {
            engine.shutdown(self.dice.millis(1_000)).await;
        }
        self.servers_back[server] = Some(Instant::now() + self.dice.millis(20_000));
    }

    /// It lets its visitors finish while the next one may have taken its place, as when sockets are handed on.
    fn drain_server(&mut self, server: usize) {
        let Some(engine) = self.network.set_server(server, None) else { return };
        let grace = self.dice.millis(30_000);
        self.drains.spawn(async move {
            let _ = engine.shutdown(grace).await;
        });
        if self.dice.one_in(2) {
            self.start_server(server);
        } else {
            self.servers_back[server] = Some(Instant::now() + self.dice.millis(20_000));
        }
    }

    /// A visitor whose luck nobody cares about, as long as all that it hears is right.
    fn visit(&mut self, tenant: usize) {
        let manner = [Manner::Straight, Manner::Slow, Manner::Fickle][self.dice.below(3)];
        let server = self.dice.below(self.servers_back.len());
        if let Some(visit) = self.visitor(tenant, server, manner) {
            let ledger = Arc::clone(&self.ledger);
            self.visitors.spawn(async move { ledger.count(visit.await.is_ok()) });
        }
        while self.visitors.try_join_next().is_some() {}
    }

    /// `None`: there is no server.
    fn visitor(
        &mut self,
        tenant: usize,
        server: usize,
        manner: Manner,
    ) -> Option<impl Future<Output = std::io::Result<u32>> + use<>> {
        let routes = self.network.with_server(server, ServerEngine::routes)?;
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
        for server in self.servers() {
            let Some(routes) = self.network.with_server(server, ServerEngine::routes) else {
                continue;
            };
            for tenant in &mut self.tenants {
                let Ok(tunnel) = routes.http(&tenant.host(), "/") else { continue };
                tenant.see(server, &tunnel.servants());
            }
        }
        self.tenants.iter().for_each(Tenant::check);
        while self.drains.try_join_next().is_some() {}
    }

    fn bury_ended(&mut self) {
        self.tenants.iter_mut().for_each(Tenant::bury_ended);
    }

    /// The last fault is over. A minute later everything works, for everybody, and stays so, whichever server is
    /// started anew.
    pub(super) async fn settle(&mut self) {
        self.diary.note(|| "nothing goes wrong any more".to_owned());
        self.network.heal();
        for server in self.servers() {
            if self.servers_back[server].is_some() {
                self.start_server(server);
            }
        }
        self.bury_ended();
        self.recover().await;
        let server = self.dice.below(self.servers_back.len());
        self.hand_over(server).await;
        self.recover().await;
        // For the news of those who left early to arrive.
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.assert_nothing_else_is_there();
    }

    async fn recover(&mut self) {
        for _ in 0..MINUTE.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.check();
        }
        while self.visitors.try_join_next().is_some() {}
        assert_eq!(self.visitors.len(), 0, "visitors neither heard all nor that it broke");
        assert_eq!(self.drains.len(), 0, "a server neither let its visitors finish nor cut them");
        self.bury_ended();
        for tenant in 0..self.tenants.len() {
            for server in self.tenants[tenant].served_at().to_vec() {
                self.assert_works(tenant, server).await;
            }
            let Tenant { mode, sharing, clients, .. } = &self.tenants[tenant];
            // With all servers, each may have met another one last.
            let most = if *mode == ServerMode::All { self.servers_back.len() } else { 1 };
            let left: Vec<_> = clients.iter().map(|client| (client.number, client.site)).collect();
            let is_right = *sharing != Sharing::Alone || (1..=most).contains(&left.len());
            assert!(is_right, "the newest has the name, and no other wants it: {left:?}");
        }
        self.check();
    }

    async fn assert_works(&mut self, tenant: usize, server: usize) {
        let routes = self.network.with_server(server, ServerEngine::routes).unwrap();
        let found = routes.http(&self.tenants[tenant].host(), "/");
        let servants: HashSet<_> = match found {
            Ok(tunnel) => tunnel.servants().into_iter().map(|(client, _)| client).collect(),
            Err(miss) => panic!("t{tenant} is not at server {server}: {miss:?}"),
        };
        let clients: Vec<u32> = self.tenants[tenant].clients.iter().map(|it| it.number).collect();
        let expected = match self.tenants[tenant].sharing {
            Sharing::Alone => 1,
            Sharing::Group(_) => clients.len(),
        };
        assert_eq!(servants.len(), expected, "of {clients:?} at server {server}");
        let mut served_by = HashSet::new();
        for _ in 0..3 {
            let visit = self.visitor(tenant, server, Manner::Straight).unwrap();
            let served = tokio::time::timeout(MINUTE, visit).await.expect("a visitor waits");
            let served = served.expect("a visitor was not served");
            assert!(clients.contains(&served), "{served} is none of {clients:?}");
            served_by.insert(served);
            let fickle = self.visitor(tenant, server, Manner::Fickle).unwrap();
            let _ = tokio::time::timeout(MINUTE, fickle).await.expect("a visitor waits");
        }
        assert!(served_by.len() <= expected, "{served_by:?}");
    }

    /// A server is told to end while another one takes its place: whoever is inside is served to the end.
    async fn hand_over(&mut self, server: usize) {
        let mut inside = Vec::new();
        for tenant in 0..self.tenants.len() {
            if self.tenants[tenant].served_at().contains(&server) {
                let visits = (0..3).filter_map(|_| self.visitor(tenant, server, Manner::Straight));
                inside.extend(visits.map(tokio::spawn));
            }
        }
        // They have come in, and got as far as the dice say.
        tokio::time::sleep(Duration::from_millis(1) + self.dice.millis(300)).await;
        self.diary.note(|| format!("server {server} is handed over"));
        let engine = self.network.set_server(server, None).unwrap();
        self.start_server(server);
        let drained = engine.shutdown(MINUTE).await;
        assert_eq!(drained.cut, 0, "visitors were cut off though there was time");
        for visit in inside {
            let served = visit.await.expect("a visit panicked");
            served.expect("a visitor who was inside was not served to the end");
            self.ledger.finished_inside();
        }
    }

    /// All visitors have gone, and of each tenant there are the clients that have its name.
    fn assert_nothing_else_is_there(&self) {
        let there = |server: &ServerEngine| (server.streams(), server.tunnels(), server.sessions());
        let connections = self.network.connections();
        for server in self.servers() {
            let (streams, tunnels, sessions) = self.network.with_server(server, there).unwrap();
            let tenants =
                || self.tenants.iter().filter(|tenant| tenant.served_at().contains(&server));
            let expected = (0, tenants().count());
            assert_eq!((streams, tunnels), expected, "streams or tunnels are left");
            let clients = || tenants().flat_map(|tenant| &tenant.clients);
            let least = clients().map(|client| client.carriers.start()).sum();
            let most = clients().map(|client| client.carriers.end()).sum();
            assert!(
                (least..=most).contains(&sessions),
                "{sessions} sessions, not {least} to {most}"
            );
            // A direct carrier is none of an HTTP tunnel's.
            assert_eq!(connections[server], sessions, "connections are left");
        }
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
        for server in self.servers() {
            let engine = self.network.set_server(server, None).unwrap();
            let left = (engine.sessions(), engine.streams(), engine.tunnels());
            assert_eq!(left, (0, 0, 0), "sessions, streams or tunnels are left");
            engine.shutdown(MINUTE).await;
        }
        assert!(self.network.connections().iter().all(|count| *count == 0), "connections are left");
        self.ledger.check();
        let histories = self.tenants.iter().flat_map(|tenant| &tenant.histories);
        let takeovers = histories.map(|history| history.takeovers).sum();
        Tally { takeovers, ..self.ledger.visits() }
    }
}

/// Tells what happens and when, if it is kept.
#[derive(Clone, Copy, Default)]
struct Diary(Option<Instant>);

impl Diary {
    fn begin() -> Self {
        Self(Some(Instant::now()))
    }

    fn is_kept(self) -> bool {
        self.0.is_some()
    }

    fn note(self, what: impl FnOnce() -> String) {
        if let Some(began) = self.0 {
            println!("{:>8.3} {}", began.elapsed().as_secs_f64(), what());
        }
    }
}

/// How long a name is kept for a client that is gone.
const GRACE: Duration = Duration::from_secs(10);

/// Within that everything is well again after the last fault.
const MINUTE: Duration = Duration::from_secs(60);
