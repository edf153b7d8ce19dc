//! What the built program does when it is told to stop while visitors are busy.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::net::SocketAddr;

use ferrotunnel_tests::{LocalService, Site, begin, get, run, says_and_hears, soon};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::header::{CONNECTION, HOST};
use support::server::{Server, host, http_client, tcp_client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than all buffers on the way hold.
const DOWNLOAD: usize = 64 << 20;

async fn until_refused(addr: SocketAddr) {
    soon("the door to close", async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A visitor of an echo that has been served, and is still there.
async fn visitor_of(public: SocketAddr) -> TcpStream {
    let mut visitor = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut visitor).await;
    visitor
}

#[test]
fn a_server_finishes_downloads_and_requests_and_takes_nobody_new() {
    run(async {
        let mut server = Server::start();
        let site = Site::start().await;
        let _client = http_client(server.tunnel, "app", site.addr(), &[]);
        let http = server.http;
        let mut download = begin(http, &host("app"), &format!("/bytes/{DOWNLOAD}")).await;
        let held = tokio::spawn(async move { get(http, &host("app"), "/held").await });
        site.held(1).await;

        server.process.signal("TERM");
        server.process.talk_with("for 30s at most; a second Ctrl-C ends at once");
        for addr in [http, server.tunnel] {
            until_refused(addr).await;
        }
        site.release();
        let held = soon("the held answer", held).await.unwrap();
        assert_eq!((held.status.as_u16(), held.body.as_str()), (200, "released"));
        assert_eq!(held.headers[CONNECTION], "close");
        let mut bytes = vec![0; DOWNLOAD];
        soon("the download", download.read_exact(&mut bytes)).await.unwrap();
        let pattern = Site::pattern();
        assert!(bytes.chunks(pattern.len()).all(|chunk| *chunk == pattern[..chunk.len()]));
        assert_eq!(soon("its end", download.read(&mut [0])).await.unwrap(), 0);

        assert_eq!(server.process.ended().code(), Some(0));
        let talk = server.process.rest_of_stderr();
        assert!(!talk.contains("cut"), "{talk}");
    });
}

#[test]
fn a_client_finishes_downloads_too() {
    run(async {
        let server = Server::start();
        let site = Site::start().await;
        let mut client = http_client(server.tunnel, "app", site.addr(), &[]);
        let mut download = begin(server.http, &host("app"), &format!("/bytes/{DOWNLOAD}")).await;

        client.signal("TERM");
        client.talk_with("for 30s at most");
        soon("a refusal", async {
            while get(server.http, &host("app"), "/hello").await.status == 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut bytes = vec![0; DOWNLOAD];
        soon("the download", download.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(client.ended().code(), Some(0));
        let talk = client.rest_of_stderr();
        assert!(!talk.contains("cut"), "{talk}");
    });
}

#[test]
fn a_second_signal_ends_a_client_at_once() {
    run(async {
        let server = Server::start();
        let echo = LocalService::echo().await;
        let (mut client, public) = tcp_client(server.tunnel, echo.addr(), &[]);
        let mut visitor = visitor_of(public).await;
        client.signal("INT");
        client.talk_with("a second Ctrl-C ends at once");
        says_and_hears(&mut visitor).await;
        client.signal("TERM");
        assert_eq!(client.ended().code(), Some(1));
        assert!(client.rest_of_stderr().contains("stopped before everything open was finished"));
    });
}

#[test]
fn what_a_server_has_to_cut_is_counted() {
    run(async {
        for (streams, more) in [(1, "multiplexed"), (3, "multiplexed"), (3, "direct")] {
            let mut server = Server::with(&["--drain-timeout", "700ms"]);
            let echo = LocalService::echo().await;
            let more = ["--streams", more];
            let (_client, public) = tcp_client(server.tunnel, echo.addr(), &more);
            let mut visitors = Vec::new();
            for _ in 0..streams {
                visitors.push(visitor_of(public).await);
            }
            server.process.signal("TERM");
            assert_eq!(server.process.ended().code(), Some(0));
            let verb = if streams == 1 { "stream was" } else { "streams were" };
            let cut = format!("{streams} {verb} not finished after 700ms and cut");
            let talk = server.process.rest_of_stderr();
            assert!(talk.contains(&cut), "{cut:?} is not in {talk}");
            for mut visitor in visitors {
                // Not a clean end, which it could take for one that was meant.
                soon("the cut", visitor.read_u8()).await.unwrap_err();
            }
        }
    });
}

#[test]
fn a_request_that_a_server_has_to_cut_gets_an_answer_that_says_so() {
    run(async {
        let mut server = Server::with(&["--drain-timeout", "500ms"]);
        let site = Site::start().await;
        let _client = http_client(server.tunnel, "app", site.addr(), &[]);
        let http = server.http;
        let held = tokio::spawn(async move { get(http, &host("app"), "/held").await });
        site.held(1).await;
        server.process.signal("TERM");
        let held = soon("an answer", held).await.unwrap();
        assert_eq!((held.status.as_u16(), held.ferrotunnel_error()), (502, Some("session-lost")));
        assert_eq!(server.process.ended().code(), Some(0));
        let talk = server.process.rest_of_stderr();
        assert!(talk.contains("1 stream was not finished after 500ms and cut"), "{talk}");
    });
}

#[test]
fn what_a_client_has_to_cut_is_counted() {
    run(async {
        let server = Server::start();
        let echo = LocalService::echo().await;
        let more = ["--drain-timeout", "300ms", "--streams", "multiplexed"];
        let (mut client, public) = tcp_client(server.tunnel, echo.addr(), &more);
        let _visitors = [visitor_of(public).await, visitor_of(public).await];
        client.signal("TERM");
        assert_eq!(client.ended().code(), Some(0));
        let talk = client.rest_of_stderr();
        assert!(talk.contains("2 streams were not finished after 300ms and cut"), "{talk}");
    });
}

#[test]
fn a_visitor_that_is_already_in_is_served_and_asked_to_go() {
    run(async {
        let mut server = Server::start();
        let site = Site::start().await;
        let _client = http_client(server.tunnel, "app", site.addr(), &[]);
        // One that rests between two requests, and one that has only begun to ask.
        let mut resting = ferrotunnel_tests::open(server.http).await;
        let asking =
            || Request::get("/hello").header(HOST, host("app")).body(Empty::<bytes::Bytes>::new());
        let answer = resting.send_request(asking().unwrap()).await.unwrap();
        assert!(!answer.headers().contains_key(CONNECTION));
        answer.into_body().collect().await.unwrap();
        let mut fresh = TcpStream::connect(server.http).await.unwrap();
        fresh.write_all(b"GE").await.unwrap();
        // Accepted after it, so it is in.
        assert_eq!(get(server.http, &host("app"), "/hello").await.body, "hello");

        server.process.signal("TERM");
        until_refused(server.http).await;
        let asking = format!("T /hello HTTP/1.1\r\nhost: {}\r\n\r\n", host("app"));
        fresh.write_all(asking.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("an answer", fresh.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        soon("the end of one that rests", async {
            while resting.ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(server.process.ended().code(), Some(0));
    });
}
