//! As many bytes as go through.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};

use crate::crew;
use crate::dial::dial;
use crate::failure::{Failure, Fault};
use crate::report::Report;

/// Which way the bytes go, as the visitor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the visitor to the origin.
    Up,
    /// From the origin to the visitor.
    Down,
    /// Both at once, over every stream.
    Both,
}

impl Direction {
    pub(crate) fn has_up(self) -> bool {
        matches!(self, Self::Up | Self::Both)
    }

    pub(crate) fn has_down(self) -> bool {
        matches!(self, Self::Down | Self::Both)
    }
}

/// How much load.
#[derive(Clone, Debug)]
pub struct BulkLoad {
    /// Which way.
    pub direction: Direction,
    /// Connections at once.
    pub streams: usize,
    /// After it the visitor ends its side; what is on the way still arrives and counts.
    pub duration: Duration,
    /// How long after that the end is waited for.
    pub patience: Duration,
    /// Threads that make the load.
    pub threads: usize,
}

/// What went through.
#[derive(Debug)]
#[non_exhaustive]
pub struct BulkOutcome {
    /// Every stream's share.
    pub streams: Vec<Moved>,
    /// From the first byte to the last, wherever it arrived.
    pub elapsed: Duration,
}

/// What one stream moved.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Moved {
    /// Bytes up. When the stream ended well, they have all arrived.
    pub up: u64,
    /// Bytes down.
    pub down: u64,
    /// Whether both ends came to their end.
    pub ended_well: bool,
}

/// Moves bytes. Whatever listens there takes them, gives them, or both, until the visitor's end.
///
/// # Errors
/// Nobody listens there, or there is no thread to be had.
pub fn run(addr: SocketAddr, load: &BulkLoad) -> Result<BulkOutcome, Failure> {
    let make = async || dial(addr).await.map_err(|fault: Fault| Failure::Connect(addr, fault));
    let work = async |sockets: Vec<TcpStream>, start: Instant| {
        let ends = start + load.duration;
        let mut tasks = JoinSet::new();
        for socket in sockets {
            tasks.spawn(stream(socket, load.direction, ends, ends + load.patience));
        }
        let moved = tasks.join_all().await;
        (moved, start.elapsed())
    };
    let shares = crew::run(load.threads, load.streams, make, work, |_| ())?;
    let elapsed = shares.iter().map(|(_, elapsed)| *elapsed).max().unwrap_or_default();
    let streams = shares.into_iter().flat_map(|(moved, _)| moved).collect();
    Ok(BulkOutcome { streams, elapsed })
}

async fn stream(
    mut socket: TcpStream,
    direction: Direction,
    ends: Instant,
    give_up: Instant,
) -> Moved {
    let (mut up, mut down) = (0, 0);
    let (mut read, mut write) = socket.split();
    let both = async {
        tokio::try_join!(send(&mut write, direction, ends, &mut up), receive(&mut read, &mut down))
    };
    let ended_well = matches!(timeout_at(give_up.into(), both).await, Ok(Ok(_)));
    Moved { up, down, ended_well }
}

async fn send(
    write: &mut WriteHalf<'_>,
    direction: Direction,
    ends: Instant,
    sent: &mut u64,
) -> io::Result<()> {
    if direction.has_up() {
        let block = vec![b'x'; BLOCK];
        // A write that is dropped while it waits has sent nothing.
        while let Ok(count) = timeout_at(ends.into(), write.write(&block)).await {
            *sent += count? as u64;
            if Instant::now() >= ends {
                break;
            }
        }
    } else {
        sleep_until(ends.into()).await;
    }
    write.shutdown().await
}

async fn receive(read: &mut ReadHalf<'_>, received: &mut u64) -> io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    loop {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        *received += count as u64;
    }
}

impl BulkOutcome {
    /// Bytes up, over all streams.
    pub fn up(&self) -> u64 {
        self.streams.iter().map(|moved| moved.up).sum()
    }

    /// Bytes down, over all streams.
    pub fn down(&self) -> u64 {
        self.streams.iter().map(|moved| moved.down).sum()
    }

    /// Streams that broke off, or did not end in time.
    pub fn failed(&self) -> usize {
        self.streams.iter().filter(|moved| !moved.ended_well).count()
    }

    /// Writes it down.
    pub fn report(&self, report: &mut Report) {
        let seconds = self.elapsed.as_secs_f64();
        let sums = self.streams.iter().map(|moved| moved.up + moved.down);
        report.throughput("up", self.up() as f64 / seconds);
        report.throughput("down", self.down() as f64 / seconds);
        report.count("bytes_up", self.up());
        report.count("bytes_down", self.down());
        report.count("slowest_stream_bytes", sums.clone().min().unwrap_or_default());
        report.count("fastest_stream_bytes", sums.max().unwrap_or_default());
        report.count("failed", self.failed() as u64);
    }
}

/// More than one system call carries over loopback at a time, little enough for a cache.
pub(crate) const BLOCK: usize = 256 << 10;
