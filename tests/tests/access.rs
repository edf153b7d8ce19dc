//! Who may visit a tunnel, and whom it takes visitors for.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::Bytes;
use ferrotunnel::{
    Client, ErrorKind as Kind, PrincipalConfig, Streams, Tunnel, issue_token,
};
use ferrotunnel_tests::{
    Answer, Carrier, LocalService, Site, TestBed, collect, eventually, over_both, public_addr, run, soon,
};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// A client with one tunnel, ready for visitors.
async fn client(bed: &TestBed, tunnel: Tunnel) -> (Client, String) {
    let client = bed.client().tunnel(tunnel).build().unwrap();
    let info = client.start().await.unwrap();
    (client, info.public_url)
}

/// A connection from that address of loopback.
async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    soon("a connection", socket.connect(to)).await.unwrap()
}

/// One GET from that address of loopback, with these headers.
async fn get_from(bed: &TestBed, from: &str, headers: &[(&str, &str)]) -> Answer {
    let socket = connect_from(from, bed.http_addr()).await;
    get_over(bed, socket, "/head", headers).await
}

async fn get_over(
    bed: &TestBed,
    socket: TcpStream,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = Request::get(path).header(HOST, bed.host("app"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    collect(soon("an answer", sender.send_request(request)).await.unwrap()).await
}

/// Whether a visitor of an echo is served.
async fn is_echoed(mut visitor: TcpStream) -> bool {
    let said = async {
        visitor.write_all(b"x").await?;
        visitor.read_u8().await
    };
    match soon("an echo or the end", said).await {
        Ok(byte) => byte == b'x',
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
                "{error}"
            );
            false
        }
    }
}

#[test]
fn a_tcp_tunnel_takes_visitors_from_where_it_allows_and_from_nowhere_else() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string()).streams(streams);
            let tunnel = tunnel.allow("127.0.1.0/24").allow("127.0.0.2").deny("127.0.1.7");
            let (_client, url) = client(&bed, tunnel).await;
            if streams == Streams::Direct {
                eventually("a direct carrier", || bed.server.direct().waiting > 0).await;
            }
            let public = public_addr(&url);
            for (from, is_served) in [
                ("127.0.1.1", true),
                ("127.0.0.2", true),
                ("127.0.1.7", false),
                ("127.0.0.1", false),
                ("127.0.2.1", false),
            ] {
                let visitor = connect_from(from, public).await;
                assert_eq!(is_echoed(visitor).await, is_served, "{from} {streams:?}");
            }
        }
    });
}

#[test]
fn an_http_tunnel_answers_403_to_visitors_from_elsewhere() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) = client(&bed, tunnel.allow("127.0.1.0/24").deny("127.0.1.7")).await;
        assert_eq!(get_from(&bed, "127.0.1.1", &[]).await.status, 200);
        for from in ["127.0.1.7", "127.0.0.1"] {
            let answer = get_from(&bed, from, &[]).await;
            assert_eq!(answer.status, 403);
            assert_eq!(answer.ferrotunnel_error(), Some("address-not-allowed"));
            // Nobody can claim to come from elsewhere.
            let claimed = [("x-forwarded-for", "127.0.1.1"), ("forwarded", "for=127.0.1.1")];
            assert_eq!(get_from(&bed, from, &claimed).await.status, 403);
        }
    });
}

#[test]
fn what_is_no_network_is_named_before_anything_is_asked() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        for tunnel in [Tunnel::tcp().allow("127.0.0.1/33"), Tunnel::http("app").deny("127.0.0.1/8")] {
            let error = bed.client().tunnel(tunnel.local_addr("1")).build().unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert!(error.to_string().contains("127.0.0.1/"), "{error}");
        }
        let many = (0..2_000).map(|n| format!("2001:db8:{n:x}:ffff:ffff:ffff::/96"));
        let tunnel = many.fold(Tunnel::tcp().local_addr("1"), Tunnel::allow);
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let error = client.start().await.unwrap_err().to_string();
        assert!(error.contains("fewer and wider"), "{error}");
    });
}

#[test]
fn a_principal_may_have_to_keep_strangers_out() {
    run(async {
        let (token, verifier) = issue_token().unwrap();
        let mut principal = PrincipalConfig::new("web").verifier(verifier);
        principal.access_required = true;
        let bed = TestBed::with(Carrier::Plaintext, |server| server.principals([principal.clone()])).await;
        let asking = |tunnel: Tunnel| {
            let client = bed.client().token(token.reveal()).tunnel(tunnel.local_addr("1"));
            client.build().unwrap()
        };
        for open in [Tunnel::http("app"), Tunnel::tcp(), Tunnel::tcp().deny("192.0.2.1")] {
            let error = asking(open).start().await.unwrap_err();
            assert_eq!(error.kind(), Kind::Refused);
            assert!(error.to_string().contains("open to everybody"), "{error}");
        }
        let closed = asking(Tunnel::tcp().allow("192.0.2.0/24"));
        closed.start().await.unwrap();

        // Who was free to choose loses what is open.
        principal.access_required = false;
        bed.server.set_principals([principal.clone()]).unwrap();
        let open = asking(Tunnel::tcp());
        open.start().await.unwrap();
        assert_eq!(bed.server.tunnels(), 2);
        principal.access_required = true;
        bed.server.set_principals([principal]).unwrap();
        eventually("the open one to leave", || bed.server.tunnels() == 1).await;
    });
}
