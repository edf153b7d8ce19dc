//! Visitors with a connection between client and server to themselves: all they can notice is speed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use ferrotunnel::{ClientEvent, Connections, LimitsConfig, Streams, Tunnel};
use ferrotunnel_tests::memory::descriptors;
use ferrotunnel_tests::{
    Carrier, Link, LocalService, TestBed, abort_on_close, eventually, exchange, numbered_visitors,
    over_both, pattern, public_addr, run, soon,
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Sends all, hears all, and tells what came back.
async fn visit(addr: SocketAddr, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    exchange(TcpStream::connect(addr).await?, sent).await
}

#[test]
fn a_direct_stream_carries_bulk_both_ways_with_its_ends() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (started, mut starts) = mpsc::channel(1);
        let service = LocalService::each(move |mut socket| {
            let started = started.clone();
            async move {
                started.send(()).await.unwrap();
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            }
        })
        .await;
        let (_client, public) = bed.direct(service.addr()).await;
        let sent = pattern(8 << 20);
        let (heard, ()) = tokio::join!(soon("an exchange", visit(public, &sent)), async {
            soon("the visitor at the service", starts.recv()).await.unwrap();
            assert_eq!(bed.server.direct().serving, 1);
        });
        let heard = heard.unwrap();
        assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
        eventually("the visit to end", || bed.server.direct().serving == 0).await;
        assert_eq!(bed.server.streams(), 0);
    });
}

/// Ticks of processor time of each thread of this process with that name, of which the kernel keeps 15 letters.
#[cfg(target_os = "linux")]
fn times_of_threads(name: &str) -> Vec<u64> {
    let time_of = |thread: std::path::PathBuf| {
        // One that has ended meanwhile is none.
        let stat = std::fs::read_to_string(thread.join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let is_it = head.rsplit_once('(')?.1 == name;
        // proc_pid_stat(5): behind the name are the state and 10 more, then its time as a user and in the kernel.
        let times = rest.split_whitespace().skip(11).take(2);
        is_it.then(|| times.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>())
    };
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads.filter_map(|thread| time_of(thread.unwrap().path())).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn bulk_over_direct_streams_is_moved_by_threads_for_it_at_both_ends() {
    over_both(async |carrier| {
        let times = || times_of_threads("ferrotunnel-bul");
        eventually("those of before to end", || times().is_empty()).await;
        let bed = TestBed::with(carrier, |server| server.bulk_threads(1)).await;
        let service = LocalService::echo().await;
        let tunnel = Tunnel::tcp().local_addr(service.addr().to_string()).streams(Streams::Direct);
        let client = bed.client().bulk_threads(1).tunnel(tunnel).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let sent = pattern(32 << 20);
        for exchanges in 0.. {
            let times = times();
            if times.len() == 2 && times.iter().all(|ticks| *ticks > 0) {
                break;
            }
            assert!(exchanges < 50, "one of them has nothing to do: {times:?}");
            let heard = soon("an exchange", visit(public, &sent)).await.unwrap();
            assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
        }
        eventually("the visits to end", || bed.server.direct().serving == 0).await;
    });
}

#[test]
fn a_reset_passes_a_direct_stream_both_ways() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (ends, mut seen) = mpsc::channel(1);
        let service = LocalService::each(move |mut socket| {
            let ends = ends.clone();
            async move {
                let mut byte = [0];
                socket.read_exact(&mut byte).await.unwrap();
                if &byte == b"r" {
                    abort_on_close(&socket);
                } else {
                    socket.write_all(&byte).await.unwrap();
                    let end = socket.read(&mut byte).await.map_err(|error| error.kind());
                    ends.send(end).await.unwrap();
                }
            }
        })
        .await;
        let (_client, public) = bed.direct(service.addr()).await;

        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"r").await.unwrap();
        let end = soon("the reset of the service", visitor.read(&mut [0])).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);

        eventually("another carrier", || bed.server.direct().waiting > 0).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        visitor.read_exact(&mut [0]).await.unwrap();
        eventually("the first to be gone", || bed.server.direct().serving == 1).await;
        abort_on_close(&visitor);
        drop(visitor);
        let end = soon("the reset of the visitor", seen.recv()).await.unwrap();
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
        eventually("the visit to end", || bed.server.direct().serving == 0).await;
    });
}

#[test]
fn for_a_silent_visitor_a_dead_service_is_dialled_once_and_takes_one_stream_of_the_second() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_streams_per_second = Some(1);
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let (client, public) = bed.direct(LocalService::nobody().await).await;
        // It may be reset before this end has noticed that it is connected.
        let visit = async { TcpStream::connect(public).await?.read(&mut [0]).await };
        let end = soon("the end of the visit", visit).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let readings = client.reader().unwrap().read().unwrap();
        let dialled: u64 = readings.local_errors.iter().map(|(_, count)| *count).sum();
        assert_eq!(dialled, 1, "{:?}", readings.local_errors);
        assert_eq!(bed.server.turned_away().streams_too_fast, 0);
        eventually("the server to hear why", || {
            bed.server.streams() == 0 && bed.server.direct().serving == 0
        })
        .await;
    });
}

#[test]
fn who_finds_no_carrier_waiting_is_multiplexed() {
    #[cfg(unix)]
    ferrotunnel_tests::memory::raise_descriptor_limit();
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.direct(echo.addr()).await;
        // More than may wait for one.
        let visitors = numbered_visitors(public, 300).await;
        let direct = bed.server.direct().serving;
        assert!((1..300).contains(&direct), "{direct} of 300 are direct");
        assert_eq!(bed.server.streams(), 300);
        drop(visitors);
        eventually("all visits to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn by_default_few_carriers_wait_for_visitors() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
        let mut inside = Vec::new();
        for number in 0..10 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            visitor.write_u8(number).await.unwrap();
            assert_eq!(visitor.read_u8().await.unwrap(), number);
            inside.push(visitor);
        }
        let direct = bed.server.direct();
        // To a busy machine the server may look as if it were far away, and then they have one each.
        assert!((1..=16).contains(&direct.waiting), "{direct:?}");
        assert_eq!(bed.server.streams(), 10);
    });
}

#[test]
fn the_limit_of_streams_counts_direct_ones() {
    run(async {
        let mut limits = LimitsConfig::default();
        limits.max_streams_per_session = 3;
        let bed = TestBed::with(Carrier::Tls, |server| server.limits(limits)).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.direct(echo.addr()).await;
        let mut inside = Vec::new();
        for number in 0..3 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            visitor.write_all(&[number]).await.unwrap();
            assert_eq!(visitor.read_u8().await.unwrap(), number);
            inside.push(visitor);
        }
        assert!(bed.server.direct().serving > 0);
        // The reset may come before the connection is seen.
        let fourth = async { TcpStream::connect(public).await?.read(&mut [0]).await };
        let end = soon("the refusal", fourth).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        for mut visitor in inside {
            visitor.write_all(b"y").await.unwrap();
            assert_eq!(visitor.read_u8().await.unwrap(), b'y');
        }
    });
}

#[test]
fn visitors_who_come_together_get_no_more_direct_streams_than_there_may_be() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_streams_per_session = 3;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.direct(echo.addr()).await;
        let visits = (0..20).map(|_| async {
            let mut visitor = TcpStream::connect(public).await.ok()?;
            visitor.write_all(b"x").await.ok()?;
            visitor.read_exact(&mut [0]).await.ok()?;
            Some(visitor)
        });
        let inside = soon("all visits", join_all(visits)).await;
        assert!(inside.iter().any(Option::is_some));
        let direct = bed.server.direct().serving;
        assert!(direct <= 3, "{direct} at once");
    });
}

#[test]
fn carriers_come_back_after_a_cut_and_none_is_left_behind() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Direct);
        let client = bed.client_over(&link).tunnel(tunnel).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let sent = pattern(100_000);
        for _ in 0..5 {
            eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
            let heard = soon("an echo", visit(public, &sent)).await.unwrap();
            assert!(heard == sent);
            let mut events = client.events();
            link.cut();
            let ready = async {
                while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelReady(_)) {}
            };
            soon("the tunnel to come back", ready).await;
        }
        eventually("one session to remain", || bed.server.sessions() == 1).await;
        let before = descriptors();
        drop(client);
        eventually("the session to end", || bed.server.sessions() == 0).await;
        eventually("its carriers to end", || descriptors() < before - 4).await;
    });
}

/// A local service that leaves the first visitor waiting for its greeting and says when it has come.
async fn greets_all_but_the_first() -> (LocalService, mpsc::Receiver<()>) {
    let (tell, came) = mpsc::channel(1);
    let service = LocalService::each(move |mut socket| {
        let tell = tell.clone();
        async move {
            // There is room for one.
            if tell.try_send(()).is_err() {
                socket.write_all(b"!").await.unwrap();
            }
            let _ = socket.read_u8().await;
        }
    })
    .await;
    (service, came)
}

#[test]
fn a_silent_visitor_whose_carrier_breaks_is_served_all_the_same() {
    over_both(async |carrier| {
        for all_is_cut in [false, true] {
            let bed = TestBed::start(carrier).await;
            let link = Link::to(bed.server.tunnel_addr()).await;
            let (service, came) = greets_all_but_the_first().await;
            let tunnel = Tunnel::tcp().local_addr(service.addr().to_string());
            let tunnel = tunnel.streams(Streams::Direct);
            let client = bed.client_over(&link).connections(Connections::Exactly(1));
            let client = client.tunnel(tunnel).build().unwrap();
            let public = public_addr(&client.start().await.unwrap().public_url);
            eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
            let mut visitor = TcpStream::connect(public).await.unwrap();
            eventually("the visitor at the service", || came.len() == 1).await;
            assert_eq!(bed.server.direct().serving, 1);
            if all_is_cut {
                // It waits for the client to come back.
                link.cut();
            }
            let greeting = soon("the greeting", async {
                loop {
                    // The first is the session's, and any other one the visitor's.
                    for number in 1..link.accepted() {
                        if !all_is_cut {
                            link.cut_only(number);
                        }
                        let moment = Duration::from_millis(10);
                        if let Ok(heard) = timeout(moment, visitor.read_u8()).await {
                            return heard;
                        }
                    }
                }
            });
            let greeting = greeting.await;
            assert_eq!(greeting.unwrap(), b'!');
        }
    });
}

#[test]
fn who_has_said_something_over_a_carrier_that_breaks_is_cut() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let (heard, mut hears) = mpsc::channel(8);
        let service = LocalService::each(move |mut socket| {
            let heard = heard.clone();
            async move {
                while let Ok(byte) = socket.read_u8().await {
                    heard.send(byte).await.unwrap();
                }
            }
        })
        .await;
        let tunnel = Tunnel::tcp().local_addr(service.addr().to_string());
        let client = bed.client_over(&link).tunnel(tunnel.streams(Streams::Direct));
        let client = client.build().unwrap();
        let mut events = client.events();
        let public = public_addr(&client.start().await.unwrap().public_url);
        eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        assert_eq!(soon("the word", hears.recv()).await, Some(b'x'));
        while events.try_recv().is_ok() {}
        link.cut();
        soon("the end", visitor.read_u8()).await.unwrap_err();
        let ready =
            async { while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelReady(_)) {} };
        soon("the tunnel to come back", ready).await;
        // The next word that is heard is another visitor's.
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"y").await.unwrap();
        assert_eq!(soon("the word", hears.recv()).await, Some(b'y'));
    });
}

#[test]
fn a_shutdown_lets_direct_visitors_finish() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (client, public) = bed.direct(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"a").await.unwrap();
        assert_eq!(visitor.read_u8().await.unwrap(), b'a');
        assert_eq!(bed.server.direct().serving, 1);
        let stay = async {
            eventually("nothing new", || bed.server.direct().waiting == 0).await;
            visitor.write_all(b"b").await.unwrap();
            assert_eq!(visitor.read_u8().await.unwrap(), b'b');
            visitor.shutdown().await.unwrap();
            assert_eq!(visitor.read(&mut [0]).await.unwrap(), 0);
        };
        let (ended, ()) =
            soon("the shutdown", async { tokio::join!(client.shutdown(), stay) }).await;
        ended.unwrap();
    });
}

/// The subject is time: a carrier of many streams may not hold data that nobody takes for 15 s, the
/// carrier of one visitor may.
#[test]
fn a_visitor_that_stops_reading_keeps_its_direct_stream() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let sent = pattern(32 << 20);
        let service = LocalService::each({
            let sent = sent.clone();
            move |mut socket| {
                let sent = sent.clone();
                async move { socket.write_all(&sent).await.unwrap() }
            }
        })
        .await;
        let (_client, public) = bed.direct(service.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.read_u8().await.unwrap();
        assert_eq!(bed.server.direct().serving, 1);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut heard = vec![sent[0]];
        soon("the rest", visitor.read_to_end(&mut heard)).await.unwrap();
        assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
    });
}
