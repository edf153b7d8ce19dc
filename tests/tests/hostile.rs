//! Peers that mean harm, before and after they have proven the token: what they can make the server
//! hold is bounded, they are told why they go, and nobody beside them is touched.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferrotunnel::{ClientEvent, LimitsConfig, Retry, Streams, Tunnel, TunnelKind};
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::Violation;
use ferrotunnel_protocol::frame::{
    FIN, Frame, FrameType, GoAway, GoAwayCode, Header, MAX_WINDOW, Ping,
};
use ferrotunnel_tests::memory::{peak_bytes, restart_peak};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, Outlaw, Site, Stranger, TestBed, abort_on_close, ask_for,
    client_hello, client_of, credit, data, eventually, opened_and_reset, over_both, public_addr,
    reset, run, says_and_hears, soon, until_still,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

static ALONE: Mutex<()> = Mutex::new(());

/// One at a time: the memory that is measured is that of the whole process.
fn alone(test: impl AsyncFn(Carrier)) {
    let _alone = ALONE.lock();
    over_both(test);
}

/// The same over both carriers at once, for what takes its time.
fn both_at_once(test: impl AsyncFn(Carrier)) {
    let _alone = ALONE.lock();
    run(async { tokio::join!(test(Carrier::Tls), test(Carrier::Plaintext)) });
}

/// Does something hostile while a conversation over another session goes on, and sees to it that
/// neither that stops nor this process, in which the server is, ever holds so many bytes more.
async fn beside<T>(bed: &TestBed, most: u64, hostile: impl Future<Output = T>) -> T {
    let echo = LocalService::echo().await;
    let (client, public) = bed.tcp(echo.addr()).await;
    let mut talker = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut talker).await;
    let before = restart_peak();
    let (stop, stopped) = oneshot::channel::<()>();
    let talking = tokio::spawn(async move {
        while !stop.is_closed() {
            says_and_hears(&mut talker).await;
        }
        // The last word is said over the same connection, when all is over.
        says_and_hears(&mut talker).await;
    });
    let result = hostile.await;
    drop(stopped);
    talking.await.unwrap();
    if let (Some(before), Some(peak)) = (before, peak_bytes()) {
        let more = peak.saturating_sub(before);
        assert!(more < most, "{more} bytes more in memory");
    }
    // New visitors come in.
    let mut later = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut later).await;
    drop(client);
    result
}

/// It is sent away, and told why.
async fn is_told(outlaw: &mut Outlaw, violation: Violation) {
    let farewell = outlaw.is_sent_away().await;
    let Some((code, words)) = farewell else { unreachable!("it ended without a word") };
    assert_eq!(code, GoAwayCode::ProtocolError, "{words}");
    assert!(words.contains(&violation.to_string()), "{words:?}, not {violation:?}");
}

/// Visitors that say something and wait. Each has small buffers, so that what is for it or from it
/// waits at the server.
async fn visitors(public: SocketAddr, count: usize) -> Vec<TcpStream> {
    let visitors = (0..count).map(|_| async move {
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"hello").await.unwrap();
        visitor
    });
    soon("the visitors", join_all(visitors)).await
}

/// An outlaw with a visitor of its own, who has said something, and the stream that brought them.
async fn with_a_visitor(bed: &TestBed, carrier: Carrier) -> (Outlaw, u32, TcpStream) {
    let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
    let public = outlaw.tcp(1).await;
    let visitor = visitors(public, 1).await.remove(0);
    let stream = outlaw.hear_a(FrameType::Open).await.header.stream;
    (outlaw, stream, visitor)
}

const MIB: u64 = 1 << 20;

/// What a crowd of visitors and a flood cost in this process beside what is tested: sockets,
/// tasks, the buffers of both ends.
const SLACK: u64 = 24 * MIB;

#[test]
fn credit_that_is_never_given_holds_its_own_visitors_only() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // No credit at all; and much of it by somebody who never reads.
        for window in [0, MAX_WINDOW] {
            let mut outlaw = Outlaw::deaf(bed.server.tunnel_addr(), carrier, window).await;
            let public = outlaw.tcp(1).await;
            if window == 0 {
                outlaw.listen();
            }
            let sent = Arc::new(AtomicU64::new(0));
            let mut uploads = JoinSet::new();
            let hostile = async {
                for _ in 0..100 {
                    let mut visitor = TcpStream::connect(public).await.unwrap();
                    let sent = Arc::clone(&sent);
                    uploads.spawn(async move {
                        let block = [0; 16 << 10];
                        while let Ok(count @ 1..) = visitor.write(&block).await {
                            sent.fetch_add(count as u64, Ordering::Relaxed);
                        }
                    });
                }
                until_still(|| sent.load(Ordering::Relaxed), tokio::task::yield_now).await;
            };
            beside(&bed, SLACK, hostile).await;
            uploads.shutdown().await;
            drop(outlaw);
            eventually("the outlaw's streams to end", || bed.server.streams() == 0).await;
        }
    });
}

#[test]
fn credit_beyond_the_largest_window_ends_the_session() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (mut outlaw, stream, mut visitor) = with_a_visitor(&bed, carrier).await;
        let hostile = async {
            for _ in 0..2 {
                outlaw.say(&credit(stream, MAX_WINDOW)).await;
            }
            is_told(&mut outlaw, Violation::WindowOverflow).await;
        };
        beside(&bed, SLACK, hostile).await;
        let end = soon("the visitor's end", visitor.read_u8()).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn bytes_beyond_the_credit_end_the_session() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (mut outlaw, stream, _visitor) = with_a_visitor(&bed, carrier).await;
        // The visitor reads nothing. What its socket takes gives credit back, so it is used up only
        // when none has come for what was sent.
        let block = vec![0; 60_000];
        let hostile = async {
            outlaw.flood(&data(stream, 0, &block), 4_000).await;
            is_told(&mut outlaw, Violation::FlowControl).await;
        };
        beside(&bed, SLACK, hostile).await;
    });
}

#[test]
fn a_client_that_resets_every_visitor_stays_alone_with_it() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let public = outlaw.tcp(1).await;
        let turned_away = AtomicU64::new(0);
        let visiting = async {
            for _ in 0..20 {
                let crowd = (0..100).map(|_| async {
                    let end = match TcpStream::connect(public).await {
                        Ok(mut visitor) => visitor.read_u8().await.unwrap_err(),
                        Err(error) => error,
                    };
                    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
                    turned_away.fetch_add(1, Ordering::Relaxed);
                });
                soon("the end of a hundred visits", join_all(crowd)).await;
            }
        };
        let resetting = async {
            loop {
                let stream = outlaw.hear_a(FrameType::Open).await.header.stream;
                outlaw.say(&reset(stream)).await;
            }
        };
        let hostile = async {
            tokio::select! {
                () = visiting => {}
                () = resetting => {}
            }
        };
        beside(&bed, SLACK, hostile).await;
        assert_eq!(turned_away.load(Ordering::Relaxed), 2_000);
        eventually("the streams to end", || bed.server.streams() == 0).await;
        outlaw.is_still_heard().await;
    });
}

#[test]
fn streams_that_a_client_opens_and_resets_come_to_nothing() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let hostile = async {
            for first in (1..100_000).step_by(2_000) {
                outlaw.say_bytes(&opened_and_reset((first..first + 2_000).step_by(2))).await;
            }
            outlaw.is_still_heard().await;
        };
        beside(&bed, SLACK, hostile).await;
        eventually("no stream to be left", || bed.server.streams() == 0).await;
        drop(outlaw);
        // Nothing piles up for somebody who hears nothing.
        let mut outlaw = Outlaw::deaf(bed.server.tunnel_addr(), carrier, 64 << 10).await;
        let hostile = async {
            for first in (1..200_000).step_by(2_000) {
                let storm = opened_and_reset((first..first + 2_000).step_by(2));
                assert!(soon("the storm", outlaw.say_bytes(&storm)).await);
            }
            outlaw.listen();
            outlaw.is_still_heard().await;
        };
        beside(&bed, SLACK, hostile).await;
        eventually("no stream to be left", || bed.server.streams() == 0).await;
    });
}

#[test]
fn frames_for_streams_that_are_gone_come_to_nothing() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (mut outlaw, stream, _visitor) = with_a_visitor(&bed, carrier).await;
        outlaw.say(&reset(stream)).await;
        let hostile = async {
            let late = [
                reset(stream).encode().to_vec(),
                credit(stream, MAX_WINDOW).encode().to_vec(),
                data(stream, 0, &[0; 100]),
                data(stream, FIN, b""),
            ];
            outlaw.flood(&late.concat(), 50_000).await;
            outlaw.is_still_heard().await;
        };
        beside(&bed, SLACK, hostile).await;
        eventually("no stream to be left", || bed.server.streams() == 0).await;
    });
}

#[test]
fn frames_for_streams_that_never_were_end_the_session() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for frame in [reset(2), credit(1_000, 1), reset(7)] {
            let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
            let hostile = async {
                outlaw.flood(&frame.encode(), 10_000).await;
                is_told(&mut outlaw, Violation::IdleStream).await;
            };
            beside(&bed, SLACK, hostile).await;
        }
    });
}

#[test]
fn credit_in_crumbs_is_only_work() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (mut outlaw, stream, _visitor) = with_a_visitor(&bed, carrier).await;
        let hostile = async {
            let crumbs = [credit(stream, 1).encode(), credit(0, 16 << 10).encode()].concat();
            outlaw.flood(&crumbs, 100_000).await;
            outlaw.is_still_heard().await;
        };
        beside(&bed, SLACK, hostile).await;
        eventually("the visitor alone to stay", || bed.server.streams() == 1).await;
    });
}

#[test]
fn a_thousand_windows_used_up_stay_within_the_budget() {
    const BUDGET: u64 = 16 * MIB;
    alone(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_receive_memory = BUDGET;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let public = outlaw.tcp(1).await;
        let hostile = async {
            let crowd = visitors(public, 1_000).await;
            let mut promised = 0;
            for _ in 0..crowd.len() {
                let open = outlaw.hear_a(FrameType::Open).await;
                let window = open.receive_window();
                promised += u64::from(window);
                let mut left = window as usize;
                while left > 0 {
                    let count = left.min(32 << 10);
                    outlaw.say_bytes(&data(open.header.stream, 0, &vec![0; count])).await;
                    left -= count;
                }
            }
            // Then whatever credit comes back, until the visitors' sockets are full.
            outlaw.is_still_heard().await;
            assert!(promised < 2 * BUDGET, "{promised} bytes of window");
            crowd
        };
        let crowd = beside(&bed, BUDGET + SLACK, hostile).await;
        eventually("the crowd alone to stay", || bed.server.streams() == 1_000).await;
        drop(crowd);
        eventually("the streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn pings_by_somebody_who_takes_no_answer_end_the_session() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::deaf(bed.server.tunnel_addr(), carrier, 64 << 10).await;
        let ping = Frame::Ping(Ping { ack: false, opaque: [7; 8] }).encode();
        let hostile = async {
            // So many that the answers fill both sockets; then they pile up.
            outlaw.flood(&ping, 2_000_000).await;
            outlaw.listen();
            // If the way back is full even the farewell does not arrive.
            if let Some((_, words)) = outlaw.is_sent_away().await {
                assert!(words.contains(&Violation::Flood.to_string()), "{words}");
            }
        };
        beside(&bed, SLACK, hostile).await;
        eventually("the session to end", || bed.server.sessions() == 0).await;
    });
}

#[test]
fn of_a_hundred_thousand_names_a_client_gets_as_many_as_it_may_have() {
    const NAMES: u32 = 100_000;
    const AT_ONCE: u32 = 50;
    alone(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_tunnels_per_session = 100;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let hostile = async {
            let mut granted = 0;
            for first in (1..NAMES).step_by(AT_ONCE as usize) {
                let asking = (first..first + AT_ONCE)
                    .flat_map(|n| ask_for(n, TunnelKind::Http, &format!("n{n}")).encode());
                outlaw.say_bytes(&asking.collect::<Vec<_>>()).await;
                for _ in 0..AT_ONCE {
                    match outlaw.hear_a(FrameType::Registered).await.registered() {
                        Ok(_) => granted += 1,
                        Err(code) => assert_eq!(code, 5, "over a limit"),
                    }
                }
            }
            assert_eq!(granted, 100);
        };
        beside(&bed, SLACK, hostile).await;
        // Without waiting for answers it is only work, as long as they are taken.
        let hostile = async {
            let asking = ask_for(NAMES + 1, TunnelKind::Http, "more").encode();
            outlaw.flood(&asking, NAMES as usize).await;
            outlaw.is_still_heard().await;
        };
        beside(&bed, SLACK, hostile).await;
    });
}

#[test]
fn tunnels_that_come_and_go_leave_nothing_behind() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let hostile = async {
            for number in 1..5_000 {
                let (kind, name) = match number % 2 {
                    0 => (TunnelKind::Http, "again"),
                    _ => (TunnelKind::Tcp, ""),
                };
                outlaw.register(number, kind, name).await.unwrap();
                outlaw.say(&Frame::Unregister(number)).await;
            }
        };
        beside(&bed, SLACK, hostile).await;
        outlaw.is_still_heard().await;
        assert_eq!(bed.get("again", "/").await.status, 404);
    });
}

#[test]
fn who_says_go_away_again_and_again_is_sent_away() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
        let public = outlaw.tcp(1).await;
        // With a stream open, a drain has something to wait for.
        let _visitor = visitors(public, 1).await;
        outlaw.hear_a(FrameType::Open).await;
        let go_away = GoAway {
            last_stream: StreamId(2),
            code: GoAwayCode::Drain,
            reason: "so long".to_owned(),
        };
        let go_away = Frame::GoAway(go_away).encode();
        let hostile = async {
            outlaw.say_bytes(&go_away).await;
            // A tunnel after the farewell: whatever the answer is, nobody may get stuck.
            outlaw.say(&ask_for(2, TunnelKind::Http, "late")).await;
            outlaw.is_still_heard().await;
            outlaw.flood(&go_away, 10_000).await;
            is_told(&mut outlaw, Violation::Flood).await;
        };
        beside(&bed, SLACK, hostile).await;
        eventually("the session to end", || bed.server.sessions() == 0).await;
        assert_eq!(bed.get("late", "/").await.status, 404);
    });
}

#[test]
fn half_a_frame_and_silence_is_a_dead_peer() {
    both_at_once(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::deaf(bed.server.tunnel_addr(), carrier, 64 << 10).await;
        let public = outlaw.tcp(1).await;
        let mut visitor = visitors(public, 1).await.remove(0);
        let hostile = async {
            // The longest Register there can be, of which the end never comes.
            let header = Header { kind: FrameType::Register, flags: 0, length: 65_535, stream: 2 };
            outlaw.say_bytes(&[&header.encode()[..], &[0; 100]].concat()).await;
            let end = soon("the visitor's end", visitor.read_u8()).await;
            assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        };
        beside(&bed, SLACK, hostile).await;
        eventually("the session to end", || bed.server.sessions() == 0).await;
    });
}

#[test]
fn good_clients_come_in_between_handshakes_that_drip() {
    alone(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_handshakes_in_flight = 8;
        limits.handshake_deadline = Duration::from_millis(200);
        // It is about places here.
        limits.max_failed_handshakes_per_address = 10_000;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let site = Site::start().await;
        let addr = bed.server.tunnel_addr();
        // Twice as many as there are places, each of which comes again when it is cut off.
        let mut lorises = JoinSet::new();
        for _ in 0..16 {
            lorises.spawn(async move {
                loop {
                    let mut loris = Stranger::connect(addr, Carrier::Plaintext).await;
                    loris.say(&[0x16, 0x03, 0x01]).await;
                    loris.hear_out().await;
                }
            });
        }
        let good = async {
            for round in 0..5 {
                let name = format!("app{round}");
                let client = soon("a good client", bed.http(&name, site.addr())).await;
                assert_eq!(bed.get(&name, "/hello").await.body, "hello");
                drop(client);
            }
        };
        // The conversation of `beside` is there before them, the others come among them.
        Box::pin(beside(&bed, SLACK, good)).await;
        lorises.shutdown().await;
    });
}

#[test]
fn who_sits_at_the_door_and_says_nothing_makes_room_for_good_clients() {
    let _alone = ALONE.lock();
    run(async {
        let mut limits = LimitsConfig::default();
        limits.max_handshakes_in_flight = 8;
        limits.handshake_deadline = Duration::from_secs(3_600);
        let bed = TestBed::with(Carrier::Tls, |server| server.limits(limits)).await;
        let addr = bed.server.tunnel_addr();
        let _silent = again_and_again(64, move || async move {
            let mut socket = TcpStream::connect(addr).await?;
            socket.write_all(&client_hello()[..100]).await?;
            while socket.read(&mut [0; 256]).await? > 0 {}
            Ok(())
        });
        let waiting = || bed.server.turned_away().handshakes_waiting;
        eventually("as many as there are places", || waiting() > 0).await;
        Box::pin(goes_in_and_out(&bed, Streams::Direct, async || {})).await;
    });
}

#[test]
fn connections_that_come_to_nothing_wait_for_their_turns_and_honest_ones_come_in() {
    alone(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_failed_handshakes_per_address = 4;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let (site, addr) = (Site::start().await, bed.server.tunnel_addr());
        let (began, ended) = (std::time::Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut strangers = JoinSet::new();
        for _ in 0..8 {
            let ended = Arc::clone(&ended);
            strangers.spawn(async move {
                loop {
                    let mut noise = Stranger::connect(addr, Carrier::Plaintext).await;
                    noise.say(&[b'?'; 4_096]).await;
                    noise.hear_out().await;
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let good = async {
            eventually("connections that wait", || bed.server.turned_away().handshakes_delayed > 0)
                .await;
            let client = soon("a good client", bed.http("app", site.addr())).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
            drop(client);
        };
        // The conversation of `beside` is there before them.
        Box::pin(beside(&bed, SLACK, good)).await;
        strangers.shutdown().await;
        // What a second has at once, one for each of them at the same moment, and the rate.
        let most = 4.0 + 8.0 + 4.0 * began.elapsed().as_secs_f64();
        let ended = ended.load(Ordering::Relaxed);
        assert!(ended as f64 <= most, "{ended} connections, but {most} at most");
    });
}

/// So many at once from the address of everybody here, each again as soon as it has been let go.
fn again_and_again<F>(count: usize, one: impl Fn() -> F + Clone + Send + 'static) -> JoinSet<()>
where
    F: Future<Output = std::io::Result<()>> + Send,
{
    let mut all = JoinSet::new();
    for _ in 0..count {
        let one = one.clone();
        all.spawn(async move {
            loop {
                let _ = one().await;
            }
        });
    }
    all
}

/// A client is in, serves a visitor, loses its connections and comes back, and so on. `before` each loss something else
/// has to have happened.
async fn goes_in_and_out(bed: &TestBed, streams: Streams, before: impl AsyncFn()) {
    let (link, echo) = (Link::to(bed.server.tunnel_addr()).await, LocalService::echo().await);
    let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string()).streams(streams);
    let client = bed.client_over(&link).tunnel(tunnel).build().unwrap();
    let public = public_addr(&soon("a good client", client.start()).await.unwrap().public_url);
    for _ in 0..4 {
        let is_ready = || streams != Streams::Direct || bed.server.direct().waiting > 0;
        eventually("a direct carrier to wait", is_ready).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        before().await;
        let mut events = client.events();
        link.cut();
        let ready =
            async { while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelReady(_)) {} };
        soon("the tunnel to come back", ready).await;
    }
}

#[test]
fn garbage_without_a_pause_holds_up_nobody_of_its_address() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let addr = bed.server.tunnel_addr();
        let _noise = again_and_again(64, move || async move {
            let mut socket = TcpStream::connect(addr).await?;
            socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
            while socket.read(&mut [0; 256]).await? > 0 {}
            Ok(())
        });
        let _drips = again_and_again(64, move || async move {
            let mut socket = TcpStream::connect(addr).await?;
            socket.write_all(&client_hello()[..100]).await?;
            while socket.read(&mut [0; 256]).await? > 0 {}
            Ok(())
        });
        let _checks = again_and_again(1, move || async move {
            abort_on_close(&TcpStream::connect(addr).await?);
            Ok(())
        });
        let refused = || bed.server.turned_away().handshakes_refused;
        let more_are_refused = async || {
            let before = refused();
            eventually("more noise than may wait", || refused() > before).await;
        };
        more_are_refused().await;
        Box::pin(goes_in_and_out(&bed, Streams::Direct, more_are_refused)).await;
    });
}

#[test]
fn who_has_been_in_comes_back_past_those_of_its_address_who_only_shake_hands() {
    comes_back_past(Streams::Multiplexed, |addr| {
        let hello = client_hello();
        again_and_again(64, move || {
            let hello = hello.clone();
            async move {
                let mut socket = TcpStream::connect(addr).await?;
                socket.write_all(&hello).await?;
                socket.read_u8().await?;
                abort_on_close(&socket);
                Ok(())
            }
        })
    });
}

#[test]
fn who_has_been_in_comes_back_past_those_of_its_address_who_guess_at_its_token() {
    comes_back_past(Streams::Multiplexed, guessers_at);
}

#[test]
fn direct_carriers_come_back_past_those_of_their_address_who_guess_at_their_token() {
    comes_back_past(Streams::Direct, guessers_at);
}

fn guessers_at(addr: SocketAddr) -> JoinSet<()> {
    again_and_again(16, move || async move {
        let guesser = client_of(addr, Carrier::Tls).token("a-guess-at-the-token");
        let guesser = guesser.retry(Retry::Never).local_addr("1").build().unwrap();
        let _ = guesser.start().await;
        Ok(())
    })
}

/// Strangers come as soon as the good client is in, and more of them than may wait whenever it is lost.
fn comes_back_past(streams: Streams, strangers_at: impl Fn(SocketAddr) -> JoinSet<()>) {
    let _alone = ALONE.lock();
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let strangers = Mutex::new(None);
        Box::pin(goes_in_and_out(&bed, streams, async || {
            strangers.lock().get_or_insert_with(|| strangers_at(bed.server.tunnel_addr()));
            let refused = || bed.server.turned_away().handshakes_refused;
            let before = refused();
            eventually("more strangers than may wait", || refused() > before).await;
        }))
        .await;
    });
}

/// One that has come and gone without a word was nobody, and one that was cut off in the middle of its first message cost
/// nothing: those behind it need not wait.
#[test]
fn who_comes_and_goes_without_a_word_counts_for_nothing() {
    alone(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_failed_handshakes_per_address = 1;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        for _ in 0..50 {
            drop(TcpStream::connect(bed.server.tunnel_addr()).await.unwrap());
        }
        let site = Site::start().await;
        let client = soon("a good client", bed.http("app", site.addr())).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        let turned_away = bed.server.turned_away();
        assert_eq!((turned_away.handshakes_delayed, turned_away.handshakes_refused), (0, 0));
        drop(client);
    });
}

#[test]
fn who_is_sent_away_for_faults_has_to_wait_in_the_end() {
    alone(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_failed_handshakes_per_address = 2;
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let again = async || {
            loop {
                let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
                outlaw.say(&reset(2)).await;
                is_told(&mut outlaw, Violation::IdleStream).await;
            }
        };
        let hostile = async {
            tokio::select! {
                _ = join_all([again(), again()]) => unreachable!("they never tire"),
                () = eventually("one that waits", || {
                    bed.server.turned_away().handshakes_delayed > 0
                }) => {}
            }
        };
        beside(&bed, SLACK, hostile).await;
    });
}

#[test]
fn visitors_that_come_and_reset_at_once_do_not_fill_up_for_a_client_that_hears_nothing() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let mut outlaw = Outlaw::deaf(bed.server.tunnel_addr(), carrier, 64 << 10).await;
        let public = outlaw.tcp(1).await;
        let hostile = async {
            for _ in 0..300 {
                let crowd = (0..100).map(|_| async move {
                    // A full queue of the listener refuses, too.
                    if let Ok(visitor) = TcpStream::connect(public).await {
                        abort_on_close(&visitor);
                    }
                });
                soon("a hundred visitors", join_all(crowd)).await;
            }
            eventually("the streams to end", || bed.server.streams() <= 1).await;
        };
        beside(&bed, SLACK, hostile).await;
    });
}
