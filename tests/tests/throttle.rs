//! A session or principal with a limit keeps to it, loses nothing by it, and nobody else notices.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ferrotunnel::{Client, LimitsConfig, PrincipalConfig, Streams, Tunnel, issue_token};
use ferrotunnel_tests::{
    LocalService, Site, TOKEN, TestBed, eventually, over_both, public_addr, raw, says_and_hears,
    soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Small enough to be told from what loopback moves.
const RATE: u64 = 256 << 10;

/// What somebody without a limit moves meanwhile.
const MUCH: u64 = 24 << 20;

/// A service that says the pattern again and again, and counts what it hears.
async fn talker(heard: Arc<AtomicU64>) -> LocalService {
    LocalService::each(move |socket| {
        let heard = Arc::clone(&heard);
        async move {
            let (mut read, mut write) = socket.into_split();
            let speak = async {
                let pattern = Site::pattern();
                while write.write_all(&pattern).await.is_ok() {}
            };
            let listen = async {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    heard.fetch_add(count as u64, Ordering::Relaxed);
                }
            };
            tokio::join!(speak, listen);
        }
    })
    .await
}

/// A visitor who listens to a talker, and hears the pattern in order.
async fn listen(public: SocketAddr, heard: &AtomicU64) {
    let pattern = Site::pattern();
    let mut visitor = TcpStream::connect(public).await.unwrap();
    let (mut buffer, mut at) = (vec![0; 64 << 10], 0);
    loop {
        let count = visitor.read(&mut buffer).await.unwrap();
        assert!(count > 0, "it never ends");
        for byte in &buffer[..count] {
            assert_eq!(*byte, pattern[at]);
            at = (at + 1) % pattern.len();
        }
        heard.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A visitor who talks without end.
async fn talk(public: SocketAddr) {
    let mut visitor = TcpStream::connect(public).await.unwrap();
    let block = vec![7; 64 << 10];
    loop {
        visitor.write_all(&block).await.unwrap();
    }
}

async fn tunnel(
    bed: &TestBed,
    token: &str,
    local: &LocalService,
    streams: Streams,
) -> (Client, SocketAddr) {
    let tunnel = Tunnel::tcp().local_addr(local.addr().to_string()).streams(streams);
    let client = bed.client().token(token).tunnel(tunnel).build().unwrap();
    let info = soon("a tunnel", client.start()).await.unwrap();
    (client, public_addr(&info.public_url))
}

/// Those with a limit against one without: `moved` bytes when the latter has moved much.
async fn keeps_to_its_rate(began: Instant, slow: &AtomicU64, fast: &AtomicU64) {
    eventually("much", || fast.load(Ordering::Relaxed) >= MUCH).await;
    let moved = slow.load(Ordering::Relaxed);
    // A second's worth at once, what each of two streams may have begun, and what a pipe of the kernel holds.
    let most = RATE as f64 * (began.elapsed().as_secs_f64() + 1.0) + f64::from(1 << 20);
    assert!((moved as f64) <= most, "{moved} bytes, at most {most}");
    eventually("bytes at their rate", || {
        slow.load(Ordering::Relaxed) >= moved.max(RATE) + (128 << 10)
    })
    .await;
}

/// Bytes from two visitors of a tunnel with a limit, beside those of one without.
async fn race(slow: SocketAddr, fast: SocketAddr) {
    let (began, of_slow, of_fast) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    tokio::select! {
        () = keeps_to_its_rate(began, &of_slow, &of_fast) => {}
        _ = async {
            tokio::join!(listen(slow, &of_slow), listen(slow, &of_slow), listen(fast, &of_fast))
        } => unreachable!("nobody tires"),
    }
}

/// The same the other way: what the services have heard.
async fn race_up(slow: (SocketAddr, &AtomicU64), fast: (SocketAddr, &AtomicU64)) {
    let began = Instant::now();
    tokio::select! {
        () = keeps_to_its_rate(began, slow.1, fast.1) => {}
        _ = async { tokio::join!(talk(slow.0), talk(slow.0), talk(fast.0)) } => {
            unreachable!("nobody tires")
        }
    }
}

#[test]
fn a_principal_with_a_rate_keeps_to_it_and_another_moves_many_times_as_much() {
    over_both(async |carrier| {
        let (token, verifier) = issue_token().unwrap();
        let mut slow = PrincipalConfig::new("slow").verifier(verifier);
        slow.max_bytes_per_second = Some(RATE);
        let bed = TestBed::with(carrier, |server| server.principals([slow])).await;
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let heard = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
            let (one, other) =
                (talker(Arc::clone(&heard[0])).await, talker(Arc::clone(&heard[1])).await);
            // Two sessions of it have the rate together.
            let (_a, slow) = tunnel(&bed, &token.reveal(), &one, streams).await;
            let (_b, fast) = tunnel(&bed, TOKEN, &other, streams).await;
            if streams == Streams::Direct {
                eventually("direct carriers", || bed.server.direct().waiting >= 6).await;
            }
            println!("{streams:?}, to visitors");
            race(slow, fast).await;
            println!("{streams:?}, from visitors");
            race_up((slow, &heard[0]), (fast, &heard[1])).await;
        }
        assert!(bed.server.turned_away().pauses > 0);
    });
}

#[test]
fn a_rate_of_the_server_holds_for_each_session() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_bytes_per_second = Some(RATE);
        let limited = TestBed::with(carrier, |server| server.limits(limits)).await;
        let free = TestBed::start(carrier).await;
        let service = talker(Arc::default()).await;
        let (_a, slow) = tunnel(&limited, TOKEN, &service, Streams::Multiplexed).await;
        let (_b, fast) = tunnel(&free, TOKEN, &service, Streams::Multiplexed).await;
        race(slow, fast).await;
        // It waits, and nothing of it is lost.
        let site = Site::start().await;
        let _client = limited.http("app", site.addr()).await;
        let size = 3 * RATE as usize;
        let text = format!("GET /bytes/{size} HTTP/1.0\r\nhost: {}\r\n\r\n", limited.host("app"));
        let answer = soon("the bytes", raw(limited.http_addr(), text.as_bytes())).await.unwrap();
        let expected: Vec<u8> = Site::pattern().iter().copied().cycle().take(size).collect();
        assert!(answer.ends_with(&expected), "{} bytes of {size}", answer.len());
        assert!(limited.server.turned_away().pauses > 0);
        assert_eq!(free.server.turned_away().pauses, 0);
    });
}

#[test]
fn a_throttled_visitor_hears_at_once_that_the_session_has_ended() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        // The first chunk keeps it waiting for minutes.
        limits.max_bytes_per_second = Some(100);
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let service = talker(Arc::default()).await;
        let (client, public) = tunnel(&bed, TOKEN, &service, Streams::Multiplexed).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        soon("the first byte", visitor.read_u8()).await.unwrap();
        eventually("a pause", || bed.server.turned_away().pauses > 0).await;
        drop(client);
        soon("the end", async {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(1..) = visitor.read(&mut buffer).await {}
        })
        .await;
    });
}

#[test]
fn streams_beyond_those_of_the_second_are_turned_away_and_others_come_in() {
    over_both(async |carrier| {
        let (token, verifier) = issue_token().unwrap();
        let mut slow = PrincipalConfig::new("slow").verifier(verifier);
        slow.max_streams_per_second = Some(4);
        let bed = TestBed::with(carrier, |server| server.principals([slow])).await;
        let echo = LocalService::echo().await;
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let (_a, slow) = tunnel(&bed, &token.reveal(), &echo, streams).await;
            let (_b, free) = tunnel(&bed, TOKEN, &echo, streams).await;
            let (began, mut inside, mut turned_away) = (Instant::now(), 0_u32, 0_u32);
            let before = bed.server.turned_away().streams_too_fast;
            while turned_away < 10 || inside == 0 {
                let Ok(mut visitor) = TcpStream::connect(slow).await else { continue };
                let _ = visitor.write_all(b"x").await;
                match soon("an answer", visitor.read_u8()).await {
                    Ok(byte) => {
                        assert_eq!(byte, b'x');
                        inside += 1;
                    }
                    Err(_) => turned_away += 1,
                }
                let mut other = TcpStream::connect(free).await.unwrap();
                says_and_hears(&mut other).await;
            }
            let most = 4.0 + 4.0 * began.elapsed().as_secs_f64();
            assert!(f64::from(inside) <= most, "{inside}, at most {most}");
            assert!(bed.server.turned_away().streams_too_fast >= before + 10);
        }
    });
}
