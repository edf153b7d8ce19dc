//! The built program as a server, a client and a demo, each a process of its own, with real bytes between them.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;

use serde_json::Value;
use support::{Running, command};

/// A server on free ports of loopback, and where it listens.
struct Server {
    process: Running,
    tunnel: String,
    http: SocketAddr,
}

fn server() -> Server {
    server_with(&[])
}

fn server_with(more: &[&str]) -> Server {
    let any = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"];
    let any = if more.contains(&"--bind") { &[][..] } else { &any };
    let args = ["server", "--json", "--token", "secret"];
    let process = Running::start(&[&args, any, more].concat());
    let listening: Value = process.line().parse().unwrap();
    assert_eq!(listening["event"], "listening");
    Server {
        process,
        tunnel: listening["tunnel_addr"].as_str().unwrap().to_owned(),
        http: listening["http_addr"].as_str().unwrap().parse().unwrap(),
    }
}

/// A local web service that answers every request with `body`, for as long as the test runs.
fn web_service(body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    addr
}

/// The first connection to a local service, within the patience of a test.
fn accept(listener: TcpListener) -> TcpStream {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(listener.accept().unwrap().0));
    receiver.recv_timeout(support::PATIENCE).expect("nobody connected to the local service")
}

/// A visitor's connection that does not wait for ever.
fn visit(server: impl ToSocketAddrs) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream
}

/// Asks for `/` at a server under a host name and gives the whole answer.
fn get(server: SocketAddr, host: &str) -> String {
    let mut stream = visit(server);
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// `host:port` of a URL.
fn authority(url: &str) -> &str {
    url.split("://").nth(1).unwrap().trim_end_matches('/')
}

#[test]
fn an_http_tunnel_prints_its_url_first_and_carries_a_request() {
    let server = server();
    let local = web_service("from the local service").port().to_string();
    let mut client = Running::start(&[
        "http",
        &local,
        "--server",
        &server.tunnel,
        "--token",
        "secret",
        "--name",
        "app",
    ]);

    let url = client.line();
    assert_eq!(url, format!("http://app.localhost:{}/", server.http.port()));
    let answer = get(server.http, authority(&url));
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("from the local service"),
        "{answer}"
    );

    client.signal("TERM");
    assert_eq!(client.ended().code(), Some(0));
}

#[test]
fn a_client_gets_a_name_when_it_brings_none() {
    let server = server();
    let local = web_service("by any name").to_string();
    let client = Running::start(&[
        "client",
        "--server",
        &server.tunnel,
        "--token",
        "secret",
        "--local-addr",
        &local,
    ]);

    let url = client.line();
    assert!(url.starts_with("http://") && url.contains(".localhost:"), "{url}");
    assert!(get(server.http, authority(&url)).ends_with("by any name"));
}

#[test]
fn a_tcp_tunnel_prints_its_address_and_carries_bytes_both_ways() {
    let server = server_with(&["--plaintext"]);
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = echo.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = echo.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let client = Running::start(&[
        "tcp",
        &local,
        "--server",
        &server.tunnel,
        "--token",
        "secret",
        "--plaintext",
    ]);

    let url = client.line();
    assert!(url.starts_with("tcp://"), "{url}");
    let mut visitor = visit(authority(&url));
    visitor.write_all(b"there and back").unwrap();
    visitor.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "THERE AND BACK");
}

#[test]
fn events_are_json_when_asked_for() {
    let server = server();
    let args =
        ["http", "1", "--json", "--server", &server.tunnel, "--token", "secret", "--name", "app"];
    let mut client = Running::start(&args);

    let ready = loop {
        let event: Value = client.line().parse().unwrap();
        if event["event"] == "tunnel_ready" {
            break event;
        }
    };
    assert_eq!(ready["name"], "app");
    assert_eq!(ready["kind"], "http");
    assert_eq!(ready["public_url"], format!("http://app.localhost:{}/", server.http.port()));

    client.signal("INT");
    assert_eq!(client.ended().code(), Some(0));
}

#[test]
fn a_wrong_token_ends_the_client_at_once_and_is_logged_without_it() {
    let server = server();
    let output = command(&["http", "1", "--server", &server.tunnel, "--token", "not-the-secret"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("error: ") && stderr.contains("token"), "{stderr}");
    assert!(output.stdout.is_empty());

    server.process.signal("TERM");
    let log = server.process.rest_of_stderr();
    assert!(!log.contains("not-the-secret"), "{log}");
}

#[test]
fn a_line_end_after_the_token_does_not_matter() {
    let server = server();
    let client = Running::start(&[
        "http",
        "1",
        "--server",
        &server.tunnel,
        "--token",
        "secret\n",
        "--name",
        "trimmed",
    ]);
    assert!(client.line().starts_with("http://trimmed."));
}

#[test]
fn an_unreachable_server_fails_at_once_when_asked_to() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["http", "1", "--server", &closed, "--token", "secret", "--exit-on-first-failure"];
    let output = command(&args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&closed), "the server's address is missing: {stderr}");
}

#[test]
fn an_unreachable_server_is_said_once_while_the_client_tries_again() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut client = Running::start(&["http", "1", "--server", &closed, "--token", "secret"]);
    client.talk_with("trying again");
    client.signal("TERM");
    assert_eq!(client.ended().code(), Some(0));
    assert!(!client.rest_of_stderr().contains("trying again"));
}

#[test]
fn a_client_goes_to_the_second_server_process_and_returns_to_the_first() {
    let (mut first, second) = (server(), server());
    let local = web_service("by whichever way").port().to_string();
    let client = Running::start(&[
        "http",
        &local,
        "--server",
        &first.tunnel,
        "--server",
        &second.tunnel,
        "--token",
        "secret",
        "--name",
        "app",
    ]);
    let at = |server: &Server| format!("http://app.localhost:{}/", server.http.port());
    let hears = |server: &Server| {
        assert_eq!(client.line(), at(server));
        assert!(get(server.http, authority(&at(server))).ends_with("by whichever way"));
    };
    hears(&first);
    first.process.signal("KILL");
    first.process.ended();
    client.talk_with("trying again until one of 2 servers answers");
    client.talk_with(&format!("connected to {} after", second.tunnel));
    hears(&second);
    let http = first.http.to_string();
    let first = server_with(&["--bind", &first.tunnel, "--http-bind", &http]);
    client.talk_with(&format!("connected again to {}, which is earlier in order", first.tunnel));
    // The address is the one it had, so it is not printed once more.
    let mut answer = String::new();
    while !answer.ends_with("by whichever way") {
        answer = get(first.http, authority(&at(&first)));
    }
    client.signal("TERM");
    assert!(!client.rest_of_stderr().contains("trying again"), "told once");
}

#[test]
fn a_client_of_all_servers_prints_an_address_for_each() {
    let (first, second) = (server(), server());
    let local = web_service("everywhere").port().to_string();
    let servers = format!("{},{}", first.tunnel, second.tunnel);
    let mut client = command(&["http", &local, "--server-mode", "all", "--name", "app"]);
    client.env("FERROTUNNEL_SERVER", servers).env("FERROTUNNEL_TOKEN", "secret");
    let client = Running::spawn(client);
    let mut printed = [client.line(), client.line()];
    let mut expected =
        [&first, &second].map(|it| format!("http://app.localhost:{}/", it.http.port()));
    printed.sort();
    expected.sort();
    assert_eq!(printed, expected);
    for server in [&first, &second] {
        assert!(get(server.http, "app.localhost").ends_with("everywhere"));
    }
}

#[test]
fn a_takeover_has_an_exit_code_of_its_own() {
    let server = server();
    let args = ["http", "1", "--server", &server.tunnel, "--token", "secret", "--name", "app"];
    let mut old = Running::start(&args);
    old.line();
    let new = Running::start(&args);
    new.line();
    assert_eq!(old.ended().code(), Some(4));
    let said = old.rest_of_stderr();
    assert!(said.contains("a newer client") && said.contains("--group"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, setting, other) in
        [("--bind", "(bind)", "--http-bind"), ("--http-bind", "(http_bind)", "--bind")]
    {
        let output = command(&["server", "--token", "secret", flag, &addr, other, "127.0.0.1:0"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        for words in [&addr, setting, flag] {
            assert!(stderr.contains(words), "{words} is not in: {stderr}");
        }
    }
}

#[test]
fn a_public_port_that_is_taken_is_refused_with_its_number() {
    let server = server();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command(&[
        "tcp",
        "1",
        "--server",
        &server.tunnel,
        "--token",
        "secret",
        "--remote-port",
        &port,
    ])
    .output()
    .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&port), "{stderr}");
}

#[test]
fn limits_and_timeouts_of_http_visitors_take_effect() {
    let server = server_with(&["--max-visitors", "1", "--http-response-timeout", "200ms"]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = silent.local_addr().unwrap().to_string();
    let client = Running::start(&["http", &local, "--server", &server.tunnel, "--token", "secret"]);
    let url = client.line();
    let mut visitor = visit(server.http);
    write!(visitor, "GET / HTTP/1.1\r\nhost: {}\r\n\r\n", authority(&url)).unwrap();
    let mut answer = [0; 12];
    visitor.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 504");
    // The first one's connection stays, so there is no place for another.
    assert_eq!(visit(server.http).read(&mut answer).unwrap(), 0);
}

#[test]
fn a_server_drains_on_either_signal() {
    for name in ["INT", "TERM"] {
        let mut server = server();
        server.process.signal(name);
        assert_eq!(server.process.ended().code(), Some(0), "{name}");
        assert!(TcpStream::connect(server.http).is_err(), "the port is free again");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = server();
    // A visitor whose answer never comes keeps the server draining.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = silent.local_addr().unwrap().to_string();
    let client = Running::start(&["http", &local, "--server", &server.tunnel, "--token", "secret"]);
    let url = client.line();
    let mut visitor = visit(server.http);
    write!(visitor, "GET / HTTP/1.1\r\nhost: {}\r\n\r\n", authority(&url)).unwrap();
    let _held = accept(silent);

    server.process.signal("TERM");
    server.process.talk_with("a second Ctrl-C ends at once");
    server.process.signal("TERM");
    assert_eq!(server.process.ended().code(), Some(1));
}

#[test]
fn the_demo_prints_an_address_that_answers() {
    let mut demo = Running::start(&["demo", "--port", "0"]);
    let url = demo.line();
    let addr = SocketAddr::from((
        [127, 0, 0, 1],
        authority(&url).rsplit_once(':').unwrap().1.parse().unwrap(),
    ));
    let page = get(addr, authority(&url));
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("FerroTunnel"), "{page}");
    assert!(page.contains("127.0.0.1, asking for"), "the page says who came: {page}");

    demo.signal("TERM");
    assert_eq!(demo.ended().code(), Some(0));
}
