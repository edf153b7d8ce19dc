//! Looks at what is not read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Asks a connection that is not read now and then whether it has broken: data that wait in a socket, or an end that has been read, leave
/// nothing that could wake for its error alone. By a timer, which there is from the first time on that it is not read, and which is moved
/// only when it fires.
#[derive(Debug, Default)]
pub struct Looks(Option<Pin<Box<Sleep>>>);

impl Looks {
    /// To be called while it is not read; `take_break` says why it broke, if it has. Ready with that.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        take_break: impl Fn() -> Option<io::Error>,
    ) -> Poll<io::Error> {
        let next = self.0.get_or_insert_with(|| Box::pin(sleep(LOOK_EVERY)));
        while next.as_mut().poll(cx).is_ready() {
            next.as_mut().reset(Instant::now() + LOOK_EVERY);
            if let Some(error) = take_break() {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    /// A timer is of the runtime that it was made on: it goes on on another one.
    pub(super) fn settle(&mut self) {
        self.0 = None;
    }
}

/// How often: that costs a stalled visitor two microseconds each time, and one who has left is noticed that much later.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
