//! TLS 1.3 carriers.
//!
//! The handshake, its certificates and all keys are rustls' (`handshake.rs`, `config.rs`). The records
//! behind it are ours: they are sealed from where the plaintext lies and opened where they were read,
//! many per system call, which moves bytes at a fraction of the cost of a buffered connection.
//!
//! A connection begins as [`accept`] or [`connect`]; what comes out is a [`TlsStream`].

mod config;
mod end;
mod exporter;
mod fault;
mod gather;
mod handshake;
mod identity;
mod keys;
mod open;
mod outbox;
mod records;
mod seal;
mod stream;

pub(crate) use config::{client_config, server_config};
pub(crate) use handshake::{Secured, accept, connect};
pub use identity::TlsIdentity;
pub(crate) use stream::TlsStream;

#[cfg(test)]
mod tests;
