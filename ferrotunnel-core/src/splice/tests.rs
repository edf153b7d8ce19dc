//! Splices over real sockets, and of ends that break when they are to.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::looks::LOOK_EVERY;
use super::parting::{PAUSE_GRACE, WHOLE_GRACE};
use super::socket_end::SocketEnd;
use super::{End, Outcome, Room, Splice, SpliceError, splice};
use crate::loopback::{pattern, sockets};

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let (mut visitor, a) = sockets().await;
    let (b, mut service) = sockets().await;
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
    let (mut visitor, a) = sockets().await;
    let (b, mut service) = sockets().await;
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
async fn who_has_ended_and_then_breaks_off_is_not_kept_by_a_silent_peer() {
    for is_visitor in [true, false] {
        let (visitor, a) = sockets().await;
        let (b, service) = sockets().await;
        let running = tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
        let (mut gone, mut silent) =
            if is_visitor { (visitor, service) } else { (service, visitor) };
        gone.shutdown().await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
        crate::socket::abort_on_close(&gone);
        drop(gone);
        let ended = running.await.unwrap();
        match is_visitor {
            true => assert!(matches!(ended, Err(SpliceError::A(_))), "{ended:?}"),
            false => assert!(matches!(ended, Err(SpliceError::B(_))), "{ended:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_ended_may_wait_for_an_answer_as_long_as_it_likes() {
    let (mut visitor, a) = sockets().await;
    let (b, mut service) = sockets().await;
    let running = tokio::spawn(splice(SocketEnd::new(a), SocketEnd::new(b), None));
    visitor.shutdown().await.unwrap();
    assert_eq!(service.read(&mut [0]).await.unwrap(), 0);
    tokio::time::sleep(LOOK_EVERY * 3).await;
    service.write_all(b"the answer").await.unwrap();
    drop(service);
    let mut answer = Vec::new();
    visitor.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"the answer");
    running.await.unwrap().unwrap();
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
    let (visitor, a) = sockets().await;
    let (b, mut service) = sockets().await;
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

#[tokio::test]
async fn bulk_arrives_whole_both_ways() {
    let (visitor, a) = sockets().await;
    let (b, service) = sockets().await;
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
    let (mut visitor, a) = sockets().await;
    let (b, mut service) = sockets().await;
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
    fn keeps_words(&self) -> bool {
        true
    }

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

/// Has said something, and its peer has reset it.
struct Reset {
    words: Option<Bytes>,
    of: Was,
    /// What a read or a look takes.
    error: Cell<Option<io::Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Was {
    /// A write hears of it as a broken pipe, and a look by its name; a read finds an end then.
    Socket,
    /// Behind its end: it says so whenever it is asked, and what it has said is whole.
    Stream,
}

impl Reset {
    fn new(words: Bytes, of: Was) -> Self {
        let error = (of == Was::Socket).then(|| io::ErrorKind::ConnectionReset.into());
        Self { words: Some(words), of, error: Cell::new(error) }
    }

    fn at_a_write(&self) -> io::Error {
        match self.of {
            Was::Socket => io::ErrorKind::BrokenPipe.into(),
            Was::Stream => io::ErrorKind::ConnectionReset.into(),
        }
    }
}

impl End for Reset {
    fn keeps_words(&self) -> bool {
        self.of == Was::Stream
    }

    fn breaks_unheard(&self) -> bool {
        true
    }

    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        if let Some(words) = self.words.take() {
            chunks.push(words);
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(self.error.take().map_or(Ok(false), Err))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &mut Vec<Bytes>) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.at_a_write()))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.at_a_write()))
    }

    fn take_break(&self) -> Option<io::Error> {
        match self.of {
            Was::Socket => self.error.take(),
            Was::Stream => Some(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// Says something, and takes nothing until then.
struct Pauses {
    words: Option<Bytes>,
    until: Pin<Box<Sleep>>,
    is_finished: bool,
}

impl End for Pauses {
    fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: Room,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<bool>> {
        let Some(words) = self.words.take() else { return Poll::Pending };
        chunks.push(words);
        Poll::Ready(Ok(true))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut Vec<Bytes>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(Ok(chunks.drain(..).map(|chunk| chunk.len()).sum()))
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_finished = true;
        Poll::Ready(Ok(()))
    }
}

/// What a reader that pauses for so long gets of who was reset: bytes, and whether they end well.
async fn heard_of_who_was_reset(of: Was, pause: Duration) -> (u64, bool) {
    let words = Bytes::from_static(b"a part");
    let until = Box::pin(tokio::time::sleep(pause));
    let slow = Pauses { words: Some(words.clone()), until, is_finished: false };
    let mut splice = Splice::new(Reset::new(words, of), slow, None, [None, None], None);
    (&mut splice).await.unwrap_err();
    (splice.a_to_b.moved, splice.b.is_finished)
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_stream_that_was_reset_behind_it_is_one_for_a_reader_that_pauses() {
    for pause in [Duration::ZERO, LOOK_EVERY * 2] {
        assert_eq!(heard_of_who_was_reset(Was::Stream, pause).await, (6, true), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_who_was_reset_is_none_however_a_write_heard_of_it() {
    for pause in [Duration::ZERO, LOOK_EVERY / 2, LOOK_EVERY * 2] {
        assert_eq!(heard_of_who_was_reset(Was::Socket, pause).await, (6, false), "{pause:?}");
    }
}
