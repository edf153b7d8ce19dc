//! Visitors who turn out to move much: in the middle they get a connection between client and server to themselves, and
//! nobody notices anything but speed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use ferrotunnel::observability::{Registry, encode};
use ferrotunnel::{
    Client, ClientBuilder, Connections, LimitsConfig, PrincipalConfig, ServerMetrics, Streams,
    Tunnel, issue_token,
};
use ferrotunnel_tests::{
    Authority, Carrier, Link, LocalService, Scrape, TestBed, abort_on_close, eventually, exchange,
    over_both, pattern, public_addr, run, soon, until_still,
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// More than it takes to be noticed.
const MUCH: usize = 32 << 20;

/// By small pieces, and on a busy machine, bulk looks like an exchange of messages.
const LARGE: usize = 256 << 10;

/// A client with one TCP tunnel as it is by default, known to be near, and where visitors reach it.
async fn near(bed: &TestBed, client: ClientBuilder, local: SocketAddr) -> (Client, SocketAddr) {
    near_with(bed, client, Tunnel::tcp().local_addr(local.to_string())).await
}

async fn near_with(bed: &TestBed, client: ClientBuilder, tunnel: Tunnel) -> (Client, SocketAddr) {
    let client = client.connections(Connections::Exactly(1)).tunnel(tunnel).build().unwrap();
    let public = public_addr(&client.start().await.unwrap().public_url);
    eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
    // Who is not known to be near yet gives the first visitors a carrier each.
    soon("a visitor who shares the carrier", async {
        loop {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            eventually("the visitor to be seen", || bed.server.streams() == 1).await;
            if bed.server.direct().serving == 0 {
                break;
            }
            visitor.shutdown().await.unwrap();
            drop(visitor);
            eventually("the visitor to be gone", || bed.server.streams() == 0).await;
        }
    })
    .await;
    eventually("the visitor to be gone", || bed.server.streams() == 0).await;
    eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
    (client, public)
}

async fn connect(public: SocketAddr) -> TcpStream {
    TcpStream::connect(public).await.unwrap()
}

/// A visitor of a tunnel that may be on its way back.
async fn enter(public: SocketAddr) -> TcpStream {
    loop {
        if let Ok(visitor) = TcpStream::connect(public).await {
            return visitor;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a piece of bulk there and back.
async fn echo_much(visitor: &mut TcpStream) {
    let piece = pattern(4 << 20);
    let mut heard = vec![0; piece.len()];
    let (mut read, mut write) = visitor.split();
    let (wrote, read) = tokio::join!(write.write_all(&piece), read.read_exact(&mut heard));
    wrote.unwrap();
    read.unwrap();
    assert!(heard == piece);
}

/// Bulk until the visitor has a carrier of its own, both ways.
async fn move_by_echo(bed: &TestBed, visitor: &mut TcpStream) {
    let serving = bed.server.direct().serving;
    for pieces in 0.. {
        if bed.server.direct().serving == serving + 1 {
            break;
        }
        assert!(pieces < 200, "it has not moved");
        echo_much(visitor).await;
    }
}

/// A server where one user may log in, and that user's token.
async fn of_one_user(carrier: Carrier) -> (TestBed, String) {
    let (token, verifier) = issue_token().unwrap();
    let user = PrincipalConfig::new("user").verifier(verifier);
    let bed = TestBed::with(carrier, |server| server.principals([user])).await;
    (bed, token.reveal())
}

#[test]
fn much_moves_to_a_carrier_of_its_own_and_arrives_as_it_is() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (_client, public) = near(&bed, bed.client(), echo.addr()).await;
        let sent = pattern(MUCH);
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        assert_eq!(bed.server.streams(), 1, "it is one visitor, wherever it is");
        let heard = soon("the exchange", exchange(visitor, &sent)).await.unwrap();
        assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
        eventually("the visit to end", || bed.server.streams() == 0).await;
        assert_eq!(bed.server.direct().serving, 0);
    });
}

#[test]
fn visitors_who_move_much_together_all_hear_what_is_theirs() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (_client, public) = near(&bed, bed.client(), echo.addr()).await;
        let visits = (0..12).map(|number| async move {
            let sent = pattern((12 << 20) + number);
            let heard = exchange(connect(public).await, &sent).await.unwrap();
            assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
        });
        soon("all exchanges", join_all(visits)).await;
        eventually("the visits to end", || bed.server.streams() == 0).await;
        assert_eq!(bed.server.direct().serving, 0);
    });
}

#[test]
fn short_messages_stay_on_the_carrier_that_all_share() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (_client, public) = near(&bed, bed.client(), echo.addr()).await;
        let mut visitor = connect(public).await;
        let (message, mut heard) = (pattern(8 << 10), vec![0; 8 << 10]);
        for _ in 0..1_000 {
            visitor.write_all(&message).await.unwrap();
            visitor.read_exact(&mut heard).await.unwrap();
        }
        assert_eq!((bed.server.streams(), bed.server.direct().serving), (1, 0));
    });
}

/// A visitor that is heard out before it reads anything, by a service that answers at once: neither direction may wait for the
/// other to go over.
#[test]
fn a_direction_goes_over_while_the_other_stands_still() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let sent = pattern(MUCH);
        let service = LocalService::each({
            let sent = sent.clone();
            move |socket| {
                let sent = sent.clone();
                async move {
                    let heard = exchange(socket, &sent).await.unwrap();
                    let is_whole = heard.len() >= sent.len() && heard.len() % sent.len() == 0;
                    let is_right = is_whole && heard.chunks(sent.len()).all(|part| part == sent);
                    assert!(is_right, "the service has heard {} bytes", heard.len());
                }
            }
        })
        .await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let client = bed.client_over(&link);
        let (_client, public) = near(&bed, client, service.addr()).await;
        for reads_first in [false, true] {
            let mut visitor = connect(public).await;
            let mut heard = vec![0; sent.len()];
            soon("what the visitor does one after the other", async {
                if reads_first {
                    visitor.read_exact(&mut heard).await.unwrap();
                    visitor.write_all(&sent).await.unwrap();
                } else {
                    // Over the first connection everything began.
                    let gone_over = || link.carried().iter().skip(1).sum::<usize>();
                    while gone_over() < MUCH / 2 {
                        visitor.write_all(&sent).await.unwrap();
                    }
                    visitor.read_exact(&mut heard).await.unwrap();
                }
                visitor.shutdown().await.unwrap();
                assert_eq!(visitor.read(&mut [0]).await.unwrap(), 0);
            })
            .await;
            assert!(heard == sent);
            eventually("the visit to end", || bed.server.streams() == 0).await;
        }
    });
}

#[test]
fn who_has_said_all_before_is_served_on() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let sent = pattern(MUCH);
        let service = LocalService::each({
            let sent = sent.clone();
            move |mut socket| {
                let sent = sent.clone();
                async move {
                    let mut asked = String::new();
                    socket.read_to_string(&mut asked).await.unwrap();
                    assert_eq!(asked, "all");
                    socket.write_all(&sent).await.unwrap();
                }
            }
        })
        .await;
        let (_client, public) = near(&bed, bed.client(), service.addr()).await;
        let heard = soon("the answer", exchange(connect(public).await, b"all")).await.unwrap();
        assert!(heard == sent, "{} of {} bytes came", heard.len(), sent.len());
    });
}

#[test]
fn a_reset_passes_a_stream_that_has_moved_both_ways() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (ends, mut seen) = mpsc::channel(1);
        let service = LocalService::each(move |mut socket| {
            let ends = ends.clone();
            async move {
                let mut piece = vec![0; LARGE];
                loop {
                    match socket.read(&mut piece).await {
                        // Who looks whether the server is near.
                        Ok(0) => break,
                        Ok(1) if piece[0] == b'r' => break abort_on_close(&socket),
                        Ok(count) => socket.write_all(&piece[..count]).await.unwrap(),
                        Err(error) => break ends.send(error.kind()).await.unwrap(),
                    }
                }
            }
        })
        .await;
        let (_client, public) = near(&bed, bed.client(), service.addr()).await;
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        visitor.write_all(b"r").await.unwrap();
        let end = soon("the reset of the service", visitor.read(&mut [0])).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        eventually("the visit to end", || bed.server.streams() == 0).await;

        eventually("another carrier", || bed.server.direct().waiting > 0).await;
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        abort_on_close(&visitor);
        drop(visitor);
        let end = soon("the reset of the visitor", seen.recv()).await.unwrap();
        assert_eq!(end, ErrorKind::ConnectionReset);
        eventually("the visit to end", || bed.server.streams() == 0).await;
        assert_eq!(bed.server.direct().serving, 0);
    });
}

#[test]
fn who_has_moved_outlives_the_session_and_not_its_carrier() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (_client, public) = near(&bed, bed.client_over(&link), echo.addr()).await;
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        // The first connection is the session's.
        link.cut_only(0);
        let mut heard = [0; 5];
        for _ in 0..3 {
            visitor.write_all(b"hello").await.unwrap();
            soon("an echo", visitor.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
        link.cut();
        let end = soon("the end of the visit", visitor.read(&mut heard)).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        eventually("the visit to end", || bed.server.direct().serving == 0).await;
    });
}

/// The connections between are cut at any moment, the one in which a stream goes over among them: what arrives is right as far as it
/// goes, and what is cut does not look whole.
#[test]
fn whatever_breaks_while_a_stream_goes_over_nothing_false_arrives() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (_client, public) = near(&bed, bed.client_over(&link), echo.addr()).await;
        let sent = pattern(8 << 20);
        let (mut whole, mut cut) = (0, 0);
        for round in 0..16 {
            let visitor = soon("the tunnel", enter(public)).await;
            let begins: usize = link.carried().iter().sum();
            let harm = async {
                let amount = round * (sent.len() / 8);
                let carried = || link.carried().iter().sum::<usize>() - begins;
                eventually("so much to pass", || carried() >= amount).await;
                match round % 4 {
                    0 => link.cut(),
                    // Of the youngest, one is its own by then, if it has one.
                    newest => link.cut_only(link.accepted().saturating_sub(newest)),
                }
                std::future::pending::<()>().await;
            };
            let heard = soon("the exchange", async {
                tokio::select! {
                    heard = exchange(visitor, &sent) => heard,
                    () = harm => unreachable!(),
                }
            });
            let heard = heard.await;
            match heard {
                Ok(heard) if heard == sent => whole += 1,
                Ok(heard) => panic!("{} bytes of {} look whole", heard.len(), sent.len()),
                Err(_) => cut += 1,
            }
            eventually("the visit to end", || bed.server.streams() == 0).await;
        }
        assert!(cut > 0 && whole > 0, "{whole} were whole, and {cut} cut");
        eventually("the client to be back", || bed.server.direct().waiting > 0).await;
        let visitor = soon("the tunnel", enter(public)).await;
        let heard = soon("an exchange", exchange(visitor, &sent)).await.unwrap();
        assert!(heard == sent);
    });
}

#[test]
fn much_for_a_local_service_over_tls_moves_too() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let ca = Authority::new("ca");
        let echo = LocalService::echo_by(LARGE).await;
        let identity = ca.server("localhost");
        let service = LocalService::behind_tls(echo.addr(), &identity, "http/1.1").await;
        let local = format!("https://localhost:{}", service.addr().port());
        let tunnel = Tunnel::tcp().local_addr(local).local_ca_file(ca.file());
        let (_client, public) = near_with(&bed, bed.client(), tunnel).await;
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        let sent = pattern(MUCH);
        let heard = soon("the exchange", exchange(visitor, &sent)).await.unwrap();
        assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
        eventually("the visit to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn a_shutdown_lets_those_finish_who_have_moved() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.bulk_threads(1)).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (client, public) = near(&bed, bed.client().bulk_threads(1), echo.addr()).await;
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        // Enough to go on on a thread for bulk.
        for _ in 0..8 {
            echo_much(&mut visitor).await;
        }
        let shutdown = tokio::spawn(bed.server.shutdown());
        soon("the door to close", async {
            while TcpStream::connect(public).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        echo_much(&mut visitor).await;
        assert!(!shutdown.is_finished());
        visitor.shutdown().await.unwrap();
        assert_eq!(soon("the end", visitor.read(&mut [0])).await.unwrap(), 0);
        let drained = soon("the shutdown", shutdown).await.unwrap().unwrap();
        assert_eq!(drained.cut, 0);
        drop(client);
    });
}

#[test]
fn revocation_cuts_off_who_has_moved_and_outlived_the_session() {
    over_both(async |carrier| {
        let (bed, token) = of_one_user(carrier).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (client, public) = near(&bed, bed.client().token(token), echo.addr()).await;
        let mut visitor = connect(public).await;
        move_by_echo(&bed, &mut visitor).await;
        let leaving = tokio::spawn(async move { client.shutdown().await });
        eventually("the session to end", || bed.server.sessions() == 0).await;
        eventually("the carriers to go", || bed.server.direct().waiting == 0).await;
        echo_much(&mut visitor).await;
        bed.server.set_principals([]).unwrap();
        let end = soon("the visitor's end", visitor.read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        soon("the client to leave", leaving).await.unwrap().unwrap();
    });
}

/// A visitor who has said much and heard nothing of a long answer.
#[expect(clippy::disallowed_methods, reason = "it is to have no room for what it does not read")]
async fn says_much_and_reads_nothing(public: SocketAddr, answered: impl Fn() -> u64) -> TcpStream {
    let visitor = TcpSocket::new_v4().unwrap();
    visitor.set_recv_buffer_size(8 << 10).unwrap();
    let mut visitor = visitor.connect(public).await.unwrap();
    // All that is between is full of the answer.
    visitor.readable().await.unwrap();
    until_still(answered, async || tokio::time::sleep(Duration::from_millis(5)).await).await;
    let piece = pattern(1 << 20);
    for _ in 0..64 {
        soon("the service to listen", visitor.write_all(&piece)).await.unwrap();
    }
    visitor
}

/// Its own direction has gone over, and that of the service cannot: nobody reads it.
#[test]
fn revocation_cuts_off_who_is_on_the_way_over() {
    over_both(async |carrier| {
        let (bed, token) = of_one_user(carrier).await;
        let service = LocalService::each(|socket| async move {
            let (mut read, mut write) = socket.into_split();
            let answer = pattern(64 << 20);
            let hearing = async { tokio::io::copy(&mut read, &mut tokio::io::sink()).await };
            let _ = tokio::join!(write.write_all(&answer), hearing);
        })
        .await;
        let (client, public) = near(&bed, bed.client().token(token), service.addr()).await;
        let answered = || client.reader().unwrap().read().unwrap().tunnels[0].bytes_out;
        // On a busy machine all of it may have gone over, or nothing yet.
        let mut tries = 0;
        let mut visitor = loop {
            let visitor = says_much_and_reads_nothing(public, answered).await;
            if (bed.server.streams(), bed.server.direct().serving) == (1, 0) {
                break visitor;
            }
            tries += 1;
            assert!(tries < 10, "it is never on the way over");
            drop(visitor);
            eventually("the visit to end", || bed.server.streams() == 0).await;
        };
        bed.server.set_principals([]).unwrap();
        let piece = pattern(1 << 20);
        let said = async { while visitor.write_all(&piece).await.is_ok() {} };
        soon("the end of what it may say", said).await;
        eventually("the visit to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn where_nothing_more_may_be_open_much_stays_where_it_is() {
    run(async {
        let mut limits = LimitsConfig::default();
        limits.max_streams_per_session = 1;
        let bed = TestBed::with(Carrier::Tls, |server| server.limits(limits)).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (_client, public) = near(&bed, bed.client(), echo.addr()).await;
        let sent = pattern(MUCH);
        let heard = soon("the exchange", exchange(connect(public).await, &sent)).await.unwrap();
        assert!(heard == sent);
    });
}

#[test]
fn multiplexed_streams_stay_multiplexed() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let echo = LocalService::echo_by(LARGE).await;
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
        let client = bed.client().tunnel(tunnel.streams(Streams::Multiplexed)).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let sent = pattern(MUCH);
        let heard = soon("the exchange", exchange(connect(public).await, &sent)).await.unwrap();
        assert!(heard == sent);
        assert_eq!(bed.server.direct(), ferrotunnel::DirectCarriers::default());
    });
}

#[test]
fn what_has_moved_is_counted_to_the_byte() {
    over_both(async |carrier| {
        let (metrics, mut registry) = (ServerMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let bed = TestBed::with(carrier, |server| server.metrics(&metrics)).await;
        let echo = LocalService::echo_by(LARGE).await;
        let (client, public) = near(&bed, bed.client(), echo.addr()).await;
        let counted = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let server = Scrape::read(&text);
            let client = &client.reader().unwrap().read().unwrap().tunnels[0];
            let at_server = |direction| {
                let labels =
                    format!("direction=\"{direction}\",kind=\"tcp\",tunnel=\"{}\"", public.port());
                server.value(&format!("ferrotunnel_tunnel_bytes_total{{{labels}}}")) as u64
            };
            [at_server("in"), at_server("out"), client.bytes_in, client.bytes_out]
        };
        let before = counted();
        let sent = pattern(MUCH);
        // What was read when it went over may not have been taken yet.
        let (mut read, mut write) = connect(public).await.into_split();
        let speak = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let hear = async {
            let mut heard = vec![0; sent.len()];
            for piece in heard.chunks_mut(100_000) {
                read.read_exact(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(read.read(&mut [0]).await.unwrap(), 0);
            heard
        };
        let (heard, ()) = soon("the exchange", async { tokio::join!(hear, speak) }).await;
        assert!(heard == sent);
        eventually("the visit to end", || bed.server.streams() == 0).await;
        eventually("the client to know", || {
            client.reader().unwrap().read().unwrap().tunnels[0].visitors == 0
        })
        .await;
        let after = counted();
        assert_eq!(std::array::from_fn(|at| after[at] - before[at]), [MUCH as u64; 4]);
    });
}
