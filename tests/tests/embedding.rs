//! Programs that serve their tunnels themselves, with no local port.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use ferrotunnel::{ClientEvent, ErrorKind, Tunnel, TunnelKind};
use ferrotunnel_tests::{Carrier, Link, Site, TestBed, over_both, public_addr, run, soon};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[test]
fn axum_is_served_straight_from_a_tunnel() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let listener = client.listen(Tunnel::http("app")).await.unwrap();
        let info = listener.info().clone();
        assert_eq!((info.kind, info.name.as_str()), (TunnelKind::Http, "app"));
        assert_eq!(info.public_url, format!("http://{}/", bed.host("app")));
        let serving = tokio::spawn(async { axum::serve(listener, Site::app()).await });
        for _ in 0..20 {
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
        }
        let large = bed.get("app", "/head").await.body;
        assert!(large.contains("\nx-forwarded-for: 127.0.0.1\n"), "{large}");
        serving.abort();
        let _ = serving.await;
        // The listener went with the task, and the tunnel with the listener.
        soon("the tunnel to go", async {
            while bed.get("app", "/hello").await.status != 404 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

#[test]
fn a_served_app_knows_who_connected() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let listener = client.listen(Tunnel::http("app")).await.unwrap();
        let app = Router::new().route(
            "/",
            get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.0.ip().to_string() }),
        );
        let app = app.into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async { axum::serve(listener, app).await });
        assert_eq!(bed.get("app", "/").await.body, "127.0.0.1");
    });
}

#[test]
fn a_hundred_tunnels_are_told_to_a_listener_that_looks_when_all_of_them_are_there() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let names: Vec<String> = (0..100).map(|number| format!("app-{number}")).collect();
        let tunnel = |name: &String| Tunnel::http(name).local_addr("127.0.0.1:1");
        let client = names.iter().fold(bed.client(), |client, name| client.tunnel(tunnel(name)));
        let client = client.build().unwrap();
        let mut events = client.events();
        client.start().await.unwrap();
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv().inspect_err(|error| {
            assert_eq!(*error, tokio::sync::broadcast::error::TryRecvError::Empty);
        }) {
            if let ClientEvent::TunnelReady(tunnel) = event {
                told.push(tunnel.name);
            }
        }
        assert_eq!(told, names);
    });
}

#[derive(Clone)]
struct Peer(SocketAddr);

impl
    axum::extract::connect_info::Connected<
        axum::serve::IncomingStream<'_, ferrotunnel::TunnelListener>,
    > for Peer
{
    fn connect_info(stream: axum::serve::IncomingStream<'_, ferrotunnel::TunnelListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

#[test]
fn a_tcp_tunnel_is_accepted_like_a_listener() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        let visiting = tokio::spawn(async move {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            visitor.write_all(b"question").await.unwrap();
            visitor.shutdown().await.unwrap();
            let mut answer = String::new();
            visitor.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let (mut stream, _) = soon("a visitor", listener.accept()).await.unwrap();
        let mut question = String::new();
        stream.read_to_string(&mut question).await.unwrap();
        stream.write_all(format!("{question}, answer").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(soon("the answer", visiting).await.unwrap(), "question, answer");
    });
}

#[test]
fn chunks_pass_without_being_cut_or_copied_together() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&listener.info().public_url);
        let pattern = Site::pattern();
        let sent = pattern.clone();
        let visiting = tokio::spawn(async move {
            let visitor = TcpStream::connect(public).await.unwrap();
            let (mut read, mut write) = visitor.into_split();
            let mut heard = Vec::new();
            let speak = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let listen = async { read.read_to_end(&mut heard).await.unwrap() };
            tokio::join!(speak, listen);
            heard
        });
        let (mut stream, _) = soon("a visitor", listener.accept()).await.unwrap();
        while let Some(chunk) = soon("a chunk", stream.read_chunk()).await.unwrap() {
            assert!(!chunk.is_empty());
            soon("room", stream.write_chunk(chunk)).await.unwrap();
        }
        stream.finish();
        assert!(soon("the echo", visiting).await.unwrap() == pattern);
    });
}

#[test]
fn a_listener_outlives_its_session() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let client = bed.client_over(&link).build().unwrap();
        let mut events = client.events();
        let listener = client.listen(Tunnel::http("app")).await.unwrap();
        tokio::spawn(async { axum::serve(listener, Site::app()).await });
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        let mut tunnels = 0;
        link.cut();
        while tunnels < 2 {
            let event = soon("the tunnel", events.recv()).await.unwrap();
            tunnels += usize::from(matches!(event, ClientEvent::TunnelReady(_)));
        }
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn accept_ends_with_the_client() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let client = bed.client().build().unwrap();
        let mut listener = client.listen(Tunnel::tcp()).await.unwrap();
        let accepting = tokio::spawn(async move { listener.accept().await.map(drop) });
        client.shutdown().await.unwrap();
        let error = soon("accept to return", accepting).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
        let error = client.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "it has no tunnels of its own");
    });
}

#[test]
fn two_servers_and_their_clients_live_in_one_process() {
    run(async {
        let beds = [TestBed::start(Carrier::Tls).await, TestBed::start(Carrier::Plaintext).await];
        let mut kept = Vec::new();
        for (number, bed) in beds.iter().enumerate() {
            let client = bed.client().build().unwrap();
            let listener = client.listen(Tunnel::http("app")).await.unwrap();
            let app = Router::new().route("/", get(move || async move { number.to_string() }));
            tokio::spawn(async { axum::serve(listener, app).await });
            kept.push(client);
        }
        for (number, bed) in beds.iter().enumerate() {
            assert_eq!(bed.get("app", "/").await.body, number.to_string());
            assert_eq!(bed.server.sessions(), 1);
        }
    });
}
