//! How servers and clients end: ports come free, and what is open may finish.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use ferrotunnel::{ClientEvent, ErrorKind as ErrorKindOfLibrary, LimitsConfig, Streams, Tunnel};
use ferrotunnel_tests::{
    Carrier, LocalService, PATIENCE, Site, TestBed, client_of, eventually, over_both, own_ip,
    public_addr, ready, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[test]
fn shutdown_frees_ports() {
    over_both(async |carrier| {
        // Several times: a port that is given back a moment too late is found by chance only.
        for _ in 0..10 {
            let bed = TestBed::alone(carrier).await;
            let site = Site::start().await;
            let client = bed.http("app", site.addr()).await;
            let (tcp, public) = bed.tcp(site.addr()).await;
            drop(TcpStream::connect(public).await.unwrap());
            let addrs = [bed.server.tunnel_addr(), bed.http_addr(), public];
            soon("the shutdown", bed.server.shutdown()).await.unwrap();
            for addr in addrs {
                TcpListener::bind(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
            }
            drop((client, tcp));
        }
    });
}

#[test]
fn a_server_that_is_dropped_ends_everything() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let echo = LocalService::echo().await;
        let (client, public) = bed.tcp(echo.addr()).await;
        let mut events = client.events();
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        soon("the echo", visitor.read_u8()).await.unwrap();
        let addrs = [bed.server.tunnel_addr(), bed.http_addr(), public];
        drop(bed);
        let end = soon("the end of the visitor", visitor.read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        let event = soon("the end of the session", events.recv()).await.unwrap();
        assert!(matches!(event, ClientEvent::Disconnected { .. }), "{event:?}");
        for addr in addrs {
            eventually("the port to be free", || TcpListener::bind(addr).is_ok()).await;
        }
    });
}

#[test]
fn drain_finishes_open_requests() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.drain_grace(PATIENCE)).await;
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        let mut events = client.events();
        let host = bed.host("app");
        let http_addr = bed.http_addr();
        let get = |path: &'static str| {
            let host = host.clone();
            tokio::spawn(async move { ferrotunnel_tests::get(http_addr, &host, path).await })
        };
        let (held, held_body) = (get("/held"), get("/held-body"));
        site.held(2).await;
        let shutdown = tokio::spawn(bed.server.shutdown());
        soon("the door to close", async {
            while TcpStream::connect(http_addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(!shutdown.is_finished() && !held.is_finished());
        site.release();
        assert_eq!(soon("the held answer", held).await.unwrap().body, "released");
        assert_eq!(soon("the held body", held_body).await.unwrap().body, "first released");
        soon("the shutdown", shutdown).await.unwrap().unwrap();
        let event = soon("the goodbye", events.recv()).await.unwrap();
        let ClientEvent::Disconnected { reason, .. } = event else { unreachable!("{event:?}") };
        assert!(reason.contains("shutting down"), "{reason}");
    });
}

#[test]
fn drain_finishes_open_tcp_connections() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.drain_grace(PATIENCE)).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        soon("the echo", visitor.read_u8()).await.unwrap();
        let shutdown = tokio::spawn(bed.server.shutdown());
        soon("the door to close", async {
            while TcpStream::connect(public).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let bytes = Site::pattern();
        let (mut read, mut write) = visitor.into_split();
        let mut heard = Vec::new();
        let speak = async {
            write.write_all(&bytes).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let listen = async { read.read_to_end(&mut heard).await.unwrap() };
        soon("what was left to say", async { tokio::join!(speak, listen) }).await;
        assert!(heard == bytes);
        soon("the shutdown", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn the_grace_has_an_end() {
    over_both(async |carrier| {
        let grace = Duration::from_millis(300);
        let bed = TestBed::with(carrier, |server| server.drain_grace(grace)).await;
        let echo = LocalService::echo().await;
        let site = Site::start().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let _http = bed.http("app", site.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        soon("the echo", visitor.read_u8()).await.unwrap();
        let (http_addr, host) = (bed.http_addr(), bed.host("app"));
        let asking = format!("GET /held HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let held =
            tokio::spawn(async move { ferrotunnel_tests::raw(http_addr, asking.as_bytes()).await });
        site.held(1).await;
        let drained = soon("the shutdown", bed.server.shutdown()).await.unwrap();
        assert_eq!(drained.cut, 2);
        let end = soon("the cut", visitor.read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        let held = soon("the cut", held).await.unwrap();
        let held = String::from_utf8(held.unwrap()).unwrap();
        assert!(held.starts_with("HTTP/1.1 502 "), "{held}");
    });
}

#[test]
fn a_stranger_at_the_door_holds_up_no_drain() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.handshake_deadline = 10 * PATIENCE;
        let bed = TestBed::with(carrier, |server| server.limits(limits).drain_grace(10 * PATIENCE));
        let bed = bed.await;
        let mut stranger = TcpStream::connect(bed.server.tunnel_addr()).await.unwrap();
        // A client that comes after it is in, and so is the stranger.
        let echo = LocalService::echo().await;
        let (client, _) = bed.tcp(echo.addr()).await;
        client.shutdown().await.unwrap();
        soon("the shutdown", bed.server.shutdown()).await.unwrap();
        // Whatever greeting it got, there is no more.
        let mut rest = Vec::new();
        let _ = soon("the end", stranger.read_to_end(&mut rest)).await;
    });
}

#[test]
fn nothing_is_cut_where_everything_has_finished() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert_eq!(bed.server.tunnels(), 1);
        assert_eq!(client.shutdown().await.unwrap().cut, 0);
        eventually("the tunnel to leave", || bed.server.tunnels() == 0).await;
        let drained = soon("the shutdown", bed.server.shutdown()).await.unwrap();
        assert_eq!(drained.cut, 0);
    });
}

#[test]
fn a_listener_that_is_handed_over_goes_with_the_server_that_took_it() {
    over_both(async |carrier| {
        let listen = || TcpListener::bind((own_ip(), 0)).unwrap();
        let (tunnel, http) = (listen(), listen());
        let addrs = [&tunnel, &http].map(|listener| listener.local_addr().unwrap());
        // Held by somebody else too, as sockets that outlive a server are.
        let kept = http.try_clone().unwrap();
        let builder = TestBed::server(carrier).tunnel_listener(tunnel).http_listener(http);
        let server = builder.clone().build().unwrap();
        let running = server.spawn().await.unwrap();
        assert_eq!([running.tunnel_addr(), running.http_addr().unwrap()], addrs);
        let site = Site::start().await;
        let name = Tunnel::http("app").local_addr(site.addr().to_string());
        let client = client_of(addrs[0], carrier).tunnel(name).build().unwrap();
        client.start().await.unwrap();
        let host = format!("app.localhost:{}", addrs[1].port());
        assert_eq!(ferrotunnel_tests::get(addrs[1], &host, "/hello").await.body, "hello");
        // There is one of each, and it is taken.
        for error in [server.spawn().await.unwrap_err(), builder.build().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKindOfLibrary::Config);
            assert!(error.to_string().contains("_listener: "), "{error}");
        }
        client.shutdown().await.unwrap();
        soon("the shutdown", running.shutdown()).await.unwrap();
        TcpListener::bind(addrs[0]).unwrap();
        TcpStream::connect(addrs[1]).await.unwrap();
        drop(kept);
        TcpStream::connect(addrs[1]).await.unwrap_err();
    });
}

#[test]
fn a_listener_that_is_handed_over_is_there_again_when_the_start_fails() {
    over_both(async |carrier| {
        let http = TcpListener::bind((own_ip(), 0)).unwrap();
        let addr = http.local_addr().unwrap();
        let taken = TcpListener::bind((own_ip(), 0)).unwrap();
        let bind = taken.local_addr().unwrap();
        let server = TestBed::server(carrier).bind(bind).http_listener(http).build().unwrap();
        for _ in 0..2 {
            let error = server.spawn().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKindOfLibrary::AddrInUse);
        }
        drop(taken);
        let running = server.spawn().await.unwrap();
        assert_eq!(running.http_addr(), Some(addr));
        assert_eq!(ferrotunnel_tests::get(addr, "none.localhost", "/").await.status, 404);
        soon("the shutdown", running.shutdown()).await.unwrap();
        TcpListener::bind(addr).unwrap();
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_does_not_listen_is_refused_with_what_to_do() {
    ferrotunnel_tests::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let visitor = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let not_listening = TcpListener::from(std::os::fd::OwnedFd::from(visitor));
        let server = TestBed::server(Carrier::Tls).tunnel_listener(not_listening).build().unwrap();
        let error = server.spawn().await.unwrap_err().to_string();
        assert!(error.contains("in place of bind") && error.contains("listens"), "{error}");
    });
}

#[test]
fn clients_and_tcp_ports_go_while_requests_finish() {
    over_both(async |carrier| {
        let grace = Duration::from_millis(800);
        let bed = TestBed::with(carrier, |server| server.drain_grace(grace)).await;
        let site = Site::start().await;
        let echo = LocalService::echo().await;
        let client = bed.http("app", site.addr()).await;
        let (tcp, public) = bed.tcp(echo.addr()).await;
        let (mut events, mut tcp_events) = (client.events(), tcp.events());
        let (http_addr, host) = (bed.http_addr(), bed.host("app"));
        let door = bed.server.tunnel_addr();
        let asking = format!("GET /held HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let held =
            tokio::spawn(async move { ferrotunnel_tests::raw(http_addr, asking.as_bytes()).await });
        site.held(1).await;
        let shutdown = tokio::spawn(bed.server.shutdown());
        soon("the ports to close", async {
            for addr in [public, door] {
                while TcpStream::connect(addr).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
        // Both look for another server at once, whatever is still open with this one.
        for events in [&mut tcp_events, &mut events] {
            let event = soon("the goodbye", events.recv()).await.unwrap();
            let ClientEvent::Disconnected { reason, .. } = event else { unreachable!("{event:?}") };
            assert!(reason.contains("shutting down"), "{reason}");
        }
        soon("the shutdown", shutdown).await.unwrap().unwrap();
        drop(held);
    });
}

#[test]
fn a_client_drains_too() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let echo = LocalService::echo().await;
        let client = bed
            .client()
            .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
            .drain_grace(PATIENCE)
            .build()
            .unwrap();
        client.start().await.unwrap();
        let (tcp, public) = bed.tcp(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        soon("the echo", visitor.read_u8()).await.unwrap();

        let held = bed.get("app", "/held");
        let shutdown = async {
            site.held(1).await;
            let stopping = client.shutdown();
            let releasing = async {
                // The client takes nothing new any more.
                soon("a refusal", async {
                    while bed.get("app", "/hello").await.status == 200 {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
                site.release();
            };
            let (stopped, ()) = tokio::join!(soon("the shutdown", stopping), releasing);
            stopped.unwrap();
        };
        let (answer, ()) = tokio::join!(soon("the held answer", held), shutdown);
        assert_eq!(answer.body, "released");
        client.wait().await.unwrap();

        let stopping = tokio::spawn(async move { tcp.shutdown().await.map(|_| tcp) });
        visitor.write_all(b"y").await.unwrap();
        assert_eq!(soon("the echo", visitor.read_u8()).await.unwrap(), b'y');
        visitor.shutdown().await.unwrap();
        soon("the end", visitor.read_u8()).await.unwrap_err();
        soon("the shutdown", stopping).await.unwrap().unwrap();
        eventually("all sessions to end", || bed.server.sessions() == 0).await;
    });
}

#[test]
fn a_client_with_idle_pooled_connections_shuts_down_at_once() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        let began = Instant::now();
        client.shutdown().await.unwrap();
        // Idle connections are kept for 4 s, and nobody needs them any more.
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    });
}

#[test]
fn start_returns_after_a_shutdown_from_another_task() {
    over_both(async |carrier| {
        let server = std::sync::Arc::new(TestBed::server(carrier).build().unwrap());
        let running = {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move { server.start().await })
        };
        server.shutdown();
        soon("start to return", running).await.unwrap().unwrap();
    });
}

#[test]
fn a_client_that_is_dropped_leaves_the_server() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.domain("localhost")).await;
        let echo = LocalService::echo().await;
        let site = Site::start().await;
        let client = bed
            .client()
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()))
            .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        drop(client);
        eventually("the session to end", || bed.server.sessions() == 0).await;
        assert_eq!(bed.get("app", "/hello").await.status, 404);
        eventually("the port to close", || TcpListener::bind(public).is_ok()).await;
    });
}

#[test]
fn a_client_of_a_server_that_drains_goes_to_its_successor_at_once() {
    over_both(async |carrier| {
        let ip = own_ip();
        let addr = SocketAddr::new(ip, 0);
        let old = TestBed::server(carrier).bind(addr).http_bind(addr).drain_grace(PATIENCE);
        let old = old.build().unwrap().spawn().await.unwrap();
        let tunnel_addr = old.tunnel_addr();
        let echo = LocalService::echo().await;
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
        let tunnel = tunnel.streams(Streams::Multiplexed);
        let client = client_of(tunnel_addr, carrier).tunnel(tunnel).build().unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        let public = public_addr(&ready(&mut events).await.public_url);
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        let draining = tokio::spawn(old.shutdown());
        eventually("the port to be free", || TcpListener::bind(tunnel_addr).is_ok()).await;
        let new = TestBed::server(carrier).bind(tunnel_addr).http_bind(addr);
        let new = new.build().unwrap().spawn().await.unwrap();
        assert_eq!(public_addr(&ready(&mut events).await.public_url), public);
        // One visitor is with the old server, and one with the new.
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        says_and_hears(&mut visitor).await;
        assert!(!draining.is_finished());
        drop(visitor);
        soon("the end of the old server", draining).await.unwrap().unwrap();
        assert_eq!(new.sessions(), 1);
    });
}
