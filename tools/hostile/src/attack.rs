//! The bad peers. Each goes on until it is stopped, comes again when it is sent away, and tells how much it has done.

use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use ferrotunnel::Retry;
use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::frame::{Frame, FrameType, MAX_WINDOW, Ping};
use ferrotunnel_tests::{
    Carrier, Outlaw, Stranger, abort_on_close, ask_for, client_of, credit, data, opened_and_reset,
    reset,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A kind of bad peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Attack {
    /// Does nothing: what the measuring itself differs by.
    Nothing,
    /// Leaves the server alone, and keeps its processors busy.
    Busy,
    /// Leaves the server alone too: has visitors at a program beside it that resets each of them and does nothing else.
    Doorman,
    /// Not authenticated: begins TLS and drips.
    Drips,
    /// Not authenticated: goes through TLS and leaves, again and again.
    Handshakes,
    /// Not authenticated: says what is no TLS.
    Noise,
    /// Not authenticated: guesses tokens.
    Guesses,
    /// Never gives credit to a hundred visitors that upload.
    NoCredit,
    /// Gives more credit than there may be.
    CreditOverflow,
    /// Gives credit by the byte.
    Crumbs,
    /// Sends all that a thousand visitors' windows take, who do not read.
    Windows,
    /// Opens streams and resets them.
    OpenReset,
    /// Resets each of its visitors, who come again.
    ResetsVisitors,
    /// Has visitors that come and go at once, and hears nothing.
    VisitorStorm,
    /// Pings and takes the answers.
    Pings,
    /// Registers 100,000 names and gives them up.
    Names,
    /// Speaks about streams that are gone.
    Ghosts,
}

impl Attack {
    pub(crate) const ALL: &[Self] = &[
        Self::Nothing,
        Self::Busy,
        Self::Doorman,
        Self::Drips,
        Self::Handshakes,
        Self::Noise,
        Self::Guesses,
        Self::NoCredit,
        Self::CreditOverflow,
        Self::Crumbs,
        Self::Windows,
        Self::OpenReset,
        Self::ResetsVisitors,
        Self::VisitorStorm,
        Self::Pings,
        Self::Names,
        Self::Ghosts,
    ];

    /// What shows how much of its cost is not the server's doing.
    pub(crate) const fn without_us(self) -> Self {
        match self {
            Self::ResetsVisitors | Self::VisitorStorm => Self::Doorman,
            _ => Self::Busy,
        }
    }

    /// It is there to compare others with.
    pub(crate) const fn leaves_server_alone(self) -> bool {
        matches!(self, Self::Nothing | Self::Busy | Self::Doorman)
    }

    /// For ever.
    pub(crate) async fn go_on(self, server: SocketAddr) -> ExitCode {
        println!("{UNDER_WAY}");
        tokio::spawn(async {
            loop {
                tokio::time::sleep(TELL_EVERY).await;
                println!("{}", DONE.load(Ordering::Relaxed));
            }
        });
        match self {
            Self::Nothing => std::future::pending::<()>().await,
            Self::Busy => many(2, tokio::task::yield_now).await,
            Self::Doorman => doorman(server).await,
            Self::Drips => many(512, move || drips(server)).await,
            Self::Handshakes => many(16, move || handshakes(server)).await,
            Self::Noise => many(16, move || noise(server)).await,
            Self::Guesses => many(16, move || guesses(server)).await,
            Self::NoCredit => many(1, move || no_credit(server)).await,
            Self::CreditOverflow => many(4, move || credit_overflow(server)).await,
            Self::Crumbs => many(2, move || crumbs(server)).await,
            Self::Windows => many(1, move || windows(server)).await,
            Self::OpenReset => many(2, move || open_reset(server)).await,
            Self::ResetsVisitors => many(1, move || resets_visitors(server)).await,
            Self::VisitorStorm => many(1, move || visitor_storm(server)).await,
            Self::Pings => many(2, move || pings(server)).await,
            Self::Names => many(2, move || names(server)).await,
            Self::Ghosts => many(2, move || ghosts(server)).await,
        }
        ExitCode::FAILURE
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", |name| name.get_name()))
    }
}

/// What it says when it begins. Then follow lines with what it has done by then: connections, visitors, names or frames.
pub(crate) const UNDER_WAY: &str = "under way";

const TELL_EVERY: Duration = Duration::from_millis(50);

static DONE: AtomicU64 = AtomicU64::new(0);

fn done(count: usize) {
    DONE.fetch_add(count as u64, Ordering::Relaxed);
}

/// So many at once, each again and again: one that is sent away, or meets an error, is followed by the next.
async fn many<F: Future<Output = ()> + Send + 'static>(count: usize, one: impl Fn() -> F) {
    let mut running = JoinSet::new();
    loop {
        while running.len() < count {
            running.spawn(one());
        }
        if running.join_next().await.is_some_and(|ended| ended.is_err()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

const CARRIER: Carrier = Carrier::Tls;

/// The beginning of a TLS record.
const HALF: [u8; 3] = [0x16, 0x03, 0x01];

async fn drips(server: SocketAddr) {
    let mut loris = Stranger::connect(server, Carrier::Plaintext).await;
    loris.say(&HALF).await;
    loris.hear_out().await;
    done(1);
}

async fn handshakes(server: SocketAddr) {
    drop(Stranger::connect(server, CARRIER).await);
    done(1);
}

async fn noise(server: SocketAddr) {
    let mut noise = Stranger::connect(server, Carrier::Plaintext).await;
    noise.say(&[b'?'; 4_096]).await;
    noise.hear_out().await;
    done(1);
}

async fn guesses(server: SocketAddr) {
    let guesser = client_of(server, CARRIER).token("a-guess-at-the-token");
    let guesser = guesser.retry(Retry::Never).local_addr("1").build().unwrap();
    let _ = guesser.start().await;
    done(1);
}

async fn no_credit(server: SocketAddr) {
    let mut outlaw = Outlaw::deaf(server, CARRIER, 0).await;
    let public = outlaw.tcp(1).await;
    outlaw.listen();
    let mut uploads = JoinSet::new();
    for _ in 0..100 {
        let mut visitor = TcpStream::connect(public).await.unwrap();
        uploads.spawn(async move {
            let block = [0; 16 << 10];
            while visitor.write_all(&block).await.is_ok() {
                done(1);
            }
        });
    }
    while uploads.join_next().await.is_some() {}
}

/// An outlaw with a visitor who has said something, and the stream that brought them.
async fn with_a_visitor(server: SocketAddr) -> (Outlaw, u32, TcpStream) {
    let mut outlaw = Outlaw::join(server, CARRIER).await;
    let public = outlaw.tcp(1).await;
    let mut visitor = TcpStream::connect(public).await.unwrap();
    visitor.write_all(b"hello").await.unwrap();
    let stream = outlaw.hear_a(FrameType::Open).await.header.stream;
    (outlaw, stream, visitor)
}

async fn credit_overflow(server: SocketAddr) {
    let (mut outlaw, stream, _visitor) = with_a_visitor(server).await;
    outlaw.say_bytes(&credit(stream, MAX_WINDOW).encode().repeat(2)).await;
    outlaw.is_sent_away().await;
    done(1);
}

async fn crumbs(server: SocketAddr) {
    let (mut outlaw, stream, _visitor) = with_a_visitor(server).await;
    flood(&mut outlaw, &credit(stream, 1).encode(), 1).await;
}

/// The same again and again, which is so many frames, until the server has closed.
async fn flood(outlaw: &mut Outlaw, bytes: &[u8], frames: usize) {
    let at_once = BLOCK / bytes.len();
    let block = bytes.repeat(at_once);
    while outlaw.say_bytes(&block).await {
        done(at_once * frames);
    }
}

/// Bytes of a flood that are written at once.
const BLOCK: usize = 64 << 10;

async fn windows(server: SocketAddr) {
    let mut outlaw = Outlaw::join(server, CARRIER).await;
    let public = outlaw.tcp(1).await;
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(b"hello").await.unwrap();
        let open = outlaw.hear_a(FrameType::Open).await;
        let mut left = open.receive_window() as usize;
        while left > 0 {
            let count = left.min(32 << 10);
            outlaw.say_bytes(&data(open.header.stream, 0, &vec![0; count])).await;
            done(1);
            left -= count;
        }
        crowd.push(visitor);
    }
    while outlaw.hear().await.is_some() {}
}

async fn open_reset(server: SocketAddr) {
    let mut outlaw = Outlaw::join(server, CARRIER).await;
    for first in (1..u32::MAX >> 8).step_by(2 * 512) {
        let block = opened_and_reset((0..512).map(|at| first + 2 * at));
        if !outlaw.say_bytes(&block).await {
            return;
        }
        done(2 * 512);
    }
}

/// Visitors who come again whenever they are reset.
fn crowd_at(public: SocketAddr) -> JoinSet<()> {
    let mut visiting = JoinSet::new();
    for _ in 0..32 {
        visiting.spawn(async move {
            loop {
                // Who is slow to look finds only that it has been reset.
                match TcpStream::connect(public).await {
                    Ok(mut visitor) => drop(visitor.read_u8().await),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                    Err(_) => continue,
                }
                done(1);
            }
        });
    }
    visiting
}

/// The program beside the server: says where it is, and resets whoever comes.
pub(crate) async fn keep_door() -> ExitCode {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", door.local_addr().unwrap());
    loop {
        if let Ok((visitor, _)) = door.accept().await {
            abort_on_close(&visitor);
        }
    }
}

async fn doorman(door: SocketAddr) {
    let _visiting = crowd_at(door);
    std::future::pending::<()>().await;
}

async fn resets_visitors(server: SocketAddr) {
    let mut outlaw = Outlaw::join(server, CARRIER).await;
    let _visiting = crowd_at(outlaw.tcp(1).await);
    loop {
        let stream = outlaw.hear_a(FrameType::Open).await.header.stream;
        outlaw.say(&reset(stream)).await;
    }
}

async fn visitor_storm(server: SocketAddr) {
    let mut outlaw = Outlaw::deaf(server, CARRIER, 64 << 10).await;
    let public = outlaw.tcp(1).await;
    many(32, move || async move {
        if let Ok(visitor) = TcpStream::connect(public).await {
            abort_on_close(&visitor);
            done(1);
        }
    })
    .await;
}

async fn pings(server: SocketAddr) {
    let mut outlaw = Outlaw::join(server, CARRIER).await;
    flood(&mut outlaw, &Frame::Ping(Ping { ack: false, opaque: [7; 8] }).encode(), 1).await;
}

async fn names(server: SocketAddr) {
    let mut outlaw = Outlaw::join(server, CARRIER).await;
    let id = std::process::id();
    for first in (1..100_000).step_by(50) {
        let numbers = first..first + 50;
        let asking = numbers.clone().flat_map(|number| {
            ask_for(number, TunnelKind::Http, &format!("n{id}-{number}")).encode()
        });
        outlaw.say_bytes(&asking.collect::<Vec<_>>()).await;
        for number in numbers {
            outlaw.hear_a(FrameType::Registered).await;
            outlaw.say(&Frame::Unregister(number)).await;
            done(1);
        }
    }
}

async fn ghosts(server: SocketAddr) {
    let (mut outlaw, stream, _visitor) = with_a_visitor(server).await;
    outlaw.say(&reset(stream)).await;
    let gone = [reset(stream).encode(), credit(stream, 1).encode()].concat();
    let late = [gone, data(stream, 0, &[0; 100])].concat();
    flood(&mut outlaw, &late, 3).await;
}
