//! HTTPS of the program, with a certificate that it made itself.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use std::net::SocketAddr;
use std::path::Path;

use ferrotunnel_tests::{SecureVisitor, Site, run};
use serde_json::Value;

use support::{Running, assert_refused, ferrotunnel, server};

#[test]
fn a_certificate_for_development_serves_visitors_and_clients_on_one_port() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        let dir = dir.to_str().unwrap();
        let made = ferrotunnel(&["--json", "cert", "dev", "app.localhost", "--dir", dir]);
        assert!(made.status.success(), "{made:?}");
        let event: Value = serde_json::from_slice(&made.stdout).unwrap();
        let hosts: Vec<_> = event["hosts"].as_array().unwrap().iter().collect();
        assert_eq!(hosts, ["localhost", "127.0.0.1", "::1", "app.localhost"]);
        let path = |what: &str| event[what].as_str().unwrap().to_owned();
        let (ca, cert, key) = (path("ca"), path("cert"), path("key"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }

        // An address of its own, for a port that is known.
        let addr = ferrotunnel_tests::LocalService::nobody().await.to_string();
        let mut args = server::Server::args(&addr, "127.0.0.1:0").to_vec();
        args.extend(["--https-bind", &addr, "--https-cert", &cert, "--https-key", &key]);
        args.push("--https-redirect");
        let process = Running::start(&args);
        let listening: Value = process.line().parse().unwrap();
        assert_eq!(listening["https_addr"], addr.as_str());
        assert_eq!(listening["tunnel_addr"], addr.as_str());
        let site = Site::start().await;
        let addr: SocketAddr = addr.parse().unwrap();
        let local = site.addr().to_string();
        let args =
            ["http", &local, "--server", &addr.to_string(), "--token", ferrotunnel_tests::TOKEN];
        let client = Running::start(&[&args[..], &["--name", "app"]].concat());
        assert_eq!(client.line().trim_end(), format!("https://app.localhost:{}/", addr.port()));
        let visitor = SecureVisitor::trusting(Path::new(&ca), &["h2"]);
        assert_eq!(visitor.get(addr, "app.localhost", "/hello").await.body, "hello");
        let http: SocketAddr = listening["http_addr"].as_str().unwrap().parse().unwrap();
        let answer = ferrotunnel_tests::get(http, "app.localhost", "/hello").await;
        assert_eq!(answer.status, 308);
    });
}

#[test]
fn a_local_service_shows_its_own_certificate_beside_the_server_s() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let made = |host: &str| {
            let dir = folder.path().join(host);
            let dir = dir.to_str().unwrap();
            let made = ferrotunnel(&["--json", "cert", "dev", host, "--dir", dir]);
            let event: Value = serde_json::from_slice(&made.stdout).unwrap();
            ["ca", "cert", "key"].map(|what| event[what].as_str().unwrap().to_owned())
        };
        let [_, cert, key] = made("app.localhost");
        let addr = ferrotunnel_tests::LocalService::nobody().await.to_string();
        let https = ["--https-bind", &addr, "--https-cert", &cert, "--https-key", &key];
        let server = server::Server::args(&addr, "127.0.0.1:0");
        let process = Running::start(&[&server[..], &https].concat());
        process.line();
        let site = Site::start().await;
        let local = site.addr().to_string();
        // Somebody else's server with HTTPS is a local service like any other.
        let [ca, cert, key] = made("vault.localhost");
        let inner = ferrotunnel_tests::LocalService::nobody().await.to_string();
        let https = ["--https-bind", &inner, "--https-cert", &cert, "--https-key", &key];
        let server = server::Server::args(&inner, "127.0.0.1:0");
        let service = Running::start(&[&server[..], &https].concat());
        service.line();
        let to =
            |server| ["--server", server, "--token", ferrotunnel_tests::TOKEN, "--name", "vault"];
        let behind = Running::start(&[&["http", &local][..], &to(&inner)].concat());
        behind.line();
        let client = Running::start(&[&["tls", &inner][..], &to(&addr)].concat());
        let addr: SocketAddr = addr.parse().unwrap();
        assert_eq!(client.line().trim_end(), format!("tls://vault.localhost:{}", addr.port()));
        let visitor = SecureVisitor::trusting(Path::new(&ca), &["h2"]);
        assert_eq!(visitor.get(addr, "vault.localhost", "/hello").await.body, "hello");
    });
}

#[test]
fn a_certificate_for_development_overwrites_nothing_and_is_for_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    assert!(ferrotunnel(&["cert", "dev", "--dir", dir]).status.success());
    let again = ferrotunnel(&["cert", "dev", "--dir", dir]);
    assert_refused(&again, 1, &["dev.key", "left as it is"]);
    for (host, word) in
        [("*.localhost", "no browser"), ("a b", "no name of a host"), ("", "no name")]
    {
        let refused = ferrotunnel(&["cert", "dev", host, "--dir", dir]);
        assert_refused(&refused, 2, &[word]);
    }
}

#[test]
fn https_without_a_certificate_says_where_to_get_one() {
    let refused = ferrotunnel(&["server", "--token", "s", "--https-bind", "127.0.0.1:0"]);
    assert_refused(&refused, 2, &["--https-cert", "--acme-dir", "cert dev"]);
    let refused = ferrotunnel(&["server", "--token", "s", "--https-redirect"]);
    assert_refused(&refused, 2, &["--https-redirect", "--https-bind"]);
}
