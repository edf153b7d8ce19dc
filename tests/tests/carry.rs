//! What HTTP can carry beyond a page: WebSockets over either version, bodies larger than memory, ranges, hours of
//! silence, and the tools that people have at hand as visitors.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "what is skipped has to be seen")]

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ferrotunnel::{Client, Tunnel};
use ferrotunnel_tests::{
    Carrier, LocalService, Site, TestBed, collect, eventually, memory, open, over_both, raw,
    read_head, run, send, soon, unread, until_still,
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper::header::HOST;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, handshake::server as handshake};

type Http2 = SendRequest<Empty<Bytes>>;

/// A visitor over HTTP/2 that has heard what the server can do.
async fn open_http2(bed: &TestBed) -> Http2 {
    let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut visitor, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    // An answer comes behind the server's settings.
    let hello = Request::get(format!("http://{}/", bed.host("nobody"))).body(Empty::new()).unwrap();
    soon("an answer", visitor.send_request(hello)).await.unwrap();
    visitor
}

/// Asks for a protocol on a stream of its own (RFC 8441).
async fn connect(
    bed: &TestBed,
    visitor: &mut Http2,
    path: &str,
    protocol: &'static str,
) -> Response<Incoming> {
    let asking = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{}{path}", bed.host("ws")))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-extensions", "permessage-deflate")
        .extension(Protocol::from_static(protocol))
        .body(Empty::new())
        .unwrap();
    soon("the answer", visitor.send_request(asking)).await.unwrap()
}

async fn websocket(
    bed: &TestBed,
    visitor: &mut Http2,
    path: &str,
) -> WebSocketStream<TokioIo<Upgraded>> {
    let response = connect(bed, visitor, path, "websocket").await;
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(name), "{response:?}");
    }
    let upgraded = soon("the stream", hyper::upgrade::on(response)).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

/// A local service over HTTP/1.1 that echoes messages.
async fn echoing_websocket() -> LocalService {
    LocalService::each(|socket| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(socket).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[test]
fn websockets_over_http2_reach_a_local_service_over_http1() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = echoing_websocket().await;
        let _client = bed.http("ws", service.addr()).await;
        let mut visitor = open_http2(&bed).await;
        let mut sockets = Vec::new();
        for number in 0..5 {
            let mut socket = websocket(&bed, &mut visitor, &format!("/{number}")).await;
            socket.send(Message::text(format!("hello {number}"))).await.unwrap();
            sockets.push(socket);
        }
        // All of them at once, on the one connection of the visitor.
        for (number, socket) in sockets.iter_mut().enumerate() {
            let echo = soon("the echo", socket.next()).await.unwrap().unwrap();
            assert_eq!(echo.into_text().unwrap(), format!("hello {number}"));
            let bytes = Site::pattern();
            socket.send(Message::binary(bytes.clone())).await.unwrap();
            let echo = soon("the large echo", socket.next()).await.unwrap().unwrap();
            assert!(echo.into_data() == bytes);
        }
        // One says goodbye, the others just go.
        let mut first = sockets.remove(0);
        first.close(None).await.unwrap();
        while let Some(Ok(message)) = soon("the goodbye", first.next()).await {
            assert!(message.is_close());
        }
        drop(first);
        eventually("its stream to end", || bed.server.streams() == 4).await;
        drop(sockets);
        eventually("the streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn a_websocket_over_http2_reaches_the_tunnel_of_its_path_with_the_path_taken_off() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let whole = echoing_websocket().await;
        // Says what it was asked for first, so that the two cannot be taken for each other.
        let part = LocalService::each(|socket| async move {
            let mut asked = String::new();
            #[expect(clippy::result_large_err, reason = "it is what the library calls")]
            let opening = |request: &handshake::Request, response: handshake::Response| {
                let prefix = request.headers().get("x-forwarded-prefix");
                let prefix = prefix.map_or("", |prefix| prefix.to_str().unwrap());
                asked = format!("{} of {prefix}", request.uri());
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(socket, opening).await.unwrap();
            socket.send(asked.into()).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() && socket.send(message).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let _whole = bed.http("ws", whole.addr()).await;
        let tunnel = Tunnel::http("ws").path("/live").strip_path();
        let tunnel = tunnel.local_addr(part.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        soon("the tunnel", client.start()).await.unwrap();
        let mut visitor = open_http2(&bed).await;
        let heard = async |socket: &mut WebSocketStream<_>| {
            let message = soon("a message", socket.next()).await.unwrap().unwrap();
            message.into_text().unwrap().to_string()
        };
        // Both at once, on the one connection of the visitor.
        let mut echoing = websocket(&bed, &mut visitor, "/lively").await;
        for (path, asked) in [
            ("/live", "/ of /live"),
            ("/live/room?x=/live", "/room?x=/live of /live"),
            ("/live/a%2Fb", "/a%2Fb of /live"),
        ] {
            let mut socket = websocket(&bed, &mut visitor, path).await;
            assert_eq!(heard(&mut socket).await, asked);
            socket.send(Message::text("to and fro")).await.unwrap();
            assert_eq!(heard(&mut socket).await, "to and fro");
            echoing.send(Message::text(path)).await.unwrap();
            assert_eq!(heard(&mut echoing).await, path);
        }
        for path in ["/live/../x", "/x%2F..%2Flive", "//live", "/%6cive"] {
            let refused = connect(&bed, &mut visitor, path, "websocket").await;
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(refused.headers()["ferrotunnel-error"], "unclear-path");
        }
    });
}

#[test]
fn a_local_service_that_goes_ends_a_websocket_over_http2() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|socket| async move {
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            // Gone without a word after the first message.
            let _ = socket.next().await;
        })
        .await;
        let _client = bed.http("ws", service.addr()).await;
        let mut visitor = open_http2(&bed).await;
        let mut socket = websocket(&bed, &mut visitor, "/").await;
        socket.send(Message::text("go")).await.unwrap();
        let end = soon("the end", socket.next()).await;
        assert!(matches!(end, None | Some(Err(_))), "{end:?}");
        // The connection serves on.
        websocket(&bed, &mut visitor, "/").await;
    });
}

#[test]
fn what_a_local_service_says_instead_of_a_websocket_reaches_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            let head = read_head(&mut socket).await;
            assert!(head.starts_with("GET /"), "{head}");
            assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
            let answer: &[u8] = match head.split(' ').nth(1) {
                Some("/forbidden") => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
                Some("/elsewhere") => b"HTTP/1.1 307 Go\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
                Some("/page") => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage",
                _ => b"HTTP/1.1 101 Switch\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n",
            };
            socket.write_all(answer).await.unwrap();
        })
        .await;
        let _client = bed.http("ws", service.addr()).await;
        let mut visitor = open_http2(&bed).await;
        let forbidden = collect(connect(&bed, &mut visitor, "/forbidden", "websocket").await).await;
        assert_eq!((forbidden.status.as_u16(), forbidden.body.as_str()), (403, "no"));
        let elsewhere = collect(connect(&bed, &mut visitor, "/elsewhere", "websocket").await).await;
        assert_eq!(
            (elsewhere.status.as_u16(), &elsewhere.headers["location"]),
            (307, &"/x".parse().unwrap())
        );
        // Neither has agreed to a WebSocket, and 200 would say so.
        for path in ["/page", "/wrong-accept"] {
            let answer = collect(connect(&bed, &mut visitor, path, "websocket").await).await;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{path}");
            assert_eq!(answer.ferrotunnel_error(), Some("bad-answer"), "{path}");
        }
        let other = collect(connect(&bed, &mut visitor, "/", "connect-udp").await).await;
        assert_eq!(other.status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(other.ferrotunnel_error(), Some("protocol-refused"));
        eventually("the streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn connect_is_refused_over_both_versions() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let asking = format!(
            "CONNECT {0} HTTP/1.1\r\nhost: {0}\r\nconnection: close\r\n\r\n",
            bed.host("app")
        );
        let answer = raw(bed.http_addr(), asking.as_bytes()).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        let mut visitor = open_http2(&bed).await;
        let asking = Request::connect(bed.host("app")).body(Empty::new()).unwrap();
        let answer = collect(soon("the answer", visitor.send_request(asking)).await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.ferrotunnel_error(), Some("connect-refused"));
        assert_eq!(bed.server.streams(), 0);
    });
}

/// "Hello" as RFC 7692 (section 7.2.3.1) compresses it, in a frame with RSV1 set, unmasked.
const DEFLATED_HELLO: &[u8] = b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00";

/// The same with a mask of zeros, as a visitor has to send it.
const MASKED_HELLO: &[u8] = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00";

#[test]
fn permessage_deflate_passes_untouched() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            let head = read_head(&mut socket).await;
            assert!(head.contains("\r\nsec-websocket-extensions: permessage-deflate\r\n"), "{head}");
            let key = head.split("sec-websocket-key: ").nth(1).unwrap().lines().next().unwrap();
            let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
            let agreed = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-accept: {accept}\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"
            );
            socket.write_all(agreed.as_bytes()).await.unwrap();
            let mut heard = [0; MASKED_HELLO.len()];
            socket.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, MASKED_HELLO);
            socket.write_all(DEFLATED_HELLO).await.unwrap();
            let _ = socket.read_u8().await;
        })
        .await;
        let _client = bed.http("ws", service.addr()).await;
        let mut said = [0; DEFLATED_HELLO.len()];

        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        let asking = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n",
            bed.host("ws")
        );
        visitor.write_all(asking.as_bytes()).await.unwrap();
        let head = soon("the head", read_head(&mut visitor)).await;
        assert!(head.contains("\r\nsec-websocket-extensions: permessage-deflate\r\n"), "{head}");
        assert!(head.contains("\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        visitor.write_all(MASKED_HELLO).await.unwrap();
        soon("the frame", visitor.read_exact(&mut said)).await.unwrap();
        assert_eq!(said, DEFLATED_HELLO);

        let mut visitor = open_http2(&bed).await;
        let response = connect(&bed, &mut visitor, "/", "websocket").await;
        assert_eq!(response.headers()["sec-websocket-extensions"], "permessage-deflate");
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(MASKED_HELLO).await.unwrap();
        soon("the frame", stream.read_exact(&mut said)).await.unwrap();
        assert_eq!(said, DEFLATED_HELLO);
    });
}

/// A local service that gives `0123456789` and any range of it, and counts what it was asked for.
async fn ranges() -> LocalService {
    LocalService::each(|mut socket| async move {
        loop {
            let head = read_head(&mut socket).await;
            let Some(range) = head.split("\r\nrange: bytes=").nth(1) else { return };
            let range = range.lines().next().unwrap();
            let answer = match range.split_once('-').map(|(a, b)| (a.parse(), b.parse())) {
                Some((Ok(first), Ok(last))) if last < 10_usize => format!(
                    "206 Partial Content\r\ncontent-range: bytes {range}/10\r\ncontent-length: {}\r\n\r\n{}",
                    last + 1 - first,
                    &"0123456789"[first..=last]
                ),
                _ => "416 Range Not Satisfiable\r\ncontent-range: bytes */10\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            socket.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
        }
    })
    .await
}

#[test]
fn ranges_pass_as_they_are() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = ranges().await;
        let _client = bed.http("app", service.addr()).await;
        for (range, status, told, body) in [
            ("bytes=2-5", 206, "bytes 2-5/10", "2345"),
            ("bytes=0-0", 206, "bytes 0-0/10", "0"),
            ("bytes=9-99", 416, "bytes */10", ""),
        ] {
            let asking = Request::get("/").header(HOST, bed.host("app")).header("range", range);
            let answer = send(bed.http_addr(), asking.body(Empty::<Bytes>::new()).unwrap()).await;
            let answer = collect(answer.unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (status, body));
            assert_eq!(answer.headers["content-range"], told);
        }
    });
}

#[test]
fn trailers_of_an_upload_reach_the_local_service() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            let mut heard = Vec::new();
            while !heard.ends_with(b"x-checksum: 42\r\n\r\n") {
                heard.push(socket.read_u8().await.unwrap());
            }
            let heard = String::from_utf8(heard).unwrap();
            assert!(heard.contains("\r\n\r\n4\r\nbody\r\n0\r\nx-checksum: 42\r\n"), "{heard}");
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let asking = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ntrailer: x-checksum\r\n\
             transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Checksum: 42\r\n\r\n",
            bed.host("app")
        );
        let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
        assert!(answer.ends_with(b"\r\n\r\nok"), "{}", String::from_utf8_lossy(&answer));
    });
}

#[test]
fn grpc_web_passes_untouched() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // A message, and the trailers in a frame of their own, as the browsers' kind of gRPC has it.
        const ANSWER: &[u8] = b"\0\0\0\0\x02hi\x80\0\0\0\x0fgrpc-status:0\r\n";
        let service = LocalService::each(|mut socket| async move {
            let head = read_head(&mut socket).await;
            assert!(head.starts_with("POST /test.Parrot/Say HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("\r\ncontent-type: application/grpc-web+proto\r\n"), "{head}");
            assert!(head.contains("\r\nx-grpc-web: 1\r\n"), "{head}");
            let mut message = [0; 7];
            socket.read_exact(&mut message).await.unwrap();
            assert_eq!(&message, b"\0\0\0\0\x02hi");
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: {}\r\n\r\n",
                ANSWER.len()
            );
            socket.write_all(&[head.as_bytes(), ANSWER].concat()).await.unwrap();
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let asking = format!(
            "POST /test.Parrot/Say HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nx-grpc-web: 1\r\n\
             content-type: application/grpc-web+proto\r\ncontent-length: 7\r\n\r\n\0\0\0\0\x02hi",
            bed.host("app")
        );
        let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
        assert!(answer.ends_with(&[b"\r\n\r\n", ANSWER].concat()));
        let head = String::from_utf8_lossy(&answer).into_owned();
        assert!(head.contains("\r\ncontent-type: application/grpc-web+proto\r\n"), "{head}");
    });
}

/// More than the memory that a test may take, both ways.
const LARGE: u64 = 256 << 20;

/// What may lie in all the buffers of one exchange, in a process that has both ends and other tests in it.
const FLAT: u64 = 100 << 20;

#[test]
fn bodies_larger_than_memory_pass_both_ways() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let taken = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&taken);
        let service = LocalService::each(move |mut socket| {
            let taken = Arc::clone(&counting);
            async move {
                let head = read_head(&mut socket).await;
                let block = vec![b'x'; 256 << 10];
                if head.starts_with("GET") {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
                    socket.write_all(head.as_bytes()).await.unwrap();
                    for _ in 0..LARGE / block.len() as u64 {
                        socket.write_all(&block).await.unwrap();
                    }
                    return;
                }
                let mut buffer = block;
                while taken.load(Ordering::Relaxed) < LARGE {
                    let count = socket.read(&mut buffer).await.unwrap();
                    assert!(count > 0, "the upload broke off");
                    taken.fetch_add(count as u64, Ordering::Relaxed);
                }
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let before = memory::restart_peak();
        let mut buffer = vec![0; 256 << 10];

        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        let host = bed.host("app");
        let asking = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        visitor.write_all(asking.as_bytes()).await.unwrap();
        read_head(&mut visitor).await;
        let mut heard = 0;
        while let count @ 1.. = soon("the download", visitor.read(&mut buffer)).await.unwrap() {
            heard += count as u64;
        }
        assert_eq!(heard, LARGE);

        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        let asking = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {LARGE}\r\n\r\n");
        visitor.write_all(asking.as_bytes()).await.unwrap();
        for _ in 0..LARGE / buffer.len() as u64 {
            soon("the upload", visitor.write_all(&buffer)).await.unwrap();
        }
        let head = soon("the answer", read_head(&mut visitor)).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(taken.load(Ordering::Relaxed), LARGE);
        if let (Some(before), Some(peak)) = (before, memory::peak_bytes()) {
            assert!(peak - before < FLAT, "{LARGE} bytes took {} of memory", peak - before);
        }
    });
}

/// Hours pass as fast as they can be told, and nothing else: without this the runtime would skip time by itself
/// while bytes are on their way between sockets.
struct Hours {
    _hold: std::sync::mpsc::Sender<()>,
}

impl Hours {
    fn begin() -> Self {
        tokio::time::pause();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        // As long as there is work on another thread, time does not go on by itself.
        tokio::task::spawn_blocking(move || held.recv());
        Self { _hold: hold }
    }

    /// Lets time go on, with a request in every two seconds of it: heartbeats get their answers.
    async fn pass(&self, seconds: u64, bed: &TestBed) {
        for _ in 0..seconds / 2 {
            tokio::time::advance(std::time::Duration::from_secs(2)).await;
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
        }
    }
}

#[test]
fn an_hour_of_silence_ends_nothing_that_is_open() {
    // One thread: the clock that can be held is that of one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let hours = Hours::begin();
        let bed = TestBed::start(Carrier::Plaintext).await;
        let site = Site::start().await;
        let echo = echoing_websocket().await;
        let _client = bed.http("app", site.addr()).await;
        let _websocket: Client = bed.http("ws", echo.addr()).await;

        let asking = Request::get("/sse").header(HOST, bed.host("app"));
        let asking = asking.body(Empty::<Bytes>::new()).unwrap();
        let mut events = send(bed.http_addr(), asking).await.unwrap().into_body();
        let mut http2 = open_http2(&bed).await;
        let asking = Request::get(format!("http://{}/sse", bed.host("app"))).body(Empty::new());
        let answer = http2.send_request(asking.unwrap()).await.unwrap();
        let mut events_http2 = answer.into_body();
        let mut over_http2 = websocket(&bed, &mut http2, "/").await;
        let socket = TcpStream::connect(bed.http_addr()).await.unwrap();
        let url = format!("ws://{}/", bed.host("ws"));
        let (mut over_http1, _) = tokio_tungstenite::client_async(url, socket).await.unwrap();
        let poll = Request::get("/held").header(HOST, bed.host("app"));
        let poll = tokio::spawn(send(bed.http_addr(), poll.body(Empty::<Bytes>::new()).unwrap()));
        let mut upload = TcpStream::connect(bed.http_addr()).await.unwrap();
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: {}\r\ncontent-length: 4\r\n\r\n",
            bed.host("app")
        );
        upload.write_all((head + "bo").as_bytes()).await.unwrap();
        read_head(&mut upload).await;
        site.listeners(2).await;
        site.held(1).await;

        hours.pass(3_700, &bed).await;

        site.publish("an hour later");
        for events in [&mut events, &mut events_http2] {
            let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(event, "data: an hour later\n\n");
        }
        over_http1.send(Message::text("still")).await.unwrap();
        over_http2.send(Message::text("there")).await.unwrap();
        assert_eq!(over_http1.next().await.unwrap().unwrap().into_text().unwrap(), "still");
        assert_eq!(over_http2.next().await.unwrap().unwrap().into_text().unwrap(), "there");
        upload.write_all(b"dy").await.unwrap();
        let mut body = [0; 4];
        upload.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"body");
        site.release();
        assert_eq!(collect(poll.await.unwrap().unwrap()).await.body, "released");
    });
}

/// A program that may be there or not; what it says, or `None` without it.
async fn tool(program: &str, args: &[&str]) -> Option<(bool, String)> {
    let child = Command::new(program)
        .args(args)
        .env_remove("http_proxy")
        .env_remove("ALL_PROXY")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(child) = child else {
        println!("skipped: there is no {program} here (tools/install.sh has it)");
        return None;
    };
    let output = soon(program, child.wait_with_output()).await.unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), text))
}

#[test]
fn curl_is_served_as_it_expects() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let service = ranges().await;
        let _client = bed.http("app", site.addr()).await;
        let _ranges = bed.http("ranges", service.addr()).await;
        let url = |name: &str, path: &str| format!("http://{}{path}", bed.host(name));
        let to = format!("::127.0.0.1:{}", bed.http_addr().port());
        for version in ["--http1.1", "--http2", "--http2-prior-knowledge"] {
            let ask = async |args: &[&str], url: &str| {
                let usual = ["--noproxy", "*", "--silent", "--show-error", "--connect-to", &to];
                tool("curl", &[&usual[..], &[version], args, &[url]].concat()).await
            };
            let Some(hello) = ask(&[], &url("app", "/hello")).await else { return };
            assert_eq!(hello, (true, "hello".to_owned()), "{version}");
            let (ok, head) = ask(&["--head"], &url("app", "/bytes/5")).await.unwrap();
            assert!(ok && head.contains("content-length: 5"), "{version}: {head}");
            let large = "x".repeat(2 << 20);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &large).unwrap();
            let data = format!("@{}", file.path().display());
            // With leave to go on, and in chunks.
            for header in ["expect: 100-continue", "transfer-encoding: chunked"] {
                let upload = ["--data-binary", &data, "--header", header];
                let (ok, echo) = ask(&upload, &url("app", "/echo")).await.unwrap();
                assert!(ok && echo == large, "{version}, {header}: {} bytes", echo.len());
            }
            let (ok, part) = ask(&["--range", "3-6"], &url("ranges", "/")).await.unwrap();
            assert_eq!((ok, part.as_str()), (true, "3456"), "{version}");
            let (ok, trailers) =
                ask(&["--include", "--header", "te: trailers"], &url("app", "/trailers"))
                    .await
                    .unwrap();
            assert!(ok && trailers.contains("x-checksum: 42"), "{version}: {trailers}");
            let (ok, lost) = ask(&["--fail"], &url("nobody", "/")).await.unwrap();
            assert!(!ok && lost.contains("404"), "{version}: {lost}");
        }
    });
}

#[test]
fn nghttp2_is_served_as_it_expects() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let connect = format!("--connect-to=127.0.0.1:{}", bed.http_addr().port());
        let url = |path: &str| format!("http://{}{path}", bed.host("app"));
        for version in ["--no-tls-proto=h2c", "--h1"] {
            let load = ["-n500", "-c4", "-m16", version, &connect, &url("/bytes/20000")];
            let Some((ok, report)) = tool("h2load", &load).await else { return };
            assert!(ok, "{report}");
            assert!(report.contains("500 succeeded, 0 failed, 0 errored"), "{report}");
            assert!(report.contains("status codes: 500 2xx"), "{report}");
        }
        // An HTTP/2 client of the same make, which knows no other name than that of the address.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x".repeat(200_000)).unwrap();
        let data = format!("--data={}", file.path().display());
        let authority = format!("--header=:authority: {}", bed.host("app"));
        let ask = async |args: &[&str], path: &str| {
            let url = format!("http://{}{path}", bed.http_addr());
            tool("nghttp", &[&[&authority[..]], args, &[&url]].concat()).await
        };
        let Some(hello) = ask(&[], "/hello").await else { return };
        assert_eq!(hello, (true, "hello".to_owned()));
        let (ok, echo) = ask(&[&data, "--trailer=x-checksum: 42"], "/echo").await.unwrap();
        assert!(ok && echo == "x".repeat(200_000), "{} bytes", echo.len());
        let (ok, trailers) =
            ask(&["--verbose", "--no-dep", "--header=te: trailers"], "/trailers").await.unwrap();
        assert!(ok && trailers.contains("x-checksum: 42"), "{trailers}");
    });
}

#[test]
fn http2_visitors_share_local_connections_of_http1() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        let visitor = open_http2(&bed).await;
        // Each waits for an answer of its own, and none for another's.
        let asking = |path: &str| {
            Request::get(format!("http://{}{path}", bed.host("app"))).body(Empty::new()).unwrap()
        };
        let polls: Vec<_> =
            (0..10).map(|_| tokio::spawn(visitor.clone().send_request(asking("/held")))).collect();
        site.held(10).await;
        let hello = visitor.clone().send_request(asking("/hello"));
        assert_eq!(collect(soon("another answer", hello).await.unwrap()).await.body, "hello");
        // Who gives up gives its connection up at once, and the others keep theirs.
        let streams = bed.server.streams();
        let mut polls = polls.into_iter();
        polls.next().unwrap().abort();
        eventually("the connection to go", || bed.server.streams() < streams).await;
        site.release();
        for poll in polls {
            let answer = collect(soon("a poll", poll).await.unwrap().unwrap()).await;
            assert_eq!(answer.body, "released");
        }
    });
}

#[test]
fn one_connection_of_a_visitor_carries_everything_in_turn() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut visitor = open(bed.http_addr()).await;
        for _ in 0..3 {
            for (method, path, status, body) in [
                (Method::GET, "/hello", 200, "hello"),
                (Method::HEAD, "/hello", 200, ""),
                (Method::OPTIONS, "/any", 200, "OPTIONS /any"),
                (Method::DELETE, "/any", 200, "DELETE /any"),
                (Method::from_bytes(b"PROPFIND").unwrap(), "/any", 200, "PROPFIND /any"),
                (Method::GET, "/trailers", 200, "body"),
            ] {
                let asking = Request::builder().method(method).uri(path);
                let asking = asking.header(HOST, bed.host("app")).body(Empty::<Bytes>::new());
                visitor.ready().await.unwrap();
                let answer = soon(path, visitor.send_request(asking.unwrap())).await.unwrap();
                let answer = collect(answer).await;
                assert_eq!((answer.status.as_u16(), answer.body.as_str()), (status, body));
            }
        }
    });
}

#[test]
fn an_upgrade_that_is_declined_harms_nothing_that_follows_on_the_connection() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        // As the HTTP client of Java begins each connection, and curl --http2.
        let wish = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n";
        for length in ["content-length: 0\r\n", ""] {
            let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
            let head = format!("GET /hello HTTP/1.1\r\nhost: {}\r\n", bed.host("app"));
            visitor.write_all(format!("{head}{wish}{length}\r\n").as_bytes()).await.unwrap();
            let answer = soon("an answer", hello(&mut visitor)).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            visitor.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
            let answer = soon("the next answer", hello(&mut visitor)).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            // The last one is large, and read late.
            let last = head.replace("/hello", "/bytes/1000000");
            let last = format!("{last}connection: close\r\n\r\n");
            visitor.write_all(last.as_bytes()).await.unwrap();
            soon("the last answer", visitor.readable()).await.unwrap();
            // Until no more of it comes.
            let ask = async || drop(bed.get("app", "/hello").await);
            until_still(|| unread(&visitor), ask).await;
            let mut answer = Vec::new();
            soon("the end", visitor.read_to_end(&mut answer)).await.unwrap();
            assert!(answer.ends_with(&Site::pattern()[..1_000_000]), "{}", answer.len());
        }
    });
}

/// The answer to `/hello`.
async fn hello(visitor: &mut TcpStream) -> String {
    let head = read_head(visitor).await;
    let mut body = [0; 5];
    visitor.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"hello");
    head
}

#[test]
fn a_400_of_the_local_service_is_not_taken_for_one_of_ours() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let says = "HTTP/1.1 400 Bad Request\r\ncontent-length: 15\r\n\r\nof the service\n";
        // What follows the request comes with it, and has been seen when it is forwarded.
        let service = LocalService::answering(says.as_bytes()).await;
        let _client = bed.http("app", service.addr()).await;
        let asking = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\nGARBAGE\n\n", bed.host("app"));
        let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("of the service\n"), "{answer}");
    });
}

#[test]
fn a_get_keeps_its_body() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let recorder = LocalService::each(async |mut socket| {
            let head = read_head(&mut socket).await;
            let mut body = String::new();
            while !body.ends_with("0\r\n\r\n") {
                body.push(char::from(socket.read_u8().await.unwrap()));
            }
            let text = format!("{head}{body}");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            socket.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let _client = bed.http("app", recorder.addr()).await;
        // As searches are asked for that are too long for a path.
        let asking = format!(
            "GET /search HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             5\r\nquery\r\n0\r\n\r\n",
            bed.host("app")
        );
        let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("transfer-encoding: chunked\r\n"), "{answer}");
        assert!(answer.contains("\r\nquery\r\n"), "{answer}");
    });
}

/// An answer without the interim ones before it.
fn last_answer(answer: &[u8]) -> String {
    let mut rest = std::str::from_utf8(answer).unwrap();
    while let Some(interim) = rest.strip_prefix("HTTP/1.1 1") {
        rest = interim.split_once("\r\n\r\n").unwrap().1;
    }
    rest.to_owned()
}

#[test]
fn a_visitor_that_has_finished_talking_still_gets_its_answer() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let host = bed.host("app");
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let head = format!("POST /echo HTTP/1.1\r\nhost: {host}\r\n");
        let large = "x".repeat(1 << 20);
        for (asking, end) in [
            (get("/hello"), "\r\n\r\nhello".to_owned()),
            (get("/bytes/3000000"), String::new()),
            (format!("{head}content-length: 4\r\n\r\nbody"), "\r\n\r\nbody".to_owned()),
            (
                format!("{head}transfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
                "4\r\nbody\r\n0\r\n\r\n".to_owned(),
            ),
            (format!("{head}content-length: {}\r\n\r\n{large}", large.len()), large.clone()),
            // Two of them, and the end behind both.
            (get("/hello") + &get("/any"), "\r\n\r\nGET /any".to_owned()),
        ] {
            let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
            let line = asking.lines().next().unwrap().to_owned();
            let (mut hear, mut say) = visitor.split();
            let talk = async {
                say.write_all(asking.as_bytes()).await.unwrap();
                say.shutdown().await.unwrap();
            };
            let mut answer = Vec::new();
            let (heard, ()) =
                soon(&line, async { tokio::join!(hear.read_to_end(&mut answer), talk) }).await;
            heard.unwrap();
            if end.is_empty() {
                assert!(answer.len() > 3_000_000, "{line}: {} bytes", answer.len());
            } else {
                let answer = last_answer(&answer);
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{line}: {answer:.100}");
                let (bytes, tail) = (answer.len(), answer.len().saturating_sub(100));
                assert!(answer.ends_with(&end), "{line}: {bytes} bytes, {}", &answer[tail..]);
            }
        }
        // One that takes its time; who does not wait for it is another matter, and is let go meanwhile.
        let asking = get("/held");
        let mut patient = TcpStream::connect(bed.http_addr()).await.unwrap();
        patient.write_all(asking.as_bytes()).await.unwrap();
        patient.shutdown().await.unwrap();
        let mut hasty = TcpStream::connect(bed.http_addr()).await.unwrap();
        hasty.write_all(asking.as_bytes()).await.unwrap();
        site.held(2).await;
        let streams = bed.server.streams();
        drop(hasty);
        eventually("the hasty one's stream to end", || bed.server.streams() < streams).await;
        site.release();
        let mut answer = Vec::new();
        soon("the answer", patient.read_to_end(&mut answer)).await.unwrap();
        assert!(last_answer(&answer).ends_with("\r\n\r\nreleased"), "{answer:?}");
    });
}

#[test]
fn a_truncated_upload_is_not_taken_for_a_half_closed_one() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for body in ["content-length: 9\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n9\r\nhalf"]
        {
            let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
            let asking = format!("POST /held HTTP/1.1\r\nhost: {}\r\n{body}", bed.host("app"));
            visitor.write_all(asking.as_bytes()).await.unwrap();
            visitor.shutdown().await.unwrap();
            let mut answer = Vec::new();
            // It ends, however: with a word about it or without.
            let _ = soon("the end", visitor.read_to_end(&mut answer)).await;
            let answer = last_answer(&answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
            eventually("the stream to end", || bed.server.streams() == 0).await;
        }
    });
}

#[test]
fn early_hints_reach_visitors_over_http1_before_the_answer() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            while let head = read_head(&mut socket).await
                && !head.is_empty()
            {
                let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";
                socket.write_all(hint).await.unwrap();
                if head.starts_with("GET /slow ") {
                    // The visitor has the hint, and says so.
                    let mut word = [0; 4];
                    socket.read_exact(&mut word).await.unwrap();
                    socket.write_all(hint).await.unwrap();
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
                socket.write_all(answer).await.unwrap();
            }
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let host = bed.host("app");
        let is_hint = |head: &str| {
            head == "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
        };
        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        for _ in 0..20 {
            let asking = format!("GET /quick HTTP/1.1\r\nhost: {host}\r\n\r\n");
            visitor.write_all(asking.as_bytes()).await.unwrap();
            let hint = soon("the hint", read_head(&mut visitor)).await;
            assert!(is_hint(&hint), "{hint}");
            let head = soon("the answer", read_head(&mut visitor)).await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            let mut body = [0; 5];
            visitor.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"hello");
        }
        let asking = format!("GET /slow HTTP/1.1\r\nhost: {host}\r\ncontent-length: 4\r\n\r\n");
        visitor.write_all(asking.as_bytes()).await.unwrap();
        assert!(is_hint(&soon("the first hint", read_head(&mut visitor)).await));
        visitor.write_all(b"seen").await.unwrap();
        assert!(is_hint(&soon("the second hint", read_head(&mut visitor)).await));
        let head = soon("the answer", read_head(&mut visitor)).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");

        // HTTP/1.0 has no interim answers, and over HTTP/2 they are left out.
        let asking = format!("GET /quick HTTP/1.0\r\nhost: {host}\r\n\r\n");
        let answer = raw(bed.http_addr(), asking.as_bytes()).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
        let asking = Request::get(format!("http://{host}/quick")).body(Empty::new()).unwrap();
        let answer = open_http2(&bed).await.send_request(asking).await.unwrap();
        assert_eq!(collect(answer).await.body, "hello");
    });
}

#[test]
fn a_refusal_of_the_local_service_comes_before_the_upload() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            let head = read_head(&mut socket).await;
            assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
            if head.starts_with("POST /too-much ") {
                let answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\n\r\ntoo much";
                socket.write_all(answer).await.unwrap();
                // Not a byte of the body comes.
                assert!(!matches!(socket.read(&mut [0]).await, Ok(1..)));
                return;
            }
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            let mut body = [0; 4];
            socket.read_exact(&mut body).await.unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
            socket.write_all(&body).await.unwrap();
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let head = |path: &str| {
            let host = bed.host("app");
            format!(
                "POST {path} HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
            )
        };
        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        visitor.write_all(head("/too-much").as_bytes()).await.unwrap();
        let refusal = soon("the refusal", read_head(&mut visitor)).await;
        assert!(refusal.starts_with("HTTP/1.1 413 "), "{refusal}");

        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        visitor.write_all(head("/").as_bytes()).await.unwrap();
        let leave = soon("leave to go on", read_head(&mut visitor)).await;
        assert_eq!(leave, "HTTP/1.1 100 Continue\r\n\r\n");
        visitor.write_all(b"body").await.unwrap();
        let answer = soon("the answer", read_head(&mut visitor)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}
