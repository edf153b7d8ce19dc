//! Who keeps what when names are claimed again.

mod kinds;
mod late;
mod places;
mod routes;
mod waits;

use std::net::Ipv4Addr;
use std::time::Instant;

use ferrotunnel_common::{ClientId, SessionId};
use ferrotunnel_protocol::{Config, ReceiveBudget, Session as Machine, State};

use super::*;
use crate::auth::{Credential, issue_token};
use crate::clock;
use crate::principals::{Principal, PrincipalConfig};
use crate::session::Session;
use crate::shared::Shared;
use crate::throttle::Rates;

fn registry() -> Registry {
    registry_that_waits(Duration::ZERO)
}

const SILENCE: Duration = Duration::from_secs(15);

fn registry_that_waits(grace: Duration) -> Registry {
    let config = RegistryConfig {
        domain: "localhost".to_owned(),
        reserved_names: vec!["www".to_owned()],
        http_port: Some(80),
        https_port: None,
        only_tunnel_answers: false,
        budget: ReceiveBudget::new(1 << 20),
        tcp_ip: Ipv4Addr::LOCALHOST.into(),
        max_tunnels_per_session: 10,
        max_visitors_per_tunnel: None,
        max_visitors_per_address: None,
        grace,
        silence: SILENCE,
        access: AccessConfig::default(),
        hooks: None,
    };
    Registry::new(config, Tasks::default(), Tasks::default())
}

struct Guest {
    owner: Arc<Owner>,
    shared: Arc<Shared>,
}

impl Guest {
    fn new(id: u64) -> Self {
        Self::of(id, ClientId([0; 16]))
    }

    fn of(id: u64, client_id: ClientId) -> Self {
        Self::with(id, client_id, Arc::new(Principal::shared()))
    }

    fn with(id: u64, client_id: ClientId, principal: Arc<Principal>) -> Self {
        let (_, verifier) = issue_token().unwrap();
        let credential = Arc::new(Credential { verifier, principal });
        let machine = Machine::server(Config::default(), [0; 32], Instant::now());
        let shared = Arc::new(Shared::new(machine));
        let session = Session::new(Arc::clone(&shared));
        let limits = OwnerLimits { max_streams: 100, rates: Rates::default() };
        let owner = Owner::new(
            session,
            SessionId(id),
            client_id,
            Seniority(id),
            credential,
            limits,
            Arc::default(),
        );
        Self { owner, shared }
    }

    fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.owner.tunnels.lock().keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    fn is_closed(&self) -> bool {
        self.shared.lock(|inner| inner.machine.state() == State::Closed)
    }
}

fn http(name: &str, hosts: &[&str]) -> Register {
    Register {
        kind: TunnelKind::Http,
        name: name.to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        port: 0,
        options: Vec::new(),
    }
}

fn with(mut wanted: Register, options: &[(&str, &str)]) -> Register {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    wanted.options.extend(options.iter().map(pair));
    wanted
}

fn part(name: &str, hosts: &[&str], path: &str) -> Register {
    with(http(name, hosts), &[(options::PATH, path)])
}

fn tcp(port: u16) -> Register {
    Register { kind: TunnelKind::Tcp, port, ..http("", &[]) }
}

fn preferred(mut wanted: Register) -> Register {
    options::prefer(&mut wanted);
    wanted
}

fn register(registry: &Registry, guest: &Guest, number: u32, wanted: Register) -> String {
    registry.try_register(&guest.owner, number, wanted, clock::now()).unwrap().unwrap()
}

fn found(registry: &Registry, host: &str) -> Option<Arc<Tunnel>> {
    registry.http(host, "/").ok()
}

fn number_at(registry: &Registry, host: &str) -> Option<(SessionId, u32)> {
    let first = found(registry, host)?.members().into_iter().next()?;
    Some((first.owner.session_id, first.number))
}

#[test]
fn a_claimed_host_is_all_that_is_taken() {
    let (registry, old, new) = (registry(), Guest::new(1), Guest::new(2));
    register(&registry, &old, 0, http("app", &["a.example", "b.example"]));
    register(&registry, &new, 0, http("other", &["a.example"]));
    assert_eq!(number_at(&registry, "a.example"), Some((SessionId(2), 0)));
    assert_eq!(number_at(&registry, "b.example"), Some((SessionId(1), 0)));
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(1), 0)));
    assert!(!old.is_closed() && old.numbers() == [0]);
    register(&registry, &new, 1, http("app", &["b.example"]));
    assert!(old.numbers().is_empty());
    // What the old session gives up is no longer its own.
    old.owner.leave();
    assert_eq!(number_at(&registry, "b.example"), Some((SessionId(2), 1)));
    new.owner.unregister(1);
    assert_eq!(number_at(&registry, "b.example"), None);
}

#[test]
fn a_preferred_name_is_taken_over_within_one_client_only() {
    let (registry, old, new) = (registry(), Guest::new(1), Guest::new(2));
    let stranger = Guest::of(3, ClientId([3; 16]));
    register(&registry, &old, 0, http("app", &[]));
    register(&registry, &new, 0, preferred(http("app", &[])));
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(2), 0)));
    let address = register(&registry, &stranger, 0, preferred(http("app", &[])));
    assert_ne!(address, "http://app.localhost/");
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(2), 0)));
    assert!(old.numbers().is_empty() && !new.is_closed() && stranger.numbers() == [0]);
    // Who asks for it by name gets it, and one that is free is had all the same.
    register(&registry, &stranger, 1, http("app", &[]));
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(3), 1)));
    register(&registry, &stranger, 2, preferred(http("free", &[])));
    assert_eq!(number_at(&registry, "free.localhost"), Some((SessionId(3), 2)));
}

#[tokio::test]
async fn a_preferred_port_is_taken_over_within_one_client_only() {
    let (registry, old, new) = (registry(), Guest::new(1), Guest::new(2));
    let stranger = Guest::of(3, ClientId([3; 16]));
    let address = register(&registry, &old, 0, tcp(0));
    let port = address.trim_start_matches(':').parse().unwrap();
    assert_eq!(register(&registry, &new, 0, preferred(tcp(port))), address);
    assert_ne!(register(&registry, &stranger, 0, preferred(tcp(port))), address);
    assert!(old.numbers().is_empty() && new.numbers() == [0]);
    assert_eq!(register(&registry, &stranger, 1, tcp(port)), address);
    assert!(new.is_closed());
}

#[tokio::test]
async fn a_preferred_port_of_another_process_is_given_up() {
    let (registry, guest) = (registry(), Guest::new(1));
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_ne!(register(&registry, &guest, 0, preferred(tcp(port))), format!(":{port}"));
    let refused = registry.try_register(&guest.owner, 1, tcp(port), clock::now()).unwrap_err();
    assert_eq!(refused.0, RefusalCode::PortUnavailable);
}

#[test]
fn a_client_may_take_over_from_itself() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, http("app", &[]));
    register(&registry, &guest, 1, http("app", &[]));
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(1), 1)));
    assert!(!guest.is_closed() && guest.numbers() == [1]);
}

#[tokio::test]
async fn a_client_may_take_over_its_own_port() {
    let (registry, guest) = (registry(), Guest::new(1));
    let address = register(&registry, &guest, 0, tcp(0));
    let port = address.trim_start_matches(':').parse().unwrap();
    assert_eq!(register(&registry, &guest, 1, tcp(port)), address);
    assert!(!guest.is_closed() && guest.numbers() == [1]);
}

#[test]
fn a_reconnect_supersedes_each_tunnel_once() {
    let (registry, old, new) = (registry(), Guest::new(1), Guest::new(2));
    register(&registry, &old, 0, http("app", &["a.example", "b.example"]));
    register(&registry, &old, 1, http("second", &[]));
    register(&registry, &new, 0, http("app", &["a.example", "b.example"]));
    assert!(!old.is_closed() && old.numbers() == [1]);
    register(&registry, &new, 1, http("second", &[]));
    assert!(old.numbers().is_empty() && !new.is_closed());
}

#[test]
fn a_tunnel_that_was_given_up_meanwhile_is_not_lost() {
    let (registry, old) = (registry(), Guest::new(1));
    register(&registry, &old, 0, http("app", &[]));
    let tunnel = found(&registry, "app.localhost").unwrap();
    old.owner.unregister(0);
    register(&registry, &old, 0, http("again", &[]));
    assert!(!old.owner.lose(tunnel.uid(), 0));
    assert_eq!(old.numbers(), [0]);
}

#[test]
fn nothing_is_registered_once_it_is_closed() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, http("app", &[]));
    registry.close();
    // A refusal would be for good.
    assert!(registry.register(&guest.owner, 1, http("late", &[]), clock::now()).is_none());
    assert!(found(&registry, "app.localhost").is_none() && guest.numbers() == [0]);
}

/// Asked for over a further carrier of a client that has it.
fn over(carrier: u8, mut wanted: Register) -> Register {
    CarrierNumber(carrier).mark(&mut wanted);
    options::join(&mut wanted);
    wanted
}

fn refusal(registry: &Registry, guest: &Guest, number: u32, wanted: Register) -> RefusalCode {
    registry.try_register(&guest.owner, number, wanted, clock::now()).unwrap_err().0
}

fn carriers_at(registry: &Registry, host: &str) -> Vec<(u8, SessionId, u32)> {
    let tunnel = found(registry, host);
    let members = tunnel.map(|tunnel| tunnel.members()).unwrap_or_default();
    members.iter().map(|one| (one.carrier.0, one.owner.session_id, one.number)).collect()
}

#[test]
fn carriers_of_one_client_share_a_tunnel() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    let address = register(&registry, &first, 7, http("app", &["a.example"]));
    assert_eq!(register(&registry, &second, 7, over(1, http("app", &["a.example"]))), address);
    let both = [(0, SessionId(1), 7), (1, SessionId(2), 7)];
    assert_eq!(carriers_at(&registry, "app.localhost"), both);
    assert_eq!(carriers_at(&registry, "a.example"), both);
    assert!(!first.is_closed() && !second.is_closed());
    first.owner.leave();
    assert_eq!(carriers_at(&registry, "app.localhost"), [(1, SessionId(2), 7)]);
    second.owner.unregister(7);
    assert!(found(&registry, "app.localhost").is_none() && found(&registry, "a.example").is_none());
}

#[tokio::test]
async fn carriers_of_one_client_share_a_port() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    let address = register(&registry, &first, 1, tcp(0));
    let port = address.trim_start_matches(':').parse().unwrap();
    assert_eq!(register(&registry, &second, 1, over(1, preferred(tcp(port)))), address);
    assert!(!first.is_closed());
    first.owner.leave();
    let stranger = Guest::of(3, ClientId([3; 16]));
    assert_ne!(register(&registry, &stranger, 1, preferred(tcp(port))), address);
    second.owner.leave();
    assert_eq!(register(&registry, &stranger, 2, preferred(tcp(port))), address);
}

#[test]
fn a_carrier_that_comes_back_takes_its_own_place_only() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    register(&registry, &first, 0, http("app", &[]));
    register(&registry, &second, 0, over(1, http("app", &[])));
    let uid = found(&registry, "app.localhost").unwrap().uid();
    let back = Guest::new(3);
    register(&registry, &back, 0, over(1, http("app", &[])));
    assert_eq!(
        carriers_at(&registry, "app.localhost"),
        [(0, SessionId(1), 0), (1, SessionId(3), 0)]
    );
    assert_eq!(found(&registry, "app.localhost").unwrap().uid(), uid);
    assert!(second.numbers().is_empty());
    assert!(!first.is_closed() && !back.is_closed());
    // What the old session gives up is no longer its own.
    second.owner.leave();
    assert_eq!(carriers_at(&registry, "app.localhost").len(), 2);
}

/// Somebody thought about the first for so long that its client has left it meanwhile.
#[tokio::test]
async fn what_was_asked_for_first_takes_nothing_from_what_the_same_client_asked_for_since() {
    let (registry, old, new) = (registry(), Guest::new(1), Guest::new(2));
    let first = clock::now();
    let then = first + Duration::from_millis(1);
    let ask = |guest: &Guest, wanted: &Register, asked| {
        registry.try_register(&guest.owner, 0, wanted.clone(), asked).map_err(|denied| denied.0)
    };
    let grouped = |mut wanted: Register| {
        wanted.options.push((options::GROUP.to_owned(), "g".to_owned()));
        wanted
    };
    let port = tcp_port_of(&registry);
    let wanted = [
        http("app", &[]),
        preferred(http("app", &[])),
        grouped(http("grouped", &[])),
        over(1, http("joined", &[])),
        tcp(port),
        grouped(tcp(port)),
    ];
    for wanted in wanted {
        ask(&new, &wanted, then).unwrap();
        assert_eq!(ask(&old, &wanted, first), Err(RefusalCode::Moved), "{wanted:?}");
        assert!(old.numbers().is_empty() && new.numbers() == [0]);
        // A client that means it asks once more.
        ask(&old, &wanted, then).unwrap();
        assert!(new.numbers().is_empty() && old.numbers() == [0]);
        old.owner.unregister(0);
    }
    // Another carrier has a place of its own, and another client is another matter.
    ask(&new, &http("app", &[]), then).unwrap();
    ask(&old, &over(1, http("app", &[])), first).unwrap();
    assert_eq!(carriers_at(&registry, "app.localhost").len(), 2);
    let other = Guest::of(3, ClientId([3; 16]));
    ask(&other, &http("app", &[]), first).unwrap();
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(3), 0)));
}

/// One that nobody has.
fn tcp_port_of(registry: &Registry) -> u16 {
    let guest = Guest::new(9);
    let address = register(registry, &guest, 0, tcp(0));
    guest.owner.unregister(0);
    address.trim_start_matches(':').parse().unwrap()
}

#[test]
fn a_takeover_takes_all_carriers() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    register(&registry, &first, 0, http("app", &[]));
    register(&registry, &second, 0, over(1, http("app", &[])));
    let newer = Guest::of(3, ClientId([3; 16]));
    register(&registry, &newer, 0, http("app", &[]));
    assert_eq!(carriers_at(&registry, "app.localhost"), [(0, SessionId(3), 0)]);
    assert!(first.is_closed() && second.is_closed() && !newer.is_closed());
}

#[tokio::test]
async fn who_joins_in_takes_nothing_back_from_a_newer_client() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    let newer = Guest::of(3, ClientId([3; 16]));
    register(&registry, &first, 0, http("app", &["a.example", "b.example"]));
    let address = register(&registry, &first, 1, tcp(0));
    let port = address.trim_start_matches(':').parse().unwrap();
    // These two were under way when the newer client came.
    let late = over(1, http("app", &["a.example", "b.example"]));
    let late_port = over(1, preferred(tcp(port)));
    register(&registry, &newer, 0, http("app", &["a.example", "b.example"]));
    register(&registry, &newer, 1, tcp(port));
    assert_eq!(refusal(&registry, &second, 0, late), RefusalCode::Superseded);
    assert_eq!(refusal(&registry, &second, 1, late_port), RefusalCode::Superseded);
    assert_eq!(carriers_at(&registry, "app.localhost"), [(0, SessionId(3), 0)]);
    assert!(first.is_closed() && !newer.is_closed() && newer.numbers() == [0, 1]);
}

#[test]
fn carriers_join_what_is_left_of_a_tunnel() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    let newer = Guest::of(3, ClientId([3; 16]));
    register(&registry, &first, 0, http("app", &["a.example"]));
    register(&registry, &newer, 0, http("other", &["a.example"]));
    register(&registry, &second, 0, over(1, http("app", &["a.example"])));
    assert_eq!(carriers_at(&registry, "a.example"), [(0, SessionId(3), 0)]);
    let both = [(0, SessionId(1), 0), (1, SessionId(2), 0)];
    assert_eq!(carriers_at(&registry, "app.localhost"), both);
}

#[test]
fn a_client_that_lost_all_carriers_takes_over_from_all_that_are_left_of_them() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    register(&registry, &first, 0, http("app", &[]));
    register(&registry, &second, 0, over(1, http("app", &[])));
    let back = Guest::new(3);
    register(&registry, &back, 0, http("app", &[]));
    assert_eq!(carriers_at(&registry, "app.localhost"), [(0, SessionId(3), 0)]);
    assert!(first.numbers().is_empty() && second.numbers().is_empty());
}

#[test]
fn a_carrier_with_another_wish_does_not_join_in() {
    let (registry, first, second) = (registry(), Guest::new(1), Guest::new(2));
    register(&registry, &first, 0, http("app", &[]));
    let mut other_option = over(1, http("app", &[]));
    other_option.options.push(("h2c".to_owned(), "true".to_owned()));
    assert_eq!(refusal(&registry, &second, 0, other_option), RefusalCode::Superseded);
    let other_number = over(1, http("app", &[]));
    assert_eq!(refusal(&registry, &second, 1, other_number), RefusalCode::Superseded);
    let mut no_number = http("app", &[]);
    no_number.options.push(("carrier".to_owned(), "many".to_owned()));
    assert_eq!(refusal(&registry, &second, 0, no_number), RefusalCode::NotAllowed);
    assert_eq!(carriers_at(&registry, "app.localhost"), [(0, SessionId(1), 0)]);
    assert!(!first.is_closed() && second.numbers().is_empty());
}

/// A principal, and how to say something else of it later.
struct Named {
    roster: crate::principals::Roster,
    config: PrincipalConfig,
    principal: Arc<Principal>,
}

impl Named {
    fn new(change: impl FnOnce(&mut PrincipalConfig)) -> Self {
        let mut roster = crate::principals::Roster::new(None).unwrap();
        let mut config = PrincipalConfig::new("web").verifier(issue_token().unwrap().1);
        change(&mut config);
        let known = roster.replace(std::slice::from_ref(&config)).unwrap().known;
        let credential = known.into_values().next().unwrap();
        Self { roster, config, principal: Arc::clone(&credential.principal) }
    }

    fn guest(&self, id: u64) -> Guest {
        Guest::with(id, ClientId([id as u8; 16]), Arc::clone(&self.principal))
    }

    fn change(&mut self, registry: &Registry, change: impl FnOnce(&mut PrincipalConfig)) {
        change(&mut self.config);
        let changed = self.roster.replace(std::slice::from_ref(&self.config)).unwrap();
        registry.apply(changed.policies, &changed.gone);
    }
}

fn refused(registry: &Registry, guest: &Guest, number: u32, wanted: Register) -> Denied {
    registry.try_register(&guest.owner, number, wanted, clock::now()).unwrap_err()
}

#[test]
fn a_name_that_nobody_asked_for_is_one_that_is_allowed() {
    let registry = registry();
    let web = Named::new(|web| web.hosts = Some(vec!["one".into(), "two.localhost".into()]));
    let (guest, other) = (web.guest(1), web.guest(2));
    assert_eq!(register(&registry, &guest, 0, http("", &[])), "http://one.localhost/");
    assert_eq!(register(&registry, &other, 0, http("", &[])), "http://two.localhost/");
    let (code, reason) = refused(&registry, &other, 1, http("", &[]));
    assert_eq!(code, RefusalCode::NameTaken);
    assert_eq!(reason, "no name of principal \"web\" is free; allowed: one, two.localhost");
    // A wish that is not allowed is no more than a wish.
    guest.owner.leave();
    let picked = register(&registry, &other, 1, preferred(http("three", &[])));
    assert_eq!(picked, "http://one.localhost/");
    let (code, reason) = refused(&registry, &other, 2, http("three", &[]));
    assert!(code == RefusalCode::NotAllowed && reason.contains("three.localhost"), "{reason}");
    let (code, reason) = refused(&registry, &other, 2, http("one", &["shop.example"]));
    assert!(code == RefusalCode::NotAllowed && reason.contains("shop.example"), "{reason}");
}

#[tokio::test]
async fn a_port_that_nobody_asked_for_is_one_that_is_allowed() {
    let registry = registry();
    let (first, second) = {
        // Free a moment ago, and nobody else is given them by the system this soon.
        let free = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (first, second) = (free(), free());
        (first.local_addr().unwrap().port(), second.local_addr().unwrap().port())
    };
    let web = Named::new(|web| web.ports = Some(vec![first..=first, second..=second]));
    let guest = web.guest(1);
    let mut got = [register(&registry, &guest, 0, tcp(0)), register(&registry, &guest, 1, tcp(0))];
    got.sort();
    let mut allowed = [format!(":{first}"), format!(":{second}")];
    allowed.sort();
    assert_eq!(got, allowed);
    let (code, reason) = refused(&registry, &guest, 2, tcp(0));
    assert_eq!(code, RefusalCode::PortUnavailable);
    assert!(reason.contains("no port of principal \"web\" is free"), "{reason}");
    let other = if first == 1024 { 1025 } else { 1024 };
    let (code, reason) = refused(&registry, &guest, 2, tcp(other));
    assert!(code == RefusalCode::NotAllowed && reason.contains(&other.to_string()), "{reason}");
    guest.owner.unregister(0);
    let again = register(&registry, &guest, 2, preferred(tcp(other)));
    assert!(allowed.contains(&again), "{again}");
}

#[test]
fn tunnels_are_counted_over_all_sessions_of_a_principal() {
    let registry = registry();
    let web = Named::new(|web| web.max_tunnels = Some(2));
    let (first, second) = (web.guest(1), web.guest(2));
    register(&registry, &first, 0, http("one", &[]));
    register(&registry, &second, 0, http("two", &["x.localhost"]));
    let (code, reason) = refused(&registry, &second, 1, http("three", &[]));
    assert_eq!(code, RefusalCode::LimitExceeded);
    assert!(reason.contains("\"web\"") && reason.contains("max_tunnels"), "{reason}");
    // One that takes the place of another is no more than that one was.
    register(&registry, &second, 1, http("one", &[]));
    assert!(first.is_closed());
    // Half of one is not.
    let (code, _) = refused(&registry, &second, 2, http("three", &["x.localhost"]));
    assert_eq!(code, RefusalCode::LimitExceeded);
    second.owner.unregister(0);
    register(&registry, &second, 2, http("three", &["x.localhost"]));
    second.owner.leave();
    let back = web.guest(3);
    register(&registry, &back, 0, http("one", &[]));
    register(&registry, &back, 1, http("two", &[]));
    // Others are not concerned.
    register(&registry, &Guest::new(9), 0, http("three", &[]));
}

#[tokio::test]
async fn who_comes_back_to_a_tunnel_has_a_place_for_it() {
    let registry = registry_that_waits(Duration::from_secs(60));
    let web = Named::new(|web| web.max_tunnels = Some(1));
    let client = web.guest(1);
    register(&registry, &client, 0, http("one", &[]));
    client.owner.leave();
    // While it is away it counts for nothing.
    let second = Guest::with(2, client.owner.client_id, Arc::clone(&web.principal));
    register(&registry, &second, 1, http("two", &[]));
    let (code, _) = refused(&registry, &second, 0, over(0, http("one", &[])));
    assert_eq!(code, RefusalCode::LimitExceeded);
    second.owner.unregister(1);
    register(&registry, &second, 0, over(0, http("one", &[])));
}

#[test]
fn a_tunnel_over_several_carriers_is_one() {
    let registry = registry();
    let web = Named::new(|web| web.max_tunnels = Some(1));
    let first = web.guest(1);
    let second = Guest::with(2, first.owner.client_id, Arc::clone(&web.principal));
    register(&registry, &first, 0, http("one", &[]));
    register(&registry, &second, 0, over(1, http("one", &[])));
    assert_eq!(carriers_at(&registry, "one.localhost").len(), 2);
    first.owner.leave();
    assert_eq!(refused(&registry, &second, 1, http("two", &[])).0, RefusalCode::LimitExceeded);
    second.owner.leave();
    register(&registry, &first, 1, http("two", &[]));
}

#[test]
fn what_is_allowed_no_longer_is_taken_away_and_nothing_else() {
    let registry = registry();
    let mut web = Named::new(|_| {});
    let (guest, stranger) = (web.guest(1), Guest::new(9));
    register(&registry, &guest, 0, http("one", &[]));
    register(&registry, &guest, 1, http("two", &["x.localhost"]));
    register(&registry, &stranger, 0, http("three", &[]));
    web.change(&registry, |web| {
        web.hosts = Some(vec!["one".into(), "two".into()]);
        web.max_tunnels = Some(1);
    });
    assert!(
        found(&registry, "one.localhost").is_some()
            && found(&registry, "three.localhost").is_some()
    );
    assert!(
        found(&registry, "two.localhost").is_none() && found(&registry, "x.localhost").is_none()
    );
    assert!(guest.numbers() == [0] && !guest.is_closed());
    // It is not counted any more either.
    assert_eq!(refused(&registry, &guest, 1, http("two", &[])).0, RefusalCode::LimitExceeded);
    web.change(&registry, |web| web.max_tunnels = Some(2));
    register(&registry, &guest, 1, http("two", &[]));
    web.change(&registry, |web| web.kinds = Some(vec![TunnelKind::Tcp]));
    assert!(guest.numbers().is_empty() && found(&registry, "one.localhost").is_none());
    let (code, reason) = refused(&registry, &guest, 2, http("one", &[]));
    assert_eq!(code, RefusalCode::NotAllowed);
    assert_eq!(reason, "kind http is not among those of principal \"web\"; allowed: tcp");
    assert_eq!(stranger.numbers(), [0]);
}

#[test]
fn a_session_that_was_revoked_registers_nothing_more() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, http("app", &[]));
    registry.revoke(&guest.owner);
    assert!(guest.is_closed() && guest.numbers().is_empty());
    assert!(found(&registry, "app.localhost").is_none());
    assert_eq!(refused(&registry, &guest, 1, http("app", &[])).0, RefusalCode::NotAllowed);
}

fn grouped(group: &str, mut wanted: Register) -> Register {
    wanted.options.push(("group".to_owned(), group.to_owned()));
    wanted
}

#[test]
fn clients_of_a_group_share_a_name() {
    let registry = registry();
    let (one, two) = (Guest::new(1), Guest::of(2, ClientId([2; 16])));
    let address = register(&registry, &one, 4, grouped("web", http("app", &["a.example"])));
    let wanted = || grouped("web", http("app", &["a.example"]));
    assert_eq!(register(&registry, &two, 9, wanted()), address);
    let tunnel = found(&registry, "a.example").unwrap();
    assert!(tunnel.is_shared());
    assert_eq!(
        carriers_at(&registry, "app.localhost"),
        [(0, SessionId(1), 4), (0, SessionId(2), 9)]
    );
    // A further carrier of one of them, and one that came back without having anything.
    let (second, back) = (Guest::of(3, ClientId([2; 16])), Guest::of(4, ClientId([2; 16])));
    register(&registry, &second, 9, over(1, wanted()));
    assert_eq!(carriers_at(&registry, "app.localhost").len(), 3);
    register(&registry, &back, 9, wanted());
    assert_eq!(
        carriers_at(&registry, "app.localhost"),
        [(0, SessionId(1), 4), (0, SessionId(4), 9)]
    );
    assert!(two.numbers().is_empty() && second.numbers().is_empty() && !one.is_closed());
    one.owner.leave();
    assert_eq!(carriers_at(&registry, "a.example"), [(0, SessionId(4), 9)]);
    assert_eq!(found(&registry, "a.example").unwrap().uid(), tunnel.uid());
    back.owner.unregister(9);
    assert!(found(&registry, "a.example").is_none());
}

#[tokio::test]
async fn clients_of_a_group_share_a_port() {
    let registry = registry();
    let (one, two) = (Guest::new(1), Guest::of(2, ClientId([2; 16])));
    let address = register(&registry, &one, 1, grouped("db", tcp(0)));
    let port = address.trim_start_matches(':').parse().unwrap();
    assert_eq!(register(&registry, &two, 1, grouped("db", tcp(port))), address);
    assert!(!one.is_closed());
    // Who is in no group, or in another one, takes it over as ever.
    let stranger = Guest::of(3, ClientId([3; 16]));
    assert_eq!(register(&registry, &stranger, 1, grouped("other", tcp(port))), address);
    assert!(one.is_closed() && two.is_closed());
}

#[test]
fn members_of_a_group_agree_on_what_it_is() {
    let registry = registry();
    let (one, two) = (Guest::new(1), Guest::of(2, ClientId([2; 16])));
    register(&registry, &one, 1, grouped("web", http("app", &[])));
    let more_hosts = grouped("web", http("app", &["a.example"]));
    assert_eq!(refusal(&registry, &two, 1, more_hosts), RefusalCode::NameTaken);
    let mut other_settings = grouped("web", http("app", &[]));
    other_settings.options.push(("h2c".to_owned(), "true".to_owned()));
    assert_eq!(refusal(&registry, &two, 1, other_settings), RefusalCode::NameTaken);
    assert_eq!(carriers_at(&registry, "app.localhost"), [(0, SessionId(1), 1)]);
}

#[test]
fn a_preferred_name_of_a_stranger_s_group_is_not_waited_for() {
    let registry = registry();
    let (web, stranger) = (Named::new(|_| {}).guest(1), Guest::of(2, ClientId([2; 16])));
    register(&registry, &web, 0, grouped("web", http("app", &[])));
    let wanted = preferred(grouped("web", http("app", &[])));
    let address = register(&registry, &stranger, 0, wanted);
    assert_ne!(address, "http://app.localhost/");
}

#[tokio::test]
async fn the_last_of_a_group_comes_back_with_other_settings() {
    let registry = registry_that_waits(Duration::from_secs(60));
    let (one, again) = (Guest::new(1), Guest::of(2, ClientId([2; 16])));
    let address = register(&registry, &one, 0, grouped("db", tcp(0)));
    let port = address.trim_start_matches(':').parse().unwrap();
    register(&registry, &one, 1, grouped("web", http("app", &[])));
    one.owner.leave();
    register(&registry, &again, 0, grouped("web", http("app", &["a.example"])));
    assert_eq!(carriers_at(&registry, "a.example"), [(0, SessionId(2), 0)]);
    let mut other_settings = grouped("db", tcp(port));
    other_settings.options.push(("streams".to_owned(), "multiplexed".to_owned()));
    assert_eq!(register(&registry, &again, 1, other_settings), address);
}

#[tokio::test]
async fn a_principal_keeps_no_more_places_for_clients_that_are_away_than_it_may_have_tunnels() {
    let registry = registry_that_waits(Duration::from_secs(60));
    let web = Named::new(|web| web.max_tunnels = Some(2));
    for round in 0..5 {
        let guest = web.guest(round);
        register(&registry, &guest, 0, http(&format!("one{round}"), &[]));
        register(&registry, &guest, 1, http(&format!("two{round}"), &[]));
        guest.owner.leave();
    }
    assert_eq!(registry.tunnels(), 2);
    // Who comes back makes room for others.
    let back = web.guest(9);
    register(&registry, &back, 0, http("one0", &[]));
    register(&registry, &back, 1, http("two0", &[]));
    back.owner.leave();
    assert_eq!(registry.tunnels(), 2);
    assert!(found(&registry, "one0.localhost").is_some_and(|tunnel| tunnel.is_away()));
}
