//! The async runtime: the one place where its threads are chosen.

use std::future::Future;
use std::num::NonZero;

use ferrotunnel::Connections;
use tokio::runtime::Builder;

use crate::failure::Failure;

/// Runs a command to its end, on one thread.
///
/// A session is fastest on one thread (the library's `Shards` say why); what has several gets further
/// threads from [`server_threads`] and [`client_threads`].
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

/// Lets this process have as many files open as the system allows it. Many systems set the limit that
/// holds at 1,024, for programs of another age: half that many visitors.
pub(crate) fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let before = limit.current;
        // Where the maximum is no number the system may not take it for one (macOS). As it was is
        // still enough for some.
        for wanted in [limit.maximum, Some(FILES_ENOUGH)] {
            let is_more = before.is_some_and(|before| wanted.is_none_or(|wanted| wanted > before));
            limit.current = wanted;
            if !is_more || setrlimit(Resource::Nofile, limit).is_ok() {
                return;
            }
        }
    }
}

/// What macOS lets every process have.
#[cfg(unix)]
const FILES_ENOUGH: u64 = 10_240;

/// Threads of a server's own: half of the processors, since the kernel's network stack needs about
/// as much time as we do. With one, everything stays on the main thread.
pub(crate) fn server_threads(wanted: Option<usize>) -> usize {
    one_is_none(wanted.unwrap_or_else(half_of_processors))
}

/// Further threads of a server's own for many visitors of HTTP at once, who need more of a processor's time than the kernel
/// does for them: together with the others as many as there are processors. None where somebody said a number.
pub(crate) fn spare_server_threads(wanted: Option<usize>) -> usize {
    if wanted.is_some() { 0 } else { processors() - half_of_processors().max(1) }
}

/// Threads of a client's own: one for each of the connections that it was told to keep, up to half of
/// the processors. More of them come by themselves only where the network is what limits them.
pub(crate) fn client_threads(connections: Connections) -> usize {
    match connections {
        Connections::Exactly(count) => one_is_none(half_of_processors().min(count.into())),
        _ => 0,
    }
}

/// Further threads for visitors who move much: they keep a processor busy each, and as much of another one is the kernel's. They
/// start when there is such a visitor. None where somebody said a number.
pub(crate) fn bulk_threads(wanted: Option<usize>) -> usize {
    if wanted.is_some() { 0 } else { half_of_processors().max(1) }
}

fn half_of_processors() -> usize {
    processors() / 2
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The main thread is one already.
fn one_is_none(count: usize) -> usize {
    if count == 1 { 0 } else { count }
}
