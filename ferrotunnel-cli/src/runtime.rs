//! The async runtime: the one place where its threads are chosen.

use std::future::Future;

use tokio::runtime::Builder;

use crate::failure::Failure;

/// Runs a command to its end, on one thread.
///
/// A client has one session, and a session is fastest on one thread (the library's `Shards` say
/// why); a server gets further threads from [`server_threads`].
pub(crate) fn block_on<F>(command: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::failed(format!(
            "cannot start the runtime's threads: {error}; check the limits of this user"
        ))
    })?;
    let result = runtime.block_on(command);
    // A command that ended early on a second signal does not wait for what it left behind.
    runtime.shutdown_background();
    result
}

/// Threads of a server's own: half of the processors, since the kernel's network stack needs about
/// as much time as we do. With one, everything stays on the main thread.
pub(crate) fn server_threads(wanted: Option<usize>) -> usize {
    let half = || std::thread::available_parallelism().map_or(1, |count| count.get() / 2);
    match wanted.unwrap_or_else(half) {
        0 | 1 => 0,
        count => count,
    }
}
