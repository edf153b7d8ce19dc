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
use super::service::Service;
use super::tenant::{Client, Sharing, Tenant};
use super::visit::{Counted, Door, Ledger, Manner, Tally, Visit, attend, attend_dialled};
use super::wire::{Latency, Link, Sender};
use crate::auth::issue_token;
use crate::client::{
    Acceptor, ClientConfig, ClientEngine, ClientTransport, Connections, Retry, ServerMode, Target,
    TunnelSpec,
};
use crate::direct::Streams;
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
        // What else there is does not depend on how visitors travel.
        let mut travel = dice.clone().split();
        let (count, servers) = (1 + dice.below(3), 1 + dice.below(2));
        let streams = (0..count).map(|_| match travel.below(4) {
            0 => Streams::Multiplexed,
            1 => Streams::Direct,
            _ => Streams::Auto,
        });
        Self::of(dice, streams.collect(), servers)
    }

    /// With a tenant for each of `streams`.
    fn of(mut dice: Dice, streams: Vec<Streams>, servers: usize) -> Self {
        let (count, mut principals) = (streams.len(), Vec::new());
        let tenants = streams.into_iter().enumerate().map(|(at, streams)| {
            let (token, verifier) = issue_token().unwrap();
            principals.push(PrincipalConfig::new(format!("p{at}")).verifier(verifier));
            Tenant::new(at, token, servers, streams, &mut dice)
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

    /// One tenant whose visitors have carriers to themselves, and one server. Over some of them everything comes later than over others.
    pub(super) fn direct(dice: Dice) -> Self {
        let world = Self::of(dice, vec![Streams::Direct], 1);
        let (least, jitter_ms) = (Duration::from_millis(20), 40);
        world.network.set_latency(Latency { least, jitter_ms });
        world
    }

    /// The same with streams alone.
    pub(super) fn multiplexed(mut self) -> Self {
        self.tenants.iter_mut().for_each(|tenant| tenant.streams = Streams::Multiplexed);
        self
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
            https_port: Some(443),
            tcp_ip: Ipv4Addr::LOCALHOST.into(),
            limits: LimitsConfig::default(),
            shards: Shards::inherit(),
            visitor_grace: GRACE,
            access: crate::access::AccessConfig::default(),
            heartbeat: Duration::from_secs(5),
            software: "simulated".to_owned(),
        };
        let engine = ServerEngine::start(config).unwrap();
        engine.list_streams();
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
        let (kind, options) = (tenant.kind(), tenant.options());
        let (held, ledger, mut dice) =
            (Arc::clone(&engine), Arc::clone(&self.ledger), self.dice.split());
        let (service, mut arrived) = Service::open(dice.clone().split());
        serving.spawn(async move {
            let spec = TunnelSpec {
                kind,
                name: format!("t{of}"),
                hosts: Vec::new(),
                port: 0,
                options,
                proxy_protocol: None,
                target: match kind {
                    TunnelKind::Tls => Target::Simulated(service),
                    _ => Target::InProcess(acceptor),
                },
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
                        let (stream, manner) = (visit.stream, Manner::Straight);
                        let guest = attend(stream, (of, number), manner, dice.split(), ledger);
                        guests.spawn(async move { drop(guest.await) });
                    }
                    Some(guest) = arrived.recv() => {
                        let ledger = Arc::clone(&ledger);
                        let guest = attend_dialled(guest, (of, number), dice.split(), ledger);
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
        if let Some((_, visit)) = self.visitor(tenant, server, manner) {
            let ledger = Arc::clone(&self.ledger);
            self.visitors.spawn(async move { ledger.count(visit.await.is_ok()) });
        }
        while self.visitors.try_join_next().is_some() {}
    }

    /// What is to be counted of it, and its visit. `None`: there is no server.
    fn visitor(
        &mut self,
        tenant: usize,
        server: usize,
        manner: Manner,
    ) -> Option<(Counted, impl Future<Output = std::io::Result<u32>> + use<>)> {
        let tenant = &self.tenants[tenant];
        let door = |server: &ServerEngine| match tenant.kind() {
            TunnelKind::Tls => Door::Tls(server.passing_door()),
            _ => Door::Http(server.routes()),
        };
        let door = self.network.with_server(server, door)?;
        self.visits += 1;
        // Most of those who may move say enough for that, and take their time. Every connection on the way chops what they say, and
        // who takes it in many small pieces is not to take a minute.
        let manner = match (tenant.kind(), manner) {
            (TunnelKind::Tls, Manner::Slow) => Manner::Chatty,
            (_, manner) => manner,
        };
        let mut len = || match (tenant.kind(), manner) {
            (TunnelKind::Tls, Manner::Chatty) => self.dice.below(1 << 14),
            (TunnelKind::Tls, _) => self.dice.below(1 << 15),
            _ => self.dice.size(1 << 17),
        };
        let (question, answer) = (len(), len());
        let visit = Visit::new(tenant.number, self.visits, question, answer);
        let (dice, ledger) = (self.dice.split(), Arc::clone(&self.ledger));
        let paying = visit.pay(door, tenant.host(), dice, manner, ledger);
        let (diary, number, of) = (self.diary, self.visits, tenant.number);
        diary.note(|| format!("visit {number} to t{of} at server {server}, {manner:?}"));
        let noted = async move {
            let served = paying.await;
            diary.note(|| format!("visit {number}: {served:?}"));
            served
        };
        Some((visit.counted(), noted))
    }

    /// What holds at any time.
    fn check(&mut self) {
        self.ledger.check();
        for server in self.servers() {
            for tenant in &mut self.tenants {
                let found = self.network.with_server(server, |server| tenant.tunnel(server));
                if let Some(tunnel) = found.flatten() {
                    tenant.see(server, &tunnel.servants());
                }
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
        let after = Duration::from_millis(1) + self.dice.millis(300);
        self.hand_over(server, after).await;
        self.recover().await;
        tokio::time::sleep(NEWS).await;
        for tenant in 0..self.tenants.len() {
            for server in self.servers() {
                self.until_quiet(tenant, server).await;
            }
        }
        self.assert_nothing_else_is_there().await;
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
        let look = |server: &ServerEngine| self.tenants[tenant].tunnel(server);
        let Some(tunnel) = self.network.with_server(server, look).unwrap() else {
            panic!("t{tenant} is not at server {server}");
        };
        let servants: HashSet<_> =
            tunnel.servants().into_iter().map(|(client, _)| client).collect();
        drop(tunnel);
        let clients: Vec<u32> = self.tenants[tenant].clients.iter().map(|it| it.number).collect();
        let expected = match self.tenants[tenant].sharing {
            Sharing::Alone => 1,
            Sharing::Group(_) => clients.len(),
        };
        assert_eq!(servants.len(), expected, "of {clients:?} at server {server}");
        tokio::time::sleep(NEWS).await;
        self.until_quiet(tenant, server).await;
        let (at_server, at_clients) = self.counted(tenant, server);
        let (mut expected_at_server, mut expected_at_clients) = (at_server, at_clients);
        let mut served_by = HashSet::new();
        for _ in 0..3 {
            let (counted, visit) = self.visitor(tenant, server, Manner::Straight).unwrap();
            expected_at_server += counted;
            expected_at_clients += counted;
            let served = tokio::time::timeout(MINUTE, visit).await.expect("a visitor waits");
            let served = served.expect("a visitor was not served");
            assert!(clients.contains(&served), "{served} is none of {clients:?}");
            served_by.insert(served);
        }
        assert!(served_by.len() <= expected, "{served_by:?}");
        let expected = (expected_at_server, expected_at_clients);
        let began = Instant::now();
        while let counted = self.counted(tenant, server)
            && counted != expected
        {
            // The last words of a visitor who has heard all are on the way.
            assert!(began.elapsed() < MINUTE, "{counted:?} at server {server}, not {expected:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for _ in 0..3 {
            let (_, fickle) = self.visitor(tenant, server, Manner::Fickle).unwrap();
            let _ = tokio::time::timeout(MINUTE, fickle).await.expect("a visitor waits");
        }
    }

    /// No visitor of a tenant is inside any more.
    async fn until_quiet(&self, tenant: usize, server: usize) {
        let principal = format!("p{tenant}");
        for _ in 0..MINUTE.as_secs() {
            let reader = self.network.with_server(server, ServerEngine::reader).unwrap();
            let found = reader.principals().into_iter().find(|one| one.name == principal);
            let clients = self.tenants[tenant].clients.iter();
            let mut tunnels = clients.flat_map(|it| it.engine.reader().read().unwrap().tunnels);
            if found.unwrap().streams == 0 && tunnels.all(|it| it.visitors == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("visitors of t{tenant} have not left server {server}, or its clients");
    }

    /// What is counted of the visits of a tenant at a server, and at its clients.
    fn counted(&self, tenant: usize, server: usize) -> (Counted, Counted) {
        let principal = format!("p{tenant}");
        let reader = self.network.with_server(server, ServerEngine::reader).unwrap();
        let tunnels = reader.tunnels();
        let tunnel = tunnels.into_iter().find(|it| it.principal == principal).unwrap();
        let (streams, bytes_in, bytes_out) =
            (tunnel.streams_opened, tunnel.bytes_in, tunnel.bytes_out);
        let at_server = Counted { streams, bytes_in, bytes_out };
        let mut at_clients = Counted::default();
        for client in &self.tenants[tenant].clients {
            for tunnel in client.engine.reader().read().unwrap().tunnels {
                at_clients += Counted {
                    streams: tunnel.streams_opened,
                    bytes_in: tunnel.bytes_in,
                    bytes_out: tunnel.bytes_out,
                };
            }
        }
        (at_server, at_clients)
    }

    /// Servers are handed over just behind the last carriers that they give away.
    pub(super) async fn hand_over_often(&mut self) {
        for millis in 1..=10 {
            // The client comes back at once only if all was well for as long.
            tokio::time::sleep(MINUTE + NEWS).await;
            self.hand_over(0, Duration::from_millis(millis)).await;
        }
        assert_eq!(self.network.carried().direct_whole, 30, "{:?}", self.network.carried());
    }

    /// A server is told to end while another one takes its place: whoever came in so long before is served to the end.
    async fn hand_over(&mut self, server: usize, after: Duration) {
        let mut inside = Vec::new();
        for tenant in 0..self.tenants.len() {
            if self.tenants[tenant].served_at().contains(&server) {
                for manner in [Manner::Straight, Manner::Slow, Manner::Slow] {
                    let Some((_, visit)) = self.visitor(tenant, server, manner) else { continue };
                    inside.push(tokio::spawn(visit));
                }
            }
        }
        tokio::time::sleep(after).await;
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
    async fn assert_nothing_else_is_there(&self) {
        let there = |server: &ServerEngine| (server.streams(), server.tunnels(), server.sessions());
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
            self.assert_nobody_is_inside(server);
            // Direct carriers that wait are dialled and closed at any time.
            let mut looks = 0;
            while let (there, known) = self.connections(server)
                && there != known
            {
                looks += 1;
                assert!(looks < 20, "{there} connections, and not {known}");
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
        }
        let clients = self.tenants.iter().flat_map(|tenant| &tenant.clients);
        for tunnel in clients.flat_map(|client| client.engine.reader().read().unwrap().tunnels) {
            assert_eq!(tunnel.visitors, 0, "places of visitors are left at a client");
        }
    }

    fn assert_nobody_is_inside(&self, server: usize) {
        let reader = self.network.with_server(server, ServerEngine::reader).unwrap();
        let readings = reader.read().unwrap();
        assert_eq!(readings.direct.serving, 0, "direct carriers serve nobody");
        let visitors: usize = readings.tunnels.iter().map(|tunnel| tunnel.visitors).sum();
        let counted: u64 = readings.totals.iter().map(|totals| totals.streams).sum();
        let of_principals: usize = reader.principals().iter().map(|one| one.streams).sum();
        assert_eq!((visitors, counted, of_principals), (0, 0, 0), "places of visitors are left");
        assert_eq!(reader.streams(1).1, 0, "streams are listed that are gone");
    }

    /// To that server: those that there are, and those of which it knows what they are for.
    fn connections(&self, server: usize) -> (usize, usize) {
        let known = |server: &ServerEngine| server.sessions() + server.direct_kept();
        let known = self.network.with_server(server, known).unwrap();
        (self.network.connections()[server], known)
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
            self.assert_nobody_is_inside(server);
            let engine = self.network.set_server(server, None).unwrap();
            let left = (engine.sessions(), engine.streams(), engine.tunnels());
            assert_eq!(left, (0, 0, 0), "sessions, streams or tunnels are left");
            engine.shutdown(MINUTE).await;
        }
        assert!(self.network.connections().iter().all(|count| *count == 0), "connections are left");
        self.ledger.check();
        let histories = self.tenants.iter().flat_map(|tenant| &tenant.histories);
        let takeovers = histories.map(|history| history.takeovers).sum();
        let carried = self.network.carried();
        Tally { takeovers, carried, ..self.ledger.visits() }
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

/// For the news of those who left early to arrive.
const NEWS: Duration = Duration::from_secs(5);

/// Within that everything is well again after the last fault.
const MINUTE: Duration = Duration::from_secs(60);
