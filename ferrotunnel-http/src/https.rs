//! TLS of visitors: which certificate they are shown, and what is behind it.
//!
//! `door` takes a connection, reads its first words and decides: a client's carrier goes to the engine, a
//! challenge of an ACME server is answered, and a visitor gets a certificate by the name that it asks for, out of
//! files (`files`) or from an ACME server (`acme`). What comes out is a [`TlsVisitor`] that is served like any
//! other visitor.
//!
//! Not here: the TLS of carriers, which is `ferrotunnel-core`'s own.

mod acme;
mod certificate;
mod config;
mod door;
mod files;
mod shown;
mod store;
mod stream;
mod validity;

pub(crate) use acme::Challenges;
pub use acme::{AcmeConfig, ExternalAccount, LETS_ENCRYPT};
pub(crate) use certificate::Certificate;
pub use config::{HttpsConfig, OldestTls};
pub use door::{Expiry, Https};
pub(crate) use stream::TlsVisitor;
