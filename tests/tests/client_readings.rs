//! What a client says of itself, and what may be done to it from outside, while real traffic passes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use ferrotunnel::{
    AttemptFailure, CarrierState, Client, ClientReadings, ClientTunnelReading, Connections,
    ControlError, LocalFailure, Retry, SessionId, Tunnel, TunnelState,
};
use ferrotunnel_tests::{LocalService, Site, TestBed, eventually, over_both, says_and_hears, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn read(client: &Client) -> ClientReadings {
    client.reader().unwrap().read().unwrap()
}

fn tunnel(client: &Client) -> ClientTunnelReading {
    read(client).tunnels.remove(0)
}

fn failed(client: &Client, why: AttemptFailure) -> u64 {
    read(client).attempts_failed.iter().find(|(known, _)| *known == why).unwrap().1
}

fn missed(client: &Client, why: LocalFailure) -> u64 {
    read(client).local_errors.iter().find(|(known, _)| *known == why).unwrap().1
}

#[test]
fn a_client_tells_what_it_has_and_counts() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (client, public) = bed.tcp(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(&[7; 1_000]).await.unwrap();
        soon("the echo", visitor.read_exact(&mut [0; 1_000])).await.unwrap();

        let readings = read(&client);
        assert!(!readings.is_closing);
        let [carrier] = readings.carriers.as_slice() else { panic!("{readings:?}") };
        assert_eq!(carrier.state, CarrierState::Up);
        assert_eq!(carrier.server, bed.server.tunnel_addr().to_string());
        assert_eq!(carrier.peer, Some(bed.server.tunnel_addr()));
        assert!(carrier.age.is_some() && carrier.last_error.is_none());
        assert_eq!((carrier.tunnels, carrier.streams, carrier.streams_opened), (1, 1, 1));
        assert_eq!((carrier.bytes_from_client, carrier.bytes_to_client), (1_000, 1_000));

        let [tunnel] = readings.tunnels.as_slice() else { panic!("{readings:?}") };
        assert_eq!(tunnel.state, TunnelState::Up);
        assert_eq!(tunnel.name, public.port().to_string());
        assert_eq!(tunnel.local, echo.addr().to_string());
        assert!(tunnel.public_urls[0].ends_with(&format!(":{}", public.port())), "{tunnel:?}");
        assert_eq!(tunnel.sessions, [carrier.session.unwrap()]);
        assert_eq!((tunnel.visitors, tunnel.streams_opened), (1, 1));
        assert_eq!((tunnel.bytes_in, tunnel.bytes_out), (1_000, 1_000));
        assert_eq!((tunnel.health, &tunnel.last_error), (None, &None));

        drop(visitor);
        eventually("the visitor has left", || read(&client).tunnels[0].visitors == 0).await;
        // What is counted outlives the tunnel.
        let other = Tunnel::tcp().local_addr("127.0.0.1:1");
        client.set_tunnels([other]).await.unwrap();
        let totals = read(&client).totals;
        let tcp = totals.iter().find(|totals| totals.kind.as_str() == "tcp").unwrap();
        assert_eq!((tcp.streams, tcp.streams_opened), (0, 1));
        assert_eq!((tcp.bytes_in, tcp.bytes_out), (1_000, 1_000));

        let reader = client.reader().unwrap();
        client.shutdown().await.unwrap();
        drop(client);
        eventually("the reader keeps nothing", || reader.read().is_none()).await;
    });
}

#[test]
fn visitors_with_a_carrier_to_themselves_are_read_of_too() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (client, public) = bed.direct(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(&[7; 1_000]).await.unwrap();
        soon("the echo", visitor.read_exact(&mut [0; 1_000])).await.unwrap();
        eventually("its bytes are counted", || {
            let tunnel = tunnel(&client);
            (tunnel.visitors, tunnel.bytes_in, tunnel.bytes_out) == (1, 1_000, 1_000)
        })
        .await;
        assert_eq!(read(&client).carriers[0].streams_opened, 0);
        drop(visitor);
        eventually("the visitor has left", || tunnel(&client).visitors == 0).await;
    });
}

#[test]
fn failures_are_counted_by_reason() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.http("dead", LocalService::nobody().await).await;
        assert_eq!(bed.get("dead", "/").await.status, 502);
        eventually("the miss is counted", || missed(&client, LocalFailure::Refused) >= 1).await;
        assert!(tunnel(&client).last_error.unwrap().contains("refused"));
        let resets: u64 = read(&client).resets.by_clients().map(|(_, count)| count).sum();
        assert!(resets >= 1);

        let wrong = bed.client().token("not-that-one-at-all").retry(Retry::Never);
        let wrong = wrong.tunnel(Tunnel::http("x").local_addr("127.0.0.1:1")).build().unwrap();
        assert!(wrong.reader().is_none() && wrong.control().is_none());
        soon("the refusal", wrong.start()).await.unwrap_err();
        assert_eq!(failed(&wrong, AttemptFailure::WrongToken), 1);
        let control = wrong.control().unwrap();
        assert_eq!(control.pause(1), Err(ControlError::Ended));

        let away = LocalService::nobody().await;
        let lost = bed.client().server_addr(away.to_string());
        let lost = lost.tunnel(Tunnel::http("y").local_addr("127.0.0.1:1")).build().unwrap();
        tokio::select! {
            started = lost.start() => panic!("nobody is there: {started:?}"),
            () = eventually("it has failed", || {
                lost.reader().is_some() && failed(&lost, AttemptFailure::ConnectionRefused) >= 1
            }) => {}
        }
        let readings = read(&lost);
        assert_eq!(readings.carriers[0].state, CarrierState::Down);
        assert!(readings.carriers[0].last_error.as_ref().unwrap().contains("cannot reach"));
        assert_eq!(readings.carriers[0].session, None);
    });
}

#[test]
fn a_paused_tunnel_turns_visitors_away_and_keeps_its_name() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let client = bed.http("", site.addr()).await;
        let name = tunnel(&client).name;
        let number = tunnel(&client).number;
        // A connection to the local service is kept from now on.
        assert_eq!(bed.get(&name, "/").await.status, 200);
        let service = LocalService::echo().await;
        let (echo, public) = bed.tcp(service.addr()).await;
        let mut inside = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut inside).await;

        let control = client.control().unwrap();
        assert_eq!(control.pause(number + 1), Err(ControlError::NoSuchTunnel));
        assert_eq!(control.resume(number), Err(ControlError::Already));
        control.pause(number).unwrap();
        assert_eq!(control.pause(number), Err(ControlError::Already));
        assert_eq!(tunnel(&client).state, TunnelState::Paused);
        let is_paused = async || {
            loop {
                let answer = bed.get(&name, "/").await;
                if answer.status == 503 {
                    break answer;
                }
            }
        };
        let answer = soon("it is paused", is_paused()).await;
        assert_eq!(answer.ferrotunnel_error(), Some("paused"));
        assert_eq!(answer.headers["retry-after"], "30");
        // Nobody else gets its name.
        assert_eq!(tunnel(&client).name, name);
        assert!(!tunnel(&client).public_urls.is_empty());

        echo.control().unwrap().pause(tunnel(&echo).number).unwrap();
        soon("visitors of the port are closed", async {
            loop {
                let Ok(mut visitor) = TcpStream::connect(public).await else { continue };
                if visitor.write_all(b"ping").await.is_err() {
                    break;
                }
                if !matches!(visitor.read(&mut [0; 4]).await, Ok(1..)) {
                    break;
                }
            }
        })
        .await;
        says_and_hears(&mut inside).await;

        // A session that comes meanwhile does not open it.
        let before = read(&client).carriers[0].session.unwrap();
        control.close(before).unwrap();
        eventually("another session", || {
            let reading = tunnel(&client);
            reading.sessions.iter().any(|session| *session != before)
        })
        .await;
        assert_eq!(tunnel(&client).state, TunnelState::Paused);
        assert_eq!(bed.get(&name, "/").await.status, 503);

        control.resume(number).unwrap();
        assert_eq!(tunnel(&client).state, TunnelState::Up);
        soon("it is back", async { while bed.get(&name, "/").await.status != 200 {} }).await;
        assert_eq!(tunnel(&client).name, name);
    });
}

#[test]
fn a_session_that_is_closed_comes_back() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let client = bed.client().connections(Connections::Exactly(2));
        let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
        let client = client.build().unwrap();
        soon("it starts", client.start()).await.unwrap();
        let sessions = || -> Vec<SessionId> {
            read(&client).carriers.iter().filter_map(|carrier| carrier.session).collect()
        };
        eventually("two carriers", || sessions().len() == 2).await;
        let control = client.control().unwrap();
        let closed = sessions()[1];
        control.close(closed).unwrap();
        eventually("another one", || sessions().len() == 2 && !sessions().contains(&closed)).await;
        let readings = read(&client);
        assert_eq!(readings.reconnects, 1);
        assert_eq!(
            readings.carriers[1].last_error.as_deref(),
            Some("the session was closed by request")
        );
        assert_eq!(control.close(closed), Err(ControlError::NoSuchSession));
        assert_eq!(bed.get("app", "/").await.status, 200);
    });
}
