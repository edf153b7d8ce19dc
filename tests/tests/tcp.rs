//! TCP tunnels: bytes, ends and resets pass as over a direct connection.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use ferrotunnel::{ErrorKind as Kind, Streams, Tunnel};
use ferrotunnel_tests::{
    LocalService, Site, TestBed, abort_on_close, eventually, over_both, public_addr,
    says_and_hears, soon, until_still, upload_without_end,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// What a local service saw of one visitor.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    End(Vec<u8>),
    Broken(ErrorKind),
}

/// A local service that tells what it saw, and answers `bye` after the end.
async fn observed() -> (LocalService, mpsc::Receiver<Seen>) {
    let (sender, receiver) = mpsc::channel(8);
    let service = LocalService::each(move |mut socket| {
        let sender = sender.clone();
        async move {
            let mut heard = Vec::new();
            let seen = match socket.read_to_end(&mut heard).await {
                Ok(_) => Seen::End(heard),
                Err(error) => Seen::Broken(error.kind()),
            };
            let _ = socket.write_all(b"bye").await;
            sender.send(seen).await.unwrap();
        }
    })
    .await;
    (service, receiver)
}

async fn visit(addr: SocketAddr) -> TcpStream {
    let socket = soon("a connection", TcpStream::connect(addr)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// Reads until the end or the break.
async fn rest(socket: &mut TcpStream) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    let read = soon("the end of a connection", socket.read_to_end(&mut bytes)).await;
    read.map(|_| bytes).map_err(|error| error.kind())
}

#[test]
fn half_close_reaches_local_service() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (service, mut seen) = observed().await;
        let (_client, public) = bed.tcp(service.addr()).await;
        let mut visitor = visit(public).await;
        visitor.write_all(b"that is all").await.unwrap();
        visitor.shutdown().await.unwrap();
        let seen = soon("the end at the local service", seen.recv()).await.unwrap();
        assert_eq!(seen, Seen::End(b"that is all".to_vec()));
        assert_eq!(rest(&mut visitor).await.unwrap(), b"bye", "the other direction goes on");
    });
}

#[test]
fn half_close_of_the_local_service_reaches_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (sender, mut heard) = mpsc::channel(1);
        let service = LocalService::each(move |mut socket| {
            let sender = sender.clone();
            async move {
                socket.write_all(b"greeting").await.unwrap();
                socket.shutdown().await.unwrap();
                let mut bytes = Vec::new();
                socket.read_to_end(&mut bytes).await.unwrap();
                sender.send(bytes).await.unwrap();
            }
        })
        .await;
        let (_client, public) = bed.tcp(service.addr()).await;
        let mut visitor = visit(public).await;
        assert_eq!(rest(&mut visitor).await.unwrap(), b"greeting");
        visitor.write_all(b"still talking").await.unwrap();
        visitor.shutdown().await.unwrap();
        assert_eq!(soon("the bytes", heard.recv()).await.unwrap(), b"still talking");
    });
}

#[test]
fn an_early_answer_reaches_the_visitor_before_the_reset_behind_it() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // It answers at the first byte and closes with the rest unread, which sends RST.
        let service = LocalService::each(|mut socket| async move {
            socket.read_u8().await.unwrap();
            socket.write_all(&[7; 30_000]).await.unwrap();
        })
        .await;
        let (_client, public) = bed.tcp(service.addr()).await;
        for round in 0..20 {
            let mut visitor = visit(public).await;
            visitor.write_all(&[1; 100_000]).await.unwrap();
            let mut answer = vec![0; 30_000];
            let read = soon("the answer", visitor.read_exact(&mut answer)).await;
            assert!(read.is_ok(), "round {round}: {read:?}");
            assert!(answer == [7; 30_000]);
        }
    });
}

#[test]
fn dropped_stream_resets_peer() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        let mut visitor = visit(public).await;
        let (mut stream, from) = soon("a visitor", listener.accept()).await.unwrap();
        assert_eq!(from, visitor.local_addr().unwrap());
        stream.write_all(b"half of").await.unwrap();
        let mut half = [0; 7];
        soon("the first half", visitor.read_exact(&mut half)).await.unwrap();
        drop(stream);
        assert_eq!(rest(&mut visitor).await, Err(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_reset_visitor_resets_the_local_service() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (service, mut seen) = observed().await;
        let (_client, public) = bed.tcp(service.addr()).await;
        let mut visitor = visit(public).await;
        visitor.write_all(b"that is n").await.unwrap();
        abort_on_close(&visitor);
        drop(visitor);
        let seen = soon("the break at the local service", seen.recv()).await.unwrap();
        assert_eq!(seen, Seen::Broken(ErrorKind::ConnectionReset));
    });
}

/// It asks for more than it reads, as who pipelines requests does, until its service waits for it to read; then it leaves.
#[test]
fn a_visitor_who_breaks_off_while_nobody_reads_leaves_nothing_behind() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
        let client = bed.client().tunnel(tunnel.streams(Streams::Multiplexed)).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let visitor = visit(public).await;
        abort_on_close(&visitor);
        let (talking, sent) = upload_without_end(visitor);
        let ask = async || says_and_hears(&mut visit(public).await).await;
        until_still(|| sent.load(Ordering::Relaxed), ask).await;
        talking.abort();
        assert!(talking.await.unwrap_err().is_cancelled(), "it waits to be read");
        eventually("its stream to end", || bed.server.streams() == 0).await;
        client.shutdown().await.unwrap();
    });
}

#[test]
fn a_reset_local_service_resets_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            let _ = socket.read_u8().await;
            abort_on_close(&socket);
        })
        .await;
        let (_client, public) = bed.tcp(service.addr()).await;
        let mut visitor = visit(public).await;
        visitor.write_all(b"x").await.unwrap();
        assert_eq!(rest(&mut visitor).await, Err(ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_local_service_that_is_down_resets_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (_client, public) = bed.tcp(LocalService::nobody().await).await;
        // The reset may come while the connection is still being made.
        let turned_away = match TcpStream::connect(public).await {
            Ok(mut visitor) => rest(&mut visitor).await.unwrap_err(),
            Err(error) => error.kind(),
        };
        assert_eq!(turned_away, ErrorKind::ConnectionReset);
    });
}

#[test]
fn tls_tail_is_flushed() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::echo().await;
        let (_client, public) = bed.tcp(service.addr()).await;
        let mut visitor = visit(public).await;
        // Around the sizes of TLS records, frames and windows. Each answer must come whole while the connection
        // stays open and silent: nothing that follows pushes the last bytes out.
        for size in [
            1, 100, 4_096, 16_375, 16_384, 16_385, 32_768, 65_535, 65_536, 65_537, 100_000, 300_001,
        ] {
            let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let mut heard = vec![0; size];
            let (mut read, mut write) = visitor.split();
            let echo = async {
                tokio::try_join!(write.write_all(&sent), read.read_exact(&mut heard)).unwrap();
            };
            soon(&format!("an echo of {size} bytes"), echo).await;
            assert!(sent == heard, "{size} bytes came back changed");
        }
    });
}

#[test]
fn a_thousand_visitors_come_and_go() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::echo().await;
        let (_client, public) = bed.tcp(service.addr()).await;
        let visitors = (0..20_u32).map(|number| async move {
            for round in 0..50_u32 {
                let mut visitor = visit(public).await;
                let sent = format!("visitor {number}, round {round}");
                visitor.write_all(sent.as_bytes()).await.unwrap();
                visitor.shutdown().await.unwrap();
                assert_eq!(rest(&mut visitor).await.unwrap(), sent.as_bytes());
            }
        });
        futures_util::future::join_all(visitors).await;
        eventually("all streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn a_tunnel_gets_the_port_it_asks_for() {
    over_both(async |carrier| {
        let bed = TestBed::alone(carrier).await;
        let service = LocalService::echo().await;
        let (mut client, public) = bed.tcp(service.addr()).await;
        // The port is free for the next client as soon as one has left.
        for _ in 0..20 {
            client.shutdown().await.unwrap();
            let tunnel = Tunnel::tcp().remote_port(public.port());
            let tunnel = tunnel.local_addr(service.addr().to_string());
            client = bed.client().tunnel(tunnel).build().unwrap();
            let info = soon("the port that was given up", client.start()).await.unwrap();
            assert_eq!(public_addr(&info.public_url), public);
        }
        let mut visitor = visit(public).await;
        visitor.write_all(b"again").await.unwrap();
        visitor.shutdown().await.unwrap();
        assert_eq!(rest(&mut visitor).await.unwrap(), b"again");
    });
}

#[test]
fn a_port_that_is_taken_is_refused_by_its_number() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let taken = LocalService::echo().await;
        let port = taken.addr().port();
        let tunnel = Tunnel::tcp().remote_port(port).local_addr("1");
        let error = bed.client().tunnel(tunnel).build().unwrap().start().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    });
}

#[test]
fn a_listener_that_is_dropped_gives_its_port_back() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        drop(visit(public).await);
        drop(listener);
        soon("the port to close", async {
            while TcpStream::connect(public).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(bed.server.sessions(), 1, "the session stays");
    });
}

#[cfg(unix)]
#[test]
fn a_local_service_may_be_a_unix_socket() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).await.unwrap();
            socket.write_all(&heard).await.unwrap();
        });
        let tunnel = Tunnel::tcp().local_addr(format!("unix:{}", path.display()));
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let mut visitor = visit(public).await;
        visitor.write_all(b"over a path").await.unwrap();
        visitor.shutdown().await.unwrap();
        assert_eq!(rest(&mut visitor).await.unwrap(), b"over a path");
        serving.await.unwrap();
    });
}

#[test]
fn one_client_serves_tcp_and_http_side_by_side() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let site = Site::start().await;
        let client = bed
            .client()
            .tunnel(Tunnel::http("site").local_addr(site.addr().to_string()))
            .tunnel(Tunnel::http("other").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        client.start().await.unwrap();
        let tcp = bed.client().tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()));
        let tcp = tcp.build().unwrap();
        let public = public_addr(&tcp.start().await.unwrap().public_url);
        assert_eq!(bed.get("site", "/hello").await.body, "hello");
        assert_eq!(bed.get("other", "/hello").await.body, "hello");
        let mut visitor = visit(public).await;
        visitor.write_all(b"bytes").await.unwrap();
        visitor.shutdown().await.unwrap();
        assert_eq!(rest(&mut visitor).await.unwrap(), b"bytes");
    });
}
