//! The threads that sessions live on.
//!
//! A session, the listeners of its TCP tunnels and their visitors live on one thread (after a takeover
//! a listener stays where it was; visitors of HTTP tunnels take turns over all threads). A chunk
//! then goes from socket to socket while it is in that processor's cache, nobody is woken across
//! threads, and the session's lock is never contended: measured, a request costs about two thirds
//! of what it costs on a work-stealing runtime with two workers. Several sessions spread over
//! several threads.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

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
        // The socket leaves the reactor of the thread that accepted it for that of its own.
        let socket = match socket.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::warn!(%error, "cannot hand a connection over"),
        };
        let moved = async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => serve(socket).await,
                Err(error) => tracing::warn!(%error, "cannot take a connection over"),
            }
        };
        tasks.spawn_on(moved, &thread.handle);
    }
}

impl Shards {
    /// Adds a task to `tasks` that runs on the thread of that turn.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        turn: usize,
        task: impl Future<Output = T> + Send + 'static,
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
