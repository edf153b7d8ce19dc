//! The plugins of a server that the program switches on.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use ferrotunnel::{Client, Tunnel};
use ferrotunnel_tests::{Answer, Carrier, Site, TOKEN, begin, client_of, collect, run, send, soon};
use futures_util::FutureExt;
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use serde_json::Value;
use support::{Running, command};
use tokio::io::AsyncReadExt;

fn start(more: &[&str]) -> Running {
    let addrs = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--plaintext"];
    Running::start(&[&["server", "--json", "--token", TOKEN][..], &addrs, more].concat())
}

/// Where clients dial, and where visitors come in.
fn addrs(server: &Running) -> (SocketAddr, SocketAddr) {
    let listening: Value = server.line().parse().unwrap();
    let addr = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
    (addr("tunnel_addr"), addr("http_addr"))
}

/// The client that has `app`.
async fn app(tunnel: SocketAddr, local: SocketAddr) -> Client {
    let app = Tunnel::http("app").local_addr(local.to_string());
    let client = client_of(tunnel, Carrier::Plaintext).tunnel(app).build().unwrap();
    client.start().await.unwrap();
    client
}

async fn get(http: SocketAddr, secret: Option<&str>) -> Answer {
    let mut request = Request::get("/hello").header("host", "app.localhost");
    if let Some(secret) = secret {
        request = request.header("authorization", format!("Bearer {secret}"));
    }
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    collect(send(http, request).await.unwrap()).await
}

#[test]
fn a_secret_that_the_program_made_lets_visitors_in_and_the_access_log_tells_of_it() {
    let output = command(&["token", "visitor"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (stdout, said) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let lines: Vec<&str> = stdout.lines().collect();
    let [secret, "", "[server.plugins]", hashes] = lines[..] else { unreachable!("{lines:?}") };
    assert!(said.contains("not shown again") && !said.contains(secret), "{said}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ferrotunnel.toml");
    std::fs::write(&path, format!("[server.plugins]\n{hashes}\naccess-log-format = \"json\"\n"))
        .unwrap();
    let server = start(&["--config", path.to_str().unwrap(), "--access-log", "-"]);
    let (tunnel, http) = addrs(&server);
    run(async {
        let site = Site::start().await;
        let _client = app(tunnel, site.addr()).await;
        assert_eq!(get(http, None).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(get(http, Some(TOKEN)).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(get(http, Some(secret)).await.body, "hello");
    });
    for status in [401, 401, 200] {
        let line = server.line();
        assert!(!line.contains(secret), "{line}");
        let event: Value = line.parse().unwrap();
        assert_eq!((&event["event"], &event["path"]), (&"request".into(), &"/hello".into()));
        assert_eq!((&event["status"], &event["tunnel"]), (&status.into(), &"app".into()));
    }
}

#[test]
fn limits_and_the_breaker_are_switched_on_by_flags() {
    let server = start(&["--max-requests-per-address", "1"]);
    let (_, http) = addrs(&server);
    run(async { while get(http, None).await.status != StatusCode::TOO_MANY_REQUESTS {} });
    let server = start(&["--max-bytes-per-address", "16"]);
    let (tunnel, http) = addrs(&server);
    run(async {
        let site = Site::start().await;
        let _client = app(tunnel, site.addr()).await;
        let mut slow = begin(http, "app.localhost", "/bytes/4000000").await;
        soon("the first piece", slow.read_u8()).await.unwrap();
        // That piece lasts for minutes at this rate.
        let next = begin(http, "app.localhost", "/hello").await;
        for mut waiting in [slow, next] {
            let mut rest = Vec::new();
            let whole = waiting.read_to_end(&mut rest).now_or_never();
            assert!(whole.is_none() && rest.len() < 4_000_000, "{}", rest.len());
        }
    });
    let server = start(&["--circuit-breaker", "2", "--circuit-breaker-pause", "60m"]);
    let (tunnel, http) = addrs(&server);
    run(async {
        let nobody = ferrotunnel_tests::LocalService::nobody().await;
        let _client = app(tunnel, nobody).await;
        for status in [502, 502, 503, 503] {
            assert_eq!(get(http, None).await.status.as_u16(), status);
        }
    });
}

#[test]
fn settings_that_cannot_be_are_told_before_anything_listens() {
    let refused = |more: &[&str]| {
        let args = [&["server", "--token", TOKEN, "--bind", "127.0.0.1:0"][..], more].concat();
        let output = command(&args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = refused(&["--visitor-secret-hash", "the-secret-itself"]);
    assert!(code == 2 && said.contains("sha256:") && !said.contains("itself"), "{said}");
    let (code, said) = refused(&["--access-log-format", "json"]);
    assert!(code == 2 && said.contains("--access-log"), "{said}");
    let (code, said) = refused(&["--access-log", "/nowhere/access.log"]);
    assert!(code == 1 && said.contains("--access-log: cannot write to /nowhere"), "{said}");
}
