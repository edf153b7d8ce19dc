//! `ferrotunnel reload`, and the socket by which it reaches a server: the built program at both ends.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Output;

use ferrotunnel_tests::{LocalService, TOKEN, run, says_and_hears, soon};
use serde_json::{Value, json};
use support::files::Files;
use support::server::{Server, tcp_client};
use support::{PATIENCE, Running, command};
use tokio::net::TcpStream;

/// The settings of a server with a control socket.
fn settings(files: &Files, more: &str) -> String {
    files.server(&format!("control = 'run/control'\n{more}"))
}

fn socket(files: &Files) -> PathBuf {
    files.dir().join("run/control")
}

fn server(file: &str) -> Server {
    Server::spawn(command(&["server", "--json", "--config", file]))
}

/// What a command wrote and how it ended.
fn reload(args: &[&str]) -> Output {
    command(&[&["reload"], args].concat()).output().unwrap()
}

#[track_caller]
fn ends(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(words), "{words:?} is not in: {said}");
    assert_eq!(output.status.code(), Some(code), "{said}");
}

/// Sends something to the socket, and hears the answer to the end.
fn says(files: &Files, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket(files)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Who has heard enough may be gone before all is said.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_reload_says_that_the_settings_were_taken_and_what_needs_a_restart() {
    let files = Files::new();
    let file = settings(&files, "");
    let server = server(&file);
    let mode = std::fs::metadata(socket(&files)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let control = socket(&files);
    let control = control.to_str().unwrap();
    ends(&reload(&["--control", control]), 0, "settings reloaded; principals: 0");

    let (_, verifier) = ferrotunnel::issue_token().unwrap();
    settings(
        &files,
        &format!("domain = 'tunnel.example'\n[principals.web]\ntokens = ['{verifier}']"),
    );
    let taken = reload(&["--config", &file, "--json"]);
    ends(&taken, 0, "warning: in force only after a restart: domain");
    let event = json!({ "event": "reloaded", "principals": 1, "restart_needed": ["domain"] });
    assert_eq!(serde_json::from_slice::<Value>(&taken.stdout).unwrap(), event);
    // The server says the same where it runs.
    let mut told = server.process.line();
    while told.parse::<Value>().unwrap() != event {
        told = server.process.line();
    }
}

#[test]
fn a_reload_that_is_refused_says_where_the_file_is_wrong() {
    let files = Files::new();
    let file = settings(&files, "");
    let _server = server(&file);
    let control = socket(&files);
    let control = control.to_str().unwrap();
    settings(&files, "bnid = 1");
    let problem = format!("error: {file}:6:1: unknown key \"bnid\" in [server]");
    ends(&reload(&["--control", control]), 1, &problem);
    ends(&reload(&["--config", &file]), 1, &problem);
    std::fs::remove_file(&file).unwrap();
    ends(&reload(&["--control", control]), 1, "cannot read");
    settings(&files, "");
    ends(&reload(&["--control", control]), 0, "settings reloaded");
}

#[test]
fn whatever_else_is_said_is_answered_in_one_line_and_ends_nothing() {
    let files = Files::new();
    let file = settings(&files, "");
    let server = server(&file);
    let garbage: Vec<u8> = (0..1_000_000_u32).map(|number| (number * 31 % 251) as u8).collect();
    for said in [&b"\n"[..], b"reload now\n", b"\xff\xfe\0\n", &[b'r'; 65], &garbage] {
        let answer = says(&files, said);
        // The rest of what was not read may cut the answer off.
        assert!(answer.is_empty() || answer.lines().count() == 1, "{answer}");
    }
    let answer: Value = says(&files, b"stop\n").parse().unwrap();
    assert_eq!(answer["event"], "not_understood");
    // Who says nothing and who goes away hold nobody up.
    let silent: Vec<_> = (0..7).map(|_| UnixStream::connect(socket(&files)).unwrap()).collect();
    drop(UnixStream::connect(socket(&files)).unwrap());
    ends(&reload(&["--config", &file]), 0, "settings reloaded");
    drop(silent);
    assert!(says(&files, b"reload\n").ends_with("}\n"));
    drop(server);
}

#[test]
fn a_socket_of_a_server_that_runs_is_refused_and_one_of_a_dead_server_replaced() {
    let files = Files::new();
    let file = settings(&files, "");
    let mut first = server(&file);
    let second = command(&["server", "--config", &file]).output().unwrap();
    ends(&second, 1, "another server listens there");
    first.process.signal("KILL");
    first.process.ended();
    assert!(socket(&files).exists());
    ends(&reload(&["--config", &file]), 1, "nobody listens on");
    let mut next = server(&file);
    ends(&reload(&["--config", &file]), 0, "settings reloaded");
    next.process.signal("TERM");
    next.process.ended();
    assert!(!socket(&files).exists());
    ends(&reload(&["--config", &file]), 1, "nobody listens on");
}

#[test]
fn without_a_socket_or_a_file_it_says_how_to_have_one() {
    let files = Files::new();
    let file = files.server("");
    ends(&reload(&[]), 2, "set --control or FERROTUNNEL_CONTROL");
    ends(
        &reload(&["--config", &file]),
        2,
        "names no control socket; set control in [server] or [client]",
    );
}

fn status(args: &[&str]) -> Output {
    command(&[&["status"], args].concat()).output().unwrap()
}

#[test]
fn a_status_shows_what_a_server_has_and_what_a_client_has() {
    run(async {
        let files = Files::new();
        let file = settings(&files, "");
        let server = server(&file);
        let echo = LocalService::echo().await;
        let at_client = files.dir().join("run/client");
        let at_client = at_client.to_str().unwrap().to_owned();
        let (client, public) = tcp_client(server.tunnel, echo.addr(), &["--control", &at_client]);
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;

        let shown = status(&["--config", &file]);
        ends(&shown, 0, "");
        let shown = String::from_utf8(shown.stdout).unwrap();
        let port = public.port();
        for words in
            ["server ", ", ready, for ", "tunnels: 1", "REACHED AT", &format!("tcp:{port}")]
        {
            assert!(shown.contains(words), "{words} is not in: {shown}");
        }
        let told = status(&["--config", &file, "--json"]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(
            (&told["status"]["side"], &told["tunnels"][0]["visitors"]),
            (&json!("server"), &json!(1))
        );
        assert_eq!(told["status"]["config_file"], file);

        let told = status(&["--control", &at_client, "--json"]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(
            (&told["status"]["side"], &told["status"]["phase"]),
            (&json!("client"), &json!("ready"))
        );
        assert_eq!(told["tunnels"][0]["local"], echo.addr().to_string());
        assert_eq!(told["sessions"][0]["address"], server.tunnel.to_string());
        assert!(!told.to_string().contains(TOKEN), "{told}");
        let shown = status(&["--control", &at_client]);
        ends(&shown, 0, "");
        let (shown, software) = (
            String::from_utf8(shown.stdout).unwrap(),
            told["sessions"][0]["software"].as_str().unwrap(),
        );
        assert!(shown.contains("SOFTWARE") && shown.contains(software), "{shown}");
        // It has no file that could be read again.
        ends(&reload(&["--control", &at_client]), 1, "reads its settings at the start only");
        drop(client);
        ends(&status(&["--control", &at_client]), 1, "nobody listens on");
        ends(&status(&[]), 2, "set --control or FERROTUNNEL_CONTROL");
    });
}

#[test]
fn a_client_reads_its_file_again_when_it_is_asked_to() {
    run(async {
        let files = Files::new();
        let server = Server::start();
        let echo = LocalService::echo().await;
        let settings = |more: &str| {
            let head = format!(
                "[client]\nserver = '{}'\ntoken = '{TOKEN}'\ncontrol = 'run/client'",
                server.tunnel
            );
            let tunnel =
                format!("[[client.tunnels]]\nkind = 'tcp'\nlocal-addr = '{}'", echo.addr());
            files.write("client.toml", &format!("{head}\n{tunnel}\n{more}"))
        };
        let file = settings("");
        let client = Running::start(&["client", "--config", &file]);
        client.line();
        settings(&format!("[[client.tunnels]]\nkind = 'tcp'\nlocal-addr = '{}'", echo.addr()));
        ends(&reload(&["--config", &file]), 0, "tunnels: 1 added, 0 changed, 0 removed");
        settings("typo = 1");
        ends(&reload(&["--config", &file]), 1, "unknown key");
    });
}

#[test]
fn a_client_that_has_not_reached_its_server_yet_answers_at_once() {
    let files = Files::new();
    // Whoever listens there says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let head = format!("server = '{at}'\ntoken = '{TOKEN}'\ncontrol = 'run/control'");
    let tunnel = "[[client.tunnels]]\nkind = 'tcp'\nlocal-addr = '127.0.0.1:1'";
    let file = files.write("client.toml", &format!("[client]\n{head}\n{tunnel}"));
    let client = Running::start(&["client", "--config", &file]);
    client.talk_with("connecting to");
    // More than may ask at once.
    for _ in 0..12 {
        ends(&reload(&["--config", &file]), 1, "not connected yet");
    }
    assert!(says(&files, b"status\n").contains("\"phase\":\"starting\""));
}

#[test]
fn a_server_without_a_file_has_its_certificates_read_again() {
    let files = Files::new();
    let control = files.dir().join("run/control");
    let control = control.to_str().unwrap();
    let server = Server::with(&["--control", control]);
    ends(&reload(&["--control", control]), 0, "certificates and pages are read again");
    ends(&status(&["--control", control]), 0, "");
    drop(server);
}
