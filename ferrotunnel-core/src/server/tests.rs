//! Visitors who have just been accepted when a server is told to go.

use bytes::Bytes;
use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::frame::ResetCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::*;
use crate::access::AccessConfig;
use crate::client::{
    Acceptor, ClientConfig, ClientEngine, Connections, Target, TunnelHandle, TunnelSpec, Visit,
};
use crate::direct::Streams;
use crate::engines::{ANY, PATIENCE, client_config, server_config, soon, until};
use crate::loopback::sockets;
use crate::options;
use crate::proxies::TrustedProxies;
use crate::splice::{SocketEnd, splice};
use crate::tcp_ingress::Visitor;

fn server(proxies: TrustedProxies) -> ServerEngine {
    ServerEngine::start(ServerConfig {
        http_port: None,
        https_port: Some(443),
        visitor_grace: Duration::from_secs(600),
        access: AccessConfig { proxies, ..AccessConfig::default() },
        ..server_config()
    })
    .unwrap()
}

fn client(server: SocketAddr) -> ClientEngine {
    let config = client_config(server.to_string(), Connections::Exactly(1));
    let config = ClientConfig { handshake_deadline: PATIENCE, ..config };
    ClientEngine::start(config, broadcast::channel(16).0).unwrap()
}

/// A tunnel at that port, if it has one of its own, and the visitors that come by it. Its visitors are served in this process.
async fn tunnel(
    client: &ClientEngine,
    (kind, port): (TunnelKind, u16),
    options: Vec<(String, String)>,
) -> (TunnelHandle, mpsc::Receiver<Visit>, u16) {
    let (acceptor, visits) = Acceptor::channel();
    let spec = TunnelSpec {
        kind,
        name: if kind == TunnelKind::Tls { "app" } else { "" }.to_owned(),
        hosts: Vec::new(),
        port,
        options,
        proxy_protocol: None,
        target: Target::InProcess(acceptor),
        health: None,
    };
    let (handle, registration) = soon(client.add(spec)).await.unwrap();
    // A tunnel with a port of its own is named by it.
    let port = registration.name.parse().unwrap_or_default();
    (handle, visits, port)
}

fn arriving(server: &ServerEngine) -> usize {
    server.hall.registry.arrivals().count()
}

/// The server takes nobody new, and waits for those who have come.
async fn going(server: ServerEngine) -> tokio::task::JoinHandle<ServerEngine> {
    let reader = server.reader();
    let going = tokio::spawn(async move {
        server.begin_shutdown_within(PATIENCE).await;
        server
    });
    until(|| reader.is_closed()).await;
    going
}

/// Hears a word of the visitor, and says one.
async fn serve(visit: Visit) {
    let mut stream = visit.stream;
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'x');
    stream.write_chunk(Bytes::from_static(b"y")).await.unwrap();
    stream.finish();
}

/// Where the first who dials gets through to the server, and nobody else does: they are kept waiting.
async fn lets_one_through(server: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let (addr, mut tasks) = (listener.local_addr().unwrap(), JoinSet::new());
    tasks.spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(server).await.unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let mut kept = Vec::new();
        let keeping = async {
            loop {
                kept.push(listener.accept().await.unwrap());
            }
        };
        tokio::select! {
            _ = splice(SocketEnd::new(near), SocketEnd::new(far), None) => {}
            () = keeping => {}
        }
    });
    (addr, tasks)
}

#[tokio::test]
async fn visitors_who_wait_for_a_carrier_when_the_server_goes_are_served() {
    for kind in [TunnelKind::Tcp, TunnelKind::Tls] {
        let server = server(TrustedProxies::default());
        let (addr, _link) = lets_one_through(server.addr()).await;
        let client = client(addr);
        let options = Streams::Direct.to_option().into_iter().collect();
        let (_tunnel, mut visits, port) = tunnel(&client, (kind, 0), options).await;
        // Only where it is near a visitor waits for a carrier.
        until(|| {
            let owners = server.hall.owners();
            owners[0].session.probe(clock::now(), PATIENCE);
            owners[0].is_near()
        })
        .await;
        let mut visitor = match kind {
            TunnelKind::Tls => {
                let (visitor, socket) = sockets().await;
                let (socket, words, place, arriving) = (socket.into(), Bytes::new(), None, None);
                let visit = Visitor { socket, addr: ANY, ingress: ANY, place, words, arriving };
                server.passing_door().admit("app.localhost".into(), visit);
                visitor
            }
            _ => TcpStream::connect((ANY.ip(), port)).await.unwrap(),
        };
        // On a busy machine it may have waited long enough already.
        until(|| arriving(&server) == 1 || server.streams() == 1).await;
        let drained = tokio::spawn(server.shutdown(PATIENCE));
        visitor.write_all(b"x").await.unwrap();
        serve(soon(visits.recv()).await.unwrap()).await;
        assert_eq!(soon(visitor.read_u8()).await.unwrap(), b'y');
        drop(visitor);
        assert_eq!(soon(drained).await.unwrap().cut, 0);
    }
}

fn proxies() -> TrustedProxies {
    TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()], true)
}

/// What a proxy says first.
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";

#[tokio::test]
async fn for_whom_a_proxy_comes_is_heard_though_the_server_is_about_to_go() {
    let server = server(proxies());
    let client = client(server.addr());
    let (_tunnel, mut visits, port) = tunnel(&client, (TunnelKind::Tcp, 0), Vec::new()).await;
    let mut visitor = TcpStream::connect((ANY.ip(), port)).await.unwrap();
    until(|| arriving(&server) == 1).await;
    let going = going(server).await;
    visitor.write_all(&[HEADER, b"x"].concat()).await.unwrap();
    let visit = soon(visits.recv()).await.unwrap();
    let server = soon(going).await.unwrap();
    let drained = tokio::spawn(server.shutdown(PATIENCE));
    serve(visit).await;
    assert_eq!(soon(visitor.read_u8()).await.unwrap(), b'y');
    drop(visitor);
    assert_eq!(soon(drained).await.unwrap().cut, 0);
}

#[tokio::test]
async fn who_does_not_come_through_holds_up_no_shutdown() {
    for grace in [Duration::ZERO, PATIENCE] {
        let server = server(proxies());
        let client = client(server.addr());
        let (_tunnel, mut visits, port) = tunnel(&client, (TunnelKind::Tcp, 0), Vec::new()).await;
        let mut visitor = TcpStream::connect((ANY.ip(), port)).await.unwrap();
        until(|| arriving(&server) == 1).await;
        if !grace.is_zero() {
            soon(server.begin_shutdown()).await;
            assert_eq!((arriving(&server), server.tunnels()), (1, 0));
            visitor.write_all(HEADER).await.unwrap();
            let end = soon(visitor.read_u8()).await.unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        }
        soon(server.shutdown(grace)).await;
        assert!(visits.try_recv().is_err());
        // Nobody was there to hear it.
        assert!(soon(visitor.read_u8()).await.is_err());
    }
}

#[tokio::test]
async fn whom_a_member_cannot_deliver_when_the_server_goes_is_the_next_one_s() {
    let server = server(TrustedProxies::default());
    let group = || vec![(options::GROUP.to_owned(), "everybody".to_owned())];
    let (one, other) = (client(server.addr()), client(server.addr()));
    let (_one, mut visits, port) = tunnel(&one, (TunnelKind::Tcp, 0), group()).await;
    let (_other, mut others, _) = tunnel(&other, (TunnelKind::Tcp, port), group()).await;
    let mut visitor = TcpStream::connect((ANY.ip(), port)).await.unwrap();
    visitor.write_all(b"x").await.unwrap();
    let (visit, next) = soon(async {
        tokio::select! {
            visit = visits.recv() => (visit.unwrap(), &mut others),
            visit = others.recv() => (visit.unwrap(), &mut visits),
        }
    })
    .await;
    let going = going(server).await;
    visit.stream.reset(ResetCode::LocalUnreachable, "");
    let visit = soon(next.recv()).await.unwrap();
    let answered = tokio::spawn(serve(visit));
    assert_eq!(soon(visitor.read_u8()).await.unwrap(), b'y');
    answered.await.unwrap();
    drop(visitor);
    let server = soon(going).await.unwrap();
    assert_eq!(soon(server.shutdown(PATIENCE)).await.cut, 0);
}

#[tokio::test]
async fn tunnels_whose_clients_are_away_do_not_wait_for_them_when_the_server_goes() {
    let server = server(TrustedProxies::default());
    let (stays, leaves) = (client(server.addr()), client(server.addr()));
    let _stays = tunnel(&stays, (TunnelKind::Tcp, 0), Vec::new()).await;
    let (_leaves, _, away) = tunnel(&leaves, (TunnelKind::Tcp, 0), Vec::new()).await;
    soon(leaves.shutdown(Duration::ZERO)).await;
    until(|| server.sessions() == 1).await;
    assert_eq!(server.tunnels(), 2, "its place is kept");
    let mut visitor = TcpStream::connect((ANY.ip(), away)).await.unwrap();
    until(|| arriving(&server) == 1).await;
    let server = soon(going(server).await).await.unwrap();
    let end = soon(visitor.read_u8()).await.unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    soon(server.shutdown(PATIENCE)).await;
}
