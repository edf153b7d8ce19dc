//! The threads that make the load. Each has a runtime of its own and its share of the connections;
//! they begin together, once every connection is there.

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::own_thread::single;

/// Makes `count` connections on that many threads, lets every thread work with its share, and
/// returns what they say. `meanwhile` runs on the caller's thread, from the moment at which the
/// work begins.
pub(crate) fn run<L, T: Send>(
    threads: usize,
    count: usize,
    make: impl AsyncFn() -> Result<L, Failure> + Sync,
    work: impl AsyncFn(Vec<L>, Instant) -> T + Sync,
    meanwhile: impl FnOnce(Instant),
) -> Result<Vec<T>, Failure> {
    let threads = threads.clamp(1, count.max(1));
    let runtimes = (0..threads).map(|_| single()).collect::<Result<Vec<_>, _>>()?;
    let (tell_ready, ready) = mpsc::sync_channel(threads);
    let (begin, began) = watch::channel(None);
    thread::scope(|scope| {
        // Moved in here: whoever waits for the beginning gives up when it is dropped.
        let begin = begin;
        let (make, work) = (&make, &work);
        let mut workers = Vec::with_capacity(threads);
        for (index, runtime) in runtimes.into_iter().enumerate() {
            let share = count / threads + usize::from(index < count % threads);
            let (tell_ready, mut began) = (tell_ready.clone(), began.clone());
            let run = move || {
                runtime.block_on(async {
                    let made = make_share(share, make).await;
                    let connections = match made {
                        Ok(connections) => connections,
                        Err(failure) => {
                            let _ = tell_ready.send(Err(failure));
                            return None;
                        }
                    };
                    let _ = tell_ready.send(Ok(()));
                    let at = began.wait_for(Option::is_some).await.map(|at| *at).ok().flatten()?;
                    Some(work(connections, at).await)
                })
            };
            let thread = thread::Builder::new().name(format!("load {index}"));
            workers.push(thread.spawn_scoped(scope, run).map_err(Failure::Thread)?);
        }
        for _ in 0..threads {
            ready.recv().map_err(|_| Failure::ThreadEnded)??;
        }
        let now = Instant::now();
        begin.send_replace(Some(now));
        meanwhile(now);
        let said = workers.into_iter().map(|worker| worker.join().ok().flatten());
        said.collect::<Option<Vec<_>>>().ok_or(Failure::ThreadEnded)
    })
}

async fn make_share<L>(
    share: usize,
    make: &impl AsyncFn() -> Result<L, Failure>,
) -> Result<Vec<L>, Failure> {
    stream::iter((0..share).map(|_| make())).buffer_unordered(AT_ONCE).try_collect().await
}

/// Connections that one thread sets up at once: enough that a long way is not waited for a
/// thousand times over, below every listener's backlog.
const AT_ONCE: usize = 64;
