//! FerroTunnel's wire format and the pure session machine.
//!
//! Nothing here knows a socket, a clock, a lock or a cipher: bytes and the time go in as
//! arguments, bytes and events come out. `PROTOCOL.md` beside this crate is the full text of the
//! wire, enough to write a peer in another language.

mod budget;
mod codec;
mod error;
pub mod frame;
mod session;

pub use budget::{Held, ReceiveBudget};
pub use codec::{DataEnd, Decoded, Decoder};
pub use error::{FrameError, Violation};
pub use frame::Frame;
pub use session::{
    Accept, Config, Contention, Event, HelloRequest, OpenError, OpenRequest, OutFrame, Read,
    Resets, SILENT_BEATS, Session, Side, State, Stats, StreamError, WriteError,
};

/// The protocol version this crate speaks. A peer offers a range and the client picks.
pub const VERSION: u8 = 1;
