//! What a process costs: processor time and memory, as Linux tells.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::failure::Failure;
use crate::process::Process;
use crate::report::Report;

/// What a process has cost until now.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Time on a processor, in user and system mode, of all its threads that still run.
    pub cpu: Duration,
    /// Bytes in memory.
    pub resident: u64,
    /// Open files, sockets among them.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Of a process. The scheduler's own count is exact to the nanosecond; `stat` beside it has the
    /// same time in steps of 10 ms, which is more than a server at rest takes in a second.
    ///
    /// # Errors
    /// There is no such process, or this is not Linux.
    pub fn of(id: u32) -> io::Result<Self> {
        let process = Path::new("/proc").join(id.to_string());
        let (mut nanos, mut threads) = (0, 0);
        for thread in std::fs::read_dir(process.join("task"))? {
            threads += 1;
            nanos += match std::fs::read_to_string(thread?.path().join("schedstat")) {
                Ok(text) => first_number(&text)?,
                // It ended while we looked.
                Err(_) => 0,
            };
        }
        let resident = resident(&process)?;
        let descriptors = std::fs::read_dir(process.join("fd"))?.count() as u64;
        Ok(Self { cpu: Duration::from_nanos(nanos), resident, descriptors, threads })
    }

    /// Of this process, where the system tells.
    pub(crate) fn own() -> Option<Self> {
        Self::of(std::process::id()).ok()
    }
}

fn resident(process: &Path) -> io::Result<u64> {
    let status = std::fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    // One that has ended and was not waited for has none.
    Ok(first_number(line.unwrap_or("0"))? << 10)
}

fn first_number(text: &str) -> io::Result<u64> {
    let number = text.split_whitespace().next().and_then(|word| word.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The server and the client of a tunnel, in processes of their own.
#[derive(Debug)]
pub struct Processes {
    // In this order: the client ends first, and sees no server go away.
    client: Process,
    server: Process,
}

impl Processes {
    pub(crate) fn new(server: Process, client: Process) -> Self {
        Self { client, server }
    }

    /// What they have cost so far.
    ///
    /// # Errors
    /// One of them has ended, or this is not Linux.
    pub fn costs(&self) -> Result<Costs, Failure> {
        Ok(Costs { server: self.server.usage()?, client: self.client.usage()? })
    }
}

/// What server and client cost.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Costs {
    /// The server's part.
    pub server: Usage,
    /// The client's part.
    pub client: Usage,
}

impl Costs {
    fn parts(&self) -> [(&'static str, Usage); 2] {
        [("server", self.server), ("client", self.client)]
    }

    /// The processor time since `before`, and the memory now.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let since =
            |now: Usage, before: Usage| Usage { cpu: now.cpu.saturating_sub(before.cpu), ..now };
        Self {
            server: since(self.server, before.server),
            client: since(self.client, before.client),
        }
    }

    /// Writes them down.
    pub fn report(&self, report: &mut Report) {
        for (part, usage) in self.parts() {
            report.exact(&format!("{part}_cpu_seconds"), usage.cpu.as_secs_f64());
            report.count(&format!("{part}_resident_bytes"), usage.resident);
        }
    }

    /// Writes down what each of `count` exchanges took; `unit` is what one is called.
    pub fn report_each(&self, report: &mut Report, unit: &str, count: f64) {
        for (part, usage) in self.parts() {
            let micros = usage.cpu.as_secs_f64() * 1e6 / count.max(1.0);
            report.exact(&format!("{part}_cpu_us_per_{unit}"), micros);
        }
    }

    /// Writes down what 10^9 bytes took.
    pub fn report_bytes(&self, report: &mut Report, bytes: u64) {
        for (part, usage) in self.parts() {
            let seconds = usage.cpu.as_secs_f64() * 1e9 / bytes.max(1) as f64;
            report.exact(&format!("{part}_cpu_seconds_per_gb"), seconds);
        }
    }

    /// Writes down the memory that `count` things take that were not there `before`.
    pub fn report_memory(&self, report: &mut Report, before: &Self, unit: &str, count: usize) {
        for ((part, with), (_, before)) in self.parts().into_iter().zip(before.parts()) {
            let each = with.resident.saturating_sub(before.resident) / count.max(1) as u64;
            report.count(&format!("{part}_resident_before_bytes"), before.resident);
            report.count(&format!("{part}_resident_with_all_bytes"), with.resident);
            report.count(&format!("{part}_resident_bytes_per_{unit}"), each);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_and_memory_are_seen() {
        let before = Usage::own().unwrap();
        let began = Instant::now();
        let mut work = vec![1_u8; 32 << 20];
        while began.elapsed() < Duration::from_millis(50) {
            work.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3));
        }
        let with = Usage::own().unwrap();
        assert!(with.cpu - before.cpu >= Duration::from_millis(5), "{:?}", with.cpu - before.cpu);
        assert!(with.resident - before.resident >= 16 << 20, "{before:?} {with:?}");
        assert!(work.iter().any(|byte| *byte != 0));
    }
}
