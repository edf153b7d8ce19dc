//! What a tunnel has done to the headers of its requests and responses.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::AppendHeaders;
use bytes::Bytes;
use ferrotunnel::{Client, ErrorKind, HeaderRule, HostHeader, Tunnel, TunnelKind, hash_password};
use ferrotunnel_protocol::frame::{Frame, FrameType};
use ferrotunnel_tests::{
    Answer, Carrier, LocalService, Outlaw, TestBed, ask_for, get, over_both, read_head, run, soon,
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Shows the head of each request as it arrived: the target, then a line for each header. Speaks both versions.
async fn mirror() -> SocketAddr {
    async fn show(request: Request) -> (AppendHeaders<[(&'static str, &'static str); 4]>, String) {
        let mut text = format!("{} {:?}\n", request.uri(), request.version());
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        let own = [
            ("server", "mirror"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("cache-control", "no-store"),
        ];
        (AppendHeaders(own), text)
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let app = Router::new().fallback(show);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    addr
}

async fn client(bed: &TestBed, tunnel: Tunnel) -> Client {
    let client = bed.client().tunnel(tunnel).build().unwrap();
    client.start().await.unwrap();
    client
}

/// Visitors over HTTP/1.1 and over HTTP/2, of a host that stands for this server.
fn visitors(bed: &TestBed) -> [reqwest::Client; 2] {
    let builder =
        || reqwest::Client::builder().no_proxy().resolve("app.localhost", bed.http_addr());
    [builder().http1_only().build().unwrap(), builder().http2_prior_knowledge().build().unwrap()]
}

async fn visit(
    bed: &TestBed,
    visitor: &reqwest::Client,
    headers: &[(&str, &str)],
) -> (HeaderMap, String) {
    let mut request = visitor.get(format!("http://{}/x", bed.host("app")));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = soon("an answer", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    (headers, response.text().await.unwrap())
}

/// The values of one header in what the mirror showed.
fn shown<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let of_it = |line: &'a str| line.strip_prefix(name)?.strip_prefix(": ");
    head.lines().filter_map(of_it).collect()
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn requests_come_with_the_headers_that_the_tunnel_wants() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let local = mirror().await;
        for is_http2 in [false, true] {
            let tunnel = Tunnel::http("app")
                .local_addr(local.to_string())
                .request_header(HeaderRule::add("X-Many", "three"))
                .request_header(HeaderRule::add("X-Many", "four"))
                .request_header(HeaderRule::add("Cookie", "c=3"))
                .request_header(HeaderRule::set("X-Environment", "a: b, c"))
                .request_header(HeaderRule::remove("X-Secret"));
            let tunnel = if is_http2 { tunnel.http2() } else { tunnel };
            let _client = client(&bed, tunnel).await;
            for visitor in visitors(&bed) {
                let said = [
                    ("x-many", "one"),
                    ("x-many", "two"),
                    ("x-environment", "production"),
                    ("x-secret", "1"),
                    ("x-secret", "2"),
                    ("x-other", "stays"),
                    ("cookie", "a=1"),
                ];
                let (headers, head) = visit(&bed, &visitor, &said).await;
                assert!(head.lines().next().unwrap().ends_with(match is_http2 {
                    true => "HTTP/2.0",
                    false => "HTTP/1.1",
                }));
                assert_eq!(shown(&head, "x-many"), ["one", "two", "three", "four"]);
                assert_eq!(shown(&head, "x-environment"), ["a: b, c"]);
                assert_eq!(shown(&head, "x-secret"), [""; 0]);
                assert_eq!(shown(&head, "x-other"), ["stays"]);
                assert_eq!(shown(&head, "cookie"), ["a=1; c=3"]);
                assert_eq!(values(&headers, "set-cookie"), ["a=1", "b=2"], "untouched");
            }
        }
    });
}

#[test]
fn responses_come_with_the_headers_that_the_tunnel_wants() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let local = mirror().await;
        for is_http2 in [false, true] {
            let tunnel = Tunnel::http("app")
                .local_addr(local.to_string())
                .response_header(HeaderRule::add("Set-Cookie", "c=3; Path=/"))
                .response_header(HeaderRule::set("Cache-Control", "max-age=60"))
                .response_header(HeaderRule::set("X-Robots-Tag", "noindex"))
                .response_header(HeaderRule::remove("Server"));
            let tunnel = if is_http2 { tunnel.http2() } else { tunnel };
            let _client = client(&bed, tunnel).await;
            for visitor in visitors(&bed) {
                let (headers, head) = visit(&bed, &visitor, &[("server", "visitor's")]).await;
                assert_eq!(values(&headers, "set-cookie"), ["a=1", "b=2", "c=3; Path=/"]);
                assert_eq!(values(&headers, "cache-control"), ["max-age=60"]);
                assert_eq!(values(&headers, "x-robots-tag"), ["noindex"]);
                assert_eq!(values(&headers, "server"), [""; 0]);
                assert_eq!(shown(&head, "server"), ["visitor's"], "requests are untouched");
            }
        }
    });
}

#[test]
fn a_local_service_is_asked_for_the_host_that_its_tunnel_says() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let local = mirror().await;
        let asked = bed.host("app");
        for (host, expected) in [
            (HostHeader::Keep, asked.clone()),
            (HostHeader::Rewrite, format!("localhost:{}", local.port())),
            (HostHeader::Value("shop.example".to_owned()), "shop.example".to_owned()),
        ] {
            for is_http2 in [false, true] {
                // A bare port: the local service is on this machine.
                let tunnel = Tunnel::http("app")
                    .local_addr(local.port().to_string())
                    .host_header(host.clone());
                let tunnel = if is_http2 { tunnel.http2() } else { tunnel };
                let _client = client(&bed, tunnel).await;
                for visitor in visitors(&bed) {
                    let (_, head) = visit(&bed, &visitor, &[]).await;
                    let target = head.split_whitespace().next().unwrap();
                    match is_http2 {
                        true => assert_eq!(target, format!("http://{expected}/x")),
                        false => assert_eq!(shown(&head, "host"), [&*expected]),
                    }
                    assert_eq!(shown(&head, "x-forwarded-host"), [&*asked]);
                    assert!(shown(&head, "forwarded")[0].contains(&asked), "{head}");
                }
            }
        }
    });
}

#[test]
fn grpc_calls_are_asked_for_the_same_host_and_pass_the_same_rules() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        // Not marked as one that speaks HTTP/2: a call says that itself.
        let tunnel = Tunnel::http("app")
            .local_addr(mirror().await.to_string())
            .host_header(HostHeader::Value("calls.example:443".to_owned()))
            .request_header(HeaderRule::set("authorization", "Bearer t"))
            .response_header(HeaderRule::remove("server"));
        let _client = client(&bed, tunnel).await;
        let [_, visitor] = visitors(&bed);
        let (headers, head) =
            visit(&bed, &visitor, &[("content-type", "application/grpc"), ("te", "trailers")])
                .await;
        assert!(head.starts_with("http://calls.example:443/x HTTP/2.0\n"), "{head}");
        assert_eq!(shown(&head, "authorization"), ["Bearer t"]);
        assert_eq!(shown(&head, "te"), ["trailers"]);
        assert!(!headers.contains_key("server"));
    });
}

/// A WebSocket that says first which head it got, and echoes then.
async fn talkative_websocket() -> LocalService {
    LocalService::each(|mut socket| async move {
        let head = read_head(&mut socket).await;
        let key = head.split("sec-websocket-key: ").nth(1).unwrap().lines().next().unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nserver: mirror\r\n\
             set-cookie: a=1\r\nsec-websocket-accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
        socket.send(head.into()).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[test]
fn websockets_over_both_versions_pass_the_rules() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let local = talkative_websocket().await;
        let tunnel = Tunnel::http("app")
            .local_addr(local.addr().to_string())
            .host_header(HostHeader::Rewrite)
            .request_header(HeaderRule::set("Origin", "http://localhost"))
            .request_header(HeaderRule::remove("Cookie"))
            .response_header(HeaderRule::add("Set-Cookie", "b=2"))
            .response_header(HeaderRule::remove("Server"));
        let _client = client(&bed, tunnel).await;
        let is_changed = |headers: &HeaderMap, head: &str| {
            let head = head.replace('\r', "");
            assert_eq!(shown(&head, "host"), [local.addr().to_string()]);
            assert_eq!(shown(&head, "x-forwarded-host"), [bed.host("app")]);
            assert_eq!(shown(&head, "origin"), ["http://localhost"]);
            assert_eq!(shown(&head, "cookie"), [""; 0]);
            assert_eq!(shown(&head, "upgrade"), ["websocket"]);
            assert_eq!(values(headers, "set-cookie"), ["a=1", "b=2"]);
            assert!(!headers.contains_key("server"));
        };

        let mut asking = format!("ws://{}/", bed.host("app")).into_client_request().unwrap();
        asking.headers_mut().insert("origin", "http://evil.example".parse().unwrap());
        asking.headers_mut().insert("cookie", "a=1".parse().unwrap());
        let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
        let (mut socket, response) =
            soon("a WebSocket", client_async(asking, socket)).await.unwrap();
        let head = soon("the head", socket.next()).await.unwrap().unwrap();
        is_changed(response.headers(), &head.into_text().unwrap());
        socket.send("hello".into()).await.unwrap();
        assert_eq!(soon("the echo", socket.next()).await.unwrap().unwrap(), "hello".into());

        let io = TokioIo::new(TcpStream::connect(bed.http_addr()).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut visitor, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let hello = hyper::Request::get(format!("http://{}/", bed.host("nobody")));
        // An answer comes behind the server's settings, which allow what follows.
        let hello = hello.body(Empty::<Bytes>::new()).unwrap();
        soon("an answer", visitor.send_request(hello)).await.unwrap();
        let asking = hyper::Request::connect(format!("http://{}/", bed.host("app")))
            .header("sec-websocket-version", "13")
            .header("cookie", "a=1")
            .extension(Protocol::from_static("websocket"))
            .body(Empty::new())
            .unwrap();
        let response = soon("the answer", visitor.send_request(asking)).await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        let upgraded = soon("the stream", hyper::upgrade::on(response)).await.unwrap();
        let upgraded = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
        let head = soon("the head", socket.next()).await.unwrap().unwrap();
        is_changed(&headers, &head.into_text().unwrap());
    });
}

#[test]
fn answers_of_the_servers_own_are_not_changed() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let nobody = LocalService::nobody().await;
        let tunnel = Tunnel::http("app")
            .local_addr(nobody.to_string())
            .response_header(HeaderRule::set("x-tag", "1"))
            .response_header(HeaderRule::remove("content-type"));
        let _client = client(&bed, tunnel).await;
        let answer: Answer = get(bed.http_addr(), &bed.host("app"), "/").await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.ferrotunnel_error(), Some("local-unreachable"));
        assert!(!answer.headers.contains_key("x-tag"));
        assert!(answer.headers.contains_key("content-type"));
    });
}

#[test]
fn what_let_a_visitor_in_is_gone_before_a_rule_says_who_asks() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let hash = hash_password("open sesame").unwrap();
        let tunnel = Tunnel::http("app")
            .local_addr(mirror().await.to_string())
            .basic_auth("aladdin", hash)
            .request_header(HeaderRule::add("authorization", "Bearer of the service"));
        let _client = client(&bed, tunnel).await;
        let [visitor, _] = visitors(&bed);
        let shows = [("authorization", "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==")];
        let (_, head) = visit(&bed, &visitor, &shows).await;
        assert_eq!(shown(&head, "authorization"), ["Bearer of the service"]);
        let refused = get(bed.http_addr(), &bed.host("app"), "/").await;
        assert_eq!(refused.status, 401);
    });
}

#[test]
fn a_program_that_serves_its_tunnel_itself_can_say_which_host() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let client = bed.client().build().unwrap();
        let error = client
            .listen(Tunnel::http("app").host_header(HostHeader::Rewrite))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("host_header"), "{error}");
        let tunnel = Tunnel::http("app").host_header(HostHeader::Value("inside".to_owned()));
        let listener = client.listen(tunnel).await.unwrap();
        let show = |request: Request| async move {
            request.headers()["host"].to_str().unwrap().to_owned()
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(show)).await });
        let answer = get(bed.http_addr(), &bed.host("app"), "/").await;
        assert_eq!(answer.body, "inside");
    });
}

#[test]
fn what_there_can_be_no_rule_for_is_named_before_anything_is_asked() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let web = || Tunnel::http("app").local_addr("1");
        for (tunnel, setting, words) in [
            (web().host_header(HostHeader::Value("a/b".to_owned())), "host_header", "a/b"),
            (web().request_header(HeaderRule::remove("Host")), "request_header", "host"),
            (
                web().request_header(HeaderRule::set("X-Forwarded-For", "::1")),
                "request_header",
                "who the visitor is",
            ),
            (
                web().response_header(HeaderRule::add("Transfer-Encoding", "chunked")),
                "response_header",
                "transfer-encoding",
            ),
            (
                web().response_header(HeaderRule::set("x-a", "1\r\nx-b: 2")),
                "response_header",
                "x-a",
            ),
            (
                Tunnel::tcp().local_addr("1").host_header(HostHeader::Rewrite),
                "host_header",
                "HTTP tunnels",
            ),
        ] {
            let error = bed.client().tunnel(tunnel).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let error = error.to_string();
            assert!(error.contains(setting) && error.contains(words), "{error}");
        }
    });
}

#[test]
fn a_server_refuses_what_a_client_should_not_have_asked_for() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let mut outlaw = Outlaw::join(bed.server.tunnel_addr(), Carrier::Plaintext).await;
        for (number, (kind, key, value)) in (1..).zip([
            (TunnelKind::Http, "header-request-set", "content-length: 0"),
            (TunnelKind::Http, "header-request-add", "x-a: 1\r\nx-b: 2"),
            (TunnelKind::Http, "header-response-remove", "ferrotunnel-error"),
            (TunnelKind::Http, "header-host", "a b"),
            (TunnelKind::Http, "header-mood", "good"),
            (TunnelKind::Tcp, "header-host", "a"),
        ]) {
            let mut asking = ask_for(number, kind, "");
            let Frame::Register(_, register) = &mut asking else { unreachable!() };
            register.options.push((key.to_owned(), value.to_owned()));
            outlaw.say(&asking).await;
            let heard = outlaw.hear_a(FrameType::Registered).await;
            assert_eq!(heard.registered(), Err(3), "{key}: {value}");
            let reason = String::from_utf8_lossy(&heard.payload[3..]).into_owned();
            assert!(reason.contains(key), "{reason}");
        }
        assert_eq!(bed.server.tunnels(), 0);
    });
}
