//! Who answers for a host and a path, and who may claim them.

use super::*;

fn named(registry: &Registry, host: &str, path: &str) -> Result<String, NoRoute> {
    registry.http(host, path).map(|tunnel| format!("{}{}", tunnel.name(), tunnel.path()))
}

fn denied(registry: &Registry, guest: &Guest, wanted: Register) -> Denied {
    let number = guest.owner.tunnels.lock().len() as u32 + 100;
    registry.try_register(&guest.owner, number, wanted, clock::now()).unwrap_err()
}

/// A principal that may have what these rules say; `None`: the default.
fn principal(id: u64, name: &str, hosts: Option<&[&str]>) -> Guest {
    let named = Named::new(|config| {
        config.name = name.to_owned();
        config.hosts = hosts.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect());
    });
    named.guest(id)
}

#[test]
fn the_longest_path_answers_on_whole_parts() {
    let (registry, guest) = (registry(), Guest::new(1));
    assert_eq!(register(&registry, &guest, 0, http("app", &[])), "http://app.localhost/");
    let address = register(&registry, &guest, 1, part("app", &[], "/api"));
    assert_eq!(address, "http://app.localhost/api");
    register(&registry, &guest, 2, part("app", &[], "/api/v1"));
    for (path, expected) in [
        ("/", "app/"),
        ("/apix", "app/"),
        ("/API", "app/"),
        ("*", "app/"),
        ("/api", "app/api"),
        ("/api/", "app/api"),
        ("/api/v10", "app/api"),
        ("/api/v1", "app/api/v1"),
        ("/api/v1/x", "app/api/v1"),
    ] {
        assert_eq!(named(&registry, "App.Localhost", path).as_deref(), Ok(expected), "{path}");
    }
    guest.owner.unregister(1);
    assert_eq!(named(&registry, "app.localhost", "/api/v10").as_deref(), Ok("app/"));
    guest.owner.unregister(0);
    assert_eq!(named(&registry, "app.localhost", "/"), Err(NoRoute::Unknown));
    assert_eq!(named(&registry, "app.localhost", "/api/v1").as_deref(), Ok("app/api/v1"));
    guest.owner.unregister(2);
    assert!(!registry.has_host("app.localhost"));
}

#[test]
fn a_path_that_reads_as_somebody_elses_is_nobodys() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, http("app", &[]));
    // Whoever has a host alone gets every path as it is.
    for path in ["/api/../x", "/%61pi", "//api", "/a%2fb", "/a\\b"] {
        assert_eq!(named(&registry, "app.localhost", path).as_deref(), Ok("app/"), "{path}");
    }
    register(&registry, &guest, 1, part("app", &[], "/api"));
    for path in [
        "/api/../x",
        "/api/%2e%2e/x",
        "/x/..%2fapi",
        "/x/../api",
        "/api%2fx",
        "/api%2Fa%2Fx",
        "/api%2f..%2fadmin",
        "/api/..%2Fadmin",
        "/x/%2e%2e%2fapi",
        "/api%00",
        "/api%3Fx",
        "/api%23/x",
        "/x/%c0%ae%c0%ae/api",
        "/%61pi%2fx%2Fy",
        "/%61pi",
        "/%61pi/x",
        "//api",
        "/a%5cb",
        "/api/..;/x",
        "/api;v=1/x",
    ] {
        assert_eq!(named(&registry, "app.localhost", path), Err(NoRoute::UnclearPath), "{path}");
    }
    for (path, expected) in [
        ("/%7Euser", "app/"),
        ("/a//b", "app/"),
        ("/see/https://x.example", "app/"),
        ("/api/%61", "app/api"),
        ("/api//x", "app/api"),
        ("/api/100%25", "app/api"),
        // An encoded slash that leads to nobody else.
        ("/api/group%2Fproject", "app/api"),
        ("/@scope%2fname", "app/"),
        ("/see/https%3A%2F%2Fx.example%3Fq", "app/"),
    ] {
        assert_eq!(named(&registry, "app.localhost", path).as_deref(), Ok(expected), "{path}");
    }
    guest.owner.unregister(0);
    // What nobody has as it was sent looks like a host that nobody has.
    for path in ["/x/../api", "/%61pi", "//api", "/x"] {
        assert_eq!(named(&registry, "app.localhost", path), Err(NoRoute::Unknown), "{path}");
    }
}

#[test]
fn a_wildcard_stands_for_one_label_behind_every_exact_host() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, http("all", &["*.B.example"]));
    register(&registry, &guest, 1, http("deep", &["*.a.b.example"]));
    register(&registry, &guest, 2, part("one", &["x.b.example"], "/api"));
    assert_eq!(named(&registry, "y.b.example", "/").as_deref(), Ok("all/"));
    assert_eq!(named(&registry, "Y.B.Example", "/").as_deref(), Ok("all/"));
    assert_eq!(named(&registry, "y.a.b.example", "/").as_deref(), Ok("deep/"));
    assert_eq!(named(&registry, "a.b.example", "/").as_deref(), Ok("all/"));
    assert_eq!(named(&registry, "x.b.example", "/api").as_deref(), Ok("one/api"));
    for (host, path) in [
        // It is known, and has nothing there.
        ("x.b.example", "/"),
        ("b.example", "/"),
        (".b.example", "/"),
        ("z.y.a.b.example", "/"),
        ("y.c.example", "/"),
        ("yb.example", "/"),
    ] {
        assert_eq!(named(&registry, host, path), Err(NoRoute::Unknown), "{host}");
    }
    assert!(registry.has_host("x.b.example"));
    // Nobody gets a certificate for whatever name visitors think of.
    for host in ["y.b.example", "*.b.example", ".b.example"] {
        assert!(!registry.has_host(host), "{host}");
    }
    guest.owner.unregister(0);
    assert_eq!(named(&registry, "y.b.example", "/"), Err(NoRoute::Unknown));
    assert_eq!(named(&registry, "y.a.b.example", "/").as_deref(), Ok("deep/"));
}

#[test]
fn wildcards_have_paths_too() {
    let (registry, guest) = (registry(), Guest::new(1));
    register(&registry, &guest, 0, part("api", &["*.b.example"], "/api"));
    register(&registry, &guest, 1, http("all", &["*.b.example"]));
    assert_eq!(named(&registry, "y.b.example", "/api/x").as_deref(), Ok("api/api"));
    assert_eq!(named(&registry, "y.b.example", "/x").as_deref(), Ok("all/"));
    assert_eq!(named(&registry, "y.b.example", "/api/../x"), Err(NoRoute::UnclearPath));
}

#[test]
fn a_route_is_taken_over_by_its_principal_and_other_paths_stay() {
    let (registry, old, new) = (registry(), Guest::new(1), Guest::of(2, ClientId([2; 16])));
    register(&registry, &old, 0, part("app", &["a.example"], "/api"));
    register(&registry, &old, 1, http("app", &["a.example"]));
    register(&registry, &new, 0, part("app", &["a.example"], "/api"));
    assert_eq!(old.numbers(), [1]);
    assert_eq!(number_at(&registry, "a.example"), Some((SessionId(1), 1)));
    let of_path = registry.http("a.example", "/api").unwrap();
    assert_eq!(of_path.servants(), [(ClientId([2; 16]), SessionId(2))]);
    // What has been lost is no longer there to be given up.
    old.owner.leave();
    assert!(registry.http("a.example", "/api").is_ok());
    assert_eq!(named(&registry, "a.example", "/"), Err(NoRoute::Unknown));
}

#[test]
fn no_stranger_gets_a_path_of_a_host_that_somebody_has() {
    let registry = registry();
    let all: &[&str] = &["*", "*.example"];
    let (first, second) = (principal(1, "first", Some(all)), principal(2, "second", Some(all)));
    register(&registry, &first, 0, part("app", &["shop.example", "*.w.example"], "/api"));
    for wanted in [
        part("other", &["shop.example"], "/api"),
        part("other", &["shop.example"], "/other"),
        http("other", &["shop.example"]),
        http("other", &["*.w.example"]),
        part("app", &[], "/other"),
    ] {
        let (code, reason) = denied(&registry, &second, wanted);
        assert_eq!((code, &*reason), (RefusalCode::NameTaken, "app belongs to somebody else"));
    }
    // A name that it had by chance is another one then.
    let address = register(&registry, &second, 0, preferred(part("app", &[], "/other")));
    assert!(!address.contains("//app.") && address.ends_with("/other"), "{address}");
    first.owner.unregister(0);
    register(&registry, &second, 1, part("other", &["shop.example"], "/other"));
}

#[test]
fn a_group_shares_a_route() {
    let registry = registry();
    let group = |path| with(part("app", &[], path), &[("group", "g")]);
    let (one, two) = (Guest::of(1, ClientId([1; 16])), Guest::of(2, ClientId([2; 16])));
    register(&registry, &one, 0, group("/api"));
    register(&registry, &two, 0, group("/api"));
    assert_eq!(registry.http("app.localhost", "/api").unwrap().servants().len(), 2);
    let stripped = with(group("/api"), &[("strip-path", "true")]);
    assert_eq!(denied(&registry, &two, stripped).0, RefusalCode::NameTaken);
    // Another path is another route, and to say what goes without saying changes nothing.
    register(&registry, &one, 1, group("/"));
    let same = with(http("app", &[]), &[("group", "g"), ("strip-path", "false")]);
    register(&registry, &two, 1, same);
    assert_eq!(registry.http("app.localhost", "/").unwrap().servants().len(), 2);
}

#[test]
fn a_wildcard_needs_a_permission_that_covers_it_whole() {
    let registry = registry();
    let by_default = principal(1, "by-default", None);
    // What is below a name shares its cookies.
    for host in ["*.localhost", "*.example", "*.app.localhost", "evil.app.localhost"] {
        let (code, _) = denied(&registry, &by_default, http("", &[host]));
        assert_eq!(code, RefusalCode::NotAllowed, "{host}");
    }
    let of_app = principal(4, "of-app", Some(&["app", "*.app.localhost"]));
    register(&registry, &of_app, 0, http("app", &["*.app.localhost", "a.b.app.localhost"]));
    of_app.owner.leave();
    let below = principal(2, "below", Some(&["*", "*.b.example", "c.example"]));
    for host in ["*.example", "*.c.example", "*.xb.example", "*.localhost"] {
        let (code, _) = denied(&registry, &below, http("", &[host]));
        assert_eq!(code, RefusalCode::NotAllowed, "{host}");
    }
    register(&registry, &below, 0, http("", &["*.b.example", "*.a.b.example"]));
    let whole = principal(3, "whole", Some(&["*.localhost"]));
    register(&registry, &whole, 0, http("app", &["*.localhost"]));
    assert_eq!(named(&registry, "x.localhost", "/").as_deref(), Ok("app/"));
}

#[test]
fn reserved_names_are_nobodys() {
    let (registry, guest) = (registry(), Guest::new(1));
    for wanted in [
        http("www", &[]),
        http("WWW", &[]),
        http("app", &["www.localhost"]),
        http("app", &["a.www.localhost"]),
        http("app", &["*.www.localhost"]),
    ] {
        let (code, reason) = denied(&registry, &guest, wanted);
        assert_eq!(code, RefusalCode::NotAllowed);
        assert!(reason.contains("is reserved on this server"), "{reason}");
    }
    register(&registry, &guest, 0, http("www2", &["www.example", "*.localhost"]));
    assert_eq!(named(&registry, "www.localhost", "/"), Err(NoRoute::Unknown));
    assert_eq!(named(&registry, "WWW.localhost", "/"), Err(NoRoute::Unknown));
    assert_eq!(named(&registry, "xwww.localhost", "/").as_deref(), Ok("www2/"));
    assert_ne!(
        register(&registry, &guest, 1, preferred(http("www", &[]))),
        "http://www.localhost/"
    );
    // A pool of one name that is reserved is empty.
    let pool = principal(2, "pool", Some(&["www"]));
    assert_eq!(denied(&registry, &pool, http("", &[])).0, RefusalCode::NameTaken);
}

#[test]
fn malformed_options_are_refused_with_a_sentence() {
    let (registry, guest) = (registry(), Guest::new(1));
    for (options, expected) in [
        (&[("access-path", "api")][..], "path: \"api\" is no path like /api"),
        (&[("access-path", "")], "path: \"\" is no path like /api"),
        (&[("access-path", "/a/../b")], "path: \"/a/../b\" is no path like /api"),
        (&[("strip-path", "true")], "strip-path: there is no path to strip"),
        (&[("access-path", "/"), ("strip-path", "true")], "strip-path: there is no path to strip"),
        (
            &[("access-path", "/a"), ("strip-path", "yes")],
            "strip-path: \"yes\" is neither true nor false",
        ),
    ] {
        let (code, reason) = denied(&registry, &guest, with(http("app", &[]), options));
        assert_eq!(code, RefusalCode::NotAllowed);
        assert!(reason.starts_with(expected), "{reason}");
    }
    assert_eq!(registry.tunnels(), 0);
}

#[test]
fn the_only_tunnel_answers_for_its_path_only() {
    let mut config = Arc::try_unwrap(registry().0).ok().unwrap().config;
    config.only_tunnel_answers = true;
    let registry = Registry::new(config, Tasks::default(), Tasks::default());
    let guest = Guest::new(1);
    register(&registry, &guest, 0, part("app", &[], "/api"));
    assert_eq!(named(&registry, "127.0.0.1", "/api/x").as_deref(), Ok("app/api"));
    assert_eq!(named(&registry, "127.0.0.1", "/x"), Err(NoRoute::Unknown));
    assert_eq!(named(&registry, "127.0.0.1", "/api/../x"), Err(NoRoute::UnclearPath));
    assert_eq!(named(&registry, "other.localhost", "/api"), Err(NoRoute::Unknown));
}

#[test]
fn a_host_has_so_many_paths_and_no_more() {
    let registry = registry();
    let mut guests = Vec::new();
    for number in 0..hosts::MOST_PATHS {
        if number % 10 == 0 {
            guests.push(Guest::new(number as u64));
        }
        let guest = guests.last().unwrap();
        register(&registry, guest, number as u32, part("app", &[], &format!("/p{number}")));
    }
    let late = Guest::new(10_000);
    let (code, reason) = denied(&registry, &late, part("app", &[], "/more"));
    assert_eq!(code, RefusalCode::LimitExceeded);
    assert!(reason.contains("256"), "{reason}");
    // One that is taken over is no more, and the whole is none of them.
    register(&registry, &late, 1, part("app", &[], "/p7"));
    register(&registry, &late, 2, http("app", &[]));
}
