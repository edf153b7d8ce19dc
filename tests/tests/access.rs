//! Who may visit a tunnel, and whom it takes visitors for.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel::{
    Client, ErrorKind as Kind, PrincipalConfig, Streams, Tunnel, hash_password, issue_token,
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
async fn connect_from(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    soon("a connection", socket.connect(to)).await
}

/// One GET from that address of loopback, with these headers.
async fn get_from(bed: &TestBed, from: &str, headers: &[(&str, &str)]) -> Answer {
    let socket = connect_from(from, bed.http_addr()).await.unwrap();
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
async fn is_echoed(visitor: std::io::Result<TcpStream>) -> bool {
    let said = async {
        let mut visitor = visitor?;
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

/// A header that shows this user and password.
fn basic(user: &str, password: &str) -> String {
    let request = reqwest::Client::new().get("http://localhost/").basic_auth(user, Some(password));
    let request = request.build().unwrap();
    request.headers()["authorization"].to_str().unwrap().to_owned()
}

#[test]
fn who_has_the_password_comes_in_and_the_local_service_does_not_see_it() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let tunnel = tunnel
            .basic_auth("alice", hash_password("open sesame").unwrap())
            .basic_auth("bob", hash_password("other:word").unwrap());
        let (_client, _) = client(&bed, tunnel).await;
        let get = async |value: &str| get_from(&bed, "127.0.0.1", &[("authorization", value)]).await;
        for (user, password) in [("alice", "open sesame"), ("bob", "other:word"), ("alice", "open sesame")] {
            let answer = get(&basic(user, password)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(!answer.body.contains("authorization"), "{}", answer.body);
        }
        let none = get_from(&bed, "127.0.0.1", &[]).await;
        let wrong = get(&basic("alice", "other:word")).await;
        let unknown = get(&basic("carol", "open sesame")).await;
        let bearer = get("Bearer open-sesame").await;
        for answer in [none, wrong, unknown, bearer] {
            assert_eq!(answer.status, 401);
            assert_eq!(answer.ferrotunnel_error(), Some("unauthorized"));
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert_eq!(challenge, "Basic realm=\"app\", charset=\"UTF-8\"");
        }
    });
}

#[test]
fn a_tunnel_without_rules_passes_what_visitors_show_on() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) = client(&bed, tunnel.rate_limit(100, Duration::from_secs(1))).await;
        let shown = [("authorization", "Bearer of-the-local-service")];
        let answer = get_from(&bed, "127.0.0.1", &shown).await;
        assert!(answer.body.contains("authorization: Bearer of-the-local-service"), "{}", answer.body);
    });
}

#[test]
fn a_browser_is_asked_once_for_many_requests_at_the_same_time() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) = client(&bed, tunnel.basic_auth("alice", hash_password("open sesame").unwrap())).await;
        let shown = basic("alice", "open sesame");
        let headers = [("authorization", &*shown)];
        let all = (0..50).map(|_| get_from(&bed, "127.0.0.1", &headers));
        for answer in futures_util::future::join_all(all).await {
            assert_eq!(answer.status, 200);
        }
    });
}

#[test]
fn guessers_are_slowed_down_and_those_who_are_known_do_not_notice() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) = client(&bed, tunnel.basic_auth("alice", hash_password("open sesame").unwrap())).await;
        let known = basic("alice", "open sesame");
        let known = [("authorization", &*known)];
        assert_eq!(get_from(&bed, "127.0.0.1", &known).await.status, 200);
        let (mut wrong, mut refused) = (0, 0);
        for number in 0..60 {
            let guess = basic("alice", &number.to_string());
            let answer = get_from(&bed, "127.0.0.1", &[("authorization", &guess)]).await;
            match answer.status.as_u16() {
                401 => wrong += 1,
                429 => {
                    assert_eq!(answer.ferrotunnel_error(), Some("too-many-passwords"));
                    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                    assert!((1..=6).contains(&wait), "{wait}");
                    refused += 1;
                }
                status => unreachable!("{status}"),
            }
        }
        // One more every six seconds, however long this takes.
        assert!(wrong >= 10 && refused > 0, "{wrong} {refused}");
        assert_eq!(get_from(&bed, "127.0.0.1", &known).await.status, 200);
        assert_eq!(get_from(&bed, "127.0.0.2", &known).await.status, 200);
    });
}

#[test]
fn a_bearer_token_opens_a_tunnel_and_either_way_will_do() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let tunnel = tunnel
            .basic_auth("alice", hash_password("open sesame").unwrap())
            .bearer_token("0123456789abcdef")
            // As sha256sum has it, of fedcba9876543210.
            .bearer_token_hash("sha256:3465f6e6975baa864ca957f0914ecda9bf7eb601ac31ac20a5dc3d329279a843");
        let (_client, _) = client(&bed, tunnel).await;
        let get = async |value: &str| get_from(&bed, "127.0.0.1", &[("authorization", value)]).await;
        for shown in ["Bearer 0123456789abcdef", "bearer fedcba9876543210", &basic("alice", "open sesame")] {
            let answer = get(shown).await;
            assert_eq!(answer.status, 200, "{shown}");
            assert!(!answer.body.contains("authorization"), "{}", answer.body);
        }
        let answer = get("Bearer 0123456789abcdeg").await;
        assert_eq!(answer.status, 401);
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges, ["Basic realm=\"app\", charset=\"UTF-8\"", "Bearer realm=\"app\""]);
    });
}

#[test]
fn a_visitor_that_asks_too_often_is_told_when_to_come_again() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) = client(&bed, tunnel.rate_limit(3, Duration::from_secs(3_600))).await;
        for _ in 0..3 {
            assert_eq!(get_from(&bed, "127.0.0.1", &[]).await.status, 200);
        }
        let answer = get_from(&bed, "127.0.0.1", &[("x-forwarded-for", "127.0.0.9")]).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.ferrotunnel_error(), Some("too-many-requests"));
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=1_200).contains(&wait), "{wait}");
        assert_eq!(get_from(&bed, "127.0.0.2", &[]).await.status, 200);
    });
}

#[test]
fn access_that_makes_no_sense_is_an_error_of_the_builder() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let hash = hash_password("open sesame").unwrap();
        for (tunnel, words) in [
            (Tunnel::http("app").basic_auth("alice", "open sesame"), "basic_auth"),
            (Tunnel::http("app").basic_auth("a:b", &hash), "basic_auth"),
            (Tunnel::http("app").bearer_token("short"), "bearer_token"),
            (Tunnel::http("app").bearer_token_hash("open sesame"), "bearer_token"),
            (Tunnel::http("app").rate_limit(0, Duration::from_secs(1)), "rate_limit"),
            (Tunnel::tcp().basic_auth("alice", &hash), "HTTP tunnels"),
            (Tunnel::tcp().rate_limit(1, Duration::from_secs(1)), "HTTP tunnels"),
        ] {
            let error = bed.client().tunnel(tunnel.local_addr("1")).build().unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            let text = error.to_string();
            assert!(text.contains(words) && !text.contains("sesame"), "{text}");
        }
        // Each by itself is right.
        let twice = Tunnel::http("app").basic_auth("alice", &hash).basic_auth("alice", &hash);
        let twice = bed.client().tunnel(twice.local_addr("1")).build().unwrap();
        let error = twice.start().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("twice"), "{error}");
    });
}
