//! The units under a systemd that is one: a manager of its own, in namespaces of its own. That takes root and a systemd
//! on this machine; without them the test says that it was skipped.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ferrotunnel_tests::TOKEN;

/// What a unit of ours says in its section, without what only a system's own manager can do or what would change this
/// machine.
fn section(unit: &str, keys: &[&str]) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(unit);
    let text = std::fs::read_to_string(path).unwrap();
    let kept = text
        .lines()
        .filter(|line| line.split_once('=').is_some_and(|(key, _)| keys.contains(&key)));
    kept.map(|line| format!("{line}\n")).collect()
}

fn write_units(dir: &Path) {
    let service = section(
        "ferrotunnel-server.service",
        &["Type", "ExecStart", "ExecReload", "Restart", "RestartSec", "TimeoutStopSec", "KillMode"],
    );
    let service = service.replace("/usr/local/bin/ferrotunnel", env!("CARGO_BIN_EXE_ferrotunnel"));
    let sockets = section("ferrotunnel-server.socket", &["ListenStream", "Backlog", "NoDelay"]);
    let needs = "Requires=ferrotunnel-server.socket\nAfter=ferrotunnel-server.socket\n";
    // Sooner than by the unit, so that the test need not wait for half a minute.
    let own = format!("WatchdogSec=2\nEnvironment=FERROTUNNEL_TOKEN={TOKEN}\n");
    for (name, text) in [
        ("ferrotunnel-server.service", format!("[Unit]\n{needs}[Service]\n{service}{own}")),
        ("ferrotunnel-server.socket", format!("[Socket]\n{sockets}")),
        ("basic.target", "[Unit]\n".to_owned()),
        ("exit.target", "[Unit]\n".to_owned()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

/// Prints what it sees, a word and a value in each line. It is the first process of its namespace: all end with it.
const SCRIPT: &str = r#"
ip link set lo up || exit 9
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system || exit 9
export XDG_RUNTIME_DIR=$1/run SYSTEMD_UNIT_PATH=$1/units SYSTEMD_LOG_TARGET=console
export DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent
mkdir -p "$XDG_RUNTIME_DIR"
/lib/systemd/systemd --user --unit=basic.target >"$1/log" 2>&1 </dev/null &
manager=$!
until [ -S "$XDG_RUNTIME_DIR/systemd/private" ]; do
    kill -0 $manager 2>/dev/null || exit 9
    sleep 0.1
done
ctl() { timeout 30 systemctl --user --no-pager "$@"; }
value() { ctl show ferrotunnel-server.service --property "$1" --value; }
visit() {
    exec 3<>/dev/tcp/127.0.0.1/8080 || return
    printf 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' >&3
    head -n 1 <&3 | cut -d ' ' -f 2
    exec 3>&-
}

ctl start ferrotunnel-server.socket && echo "before $(value ActiveState)"
echo "first $(visit)"
echo "active $(value ActiveState)"
echo "status $(value StatusText)"

(for _ in $(seq 50); do visit; done | sort | uniq -c >"$1/visits") &
visitors=$!
ctl restart ferrotunnel-server.service && echo "restarted $(value ActiveState)"
wait $visitors
echo "visits" $(cat "$1/visits")
ctl reload ferrotunnel-server.service && echo "reloaded $(value ActiveState)"

# Somebody who does not answer any more.
kill -STOP "$(value MainPID)"
until [ "$(value NRestarts)" = 1 ]; do sleep 0.1; done
echo "again $(visit)"

ctl stop ferrotunnel-server.service ferrotunnel-server.socket
echo "stopped $(value ActiveState) $(value Result) $(value ExecMainStatus)"
"#;

#[test]
fn a_real_systemd_starts_restarts_watches_and_stops_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let units = dir.path().join("units");
    std::fs::create_dir(&units).unwrap();
    write_units(&units);
    let mut unshare = Command::new("timeout");
    unshare.args(["--kill-after=5", "120", "unshare", "--pid", "--fork", "--kill-child"]);
    unshare.args(["--mount", "--mount-proc", "--net", "--uts", "--ipc", "--cgroup"]);
    unshare.args(["bash", "-c", SCRIPT, "bash"]).arg(dir.path()).stdin(Stdio::null());
    let output = unshare.output();
    let said = output.as_ref().map(|it| String::from_utf8_lossy(&it.stdout)).unwrap_or_default();
    if said.is_empty() {
        // Past the harness, which keeps what a test that passes has printed.
        let why = "a systemd of one's own takes root, namespaces and a systemd";
        let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
        return;
    }
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    let expected = [
        "before inactive",
        // Who comes first is served, and nobody has started the service before.
        "first 404",
        "active active",
        "status sessions: 0, tunnels: 0, streams: 0",
        "restarted active",
        "visits 50 404",
        "reloaded active",
        "again 404",
        "stopped inactive success 0",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{output:?}\n{log}");
}
