//! Leave to send a body (`Expect: 100-continue`, RFC 9110, section 10.1.1). It is the local service's to give: hyper gives
//! it to a visitor when the body is asked for, so until then nobody asks for it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{HeaderMap, header::EXPECT};
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

/// What the local service says about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leave(Arc<Mutex<Given>>);

#[derive(Debug, Default)]
struct Given {
    is_given: bool,
    waker: Option<Waker>,
}

/// A body that waits for leave.
pub(crate) struct Gate {
    leave: Leave,
    limit: Pin<Box<Sleep>>,
}

impl Leave {
    /// Whether there is somebody who waits for it.
    pub(crate) fn is_expected(headers: &HeaderMap) -> bool {
        let expected = headers.get(EXPECT);
        expected.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }

    pub(crate) fn give(&self) {
        let mut given = self.0.lock();
        given.is_given = true;
        if let Some(waker) = given.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate { leave: self.clone(), limit: Box::pin(sleep(LONGEST_WAIT)) }
    }
}

impl Gate {
    /// Ready when the body may be asked for.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut given = self.leave.0.lock();
            if given.is_given {
                return Poll::Ready(());
            }
            given.waker = Some(cx.waker().clone());
        }
        self.limit.as_mut().poll(cx)
    }
}

/// There are services that have never heard of it. Clients wait a second for an answer, too, before they go on.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_leave_and_not_for_ever() {
        let leave = Leave::default();
        let mut gate = leave.gate();
        let early = timeout(LONGEST_WAIT / 2, poll_fn(|cx| gate.poll(cx)));
        assert!(early.await.is_err());
        leave.give();
        poll_fn(|cx| gate.poll(cx)).await;

        let (mut unheard, began) = (Leave::default().gate(), Instant::now());
        poll_fn(|cx| unheard.poll(cx)).await;
        assert_eq!(began.elapsed(), LONGEST_WAIT);
    }
}
