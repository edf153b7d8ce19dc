//! New connections: from dialling to the first byte that comes back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dial::dial;
use crate::failure::{Failure, Fault};
use crate::lane::Lane;
use crate::load::{self, Load};
use crate::tally::Outcome;

/// How a visitor leaves. It is not part of the latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Ends its side and waits for the other's end. Its port stays in use for a while after:
    /// towards another machine some 28,000 connections a minute use up what there is.
    Orderly,
    /// Resets the connection; its port is free at once.
    Reset,
}

/// Opens connections, `load.connections` at once. Whatever listens there must send back a byte.
///
/// # Errors
/// There is no thread to be had.
pub fn run(addr: SocketAddr, farewell: Farewell, load: &Load) -> Result<Outcome, Failure> {
    load::run(load, async || Ok(vec![Newcomer { addr, farewell, socket: None }]))
}

struct Newcomer {
    addr: SocketAddr,
    farewell: Farewell,
    socket: Option<TcpStream>,
}

impl Lane for Newcomer {
    async fn exchange(&mut self) -> Result<(), Fault> {
        let mut socket = dial(self.addr).await?;
        socket.write_all(b"x").await?;
        if socket.read_u8().await? != b'x' {
            return Err(Fault::Echo);
        }
        self.socket = Some(socket);
        Ok(())
    }

    async fn settle(&mut self) {
        let Some(mut socket) = self.socket.take() else { return };
        // The exchange was good; how its connection ends is the next one's business at most.
        match self.farewell {
            Farewell::Orderly => {
                if socket.shutdown().await.is_ok() {
                    let _ = socket.read(&mut [0]).await;
                }
            }
            Farewell::Reset => {
                let _ = socket.set_zero_linger();
            }
        }
    }
}
