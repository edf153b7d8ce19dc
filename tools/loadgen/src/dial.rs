//! How every visitor connects, and sees that somebody is there.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::failure::Fault;

/// A connection whose small messages leave at once.
pub(crate) async fn dial(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A byte to an echo and back.
pub(crate) async fn knock(socket: &mut TcpStream) -> Result<(), Fault> {
    socket.write_all(b"x").await?;
    match socket.read_u8().await? {
        b'x' => Ok(()),
        _ => Err(Fault::Echo),
    }
}
