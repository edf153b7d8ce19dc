//! What an admin interface needs to know of the process that it is in. A server is one house, a client another.

use std::fmt::Debug;

use prometheus_client::registry::Registry;

use super::Phase;
use super::shapes::{Limits, Principals, Sessions, Side, Streams, Tunnels};

/// One side of tunnels: what it has, and what can be done to it. All of it answers at once.
pub(crate) trait House: Debug + Send + Sync + 'static {
    fn side(&self) -> Side;

    /// Its metrics go in there.
    fn register(&self, registry: &mut Registry);

    /// How far it is, given what its program has said last.
    fn phase(&self, said: Phase) -> Phase;

    fn counts(&self) -> Counts;

    fn sessions(&self) -> Sessions;

    fn tunnels(&self) -> Tunnels;

    /// At most so many of them.
    fn streams(&self, most: usize) -> Streams;

    /// What has passed since the start.
    fn totals(&self) -> Totals;

    /// How long the requests took that were over, by bucket of [`super::durations::Durations`]; `None` where nobody
    /// knows of requests.
    fn durations(&self) -> Option<Vec<u64>>;

    /// `None`: this side has none.
    fn principals(&self) -> Option<Principals>;

    /// `None`: this side has none.
    fn limits(&self) -> Option<Limits>;

    fn close_session(&self, id: &str) -> Result<String, Refused>;

    fn revoke(&self, principal: &str) -> Result<String, Refused>;

    fn pause(&self, tunnel: &str) -> Result<String, Refused>;

    fn resume(&self, tunnel: &str) -> Result<String, Refused>;
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sessions: usize,
    pub(crate) tunnels: usize,
    pub(crate) streams: u64,
}

/// What has passed since the start, and what is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// `None` where nobody knows of requests.
    pub(crate) requests: Option<u64>,
    pub(crate) errors: u64,
    pub(crate) streams_opened: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) streams: u64,
}

/// Why an action was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such thing.
    NotFound(String),
    /// It cannot be done as things are.
    Conflict(String),
}
