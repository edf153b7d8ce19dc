//! Certificates against stock peers, and what a ticket may stand for.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrotunnel_protocol::Side::{self, Client, Server};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor as StockAcceptor, TlsConnector};

use super::super::dialer::{ClientTls, Roots, TlsDialer, Verification};
use super::super::problem::{CertificateFault, CertificateProblem};
use super::super::tests::{Stock, exchange_both, exported, soon};
use super::super::ticket_store::Purpose;
use super::*;
use crate::loopback::sockets;

/// A CA, mostly of the same name as all others here, and what it has issued, in files.
struct Made {
    ca: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
    issued: AtomicUsize,
}

impl Made {
    fn new() -> Self {
        Self::named("one of many")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { ca, folder, issued: AtomicUsize::new(0) }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// For both usages and `localhost`, with `more` certificates of some 4 KB behind it.
    fn identity(&self, more: usize) -> IdentityFiles {
        let issue = |large: bool| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let names = (0..if large { 100 } else { 0 }).map(|number| {
                SanType::DnsName(format!("name-{number}.of.a.peer.example").try_into().unwrap())
            });
            params.subject_alt_names.extend(names);
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
        };
        let (mut chain, key_text) = issue(false);
        for _ in 0..more {
            chain += &issue(true).0;
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| self.folder.path().join(format!("{number}.{kind}.pem"));
        let files = IdentityFiles { cert: path("cert"), key: path("key") };
        std::fs::write(&files.cert, chain).unwrap();
        std::fs::write(&files.key, key_text).unwrap();
        files
    }

    fn acceptor(&self, more: usize) -> TlsAcceptor {
        let identity = Some(self.identity(more));
        TlsAcceptor::new(ServerTls { identity, client_ca: Some(self.ca()), client_crl: None })
            .unwrap()
    }

    fn dialer(&self, identity: Option<IdentityFiles>) -> TlsDialer {
        let verification = Some(Verification::new(None, Roots::File(self.ca())).unwrap());
        TlsDialer::new(ClientTls { verification, identity }).unwrap()
    }

    /// A stock client's settings, which shows that identity.
    fn stock_client(&self, identity: Option<&IdentityFiles>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(config::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots());
        let mut made = match identity.map(|files| files.load(SETTINGS).unwrap()) {
            Some(TlsIdentity { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        made.alpn_protocols = vec![b"ferrotunnel/1".to_vec()];
        made
    }

    /// A stock server's settings, which wants certificates.
    fn stock_server(&self, more: usize) -> ServerConfig {
        let TlsIdentity { chain, key } = self.identity(more).load(SETTINGS).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots(), config::provider());
        let mut made = ServerConfig::builder_with_provider(config::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap();
        made.alpn_protocols = vec![b"ferrotunnel/1".to_vec()];
        made
    }
}

/// The server, as a client knows it.
const SERVER: &str = "localhost:7835";

async fn stock_to(
    acceptor: &TlsAcceptor,
    client: ClientConfig,
) -> (io::Result<Stock>, io::Result<Secured>) {
    let (dialled, accepted) = sockets().await;
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("localhost").unwrap();
    let near = async { connector.connect(name, dialled).await.map(Stock::Client) };
    // What the client is told needs somebody who listens, so each goes on by itself.
    let far = async { Box::pin(acceptor.accept(accepted, BytesMut::new(), FROM)).await };
    soon(async { tokio::join!(near, far) }).await
}

/// As if the server had welcomed the client behind it.
async fn dial(dialer: &TlsDialer, socket: TcpStream) -> io::Result<Secured> {
    let (secured, tickets) = Box::pin(dialer.connect(SERVER, socket, Purpose::Session)).await?;
    tickets.keep();
    Ok(secured)
}

async fn to_stock(
    dialer: &TlsDialer,
    server: ServerConfig,
) -> (io::Result<Secured>, io::Result<Stock>) {
    let (dialled, accepted) = sockets().await;
    let acceptor = StockAcceptor::from(Arc::new(server));
    let near = dial(dialer, dialled);
    let far = async { acceptor.accept(accepted).await.map(Stock::Server) };
    soon(async { tokio::join!(near, far) }).await
}

async fn ours(
    dialer: &TlsDialer,
    acceptor: &TlsAcceptor,
) -> (io::Result<Secured>, io::Result<Secured>) {
    let (dialled, accepted) = sockets().await;
    let near = dial(dialer, dialled);
    let far = async { Box::pin(acceptor.accept(accepted, BytesMut::new(), FROM)).await };
    soon(async { tokio::join!(near, far) }).await
}

fn problem(error: &io::Error, here: Side) -> CertificateFault {
    CertificateProblem::of(error, here).unwrap_or_else(|| panic!("{error}")).fault()
}

#[tokio::test]
async fn certificates_go_both_ways_with_stock_peers_however_long_and_cut_up_they_are() {
    let made = Made::new();
    // More than one record, and more than one read.
    for more in [0, 10] {
        for fragment in [None, Some(32)] {
            let mut client = made.stock_client(Some(&made.identity(more)));
            client.max_fragment_size = fragment;
            let (near, far) = stock_to(&made.acceptor(more), client).await;
            let (near, far) = (near.unwrap(), far.unwrap());
            assert!(far.binding == exported(&near));
            exchange_both(near, far.stream, 100_000).await;

            let mut server = made.stock_server(more);
            server.max_fragment_size = fragment;
            let dialer = made.dialer(Some(made.identity(more)));
            let (near, far) = to_stock(&dialer, server).await;
            let (near, far) = (near.unwrap(), far.unwrap());
            assert!(near.binding == exported(&far));
            exchange_both(near.stream, far, 100_000).await;
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_that_it_needs_one_by_either_server() {
    let made = Made::new();
    let (near, far) = to_stock(&made.dialer(None), made.stock_server(0)).await;
    assert!(far.is_err());
    // By then the client is through with its handshake.
    let told = soon(near.unwrap().stream.read_u8()).await.unwrap_err();
    assert_eq!(problem(&told, Client), CertificateFault::Missing);

    let (near, far) = stock_to(&made.acceptor(0), made.stock_client(None)).await;
    assert_eq!(problem(&far.map(drop).unwrap_err(), Server), CertificateFault::Missing);
    let told = soon(near.unwrap().read_u8()).await.unwrap_err();
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
    assert_eq!(told.get_ref().unwrap().downcast_ref(), Some(&alert));
}

/// Everything here takes turns on one thread, so what has ended is known to have ended.
#[tokio::test]
async fn a_refused_client_is_waited_for_until_it_hangs_up() {
    let made = Made::new();
    let (dialled, accepted) = sockets().await;
    let acceptor = made.acceptor(0);
    let accepting =
        tokio::spawn(
            async move { acceptor.accept(accepted, BytesMut::new(), FROM).await.map(drop) },
        );
    let connector = TlsConnector::from(Arc::new(made.stock_client(None)));
    let name = ServerName::try_from("localhost").unwrap();
    let mut near = soon(connector.connect(name, dialled)).await.unwrap();
    assert!(soon(near.read_u8()).await.is_err());
    let (socket, _) = near.get_mut();
    // The server has ended its direction and still takes ours.
    assert_eq!(soon(socket.read(&mut [0])).await.unwrap(), 0);
    socket.write_all(b"more of a long chain").await.unwrap();
    assert!(!accepting.is_finished());
    drop(near);
    assert_eq!(
        problem(&soon(accepting).await.unwrap().unwrap_err(), Server),
        CertificateFault::Missing
    );
}

#[tokio::test]
async fn a_server_is_told_why_its_certificate_is_not_taken_by_either_client() {
    let (made, other) = (Made::new(), Made::new());
    let (near, far) = ours(&other.dialer(None), &made.acceptor(0)).await;
    assert_eq!(problem(&near.map(drop).unwrap_err(), Client), CertificateFault::UnknownIssuer);
    assert_eq!(problem(&far.map(drop).unwrap_err(), Server), CertificateFault::UnknownIssuer);
    // A stock client finds fault with the signature alone when the name is one that it knows.
    let stranger = Made::named("elsewhere").stock_client(None);
    let (near, far) = stock_to(&made.acceptor(0), stranger).await;
    assert!(near.is_err());
    assert_eq!(problem(&far.map(drop).unwrap_err(), Server), CertificateFault::UnknownIssuer);
    let (near, far) = to_stock(&other.dialer(None), made.stock_server(0)).await;
    assert_eq!(problem(&near.map(drop).unwrap_err(), Client), CertificateFault::UnknownIssuer);
    let told = far.map(drop).unwrap_err();
    let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
    assert_eq!(told.get_ref().unwrap().downcast_ref(), Some(&alert));
}

#[tokio::test]
async fn a_server_is_told_the_name_that_it_is_verified_by_and_no_other() {
    let made = Made::new();
    let verification = |name| Some(Verification::new(Some(name), Roots::File(made.ca())).unwrap());
    let identity = Some(made.identity(0));
    for (verification, told) in
        [(verification("localhost"), Some("localhost")), (verification("::1"), None), (None, None)]
    {
        let settings = ClientTls { verification, identity: identity.clone() };
        let dialer = TlsDialer::new(settings).unwrap();
        let (dialled, accepted) = sockets().await;
        let dialling = tokio::spawn(async move { dial(&dialer, dialled).await.map(drop) });
        let hello = tokio_rustls::LazyConfigAcceptor::new(Default::default(), accepted);
        let hello = soon(hello).await.unwrap();
        assert_eq!(hello.client_hello().server_name(), told);
        drop(hello);
        let _ = soon(dialling).await.unwrap();
    }
}

/// The server's ticket comes with its first words.
async fn is_resumed(dialer: &TlsDialer, acceptor: &TlsAcceptor) -> bool {
    let (near, far) = ours(dialer, acceptor).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    far.stream.write_all(b"x").await.unwrap();
    assert_eq!(soon(near.stream.read_u8()).await.unwrap(), b'x');
    assert_eq!(near.is_resumed, far.is_resumed);
    near.is_resumed
}

/// Two looks at files that were just written could look the same, and the second begins anew.
fn set_age(files: &[&Path]) {
    let written = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    for file in files {
        std::fs::File::options().write(true).open(file).unwrap().set_modified(written).unwrap();
    }
}

#[tokio::test]
async fn clients_with_certificates_resume_until_the_server_loads_anew() {
    let made = Made::new();
    let acceptor = made.acceptor(0);
    let identity = made.identity(0);
    set_age(&[&made.ca(), &identity.cert, &identity.key]);
    let dialer = made.dialer(Some(identity));
    assert!(!is_resumed(&dialer, &acceptor).await);
    assert!(is_resumed(&dialer, &acceptor).await);
    acceptor.reload().unwrap();
    assert!(!is_resumed(&dialer, &acceptor).await);
    assert!(is_resumed(&dialer, &acceptor).await);

    // Nobody's certificate stands behind tickets where none is wanted.
    let acceptor = TlsAcceptor::new(ServerTls::default()).unwrap();
    let dialer = TlsDialer::new(ClientTls::default()).unwrap();
    assert!(!is_resumed(&dialer, &acceptor).await);
    acceptor.reload().unwrap();
    assert!(is_resumed(&dialer, &acceptor).await);
}

#[tokio::test]
async fn a_chain_that_is_too_long_for_a_ticket_is_shown_each_time() {
    let made = Made::new();
    let acceptor = made.acceptor(0);
    let identity = made.identity(10);
    set_age(&[&made.ca(), &identity.cert, &identity.key]);
    let dialer = made.dialer(Some(identity));
    for _ in 0..3 {
        assert!(!is_resumed(&dialer, &acceptor).await);
    }
}

/// An acceptor whose tickets stay good from one generation to the next, which is given these CAs.
fn with_old_tickets(made: &Made, cas: [Option<PathBuf>; 2]) -> TlsAcceptor {
    let identity = made.identity(0).load(SETTINGS).unwrap();
    let tickets = Tickets::new().unwrap();
    let make = move |old: Option<&Generation>| {
        let ca = cas[usize::from(old.is_some())].as_deref();
        let clients = ca.map(|path| client_verifier(PemFile { path, setting: "" }, None).unwrap());
        let config = config::server_config(identity.clone(), clients.clone(), tickets.clone())?;
        Ok(Generation { config, clients, tickets: tickets.clone() })
    };
    let generations = FromFiles::load(Files::default, make).unwrap();
    let turns = HandshakeTurns::of_this_machine();
    TlsAcceptor { generations: Arc::new(generations), turns, passes: Passes::new() }
}

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn a_ticket_does_not_stand_for_a_certificate_that_is_not_taken_any_more() {
    let (made, other) = (Made::new(), Made::new());
    let identity = made.identity(0);
    set_age(&[&made.ca(), &identity.cert, &identity.key]);
    for (first, second, identity, fault) in [
        (Some(made.ca()), other.ca(), Some(identity), CertificateFault::UnknownIssuer),
        (None, made.ca(), None, CertificateFault::Missing),
    ] {
        let acceptor = with_old_tickets(&made, [first, Some(second)]);
        let dialer = made.dialer(identity);
        assert!(!is_resumed(&dialer, &acceptor).await);
        assert!(is_resumed(&dialer, &acceptor).await);
        acceptor.reload().unwrap();
        let (near, far) = ours(&dialer, &acceptor).await;
        let mut near = near.unwrap();
        assert!(near.is_resumed);
        assert_eq!(problem(&far.map(drop).unwrap_err(), Server), fault);
        assert_eq!(problem(&soon(near.stream.read_u8()).await.unwrap_err(), Client), fault);
    }
}
