//! Splices over real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::socket_end::SocketEnd;
use super::{Outcome, SpliceError, splice};

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
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
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
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
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
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert!(sent.starts_with(&heard));
    assert!(matches!(running.await.unwrap(), Err(SpliceError::B(_))));
}
