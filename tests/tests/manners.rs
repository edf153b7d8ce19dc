//! HTTP as it is spoken in the wild: old versions, early answers, hasty ends.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel::{Client, Tunnel};
use ferrotunnel_tests::{
    Carrier, LocalService, PATIENCE, Site, TestBed, abort_on_close, collect, eventually, open,
    over_both, raw, read_head, run, says_and_hears, send, soon, until_still, upload_without_end,
};
use http_body_util::Empty;
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[test]
fn an_http10_local_service_is_understood() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // No length: the end of the connection is the end of the body.
        let service = LocalService::answering(b"HTTP/1.0 200 OK\r\nserver: old\r\n\r\nold").await;
        let _client = bed.http("app", service.addr()).await;
        for _ in 0..20 {
            let answer = bed.get("app", "/").await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "old"));
        }
    });
}

#[test]
fn an_http10_visitor_is_answered() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let host = bed.host("app");
        for asking in [
            format!("GET /hello HTTP/1.0\r\nhost: {host}\r\n\r\n"),
            // The only tunnel answers to visitors that name no host.
            "GET /hello HTTP/1.0\r\n\r\n".to_owned(),
        ] {
            let answer = soon("an answer", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        }
    });
}

#[test]
fn a_local_service_may_close_between_two_requests() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // It does not say `Connection: close`, and closes all the same.
        let service =
            LocalService::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
        let _client = bed.http("app", service.addr()).await;
        let mut visitor = open(bed.http_addr()).await;
        for round in 0..300 {
            let asking = Request::get("/").header(HOST, bed.host("app"));
            let asking = asking.body(Empty::<Bytes>::new()).unwrap();
            visitor.ready().await.unwrap();
            let answer = soon("an answer", visitor.send_request(asking)).await.unwrap();
            assert_eq!(collect(answer).await.status, StatusCode::OK, "round {round}");
        }
    });
}

#[test]
fn an_early_answer_to_an_upload_reaches_the_visitor() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // It answers at the head and does not look at the body, which it lets run dry as RFC 9112 (section 9.6) asks.
        let service = LocalService::each(|mut socket| async move {
            read_head(&mut socket).await;
            let answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 8\r\nconnection: close\r\n\r\ntoo much";
            socket.write_all(answer).await.unwrap();
            socket.shutdown().await.unwrap();
            let mut unread = vec![0; 64 << 10];
            while let Ok(1..) = socket.read(&mut unread).await {}
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        bed.uploads_are_too_much("app").await;
        eventually("the streams to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn a_visitor_that_leaves_frees_its_stream() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (left, leaving) = tokio::sync::mpsc::channel::<()>(1);
        let service = LocalService::each(move |mut socket| {
            let left = left.clone();
            async move {
                read_head(&mut socket).await;
                // No answer until the visitor has gone.
                let _ = socket.read_u8().await;
                drop(left);
            }
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let mut visitors = Vec::new();
        for _ in 0..10 {
            let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
            let asking = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host("app"));
            visitor.write_all(asking.as_bytes()).await.unwrap();
            visitors.push(visitor);
        }
        eventually("the requests to be on their way", || bed.server.streams() == 10).await;
        drop(visitors);
        eventually("the streams to end", || bed.server.streams() == 0).await;
        drop(leaving);
    });
}

/// Asks so of a local service that reads no more than that, uploads for as long as anybody takes it, and breaks off.
async fn break_off_unread(bed: &TestBed, line: &str, field: &str) -> (LocalService, Client) {
    let deaf = LocalService::each(|mut socket| async move {
        if read_head(&mut socket).await.contains("upgrade") {
            let answer = "HTTP/1.1 101 Fine\r\nconnection: upgrade\r\nupgrade: mute\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
        std::future::pending::<()>().await;
    })
    .await;
    let client = bed.http("deaf", deaf.addr()).await;
    let echo = LocalService::echo().await;
    let (_other, public) = bed.tcp(echo.addr()).await;
    let ask = async || says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
    let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
    let head = format!("{line}\r\nhost: {}\r\n{field}\r\n\r\n", bed.host("deaf"));
    visitor.write_all(head.as_bytes()).await.unwrap();
    abort_on_close(&visitor);
    let (talking, sent) = upload_without_end(visitor);
    until_still(|| sent.load(Ordering::Relaxed), ask).await;
    talking.abort();
    assert!(talking.await.unwrap_err().is_cancelled(), "it waits to be read");
    (deaf, client)
}

#[test]
fn a_visitor_who_breaks_off_while_its_upload_is_not_read_is_let_go() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let _deaf = break_off_unread(&bed, "POST / HTTP/1.1", "content-length: 10000000000").await;
        eventually("its stream to end", || bed.server.streams() == 0).await;
    });
}

#[test]
fn a_visitor_who_breaks_off_while_nobody_reads_what_came_of_an_upgrade_is_let_go() {
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let fields = "connection: upgrade\r\nupgrade: mute";
        let _deaf = break_off_unread(&bed, "GET / HTTP/1.1", fields).await;
        // After it is known to have gone, what it had said may still be read for half a minute.
        let gone = async {
            while bed.server.streams() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, gone).await.unwrap();
    });
}

#[test]
fn an_upload_that_waits_for_leave_to_go_on_gets_it() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // It gives no leave itself, and answers when it has the body.
        let service = LocalService::each(|mut socket| async move {
            read_head(&mut socket).await;
            let mut body = [0; 4];
            socket.read_exact(&mut body).await.unwrap();
            let answer = [&b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"[..], &body].concat();
            socket.write_all(&answer).await.unwrap();
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        let host = bed.host("app");
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n"
        );
        visitor.write_all(head.as_bytes()).await.unwrap();
        let leave = soon("leave to go on", read_head(&mut visitor)).await;
        assert!(leave.starts_with("HTTP/1.1 100 "), "{leave}");
        visitor.write_all(b"body").await.unwrap();
        let head = soon("the answer", read_head(&mut visitor)).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut body = [0; 4];
        soon("the body", visitor.read_exact(&mut body)).await.unwrap();
        assert_eq!(&body, b"body");
    });
}

#[test]
fn answers_without_a_body_have_none() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let served = Arc::new(AtomicUsize::new(0));
        let connections = Arc::clone(&served);
        let service = LocalService::each(move |mut socket| {
            connections.fetch_add(1, Ordering::Relaxed);
            async move {
                loop {
                    let head = read_head(&mut socket).await;
                    let answer: &[u8] = match head.split(' ').nth(1) {
                        Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n",
                        Some("/304") => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
                        Some(_) => b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
                        None => return,
                    };
                    socket.write_all(answer).await.unwrap();
                }
            }
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let mut visitor = open(bed.http_addr()).await;
        for _ in 0..5 {
            for (method, path, status) in
                [(Method::GET, "/204", 204), (Method::GET, "/304", 304), (Method::HEAD, "/", 200)]
            {
                let asking = Request::builder().method(method).uri(path);
                let asking = asking.header(HOST, bed.host("app"));
                visitor.ready().await.unwrap();
                let answer = visitor.send_request(asking.body(Empty::<Bytes>::new()).unwrap());
                let answer = soon(path, answer).await.unwrap();
                assert_eq!(answer.status(), status);
                if path == "/" {
                    assert_eq!(answer.headers()[CONTENT_LENGTH], "9");
                }
                assert_eq!(collect(answer).await.body, "");
            }
        }
        // One connection was kept all the time, so no answer was taken for part of another.
        assert_eq!(served.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_early_hint_does_not_pass_for_the_answer() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::answering(
            b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        )
        .await;
        let _client = bed.http("app", service.addr()).await;
        let answer = bed.get("app", "/").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"));
    });
}

#[test]
fn one_request_cannot_be_read_as_two() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let host = bed.host("app");
        // Lengths that contradict each other are what request smuggling is made of. They may be refused or understood
        // by the rules, but the smuggled request must not be answered.
        for lengths in [
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            "content-length: 4\r\ncontent-length: 60\r\n",
            "transfer-encoding: xchunked\r\ncontent-length: 5\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        ] {
            let smuggled = format!("GET /smuggled HTTP/1.1\r\nhost: {host}\r\n\r\n");
            let asking = format!(
                "POST /echo HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lengths}\r\n0\r\n\r\n{smuggled}"
            );
            let answer = soon(lengths, raw(bed.http_addr(), asking.as_bytes())).await;
            let answer = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
            let answers = answer.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count();
            assert!(answers <= 1, "{lengths}{answer}");
            assert!(!answer.contains("GET /smuggled\n") && !answer.ends_with("GET /smuggled"));
        }
    });
}

#[test]
fn an_answer_in_chunks_is_whole_whatever_length_it_tells() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let answers: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 50\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nconnection: transfer-encoding\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        ];
        for answer in answers {
            let service = LocalService::answering(answer).await;
            let _client = bed.http("app", service.addr()).await;
            let answer = bed.get("app", "/").await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "0123456789"));
        }
    });
}

#[test]
fn large_heads_pass_and_larger_ones_are_refused() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let with_header = |bytes: usize| {
            let asking = Request::get("/head").header(HOST, bed.host("app"));
            let asking = asking.header("x-large", "x".repeat(bytes));
            let asking = asking.body(Empty::<Bytes>::new()).unwrap();
            async { collect(send(bed.http_addr(), asking).await.unwrap()).await }
        };
        let passed = soon("an answer", with_header(8_000)).await;
        assert_eq!(passed.status, StatusCode::OK);
        assert!(passed.body.contains(&"x".repeat(8_000)));
        let refused = soon("an answer", with_header(300_000)).await;
        assert_eq!(refused.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    });
}

#[test]
fn a_name_that_is_no_dns_label_is_refused() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for name in ["two words", "dot.dot", "-dash", &"x".repeat(64)] {
            let tunnel = Tunnel::http(name).local_addr("1");
            let client = bed.client().tunnel(tunnel).build().unwrap();
            let error = soon("the refusal", client.start()).await.unwrap_err();
            assert_eq!(error.kind(), ferrotunnel::ErrorKind::Refused, "{name}: {error}");
        }
        let mixed = Tunnel::http("Mixed-Case-1").local_addr("1");
        let client = bed.client().tunnel(mixed).build().unwrap();
        assert_eq!(client.start().await.unwrap().name, "mixed-case-1");
    });
}

#[test]
fn a_server_without_http_refuses_http_tunnels_and_serves_tcp() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.no_http()).await;
        let client = bed.client().tunnel(Tunnel::http("app").local_addr("1")).build().unwrap();
        let error = soon("the refusal", client.start()).await.unwrap_err();
        assert_eq!(error.kind(), ferrotunnel::ErrorKind::Refused);
        assert!(error.to_string().contains("HTTP"), "{error}");
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"x").await.unwrap();
        assert_eq!(soon("the echo", visitor.read_u8()).await.unwrap(), b'x');
    });
}
