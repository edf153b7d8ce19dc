//! Certificates from an ACME server (RFC 8555), for hosts that a client has registered and for no other.
//!
//! The first visitor of such a host waits while its certificate is ordered (`jobs`), by whichever way the server is
//! convinced that the host is ours (`order`, `challenges`, `hook`). What was issued is kept on disk (`disk`) and in
//! memory, and renewed long before it ends (`schedule`, which also says how often one may ask).

mod account;
mod challenges;
mod client;
mod config;
mod disk;
mod fault;
mod hook;
mod jobs;
mod order;
mod schedule;

pub(crate) use challenges::Challenges;
pub use config::{AcmeConfig, ExternalAccount, LETS_ENCRYPT};
pub(super) use jobs::Acme;
