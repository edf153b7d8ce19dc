//! Many at once, and connections that break under load: nothing is mixed up and nothing is left behind.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::sync::atomic::{AtomicUsize, Ordering};

use ferrotunnel::{ErrorKind, Streams, Tunnel};
use ferrotunnel_tests::memory::descriptors;
use ferrotunnel_tests::{
    Carrier, Link, LocalService, Site, TestBed, abort_on_close, eventually, numbered_visitors,
    over_both, public_addr, soon,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One at a time: the descriptors that are counted are those of the whole process.
fn alone(test: impl AsyncFn(Carrier)) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    over_both(test);
}

#[test]
fn a_burst_of_visitors_is_served() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let visitors = numbered_visitors(public, 1_000).await;
        assert_eq!(bed.server.streams(), 1_000);
        drop(visitors);
        eventually("all streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn visitors_that_hang_up_at_once_leave_nothing_behind() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        // Warm: the first visitor makes everybody set something up.
        let mut first = TcpStream::connect(public).await.unwrap();
        first.write_all(b"x").await.unwrap();
        first.read_u8().await.unwrap();
        drop(first);
        eventually("the first stream to end", || bed.server.streams() == 0).await;
        let before = descriptors();
        for _ in 0..10 {
            let visitors = (0..100).map(|number| async move {
                let Ok(mut visitor) = TcpStream::connect(public).await else { return };
                if number % 3 > 0 {
                    let _ = visitor.write_all(b"something").await;
                }
                if number % 2 == 0 {
                    abort_on_close(&visitor);
                }
            });
            soon("a hundred visitors", join_all(visitors)).await;
        }
        eventually("all streams to end", || bed.server.streams() == 0).await;
        eventually("all sockets to close", || descriptors() <= before).await;
    });
}

#[test]
fn of_many_clients_with_one_name_one_remains() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
                bed.client().tunnel(tunnel).build().unwrap()
            })
            .collect();
        let ended = AtomicUsize::new(0);
        let lives = clients.iter().map(|client| async {
            // Whoever is superseded before it has heard of its success fails to start.
            let error = match client.start().await {
                Ok(_) => client.wait().await.unwrap_err(),
                Err(error) => error,
            };
            assert!(matches!(error.kind(), ErrorKind::Superseded | ErrorKind::Refused), "{error}");
            ended.fetch_add(1, Ordering::Relaxed);
        });
        let all_but_one = async {
            eventually("all but one to end", || ended.load(Ordering::Relaxed) == 19).await;
            eventually("all but one to leave", || bed.server.sessions() == 1).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
        };
        tokio::select! {
            _ = join_all(lives) => unreachable!("the last one ended too"),
            () = all_but_one => {}
        }
    });
}

#[test]
fn cuts_under_load_mix_nothing_up_and_leave_nothing_behind() {
    alone(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let site = Site::start().await;
        let client = bed
            .client_over(&link)
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Multiplexed))
            .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let before = descriptors();
        let (whole, broken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Each visitor sends bytes of its own. It may be broken off, but never gets what is not its own.
        let visitor = async |number: u8| {
            let sent = vec![number; 300_000];
            while whole.load(Ordering::Relaxed) < 100 || broken.load(Ordering::Relaxed) < 5 {
                let Ok(socket) = TcpStream::connect(public).await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let (mut read, mut write) = socket.into_split();
                let mut heard = Vec::new();
                let speak = async {
                    write.write_all(&sent).await?;
                    write.shutdown().await
                };
                // The system tells of a reset once: when the write met it, the read finds an end.
                let (spoken, end) = tokio::join!(speak, read.read_to_end(&mut heard));
                assert!(heard.iter().all(|byte| *byte == number), "bytes of somebody else");
                if spoken.is_ok() && end.is_ok() {
                    assert_eq!(heard.len(), sent.len(), "a cut connection ended as if whole");
                    whole.fetch_add(1, Ordering::Relaxed);
                } else {
                    broken.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        let cutting = async {
            let mut next = 20;
            loop {
                eventually("more to cut", || whole.load(Ordering::Relaxed) >= next).await;
                link.cut();
                next += 20;
            }
        };
        tokio::select! {
            _ = soon("the visitors", join_all((0..8).map(visitor))) => {}
            () = cutting => {}
        }
        // The last cut may be a moment ago.
        soon("the tunnel", async {
            while bed.get("app", "/hello").await.body != "hello" {
                tokio::task::yield_now().await;
            }
        })
        .await;
        eventually("one session to remain", || bed.server.sessions() == 1).await;
        drop(client);
        eventually("all sessions to end", || bed.server.sessions() == 0).await;
        eventually("all sockets to close", || descriptors() < before.max(1)).await;
    });
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    alone(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        drop(bed.http("warm", site.addr()).await);
        eventually("the first session to end", || bed.server.sessions() == 0).await;
        let before = descriptors();
        for round in 0..10 {
            let clients = (0..10).map(|number| {
                let (bed, local) = (&bed, site.addr());
                async move {
                    let name = format!("app{number}");
                    let client = bed.http(&name, local).await;
                    assert_eq!(bed.get(&name, "/hello").await.body, "hello");
                    if (round + number) % 2 == 0 {
                        client.shutdown().await.unwrap();
                    }
                }
            });
            soon("ten clients", join_all(clients)).await;
        }
        eventually("all sessions to end", || bed.server.sessions() == 0).await;
        eventually("all sockets to close", || descriptors() <= before).await;
    });
}
