//! How much memory and how many descriptors a process has.

/// Resident memory of a process in bytes; `None` where the system does not tell.
pub fn resident_bytes(process: Process) -> Option<u64> {
    field(process, "VmRSS:")
}

/// The most that [`resident_bytes`] of this process has been since [`restart_peak`].
pub fn peak_bytes() -> Option<u64> {
    peak_of(Process::This)
}

/// The same of any process.
pub fn peak_of(process: Process) -> Option<u64> {
    field(process, "VmHWM:")
}

/// Lets [`peak_bytes`] begin with what this process has now, and says how much that is; `None`
/// where the system does not do so.
pub fn restart_peak() -> Option<u64> {
    restart_peak_of(Process::This)
}

/// The same for [`peak_of`].
pub fn restart_peak_of(process: Process) -> Option<u64> {
    // 5 is "reset the peak" (proc_pid_clear_refs(5)).
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").ok()?;
    peak_of(process)
}

fn field(process: Process, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Descriptors that this process has open; 0 where the system does not tell.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// A process.
#[derive(Clone, Copy, Debug)]
pub enum Process {
    /// The one that asks.
    This,
    /// The one with this id.
    Id(u32),
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::This => f.write_str("self"),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Lets this process have as many descriptors as the system allows, and says how many those are.
#[cfg(unix)]
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    limit.current.unwrap_or(u64::MAX)
}
