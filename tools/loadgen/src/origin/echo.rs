//! Sends back what it gets, and its end.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Counters;

pub(super) async fn serve(mut socket: TcpStream, counters: &Counters) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = socket.read(&mut buffer).await {
        counters.received.fetch_add(count as u64, Ordering::Relaxed);
        if socket.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        counters.sent.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = socket.shutdown().await;
}

/// A usual message fits; ten thousand idle connections hold 40 MiB.
const BUFFER: usize = 4 << 10;
