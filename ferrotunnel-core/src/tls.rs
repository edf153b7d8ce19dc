//! TLS 1.3 carriers.
//!
//! The handshake, the checks of certificates and all keys are rustls' (`handshake.rs`, `config.rs`). The records
//! behind it are ours: they are sealed from where the plaintext lies and opened where they were read,
//! many per system call, which moves bytes at a fraction of the cost of a buffered connection.
//!
//! A connection begins with a [`TlsAcceptor`] or a [`TlsDialer`], which know the certificates and load
//! them anew when their files change; what comes out is a [`TlsStream`].

mod acceptor;
mod config;
mod dialer;
mod end;
mod exporter;
mod fault;
mod gather;
mod handshake;
pub(crate) mod hello;
mod identity;
mod issuers;
mod keys;
mod local;
mod open;
mod outbox;
mod passes;
mod pem;
mod problem;
mod records;
mod seal;
mod stream;
mod system_roots;
mod ticket_store;
mod tickets;
mod turns;
mod watch;

pub use acceptor::ServerTls;
pub(crate) use acceptor::TlsAcceptor;
pub(crate) use dialer::TlsDialer;
pub use dialer::{ClientTls, RootSettings, Roots, Verification};
#[cfg(fuzzing)]
pub(crate) use handshake::MOST_FROM_STRANGER;
pub(crate) use handshake::Secured;
pub use hello::Hello;
pub use identity::{IdentityFiles, TlsIdentity};
pub(crate) use local::LocalTls;
pub use local::LocalTrust;
pub(crate) use passes::{Pass, Standing, Words};
pub use problem::{CertificateFault, CertificateProblem};
pub(crate) use problem::{alert_in, same_fault};
pub(crate) use stream::TlsStream;
pub(crate) use ticket_store::Purpose;
pub use turns::HandshakeTurns;
pub use watch::{Files, FromFiles};

#[cfg(test)]
pub(crate) mod tests;
