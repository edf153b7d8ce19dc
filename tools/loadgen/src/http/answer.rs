//! What both versions do with an answer, and with the task that drives a connection.

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use tokio::task::JoinHandle;

use crate::failure::Fault;

/// Reads an answer to its end.
pub(super) async fn finish(mut response: Response<Incoming>) -> Result<(), Fault> {
    while let Some(frame) = response.frame().await {
        frame?;
    }
    if response.status().is_success() { Ok(()) } else { Err(Fault::Status(response.status())) }
}

/// The task behind a connection; ends with it.
#[derive(Debug)]
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    /// Drives a connection. What breaks it, its requests will tell.
    pub(super) fn of<T>(connection: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            connection.await;
        }))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
