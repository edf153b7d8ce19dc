//! Visitors of a good client who wait for answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Visitors that go on asking for as long as this lives.
pub(crate) struct Pings {
    /// Which window it is; none is even.
    window: watch::Sender<u64>,
    _visitors: JoinSet<()>,
    heard: tokio::sync::Mutex<mpsc::Receiver<(u64, Duration)>>,
}

impl Pings {
    pub(crate) async fn through(public: SocketAddr) -> Self {
        let (window, of) = watch::channel(0);
        let (tell, heard) = mpsc::channel(1 << 16);
        let mut visitors = JoinSet::new();
        for _ in 0..VISITORS {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            visitor.set_nodelay(true).unwrap();
            let (tell, of) = (tell.clone(), of.clone());
            visitors.spawn(async move {
                let (question, mut answer) = ([7; 64], [0; 64]);
                loop {
                    let (window, began) = (*of.borrow(), Instant::now());
                    visitor.write_all(&question).await.unwrap();
                    visitor.read_exact(&mut answer).await.unwrap();
                    if tell.send((window, began.elapsed())).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { window, _visitors: visitors, heard: tokio::sync::Mutex::new(heard) }
    }

    /// How long answers took in a window of time from now on.
    pub(crate) async fn within(&self, time: Duration) -> Waits {
        let mut heard = self.heard.lock().await;
        while heard.try_recv().is_ok() {}
        self.window.send_modify(|window| *window += 1);
        let (this, mut waits) = (*self.window.borrow(), Vec::new());
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some((window, wait))) = tokio::time::timeout_at(end, heard.recv()).await {
            if window == this {
                waits.push(wait);
            }
        }
        waits.sort_unstable();
        Waits(waits)
    }
}

/// How long answers took, sorted.
#[derive(Default)]
pub(crate) struct Waits(Vec<Duration>);

impl Waits {
    pub(crate) fn and(self, more: Self) -> Self {
        let mut all = [self.0, more.0].concat();
        all.sort_unstable();
        Self(all)
    }

    /// What so many of a hundred did not exceed.
    pub(crate) fn part(&self, percent: usize) -> Duration {
        let at = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or(Duration::MAX)
    }
}

pub(crate) const VISITORS: usize = 4;

/// Between an answer and the next question, so that they are guests and no load of their own.
const PAUSE: Duration = Duration::from_millis(1);
