//! A local web service with an address for everything a test wants to see happen.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use axum::routing::{any, get};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

/// Serves HTTP/1.1, and HTTP/2 to those who know that it does:
///
/// | path | answer |
/// |---|---|
/// | `/hello` | `hello` |
/// | `/echo` | the body of the request, while it comes |
/// | `/head` | request line and headers as they arrived here |
/// | `/bytes/N` | N bytes of [`Site::pattern`], with their length |
/// | `/endless` | bytes as long as somebody takes them; see [`Site::produced`] |
/// | `/sse` | an event stream of what [`Site::publish`] says |
/// | `/held` | `released`, once [`Site::release`] was called |
/// | `/held-body` | a head at once, the body as for `/held` |
/// | `/trailers` | a body with the trailer `x-checksum: 42` |
/// | anything else | method and path |
#[derive(Debug)]
pub struct Site {
    addr: SocketAddr,
    state: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    events: broadcast::Sender<String>,
    produced: AtomicU64,
    held: watch::Sender<usize>,
    released: watch::Sender<bool>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            events: broadcast::Sender::new(64),
            produced: AtomicU64::new(0),
            held: watch::Sender::new(0),
            released: watch::Sender::new(false),
        }
    }
}

impl Site {
    /// A site on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Shared::default());
        let app = router(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, state, task }
    }

    /// The same site without a port, to be served from a tunnel.
    pub fn app() -> Router {
        router(Arc::default())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends an event to everybody at `/sse`.
    pub fn publish(&self, event: &str) {
        self.state.events.send(event.to_owned()).unwrap();
    }

    /// Waits until that many are at `/sse`.
    pub async fn listeners(&self, count: usize) {
        crate::eventually("listeners", || self.state.events.receiver_count() == count).await;
    }

    /// Bytes that somebody took from `/endless`.
    pub fn produced(&self) -> u64 {
        self.state.produced.load(Ordering::Relaxed)
    }

    /// Waits until that many requests have come to `/held` and `/held-body`.
    pub async fn held(&self, count: usize) {
        let mut held = self.state.held.subscribe();
        crate::soon("requests at /held", held.wait_for(|held| *held >= count)).await.unwrap();
    }

    /// Lets every request at `/held` go on, those to come too.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }

    /// Bytes that do not repeat for a megabyte, and whose period divides no buffer.
    pub fn pattern() -> Bytes {
        // Made once: it costs more than most of what is done with it.
        static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
            // A linear congruential generator (Numerical Recipes): good enough to tell bytes apart.
            let mut state = 1_u32;
            let next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            std::iter::repeat_with(next).take(PATTERN_BYTES).collect()
        });
        PATTERN.clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body of `/bytes/N`, also for uploads.
pub fn pattern_stream(
    bytes: u64,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync + 'static {
    let pattern = Site::pattern();
    let whole = bytes / pattern.len() as u64;
    let rest = (bytes % pattern.len() as u64) as usize;
    let tail = pattern.slice(..rest);
    let blocks = (0..whole).map(move |_| pattern.clone()).chain(std::iter::once(tail));
    stream::iter(blocks.map(Ok))
}

fn router(state: Arc<Shared>) -> Router {
    Router::new()
        .route("/hello", any(|| async { "hello" }))
        .route("/echo", any(echo))
        .route("/head", any(head))
        .route("/bytes/{count}", get(bytes))
        .route("/endless", get(endless))
        .route("/sse", get(sse))
        .route("/held", any(held))
        .route("/held-body", any(held_body))
        .route("/trailers", get(trailers))
        .fallback(|request: Request| async move {
            format!("{} {}", request.method(), request.uri().path())
        })
        .with_state(state)
}

async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

async fn head(request: Request) -> String {
    let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    text
}

async fn bytes(Path(count): Path<u64>) -> Response {
    let mut response = Response::new(Body::from_stream(pattern_stream(count)));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(count));
    response
}

async fn endless(State(state): State<Arc<Shared>>) -> Body {
    let pattern = Site::pattern().slice(..64 << 10);
    Body::from_stream(stream::repeat_with(move || {
        state.produced.fetch_add(pattern.len() as u64, Ordering::Relaxed);
        Ok::<_, Infallible>(pattern.clone())
    }))
}

async fn sse(State(state): State<Arc<Shared>>) -> Response {
    let events = stream::unfold(state.events.subscribe(), |mut events| async {
        let event = events.recv().await.ok()?;
        Some((Ok::<_, Infallible>(format!("data: {event}\n\n")), events))
    });
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn held(State(state): State<Arc<Shared>>) -> &'static str {
    let mut released = state.released.subscribe();
    state.held.send_modify(|held| *held += 1);
    let _ = released.wait_for(|released| *released).await;
    "released"
}

async fn held_body(State(state): State<Arc<Shared>>) -> Body {
    let first = stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b"first ")) });
    let second =
        stream::once(async { Ok(Bytes::from_static(held(State(state)).await.as_bytes())) });
    Body::from_stream(first.chain(second))
}

async fn trailers() -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("42"));
    let frames = [Frame::data(Bytes::from_static(b"body")), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-checksum"));
    response
}

/// A prime just below a mebibyte.
const PATTERN_BYTES: usize = 1_048_573;
