//! The admin interface of the built program, at either end: what is wished for there, the program does.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use ferrotunnel_tests::{LocalService, TOKEN, public_addr, run};
use serde_json::Value;
use support::files::Files;
use support::server::Server;
use support::{PATIENCE, Running, assert_refused, command};

/// What an admin interface answers.
fn ask(at: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        "host: localhost\r\nconnection: close\r\nx-ferrotunnel-action: 1\r\ncontent-length: 0";
    socket.write_all(format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A server by a settings file, and where it is asked.
fn server(file: &str) -> (Running, SocketAddr) {
    let process = Running::spawn(command(&["server", "--json", "--config", file]));
    let listening: Value = process.line().parse().unwrap();
    let admin = listening["admin_addr"].as_str().unwrap().parse().unwrap();
    (process, admin)
}

#[test]
fn a_server_that_is_asked_reads_its_file_again_and_says_what_is_wrong() {
    let files = Files::new();
    let settings = |more: &str| files.server(&format!("admin-bind = '127.0.0.1:0'\n{more}"));
    let file = settings("");
    let (_process, admin) = server(&file);
    let (status, answer) = ask(admin, "POST", "/api/v1/reload");
    assert_eq!(status, 200, "{answer}");
    settings("domain = 'other.example'");
    let (status, answer) = ask(admin, "POST", "/api/v1/reload");
    assert!(status == 200 && answer.contains("after a restart: domain"), "{answer}");
    settings("bnid = 1");
    let (status, answer) = ask(admin, "POST", "/api/v1/reload");
    assert_eq!(status, 409, "{answer}");
    let answer: Value = answer.parse().unwrap();
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{file}:6:1: unknown key \"bnid\"")), "{detail}");
    let (_, status) = ask(admin, "GET", "/api/v1/status");
    assert!(status.contains(&format!("\"config_file\":\"{file}\"")), "{status}");
}

#[test]
fn a_server_that_is_asked_to_drain_ends_well() {
    let files = Files::new();
    let (mut process, admin) = server(&files.server("admin-bind = '127.0.0.1:0'"));
    let (status, answer) = ask(admin, "POST", "/api/v1/drain");
    assert_eq!(status, 200, "{answer}");
    assert!(process.ended().success());
}

#[test]
fn a_server_without_a_file_reads_its_certificates_again() {
    let bind = "127.0.0.1:0";
    let args = [&Server::args(bind, bind)[..], &["--admin-bind", bind]].concat();
    let process = Running::spawn(command(&args));
    let listening: Value = process.line().parse().unwrap();
    let admin = listening["admin_addr"].as_str().unwrap().parse().unwrap();
    let (status, answer) = ask(admin, "POST", "/api/v1/reload");
    assert!(status == 200 && answer.contains("there is no settings file"), "{answer}");
}

/// The program as a client of that server, and where it is asked.
fn client(server: SocketAddr, local: SocketAddr, more: &[&str]) -> (Running, SocketAddr) {
    let (local, server) = (local.to_string(), server.to_string());
    let args = ["tcp", &local, "--server", &server, "--token", TOKEN, "--json"];
    let client = Running::start(&[&args, more].concat());
    let listens: Value = client.line().parse().unwrap();
    assert_eq!(listens["event"], "admin_listening");
    (client, listens["admin_addr"].as_str().unwrap().parse().unwrap())
}

#[test]
fn a_client_says_what_it_has_and_ends_when_it_is_asked_to() {
    run(async {
        let server = Server::start();
        let echo = LocalService::echo().await;
        let (mut client, admin) =
            client(server.tunnel, echo.addr(), &["--admin-bind", "127.0.0.1:0"]);
        let ready: Value = loop {
            let event: Value = client.line().parse().unwrap();
            if event["event"] == "tunnel_ready" {
                break event;
            }
        };
        let public = public_addr(ready["public_url"].as_str().unwrap());
        assert_eq!(ask(admin, "GET", "/readyz"), (200, "ready\n".to_owned()));
        let (_, tunnels) = ask(admin, "GET", "/api/v1/tunnels");
        let tunnels: Value = tunnels.parse().unwrap();
        assert_eq!(tunnels["tunnels"][0]["public_urls"][0], format!("tcp://{public}"));
        assert_eq!(tunnels["tunnels"][0]["local"], echo.addr().to_string());
        // Only servers have those.
        assert_eq!(ask(admin, "GET", "/api/v1/principals").0, 404);
        let (status, answer) = ask(admin, "POST", "/api/v1/reload");
        assert!(
            status == 409 && answer.contains("reads its settings at the start only"),
            "{answer}"
        );
        assert_eq!(ask(admin, "POST", "/api/v1/drain").0, 200);
        assert!(client.ended().success());
    });
}

#[test]
fn where_nothing_is_said_and_nobody_looks_a_client_listens_nowhere() {
    run(async {
        let server = Server::start();
        let echo = LocalService::echo().await;
        let (local, at) = (echo.addr().to_string(), server.tunnel.to_string());
        for more in [&[][..], &["--admin-bind", "off"]] {
            let args = ["http", &local, "--server", &at, "--token", TOKEN, "--json"];
            let client = Running::start(&[&args, more].concat());
            let first: Value = client.line().parse().unwrap();
            assert_ne!(first["event"], "admin_listening", "{first}");
        }
        // Its secret may be in the environment of all clients.
        let files = Files::new();
        let secret = files.write("admin-token", "the-admins-own-secret");
        let args = ["http", &local, "--server", &at, "--token", TOKEN, "--admin-bind", "off"];
        let mut silent = command(&[&args[..], &["--json"]].concat());
        silent.env("FERROTUNNEL_ADMIN_TOKEN_FILE", secret);
        let client = Running::spawn(silent);
        client.event_of("tunnel_ready");
    });
}

#[test]
fn an_interface_that_cannot_be_had_says_what_to_change() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let client = |place: &str| {
        let args =
            ["http", "1", "--server", "127.0.0.1:1", "--token", TOKEN, "--admin-bind", place];
        command(&args).output().unwrap()
    };
    assert_refused(&client(&taken), 1, &["admin_bind", "--admin-bind, or off"]);
    drop(holder);
    assert_refused(&client("0.0.0.0:0"), 2, &["--admin-token-file"]);
    assert_refused(&client("nowhere"), 2, &["127.0.0.1:4040, or off"]);
}
