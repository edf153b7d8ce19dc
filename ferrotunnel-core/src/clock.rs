//! The one clock of the engine.

use std::time::Instant;

/// Now, by the clock that the runtime's timers go by. Where time is the system's that is the system's
/// steady clock; a test that stops time, or lets it run ahead, moves deadlines and what they are
/// compared with together.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
