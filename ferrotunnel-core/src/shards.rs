//! The threads that sessions live on.
//!
//! A session, the listeners of its TCP tunnels and their visitors live on one thread (a listener stays
//! where it was when another session takes the port over or shares it, and visitors are handed over;
//! those of HTTP tunnels take turns over all threads). A chunk
//! then goes from socket to socket while it is in that processor's cache, nobody is woken across
//! threads, and the session's lock is never contended: measured, a request costs about two thirds
//! of what it costs on a work-stealing runtime with two workers. Several sessions spread over
//! several threads.
//!
//! Exchanges of HTTP cost more to read than to carry, so a crowd of their visitors fills one thread while
//! processors beside it have nothing to do. From some size on it gets spare threads, which nobody else uses but those who
//! turn out not to be of that crowd: a client that dials the port of visitors over HTTPS stays on the thread where its first
//! words were read, and so does a visitor whose TLS is passed on.
//!
//! What moves much has threads of its own: [`Bulk`].

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::bulk::Bulk;
use crate::tasks::Tasks;

/// Where new connections are served, in turn. A cheap handle; the threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Shards(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Vec<Thread>,
    /// For crowds.
    spare: Vec<Thread>,
    bulk: Bulk,
    next: AtomicUsize,
    next_of_crowd: AtomicUsize,
}

/// How many threads of its own something has, each with a runtime of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// That connections are spread over. Without any they are served where the caller's runtime likes.
    pub shared: usize,
    /// That crowds of visitors of HTTP have besides.
    pub spare: usize,
    /// That connections go on on while they move much, as many at most; they start with the first of those.
    pub bulk: usize,
}

#[derive(Debug)]
pub(crate) struct Thread {
    handle: Handle,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Shards {
    /// No threads of its own: everything is served where the caller's runtime likes.
    pub fn inherit() -> Self {
        Self::of(Vec::new(), Vec::new(), Bulk::default())
    }

    /// Starts threads; those for bulk come when they are needed.
    ///
    /// # Errors
    /// The system gives no more threads or descriptors.
    pub fn start(threads: Threads) -> io::Result<Self> {
        let Threads { shared, spare, bulk } = threads;
        let start = |range: Range<usize>| -> io::Result<_> {
            range.map(|index| Thread::start(format!("ferrotunnel-{index}"))).collect()
        };
        Ok(Self::of(start(0..shared)?, start(shared..shared + spare)?, Bulk::threads(bulk)))
    }

    fn of(shared: Vec<Thread>, spare: Vec<Thread>, bulk: Bulk) -> Self {
        let (next, next_of_crowd) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Inner { shared, spare, bulk, next, next_of_crowd }))
    }

    /// For those that move much.
    pub(crate) fn bulk(&self) -> &Bulk {
        &self.0.bulk
    }

    /// Those of its threads, and the caller's.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub(crate) fn runtimes(&self) -> Runtimes {
        let threads = self.0.shared.iter().chain(&self.0.spare);
        let own = threads.map(|thread| thread.handle.clone());
        Runtimes { others: own.chain([Handle::current()]).collect(), bulk: self.0.bulk.clone() }
    }

    /// Adds a task to `tasks` that serves `socket` on the thread whose turn it is.
    pub fn serve<F>(
        &self,
        tasks: &mut JoinSet<()>,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
        serve_at(self.thread(turn), tasks, socket, serve);
    }

    /// The same for a visitor of HTTP, one of those whom `tasks` are. When they are a crowd they take turns over the
    /// spare threads as well.
    pub fn serve_exchanges<F>(
        &self,
        tasks: &mut JoinSet<()>,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Inner { shared: threads, spare, next_of_crowd, .. } = &*self.0;
        // Without threads of our own everybody is on the caller's.
        let places = threads.len().max(1);
        if spare.is_empty() || tasks.len() < CROWD * places {
            return self.serve(tasks, socket, serve);
        }
        let turn = next_of_crowd.fetch_add(1, Ordering::Relaxed) % (places + spare.len());
        let thread = match turn.checked_sub(places) {
            Some(at) => spare.get(at),
            None => threads.get(turn),
        };
        serve_at(thread, tasks, socket, serve);
    }
}

/// On that thread, or on the caller's runtime.
fn serve_at<F>(
    thread: Option<&Thread>,
    tasks: &mut JoinSet<()>,
    socket: TcpStream,
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    match thread {
        None => {
            tasks.spawn(serve(socket));
        }
        Some(thread) => {
            if let Some(moved) = moved(socket, serve) {
                tasks.spawn_on(moved, &thread.handle);
            }
        }
    }
}

/// From so many visitors for each thread on they are a crowd. To wake another processor for each chunk costs a quarter more,
/// and what fewer ask for one thread can mostly answer: measured on two processors with 1, 32 and 256.
const CROWD: usize = 64;

/// A task for another thread that serves `socket` there: it leaves the reactor of this one.
pub(crate) fn moved<F>(
    socket: TcpStream,
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> Option<impl Future<Output = ()> + Send + 'static>
where
    F: Future<Output = ()> + Send + 'static,
{
    let socket = match socket.into_std() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "cannot hand a connection over");
            return None;
        }
    };
    Some(async move {
        match TcpStream::from_std(socket) {
            Ok(socket) => serve(socket).await,
            Err(error) => tracing::warn!(%error, "cannot take a connection over"),
        }
    })
}

impl Shards {
    /// Adds a task to `tasks` that runs on the thread of that turn.
    pub(crate) fn spawn(
        &self,
        tasks: &Tasks,
        turn: usize,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        match self.thread(turn) {
            Some(thread) => tasks.spawn_on(task, &thread.handle),
            None => tasks.spawn(task),
        };
    }

    fn thread(&self, turn: usize) -> Option<&Thread> {
        turn.checked_rem(self.0.shared.len()).and_then(|at| self.0.shared.get(at))
    }
}

/// The runtimes that something lives on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runtimes {
    /// They are not kept by it.
    others: Vec<Handle>,
    bulk: Bulk,
}

impl Runtimes {
    /// Tasks that have not ended, whosever they are.
    pub(crate) fn alive_tasks(&self) -> usize {
        let all = self.others.iter().chain(self.bulk.runtimes());
        all.map(|runtime| runtime.metrics().num_alive_tasks()).sum()
    }
}

/// The thread that a session lives on, where sessions have threads to themselves.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    thread: ThreadId,
    runtime: Handle,
}

impl Home {
    /// Of the calling task; `None` where tasks move between threads.
    pub(crate) fn here() -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        let stays = runtime.runtime_flavor() == RuntimeFlavor::CurrentThread;
        stays.then(|| Self { thread: std::thread::current().id(), runtime })
    }

    /// Its runtime, unless the caller is there already.
    pub(crate) fn elsewhere(&self) -> Option<&Handle> {
        (self.thread != std::thread::current().id()).then_some(&self.runtime)
    }
}

impl Thread {
    pub(crate) fn start(name: String) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name).spawn(move || {
            // Ends when the sender is dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    /// On how many connections each thread is at work, when so many came one after the other and stay.
    async fn spread(shards: &Shards, visitors: usize) -> BTreeMap<Option<String>, usize> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let (tell, mut told) = mpsc::channel(visitors);
        for _ in 0..visitors {
            let (socket, _) =
                tokio::try_join!(TcpStream::connect(address), listener.accept()).unwrap();
            let tell = tell.clone();
            shards.serve_exchanges(&mut tasks, socket, |_socket| async move {
                let _ = tell.send(std::thread::current().name().map(str::to_owned)).await;
                std::future::pending::<()>().await;
            });
        }
        let mut counts = BTreeMap::new();
        for _ in 0..visitors {
            *counts.entry(told.recv().await.unwrap()).or_default() += 1;
        }
        counts
    }

    #[tokio::test]
    async fn crowds_of_visitors_get_the_spare_threads_too_and_few_do_not() {
        let here = std::thread::current().name().map(str::to_owned);
        let spare = Some("ferrotunnel-0".to_owned());
        let shards = Shards::start(Threads { spare: 1, ..Threads::default() }).unwrap();
        assert_eq!(spread(&shards, CROWD).await, BTreeMap::from([(here.clone(), CROWD)]));
        let crowd = BTreeMap::from([(here.clone(), CROWD + 10), (spare, 10)]);
        assert_eq!(spread(&shards, CROWD + 20).await, crowd);
        let none_spare = Shards::start(Threads::default()).unwrap();
        assert_eq!(spread(&none_spare, CROWD + 20).await, BTreeMap::from([(here, CROWD + 20)]));
    }

    #[tokio::test]
    async fn tasks_on_all_threads_are_counted_until_they_end() {
        let shards = Shards::start(Threads { shared: 2, spare: 1, ..Threads::default() }).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..2 * CROWD + 3 {
            let address = listener.local_addr().unwrap();
            let (socket, _) =
                tokio::try_join!(TcpStream::connect(address), listener.accept()).unwrap();
            shards.serve_exchanges(&mut tasks, socket, |_| std::future::pending());
        }
        let runtimes = shards.runtimes();
        assert_eq!(runtimes.alive_tasks(), 2 * CROWD + 3);
        tasks.shutdown().await;
        // A task that has been waited for leaves the count of its runtime a moment later.
        let all_gone = async {
            while runtimes.alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), all_gone).await.unwrap();
    }

    #[tokio::test]
    async fn spare_threads_are_beside_those_that_everybody_has() {
        let shards = Shards::start(Threads { shared: 2, spare: 1, ..Threads::default() }).unwrap();
        let name = |index: usize| Some(format!("ferrotunnel-{index}"));
        let few = BTreeMap::from([(name(0), CROWD), (name(1), CROWD)]);
        assert_eq!(spread(&shards, 2 * CROWD).await, few);
        let crowd = BTreeMap::from([(name(0), CROWD + 10), (name(1), CROWD + 10), (name(2), 10)]);
        assert_eq!(spread(&shards, 2 * CROWD + 30).await, crowd);
    }
}
