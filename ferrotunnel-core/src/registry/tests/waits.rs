//! Visitors for whom there is nobody at the moment, or who have not been answered yet.

use std::collections::VecDeque;
use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use ferrotunnel_protocol::frame::{CLIENT_PROOF_LEN, GoAwayCode};
use ferrotunnel_protocol::{Accept, HelloRequest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::direct::Streams;
use crate::engines::until;
use crate::loopback::sockets;
use crate::options::CarrierNumber;
use crate::registry::port::WayIn;
use crate::registry::trial::{KEPT_FOR, Trial};
use crate::registry::tunnel::Opened;
use crate::splice::{End, Room};
use crate::tcp_ingress::Visitor;

fn somewhere() -> SocketAddr {
    ([192, 0, 2, 7], 50_000).into()
}

/// What a machine has to say, heard by another one.
fn pass(from: &mut Machine, to: &mut Machine) {
    pass_at(Instant::now(), from, to);
}

fn pass_at(now: Instant, from: &mut Machine, to: &mut Machine) {
    let (mut output, mut input) = (VecDeque::new(), BytesMut::new());
    from.poll_transmit(now, &mut output, 0);
    for frame in output {
        input.extend_from_slice(frame.head());
        input.extend_from_slice(frame.body());
    }
    to.handle_input(now, &mut input).unwrap();
}

/// A guest whose session takes visitors.
fn guest(id: u64) -> Guest {
    guest_and_client(id).0
}

/// The same with its end of the session.
fn guest_and_client(id: u64) -> (Guest, Machine) {
    let (guest, now) = (Guest::new(id), Instant::now());
    let mut client = Machine::client(Config::default(), now);
    guest.shared.lock(|inner| {
        let server = &mut inner.machine;
        pass(server, &mut client);
        client.hello(HelloRequest {
            client_id: ClientId([0; 16]),
            token_id: String::new(),
            nonce: [0; 32],
            proof: [0; CLIENT_PROOF_LEN],
            software: String::new(),
            direct_for: None,
        });
        pass(&mut client, server);
        let (session_id, software) = (SessionId(id), String::new());
        server.accept(Accept { session_id, proof: [0; 32], software }, now);
        assert_eq!(server.state(), State::Established);
    });
    (guest, client)
}

/// Its client answers a Ping at once.
fn is_near(guest: &Guest, client: &mut Machine) {
    let now = Instant::now();
    guest.shared.lock(|inner| {
        let server = &mut inner.machine;
        pass_at(now, server, client);
        client.confirm(now);
        server.probe(now, Duration::from_secs(1));
        pass_at(now, server, client);
        pass_at(now, client, server);
    });
}

/// Somebody at the door, and the socket outside.
async fn visitor() -> (Visitor, TcpStream) {
    let (dialled, socket) = sockets().await;
    let (addr, ingress, words) = (somewhere(), somewhere(), Bytes::new());
    let (socket, place, arriving) = (socket.into(), None, None);
    (Visitor { socket, addr, ingress, place, words, arriving }, dialled)
}

fn streams_opened(guest: &Guest) -> u64 {
    guest.owner.session.stats().streams_opened
}

/// Its session is over, and has not left yet.
fn end(guest: &Guest) {
    guest.owner.session.close(GoAwayCode::ShuttingDown, "");
}

fn over_carrier(number: u8, name: &str) -> Register {
    let mut wanted = http(name, &[]);
    CarrierNumber(number).mark(&mut wanted);
    options::join(&mut wanted);
    wanted
}

fn way_in(registry: &Registry, budget: &ReceiveBudget) -> WayIn {
    let registry = registry.clone();
    WayIn::new(move || found(&registry, "app.localhost"), Tasks::default(), budget.clone())
}

/// A visitor that is just let in, and the session that has it first.
fn trial(registry: &Registry, budget: &ReceiveBudget) -> (Trial, SessionId) {
    let tunnel = found(registry, "app.localhost").unwrap();
    let Opened { stream, by, .. } =
        tunnel.open_on(somewhere(), somewhere(), |_| true).map_err(drop).unwrap();
    let trial =
        Trial::new((stream, by), way_in(registry, budget), (somewhere(), somewhere()), None);
    (trial, by.session)
}

async fn say(trial: &mut Trial, words: &'static [u8]) {
    let mut chunks = vec![Bytes::from_static(words)];
    poll_fn(|cx| trial.poll_room(cx)).await.unwrap();
    let taken = poll_fn(|cx| trial.poll_write(cx, &mut chunks)).await.unwrap();
    assert_eq!((taken, chunks.len()), (words.len(), 0));
}

/// Whether nothing is heard for that long.
async fn hears_nothing(trial: &mut Trial, time: Duration) -> bool {
    let mut chunks = Vec::new();
    timeout(time, poll_fn(|cx| trial.poll_read(cx, Room::MAX, &mut chunks))).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn what_a_visitor_has_said_counts_against_the_budget_and_is_kept_for_half_a_minute() {
    let (registry, first, second) = (registry(), guest(1), guest(2));
    register(&registry, &first, 0, http("app", &[]));
    register(&registry, &second, 0, over_carrier(1, "app"));
    let budget = ReceiveBudget::new(1 << 20);
    let (mut kept, by) = trial(&registry, &budget);
    // Who has said nothing has nothing that is kept.
    assert!(hears_nothing(&mut kept, KEPT_FOR * 2).await);
    say(&mut kept, b"hello").await;
    assert_eq!(budget.used_bytes(), 5);
    assert!(hears_nothing(&mut kept, KEPT_FOR - Duration::from_millis(10)).await);
    assert_eq!(budget.used_bytes(), 5);
    assert!(hears_nothing(&mut kept, Duration::from_millis(20)).await);
    assert_eq!(budget.used_bytes(), 0);
    // From now on it stays where it is.
    end(if by == SessionId(1) { &first } else { &second });
    let mut chunks = Vec::new();
    poll_fn(|cx| kept.poll_read(cx, Room::MAX, &mut chunks)).await.unwrap_err();

    // Who leaves gives it back, and where there is no room for it nothing is kept.
    let third = guest(3);
    register(&registry, &third, 0, http("app", &[]));
    let (mut left, _) = trial(&registry, &budget);
    say(&mut left, b"hello").await;
    assert_eq!(budget.used_bytes(), 5);
    drop(left);
    assert_eq!(budget.used_bytes(), 0);
    let small = ReceiveBudget::new(10);
    let (mut much, _) = trial(&registry, &small);
    say(&mut much, b"too much for it").await;
    assert_eq!(small.used_bytes(), 0);
}

/// Whichever of two sessions of one client leaves first.
#[tokio::test(start_paused = true)]
async fn a_visitor_waits_for_a_client_all_of_whose_sessions_are_over() {
    for first_leaves in [true, false] {
        let registry = registry_that_waits(Duration::from_secs(600));
        let (one, other) = (guest(1), guest(2));
        register(&registry, &one, 0, http("app", &[]));
        register(&registry, &other, 0, over_carrier(1, "app"));
        let (mut waits, by) = trial(&registry, &ReceiveBudget::new(1 << 20));
        end(&one);
        end(&other);
        let moment = Duration::from_millis(10);
        assert!(hears_nothing(&mut waits, moment).await, "neither has left");
        let (its, not_its) = if by == SessionId(1) { (&one, &other) } else { (&other, &one) };
        let order = if first_leaves { [its, not_its] } else { [not_its, its] };
        for leaving in order {
            leaving.owner.leave();
            assert!(hears_nothing(&mut waits, moment).await);
        }
        let back = guest(3);
        register(&registry, &back, 0, http("app", &[]));
        assert!(hears_nothing(&mut waits, moment).await);
        assert_eq!(streams_opened(&back), 1);
    }
}

#[tokio::test]
async fn a_visitor_that_comes_between_the_end_of_a_session_and_its_leaving_is_kept() {
    let registry = registry_that_waits(Duration::from_secs(600));
    let gone = guest(1);
    register(&registry, &gone, 0, http("app", &[]));
    end(&gone);
    let (visitor, _outside) = visitor().await;
    let way_in = way_in(&registry, &ReceiveBudget::new(1 << 20));
    way_in.admit(visitor);
    gone.owner.leave();
    let back = guest(2);
    register(&registry, &back, 0, http("app", &[]));
    until(|| streams_opened(&back) == 1).await;
}

/// Beside a session that takes visitors, but not for this tunnel.
#[tokio::test]
async fn a_visitor_is_turned_away_while_too_many_wait_for_a_session_that_is_over_to_leave() {
    let registry = registry_that_waits(Duration::from_secs(600));
    let (paused, over) = (guest(1), guest(2));
    let mut wanted = http("app", &[]);
    options::tell_paused(&mut wanted, true);
    register(&registry, &paused, 0, wanted);
    register(&registry, &over, 0, over_carrier(1, "app"));
    end(&over);
    let tunnel = found(&registry, "app.localhost").unwrap();
    let waiting: Vec<_> = std::iter::from_fn(|| tunnel.another()).collect();
    assert!(!waiting.is_empty());
    let (visitor, mut outside) = visitor().await;
    way_in(&registry, &ReceiveBudget::new(1 << 20)).admit(visitor);
    let end = tokio::io::AsyncReadExt::read_u8(&mut outside).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_visitor_waits_a_moment_for_a_carrier_where_the_client_is_near() {
    let (one, two, three) = (visitor().await, visitor().await, visitor().await);
    let (registry, (guest, mut client)) = (registry(), guest_and_client(1));
    let mut wanted = http("app", &[]);
    wanted.options.extend(Streams::Direct.to_option());
    register(&registry, &guest, 0, wanted);
    let way_in = way_in(&registry, &ReceiveBudget::new(1 << 20));
    // Nobody knows yet how far away it is.
    way_in.admit(one.0);
    assert_eq!(streams_opened(&guest), 1);
    is_near(&guest, &mut client);
    way_in.admit(two.0);
    tokio::time::sleep(Duration::from_millis(49)).await;
    assert_eq!(streams_opened(&guest), 1, "it has not waited");
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(streams_opened(&guest), 2, "it waits for ever");
    // That was in vain, so nobody else does.
    way_in.admit(three.0);
    assert_eq!(streams_opened(&guest), 3);
}
