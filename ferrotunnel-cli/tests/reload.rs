//! The built program as a server whose settings file changes while it runs.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::net::SocketAddr;

use ferrotunnel_tests::{
    Authority, LocalService, eventually, public_addr, run, says_and_hears, soon,
};
use serde_json::{Value, json};
use support::files::Files;
use support::server::{Server, tcp_client};
use support::{Running, command};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Somebody with a token of their own.
struct User {
    token: String,
    /// By which a server knows them.
    lines: String,
}

impl User {
    fn new(name: &str) -> Self {
        let (token, verifier) = ferrotunnel::issue_token().unwrap();
        let lines = format!("[principals.{name}]\ntokens = ['{verifier}']\n");
        Self { token: token.reveal(), lines }
    }

    /// Their client, with one TCP tunnel, and where visitors reach it.
    fn client(&self, server: SocketAddr, local: SocketAddr) -> (Running, SocketAddr) {
        let (server, local) = (server.to_string(), local.to_string());
        let args = ["tcp", &local, "--server", &server, "--streams", "multiplexed"];
        let mut command = command(&args);
        command.env("FERROTUNNEL_TOKEN", &self.token);
        let client = Running::spawn(command);
        let public = public_addr(&client.line());
        (client, public)
    }

    /// Whether a server lets them in.
    fn may_come(&self, server: SocketAddr) -> bool {
        let server = server.to_string();
        let mut asking = command(&["tcp", "1", "--server", &server, "--exit-on-first-failure"]);
        let mut client = Running::spawn({
            asking.env("FERROTUNNEL_TOKEN", &self.token);
            asking
        });
        let comes = client.first_line().is_some();
        client.signal("KILL");
        client.ended();
        comes
    }
}

fn settings(files: &Files, users: &[&User], more: &str) -> String {
    let users: String = users.iter().map(|user| user.lines.as_str()).collect();
    let ports = "bind = '127.0.0.1:0'\nhttp-bind = '127.0.0.1:0'";
    files.write("server.toml", &format!("[server]\n{ports}\n{more}\n{users}"))
}

fn server(file: &str, more: &[&str]) -> Server {
    Server::spawn(command(&[&["server", "--json", "--config", file], more].concat()))
}

fn reloaded(principals: usize, restart_needed: &[&str]) -> Value {
    json!({ "event": "reloaded", "principals": principals, "restart_needed": restart_needed })
}

#[test]
fn who_is_taken_out_of_the_file_is_disconnected_and_nobody_else() {
    run(async {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let files = Files::new();
        let server = server(&settings(&files, &[&web, &shop], ""), &[]);
        let echo = LocalService::echo().await;
        let (client, public) = web.client(server.tunnel, echo.addr());
        let (_other, others) = shop.client(server.tunnel, echo.addr());
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;
        let mut stays = soon("a way in", TcpStream::connect(others)).await.unwrap();
        says_and_hears(&mut stays).await;

        settings(&files, &[&shop], "");
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        let end = soon("the end of the visitor", visitor.read(&mut [0; 1])).await;
        assert!(!matches!(end, Ok(1..)), "{end:?}");
        client.talk_with("revoked");
        says_and_hears(&mut stays).await;
        let refused = || std::net::TcpStream::connect(public).is_err();
        eventually("the port to be closed", refused).await;
        assert!(!web.may_come(server.tunnel));
        says_and_hears(&mut stays).await;
    });
}

#[test]
fn a_token_file_that_is_gone_keeps_nobody_in() {
    run(async {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let files = Files::new();
        let token = files.write("token", ferrotunnel_tests::TOKEN);
        let server = server(&settings(&files, &[&web, &shop], ""), &["--token-file", &token]);
        assert!(web.may_come(server.tunnel));
        std::fs::remove_file(&token).unwrap();
        settings(&files, &[&shop], "");
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &["token"]));
        assert!(!web.may_come(server.tunnel));
        assert!(shop.may_come(server.tunnel));
    });
}

#[test]
fn a_server_without_a_file_goes_on_when_it_is_told_to_read_it() {
    run(async {
        let server = Server::start();
        let echo = LocalService::echo().await;
        let (_client, public) = tcp_client(server.tunnel, echo.addr(), &[]);
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;
        server.process.signal("HUP");
        assert_eq!(server.process.event(), json!({ "event": "certificates_reloaded" }));
        says_and_hears(&mut visitor).await;
    });
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let (web, shop) = (User::new("web"), User::new("shop"));
    let files = Files::new();
    let server = server(&settings(&files, &[&web], ""), &[]);
    assert!(!shop.may_come(server.tunnel));
    settings(&files, &[&web, &shop], "");
    assert_eq!(server.process.event(), reloaded(2, &[]));
    assert!(shop.may_come(server.tunnel) && web.may_come(server.tunnel));

    // As Kubernetes mounts it: a link that is turned to another file.
    let other = Files::new();
    settings(&other, &[&shop], "");
    let path = files.dir().join("server.toml");
    let link = files.dir().join("link");
    std::os::unix::fs::symlink(other.dir().join("server.toml"), &link).unwrap();
    std::fs::rename(&link, &path).unwrap();
    assert_eq!(server.process.event(), reloaded(1, &[]));
    assert!(shop.may_come(server.tunnel) && !web.may_come(server.tunnel));
}

#[test]
fn a_file_with_something_wrong_in_it_changes_nothing_and_says_what() {
    run(async {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let files = Files::new();
        let file = settings(&files, &[&web], "");
        let server = server(&file, &[]);
        let echo = LocalService::echo().await;
        let (_client, public) = web.client(server.tunnel, echo.addr());
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;

        settings(&files, &[&shop], "bnid = 1");
        server.process.signal("HUP");
        let problem =
            format!("{file}:4:1: unknown key \"bnid\" in [server]; did you mean \"bind\"?");
        assert_eq!(
            server.process.event(),
            json!({ "event": "reload_refused", "errors": [problem] })
        );
        server.process.talk_with(&format!("warning: {problem}"));
        server.process.talk_with("those of before stay in force");
        says_and_hears(&mut visitor).await;
        assert!(web.may_come(server.tunnel) && !shop.may_come(server.tunnel));

        // Gone is not empty.
        std::fs::remove_file(&file).unwrap();
        server.process.signal("HUP");
        assert_eq!(server.process.event()["event"], "reload_refused");
        says_and_hears(&mut visitor).await;
        assert!(web.may_come(server.tunnel));

        settings(&files, &[&shop], "");
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        assert!(shop.may_come(server.tunnel) && !web.may_come(server.tunnel));
    });
}

#[test]
fn what_only_a_restart_would_change_is_named() {
    let files = Files::new();
    let server = server(&files.server(""), &["--threads", "1"]);
    files.server("domain = 'tunnel.example'\nthreads = 2\n[server.limits]\nmax-handshakes = 7\nmax-receive-memory = '256MiB'\nmax-sessions = 7");
    server.process.signal("HUP");
    // What is typed wins, and what is the default has not changed.
    assert_eq!(server.process.event(), reloaded(0, &["domain", "limits.max-handshakes"]));
    let said = server.process.talk_with("only after a restart");
    assert!(said.ends_with(": domain, limits.max-handshakes"), "{said}");

    let web = User::new("web");
    settings(&files, &[&web], "token = 'another'");
    server.process.signal("HUP");
    assert_eq!(server.process.event(), reloaded(1, &["token"]));
    assert!(web.may_come(server.tunnel));
}

#[test]
fn limits_hold_for_whoever_comes_after_the_reload() {
    run(async {
        let web = User::new("web");
        let files = Files::new();
        let server = server(&settings(&files, &[&web], ""), &[]);
        let echo = LocalService::echo().await;
        let (_client, public) = web.client(server.tunnel, echo.addr());
        let mut first = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut first).await;
        settings(&files, &[&web], "[server.limits]\nmax-visitors-per-tunnel = 1");
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        if let Ok(mut second) = soon("an answer", TcpStream::connect(public)).await {
            let end = soon("the end of the visitor", second.read(&mut [0; 1])).await;
            assert!(!matches!(end, Ok(1..)), "{end:?}");
        }
        says_and_hears(&mut first).await;
        settings(&files, &[&web], "");
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        let mut third = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut third).await;
    });
}

/// What a browser sees at a name that nobody has.
async fn lost_page(server: &Server) -> String {
    let asking =
        "GET / HTTP/1.1\r\nhost: lost.localhost\r\naccept: text/html\r\nconnection: close\r\n\r\n";
    let answer = soon("a page", ferrotunnel_tests::raw(server.http, asking.as_bytes())).await;
    String::from_utf8(answer.unwrap()).unwrap()
}

#[test]
fn pages_are_read_again_with_the_settings() {
    run(async {
        let web = User::new("web");
        let files = Files::new();
        let pages = tempfile::tempdir().unwrap();
        let page = pages.path().join("404.html");
        std::fs::write(&page, "first {{status}}").unwrap();
        let line = format!("error-pages = '{}'", pages.path().display());
        let server = server(&settings(&files, &[&web], &line), &[]);
        assert!(lost_page(&server).await.ends_with("\r\n\r\nfirst 404"));
        std::fs::write(&page, "second {{status}}").unwrap();
        assert!(lost_page(&server).await.ends_with("\r\n\r\nfirst 404"));
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        assert!(lost_page(&server).await.ends_with("\r\n\r\nsecond 404"));
        std::fs::write(&page, "third {{nonsense}}").unwrap();
        server.process.signal("HUP");
        let why = server.process.refused_reload();
        assert!(why.contains("404.html has {{nonsense}} in it"), "{why}");
        assert!(lost_page(&server).await.ends_with("\r\n\r\nsecond 404"));
        settings(&files, &[&web], "");
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        assert!(lost_page(&server).await.contains("<!doctype html>"));
    });
}

#[test]
fn pages_are_read_again_where_there_is_no_settings_file() {
    run(async {
        let pages = tempfile::tempdir().unwrap();
        let page = pages.path().join("default.html");
        std::fs::write(&page, "first").unwrap();
        let server = Server::with(&["--error-pages", pages.path().to_str().unwrap()]);
        assert!(lost_page(&server).await.ends_with("\r\n\r\nfirst"));
        std::fs::write(&page, "second").unwrap();
        server.process.signal("HUP");
        assert_eq!(server.process.event(), json!({ "event": "certificates_reloaded" }));
        assert!(lost_page(&server).await.ends_with("\r\n\r\nsecond"));
    });
}

/// The status of an answer to a visitor of a name that nobody has, with that secret.
async fn status_with(server: &Server, secret: &str) -> String {
    let asking = format!(
        "GET / HTTP/1.1\r\nhost: lost.localhost\r\nferrotunnel-secret: {secret}\r\nconnection: close\r\n\r\n"
    );
    let answer = soon("an answer", ferrotunnel_tests::raw(server.http, asking.as_bytes())).await;
    String::from_utf8(answer.unwrap()).unwrap()[9..12].to_owned()
}

#[test]
fn plugins_follow_the_file() {
    run(async {
        let web = User::new("web");
        let files = Files::new();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        let logged = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
        let server = server(&settings(&files, &[&web], ""), &[]);
        let reload = |plugins: &str| {
            settings(&files, &[&web], &format!("[server.plugins]\n{plugins}"));
            server.process.signal("HUP");
            server.process.event()
        };
        let [hash, other] = ["sesame-sesame", "other-secret-"]
            .map(|secret| format!("'{}'", ferrotunnel::plugin::VisitorSecret::of(secret).unwrap()));
        let access_log = format!("access-log = '{}'", log.display());
        assert_eq!(status_with(&server, "").await, "404");

        let secret = format!("visitor-secret-hash = [{hash}]");
        assert_eq!(reload(&format!("{secret}\n{access_log}")), reloaded(1, &[]));
        assert_eq!(status_with(&server, "").await, "401");
        assert_eq!(status_with(&server, "sesame-sesame").await, "404");
        eventually("their lines", || logged() == 2).await;

        let secret = format!("visitor-secret-hash = [{other}]");
        assert_eq!(reload(&format!("{secret}\n{access_log}")), reloaded(1, &[]));
        assert_eq!(status_with(&server, "sesame-sesame").await, "401");
        assert_eq!(status_with(&server, "other-secret-").await, "404");
        eventually("their lines", || logged() == 4).await;

        // What cannot be used leaves everything as it was.
        let nowhere = format!("access-log = '{}/none/at/all'", dir.path().display());
        let refused = reload(&nowhere);
        assert_eq!(refused["event"], "reload_refused");
        let said = refused["errors"][0].as_str().unwrap_or_default();
        assert!(said.contains("--access-log: cannot write to "), "{said}");
        assert_eq!(status_with(&server, "").await, "401");
        eventually("its line", || logged() == 5).await;

        assert_eq!(reload("max-requests-per-address = 1"), reloaded(1, &[]));
        soon("a refusal", async { while status_with(&server, "").await != "429" {} }).await;
        assert_eq!(reload("circuit-breaker = 3"), reloaded(1, &["plugins.circuit-breaker"]));
        assert_eq!(status_with(&server, "").await, "404");
        assert_eq!(logged(), 5);
    });
}

#[test]
fn trusted_proxies_follow_the_file() {
    run(async {
        let web = User::new("web");
        let files = Files::new();
        let server = server(&settings(&files, &[&web], ""), &[]);
        let site = ferrotunnel_tests::Site::start().await;
        let (tunnel, local) = (server.tunnel.to_string(), site.addr().to_string());
        let mut asking = command(&["http", &local, "--server", &tunnel, "--name", "app"]);
        asking.env("FERROTUNNEL_TOKEN", &web.token);
        let client = Running::spawn(asking);
        client.line();
        let told = async || {
            let asking = "GET /head HTTP/1.1\r\nhost: app.localhost\r\nx-forwarded-for: 192.0.2.7\r\n\
                          connection: close\r\n\r\n";
            let answer = ferrotunnel_tests::raw(server.http, asking.as_bytes());
            let answer = String::from_utf8(soon("an answer", answer).await.unwrap()).unwrap();
            let header = answer.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
            header.unwrap().to_owned()
        };
        let reload = |line: &str| {
            settings(&files, &[&web], line);
            server.process.signal("HUP");
            server.process.event()
        };
        assert_eq!(told().await, "127.0.0.1");
        assert_eq!(reload("trusted-proxies = ['127.0.0.0/8']"), reloaded(1, &[]));
        assert_eq!(told().await, "192.0.2.7, 127.0.0.1");
        assert_eq!(reload("trusted-proxies = ['10.0.0.0/8']"), reloaded(1, &[]));
        assert_eq!(told().await, "127.0.0.1");
        let both = "trusted-proxies = ['127.0.0.1']\naccept-proxy = true";
        assert_eq!(reload(both), reloaded(1, &["accept-proxy"]));
        assert_eq!(told().await, "192.0.2.7, 127.0.0.1");
        assert_eq!(reload(""), reloaded(1, &[]));
        assert_eq!(told().await, "127.0.0.1");
    });
}

#[test]
fn a_file_that_lets_nobody_in_is_taken_at_its_word() {
    let web = User::new("web");
    let files = Files::new();
    let server = server(&settings(&files, &[&web], ""), &[]);
    settings(&files, &[], "");
    server.process.signal("HUP");
    assert_eq!(server.process.event(), reloaded(0, &[]));
    server.process.talk_with("nobody can log in any more");
    assert!(!web.may_come(server.tunnel));
}

#[test]
fn certificates_are_loaded_with_the_settings() {
    let authority = Authority::new("servers");
    let identity = authority.server("tunnel.example");
    let (cert, key) = (identity.cert.to_str().unwrap(), identity.key.to_str().unwrap());
    let files = Files::new();
    let web = User::new("web");
    let file = settings(&files, &[&web], &format!("tls-cert = '{cert}'\ntls-key = '{key}'"));
    let server = server(&file, &[]);
    std::fs::write(&identity.cert, "no certificate").unwrap();
    server.process.signal("HUP");
    let why = server.process.refused_reload();
    assert!(why.starts_with(&file) && why.contains(cert), "{why}");
    assert!(web.may_come(server.tunnel));
}

#[test]
fn a_file_with_which_no_server_could_start_changes_nothing() {
    let (web, shop) = (User::new("web"), User::new("shop"));
    let authority = Authority::new("servers");
    let (one, other) = (authority.server("one.example"), authority.server("other.example"));
    let shown = |path: &std::path::Path| path.display().to_string();
    let files = Files::new();
    let file = settings(&files, &[&web], "");
    let server = server(&file, &[]);
    let missing = shown(&files.dir().join("missing"));
    let (cert, key) = (shown(&one.cert), shown(&one.key));
    let https = "https-bind = '127.0.0.1:0'";
    for (lines, word) in [
        (format!("tls-cert = '{cert}'"), "--tls-cert needs --tls-key"),
        (format!("tls-cert = '{cert}'\ntls-key = '{missing}'"), &*missing),
        (
            format!("tls-cert = '{cert}'\ntls-key = '{}'", shown(&other.key)),
            "the key does not belong to the certificate",
        ),
        (format!("tls-client-ca = '{missing}'"), &*missing),
        (format!("tls-client-ca = '{key}'"), &*key),
        (format!("error-pages = '{missing}'"), &*missing),
        // No machine has it: it is kept for documentation.
        ("tcp-bind-ip = '192.0.2.1'".to_owned(), "--tcp-bind-ip: cannot listen on 192.0.2.1"),
        (format!("[server.https]\n{https}"), "--https-bind needs certificates"),
        (
            format!(
                "[server.https]\n{https}\nhttps-cert = '{cert}'\nhttps-key = '{}'",
                shown(&other.key)
            ),
            "the key does not belong to the certificate",
        ),
        (
            format!("[server.plugins]\naccess-log = '{missing}/log'"),
            "--access-log: cannot write to",
        ),
        ("[server.plugins]\naccess-log-format = 'json'".to_owned(), "--access-log"),
    ] {
        // Principals, which would change at once, are not changed halfway.
        settings(&files, &[&shop], &lines);
        server.process.signal("HUP");
        let why = server.process.refused_reload();
        assert!(why.starts_with(&format!("{file}: ")) && why.contains(word), "{word}: {why}");
    }
    assert!(web.may_come(server.tunnel) && !shop.may_come(server.tunnel));
    // The addresses that it listens on are in use, by itself.
    let ports = format!("bind = '{}'\nhttp-bind = '{}'", server.http, server.tunnel);
    files.write("server.toml", &format!("[server]\n{ports}\n{}", shop.lines));
    server.process.signal("HUP");
    assert_eq!(server.process.event(), reloaded(1, &["bind", "http-bind"]));
    assert!(shop.may_come(server.tunnel));
}

#[test]
fn what_a_file_says_as_it_is_anyway_has_not_changed() {
    let web = User::new("web");
    let files = Files::new();
    let server = server(&settings(&files, &[&web], ""), &["--threads", "1"]);
    settings(
        &files,
        &[&web],
        "threads = 1\nreserved-names = []\ntrusted-proxies = []\ntcp-bind-ip = '127.0.0.1'\nvisitor-grace = '3s'\n\
         plaintext = false\naccept-proxy = false\ndrain-timeout = '30s'\n\
         [server.timeouts]\nhttp-header-timeout = '30s'\nhttp-pool-idle-timeout = '4s'\n\
         [server.limits]\nmax-handshakes = 1024\n\
         [server.https]\nhttps-redirect = false\nhttps-tls13-only = false",
    );
    server.process.signal("HUP");
    assert_eq!(server.process.event(), reloaded(1, &[]));
}

/// What files of a process are open, as far as they are in this directory.
#[cfg(target_os = "linux")]
fn open_in(dir: &std::path::Path, process: u32) -> Vec<std::path::PathBuf> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    links.filter(|path| path.starts_with(dir)).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn an_access_log_that_is_another_now_is_closed() {
    run(async {
        let (files, logs, user) = (Files::new(), tempfile::tempdir().unwrap(), User::new("ann"));
        let place = |name: &str| logs.path().join(name);
        let with =
            |name: &str| format!("[server.plugins]\naccess-log = '{}'", place(name).display());
        let file = settings(&files, &[&user], &with("first"));
        let server = server(&file, &[]);
        assert_eq!(open_in(logs.path(), server.process.id()), [place("first")]);
        settings(&files, &[&user], &with("second"));
        server.process.signal("HUP");
        assert_eq!(server.process.event(), reloaded(1, &[]));
        let process = server.process.id();
        eventually("its end", || open_in(logs.path(), process) == [place("second")]).await;
    });
}

#[test]
fn a_pipe_that_nobody_reads_is_no_access_log_and_nothing_else_is_changed_either() {
    run(async {
        let files = Files::new();
        let (user, other) = (User::new("ann"), User::new("bob"));
        let file = settings(&files, &[&user], "");
        let server = server(&file, &[]);
        let pipe = files.dir().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        settings(
            &files,
            &[&other],
            &format!("[server.plugins]\naccess-log = '{}'", pipe.display()),
        );
        server.process.signal("HUP");
        let said = server.process.refused_reload();
        assert!(said.contains("nobody reads from it"), "{said}");
        // Half of it would have been that she is out.
        assert!(user.may_come(server.tunnel));
    });
}
