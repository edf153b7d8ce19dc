//! How a task with more to do lets the others go first.

use std::future::Future;
use std::pin::pin;
use std::task::Context;

/// Behind the tasks that are ready now. The runtime does not look for new events in between, so
/// this is for once, not for a task that has work without end.
pub(crate) fn behind_ready_tasks(cx: &Context<'_>) {
    cx.waker().wake_by_ref();
}

/// Behind the tasks that are ready now and those that new events make ready. For bulk work: a task
/// that only woke itself would keep the runtime from looking for events for dozens of its turns.
pub fn behind_new_events(cx: &mut Context<'_>) {
    // The first poll asks the runtime to wake the task once it has looked.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
