//! The command as it is typed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_ferrotunnel-loadgen");

fn loadgen(arguments: &str) -> Output {
    Command::new(BINARY).args(arguments.split_whitespace()).output().unwrap()
}

fn json(arguments: &str) -> Value {
    let output = loadgen(arguments);
    assert!(output.status.success(), "{output:?}");
    assert!(!output.stderr.is_empty(), "the table is on stderr");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An origin that runs until the end of the test.
struct Origin(Child, String);

impl Origin {
    fn start(kind: &str) -> Self {
        let mut command = Command::new(BINARY);
        let mut child = command.args(["origin", kind]).stdout(Stdio::piped()).spawn().unwrap();
        let mut addr = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut addr).unwrap();
        Self(child, addr.trim().to_owned())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_command_measures_a_tunnel_and_gives_a_number() {
    for (command, number) in [
        ("bulk --streams 2", "down_bytes_per_second"),
        ("bulk --direction up --plaintext", "up_bytes_per_second"),
        ("pingpong --warmup 0s", "messages_per_second"),
        ("connect --warmup 0s --server-threads 1", "connections_per_second"),
        ("idle --streams 20", "alive_after_the_silence"),
        ("http --warmup 0s --http2 --streams 2", "requests_per_second"),
        ("http --warmup 0s --rate 200 --tunnel tcp", "requests_per_second"),
    ] {
        let result = json(&format!("{command} --duration 200ms --json"));
        assert!(result[number].as_f64().unwrap() > 0.0, "{command}: {result}");
        assert!(result["path"].as_str().unwrap().starts_with("tunnel over"), "{result}");
    }
}

#[test]
fn a_target_is_measured_where_it_runs() {
    for (kind, command, number) in [
        ("echo", "pingpong --warmup 0s", "answered"),
        ("both", "bulk --direction both", "bytes_up"),
        ("http", "http --warmup 0s", "answered"),
    ] {
        let origin = Origin::start(kind);
        let result = json(&format!("{command} --duration 200ms --json --target {}", origin.1));
        assert!(result[number].as_u64().unwrap() > 0, "{command}: {result}");
        assert_eq!(result["path"], "target");
    }
}

#[test]
fn whatever_went_wrong_is_in_the_exit_code() {
    // An echo is no HTTP server.
    let origin = Origin::start("echo");
    let output = loadgen(&format!("http --warmup 0s --duration 100ms --target {}", origin.1));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("fault"), "{output:?}");
}
