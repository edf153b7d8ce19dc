//! Which session has a place for a visitor, and who makes room.

use std::net::SocketAddr;

use ferrotunnel_protocol::OpenError;

use super::*;
use crate::spares::Spare;
use crate::spares::tests::Asked;

fn visitor() -> SocketAddr {
    ([192, 0, 2, 7], 50_000).into()
}

#[test]
fn a_session_that_is_full_is_chosen_for_no_request_while_another_has_room() {
    let registry = registry();
    let (one, two) = (Guest::new(1), Guest::new(2));
    register(&registry, &one, 0, http("app", &[]));
    register(&registry, &two, 0, over(1, http("app", &[])));
    let tunnel = found(&registry, "app.localhost").unwrap();
    // They may be another tunnel's visitors, of which this one knows nothing.
    let fill =
        |guest: &Guest| -> Vec<_> { std::iter::from_fn(|| guest.owner.take_exchange()).collect() };
    let turns = || -> Vec<_> { (0..4).map(|_| tunnel.choose().unwrap().session().0).collect() };
    assert_eq!(turns(), [1, 2, 1, 2]);
    let inside = fill(&one);
    assert_eq!(turns(), [2; 4]);
    // One has to answer, if it is to say no.
    let _all = fill(&two);
    assert_eq!(turns(), [1, 2, 1, 2]);
    drop(inside);
    assert_eq!(turns(), [1; 4]);
}

#[test]
fn a_tunnel_that_is_registered_anew_finds_who_keeps_streams_of_it() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, http("app", &[]));
    // Whoever keeps streams has a share of it as well, and is not gone at once.
    let before = found(&registry, "app.localhost").unwrap();
    let keeper = Arc::new(Asked::default());
    let asked: Arc<dyn Spare> = keeper.clone();
    before.kept_by(SessionId(1), Arc::downgrade(&asked));
    guest.owner.unregister(0);
    register(&registry, &guest, 1, http("app", &["app.example"]));
    register(&registry, &guest, 2, http("other", &[]));
    let mut limits = LimitsConfig::default();
    limits.max_visitors_per_tunnel = Some(0);
    registry.set_limits(&limits);
    let enters = |host| found(&registry, host).unwrap().enter(SessionId(1), visitor());
    assert_eq!(enters("other.localhost").unwrap_err(), OpenError::LimitReached);
    assert_eq!(keeper.0.load(Ordering::Relaxed), 0, "it keeps none of that one");
    assert_eq!(enters("app.example").unwrap_err(), OpenError::LimitReached);
    assert_eq!(keeper.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_place_that_came_to_nothing_is_not_one_of_the_second() {
    let registry = registry();
    let web = Named::new(|web| web.max_streams_per_second = Some(1));
    let guest = web.guest(1);
    register(&registry, &guest, 0, http("app", &[]));
    let tunnel = found(&registry, "app.localhost").unwrap();
    for _ in 0..100 {
        tunnel.enter(SessionId(1), visitor()).unwrap().give_back();
    }
}
