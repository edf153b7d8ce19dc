//! Sessions that finish what is open.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use crate::tasks::Tasks;

/// Sessions that take nothing new, while others have their places already.
#[derive(Debug)]
pub(super) struct Parting {
    tasks: Tasks,
    count: Arc<watch::Sender<usize>>,
}

impl Default for Parting {
    fn default() -> Self {
        Self { tasks: Tasks::default(), count: Arc::new(watch::Sender::new(0)) }
    }
}

impl Parting {
    /// Adds the rest of a session's life, on the caller's runtime.
    pub(super) fn spawn(&self, rest: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(&self.count);
        self.tasks.spawn(async move {
            rest.await;
            drop(counted);
        });
    }

    /// Waits until none is left.
    pub(super) async fn finished(&self) {
        // The sender lives as long as `self`.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(super) fn abort_all(&self) {
        self.tasks.abort_all();
    }
}

/// One that is not over, also not by a panic.
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
