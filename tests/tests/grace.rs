//! Visitors that come while a client is away.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::time::Duration;

use ferrotunnel::{Client, PrincipalConfig, ServerMetrics, Streams, Tunnel, issue_token};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, PATIENCE, Site, TestBed, eventually, over_both, public_addr,
    says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server whose visitors wait for as long as this test does.
async fn patient(carrier: Carrier) -> TestBed {
    TestBed::with(carrier, |server| server.visitor_grace(PATIENCE * 2)).await
}

/// A client with a TCP tunnel on that port, or on any.
async fn client(bed: &TestBed, port: u16, local: SocketAddr) -> (Client, SocketAddr) {
    let tunnel = Tunnel::tcp().remote_port(port).local_addr(local.to_string());
    let client = bed.client().tunnel(tunnel.streams(Streams::Multiplexed)).build().unwrap();
    let public = public_addr(&client.start().await.unwrap().public_url);
    (client, public)
}

#[test]
fn visitors_of_a_client_that_restarts_wait_for_it() {
    over_both(async |carrier| {
        let bed = patient(carrier).await;
        let echo = LocalService::echo().await;
        let (first, public) = client(&bed, 0, echo.addr()).await;
        // Once with a goodbye, and once as by `kill -9`.
        soon("the shutdown", first.shutdown()).await.unwrap();
        for round in 0..2 {
            eventually("the session to end", || bed.server.sessions() == 0).await;
            let mut early = TcpStream::connect(public).await.unwrap();
            let mut others = Vec::new();
            for _ in 0..10 {
                others.push(TcpStream::connect(public).await.unwrap());
            }
            let (next, same) = client(&bed, public.port(), echo.addr()).await;
            assert_eq!(same, public, "round {round}");
            says_and_hears(&mut early).await;
            for other in &mut others {
                says_and_hears(other).await;
            }
            drop(next);
        }
    });
}

#[test]
fn visitors_wait_while_a_link_is_down() {
    over_both(async |carrier| {
        let bed = patient(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp_over(&link, echo.addr()).await;
        // New connections wait in the dark; those there were are reset.
        link.blackhole();
        link.cut();
        eventually("the session to end", || bed.server.sessions() == 0).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        link.resume();
        says_and_hears(&mut visitor).await;
    });
}

#[test]
fn a_wait_in_vain_ends_with_the_grace() {
    over_both(async |carrier| {
        let grace = Duration::from_millis(300);
        let bed = TestBed::with(carrier, |server| server.visitor_grace(grace)).await;
        let echo = LocalService::echo().await;
        let (client, public) = client(&bed, 0, echo.addr()).await;
        drop(client);
        eventually("the session to end", || bed.server.sessions() == 0).await;
        // It may be over already.
        if let Ok(mut visitor) = TcpStream::connect(public).await {
            soon("the end", visitor.read_u8()).await.unwrap_err();
        }
        eventually("the port to close", || std::net::TcpStream::connect(public).is_err()).await;
    });
}

#[test]
fn what_a_client_gives_up_itself_is_gone_at_once() {
    over_both(async |carrier| {
        let bed = patient(carrier).await;
        let client = bed.client().build().unwrap();
        let listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        drop(listener);
        eventually("the port to close", || std::net::TcpStream::connect(public).is_err()).await;
        assert_eq!(bed.server.sessions(), 1);
    });
}

#[test]
fn a_place_that_is_kept_is_taken_over_as_any_other() {
    over_both(async |carrier| {
        let bed = patient(carrier).await;
        let echo = LocalService::echo().await;
        let (away, public) = client(&bed, 0, echo.addr()).await;
        drop(away);
        eventually("the session to end", || bed.server.sessions() == 0).await;
        // Who lets the server pick gets another one.
        let (_other, elsewhere) = client(&bed, 0, echo.addr()).await;
        assert_ne!(elsewhere, public);
        // Who asks for it has it at once.
        let (_newer, same) = client(&bed, public.port(), echo.addr()).await;
        assert_eq!(same, public);
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
    });
}

#[test]
fn no_place_is_kept_for_clients_whose_token_was_revoked() {
    over_both(async |carrier| {
        for disable in [false, true] {
            let (token, verifier) = issue_token().unwrap();
            let mut web = PrincipalConfig::new("web").verifier(verifier);
            let bed = TestBed::with(carrier, |server| {
                server.visitor_grace(PATIENCE * 2).principals([web.clone()])
            });
            let (bed, echo, site) = (bed.await, LocalService::echo().await, Site::start().await);
            let start = async |token: String| {
                let tcp = Tunnel::tcp().local_addr(echo.addr().to_string());
                let http = Tunnel::http("app").local_addr(site.addr().to_string());
                let client = bed.client().token(token).tunnel(tcp).tunnel(http).build().unwrap();
                let public = public_addr(&client.start().await.unwrap().public_url);
                (client, public)
            };
            let (client, public) = start(token.reveal()).await;
            drop(client);
            eventually("the session to end", || bed.server.sessions() == 0).await;
            // One waits for a client that cannot come back.
            let mut early = TcpStream::connect(public).await.unwrap();
            web.disabled = disable;
            bed.server.set_principals(disable.then(|| web.clone())).unwrap();
            soon("the end", early.read_u8()).await.unwrap_err();
            eventually("the port to close", || std::net::TcpStream::connect(public).is_err()).await;
            assert_eq!(bed.server.tunnels(), 0);
            assert_eq!(bed.get("app", "/hello").await.status, 404);
            // Somebody else may have the name now, who has a place for it.
            let (others, verifier) = issue_token().unwrap();
            let shop = PrincipalConfig::new("shop").verifier(verifier);
            bed.server.set_principals([shop]).unwrap();
            let (_client, _) = start(others.reveal()).await;
            eventually("the name", || bed.server.tunnels() == 2).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
        }
    });
}

#[test]
fn requests_wait_for_a_client_that_restarts() {
    over_both(async |carrier| {
        let bed = patient(carrier).await;
        let site = Site::start().await;
        for round in 0..2 {
            let client = bed.http("app", site.addr()).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
            if round == 0 {
                soon("the shutdown", client.shutdown()).await.unwrap();
            }
            drop(client);
            eventually("the session to end", || bed.server.sessions() == 0).await;
            let waiting =
                async { tokio::join!(bed.get("app", "/hello"), bed.get("app", "/hello")) };
            let (answers, client) = tokio::join!(waiting, async {
                // They are on their way first, as far as that can be told.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                bed.http("app", site.addr()).await
            });
            assert_eq!((answers.0.status.as_u16(), answers.1.status.as_u16()), (200, 200));
            drop(client);
            eventually("the session to end", || bed.server.sessions() == 0).await;
        }
    });
}

/// A client that has said goodbye is there as long as visitors are inside; others wait for the one that comes back.
#[test]
fn visitors_that_come_behind_a_goodbye_wait_while_those_inside_go_on() {
    over_both(async |carrier| {
        let metrics = ServerMetrics::default();
        let bed =
            TestBed::with(carrier, |server| server.visitor_grace(PATIENCE * 2).metrics(&metrics));
        let (bed, site, echo) = (bed.await, Site::start().await, LocalService::echo().await);
        let start = async |port| {
            let tcp = Tunnel::tcp().remote_port(port).streams(Streams::Multiplexed);
            let client = bed.client().tunnel(tcp.local_addr(echo.addr().to_string()));
            let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
            let client = client.drain_grace(PATIENCE * 2).build().unwrap();
            let public = public_addr(&client.start().await.unwrap().public_url);
            (client, public)
        };
        let (first, public) = start(0).await;
        let mut inside = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut inside).await;
        // It leaves a connection behind that could be used again.
        assert_eq!(bed.get("app", "/hello").await.status, 200);
        let stopping = tokio::spawn(async move { first.shutdown().await });
        eventually("the goodbye", || {
            let readings = metrics.readings();
            readings.is_some_and(|now| now.sessions.iter().any(|session| session.is_draining))
        })
        .await;

        // One speaks at once, one when it is served, and one asks for a page.
        let mut eager = TcpStream::connect(public).await.unwrap();
        eager.write_all(b"early").await.unwrap();
        let mut quiet = TcpStream::connect(public).await.unwrap();
        let (answer, (_next, same)) = tokio::join!(bed.get("app", "/hello"), async {
            // It is on its way first, as far as that can be told.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            start(public.port()).await
        });
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"));
        assert_eq!(same, public);
        let mut heard = [0; 5];
        soon("the echo", eager.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"early");
        says_and_hears(&mut quiet).await;
        says_and_hears(&mut inside).await;
        drop(inside);
        let drained = soon("the end of the first", stopping).await.unwrap().unwrap();
        assert_eq!(drained.cut, 0);
    });
}

#[test]
fn a_request_whose_client_stays_away_is_told_so() {
    over_both(async |carrier| {
        let grace = Duration::from_millis(300);
        let bed = TestBed::with(carrier, |server| server.visitor_grace(grace)).await;
        let site = Site::start().await;
        drop(bed.http("app", site.addr()).await);
        eventually("the session to end", || bed.server.sessions() == 0).await;
        assert_eq!(bed.get("app", "/hello").await.status, 404);
    });
}
