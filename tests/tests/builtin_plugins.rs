//! The plugins that come along, in a running server.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrotunnel::inspector::Filter;
use ferrotunnel::plugin::{
    AccessLog, CircuitBreaker, LogFormat, RateLimit, VisitorAuth, VisitorSecret,
};
use ferrotunnel::{Inspector, Tunnel};
use ferrotunnel_tests::{
    Answer, Carrier, LocalService, Site, TestBed, begin, eventually, open_http2, over_both,
    read_head, run, send, soon, with_plugin,
};
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

async fn ask(bed: &TestBed, path: &str, headers: &[(&str, &str)]) -> Answer {
    bed.ask(&bed.host("app"), path, headers).await
}

#[test]
fn visitors_need_their_secret_and_the_local_service_does_not_see_it() {
    over_both(async |carrier| {
        let secret = VisitorSecret::of("open sesame!").unwrap();
        let bed = TestBed::with(carrier, with_plugin(VisitorAuth::new([secret]))).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for wrong in ["Bearer open", "Bearer", "Basic b3Blbg==", ferrotunnel_tests::TOKEN] {
            let refused = ask(&bed, "/hello", &[("authorization", wrong)]).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{wrong}");
            assert_eq!(refused.ferrotunnel_error(), Some("rejected"));
            let challenges: Vec<_> = refused.headers.get_all("www-authenticate").iter().collect();
            assert_eq!(challenges.len(), 2, "{refused:?}");
        }
        let seen = ask(&bed, "/head", &[("authorization", "Bearer open sesame!")]).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert!(!seen.body.contains("sesame") && !seen.body.contains("authorization"), "{seen:?}");
        let both = [("ferrotunnel-secret", "open sesame!"), ("authorization", "Bearer theirs")];
        let seen = ask(&bed, "/head", &both).await.body;
        assert!(
            seen.contains("authorization: Bearer theirs") && !seen.contains("sesame"),
            "{seen}"
        );
    });
}

#[test]
fn requests_that_come_too_fast_are_told_to_wait() {
    over_both(async |carrier| {
        let limit = RateLimit::new().per_address(1);
        let bed = TestBed::with(carrier, with_plugin(limit)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut refused = None;
        soon("a refusal", async {
            while refused.is_none() {
                let answer = bed.get("app", "/hello").await;
                refused = (answer.status == StatusCode::TOO_MANY_REQUESTS).then_some(answer);
            }
        })
        .await;
        let refused = refused.unwrap();
        assert_eq!(refused.headers["retry-after"], "1");
        assert!(refused.body.contains("wait a moment"), "{refused:?}");
    });
}

#[test]
fn bodies_that_come_too_fast_wait_and_lose_nothing() {
    // What is beyond the first second takes as long again, at least.
    const RATE: u64 = 8 << 20;
    const BODY: u64 = 2 * RATE;
    run(async {
        let limit = RateLimit::new().bytes_per_tunnel(RATE);
        let bed = TestBed::with(Carrier::Tls, with_plugin(limit)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        for is_http2 in [false, true] {
            let began = Instant::now();
            let url = format!("http://{}/echo", bed.host("app"));
            let body: Vec<u8> = (0..BODY).map(|at| (at / 1_000) as u8).collect();
            let body = Bytes::from(body);
            let request = Request::post(url).header("host", bed.host("app"));
            let request = request.body(Full::new(body.clone())).unwrap();
            let response = if is_http2 {
                open_http2(bed.http_addr()).await.send_request(request).await
            } else {
                send(bed.http_addr(), request).await
            };
            // Up and down at once: each way has a rate of its own.
            let heard = soon("the echo", response.unwrap().into_body().collect()).await;
            assert!(heard.unwrap().to_bytes() == body);
            let least = Duration::from_secs_f64((BODY - RATE) as f64 / RATE as f64 * 0.9);
            assert!(began.elapsed() >= least, "{:?}", began.elapsed());
        }
    });
}

#[test]
fn a_visitor_beyond_its_rate_holds_up_nobody_else() {
    over_both(async |carrier| {
        // What comes in one piece lasts for minutes at this rate.
        let limit = RateLimit::new().bytes_per_address(16);
        let bed = TestBed::with(carrier, with_plugin(limit)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let many = 16 << 20;
        let mut slow = begin(bed.http_addr(), &bed.host("app"), &format!("/bytes/{many}")).await;
        soon("the first piece", slow.read_u8()).await.unwrap();

        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = socket.connect(bed.http_addr()).await.unwrap();
        let request = format!("GET /hello HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host("app"));
        for _ in 0..3 {
            other.write_all(request.as_bytes()).await.unwrap();
            let head = soon("the head", read_head(&mut other)).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let mut body = [0; 5];
            soon("the body", other.read_exact(&mut body)).await.unwrap();
            assert_eq!(&body, b"hello");
        }
        // Another request of the same visitor waits with its body, not with its head.
        let mut again = begin(bed.http_addr(), &bed.host("app"), "/hello").await;
        assert!(again.read_u8().now_or_never().is_none());

        // Both that wait leave at once, though nothing is read from their local service.
        drop((slow, again));
        eventually("the streams to end", || bed.server.streams() <= 1).await;
    });
}

#[test]
fn a_failing_service_gets_a_rest_and_comes_back() {
    over_both(async |carrier| {
        let breaker = CircuitBreaker::new(3, Duration::from_secs(3600));
        let bed = TestBed::with(carrier, with_plugin(breaker)).await;
        let nobody = LocalService::nobody().await;
        let client = bed.http("app", nobody).await;
        for _ in 0..3 {
            assert_eq!(bed.get("app", "/").await.status, StatusCode::BAD_GATEWAY);
        }
        let spared = bed.get("app", "/").await;
        assert_eq!(spared.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(spared.ferrotunnel_error(), Some("rejected"));
        assert!(spared.headers.contains_key("retry-after"), "{spared:?}");

        // A tunnel that is registered anew begins anew.
        client.shutdown().await.unwrap();
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn after_its_rest_a_service_that_answers_is_served_again() {
    run(async {
        let breaker = CircuitBreaker::new(1, Duration::from_millis(50));
        let bed = TestBed::with(Carrier::Tls, with_plugin(breaker)).await;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        drop(socket);
        let tunnel = Tunnel::http("app").local_addr(addr.to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        assert_eq!(bed.get("app", "/").await.status, StatusCode::BAD_GATEWAY);
        let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
        let app = axum::Router::new().fallback(|| async { "back" });
        tokio::spawn(async { axum::serve(listener, app).await });
        soon("the service to be back", async {
            while bed.get("app", "/").await.body != "back" {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(bed.get("app", "/").await.body, "back");
    });
}

async fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually("the lines", || read().lines().count() >= count).await;
    read().lines().map(str::to_owned).collect()
}

#[test]
fn the_access_log_has_a_line_for_each_request() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        for format in LogFormat::ALL {
            let log = AccessLog::to_file(&path, format).unwrap();
            let bed = TestBed::with(Carrier::Tls, |server| server.plugin(log).domain("localhost"));
            let bed = bed.await;
            let site = Site::start().await;
            let _client = bed.http("app", site.addr()).await;
            ask(&bed, "/hello?x=1", &[("referer", "http://a/"), ("user-agent", "cat\"s")]).await;
            bed.get("none", "/").await;
            let lines = lines(&path, 2).await;
            std::fs::remove_file(&path).unwrap();
            let (hello, none) = (&lines[0], &lines[1]);
            match format {
                LogFormat::Common => {
                    assert!(hello.starts_with("127.0.0.1 - - ["), "{hello}");
                    assert!(hello.ends_with("] \"GET /hello?x=1 HTTP/1.1\" 200 5"), "{hello}");
                    assert!(none.contains("\"GET / HTTP/1.1\" 404 "), "{none}");
                }
                LogFormat::Combined => {
                    assert!(hello.ends_with(" 200 5 \"http://a/\" \"cat\\x22s\""), "{hello}");
                    assert!(none.ends_with(" \"-\" \"-\""), "{none}");
                }
                _ => {
                    for part in [
                        "\"event\":\"request\"",
                        "\"tunnel\":\"app\"",
                        "\"status\":200",
                        "\"response_bytes\":5",
                        "\"complete\":true",
                        "\"path\":\"/hello?x=1\"",
                        "\"answered_by\":\"local-service\"",
                    ] {
                        assert!(hello.contains(part), "{part} is not in {hello}");
                    }
                    assert!(none.contains("\"tunnel\":null") && none.contains("\"status\":404"));
                }
            }
        }
    });
}

#[test]
fn the_access_log_has_a_line_for_what_no_plugin_was_asked_about() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::to_file(&path, LogFormat::Json).unwrap();
        let bed = TestBed::with(Carrier::Tls, with_plugin(log)).await;
        let many = "x: y\r\n".repeat(101);
        for (request, logged) in [
            (
                "GET /a HTTP/1.1\nhost: app\n\n".to_owned(),
                [r#""method":"GET","#, r#""error":"bad-request""#],
            ),
            ("\u{1}\r\n\r\n".to_owned(), [r#""method":null"#, r#""status":400"#]),
            (
                "GET /a<b HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
                [r#""path":"/a<b""#, r#""host":"a""#],
            ),
            (
                format!("GET / HTTP/1.1\r\nuser-agent: cat\r\n{many}\r\n"),
                [r#""status":431"#, r#""user_agent":"cat""#],
            ),
            (
                "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(),
                [r#""error":"bad-host""#, r#""status":400"#],
            ),
            (
                "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n".to_owned(),
                [r#""method":"CONNECT""#, r#""error":"connect-refused""#],
            ),
        ] {
            let mut socket = tokio::net::TcpStream::connect(bed.http_addr()).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4 << 10];
            let count = soon("an answer", socket.read(&mut answer)).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
            let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
            let line = lines(&path, 1).await.remove(0);
            // One line for one request.
            assert_eq!(line.matches("\"event\":\"request\"").count(), 1, "{line}");
            for part in [&logged[..], &[&format!("\"request_id\":\"{id}\"")]].concat() {
                assert!(line.contains(part), "{part} is not in {line}");
            }
            std::fs::write(&path, "").unwrap();
        }
    });
}

#[test]
fn one_id_joins_what_is_said_of_a_request() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::to_file(&path, LogFormat::Json).unwrap();
        let [at_server, at_client] = [Inspector::default(), Inspector::default()];
        let bed = TestBed::with(Carrier::Tls, |server| server.plugin(log).inspector(&at_server));
        let (bed, site) = (bed.await, Site::start().await);
        let nobody = LocalService::nobody().await;
        let client = bed.client().inspector(&at_client);
        let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
        let client = client.tunnel(Tunnel::http("dead").local_addr(nobody.to_string()));
        let client = client.build().unwrap();
        client.start().await.unwrap();

        let id = |answer: &Answer| answer.headers["x-request-id"].to_str().unwrap().to_owned();
        let shown = |inspector: &Inspector, id: &str| {
            let requests = inspector.list(&Filter::default()).requests;
            requests.into_iter().find(|one| one.request_id.as_deref() == Some(id))
        };
        // Passed on, so that the client and the local service have it as well.
        let answer = bed.get("app", "/").await;
        for inspector in [&at_server, &at_client] {
            let is_over = || shown(inspector, &id(&answer)).is_some_and(|one| one.state == "done");
            eventually("the request", is_over).await;
        }
        let line = lines(&path, 1).await.remove(0);
        assert!(line.contains(&format!("\"request_id\":\"{}\"", id(&answer))), "{line}");

        // Not answered by the local service: what a browser shows has it.
        let page = bed.ask(&bed.host("dead"), "/", &[("accept", "text/html")]).await;
        assert_eq!(page.status, StatusCode::BAD_GATEWAY);
        assert!(page.body.contains("<html") && page.body.contains(&id(&page)), "{}", page.body);
        let is_over = || shown(&at_server, &id(&page)).is_some_and(|one| one.state == "failed");
        eventually("the request that has failed", is_over).await;
        let line = lines(&path, 2).await.remove(1);
        assert!(line.contains(&format!("\"request_id\":\"{}\"", id(&page))), "{line}");
        assert!(line.contains("\"status\":502"), "{line}");

        // Sent nowhere: there is nothing of it to inspect.
        let page = bed.ask(&bed.host("none"), "/", &[("accept", "text/html")]).await;
        assert!(page.body.contains(&id(&page)), "{}", page.body);
        let line = lines(&path, 3).await.remove(2);
        assert!(line.contains(&format!("\"request_id\":\"{}\"", id(&page))), "{line}");
    });
}

#[test]
fn an_access_log_is_whole_when_its_server_has_ended() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::to_file(&path, LogFormat::Common).unwrap();
        let server = TestBed::server(Carrier::Tls).plugin(log).build().unwrap();
        let running = server.spawn().await.unwrap();
        let http = running.http_addr().unwrap();
        for _ in 0..20 {
            ferrotunnel_tests::get(http, "app.localhost", "/").await;
        }
        running.shutdown().await.unwrap();
        drop(server);
        eventually("every line", || std::fs::read_to_string(&path).unwrap().lines().count() == 20)
            .await;
    });
}

#[cfg(unix)]
#[test]
fn an_access_log_that_was_moved_away_is_made_anew() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::to_file(&path, LogFormat::Common).unwrap();
        let bed = TestBed::with(Carrier::Tls, with_plugin(log)).await;
        bed.get("app", "/").await;
        lines(&path, 1).await;
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        soon("a new file", async {
            while !path.exists() {
                bed.get("app", "/").await;
            }
        })
        .await;
    });
}
