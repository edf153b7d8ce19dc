//! The network between client and server, as bad as a test wants it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Nothing passes in either direction, and nobody is told.
    black: bool,
    /// How often all connections were cut.
    cuts: usize,
    /// Bytes a second in each direction of each connection; 0: as many as come.
    speed: u32,
}

impl Link {
    /// A link to an address, under the same IP.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let weather = watch::Sender::new(Weather::default());
        let accepted = Arc::<AtomicUsize>::default();
        let task = {
            let (weather, accepted) = (weather.subscribe(), Arc::clone(&accepted));
            tokio::spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    let (near, _) = listener.accept().await.unwrap();
                    accepted.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(near, target, weather.clone()));
                }
            })
        };
        Self { addr, weather, accepted, task }
    }

    /// Where to connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections that came so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Resets every connection there is. New ones are passed on.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
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

async fn connection(near: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
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
        let forth = copy(near_read, far_write, weather.clone());
        let back = copy(far_read, near_write, weather.clone());
        let both = async { tokio::try_join!(forth, back) };
        tokio::select! {
            both = both => both.is_ok(),
            () = changed(&mut weather, |weather| weather.cuts > cuts) => false,
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
                to.write_all(&buffer[..count]).await?;
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
