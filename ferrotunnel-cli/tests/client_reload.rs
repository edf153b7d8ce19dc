//! The built program as a client whose settings file changes while it runs.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::net::SocketAddr;

use ferrotunnel_tests::{LocalService, TOKEN, public_addr, run, says_and_hears, soon};
use serde_json::{Value, json};
use support::files::Files;
use support::server::{Server, host};
use support::{Running, command};
use tokio::net::TcpStream;

/// A local service that answers every request with that word.
async fn named(answer: &'static str) -> LocalService {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
    LocalService::answering(answer.leak().as_bytes()).await
}

fn settings(files: &Files, server: &Server, more: &str, tunnels: &str) -> String {
    let head = format!("[client]\nserver = '{}'\ntoken = '{TOKEN}'\n{more}\n", server.tunnel);
    files.write("client.toml", &(head + tunnels))
}

fn tcp(local: SocketAddr) -> String {
    format!("[[client.tunnels]]\nkind = 'tcp'\nlocal-addr = '{local}'\nstreams = 'multiplexed'\n")
}

fn http(name: &str, local: SocketAddr) -> String {
    format!("[[client.tunnels]]\nkind = 'http'\nname = '{name}'\nlocal-addr = '{local}'\n")
}

fn ready(client: &Running) -> String {
    client.event_of("tunnel_ready")["public_url"].as_str().unwrap().to_owned()
}

async fn get(server: &Server, name: &str) -> String {
    let host = host(name);
    let asking = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = soon("an answer", ferrotunnel_tests::raw(server.http, asking.as_bytes())).await;
    String::from_utf8(answer.unwrap()).unwrap()
}

fn reloaded(counts: [u32; 4], restart_needed: &[&str]) -> Value {
    let [added, changed, removed, unchanged] = counts;
    json!({
        "event": "reloaded",
        "added": added,
        "changed": changed,
        "removed": removed,
        "unchanged": unchanged,
        "restart_needed": restart_needed,
    })
}

#[test]
fn tunnels_come_go_and_change_with_the_file_and_others_notice_nothing() {
    run(async {
        let server = Server::start();
        let files = Files::new();
        let (echo, one, other) =
            (LocalService::echo().await, named("one").await, named("other").await);
        let stays = tcp(echo.addr());
        let tunnels = stays.clone() + &http("moves", one.addr()) + &http("goes", one.addr());
        let file = settings(&files, &server, "", &tunnels);
        let client = Running::spawn(command(&["client", "--json", "--config", &file]));
        let urls = [ready(&client), ready(&client), ready(&client)];
        let public = urls.iter().find(|url| !url.starts_with("http")).unwrap();
        let public = public_addr(public);
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert!(get(&server, "moves").await.ends_with("one"));

        // One has moved, one gives its name up, one is new, and one has more to say.
        let moved = http("moves", other.addr());
        let tunnels = moved.clone() + &stays + &http("comes", other.addr());
        settings(&files, &server, "", &tunnels);
        client.signal("HUP");
        assert_eq!(client.event_of("reloaded"), reloaded([1, 1, 1, 1], &[]));
        let lost = client.event_of("tunnel_lost");
        assert_eq!(lost["name"], "goes", "{lost}");
        assert!(ready(&client).contains("comes"));
        assert!(get(&server, "comes").await.ends_with("other"));
        assert!(get(&server, "moves").await.ends_with("other"));
        assert!(get(&server, "goes").await.starts_with("HTTP/1.1 404"));
        says_and_hears(&mut visitor).await;

        // Without a signal, and the port that was picked stays.
        let told = tcp(echo.addr()) + "deny = ['192.0.2.0/24']\n";
        settings(&files, &server, "", &(moved + &told));
        assert_eq!(client.event_of("reloaded"), reloaded([0, 1, 1, 1], &[]));
        assert_eq!(public_addr(&ready(&client)), public);
        says_and_hears(&mut visitor).await;
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;
    });
}

#[test]
fn a_file_with_something_wrong_in_it_changes_nothing_and_says_where() {
    run(async {
        let server = Server::start();
        let files = Files::new();
        let echo = LocalService::echo().await;
        let file = settings(&files, &server, "", &tcp(echo.addr()));
        let client = Running::spawn(command(&["client", "--json", "--config", &file]));
        let public = public_addr(&ready(&client));
        let missing = files.dir().join("missing").display().to_string();
        for (more, tunnels, words) in [
            ("", tcp(echo.addr()) + "colour = 'red'\n", ":9:1: unknown key \"colour\""),
            ("", String::new(), "there is no tunnel in it any more"),
            (&format!("tls-ca = '{missing}'"), tcp(echo.addr()), missing.as_str()),
            ("tls-cert = 'x'", tcp(echo.addr()), "--tls-cert needs --tls-key"),
        ] {
            settings(&files, &server, more, &tunnels);
            client.signal("HUP");
            let why = client.refused_reload();
            assert!(why.starts_with(&file) && why.contains(words), "{words}: {why}");
        }
        client.talk_with("those of before stay in force");
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;
    });
}

#[test]
fn what_only_a_restart_would_change_is_named() {
    run(async {
        let server = Server::start();
        let files = Files::new();
        let echo = LocalService::echo().await;
        let file = settings(&files, &server, "", &tcp(echo.addr()));
        let client = Running::spawn(command(&["client", "--json", "--config", &file]));
        ready(&client);
        let defaults = "server-mode = 'failover'\nconnections = 'auto'\nconnect-timeout = '5s'";
        settings(&files, &server, defaults, &tcp(echo.addr()));
        client.signal("HUP");
        assert_eq!(client.event_of("reloaded"), reloaded([0, 0, 0, 1], &[]));
        let changed = "connections = 2\nhandshake-timeout = '7s'";
        settings(&files, &server, changed, &tcp(echo.addr()));
        client.signal("HUP");
        let named = ["handshake-timeout", "connections"];
        assert_eq!(client.event_of("reloaded"), reloaded([0, 0, 0, 1], &named));
        client.talk_with("only after a restart: handshake-timeout, connections");
    });
}
