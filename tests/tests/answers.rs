//! Answers that are the server's own: in the form that the visitor can make use of, with no more in them than the
//! visitor may know, under the pages of the operator and with a name for the logs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel::{ErrorPages, ErrorPagesError, Tunnel};
use ferrotunnel_tests::{
    Answer, LocalService, Site, TestBed, collect, over_both, raw, read_head, send, soon,
};
use http_body_util::Empty;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const PROGRAM: &str = "application/json";

async fn ask(bed: &TestBed, host: &str, headers: &[(&str, &str)]) -> Answer {
    bed.ask(host, "/some/path?with=query", headers).await
}

async fn accepting(bed: &TestBed, name: &str, accept: &str) -> Answer {
    ask(bed, &bed.host(name), &[("accept", accept)]).await
}

fn id_of(answer: &Answer) -> &str {
    answer.headers["x-request-id"].to_str().unwrap()
}

#[test]
fn each_visitor_gets_the_form_it_asks_for() {
    over_both(async |carrier| {
        let moment = Duration::from_millis(200);
        let bed = TestBed::with(carrier, |server| server.http_response_timeout(moment)).await;
        let nobody = LocalService::nobody().await;
        let silent = LocalService::each(async |mut socket| {
            let _ = socket.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let at = |name: &str, local: SocketAddr| Tunnel::http(name).local_addr(local.to_string());
        let client = bed.client().tunnel(at("down", nobody)).tunnel(at("slow", silent.addr()));
        let client = client
            .tunnel(at("closed", nobody).deny("127.0.0.0/8"))
            .tunnel(at("asks", nobody).bearer_token("sixteen-letters-or-more"))
            .tunnel(at("often", nobody).rate_limit(1, Duration::from_secs(3_600)));
        let client = client.build().unwrap();
        client.start().await.unwrap();
        // The one of this hour.
        accepting(&bed, "often", "*/*").await;
        for (name, status, kind) in [
            ("nobody", 404, "no-such-tunnel"),
            ("down", 502, "local-unreachable"),
            ("slow", 504, "timeout"),
            ("closed", 403, "address-not-allowed"),
            ("asks", 401, "unauthorized"),
            ("often", 429, "too-many-requests"),
        ] {
            let text = accepting(&bed, name, "*/*").await;
            let page = accepting(&bed, name, BROWSER).await;
            let problem = accepting(&bed, name, PROGRAM).await;
            for answer in [&text, &page, &problem] {
                assert_eq!(answer.status.as_u16(), status);
                assert_eq!(answer.ferrotunnel_error(), Some(kind));
                assert_eq!(answer.headers["cache-control"], "no-store");
                // What is behind the tunnel is not for visitors.
                for secret in ["127.0.0.1", &nobody.port().to_string(), "some/path", "os error"] {
                    assert!(!answer.body.contains(secret), "{secret} is in {}", answer.body);
                }
            }
            assert_eq!(text.headers["content-type"], "text/plain; charset=utf-8");
            assert!(!text.body.contains('<'), "{}", text.body);
            assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
            assert!(page.headers["content-security-policy"].to_str().unwrap().contains("'none'"));
            assert!(page.body.starts_with("<!doctype html>") && page.body.contains(id_of(&page)));
            assert_eq!(problem.headers["content-type"], "application/problem+json");
            for part in [
                format!("\"status\":{status},"),
                format!("\"error\":\"{kind}\""),
                format!("\"request_id\":\"{}\"}}", id_of(&problem)),
            ] {
                assert!(problem.body.contains(&part), "{part} is not in {}", problem.body);
            }
        }
    });
}

#[test]
fn a_404_does_not_tell_which_names_there_are() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| {
            server.domain("tunnels.example").visitor_grace(Duration::ZERO)
        })
        .await;
        let site = Site::start().await;
        let _client = bed.http("there", site.addr()).await;
        let was_there = bed.http("was", site.addr()).await;
        was_there.shutdown().await.unwrap();
        // One that was there, one that never was, one that cannot be, and the domain itself.
        let mut answers = Vec::new();
        for name in ["was", "not", "a..b", "x.there"] {
            let host = format!("{name}.tunnels.example");
            let answer = ask(&bed, &host, &[("x-request-id", "same")]).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{host}");
            assert!(!answer.body.replace(&host, "").contains("there"), "{}", answer.body);
            let mut headers = answer.headers.clone();
            headers.remove("date");
            headers.remove("content-length");
            answers.push((headers, answer.body.replace(&host, "HOST")));
        }
        for answer in &answers {
            assert_eq!(answer, &answers[0]);
        }
    });
}

#[test]
fn every_request_has_an_id_that_goes_all_the_way() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let _down = bed.http("down", LocalService::nobody().await).await;
        let head = async |headers: &[(&str, &str)]| {
            let mut asking = Request::get("/head").header(HOST, bed.host("app"));
            for (name, value) in headers {
                asking = asking.header(*name, *value);
            }
            let asking = asking.body(Empty::<Bytes>::new()).unwrap();
            collect(send(bed.http_addr(), asking).await.unwrap()).await
        };
        // One of its own is kept, where it can be written into any log.
        let answer = head(&[("x-request-id", "6f0c1bd7-6a2c-4d3f")]).await;
        assert_eq!(id_of(&answer), "6f0c1bd7-6a2c-4d3f");
        assert!(answer.body.contains("\nx-request-id: 6f0c1bd7-6a2c-4d3f\n"), "{}", answer.body);
        let down = ask(&bed, &bed.host("down"), &[("x-request-id", "mine")]).await;
        assert_eq!(id_of(&down), "mine");

        let long = "x".repeat(200);
        let mut seen = std::collections::HashSet::new();
        for headers in [
            &[][..],
            &[("x-request-id", "")],
            &[("x-request-id", "two words")],
            &[("x-request-id", "<script>")],
            &[("x-request-id", "one"), ("x-request-id", "two")],
            &[("x-request-id", &long)],
        ] {
            let answer = head(headers).await;
            let id = id_of(&answer).to_owned();
            assert_eq!(id.len(), 16, "{headers:?}: {id}");
            let lines = answer.body.lines().filter(|line| line.starts_with("x-request-id:"));
            assert_eq!(lines.collect::<Vec<_>>(), [format!("x-request-id: {id}")]);
            assert!(seen.insert(id));
        }
        // Where nothing could be made of the request, there is one all the same.
        let answer = raw(bed.http_addr(), b"GET / HTTP/1.1\nhost: app\n\n").await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("\r\nx-request-id: "), "{answer}");
    });
}

/// Requests that nobody can make out, what comes in front of `accept`, and the answer to them.
fn unreadable() -> Vec<(String, u16, &'static str)> {
    let long = "x".repeat(70 << 10);
    let many = (0..101).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let large = (0..70).map(|number| format!("x-{number}: {}\r\n", &long[..1000]));
    let large = large.collect::<String>();
    let with = |headers: &str| format!("GET / HTTP/1.1\r\nHEADERS{headers}\r\n");
    vec![
        (with("a: b\n"), 400, "bad-request"),
        (with(" a: b\r\n"), 400, "bad-request"),
        // These the framing lets through, and hyper does not.
        ("GET /a<b HTTP/1.1\r\nHEADERS\r\n".to_owned(), 400, "bad-request"),
        (with(&many), 431, "head-too-large"),
        (with(&large), 431, "head-too-large"),
        (with(&format!("x: {long}\r\n")), 431, "head-too-large"),
        (format!("GET /{long} HTTP/1.1\r\nHEADERS\r\n"), 414, "uri-too-long"),
    ]
}

/// What the server says to it, before it closes.
async fn said_to(bed: &TestBed, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(bed.http_addr()).await.unwrap();
    // It need not take all of what it refuses.
    let _ = socket.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    soon("the end", socket.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    (head.to_owned() + "\r\n", body.to_owned())
}

#[test]
fn what_is_no_request_gets_an_answer_in_the_form_it_asks_for() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for (request, status, kind) in unreadable() {
            for (accept, content_type) in [
                ("*/*", "text/plain; charset=utf-8"),
                (BROWSER, "text/html; charset=utf-8"),
                (PROGRAM, "application/problem+json"),
            ] {
                let headers = format!("host: app\r\nX-Request-Id: mine\r\naccept: {accept}\r\n");
                let (head, body) = said_to(&bed, &request.replace("HEADERS", &headers)).await;
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
                // Of a line without an end nothing behind is read.
                let is_read = status != 414;
                let content_type = if is_read { content_type } else { "text/plain; charset=utf-8" };
                for header in [
                    format!("ferrotunnel-error: {kind}"),
                    format!("content-type: {content_type}"),
                    format!("content-length: {}", body.len()),
                    "connection: close".to_owned(),
                ] {
                    assert!(head.contains(&format!("\r\n{header}\r\n")), "{header}: {head}");
                }
                assert_eq!(head.contains("\r\nx-request-id: mine\r\n"), is_read, "{head}");
                assert!(head.contains("\r\nx-request-id: "), "{head}");
                if is_read && accept == PROGRAM {
                    assert!(body.contains("\"request_id\":\"mine\""), "{body}");
                }
                if is_read && accept == BROWSER {
                    assert!(head.contains("\r\ncontent-security-policy: "), "{head}");
                }
            }
        }
        // A HEAD has no body, and what came before it has been answered.
        let two = "GET /hello HTTP/1.1\r\nhost: app.localhost\r\n\r\nHEAD / HTTP/1.1\r\na\r\n\r\n";
        let (head, rest) = said_to(&bed, two).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let (head, body) = rest.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("helloHTTP/1.1 400 ") && body.is_empty(), "{rest}");
    });
}

#[test]
fn a_head_that_is_too_long_over_http2_gets_an_answer_as_well() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let io = TokioIo::new(TcpStream::connect(bed.http_addr()).await.unwrap());
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut visitor, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let asking = Request::get(format!("http://{}/", bed.host("app")))
            .header("x-long", "x".repeat(70 << 10))
            .header("accept", PROGRAM)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = soon("an answer", visitor.send_request(asking)).await.unwrap();
        let answer = collect(answer).await;
        assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(answer.ferrotunnel_error(), Some("head-too-large"));
        assert!(answer.body.contains(id_of(&answer)), "{}", answer.body);
        // The others of the connection go on.
        let asking = Request::get(format!("http://{}/", bed.host("app")));
        let asking = asking.body(Empty::<Bytes>::new()).unwrap();
        let answer = soon("an answer", visitor.send_request(asking)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    });
}

#[test]
fn an_id_of_the_local_service_is_left_alone() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let service = LocalService::each(|mut socket| async move {
            let head = read_head(&mut socket).await;
            assert!(head.contains("\r\nx-request-id: from-outside\r\n"), "{head}");
            let answer = b"HTTP/1.1 204 No Content\r\nx-request-id: from-inside\r\n\r\n";
            socket.write_all(answer).await.unwrap();
        })
        .await;
        let _client = bed.http("app", service.addr()).await;
        let answer = ask(&bed, &bed.host("app"), &[("x-request-id", "from-outside")]).await;
        assert_eq!(id_of(&answer), "from-inside");
    });
}

fn pages(files: &[(&str, &str)]) -> (TempDir, Result<ErrorPages, ErrorPagesError>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let pages = ErrorPages::read(dir.path());
    (dir, pages)
}

#[test]
fn operators_have_pages_of_their_own() {
    over_both(async |carrier| {
        let (_dir, own) = pages(&[
            ("404.html", "<p id=lost>{{status}} {{title}}: {{detail}} {{request-id}}</p>"),
            ("default.html", "<p>{{ error }}, {{advice}}</p>"),
            ("README.txt", "{{this is no page}}"),
        ]);
        let bed = TestBed::with(carrier, |server| server.error_pages(own.unwrap())).await;
        let _client = bed.http("down", LocalService::nobody().await).await;
        let host = "a'b&c.localhost";
        let lost = ask(&bed, host, &[("accept", BROWSER), ("x-request-id", "the-id")]).await;
        assert_eq!(lost.status, StatusCode::NOT_FOUND);
        assert!(lost.body.starts_with("<p id=lost>404 No such tunnel: "), "{}", lost.body);
        assert!(lost.body.contains("a&#39;b&amp;c.localhost"), "{}", lost.body);
        assert!(lost.body.ends_with(" the-id</p>"), "{}", lost.body);
        let down = accepting(&bed, "down", BROWSER).await;
        assert!(down.body.starts_with("<p>local-unreachable, "), "{}", down.body);
        // Tools get what they always got.
        assert!(accepting(&bed, "down", "*/*").await.body.starts_with("Local service unreachable"));
        assert!(accepting(&bed, "down", PROGRAM).await.body.starts_with('{'));

        let (_dir, other) = pages(&[("502.html", "other")]);
        bed.server.set_error_pages(other.unwrap());
        assert_eq!(accepting(&bed, "down", BROWSER).await.body, "other");
        assert!(accepting(&bed, "lost", BROWSER).await.body.starts_with("<!doctype html>"));
        bed.server.set_error_pages(ErrorPages::default());
        assert!(accepting(&bed, "down", BROWSER).await.body.starts_with("<!doctype html>"));
    });
}

#[test]
fn pages_that_cannot_be_used_are_refused_by_name() {
    let large = "x".repeat((256 << 10) + 1);
    for (files, complaint) in [
        (&[][..], "there is no page in "),
        (&[("notes.txt", "x")], "name them after their status, like 404.html"),
        (&[("lost.html", "x")], "lost.html is the page of no error"),
        (&[("200.html", "x")], "200.html is the page of no error"),
        (&[("0404.html", "x")], "0404.html is the page of no error"),
        (&[("502.html", "{{port}}")], "502.html has {{port}} in it"),
        (&[("502.html", &large)], "502.html is larger than 256 KiB"),
    ] {
        let (_dir, pages) = pages(files);
        let error = pages.unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    let error = ErrorPages::read("/nowhere/at/all").unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere/at/all: "), "{error}");
}

#[test]
fn a_tunnel_that_has_all_its_visitors_says_when_to_come_back() {
    over_both(async |carrier| {
        let mut limits = ferrotunnel::LimitsConfig::default();
        limits.max_visitors_per_tunnel = Some(1);
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        let _inside = ferrotunnel_tests::begin(bed.http_addr(), &bed.host("app"), "/endless").await;
        for accept in ["*/*", BROWSER, PROGRAM] {
            let answer = accepting(&bed, "app", accept).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers["retry-after"], "1");
            assert_eq!(answer.ferrotunnel_error(), Some("over-limit"));
        }
    });
}

#[test]
fn a_local_service_that_takes_too_long_is_a_504() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| {
            server.http_response_timeout(Duration::from_millis(50))
        })
        .await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let asking = Request::get("/held").header(HOST, bed.host("app")).header("accept", PROGRAM);
        let asking = asking.body(Empty::<Bytes>::new()).unwrap();
        let answer = collect(soon("an answer", send(bed.http_addr(), asking)).await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.body.contains("\"title\":\"Gateway Timeout\""), "{}", answer.body);
    });
}

#[test]
fn a_local_service_that_is_down_is_told_as_such_each_time() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let _client = bed.http("down", LocalService::nobody().await).await;
        for _ in 0..50 {
            let asking = (0..20).map(|_| accepting(&bed, "down", "*/*"));
            for answer in futures_util::future::join_all(asking).await {
                assert_eq!(answer.ferrotunnel_error(), Some("local-unreachable"));
            }
        }
    });
}

/// A file may hold an answer, and nobody but its reader is to make anything of that.
#[test]
fn a_body_that_looks_like_a_refusal_comes_through_as_it_is() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        for status in ["400 Bad Request", "414 URI Too Long", "431 Request Header Fields Too Large"]
        {
            for (has_length, next) in
                [(true, ""), (false, ""), (true, "GET / HTTP/1.1\r\n"), (false, "G")]
            {
                let body = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let go_on = Arc::new(Notify::new());
                let service = {
                    let (body, go_on) = (body.clone(), Arc::clone(&go_on));
                    LocalService::each(move |mut socket| {
                        let (body, go_on) = (body.clone(), Arc::clone(&go_on));
                        async move {
                            read_head(&mut socket).await;
                            let length = format!("content-length: {}\r\n", body.len());
                            let length = if has_length { &length } else { "" };
                            let head =
                                format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{length}\r\n");
                            let _ = socket.write_all(head.as_bytes()).await;
                            go_on.notified().await;
                            let _ = socket.write_all(body.as_bytes()).await;
                        }
                    })
                    .await
                };
                let client = bed.http("app", service.addr()).await;
                let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
                // To HTTP/1.0 a body without a length goes as it is, not in chunks.
                // What follows is a request that has begun, and is not answered yet.
                let asking = format!("GET / HTTP/1.0\r\nhost: {}\r\n\r\n{next}", bed.host("app"));
                visitor.write_all(asking.as_bytes()).await.unwrap();
                let head = soon("the head", read_head(&mut visitor)).await;
                assert!(head.contains(" 200 OK\r\n"), "{head}");
                // Only now, so that it is written by itself.
                go_on.notify_one();
                let mut heard = String::new();
                soon("the body", visitor.read_to_string(&mut heard)).await.unwrap();
                assert_eq!(heard, body);
                client.shutdown().await.unwrap();
            }
        }
    });
}

#[test]
fn of_two_bad_requests_the_first_is_answered_for_what_is_wrong_with_it() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        // One that only hyper finds bad, and one that does not even come to it.
        let two = "GET /a<b HTTP/1.1\r\nhost: a\r\n\r\nGET /next HTTP/9\r\n\r\n";
        let (head, body) = said_to(&bed, two).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(body.contains("the target is no path"), "{body}");
    });
}
