//! Several carriers of one client: one client to everybody else.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::time::Duration;

use ferrotunnel::{
    Client, ClientBuilder, ClientEvent, Connections, ErrorKind as Kind, Streams, Tunnel,
};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, PATIENCE, Site, TestBed, eventually, numbered_visitors, over_both,
    public_addr, ready, run, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// A client of three carriers with a TCP tunnel, once all of them have it.
async fn three(bed: &TestBed, client: ClientBuilder, local: SocketAddr) -> (Client, SocketAddr) {
    let tunnel = Tunnel::tcp().local_addr(local.to_string()).streams(Streams::Multiplexed);
    let client = client.connections(Connections::Exactly(3)).tunnel(tunnel);
    // What ends by itself does not need it.
    let client = client.drain_grace(PATIENCE * 10).build().unwrap();
    let info = client.start().await.unwrap();
    eventually("all carriers", || bed.server.sessions() == 3).await;
    (client, public_addr(&info.public_url))
}

/// Waits until visitors travel over all of the link's connections, and brings two for each of them.
async fn two_each(public: SocketAddr, link: &Link) -> Vec<TcpStream> {
    soon("all carriers to have the tunnel", async {
        loop {
            let before = link.carried();
            let mut visitors = numbered_visitors(public, before.len() as u32).await;
            for visitor in &mut visitors {
                // More than a heartbeat or a registration has.
                visitor.write_all(&vec![7; SOME]).await.unwrap();
                visitor.read_exact(&mut vec![0; SOME]).await.unwrap();
            }
            let after = link.carried();
            if before.iter().zip(&after).all(|(before, after)| after - before > SOME) {
                visitors.extend(numbered_visitors(public, after.len() as u32).await);
                return visitors;
            }
        }
    })
    .await
}

const SOME: usize = 20_000;

fn silent(events: &mut Receiver<ClientEvent>) -> bool {
    matches!(events.try_recv(), Err(TryRecvError::Empty))
}

/// Whether a new visitor hears an echo there.
async fn answers(public: SocketAddr) -> bool {
    match TcpStream::connect(public).await {
        Ok(visitor) => alive(&mut vec![visitor]).await == 1,
        Err(_) => false,
    }
}

/// How many of them still hear their echo.
async fn alive(visitors: &mut Vec<TcpStream>) -> usize {
    let mut alive = 0;
    for visitor in visitors {
        let mut echo = [0; 4];
        let went = async {
            visitor.write_all(b"ping").await?;
            visitor.read_exact(&mut echo).await
        };
        alive += usize::from(soon("an echo or an end", went).await.is_ok() && &echo == b"ping");
    }
    alive
}

#[test]
fn a_carrier_that_breaks_costs_its_own_visitors_only() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let (client, public) = three(&bed, bed.client_over(&link), echo.addr()).await;
        assert_eq!(link.accepted(), 3);
        let mut events = client.events();
        let mut visitors = two_each(public, &link).await;
        for (round, lost) in [0, 2].into_iter().enumerate() {
            link.cut_only(lost);
            let left = alive(&mut visitors).await;
            assert_eq!(left, 4 - 2 * round, "after a cut of carrier {lost}");
            // There is no gap: somebody else has the tunnel too.
            says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        }
        eventually("the carriers to come back", || bed.server.sessions() == 3).await;
        assert_eq!(link.accepted(), 5);
        assert!(silent(&mut events), "to the world nothing was lost");
    });
}

#[test]
fn all_carriers_come_back_under_the_address_that_was_picked() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let (echo, site) = (LocalService::echo().await, Site::start().await);
        let client = bed
            .client_over(&link)
            .connections(Connections::Exactly(3))
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Multiplexed))
            .tunnel(Tunnel::http("").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        let picked = [ready(&mut events).await, ready(&mut events).await];
        let public = public_addr(&picked[0].public_url);
        for round in 1..=3 {
            eventually("all carriers", || bed.server.sessions() == 3).await;
            link.cut();
            eventually("them to come back", || link.accepted() >= 3 + 3 * round).await;
            // Until the server has noticed the cut, visitors may still be sent the old way.
            soon("the tunnels", async {
                while !answers(public).await
                    || bed.get(&picked[1].name, "/hello").await.body != "hello"
                {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            // Which of them are told anew depends on who noticed the cut first; where they are does not.
            while let Ok(event) = events.try_recv() {
                if let ClientEvent::TunnelReady(info) = event {
                    let mut known = picked.iter().map(|tunnel| &tunnel.public_url);
                    assert!(known.any(|url| *url == info.public_url), "{}", info.public_url);
                }
            }
        }
    });
}

#[test]
fn a_tunnel_that_comes_later_and_goes_again_is_on_all_carriers() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (client, _public) = three(&bed, bed.client(), echo.addr()).await;
        let listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        drop(listener);
        eventually("the port to be closed", || std::net::TcpStream::connect(public).is_err()).await;
        assert_eq!(bed.server.sessions(), 3);
    });
}

#[test]
fn a_newer_client_takes_over_from_all_carriers() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (old, public) = three(&bed, bed.client(), echo.addr()).await;
        let tunnel = Tunnel::tcp().remote_port(public.port()).local_addr(echo.addr().to_string());
        let new = bed.client().connections(Connections::Exactly(2)).tunnel(tunnel).build().unwrap();
        new.start().await.unwrap();
        assert_eq!(soon("the end", old.wait()).await.unwrap_err().kind(), Kind::Superseded);
        eventually("the new carriers alone", || bed.server.sessions() == 2).await;
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
    });
}

#[test]
fn a_client_that_stops_lets_all_its_carriers_finish() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let (client, public) = three(&bed, bed.client_over(&link), echo.addr()).await;
        let mut visitors = two_each(public, &link).await;
        let stopping = tokio::spawn(async move { client.shutdown().await });
        eventually("the door to be closed", || std::net::TcpStream::connect(public).is_err()).await;
        assert_eq!(alive(&mut visitors).await, 6);
        drop(visitors);
        soon("the end", stopping).await.unwrap().unwrap();
        eventually("all sessions to end", || bed.server.sessions() == 0).await;
    });
}

#[test]
fn carriers_on_several_threads_carry_visitors() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.threads(2)).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let client = bed.client_over(&link).threads(2);
        let (client, public) = three(&bed, client, echo.addr()).await;
        let mut visitors = two_each(public, &link).await;
        assert_eq!(alive(&mut visitors).await, 6);
        // They outlive the sessions' last word, and their threads with them.
        let stopping = tokio::spawn(async move { client.shutdown().await });
        eventually("the door to be closed", || std::net::TcpStream::connect(public).is_err()).await;
        assert_eq!(alive(&mut visitors).await, 6);
        drop(visitors);
        soon("the end", stopping).await.unwrap().unwrap();
    });
}

#[test]
fn carriers_come_by_themselves_while_streams_compete_far_away() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        link.delay(Duration::from_millis(8));
        let source = LocalService::each(|mut socket| async move {
            while socket.write_all(&[0; 16 << 10]).await.is_ok() {}
        })
        .await;
        let (client, public) = bed.tcp_over(&link, source.addr()).await;
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            readers.spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(1..) = visitor.read(&mut buffer).await {}
            });
        }
        eventually("a carrier for each of them", || bed.server.sessions() == 4).await;
        drop(client);
    });
}

#[test]
fn a_number_that_makes_no_sense_is_refused() {
    for count in [0, Connections::MOST + 1] {
        let client = Client::builder()
            .server_addr("127.0.0.1:1")
            .token("t")
            .connections(Connections::Exactly(count));
        let error = client.build().unwrap_err();
        assert!(error.to_string().contains("connections"), "{error}");
    }
}

#[test]
fn to_the_world_a_client_is_connected_or_not() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
        let client = bed.client_over(&link).connections(Connections::Exactly(3)).tunnel(tunnel);
        let client = client.build().unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        let mut is_connected = false;
        for round in 1..=5 {
            eventually("all carriers", || bed.server.sessions() == 3).await;
            link.cut();
            eventually("them to come back", || link.accepted() >= 3 + 3 * round).await;
            while let Ok(event) = events.try_recv() {
                match event {
                    ClientEvent::Connected { .. } => {
                        assert!(!is_connected, "told twice in round {round}");
                        is_connected = true;
                    }
                    ClientEvent::Disconnected { .. } => is_connected = false,
                    ClientEvent::TunnelReady(_) => assert!(is_connected, "round {round}"),
                    _ => {}
                }
            }
        }
    });
}
