//! Registers that were under way while a newer client came. Sessions arrive in the order of their ids.

use super::*;

fn client(id: u8) -> ClientId {
    ClientId([id; 16])
}

fn ask(registry: &Registry, guest: &Guest, wanted: &Register) -> Result<(), RefusalCode> {
    ask_at(clock::now(), registry, guest, wanted)
}

fn ask_at(
    now: Instant,
    registry: &Registry,
    guest: &Guest,
    wanted: &Register,
) -> Result<(), RefusalCode> {
    let asked = registry.try_register(&guest.owner, 0, wanted.clone(), now);
    asked.map(drop).map_err(|denied| denied.0)
}

/// Its client is perhaps gone, and then nobody would have the place.
#[tokio::test]
async fn what_an_older_client_asks_for_late_is_not_taken_from_a_newer_one() {
    let registry = registry();
    let old = Guest::of(1, client(1));
    let port = tcp_port_of(&registry);
    let cases = [
        [http("app", &[]), http("app", &[])],
        [http("one", &["a.example", "b.example"]), http("other", &["c.example", "b.example"])],
        [part("app", &[], "/api"), part("app", &[], "/api")],
        [grouped("web", http("app", &[])), http("app", &[])],
        [grouped("web", http("app", &[])), grouped("other", http("app", &[]))],
        [tcp(port), tcp(port)],
        [grouped("db", tcp(port)), tcp(port)],
    ];
    for [held, late] in cases {
        let new = Guest::of(2, client(2));
        ask(&registry, &new, &held).unwrap();
        assert_eq!(ask(&registry, &old, &late), Err(RefusalCode::Superseded), "{late:?}");
        assert!(!new.is_closed() && new.numbers() == [0] && old.numbers().is_empty(), "{late:?}");
        assert_eq!(registry.tunnels(), 1);
        // A newer one still has it at once, and what is left is anybody's.
        let newest = Guest::of(3, client(3));
        ask(&registry, &newest, &late).unwrap();
        assert_eq!(newest.numbers(), [0]);
        new.owner.unregister(0);
        newest.owner.unregister(0);
        ask(&registry, &old, &late).unwrap();
        old.owner.unregister(0);
    }
}

/// A client that lives on and gets one more tunnel, or others than before.
#[tokio::test]
async fn who_asks_later_than_anything_can_be_under_way_takes_over_from_a_newer_client() {
    let registry = registry();
    let now = clock::now();
    let port = tcp_port_of(&registry);
    for wanted in [http("app", &[]), tcp(port)] {
        let (old, new) = (Guest::of(1, client(1)), Guest::of(2, client(2)));
        ask_at(now, &registry, &new, &wanted).unwrap();
        let just_before = now + SILENCE - Duration::from_millis(1);
        assert_eq!(ask_at(just_before, &registry, &old, &wanted), Err(RefusalCode::Superseded));
        ask_at(now + SILENCE, &registry, &old, &wanted).unwrap();
        assert!(new.is_closed() && old.numbers() == [0]);
        old.owner.unregister(0);
    }
}

/// It was the last that had come to it.
#[tokio::test]
async fn a_port_that_is_only_preferred_is_not_taken_from_the_others_of_a_group() {
    let registry = registry();
    let port = tcp_port_of(&registry);
    let (one, other) = (Guest::of(1, client(1)), Guest::of(2, client(2)));
    ask(&registry, &one, &grouped("db", tcp(port))).unwrap();
    ask(&registry, &other, &grouped("db", tcp(port))).unwrap();
    one.owner.unregister(0);
    let now = clock::now() + 2 * SILENCE;
    ask_at(now, &registry, &one, &preferred(tcp(port))).unwrap();
    assert!(!other.is_closed() && other.numbers() == [0]);
    assert_eq!(registry.tunnels(), 2, "another port");
}

#[test]
fn a_place_that_is_free_or_shared_is_not_refused_to_who_comes_late() {
    let registry = registry();
    let (old, new) = (Guest::of(1, client(1)), Guest::of(2, client(2)));
    // Another path, and another member.
    ask(&registry, &new, &part("app", &[], "/api")).unwrap();
    ask(&registry, &old, &http("app", &[])).unwrap();
    assert!(!new.is_closed() && !old.is_closed());
    old.owner.unregister(0);
    new.owner.unregister(0);
    let wanted = grouped("web", http("app", &[]));
    ask(&registry, &new, &wanted).unwrap();
    ask(&registry, &old, &wanted).unwrap();
    assert_eq!(carriers_at(&registry, "app.localhost").len(), 2);
}

#[tokio::test]
async fn a_place_that_is_only_kept_for_a_newer_client_is_taken_over() {
    let registry = registry_that_waits(Duration::from_secs(60));
    let (old, new) = (Guest::of(1, client(1)), Guest::of(2, client(2)));
    ask(&registry, &new, &http("app", &[])).unwrap();
    new.owner.leave();
    ask(&registry, &old, &http("app", &[])).unwrap();
    // When it is back it is the newest.
    let back = Guest::of(3, client(2));
    ask(&registry, &back, &http("app", &[])).unwrap();
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(3), 0)));
    assert!(old.is_closed());
}

#[test]
fn a_client_is_as_new_as_the_session_over_which_it_claimed_the_tunnel() {
    let registry = registry();
    let (old, between) = (Guest::of(1, client(1)), Guest::of(3, client(3)));
    let (first, second) = (Guest::of(2, client(2)), Guest::of(4, client(2)));
    ask(&registry, &first, &http("app", &[])).unwrap();
    ask(&registry, &second, &over(1, http("app", &[]))).unwrap();
    // The claim outlives the session, for as long as there are others.
    first.owner.leave();
    let again = Guest::of(5, client(2));
    ask(&registry, &again, &over(0, http("app", &[]))).unwrap();
    second.owner.leave();
    assert_eq!(ask(&registry, &old, &http("app", &[])), Err(RefusalCode::Superseded));
    ask(&registry, &between, &http("app", &[])).unwrap();
    assert_eq!(number_at(&registry, "app.localhost"), Some((SessionId(3), 0)));
    assert!(again.is_closed());
}

#[test]
fn a_member_of_a_group_is_no_reason_to_refuse_its_own_client() {
    let registry = registry();
    let (one, own, newer) =
        (Guest::of(1, client(1)), Guest::of(2, client(2)), Guest::of(3, client(2)));
    let wanted = grouped("web", http("app", &[]));
    ask(&registry, &one, &wanted).unwrap();
    ask(&registry, &newer, &wanted).unwrap();
    // It is in no group any more.
    ask(&registry, &own, &http("app", &[])).unwrap();
    assert_eq!(carriers_at(&registry, "app.localhost"), [(0, SessionId(2), 0)]);
}
