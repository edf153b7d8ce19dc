//! Load on a tunnel, and what it did: bytes per second, latencies, connections per second.
//!
//! [`Stage`] sets up what is measured: a real server and client with an origin behind them, the
//! origin alone, or something that runs already. Server and client are threads of this process, or
//! processes of their own ([`Binary`]) whose processor time and memory are reported too. Each kind of work has a file: [`bulk`],
//! [`pingpong`], [`connect`], [`idle`], [`http`]; [`sessions`] are many clients and their return. Work that is done over and over goes through
//! one loop (`load.rs`), closed or at a fixed rate, and is recorded in a histogram.
//!
//! Nothing here judges a number; the self-tests judge the counting.

pub mod bulk;
pub mod connect;
pub mod http;
pub mod idle;
pub mod pingpong;
pub mod sessions;
pub mod value;

mod binary;
mod cost;
mod crew;
mod dial;
mod failure;
mod files;
mod lane;
mod latency;
mod load;
mod origin;
mod own_thread;
mod pace;
mod port;
mod process;
mod report;
mod stage;
mod tally;

pub use binary::{Binary, ServerSettings};
pub use cost::{Costs, Processes, Usage};
pub use failure::{Failure, Fault};
pub use files::allow_many_files;
pub use latency::Latencies;
pub use load::{Load, Rhythm};
pub use origin::{Counters, Origin, Service};
pub use port::free_ports;
pub use process::Process;
pub use report::Report;
pub use stage::{Carrier, Place, Stage, Tunnelled};
pub use tally::Outcome;
