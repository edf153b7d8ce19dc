//! Sessions that finish what is open, and what is left of those that are over.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::tasks::Tasks;

/// Sessions that take nothing new, while others have their places already.
#[derive(Debug)]
pub(super) struct Parting {
    tasks: Tasks,
    /// The client has ended: carriers on other threads may not have heard of it yet.
    closed: Mutex<bool>,
    count: Arc<watch::Sender<usize>>,
}

impl Default for Parting {
    fn default() -> Self {
        Self {
            tasks: Tasks::default(),
            closed: Mutex::new(false),
            count: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Parting {
    /// Adds the rest of a session's life, on the caller's runtime. After the end it is over at once.
    pub(super) fn spawn(&self, rest: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.lock();
        if *closed {
            return;
        }
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
        *self.closed.lock() = true;
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_session_that_parts_after_the_end_is_over_at_once() {
        let parting = Parting::default();
        let (early, early_ended) = oneshot::channel::<()>();
        parting.spawn(async move {
            let _held = early;
            pending::<()>().await;
        });
        parting.abort_all();
        assert!(early_ended.await.is_err());
        parting.finished().await;
        let (late, late_ended) = oneshot::channel::<()>();
        parting.spawn(async move {
            let _held = late;
            pending::<()>().await;
        });
        assert!(late_ended.await.is_err());
        parting.finished().await;
    }
}
