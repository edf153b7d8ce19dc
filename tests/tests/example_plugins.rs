//! The plugins of `examples/plugins/`, each in a running server or client; `docs/plugin-development.md` shows the same.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(dead_code, reason = "the examples are programs, with a main function of their own")]

#[path = "../../examples/plugins/api_key.rs"]
mod api_key;
#[path = "../../examples/plugins/maintenance.rs"]
mod maintenance;
#[path = "../../examples/plugins/upload_limit.rs"]
mod upload_limit;
#[path = "../../examples/plugins/visitor_count.rs"]
mod visitor_count;

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use ferrotunnel::{Streams, Tunnel};
use ferrotunnel_tests::{
    Carrier, LocalService, Site, TestBed, collect, eventually, pattern_stream, public_addr, run,
    says_and_hears, send, soon, with_plugin,
};
use http_body_util::{Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::HOST;
use hyper::{Request, StatusCode};

use futures_util::StreamExt as _;

#[test]
fn the_example_with_keys_lets_in_who_has_one_and_says_whose_it_is() {
    run(async {
        let keys = api_key::ApiKey::new([("k-1", "alice"), ("k-2", "bob")]);
        let bed = TestBed::with(Carrier::Tls, with_plugin(keys)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let refused = bed.get("app", "/head").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert!(refused.body.contains("send a key in X-Api-Key"), "{refused:?}");
        let request =
            Request::get("/head").header(HOST, bed.host("app")).header("x-api-key", "k-2");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = collect(send(bed.http_addr(), request).await.unwrap()).await;
        assert_eq!(answer.headers["x-served-for"], "bob");
        assert!(answer.body.contains("\nx-api-user: bob\n"), "{answer:?}");
        assert!(!answer.body.contains("k-2"), "{answer:?}");
    });
}

#[test]
fn the_example_for_maintenance_answers_by_itself_while_it_is_on() {
    run(async {
        let (plugin, is_on) = maintenance::Maintenance::new();
        let bed = TestBed::with(Carrier::Tls, with_plugin(plugin)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        is_on.store(true, Ordering::Relaxed);
        let page = bed.get("app", "/hello").await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page.headers["retry-after"], "600");
        assert_eq!(page.body, "<h1>Back in ten minutes</h1>");
        let elsewhere = bed.get("app", "/status").await;
        assert_eq!(elsewhere.headers["location"], "https://status.example.com/");
        is_on.store(false, Ordering::Relaxed);
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn the_example_with_a_limit_takes_small_uploads_and_no_others() {
    run(async {
        let limit = upload_limit::UploadLimit { most_bytes: 100_000 };
        let bed = TestBed::with(Carrier::Tls, with_plugin(limit)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let upload = async |bytes: usize| {
            let body = Full::from(Bytes::from(vec![b'x'; bytes]));
            let request = Request::post("/echo").header(HOST, bed.host("app")).body(body).unwrap();
            collect(send(bed.http_addr(), request).await.unwrap()).await
        };
        assert_eq!(upload(100_000).await.body.len(), 100_000);
        assert_eq!(upload(100_001).await.status, StatusCode::PAYLOAD_TOO_LARGE);

        // In chunks nobody knows before how long it will be.
        let chunks = pattern_stream(1_000_000).map(|chunk| chunk.map(Frame::data));
        let request = Request::post("/echo").header(HOST, bed.host("app"));
        let request = request.body(StreamBody::new(chunks)).unwrap();
        let is_whole = async {
            use http_body_util::BodyExt as _;
            match send(bed.http_addr(), request).await {
                Ok(response) => {
                    response.status().is_success() && response.into_body().collect().await.is_ok()
                }
                Err(_) => false,
            }
        };
        assert!(!soon("an end", is_whole).await);
    });
}

#[test]
fn the_example_that_counts_visitors_counts_them_at_a_client() {
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let echo = LocalService::echo().await;
        let count = visitor_count::VisitorCount::default();
        let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
        let tunnel = tunnel.streams(Streams::Multiplexed);
        let client = bed.client().tunnel(tunnel).plugin(count.clone()).build().unwrap();
        let info = client.start().await.unwrap();
        let public = public_addr(&info.public_url);
        let mut visitor = tokio::net::TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert_eq!(count.open.load(Ordering::Relaxed), 1);
        drop(visitor);
        eventually("none to be open", || count.open.load(Ordering::Relaxed) == 0).await;
    });
}

/// What the guide teaches is what runs here.
#[test]
fn the_guide_shows_the_examples_as_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guide = std::fs::read_to_string(root.join("docs/plugin-development.md")).unwrap();
    let files = std::fs::read_dir(root.join("examples/plugins")).unwrap();
    let examples: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let blocks: Vec<&str> = guide.split("```rust\n").skip(1).collect();
    assert!(blocks.len() >= 4, "{}", blocks.len());
    for block in blocks {
        let (code, _) = block.split_once("```").unwrap();
        let is_shown = examples.iter().any(|example| example.contains(code.trim_end()));
        assert!(is_shown, "no example has:\n{code}");
    }
    for example in std::fs::read_dir(root.join("examples/plugins")).unwrap() {
        let name = example.unwrap().file_name().into_string().unwrap();
        assert!(guide.contains(&name), "{name} is not in the guide");
    }
}
