//! Certificates on the carriers: who takes whose, what each side is told when one is refused, and how
//! new ones come into use.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ferrotunnel::{
    Client, ClientBuilder, ClientEvent, Error, ErrorKind, Retry, ServerBuilder, ServerMode,
    Streams, Tunnel,
};
use ferrotunnel_tests::{
    Authority, Carrier, Identity, Link, LocalService, Log, TestBed, eventually, public_addr, ready,
    replace, run, run_logged, says_and_hears, soon,
};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server that shows a certificate.
async fn bed_with(identity: &Identity) -> TestBed {
    TestBed::with(Carrier::Tls, |server| showing(server, identity)).await
}

fn showing(server: ServerBuilder, identity: &Identity) -> ServerBuilder {
    server.tls_identity_files(&identity.cert, &identity.key)
}

/// A client with a TCP tunnel whose visitors get carriers of their own when one waits.
fn direct(client: ClientBuilder, local: SocketAddr) -> Client {
    let tunnel = Tunnel::tcp().local_addr(local.to_string()).streams(Streams::Direct);
    client.tunnel(tunnel).build().unwrap()
}

async fn started(client: &Client) -> SocketAddr {
    public_addr(&soon("a start", client.start()).await.unwrap().public_url)
}

/// One visitor over a direct carrier.
async fn visits_directly(bed: &TestBed, public: SocketAddr) {
    eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
    let mut visitor = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut visitor).await;
    assert_eq!(bed.server.direct().serving, 1);
    drop(visitor);
    eventually("the visit to end", || bed.server.direct().serving == 0).await;
}

/// The error of a client that never had a session, and does not try again.
async fn refusal(client: ClientBuilder) -> Error {
    let client = client.local_addr("1").build().unwrap();
    soon("the refusal", client.start()).await.unwrap_err()
}

/// The certificate that a server shows to a stock client.
async fn shown_by(server: SocketAddr, ca: &Authority, name: &str) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(ca.file()).unwrap();
    let ca = rustls_pki_types::pem::PemObject::from_pem_slice(&pem).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"ferrotunnel/1".to_vec()];
    let socket = TcpStream::connect(server).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    connected.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn is_shown(bed: &TestBed, ca: &Authority, name: &str, identity: &Identity) {
    let what = format!("the new certificate for {name}");
    soon(&what, async {
        while shown_by(bed.server.tunnel_addr(), ca, name).await != identity.der {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[test]
fn a_verified_server_serves_sessions_and_direct_carriers() {
    run(async {
        let ca = Authority::new("good");
        let echo = LocalService::echo().await;
        // By the name in `server_addr`, though direct carriers are dialled by address; by an address;
        // by a name of its own.
        for (certified, host, name) in [
            ("localhost", "localhost", None),
            ("127.0.0.1", "127.0.0.1", None),
            ("tunnel.example", "127.0.0.1", Some("tunnel.example")),
            ("::1", "127.0.0.1", Some("::1")),
        ] {
            let bed = bed_with(&ca.server(certified)).await;
            let port = bed.server.tunnel_addr().port();
            let mut client =
                bed.client().server_addr(format!("{host}:{port}")).tls_ca_file(ca.file());
            if let Some(name) = name {
                client = client.tls_server_name(name);
            }
            let client = direct(client, echo.addr());
            let url = soon("a start", client.start()).await.unwrap().public_url;
            let public = public_addr(&url.replace("localhost", "127.0.0.1"));
            visits_directly(&bed, public).await;
        }
    });
}

#[test]
fn certificates_on_both_sides_serve_sessions_and_direct_carriers() {
    run(async {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let echo = LocalService::echo().await;
        let bed = TestBed::with(Carrier::Tls, |server| {
            showing(server, &servers.server("127.0.0.1")).tls_client_ca_file(clients.file())
        })
        .await;
        let Identity { cert, key, .. } = clients.client();
        let client = bed.client().tls_ca_file(servers.file()).tls_identity_files(cert, key);
        let client = direct(client, echo.addr());
        let public = started(&client).await;
        visits_directly(&bed, public).await;

        // The certificate stands beside the token, not instead of it.
        let Identity { cert, key, .. } = clients.client();
        let client = bed.client().token("wrong").tls_identity_files(cert, key);
        assert_eq!(refusal(client).await.kind(), ErrorKind::Unauthorized);
    });
}

#[test]
fn a_server_with_a_certificate_of_its_own_making_may_want_those_of_clients() {
    run(async {
        let clients = Authority::new("clients");
        let bed =
            TestBed::with(Carrier::Tls, |server| server.tls_client_ca_file(clients.file())).await;
        let Identity { cert, key, .. } = clients.client();
        let client = bed.client().tls_identity_files(cert, key).local_addr("1").build().unwrap();
        soon("a start", client.start()).await.unwrap();
        bed.server.reload_certificates().unwrap();
        let error = refusal(bed.client()).await;
        assert!(error.to_string().contains("give --tls-cert and --tls-key"), "{error}");
    });
}

#[test]
fn a_server_whose_certificate_is_wrong_is_refused_and_told_why() {
    run_logged(async |log| {
        let (ca, other) = (Authority::new("good"), Authority::new("other"));
        let namesake = Authority::new("good");
        let server = |change: fn(&mut rcgen::CertificateParams)| {
            ca.issue("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth, change)
        };
        let cases = [
            (
                other.server("127.0.0.1"),
                "the server's certificate was issued by none of the CAs that this client trusts",
                "the client does not trust the CA that has issued this server's certificate",
            ),
            (
                namesake.server("127.0.0.1"),
                "the server's certificate was issued by none of the CAs that this client trusts",
                "the client does not trust the CA that has issued this server's certificate",
            ),
            (
                server(|params| params.not_after = date_time_ymd(2020, 1, 1)),
                "the server's certificate expired ",
                "the client says that this server's certificate has expired or is not valid yet",
            ),
            (
                server(|params| params.not_before = date_time_ymd(4000, 1, 1)),
                "the server's certificate is not valid for ",
                "the client says that this server's certificate has expired or is not valid yet",
            ),
            (
                ca.server("elsewhere.example"),
                "the server's certificate is for elsewhere.example and not for 127.0.0.1",
                "the client does not take this server's certificate, probably for its names",
            ),
            (
                ca.issue("127.0.0.1", ExtendedKeyUsagePurpose::ClientAuth, |_| {}),
                "the server's certificate is not for servers",
                "the client says that this server's certificate is not for servers",
            ),
        ];
        for (identity, client_says, server_says) in cases {
            let before = log.count(server_says);
            let bed = bed_with(&identity).await;
            let verifying = || bed.client().tls_ca_file(ca.file());
            let is_early = client_says.contains("not valid for");
            let retry = if is_early { Retry::Never } else { Retry::Forever };
            let error = refusal(verifying().retry(retry)).await;
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Certificate, "{text}");
            assert!(text.contains(client_says), "{text}");
            assert!(text.contains(&bed.server.tunnel_addr().to_string()), "{text}");
            // Clocks of machines that have just started are often wrong.
            assert_eq!(error.is_retryable(), is_early, "{text}");
            eventually(server_says, || log.count(server_says) > before).await;
            assert_eq!(bed.server.sessions(), 0);
            // Who does not verify does not care.
            let client = bed.client().local_addr("1").build().unwrap();
            soon("a start", client.start()).await.unwrap();
        }
    });
}

#[test]
fn a_client_whose_certificate_is_wrong_is_refused_and_told_why() {
    run_logged(async |log| {
        let (ca, other) = (Authority::new("good"), Authority::new("other"));
        let namesake = Authority::new("good");
        let bed = TestBed::with(Carrier::Tls, |server| server.tls_client_ca_file(ca.file())).await;
        let client = |change: fn(&mut rcgen::CertificateParams)| {
            Some(ca.issue("client", ExtendedKeyUsagePurpose::ClientAuth, change))
        };
        let cases = [
            (
                None,
                "the server wants a client certificate; give --tls-cert and --tls-key",
                "the client shows no certificate, and --tls-client-ca wants one",
            ),
            (
                Some(other.client()),
                "the server does not trust the CA that has issued this client's certificate",
                "the client's certificate was issued by none of the CAs of --tls-client-ca",
            ),
            (
                Some(namesake.client()),
                "the server does not trust the CA that has issued this client's certificate",
                "the client's certificate was issued by none of the CAs of --tls-client-ca",
            ),
            (
                client(|params| params.not_after = date_time_ymd(2020, 1, 1)),
                "the server says that this client's certificate (--tls-cert) has expired",
                "the client's certificate expired ",
            ),
            (
                client(|params| params.not_before = date_time_ymd(4000, 1, 1)),
                "has expired or is not valid yet",
                "the client's certificate is not valid for ",
            ),
            (
                Some(ca.server("client")),
                "this client's certificate (--tls-cert) is not for clients",
                "the client's certificate is not for clients",
            ),
        ];
        for (identity, client_says, server_says) in cases {
            let before = log.count(server_says);
            let mut refused = bed.client();
            if let Some(Identity { cert, key, .. }) = identity {
                refused = refused.tls_identity_files(cert, key);
            }
            let error = refusal(refused).await;
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::Certificate, "{text}");
            assert!(text.contains(client_says) && !error.is_retryable(), "{text}");
            eventually(server_says, || log.count(server_says) > before).await;
            assert_eq!(bed.server.sessions(), 0);
        }
    });
}

#[test]
fn a_revoked_certificate_is_refused_and_so_is_everybody_by_a_list_that_has_expired() {
    run_logged(async |log| {
        let ca = Authority::new("clients");
        let (good, stolen) = (ca.client(), ca.client());
        let list = ca.revoke("crl.pem", &[], 4000);
        let bed = TestBed::with(Carrier::Tls, |server| {
            server.tls_client_ca_file(ca.file()).tls_client_crl_file(&list)
        })
        .await;
        let client = |identity: &Identity| {
            let (cert, key) = (&identity.cert, &identity.key);
            bed.client().tls_identity_files(cert, key).local_addr("1").build().unwrap()
        };
        let before = client(&stolen);
        soon("a start", before.start()).await.unwrap();

        replace(&ca.revoke("new-crl.pem", &[&stolen], 4000), &list);
        bed.server.reload_certificates().unwrap();
        let error = soon("the refusal", client(&stolen).start()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Certificate, "{error}");
        let says = "has it that this client's certificate (--tls-cert) was revoked";
        assert!(error.to_string().contains(says) && !error.is_retryable(), "{error}");
        log.says("the client's certificate was revoked").await;
        let others = client(&good);
        soon("a start", others.start()).await.unwrap();
        // What runs goes on.
        assert_eq!(bed.server.sessions(), 2);

        replace(&ca.revoke("old-crl.pem", &[&stolen], 2021), &list);
        bed.server.reload_certificates().unwrap();
        soon("the refusal", client(&good).start()).await.unwrap_err();
        log.says("the revocation list of --tls-client-crl expired ").await;

        // What is no list changes nothing.
        std::fs::write(&list, "no list").unwrap();
        let error = bed.server.reload_certificates().unwrap_err().to_string();
        assert!(error.contains("--tls-client-crl") && error.contains("crl.pem"), "{error}");
        // A list is noticed without being asked for.
        replace(&ca.revoke("newest-crl.pem", &[], 4000), &list);
        soon("the new list", async { while client(&stolen).start().await.is_err() {} }).await;
    });
}

#[test]
fn a_list_of_another_ca_says_nothing_of_a_certificate() {
    run_logged(async |log| {
        let (ca, other) = (Authority::new("clients"), Authority::new("others"));
        let list = other.revoke("crl.pem", &[], 4000);
        let bed = TestBed::with(Carrier::Tls, |server| {
            server.tls_client_ca_file(ca.file()).tls_client_crl_file(list)
        })
        .await;
        let identity = ca.client();
        refusal(bed.client().tls_identity_files(&identity.cert, &identity.key)).await;
        log.says("of which --tls-client-crl has no revocation list").await;
    });
}

#[test]
fn a_client_of_several_servers_resumes_with_each() {
    run_logged(async |log| {
        let (one, other) = (TestBed::start(Carrier::Tls).await, TestBed::start(Carrier::Tls).await);
        let links =
            [Link::to(one.server.tunnel_addr()).await, Link::to(other.server.tunnel_addr()).await];
        let servers = links.each_ref().map(|link| link.addr().to_string());
        let client = one.client().servers(servers).server_mode(ServerMode::All);
        let client = client.tunnel(Tunnel::http("app").local_addr("1")).build().unwrap();
        let mut events = client.events();
        soon("a start", client.start()).await.unwrap();
        eventually("both", || one.server.sessions() + other.server.sessions() == 2).await;
        while events.try_recv().is_ok() {}
        let whole = log.count("is_resumed=false");
        assert!(whole >= 2 && log.count("is_resumed=true") == 0, "{whole}");
        for link in &links {
            link.cut();
            ready(&mut events).await;
        }
        // Each end of a connection may say so.
        eventually("both to be resumed", || log.count("is_resumed=true") >= whole).await;
        assert_eq!(log.count("is_resumed=false"), whole);
    });
}

#[test]
fn a_client_that_is_refused_learns_it_though_its_chain_is_long() {
    run_logged(async |log| {
        let (ca, other) = (Authority::new("good"), Authority::new("other"));
        let bed = TestBed::with(Carrier::Tls, |server| server.tls_client_ca_file(ca.file())).await;
        // Some 40 KB: more than one record, and more than one read of the server.
        let many = |params: &mut rcgen::CertificateParams| {
            let names = (0..100).map(|number| format!("name-{number}.of.a.client.example"));
            params.subject_alt_names =
                names.map(|name| rcgen::SanType::DnsName(name.try_into().unwrap())).collect();
        };
        let chain = |issuer: &Authority| {
            let identity = issuer.issue("client", ExtendedKeyUsagePurpose::ClientAuth, many);
            let mut text = std::fs::read_to_string(&identity.cert).unwrap();
            for _ in 0..10 {
                let further = issuer.issue("x", ExtendedKeyUsagePurpose::ClientAuth, many);
                text += &std::fs::read_to_string(&further.cert).unwrap();
            }
            std::fs::write(&identity.cert, text).unwrap();
            identity
        };
        let Identity { cert, key, .. } = chain(&ca);
        let client = bed.client().tls_identity_files(cert, key).local_addr("1").build().unwrap();
        soon("a start", client.start()).await.unwrap();
        for _ in 0..10 {
            let Identity { cert, key, .. } = chain(&other);
            let error = refusal(bed.client().tls_identity_files(cert, key)).await.to_string();
            assert!(error.contains("does not trust the CA"), "{error}");
        }
        log.says("issued by none of the CAs of --tls-client-ca").await;
    });
}

#[test]
fn a_new_certificate_is_shown_while_old_sessions_go_on() {
    run(async {
        let ca = Authority::new("good");
        let (old, new, newest) =
            (ca.server("127.0.0.1"), ca.server("127.0.0.1"), ca.server("127.0.0.1"));
        let bed = bed_with(&old).await;
        let echo = LocalService::echo().await;
        let (client, public) = bed.tcp(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert_eq!(shown_by(bed.server.tunnel_addr(), &ca, "127.0.0.1").await, old.der);

        // By the look at the files.
        new.replace(&old);
        is_shown(&bed, &ca, "127.0.0.1", &new).await;
        says_and_hears(&mut visitor).await;
        // At once.
        newest.replace(&old);
        bed.server.reload_certificates().unwrap();
        assert_eq!(shown_by(bed.server.tunnel_addr(), &ca, "127.0.0.1").await, newest.der);
        says_and_hears(&mut visitor).await;
        assert_eq!(bed.server.sessions(), 1);
        drop(client);
    });
}

/// The way that secrets are mounted into containers: the files are links through one link to a folder,
/// which is replaced.
#[cfg(unix)]
#[test]
fn certificates_behind_a_link_that_is_turned_are_noticed() {
    use std::os::unix::fs::symlink;
    run(async {
        let ca = Authority::new("good");
        let (old, new) = (ca.server("127.0.0.1"), ca.server("127.0.0.1"));
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        for (folder, identity) in [("first", &old), ("second", &new)] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::copy(&identity.cert, at(folder).join("tls.crt")).unwrap();
            std::fs::copy(&identity.key, at(folder).join("tls.key")).unwrap();
        }
        symlink("first", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        symlink("..data/tls.key", at("tls.key")).unwrap();
        let bed = TestBed::with(Carrier::Tls, |server| {
            server.tls_identity_files(at("tls.crt"), at("tls.key"))
        })
        .await;
        assert_eq!(shown_by(bed.server.tunnel_addr(), &ca, "127.0.0.1").await, old.der);
        symlink("second", at("..new")).unwrap();
        std::fs::rename(at("..new"), at("..data")).unwrap();
        is_shown(&bed, &ca, "127.0.0.1", &new).await;
    });
}

#[test]
fn half_of_a_new_pair_is_not_used_and_complained_of_once() {
    const COMPLAINT: &str = "the key does not belong to the certificate";
    run_logged(async |log| {
        let ca = Authority::new("good");
        let (old, new) = (ca.server("127.0.0.1"), ca.server("127.0.0.1"));
        let bed = bed_with(&old).await;
        replace(&new.cert, &old.cert);
        log.says(COMPLAINT).await;
        let error = bed.server.reload_certificates().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::File);
        assert!(error.to_string().contains(COMPLAINT), "{error}");
        assert!(error.to_string().contains("--tls-cert, --tls-key"), "{error}");
        assert_eq!(shown_by(bed.server.tunnel_addr(), &ca, "127.0.0.1").await, old.der);

        // Cut off in the middle.
        let whole = std::fs::read(&new.key).unwrap();
        std::fs::write(&old.key, &whole[..whole.len() / 2]).unwrap();
        let error = bed.server.reload_certificates().unwrap_err();
        assert!(error.to_string().contains(old.key.to_str().unwrap()), "{error}");
        assert_eq!(shown_by(bed.server.tunnel_addr(), &ca, "127.0.0.1").await, old.der);

        replace(&new.key, &old.key);
        is_shown(&bed, &ca, "127.0.0.1", &new).await;
        assert_eq!(log.count(COMPLAINT), 1);
    });
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_warned_of() {
    run_logged(async |log| {
        let ca = Authority::new("good");
        let identity = ca.server("127.0.0.1");
        set_mode(&identity, 0o600);
        let bed = bed_with(&identity).await;
        assert_eq!(log.count("chmod"), 0);
        set_mode(&identity, 0o640);
        bed.server.reload_certificates().unwrap();
        log.says(format_args!("chmod 600 {}", identity.key.display())).await;
    });
}

/// As if a file had been written an hour ago.
fn set_age(file: &Path) {
    let written = SystemTime::now() - Duration::from_secs(3_600);
    File::options().write(true).open(file).unwrap().set_modified(written).unwrap();
}

#[cfg(unix)]
fn set_mode(identity: &Identity, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&identity.key, permissions).unwrap();
}

/// The next time that there is no session, for this reason.
async fn lost(events: &mut tokio::sync::broadcast::Receiver<ClientEvent>, why: &str) {
    soon(why, async {
        loop {
            match events.recv().await.unwrap() {
                ClientEvent::Disconnected { reason, .. } if reason.contains(why) => return,
                ClientEvent::Ended { reason } => unreachable!("the client ended: {reason:?}"),
                _ => {}
            }
        }
    })
    .await;
}

#[test]
fn a_changed_client_ca_holds_for_what_resumes_and_a_new_certificate_brings_the_client_back() {
    const REFUSED: &str = "the client's certificate was issued by none of the CAs of";
    run_logged(async |log| {
        let (before, after) = (Authority::new("before"), Authority::new("after"));
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("clients.pem");
        std::fs::copy(before.file(), &ca).unwrap();
        let identity = before.client();
        // Written so long ago that nobody takes a second look, which would begin without tickets.
        for file in [&ca, &identity.cert, &identity.key] {
            set_age(file);
        }
        let bed = TestBed::with(Carrier::Tls, |server| server.tls_client_ca_file(&ca)).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let echo = LocalService::echo().await;
        let client = bed.client_over(&link).tls_identity_files(&identity.cert, &identity.key);
        let client = direct(client, echo.addr());
        let public = started(&client).await;
        let mut events = client.events();
        eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
        // Tickets are in use.
        log.says("TLS handshake done is_resumed=true").await;
        let mut visitors = vec![TcpStream::connect(public).await.unwrap()];
        says_and_hears(&mut visitors[0]).await;

        replace(&after.file(), &ca);
        bed.server.reload_certificates().unwrap();
        let refused_before = log.count(REFUSED);
        // Those that wait are used up, and new ones do not come; visitors go over the session.
        while log.count(REFUSED) == refused_before || bed.server.direct().waiting > 0 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            says_and_hears(&mut visitor).await;
            visitors.push(visitor);
        }
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        says_and_hears(&mut visitors[0]).await;
        assert_eq!(bed.server.sessions(), 1);

        // A session is not for ever, and what had one does not give up.
        link.cut();
        lost(&mut events, "does not trust the CA that has issued this client's certificate").await;
        assert_eq!(bed.server.sessions(), 0);
        after.client().replace(&identity);
        ready(&mut events).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
    });
}

#[test]
fn a_client_reads_its_cas_anew_when_it_connects() {
    run(async {
        let (before, after) = (Authority::new("before"), Authority::new("after"));
        let identity = before.server("127.0.0.1");
        let bed = bed_with(&identity).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let cas = tempfile::tempdir().unwrap();
        let ca = cas.path().join("cas.pem");
        std::fs::copy(before.file(), &ca).unwrap();
        let client = bed.client_over(&link).tls_ca_file(&ca).local_addr("1").build().unwrap();
        soon("a start", client.start()).await.unwrap();
        let mut events = client.events();

        after.server("127.0.0.1").replace(&identity);
        bed.server.reload_certificates().unwrap();
        // Half a change: what was good before stays in use, and with it the ticket of a server that was
        // verified.
        std::fs::write(&ca, "nothing yet").unwrap();
        link.cut();
        ready(&mut events).await;
        replace(&after.file(), &ca);
        link.cut();
        ready(&mut events).await;
        replace(&before.file(), &ca);
        link.cut();
        lost(&mut events, "the server's certificate was issued by none of the CAs").await;
        replace(&after.file(), &ca);
        ready(&mut events).await;
    });
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let message = |client: ClientBuilder| client.build().unwrap_err().to_string();
    let client = || Client::builder().server_addr("127.0.0.1:7835").token("t").local_addr("1");
    assert!(message(client().tls_server_name("a.example")).contains("tls_ca_file"));
    assert!(message(client().tls_ca_file("ca.pem").plaintext()).contains("plaintext"));
    let name = message(client().tls_verify().tls_server_name("no name"));
    assert!(name.contains("no name") && name.contains("tls_server_name"), "{name}");
    for server in [
        TestBed::server(Carrier::Plaintext).tls_client_ca_file("ca.pem"),
        TestBed::server(Carrier::Plaintext).tls_identity_files("c.pem", "k.pem"),
    ] {
        let error = server.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("plaintext"), "{error}");
    }
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let client = bed.client().tls_ca_file("/nowhere/ca.pem").local_addr("1").build().unwrap();
        let error = soon("the error", client.start()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::File);
        let text = error.to_string();
        assert!(text.contains("/nowhere/ca.pem") && text.contains("--tls-ca"), "{text}");
    });
}

/// Not a word of it is about certificates when the other end is none of ours.
#[test]
fn what_is_no_tls_is_not_taken_for_a_wrong_certificate() {
    run_logged(async |_: Log| {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let ca = Authority::new("good");
        let client = ferrotunnel_tests::client_of(bed.server.tunnel_addr(), Carrier::Tls);
        let error = refusal(client.tls_ca_file(ca.file()).retry(Retry::Never)).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("--plaintext"), "{error}");
    });
}
