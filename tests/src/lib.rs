//! What the end-to-end tests share: a [`TestBed`] with a real server and real clients, local services, and a
//! [`Link`] that can be cut.
//!
//! Everything listens on port 0 of loopback, and tests wait for events, never for time to pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, in its helpers too, and says where it is"
)]

mod authority;
mod bed;
mod link;
mod log;
pub mod memory;
mod open_metrics;
mod outlaw;
mod patience;
mod secure;
mod service;
mod site;
mod stranger;
mod visitor;

pub use authority::{Authority, Identity, key_pin, replace};
pub use bed::{Carrier, TOKEN, TestBed, client_of, public_addr, ready, with_plugin};
pub use link::Link;
pub use log::{Log, run_logged};
pub use open_metrics::Scrape;
pub use outlaw::{Heard, Outlaw, ask_for, credit, data, log_in, opened_and_reset, reset};
pub use patience::{PATIENCE, eventually, over_both, run, run_for, soon, until_still};
pub use secure::{SecureVisitor, hello_of_tls_1_1};
pub use service::{LocalService, own_ip, read_head};
pub use site::{Site, pattern_stream};
pub use stranger::{Stranger, Tickets, client_hello};
pub use visitor::{
    Answer, abort_on_close, begin, collect, exchange, get, loopback, numbered_visitors, open,
    open_http2, pattern, raw, says_and_hears, send, unread, upload_without_end,
};
