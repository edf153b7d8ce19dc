//! The log of the built program, and the id that joins it with the access log and the page that a visitor sees.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use bytes::Bytes;
use ferrotunnel_tests::{collect, run, send};
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use serde_json::Value;
use support::server::Server;
use support::{assert_refused, ferrotunnel};

#[test]
fn the_id_of_a_request_is_in_the_page_the_header_the_access_log_and_the_log() {
    run(async {
        let server = Server::with(&[
            "--access-log",
            "-",
            "--access-log-format",
            "json",
            "--log-format",
            "json",
            "--log-level",
            "warn,ferrotunnel_http=debug",
        ]);
        let request =
            Request::get("/").header("host", "app.localhost").header("accept", "text/html");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = collect(send(server.http, request).await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        let id = answer.headers["x-request-id"].to_str().unwrap();
        assert!(answer.body.contains(id), "{}", answer.body);
        let line: Value = server.process.line().parse().unwrap();
        assert_eq!((&line["event"], &line["request_id"]), (&"request".into(), &id.into()));
        // Every line is an object, and nothing is logged that is finer than was asked for.
        let event: Value = server.process.talk_with("a request was not forwarded").parse().unwrap();
        assert_eq!((&event["level"], &event["request"]), (&"DEBUG".into(), &id.into()));
        assert_eq!(event["target"], "ferrotunnel_http::plugged");
        assert!(event["visitor"].as_str().unwrap().starts_with("127.0.0.1:"));
        // What is no request has an id, too.
        let unread = refuse(server.http).await;
        let line: Value = server.process.line().parse().unwrap();
        assert!(unread.contains(line["request_id"].as_str().unwrap()), "{unread} {line}");
        assert_eq!(line["request_line"], "GET /\u{1}");
    });
}

/// Sends what is no request.
async fn refuse(http: std::net::SocketAddr) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(http).await.unwrap();
    socket.write_all(b"GET /\x01\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_level_with_a_typing_error_is_told() {
    for level in ["inf", "info,ferrotunnel_core=loud"] {
        assert_refused(
            &ferrotunnel(&["version", "--log-level", level]),
            2,
            &["--log-level", "none of"],
        );
    }
}
