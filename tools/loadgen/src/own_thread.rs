//! A part with a thread and a runtime of its own, as a process of its own would have.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use crate::failure::Failure;

/// Runs until it is dropped.
#[derive(Debug)]
pub(crate) struct OwnThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    /// Starts a part and waits until it runs. The part says what others need to know of it, and
    /// gives what has to be kept for as long as it runs. It must not be called from a runtime:
    /// the caller's thread waits.
    pub(crate) fn start<T, K>(
        name: &str,
        part: impl AsyncFnOnce() -> Result<(T, K), Failure> + Send + 'static,
    ) -> Result<(Self, T), Failure>
    where
        T: Send + 'static,
    {
        let runtime = single()?;
        let (tell, told) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            runtime.block_on(async move {
                match part().await {
                    Ok((news, _kept)) => {
                        let _ = tell.send(Ok(news));
                        // An error says that the owner is gone, which is the same.
                        let _ = stopped.await;
                    }
                    Err(failure) => {
                        let _ = tell.send(Err(failure));
                    }
                }
            });
            // Nobody waits for a name lookup that is under way.
            runtime.shutdown_background();
        };
        let thread =
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Failure::Thread)?;
        let news = told.recv().map_err(|_| Failure::ThreadEnded)??;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, news))
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic inside it has been reported already.
            let _ = thread.join();
        }
    }
}

/// A runtime on the thread that will use it: no work is stolen, so nothing moves between caches.
pub(crate) fn single() -> Result<Runtime, Failure> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Thread)
}
