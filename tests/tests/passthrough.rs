//! Visitors whose TLS ends at the local service: they trust its certificate and have never heard of the server's.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrotunnel::{
    AcmeConfig, Balance, Client, ClientBuilder, ClientEvent, ErrorKind, HealthCheck, LimitsConfig,
    PrincipalConfig, ProxyProtocol, Retry, ServerBuilder, Streams, Tunnel, TunnelKind, issue_token,
};
use ferrotunnel_tests::{
    Authority, Carrier, Identity, LocalService, PATIENCE, SecureVisitor, Site, TestBed, eventually,
    over_both, raw, run, says_and_hears, soon,
};
use hyper::StatusCode;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

fn identity_for(ca: &Authority, names: &[&str]) -> Identity {
    ca.issue(names[0], ExtendedKeyUsagePurpose::ServerAuth, |params| {
        let name = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(name).collect();
    })
}

/// A local service that speaks TLS, with a certificate of its own. It says its name and a few things about the
/// connection, and then sends back what it gets.
struct Service {
    local: LocalService,
    ca: Authority,
    identity: Identity,
}

impl Service {
    async fn start(name: &'static str, hosts: &[&str]) -> Self {
        Self::wanting(name, hosts, None).await
    }

    /// The same where visitors need a certificate of that CA.
    async fn wanting(name: &'static str, hosts: &[&str], visitors: Option<&Authority>) -> Self {
        let ca = Authority::new("ca of a local service");
        let identity = identity_for(&ca, hosts);
        let acceptor = acceptor(&identity, visitors);
        let local = LocalService::each(move |socket| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut io) = acceptor.accept(socket).await else { return };
                let tls = io.get_ref().1;
                let version = tls.protocol_version().unwrap();
                let alpn = String::from_utf8_lossy(tls.alpn_protocol().unwrap_or(b"-"));
                let sni = tls.server_name().unwrap();
                let said = format!("{name} {sni} {version:?} {alpn}\n");
                io.write_all(said.as_bytes()).await.unwrap();
                let (mut from, mut to) = tokio::io::split(io);
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            }
        })
        .await;
        Self { local, ca, identity }
    }

    fn addr(&self) -> String {
        self.local.addr().to_string()
    }

    /// Trusts this service and nobody else.
    fn visitor(&self) -> SecureVisitor {
        SecureVisitor::trusting(&self.ca.file(), &[])
    }
}

fn acceptor(identity: &Identity, visitors: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
    let config = match visitors {
        None => config.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(ca.file()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            config.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let mut config = config.with_single_cert(vec![identity.der.clone()], key).unwrap();
    config.alpn_protocols = vec![b"test/1".to_vec(), b"acme-tls/1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A server whose own certificate is for `app.localhost`, and the CA of that.
async fn bed(
    carrier: Carrier,
    change: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (TestBed, Authority) {
    let ca = Authority::new("ca of the server");
    let identity = identity_for(&ca, &["app.localhost"]);
    let bed = TestBed::with(carrier, |server| {
        let server = server.https_bind("127.0.0.1:0");
        change(server.https_identity_files(&identity.cert, &identity.key))
    });
    (bed.await, ca)
}

fn https(bed: &TestBed) -> SocketAddr {
    bed.server.https_addr().unwrap()
}

async fn started(client: ClientBuilder, tunnel: Tunnel) -> (Client, String) {
    let client = client.tunnel(tunnel).build().unwrap();
    let url = soon("a tunnel", client.start()).await.unwrap().public_url;
    (client, url)
}

async fn tunnel(bed: &TestBed, tunnel: Tunnel) -> Client {
    started(bed.client(), tunnel).await.0
}

/// Why a tunnel is refused for good.
async fn refusal(client: ClientBuilder, tunnel: Tunnel) -> String {
    let client = client.retry(Retry::Never).tunnel(tunnel.local_addr("1")).build().unwrap();
    let error = soon("an answer", client.start()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    error.to_string()
}

/// What the local service says first.
async fn greeting(io: &mut TlsStream<TcpStream>) -> String {
    let mut line = String::new();
    soon("a greeting", BufReader::with_capacity(1, io).read_line(&mut line)).await.unwrap();
    line.trim_end().to_owned()
}

/// The same over a new connection.
async fn greeted(visitor: &SecureVisitor, at: SocketAddr, host: &str) -> String {
    let mut io = soon("TLS", visitor.connect(at, host)).await.unwrap();
    greeting(&mut io).await
}

async fn says_and_hears_over(io: &mut TlsStream<TcpStream>) {
    io.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    soon("the echo", io.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"ping");
}

/// What a server without a certificate for a name says.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Who gives a host up and asks for it in another kind at once has given it up first.
#[test]
fn a_host_changes_its_kind_without_a_refusal() {
    over_both(async |carrier| {
        let (bed, _) = bed(carrier, |server| server).await;
        let http = Tunnel::http("a").host("shop.example").local_addr("1");
        let client = bed.client().tunnel(http).tunnel(Tunnel::tls("b").local_addr("2"));
        let client = client.build().unwrap();
        soon("it starts", client.start()).await.unwrap();
        let mut events = client.events();
        let changes = client.set_tunnels([Tunnel::tls("b").host("shop.example").local_addr("2")]);
        let changes = changes.await.unwrap();
        assert_eq!((changes.changed, changes.removed), (1, 1));
        soon("the tunnel", async {
            loop {
                match events.recv().await.unwrap() {
                    ClientEvent::TunnelReady(at) if at.name == "b" => break,
                    ClientEvent::TunnelLost { reason, .. } => {
                        assert!(!reason.contains("already"), "{reason}");
                    }
                    _ => {}
                }
            }
        })
        .await;
    });
}

#[test]
fn visitors_make_tls_with_the_local_service_in_every_version_and_over_every_kind_of_stream() {
    over_both(async |carrier| {
        let (bed, _) = bed(carrier, |server| server).await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let wanted = Tunnel::tls("vault").local_addr(service.addr()).streams(streams);
            let (client, url) = started(bed.client(), wanted).await;
            assert_eq!(url, format!("tls://vault.localhost:{}", https(&bed).port()));
            if streams == Streams::Direct {
                eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
            }
            for (version, spoken) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
                let visitor = SecureVisitor::speaking(&service.ca.file(), &["test/1"], &[version]);
                let io = visitor.connect(https(&bed), "vault.localhost");
                let mut io = soon("TLS", io).await.unwrap();
                let shown = io.get_ref().1.peer_certificates().unwrap()[0].clone();
                assert_eq!(shown, service.identity.der);
                let said = greeting(&mut io).await;
                assert_eq!(said, format!("vault vault.localhost {spoken} test/1"));
                if streams == Streams::Direct {
                    eventually("a carrier of its own", || bed.server.direct().serving == 1).await;
                }
                // Enough for the kernel to be asked to move it, where it can.
                let (mut from, mut to) = tokio::io::split(io);
                let body = Site::pattern();
                let saying = async {
                    to.write_all(&body).await.unwrap();
                    to.shutdown().await.unwrap();
                };
                let mut heard = Vec::new();
                let (_, heard_all) =
                    soon("the echo", async { tokio::join!(saying, from.read_to_end(&mut heard)) })
                        .await;
                heard_all.unwrap();
                assert!(heard == body, "{} bytes", heard.len());
                drop((from, to));
                eventually("the carrier to be let go", || bed.server.direct().serving == 0).await;
                if streams == Streams::Direct {
                    eventually("the next carrier", || bed.server.direct().waiting > 0).await;
                }
            }
            client.shutdown().await.unwrap();
        }
    });
}

#[test]
fn carriers_visitors_over_https_and_those_who_are_passed_on_share_one_port() {
    run(async {
        let (bed, ca) = bed(Carrier::Tls, |server| server.clients_on_https_port().no_http()).await;
        assert_eq!(bed.server.tunnel_addr(), https(&bed));
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let service = Service::start("vault", &["vault.localhost"]).await;
        let client = bed.client();
        let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
        let client = client.tunnel(Tunnel::tls("vault").local_addr(service.addr()));
        let client = client.build().unwrap();
        client.start().await.unwrap();
        let (_tcp, public) = bed.direct(echo.addr()).await;
        for alpn in [&["h2"][..], &["http/1.1"], &[]] {
            let visitor = SecureVisitor::trusting(&ca.file(), alpn);
            assert_eq!(visitor.get(https(&bed), "app.localhost", "/hello").await.body, "hello");
        }
        let said = greeted(&service.visitor(), https(&bed), "vault.localhost").await;
        assert_eq!(said, "vault vault.localhost TLSv1_3 -");
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        // The other's certificate is seen by nobody.
        let wrong = SecureVisitor::trusting(&ca.file(), &[]);
        wrong.connect(https(&bed), "vault.localhost").await.unwrap_err();
        let wrong = service.visitor();
        wrong.connect(https(&bed), "app.localhost").await.unwrap_err();
    });
}

#[test]
fn a_certificate_of_the_visitor_reaches_the_local_service() {
    run(async {
        let (bed, _) = bed(Carrier::Tls, |server| server).await;
        let visitors = Authority::new("ca of visitors");
        let service = Service::wanting("vault", &["vault.localhost"], Some(&visitors)).await;
        let _client = tunnel(&bed, Tunnel::tls("vault").local_addr(service.addr())).await;
        for version in [&TLS12, &TLS13] {
            let nobody = SecureVisitor::speaking(&service.ca.file(), &[], &[version]);
            let identity = visitors.client();
            let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
            let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
            let shown = CertifiedKey::new(vec![identity.der.clone()], key);
            let known = nobody.clone().with(|config| {
                config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
            });
            let said = greeted(&known, https(&bed), "vault.localhost").await;
            assert!(said.starts_with("vault vault.localhost"), "{said}");
            // In TLS 1.3 it is refused when its own handshake is over.
            let refused = match nobody.connect(https(&bed), "vault.localhost").await {
                Ok(mut io) => soon("the alert", io.read_u8()).await.unwrap_err(),
                Err(refused) => refused,
            };
            assert!(refused.to_string().contains("ertificate"), "{refused}");
        }
    });
}

#[test]
fn a_first_message_may_come_in_many_segments_and_records() {
    run(async {
        let (bed, _) = bed(Carrier::Tls, |server| server).await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let _client = tunnel(&bed, Tunnel::tls("vault").local_addr(service.addr())).await;
        // By the segment.
        let link = LocalService::dripping(https(&bed), 100).await;
        let said = greeted(&service.visitor(), link.addr(), "vault.localhost").await;
        assert!(said.starts_with("vault "), "{said}");
        // By the record: rustls has one for each 27 bytes then, as small as it gets.
        let visitor = service.visitor().with(|config| config.max_fragment_size = Some(32));
        let hello = visitor.hello("vault.localhost");
        let first = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
        assert!(first < 32 && hello.len() > 200, "{first} of {}", hello.len());
        for at in [https(&bed), link.addr()] {
            let said = greeted(&visitor, at, "vault.localhost").await;
            assert!(said.starts_with("vault "), "{said}");
        }
    });
}

#[test]
fn every_byte_passes_as_it_is_and_each_direction_ends_by_itself() {
    over_both(async |carrier| {
        let (bed, _) = bed(carrier, |server| server).await;
        // It answers when it has heard the end.
        let local = LocalService::each(|mut socket| async move {
            let mut heard = Vec::new();
            socket.read_to_end(&mut heard).await.unwrap();
            heard.reverse();
            socket.write_all(&heard).await.unwrap();
            socket.shutdown().await.unwrap();
        })
        .await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let hello = service.visitor().hello("VAULT.localhost");
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let wanted = Tunnel::tls("vault").local_addr(local.addr().to_string());
            let _client = tunnel(&bed, wanted.streams(streams)).await;
            if streams == Streams::Direct {
                eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
            }
            // What comes behind the first message may come with it, as early data does.
            for behind in [0, 1, 1_500, 100_000] {
                let said = [&hello, &Site::pattern()[..behind]].concat();
                let mut visitor = TcpStream::connect(https(&bed)).await.unwrap();
                visitor.write_all(&said).await.unwrap();
                visitor.shutdown().await.unwrap();
                let mut heard = Vec::new();
                soon("the answer", visitor.read_to_end(&mut heard)).await.unwrap();
                heard.reverse();
                assert!(heard == said, "{behind}: {} of {}", heard.len(), said.len());
            }
        }
    });
}

#[test]
fn garbage_and_what_is_too_long_are_refused_as_ever() {
    run(async {
        let (bed, _) = bed(Carrier::Tls, |server| server).await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let _client = tunnel(&bed, Tunnel::tls("vault").local_addr(service.addr())).await;
        let visitor = service.visitor();
        let mut spoiled = visitor.hello("vault.localhost");
        // A length inside that leads beyond the end.
        spoiled[43] = 255;
        // A message of 60,000 bytes, in records of 16,000.
        let record = [&[22, 3, 1, 0x3e, 0x80][..], &[0; 16_000]].concat();
        let mut long = record.repeat(4);
        long[5..9].copy_from_slice(&[1, 0, 0xea, 0x60]);
        let http = b"GET / HTTP/1.1\r\nhost: vault.localhost\r\n\r\n".to_vec();
        for (said, is_told) in [(spoiled, true), (http, true), (long, false)] {
            let mut stranger = TcpStream::connect(https(&bed)).await.unwrap();
            let (mut from, mut to) = stranger.split();
            let mut answer = Vec::new();
            let (_, _) = soon("the end", async {
                tokio::join!(to.write_all(&said), from.read_to_end(&mut answer))
            })
            .await;
            assert_eq!(answer.first() == Some(&21), is_told, "{answer:?}");
        }
        let said = greeted(&visitor, https(&bed), "vault.localhost").await;
        assert!(said.starts_with("vault "), "{said}");
    });
}

#[test]
fn a_name_that_nobody_has_is_answered_as_one_without_a_certificate() {
    run(async {
        let state = tempfile::tempdir().unwrap();
        let mut acme = AcmeConfig::new(state.path());
        acme.server = format!("https://{}/dir", LocalService::nobody().await);
        let bed = TestBed::with(Carrier::Tls, |server| {
            server.https_bind("127.0.0.1:0").acme(acme).visitor_grace(Duration::ZERO)
        });
        let bed = bed.await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let unknown = async |host: &str, alpn: &[&str]| {
            let visitor = SecureVisitor::trusting(&service.ca.file(), alpn);
            let answer = soon("the alert", raw(https(&bed), &visitor.hello(host))).await.unwrap();
            assert_eq!(answer, UNRECOGNIZED_NAME, "{host}");
        };
        unknown("vault.localhost", &[]).await;
        let client = tunnel(&bed, Tunnel::tls("vault").local_addr(service.addr())).await;
        let said = greeted(&service.visitor(), https(&bed), "vault.localhost").await;
        assert!(said.starts_with("vault "), "{said}");
        // Neither its neighbours nor the domain.
        for host in ["vaults.localhost", "x.vault.localhost", "localhost", "vault.example"] {
            unknown(host, &["h2"]).await;
        }
        client.shutdown().await.unwrap();
        unknown("vault.localhost", &[]).await;
    });
}

#[test]
fn a_challenge_for_such_a_host_is_the_local_service_s_to_answer() {
    run(async {
        let state = tempfile::tempdir().unwrap();
        let mut acme = AcmeConfig::new(state.path());
        acme.server = format!("https://{}/dir", LocalService::nobody().await);
        let bed = TestBed::with(Carrier::Tls, |server| server.https_bind("127.0.0.1:0").acme(acme));
        let bed = bed.await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let _client = tunnel(&bed, Tunnel::tls("vault").local_addr(service.addr())).await;
        let asking = SecureVisitor::trusting(&service.ca.file(), &["acme-tls/1"]);
        let said = greeted(&asking, https(&bed), "vault.localhost").await;
        assert_eq!(said, "vault vault.localhost TLSv1_3 acme-tls/1");
    });
}

#[test]
fn without_tls_and_over_another_s_such_a_host_is_an_unknown_one() {
    run(async {
        let (bed, ca) = bed(Carrier::Tls, |server| server.domain("localhost")).await;
        let site = Site::start().await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let _app = bed.http("app", site.addr()).await;
        let wanted = Tunnel::tls("vault").host("vault.example").local_addr(service.addr());
        let _client = tunnel(&bed, wanted).await;
        let unknown = bed.get("nobody", "/hello").await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        let host = format!("vault.example:{}", bed.http_addr().port());
        for answer in [
            bed.get("vault", "/hello").await,
            ferrotunnel_tests::get(bed.http_addr(), &host, "/hello").await,
        ] {
            assert_eq!(answer.status, unknown.status);
            assert_eq!(answer.ferrotunnel_error(), unknown.ferrotunnel_error());
        }
        for alpn in ["h2", "http/1.1"] {
            let visitor = SecureVisitor::trusting(&ca.file(), &[alpn]);
            let ask = async |host| visitor.get_for(https(&bed), "app.localhost", host, "/").await;
            let (nobody, answer) = (ask("nobody.localhost").await, ask("vault.localhost").await);
            assert_eq!(answer.status, nobody.status, "{answer:?}");
            assert_eq!(answer.ferrotunnel_error(), nobody.ferrotunnel_error());
        }
    });
}

#[test]
fn a_name_is_one_kind_s_or_the_other_s() {
    over_both(async |carrier| {
        let (bed, _) = bed(carrier, |server| server).await;
        let web = Tunnel::http("app").host("shop.example").host("*.web.example");
        let web = tunnel(&bed, web.local_addr("1")).await;
        let vault = Tunnel::tls("vault").host("vault.example");
        let vault = tunnel(&bed, vault.local_addr("1")).await;
        for (wanted, words) in [
            (Tunnel::tls("app"), "app.localhost is an http tunnel already"),
            (Tunnel::tls("x").host("shop.example"), "shop.example is an http tunnel already"),
            (Tunnel::tls("x").host("*.web.example"), "*.web.example is an http tunnel already"),
            (Tunnel::http("vault"), "vault.localhost is a tls tunnel already"),
            (Tunnel::http("vault").path("/api"), "vault.localhost is a tls tunnel already"),
            (Tunnel::http("x").host("Vault.example"), "vault.example is a tls tunnel already"),
            (Tunnel::http("vault").group("g"), "vault.localhost is a tls tunnel already"),
        ] {
            let reason = refusal(bed.client(), wanted).await;
            assert!(reason.contains("name-taken") && reason.contains(words), "{reason}");
        }
        // Neither has lost anything, and what a client has left is free, though it could come back.
        assert_eq!(bed.server.tunnels(), 2);
        soon("the end", web.shutdown()).await.unwrap();
        soon("the end", vault.shutdown()).await.unwrap();
        eventually("both to have left", || bed.server.sessions() == 0).await;
        let _vault = tunnel(&bed, Tunnel::http("vault").local_addr("1")).await;
        let _app = tunnel(&bed, Tunnel::tls("app").local_addr("1")).await;
    });
}

#[test]
fn exact_hosts_go_before_wildcards_whatever_their_kinds() {
    run(async {
        let ca = Authority::new("ca of the server");
        let names = ["*.shop.example", "www.mail.example"];
        let identity = identity_for(&ca, &names);
        let bed = TestBed::with(Carrier::Tls, |server| {
            let server =
                server.https_bind("127.0.0.1:0").reserved_names(["admin"]).domain("tunnel.example");
            server.https_identity_files(&identity.cert, &identity.key)
        });
        let bed = bed.await;
        let site = Site::start().await;
        let names = ["db.shop.example", "*.mail.example", "*.tunnel.example"];
        let service = Service::start("vault", &names).await;
        let web = Tunnel::http("").host("*.shop.example").host("www.mail.example");
        let _web = tunnel(&bed, web.local_addr(site.addr().to_string())).await;
        let vault = Tunnel::tls("").host("db.shop.example").host("*.mail.example");
        let vault = vault.host("*.tunnel.example").local_addr(service.addr());
        let (_vault, url) = started(bed.client(), vault).await;
        let name = url.strip_prefix("tls://").unwrap().split(':').next().unwrap();
        for host in ["db.shop.example", "imap.mail.example", "any.tunnel.example", name] {
            let said = greeted(&service.visitor(), https(&bed), host).await;
            assert!(said.starts_with("vault "), "{said}");
        }
        let visitor = SecureVisitor::trusting(&ca.file(), &["h2"]);
        for host in ["www.shop.example", "www.mail.example"] {
            assert_eq!(visitor.get(https(&bed), host, "/hello").await.body, "hello");
        }
        // No wildcard answers for what is reserved, and nobody gets it.
        service.visitor().connect(https(&bed), "admin.tunnel.example").await.unwrap_err();
        let reason = refusal(bed.client(), Tunnel::tls("admin")).await;
        assert!(reason.contains("reserved"), "{reason}");
    });
}

#[test]
fn visitors_wait_for_a_client_that_restarts_and_hold_up_no_handshake() {
    over_both(async |carrier| {
        let (bed, ca) = bed(carrier, |server| {
            let mut limits = LimitsConfig::default();
            limits.max_handshakes_in_flight = 1;
            limits.handshake_deadline = PATIENCE * 2;
            server.visitor_grace(PATIENCE * 2).limits(limits)
        })
        .await;
        let site = Site::start().await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let _app = bed.http("app", site.addr()).await;
        let wanted = Tunnel::tls("vault").local_addr(service.addr());
        let client = tunnel(&bed, wanted.clone()).await;
        drop(client);
        eventually("the session to end", || bed.server.sessions() == 1).await;
        let early = TcpStream::connect(https(&bed)).await.unwrap();
        let visitor = service.visitor();
        let early = tokio::spawn(async move {
            let mut io = visitor.connect_over(early, "vault.localhost").await.unwrap();
            greeting(&mut io).await
        });
        let others = SecureVisitor::trusting(&ca.file(), &["h2"]);
        let hello = others.get(https(&bed), "app.localhost", "/hello");
        assert_eq!(soon("a handshake", hello).await.body, "hello");
        assert!(!early.is_finished());
        let _client = tunnel(&bed, wanted).await;
        let said = soon("the first one", early).await.unwrap();
        assert!(said.starts_with("vault "), "{said}");
    });
}

#[test]
fn a_wait_in_vain_ends_with_the_grace() {
    run(async {
        let grace = Duration::from_millis(300);
        let (bed, _) = bed(Carrier::Tls, |server| server.visitor_grace(grace)).await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let client = tunnel(&bed, Tunnel::tls("vault").local_addr(service.addr())).await;
        drop(client);
        eventually("the session to end", || bed.server.sessions() == 0).await;
        let visitor = service.visitor();
        let connecting = visitor.connect(https(&bed), "vault.localhost");
        soon("the end", connecting).await.unwrap_err();
        eventually("the name to be free", || bed.server.tunnels() == 0).await;
    });
}

#[test]
fn a_newer_client_takes_the_name_over_and_members_of_a_group_share_it() {
    over_both(async |carrier| {
        let (bed, _) = bed(carrier, |server| server).await;
        let ca = Authority::new("ca of all");
        let mut services = Vec::new();
        for name in ["first", "second"] {
            let acceptor = acceptor(&identity_for(&ca, &["vault.localhost"]), None);
            let service = LocalService::each(move |socket| {
                let acceptor = acceptor.clone();
                async move {
                    let Ok(mut io) = acceptor.accept(socket).await else { return };
                    io.write_all(format!("{name}\n").as_bytes()).await.unwrap();
                    io.shutdown().await.unwrap();
                }
            });
            services.push(service.await);
        }
        let visitor = SecureVisitor::trusting(&ca.file(), &[]);
        let said = async || greeted(&visitor, https(&bed), "vault.localhost").await;
        let to = |at: usize| Tunnel::tls("vault").local_addr(services[at].addr().to_string());
        let first = tunnel(&bed, to(0)).await;
        assert_eq!(said().await, "first");
        let second = tunnel(&bed, to(1)).await;
        let ended = soon("the end", first.wait()).await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Superseded);
        assert_eq!(said().await, "second");
        soon("the end", second.shutdown()).await.unwrap();
        let member = |at| to(at).group("g").balance(Balance::RoundRobin);
        let first = tunnel(&bed, member(0)).await;
        let _second = tunnel(&bed, member(1)).await;
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(said().await);
        }
        answers.sort();
        assert_eq!(answers, ["first", "first", "first", "second", "second", "second"]);
        soon("the end", first.shutdown()).await.unwrap();
        assert_eq!(said().await, "second");
    });
}

#[test]
fn the_local_service_is_told_who_comes_also_by_way_of_a_proxy() {
    run(async {
        let (bed, _) =
            bed(Carrier::Tls, |server| server.trusted_proxies(["127.0.1.1"]).accept_proxy()).await;
        let ca = Authority::new("ca of the local service");
        let acceptor = acceptor(&identity_for(&ca, &["vault.localhost"]), None);
        let local = LocalService::each(move |mut socket| {
            let acceptor = acceptor.clone();
            async move {
                let mut said = Vec::new();
                while !said.ends_with(b"\r\n") {
                    said.push(socket.read_u8().await.unwrap());
                }
                let mut io = acceptor.accept(socket).await.unwrap();
                io.write_all(&said).await.unwrap();
                io.shutdown().await.unwrap();
            }
        })
        .await;
        let visitor = SecureVisitor::trusting(&ca.file(), &[]);
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let wanted = Tunnel::tls("vault").proxy_protocol(ProxyProtocol::V1).streams(streams);
            let _client = tunnel(&bed, wanted.local_addr(local.addr().to_string())).await;
            let socket = TcpStream::connect(https(&bed)).await.unwrap();
            let from = socket.local_addr().unwrap().port();
            let mut io = visitor.connect_over(socket, "vault.localhost").await.unwrap();
            let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {}", https(&bed).port());
            assert_eq!(greeting(&mut io).await, expected);
            let proxy = tokio::net::TcpSocket::new_v4().unwrap();
            proxy.bind("127.0.1.1:0".parse().unwrap()).unwrap();
            let mut proxy = proxy.connect(https(&bed)).await.unwrap();
            let header = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443";
            proxy.write_all(format!("{header}\r\n").as_bytes()).await.unwrap();
            let mut io = visitor.connect_over(proxy, "vault.localhost").await.unwrap();
            assert_eq!(greeting(&mut io).await, header);
        }
    });
}

#[test]
fn addresses_that_a_tunnel_does_not_want_are_turned_away() {
    run(async {
        let (bed, _) = bed(Carrier::Tls, |server| server).await;
        let service = Service::start("vault", &["vault.localhost", "open.localhost"]).await;
        let closed = Tunnel::tls("vault").deny("127.0.0.0/8").local_addr(service.addr());
        let _closed = tunnel(&bed, closed).await;
        let open = Tunnel::tls("open").allow("127.0.0.1").local_addr(service.addr());
        let _open = tunnel(&bed, open).await;
        let visitor = service.visitor();
        let refused = visitor.connect(https(&bed), "vault.localhost");
        soon("the end", refused).await.unwrap_err();
        assert_eq!(bed.server.streams(), 0);
        let said = greeted(&visitor, https(&bed), "open.localhost").await;
        assert!(said.starts_with("vault "), "{said}");
    });
}

#[test]
fn limits_on_visitors_hold_and_are_counted() {
    run(async {
        let (bed, _) = bed(Carrier::Tls, |server| {
            let mut limits = LimitsConfig::default();
            limits.max_visitors_per_tunnel = Some(1);
            limits.max_visitors_per_address = Some(2);
            server.limits(limits)
        })
        .await;
        let service = Service::start("vault", &["vault.localhost", "other.localhost"]).await;
        let wanted = Tunnel::tls("vault").local_addr(service.addr());
        let _one = tunnel(&bed, wanted).await;
        let _other = tunnel(&bed, Tunnel::tls("other").local_addr(service.addr())).await;
        let visitor = service.visitor();
        let mut first = visitor.connect(https(&bed), "vault.localhost").await.unwrap();
        greeting(&mut first).await;
        // One too many of the tunnel.
        let refused = visitor.connect(https(&bed), "vault.localhost");
        soon("the end", refused).await.unwrap_err();
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 1);
        // Of the other one it is not, once who was turned away has left for good.
        let mut second = soon("a place", async {
            loop {
                if let Ok(io) = visitor.connect(https(&bed), "other.localhost").await {
                    return io;
                }
            }
        })
        .await;
        greeting(&mut second).await;
        // One too many of the address, whose name is another's.
        let before = bed.server.turned_away().visitors_of_addresses;
        let refused = visitor.connect(https(&bed), "other.localhost");
        soon("the end", refused).await.unwrap_err();
        assert_eq!(bed.server.turned_away().visitors_of_addresses, before + 1);
        says_and_hears_over(&mut first).await;
        drop((first, second));
        soon("the places", async {
            while visitor.connect(https(&bed), "vault.localhost").await.is_err() {}
        })
        .await;
    });
}

#[test]
fn a_drain_lets_visitors_finish_and_frees_the_port() {
    over_both(async |carrier| {
        let ca = Authority::new("ca of the server");
        let identity = identity_for(&ca, &["app.localhost"]);
        let addr = SocketAddr::new(ferrotunnel_tests::own_ip(), 0);
        let bed = TestBed::with(carrier, |server| {
            let server = server.bind(addr).http_bind(addr).https_bind(addr);
            server.https_identity_files(&identity.cert, &identity.key)
        });
        let bed = bed.await;
        let service = Service::start("vault", &["vault.localhost"]).await;
        let wanted = Tunnel::tls("vault").local_addr(service.addr());
        let _client = tunnel(&bed, wanted.streams(Streams::Multiplexed)).await;
        let addr = https(&bed);
        let mut inside = service.visitor().connect(addr, "vault.localhost").await.unwrap();
        greeting(&mut inside).await;
        assert_eq!(bed.server.streams(), 1);
        let ending = tokio::spawn(bed.server.shutdown());
        soon("the port to be free", async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        says_and_hears_over(&mut inside).await;
        drop(inside);
        let drained = soon("the end", ending).await.unwrap().unwrap();
        assert_eq!(drained.cut, 0);
    });
}

#[test]
fn rules_of_principals_hold_for_such_tunnels() {
    over_both(async |carrier| {
        let user = |name: &str, change: fn(&mut PrincipalConfig)| {
            let (token, verifier) = issue_token().unwrap();
            let mut config = PrincipalConfig::new(name).verifier(verifier);
            change(&mut config);
            (config, token.reveal())
        };
        let (web, web_token) = user("web", |web| web.kinds = Some(vec![TunnelKind::Http]));
        let (vault, vault_token) = user("vault", |vault| {
            vault.kinds = Some(vec![TunnelKind::Tls]);
            vault.hosts = Some(vec!["vault".into(), "*.vault.example".into()]);
        });
        let users = [web, vault.clone()];
        let (bed, _) = bed(carrier, |server| server.principals(users)).await;
        let reason = refusal(bed.client().token(&web_token), Tunnel::tls("app")).await;
        let words = "kind tls is not among those of principal \"web\"; allowed: http";
        assert!(reason.ends_with(words), "{reason}");
        let allowed = "among those of principal \"vault\"; allowed: vault, *.vault.example";
        for (wanted, host) in [
            (Tunnel::tls("other"), "other.localhost"),
            (Tunnel::tls("vault").host("vault.example"), "vault.example"),
            (Tunnel::tls("vault").host("*.example"), "*.example"),
        ] {
            let reason = refusal(bed.client().token(&vault_token), wanted).await;
            assert!(reason.ends_with(&format!("host {host:?} is not {allowed}")), "{reason}");
        }
        let service = Service::start("vault", &["vault.localhost", "x.vault.example"]).await;
        let wanted = Tunnel::tls("").host("*.vault.example").local_addr(service.addr());
        let (client, _) = started(bed.client().token(&vault_token), wanted).await;
        for host in ["vault.localhost", "x.vault.example"] {
            let said = greeted(&service.visitor(), https(&bed), host).await;
            assert!(said.starts_with("vault "), "{said}");
        }
        // Somebody else's it is, of whatever kind.
        for wanted in [Tunnel::http("vault"), Tunnel::tls("vault")] {
            let reason = refusal(bed.client(), wanted).await;
            assert!(reason.contains("belongs to somebody else"), "{reason}");
        }
        // What it may no longer have is taken away.
        let mut poorer = vault;
        poorer.kinds = Some(vec![TunnelKind::Tcp]);
        bed.server.set_principals([poorer]).unwrap();
        eventually("the tunnel to leave", || bed.server.tunnels() == 0).await;
        service.visitor().connect(https(&bed), "vault.localhost").await.unwrap_err();
        drop(client);
    });
}

#[test]
fn a_program_may_end_tls_itself() {
    run(async {
        let (bed, _) = bed(Carrier::Tls, |server| server).await;
        let ca = Authority::new("ca of the program");
        let acceptor = acceptor(&identity_for(&ca, &["vault.localhost"]), None);
        let client = bed.client().build().unwrap();
        let mut listener = client.listen(Tunnel::tls("vault")).await.unwrap();
        let serving = tokio::spawn(async move {
            let (visit, _) = listener.accept().await.unwrap();
            let mut io = acceptor.accept(visit).await.unwrap();
            io.write_all(b"from inside\n").await.unwrap();
            io.shutdown().await.unwrap();
        });
        let visitor = SecureVisitor::trusting(&ca.file(), &[]);
        assert_eq!(greeted(&visitor, https(&bed), "vault.localhost").await, "from inside");
        soon("the program", serving).await.unwrap();
    });
}

#[test]
fn what_makes_no_sense_for_such_a_tunnel_is_refused_with_words() {
    run(async {
        for carrier in [Carrier::Tls, Carrier::Plaintext] {
            let bed = TestBed::start(carrier).await;
            let reason = refusal(bed.client(), Tunnel::tls("vault")).await;
            assert!(reason.contains("unsupported-kind") && reason.contains("HTTPS"), "{reason}");
            let refused =
                |tunnel: Tunnel| bed.client().tunnel(tunnel).build().unwrap_err().to_string();
            let tls = || Tunnel::tls("vault").local_addr("127.0.0.1:1");
            for (wanted, word) in [
                (tls().local_addr("https://127.0.0.1:1"), "local_addr"),
                (tls().health_check(HealthCheck::http("/")), "health_check"),
                (tls().path("/api"), "path"),
                (tls().bearer_token("secret"), "bearer_token"),
            ] {
                let reason = refused(wanted);
                assert!(reason.contains(word), "{reason}");
            }
            let checked = tls().health_check(HealthCheck::connect());
            bed.client().tunnel(checked).build().unwrap();
        }
    });
}
