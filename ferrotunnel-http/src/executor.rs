//! Gives the tasks that hyper starts by itself an owner.

use std::future::Future;

use ferrotunnel_core::tasks::Tasks;
use hyper::rt;

/// The executor handed to hyper. Its tasks hold executors in turn, so the set has to be told when
/// to end ([`Tasks::abort_all`]).
#[derive(Clone)]
pub(crate) struct Executor(pub(crate) Tasks);

impl<F> rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        // Boxed: it is some kilobytes, and on its way into the set, the runtime and its task it would be moved at each step.
        self.0.spawn(Box::pin(future));
    }
}
