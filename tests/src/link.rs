//! The network between client and server, as bad as a test wants it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::visitor::abort_on_close;

/// Passes connections on, until told otherwise.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    carried: Arc<Mutex<Vec<Arc<AtomicUsize>>>>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Nothing passes in either direction, and nobody is told.
    black: bool,
    /// How often all connections were cut.
    cuts: usize,
    /// The connection that was cut last, in the order in which they came.
    cut_one: Option<usize>,
    /// Bytes a second in each direction of each connection; 0: as many as come.
    speed: u32,
    /// How long bytes take in each direction.
    delay: Duration,
}

impl Link {
    /// A link to an address, under the same IP.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let weather = watch::Sender::new(Weather::default());
        let carried = Arc::<Mutex<Vec<Arc<AtomicUsize>>>>::default();
        let task = {
            let (weather, carried) = (weather.subscribe(), Arc::clone(&carried));
            tokio::spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (near, _) = listener.accept().await.unwrap();
                    let bytes = Arc::<AtomicUsize>::default();
                    let number = {
                        let mut carried = carried.lock();
                        carried.push(Arc::clone(&bytes));
                        carried.len() - 1
                    };
                    connections.spawn(connection(near, number, target, weather.clone(), bytes));
                }
            })
        };
        Self { addr, weather, carried, task }
    }

    /// Where to connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that came so far.
    pub fn accepted(&self) -> usize {
        self.carried.lock().len()
    }

    /// Bytes that each of them has carried, both ways together.
    pub fn carried(&self) -> Vec<usize> {
        let carried = self.carried.lock();
        carried.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }

    /// Resets every connection there is. New ones are passed on.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Resets one connection, the first being 0.
    pub fn cut_only(&self, number: usize) {
        self.weather.send_modify(|weather| weather.cut_one = Some(number));
    }

    /// Bytes take that long in each direction, and no more than 64 KiB of them travel at a time.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// From now on nothing passes in either direction, not even the end of a connection: what a NAT does that forgot
    /// a mapping.
    pub fn blackhole(&self) {
        self.weather.send_modify(|weather| weather.black = true);
    }

    /// No more bytes a second than that pass in each direction of each connection.
    pub fn slow_down(&self, bytes_per_second: u32) {
        self.weather.send_modify(|weather| weather.speed = bytes_per_second);
    }

    /// Everything passes again. Connections from before the blackhole stay lost: the NAT does not know them any more.
    pub fn resume(&self) {
        self.weather.send_modify(|weather| weather.black = false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(
    near: TcpStream,
    number: usize,
    target: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    carried: Arc<AtomicUsize>,
) {
    // A connection that begins in the dark waits for light.
    let Ok(cuts) = weather.wait_for(|weather| !weather.black).await.map(|weather| weather.cuts)
    else {
        return;
    };
    let Ok(far) = TcpStream::connect(target).await else { return abort_on_close(&near) };
    let (mut near, mut far) = (near, far);
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let went_well = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let forth = copy(near_read, far_write, weather.clone(), &carried);
        let back = copy(far_read, near_write, weather.clone(), &carried);
        let both = async { tokio::try_join!(forth, back) };
        tokio::select! {
            both = both => both.is_ok(),
            () = changed(&mut weather, |weather| {
                weather.cuts > cuts || weather.cut_one == Some(number)
            }) => false,
        }
    };
    if !went_well {
        abort_on_close(&near);
        abort_on_close(&far);
    }
}

/// Copies until the end of the connection, or for ever into the void.
async fn copy(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    carried: &AtomicUsize,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = tokio::select! {
            biased;
            () = changed(&mut weather, |weather| weather.black) => None,
            count = from.read(&mut buffer) => Some(count?),
        };
        match count {
            // Neither bytes nor the end: the sockets stay open and nobody reads them.
            None => return std::future::pending().await,
            Some(0) => return to.shutdown().await,
            Some(count) => {
                let delay = weather.borrow().delay;
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                to.write_all(&buffer[..count]).await?;
                carried.fetch_add(count, Ordering::Relaxed);
                let speed = f64::from(weather.borrow().speed);
                if speed > 0.0 {
                    tokio::time::sleep(Duration::from_secs_f64(count as f64 / speed)).await;
                }
            }
        }
    }
}

async fn changed(weather: &mut watch::Receiver<Weather>, to: impl Fn(&Weather) -> bool) {
    // The sender goes with the link, and the link takes its connections with it.
    let _ = weather.wait_for(|weather| to(weather)).await;
}
