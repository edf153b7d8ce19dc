//! HTTP tunnels with real clients in front and a real web service behind.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::convert::Infallible;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use ferrotunnel_tests::{
    Answer, LocalService, Site, TestBed, collect, eventually, open, over_both, pattern_stream, raw,
    read_head, send, soon,
};
use futures_util::{SinkExt, StreamExt, stream};
use http_body_util::{BodyExt, Empty, Full};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// A request without body for a tunnel.
fn request(bed: &TestBed, name: &str, path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header(HOST, bed.host(name)).body(Empty::new()).unwrap()
}

/// reqwest as a visitor that finds the tunnel of this name.
fn reqwest_for(bed: &TestBed, name: &str, http2: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .resolve(&format!("{name}.localhost"), bed.http_addr());
    if http2 { builder.http2_prior_knowledge() } else { builder.http1_only() }.build().unwrap()
}

/// A body of what is said, while it is said.
fn spoken_body() -> (mpsc::Sender<&'static str>, Body) {
    let (say, listen) = mpsc::channel(1);
    let words = stream::unfold(listen, |mut listen| async {
        Some((Ok::<_, Infallible>(listen.recv().await?), listen))
    });
    (say, Body::from_stream(words))
}

fn url(bed: &TestBed, name: &str, path: &str) -> String {
    format!("http://{}{path}", bed.host(name))
}

#[test]
fn reqwest_gets_posts_and_reads_headers() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for http2 in [false, true] {
            let visitor = reqwest_for(&bed, "app", http2);
            let hello = visitor.get(url(&bed, "app", "/hello")).send().await.unwrap();
            assert_eq!(hello.status(), 200);
            assert_eq!(hello.text().await.unwrap(), "hello");
            let echo = visitor.post(url(&bed, "app", "/echo?x=y%20z")).body("to and fro").send();
            assert_eq!(echo.await.unwrap().text().await.unwrap(), "to and fro");
            let head = visitor.put(url(&bed, "app", "/head?x=y%20z")).header("x-mine", "1").send();
            let head = head.await.unwrap().text().await.unwrap();
            assert!(head.starts_with("PUT /head?x=y%20z HTTP/1.1\n"), "{head}");
            assert!(head.contains("\nx-mine: 1\n"), "{head}");
            assert!(head.contains(&format!("\nhost: {}\n", bed.host("app"))), "{head}");
        }
    });
}

#[test]
fn a_download_and_an_upload_arrive_whole() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        const BYTES: u64 = 5_000_000;
        for http2 in [false, true] {
            let visitor = reqwest_for(&bed, "app", http2);
            let body = reqwest::Body::wrap_stream(pattern_stream(BYTES));
            let echo = visitor.post(url(&bed, "app", "/echo")).body(body).send().await.unwrap();
            let echo = echo.bytes().await.unwrap();
            let download = visitor.get(url(&bed, "app", &format!("/bytes/{BYTES}"))).send();
            let download = download.await.unwrap();
            assert_eq!(download.content_length(), Some(BYTES));
            assert!(download.bytes().await.unwrap() == echo, "http2: {http2}");
            let pattern = Site::pattern();
            let expected: BytesMut = pattern.repeat(5)[..BYTES as usize].into();
            assert!(echo == expected, "http2: {http2}");
        }
    });
}

#[test]
fn sse_is_not_buffered() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for http2 in [false, true] {
            let visitor = reqwest_for(&bed, "app", http2);
            let response = visitor.get(url(&bed, "app", "/sse")).send();
            let response = soon("the head before any event", response).await.unwrap();
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            site.listeners(1).await;
            let mut body = response.bytes_stream();
            // Each event has to arrive before the next one is published.
            for number in 0..20 {
                site.publish(&format!("event {number}"));
                let expected = format!("data: event {number}\n\n");
                let mut heard = BytesMut::new();
                while heard.len() < expected.len() {
                    let piece = soon(&expected, body.next()).await.unwrap().unwrap();
                    heard.extend_from_slice(&piece);
                }
                assert_eq!(heard, expected);
            }
            drop(body);
            site.listeners(0).await;
        }
    });
}

#[test]
fn an_upload_is_not_buffered() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let (say, body) = spoken_body();
        let request = Request::post("/echo").header(HOST, bed.host("app")).body(body).unwrap();
        let response = soon("the head while the upload goes on", send(bed.http_addr(), request));
        let mut response = response.await.unwrap();
        for word in ["one", "two", "three"] {
            say.send(word).await.unwrap();
            let frame = soon(word, response.body_mut().frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        drop(say);
        assert!(soon("the end", response.body_mut().frame()).await.is_none());
    });
}

#[test]
fn a_websocket_echoes_both_ways() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|socket| async move {
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() || message.is_binary() {
                    socket.send(message).await.unwrap();
                }
            }
        })
        .await;
        let _client = bed.http("ws", service.addr()).await;
        let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
        let url = format!("ws://{}/chat", bed.host("ws"));
        let opening = tokio_tungstenite::client_async(url, socket);
        let (mut socket, response) = soon("the upgrade", opening).await.unwrap();
        assert_eq!(response.status(), 101);
        for text in ["hello", "", &"long ".repeat(50_000)] {
            socket.send(Message::text(text)).await.unwrap();
            let echo = soon("the echo", socket.next()).await.unwrap().unwrap();
            assert_eq!(echo.into_text().unwrap(), text);
        }
        let bytes = Site::pattern();
        socket.send(Message::binary(bytes.clone())).await.unwrap();
        let echo = soon("the echo", socket.next()).await.unwrap().unwrap();
        assert!(echo.into_data() == bytes);
        socket.close(None).await.unwrap();
        while let Some(Ok(message)) = soon("the goodbye", socket.next()).await {
            assert!(message.is_close());
        }
        drop(socket);
        eventually("the stream to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn authority_only_h2_is_routed() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.domain("tunnels.example")).await;
        let site = Site::start().await;
        let _app = bed.http("app", site.addr()).await;
        let _other = bed.http("other", LocalService::nobody().await).await;
        let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
        let (mut visitor, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let uri = "http://app.tunnels.example:1234/head";
        let request = Request::get(uri).body(()).unwrap();
        let (response, _) = visitor.send_request(request, true).unwrap();
        let mut response = soon("the answer", response).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut text = Vec::new();
        while let Some(bytes) = response.body_mut().data().await {
            text.extend_from_slice(&bytes.unwrap());
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\nhost: app.tunnels.example:1234\n"), "{text}");
    });
}

#[test]
fn http2_to_the_local_service_is_spoken_when_asked_for() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = ferrotunnel::Tunnel::http("h2c").http2().local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        let head = bed.get("h2c", "/head").await.body;
        assert!(head.contains("HTTP/2.0\n"), "{head}");
        assert!(head.contains(&format!("//{}/head", bed.host("h2c"))), "{head}");
    });
}

#[test]
fn trailers_pass() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut asking = request(&bed, "app", "/trailers");
        asking.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = send(bed.http_addr(), asking).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-checksum"], "42");
        assert_eq!(collected.to_bytes(), "body");
    });
}

#[test]
fn keepalive_pool_never_reuses_a_busy_connection() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        // What leaves connections to the local service in the middle of something: visitors that go away during a
        // download, that go away during an upload, and that are answered before their upload has ended.
        let rude = async {
            for _ in 0..30 {
                for (line, part) in [
                    ("GET /bytes/3000000 HTTP/1.1\r\n", ""),
                    ("POST /echo HTTP/1.1\r\ncontent-length: 1000000\r\n", "half an upload"),
                    ("POST /hello HTTP/1.1\r\ncontent-length: 1000000\r\n", "half an upload"),
                    ("POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n", "5\r\nhalf"),
                ] {
                    let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
                    let asking = format!("{line}host: {}\r\n\r\n{part}", bed.host("app"));
                    visitor.write_all(asking.as_bytes()).await.unwrap();
                    let head = soon("a head", read_head(&mut visitor)).await;
                    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{line}{head}");
                }
            }
        };
        let honest = (0..4).map(|visitor| {
            let bed = &bed;
            async move {
                let mut connection = open(bed.http_addr()).await;
                for round in 0..100 {
                    let text = format!("visitor {visitor}, round {round}");
                    let echo = Request::post("/echo")
                        .header(HOST, bed.host("app"))
                        .body(Full::from(text.clone()))
                        .unwrap();
                    connection.ready().await.unwrap();
                    let answer = connection.send_request(echo);
                    let answer = collect(soon("an answer", answer).await.unwrap()).await;
                    assert_eq!((answer.status.as_u16(), answer.body), (200, text));
                }
            }
        });
        tokio::join!(rude, futures_util::future::join_all(honest));
    });
}

#[test]
fn visitor_never_needs_the_tunnel_token() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let answer = bed.get("app", "/hello").await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "hello"));
        // A visitor's credentials are between it and the local service.
        for credentials in ["Bearer of-the-local-service", "Basic dXNlcjpwYXNz", ""] {
            let mut asking = request(&bed, "app", "/head");
            asking.headers_mut().insert("authorization", credentials.parse().unwrap());
            asking.headers_mut().insert("x-tunnel-token", "anything".parse().unwrap());
            let answer = collect(send(bed.http_addr(), asking).await.unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.body.contains(&format!("\nauthorization: {credentials}\n")));
            assert!(answer.body.contains("\nx-tunnel-token: anything\n"));
            assert!(!answer.body.contains(ferrotunnel_tests::TOKEN));
        }
    });
}

#[test]
fn tenant_owns_every_path() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for path in [
            "/",
            "/health",
            "/healthz",
            "/ready",
            "/metrics",
            "/status",
            "/api/tunnels",
            "/dashboard",
            "/_ferrotunnel/health",
            "/ferrotunnel",
            "/.well-known/acme-challenge/token",
            "/favicon.ico",
            "/robots.txt",
            "//double//slashes/../and/./dots",
            "/%2e%2e/%00",
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
                let mut asking = request(&bed, "app", path);
                *asking.method_mut() = method.clone();
                let answer = collect(send(bed.http_addr(), asking).await.unwrap()).await;
                assert_eq!(answer.body, format!("{method} {path}"));
                assert_eq!(answer.ferrotunnel_error(), None);
            }
        }
    });
}

#[test]
fn spoofed_forwarded_headers_are_replaced() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut asking = request(&bed, "app", "/head");
        for (name, value) in [
            ("x-forwarded-for", "10.9.8.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("forwarded", "for=10.9.8.7;proto=https;host=bank.example"),
            ("x-real-ip", "10.9.8.7"),
        ] {
            asking.headers_mut().insert(name, value.parse().unwrap());
        }
        let head = collect(send(bed.http_addr(), asking).await.unwrap()).await.body;
        let host = bed.host("app");
        assert!(head.contains("\nx-forwarded-for: 127.0.0.1\n"), "{head}");
        assert!(head.contains("\nx-forwarded-proto: http\n"), "{head}");
        assert!(head.contains(&format!("\nx-forwarded-host: {host}\n")), "{head}");
        assert!(head.contains(&format!("for=127.0.0.1;proto=http;host=\"{host}\"")), "{head}");
        assert!(!head.contains("10.9.8.7") && !head.contains("bank.example"), "{head}");
    });
}

#[test]
fn a_local_service_that_is_down_is_a_502_that_says_so() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let _client = bed.http("app", LocalService::nobody().await).await;
        let answer = bed.get("app", "/").await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.ferrotunnel_error(), Some("local-unreachable"));
    });
}

#[test]
fn garbage_from_the_local_service_is_a_502() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for garbage in [
            &b"\x00\x01\x02\x03 this is no http\r\n\r\n"[..],
            b"HTTP/9.9 200 OK\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n",
            b"",
        ] {
            let service = LocalService::answering(garbage).await;
            let client = bed.http("app", service.addr()).await;
            let answer = soon("an answer", bed.get("app", "/")).await;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{garbage:?}");
            assert_eq!(answer.ferrotunnel_error(), Some("bad-answer"), "{garbage:?}");
            drop(client);
        }
    });
}

#[test]
fn a_slow_local_service_is_waited_for() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let slow = bed.get("app", "/held");
        let others = async {
            site.held(1).await;
            for _ in 0..20 {
                assert_eq!(bed.get("app", "/hello").await.body, "hello");
            }
            site.release();
        };
        let (answer, ()) = tokio::join!(soon("the slow answer", slow), others);
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "released"));
    });
}

#[test]
fn truncated_response_is_not_a_clean_eof() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for cut in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        ] {
            let service = LocalService::answering(cut).await;
            let _client = bed.http("app", service.addr()).await;
            for http2 in [false, true] {
                let visitor = reqwest_for(&bed, "app", http2);
                let response = match visitor.get(url(&bed, "app", "/")).send().await {
                    Ok(response) => response,
                    // Where several threads are at work, the reset may overtake the head.
                    Err(error) => {
                        assert!(http2, "the head did not come: {error}");
                        continue;
                    }
                };
                assert_eq!(response.status(), 200);
                let body = soon("the end of the body", response.bytes()).await;
                assert!(body.is_err(), "http2 {http2}: a cut body came as whole: {body:?}");
            }
        }
    });
}

#[test]
fn truncated_response_is_not_a_clean_eof_over_http10_either() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let cut = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n";
        let service = LocalService::answering(cut).await;
        let _client = bed.http("app", service.addr()).await;
        // There are no chunks in HTTP/1.0: the end of the connection is the end of the body, unless it is a reset.
        let asking = format!("GET / HTTP/1.0\r\nhost: {}\r\n\r\n", bed.host("app"));
        let answer = soon("the end", raw(bed.http_addr(), asking.as_bytes())).await;
        let error = answer.map(|answer| String::from_utf8_lossy(&answer).into_owned()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_local_service_that_breaks_off_is_an_error_for_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // No length and no chunks: the end of the connection ends the body, and a reset does not.
        let service = LocalService::each(|mut socket| async move {
            read_head(&mut socket).await;
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            socket.write_all(head).await.unwrap();
            socket.write_all(b"some of it").await.unwrap();
            // The next bytes tell that the first ones have arrived.
            let _ = socket.read_u8().await;
            ferrotunnel_tests::abort_on_close(&socket);
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let (say, body) = spoken_body();
        let asking = Request::post("/").header(HOST, bed.host("app"));
        let asking = asking.body(body).unwrap();
        let mut response = send(bed.http_addr(), asking).await.unwrap();
        let frame = soon("the first bytes", response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "some of it");
        say.send("got it").await.unwrap();
        let end = soon("the break", response.body_mut().frame()).await;
        assert!(matches!(end, Some(Err(_))), "{end:?}");
    });
}

#[test]
fn a_client_that_dies_during_a_response_is_an_error_for_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        let mut response = send(bed.http_addr(), request(&bed, "app", "/held-body")).await.unwrap();
        let frame = soon("the first bytes", response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "first ");
        let waiting = tokio::spawn(send(bed.http_addr(), request(&bed, "app", "/held")));
        site.held(2).await;
        drop(client);
        let end = soon("the break", response.body_mut().frame()).await;
        assert!(matches!(end, Some(Err(_))), "{end:?}");
        let answer = collect(soon("the answer", waiting).await.unwrap().unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.ferrotunnel_error(), Some("session-lost"));
    });
}

#[test]
fn a_host_without_tunnel_is_a_404() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.domain("localhost")).await;
        let site = Site::start().await;
        let not_found = |answer: Answer| {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            assert_eq!(answer.ferrotunnel_error(), Some("no-such-tunnel"));
        };
        not_found(bed.get("app", "/hello").await);
        let client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert_eq!(bed.get("APP", "/hello").await.body, "hello");
        not_found(bed.get("ap", "/hello").await);
        not_found(bed.get("x.app", "/hello").await);
        not_found(ferrotunnel_tests::get(bed.http_addr(), "127.0.0.1", "/hello").await);
        client.shutdown().await.unwrap();
        not_found(bed.get("app", "/hello").await);
    });
}

#[test]
fn the_only_tunnel_answers_to_any_host_while_there_is_no_domain() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let by_address = || ferrotunnel_tests::get(bed.http_addr(), "127.0.0.1:8080", "/hello");
        assert_eq!(by_address().await.body, "hello");
        let _second = bed.http("second", site.addr()).await;
        assert_eq!(by_address().await.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn who_asks_for_a_tunnel_by_name_never_gets_another_one() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let away = bed.http("away", site.addr()).await;
        let _other = bed.http("other", site.addr()).await;
        away.shutdown().await.unwrap();
        // The other one is the only one now.
        assert_eq!(bed.get("other", "/hello").await.body, "hello");
        for name in ["away", "AWAY", "x.other"] {
            let answer = bed.get(name, "/hello").await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
        }
    });
}

#[test]
fn a_further_host_reaches_the_same_tunnel() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.domain("tunnels.example")).await;
        let site = Site::start().await;
        let tunnel = ferrotunnel::Tunnel::http("app")
            .host("Shop.Example.com")
            .local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let info = client.start().await.unwrap();
        let port = bed.http_addr().port();
        assert_eq!(info.public_url, format!("http://app.tunnels.example:{port}/"));
        for host in ["app.tunnels.example", "shop.example.com", "SHOP.example.com:80"] {
            let answer = ferrotunnel_tests::get(bed.http_addr(), host, "/hello").await;
            assert_eq!(answer.body, "hello", "{host}");
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let host = bed.host("app");
        let mut requests = String::new();
        for number in 0..10 {
            requests.push_str(&format!("GET /n{number} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        }
        requests
            .push_str(&format!("GET /last HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"));
        let answers = raw(bed.http_addr(), requests.as_bytes());
        let answers = String::from_utf8(soon("the answers", answers).await.unwrap()).unwrap();
        let bodies: Vec<&str> = answers.split("GET /").skip(1).collect();
        assert_eq!(bodies.len(), 11, "{answers}");
        for (number, body) in bodies.iter().take(10).enumerate() {
            assert!(body.starts_with(&format!("n{number}")), "{answers}");
        }
    });
}

#[test]
fn an_answer_in_two_parts_does_not_wait_for_an_acknowledgement() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // Head and body in writes of their own: without NODELAY on every socket each answer takes 40 ms and more.
        let service = LocalService::each(|mut socket| async move {
            loop {
                if read_head(&mut socket).await.is_empty() {
                    return;
                }
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n";
                socket.write_all(head).await.unwrap();
                tokio::task::yield_now().await;
                if socket.write_all(&[b'x'; 10_000]).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        let asking = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host("app"));
        let began = std::time::Instant::now();
        for _ in 0..200 {
            visitor.write_all(asking.as_bytes()).await.unwrap();
            read_head(&mut visitor).await;
            let mut body = vec![0; 10_000];
            soon("the body", visitor.read_exact(&mut body)).await.unwrap();
        }
        // 200 times 40 ms would be 8 s.
        assert!(began.elapsed().as_secs() < 6, "{:?}", began.elapsed());
    });
}

#[test]
fn an_early_answer_outlives_the_reset_behind_it() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // It reads nothing of the body and closes: what has been sent by then is answered with a reset.
        let service = LocalService::answering(
            b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much",
        )
        .await;
        let _client = bed.http("app", service.addr()).await;
        bed.uploads_are_too_much("app").await;
        eventually("the streams to end", || bed.server.streams() == 0).await;
    });
}
