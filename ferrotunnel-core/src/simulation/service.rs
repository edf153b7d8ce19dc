//! The local service of a client that dials it, as it would dial one over a socket.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::dice::Dice;
use super::wire::{Wire, pipe};

/// Where it is to be found. Nobody is there any more once the other end of its channel is gone.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    dice: Arc<Mutex<Dice>>,
    guests: mpsc::Sender<Wire>,
}

impl Service {
    pub(super) fn open(dice: Dice) -> (Self, mpsc::Receiver<Wire>) {
        let (guests, arrived) = mpsc::channel(BACKLOG);
        (Self { dice: Arc::new(Mutex::new(dice)), guests }, arrived)
    }

    pub(crate) fn connect(&self) -> io::Result<Wire> {
        let (outside, inside) = pipe(self.dice.lock().split());
        self.guests.try_send(outside).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(inside)
    }
}

/// More than ever come at once.
const BACKLOG: usize = 64;
