//! Local services that speak TLS.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::sync::Arc;

use ferrotunnel::{Streams, Tunnel};
use ferrotunnel_tests::{
    Authority, Carrier, Identity, LocalService, Log, TestBed, exchange, get, over_both, pattern,
    public_addr, run, run_logged, soon,
};
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A service that says which version of HTTP it was asked in, over TLS; and where it is.
async fn service(
    identity: &Identity,
    version: &'static rustls::SupportedProtocolVersion,
) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(&identity.cert).unwrap().map(Result::unwrap);
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(io) = acceptor.accept(socket).await else { return };
                let is_http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
                let answer = move |request: Request<Incoming>| async move {
                    let is_as_agreed = (request.version() == Version::HTTP_2) == is_http2;
                    assert!(is_as_agreed, "{:?} over {is_http2}", request.version());
                    let said = format!("{:?}", request.version());
                    let body = request.into_body().collect().await?.to_bytes();
                    let text = [said.as_bytes(), &body].concat();
                    Ok::<_, hyper::Error>(Response::new(Full::new(bytes::Bytes::from(text))))
                };
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(io), service_fn(answer)).await;
            });
        }
    });
    addr
}

fn at(addr: SocketAddr) -> String {
    format!("https://localhost:{}", addr.port())
}

#[test]
fn a_service_that_speaks_tls_is_verified_and_asked_in_the_version_that_it_was_told() {
    over_both(async |carrier| {
        let ca = Authority::new("ca");
        let identity = ca.server("localhost");
        for version in [&TLS12, &TLS13] {
            let addr = service(&identity, version).await;
            let bed = TestBed::start(carrier).await;
            let one = Tunnel::http("one").local_addr(at(addr)).local_ca_file(ca.file());
            let two = Tunnel::http("two").local_addr(at(addr)).local_ca_file(ca.file()).http2();
            let client = bed.client().tunnel(one).tunnel(two).build().unwrap();
            soon("a start", client.start()).await.unwrap();
            assert_eq!(bed.get("one", "/").await.body, "HTTP/1.1");
            assert_eq!(bed.get("one", "/").await.body, "HTTP/1.1");
            assert_eq!(bed.get("two", "/").await.body, "HTTP/2.0");
        }
    });
}

#[test]
fn a_tcp_tunnel_may_end_in_tls_too_over_a_carrier_of_its_own() {
    run(async {
        let ca = Authority::new("ca");
        let addr = service(&ca.server("localhost"), &TLS13).await;
        let bed = TestBed::start(Carrier::Tls).await;
        let tunnel = Tunnel::tcp().local_addr(at(addr)).local_ca_file(ca.file());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let info = soon("a start", client.start()).await.unwrap();
        let public = public_addr(&info.public_url);
        assert_eq!(get(public, "localhost", "/").await.body, "HTTP/1.1");
        ferrotunnel_tests::eventually("a direct carrier", || bed.server.direct().waiting > 0).await;
        assert_eq!(get(public, "localhost", "/").await.body, "HTTP/1.1");
    });
}

/// However much of it the client has before it knows which protocol to speak.
#[test]
fn all_of_an_upload_reaches_a_service_that_speaks_tls() {
    over_both(async |carrier| {
        let ca = Authority::new("ca");
        let echo = LocalService::echo().await;
        let identity = ca.server("localhost");
        let service = LocalService::behind_tls(echo.addr(), &identity, "http/1.1").await;
        let local = at(service.addr());
        let bed = TestBed::start(carrier).await;
        let tunnel = Tunnel::tcp().streams(Streams::Multiplexed).local_addr(local);
        let tunnel = tunnel.local_ca_file(ca.file());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let info = soon("a start", client.start()).await.unwrap();
        let public = public_addr(&info.public_url);
        let sent = pattern(2 << 20);
        let visits = (0..24).map(async |_| {
            let heard = exchange(TcpStream::connect(public).await.unwrap(), &sent).await.unwrap();
            assert!(heard == sent, "{} of {} bytes came back", heard.len(), sent.len());
        });
        soon("all of it", join_all(visits)).await;
    });
}

async fn refused(tunnel: Tunnel, log: Log, why: &str) {
    let bed = TestBed::start(Carrier::Tls).await;
    let client = bed.client().tunnel(tunnel).build().unwrap();
    soon("a start", client.start()).await.unwrap();
    let answer = bed.get("app", "/").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(answer.ferrotunnel_error(), Some("local-unreachable"));
    log.says(why).await;
    log.says("--local-insecure").await;
}

#[test]
fn a_certificate_of_a_stranger_or_for_another_name_is_not_taken() {
    run_logged(async |log| {
        let (ca, other) = (Authority::new("ca"), Authority::new("other"));
        let addr = service(&ca.server("localhost"), &TLS13).await;
        let tunnel = || Tunnel::http("app").local_addr(at(addr));
        refused(tunnel().local_ca_file(other.file()), log.clone(), "UnknownIssuer").await;
        let elsewhere = service(&ca.server("elsewhere.test"), &TLS13).await;
        let tunnel = Tunnel::http("app").local_addr(at(elsewhere)).local_ca_file(ca.file());
        refused(tunnel, log, "not valid for name").await;
    });
}

#[test]
fn any_certificate_is_taken_through_the_door_with_that_name() {
    run(async {
        let ca = Authority::new("ca");
        for version in [&TLS12, &TLS13] {
            let addr = service(&ca.server("elsewhere.test"), version).await;
            let bed = TestBed::start(Carrier::Tls).await;
            let tunnel = Tunnel::http("app").local_addr(at(addr));
            let tunnel = tunnel.dangerous_accept_any_local_certificate();
            let client = bed.client().tunnel(tunnel).build().unwrap();
            soon("a start", client.start()).await.unwrap();
            assert_eq!(bed.get("app", "/").await.body, "HTTP/1.1");
        }
    });
}

#[test]
fn cas_that_cannot_be_read_end_the_start_and_trust_without_tls_is_a_mistake() {
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let tunnel = Tunnel::http("app").local_addr("https://localhost").local_ca_file("/nowhere");
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let error = soon("an error", client.start()).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere") && error.contains("--local-ca"), "{error}");
        let tunnel = Tunnel::http("app").local_addr("1").dangerous_accept_any_local_certificate();
        let error = bed.client().tunnel(tunnel).build().unwrap_err().to_string();
        assert!(error.contains("https://"), "{error}");
    });
}
