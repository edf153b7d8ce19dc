//! How every visitor connects.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::failure::Fault;

/// A connection whose small messages leave at once.
pub(crate) async fn dial(addr: SocketAddr) -> Result<TcpStream, Fault> {
    let socket = TcpStream::connect(addr).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
