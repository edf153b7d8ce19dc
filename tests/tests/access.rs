//! Who may visit a tunnel, and whom it takes visitors for.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel::{
    Client, ErrorKind as Kind, LimitsConfig, PrincipalConfig, ProxyProtocol, Streams, Tunnel,
    hash_password, issue_token,
};
use ferrotunnel_tests::{
    Answer, Carrier, LocalService, Site, TestBed, collect, eventually, over_both, public_addr,
    read_head, run, says_and_hears, soon,
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::Request;
use hyper::header::HOST;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};

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
        for tunnel in [Tunnel::tcp().allow("127.0.0.1/33"), Tunnel::http("app").deny("127.0.0.1/8")]
        {
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
        let bed =
            TestBed::with(Carrier::Plaintext, |server| server.principals([principal.clone()]))
                .await;
        let asking = |tunnel: Tunnel| {
            let client = bed.client().token(token.reveal()).tunnel(tunnel.local_addr("1"));
            client.build().unwrap()
        };
        for open in [
            Tunnel::http("app"),
            Tunnel::tcp(),
            Tunnel::tcp().deny("192.0.2.1"),
            Tunnel::tcp().allow("0.0.0.0/0").allow("::/0"),
        ] {
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
        let get =
            async |value: &str| get_from(&bed, "127.0.0.1", &[("authorization", value)]).await;
        for (user, password) in
            [("alice", "open sesame"), ("bob", "other:word"), ("alice", "open sesame")]
        {
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
        assert!(
            answer.body.contains("authorization: Bearer of-the-local-service"),
            "{}",
            answer.body
        );
    });
}

#[test]
fn a_browser_is_asked_once_for_many_requests_at_the_same_time() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) =
            client(&bed, tunnel.basic_auth("alice", hash_password("open sesame").unwrap())).await;
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
        let (_client, _) =
            client(&bed, tunnel.basic_auth("alice", hash_password("open sesame").unwrap())).await;
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
                    let wait: u64 =
                        answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
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
            .bearer_token_hash(
                "sha256:3465f6e6975baa864ca957f0914ecda9bf7eb601ac31ac20a5dc3d329279a843",
            );
        let (_client, _) = client(&bed, tunnel).await;
        let get =
            async |value: &str| get_from(&bed, "127.0.0.1", &[("authorization", value)]).await;
        for shown in
            ["Bearer 0123456789abcdef", "bearer fedcba9876543210", &basic("alice", "open sesame")]
        {
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

/// A bed whose server believes this proxy.
async fn behind_proxy(carrier: Carrier) -> TestBed {
    TestBed::with(carrier, |server| server.trusted_proxies(["127.0.1.1", "10.0.0.0/8"])).await
}

#[test]
fn a_trusted_proxy_is_believed_and_extended_and_nobody_else_is() {
    over_both(async |carrier| {
        let bed = behind_proxy(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string()).allow("192.0.2.0/24");
        let (_client, _) = client(&bed, tunnel.rate_limit(2, Duration::from_secs(3_600))).await;
        let said = [
            ("x-forwarded-for", "198.51.100.1, 192.0.2.7, 10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=192.0.2.7;proto=https"),
        ];
        let answer = get_from(&bed, "127.0.1.1", &said).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let host = bed.host("app");
        for line in [
            "x-forwarded-for: 198.51.100.1, 192.0.2.7, 10.0.0.1, 127.0.1.1".to_owned(),
            "x-forwarded-proto: https".to_owned(),
            "x-forwarded-host: shop.example".to_owned(),
            "x-forwarded-port: 443".to_owned(),
            format!(
                "forwarded: for=192.0.2.7;proto=https, for=127.0.1.1;proto=http;host=\"{host}\""
            ),
        ] {
            assert!(answer.body.lines().any(|one| one == line), "{line} is not in {}", answer.body);
        }
        // Rules go by the visitor, and not by the proxy.
        let from = async |address: &str| {
            get_from(&bed, "127.0.1.1", &[("x-forwarded-for", address)]).await.status.as_u16()
        };
        assert_eq!(from("192.0.2.7").await, 200);
        assert_eq!(from("192.0.2.7").await, 429);
        assert_eq!(from("192.0.2.8").await, 200);
        assert_eq!(from("192.0.2.8, 198.51.100.1").await, 403);
        assert_eq!(get_from(&bed, "127.0.1.1", &[]).await.status, 403);
        // The same from somebody else.
        assert_eq!(get_from(&bed, "127.0.1.2", &said).await.status, 403);
    });
}

#[test]
fn a_proxy_may_have_more_connections_than_a_visitor() {
    run(async {
        let mut limits = LimitsConfig::default();
        limits.max_visitors_per_address = Some(1);
        let bed = TestBed::with(Carrier::Plaintext, |server| {
            server.trusted_proxies(["127.0.1.1"]).limits(limits)
        });
        let bed = bed.await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let held = async |from| {
            let socket = connect_from(from, bed.http_addr()).await.unwrap();
            get_over(&bed, socket, "/held", &[]).await.status.as_u16()
        };
        let rest = async {
            site.held(3).await;
            assert_eq!(held("127.0.0.1").await, 429);
            site.release();
        };
        let proxy = || held("127.0.1.1");
        assert_eq!(tokio::join!(proxy(), proxy(), held("127.0.0.1"), rest), (200, 200, 200, ()));
    });
}

#[test]
fn a_proxy_may_have_more_connections_to_a_port_than_a_visitor() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_visitors_per_address = Some(1);
        let bed =
            TestBed::with(carrier, |server| server.trusted_proxies(["127.0.1.1"]).limits(limits));
        let bed = bed.await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut inside = Vec::new();
        for from in ["127.0.1.1", "127.0.1.1", "127.0.0.1", "127.0.1.1"] {
            let mut visitor = connect_from(from, public).await.unwrap();
            says_and_hears(&mut visitor).await;
            inside.push(visitor);
        }
        let turned_away = match connect_from("127.0.0.1", public).await {
            Ok(mut visitor) => soon("the door", visitor.read_u8()).await.unwrap_err().kind(),
            Err(error) => error.kind(),
        };
        assert_eq!(turned_away, ErrorKind::ConnectionReset);
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }
    });
}

/// A bed whose server gets headers of the PROXY protocol from there.
async fn announced_bed(carrier: Carrier, limits: LimitsConfig) -> TestBed {
    let bed = TestBed::with(carrier, |server| {
        server.trusted_proxies(["127.0.1.1"]).accept_proxy().limits(limits)
    });
    bed.await
}

/// A connection of the trusted proxy, for that visitor.
async fn announced(to: SocketAddr, version: ProxyProtocol, visitor: [u8; 4]) -> TcpStream {
    let mut socket = connect_from("127.0.1.1", to).await.unwrap();
    let header = match version {
        ProxyProtocol::V1 => {
            let [a, b, c, d] = visitor;
            format!("PROXY TCP4 {a}.{b}.{c}.{d} 198.51.100.1 4711 443\r\n").into_bytes()
        }
        _ => [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
            &visitor,
            &[198, 51, 100, 1],
            &4_711_u16.to_be_bytes(),
            &443_u16.to_be_bytes(),
        ]
        .concat(),
    };
    // In two pieces, as a network may deliver it.
    let (first, second) = header.split_at(13);
    socket.set_nodelay(true).unwrap();
    socket.write_all(first).await.unwrap();
    tokio::task::yield_now().await;
    socket.write_all(second).await.unwrap();
    socket
}

/// The same, once that visitor is inside: the place of its predecessor may be free a moment after that one has left.
async fn let_in(to: SocketAddr, version: ProxyProtocol, visitor: [u8; 4]) -> TcpStream {
    soon("a place", async {
        loop {
            let mut socket = announced(to, version, visitor).await;
            if socket.write_all(b"x").await.is_ok() && socket.read_u8().await.is_ok() {
                return socket;
            }
        }
    })
    .await
}

const BOTH: [ProxyProtocol; 2] = [ProxyProtocol::V1, ProxyProtocol::V2];

#[test]
fn whom_a_header_of_the_proxy_protocol_names_is_the_visitor_over_http() {
    over_both(async |carrier| {
        let bed = announced_bed(carrier, LimitsConfig::default()).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string()).allow("192.0.2.0/24");
        let (_client, _) = client(&bed, tunnel).await;
        for version in BOTH {
            let socket = announced(bed.http_addr(), version, [192, 0, 2, 7]).await;
            let claimed = [("x-forwarded-for", "1.1.1.1")];
            let answer = get_over(&bed, socket, "/head", &claimed).await;
            assert_eq!(answer.status, 200);
            assert!(answer.body.contains("\nx-forwarded-for: 192.0.2.7\n"), "{}", answer.body);
            assert!(answer.body.contains("\nx-forwarded-port: 443\n"), "{}", answer.body);
            let socket = announced(bed.http_addr(), version, [198, 51, 100, 7]).await;
            assert_eq!(get_over(&bed, socket, "/head", &[]).await.status, 403);
        }
        // Nobody else may send one, and the proxy must.
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n";
        let mut stranger = connect_from("127.0.1.2", bed.http_addr()).await.unwrap();
        stranger.write_all(header).await.unwrap();
        let mut answer = [0; 12];
        soon("a refusal", stranger.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
        let mut silent = connect_from("127.0.1.1", bed.http_addr()).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await.unwrap();
        let end = soon("the end", silent.read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn whom_a_header_of_the_proxy_protocol_names_is_the_visitor_over_tcp() {
    over_both(async |carrier| {
        let mut limits = LimitsConfig::default();
        limits.max_visitors_per_address = Some(1);
        let bed = announced_bed(carrier, limits).await;
        let echo = LocalService::echo().await;
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string()).streams(streams);
            let (_client, url) = client(&bed, tunnel.deny("192.0.2.9")).await;
            let public = public_addr(&url);
            for version in BOTH {
                let inside = let_in(public, version, [192, 0, 2, 7]).await;
                // By rules and limits they are who they are.
                drop(let_in(public, version, [192, 0, 2, 8]).await);
                for turned_away in [[192, 0, 2, 7], [192, 0, 2, 9]] {
                    let socket = announced(public, version, turned_away).await;
                    assert!(!is_echoed(Ok(socket)).await, "{turned_away:?}");
                }
                drop(inside);
                eventually("all to leave", || bed.server.streams() == 0).await;
            }
            let silent = connect_from("127.0.1.1", public).await.unwrap();
            let mut silent = silent;
            silent.write_all(b"this is no header at all").await.unwrap();
            let end = soon("the end", silent.read_u8()).await.unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset);
            // What somebody else says is for the local service.
            assert!(is_echoed(connect_from("127.0.1.2", public).await).await);
        }
    });
}

#[test]
fn nobody_waits_for_a_proxy_that_is_slow_with_its_header() {
    run(async {
        let bed = announced_bed(Carrier::Plaintext, LimitsConfig::default()).await;
        let (echo, site) = (LocalService::echo().await, Site::start().await);
        let _http = bed.http("app", site.addr()).await;
        let (_tcp, public) = bed.tcp(echo.addr()).await;
        let mut slow = Vec::new();
        for to in [bed.http_addr(), public] {
            let mut socket = connect_from("127.0.1.1", to).await.unwrap();
            socket.write_all(b"PROXY ").await.unwrap();
            slow.push(socket);
        }
        assert!(is_echoed(Ok(announced(public, ProxyProtocol::V1, [192, 0, 2, 7]).await)).await);
        let socket = announced(bed.http_addr(), ProxyProtocol::V2, [192, 0, 2, 7]).await;
        assert_eq!(get_over(&bed, socket, "/hello", &[]).await.body, "hello");
        assert!(is_echoed(connect_from("127.0.0.1", public).await).await);
    });
}

#[test]
fn the_proxy_protocol_wants_somebody_to_believe() {
    let error = TestBed::server(Carrier::Plaintext).accept_proxy().build().unwrap_err();
    assert!(error.to_string().contains("trusted_proxies"), "{error}");
    let error = TestBed::server(Carrier::Plaintext).trusted_proxies(["10.0.0.1/8"]).build();
    assert!(error.unwrap_err().to_string().contains("trusted_proxies: 10.0.0.1/8"));
}

/// Says to each connection what came in front of its first request or byte, as text.
async fn told(version: ProxyProtocol) -> LocalService {
    LocalService::each(move |mut socket| async move {
        let mut said = String::new();
        if version == ProxyProtocol::V1 {
            while !said.ends_with("\r\n") {
                said.push(char::from(socket.read_u8().await.unwrap()));
            }
        } else {
            let mut header = [0; 28];
            socket.read_exact(&mut header).await.unwrap();
            assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
            let [a, b, c, d] = [header[16], header[17], header[18], header[19]];
            let port = u16::from_be_bytes([header[26], header[27]]);
            said = format!("PROXY TCP4 {a}.{b}.{c}.{d} ingress {port}");
        }
        // One request, or one byte, each; a second one would be told to somebody else.
        loop {
            let mut first = [0; 1];
            let Ok(1) = socket.read(&mut first).await else { return };
            if first == *b"x" {
                socket.write_all(format!("{said}\n").as_bytes()).await.unwrap();
                continue;
            }
            let head = read_head(&mut socket).await;
            if head.is_empty() {
                return;
            }
            let said = said.trim_end();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[test]
fn a_local_service_is_told_who_a_tcp_visitor_is() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for version in BOTH {
            let service = told(version).await;
            for streams in [Streams::Multiplexed, Streams::Direct] {
                let tunnel = Tunnel::tcp().local_addr(service.addr().to_string()).streams(streams);
                let (_client, url) = client(&bed, tunnel.proxy_protocol(version)).await;
                if streams == Streams::Direct {
                    eventually("a direct carrier", || bed.server.direct().waiting > 0).await;
                }
                let public = public_addr(&url);
                for from in ["127.0.0.2", "127.0.0.3"] {
                    let mut visitor = connect_from(from, public).await.unwrap();
                    visitor.write_all(b"x").await.unwrap();
                    let mut said = String::new();
                    while !said.ends_with('\n') {
                        said.push(char::from(
                            soon("what was told", visitor.read_u8()).await.unwrap(),
                        ));
                    }
                    assert!(said.starts_with(&format!("PROXY TCP4 {from} ")), "{said}");
                    assert!(said.trim_end().ends_with(&public.port().to_string()), "{said}");
                }
            }
        }
    });
}

#[test]
fn a_local_service_is_told_who_each_http_visitor_is() {
    over_both(async |carrier| {
        let bed = behind_proxy(carrier).await;
        for version in BOTH {
            let service = told(version).await;
            let tunnel = Tunnel::http("app").local_addr(service.addr().to_string());
            let (_client, _) = client(&bed, tunnel.proxy_protocol(version)).await;
            for _ in 0..2 {
                for from in ["127.0.0.2", "127.0.0.3"] {
                    let answer = get_from(&bed, from, &[]).await;
                    assert!(answer.body.starts_with(&format!("PROXY TCP4 {from} ")), "{answer:?}");
                    let port = bed.http_addr().port().to_string();
                    assert!(answer.body.ends_with(&port), "{answer:?}");
                }
                let answer = get_from(&bed, "127.0.1.1", &[("x-forwarded-for", "192.0.2.7")]).await;
                assert!(answer.body.starts_with("PROXY TCP4 192.0.2.7 "), "{answer:?}");
            }
        }
    });
}

#[test]
fn a_local_service_that_speaks_http2_is_told_too() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let service = LocalService::each(|mut socket| async move {
            let mut said = String::new();
            while !said.ends_with("\r\n") {
                said.push(char::from(socket.read_u8().await.unwrap()));
            }
            let answer = move |_| {
                let said = said.trim_end().to_owned();
                async move { Ok::<_, std::convert::Infallible>(hyper::Response::new(said)) }
            };
            let io = hyper_util::rt::TokioIo::new(socket);
            let executor = hyper_util::rt::TokioExecutor::new();
            let serving = hyper::server::conn::http2::Builder::new(executor);
            // The server lets it rest, and goes.
            let _ = serving.serve_connection(io, hyper::service::service_fn(answer)).await;
        });
        let service = service.await;
        let tunnel = Tunnel::http("app").http2().local_addr(service.addr().to_string());
        let (_client, _) = client(&bed, tunnel.proxy_protocol(ProxyProtocol::V1)).await;
        for from in ["127.0.0.2", "127.0.0.3", "127.0.0.2"] {
            let answer = get_from(&bed, from, &[]).await;
            assert!(
                answer.body.starts_with(&format!("PROXY TCP4 {from} 127.0.0.1 ")),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn a_local_service_hears_where_visitors_came_in_also_on_all_addresses() {
    run(async {
        let bed = TestBed::with(Carrier::Plaintext, |server| server.http_bind("0.0.0.0:0")).await;
        let service = told(ProxyProtocol::V1).await;
        let local = service.addr().to_string();
        let tunnel = Tunnel::http("app").local_addr(&local).proxy_protocol(ProxyProtocol::V1);
        let (_http, _) = client(&bed, tunnel).await;
        let to = SocketAddr::new("127.0.0.9".parse().unwrap(), bed.http_addr().port());
        let socket = connect_from("127.0.0.2", to).await.unwrap();
        let answer = get_over(&bed, socket, "/", &[]).await;
        assert!(answer.body.starts_with("PROXY TCP4 127.0.0.2 127.0.0.9 "), "{answer:?}");
        let tunnel = Tunnel::tcp().local_addr(&local).proxy_protocol(ProxyProtocol::V1);
        let (_tcp, url) = client(&bed, tunnel).await;
        let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
        let to = SocketAddr::new("127.0.0.9".parse().unwrap(), port);
        let mut visitor = connect_from("127.0.0.2", to).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        let mut said = [0; 31];
        soon("what was told", visitor.read_exact(&mut said)).await.unwrap();
        assert_eq!(&said, b"PROXY TCP4 127.0.0.2 127.0.0.9 ");
    });
}

#[test]
fn a_program_that_serves_its_tunnel_needs_no_proxy_protocol_and_sees_the_visitor() {
    run(async {
        let bed = announced_bed(Carrier::Plaintext, LimitsConfig::default()).await;
        let client = bed.client().build().unwrap();
        let error =
            client.listen(Tunnel::tcp().proxy_protocol(ProxyProtocol::V1)).await.unwrap_err();
        assert!(error.to_string().contains("proxy_protocol"), "{error}");
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        let _visitor = announced(public, ProxyProtocol::V2, [192, 0, 2, 7]).await;
        let (_, visitor) = soon("a visitor", listener.accept()).await.unwrap();
        assert_eq!(visitor, "192.0.2.7:4711".parse().unwrap());
    });
}

#[test]
fn rules_hold_over_http2_and_for_websockets_as_well() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let (_client, _) = client(&bed, tunnel.bearer_token("0123456789abcdef")).await;
        let visitor = reqwest::Client::builder()
            .no_proxy()
            .resolve("app.localhost", bed.http_addr())
            .http2_prior_knowledge()
            .build()
            .unwrap();
        let ask = || visitor.get(format!("http://{}/head", bed.host("app")));
        assert_eq!(ask().send().await.unwrap().status(), 401);
        let answer = ask().bearer_auth("0123456789abcdef").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let head = answer.text().await.unwrap();
        assert!(!head.contains("authorization"), "{head}");

        let echo = LocalService::each(|socket| async move {
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    socket.send(message).await.unwrap();
                }
            }
        });
        let echo = echo.await;
        let tunnel = Tunnel::http("ws").local_addr(echo.addr().to_string());
        let (_ws, _) = client(&bed, tunnel.bearer_token("0123456789abcdef")).await;
        let connect = async |token: &str| {
            let url = format!("ws://{}/", bed.host("ws"));
            let mut request = url.into_client_request().unwrap();
            let shown = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", shown);
            let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
            tokio_tungstenite::client_async(request, socket).await
        };
        let refused = connect("0123456789abcdeg").await.unwrap_err();
        assert!(matches!(refused, tungstenite::Error::Http(answer) if answer.status() == 401));
        let (mut socket, _) = connect("0123456789abcdef").await.unwrap();
        socket.send("hello".into()).await.unwrap();
        let heard = soon("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(heard.into_text().unwrap().as_str(), "hello");
    });
}
