//! The table over time.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::levels::Level;

/// The lines above it: the columns, with a group of four for each server and for the clients.
pub(crate) fn head(levels: &[(String, Level)]) -> String {
    let (mut groups, mut columns) = (" ".repeat(COUNTS), String::new());
    let _ = write!(
        columns,
        "{:>7} {:>11} {:>6} {:>9} {:>9} {:>8} {:>9} {:>5}",
        "time", "connections", "/s", "requests", "MiB", "allowed", "forbidden", "kills"
    );
    for (name, _) in levels {
        let _ = write!(groups, " | {name:^23}");
        let _ = write!(columns, " | {:>5} {:>5} {:>5} {:>5}", "MiB", "files", "thr.", "tasks");
    }
    format!("{groups}\n{columns}")
}

/// One line of it. `new` are the connections of the time since the line before.
pub(crate) fn line(
    time: Duration,
    ledger: &Ledger,
    (new, within): (u64, Duration),
    levels: &[(String, Level)],
) -> String {
    let rate = new as f64 / within.as_secs_f64().max(1e-9);
    let mut line = format!(
        "{:>6}s {:>11} {rate:>6.0} {:>9} {:>9} {:>8} {:>9} {:>5}",
        time.as_secs(),
        ledger.connections.load(Ordering::Relaxed),
        ledger.requests.load(Ordering::Relaxed),
        ledger.bytes.load(Ordering::Relaxed) >> 20,
        ledger.allowed(),
        ledger.forbidden(),
        ledger.kills.load(Ordering::Relaxed),
    );
    for (_, level) in levels {
        let Level { resident, descriptors, threads, tasks, .. } = level;
        let _ = write!(line, " | {:>5} {descriptors:>5} {threads:>5} {tasks:>5}", resident >> 20);
    }
    line
}

/// Width of the columns that are counts.
const COUNTS: usize = 71;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_lines_are_of_one_width() {
        let levels = vec![("server tls".to_owned(), Level::default()); 2];
        let ledger = Ledger::default();
        let head = head(&levels);
        let line = line(Duration::from_secs(10), &ledger, (5, Duration::from_secs(1)), &levels);
        let widths: Vec<_> = head.lines().chain([&line[..]]).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{head}\n{line}");
    }
}
