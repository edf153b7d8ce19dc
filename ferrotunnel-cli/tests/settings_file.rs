//! The built program with settings files: what it runs, who wins, and what it says about a file that will not do.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use ferrotunnel_tests::{
    LocalService, Site, TOKEN, get, loopback, public_addr, run, says_and_hears, soon,
};
use serde_json::{Value, json};
use support::files::Files;
use support::server::Server;
use support::{Running, command};
use tokio::net::TcpStream;

fn server(file: &str, args: &[&str], env: &[(&str, &str)]) -> Server {
    let mut command = command(&[&["server", "--json", "--config", file], args].concat());
    command.envs(env.iter().copied());
    Server::spawn(command)
}

/// The first public address of a client with these arguments.
fn url_of(args: &[&str], env: &[(&str, &str)]) -> (Running, String) {
    let mut command = command(args);
    command.envs(env.iter().copied());
    let client = Running::spawn(command);
    let url = client.line();
    (client, url)
}

fn ended(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn one_client_runs_all_the_tunnels_of_its_file() {
    run(async {
        let files = Files::new();
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let server = server(&files.server(""), &[], &[]);
        let file = files.write(
            "client.toml",
            &format!(
                "[client]\nserver = '{}'\ntoken = '{TOKEN}'\n\
                 [[client.tunnels]]\nkind = 'http'\nname = 'app'\nlocal-addr = {}\n\
                 [[client.tunnels]]\nkind = 'tcp'\nlocal-addr = '{}'\nstreams = 'multiplexed'\n",
                server.tunnel,
                site.addr().port(),
                echo.addr(),
            ),
        );
        let mut client = Running::start(&["client", "--config", &file]);
        assert_eq!(client.line(), format!("http://app.localhost:{}/", server.http.port()));
        let public = public_addr(&client.line());

        assert_eq!(get(server.http, "app.localhost", "/hello").await.body, "hello");
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;

        drop(visitor);
        client.signal("TERM");
        assert_eq!(client.ended().code(), Some(0));
    });
}

#[test]
fn one_file_serves_both_ends_and_its_token_is_in_no_log() {
    run(async {
        let files = Files::new();
        let site = Site::start().await;
        let tunnel = format!("kind = 'http'\nname = 'app'\nlocal-addr = '{}'\n", site.addr());
        let file = files.server(&format!(
            "[client]\ntoken = '{TOKEN}'\nexit-on-first-failure = true\n[[client.tunnels]]\n{tunnel}"
        ));
        let mut server = server(&file, &["--log-level", "trace"], &[]);
        let dial = server.tunnel.to_string();
        let args = ["client", "--config", &file, "--server", &dial, "--log-level", "trace"];
        let mut client = Running::start(&args);
        assert!(client.line().starts_with("http://app.localhost"));
        assert_eq!(get(server.http, "app.localhost", "/hello").await.body, "hello");
        for process in [&mut client, &mut server.process] {
            process.signal("TERM");
            assert_eq!(process.ended().code(), Some(0));
            let log = process.rest_of_stderr();
            assert!(log.contains(&dial), "there is a log: {log}");
            assert!(!log.contains(TOKEN), "{log}");
        }
    });
}

#[test]
fn arguments_win_over_the_environment_and_that_over_the_file() {
    let files = Files::new();
    let file = files.server("domain = 'file.example'\nplaintext = true");
    let env = [("FERROTUNNEL_DOMAIN", "env.example"), ("FERROTUNNEL_PLAINTEXT", "0")];
    let typed = ["--domain", "typed.example", "--plaintext=false"];
    for (args, env, domain, plaintext) in [
        (&[][..], &[][..], "file.example", true),
        (&[], &env, "env.example", false),
        (&typed, &env, "typed.example", false),
        (&["--plaintext"], &env, "env.example", true),
        (&typed, &[], "typed.example", false),
    ] {
        let server = server(&file, args, env);
        let client = files.write(
            "client.toml",
            &format!(
                "[client]\nserver = '{}'\ntoken = '{TOKEN}'\nplaintext = {plaintext}",
                server.tunnel
            ),
        );
        let (_client, url) = url_of(&["http", "1", "--name", "app", "--config", &client], &[]);
        assert_eq!(url, format!("http://app.{domain}:{}/", server.http.port()), "{args:?} {env:?}");
    }
}

#[test]
fn a_client_s_settings_have_the_same_order() {
    let files = Files::new();
    let server = server(&files.server(""), &[], &[]);
    let (right, nobody) = (server.tunnel.to_string(), "127.0.0.1:1");
    let file = |server: &str, token: &str| {
        files.write("client.toml", &format!("[client]\nserver = '{server}'\ntoken = '{token}'"))
    };
    let http = |file: &str, more: &[&str], env: &[(&str, &str)]| {
        url_of(&[&["http", "1", "--name", "app", "--config", file], more].concat(), env).1
    };
    let expected = format!("http://app.localhost:{}/", server.http.port());
    let env = [("FERROTUNNEL_SERVER", right.as_str()), ("FERROTUNNEL_TOKEN", TOKEN)];
    let wrong = [("FERROTUNNEL_SERVER", nobody), ("FERROTUNNEL_TOKEN", "wrong")];
    let typed = ["--server", &right, "--token", TOKEN];
    assert_eq!(http(&file(&right, TOKEN), &[], &[]), expected);
    assert_eq!(http(&file(nobody, "wrong"), &[], &env), expected);
    assert_eq!(http(&file(nobody, "wrong"), &typed, &wrong), expected);
}

#[test]
fn http_and_tcp_read_how_to_reach_the_server_and_no_tunnels() {
    run(async {
        let files = Files::new();
        let echo = LocalService::echo().await;
        // With a domain, no tunnel answers for a name that is not its own.
        let server = server(&files.server("plaintext = true\ndomain = 'localhost'"), &[], &[]);
        let file = files.write(
            "client.toml",
            &format!(
                "[client]\nserver = '{}'\ntoken = '{TOKEN}'\nplaintext = true\n\
                 [[client.tunnels]]\nkind = 'http'\nname = 'not-asked-for'\nlocal-addr = 1\n",
                server.tunnel
            ),
        );
        let local = echo.addr().to_string();
        let config = [("FERROTUNNEL_CONFIG", file.as_str())];
        let (client, url) = url_of(&["tcp", &local], &config);
        let mut visitor = soon("a way in", TcpStream::connect(public_addr(&url))).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert_eq!(get(server.http, "not-asked-for.localhost", "/").await.status, 404);
        drop(client);

        // The same goes for `client` with a local address of its own.
        let (_client, url) = url_of(&["client", "--local-addr", &local, "--name", "mine"], &config);
        assert!(url.starts_with("http://mine."), "{url}");
        assert_eq!(get(server.http, "not-asked-for.localhost", "/").await.status, 404);
    });
}

#[test]
fn no_file_is_read_that_nobody_named() {
    let files = Files::new();
    files.write("ferrotunnel.toml", "[client]\nserver = '127.0.0.1:1'\ntoken = 's'\n");
    let output = command(&["http", "3000"]).current_dir(files.dir()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for words in ["no server", "--server", "FERROTUNNEL_SERVER", "--config"] {
        assert!(stderr.contains(words), "{words} is not in: {stderr}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_starts() {
    let files = Files::new();
    let text = "[server]\nbnid = '0.0.0.0:1'\n[server.limits]\nmax-tunnels = 'many'\n[client]\nserver = 'http://h'\n";
    let file = files.write("f.toml", text);
    let expected = format!(
        "error: {file}:2:1: unknown key \"bnid\" in [server]; did you mean \"bind\"?\n\
         error: {file}:4:15: \"max-tunnels\" in [server.limits] must be a whole number, not a text\n\
         error: {file}:6:10: bad value \"http://h\" for \"server\" in [client]: give HOST:PORT without a scheme, like \
         example.com:7835\n"
    );
    for args in [
        &["server", "--token", "s"][..],
        &["client", "--local-addr", "1"],
        &["http", "1"],
        &["tcp", "1"],
    ] {
        let (code, stdout, stderr) = ended(&[args, &["--config", &file]].concat());
        assert_eq!((code, stdout.as_str(), stderr), (Some(2), "", expected.clone()), "{args:?}");
    }
    let (code, stdout, stderr) = ended(&["check", &file]);
    assert_eq!((code, stdout.as_str(), stderr), (Some(2), "", expected));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let missing = Files::new().dir().join("missing.toml");
    let missing = missing.to_str().unwrap();
    for args in [&["server", "--config", missing][..], &["check", missing]] {
        let (code, _, stderr) = ended(args);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(missing) && stderr.contains("give the path"), "{stderr}");
    }
}

#[test]
fn a_client_without_any_tunnel_is_a_usage_error() {
    let files = Files::new();
    let file = files.write("f.toml", "[client]\nserver = 'h'\ntoken = 's'\n");
    let (code, _, stderr) = ended(&["client", "--config", &file]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--local-addr") && stderr.contains("[[client.tunnels]]"), "{stderr}");
    let (code, _, stderr) = ended(&["client", "--config", &file, "--name", "app"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--local-addr, which is missing"), "{stderr}");
}

/// What `token new` prints goes into a settings file as it is, and its user gets what the file allows.
#[test]
fn a_token_that_was_made_for_somebody_gets_what_the_file_allows() {
    run(async {
        let files = Files::new();
        let site = Site::start().await;
        let (code, printed, _) = ended(&["token", "new", "web"]);
        assert_eq!(code, Some(0));
        let (token, lines) = printed.split_once("\n\n").unwrap();
        let ports = "bind = '127.0.0.1:0'\nhttp-bind = '127.0.0.1:0'";
        let file =
            files.write("server.toml", &format!("[server]\n{ports}\n{lines}hosts = ['app']\n"));
        let (code, stdout, stderr) = ended(&["check", &file]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        assert!(stdout.ends_with("; 1 principal\n"), "nothing is left to arguments: {stdout}");

        let server = server(&file, &[], &[]);
        let (local, dial) = (site.addr().to_string(), server.tunnel.to_string());
        let http = |name: &'static str| ["http", &local, "--server", &dial, "--name", name];
        let env = [("FERROTUNNEL_TOKEN", token)];
        let (_client, url) = url_of(&http("app"), &env);
        assert!(url.starts_with("http://app.localhost:"), "{url}");
        assert_eq!(get(server.http, "app.localhost", "/hello").await.body, "hello");

        let mut other = command(&http("shop"));
        let output = other.envs(env).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let rule = "host \"shop.localhost\" is not among those of principal \"web\"; allowed: app";
        assert!(stderr.contains(rule), "{stderr}");

        let (_, printed, _) = ended(&["token", "new", "web"]);
        let mut stranger = command(&http("app"));
        let token = printed.lines().next().unwrap();
        let output = stranger.env("FERROTUNNEL_TOKEN", token).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
    });
}

#[test]
fn what_is_wrong_with_a_principal_is_told_with_its_place() {
    let files = Files::new();
    let file = files.server("[principals.al]\ntokens = ['ftv1:abc']\n");
    let expected = format!(
        "error: {file}:6:11: bad value for \"tokens\" in [principals.al]: a verifier has three fields behind ftv1, with \
         colons between them; copy it again as a whole\n"
    );
    for args in [&["server", "--config", &file][..], &["check", &file]] {
        assert_eq!(ended(args), (Some(2), String::new(), expected.clone()), "{args:?}");
    }
}

#[test]
fn a_server_into_which_nobody_could_come_does_not_start() {
    let files = Files::new();
    let file = files.write("f.toml", "[server]\nbind = '127.0.0.1:0'\nhttp-bind = '127.0.0.1:0'\n");
    let (code, _, stderr) = ended(&["server", "--config", &file]);
    assert_eq!(code, Some(2), "{stderr}");
    for way in ["--token ", "--token-file ", "[principals]"] {
        assert!(stderr.contains(way), "{way} is not in: {stderr}");
    }
}

#[test]
fn check_says_what_a_file_would_run() {
    let files = Files::new();
    let text = "[server]\ntoken = 's'\nbind = 7000\n[client]\nserver = 'h'\n\
                [[client.tunnels]]\nkind = 'tcp'\nlocal-addr = 22\nremote-port = 2222\n\
                [[client.tunnels]]\nkind = 'http'\nlocal-addr = 80\nname = 'app'\n\
                [[client.tunnels]]\nkind = 'tls'\nlocal-addr = 443\nhosts = ['vault.example']\n";
    let file = files.write("f.toml", text);
    let (code, stdout, stderr) = ended(&["check", &file]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let expected = format!(
        "{file} is valid: a server for clients on 0.0.0.0:7000 and HTTP visitors on 0.0.0.0:8080; a client of h:7835 with \
         3 tunnels; [client] has no token, which --token or FERROTUNNEL_TOKEN has to bring\n"
    );
    assert_eq!(stdout, expected);

    let (code, stdout, _) = ended(&["check", "--json", &file]);
    assert_eq!(code, Some(0));
    let expected = json!({
        "event": "checked",
        "file": file,
        "valid": true,
        "server": {
            "bind": "0.0.0.0:7000",
            "http_bind": "0.0.0.0:8080",
            "https_bind": null,
            "domain": null,
            "encryption": "self-signed",
        },
        "client": {
            "servers": ["h:7835"],
            "tunnels": [
                { "kind": "tcp", "remote_port": 2222, "local_addr": "127.0.0.1:22" },
                { "kind": "http", "name": "app", "hosts": [], "path": "/", "local_addr": "127.0.0.1:80" },
                { "kind": "tls", "name": null, "hosts": ["vault.example"], "local_addr": "127.0.0.1:443" },
            ],
        },
        "principals": [],
        "without_token": ["client"],
    });
    assert_eq!(stdout.parse::<Value>().unwrap(), expected);
}

#[test]
fn check_reads_the_files_that_are_named() {
    let files = Files::new();
    let cert = files.write("cert.pem", "certificate");
    let file = files.server("tls-cert = 'cert.pem'\ntls-key = 'key.pem'\n");
    let (code, stdout, stderr) = ended(&["check", &file]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    let key = beside(&cert, "key.pem");
    assert!(stderr.starts_with(&format!("error: {file}:6:11: ")), "{stderr}");
    assert!(stderr.contains("tls-key") && stderr.contains(&key), "{stderr}");

    files.write("key.pem", "key");
    let (code, _, stderr) = ended(&["check", &file]);
    assert_eq!(code, Some(0), "{stderr}");

    let half = files.server("tls-cert = 'cert.pem'\n");
    let (code, _, stderr) = ended(&["check", &half]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--tls-key"), "{stderr}");
}

fn beside(path: &str, name: &str) -> String {
    let path: PathBuf = Path::new(path).with_file_name(name);
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_tells_scripts_where_the_errors_are() {
    let files = Files::new();
    let file = files.write("f.toml", "[server]\nbnid = 1\n");
    let (code, stdout, _) = ended(&["check", "--json", &file]);
    assert_eq!(code, Some(2));
    let expected = json!({
        "event": "checked",
        "file": file,
        "valid": false,
        "errors": [{
            "line": 2,
            "column": 1,
            "message": "unknown key \"bnid\" in [server]; did you mean \"bind\"?",
        }],
    });
    assert_eq!(stdout.parse::<Value>().unwrap(), expected);
}

#[test]
fn a_token_that_others_may_read_is_warned_about_wherever_it_is_used() {
    let files = Files::new();
    let file = files.server("");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = server(&file, &[], &[]);
    let warning = server.process.talk_with("warning: ");
    assert!(warning.contains(&format!("chmod 600 {file}")), "{warning}");
    let (code, _, stderr) = ended(&["check", &file]);
    assert_eq!(code, Some(0));
    assert!(stderr.contains("mode 644") && !stderr.contains(TOKEN), "{stderr}");
}

#[test]
fn a_key_for_an_acme_account_that_others_may_read_is_warned_about() {
    let files = Files::new();
    let key = files.write("eab.key", "c2VjcmV0");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let acme = "[server.https]\nhttps-bind = '127.0.0.1:0'\nacme-dir = 'acme'\nacme-server = 'https://127.0.0.1:1/'\n\
         acme-eab-key-id = 'k'\nacme-eab-key-file = 'eab.key'";
    let file = files.server(acme);
    let warning = server(&file, &[], &[]).process.talk_with("warning: ");
    assert!(warning.contains(&format!("chmod 600 {key}")), "{warning}");
    assert!(warning.contains("acme-eab-key-file") && warning.contains("0640"), "{warning}");
    let (code, _, stderr) = ended(&["check", &file]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(&format!("chmod 600 {key}")), "{stderr}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (_, _, stderr) = ended(&["check", &file]);
    assert!(!stderr.contains("warning"), "{stderr}");
}

#[test]
fn who_turns_encryption_off_over_a_file_that_verifies_is_told_what_that_drops() {
    let files = Files::new();
    let file = files.server("tls-client-ca = 'ca.pem'");
    let server = server(&file, &[], &[("FERROTUNNEL_PLAINTEXT", "1")]);
    let warning = server.process.talk_with("warning: ");
    assert!(warning.contains("--tls-client-ca"), "{warning}");
    let verifies = format!(
        "[client]\nserver = '{}'\ntoken = '{TOKEN}'\ntls-ca = 'ca.pem'\ntls-verify = true",
        server.tunnel
    );
    let file = files.write("client.toml", &verifies);
    let (client, _) = url_of(&["http", "1", "--config", &file], &[("FERROTUNNEL_PLAINTEXT", "1")]);
    let warning = client.talk_with("warning: ");
    assert!(warning.contains("--tls-ca and --tls-verify"), "{warning}");
}

/// A port of a file is taken as it is said, not looked for elsewhere.
#[test]
fn a_public_port_of_the_file_is_asked_for() {
    let files = Files::new();
    let server = server(&files.server(""), &[], &[]);
    let free = std::net::TcpListener::bind(loopback(0)).unwrap();
    let port = free.local_addr().unwrap().port();
    let file = files.write(
        "client.toml",
        &format!(
            "[client]\nserver = '{}'\ntoken = '{TOKEN}'\n\
             [[client.tunnels]]\nkind = 'tcp'\nlocal-addr = 1\nremote-port = {port}\n",
            server.tunnel
        ),
    );
    let (code, _, stderr) = ended(&["client", "--config", &file]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&port.to_string()), "{stderr}");
}
