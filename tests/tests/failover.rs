//! Several servers of one client: one after the other, or all at once.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ferrotunnel::{
    Client, ClientBuilder, ClientEvent, Connections, ErrorKind as Kind, Retry, ServerMode, Tunnel,
    TunnelInfo,
};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, PATIENCE, Site, TestBed, begin, client_of, eventually, over_both,
    public_addr, ready, run, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;

/// Two servers, and a client of both in that order.
struct Two {
    first: TestBed,
    second: TestBed,
    carrier: Carrier,
}

impl Two {
    async fn start(carrier: Carrier) -> Self {
        let first = TestBed::alone(carrier).await;
        Self { first, second: TestBed::alone(carrier).await, carrier }
    }

    fn client(&self, mode: ServerMode) -> ClientBuilder {
        let servers = [&self.first, &self.second].map(|bed| bed.server.tunnel_addr());
        client_of_all(servers, self.carrier).server_mode(mode)
    }
}

fn client_of_all(servers: [SocketAddr; 2], carrier: Carrier) -> ClientBuilder {
    client_of(servers[0], carrier).servers(servers.map(|server| server.to_string()))
}

/// The next tunnel that is ready at that server.
async fn ready_at(events: &mut Receiver<ClientEvent>, server: SocketAddr) -> TunnelInfo {
    let server = server.to_string();
    loop {
        let info = ready(events).await;
        if info.server == server {
            return info;
        }
    }
}

/// The servers of which that was told since, by what was told.
fn told(events: &mut Receiver<ClientEvent>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(match event {
            ClientEvent::Connected { server, .. } => format!("connected {server}"),
            ClientEvent::TunnelReady(info) => format!("ready {}", info.server),
            ClientEvent::TunnelLost { server, .. } => format!("lost {server}"),
            ClientEvent::Disconnected { server, .. } => format!("disconnected {server}"),
            other => format!("{other:?}"),
        });
    }
    told
}

/// Where nothing is answered and nothing refused. New connections wait, too.
async fn black_hole(bed: &TestBed) -> Link {
    let link = Link::to(bed.server.tunnel_addr()).await;
    link.blackhole();
    link
}

/// Whether a new visitor hears an echo there.
async fn hears_an_echo(public: SocketAddr) -> bool {
    let Ok(mut visitor) = TcpStream::connect(public).await else { return false };
    let mut echo = [0];
    visitor.write_all(b"x").await.is_ok() && visitor.read_exact(&mut echo).await.is_ok()
}

fn echo_tunnel(echo: &LocalService) -> Tunnel {
    Tunnel::tcp().local_addr(echo.addr().to_string())
}

#[test]
fn the_second_server_is_used_while_the_first_is_gone_and_left_when_it_is_back() {
    over_both(async |carrier| {
        let two = Two::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let client = two.client(ServerMode::Failover).tunnel(tunnel).build().unwrap();
        let mut events = client.events();
        let info = client.start().await.unwrap();
        let Two { first, second, carrier } = two;
        let (tunnel_addr, http_addr) = (first.server.tunnel_addr(), first.http_addr());
        assert_eq!(info.server, tunnel_addr.to_string());
        assert_eq!(first.get("app", "/hello").await.body, "hello");
        assert_eq!(second.server.sessions(), 0, "one is enough");

        // Without a word.
        drop(first);
        ready_at(&mut events, second.server.tunnel_addr()).await;
        assert_eq!(second.get("app", "/hello").await.body, "hello");

        // A visitor who stays while the client returns.
        let mut visitor = begin(second.http_addr(), &second.host("app"), "/held-body").await;
        site.held(1).await;
        while events.try_recv().is_ok() {}
        let first = TestBed::again(carrier, tunnel_addr, http_addr).await;
        ready_at(&mut events, tunnel_addr).await;
        assert_eq!(first.get("app", "/hello").await.body, "hello");
        soon("the tunnel to leave the second", async {
            while second.get("app", "/hello").await.status != 404 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        site.release();
        let mut rest = String::new();
        soon("the rest", async {
            while !rest.ends_with("0\r\n\r\n") {
                rest.push(char::from(visitor.read_u8().await.unwrap()));
            }
        })
        .await;
        assert!(rest.contains("first ") && rest.contains("released"), "{rest}");
        drop(visitor);
        eventually("the second session to end", || second.server.sessions() == 0).await;
        assert!(!told(&mut events).iter().any(|told| told.starts_with("disconnected")));
        drop(client);
    });
}

#[test]
fn two_addresses_of_one_server_do_not_take_the_tunnel_from_each_other() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let echo = LocalService::echo().await;
        for mode in [ServerMode::Failover, ServerMode::All] {
            let link = Link::to(bed.server.tunnel_addr()).await;
            link.blackhole();
            let site = Site::start().await;
            let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
            let client = client_of_all([link.addr(), bed.server.tunnel_addr()], carrier)
                .server_mode(mode)
                .tunnel(tunnel)
                .build()
                .unwrap();
            let mut events = client.events();
            let info = client.start().await.unwrap();
            assert_eq!(info.server, bed.server.tunnel_addr().to_string());
            // The first address leads there, too, from now on, and who waits there in the dark is let through.
            link.resume();
            ready_at(&mut events, link.addr()).await;
            for _ in 0..20 {
                assert_eq!(bed.get("app", "/hello").await.body, "hello");
            }
            // It is lost again: the other address has the tunnel.
            link.blackhole();
            link.cut();
            ready_at(&mut events, bed.server.tunnel_addr()).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
            assert!(!told(&mut events).iter().any(|told| told.starts_with("Ended")));
            client.shutdown().await.unwrap();
        }
        drop(echo);
    });
}

#[test]
fn there_is_no_gap_when_the_client_returns() {
    over_both(async |carrier| {
        let first_addr = LocalService::nobody().await;
        let second = TestBed::alone(carrier).await;
        let echo = LocalService::echo().await;
        let client = client_of_all([first_addr, second.server.tunnel_addr()], carrier)
            .connections(Connections::Exactly(2))
            .tunnel(echo_tunnel(&echo))
            .build()
            .unwrap();
        let mut events = client.events();
        let info = client.start().await.unwrap();
        assert_eq!(info.server, second.server.tunnel_addr().to_string());
        while events.try_recv().is_ok() {}
        let old = public_addr(&info.public_url);
        eventually("both carriers", || second.server.sessions() == 2).await;
        let http = SocketAddr::new(first_addr.ip(), 0);
        let first = TestBed::again(carrier, first_addr, http).await;
        // Somebody comes in at the one or at the other, at any time.
        let mut new = None;
        soon("the return", async {
            while second.server.sessions() > 0 {
                if hears_an_echo(old).await {
                    continue;
                }
                while let Ok(event) = events.try_recv() {
                    match event {
                        ClientEvent::TunnelReady(info) => new = Some(public_addr(&info.public_url)),
                        ClientEvent::Disconnected { reason, .. } => unreachable!("{reason}"),
                        _ => {}
                    }
                }
                assert!(new.is_some(), "a gap");
                assert!(hears_an_echo(new.unwrap()).await, "a gap");
            }
        })
        .await;
        eventually("both carriers", || first.server.sessions() == 2).await;
        drop(client);
    });
}

#[test]
fn a_server_that_drains_is_left_at_once_and_its_visitors_finish() {
    over_both(async |carrier| {
        let two = Two::start(carrier).await;
        let echo = LocalService::echo().await;
        let client = two.client(ServerMode::Failover).tunnel(echo_tunnel(&echo)).build().unwrap();
        let mut events = client.events();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        let Two { first, second, .. } = two;
        let stopping = tokio::spawn(first.server.shutdown());
        let began = Instant::now();
        let info = ready_at(&mut events, second.server.tunnel_addr()).await;
        // Long before the first has finished what is open.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let second_public = public_addr(&info.public_url);
        says_and_hears(&mut TcpStream::connect(second_public).await.unwrap()).await;
        says_and_hears(&mut visitor).await;
        drop(visitor);
        soon("the first to stop", stopping).await.unwrap().unwrap();
        drop(client);
    });
}

#[test]
fn a_server_that_answers_nothing_does_not_hold_up_the_next() {
    over_both(async |carrier| {
        let second = TestBed::alone(carrier).await;
        let dark = black_hole(&second).await;
        let echo = LocalService::echo().await;
        for mode in [ServerMode::Failover, ServerMode::All] {
            let client = client_of_all([dark.addr(), second.server.tunnel_addr()], carrier)
                .server_mode(mode)
                .tunnel(echo_tunnel(&echo))
                .build()
                .unwrap();
            let began = Instant::now();
            let info = soon("the start", client.start()).await.unwrap();
            // A second by design; a handshake may take ten.
            assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
            assert_eq!(info.server, second.server.tunnel_addr().to_string());
            let public = public_addr(&info.public_url);
            says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        }
    });
}

#[test]
fn all_servers_serve_at_once_and_one_that_dies_leaves_the_others_alone() {
    over_both(async |carrier| {
        let two = Two::start(carrier).await;
        let echo = LocalService::echo().await;
        let client = two
            .client(ServerMode::All)
            .connections(Connections::Exactly(2))
            .tunnel(echo_tunnel(&echo))
            .build()
            .unwrap();
        let mut events = client.events();
        let started = client.start().await.unwrap();
        let Two { first, second, carrier } = two;
        let tunnels = [ready(&mut events).await, ready(&mut events).await];
        assert_eq!(tunnels[0].public_url, started.public_url);
        assert_ne!(tunnels[0].server, tunnels[1].server);
        for tunnel in &tunnels {
            let public = public_addr(&tunnel.public_url);
            says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        }
        for bed in [&first, &second] {
            eventually("both carriers", || bed.server.sessions() == 2).await;
        }
        let at = |server: SocketAddr| {
            let tunnel = tunnels.iter().find(|tunnel| tunnel.server == server.to_string());
            public_addr(&tunnel.unwrap().public_url)
        };
        let (first_public, second_addr) =
            (at(first.server.tunnel_addr()), second.server.tunnel_addr());
        let mut visitor = TcpStream::connect(at(second_addr)).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert!(told(&mut events).iter().all(|told| told.starts_with("connected")));

        let (tunnel_addr, http_addr) = (first.server.tunnel_addr(), first.http_addr());
        drop(first);
        soon("the loss", async {
            while !matches!(events.recv().await.unwrap(), ClientEvent::Disconnected { .. }) {}
        })
        .await;
        says_and_hears(&mut visitor).await;
        says_and_hears(&mut TcpStream::connect(at(second_addr)).await.unwrap()).await;

        let first = TestBed::again(carrier, tunnel_addr, http_addr).await;
        let back = loop {
            let event = soon("the return", events.recv()).await.unwrap();
            match event {
                ClientEvent::TunnelReady(info) => break info,
                ClientEvent::Disconnected { server, .. }
                | ClientEvent::Connected { server, .. } => {
                    assert_eq!(server, tunnel_addr.to_string(), "the other one was disturbed");
                }
                other => unreachable!("{other:?}"),
            }
        };
        // What each of them had picked is its own.
        assert_eq!(public_addr(&back.public_url), first_public);
        says_and_hears(&mut TcpStream::connect(first_public).await.unwrap()).await;
        says_and_hears(&mut visitor).await;
        assert_eq!(second.server.sessions(), 2);
        eventually("both carriers", || first.server.sessions() == 2).await;
        drop(client);
    });
}

#[test]
fn a_newer_client_takes_over_at_all_servers_that_it_uses() {
    over_both(async |carrier| {
        let two = Two::start(carrier).await;
        let site = Site::start().await;
        let tunnel = || Tunnel::http("app").local_addr(site.addr().to_string());
        let old = two.client(ServerMode::All).tunnel(tunnel()).build().unwrap();
        let mut events = old.events();
        old.start().await.unwrap();
        ready(&mut events).await;
        ready(&mut events).await;
        // At one of them only.
        let one = two.first.client().tunnel(tunnel()).build().unwrap();
        one.start().await.unwrap();
        soon("the loss", async {
            while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelLost { .. }) {}
        })
        .await;
        assert_eq!(two.second.get("app", "/hello").await.body, "hello");
        // At both.
        let both = two.client(ServerMode::All).tunnel(tunnel()).build().unwrap();
        both.start().await.unwrap();
        assert_eq!(soon("the end", old.wait()).await.unwrap_err().kind(), Kind::Superseded);
        assert_eq!(soon("the end", one.wait()).await.unwrap_err().kind(), Kind::Superseded);
        assert_eq!(two.first.get("app", "/hello").await.body, "hello");
        drop(both);
    });
}

#[test]
fn a_client_that_stops_lets_the_visitors_of_all_servers_finish() {
    over_both(async |carrier| {
        let two = Two::start(carrier).await;
        let echo = LocalService::echo().await;
        let client = two
            .client(ServerMode::All)
            .drain_grace(PATIENCE * 10)
            .tunnel(echo_tunnel(&echo))
            .build()
            .unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        let mut visitors = Vec::new();
        for _ in 0..2 {
            let public = public_addr(&ready(&mut events).await.public_url);
            let mut visitor = TcpStream::connect(public).await.unwrap();
            says_and_hears(&mut visitor).await;
            visitors.push((public, visitor));
        }
        let stopping = tokio::spawn(async move { client.shutdown().await });
        for (public, visitor) in &mut visitors {
            let closed = || std::net::TcpStream::connect(*public).is_err();
            eventually("the door to be closed", closed).await;
            says_and_hears(visitor).await;
        }
        drop(visitors);
        soon("the end", stopping).await.unwrap().unwrap();
    });
}

#[test]
fn a_client_that_does_not_try_again_tries_every_server_first() {
    over_both(async |carrier| {
        let (nobody, second) = (LocalService::nobody().await, TestBed::start(carrier).await);
        let echo = LocalService::echo().await;
        let client = |last: SocketAddr| {
            let client = client_of_all([nobody, last], carrier);
            client.retry(Retry::Never).tunnel(echo_tunnel(&echo)).build().unwrap()
        };
        let found = client(second.server.tunnel_addr());
        assert!(soon("the start", found.start()).await.is_ok());
        let lost: Client = client(LocalService::nobody().await);
        let error = soon("the failure", lost.start()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unreachable);
    });
}

#[test]
fn visitors_of_a_server_that_drains_finish_though_no_server_is_left() {
    over_both(async |carrier| {
        let nobody = LocalService::nobody().await;
        let second = TestBed::with(carrier, |server| server.drain_grace(PATIENCE * 10)).await;
        let echo = LocalService::echo().await;
        let client = client_of_all([nobody, second.server.tunnel_addr()], carrier)
            .retry(Retry::Never)
            .tunnel(echo_tunnel(&echo))
            .build()
            .unwrap();
        let info = client.start().await.unwrap();
        let public = public_addr(&info.public_url);
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        let server = second.server;
        let stopping = tokio::spawn(async move { server.shutdown().await });
        let closed = || std::net::TcpStream::connect(public).is_err();
        eventually("the door to be closed", closed).await;
        // The attempts to reach anybody fail meanwhile.
        for _ in 0..100 {
            says_and_hears(&mut visitor).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(visitor);
        soon("the server's end", stopping).await.unwrap().unwrap();
        assert!(soon("the client's end", client.wait()).await.is_err());
    });
}

#[test]
fn a_token_is_wrong_when_no_server_takes_it() {
    over_both(async |carrier| {
        let right = TestBed::start(carrier).await;
        let other = TestBed::with(carrier, |server| server.token("another")).await;
        let echo = LocalService::echo().await;
        // The server that knows another token is passed over.
        let client =
            client_of_all([other.server.tunnel_addr(), right.server.tunnel_addr()], carrier)
                .tunnel(echo_tunnel(&echo))
                .build()
                .unwrap();
        let info = soon("the start", client.start()).await.unwrap();
        assert_eq!(info.server, right.server.tunnel_addr().to_string());
        let third = TestBed::with(carrier, |server| server.token("a-third")).await;
        let client =
            client_of_all([other.server.tunnel_addr(), third.server.tunnel_addr()], carrier)
                .tunnel(echo_tunnel(&echo))
                .build()
                .unwrap();
        let error = soon("the end", client.start()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthorized);
    });
}

#[test]
fn a_client_is_as_patient_as_it_is_told() {
    run(async {
        // Accepts, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for carrier in [Carrier::Tls, Carrier::Plaintext] {
            let client = client_of(silent.local_addr().unwrap(), carrier)
                .handshake_timeout(Duration::from_millis(100))
                .retry(Retry::Never)
                .local_addr("1")
                .build()
                .unwrap();
            let began = Instant::now();
            let error = soon("the failure", client.start()).await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
            // The default is 10 s.
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        }
    });
}

#[test]
fn servers_that_make_no_sense_are_refused() {
    let build = |servers: &[&str]| {
        let client = Client::builder().servers(servers.iter().copied());
        client.token("t").local_addr("1").build().unwrap_err().to_string()
    };
    assert!(build(&[]).contains("server_addr is not set"));
    assert!(build(&["a:1", "b"]).contains("host:port"));
    assert!(build(&["a:1", "b:1", "a:1"]).contains("twice"));
    let many: Vec<String> = (1..=17).map(|port| format!("a:{port}")).collect();
    assert!(build(&many.iter().map(String::as_str).collect::<Vec<_>>()).contains("more than 16"));
    let client = Client::builder().server_addr("a:1").token("t").local_addr("1");
    let error = client.connect_timeout(Duration::ZERO).build().unwrap_err();
    assert!(error.to_string().contains("connect_timeout"), "{error}");
}
