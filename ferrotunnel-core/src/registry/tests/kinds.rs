//! Hosts of tunnels whose visitors' TLS ends at the local service.

use super::*;

fn tls(name: &str, hosts: &[&str]) -> Register {
    Register { kind: TunnelKind::Tls, ..http(name, hosts) }
}

/// The same registry with an HTTPS port.
fn registry() -> Registry {
    let mut registry = super::registry();
    Arc::get_mut(&mut registry.0).unwrap().config.https_port = Some(443);
    registry
}

fn passing(registry: &Registry, host: &str) -> Option<String> {
    registry.0.passing(host).map(|tunnel| tunnel.name().to_owned())
}

fn refused(registry: &Registry, guest: &Guest, wanted: Register) -> Denied {
    registry.try_register(&guest.owner, 100, wanted, clock::now()).unwrap_err()
}

#[test]
fn each_kind_finds_its_own_hosts_and_no_others() {
    let (registry, guest) = (registry(), Guest::new(1));
    let address = register(&registry, &guest, 0, tls("Vault", &["db.example", "*.a.example"]));
    assert_eq!(address, "tls://vault.localhost:443");
    register(&registry, &guest, 1, http("app", &["x.a.example", "*.b.example"]));
    register(&registry, &guest, 2, tls("other", &["x.b.example"]));
    for (host, expected) in [
        ("vault.localhost", "vault"),
        ("db.example", "vault"),
        ("y.a.example", "vault"),
        ("x.b.example", "other"),
    ] {
        assert_eq!(passing(&registry, host).as_deref(), Some(expected), "{host}");
        assert_eq!(registry.http(host, "/").unwrap_err(), NoRoute::Unknown, "{host}");
        assert!(!registry.has_host(host), "{host}");
    }
    for host in ["app.localhost", "x.a.example", "y.b.example"] {
        assert_eq!(found(&registry, host).unwrap().name(), "app", "{host}");
        assert_eq!(passing(&registry, host), None, "{host}");
    }
    for host in ["", "localhost", "www.a.localhost", "z.y.a.example", "a.example"] {
        assert_eq!(passing(&registry, host), None, "{host}");
    }
}

#[test]
fn no_wildcard_answers_for_a_reserved_name() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, tls("vault", &["*.localhost"]));
    assert_eq!(passing(&registry, "any.localhost").as_deref(), Some("vault"));
    assert_eq!(passing(&registry, "www.localhost"), None);
    let (code, reason) = refused(&registry, &guest, tls("www", &[]));
    assert!(code == RefusalCode::NotAllowed && reason.contains("reserved"), "{reason}");
}

#[test]
fn a_host_of_one_kind_is_refused_to_the_other_and_picked_around() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, tls("vault", &[]));
    for wanted in [http("vault", &[]), http("x", &["vault.localhost"])] {
        let (code, reason) = refused(&registry, &guest, wanted);
        assert_eq!(code, RefusalCode::NameTaken);
        assert!(reason.starts_with("vault.localhost is a tls tunnel already"), "{reason}");
    }
    // Nothing of what was refused stays behind.
    assert!(!registry.has_host("x.localhost"));
    assert_eq!(guest.numbers(), [0]);
    // Who only wishes for it gets another.
    let address = register(&registry, &guest, 1, preferred(http("vault", &[])));
    assert_ne!(address, "https://vault.localhost/");
    guest.owner.unregister(0);
    register(&registry, &guest, 2, http("vault", &[]));
    assert_eq!(passing(&registry, "vault.localhost"), None);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_kept_is_taken_over_by_the_other_kind_as_a_whole() {
    let mut registry = registry_that_waits(Duration::from_secs(3));
    Arc::get_mut(&mut registry.0).unwrap().config.https_port = Some(443);
    let (away, new, back) = (Guest::new(1), Guest::new(2), Guest::new(3));
    register(&registry, &away, 0, http("app", &["b.example"]));
    let api = vec![("access-path".to_owned(), "/api".to_owned())];
    register(&registry, &away, 1, Register { options: api, ..http("app", &[]) });
    let (_, reason) = refused(&registry, &new, tls("app", &[]));
    assert!(reason.starts_with("app.localhost is an http tunnel already"), "{reason}");
    away.owner.leave();
    assert!(found(&registry, "app.localhost").unwrap().is_away());
    register(&registry, &new, 0, tls("app", &[]));
    assert_eq!(passing(&registry, "app.localhost").as_deref(), Some("app"));
    for path in ["/", "/api"] {
        assert_eq!(registry.http("app.localhost", path).unwrap_err(), NoRoute::Unknown);
    }
    // The rest is kept on, and what has nothing left is forgotten.
    assert_eq!(found(&registry, "b.example").unwrap().name(), "app");
    assert_eq!(registry.tunnels(), 2);
    let (code, _) = refused(&registry, &back, http("app", &["b.example"]));
    assert_eq!(code, RefusalCode::NameTaken);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(registry.tunnels(), 1);
    assert_eq!(passing(&registry, "app.localhost").as_deref(), Some("app"));
}

#[test]
fn a_kind_without_its_port_is_refused() {
    let (registry, guest) = (super::registry(), Guest::new(1));
    let (code, reason) = refused(&registry, &guest, tls("vault", &[]));
    assert_eq!(code, RefusalCode::UnsupportedKind);
    assert_eq!(reason, "this server has no HTTPS ingress; its operator opens one by --https-bind");
}
