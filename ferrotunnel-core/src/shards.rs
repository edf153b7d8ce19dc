//! The threads that sessions live on.
//!
//! A session, the listeners of its TCP tunnels and their visitors live on one thread (a listener stays
//! where it was when another session takes the port over or shares it, and visitors are handed over;
//! those of HTTP tunnels take turns over all threads). A chunk
//! then goes from socket to socket while it is in that processor's cache, nobody is woken across
//! threads, and the session's lock is never contended: measured, a request costs about two thirds
//! of what it costs on a work-stealing runtime with two workers. Several sessions spread over
//! several threads.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::tasks::Tasks;

/// Where new connections are served, in turn. A cheap handle; the threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Shards(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    threads: Vec<Thread>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Shards {
    /// No threads of its own: everything is served where the caller's runtime likes.
    pub fn inherit() -> Self {
        Self(Arc::new(Inner { threads: Vec::new(), next: AtomicUsize::new(0) }))
    }

    /// That many threads, each with a runtime of its own; with 0 as by [`inherit`](Self::inherit).
    ///
    /// # Errors
    /// The system gives no more threads or descriptors.
    pub fn threads(count: usize) -> io::Result<Self> {
        let threads = (0..count).map(Thread::start).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Inner { threads, next: AtomicUsize::new(0) })))
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
        let Some(thread) = self.thread(self.0.next.fetch_add(1, Ordering::Relaxed)) else {
            tasks.spawn(serve(socket));
            return;
        };
        if let Some(moved) = moved(socket, serve) {
            tasks.spawn_on(moved, &thread.handle);
        }
    }
}

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
        turn.checked_rem(self.0.threads.len()).and_then(|at| self.0.threads.get(at))
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
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name(format!("ferrotunnel-{index}")).spawn(move || {
            // Ends when the sender is dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }
}
