//! What goes wrong in a plugin stays in the phase that it went wrong in.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future's value, or what it panicked with.
///
/// Unwind safety is the plugin's own: it is shared with other requests, so what it left half done it sees again, as it
/// would behind any lock that does not poison.
pub(crate) async fn awaited<F>(begin: impl FnOnce() -> F) -> Result<F::Output, String>
where
    F: Future + Unpin,
{
    Contained(called(begin)?).await
}

/// The same for what does not wait.
pub(crate) fn called<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| words(&*payload))
}

struct Contained<F>(F);

impl<F: Future + Unpin> Future for Contained<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = Pin::new(&mut self.0);
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(words(&*payload))),
        }
    }
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("with something that is no text"))
}
