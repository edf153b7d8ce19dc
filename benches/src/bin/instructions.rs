//! Counts the instructions of the hot paths, and holds them to `instructions.json`.
//!
//! A count is the same on a busy machine and on a quiet one, so CI can hold it within a few
//! percent, which it can do with no time. Counted is what valgrind's callgrind sees inside
//! [`measured`], and of that what our own binary executes: how the C library of a machine copies
//! and allocates is not ours. How often we allocate is, so calls of its allocator are counted too.
//!
//! `instructions` compares, `instructions update` writes the file anew, `instructions run NAME`
//! goes through one scenario and counts nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark that fails stops")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use bytes::{Bytes, BytesMut};
use ferrotunnel_benches::{Directory, Pair};
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::frame::{Frame, FrameType, Header, WindowUpdate};
use ferrotunnel_protocol::{Decoded, Decoder};
use serde_json::{Value, json};

/// Callgrind counts while this runs; it finds it by its name.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
}

type Scenario = (&'static str, fn());

const SCENARIOS: [Scenario; 9] = [
    ("encode 1000 window updates", encode),
    ("decode 1000 frames of 64 B", || decode(64, 1_000)),
    ("decode 1000 frames of 16 KiB", || decode(16 << 10, 1_000)),
    ("carry 1 MiB over one stream", || carry(1, 64 << 10, 16)),
    ("carry 1000 messages of 100 B over one stream", || carry(1, 100, 1_000)),
    ("carry 100 B over each of 1000 streams", || carry(1_000, 100, 1)),
    ("open and close 1000 streams, one at a time", || open_and_close(1, 1_000)),
    ("open and close 1000 streams at once", || open_and_close(1_000, 1)),
    ("look 1000 hosts up", look_up),
];

fn encode() {
    let update = Frame::WindowUpdate(StreamId(2), WindowUpdate { credit: 65_536 });
    measured(&mut || {
        for _ in 0..1_000 {
            black_box(black_box(&update).encode());
        }
    });
}

fn decode(payload: u16, count: usize) {
    let mut wire = BytesMut::new();
    let header = Header { kind: FrameType::Data, flags: 0, length: payload, stream: 2 };
    for _ in 0..count {
        wire.extend_from_slice(&header.encode());
        wire.resize(wire.len() + usize::from(payload), 7);
    }
    let mut decoder = Decoder::default();
    decoder.authenticated();
    let mut bytes = 0;
    measured(&mut || {
        while let Some(Decoded::Data { bytes: piece, .. }) = decoder.decode(&mut wire).unwrap() {
            bytes += piece.len();
        }
    });
    assert_eq!(bytes, usize::from(payload) * count);
}

fn carry(streams: usize, size: usize, rounds: usize) {
    let mut pair = Pair::new();
    let ids = pair.open(streams);
    let chunk = Bytes::from(vec![7; size]);
    // Queues and buffers have grown to their size before anything counts.
    pair.round(&ids, &chunk);
    measured(&mut || {
        for _ in 0..rounds {
            assert_eq!(pair.round(&ids, &chunk), size * streams);
        }
    });
}

fn open_and_close(streams: usize, rounds: usize) {
    let mut pair = Pair::new();
    let ids = pair.open(streams);
    pair.close(ids);
    measured(&mut || {
        for _ in 0..rounds {
            let ids = pair.open(streams);
            pair.close(ids);
        }
    });
    assert_eq!(pair.server.stats().streams, 0);
}

fn look_up() {
    let directory = Directory::new(1_000);
    measured(&mut || {
        for host in directory.hosts() {
            assert!(directory.routes().http(black_box(host), black_box("/")).is_ok());
        }
    });
}

/// What a scenario costs.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// Executed by our own binary.
    instructions: u64,
    /// Calls of the C library's allocator.
    allocations: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => check(),
        ["update"] => update(),
        ["run", name] => {
            SCENARIOS.iter().find(|(known, _)| known == name).unwrap().1();
            ExitCode::SUCCESS
        }
        _ => {
            println!("instructions [update | run NAME]");
            ExitCode::from(2)
        }
    }
}

fn update() -> ExitCode {
    let Some(costs) = count_all() else { return ExitCode::FAILURE };
    let costs: BTreeMap<&str, Value> = costs
        .into_iter()
        .map(|(name, cost)| {
            let Cost { instructions, allocations } = cost;
            (name, json!({ "instructions": instructions, "allocations": allocations }))
        })
        .collect();
    let file = json!({ "architecture": ARCHITECTURE, "compiler": compiler(), "costs": costs });
    std::fs::write(file_path(), serde_json::to_string_pretty(&file).unwrap() + "\n").unwrap();
    println!("written: {}", file_path().display());
    ExitCode::SUCCESS
}

fn check() -> ExitCode {
    let file: Value = serde_json::from_slice(&std::fs::read(file_path()).unwrap()).unwrap();
    if file["architecture"] != ARCHITECTURE {
        println!("skipped: instructions.json is about {}", file["architecture"]);
        return ExitCode::SUCCESS;
    }
    let Some(costs) = count_all() else { return ExitCode::SUCCESS };
    let tolerance = if file["compiler"] == compiler().as_str() {
        TOLERANCE
    } else {
        println!("instructions.json is about {}; this is {}", file["compiler"], compiler());
        TOLERANCE_OF_OTHER_COMPILERS
    };
    let mut is_good = true;
    for (name, cost) in costs {
        let known = &file["costs"][name];
        for (what, is, was) in [
            ("instructions", cost.instructions, &known["instructions"]),
            ("allocations", cost.allocations, &known["allocations"]),
        ] {
            let Some(was) = was.as_u64() else {
                println!("{name}: {is} {what}, and instructions.json knows nothing of it");
                is_good = false;
                continue;
            };
            let change = (is as f64 - was as f64) / was.max(1) as f64;
            let is_off = change.abs() > tolerance && is.abs_diff(was) > SLACK;
            is_good &= !is_off;
            let mark = if is_off { "  <== " } else { "" };
            println!("{name}: {is} {what}, {:+.2} %{mark}", change * 100.0);
        }
    }
    if is_good {
        return ExitCode::SUCCESS;
    }
    println!(
        "more: find out why; less, or more for a reason: `just instructions-update`, commit it"
    );
    ExitCode::FAILURE
}

/// `None`: there is no valgrind.
fn count_all() -> Option<Vec<(&'static str, Cost)>> {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if valgrind.is_err() {
        println!("skipped: valgrind is not installed (`just tools` installs it)");
        return None;
    }
    Some(SCENARIOS.iter().map(|(name, _)| (*name, count(name))).collect())
}

/// Runs one scenario under callgrind.
fn count(name: &str) -> Cost {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("callgrind.out");
    let binary = std::env::current_exe().unwrap().canonicalize().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured*"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&binary)
        .args(["run", name])
        // Hashes are seeded by addresses, and what is in the environment moves the stack.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let cost = cost(&std::fs::read_to_string(&out).unwrap(), &binary);
    assert!(cost.instructions > 0, "{name}: callgrind has not seen `measured`");
    cost
}

/// Adds up a callgrind profile. Of its lines matter: `ob=` names the file that what follows belongs
/// to, `cfn=` and `calls=` a call, and after `calls=` comes a line with the cost of the callee,
/// which is told at the callee again.
fn cost(profile: &str, binary: &Path) -> Cost {
    let mut cost = Cost::default();
    let mut is_ours = false;
    let mut callee = "";
    let mut is_of_callee = false;
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_ours = Path::new(object) == binary;
        } else if let Some(function) = line.strip_prefix("cfn=") {
            callee = function;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            is_of_callee = true;
            if is_ours && ALLOCATORS.contains(&callee) {
                cost.allocations += calls.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let is_own = !std::mem::take(&mut is_of_callee);
            if is_own && is_ours {
                cost.instructions += line.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
            }
        }
    }
    cost
}

fn file_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

const ARCHITECTURE: &str = std::env::consts::ARCH;

/// Two runs of one binary differ by some instructions in ten thousand: hashes have random seeds.
/// Smaller than any change that a measurement of time would show.
const TOLERANCE: f64 = 0.05;

/// Another compiler inlines other things.
const TOLERANCE_OF_OTHER_COMPILERS: f64 = 0.25;

/// Fewer than this, of whatever, is no change: an allocation more when a thousand streams open.
const SLACK: u64 = 10;

/// As the C library's own names have it.
const ALLOCATORS: [&str; 4] = ["malloc", "calloc", "realloc", "posix_memalign"];
