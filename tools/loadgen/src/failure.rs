//! What can go wrong: with a whole run, or with one exchange of it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use hdrhistogram::{AdditionError, CreationError};
use hyper::StatusCode;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A thread or its runtime does not start.
    #[error("cannot start a thread: {0}; check the limits of this user")]
    Thread(io::Error),
    /// A thread of this tool panicked, and has said so.
    #[error("a thread ended before its time")]
    ThreadEnded,
    /// The origin cannot have its address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The target's name means nothing.
    #[error("cannot look up {0:?}: {1}; give HOST:PORT")]
    LookUp(String, io::Error),
    /// The target's name has no address.
    #[error("{0:?} has no address")]
    NoAddress(String),
    /// The target does not answer.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, Fault),
    /// The server or the client does not start.
    #[error(transparent)]
    Tunnel(#[from] ferrotunnel::Error),
    /// The tunnel has come up with a URL that is none of ours.
    #[error("the tunnel's URL {0:?} has no address")]
    Url(String),
    /// The `ferrotunnel` command is not where it should be.
    #[error("there is no {}; `cargo build --release` makes it, or give its path with --binary", .0.display())]
    NoBinary(PathBuf),
    /// The path of the program that runs is not known.
    #[error("cannot tell where this program is: {0}; give --binary")]
    Itself(io::Error),
    /// A process does not start.
    #[error("cannot start {0}: {1}")]
    Process(&'static str, io::Error),
    /// A process ended before it was ready.
    #[error("{0} ended: {1}")]
    ProcessEnded(&'static str, String),
    /// A process does not say that it is ready.
    #[error("{0} was not ready in time")]
    NotReady(&'static str),
    /// The system does not tell what a process costs.
    #[error("cannot read what {0} cost: {1}; only Linux tells")]
    Usage(&'static str, io::Error),
    /// Too few ports are free.
    #[error(
        "this takes {needed} ports below those for outgoing connections, and {free} are free; ask for less"
    )]
    Ports {
        /// As many as there would be.
        needed: usize,
        /// As many as there are.
        free: usize,
    },
    /// Of so many tunnels some would come back unseen.
    #[error(
        "the return of more than {0} tunnels of one client cannot be watched; ask for less, or give --no-restart"
    )]
    UnseenTunnels(usize),
    /// This user may not open as many files.
    #[error(
        "this takes {needed} open files in one process, and the limit is {limit}; ask for less, or raise it (ulimit -n)"
    )]
    OpenFiles {
        /// As many as there would be.
        needed: u64,
        /// As many as there may be.
        limit: u64,
    },
    /// The request cannot be built from these settings.
    #[error("no request can be made of these settings: {0}")]
    Request(#[from] hyper::http::Error),
    /// A histogram of such bounds cannot be made.
    #[error("histogram: {0}")]
    Histogram(#[from] CreationError),
    /// Two histograms do not fit together.
    #[error("histograms: {0}")]
    Histograms(#[from] AdditionError),
}

/// What went wrong with one exchange. Equal texts are counted together, so they name no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The socket failed.
    #[error("{}", .0.kind())]
    Io(#[from] io::Error),
    /// The HTTP connection failed.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// An answer that is no success.
    #[error("status {0}")]
    Status(StatusCode),
    /// What came back is not what was sent.
    #[error("the echo differs")]
    Echo,
}
