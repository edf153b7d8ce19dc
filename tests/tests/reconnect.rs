//! Tunnels come back: takeovers, cut and silent connections, servers that restart.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use ferrotunnel::{
    Client, ClientEvent, Connections, ErrorKind as Kind, LimitsConfig, PrincipalConfig, Streams,
    Tunnel, issue_token,
};
use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::frame::{Frame, FrameType, Register};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, Outlaw, PATIENCE, Site, TestBed, begin, eventually, over_both,
    public_addr, ready, run, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;

/// Waits until the client has noticed that its session is lost.
async fn disconnected(events: &mut Receiver<ClientEvent>) {
    soon("the client to notice", async {
        while !matches!(events.recv().await.unwrap(), ClientEvent::Disconnected { .. }) {}
    })
    .await;
}

async fn http_over(bed: &TestBed, link: &Link, name: &str, site: &Site) -> Client {
    let tunnel = Tunnel::http(name).local_addr(site.addr().to_string());
    let client = bed.client_over(link).tunnel(tunnel).build().unwrap();
    client.start().await.unwrap();
    client
}

#[test]
fn reconnect_takes_over_its_name() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let site = Site::start().await;
        let echo = LocalService::echo().await;
        // Names and ports that the server picked are asked for again.
        let client = bed
            .client_over(&link)
            .tunnel(Tunnel::http("").local_addr(site.addr().to_string()))
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Multiplexed))
            .build()
            .unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        let before = [ready(&mut events).await, ready(&mut events).await];
        for round in 1..=3 {
            link.cut();
            let after = [ready(&mut events).await, ready(&mut events).await];
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(before.public_url, after.public_url);
                assert_ne!(before.session_id, after.session_id);
            }
            assert_eq!(link.accepted(), 1 + round);
            assert_eq!(bed.get(&after[0].name, "/hello").await.body, "hello");
            let public = public_addr(&after[1].public_url);
            says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        }
        eventually("the sessions of before to end", || bed.server.sessions() == 1).await;
    });
}

#[test]
fn the_newest_client_takes_a_name_over_and_the_old_one_stops() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let old_site = Site::start().await;
        let new_site = LocalService::answering(
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nnew",
        )
        .await;
        let old = http_over(&bed, &link, "app", &old_site).await;
        let mut events = old.events();
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        let began = Instant::now();
        let new = bed.http("app", new_site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "new");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());

        let event = soon("the loss", events.recv()).await.unwrap();
        let ClientEvent::TunnelLost { name, .. } = event else { unreachable!("{event:?}") };
        assert_eq!(name, "app");
        let event = soon("the end", events.recv()).await.unwrap();
        assert!(matches!(event, ClientEvent::Ended { reason: Some(_) }), "{event:?}");
        let error = soon("the end", old.wait()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Superseded);
        assert!(!error.is_retryable());
        assert_eq!(link.accepted(), 1, "it does not fight back");
        assert_eq!(bed.get("app", "/hello").await.body, "new");
        eventually("the old session to end", || bed.server.sessions() == 1).await;
        drop(new);
    });
}

/// As that of a client that was killed while it was under way.
#[test]
fn a_register_that_comes_late_takes_no_name_from_a_newer_client() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let mut late = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let newer = bed.http("app", site.addr()).await;
        let (kind, name) = (TunnelKind::Http, "app".to_owned());
        let register = Register { kind, name, hosts: Vec::new(), port: 0, options: Vec::new() };
        late.say(&Frame::Register(1, register)).await;
        let answer = late.hear_a(FrameType::Registered).await.registered();
        assert_eq!(answer, Err(7), "superseded");
        drop(late);
        eventually("the late one to leave", || bed.server.sessions() == 1).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        drop(newer);
    });
}

#[test]
fn a_tunnel_that_a_newer_client_had_is_asked_for_when_it_is_set_again() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = |name| Tunnel::http(name).local_addr(site.addr().to_string());
        let old = bed.client().tunnel(tunnel("own")).build().unwrap();
        soon("it starts", old.start()).await.unwrap();
        let mut events = old.events();
        let newer = bed.http("app", site.addr()).await;
        let both = [tunnel("own"), tunnel("app")];
        assert_eq!(old.set_tunnels(both.clone()).await.unwrap().added, 1);
        soon("the refusal", async {
            while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelLost { .. }) {}
        })
        .await;
        drop(newer);
        eventually("the newer one to leave", || bed.server.sessions() == 1).await;
        let changes = old.set_tunnels(both).await.unwrap();
        assert_eq!((changes.added, changes.unchanged), (1, 1));
        soon("the tunnel", async {
            while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelReady(_)) {}
        })
        .await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn the_newest_client_takes_a_port_over() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (old, public) = bed.tcp(LocalService::nobody().await).await;
        let tunnel = Tunnel::tcp().remote_port(public.port()).local_addr(echo.addr().to_string());
        let new = bed.client().tunnel(tunnel).build().unwrap();
        new.start().await.unwrap();
        assert_eq!(soon("the end", old.wait()).await.unwrap_err().kind(), Kind::Superseded);
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        // What the old one leaves behind is not the new one's.
        drop(old);
        eventually("the old session to end", || bed.server.sessions() == 1).await;
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
    });
}

#[test]
fn a_client_that_takes_a_host_from_itself_is_told() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = || Tunnel::http("app").local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel()).tunnel(tunnel()).build().unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        soon("the loss", async {
            while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelLost { .. }) {}
        })
        .await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert_eq!(bed.server.sessions(), 1);
    });
}

#[test]
fn a_client_keeps_the_tunnels_that_nobody_took() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = |name| Tunnel::http(name).local_addr(site.addr().to_string());
        let both = bed.client().tunnel(tunnel("lost")).tunnel(tunnel("kept")).build().unwrap();
        both.start().await.unwrap();
        let mut events = both.events();
        let other = bed.http("lost", LocalService::nobody().await).await;
        let event = soon("the loss", events.recv()).await.unwrap();
        assert!(matches!(event, ClientEvent::TunnelLost { .. }), "{event:?}");
        assert_eq!(bed.get("kept", "/hello").await.body, "hello");
        assert_eq!(bed.get("lost", "/hello").await.status, 502);
        assert_eq!(bed.server.sessions(), 2);
        drop(other);
    });
}

#[test]
fn a_name_is_taken_over_from_a_client_that_fell_silent() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let site = Site::start().await;
        let silent = http_over(&bed, &link, "app", &site).await;
        link.blackhole();
        // The server cannot know yet that the old one is gone, and nobody waits for it.
        let began = Instant::now();
        let _new = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drop(silent);
    });
}

/// It knows that it has lost its way, as after a change of network, and the server cannot. The session of before has the last
/// place, and nobody is refused for that.
#[test]
fn a_client_whose_silent_session_has_the_last_place_is_let_in() {
    over_both(async |carrier| {
        let comes_back = async |of_principal: bool| {
            let (token, verifier) = issue_token().unwrap();
            let mut web = PrincipalConfig::new("web").verifier(verifier);
            let mut limits = LimitsConfig::default();
            match of_principal {
                true => web.max_sessions = Some(1),
                false => limits.max_sessions = 1,
            }
            let server = TestBed::with(carrier, |server| server.principals([web]).limits(limits));
            let bed = server.await;
            let link = Link::to(bed.server.tunnel_addr()).await;
            let site = Site::start().await;
            let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
            let client = bed.client_over(&link).token(token.reveal()).tunnel(tunnel);
            let client = client.build().unwrap();
            let before = soon("a tunnel", client.start()).await.unwrap();
            let mut events = client.events();
            link.blackhole();
            let session = client.reader().unwrap().read().unwrap().carriers[0].session.unwrap();
            client.control().unwrap().close(session).unwrap();
            disconnected(&mut events).await;
            link.resume();
            let after = ready(&mut events).await;
            assert_ne!(before.session_id, after.session_id);
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
            let turned_away = bed.server.turned_away();
            assert_eq!((turned_away.sessions, turned_away.sessions_of_principals), (0, 0));
        };
        tokio::join!(comes_back(false), comes_back(true));
    });
}

#[test]
fn a_client_that_asks_for_more_connections_than_it_may_have_keeps_the_one_that_it_has() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_sessions = 1;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let client = bed.client().connections(Connections::Exactly(2)).tunnel(tunnel);
        let client = client.build().unwrap();
        soon("a tunnel", client.start()).await.unwrap();
        let sessions = || {
            let carriers = client.reader().unwrap().read().unwrap().carriers;
            carriers.iter().filter_map(|carrier| carrier.session).collect::<Vec<_>>()
        };
        let before = sessions();
        eventually("two refusals", || bed.server.turned_away().sessions >= 2).await;
        assert_eq!(before.len(), 1);
        assert_eq!(sessions(), before);
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

/// A client with an HTTP tunnel and a TCP tunnel, after a restart of its server that left it without
/// the TCP one: somebody else has the port until the listener is dropped.
async fn with_one_refused(
    carrier: Carrier,
    site: &Site,
    echo: &LocalService,
) -> (Client, Receiver<ClientEvent>, TestBed, TcpListener) {
    let bed = TestBed::alone(carrier).await;
    let (tunnel_addr, http_addr) = (bed.server.tunnel_addr(), bed.http_addr());
    let port = {
        let free = TcpListener::bind((tunnel_addr.ip(), 0)).await.unwrap();
        free.local_addr().unwrap().port()
    };
    let client = bed
        .client()
        .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
        .tunnel(Tunnel::tcp().remote_port(port).local_addr(echo.addr().to_string()))
        .build()
        .unwrap();
    client.start().await.unwrap();
    let mut events = client.events();
    soon("the shutdown", bed.server.shutdown()).await.unwrap();
    let taken = TcpListener::bind((tunnel_addr.ip(), port)).await.unwrap();
    let bed = TestBed::with(carrier, |server| server.bind(tunnel_addr).http_bind(http_addr)).await;
    let app = ready(&mut events).await;
    assert_eq!(app.name, "app");
    let event = soon("the refusal", events.recv()).await.unwrap();
    let ClientEvent::TunnelLost { name, reason, .. } = event else { unreachable!("{event:?}") };
    assert_eq!(name, format!("tcp:{port}"));
    assert!(reason.contains("again"), "{reason}");
    assert_eq!(bed.get("app", "/hello").await.body, "hello");
    (client, events, bed, taken)
}

#[test]
fn a_tunnel_that_is_refused_at_a_reconnect_leaves_the_others_alone() {
    over_both(async |carrier| {
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let (client, mut events, bed, taken) = with_one_refused(carrier, &site, &echo).await;
        let public = taken.local_addr().unwrap();
        drop(taken);
        // The very next event: the session stayed, and nothing was said twice.
        let event = soon("the port", events.recv()).await.unwrap();
        let ClientEvent::TunnelReady(info) = event else { unreachable!("{event:?}") };
        assert_eq!(public_addr(&info.public_url), public);
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert_eq!(bed.server.sessions(), 1);
        drop(client);
    });
}

#[test]
fn a_client_that_lost_one_tunnel_comes_back_for_another_it_still_wants() {
    over_both(async |carrier| {
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let (client, mut events, bed, taken) = with_one_refused(carrier, &site, &echo).await;
        let public = taken.local_addr().unwrap();
        // The last tunnel that the server knows of; the client waits for its port all the same.
        let newer = bed.http("app", LocalService::nobody().await).await;
        let event = soon("the loss", events.recv()).await.unwrap();
        assert!(matches!(event, ClientEvent::TunnelLost { .. }), "{event:?}");
        drop(taken);
        let info = ready(&mut events).await;
        assert_eq!(public_addr(&info.public_url), public);
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        assert_eq!(bed.get("app", "/hello").await.status, 502, "it does not fight back");
        drop((client, newer));
    });
}

#[test]
fn what_the_server_picked_is_not_taken_back_from_another_client() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let picked = bed
            .client_over(&link)
            .tunnel(Tunnel::http("").local_addr(site.addr().to_string()))
            .tunnel(Tunnel::tcp().local_addr(LocalService::nobody().await.to_string()))
            .build()
            .unwrap();
        let mut events = picked.events();
        picked.start().await.unwrap();
        let before = [ready(&mut events).await, ready(&mut events).await];
        link.blackhole();
        link.cut();
        eventually("the session to end", || bed.server.sessions() == 0).await;
        // Meanwhile somebody with the same token asks for just these.
        let public = public_addr(&before[1].public_url);
        let other = bed
            .client()
            .tunnel(Tunnel::http(&before[0].name).local_addr(site.addr().to_string()))
            .tunnel(Tunnel::tcp().remote_port(public.port()).local_addr(echo.addr().to_string()))
            .build()
            .unwrap();
        other.start().await.unwrap();
        let mut other_events = other.events();
        link.resume();
        let after = [ready(&mut events).await, ready(&mut events).await];
        assert_ne!(after[0].name, before[0].name);
        assert_ne!(after[1].public_url, before[1].public_url);
        assert_eq!(bed.get(&after[0].name, "/hello").await.body, "hello");
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        assert!(other_events.try_recv().is_err(), "the other client was disturbed");
        // It keeps the new ones from now on.
        link.cut();
        let last = [ready(&mut events).await, ready(&mut events).await];
        assert_eq!(last[0].name, after[0].name);
        assert_eq!(last[1].public_url, after[1].public_url);
    });
}

#[test]
fn visitors_of_a_lost_session_are_told_at_once() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp_over(&link, echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        link.cut();
        let end = soon("the end", visitor.read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "not a clean end");
    });
}

#[test]
fn blackholed_peer_is_noticed() {
    // Both at once: it takes as long as three heartbeats.
    run(async { tokio::join!(blackhole(Carrier::Tls), blackhole(Carrier::Plaintext)) });
}

async fn blackhole(carrier: Carrier) {
    let bed = TestBed::alone(carrier).await;
    let link = Link::to(bed.server.tunnel_addr()).await;
    let echo = LocalService::echo().await;
    let (client, public) = bed.tcp_over(&link, echo.addr()).await;
    let mut events = client.events();
    let mut visitor = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut visitor).await;

    link.blackhole();
    let began = Instant::now();
    // The client's side, the server's side, and the visitor in between.
    let client_notices = disconnected(&mut events);
    let server_notices = eventually("the server to notice", || bed.server.sessions() == 0);
    let visitor_notices = soon("the visitor to be told", visitor.read_u8());
    let ((), (), told) = tokio::join!(client_notices, server_notices, visitor_notices);
    assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // 15 s by design; the rest is for a machine that is busy.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());

    link.resume();
    let back = ready(&mut events).await;
    assert_eq!(public_addr(&back.public_url), public);
    says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
}

#[test]
fn blackholed_peer_is_noticed_in_the_middle_of_a_download() {
    run(async { tokio::join!(dark_download(Carrier::Tls), dark_download(Carrier::Plaintext)) });
}

/// A session that is busy sending hears nothing either, and its sockets' buffers are full.
async fn dark_download(carrier: Carrier) {
    let bed = TestBed::start(carrier).await;
    let link = Link::to(bed.server.tunnel_addr()).await;
    let site = Site::start().await;
    let client = http_over(&bed, &link, "app", &site).await;
    let mut events = client.events();
    let mut visitor = begin(bed.http_addr(), &bed.host("app"), "/endless").await;
    let mut some = vec![0; 1 << 20];
    soon("a megabyte", visitor.read_exact(&mut some)).await.unwrap();
    link.blackhole();
    let began = Instant::now();
    let visitor_notices = async {
        let end = soon("the visitor to be told", async {
            loop {
                match visitor.read(&mut some).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => return Some(error.kind()),
                }
            }
        });
        end.await
    };
    tokio::join!(visitor_notices, disconnected(&mut events));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    link.resume();
    ready(&mut events).await;
    assert_eq!(bed.get("app", "/hello").await.body, "hello");
}

#[test]
fn a_server_that_restarts_gets_its_clients_back() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let site = Site::start().await;
        let (tunnel_addr, http_addr) = (bed.server.tunnel_addr(), bed.http_addr());
        let client = bed.http("app", site.addr()).await;
        let mut events = client.events();
        let host = bed.host("app");
        soon("the shutdown", bed.server.shutdown()).await.unwrap();
        let again =
            || TestBed::server(carrier).bind(tunnel_addr).http_bind(http_addr).build().unwrap();
        let second = again().spawn().await.unwrap();
        ready(&mut events).await;
        assert_eq!(ferrotunnel_tests::get(http_addr, &host, "/hello").await.body, "hello");

        // Without a word this time.
        drop(second);
        let third = soon("the ports", async {
            loop {
                match again().spawn().await {
                    Ok(server) => return server,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let _third = third.await;
        ready(&mut events).await;
        assert_eq!(ferrotunnel_tests::get(http_addr, &host, "/hello").await.body, "hello");
    });
}

#[test]
fn a_client_may_be_started_before_its_server() {
    over_both(async |carrier| {
        let addr = LocalService::nobody().await;
        let client = ferrotunnel_tests::client_of(addr, carrier).local_addr("1").build().unwrap();
        let mut events = client.events();
        let starting = tokio::spawn(async move { client.start().await.map(|info| (client, info)) });
        for _ in 0..3 {
            let event = soon("an attempt", events.recv()).await.unwrap();
            assert!(matches!(event, ClientEvent::Disconnected { .. }), "{event:?}");
        }
        let server = TestBed::server(carrier).bind(addr).build().unwrap();
        let _server = server.spawn().await.unwrap();
        let (client, _) = soon("the start", starting).await.unwrap().unwrap();
        soon("the shutdown", client.shutdown()).await.unwrap();
    });
}

#[test]
fn a_client_stops_when_told_to_while_it_waits_for_the_server() {
    over_both(async |carrier| {
        let addr = LocalService::nobody().await;
        let client = ferrotunnel_tests::client_of(addr, carrier).local_addr("1");
        let client = std::sync::Arc::new(client.drain_grace(PATIENCE).build().unwrap());
        let mut events = client.events();
        let starting = {
            let client = std::sync::Arc::clone(&client);
            tokio::spawn(async move { client.start().await })
        };
        soon("an attempt", events.recv()).await.unwrap();
        soon("the shutdown", client.shutdown()).await.unwrap();
        let error = soon("start to give up", starting).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::Shutdown);
    });
}

#[test]
fn a_slow_link_is_not_a_dead_one() {
    run(async { tokio::join!(slow_link(Carrier::Tls), slow_link(Carrier::Plaintext)) });
}

/// A link that is full in both directions for longer than a silent peer would be forgiven.
async fn slow_link(carrier: Carrier) {
    let bed = TestBed::start(carrier).await;
    let link = Link::to(bed.server.tunnel_addr()).await;
    let echo = LocalService::echo().await;
    let (_client, public) = bed.tcp_over(&link, echo.addr()).await;
    link.slow_down(100_000);
    let (mut read, mut write) = TcpStream::connect(public).await.unwrap().into_split();
    let speaking = async {
        let block = Site::pattern();
        while write.write_all(&block).await.is_ok() {}
    };
    let listening = async {
        let began = Instant::now();
        let mut buffer = vec![0; 64 << 10];
        while began.elapsed() < Duration::from_secs(18) {
            assert!(soon("some bytes", read.read(&mut buffer)).await.unwrap() > 0);
        }
    };
    tokio::select! {
        () = speaking => unreachable!("the visitor was cut off"),
        () = listening => {}
    }
    assert_eq!(link.accepted(), 1, "the session was given up");
}

#[test]
fn quiet_sessions_and_connections_stay() {
    run(async { tokio::join!(quiet(Carrier::Tls), quiet(Carrier::Plaintext)) });
}

/// Nothing is said for longer than a silent peer would be forgiven.
async fn quiet(carrier: Carrier) {
    let bed = TestBed::start(carrier).await;
    let link = Link::to(bed.server.tunnel_addr()).await;
    let echo = LocalService::echo().await;
    let (_client, public) = bed.tcp_over(&link, echo.addr()).await;
    let mut visitor = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut visitor).await;
    tokio::time::sleep(Duration::from_secs(18)).await;
    says_and_hears(&mut visitor).await;
    assert_eq!(link.accepted(), 1, "the session was given up");
}
