//! The unit files for systemd: it understands them, and what they run works.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use ferrotunnel_tests::{Site, TOKEN, get, run};
use support::server::Server;
use support::{Running, command};

const SERVER: &str = "ferrotunnel-server.service";
const SOCKETS: &str = "ferrotunnel-server.socket";
const CLIENT: &str = "ferrotunnel-client@.service";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")
}

fn unit(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// What a unit sets, in its order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter(|line| !line.starts_with(['#', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

/// What a unit starts, of this very build: through a shell, or itself.
fn start(unit: &str) -> Command {
    let [start] = values(unit, "ExecStart")[..] else { panic!("one ExecStart, please") };
    let ours = "/usr/local/bin/ferrotunnel";
    assert!(start.contains(&format!("{ours} ")), "{start}");
    let start = start.replace("$$", "$").replace(ours, env!("CARGO_BIN_EXE_ferrotunnel"));
    let quoted = start.strip_prefix("/bin/sh -c '").and_then(|rest| rest.strip_suffix('\''));
    if let Some(script) = quoted {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]);
        return shell;
    }
    let mut words = start.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// What a unit runs, with a token as systemd hands it over, and nothing of the test's settings. The
/// token ends without a line end: so do those that other programs write.
fn service(unit: &str) -> (Command, tempfile::TempDir) {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("token"), TOKEN).unwrap();
    let mut started = start(unit);
    for (name, value) in command(&[]).get_envs() {
        assert!(value.is_none());
        started.env_remove(name);
    }
    for (name, value) in values(unit, "Environment").iter().filter_map(|set| set.split_once('=')) {
        started.env(name, value.replace("%d", &credentials.path().to_string_lossy()));
    }
    (started, credentials)
}

#[test]
fn systemd_understands_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for name in [SERVER, SOCKETS, CLIENT] {
        // It looks whether what they start is there.
        let here =
            unit(name).replace("/usr/local/bin/ferrotunnel", env!("CARGO_BIN_EXE_ferrotunnel"));
        std::fs::write(dir.path().join(name), here).unwrap();
    }
    let files =
        [SERVER, SOCKETS, "ferrotunnel-client@app.service"].map(|name| dir.path().join(name));
    let verify = |files: &[PathBuf]| {
        Command::new("systemd-analyze").args(["verify", "--man=no"]).args(files).output()
    };
    let Ok(output) = verify(&files) else {
        eprintln!("skipped: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // A key that it does not know is no failure for it. Older ones than the units do not know all.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("ferrotunnel-")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_units_say_what_the_program_relies_on() {
    for name in [SERVER, CLIENT] {
        let unit = unit(name);
        assert_eq!(values(&unit, "Type"), ["notify"], "{name}");
        // A client that was taken over (4) must not take the tunnel back.
        let final_codes = if name == CLIENT { "2 4" } else { "2" };
        assert_eq!(values(&unit, "RestartPreventExitStatus"), [final_codes], "{name}");
        assert_eq!(values(&unit, "LoadCredential"), ["token:/etc/ferrotunnel/token"], "{name}");
        for key in ["NoNewPrivileges", "MemoryDenyWriteExecute", "DynamicUser"] {
            assert_eq!(values(&unit, key), ["yes"], "{key} of {name}");
        }
        assert_eq!(values(&unit, "CapabilityBoundingSet"), [""], "{name}");
    }
    // In this order they are taken for those of clients and of visitors.
    assert_eq!(values(&unit(SOCKETS), "ListenStream"), ["7835", "8080"]);
}

#[test]
fn every_setting_that_the_units_and_the_guide_name_is_one() {
    let guide = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let mut text = std::fs::read_to_string(guide).unwrap();
    for name in [SERVER, SOCKETS, CLIENT] {
        text.push_str(&unit(name));
    }
    let mut help = String::new();
    for of in ["server", "client", "http", "tcp", "tls"] {
        let output = command(&[of, "--help"]).output().unwrap();
        help.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    let words = |text: &str| -> BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let words = text.split(|c| !is_part(c)).filter(|word| {
            word.starts_with("FERROTUNNEL_") || word.strip_prefix("--").is_some_and(is_name)
        });
        words.map(str::to_owned).collect()
    };
    let (named, known) = (words(&text), words(&help));
    let ours: Vec<_> = named.iter().filter(|word| !OF_OTHERS.contains(&word.as_str())).collect();
    assert!(ours.len() > 10, "{ours:?}");
    for word in ours {
        assert!(known.contains(word), "{word} is no setting");
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Flags of other programs.
const OF_OTHERS: [&str; 3] = ["--now", "--help", "--release"];

#[test]
fn what_the_units_run_makes_a_tunnel() {
    run(async {
        let (mut started, _credentials) = service(&unit(SERVER));
        started.env("FERROTUNNEL_JSON", "1").env("FERROTUNNEL_BIND", "127.0.0.1:0");
        started.env("FERROTUNNEL_HTTP_BIND", "127.0.0.1:0");
        let server = Server::spawn(started);
        let site = Site::start().await;
        let client = |kind: &str| {
            let (mut started, credentials) = service(&unit(CLIENT));
            started.env("FERROTUNNEL_SERVER", server.tunnel.to_string());
            started.env("FERROTUNNEL_LOCAL_ADDR", site.addr().to_string());
            if !kind.is_empty() {
                started.env("TUNNEL_KIND", kind);
            }
            let client = Running::spawn(started);
            let url = client.line();
            drop(credentials);
            (client, url)
        };
        let (_client, url) = client("");
        assert!(url.starts_with("http://"), "{url}");
        assert_eq!(get(server.http, "localhost", "/hello").await.body, "hello");
        let (_client, url) = client("tcp");
        assert!(url.starts_with("tcp://"), "{url}");
    });
}
