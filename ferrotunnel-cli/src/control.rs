//! The control socket: how `ferrotunnel reload` speaks with a server of the same machine.
//!
//! One line each way: `reload`, and then the event that comes of it, as JSON. Who may open the socket is all there is to
//! who may ask, so it is its owner's alone.

#[cfg(unix)]
mod asking;
/// Systems without such sockets.
#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod serving;

use serde_json::Value;
use tokio::sync::oneshot;

#[cfg(unix)]
pub(crate) use asking::ask;
#[cfg(not(unix))]
pub(crate) use elsewhere::{Control, ask};
#[cfg(unix)]
pub(crate) use serving::Control;

/// Somebody who waits for what comes of a reload.
pub(crate) type Asker = oneshot::Sender<Value>;

/// What can be asked for.
#[cfg(unix)]
const RELOAD: &str = "reload";
