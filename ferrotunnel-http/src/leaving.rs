//! Tells a visitor who has left from one who has only finished talking. Both end their side of the connection alike, but
//! one who has left answers what is sent after that with RST.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ferrotunnel_core::splice::Socket;
use tokio::time::{Sleep, sleep};

/// Watches a connection whose visitor has ended its side.
pub(crate) struct Leaving {
    next_look: Pin<Box<Sleep>>,
    pause: Duration,
    /// Something was sent since, which has to be answered.
    sent: bool,
}

impl Leaving {
    pub(crate) fn watch() -> Self {
        Self { next_look: Box::pin(sleep(FIRST_LOOK)), pause: FIRST_LOOK, sent: false }
    }

    /// Something was sent.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// Ready with true when the visitor has left, and with false when it is there, as far as anybody can tell.
    pub(crate) fn poll<T: Socket>(&mut self, io: &T, cx: &mut Context<'_>) -> Poll<bool> {
        while self.next_look.as_mut().poll(cx).is_ready() {
            // Where nobody can be asked, the end is taken for what it mostly is.
            let Some(tcp) = io.tcp() else { return Poll::Ready(true) };
            if !matches!(tcp.take_error(), Ok(None)) {
                return Poll::Ready(true);
            }
            self.pause *= 2;
            if !self.sent && self.pause > LONGEST_SILENCE {
                return Poll::Ready(true);
            }
            if self.pause > LAST_PAUSE {
                return Poll::Ready(false);
            }
            self.next_look = Box::pin(sleep(self.pause));
        }
        Poll::Pending
    }
}

/// The kernel tells nobody that an RST has come once the other side has ended, so it has to be asked. On a good
/// link it comes within this.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// Pauses double until this, 5 s in all: longer than any round trip.
const LAST_PAUSE: Duration = Duration::from_millis(2_560);

/// With nothing to send nothing is learnt, and most who end their side in the middle of an answer have left. They are
/// let go after 315 ms.
const LONGEST_SILENCE: Duration = Duration::from_millis(160);
