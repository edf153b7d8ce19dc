//! The async runtime: the one place where its threads are chosen.

use std::future::Future;

use tokio::runtime::Builder;

use crate::failure::Failure;

/// Runs a command to its end on a runtime with one worker for each core.
pub(crate) fn block_on<F>(command: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::failed(format!(
            "cannot start the runtime's threads: {error}; check the limits of this user"
        ))
    })?;
    let result = runtime.block_on(command);
    // A command that ended early on a second signal does not wait for what it left behind.
    runtime.shutdown_background();
    result
}
