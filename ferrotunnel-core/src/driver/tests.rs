//! Two drivers over an in-memory carrier.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel_common::{ClientId, StreamId, Token, TunnelKind};
use ferrotunnel_protocol::frame::{
    Frame, GoAwayCode, Open, Register, Reset, ResetCode, WindowUpdate,
};
use ferrotunnel_protocol::{Config, OpenRequest, StreamError, Violation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Driver, End, Incoming};
use crate::auth::{Authenticator, Binding, ClientKey};
use crate::carrier::Carrier;
use crate::clock;
use crate::handshake::{self, Greeted};
use crate::loopback::sockets;
use crate::principals::Roster;
use crate::session::Session;
use crate::shared::Shared;
use crate::splice::{Outcome, SocketEnd, SpliceError, splice};
use crate::stream::Stream;
use crate::tap::Tap;
use crate::throttle::{Rates, Throttle, Throttles, Way};
use crate::tls::tests::carriers_over;
use crate::turned_away::Meters;

struct Running {
    session: Session,
    incoming: mpsc::Receiver<Incoming>,
    end: JoinHandle<End>,
}

impl Running {
    fn start(carrier: impl Carrier, greeted: Greeted) -> Self {
        let shared = Arc::new(Shared::new(greeted.machine));
        let session = Session::new(Arc::clone(&shared));
        let (sender, incoming) = mpsc::channel(128);
        let on_incoming = move |incoming| drop(sender.try_send(incoming));
        let end = tokio::spawn(Driver::new(carrier, shared, greeted.input, on_incoming));
        Self { session, incoming, end }
    }

    async fn opened(&mut self) -> Stream {
        match self.incoming.recv().await.unwrap() {
            Incoming::Opened(stream, _) => stream,
            _ => panic!("something else than a stream"),
        }
    }
}

/// A server and a client, established, over a carrier that takes `buffer` bytes at once.
async fn pair(buffer: usize) -> (Running, Running) {
    let ((near, server), (far, client)) = greeted(buffer).await;
    (Running::start(near, server), Running::start(far, client))
}

/// The same before their drivers run.
async fn greeted(buffer: usize) -> ((DuplexStream, Greeted), (DuplexStream, Greeted)) {
    let (near, far) = tokio::io::duplex(buffer);
    greeted_over(near, far).await
}

async fn greeted_over<C: Carrier>(mut near: C, mut far: C) -> ((C, Greeted), (C, Greeted)) {
    let token = Token::new("secret").unwrap();
    let known = Roster::new(Some(&token)).unwrap().replace(&[]).unwrap().known;
    let (authenticator, key) =
        (Authenticator::new(known).unwrap(), ClientKey::derive(&token).unwrap());
    let (config, binding) = (Config::default(), Binding::Plaintext);
    let check = async |shown: handshake::Shown| {
        let handshake::Shown { token_id, proof, nonces } = shown;
        Ok(authenticator.check(&token_id, &proof, &Binding::Plaintext, &nonces))
    };
    let admit = async |_: handshake::Guest| Ok(());
    let caller = handshake::Caller {
        key: &key,
        client_id: ClientId([1; 16]),
        software: "test",
        direct_for: None,
    };
    let (server, client) = tokio::join!(
        handshake::server(&mut near, config.clone(), "test", &binding, check, admit),
        handshake::client(&mut far, config, &binding, caller),
    );
    ((near, server.unwrap().0), (far, client.unwrap()))
}

const OPEN: OpenRequest =
    OpenRequest { tunnel: 1, kind: TunnelKind::Tcp, visitor: None, ingress: None, trace: None };

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3), what).await.expect("nobody was woken")
}

#[tokio::test]
async fn a_driver_that_moves_to_another_task_is_woken_there() {
    let ((near, server), (far, client)) = greeted(1 << 20).await;
    let mut client = Running::start(far, client);
    let shared = Arc::new(Shared::new(server.machine));
    let session = Session::new(Arc::clone(&shared));
    let mut driver = Box::pin(Driver::new(near, shared, server.input, |_| {}));
    for _ in 0..3 {
        // Here it is at rest, and knows this task.
        assert!(
            std::future::poll_fn(|cx| Poll::Ready(driver.as_mut().poll(cx))).await.is_pending()
        );
    }
    tokio::spawn(driver);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let _stream = session.open(OPEN).unwrap();
    soon(client.opened()).await;
}

#[tokio::test]
async fn a_session_that_is_severed_says_nothing_of_the_end_of_its_streams() {
    let (server, mut client) = pair(1 << 20).await;
    let mut stream = server.session.open(OPEN).unwrap();
    let taken = soon(client.opened()).await;
    client.session.sever();
    drop(taken);
    let heard = soon(stream.read_chunk()).await;
    assert_eq!(heard.unwrap_err(), StreamError::SessionClosed);
    assert!(matches!(soon(server.end).await.unwrap(), End::Closed));
}

/// Lets a server's driver have all of a storm at once, and tells how many of its frames it takes at most before another
/// task has its turn.
async fn most_at_once(storm: &[u8], count: u64) -> u64 {
    let ((near, server), (mut far, _client)) = greeted(4 << 20).await;
    soon(far.write_all(storm)).await.unwrap();
    let shared = Arc::new(Shared::new(server.machine));
    let seen = || shared.lock(|inner| inner.machine.stats().frames_in);
    let before = seen();
    tokio::spawn(Driver::new(near, Arc::clone(&shared), server.input, |_| {}));
    let (mut last, mut most) = (before, 0);
    while last < before + count {
        tokio::task::yield_now().await;
        most = (seen() - last).max(most);
        last = seen();
    }
    most
}

#[tokio::test]
async fn a_storm_of_tiny_frames_lets_others_have_their_turns() {
    let open = |id| {
        let open = Open {
            tunnel: 0,
            kind: TunnelKind::Tcp,
            visitor: None,
            ingress: None,
            send_window: 64 << 10,
            receive_window: 64 << 10,
            trace: None,
        };
        Frame::Open(StreamId(id), open).encode()
    };
    let reset = |id| {
        let reset = Reset { code: ResetCode::Cancelled, reason: String::new() };
        Frame::Reset(StreamId(id), reset).encode()
    };
    let credit = Frame::WindowUpdate(StreamId::SESSION, WindowUpdate { credit: 1 << 16 }).encode();
    let come_and_gone = (0..10_000).flat_map(|at| [open(2 * at + 1), reset(2 * at + 1)].concat());
    let nothing = Frame::WindowUpdate(StreamId(1), WindowUpdate { credit: 1 }).encode();
    let ghosts = [open(1), reset(1)].concat().into_iter().chain(nothing.repeat(19_998));
    for storm in [credit.repeat(20_000), come_and_gone.collect(), ghosts.collect()] {
        let most = most_at_once(&storm, 20_000).await;
        assert!(most <= 2 * 64, "{most} frames in one go");
    }
    let ask = |number| {
        let (kind, name) = (TunnelKind::Http, String::new());
        let register = Register { kind, name, hosts: Vec::new(), port: 0, options: Vec::new() };
        Frame::Register(number, register).encode()
    };
    let names: Vec<u8> = (1..=1_000).flat_map(ask).collect();
    let most = most_at_once(&names, 1_000).await;
    assert!(most <= 2 * 4, "{most} tunnels in one go");
}

#[tokio::test(start_paused = true)]
async fn a_storm_without_end_is_left_in_the_carrier_while_everything_else_goes_on() {
    let ((near, server), (mut far, client)) = greeted(1 << 20).await;
    let shared = Arc::new(Shared::new(server.machine));
    let session = Session::new(Arc::clone(&shared));
    tokio::spawn(Driver::new(near, Arc::clone(&shared), server.input, |_| {}));
    let storm = Frame::WindowUpdate(StreamId::SESSION, WindowUpdate { credit: 1 << 16 }).encode();
    // More than comes at once, so somebody waits for it to be taken.
    let took = tokio::time::Instant::now();
    far.write_all(&storm.repeat(200_000)).await.unwrap();
    assert!(took.elapsed() > Duration::from_secs(2), "it was taken at once");
    // What the server says meanwhile is written.
    drop(client);
    let _stream = session.open(OPEN).unwrap();
    let mut header = [0; 8];
    soon(far.read_exact(&mut header)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_after_a_fault_is_not_listened_to_for_long() {
    let ((near, server), (mut far, _client)) = greeted(1 << 20).await;
    let shared = Arc::new(Shared::new(server.machine));
    let end = tokio::spawn(Driver::new(near, shared, server.input, |_| {}));
    let reset = Reset { code: ResetCode::Cancelled, reason: String::new() };
    let fault = Frame::Reset(StreamId(2), reset).encode();
    let storm = fault.repeat(10_000);
    let mut taken = 0;
    // The clock stands still while there is something to do, so a session that has time would take it for ever.
    while far.write_all(&storm).await.is_ok() {
        taken += storm.len();
        assert!(taken < 4 * super::MOST_AFTER_FAULT, "it is still listened to");
    }
    let ended = soon(end).await.unwrap();
    assert!(matches!(ended, End::Violation(Violation::IdleStream)), "{ended:?}");
}

#[tokio::test]
async fn a_write_after_one_that_filled_the_stage_leaves_at_once() {
    let (server, mut client) = pair(1 << 20).await;
    let mut near = server.session.open(OPEN).unwrap();
    // More than a carrier that is new gets at once, and all of it goes through.
    let large = super::LEAST_BUDGET * 2;
    for _ in 0..3 {
        near.write_chunk(Bytes::from(vec![7; large])).await.unwrap();
        let mut far = soon(client.opened()).await;
        let mut received = vec![0; large];
        soon(far.read_exact(&mut received)).await.unwrap();
        near.write_chunk(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(soon(far.read_u8()).await.unwrap(), b'x');
        near = server.session.open(OPEN).unwrap();
    }
}

#[tokio::test]
async fn the_last_words_arrive_though_input_is_unread() {
    let (server, mut client) = pair(1 << 20).await;
    let mut stream = client.session.open(OPEN).unwrap();
    stream.write_chunk(Bytes::from(vec![7; 60_000])).await.unwrap();
    server.session.close(GoAwayCode::Superseded, "another came");
    let code = loop {
        if let Incoming::GoAway(go_away) = soon(client.incoming.recv()).await.unwrap() {
            break go_away.code;
        }
    };
    assert_eq!(code, GoAwayCode::Superseded);
    assert!(matches!(soon(server.end).await.unwrap(), End::Closed));
    assert!(matches!(soon(client.end).await.unwrap(), End::Closed));
}

#[tokio::test]
async fn an_owner_that_ends_a_session_at_a_question_of_its_peer_is_heard() {
    let ((near, server), (far, client)) = greeted(1 << 20).await;
    let mut client = Running::start(far, client);
    let shared = Arc::new(Shared::new(server.machine));
    let session = Session::new(Arc::clone(&shared));
    let refuse = move |_| session.close(GoAwayCode::Superseded, "not any more");
    tokio::spawn(Driver::new(near, shared, server.input, refuse));
    let (kind, name) = (TunnelKind::Http, String::new());
    let asked = Register { kind, name, hosts: Vec::new(), port: 0, options: Vec::new() };
    client.session.register(1, asked);
    match soon(client.incoming.recv()).await {
        Some(Incoming::GoAway(go_away)) => assert_eq!(go_away.code, GoAwayCode::Superseded),
        _ => panic!("it ended without a word"),
    }
}

/// That stream, read at one byte a second: whoever has read a chunk waits for hours.
fn slowly(stream: Stream) -> Stream {
    let now = std::time::Instant::now();
    let slow = Throttle::new(Rates { streams: None, bytes: Some(1) }, now);
    let pacing = Throttles::of([slow, None]).pacing(Way::Out, &Meters::default());
    assert!(pacing.is_some());
    stream.paced([None, pacing])
}

#[tokio::test]
async fn there_is_something_to_read_whatever_the_rate_allows() {
    let (server, mut client) = pair(1 << 16).await;
    let mut near = slowly(server.session.open(OPEN).unwrap());
    let mut far = soon(client.opened()).await;
    soon(far.write_chunk(Bytes::from(vec![b'x'; 10 << 10]))).await.unwrap();
    assert!(soon(near.read_chunk()).await.unwrap().is_some());
    soon(far.write_chunk(Bytes::from_static(b"more"))).await.unwrap();
    assert!(std::future::poll_fn(|cx| Poll::Ready(near.poll_chunk(cx))).await.is_pending());
    soon(std::future::poll_fn(|cx| near.poll_readable(cx))).await;
}

#[tokio::test]
async fn what_has_only_been_looked_at_is_paid_for_too() {
    let (server, mut client) = pair(1 << 16).await;
    let mut near = slowly(server.session.open(OPEN).unwrap());
    let mut far = soon(client.opened()).await;
    soon(far.write_chunk(Bytes::from(vec![b'x'; 1 << 10]))).await.unwrap();
    soon(std::future::poll_fn(|cx| near.poll_readable(cx))).await;
    assert_eq!(soon(near.read_chunk()).await.unwrap().unwrap().len(), 1 << 10);
    soon(far.write_chunk(Bytes::from_static(b"more"))).await.unwrap();
    // Enough turns for it to arrive: both ends are on this thread.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(std::future::poll_fn(|cx| Poll::Ready(near.poll_chunk(cx))).await.is_pending());
    }
}

#[tokio::test]
async fn streams_of_a_carrier_that_ends_end_too() {
    let (server, mut client) = pair(1 << 16).await;
    let mut near = server.session.open(OPEN).unwrap();
    near.write_chunk(Bytes::from_static(b"hello")).await.unwrap();
    let mut far = soon(client.opened()).await;
    assert_eq!(soon(far.read_chunk()).await.unwrap().unwrap(), "hello");
    client.end.abort();
    let _ = client.end.await;
    assert!(soon(near.read_chunk()).await.is_err());
    assert!(soon(far.read_chunk()).await.is_err());
    assert!(matches!(soon(server.end).await.unwrap(), End::Closed | End::Carrier(_)));
}

#[tokio::test]
async fn an_answer_that_is_whole_arrives_though_its_stream_is_dropped_at_once() {
    let (server, mut client) = pair(1 << 10).await;
    let mut near = server.session.open(OPEN).unwrap();
    near.write_chunk(Bytes::from_static(b"question")).await.unwrap();
    let mut far = soon(client.opened()).await;
    // As hyper does it behind its last answer.
    far.write_all(&[7; 60_000]).await.unwrap();
    far.shutdown().await.unwrap();
    drop(far);
    let mut heard = Vec::new();
    soon(near.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, [7; 60_000]);
}

/// The queue of a session is full again and again, and whoever asked for room finds it gone at times.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_several_threads_are_never_told_that_nothing_can_be_written() {
    let (server, mut client) = pair(1 << 20).await;
    for _ in 0..5 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let mut near = server.session.open(OPEN).unwrap();
            tasks.spawn(async move {
                near.write_all(&vec![7; 1 << 20]).await.unwrap();
                near.shutdown().await.unwrap();
            });
        }
        for _ in 0..100 {
            let mut far = client.opened().await;
            tasks.spawn(async move {
                let mut heard = 0;
                while let Some(chunk) = far.read_chunk().await.unwrap() {
                    heard += chunk.len();
                }
                assert_eq!(heard, 1 << 20);
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_drained_has_time_for_its_last_bytes() {
    let ((near, server), (far, client)) = greeted(1 << 10).await;
    let server = Running::start(near, server);
    let (sender, mut opened) = mpsc::channel(1);
    let on_incoming = move |incoming| {
        if let Incoming::Opened(stream, _) = incoming {
            sender.try_send(stream).unwrap();
        }
    };
    let mut driver = Box::pin(Driver::new(
        far,
        Arc::new(Shared::new(client.machine)),
        client.input,
        on_incoming,
    ));
    let mut near = server.session.open(OPEN).unwrap();
    let mut far = tokio::select! {
        far = opened.recv() => far.unwrap(),
        _ = &mut driver => unreachable!("nobody ends it"),
    };
    far.finish();
    tokio::select! {
        end = near.read_chunk() => assert_eq!(end.unwrap(), None),
        _ = &mut driver => unreachable!("nobody ends it"),
    }
    // Both directions have ended for the server once this is staged.
    near.write_chunk(Bytes::from(vec![7; 60_000])).await.unwrap();
    near.finish();
    drop(near);
    server.session.drain(GoAwayCode::ShuttingDown, "");
    // The way to the client stands still for a while.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut heard = Vec::new();
    let (read, _) = tokio::join!(far.read_to_end(&mut heard), driver);
    read.unwrap();
    assert_eq!(heard, [7; 60_000]);
}

#[tokio::test]
async fn bytes_and_chunks_are_read_in_turns_and_all_become_credit() {
    let (server, mut client) = pair(1 << 20).await;
    let mut near = server.session.open(OPEN).unwrap();
    let rounds = 200_u32;
    let writing = tokio::spawn(async move {
        for round in 0..rounds {
            // More of them than are read at once, and in all many times the window.
            for part in 0..20_u32 {
                let chunk = [round, part].map(u32::to_be_bytes).concat().repeat(100);
                near.write_chunk(chunk.into()).await.unwrap();
            }
        }
        near
    });
    let mut far = soon(client.opened()).await;
    let whole = (0..rounds).flat_map(|round| {
        (0..20_u32).flat_map(move |part| [round, part].map(u32::to_be_bytes).concat().repeat(100))
    });
    let whole: Vec<u8> = whole.collect();
    let mut heard = Vec::new();
    while heard.len() < whole.len() {
        let mut four = [0; 4];
        soon(far.read_exact(&mut four)).await.unwrap();
        heard.extend(four);
        if let Some(chunk) = soon(far.read_chunk()).await.unwrap() {
            heard.extend(chunk);
        }
        let mut chunks = Vec::new();
        if heard.len() < whole.len() {
            soon(std::future::poll_fn(|cx| far.poll_read_chunks(cx, &mut chunks, 3)))
                .await
                .unwrap();
        }
        for chunk in chunks {
            far.release(chunk.len());
            heard.extend(chunk);
        }
        let left = whole.len() - heard.len();
        if left > 0 && left < 4 {
            let mut rest = vec![0; left];
            soon(far.read_exact(&mut rest)).await.unwrap();
            heard.extend(rest);
        }
    }
    assert!(heard == whole);
    drop(writing.await.unwrap());
}

/// Keeps what it is shown on its way to the local service.
#[derive(Clone, Default)]
struct Shown(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Tap for Shown {
    fn to_local(&mut self, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }

    fn to_visitor(&mut self, _: &[u8]) {}
}

#[tokio::test]
async fn who_looks_at_a_stream_is_shown_what_was_taken_and_no_more() {
    let (server, _client) = pair(1 << 16).await;
    let shown = Shown::default();
    let mut stream = server.session.open(OPEN).unwrap().tapped(Box::new(shown.clone()));
    let (head, body) = (b"head, ", vec![7; 1 << 20]);
    let whole = [&head[..], &body].concat();
    // More than there is a window for.
    let pieces = [head, &[][..], &body].map(IoSlice::new);
    let taken = soon(stream.write_vectored(&pieces)).await.unwrap();
    assert!((head.len()..whole.len()).contains(&taken), "{taken}");
    assert!(shown.0.lock().as_slice() == &whole[..taken]);
}

#[tokio::test]
async fn what_was_written_arrives_before_a_reset_behind_it() {
    // The carrier takes less at once than what is queued.
    let (server, mut client) = pair(1 << 10).await;
    let mut near = server.session.open(OPEN).unwrap();
    near.write_chunk(Bytes::from(vec![7; 60_000])).await.unwrap();
    near.reset_after_data(ResetCode::LocalFailed, "");
    drop(near);
    let mut far = soon(client.opened()).await;
    let mut heard = Vec::new();
    let broke = soon(far.read_to_end(&mut heard)).await.unwrap_err();
    assert_eq!(heard, [7; 60_000]);
    assert!(matches!(
        StreamError::from_io(&broke),
        Some(StreamError::Reset { code: ResetCode::LocalFailed, .. })
    ));
    assert!(far.is_heard_out());
}

#[tokio::test]
async fn a_splice_hands_a_stream_last_words_and_then_the_break() {
    for half_closes in [false, true] {
        let (server, mut client) = pair(1 << 10).await;
        let mut near = server.session.open(OPEN).unwrap();
        near.write_chunk(Bytes::from_static(b"question")).await.unwrap();
        let far = soon(client.opened()).await;
        let (local, mut service) = sockets().await;
        let spliced = tokio::spawn(splice(far, SocketEnd::new(local), None));
        // It answers without having read all of the question, so its close sends RST.
        assert_eq!(soon(service.read_u8()).await.unwrap(), b'q');
        service.write_all(&[7; 30_000]).await.unwrap();
        if half_closes {
            service.shutdown().await.unwrap();
        }
        drop(service);
        let mut heard = Vec::new();
        let end = soon(near.read_to_end(&mut heard)).await;
        assert_eq!(heard, [7; 30_000]);
        assert_eq!(end.is_ok(), half_closes, "{end:?}");
        // Who talks on is told, and nobody waits for a time to pass.
        let talk = async { while near.write_chunk(Bytes::from_static(b"more")).await.is_ok() {} };
        soon(talk).await;
        assert!(soon(spliced).await.unwrap().is_err());
    }
}

/// A visitor and a local service with a tunnel between them: what each says goes through two splices and a stream.
struct Spliced {
    visitor: TcpStream,
    service: TcpStream,
    /// At the server, and at the client.
    splices: [JoinHandle<Result<Outcome, SpliceError>>; 2],
    sessions: (Running, Running),
}

impl Spliced {
    async fn start() -> Self {
        let (server, mut client) = pair(1 << 16).await;
        let near = server.session.open(OPEN).unwrap();
        let far = soon(client.opened()).await;
        let (visitor, ingress) = sockets().await;
        let (local, service) = sockets().await;
        let splices = [
            tokio::spawn(splice(SocketEnd::new(ingress), near, None)),
            tokio::spawn(splice(far, SocketEnd::new(local), None)),
        ];
        Self { visitor, service, splices, sessions: (server, client) }
    }

    /// Neither of them leaves anything behind, though it may take a while.
    async fn end(self) {
        for (splice, side) in self.splices.into_iter().zip(["server", "client"]) {
            let ended = tokio::time::timeout(Duration::from_secs(120), splice).await;
            let ended = ended.unwrap_or_else(|_| panic!("the {side}'s splice is kept"));
            assert!(ended.unwrap().is_err(), "{side}");
        }
    }
}

/// Says as much as there is room for, which nobody reads.
async fn fill(socket: &TcpStream) {
    while tokio::time::timeout(Duration::from_secs(1), socket.writable()).await.is_ok() {
        let _ = socket.try_write(&[7; 1 << 16]);
    }
}

fn break_off(socket: TcpStream) {
    crate::socket::abort_on_close(&socket);
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn two_who_both_break_off_while_neither_reads_leave_nothing_behind() {
    let mut spliced = Spliced::start().await;
    tokio::join!(fill(&spliced.visitor), fill(&spliced.service));
    let nobody = sockets().await;
    break_off(std::mem::replace(&mut spliced.visitor, nobody.0));
    break_off(std::mem::replace(&mut spliced.service, nobody.1));
    spliced.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_breaks_off_while_a_mute_service_does_not_read_leaves_nothing_behind() {
    let mut spliced = Spliced::start().await;
    fill(&spliced.visitor).await;
    break_off(std::mem::replace(&mut spliced.visitor, sockets().await.0));
    spliced.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_breaks_off_while_a_service_only_talks_leaves_nothing_behind() {
    let mut spliced = Spliced::start().await;
    tokio::join!(fill(&spliced.visitor), fill(&spliced.service));
    break_off(std::mem::replace(&mut spliced.visitor, sockets().await.0));
    let (nobody, _) = sockets().await;
    let service = std::mem::replace(&mut spliced.service, nobody);
    let talking = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = service.try_write(&[7; 1 << 16]);
        }
    });
    spliced.end().await;
    talking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_has_ended_and_breaks_off_is_not_kept_by_a_service_that_says_nothing() {
    let mut spliced = Spliced::start().await;
    spliced.visitor.shutdown().await.unwrap();
    assert_eq!(spliced.service.read(&mut [0]).await.unwrap(), 0);
    break_off(std::mem::replace(&mut spliced.visitor, sockets().await.0));
    spliced.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_ended_is_not_kept_beyond_the_session_by_a_peer_that_says_nothing() {
    for is_visitor in [true, false] {
        let mut spliced = Spliced::start().await;
        let (ended, other) = match is_visitor {
            true => (&mut spliced.visitor, &mut spliced.service),
            false => (&mut spliced.service, &mut spliced.visitor),
        };
        ended.shutdown().await.unwrap();
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        spliced.sessions.0.session.close(GoAwayCode::Refused, "");
        spliced.end().await;
    }
}

/// What a visitor said before it broke off is still read, in full, by a service that takes its time.
#[tokio::test(start_paused = true)]
async fn a_service_that_reads_late_hears_all_that_was_said_before_the_break() {
    let mut spliced = Spliced::start().await;
    let mut said = 0;
    while tokio::time::timeout(Duration::from_secs(1), spliced.visitor.writable()).await.is_ok() {
        said += spliced.visitor.try_write(&[7; 1 << 16]).unwrap_or(0);
    }
    // All of it has left the visitor's own machine, as far as that can be: what a reset takes back is there.
    let mut heard = vec![0; 1 << 20];
    let held = spliced.service.read_exact(&mut heard).await.unwrap();
    assert!(held < said);
    break_off(std::mem::replace(&mut spliced.visitor, sockets().await.0));
    let mut more = 0;
    let end = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match spliced.service.read(&mut heard).await {
            Ok(count @ 1..) => more += count,
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // A window of the stream, and the buffers of three sockets.
    assert!(more > 256 << 10, "{more} of {said} bytes");
    spliced.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_says_a_word_is_noticed() {
    let ((near, server), (far, _)) = greeted(1 << 20).await;
    let server = Running::start(near, server);
    let end = tokio::time::timeout(Duration::from_secs(60), server.end).await;
    let end = end.expect("the deadline woke nobody").unwrap();
    assert!(matches!(end, End::Violation(Violation::PeerSilent)), "{end:?}");
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_closes_before_its_first_turn_ends_though_its_peer_does_not() {
    let ((near, server), (far, _)) = greeted(1 << 20).await;
    let shared = Arc::new(Shared::new(server.machine));
    Session::new(Arc::clone(&shared)).close(GoAwayCode::ShuttingDown, "bye");
    let driving = Driver::new(near, shared, server.input, |_| ());
    let end = tokio::time::timeout(Duration::from_secs(60), driving).await;
    assert!(matches!(end.expect("the deadline woke nobody"), End::Closed));
    drop(far);
}

/// Over a link so slow that a record takes longer than a sign of life may.
#[tokio::test(start_paused = true)]
async fn half_a_record_is_a_sign_of_life() {
    let ((dialled, near_relay), (far_relay, accepted)) = (sockets().await, sockets().await);
    // Otherwise a piece waits for the acknowledgement of the one before it, which takes real time.
    far_relay.set_nodelay(true).unwrap();
    let is_slow = Arc::new(AtomicBool::new(false));
    let relaying = tokio::spawn({
        let is_slow = Arc::clone(&is_slow);
        async move {
            let (mut from_client, mut to_client) = near_relay.into_split();
            let (mut from_server, mut to_server) = far_relay.into_split();
            let forth = async {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    for piece in buffer[..count].chunks(1 << 10) {
                        if is_slow.load(Ordering::Relaxed) {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        to_server.write_all(piece).await.unwrap();
                    }
                }
            };
            let back = async {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    to_client.write_all(&buffer[..count]).await.unwrap();
                }
            };
            tokio::join!(forth, back);
        }
    });
    let (far, near) = carriers_over(dialled, accepted).await;
    let ((near, server), (far, client)) = greeted_over(near, far).await;
    let (server, mut client) = (Running::start(near, server), Running::start(far, client));
    let mut stream = server.session.open(OPEN).unwrap();
    let mut answering = soon(client.opened()).await;
    is_slow.store(true, Ordering::Relaxed);
    answering.write_chunk(Bytes::from(vec![7; 16_000])).await.unwrap();
    // The answer to it is behind all that.
    server.session.probe(clock::now(), Duration::from_secs(2));
    let began = tokio::time::Instant::now();
    let mut heard = vec![0; 16_000];
    stream.read_exact(&mut heard).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    relaying.abort();
}
