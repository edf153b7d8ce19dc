//! Our TLS against itself and against stock peers, over real sockets.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::BytesMut;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::{ClientConfig, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::config::{bound_to_the_token, server_config};
use super::dialer::nobody;
use super::handshake::{self, accept};
use super::identity::TlsIdentity;
use super::tickets::Tickets;
use super::{Secured, TlsStream};
use crate::auth::Binding;
use crate::buffer::ReadSize;
use crate::carrier::Carrier;
use crate::loopback::{pattern, sockets};
use crate::splice::{End, SocketEnd, splice};

pub(super) type Stock = tokio_rustls::TlsStream<TcpStream>;

pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("nobody was woken")
}

pub(super) fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let tickets = Tickets::new().unwrap();
    let server = server_config(TlsIdentity::self_signed().unwrap(), None, tickets);
    let mut client = ClientConfig::clone(&bound_to_the_token(None).unwrap());
    client.resumption = Resumption::in_memory_sessions(1);
    (Arc::new(client), server.unwrap())
}

pub(super) async fn connect(config: &ClientConfig, socket: TcpStream) -> std::io::Result<Secured> {
    handshake::connect(config, nobody(), socket).await
}

pub(super) async fn ours(client: &ClientConfig, server: &ServerConfig) -> (Secured, Secured) {
    let (dialled, accepted) = sockets().await;
    ours_over(client, server, dialled, accepted).await
}

/// A client's end and a server's, over sockets between which there may be anything.
pub(crate) async fn carriers_over(
    dialled: TcpStream,
    accepted: TcpStream,
) -> (TlsStream, TlsStream) {
    let (client, server) = configs();
    let (client, server) = ours_over(&client, &server, dialled, accepted).await;
    (client.stream, server.stream)
}

async fn ours_over(
    client: &ClientConfig,
    server: &ServerConfig,
    dialled: TcpStream,
    accepted: TcpStream,
) -> (Secured, Secured) {
    let (client, server) = soon(async {
        tokio::join!(
            connect(client, dialled),
            accept(server.clone(), accepted, BytesMut::new(), None)
        )
    })
    .await;
    (client.unwrap(), server.unwrap())
}

fn stock_name() -> ServerName<'static> {
    ServerName::try_from("ferrotunnel").unwrap()
}

/// Our client, a stock server.
async fn with_stock_server(client: &ClientConfig, server: &Arc<ServerConfig>) -> (Secured, Stock) {
    let (dialled, accepted) = sockets().await;
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    let (client, server) =
        soon(async { tokio::join!(connect(client, dialled), acceptor.accept(accepted)) }).await;
    (client.unwrap(), Stock::Server(server.unwrap()))
}

/// A stock client, our server.
async fn with_stock_client(client: &Arc<ClientConfig>, server: &ServerConfig) -> (Stock, Secured) {
    let (dialled, accepted) = sockets().await;
    let connector = TlsConnector::from(Arc::clone(client));
    let (client, server) = soon(async {
        tokio::join!(
            connector.connect(stock_name(), dialled),
            accept(server.clone(), accepted, BytesMut::new(), None)
        )
    })
    .await;
    (Stock::Client(client.unwrap()), server.unwrap())
}

pub(super) fn exported(stock: &Stock) -> Binding {
    let output = [0; 32];
    let label = b"EXPORTER-Channel-Binding";
    Binding::Exporter(match stock {
        Stock::Client(stream) => {
            stream.get_ref().1.export_keying_material(output, label, Some(&[])).unwrap()
        }
        Stock::Server(stream) => {
            stream.get_ref().1.export_keying_material(output, label, Some(&[])).unwrap()
        }
    })
}

fn refresh_keys(stock: &mut Stock) {
    match stock {
        Stock::Client(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
        Stock::Server(stream) => stream.get_mut().1.refresh_traffic_keys().unwrap(),
    }
}

/// Says all of `words` in pieces of odd sizes, then ends its direction, and hears all that the
/// other says.
async fn exchange<S: AsyncRead + AsyncWrite>(stream: S, words: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut read, mut write) = tokio::io::split(stream);
    let speak = async {
        let mut rest = words;
        for size in [1, 7, 16_383, 16_384, 16_385, 100_001, 3, 40_000].iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*size));
            write.write_all(piece).await?;
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        write.shutdown().await
    };
    let mut heard = Vec::new();
    let (spoken, read) = tokio::join!(speak, read.read_to_end(&mut heard));
    spoken?;
    read?;
    Ok(heard)
}

pub(super) async fn exchange_both<A, B>(a: A, b: B, len: usize)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_a, from_b) = (pattern(len), pattern(len + 12_345));
    let (at_a, at_b) =
        soon(async { tokio::join!(exchange(a, &from_a), exchange(b, &from_b)) }).await;
    assert!(at_a.unwrap() == from_b);
    assert!(at_b.unwrap() == from_a);
}

fn only(config: &ClientConfig, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let mut provider = (**config.crypto_provider()).clone();
    provider.cipher_suites = vec![suite];
    let mut fresh = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(super::config::any_certificate())
        .with_no_client_auth();
    fresh.alpn_protocols.clone_from(&config.alpn_protocols);
    fresh.enable_secret_extraction = true;
    Arc::new(fresh)
}

const SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

#[tokio::test]
async fn every_suite_carries_megabytes_both_ways_and_exports_the_same() {
    for suite in SUITES {
        let (client, server) = configs();
        let client = only(&client, suite);
        let (near, far) = with_stock_server(&client, &server).await;
        assert!(near.binding == exported(&far), "{suite:?}");
        exchange_both(near.stream, far, 2 << 20).await;
        let (far, near) = with_stock_client(&client, &server).await;
        assert!(near.binding == exported(&far), "{suite:?}");
        exchange_both(near.stream, far, 2 << 20).await;
        let (near, far) = ours(&client, &server).await;
        assert!(near.binding == far.binding, "{suite:?}");
        exchange_both(near.stream, far.stream, 2 << 20).await;
    }
}

#[tokio::test]
async fn ten_megabytes_go_both_ways_with_a_stock_peer_in_either_role() {
    let (client, server) = configs();
    let (near, far) = with_stock_server(&client, &server).await;
    exchange_both(near.stream, far, 10 << 20).await;
    let (far, near) = with_stock_client(&client, &server).await;
    exchange_both(near.stream, far, 10 << 20).await;
}

#[tokio::test]
async fn keys_are_replaced_by_either_side_under_load() {
    let (client, server) = configs();
    let (mut near, far) = with_stock_server(&client, &server).await;
    near.stream.records().limit_keys(3);
    exchange_both(near.stream, far, 1 << 20).await;
    let (far, mut near) = with_stock_client(&client, &server).await;
    near.stream.records().limit_keys(2);
    exchange_both(near.stream, far, 1 << 20).await;
    let (mut near, mut far) = ours(&client, &server).await;
    near.stream.records().limit_keys(1);
    far.stream.records().limit_keys(5);
    exchange_both(near.stream, far.stream, 1 << 20).await;
}

async fn ping(stock: &mut Stock, ours: &mut TlsStream) {
    let mut heard = [0; 4];
    stock.write_all(b"ping").await.unwrap();
    stock.flush().await.unwrap();
    soon(ours.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"ping");
    ours.write_all(b"pong").await.unwrap();
    ours.flush().await.unwrap();
    soon(stock.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"pong");
}

#[tokio::test]
async fn a_stock_peer_that_asks_for_new_keys_gets_them() {
    let (client, server) = configs();
    let (mut near, mut far) = with_stock_server(&client, &server).await;
    for _ in 0..50 {
        // Two at once are owed one answer.
        refresh_keys(&mut far);
        refresh_keys(&mut far);
        ping(&mut far, &mut near.stream).await;
    }
    exchange_both(near.stream, far, 100_000).await;
    let (mut far, mut near) = with_stock_client(&client, &server).await;
    for _ in 0..50 {
        refresh_keys(&mut far);
        ping(&mut far, &mut near.stream).await;
    }
    exchange_both(near.stream, far, 100_000).await;
}

#[tokio::test]
async fn one_direction_ends_and_the_other_goes_on() {
    let (client, server) = configs();
    for we_end in [true, false] {
        let (near, mut far) = with_stock_server(&client, &server).await;
        let mut near = near.stream;
        let mut heard = Vec::new();
        if we_end {
            near.write_all(b"question").await.unwrap();
            near.shutdown().await.unwrap();
            soon(far.read_to_end(&mut heard)).await.unwrap();
            assert_eq!(heard, b"question");
            far.write_all(b"the answer").await.unwrap();
            far.shutdown().await.unwrap();
            heard.clear();
            soon(near.read_to_end(&mut heard)).await.unwrap();
            let after = near.write_all(b"more").await.unwrap_err();
            assert_eq!(after.kind(), ErrorKind::BrokenPipe);
        } else {
            far.write_all(b"question").await.unwrap();
            far.shutdown().await.unwrap();
            soon(near.read_to_end(&mut heard)).await.unwrap();
            assert_eq!(heard, b"question");
            assert_eq!(near.read(&mut [0]).await.unwrap(), 0);
            near.write_all(b"the answer").await.unwrap();
            near.shutdown().await.unwrap();
            heard.clear();
            soon(far.read_to_end(&mut heard)).await.unwrap();
        }
        assert_eq!(heard, b"the answer");
    }
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_not_clean() {
    let (client, server) = configs();
    let (near, far) = ours(&client, &server).await;
    let (mut near, mut far) = (near.stream, far.stream);
    far.write_all(b"half of it").await.unwrap();
    far.flush().await.unwrap();
    drop(far);
    let mut heard = Vec::new();
    let end = soon(near.read_to_end(&mut heard)).await.unwrap_err();
    assert_eq!(heard, b"half of it");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    assert_eq!(near.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn the_first_words_may_come_with_the_last_of_the_handshake() {
    let (client, server) = configs();
    let (dialled, accepted) = sockets().await;
    // A connection that holds the client's last message back until its first words are there.
    let (near_end, mut middle) = sockets().await;
    let client_side = async {
        let mut near = Box::pin(connect(&client, near_end)).await.unwrap().stream;
        near.write_all(b"first words").await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let between = async {
        let (mut from_server, mut to_server) = dialled.into_split();
        let (mut from_client, mut to_client) = middle.split();
        let forth = async {
            let mut held = vec![0; 4096];
            let count = from_client.read(&mut held).await.unwrap();
            to_server.write_all(&held[..count]).await.unwrap();
            held.clear();
            from_client.read_to_end(&mut held).await.unwrap();
            to_server.write_all(&held).await.unwrap();
            to_server.shutdown().await.unwrap();
        };
        let back = async {
            tokio::io::copy(&mut from_server, &mut to_client).await.unwrap();
            to_client.shutdown().await.unwrap();
        };
        tokio::join!(forth, back);
    };
    let server_side = async {
        let mut far = Box::pin(accept((*server).clone(), accepted, BytesMut::new(), None))
            .await
            .unwrap()
            .stream;
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"first words");
        far.write_all(b"an answer").await.unwrap();
        far.shutdown().await.unwrap();
    };
    let (heard, (), ()) = soon(async { tokio::join!(client_side, between, server_side) }).await;
    assert_eq!(heard, b"an answer");
}

#[tokio::test]
async fn the_second_connection_of_a_client_is_resumed_and_bound_anew() {
    let (client, server) = configs();
    let mut bindings = Vec::new();
    for round in 0..3 {
        let (mut near, mut far) = ours(&client, &server).await;
        assert_eq!((near.is_resumed, far.is_resumed), (round > 0, round > 0));
        assert!(near.binding == far.binding);
        assert!(!bindings.contains(&near.binding));
        bindings.push(near.binding);
        // The ticket comes with the first words.
        far.stream.write_all(b"x").await.unwrap();
        assert_eq!(soon(near.stream.read_u8()).await.unwrap(), b'x');
    }
    let (far, near) = with_stock_client(&client, &server).await;
    // Under another name there is no ticket.
    assert!(!near.is_resumed);
    exchange_both(near.stream, far, 1000).await;
    let (far, near) = with_stock_client(&client, &server).await;
    assert!(near.is_resumed);
    exchange_both(near.stream, far, 1000).await;
}

#[tokio::test]
async fn a_handshake_may_come_in_the_smallest_parts() {
    let (client, server) = configs();
    let mut small = ClientConfig::clone(&client);
    small.max_fragment_size = Some(32);
    let (far, near) = with_stock_client(&Arc::new(small), &server).await;
    assert!(near.binding == exported(&far));
    exchange_both(near.stream, far, 100_000).await;
    let mut small = ServerConfig::clone(&server);
    small.max_fragment_size = Some(32);
    let (near, far) = with_stock_server(&client, &Arc::new(small)).await;
    assert!(near.binding == exported(&far));
    exchange_both(near.stream, far, 100_000).await;
}

#[tokio::test]
async fn tickets_of_a_stock_server_are_kept() {
    let (client, server) = configs();
    let mut server = ServerConfig::clone(&server);
    server.send_tls13_tickets = 4;
    let server = Arc::new(server);
    let (near, far) = with_stock_server(&client, &server).await;
    exchange_both(near.stream, far, 1000).await;
    let (near, far) = with_stock_server(&client, &server).await;
    assert!(near.is_resumed);
    exchange_both(near.stream, far, 1000).await;
}

#[tokio::test]
async fn a_stranger_learns_why_and_costs_little() {
    let (_, server) = configs();
    for (says, alert) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Some(50)),
        (&[22, 3, 1, 0xff, 0xff], Some(50)),
        // A message of 15 MiB, as it claims.
        (&[22, 3, 1, 0, 5, 1, 0xef, 0xff, 0xff, 0], None),
        (&[23, 3, 3, 0, 1, 0], Some(10)),
    ] {
        let (mut dialled, accepted) = sockets().await;
        dialled.write_all(says).await.unwrap();
        let accepting = tokio::spawn({
            let server = Arc::clone(&server);
            async move { accept((*server).clone(), accepted, BytesMut::new(), None).await.map(drop) }
        });
        if alert.is_none() {
            // It goes on for ever.
            let part = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
            while dialled.write_all(&part).await.is_ok() {}
        }
        let refused = soon(accepting).await.unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidData, "{refused}");
        let mut heard = Vec::new();
        let _ = soon(dialled.read_to_end(&mut heard)).await;
        if let Some(alert) = alert {
            assert_eq!(heard, [21, 3, 3, 0, 2, 2, alert], "{says:?}");
        }
    }
    let (mut dialled, accepted) = sockets().await;
    dialled.shutdown().await.unwrap();
    let refused =
        accept((*server).clone(), accepted, BytesMut::new(), None).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_quiet_stream_holds_no_buffers() {
    let (client, server) = configs();
    let (near, far) = ours(&client, &server).await;
    let (mut near, mut far) = (near.stream, far.stream);
    let (words, mut heard) = (pattern(300_000), vec![0; 300_000]);
    let (sent, read) = soon(async {
        tokio::join!(
            async {
                far.write_all(&words).await?;
                far.flush().await
            },
            near.read_exact(&mut heard)
        )
    })
    .await;
    sent.unwrap();
    read.unwrap();
    assert!(heard == words);
    let waits = std::future::poll_fn(|cx| near.poll_readable(cx));
    assert!(tokio::time::timeout(Duration::from_millis(50), waits).await.is_err());
    assert_eq!(near.held() + far.held(), 0);
    // One record that fills the read buffer to the last byte leaves the socket seemingly ready.
    let record = 4_096 - 5 - 1 - 16;
    far.write_all(&words[..record]).await.unwrap();
    let mut size = ReadSize::default();
    let mut heard = 0;
    while heard < record {
        let take = |piece: BytesMut| drop(piece);
        let pieces = std::future::poll_fn(|cx| {
            near.poll_pieces(cx, &mut size, usize::MAX, usize::MAX, take)
        });
        heard += soon(pieces).await.unwrap();
    }
    let more = std::future::poll_fn(|cx| near.poll_pieces(cx, &mut size, 1, 1, drop));
    assert!(tokio::time::timeout(Duration::from_millis(50), more).await.is_err());
    assert_eq!(near.held(), 0);
    // The driver has it inside, so that much belongs to each session.
    assert!(size_of::<TlsStream>() <= 192, "{}", size_of::<TlsStream>());
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_noticed_by_the_writer() {
    let (client, server) = configs();
    let (near, far) = ours(&client, &server).await;
    let (mut near, _far) = (near.stream, far.stream);
    let mut taken = 0;
    let piece = vec![7; 1 << 20];
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(200), near.write(&piece)).await
    {
        taken += count.unwrap();
    }
    // What the sockets hold, and one write.
    assert!(near.held() < 150_000, "{} of {taken}", near.held());
    let flush = tokio::time::timeout(Duration::from_millis(50), near.flush()).await;
    assert!(flush.is_err(), "what was taken has not left");
}

#[tokio::test]
async fn a_splice_over_tls_carries_bulk_both_ways_and_hands_on_both_ends() {
    let (client, server) = configs();
    let (near, far) = ours(&client, &server).await;
    let (visitor, a) = sockets().await;
    let (b, service) = sockets().await;
    let first = tokio::spawn(splice(SocketEnd::new(a), near.stream.into_end(), None));
    let second = tokio::spawn(splice(far.stream.into_end(), SocketEnd::new(b), None));
    exchange_both(visitor, service, 8 << 20).await;
    soon(first).await.unwrap().unwrap();
    soon(second).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_splice_over_tls_that_is_cut_off_does_not_look_whole() {
    let (client, server) = configs();
    let (near, far) = ours(&client, &server).await;
    let (mut visitor, a) = sockets().await;
    let spliced = tokio::spawn(splice(SocketEnd::new(a), near.stream.into_end(), None));
    let mut end = far.stream.into_end();
    let mut words = vec![bytes::Bytes::from_static(b"half of it")];
    std::future::poll_fn(|cx| end.poll_write(cx, &mut words)).await.unwrap();
    drop(end);
    let mut heard = Vec::new();
    let broke = soon(visitor.read_to_end(&mut heard)).await;
    assert_eq!(heard, b"half of it");
    assert_eq!(broke.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(soon(spliced).await.unwrap().is_err());
}

/// A seed for one run; it is printed so that a failure can be had again.
pub(super) fn seed() -> u64 {
    let mut seed = [0; 8];
    SystemRandom::new().fill(&mut seed).unwrap();
    let seed = std::env::var("FT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(u64::from_le_bytes(seed));
    println!("FT_SEED={seed}");
    seed
}
