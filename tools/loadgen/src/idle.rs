//! Connections that are open and do nothing: how many, and what they cost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::cost::{Costs, Processes, Usage};
use crate::dial::{dial, knock};
use crate::failure::{Failure, Fault};
use crate::own_thread;
use crate::report::Report;

/// What became of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct IdleOutcome {
    /// Connections that were opened and sent back a byte.
    pub opened: usize,
    /// How long opening all of them took.
    pub opening: Duration,
    /// How long they were silent.
    pub silence: Duration,
    /// Those of them that sent back a byte after the silence.
    pub alive: usize,
    /// Resident memory of this process before and with all of them, where the system tells.
    pub memory: Option<(u64, u64)>,
    /// The same of server and client, where they are processes of their own, and what their silence
    /// took.
    pub costs: Option<(Costs, Costs)>,
}

/// Opens `streams` connections, `at_once` at a time, holds them in silence for `hold`, and looks
/// which still work. Whatever listens there must send back what it gets. With `processes`, what the
/// streams cost them is measured too.
///
/// # Errors
/// There is no thread to be had, or a process has ended.
pub fn run(
    addr: SocketAddr,
    streams: usize,
    at_once: usize,
    hold: Duration,
    processes: Option<&Processes>,
) -> Result<IdleOutcome, Failure> {
    own_thread::single()?.block_on(async {
        let before = Usage::own();
        let costs_before = processes.map(Processes::costs).transpose()?;
        let began = Instant::now();
        let opened: Vec<_> = each(0..streams, at_once, async |_| {
            let mut socket = dial(addr).await?;
            knock(&mut socket).await?;
            Ok(socket)
        })
        .await;
        let opening = began.elapsed();
        let costs_opened = processes.map(Processes::costs).transpose()?;
        sleep(hold).await;
        let memory =
            before.zip(Usage::own()).map(|(before, with)| (before.resident, with.resident));
        let costs_with = processes.map(Processes::costs).transpose()?;
        let silence = costs_with.zip(costs_opened).map(|(with, opened)| with.since(&opened));
        let count = opened.len();
        let alive = each(opened, at_once, async |mut socket| {
            knock(&mut socket).await?;
            Ok(socket)
        })
        .await
        .len();
        let costs = costs_before.zip(silence);
        Ok(IdleOutcome { opened: count, opening, silence: hold, alive, memory, costs })
    })
}

/// Does something with each, some at once, and keeps those with which it went well.
async fn each<T>(
    items: impl IntoIterator<Item = T>,
    at_once: usize,
    step: impl AsyncFn(T) -> Result<TcpStream, Fault>,
) -> Vec<TcpStream> {
    let steps = items.into_iter().map(|item| timeout(PATIENCE, step(item)));
    let done = stream::iter(steps).buffer_unordered(at_once.max(1));
    done.filter_map(async |done| done.ok().and_then(Result::ok)).collect().await
}

impl IdleOutcome {
    /// Writes it down.
    pub fn report(&self, report: &mut Report) {
        report.count("opened", self.opened as u64);
        report.rate("opened_per_second", self.opened as f64 / self.opening.as_secs_f64());
        report.count("alive_after_the_silence", self.alive as u64);
        if let Some((before, with)) = self.memory {
            let each = with.saturating_sub(before) / self.opened.max(1) as u64;
            report.count("memory_before_bytes", before);
            report.count("memory_with_all_bytes", with);
            report.count("memory_each_bytes", each);
        }
        if let Some((before, with)) = &self.costs {
            let stream_seconds = self.opened as f64 * self.silence.as_secs_f64();
            with.report_each(report, "stream_and_second", stream_seconds);
            with.report_memory(report, before, "stream", self.opened);
        }
    }
}

/// For one connection's byte there and back.
const PATIENCE: Duration = Duration::from_secs(10);
