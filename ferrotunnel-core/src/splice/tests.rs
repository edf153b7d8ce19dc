//! Splices over real sockets, and of ends that break when they are to.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::parting::{PAUSE_GRACE, WHOLE_GRACE};
use super::socket_end::SocketEnd;
use super::{End, Outcome, Room, Splice, SpliceError, splice, splice_paced};
use crate::bulk::Bulk;
use crate::throttle::{Pacing, Rates, Throttle, Throttles, Way};
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

/// Takes so many bytes, and then breaks; says nothing.
struct Breaks {
    takes: usize,
    by: io::ErrorKind,
}

impl End for Breaks {
    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: Room,
        _: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        Poll::Pending
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let takes = std::mem::take(&mut self.takes);
        if takes == 0 {
            return Poll::Ready(Err(self.by.into()));
        }
        chunks[0].advance(takes);
        Poll::Ready(Ok(takes))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.by.into()))
    }
}

/// Says something while it has credit, as a stream does, and has no room.
struct Credited {
    credit: usize,
    unsaid: usize,
}

impl End for Credited {
    const KEEPS_WORDS: bool = true;

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        if self.unsaid == 0 {
            return Poll::Ready(Ok(false));
        }
        let says = self.credit.min(self.unsaid);
        if says == 0 {
            return Poll::Pending;
        }
        self.credit -= says;
        self.unsaid -= says;
        chunks.push(vec![0; says].into());
        Poll::Ready(Ok(true))
    }

    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Room>> {
        Poll::Pending
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &mut Vec<Bytes>) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn release(&mut self, bytes: usize) {
        self.credit += bytes;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_for_a_broken_end_does_not_keep_the_other_from_finishing() {
    for broken_first in [true, false] {
        let broken = Breaks { takes: 30, by: io::ErrorKind::ConnectionReset };
        let other = Credited { credit: 100, unsaid: 1_000 };
        let left = if broken_first {
            let mut splice = Splice::new(broken, other, None, [None, None], None);
            (&mut splice).await.unwrap_err();
            (splice.b.unsaid, splice.b.credit)
        } else {
            let mut splice = Splice::new(other, broken, None, [None, None], None);
            (&mut splice).await.unwrap_err();
            (splice.a.unsaid, splice.a.credit)
        };
        // Nothing is released twice, either.
        assert_eq!(left, (0, 100));
    }
}

/// Where what was said is whole, and only somebody else's pause is in its way.
#[tokio::test(start_paused = true)]
async fn words_that_are_whole_wait_longer_for_whoever_pauses_than_those_that_are_not() {
    for (by, grace) in
        [(io::ErrorKind::BrokenPipe, PAUSE_GRACE), (io::ErrorKind::ConnectionReset, WHOLE_GRACE)]
    {
        let began = tokio::time::Instant::now();
        let broken = Breaks { takes: 0, by };
        splice(broken, Credited { credit: 1, unsaid: 1 }, None).await.unwrap_err();
        assert_eq!(began.elapsed().as_secs(), grace.as_secs(), "{by}");
    }
}

/// An end that tells on which thread it was read last.
struct Watched {
    end: SocketEnd<TcpStream>,
    thread: Arc<Mutex<Option<String>>>,
}

impl End for Watched {
    const MOVES: bool = SocketEnd::<TcpStream>::MOVES;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        *self.thread.lock() = std::thread::current().name().map(str::to_owned);
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
    /// The other direction may be moved by the kernel, which leaves no trace; this one is not.
    thread: Arc<Mutex<Option<String>>>,
    bulk: Bulk,
}

impl Movable {
    async fn start(pacing: Option<Box<Pacing>>) -> Self {
        let (visitor, a) = pair().await;
        let (b, service) = pair().await;
        let thread = Arc::default();
        let watched = Watched { end: SocketEnd::new(a), thread: Arc::clone(&thread) };
        let splice = splice_paced(watched, SocketEnd::new(b), [pacing, None], None);
        let bulk = Bulk::threads(1);
        let running = tokio::spawn(splice.run(&bulk));
        Self { visitor, service, running, thread, bulk }
    }

    fn is_away(&self) -> bool {
        self.thread.lock().as_deref() == Some("ferrotunnel-bulk-0")
    }

    /// Both say the same again and again until that has the splice elsewhere. Returns how much each has said.
    async fn exchange_until(&mut self, piece: &[u8], enough: impl Fn(&Self) -> bool) -> u64 {
        let mut said = 0;
        let (mut heard, mut answer) = (vec![0; piece.len()], vec![0; piece.len()]);
        while !enough(self) {
            assert!(said < 4 << 30, "{:?}", self.thread.lock());
            let (mut from_visitor, mut to_visitor) = self.visitor.split();
            let (mut from_service, mut to_service) = self.service.split();
            tokio::try_join!(
                to_visitor.write_all(piece),
                from_service.read_exact(&mut heard),
                to_service.write_all(piece),
                from_visitor.read_exact(&mut answer),
            )
            .unwrap();
            assert!(heard == piece && answer == piece, "behind {said} bytes");
            said += piece.len() as u64;
        }
        said
    }
}

#[cfg(unix)]
#[tokio::test]
async fn who_moves_much_goes_on_on_a_thread_for_it_and_comes_back_with_every_byte() {
    let mut moving = Movable::start(None).await;
    let piece = pattern(8 << 20);
    let mut said = moving.exchange_until(&piece, Movable::is_away).await;
    // Once it has little to say.
    said += moving.exchange_until(b"hello", |moving| !moving.is_away()).await;
    said += moving.exchange_until(&piece, Movable::is_away).await;
    // The rest is heard there, with both of its ends.
    let (mut heard, mut answer) = (Vec::new(), Vec::new());
    moving.visitor.write_all(b"the end").await.unwrap();
    moving.visitor.shutdown().await.unwrap();
    moving.service.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"the end");
    let reply = async {
        moving.service.write_all(&piece).await.unwrap();
        drop(moving.service);
    };
    let ((), read) = tokio::join!(reply, moving.visitor.read_to_end(&mut answer));
    read.unwrap();
    assert!(answer == piece, "{} bytes", answer.len());
    let outcome = moving.running.await.unwrap().unwrap();
    assert_eq!(outcome, Outcome { a_to_b: said + 7, b_to_a: said + piece.len() as u64 });
}

#[cfg(unix)]
#[tokio::test]
async fn who_is_cut_off_on_another_thread_does_not_look_whole() {
    let mut moving = Movable::start(None).await;
    moving.exchange_until(&pattern(8 << 20), Movable::is_away).await;
    moving.running.abort();
    assert!(moving.running.await.unwrap_err().is_cancelled());
    // What owns the sockets there is waited for, too.
    moving.bulk.finish().await;
    assert_eq!(moving.bulk.runtimes().map(|it| it.metrics().num_alive_tasks()).sum::<usize>(), 0);
    for mut outside in [moving.visitor, moving.service] {
        let error = outside.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

/// Its timer is made anew there.
#[cfg(unix)]
#[tokio::test]
async fn who_is_held_back_is_so_on_another_thread_too() {
    let rates = Rates { bytes: Some(1 << 30), ..Rates::default() };
    let throttle = Throttle::new(rates, std::time::Instant::now()).unwrap();
    let throttles = Throttles::of([Some(Arc::clone(&throttle)), None]);
    let pacing = throttles.pacing(Way::In, &Meters::default());
    let mut moving = Movable::start(pacing).await;
    moving.exchange_until(&pattern(8 << 20), Movable::is_away).await;
    // So slow that a single byte waits for the ones before it.
    let rates = Rates { bytes: Some(1), ..Rates::default() };
    throttle.set(rates, std::time::Instant::now());
    moving.visitor.write_all(&[1; 1 << 16]).await.unwrap();
    moving.visitor.write_all(&[2; 1 << 16]).await.unwrap();
    let mut heard = vec![0; 1 << 17];
    let mut count = moving.service.read(&mut heard).await.unwrap();
    assert!(count < heard.len());
    throttle.set(Rates { bytes: Some(1 << 30), ..Rates::default() }, std::time::Instant::now());
    while count < heard.len() {
        count += moving.service.read(&mut heard[count..]).await.unwrap();
    }
    assert!(
        heard.chunks(1 << 16).zip([1, 2]).all(|(piece, byte)| piece.iter().all(|it| *it == byte))
    );
}
