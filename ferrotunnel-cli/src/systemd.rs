//! What systemd and this program have to say to each other: sockets that come in, and states that go out.
//!
//! Nothing here changes anything for a program that was started by hand.

#[cfg(unix)]
mod manager;
#[cfg(unix)]
mod sockets;

/// Systems without systemd.
#[cfg(not(unix))]
mod elsewhere;

#[cfg(not(unix))]
pub(crate) use elsewhere::{Manager, Sockets};
#[cfg(unix)]
pub(crate) use manager::Manager;
#[cfg(unix)]
pub(crate) use sockets::Sockets;
