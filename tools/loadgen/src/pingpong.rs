//! Messages that come back: the latency of a connection that is there.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dial::dial;
use crate::failure::{Failure, Fault};
use crate::lane::Lane;
use crate::load::{self, Load};
use crate::tally::Outcome;

/// Sends messages of `size` bytes, each when the one before has come back, over every connection.
/// Whatever listens there must send them back.
///
/// # Errors
/// Nobody listens there, or there is no thread to be had.
pub fn run(addr: SocketAddr, size: usize, load: &Load) -> Result<Outcome, Failure> {
    load::run(load, async || {
        let socket = dial(addr).await.map_err(|fault| Failure::Connect(addr, fault))?;
        let (message, buffer) = (vec![b'x'; size], vec![0; size]);
        Ok(vec![Player { addr, socket: Some(socket), message, buffer }])
    })
}

struct Player {
    addr: SocketAddr,
    socket: Option<TcpStream>,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

impl Lane for Player {
    async fn exchange(&mut self) -> Result<(), Fault> {
        // Taken: a connection that fails is not used again.
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => dial(self.addr).await?,
        };
        socket.write_all(&self.message).await?;
        socket.read_exact(&mut self.buffer).await?;
        if self.buffer != self.message {
            return Err(Fault::Echo);
        }
        self.socket = Some(socket);
        Ok(())
    }
}
