//! Tasks with an owner: no task outlives whoever started it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

use crate::shards::Shards;

/// A set of tasks that end with their owner: dropping the last clone aborts them all. A cheap
/// handle.
///
/// Whoever adds a task takes the finished ones out, so a set holds what is running and little else.
/// A panic ends its own task only.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Starts a task on the caller's runtime. Its handle may be dropped: the set owns the task.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut set = self.0.lock();
        while set.try_join_next().is_some() {}
        set.spawn(task)
    }

    /// Starts a task on that runtime.
    pub(crate) fn spawn_on(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        runtime: &Handle,
    ) -> AbortHandle {
        let mut set = self.0.lock();
        while set.try_join_next().is_some() {}
        set.spawn_on(task, runtime)
    }

    /// Serves a connection on the thread whose turn it is.
    pub fn serve<F>(
        &self,
        shards: &Shards,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut set = self.0.lock();
        while set.try_join_next().is_some() {}
        shards.serve(&mut set, socket, serve);
    }

    /// Tells all to end, and does not wait for it.
    pub fn abort_all(&self) {
        self.0.lock().abort_all();
    }

    /// Those that have not ended.
    pub(crate) fn running(&self) -> usize {
        let mut set = self.0.lock();
        while set.try_join_next().is_some() {}
        set.len()
    }

    /// Waits until all have ended, for `grace` at most; aborts and awaits the rest. Returns how many
    /// those were.
    pub async fn finish(&self, grace: Duration) -> usize {
        let mut set = std::mem::take(&mut *self.0.lock());
        let all = async { while set.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_ok() {
            return 0;
        }
        let left = set.len();
        set.shutdown().await;
        left
    }
}

/// Ends a task with its owner. The set that it is in knows when it really has.
#[derive(Debug)]
pub struct AbortOnDrop(AbortHandle);

impl AbortOnDrop {
    /// From now on.
    pub fn new(task: AbortHandle) -> Self {
        Self(task)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
