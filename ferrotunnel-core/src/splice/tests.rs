//! Splices over real sockets.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::socket_end::SocketEnd;
use super::{End, Outcome, Room, SpliceError, splice, splice_paced};
use crate::shards::{Bulk, Shards, Threads};
use crate::throttle::{Rates, Throttle, Throttles, Way};
use crate::turned_away::Meters;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let (mut visitor, a) = pair().await;
    let (b, mut service) = pair().await;
    let running = tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
    visitor.write_all(b"question").await.unwrap();
    visitor.shutdown().await.unwrap();
    let mut heard = Vec::new();
    service.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"question");
    service.write_all(b"the answer").await.unwrap();
    drop(service);
    let mut answer = Vec::new();
    visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"the answer");
    let outcome = running.await.unwrap().unwrap();
    assert_eq!(outcome, Outcome { a_to_b: 8, b_to_a: 10 });
}

#[tokio::test]
async fn a_broken_end_breaks_the_other() {
    let (mut visitor, a) = pair().await;
    let (b, mut service) = pair().await;
    let running = tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
    service.write_all(b"half of it").await.unwrap();
    let mut half = [0; 10];
    visitor.read_exact(&mut half).await.unwrap();
    crate::socket::abort_on_close(&service);
    drop(service);
    assert!(matches!(running.await.unwrap(), Err(SpliceError::B(_))));
    let error = visitor.read(&mut half).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn busy_tcp_connection_outlives_idle_timeout() {
    let (mut near, a) = tokio::io::duplex(64);
    let (b, mut far) = tokio::io::duplex(64);
    let limit = Duration::from_secs(10);
    let running = tokio::spawn(splice(super::Io::new(a), super::Io::new(b), Some(limit)));
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        near.write_all(b"x").await.unwrap();
        let mut byte = [0];
        far.read_exact(&mut byte).await.unwrap();
    }
    let quiet_since = tokio::time::Instant::now();
    assert!(matches!(running.await.unwrap(), Err(SpliceError::Idle)));
    assert_eq!(quiet_since.elapsed().as_secs(), 10);
}

/// A visitor uploads without end; the service answers, does not read, and closes: RST.
async fn early_answer(half_close_first: bool) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let (visitor, a) = pair().await;
    let (b, mut service) = pair().await;
    let running = tokio::spawn(async move {
        let broke = splice(SocketEnd::new(a), SocketEnd::new(b), None).await;
        assert!(matches!(broke, Err(SpliceError::B(_))), "{broke:?}");
    });
    // Fills both sockets, so that the splice waits to write when the service closes.
    while tokio::time::timeout(Duration::from_millis(100), visitor.writable()).await.is_ok() {
        let _ = visitor.try_write(&[0; 65536]);
    }
    service.write_all(&[7; 100_000]).await.unwrap();
    if half_close_first {
        service.shutdown().await.unwrap();
    }
    drop(service);
    (visitor, running)
}

#[tokio::test]
async fn an_early_answer_outlives_the_reset_that_follows_it() {
    let (mut visitor, running) = early_answer(false).await;
    let mut answer = vec![0; 100_000];
    visitor.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [7; 100_000]);
    let end = visitor.read(&mut answer).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    running.await.unwrap();
}

#[tokio::test]
async fn an_early_answer_with_an_end_arrives_with_it() {
    let (mut visitor, running) = early_answer(true).await;
    let mut answer = Vec::new();
    visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [7; 100_000]);
    drop(visitor);
    running.await.unwrap();
}

/// Bytes that no two places of a transfer share by chance.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[tokio::test]
async fn bulk_arrives_whole_both_ways() {
    let (visitor, a) = pair().await;
    let (b, service) = pair().await;
    let running = tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
    let sent = pattern(8 << 20);
    let exchange = async |socket: TcpStream| {
        let (mut read, mut write) = socket.into_split();
        let speak = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let (_, count) = tokio::join!(speak, read.read_to_end(&mut heard));
        count.unwrap();
        assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
    };
    tokio::join!(exchange(visitor), exchange(service));
    let outcome = running.await.unwrap().unwrap();
    assert_eq!(outcome, Outcome { a_to_b: 8 << 20, b_to_a: 8 << 20 });
}

#[tokio::test]
async fn a_bulk_transfer_that_breaks_is_no_clean_end() {
    let (mut visitor, a) = pair().await;
    let (b, mut service) = pair().await;
    let running = tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
    let sent = pattern(4 << 20);
    let speak = async {
        service.write_all(&sent).await.unwrap();
        crate::socket::abort_on_close(&service);
        drop(service);
    };
    let mut heard = Vec::new();
    let ((), end) = tokio::join!(speak, visitor.read_to_end(&mut heard));
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(sent.starts_with(&heard));
    assert!(matches!(running.await.unwrap(), Err(SpliceError::B(_))));
}

/// An end that tells on which threads it is read.
struct Watched {
    end: SocketEnd<TcpStream>,
    threads: Arc<Mutex<BTreeSet<Option<String>>>>,
}

impl End for Watched {
    const BREAKS_UNHEARD: bool = SocketEnd::<TcpStream>::BREAKS_UNHEARD;
    const MOVES: bool = SocketEnd::<TcpStream>::MOVES;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        self.threads.lock().insert(std::thread::current().name().map(str::to_owned));
        self.end.poll_read(cx, room, chunks)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        self.end.poll_write(cx, chunks)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.poll_finish(cx)
    }

    fn settle(&mut self) {
        self.end.settle();
    }

    fn complete(&mut self) {
        self.end.complete();
    }

    fn abort(&mut self) {
        self.end.abort();
    }
}

/// A splice that may go on on the thread for bulk.
struct Movable {
    visitor: TcpStream,
    service: TcpStream,
    running: tokio::task::JoinHandle<Result<Outcome, SpliceError>>,
    threads: Arc<Mutex<BTreeSet<Option<String>>>>,
    _shards: Shards,
}

impl Movable {
    async fn start() -> Self {
        let (visitor, a) = pair().await;
        let (b, service) = pair().await;
        let shards = Shards::start(Threads { bulk: 1, ..Threads::default() }).unwrap();
        let threads = Arc::<Mutex<BTreeSet<Option<String>>>>::default();
        let watched =
            |socket| Watched { end: SocketEnd::new(socket), threads: Arc::clone(&threads) };
        let splice = splice_paced(watched(a), watched(b), [None, None], None);
        let bulk = shards.bulk().clone();
        let running = tokio::spawn(async move { splice.run(&bulk).await });
        Self { visitor, service, running, threads, _shards: shards }
    }

    fn has_moved(&self) -> bool {
        self.threads.lock().contains(&Some("bulk-0".to_owned()))
    }

    /// The visitor goes on saying the same until that has it on the other thread. Returns how much it has said.
    async fn move_away(&mut self, piece: &[u8]) -> u64 {
        let mut said = 0;
        let mut heard = vec![0; piece.len()];
        while !self.has_moved() {
            assert!(said < 4 << 30, "{:?}", self.threads.lock());
            let (visitor, service) = (&mut self.visitor, &mut self.service);
            let (wrote, read) =
                tokio::join!(visitor.write_all(piece), service.read_exact(&mut heard));
            wrote.unwrap();
            read.unwrap();
            assert!(heard == piece, "behind {said} bytes");
            said += piece.len() as u64;
        }
        said
    }
}

#[cfg(unix)]
#[tokio::test]
async fn who_always_has_more_to_say_goes_on_on_a_thread_for_it_with_every_byte() {
    let mut moving = Movable::start().await;
    let piece = pattern(8 << 20);
    let said = moving.move_away(&piece).await;
    // All of it, and both ends of it, are heard there.
    let (mut heard, mut answer) = (Vec::new(), Vec::new());
    moving.visitor.write_all(b"the end").await.unwrap();
    moving.visitor.shutdown().await.unwrap();
    moving.service.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"the end");
    let reply = async {
        moving.service.write_all(&piece).await.unwrap();
        drop(moving.service);
    };
    let (_, read) = tokio::join!(reply, moving.visitor.read_to_end(&mut answer));
    read.unwrap();
    assert!(answer == piece, "{} bytes", answer.len());
    let outcome = moving.running.await.unwrap().unwrap();
    assert_eq!(outcome, Outcome { a_to_b: said + 7, b_to_a: piece.len() as u64 });
}

#[cfg(unix)]
#[tokio::test]
async fn who_is_cut_off_on_another_thread_does_not_look_whole() {
    let mut moving = Movable::start().await;
    moving.move_away(&pattern(8 << 20)).await;
    moving.running.abort();
    for mut outside in [moving.visitor, moving.service] {
        let error = outside.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn who_waits_for_answers_stays_where_it_is() {
    let mut moving = Movable::start().await;
    let mut heard = vec![0; 64 << 10];
    for _ in 0..40 * super::BUSY_TURNS {
        moving.visitor.write_all(&[7; 64 << 10]).await.unwrap();
        moving.service.read_exact(&mut heard).await.unwrap();
        moving.service.write_all(&heard).await.unwrap();
        moving.visitor.read_exact(&mut heard).await.unwrap();
    }
    assert!(!moving.has_moved());
}

/// To hold it back takes a timer of this thread.
#[tokio::test]
async fn who_is_held_back_stays_where_it_is() {
    let rates = Rates { bytes: Some(1 << 40), ..Rates::default() };
    let throttle = Throttle::new(rates, std::time::Instant::now());
    let throttles = Throttles::of([throttle, None]);
    let shards = Shards::start(Threads { bulk: 1, ..Threads::default() }).unwrap();
    for (held_back, may_move) in [(false, cfg!(unix)), (true, false)] {
        let pacing = held_back.then(|| throttles.pacing(Way::Out, &Meters::default())).flatten();
        let ((_visitor, a), (b, _service)) = (pair().await, pair().await);
        let mut splice = splice_paced(SocketEnd::new(a), SocketEnd::new(b), [None, pacing], None);
        splice.may_move_to(shards.bulk());
        assert_eq!(!splice.is_settled, may_move);
        splice.may_move_to(&Bulk::default());
        assert!(splice.is_settled, "there is nowhere to go");
    }
}
