//! The one accept loop.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::socket;
use crate::warning::Warning;

/// Accepts until it is dropped, and hands each connection over with its options set.
///
/// It never fails: a connection that was reset in the queue is skipped, and when the process is out of
/// descriptors or memory it waits a moment and goes on.
pub async fn accept_loop(listener: TcpListener, on_connection: impl FnMut(TcpStream, SocketAddr)) {
    accept_from(|cx| listener.poll_accept(cx), on_connection).await;
}

/// The same for a listener that is held elsewhere.
pub(crate) async fn accept_from(
    mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>,
    mut on_connection: impl FnMut(TcpStream, SocketAddr),
) {
    let mut warning = Warning::every(TELL_EVERY);
    let mut at_once = 0;
    loop {
        let (connection, peer) = accept_one(&mut poll_accept, &mut warning, &mut at_once).await;
        on_connection(connection, peer);
        give_way(&mut at_once).await;
    }
}

/// A crowd at the door comes in a few at a time, and between them those go on who are inside.
async fn give_way(at_once: &mut u32) {
    *at_once += 1;
    if *at_once == MOST_AT_ONCE {
        *at_once = 0;
        tokio::task::yield_now().await;
    }
}

/// The same with a place for every connection. While there is none, one waits for it and the next ones in the
/// kernel's queue, where they cost this process nothing; `on_full` hears of each one that finds none.
pub async fn accept_into_places(
    listener: TcpListener,
    places: Arc<Semaphore>,
    mut on_connection: impl FnMut(TcpStream, SocketAddr, OwnedSemaphorePermit),
    mut on_full: impl FnMut(),
) {
    let mut warning = Warning::every(TELL_EVERY);
    let mut at_once = 0;
    loop {
        let poll_accept = &mut |cx: &mut Context<'_>| listener.poll_accept(cx);
        let (connection, peer) = accept_one(poll_accept, &mut warning, &mut at_once).await;
        if places.available_permits() == 0 {
            on_full();
        }
        // Nobody closes it; if somebody did, nobody else would come in.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        on_connection(connection, peer, place);
        give_way(&mut at_once).await;
    }
}

async fn accept_one(
    poll_accept: &mut impl FnMut(&mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>,
    warning: &mut Warning,
    at_once: &mut u32,
) -> (TcpStream, SocketAddr) {
    loop {
        match poll_fn(&mut *poll_accept).await {
            // Somebody who comes and goes would be a stream that is opened and reset, for nobody.
            Ok((connection, _)) if socket::is_gone(&connection) => {
                drop(connection);
                give_way(at_once).await;
            }
            Ok((connection, peer)) => {
                socket::tune(&connection);
                return (connection, peer);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if warning.is_due(Instant::now()) {
                    tracing::warn!(
                        %error,
                        "cannot accept connections, which wait until that has passed; if files are what is missing, raise \
                         their limit (ulimit -n, LimitNOFILE= of systemd)"
                    );
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Where a connection has come in: the listener's own address may be that of all.
pub fn arrived_at(connection: &TcpStream, listener: SocketAddr) -> SocketAddr {
    if !listener.ip().is_unspecified() {
        return listener;
    }
    connection.local_addr().unwrap_or(listener)
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Each is some 20 us of work for the thread that it is served on. To look for new events in between costs one.
const MOST_AT_ONCE: u32 = 4;

/// Long enough for descriptors to come free without spinning, short enough for nobody to notice.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Often enough for whoever looks at the log while it lasts, and a few lines an hour of a bad one.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn what_lasts_is_told_of_now_and_then() {
        let (mut warning, began) = (Warning::every(TELL_EVERY), Instant::now());
        let told: Vec<_> =
            (0..1_000).filter(|turn| warning.is_due(began + BACK_OFF * *turn)).collect();
        assert_eq!(told, [0, 200, 400, 600, 800]);
    }

    #[tokio::test]
    async fn a_crowd_at_the_door_lets_others_have_their_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut crowd = Vec::new();
        for _ in 0..64 {
            crowd.push(TcpStream::connect(addr).await.unwrap());
        }
        let (came, mut inside) = mpsc::channel(64);
        tokio::spawn(accept_loop(listener, move |socket, _| came.try_send(socket).unwrap()));
        let mut seen = 0;
        while seen < 64 {
            tokio::task::yield_now().await;
            let mut just_now = 0;
            while inside.try_recv().is_ok() {
                just_now += 1;
            }
            assert!(just_now <= 2 * MOST_AT_ONCE, "{just_now} at once");
            seen += just_now;
        }
    }

    #[tokio::test]
    async fn who_is_gone_is_skipped_and_lets_others_have_their_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut queue, mut stays) = (std::collections::VecDeque::new(), None);
        for at in 0..=64 {
            let visitor = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, peer) = listener.accept().await.unwrap();
            if at < 64 {
                socket::abort_on_close(&visitor);
                drop(visitor);
                while accepted.peer_addr().is_ok() {
                    tokio::task::yield_now().await;
                }
            } else {
                stays = Some(visitor);
            }
            queue.push_back((accepted, peer));
        }
        let (last, left) = (queue[64].1, Arc::new(parking_lot::Mutex::new(queue)));
        let (came, mut inside) = mpsc::channel(64);
        let next = Arc::clone(&left);
        let accepting = accept_from(
            move |_| next.lock().pop_front().map_or(Poll::Pending, |one| Poll::Ready(Ok(one))),
            move |_, peer| came.try_send(peer).unwrap(),
        );
        tokio::spawn(accepting);
        let mut before = left.lock().len();
        while before > 0 {
            tokio::task::yield_now().await;
            let now = left.lock().len();
            assert!(before - now <= 2 * MOST_AT_ONCE as usize, "{} at once", before - now);
            before = now;
        }
        assert_eq!(inside.recv().await, Some(last));
        assert!(inside.try_recv().is_err());
        drop(stays);
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_and_somebody_hears_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (full, mut heard) = mpsc::channel(8);
        let (came, mut places) = mpsc::channel(8);
        tokio::spawn(accept_into_places(
            listener,
            Arc::new(Semaphore::new(1)),
            move |socket, _, place| came.try_send((socket, place)).unwrap(),
            move || full.try_send(()).unwrap(),
        ));
        let _first = TcpStream::connect(addr).await.unwrap();
        let taken = places.recv().await.unwrap();
        assert!(heard.try_recv().is_err(), "nobody has come yet");
        let _second = TcpStream::connect(addr).await.unwrap();
        heard.recv().await.unwrap();
        assert!(places.try_recv().is_err());
        drop(taken);
        drop(places.recv().await.unwrap());
    }
}
