//! Local services that speak no particular protocol.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::authority::Identity;

/// A TCP server for as long as it is not dropped.
#[derive(Debug)]
pub struct LocalService {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl LocalService {
    /// Serves every connection in a task of its own.
    pub async fn each<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                while connections.try_join_next().is_some() {}
                connections.spawn(serve(socket));
            }
        });
        Self { addr, task }
    }

    /// Sends back what it gets, until the end of it.
    pub async fn echo() -> Self {
        Self::echo_by(64 << 10).await
    }

    /// The same by pieces of that many bytes at most.
    pub async fn echo_by(most: usize) -> Self {
        Self::each(move |mut socket| async move {
            let mut buffer = vec![0; most];
            while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                if socket.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            let _ = socket.shutdown().await;
        })
        .await
    }

    /// Stands before another service, and ends TLS with that certificate. It agrees on that protocol only.
    #[expect(
        clippy::disallowed_methods,
        reason = "peers of the program's own make must not share its splice"
    )]
    pub async fn behind_tls(to: SocketAddr, identity: &Identity, alpn: &str) -> Self {
        let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.der.clone()], key)
            .unwrap();
        config.alpn_protocols = vec![alpn.into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::each(move |socket| {
            let acceptor = acceptor.clone();
            async move {
                // Who does not trust it has gone.
                let Ok(mut visitor) = acceptor.accept(socket).await else { return };
                let mut service = TcpStream::connect(to).await.unwrap();
                let (a, b) = (&mut visitor, &mut service);
                let _ = tokio::io::copy_bidirectional_with_sizes(a, b, 1 << 18, 1 << 18).await;
            }
        })
        .await
    }

    /// Answers the first request of every connection with these bytes, whatever it is, and closes.
    pub async fn answering(answer: &'static [u8]) -> Self {
        Self::each(move |mut socket| async move {
            read_head(&mut socket).await;
            let _ = socket.write_all(answer).await;
        })
        .await
    }

    /// Passes connections on; of what comes first, so many bytes are a segment each.
    pub async fn dripping(to: SocketAddr, count: usize) -> Self {
        Self::each(move |mut from| async move {
            let mut to = TcpStream::connect(to).await.unwrap();
            to.set_nodelay(true).unwrap();
            for _ in 0..count {
                // Who dials ahead of time may leave without a word.
                let Ok(byte) = from.read_u8().await else { return };
                to.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            let (mut from_read, mut from_write) = from.split();
            let (mut to_read, mut to_write) = to.split();
            let _ = tokio::join!(
                tokio::io::copy(&mut from_read, &mut to_write),
                tokio::io::copy(&mut to_read, &mut from_write),
            );
        })
        .await
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where nobody listens.
    pub async fn nobody() -> SocketAddr {
        TcpListener::bind((own_ip(), 0)).await.unwrap().local_addr().unwrap()
    }
}

impl Drop for LocalService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A loopback address that nobody else uses, neither another process nor another test of this one.
/// A port of it that comes free stays free; on a shared address another test that runs at the same
/// time could be given it.
pub fn own_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [a, b, ..] = std::process::id().to_le_bytes();
    let turn = NEXT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 100 + turn % 100, b, a.max(2)).into()
}

/// Reads until the empty line after the head of an HTTP message.
pub async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
