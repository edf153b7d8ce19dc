//! Server and client as processes, and many sessions: the counts are right, and what goes wrong is
//! said.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ferrotunnel_loadgen::sessions::{self, Ports, Sessions, SessionsLoad};
use ferrotunnel_loadgen::{Binary, Carrier};
use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_ferrotunnel-loadgen");

/// The command that cargo has put beside the tool. It does so only when it builds both, and cannot
/// be told from here that a test wants the one of another package.
fn ferrotunnel() -> PathBuf {
    let path = Path::new(LOADGEN).with_file_name("ferrotunnel");
    if !path.is_file() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "ferrotunnel-cli"]);
        cargo.arg("--target-dir").arg(path.ancestors().nth(2).unwrap());
        if path.parent().unwrap().ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
    }
    path
}

fn load(carrier: Carrier) -> SessionsLoad {
    SessionsLoad {
        binary: Binary::find(Some(&ferrotunnel())).unwrap(),
        carrier,
        count: 20,
        tunnels: 2,
        at_once: 4,
        checks: 15,
        ports: Ports::Picked,
        threads: 2,
        server_threads: 0,
        max_handshakes: None,
        rest: Duration::from_millis(50),
        restart: true,
        patience: Duration::from_secs(30),
    }
}

fn loadgen(arguments: &str) -> Output {
    let mut command = Command::new(LOADGEN);
    command.arg("--binary").arg(ferrotunnel());
    command.args(arguments.split_whitespace()).output().unwrap()
}

#[test]
fn every_session_comes_and_comes_back() {
    for carrier in [Carrier::Tls, Carrier::Plaintext] {
        let outcome = sessions::run(&load(carrier)).unwrap();
        assert_eq!((outcome.sessions, outcome.tunnels), (20, 40));
        assert_eq!(outcome.arrival.ready, 40);
        assert_eq!((outcome.knocks.asked, outcome.knocks.carried), (15, 15));
        let (returned, knocks) = outcome.returned.as_ref().unwrap();
        assert_eq!((returned.ready, returned.times.len()), (40, 40));
        assert_eq!((knocks.asked, knocks.carried), (15, 15));
        assert!(returned.times.is_sorted());
        assert_eq!(returned.back(0.5, 40), Some(returned.times[19]));
        assert_eq!(returned.back(1.0, 40), Some(returned.times[39]));
        assert!(outcome.is_complete(), "{:?}", outcome.faults);
        assert!(outcome.server_with.resident > outcome.server_before.resident);
        assert!(returned.server.cpu > Duration::ZERO);
    }
}

#[test]
fn tunnels_that_ask_for_their_ports_come_back_to_them() {
    let load = SessionsLoad { ports: Ports::Asked, ..load(Carrier::Plaintext) };
    let outcome = sessions::run(&load).unwrap();
    let (returned, _) = outcome.returned.as_ref().unwrap();
    assert_eq!((returned.ready, returned.same_port), (40, 40));
}

#[test]
fn a_server_that_stays_away_is_noticed() {
    let load = SessionsLoad { patience: Duration::from_secs(2), ..load(Carrier::Plaintext) };
    let mut sessions = Sessions::start(&load).unwrap();
    assert_eq!(sessions.arrive().unwrap().ready, 40);
    let _down = sessions.kill_server();
    // Nobody is there to be knocked at, and nothing is said to be there.
    let knocks = sessions.knock(10).unwrap();
    assert_eq!((knocks.asked, knocks.carried), (0, 0));
    assert!(sessions.server_usage().is_err());
}

/// A `ferrotunnel` of which only the first server runs; what the next ones do is `then`.
fn once(then: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ferrotunnel");
    let real = ferrotunnel();
    let script = format!(
        "#!/bin/sh\nif mkdir '{}/began' 2>/dev/null; then exec '{}' \"$@\"; fi\n{then}\n",
        dir.path().display(),
        real.display(),
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

#[test]
fn a_server_that_does_not_start_again_is_a_failure() {
    let (_dir, path) = once("echo 'no more' >&2; exit 3");
    let load =
        SessionsLoad { binary: Binary::find(Some(&path)).unwrap(), ..load(Carrier::Plaintext) };
    let failure = sessions::run(&load).unwrap_err().to_string();
    assert_eq!(failure, "the server ended: no more");

    let (_dir, path) = once("exit 3");
    let mut command = Command::new(LOADGEN);
    command.args(["sessions", "--count", "5", "--duration", "50ms", "--binary"]).arg(path);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_server_that_lets_nobody_in_again_is_a_failure() {
    // It says that it listens, and does not.
    let (_dir, path) = once(
        r#"echo '{"event":"listening","tunnel_addr":"127.0.0.1:9","http_addr":"127.0.0.1:9"}'; exec sleep 60"#,
    );
    let load = SessionsLoad {
        binary: Binary::find(Some(&path)).unwrap(),
        patience: Duration::from_secs(1),
        ..load(Carrier::Plaintext)
    };
    let outcome = sessions::run(&load).unwrap();
    assert_eq!(outcome.arrival.ready, 40);
    let (returned, knocks) = outcome.returned.as_ref().unwrap();
    assert_eq!((returned.ready, knocks.asked), (0, 0));
    assert!(!outcome.is_complete());
}

#[test]
fn what_processes_cost_is_reported_for_every_command() {
    for (command, costs) in [
        ("bulk --plaintext", ["server_cpu_seconds_per_gb", "client_cpu_seconds_per_gb"]),
        ("bulk --visitors direct", ["server_cpu_seconds_per_gb", "client_cpu_seconds_per_gb"]),
        ("pingpong", ["server_cpu_us_per_message", "client_cpu_us_per_message"]),
        ("connect", ["server_cpu_us_per_connection", "client_cpu_us_per_connection"]),
        ("http", ["server_cpu_us_per_request", "client_cpu_us_per_request"]),
        ("http --origin-http2", ["server_cpu_us_per_request", "server_resident_bytes"]),
        (
            "idle --streams 200",
            ["server_resident_bytes_per_stream", "server_resident_with_all_bytes"],
        ),
        ("sessions --count 10", ["server_resident_bytes_per_session", "restart_to_all_ms"]),
    ] {
        let output = loadgen(&format!("{command} --duration 200ms --json"));
        assert!(output.status.success(), "{command}: {output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        for cost in costs {
            assert!(result[cost].as_f64().unwrap() > 0.0, "{command}: {cost} in {result}");
        }
    }
}

#[test]
fn no_process_outlives_the_tool() {
    let mut command = Command::new(LOADGEN);
    command.args(["pingpong", "--duration", "2m", "--binary"]).arg(ferrotunnel());
    let mut tool = command.spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", tool.id());
    let began = Instant::now();
    let (mut all, mut servers) = (0, Vec::new());
    // Server, client, and what holds each of them.
    while (all < 4 || servers.len() < 2) && began.elapsed() < Duration::from_secs(20) {
        let ids = std::fs::read_to_string(&children).unwrap();
        all = ids.split_whitespace().count();
        servers =
            ids.split_whitespace().map(str::to_owned).filter(|id| is_ferrotunnel(id)).collect();
        std::thread::yield_now();
    }
    assert_eq!((all, servers.len()), (4, 2));
    tool.kill().unwrap();
    tool.wait().unwrap();
    let began = Instant::now();
    while servers.iter().any(|id| is_ferrotunnel(id)) {
        assert!(began.elapsed() < Duration::from_secs(20), "{servers:?} still run");
        std::thread::yield_now();
    }
}

fn is_ferrotunnel(id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/comm"))
        .is_ok_and(|name| name.trim() == "ferrotunnel")
        && std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn what_is_missing_is_named() {
    let failure = Binary::find(Some(Path::new("/nowhere/ferrotunnel"))).unwrap_err().to_string();
    assert!(failure.contains("cargo build --release"), "{failure}");
    let many = SessionsLoad { count: 900_000, ..load(Carrier::Tls) };
    assert!(sessions::run(&many).unwrap_err().to_string().contains("open files"));
}
