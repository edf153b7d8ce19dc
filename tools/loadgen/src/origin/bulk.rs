//! Takes bytes, gives bytes, or both at once, until the visitor's end.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::Counters;
use crate::bulk::{BLOCK, Direction};

pub(super) async fn serve(mut socket: TcpStream, direction: Direction, counters: &Counters) {
    let (mut read, mut write) = socket.split();
    // Whatever is dropped here was waiting: neither a read nor a write loses bytes by that.
    let broken = tokio::select! {
        ended = take(&mut read, counters) => ended.is_err(),
        Err(_) = give(&mut write, direction, counters) => true,
    };
    if !broken {
        let _ = write.shutdown().await;
    }
}

async fn take(read: &mut ReadHalf<'_>, counters: &Counters) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        counters.received.fetch_add(count as u64, Ordering::Relaxed);
    }
}

async fn give(
    write: &mut WriteHalf<'_>,
    direction: Direction,
    counters: &Counters,
) -> io::Result<Infallible> {
    if !direction.has_down() {
        return pending().await;
    }
    let block = vec![b'x'; BLOCK];
    loop {
        let count = write.write(&block).await?;
        counters.sent.fetch_add(count as u64, Ordering::Relaxed);
    }
}
