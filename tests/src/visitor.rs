//! Visitors that need no library of their own.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper::header::HOST;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::patience::soon;
use crate::service::read_head;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// What the server says of itself, if the answer is the server's own.
    pub fn ferrotunnel_error(&self) -> Option<&str> {
        self.headers.get("ferrotunnel-error").map(|value| value.to_str().unwrap())
    }
}

/// One GET over a connection of its own.
pub async fn get(server: SocketAddr, host: &str, path: &str) -> Answer {
    let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new()).unwrap();
    let mut connection = open(server).await;
    let response = connection.send_request(request).await.unwrap();
    collect(response).await
}

/// So many visitors of an echo at once, each of which got its own number back. They stay.
pub async fn numbered_visitors(public: SocketAddr, count: u32) -> Vec<TcpStream> {
    let visitors = (0..count).map(|number| async move {
        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(&number.to_be_bytes()).await.unwrap();
        assert_eq!(visitor.read_u32().await.unwrap(), number);
        visitor
    });
    soon("an echo for everybody", join_all(visitors)).await
}

/// One request over a connection of its own; the body of the answer is yet to come.
pub async fn send<B>(server: SocketAddr, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    open(server).await.send_request(request).await
}

/// An HTTP/1.1 connection, driven by a task.
pub async fn open<B>(server: SocketAddr) -> SendRequest<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let socket = TcpStream::connect(server).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// An HTTP/2 connection, driven by a task.
pub async fn open_http2<B>(server: SocketAddr) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let socket = TcpStream::connect(server).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The whole of an answer.
pub async fn collect(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// Sends bytes as they are, and reads until the other side closes.
pub async fn raw(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(server).await?;
    socket.write_all(request).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Asks for something, reads the head of the answer, and then nothing more until told to.
pub async fn begin(server: SocketAddr, host: &str, path: &str) -> TcpStream {
    let mut visitor = TcpStream::connect(server).await.unwrap();
    let asking = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    visitor.write_all(asking.as_bytes()).await.unwrap();
    let head = soon("the head", read_head(&mut visitor)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    visitor
}

/// Says a word and waits for its echo: the connection lives.
pub async fn says_and_hears(visitor: &mut TcpStream) {
    visitor.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    soon("the echo", visitor.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"ping");
}

/// A port of loopback.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Bytes that have come and are not read yet, up to 1 MiB.
pub fn unread(socket: &TcpStream) -> u64 {
    let mut room = vec![MaybeUninit::uninit(); 1 << 20];
    SockRef::from(socket).peek(&mut room).map_or(0, |count| count as u64)
}

/// Uploads for ever, and counts the bytes that were taken.
pub fn upload_without_end(mut visitor: TcpStream) -> (JoinHandle<()>, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let uploading = tokio::spawn(async move {
        let block = vec![1; 64 << 10];
        loop {
            let count = visitor.write(&block).await.unwrap();
            counted.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    (uploading, sent)
}

/// Closes with a reset when it is dropped.
pub fn abort_on_close(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Bytes that no two places of a transfer share by chance.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Says all, and hears all until the other side ends.
pub async fn exchange(visitor: TcpStream, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let (mut read, mut write) = visitor.into_split();
    let mut heard = Vec::new();
    let speak = async {
        write.write_all(sent).await?;
        write.shutdown().await
    };
    let (spoken, read) = tokio::join!(speak, read.read_to_end(&mut heard));
    spoken?;
    read?;
    Ok(heard)
}
