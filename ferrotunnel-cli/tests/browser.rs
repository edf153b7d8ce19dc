//! A browser as the visitor: a page over HTTPS, with a certificate for development, that asks for more by itself.
//! Skipped where there is no Chromium.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "what is skipped has to be seen")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use ferrotunnel_tests::{LocalService, Site, TOKEN, key_pin, run_for};
use futures_util::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use support::server::Server;
use support::{Running, ferrotunnel};

/// For a browser to start and to be done, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(120);

const PAGE: &str = r"<!doctype html><title>seen by a browser</title><script type=module>
const seen = {};
const step = async (name, doing) => {
    try { seen[name] = await doing(); } catch (error) { seen[name] = `failed: ${error}`; }
};
const text = async (...asking) => (await fetch(...asking)).text();
await step('version', () => performance.getEntriesByType('navigation')[0].nextHopProtocol);
await step('fetch', () => text('/hello'));
await step('upload', async () => (await text('/echo', { method: 'POST', body: 'x'.repeat(1 << 20) })).length);
await step('streamed', () => {
    const parts = ['in ', 'several ', 'parts'];
    const body = new ReadableStream({
        pull(out) { parts.length ? out.enqueue(parts.shift()) : out.close(); },
    }).pipeThrough(new TextEncoderStream());
    return text('/echo', { method: 'POST', body, duplex: 'half' });
});
await step('aborted', async () => {
    const abort = new AbortController();
    const body = (await fetch('/endless', { signal: abort.signal })).body.getReader();
    await body.read();
    abort.abort();
    return body.read().then(() => 'went on', error => error.name);
});
// Each event is asked for when the one before has come: one that waits somewhere would be the last.
await step('events', () => new Promise((done, failed) => {
    const events = new EventSource('/events'), heard = [];
    events.onerror = () => failed('broke off');
    events.onopen = () => fetch('/next');
    events.onmessage = event => {
        heard.push(event.data);
        if (heard.length < 3) return void fetch('/next');
        events.close();
        done(heard.join());
    };
}));
await step('websocket', () => new Promise((done, failed) => {
    const socket = new WebSocket(`wss://${location.host}/ws/chat?room=1`, 'talk'), heard = [];
    socket.binaryType = 'arraybuffer';
    socket.onerror = () => failed('broke off');
    socket.onopen = () => { socket.send('to and fro'); socket.send(new Uint8Array(100000)); };
    socket.onmessage = ({ data }) => {
        heard.push(typeof data == 'string' ? data : data.byteLength);
        if (heard.length == 3) socket.close(1000);
    };
    socket.onclose = ({ code }) => done(`${heard} ${socket.protocol} ${code}`);
}));
await step('refused', async () => {
    const answer = await fetch('/a%2F..%2Fws/x');
    return `${answer.status} ${answer.headers.get('ferrotunnel-error')}`;
});
await fetch('/seen', { method: 'POST', body: JSON.stringify(seen) });
</script>";

/// The page, what it asks for, and what it says it has seen.
async fn site() -> (SocketAddr, mpsc::Receiver<String>) {
    let (seen, heard) = mpsc::channel(1);
    // One for each event that may be sent.
    let next = Arc::new(Semaphore::new(0));
    let asked = Arc::clone(&next);
    let page = || async { ([(CONTENT_TYPE, "text/html"), (CACHE_CONTROL, "no-store")], PAGE) };
    let events = move || async move {
        let numbers = stream::unfold(0, move |number| {
            let next = Arc::clone(&next);
            async move {
                next.acquire().await.unwrap().forget();
                Some((Ok::<_, Infallible>(format!("data: {number}\n\n")), number + 1))
            }
        });
        // A browser takes it for open when the first byte of it has come.
        let hello = stream::once(async { Ok(":\n\n".to_owned()) });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(hello.chain(numbers)))
            .into_response()
    };
    let app = Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/next", get(move || async move { asked.add_permits(1) }))
        .route("/seen", post(move |text: String| async move { seen.send(text).await.unwrap() }))
        .fallback_service(Site::app());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (addr, heard)
}

/// Says what it was asked for, and then what it hears.
async fn websockets() -> LocalService {
    LocalService::each(|socket| async move {
        let mut target = String::new();
        #[expect(clippy::result_large_err, reason = "it is what the library calls")]
        let opening = |request: &Request, mut response: Response| {
            target = request.uri().to_string();
            let protocol = request.headers()["sec-websocket-protocol"].clone();
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(socket, opening).await.unwrap();
        socket.send(target.into()).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await
}

/// Ends with its drop.
struct Browser {
    child: Child,
    /// Its output is closed.
    ended: oneshot::Receiver<()>,
}

impl Browser {
    /// Opens a page, with trust in one key. `None` without a browser.
    fn open(url: &str, pin: &str, profile: &Path) -> Option<Self> {
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--no-proxy-server",
            "--host-resolver-rules=MAP *.localhost 127.0.0.1",
        ];
        let own = [
            format!("--user-data-dir={}", profile.display()),
            format!("--ignore-certificate-errors-spki-list={pin}"),
            url.to_owned(),
        ];
        ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.args(args).args(&own).stdin(Stdio::null()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::null()).spawn().ok()?;
            let mut output = child.stdout.take().unwrap();
            let (tell, ended) = oneshot::channel();
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut output, &mut std::io::sink());
                tell.send(())
            });
            Some(Self { child, ended })
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with a tunnel of the name `app`, and its public address.
fn client(server: SocketAddr, local: SocketAddr, more: &[&str]) -> (Running, String) {
    let (local, server) = (local.to_string(), server.to_string());
    let args = ["http", &local, "--server", &server, "--token", TOKEN, "--name", "app"];
    let client = Running::start(&[&args, more].concat());
    let url = client.line().trim_end().to_owned();
    (client, url)
}

#[test]
fn a_browser_gets_everything_a_page_asks_for_over_https() {
    run_for(PATIENCE, async {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("dev");
        let made = ferrotunnel(&[
            "--json",
            "cert",
            "dev",
            "app.localhost",
            "--dir",
            dir.to_str().unwrap(),
        ]);
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        let (cert, key) = (made["cert"].as_str().unwrap(), made["key"].as_str().unwrap());

        let mut args = Server::args("127.0.0.1:0", "127.0.0.1:0").to_vec();
        args.extend(["--https-bind", "127.0.0.1:0", "--https-cert", cert, "--https-key", key]);
        let server = Running::start(&args);
        let listening: Value = server.line().parse().unwrap();
        let tunnel = listening["tunnel_addr"].as_str().unwrap().parse().unwrap();
        let (page, mut seen) = site().await;
        let websockets = websockets().await;
        let (_page, url) = client(tunnel, page, &[]);
        let more = ["--path", "/ws", "--strip-path"];
        let (_websockets, of_websockets) = client(tunnel, websockets.addr(), &more);
        assert_eq!(of_websockets, format!("{url}ws"));

        let profile = folder.path().join("profile");
        let Some(mut browser) = Browser::open(&url, &key_pin(Path::new(key)), &profile) else {
            println!("skipped: there is no chromium here (tools/install.sh has it)");
            return;
        };
        let seen = tokio::select! {
            seen = seen.recv() => seen.unwrap(),
            _ = &mut browser.ended => unreachable!("the browser has ended"),
        };
        let seen: Value = serde_json::from_str(&seen).unwrap();
        let expected = json!({
            "version": "h2",
            "fetch": "hello",
            "upload": 1 << 20,
            "streamed": "in several parts",
            "aborted": "AbortError",
            "events": "0,1,2",
            "websocket": "/chat?room=1,to and fro,100000 talk 1000",
            "refused": "400 unclear-path",
        });
        assert_eq!(seen, expected);
    });
}
