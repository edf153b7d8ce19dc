//! Certificates of the built program: server and client as processes of their own.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

mod support;

use ferrotunnel_tests::{Authority, Identity};
use serde_json::Value;
use support::{Running, command};

/// A server on free ports that shows this certificate, and where clients dial.
fn server(identity: &Identity, more: &[&str]) -> (Running, String) {
    let fixed = ["--json", "--token", "s", "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
    let [cert, key] = [&identity.cert, &identity.key].map(|path| path.to_str().unwrap());
    let files = ["--tls-cert", cert, "--tls-key", key];
    let process = Running::start(&[&["server"][..], &fixed, &files, more].concat());
    let listening: Value = process.line().parse().unwrap();
    let addr = listening["tunnel_addr"].as_str().unwrap().to_owned();
    (process, addr)
}

#[test]
fn a_client_verifies_its_server_against_what_the_system_trusts() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let (_server, addr) = server(&trusted.server("127.0.0.1"), &[]);
    let client = |trusts: &Authority| {
        let mut client = command(&["tcp", "1", "--server", &addr, "--token", "s", "--tls-verify"]);
        client.env("SSL_CERT_FILE", trusts.file());
        client
    };
    let running = Running::spawn(client(&trusted));
    assert!(running.line().starts_with("tcp://"));

    // A client that never had a session ends by itself.
    let refused = client(&other).output().unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("was issued by none of the CAs that this client trusts"), "{stderr}");
    assert!(!stderr.contains("is the server running"), "{stderr}");
}

#[test]
fn both_sides_show_certificates_and_are_told_what_is_missing() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let wants = clients.file();
    let wants = ["--tls-client-ca", wants.to_str().unwrap()];
    let (server, addr) = server(&servers.server("tunnel.example"), &wants);
    let ca = servers.file();
    let client = ["tcp", "1", "--server", &addr, "--token", "s", "--tls-server-name"];
    let client = [&client[..], &["tunnel.example", "--tls-ca", ca.to_str().unwrap()]].concat();
    let refused = command(&client).output().unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("give --tls-cert and --tls-key"), "{stderr}");
    server.talk_with("the client shows no certificate");

    let Identity { cert, key, .. } = clients.client();
    let shows = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let running = Running::start(&[&client[..], &shows].concat());
    assert!(running.line().starts_with("tcp://"));
}
