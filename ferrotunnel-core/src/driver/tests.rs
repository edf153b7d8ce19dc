//! Two drivers over an in-memory carrier.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel_common::{ClientId, Token, TunnelKind};
use ferrotunnel_protocol::frame::GoAwayCode;
use ferrotunnel_protocol::{Config, OpenRequest};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Driver, End, Incoming};
use crate::auth::{Authenticator, Binding, ProofKey};
use crate::handshake::{self, Greeted};
use crate::session::Session;
use crate::shared::Shared;
use crate::stream::Stream;

struct Running {
    session: Session,
    incoming: mpsc::Receiver<Incoming>,
    end: JoinHandle<End>,
}

impl Running {
    fn start(carrier: DuplexStream, greeted: Greeted) -> Self {
        let shared = Arc::new(Shared::new(greeted.machine));
        let session = Session::new(Arc::clone(&shared));
        let (sender, incoming) = mpsc::channel(16);
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
    let (mut near, mut far) = tokio::io::duplex(buffer);
    let token = Token::new("secret").unwrap();
    let (authenticator, key) = (Authenticator::shared(&token), ProofKey::derive(&token));
    let (config, binding) = (Config::default(), Binding::Plaintext);
    let admit = || Ok(());
    let (server, client) = tokio::join!(
        handshake::server(&mut near, config.clone(), &binding, &authenticator, admit),
        handshake::client(&mut far, config, &binding, &key, ClientId([1; 16]), "test"),
    );
    (Running::start(near, server.unwrap().0), Running::start(far, client.unwrap()))
}

const OPEN: OpenRequest =
    OpenRequest { tunnel: 1, kind: TunnelKind::Tcp, visitor: None, ingress: None };

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(3), what).await.expect("nobody was woken")
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
