//! Splices that go on on a thread for bulk while they move much.
#![cfg(unix)]

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::socket_end::SocketEnd;
use super::{End, Outcome, Room, SpliceError, splice_paced};
use crate::bulk::Bulk;
use crate::loopback::{pattern, sockets};
use crate::throttle::{Pacing, Rates, Throttle, Throttles, Way};
use crate::turned_away::{Limit, Meters};

/// An end that tells on which thread it was read last.
struct Watched {
    end: SocketEnd<TcpStream>,
    thread: Arc<Mutex<Option<String>>>,
}

impl End for Watched {
    fn may_settle(&self) -> bool {
        self.end.may_settle()
    }

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
    /// Where the visitor was read last.
    thread: Arc<Mutex<Option<String>>>,
    bulk: Bulk,
}

impl Movable {
    async fn start(pacing: Option<Box<Pacing>>) -> Self {
        let (visitor, a) = sockets().await;
        let (b, service) = sockets().await;
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

#[tokio::test]
async fn who_is_cut_off_on_another_thread_does_not_look_whole() {
    let mut moving = Movable::start(None).await;
    moving.exchange_until(&pattern(8 << 20), Movable::is_away).await;
    moving.running.abort();
    assert!(moving.running.await.unwrap_err().is_cancelled());
    // What owns the sockets there is waited for, too.
    moving.bulk.finish().await;
    assert_eq!(Arc::strong_count(&moving.thread), 1);
    for mut outside in [moving.visitor, moving.service] {
        let error = outside.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn who_is_held_back_is_so_on_another_thread_too() {
    let meters = Meters::default();
    let throttle =
        Throttle::new(Rates { bytes: Some(1 << 30), ..Rates::default() }, now()).unwrap();
    let throttles = Throttles::of([Some(Arc::clone(&throttle)), None]);
    let mut moving = Movable::start(throttles.pacing(Way::In, &meters)).await;
    moving.exchange_until(&pattern(8 << 20), Movable::is_away).await;
    let before = meters.of(Limit::Pauses);
    throttle.set(Rates { bytes: Some(1), ..Rates::default() }, now());
    let said = pattern(1 << 20);
    let mut heard = vec![0; said.len()];
    let mut count = 0;
    let (mut from_service, _to_service) = moving.service.split();
    let hearing = async {
        let held_back = async {
            while meters.of(Limit::Pauses) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), held_back).await.unwrap();
        while let Ok(more @ 1..) = from_service.try_read(&mut heard[count..]) {
            count += more;
        }
        assert!(count < said.len(), "nothing holds it back");
        throttle.set(Rates { bytes: Some(1 << 30), ..Rates::default() }, now());
        from_service.read_exact(&mut heard[count..]).await.unwrap();
    };
    let (wrote, ()) = tokio::join!(moving.visitor.write_all(&said), hearing);
    wrote.unwrap();
    assert!(heard == said);
}

fn now() -> std::time::Instant {
    std::time::Instant::now()
}
