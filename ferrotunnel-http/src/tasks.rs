//! Owns the tasks that hyper starts by itself.

use std::{future::Future, sync::Arc};

use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The executor handed to hyper, so that none of its tasks outlives the ingress.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock();
        // Whoever adds a task takes the finished ones out; a panic has ended its own task only.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(future);
    }

    pub(crate) fn abort_all(&self) {
        self.0.lock().abort_all();
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}
