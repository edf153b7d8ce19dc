//! What the built program lives through: `kill -9`, too few descriptors, and visitors and strangers that want its
//! memory.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]
#![allow(clippy::print_stdout, reason = "a test that measures says what it found")]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrotunnel::{Client, Tunnel};
use ferrotunnel_tests::memory::{Process, raise_descriptor_limit, resident_bytes};
use ferrotunnel_tests::{
    Answer, Carrier, Link, LocalService, Site, Stranger, TOKEN, begin, client_of, get,
    numbered_visitors, public_addr, run, run_for, soon, until_still,
};
use futures_util::FutureExt as _;
use support::Running;
use support::server::{Server, host, http_client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

impl Server {
    /// With that few descriptors.
    fn with_descriptors(count: u32) -> Self {
        Self::spawn(limited(count, &Self::args("127.0.0.1:0", "127.0.0.1:0")))
    }

    /// A client in this process with one HTTP tunnel.
    async fn http_tunnel(&self, name: &str, local: SocketAddr) -> Client {
        let tunnel = Tunnel::http(name).local_addr(local.to_string());
        let client = client_of(self.tunnel, Carrier::Tls).tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        client
    }

    async fn get(&self, name: &str, path: &str) -> Answer {
        get(self.http, &host(name), path).await
    }

    fn memory(&self) -> u64 {
        resident_bytes(Process::Id(self.process.id())).unwrap()
    }
}

/// The program with these arguments and few descriptors.
fn limited(descriptors: u32, args: &[&str]) -> Command {
    let program = support::command(args);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""));
    command.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[test]
fn kill_minus_nine_server_comes_back() {
    run(async {
        let site = Site::start().await;
        let mut server = Server::start();
        let client = http_client(server.tunnel, "app", site.addr(), &[]);
        for _ in 0..3 {
            assert_eq!(server.get("app", "/hello").await.body, "hello");
            server.process.signal("KILL");
            server.process.ended();
            client.talk_with("trying again");
            server = Server::again(server.tunnel, server.http);
            let back = Instant::now();
            client.talk_with("connected again");
            soon("the tunnel", async {
                while server.get("app", "/hello").await.status != 200 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            // About a second by design; the rest is for a machine that is busy.
            assert!(back.elapsed() < Duration::from_secs(6), "{:?}", back.elapsed());
        }
    });
}

#[test]
fn kill_minus_nine_client_leaves_its_name_to_the_next() {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        for _ in 0..3 {
            let mut client = http_client(server.tunnel, "app", site.addr(), &[]);
            assert_eq!(server.get("app", "/hello").await.body, "hello");
            let mut visitor = begin(server.http, &host("app"), "/held-body").await;
            client.signal("KILL");
            client.ended();
            let mut rest = Vec::new();
            let _ = soon("the visitor to be told", visitor.read_to_end(&mut rest)).await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "a cut body has no last chunk");
        }
    });
}

/// A server without encryption, and a client of it with one TCP tunnel.
async fn tcp_tunnel(local: SocketAddr, streams: &str) -> (Server, Running, SocketAddr) {
    let args = Server::args("127.0.0.1:0", "127.0.0.1:0");
    let server = Server::spawn(support::command(&[&args[..], &["--plaintext"]].concat()));
    let (local, dial) = (local.to_string(), server.tunnel.to_string());
    let args = ["tcp", &local, "--server", &dial, "--token", TOKEN, "--plaintext"];
    let client = Running::start(&[&args[..], &["--streams", streams]].concat());
    let public = public_addr(client.line().trim());
    (server, client, public)
}

async fn are_cut_off(visitors: Vec<TcpStream>) {
    for mut visitor in visitors {
        let end = soon("the end of a visit", visitor.read(&mut [0])).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

/// Where nothing is encrypted, the end of a process looks like the end of what it had to say.
#[test]
fn kill_minus_nine_client_is_no_clean_end_for_anybody() {
    run(async {
        let (heard, mut ends) = mpsc::channel(8);
        let echo = LocalService::each(move |mut socket| {
            let heard = heard.clone();
            async move {
                let mut byte = [0];
                let end = loop {
                    match socket.read(&mut byte).await {
                        Ok(1) => socket.write_all(&byte).await.unwrap(),
                        end => break end.map_err(|error| error.kind()),
                    }
                };
                heard.send(end).await.unwrap();
            }
        })
        .await;
        for streams in ["direct", "multiplexed"] {
            let (_server, mut client, public) = tcp_tunnel(echo.addr(), streams).await;
            let visitors = numbered_visitors(public, 8).await;
            let count = visitors.len();
            client.signal("KILL");
            client.ended();
            are_cut_off(visitors).await;
            for _ in 0..count {
                let end = soon("the end for the local service", ends.recv()).await;
                assert_eq!(end, Some(Err(std::io::ErrorKind::ConnectionReset)), "{streams}");
            }
        }
    });
}

#[test]
fn kill_minus_nine_server_is_no_clean_end_for_its_visitors() {
    run(async {
        let echo = LocalService::echo().await;
        for streams in ["direct", "multiplexed"] {
            let (server, _client, public) = tcp_tunnel(echo.addr(), streams).await;
            let visitors = numbered_visitors(public, 8).await;
            server.process.signal("KILL");
            are_cut_off(visitors).await;
        }
    });
}

#[test]
fn a_client_that_sleeps_comes_back() {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        let client = http_client(server.tunnel, "app", site.addr(), &[]);
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        // As when a laptop is closed: nothing is answered any more, and nothing says so.
        client.signal("STOP");
        let asleep = Instant::now();
        let answer = soon("the visitor to be told", server.get("app", "/hello")).await;
        assert!(answer.status.is_server_error() && answer.ferrotunnel_error().is_some());
        // 15 s by design; the rest is for a machine that is busy.
        assert!(asleep.elapsed() < Duration::from_secs(20), "{:?}", asleep.elapsed());
        assert_eq!(server.get("app", "/hello").await.status, 404);
        client.signal("CONT");
        let awake = Instant::now();
        eventually_hello(&server).await;
        assert!(awake.elapsed() < Duration::from_secs(6), "{:?}", awake.elapsed());
    });
}

#[test]
fn a_client_that_slept_leaves_a_dead_connection_within_seconds() {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        let link = Link::to(server.tunnel).await;
        let (local, addr) = (site.addr().to_string(), link.addr().to_string());
        let args = ["http", &local, "--server", &addr, "--token", TOKEN, "--name", "app"];
        let client = Running::start(&args);
        client.line();
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        client.signal("STOP");
        link.blackhole();
        // The sleep itself: short enough for the heartbeats not to have missed much.
        tokio::time::sleep(Duration::from_secs(6)).await;
        link.resume();
        client.signal("CONT");
        let awake = Instant::now();
        client.talk_with("connected again");
        // 2 s by design, and 9 s by heartbeats alone.
        assert!(awake.elapsed() < Duration::from_secs(6), "{:?}", awake.elapsed());
        eventually_hello(&server).await;
    });
}

#[test]
fn a_server_that_freezes_is_left_and_found_again() {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        let client = http_client(server.tunnel, "app", site.addr(), &[]);
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        server.process.signal("STOP");
        let frozen = Instant::now();
        client.talk_with("trying again");
        assert!(frozen.elapsed() < Duration::from_secs(20), "{:?}", frozen.elapsed());
        server.process.signal("CONT");
        let thawed = Instant::now();
        client.talk_with("connected again");
        eventually_hello(&server).await;
        // An attempt that began while the server was frozen may have to end first: the back-off has grown by then.
        assert!(thawed.elapsed() < Duration::from_secs(12), "{:?}", thawed.elapsed());
    });
}

#[test]
fn emfile_does_not_end_ingress() {
    run(async {
        let site = Site::start().await;
        // More than a machine with many processors needs for its threads.
        let server = Server::with_descriptors(256);
        let _client = server.http_tunnel("app", site.addr()).await;
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        // The same on either door: visitors, and strangers on the tunnel port.
        for door in [server.http, server.tunnel] {
            let mut idle = Vec::new();
            for _ in 0..400 {
                idle.push(TcpStream::connect(door).await.unwrap());
            }
            server.process.talk_with("cannot accept connections");
            drop(idle);
            let answer = soon("an answer", server.get("app", "/hello")).await;
            assert_eq!(answer.body, "hello");
            let late = soon("another client", server.http_tunnel("late", site.addr())).await;
            assert_eq!(server.get("late", "/hello").await.body, "hello");
            drop(late);
        }
    });
}

#[test]
fn a_client_without_descriptors_serves_again_when_it_has_some() {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        let (local, addr) = (site.addr().to_string(), server.tunnel.to_string());
        let args = ["http", &local, "--server", &addr, "--token", TOKEN, "--name", "app"];
        let client = Running::spawn(limited(48, &args));
        client.line();
        // As many held requests as the client has no sockets for.
        let held: Vec<_> = (0..60)
            .map(|_| {
                let server = server.http;
                tokio::spawn(async move { get(server, &host("app"), "/held").await })
            })
            .collect();
        let line = client.talk_with("cannot reach the local service");
        assert!(line.contains("tunnel=app") && line.contains(&format!("local={local}")), "{line}");
        site.release();
        let mut answers = [0, 0];
        for held in held {
            match soon("an answer", held).await.unwrap() {
                answer if answer.body == "released" => answers[0] += 1,
                answer => {
                    assert_eq!(answer.ferrotunnel_error(), Some("local-unreachable"));
                    answers[1] += 1;
                }
            }
        }
        assert!(answers[0] > 10 && answers[1] > 0, "{answers:?}");
        for _ in 0..20 {
            assert_eq!(server.get("app", "/hello").await.body, "hello");
        }
    });
}

#[test]
fn strangers_cost_the_server_no_memory() {
    run(async {
        let site = Site::start().await;
        // As many as they are would have to wait for their turns.
        let server = Server::with(&["--max-failed-handshakes", "1000"]);
        let _client = server.http_tunnel("app", site.addr()).await;
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        let before = server.memory();
        let zeros = vec![0; 10_000_000];
        let strangers = (0..50).map(|_| async {
            let mut before_tls = Stranger::connect(server.tunnel, Carrier::Plaintext).await;
            before_tls.say(&zeros).await;
            let mut behind_tls = Stranger::connect(server.tunnel, Carrier::Tls).await;
            behind_tls.say(&zeros).await;
            (before_tls, behind_tls)
        });
        let kept = soon("the strangers", futures_util::future::join_all(strangers)).await;
        let growth = server.memory().saturating_sub(before);
        println!("100 strangers: grew by {} KiB", growth >> 10);
        assert!(growth < 16 << 20, "grew by {} KiB", growth >> 10);
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        drop(kept);
    });
}

#[test]
fn a_stalled_download_costs_the_server_no_more_than_its_window() {
    // The largest window, and something for the connection and the requests beside it.
    stalled_downloads_fit(1, (16 << 20) + (4 << 20));
}

#[test]
fn fifty_stalled_downloads_stay_within_the_sessions_memory() {
    // What windows may grow by in one session, and what each has anyway. Three times as much again for the read buffers,
    // which pieces of them keep alive though a read has not filled them, and for what the allocator keeps; on a busy
    // machine reads bring less each. Without the bound of the session it would be 16 MiB for each visitor.
    stalled_downloads_fit(50, 4 * ((32 << 20) + 50 * (64 << 10)));
}

fn stalled_downloads_fit(count: usize, allowed: u64) {
    run(async {
        let site = Site::start().await;
        let server = Server::start();
        let _client = server.http_tunnel("app", site.addr()).await;
        assert_eq!(server.get("app", "/hello").await.body, "hello");
        let before = server.memory();
        let stalled = stall(&server, count).await;
        let ask = async || assert_eq!(server.get("app", "/hello").await.body, "hello");
        until_still(|| site.produced(), ask).await;
        let growth = server.memory().saturating_sub(before);
        println!("{count} stalled downloads: grew by {} KiB", growth >> 10);
        assert!(growth < allowed, "grew by {} KiB", growth >> 10);
        drop(stalled);
    });
}

#[test]
fn small_pieces_for_stalled_visitors_keep_no_large_buffers_alive() {
    run(async {
        let server = Server::start();
        let client = client_of(server.tunnel, Carrier::Tls).build().unwrap();
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        let mut stalled = Vec::new();
        for _ in 0..20 {
            let visitor = with_small_window(public).await;
            let (stream, _) = soon("a visitor", listener.accept()).await.unwrap();
            stalled.push((visitor, stream));
        }
        let mut quick = TcpStream::connect(public).await.unwrap();
        let (mut bulk, _) = soon("a visitor", listener.accept()).await.unwrap();
        let before = server.memory();
        // A piece for one of the stalled, then so much for the quick one that the next piece comes with another read.
        let (piece, block) = (Bytes::from(vec![1; 3_000]), Bytes::from(vec![2; 150_000]));
        let mut arrived = vec![0; block.len()];
        loop {
            let mut taken = 0;
            for (_, stream) in &mut stalled {
                if stream.write_chunk(piece.clone()).now_or_never().is_none() {
                    continue;
                }
                taken += 1;
                let speak = bulk.write_chunk(block.clone());
                let listen = quick.read_exact(&mut arrived);
                let (spoken, heard) = soon("a block", async { tokio::join!(speak, listen) }).await;
                spoken.unwrap();
                heard.unwrap();
            }
            if taken == 0 {
                break;
            }
        }
        let growth = server.memory().saturating_sub(before);
        println!("twenty stalled with small pieces: grew by {} KiB", growth >> 10);
        // The minimum window of each, and a few MiB for the bulk beside.
        assert!(growth < 20 * (64 << 10) + (8 << 20), "grew by {} KiB", growth >> 10);
    });
}

/// A visitor for whom the kernel takes next to nothing.
#[expect(clippy::disallowed_methods, reason = "a visitor that reads nothing needs no autotuning")]
async fn with_small_window(server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2_048).unwrap();
    socket.connect(server).await.unwrap()
}

/// Visitors that ask for a body without end, read the head and then nothing more.
async fn stall(server: &Server, count: usize) -> Vec<TcpStream> {
    let mut visitors = Vec::new();
    for _ in 0..count {
        visitors.push(begin(server.http, &host("app"), "/endless").await);
    }
    visitors
}

#[test]
fn ten_thousand_streams_fit() {
    // In this process a stream has one socket, the visitor's: the client serves it without any. The server has one too.
    let limit = raise_descriptor_limit();
    let count = usize::try_from(limit).unwrap().saturating_sub(500).min(10_000);
    if count < 10_000 {
        println!("only {count} streams: the limit is {limit} descriptors");
    }
    run_for(Duration::from_secs(150), async {
        let server = Server::start();
        let client = client_of(server.tunnel, Carrier::Tls).build().unwrap();
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        // Warm: what a first visitor makes the server set up is no cost of a stream.
        let mut pairs = Vec::with_capacity(count);
        let open = async |listener: &mut ferrotunnel::TunnelListener| {
            let visitor = soon("a connection", TcpStream::connect(public)).await.unwrap();
            let (stream, _) = soon("a visitor", listener.accept()).await.unwrap();
            (visitor, stream)
        };
        for _ in 0..10 {
            pairs.push(open(&mut listener).await);
        }
        let before = server.memory();
        while pairs.len() < count {
            pairs.push(open(&mut listener).await);
        }
        let per_stream = server.memory().saturating_sub(before) / count as u64;
        println!("{count} streams: {per_stream} bytes of server memory each");
        assert!(per_stream < MOST_PER_STREAM, "{per_stream} bytes per stream");
        // Each of them works.
        for (number, (visitor, stream)) in pairs.iter_mut().enumerate() {
            let number = number as u64;
            visitor.write_u64(number).await.unwrap();
            assert_eq!(soon("a number", stream.read_u64()).await.unwrap(), number);
            stream.write_u64(!number).await.unwrap();
            assert_eq!(soon("a number", visitor.read_u64()).await.unwrap(), !number);
        }
        drop(pairs);
        // And all of them end.
        let mut last = TcpStream::connect(public).await.unwrap();
        let (mut stream, _) = soon("one more visitor", listener.accept()).await.unwrap();
        last.write_u64(7).await.unwrap();
        assert_eq!(soon("a number", stream.read_u64()).await.unwrap(), 7);
    });
}

#[test]
fn a_local_service_that_restarts_is_found_again() {
    run(async {
        let server = Server::start();
        let addr = LocalService::nobody().await;
        let client = http_client(server.tunnel, "app", addr, &[]);
        assert_eq!(server.get("app", "/").await.ferrotunnel_error(), Some("local-unreachable"));
        client.talk_with("cannot reach the local service");
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, Site::app()).await });
        eventually_hello(&server).await;
    });
}

async fn eventually_hello(server: &Server) {
    soon("hello", async {
        while server.get("app", "/hello").await.body != "hello" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What an idle stream may cost the server.
const MOST_PER_STREAM: u64 = 6 << 10;
