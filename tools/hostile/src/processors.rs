//! Which processors a process may run on: by taskset(1), where there is one.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Who has which half of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Server,
    Others,
}

/// This thread, and what it starts from now on, keeps to its half of the processors. Returns how many those are: all, where
/// there is but one, or where the system does not do so.
pub(crate) fn keep(half: Half) -> usize {
    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    let all = ALL.get_or_init(|| allowed().unwrap_or_default());
    let (servers, others) = all.split_at(all.len() / 2);
    let chosen = if half == Half::Server { servers } else { others };
    if servers.is_empty() || !set(chosen) {
        return std::thread::available_parallelism().map_or(1, usize::from);
    }
    chosen.len()
}

fn set(processors: &[usize]) -> bool {
    let list: Vec<_> = processors.iter().map(ToString::to_string).collect();
    let mut taskset = Command::new("taskset");
    taskset.args(["--pid", "--cpu-list", &list.join(","), &std::process::id().to_string()]);
    taskset.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Those that this process may run on, as Linux tells: `0-3,8`.
fn allowed() -> Option<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut all = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(all)
}
