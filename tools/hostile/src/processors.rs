//! Which processors a process may run on.

/// Who has which half of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Server,
    Others,
}

/// This thread, and what it starts from now on, keeps to its half of the processors. Returns how many those are: all, where
/// there is but one, or where the system does not do so.
#[cfg(target_os = "linux")]
pub(crate) fn keep(half: Half) -> usize {
    use std::sync::OnceLock;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    static ALL: OnceLock<Vec<usize>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|one| set.is_set(*one)).collect()
    });
    let (servers, others) = all.split_at(all.len() / 2);
    let chosen = if half == Half::Server { servers } else { others };
    let mut set = CpuSet::new();
    chosen.iter().for_each(|one| set.set(*one));
    match servers.is_empty() || sched_setaffinity(None, &set).is_err() {
        true => all.len().max(1),
        false => chosen.len(),
    }
}

/// Elsewhere all share all.
#[cfg(not(target_os = "linux"))]
pub(crate) fn keep(_: Half) -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
