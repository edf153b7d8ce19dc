//! A client's engine and a server's.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use ferrotunnel_common::LimitsConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::roster::ServerIndex;
use super::vigil::Cause;
use super::*;
use crate::engines::{ANY, client_config, server_config, soon, until};
use crate::server::{ServerConfig, ServerEngine};
use crate::stream::Stream;

fn server() -> ServerEngine {
    server_at(ANY)
}

fn server_at(addr: SocketAddr) -> ServerEngine {
    server_that_is("test-server/1", addr)
}

fn server_that_is(software: &str, addr: SocketAddr) -> ServerEngine {
    let config =
        ServerConfig { bind: addr.into(), software: software.to_owned(), ..server_config() };
    ServerEngine::start(config).unwrap()
}

fn start(server: &ServerEngine, connections: Connections) -> ClientEngine {
    let config = client_config(server.addr().to_string(), connections);
    ClientEngine::start(config, broadcast::channel(16).0).unwrap()
}

#[tokio::test]
async fn a_client_knows_what_its_server_is_where_it_says_so() {
    // Who says nothing writes the Welcome of older servers.
    for (said, known) in [("test-server/1", Some("test-server/1")), ("", None)] {
        let server = server_that_is(said, ANY);
        let client = start(&server, Connections::Exactly(1));
        let _app = app(&client).await;
        let readings = client.reader().read().unwrap();
        assert_eq!(readings.carriers[0].software.as_deref(), known);
        client.shutdown(Duration::ZERO).await;
        server.shutdown(Duration::ZERO).await;
    }
}

/// An HTTP tunnel named `app`, once a carrier has it.
async fn app(client: &ClientEngine) -> (TunnelHandle, mpsc::Receiver<Visit>) {
    let (acceptor, visits) = Acceptor::channel();
    let spec = TunnelSpec {
        kind: TunnelKind::Http,
        name: "app".to_owned(),
        hosts: Vec::new(),
        port: 0,
        options: Vec::new(),
        proxy_protocol: None,
        target: Target::InProcess(acceptor),
        health: None,
    };
    let (handle, _) = soon(client.add(spec)).await.unwrap();
    (handle, visits)
}

/// The same, once all carriers have it.
async fn everywhere(client: &ClientEngine) -> (TunnelHandle, mpsc::Receiver<Visit>) {
    let (handle, visits) = app(client).await;
    let carriers = client.state.roster.borrow().wanted().count();
    until(|| client.state.held(handle.number) == carriers).await;
    (handle, visits)
}

const SERVER: ServerIndex = ServerIndex(0);

fn want(client: &ClientEngine, carriers: usize) {
    client.state.roster.send_modify(|roster| {
        roster.set_carriers(SERVER, carriers);
    });
}

fn sessions(client: &ClientEngine) -> usize {
    client.state.roster.borrow().sessions()
}

/// A visitor, and the client's end of its stream.
async fn visitor(server: &ServerEngine, visits: &mut mpsc::Receiver<Visit>) -> (Stream, Stream) {
    let stream = server.routes().http("app.localhost", "/").unwrap().open(ANY, ANY).unwrap();
    (stream, soon(visits.recv()).await.unwrap().stream)
}

async fn is_alive((near, far): &mut (Stream, Stream)) -> bool {
    near.write_chunk(Bytes::from_static(b"ping")).await.is_ok()
        && matches!(soon(far.read_chunk()).await, Ok(Some(ping)) if &*ping == b"ping")
}

/// On a clock of its own, which goes on whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_is_dialled_at_once_when_who_stood_in_for_it_is_gone() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let second = server();
    let mut config = client_config(addr.to_string(), Connections::Exactly(1));
    config.servers.push(second.addr().to_string());
    let (events, mut told) = broadcast::channel(16);
    let client = ClientEngine::start(config, events).unwrap();
    let spec = TunnelSpec {
        kind: TunnelKind::Http,
        name: "app".to_owned(),
        hosts: Vec::new(),
        port: 0,
        options: Vec::new(),
        target: Target::InProcess(Acceptor::channel().0),
        health: None,
        proxy_protocol: None,
    };
    let add = client.add(spec);
    tokio::pin!(add);
    let mut handle = None;
    // The first answers nobody, until the client waits long between two attempts.
    let mut last = clock::now();
    loop {
        tokio::select! {
            added = &mut add, if handle.is_none() => handle = Some(added.unwrap()),
            dialled = listener.accept() => {
                drop(dialled.unwrap());
                let now = clock::now();
                if now - std::mem::replace(&mut last, now) > Duration::from_secs(12) {
                    break;
                }
            }
        }
    }
    let (_handle, at) = handle.unwrap();
    assert_eq!(at.server, second.addr().to_string());
    drop(listener);
    let _first = server_at(addr);
    let gone_at = clock::now();
    drop(second);
    while !matches!(told.recv().await, Ok(Event::TunnelReady(at)) if at.server == addr.to_string())
    {
    }
    assert!(clock::now() - gone_at < Duration::from_secs(2), "{:?}", clock::now() - gone_at);
}

#[tokio::test]
async fn a_client_whose_last_tunnel_is_taken_over_ends_though_it_has_a_session_elsewhere() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let second = server();
    let mut config = client_config(addr.to_string(), Connections::Exactly(1));
    config.servers.push(second.addr().to_string());
    let (events, mut told) = broadcast::channel(64);
    let client = ClientEngine::start(config, events).unwrap();
    let (_handle, _visits) = app(&client).await;
    // The first server answers now, and has no room for tunnels.
    let first = server_at(addr);
    let mut limits = LimitsConfig::default();
    limits.max_tunnels_per_session = 0;
    first.set_limits(&limits);
    client.awake();
    let is_there =
        |event| matches!(event, Event::TunnelLost { server, .. } if server == addr.to_string());
    soon(async { while !is_there(told.recv().await.unwrap()) {} }).await;
    let newer = start(&second, Connections::Exactly(1));
    let (_held, _new_visits) = app(&newer).await;
    let end = soon(client.wait()).await;
    assert!(matches!(end, Err(ConnectError::Superseded(_))), "{end:?}");
    until(|| first.sessions() == 0).await;
}

#[tokio::test]
async fn a_carrier_that_is_no_longer_wanted_drains_and_gives_its_place_up() {
    let server = server();
    let client = start(&server, Connections::Exactly(2));
    let (_handle, mut visits) = everywhere(&client).await;
    // The second finds the first carrier busy.
    let mut pair = [visitor(&server, &mut visits).await, visitor(&server, &mut visits).await];
    want(&client, 1);
    until(|| sessions(&client) == 1).await;
    for one in &mut pair {
        assert!(is_alive(one).await);
    }
    assert_eq!(server.sessions(), 2);
    // The place is free for another one, while that which drains is still there.
    want(&client, 2);
    until(|| sessions(&client) == 2 && server.sessions() == 3).await;
    for one in &mut pair {
        assert!(is_alive(one).await);
    }
    drop(pair);
    until(|| server.sessions() == 2).await;
}

#[tokio::test]
async fn what_drains_finishes_before_the_client_ends() {
    let server = server();
    let client = start(&server, Connections::Exactly(2));
    let (_handle, mut visits) = everywhere(&client).await;
    let mut pair = [visitor(&server, &mut visits).await, visitor(&server, &mut visits).await];
    want(&client, 1);
    until(|| sessions(&client) == 1).await;
    let client = Arc::new(client);
    let stopping = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.shutdown(Duration::from_secs(60)).await }
    });
    until(|| server.routes().http("app.localhost", "/").is_err()).await;
    for one in &mut pair {
        assert!(is_alive(one).await);
    }
    assert!(!client.has_ended());
    drop(pair);
    soon(stopping).await.unwrap();
    assert!(client.has_ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_dropped_leaves_no_carrier_behind() {
    let server = server();
    for round in 0..200 {
        let client = start(&server, Connections::Exactly(4));
        for _ in 0..round % 10 {
            tokio::task::yield_now().await;
        }
        let state = Arc::downgrade(&client.state);
        drop(client);
        until(|| state.strong_count() == 0).await;
    }
    until(|| server.sessions() == 0).await;
}

#[tokio::test]
async fn further_carriers_go_where_the_first_has_led() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    // Nobody could look that name up again.
    let config = client_config("nowhere.invalid:1".to_owned(), Connections::Auto);
    let connector = Connector::new(config, ClientId([1; 16])).unwrap();
    tokio::select! {
        dialled = soon(listener.accept()) => drop(dialled.unwrap()),
        _ = connector.connect(SERVER, Some(addr)) => unreachable!("nobody answers"),
    }
}

/// Passes connections on to a server. Those that are open when it falls dark stay so, and nobody hears
/// of the other any more.
struct Passage {
    addr: SocketAddr,
    dark: tokio::sync::watch::Sender<u32>,
    _task: tokio::task::JoinSet<()>,
}

impl Passage {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let dark = tokio::sync::watch::Sender::new(0);
        let (mut task, nights) = (tokio::task::JoinSet::new(), dark.subscribe());
        task.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut nights = nights.clone();
                nights.mark_unchanged();
                connections.spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                    let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                        (near.split(), far.split());
                    tokio::select! {
                        _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                        _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                        _ = nights.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { addr, dark, _task: task }
    }
}

#[tokio::test]
async fn after_a_sleep_a_dead_connection_is_left_within_seconds() {
    let server = server();
    let passage = Passage::to(server.addr()).await;
    let (events, mut told) = broadcast::channel(16);
    let config = client_config(passage.addr.to_string(), Connections::Exactly(2));
    let client = ClientEngine::start(config, events).unwrap();
    let (_handle, mut visits) = everywhere(&client).await;
    // While the way is there nobody notices anything.
    client.state.alarm(Cause::Slept);
    let mut stays = visitor(&server, &mut visits).await;
    assert!(is_alive(&mut stays).await);
    let before = client.state.session_ids();
    assert_eq!(before.len(), 2);
    passage.dark.send_modify(|nights| *nights += 1);
    while told.try_recv().is_ok() {}
    let began = Instant::now();
    client.state.alarm(Cause::NetworkChanged);
    soon(async {
        while !matches!(told.recv().await, Ok(Event::Disconnected { .. })) {}
        while !matches!(told.recv().await, Ok(Event::TunnelReady(_))) {}
    })
    .await;
    // 2 s by design, and 15 s without an alarm.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    until(|| sessions(&client) == 2).await;
    assert!(client.state.session_ids().iter().all(|id| !before.contains(id)));
}

#[tokio::test]
async fn an_alarm_ends_the_wait_for_the_next_attempt() {
    let nobody = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let (events, mut told) = broadcast::channel(64);
    // A server that hangs up is asked less and less often.
    let hangs_up = TcpListener::bind(nobody).await.unwrap();
    let accepting = tokio::spawn(async move {
        loop {
            drop(hangs_up.accept().await.unwrap());
        }
    });
    let client =
        ClientEngine::start(client_config(nobody.to_string(), Connections::Auto), events).unwrap();
    let mut pause = Duration::ZERO;
    while pause < Duration::from_secs(1) {
        if let Event::Disconnected { retry_in, .. } = soon(told.recv()).await.unwrap() {
            pause = retry_in;
        }
    }
    client.state.alarm(Cause::NetworkChanged);
    let Event::Disconnected { retry_in, .. } = soon(told.recv()).await.unwrap() else {
        unreachable!("there is no server");
    };
    assert!(retry_in < Duration::from_secs(1), "the back-off starts over: {retry_in:?}");
    accepting.abort();
}
