//! Whose turn it is to compute.
//!
//! The mathematics of one handshake takes as long as hundreds of frames do. A crowd of strangers, each with a task that is
//! ready at once, would stand between every frame and the thread that it waits for; so those tasks wait for each other
//! first, and only one for each processor for the thread.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Turns of all handshakes of a server. A cheap handle.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// As many at once as there are processors.
    pub(super) fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Waits for one. Before it begins those go first whom new events concern.
    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes it.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok()?;
        tokio::task::yield_now().await;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::handshake;
    use super::super::tests::{configs, connect, sockets, soon};
    use super::*;

    #[tokio::test]
    async fn a_handshake_computes_when_it_is_its_turn_and_gives_it_back() {
        let (client, server) = configs();
        let turns = Turns::new(1);
        let held = turns.take().await;
        let (dialled, accepted) = sockets().await;
        let near = connect(&client, dialled);
        let far = handshake::accept(&server, accepted, BytesMut::new(), Some(&turns));
        let mut both = Box::pin(async { tokio::join!(near, far) });
        // Long enough for a whole handshake; it never is, while somebody else has the turn.
        for _ in 0..200 {
            tokio::select! {
                biased;
                _ = &mut both => unreachable!("it did not wait for its turn"),
                () = tokio::task::yield_now() => {}
            }
        }
        drop(held);
        let (near, far) = soon(both).await;
        assert!(near.is_ok() && far.is_ok());
        assert_eq!(turns.0.available_permits(), 1);
    }
}
