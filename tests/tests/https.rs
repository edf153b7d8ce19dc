//! Visitors over TLS: certificates out of files and directories, what local services are told, the way from HTTP,
//! and one port for visitors and clients.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::path::Path;

use ferrotunnel::{AcmeConfig, Client, LimitsConfig, ServerBuilder, Tunnel};
use ferrotunnel_tests::{
    Authority, Carrier, Identity, LocalService, SecureVisitor, Site, TestBed, eventually,
    hello_of_tls_1_1, raw, read_head, run, run_logged, says_and_hears, soon,
};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn secured(server: ServerBuilder, identity: &Identity) -> ServerBuilder {
    server.https_bind("127.0.0.1:0").https_identity_files(&identity.cert, &identity.key)
}

/// A certificate for all these names.
fn identity_for(ca: &Authority, names: &[&str]) -> Identity {
    ca.issue(names[0], ExtendedKeyUsagePurpose::ServerAuth, |params| {
        let name = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(name).collect();
    })
}

fn https(bed: &TestBed) -> SocketAddr {
    bed.server.https_addr().unwrap()
}

async fn tunnel(bed: &TestBed, name: &str, site: &Site) -> (Client, String) {
    let tunnel = Tunnel::http(name).local_addr(site.addr().to_string());
    let client = bed.client().tunnel(tunnel).build().unwrap();
    let info = client.start().await.unwrap();
    (client, info.public_url)
}

#[test]
fn visitors_speak_both_versions_of_http_over_both_versions_of_tls() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| secured(server, &identity)).await;
        let (_client, url) = tunnel(&bed, "app", &site).await;
        assert_eq!(url, format!("https://app.localhost:{}/", https(&bed).port()));
        for version in [&TLS12, &TLS13] {
            for (alpn, spoken) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
                let visitor = SecureVisitor::speaking(&ca.file(), &[alpn], &[version]);
                let io = visitor.connect(https(&bed), "app.localhost").await.unwrap();
                assert_eq!(io.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()), "{spoken}");
                let head = visitor.get(https(&bed), "app.localhost", "/head").await;
                assert_eq!(head.status, StatusCode::OK, "{head:?}");
                assert!(head.body.contains("x-forwarded-proto: https\n"), "{}", head.body);
                assert!(head.body.contains("forwarded: for=127.0.0.1;proto=https;host="));
            }
        }
        // Those without TLS are served as before, and told apart.
        let head = bed.get("app", "/head").await;
        assert!(head.body.contains("x-forwarded-proto: http\n"), "{}", head.body);
    });
}

#[test]
fn tls_1_2_can_be_turned_off() {
    run(async {
        let ca = Authority::new("ca");
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed =
            TestBed::with(Carrier::Tls, |server| secured(server, &identity).https_tls13_only());
        let bed = bed.await;
        let old = SecureVisitor::speaking(&ca.file(), &["h2"], &[&TLS12]);
        let refused = old.connect(https(&bed), "app.localhost").await.unwrap_err();
        assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
        let new = SecureVisitor::speaking(&ca.file(), &["h2"], &[&TLS13]);
        new.connect(https(&bed), "app.localhost").await.unwrap();
    });
}

#[test]
fn who_speaks_tls_1_1_only_is_told_so_and_so_is_the_log() {
    run_logged(async |log| {
        let ca = Authority::new("ca");
        let identity = identity_for(&ca, &["app.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| secured(server, &identity)).await;
        let service = LocalService::echo().await;
        let passed = Tunnel::tls("vault").local_addr(service.addr().to_string());
        let client = bed.client().tunnel(passed).build().unwrap();
        client.start().await.unwrap();
        // A host of the server's, one that is passed on, and nobody's.
        for (before, host) in
            ["app.localhost", "vault.localhost", "none.localhost"].iter().enumerate()
        {
            let answer =
                soon("the alert", raw(https(&bed), &hello_of_tls_1_1(host))).await.unwrap();
            assert_eq!(answer, [21, 3, 1, 0, 2, 2, 70], "{host}: no protocol_version");
            eventually("a line", || log.count("TLS 1.1 is all that it speaks") > before).await;
        }
    });
}

#[test]
fn a_large_body_and_an_upgrade_pass_over_tls() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| secured(server, &identity)).await;
        let (_client, _) = tunnel(&bed, "app", &site).await;
        for alpn in ["h2", "http/1.1"] {
            let visitor = SecureVisitor::trusting(&ca.file(), &[alpn]);
            let host = "app.localhost";
            let answer = visitor.ask(https(&bed), host, host, "/bytes/1000000").await;
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body == Site::pattern().slice(..1_000_000), "{alpn}");
        }
        let echo = LocalService::each(|mut socket| async move {
            read_head(&mut socket).await;
            let switching =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            socket.write_all(switching).await.unwrap();
            let (mut reading, mut writing) = socket.split();
            let _ = tokio::io::copy(&mut reading, &mut writing).await;
        })
        .await;
        let tunnel = Tunnel::http("ws").local_addr(echo.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        let visitor = SecureVisitor::trusting(&ca.file(), &["http/1.1"]);
        let mut io = visitor.connect(https(&bed), "ws.localhost").await.unwrap();
        let ask =
            b"GET / HTTP/1.1\r\nhost: ws.localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        io.write_all(ask).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(io.read_u8().await.unwrap());
        }
        assert!(seen.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&seen));
        io.write_all(b"over tls").await.unwrap();
        let mut heard = [0; 8];
        soon("the echo", io.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"over tls");
    });
}

#[test]
fn a_silent_stranger_does_not_hold_up_visitors() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| secured(server, &identity)).await;
        let (_client, _) = tunnel(&bed, "app", &site).await;
        let _silent = TcpStream::connect(https(&bed)).await.unwrap();
        let mut half = TcpStream::connect(https(&bed)).await.unwrap();
        half.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
        let mut plain = TcpStream::connect(https(&bed)).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nhost: app.localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("an alert", plain.read_to_end(&mut answer)).await;
        assert_eq!(answer.first(), Some(&21), "{answer:?}");
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        let answer = visitor.get(https(&bed), "app.localhost", "/hello").await;
        assert_eq!(answer.body, "hello");
    });
}

fn put(identity: &Identity, directory: &Path, name: &str) {
    for (file, kind) in [(&identity.key, "key"), (&identity.cert, "pem")] {
        let new = directory.join(format!("{name}.{kind}.new"));
        std::fs::copy(file, &new).unwrap();
        std::fs::rename(new, directory.join(format!("{name}.{kind}"))).unwrap();
    }
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate_and_a_directory_is_watched() {
    run(async {
        let ca = Authority::new("ca");
        let [one, two, star] = [&["a.example"][..], &["b.example"], &["*.c.example"]]
            .map(|names| identity_for(&ca, names));
        let directory = tempfile::tempdir().unwrap();
        put(&one, directory.path(), "one");
        put(&star, directory.path(), "star");
        let bed = TestBed::with(Carrier::Tls, |server| {
            server.https_bind("127.0.0.1:0").https_certificate_directory(directory.path())
        });
        let bed = bed.await;
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        assert_eq!(visitor.shown(https(&bed), "a.example").await.unwrap(), one.der);
        assert_eq!(visitor.shown(https(&bed), "x.c.example").await.unwrap(), star.der);
        // Nobody has it: the first certificate is shown, which is not for it.
        let refused = visitor.shown(https(&bed), "b.example").await.unwrap_err();
        assert!(refused.to_string().contains("certificate"), "{refused}");
        // One comes in, and another one is renewed.
        let renewed = identity_for(&ca, &["a.example"]);
        put(&two, directory.path(), "two");
        put(&renewed, directory.path(), "one");
        soon("the new certificates", async {
            loop {
                let shown = visitor.shown(https(&bed), "b.example").await;
                let other = visitor.shown(https(&bed), "a.example").await.unwrap();
                if shown.is_ok_and(|shown| shown == two.der) && other == renewed.der {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
    });
}

#[test]
fn a_host_that_the_certificate_is_not_for_is_misdirected() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let both = identity_for(&ca, &["a.localhost", "b.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| secured(server, &both)).await;
        let mut clients = Vec::new();
        for name in ["a", "b", "c"] {
            clients.push(tunnel(&bed, name, &site).await);
        }
        for alpn in ["h2", "http/1.1"] {
            let visitor = SecureVisitor::trusting(&ca.file(), &[alpn]);
            let get = async |host: &str| {
                visitor.get_for(https(&bed), "a.localhost", host, "/hello").await
            };
            assert_eq!(get("a.localhost").await.body, "hello");
            assert_eq!(get("B.localhost:1").await.body, "hello");
            let misdirected = get("c.localhost").await;
            assert_eq!(misdirected.status, StatusCode::MISDIRECTED_REQUEST);
            assert_eq!(misdirected.ferrotunnel_error(), Some("misdirected"));
        }
    });
}

#[test]
fn who_comes_without_tls_is_redirected_if_that_is_asked_for() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed =
            TestBed::with(Carrier::Tls, |server| secured(server, &identity).redirect_to_https());
        let bed = bed.await;
        let (_client, url) = tunnel(&bed, "app", &site).await;
        let answer = bed.get("app", "/hello?a=b").await;
        assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(answer.headers["location"], format!("{url}hello?a=b"));
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        assert_eq!(visitor.get(https(&bed), "app.localhost", "/hello").await.body, "hello");
    });
}

#[test]
fn clients_and_visitors_share_one_port() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| {
            secured(server, &identity).clients_on_https_port().no_http()
        });
        let bed = bed.await;
        assert_eq!(bed.server.tunnel_addr(), https(&bed));
        assert_eq!(bed.server.http_addr(), None);
        let (client, _) = tunnel(&bed, "app", &site).await;
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2", "http/1.1"]);
        assert_eq!(visitor.get(https(&bed), "app.localhost", "/hello").await.body, "hello");
        // Everything that a carrier is for, direct carriers too.
        let echo = LocalService::echo().await;
        let (_other, public) = bed.direct(echo.addr()).await;
        let mut visit = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visit).await;
        drop(visit);
        client.shutdown().await.unwrap();
        bed.server.shutdown().await.unwrap();
    });
}

#[test]
fn a_first_message_in_pieces_is_understood_whoever_it_comes_from() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| {
            secured(server, &identity).clients_on_https_port()
        });
        let bed = bed.await;
        let link = LocalService::dripping(https(&bed), 100).await;
        let client = ferrotunnel_tests::client_of(link.addr(), Carrier::Tls);
        let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
        let client = client.build().unwrap();
        soon("a start", client.start()).await.unwrap();
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        let answer = visitor.get(link.addr(), "app.localhost", "/hello").await;
        assert_eq!(answer.body, "hello");
    });
}

#[test]
fn visitors_over_tls_count_like_others_and_are_told_when_there_is_no_place() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| {
            let mut limits = LimitsConfig::default();
            limits.max_visitors = 1;
            secured(server, &identity).clients_on_https_port().limits(limits)
        });
        let bed = bed.await;
        // Clients have no places of visitors.
        let (_client, _) = tunnel(&bed, "app", &site).await;
        let (_other, _) = tunnel(&bed, "ws", &site).await;
        let visitor = SecureVisitor::trusting(&ca.file(), &["http/1.1"]);
        let mut first = visitor.connect(https(&bed), "app.localhost").await.unwrap();
        first.write_all(b"GET /hello HTTP/1.1\r\nhost: app.localhost\r\n\r\n").await.unwrap();
        first.read_u8().await.unwrap();
        let second = visitor.get(https(&bed), "app.localhost", "/hello").await;
        assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.ferrotunnel_error(), Some("server-full"));
        drop(first);
        soon("a place", async {
            loop {
                let answer = visitor.get(https(&bed), "app.localhost", "/hello").await;
                if answer.status == StatusCode::OK {
                    return;
                }
            }
        })
        .await;
    });
}

#[test]
fn connections_of_one_address_count_before_they_have_said_anything() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| {
            let mut limits = LimitsConfig::default();
            limits.max_visitors_per_address = Some(1);
            secured(server, &identity).limits(limits)
        });
        let bed = bed.await;
        let (_client, _) = tunnel(&bed, "app", &site).await;
        let visitor = SecureVisitor::trusting(&ca.file(), &["http/1.1"]);
        let silent = TcpStream::connect(https(&bed)).await.unwrap();
        let status = async || visitor.get(https(&bed), "app.localhost", "/hello").await.status;
        soon("a word about it", async { while status().await != StatusCode::TOO_MANY_REQUESTS {} })
            .await;
        drop(silent);
        soon("its place", async { while status().await != StatusCode::OK {} }).await;
    });
}

#[test]
fn a_handshake_for_an_unknown_name_has_a_place_like_others() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| {
            let mut limits = LimitsConfig::default();
            limits.max_handshakes_in_flight = 1;
            limits.handshake_deadline = std::time::Duration::from_secs(60);
            secured(server, &identity).limits(limits)
        });
        let bed = bed.await;
        let (_client, _) = tunnel(&bed, "app", &site).await;
        let visitor = SecureVisitor::trusting(&ca.file(), &["http/1.1"]);
        let mut stalled = TcpStream::connect(https(&bed)).await.unwrap();
        stalled.write_all(&visitor.hello("nobody.example")).await.unwrap();
        // The server has answered, and waits.
        assert_eq!(stalled.read_u8().await.unwrap(), 22);
        let asking = visitor.get(https(&bed), "app.localhost", "/hello");
        tokio::pin!(asking);
        let moment = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(moment, &mut asking).await.is_err(), "there is one place");
        drop(stalled);
        assert_eq!(soon("the place", asking).await.body, "hello");
    });
}

#[test]
fn a_visitor_that_does_not_get_on_with_its_handshake_makes_room_for_others() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let bed = TestBed::with(Carrier::Tls, |server| {
            let mut limits = LimitsConfig::default();
            limits.max_handshakes_in_flight = 1;
            limits.handshake_deadline = std::time::Duration::from_secs(1);
            secured(server, &identity).limits(limits)
        });
        let bed = bed.await;
        let (_client, _) = tunnel(&bed, "app", &site).await;
        let mut silent = TcpStream::connect(https(&bed)).await.unwrap();
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        let mut byte = [0];
        let (answer, ended) = tokio::join!(
            soon("a place", visitor.get(https(&bed), "app.localhost", "/hello")),
            soon("the end of the silent one", silent.read(&mut byte)),
        );
        assert_eq!(answer.body, "hello");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    });
}

#[test]
fn a_drain_answers_what_visitors_over_tls_have_asked_and_leaves_the_port_free() {
    run(async {
        let (ca, site) = (Authority::new("ca"), Site::start().await);
        let identity = identity_for(&ca, &["app.localhost", "ws.localhost"]);
        let addr = SocketAddr::new(ferrotunnel_tests::own_ip(), 0);
        let bed = TestBed::with(Carrier::Tls, |server| {
            let server = server.bind(addr).http_bind(addr).https_bind(addr);
            server.https_identity_files(&identity.cert, &identity.key).clients_on_https_port()
        });
        let bed = bed.await;
        let (_client, _) = tunnel(&bed, "app", &site).await;
        let addr = https(&bed);
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        // Half a first message holds up no drain.
        let mut half = TcpStream::connect(addr).await.unwrap();
        half.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
        let asking = tokio::spawn({
            let visitor = visitor.clone();
            async move { visitor.get(addr, "app.localhost", "/held").await }
        });
        site.held(1).await;
        let ending = tokio::spawn(bed.server.shutdown());
        soon("the port to be free", async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        site.release();
        assert_eq!(soon("the answer", asking).await.unwrap().body, "released");
        let drained = soon("the end", ending).await.unwrap().unwrap();
        assert_eq!(drained.cut, 0);
    });
}

#[test]
fn what_is_of_no_use_without_https_is_refused() {
    let refused = |change: fn(ServerBuilder) -> ServerBuilder| {
        change(TestBed::server(Carrier::Tls)).build().unwrap_err().to_string()
    };
    for (change, word) in [
        ((|server| server.https_bind("127.0.0.1:0")) as fn(ServerBuilder) -> _, "certificates"),
        (|server| server.redirect_to_https(), "redirect_to_https"),
        (|server| server.clients_on_https_port(), "clients_on_https_port"),
        (|server| server.https_identity_files("a", "b"), "https_identity_files"),
        (|server| server.https_tls13_only(), "https_tls13_only"),
    ] {
        let text = refused(change);
        assert!(text.contains(word) && text.contains("https_bind"), "{text}");
    }
    for (change, word) in [
        ((|acme| acme.dns_hook = Some("hook".into())) as fn(&mut AcmeConfig), "domain"),
        (|acme| acme.server = "http://acme.test".to_owned(), "https://"),
    ] {
        let mut acme = AcmeConfig::new("state");
        change(&mut acme);
        let server = TestBed::server(Carrier::Tls).https_bind("127.0.0.1:0").acme(acme);
        let text = server.build().unwrap_err().to_string();
        assert!(text.contains("acme") && text.contains(word), "{text}");
    }
    let shared = TestBed::server(Carrier::Plaintext)
        .https_bind("127.0.0.1:0")
        .https_identity_files("a", "b")
        .clients_on_https_port();
    assert!(shared.build().unwrap_err().to_string().contains("plaintext"));
}

#[test]
fn a_missing_certificate_ends_the_start_with_its_setting() {
    run(async {
        let server = TestBed::server(Carrier::Tls)
            .https_bind("127.0.0.1:0")
            .https_identity_files("/nowhere/cert.pem", "/nowhere/key.pem");
        let error = server.build().unwrap().spawn().await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/cert.pem") && error.contains("--https-cert"), "{error}");
    });
}
