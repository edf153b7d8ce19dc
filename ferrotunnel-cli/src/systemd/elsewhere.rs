//! Where there is no systemd, nobody passes sockets and nobody listens.

use std::future::{Future, pending};
use std::net::TcpListener;
use std::time::Duration;

use crate::failure::Failure;

/// No sockets.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) tunnel: Option<TcpListener>,
    pub(crate) http: Option<TcpListener>,
}

impl Sockets {
    pub(crate) fn inherited() -> Result<Self, Failure> {
        Ok(Self::default())
    }
}

/// Nobody.
pub(crate) struct Manager;

impl Manager {
    pub(crate) fn from_env() -> Self {
        Self
    }

    pub(crate) fn ready(&mut self, _: &str) {}

    pub(crate) fn status(&mut self, _: &str) {}

    pub(crate) fn beat(&mut self) {}

    pub(crate) fn reloading(&mut self) {}

    pub(crate) fn reloaded(&mut self) {}

    pub(crate) fn stopping(&mut self, _: Duration) {}

    pub(crate) async fn due(&mut self) {
        pending().await
    }

    pub(crate) async fn beating<T>(&mut self, work: impl Future<Output = T>) -> T {
        work.await
    }
}
