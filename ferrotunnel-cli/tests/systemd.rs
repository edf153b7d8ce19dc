//! The built program below a service manager: what it tells it, and the sockets it takes from it.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use command_fds::{CommandFdExt as _, FdMapping};
use ferrotunnel_tests::{
    LocalService, SecureVisitor, Site, TOKEN, eventually, get, raw, run, soon,
};
use support::files::Files;
use support::server::{Server, host, http_client, tcp_client};
use support::{PATIENCE, Running, command};

/// A service manager's ear.
struct Ear {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Ear {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, dir }
    }

    /// Below a manager that wants to hear from it.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command
    }

    /// The next thing it hears.
    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The next that contains these words, and everything before it.
    #[track_caller]
    fn until(&self, words: &str) -> Vec<String> {
        let mut heard = vec![self.next()];
        while !heard.last().unwrap().contains(words) {
            heard.push(self.next());
        }
        heard
    }
}

#[test]
fn a_server_tells_when_it_is_ready_what_it_does_and_when_it_goes() {
    run(async {
        let ear = Ear::new();
        let mut command = ear.command(&Server::args("127.0.0.1:0", "127.0.0.1:0"));
        command.env("WATCHDOG_USEC", "100000");
        let mut server = Server::spawn(command);
        assert_eq!(ear.next(), "READY=1\nSTATUS=sessions: 0, tunnels: 0, streams: 0\n");
        ear.until("WATCHDOG=1");
        let echo = LocalService::echo().await;
        let (_client, public) =
            tcp_client(server.tunnel, echo.addr(), &["--streams", "multiplexed"]);
        ear.until("STATUS=sessions: 1, tunnels: 1, streams: 0");
        let mut visitor = tokio::net::TcpStream::connect(public).await.unwrap();
        ferrotunnel_tests::says_and_hears(&mut visitor).await;
        ear.until("STATUS=sessions: 1, tunnels: 1, streams: 1");
        server.process.signal("TERM");
        let heard = ear.until("STOPPING=1");
        assert_eq!(
            heard.last().unwrap(),
            "STOPPING=1\nSTATUS=finishing what is open\nEXTEND_TIMEOUT_USEC=35000000\n"
        );
        // Who is watched is watched to the end.
        ear.until("WATCHDOG=1");
        drop(visitor);
        assert_eq!(server.process.ended().code(), Some(0));
    });
}

#[test]
fn a_client_is_ready_when_visitors_can_come() {
    run(async {
        let ear = Ear::new();
        let ip = ferrotunnel_tests::own_ip();
        // Nobody is there yet.
        let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        let site = Site::start().await;
        let (local, server) = (site.addr().to_string(), address.to_string());
        let args = ["http", &local, "--server", &server, "--token", TOKEN, "--name", "app"];
        let mut client = Running::spawn(ear.command(&args));
        let heard = ear.next();
        assert!(heard.starts_with("STATUS=not connected, trying again: "), "{heard}");
        let http = SocketAddr::new(ip, 0);
        let mut server = Server::again(address, http);
        let url = client.line();
        for heard in ear.until("READY=1") {
            assert!(
                !heard.contains("READY=1") || heard.ends_with(&format!("at {url}\n")),
                "{heard}"
            );
        }
        server.process.signal("TERM");
        assert_eq!(server.process.ended().code(), Some(0));
        ear.until("STATUS=not connected");
        client.signal("TERM");
        ear.until("STOPPING=1");
        assert_eq!(client.ended().code(), Some(0));
    });
}

#[test]
fn a_client_of_two_servers_tells_where_visitors_come_in_while_one_is_down() {
    run(async {
        let ear = Ear::new();
        let server = Server::start();
        // Nobody is there.
        let away = TcpListener::bind((ferrotunnel_tests::own_ip(), 0)).unwrap().local_addr();
        let (here, away) = (server.tunnel.to_string(), away.unwrap().to_string());
        let args = ["http", "1", "--server", &here, "--server", &away, "--server-mode", "all"];
        let mut command = ear.command(&args);
        command.env("FERROTUNNEL_TOKEN", TOKEN).env("FERROTUNNEL_NAME", "app");
        let client = Running::spawn(command);
        let url = client.line();
        // Whichever of the two was heard of first.
        ear.until(&format!("STATUS=visitors come in at {url}; not connected to {away}, "));
    });
}

#[test]
fn a_server_tells_when_it_reads_its_settings_again() {
    let ear = Ear::new();
    let files = Files::new();
    let file = files.server("");
    let server = Server::spawn(ear.command(&["server", "--json", "--config", &file]));
    ear.until("READY=1");
    // Whatever comes of it.
    for text in ["", "no-such-key = 1"] {
        files.server(text);
        server.process.signal("HUP");
        assert!(ear.until("RELOADING=1").last().unwrap().contains("MONOTONIC_USEC="));
        assert_eq!(ear.next(), "READY=1\n");
    }
}

/// Listening sockets that outlive the servers which are given them, as systemd's do.
struct Sockets {
    tunnel: TcpListener,
    http: TcpListener,
}

impl Sockets {
    fn new() -> Self {
        let listen = || TcpListener::bind((ferrotunnel_tests::own_ip(), 0)).unwrap();
        Self { tunnel: listen(), http: listen() }
    }

    fn server(&self) -> Server {
        let passed = [&self.tunnel, &self.http].map(|socket| socket.try_clone().unwrap().into());
        Server::spawn(activated(passed.into(), "", NOWHERE))
    }
}

/// Where nobody may listen: an address of documentation.
const NOWHERE: &str = "192.0.2.1:1";

/// The server with these descriptors from 3 on; without one for clients it binds that address.
fn activated(passed: Vec<OwnedFd>, names: &str, bind: &str) -> Command {
    let count = passed.len().to_string();
    let program = command(&Server::args(bind, NOWHERE));
    // The number of a process is known only inside it.
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]);
    command.arg(program.get_program()).args(program.get_args());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FERROTUNNEL_") {
            command.env_remove(name);
        }
    }
    command.env("LISTEN_FDS", count).stdin(std::process::Stdio::null());
    if !names.is_empty() {
        command.env("LISTEN_FDNAMES", names);
    }
    let numbered = passed.into_iter().zip(3..);
    let mappings = numbered.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).unwrap();
    command
}

#[test]
fn a_restart_refuses_no_visitor() {
    run(async {
        let sockets = Sockets::new();
        let http = sockets.http.local_addr().unwrap();
        let site = Site::start().await;
        let mut server = sockets.server();
        assert_eq!((server.tunnel, server.http), (sockets.tunnel.local_addr().unwrap(), http));
        let _client = http_client(server.tunnel, "app", site.addr(), &[]);
        let served = Arc::new(AtomicU64::new(0));
        let enough = Arc::new(AtomicBool::new(false));
        let visitors: Vec<_> = (0..4)
            .map(|_| {
                let (served, enough) = (Arc::clone(&served), Arc::clone(&enough));
                tokio::spawn(async move {
                    while !enough.load(Ordering::Relaxed) {
                        let answer = get(http, &host("app"), "/hello").await;
                        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"));
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let more = |before: u64| {
            let served = &served;
            eventually("visitors to be served", move || {
                served.load(Ordering::Relaxed) >= before + 20
            })
        };
        for _ in 0..3 {
            more(served.load(Ordering::Relaxed)).await;
            server.process.signal("TERM");
            assert_eq!(server.process.ended().code(), Some(0));
            // Nobody is there, and yet nobody is refused.
            drop(TcpStream::connect(http).unwrap());
            server = sockets.server();
        }
        more(served.load(Ordering::Relaxed)).await;
        enough.store(true, Ordering::Relaxed);
        for visitor in visitors {
            soon("the last answer", visitor).await.unwrap();
        }
    });
}

#[test]
fn who_comes_while_the_old_server_drains_is_served_by_the_new_one() {
    run(async {
        let sockets = Sockets::new();
        let http = sockets.http.local_addr().unwrap();
        let site = Site::start().await;
        let mut old = sockets.server();
        let _client = http_client(old.tunnel, "app", site.addr(), &[]);
        let held = tokio::spawn(async move { get(http, &host("app"), "/held").await });
        site.held(1).await;
        old.process.signal("TERM");
        old.process.talk_with("finishing what is open");
        let waiting = tokio::spawn(async move { get(http, &host("app"), "/hello").await });
        site.release();
        assert_eq!(soon("the held answer", held).await.unwrap().body, "released");
        assert_eq!(old.process.ended().code(), Some(0));
        assert!(!waiting.is_finished());
        let _new = sockets.server();
        assert_eq!(soon("an answer", waiting).await.unwrap().body, "hello");
    });
}

#[test]
fn a_host_that_nobody_comes_back_for_is_unknown_in_the_end() {
    run(async {
        let sockets = Sockets::new();
        let server = sockets.server();
        let answer = soon("an answer", get(server.http, &host("nobody"), "/")).await;
        assert_eq!(answer.ferrotunnel_error(), Some("no-such-tunnel"));
    });
}

#[test]
fn sockets_may_come_by_name_and_one_alone() {
    run(async {
        let sockets = Sockets::new();
        let (tunnel, http) =
            (sockets.tunnel.local_addr().unwrap(), sockets.http.local_addr().unwrap());
        let passed = |socket: &TcpListener| OwnedFd::from(socket.try_clone().unwrap());
        let both = vec![passed(&sockets.http), passed(&sockets.tunnel)];
        let server = Server::spawn(activated(both, "http:tunnel", NOWHERE));
        assert_eq!((server.tunnel, server.http), (tunnel, http));
        drop(server);
        let one = vec![passed(&sockets.http)];
        let server = Server::spawn(activated(one, "http", "127.0.0.1:0"));
        assert_eq!(server.http, http);
        assert!(server.tunnel.ip().is_loopback());
        let answer = soon("an answer", raw(http, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"))
            .await
            .unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    });
}

#[test]
fn clients_and_visitors_share_a_socket_that_was_passed_on_for_https() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().to_str().unwrap();
        assert!(
            command(&["cert", "dev", "app.localhost", "--dir", dir]).status().unwrap().success()
        );
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = passed.local_addr().unwrap();
        let http = TcpListener::bind("127.0.0.1:0").unwrap();
        // Nobody could bind this one: it is that of the socket.
        let shared = addr.to_string();
        let mut command = activated(vec![passed.into(), http.into()], "https:http", &shared);
        command.args(["--https-bind", &shared, "--https-cert-dir", dir]);
        let server = Server::spawn(command);
        assert_eq!(server.tunnel, addr);
        let site = Site::start().await;
        let local = site.addr().to_string();
        let args = ["http", &local, "--server", &shared, "--token", TOKEN, "--name", "app"];
        let client = Running::start(&args);
        assert_eq!(client.line().trim_end(), format!("https://app.localhost:{}/", addr.port()));
        let ca = std::path::Path::new(dir).join("dev-ca.pem");
        let visitor = SecureVisitor::trusting(&ca, &["h2"]);
        assert_eq!(visitor.get(addr, "app.localhost", "/hello").await.body, "hello");
    });
}

#[test]
fn sockets_of_another_kind_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let unix = || OwnedFd::from(UnixListener::bind(dir.path().join("socket")).unwrap());
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let refused = |passed: Vec<OwnedFd>, names: &str, code: i32, says: &[&str]| {
        let output = activated(passed, names, NOWHERE).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        for words in says {
            assert!(stderr.contains(words), "{words:?} is not in: {stderr}");
        }
    };
    refused(vec![tcp(), unix()], "", 2, &["socket 2", "tcp socket", "pass listening TCP sockets"]);
    let four = vec![tcp(), tcp(), tcp(), tcp()];
    refused(four, "", 2, &["4 sockets were passed, and a server has three"]);
    refused(vec![tcp(), tcp(), tcp()], "", 2, &["there is no HTTPS", "--https-bind"]);
    refused(vec![tcp(), tcp()], "http:http", 2, &["two sockets are named \"http\""]);
    refused(vec![tcp(), tcp()], "http:web", 2, &["\"web\", neither tunnel nor http"]);
    let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    refused(vec![file], "", 2, &["socket 1", "not a socket"]);
    // Of the right kind, but a visitor's.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let visitor = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let says = ["in place of http_bind", "does not listen", "pass one that listens"];
    refused(vec![tcp(), visitor.into()], "", 1, &says);
}

#[test]
fn sockets_that_are_meant_for_another_process_are_left_alone() {
    let passed = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let mut command = command(&Server::args("127.0.0.1:0", "127.0.0.1:0"));
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "tunnel");
    command.fd_mappings(vec![FdMapping { parent_fd: passed, child_fd: 3 }]).unwrap();
    let server = Server::spawn(command);
    assert!(server.tunnel.ip().is_loopback());
}
