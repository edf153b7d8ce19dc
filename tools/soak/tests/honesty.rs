//! The tool finds what it is there to find: visitors and local services with something between them
//! that does what no tunnel may.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_soak::Dice;
use ferrotunnel_soak::ledger::Ledger;
use ferrotunnel_soak::origin::{Identity, Origin, Speaks};
use ferrotunnel_soak::presence::Party;
use ferrotunnel_soak::visitor::{Address, Kind, Visits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What is done to the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    None,
    Loses(usize),
    Doubles(usize),
    Changes(usize),
    /// An orderly end after so many.
    Cuts(usize),
}

/// Carries connections to an address, and harms what comes from there or goes there.
async fn relay(to: SocketAddr, up: Harm, down: Harm) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = TcpStream::connect(to).await.unwrap().into_split();
            tokio::spawn(copy(near_read, far_write, up));
            tokio::spawn(copy(far_read, near_write, down));
        }
    });
    addr
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, harm: Harm) {
    let mut seen = 0;
    let mut buffer = vec![0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let mut bytes = buffer[..count].to_vec();
        let here = |at: usize| (seen..seen + count).contains(&at).then(|| at - seen);
        match harm {
            Harm::Loses(at) => drop(here(at).map(|at| bytes.remove(at))),
            Harm::Doubles(at) => {
                if let Some(at) = here(at) {
                    bytes.insert(at, bytes[at]);
                }
            }
            Harm::Changes(at) => {
                if let Some(at) = here(at) {
                    bytes[at] ^= 1;
                }
            }
            Harm::Cuts(at) if seen + count > at => {
                // In good order; who sends is not told.
                let _ = to.write_all(&bytes[..at - seen]).await;
                let _ = to.shutdown().await;
                while matches!(from.read(&mut buffer).await, Ok(1..)) {}
                return;
            }
            Harm::Cuts(_) | Harm::None => {}
        }
        seen += count;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// A tenant, and what lies before it.
struct Scene {
    ledger: Arc<Ledger>,
    visits: Visits,
    origin: Origin,
    address: Address,
    client: Arc<Party>,
}

impl Scene {
    async fn set(speaks: Speaks) -> Self {
        let ledger = Arc::<Ledger>::default();
        let (client, server) = (Party::new("client"), Party::new("server"));
        let tunnel = Party::new("tunnel");
        for party in [&client, &server, &tunnel] {
            party.is_back();
        }
        let name = "tenant".to_owned();
        let identity = Identity { tenant: 1, name: name.clone(), client: Arc::clone(&client) };
        let origin = Origin::start(speaks, identity, Arc::clone(&ledger)).await.unwrap();
        let addr = origin.addr();
        let host = match speaks {
            Speaks::Bytes => String::new(),
            Speaks::Http => addr.to_string(),
        };
        let address = Address { tenant: 1, name, addr, host, server, tunnel };
        let visits = Visits::new(Arc::clone(&ledger));
        Self { ledger, visits, origin, address, client }
    }

    async fn harm(&mut self, up: Harm, down: Harm) {
        self.address.addr = relay(self.origin.addr(), up, down).await;
    }

    /// Some visits of that kind, until one of them met something.
    async fn visit(&self, kind: Kind) {
        let mut dice = Dice::of(4);
        for _ in 0..50 {
            let went_well = self.visits.visit(kind, &self.address, &mut dice).await;
            if !went_well || self.ledger.forbidden() > 0 {
                break;
            }
        }
    }

    fn found(&self, words: &str) -> bool {
        self.ledger.forbidden_texts().keys().any(|text| text.contains(words))
    }
}

const TCP: [Kind; 3] = [Kind::Echo, Kind::Exchange, Kind::Long];
const HTTP: [Kind; 4] = [Kind::OneRequest, Kind::KeepAlive, Kind::Http2, Kind::WebSocket];

#[tokio::test]
async fn where_nothing_is_wrong_nothing_is_found() {
    for (speaks, kinds) in [(Speaks::Bytes, &TCP[..]), (Speaks::Http, &HTTP[..])] {
        let mut scene = Scene::set(speaks).await;
        scene.harm(Harm::None, Harm::None).await;
        for kind in kinds.iter().chain([&Kind::Rude]) {
            let mut dice = Dice::of(1);
            for _ in 0..5 {
                let went_well = scene.visits.visit(*kind, &scene.address, &mut dice).await;
                assert!(went_well, "{kind:?}: {:?}", scene.ledger.forbidden_texts());
            }
        }
        assert_eq!((scene.ledger.forbidden(), scene.ledger.allowed()), (0, 0));
    }
}

#[tokio::test]
async fn one_byte_that_is_lost_doubled_or_changed_is_found_in_either_direction() {
    for harm in [Harm::Loses(500), Harm::Doubles(500), Harm::Changes(500)] {
        for (up, down) in [(harm, Harm::None), (Harm::None, harm)] {
            for kind in TCP {
                let mut scene = Scene::set(Speaks::Bytes).await;
                scene.harm(up, down).await;
                let visiting = tokio::time::timeout(Duration::from_secs(2), scene.visit(kind));
                // After a byte was lost both may wait for it; who got the wrong one has said so.
                let _ = visiting.await;
                assert!(scene.found("WRONG"), "{kind:?} {up:?} {down:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_changed_byte_in_a_body_or_message_is_found() {
    // Behind the heads.
    let harm = Harm::Changes(2_000);
    for kind in [Kind::OneRequest, Kind::WebSocket] {
        let mut scene = Scene::set(Speaks::Http).await;
        scene.harm(Harm::None, harm).await;
        scene.visit(kind).await;
        assert!(scene.ledger.forbidden() > 0, "{kind:?}");
    }
}

#[tokio::test]
async fn the_service_of_another_tenant_is_found_at_both_ends() {
    for (speaks, kinds) in [(Speaks::Bytes, &TCP[..]), (Speaks::Http, &HTTP[..])] {
        for kind in kinds {
            let mut scene = Scene::set(speaks).await;
            scene.address.tenant = 2;
            scene.visit(*kind).await;
            assert!(scene.ledger.forbidden() > 0, "{kind:?}");
            let words = if speaks == Speaks::Bytes || *kind != Kind::WebSocket {
                "a visitor of tenant 2"
            } else {
                "somebody else"
            };
            assert!(scene.found(words), "{kind:?}: {:?}", scene.ledger.forbidden_texts());
        }
    }
}

#[tokio::test]
async fn an_orderly_end_before_its_time_is_found_whoever_it_deceives() {
    // The visitor; a client that was away is no excuse, a server is.
    let mut scene = Scene::set(Speaks::Bytes).await;
    scene.harm(Harm::None, Harm::Cuts(300)).await;
    scene.address.tunnel.leaves();
    scene.visit(Kind::Long).await;
    assert!(scene.found("an orderly end"), "{:?}", scene.ledger.forbidden_texts());

    // The local service; here a client that was killed is the excuse.
    for client_leaves in [false, true] {
        let mut scene = Scene::set(Speaks::Bytes).await;
        scene.harm(Harm::Cuts(300), Harm::None).await;
        if client_leaves {
            scene.client.leaves();
        }
        scene.address.server.leaves();
        scene.visit(Kind::Long).await;
        while scene.origin.open() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(scene.found("local service of tenant: an orderly end"), !client_leaves);
    }
}

#[tokio::test]
async fn an_error_is_allowed_while_a_party_is_away_and_only_then() {
    let mut scene = Scene::set(Speaks::Bytes).await;
    scene.address.addr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    scene.address.tunnel.leaves();
    scene.visit(Kind::Echo).await;
    assert_eq!((scene.ledger.allowed(), scene.ledger.forbidden()), (1, 0));
    scene.address.tunnel.is_back();
    scene.visit(Kind::Echo).await;
    assert_eq!((scene.ledger.allowed(), scene.ledger.forbidden()), (1, 1));
}
