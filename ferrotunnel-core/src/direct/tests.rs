//! Direct carriers that wait.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use ferrotunnel_protocol::frame::WindowUpdate;
use tokio::io::{DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::capped::Counts;
use crate::counters::TunnelCounts;
#[cfg(unix)]
use crate::loopback::pattern;
use crate::loopback::sockets;
use crate::open_streams::About;
#[cfg(unix)]
use crate::shards::{Shards, Threads};

const BEAT: Duration = Duration::from_secs(5);

/// The Ping with which a handshake ends on the server's side, answered.
fn first_answer() -> BytesMut {
    BytesMut::from(&Frame::Ping(Ping { ack: true, opaque: [0; 8] }).encode()[..])
}

fn seat(pool: &Pool) -> Seat {
    pool.take_visitor(usize::MAX).unwrap()
}

/// Gives a visitor the carrier that it waited for, or one that waits.
fn serve(pool: &Pool, ready: Option<Ready>, visitor: Visitor) {
    let seat = seat(pool);
    pool.serve(ready, (TunnelKind::Tls, 7), seat, unlimited(), visitor, |_, _| unreachable!());
}

/// A place in the queue for as many carriers as the client likes to dial.
fn queue(pool: &Arc<Pool>) -> Option<impl Future<Output = Option<Ready>> + use<>> {
    pool.queue(Streams::Direct)
}

fn somewhere() -> SocketAddr {
    ([192, 0, 2, 7], 50_000).into()
}

/// A visitor from somewhere, and the socket outside.
async fn visitor() -> (Visitor, TcpStream) {
    let (dialled, socket) = sockets().await;
    let visitor = Visitor {
        socket: socket.into(),
        addr: somewhere(),
        ingress: somewhere(),
        place: None,
        words: Bytes::from_static(b"oh, "),
        arriving: None,
    };
    (visitor, dialled)
}

/// A server's end that waits, and the client's end.
async fn waiting(pool: &Arc<Pool>) -> (tokio::task::JoinHandle<io::Result<()>>, DuplexStream) {
    let (ours, theirs) = duplex(1024);
    (lined_up(pool, ours).await, theirs)
}

/// A server's end of that carrier that waits.
async fn lined_up(
    pool: &Arc<Pool>,
    carrier: impl Carrier,
) -> tokio::task::JoinHandle<io::Result<()>> {
    let before = pool.waiting();
    let attending = tokio::spawn({
        let (pool, seat) = (Arc::clone(pool), pool.reserve().unwrap());
        async move { attend(carrier, first_answer(), &pool, seat, BEAT).await }
    });
    while pool.waiting() == before {
        tokio::task::yield_now().await;
    }
    attending
}

fn unlimited() -> ([Option<Box<Pacing>>; 2], Tally) {
    let counts = Arc::new(TunnelCounts::named("tcp 7"));
    let about = || About { tunnel: "tcp:7".into(), session: None, visitor: None };
    ([None, None], Tally::new(&counts, None, about))
}

#[tokio::test]
async fn a_visitor_gets_the_carrier_that_waits() {
    let pool = Arc::new(Pool::default());
    let (attending, mut client) = waiting(&pool).await;
    let (visitor, mut outside) = visitor().await;
    outside.write_all(b"hello").await.unwrap();
    serve(&pool, None, visitor);
    let mut input = BytesMut::new();
    let called = wait(&mut client, &mut input, BEAT).await.unwrap();
    let Some(Call::Visitor(opened)) = called else { panic!("{called:?}") };
    assert_eq!((opened.kind, opened.tunnel), (TunnelKind::Tls, 7));
    assert_eq!(opened.visitor, Some(somewhere()));
    while input.len() < 9 {
        client.read_buf(&mut input).await.unwrap();
    }
    // What was read of it already goes first.
    assert_eq!(input, "oh, hello");
    assert_eq!((pool.waiting(), pool.open()), (0, 1));
    client.write_all(b"bye").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    outside.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "bye");
    drop(outside);
    attending.await.unwrap().unwrap();
    assert_eq!(pool.open(), 0);
}

/// Its visitor would otherwise wait for as long as the kernel tries.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_carrier_of_a_visitor_whose_client_fell_silent_has_a_limit_for_a_while() {
    let timeout = |socket: &TcpStream| socket2::SockRef::from(socket).tcp_user_timeout().unwrap();
    let (mut client, ours) = sockets().await;
    let ours = ours.into_std().unwrap();
    let watched = TcpStream::from_std(ours.try_clone().unwrap()).unwrap();
    let ours = TcpStream::from_std(ours).unwrap();
    socket::tune_carrier(&ours);
    let pool = Arc::new(Pool::default());
    let attending = lined_up(&pool, ours).await;
    let (visitor, mut outside) = visitor().await;
    serve(&pool, None, visitor);
    let mut input = BytesMut::new();
    wait(&mut client, &mut input, BEAT).await.unwrap().unwrap();
    client.write_all(b"bye").await.unwrap();
    outside.read_exact(&mut [0; 3]).await.unwrap();
    pool.close();
    assert_eq!(timeout(&watched), None, "it may be slow");
    pool.doubt();
    while timeout(&watched) != Some(socket::DOUBTED_TIMEOUT) {
        tokio::task::yield_now().await;
    }
    // The visitor stays.
    client.write_all(b"bye").await.unwrap();
    outside.read_exact(&mut [0; 3]).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(DOUBT).await;
    tokio::time::resume();
    // Whoever was there in that time is, and may be slow again.
    while timeout(&watched).is_some() {
        tokio::task::yield_now().await;
    }
    // Whoever has the last word may still cut it off.
    client.write_all(b"bye").await.unwrap();
    outside.read_exact(&mut [0; 3]).await.unwrap();
    pool.cut();
    attending.await.unwrap().unwrap();
}

/// A carrier and a visitor that keep the thread busy go on on another one, and are reached there.
#[cfg(unix)]
#[tokio::test]
async fn whose_session_cuts_off_its_visitors_is_cut_off_on_the_thread_for_bulk_too() {
    let shards = Shards::start(Threads { bulk: 1, ..Threads::default() }).unwrap();
    let runtimes = shards.runtimes();
    let (mut client, ours) = sockets().await;
    let pool = Arc::new(Pool::new(Arc::default(), shards.bulk().clone()));
    let attending = lined_up(&pool, ours).await;
    let (visitor, mut outside) = visitor().await;
    serve(&pool, None, visitor);
    wait(&mut client, &mut BytesMut::new(), BEAT).await.unwrap().unwrap();
    assert_eq!(runtimes.alive_tasks(), 1);
    let piece = pattern(8 << 20);
    let mut heard = vec![0; piece.len()];
    for pieces in 0.. {
        if runtimes.alive_tasks() == 2 {
            break;
        }
        assert!(pieces < 512, "it has not moved");
        let (wrote, read) = tokio::join!(client.write_all(&piece), outside.read_exact(&mut heard));
        wrote.unwrap();
        read.unwrap();
        assert!(heard == piece);
    }
    assert_eq!(pool.open(), 1);
    pool.cut();
    let end = outside.read_to_end(&mut Vec::new()).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    attending.await.unwrap().unwrap();
    assert_eq!(pool.open(), 0);
}

/// Somebody else may have the tunnel, who answers.
#[tokio::test]
async fn a_visitor_who_has_said_nothing_stays_with_no_client_that_fell_silent_or_is_cut_off() {
    for ends in [Pool::doubt, Pool::cut] {
        let pool = Arc::new(Pool::default());
        let (attending, mut client) = waiting(&pool).await;
        let (silent, outside) = visitor().await;
        let silent = Visitor { words: Bytes::new(), ..silent };
        let (give, mut given) = mpsc::channel(1);
        let otherwise = move |visitor: Visitor, met| give.try_send((visitor, met)).unwrap();
        pool.serve(None, (TunnelKind::Tls, 7), seat(&pool), unlimited(), silent, otherwise);
        wait(&mut client, &mut BytesMut::new(), BEAT).await.unwrap().unwrap();
        pool.close();
        ends(&pool);
        let (back, met) = given.recv().await.unwrap();
        assert_eq!(met, Met::LostCarrier);
        assert_eq!(back.socket.tcp().unwrap().peer_addr().unwrap(), outside.local_addr().unwrap());
        let end = attending.await.unwrap();
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(pool.open(), 0);
    }
}

#[tokio::test]
async fn a_carrier_that_died_is_not_handed_out() {
    let pool = Arc::new(Pool::default());
    let (attending, client) = waiting(&pool).await;
    drop(client);
    // In this very moment the task has not noticed yet.
    assert_eq!(pool.waiting(), 1);
    let (visitor, outside) = visitor().await;
    let (give, mut given) = mpsc::channel(1);
    pool.serve(None, (TunnelKind::Tls, 7), seat(&pool), unlimited(), visitor, move |visitor, _| {
        give.try_send(visitor).unwrap();
    });
    let back = given.recv().await.unwrap();
    assert_eq!((back.addr, &back.words[..]), (somewhere(), &b"oh, "[..]));
    assert_eq!(back.socket.tcp().unwrap().peer_addr().unwrap(), outside.local_addr().unwrap());
    attending.await.unwrap().unwrap();
    assert_eq!((pool.waiting(), pool.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_does_not_answer_is_given_up() {
    let pool = Arc::new(Pool::default());
    let began = Instant::now();
    let (attending, _client) = waiting(&pool).await;
    let end = attending.await.unwrap();
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(began.elapsed(), BEAT * (1 + SILENT_BEATS));
    assert_eq!(pool.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_carrier_that_nobody_needs_is_closed_by_the_server() {
    let pool = Arc::new(Pool::default());
    let began = Instant::now();
    let (attending, mut client) = waiting(&pool).await;
    let mut input = BytesMut::new();
    assert!(wait(&mut client, &mut input, BEAT).await.unwrap().is_none());
    attending.await.unwrap().unwrap();
    assert!(began.elapsed() >= LIFE && began.elapsed() <= LIFE + BEAT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_end_of_the_session_closes_the_carriers_that_wait() {
    let pool = Arc::new(Pool::default());
    let (attending, mut client) = waiting(&pool).await;
    pool.close();
    attending.await.unwrap().unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert!(pool.reserve().is_err());
    assert_eq!(pool.kept(), 0);
}

#[tokio::test]
async fn whoever_talks_out_of_turn_is_left() {
    let pool = Arc::new(Pool::default());
    let (attending, mut client) = waiting(&pool).await;
    client.write_all(b"x").await.unwrap();
    attending.await.unwrap().unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);

    let (mut ours, mut server) = duplex(1024);
    let data = Bytes::from_static(&[7, 0, 0, 1, 0, 0, 0, 2, b'x']);
    server.write_all(&data).await.unwrap();
    let end = wait(&mut ours, &mut BytesMut::new(), BEAT).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);

    let (mut ours, server) = duplex(1024);
    drop(server);
    assert!(wait(&mut ours, &mut BytesMut::new(), BEAT).await.unwrap().is_none());
}

/// A carrier that takes its turn; tells what became of it, and the client's end.
fn dialled(pool: &Arc<Pool>) -> (tokio::task::JoinHandle<io::Result<()>>, DuplexStream) {
    let (ours, theirs) = duplex(1024);
    let (pool, seat) = (Arc::clone(pool), pool.reserve().unwrap());
    let attending = async move { attend(ours, first_answer(), &pool, seat, BEAT).await };
    (tokio::spawn(attending), theirs)
}

#[tokio::test(start_paused = true)]
async fn who_comes_first_gets_the_first_carrier_that_comes() {
    let pool = Arc::new(Pool::default());
    let (first, gone, second) = (queue(&pool), queue(&pool), queue(&pool));
    drop(gone);
    let mut carriers = [dialled(&pool), dialled(&pool), dialled(&pool)];
    // The carrier after theirs waits in line.
    while pool.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let (ready, other) = (first.unwrap().await, second.unwrap().await);
    assert!(ready.is_some() && other.is_some());
    let (visitor, _outside) = visitor().await;
    serve(&pool, ready, visitor);
    let (_, client) = &mut carriers[0];
    wait(client, &mut BytesMut::new(), BEAT).await.unwrap().unwrap();
    assert_eq!(pool.waiting(), 1, "it has the one that it waited for");
}

#[tokio::test(start_paused = true)]
async fn a_carrier_whose_visitor_has_gone_is_the_next_one_s() {
    let pool = Arc::new(Pool::default());
    let gone = queue(&pool).unwrap();
    let (attending, _client) = dialled(&pool);
    while !pool.waiting.lock().queue.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(gone);
    while pool.waiting() == 0 {
        assert!(!attending.is_finished(), "the carrier was thrown away");
        tokio::task::yield_now().await;
    }
    pool.close();
    attending.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_brings_no_carrier_in_time_keeps_nobody_waiting() {
    let pool = Arc::new(Pool::default());
    let began = Instant::now();
    assert!(queue(&pool).unwrap().await.is_none());
    assert_eq!(began.elapsed(), QUEUE_STALL);
    assert!(pool.waiting.lock().queue.is_empty(), "it does not wait any more");
    assert!(queue(&pool).is_none());
    tokio::time::advance(DISAPPOINTMENT).await;
    assert!(queue(&pool).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_visitor_waits_longer_while_carriers_come() {
    let pool = Arc::new(Pool::default());
    let mut ahead: Vec<_> = (0..10).map(|_| queue(&pool).unwrap()).collect();
    let (began, last) = (Instant::now(), queue(&pool).unwrap());
    let last = tokio::spawn(async move { (last.await.is_none(), began.elapsed()) });
    let mut carriers = Vec::new();
    while !last.is_finished() {
        let carrier = dialled(&pool);
        carriers.push((carrier, ahead.remove(0).await.unwrap()));
        tokio::time::sleep(QUEUE_STALL - Duration::from_millis(10)).await;
    }
    assert_eq!(last.await.unwrap(), (true, QUEUE_TIME));
}

#[tokio::test(start_paused = true)]
async fn a_burst_may_wait_and_then_a_few_in_each_second() {
    let pool = Arc::new(Pool::default());
    let at_once = || std::iter::from_fn(|| queue(&pool)).count();
    let burst = QUEUE_BURST as usize + 1;
    assert_eq!(at_once(), burst);
    tokio::time::advance(QUEUE_PAUSE * 10).await;
    assert_eq!(at_once(), 10);
    tokio::time::advance(QUEUE_PAUSE * QUEUE_BURST * 10).await;
    assert_eq!(at_once(), burst, "rest is not saved up");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_dial_that_the_client_does_not_make() {
    let pool = Arc::new(Pool::default());
    // For visitors who come one after the other and find one waiting.
    for _ in 0..=QUEUE_BURST {
        assert!(pool.waiting.lock().admits_to_queue(Streams::Auto, Instant::now()));
        pool.waiting.lock().waits = Allowance::default();
        let (attending, client) = waiting(&pool).await;
        drop(client);
        attending.await.unwrap().unwrap();
    }
    assert!(pool.queue(Streams::Auto).is_none());
    assert!(pool.queue(Streams::Direct).is_some(), "there is no end of dials");
    pool.waiting.lock().queue.clear();
    tokio::time::advance(QUEUE_PAUSE * 3).await;
    let together = std::iter::from_fn(|| pool.queue(Streams::Auto)).count();
    assert_eq!(together, 3);
}

/// A client with tunnels of both kinds has more dials than it needs for the visitors of this one.
#[tokio::test(start_paused = true)]
async fn carriers_that_come_beyond_the_rate_are_not_owed() {
    let pool = Arc::new(Pool::default());
    (0..QUEUE_BURST * 10).for_each(|_| pool.arrived());
    assert!(pool.queue(Streams::Auto).is_none());
    tokio::time::advance(QUEUE_PAUSE).await;
    assert!(pool.queue(Streams::Auto).is_some());
    assert!(pool.queue(Streams::Auto).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_session_lets_those_go_on_who_wait_for_a_carrier() {
    let pool = Arc::new(Pool::default());
    let (began, queued) = (Instant::now(), queue(&pool).unwrap());
    pool.close();
    assert!(queued.await.is_none());
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(queue(&pool).is_none());
}

#[test]
fn options_say_how_visitors_travel() {
    for streams in [Streams::Multiplexed, Streams::Direct, Streams::Auto] {
        let options: Vec<_> = streams.to_option().into_iter().collect();
        assert_eq!(Streams::of(&options), streams);
    }
    let later = vec![(options::STREAMS.to_owned(), "of a later version".to_owned())];
    assert_eq!(Streams::of(&later), Streams::Multiplexed);
}

#[tokio::test]
async fn carriers_are_counted_until_they_serve() {
    let pool = Arc::new(Pool::default());
    let seats: Vec<_> = (0..MOST_WAITING - 1).map(|_| pool.reserve().unwrap()).collect();
    let (attending, mut client) = waiting(&pool).await;
    assert!(pool.reserve().is_err(), "whether in line or not");
    let (visitor, outside) = visitor().await;
    serve(&pool, None, visitor);
    wait(&mut client, &mut BytesMut::new(), BEAT).await.unwrap().unwrap();
    assert!(pool.reserve().is_ok());
    drop((client, outside, seats));
    attending.await.unwrap().unwrap();
    assert_eq!((pool.open(), pool.kept()), (0, 0));
}

#[tokio::test]
async fn a_window_announced_with_the_welcome_is_no_concern() {
    let (mut ours, mut server) = duplex(1024);
    let update = WindowUpdate { credit: 16 << 10 };
    server.write_all(&Frame::WindowUpdate(StreamId::SESSION, update).encode()).await.unwrap();
    drop(server);
    assert!(wait(&mut ours, &mut BytesMut::new(), BEAT).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_goes_on_over_a_carrier_whose_client_agrees() {
    let pool = Arc::new(Pool::default());
    let (attending, mut client) = waiting(&pool).await;
    let asked = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.onward(StreamId(6), Streams::Auto, false).await }
    });
    let mut input = BytesMut::new();
    let called = wait(&mut client, &mut input, BEAT).await.unwrap();
    assert!(matches!(called, Some(Call::Stream(StreamId(6)))), "{called:?}");
    // What comes in one read with the answer is the visitor's.
    let answer = [&Frame::Move(StreamId(6)).encode()[..], b"hello"].concat();
    client.write_all(&answer).await.unwrap();
    let mut onward = asked.await.unwrap().unwrap();
    attending.await.unwrap().unwrap();
    let mut chunks = Vec::new();
    let more = poll_fn(|cx| onward.poll_read(cx, usize::MAX, &mut chunks)).await.unwrap();
    assert!(more && chunks.concat() == b"hello", "{chunks:?}");
    // It counts among those that serve once both directions have gone over.
    assert_eq!((pool.waiting(), pool.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_stays_where_it_is_without_a_carrier_whose_client_agrees() {
    let pool = Arc::new(Pool::default());
    assert!(pool.onward(StreamId(6), Streams::Auto, false).await.is_none(), "there is none");
    let answers = [
        Some(Frame::Move(StreamId(8)).encode()),
        Some(Frame::Ping(Ping { ack: true, opaque: [0; 8] }).encode()),
        Some(Bytes::from_static(b"no frame")),
        // It closes.
        Some(Bytes::new()),
        // It says nothing.
        None,
    ];
    for answer in answers {
        let (attending, mut client) = waiting(&pool).await;
        let answering = async {
            let called = wait(&mut client, &mut BytesMut::new(), BEAT).await.unwrap();
            assert!(matches!(called, Some(Call::Stream(StreamId(6)))), "{called:?}");
            if let Some(answer) = &answer {
                client.write_all(answer).await.unwrap();
                client.shutdown().await.unwrap();
            }
        };
        let asking = pool.onward(StreamId(6), Streams::Auto, false);
        let (onward, ()) = tokio::join!(asking, answering);
        assert!(onward.is_none(), "{answer:?}");
        attending.await.unwrap().unwrap_err();
    }
    // Who has asked and gone keeps no carrier.
    let (attending, mut client) = waiting(&pool).await;
    let asked = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.onward(StreamId(6), Streams::Auto, false).await }
    });
    wait(&mut client, &mut BytesMut::new(), BEAT).await.unwrap().unwrap();
    asked.abort();
    attending.await.unwrap().unwrap();
}
