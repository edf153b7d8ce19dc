//! Where a server listens: on an address, or on a socket that was handed over.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use ferrotunnel_core::Listen;
use parking_lot::Mutex;

use crate::error::Error;

/// Where to listen, with settings that are valid.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    At(SocketAddr),
    On(SocketAddr, HandedOver),
}

impl Place {
    /// As far as it is known: with port 0 the system still has to pick one.
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::At(addr) | Self::On(addr, _) => *addr,
        }
    }

    /// For a start, which may fail: a socket that was handed over is there for the next one then.
    pub(crate) fn lend(&self, setting: &str) -> Result<(Listen, Option<Lent>), Error> {
        match self {
            Self::At(addr) => Ok((Listen::At(*addr), None)),
            Self::On(_, place) => {
                let lent = place.lend(setting)?;
                Ok((Listen::On(lent.copy(setting)?), Some(lent)))
            }
        }
    }
}

/// A socket whose copy is on its way to become a server. It goes back to where it came from when this is
/// dropped, unless it is [spent](Self::spend).
#[derive(Debug)]
pub(crate) struct Lent {
    place: HandedOver,
    listener: Option<TcpListener>,
}

impl Lent {
    fn copy(&self, setting: &str) -> Result<TcpListener, Error> {
        let listener = self.listener.as_ref().ok_or_else(|| is_gone(setting))?;
        listener.try_clone().map_err(|error| {
            Error::config(format!("{setting}: the socket cannot be used: {error}"))
        })
    }

    /// The server has it.
    pub(crate) fn spend(mut self) {
        self.listener = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            *self.place.0.lock() = Some(listener);
        }
    }
}

/// A listener that the server takes over when it starts. Builders can be copied and a socket
/// cannot, so it goes to whoever starts first: a copy kept here would hold the port beyond the
/// server's end.
#[derive(Clone, Debug)]
pub(crate) struct HandedOver(Arc<Mutex<Option<TcpListener>>>);

impl HandedOver {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self(Arc::new(Mutex::new(Some(listener))))
    }

    /// With the address it listens on.
    pub(crate) fn resolve(self, setting: &str) -> Result<Place, Error> {
        let addr = match &*self.0.lock() {
            None => return Err(is_gone(setting)),
            Some(listener) => listener.local_addr().map_err(|error| {
                Error::config(format!("{setting}: the socket has no address of its own: {error}"))
            })?,
        };
        Ok(Place::On(addr, self))
    }

    fn lend(&self, setting: &str) -> Result<Lent, Error> {
        let listener = self.0.lock().take().ok_or_else(|| is_gone(setting))?;
        Ok(Lent { place: self.clone(), listener: Some(listener) })
    }
}

fn is_gone(setting: &str) -> Error {
    Error::config(format!("{setting}: a server has taken this socket already; give another one"))
}
