//! Visitors who have been accepted and may still need a stream.
//!
//! Most do for no time at all. Others wait: for a direct carrier, for their client, for the word of the proxy that they come by;
//! or somebody else may have to serve them as long as nobody has answered. A server that is about to go lets them through before it
//! tells its clients, to whom it opens no streams after that.

use tokio::sync::watch;

/// All of a server's. Each holds a receiver of what is never sent.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(watch::Sender<()>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(crate) struct Arriving(#[expect(dead_code, reason = "its drop tells")] watch::Receiver<()>);

impl Arrivals {
    /// One more has been accepted.
    pub(crate) fn one_more(&self) -> Arriving {
        Arriving(self.0.subscribe())
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.receiver_count()
    }

    /// Waits until there is none.
    pub(crate) async fn all_through(&self) {
        self.0.closed().await;
    }
}
