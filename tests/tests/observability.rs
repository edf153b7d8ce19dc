//! What a server says of itself: metrics and the admin interface, asked over real sockets while real traffic passes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use std::net::SocketAddr;
use std::time::Duration;

use ferrotunnel::{Retry, Server, ServerMetrics, Tunnel, observability};
use ferrotunnel_tests::{
    Authority, Carrier, LocalService, Scrape, Site, TOKEN, TestBed, over_both, raw, run, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn bed(carrier: Carrier) -> TestBed {
    TestBed::with(carrier, |server| server.admin_bind("127.0.0.1:0")).await
}

fn admin(bed: &TestBed) -> SocketAddr {
    bed.server.admin_addr().unwrap()
}

/// The status, the head and the body of what that address answers.
async fn ask(admin: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    let answer = soon("an answer", raw(admin, request.as_bytes())).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn scrape(bed: &TestBed) -> Scrape {
    scrape_of(admin(bed)).await
}

async fn scrape_of(admin: SocketAddr) -> Scrape {
    let (status, head, body) = ask(admin, "/metrics", "host: localhost\r\n").await;
    assert_eq!(status, 200);
    let form = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(form), "{head}");
    Scrape::read(&body)
}

/// Scrapes until the sample has that value.
async fn until(bed: &TestBed, sample: &str, value: f64) -> Scrape {
    soon(sample, async {
        loop {
            let scrape = scrape(bed).await;
            if scrape.value(sample) == value {
                return scrape;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Every family moves with what it counts.
#[test]
fn counters_move_with_traffic() {
    over_both(async |carrier| {
        let bed = bed(carrier).await;
        let before = scrape(&bed).await;
        assert_eq!(before.value("ferrotunnel_sessions"), 0.0);
        assert_eq!(before.value("ferrotunnel_tunnels{kind=\"http\"}"), 0.0);

        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let now = until(&bed, "ferrotunnel_sessions", 1.0).await;
        assert_eq!(now.value("ferrotunnel_handshakes_total{result=\"session\"}"), 1.0);
        assert_eq!(now.value("ferrotunnel_tunnels{kind=\"http\"}"), 1.0);

        assert_eq!(bed.get("app", "/").await.status, 200);
        let sample = "ferrotunnel_http_request_duration_seconds_count{tunnel=\"app\"}";
        let now = until(&bed, sample, 1.0).await;
        let requests = |status| {
            format!(
                "ferrotunnel_http_requests_total{{method=\"GET\",status=\"{status}\",tunnel=\"app\"}}"
            )
        };
        assert_eq!(now.value(&requests("2xx")), 1.0);
        let sample = "ferrotunnel_http_time_to_first_byte_seconds_count{tunnel=\"app\"}";
        assert_eq!(now.value(sample), 1.0);
        let of_app =
            |name: &str, more: &str| format!("{name}{{{more}kind=\"http\",tunnel=\"app\"}}");
        assert_eq!(now.value(&of_app("ferrotunnel_streams_opened_total", "")), 1.0);
        for direction in ["direction=\"in\",", "direction=\"out\","] {
            let sample = of_app("ferrotunnel_tunnel_bytes_total", direction);
            assert!(now.value(&sample) > 20.0, "{sample}: {now:?}");
        }

        // For nobody, in a method that nobody knows.
        let request = b"STRANGE / HTTP/1.1\r\nhost: nobody.localhost\r\nconnection: close\r\n\r\n";
        soon("an answer", raw(bed.http_addr(), request)).await.unwrap();
        let sample = "ferrotunnel_http_requests_total{method=\"other\",status=\"4xx\",tunnel=\"\"}";
        let now = until(&bed, sample, 1.0).await;
        assert_eq!(now.value("ferrotunnel_http_refusals_total{kind=\"no-such-tunnel\"}"), 1.0);

        let _dead = bed.http("dead", LocalService::nobody().await).await;
        assert_eq!(bed.get("dead", "/").await.status, 502);
        let sample = "ferrotunnel_http_refusals_total{kind=\"local-unreachable\"}";
        let now = until(&bed, sample, 1.0).await;
        let sample = "ferrotunnel_streams_reset_total{by=\"client\",code=\"local-unreachable\"}";
        assert_eq!(now.value(sample), 1.0);
        let sample =
            "ferrotunnel_http_requests_total{method=\"GET\",status=\"5xx\",tunnel=\"dead\"}";
        assert_eq!(now.value(sample), 1.0);

        let wrong = bed.client().token("not-that-one-at-all").retry(Retry::Never);
        let wrong = wrong.tunnel(Tunnel::http("x").local_addr("127.0.0.1:1")).build().unwrap();
        soon("the refusal", wrong.start()).await.unwrap_err();
        until(&bed, "ferrotunnel_handshakes_total{result=\"wrong-token\"}", 1.0).await;
    });
}

/// Counters are sampled while a connection lives, and not at its end.
#[test]
fn bytes_are_counted_while_their_stream_is_open() {
    over_both(async |carrier| {
        let bed = bed(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let port = public.port();
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(&[7; 1_000]).await.unwrap();
        soon("the echo", visitor.read_exact(&mut [0; 1_000])).await.unwrap();
        let open = format!("ferrotunnel_streams{{kind=\"tcp\",tunnel=\"{port}\"}}");
        let now = until(&bed, &open, 1.0).await;
        for direction in ["in", "out"] {
            let labels = format!("direction=\"{direction}\",kind=\"tcp\",tunnel=\"{port}\"");
            let sample = format!("ferrotunnel_tunnel_bytes_total{{{labels}}}");
            assert_eq!(now.value(&sample), 1_000.0, "{sample}");
        }
        drop(visitor);
        let now = until(&bed, &open, 0.0).await;
        let opened = format!("ferrotunnel_streams_opened_total{{kind=\"tcp\",tunnel=\"{port}\"}}");
        assert_eq!(now.value(&opened), 1.0);
    });
}

#[test]
fn visitors_with_a_carrier_to_themselves_are_counted_too() {
    over_both(async |carrier| {
        let bed = bed(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.direct(echo.addr()).await;
        let now = scrape(&bed).await;
        assert!(now.value("ferrotunnel_direct_carriers{state=\"waiting\"}") >= 1.0, "{now:?}");
        assert!(now.value("ferrotunnel_handshakes_total{result=\"direct\"}") >= 1.0, "{now:?}");
        // Beyond what is copied before the kernel moves it.
        let (mut visitor, bytes) = (TcpStream::connect(public).await.unwrap(), vec![7; 2 << 20]);
        let (mut reading, mut writing) = visitor.split();
        let mut back = vec![0; bytes.len()];
        let (read, written) = soon("the echo", async {
            tokio::join!(reading.read_exact(&mut back), writing.write_all(&bytes))
        })
        .await;
        read.unwrap();
        written.unwrap();
        until(&bed, "ferrotunnel_direct_carriers{state=\"serving\"}", 1.0).await;
        for direction in ["in", "out"] {
            let port = public.port();
            let labels = format!("direction=\"{direction}\",kind=\"tcp\",tunnel=\"{port}\"");
            let sample = format!("ferrotunnel_tunnel_bytes_total{{{labels}}}");
            until(&bed, &sample, (2 << 20) as f64).await;
        }
    });
}

/// What goes on is seen, and who leaves before there is an answer is counted as that.
#[test]
fn a_request_that_waits_is_open_and_one_that_is_given_up_has_no_status() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let silent = LocalService::each(|mut socket| async move {
            let _ = socket.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let _client = bed.http("slow", silent.addr()).await;
        let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host("slow"));
        visitor.write_all(request.as_bytes()).await.unwrap();
        until(&bed, "ferrotunnel_http_requests_open", 1.0).await;
        drop(visitor);
        let sample =
            "ferrotunnel_http_requests_total{method=\"GET\",status=\"none\",tunnel=\"slow\"}";
        until(&bed, sample, 1.0).await;
        until(&bed, "ferrotunnel_http_requests_open", 0.0).await;
    });
}

#[test]
fn limits_that_are_met_and_certificates_are_shown() {
    run(async {
        let ca = Authority::new("the CA");
        let identity = ca.server("app.localhost");
        let bed = TestBed::with(Carrier::Tls, |server| {
            let mut limits = ferrotunnel::LimitsConfig::default();
            limits.max_visitors_per_tunnel = Some(1);
            server
                .admin_bind("127.0.0.1:0")
                .limits(limits)
                .https_bind("127.0.0.1:0")
                .https_identity_files(&identity.cert, &identity.key)
        })
        .await;
        let now = scrape(&bed).await;
        let expiry =
            now.value("ferrotunnel_certificate_expiry_timestamp_seconds{host=\"app.localhost\"}");
        assert!(expiry > now.value("process_start_time_seconds"), "{now:?}");

        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut first = TcpStream::connect(public).await.unwrap();
        ferrotunnel_tests::says_and_hears(&mut first).await;
        // It may be turned away before it knows that it has come in.
        if let Ok(mut second) = TcpStream::connect(public).await {
            let _ = soon("the end", second.read(&mut [0])).await;
        }
        until(&bed, "ferrotunnel_limits_hit_total{limit=\"visitors-per-tunnel\"}", 1.0).await;
    });
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_and_the_program_are_told_of() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let now = scrape(&bed).await;
        for sample in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_start_time_seconds",
        ] {
            assert!(now.value(sample) > 0.0, "{sample}: {now:?}");
        }
        assert!(now.value("process_resident_memory_bytes") > 1_000_000.0);
        let version = env!("CARGO_PKG_VERSION");
        let sample = format!("ferrotunnel_build_info{{version=\"{version}\"}}");
        assert_eq!(now.value(&sample), 1.0);
    });
}

#[test]
fn two_servers_in_one_process_stay_apart() {
    run(async {
        let (one, other) = (bed(Carrier::Tls).await, bed(Carrier::Tls).await);
        let site = Site::start().await;
        let _client = one.http("app", site.addr()).await;
        assert_eq!(one.get("app", "/").await.status, 200);
        until(&one, "ferrotunnel_sessions", 1.0).await;
        let sample =
            "ferrotunnel_http_requests_total{method=\"GET\",status=\"2xx\",tunnel=\"app\"}";
        until(&one, sample, 1.0).await;
        let now = scrape(&other).await;
        assert_eq!(now.value("ferrotunnel_sessions"), 0.0);
        assert_eq!(now.value(sample), 0.0);
    });
}

/// Whoever embeds a server has a registry already.
#[test]
fn metrics_go_into_a_registry_that_is_passed_in() {
    run(async {
        let metrics = ServerMetrics::default();
        let mut registry = observability::Registry::default();
        metrics.register(&mut registry);
        let text = |registry: &_| {
            let mut text = String::new();
            observability::encode(&mut text, registry).unwrap();
            Scrape::read(&text)
        };
        assert!(!text(&registry).samples.contains_key("ferrotunnel_sessions"));
        let bed = TestBed::with(Carrier::Tls, |server| server.metrics(&metrics)).await;
        assert!(bed.server.admin_addr().is_none());
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/").await.status, 200);
        let now = text(&registry);
        assert_eq!(now.value("ferrotunnel_sessions"), 1.0);
        let sample =
            "ferrotunnel_http_requests_total{method=\"GET\",status=\"2xx\",tunnel=\"app\"}";
        assert_eq!(now.value(sample), 1.0);
        soon("the shutdown", bed.server.shutdown()).await.unwrap();
        // It does not keep what it has read.
        assert!(!text(&registry).samples.contains_key("ferrotunnel_sessions"));
    });
}

#[test]
fn the_api_says_who_is_there() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (status, head, body) =
            ask(admin(&bed), "/api/v1/sessions", "host: 127.0.0.1\r\n").await;
        assert_eq!((status, body.as_str()), (200, "{\"sessions\":[]}"));
        assert!(head.contains("content-type: application/json"), "{head}");
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        for (path, words) in [
            ("/api/v1/status", vec!["\"phase\":\"ready\"", "\"sessions\":1", "\"tunnels\":1"]),
            (
                "/api/v1/sessions",
                vec!["\"address\":\"127.0.0.1:", "\"software\":", "\"tunnels\":1"],
            ),
            ("/api/v1/tunnels", vec!["\"name\":\"app\"", "\"app.localhost\"", "\"kind\":\"http\""]),
        ] {
            let (status, _, body) = ask(admin(&bed), path, "host: 127.0.0.1\r\n").await;
            assert_eq!(status, 200);
            for word in words {
                assert!(body.contains(word), "{word} is not in {path}: {body}");
            }
            assert!(!body.contains(TOKEN), "{body}");
        }
        soon("the shutdown", client.shutdown()).await.unwrap();
        assert_eq!(ask(admin(&bed), "/api/v1/nothing", "host: 127.0.0.1\r\n").await.0, 404);
    });
}

#[test]
fn readiness_ends_when_a_drain_begins() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let admin = admin(&bed);
        let local = "host: localhost\r\n";
        let (status, _, body) = ask(admin, "/readyz", local).await;
        assert_eq!((status, body.as_str()), (200, "ready\n"));
        let silent = LocalService::echo().await;
        let (_client, public) = bed.tcp(silent.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        ferrotunnel_tests::says_and_hears(&mut visitor).await;
        // It lasts for as long as the visitor stays.
        let draining = tokio::spawn(bed.server.shutdown());
        soon("the drain", async { while ask(admin, "/readyz", local).await.0 == 200 {} }).await;
        let (status, _, body) = ask(admin, "/readyz", local).await;
        assert_eq!((status, body.as_str()), (503, "draining\n"));
        assert_eq!(ask(admin, "/healthz", local).await.0, 200);
        drop(visitor);
        soon("the end", draining).await.unwrap().unwrap();
        soon("the port to be free", async {
            while TcpStream::connect(admin).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

#[test]
fn pages_of_others_and_names_that_strangers_make_are_refused() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let admin = admin(&bed);
        let port = admin.port();
        for path in ["/healthz", "/metrics", "/api/v1/status", "/nothing"] {
            for headers in [
                "host: evil.example\r\n",
                "host: localhost.evil.example\r\n",
                "host: localhost\r\nhost: localhost\r\n",
                "host: localhost\r\norigin: http://evil.example\r\n",
                "host: localhost\r\norigin: null\r\n",
                &format!("host: localhost:{port}\r\norigin: http://localhost:1\r\n"),
            ] {
                let (status, head, body) = ask(admin, path, headers).await;
                assert!([400, 403].contains(&status), "{path} {headers}: {head} {body}");
                assert!(!head.to_lowercase().contains("access-control"), "{head}");
            }
        }
        let same = format!("host: localhost:{port}\r\norigin: http://localhost:{port}\r\n");
        let (status, head, _) = ask(admin, "/healthz", &same).await;
        assert_eq!(status, 200);
        assert!(!head.to_lowercase().contains("access-control"), "{head}");
        assert!(head.contains("cache-control: no-store"), "{head}");
    });
}

#[test]
fn with_a_token_only_who_shows_it_is_answered() {
    run(async {
        let bed = TestBed::with(Carrier::Tls, |server| {
            server.admin_bind("0.0.0.0:0").admin_token("the-admins-own-secret")
        })
        .await;
        let admin = SocketAddr::from(([127, 0, 0, 1], admin(&bed).port()));
        for headers in [
            "",
            "authorization: Bearer the-admins-own-secreT\r\n",
            "authorization: Bearer \r\n",
            "authorization: Basic the-admins-own-secret\r\n",
            "authorization: Bearer x\r\nauthorization: Bearer the-admins-own-secret\r\n",
        ] {
            for path in ["/healthz", "/metrics", "/api/v1/sessions"] {
                let headers = format!("host: 192.0.2.1\r\n{headers}");
                let (status, head, _) = ask(admin, path, &headers).await;
                assert_eq!(status, 401, "{headers}");
                assert!(head.contains("www-authenticate: Bearer"), "{head}");
            }
        }
        let headers = "host: 192.0.2.1\r\nauthorization: bearer the-admins-own-secret\r\n";
        assert_eq!(ask(admin, "/metrics", headers).await.0, 200);
        let headers = "host: evil.example\r\nauthorization: bearer the-admins-own-secret\r\n";
        assert_eq!(ask(admin, "/metrics", headers).await.0, 403);
    });
}

#[test]
fn beyond_loopback_a_server_without_a_token_does_not_start() {
    let server = || Server::builder().token(TOKEN);
    let words = server().admin_bind("0.0.0.0:0").build().unwrap_err().to_string();
    assert!(words.contains("admin_bind") && words.contains("--admin-token-file"), "{words}");
    let words = server().admin_token("a-long-enough-secret").build().unwrap_err().to_string();
    assert!(words.contains("admin_bind"), "{words}");
    let words = server().admin_bind("nowhere").build().unwrap_err().to_string();
    assert!(words.contains("admin_bind"), "{words}");
    server().admin_bind("0.0.0.0:0").admin_token("a-long-enough-secret").build().unwrap();
}
