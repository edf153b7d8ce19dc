//! The inspector at both ends of a tunnel: what it shows is what has passed, and what has passed is what was sent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use ferrotunnel::inspector::{Edits, Filter, RequestDetail, RequestSummary, Whose};
use ferrotunnel::{Client, Inspector, InspectorSettings};
use ferrotunnel_tests::{Carrier, TestBed, eventually, run};
use tokio::net::TcpListener;

/// A site, a tunnel to it, and somebody who looks at each end.
struct Inspected {
    bed: TestBed,
    at_server: Inspector,
    at_client: Inspector,
    visitor: reqwest::Client,
    _client: Client,
}

impl Inspected {
    async fn start(settings: InspectorSettings) -> Self {
        let (at_server, at_client) = (Inspector::new(settings.clone()), Inspector::new(settings));
        let seen = at_server.clone();
        let bed = TestBed::with(Carrier::Plaintext, |server| server.inspector(&seen)).await;
        let site = Router::new()
            .route("/hello", get(|| async { "hello" }))
            .route("/echo", post(|body: Bytes| async { body }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, site).await });
        let client = bed.client().local_addr(local.to_string()).inspector(&at_client);
        let client = client.tunnel(ferrotunnel::Tunnel::http("app")).build().unwrap();
        client.start().await.unwrap();
        let visitor = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { bed, at_server, at_client, visitor, _client: client }
    }

    fn ask(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.bed.http_addr());
        self.visitor.request(method, url).header("host", self.bed.host("app"))
    }

    fn both(&self) -> [&Inspector; 2] {
        [&self.at_server, &self.at_client]
    }
}

fn newest(inspector: &Inspector) -> RequestSummary {
    inspector.list(&Filter::default()).requests.into_iter().next().unwrap()
}

fn detail(inspector: &Inspector) -> RequestDetail {
    inspector.get(&newest(inspector).id, false).unwrap()
}

/// The last byte of an answer is at the visitor a moment before who looks on has been told.
async fn over(inspector: &Inspector, count: usize) {
    eventually("the end of all requests", || {
        let requests = inspector.list(&Filter::default()).requests;
        requests.len() == count && requests.iter().all(|one| one.state == "done")
    })
    .await;
}

#[test]
fn both_ends_show_what_passed_and_hide_what_is_secret() {
    run(async {
        let inspected = Inspected::start(InspectorSettings::default()).await;
        let request = inspected.ask(reqwest::Method::POST, "/echo?x=1");
        let request = request.header("authorization", "Bearer hush").body("what was said");
        let answer = request.send().await.unwrap();
        let id = answer.headers().get("x-request-id").cloned();
        assert_eq!(answer.text().await.unwrap(), "what was said");
        for inspector in inspected.both() {
            over(inspector, 1).await;
            let shown = detail(inspector);
            let summary = &shown.summary;
            assert_eq!((&*summary.method, &*summary.path), ("POST", "/echo?x=1"));
            assert_eq!((summary.status, summary.tunnel.as_str()), (Some(200), "app"));
            assert_eq!((summary.request_bytes, summary.response_bytes), (13, 13));
            if let Some(id) = &id {
                assert_eq!(summary.request_id.as_deref(), id.to_str().ok());
            }
            assert_eq!(shown.request.body.text.as_deref(), Some("what was said"));
            let response = shown.response.as_ref().unwrap();
            assert_eq!(response.body.text.as_deref(), Some("what was said"));
            let secret = |shown: &RequestDetail| {
                let mut headers = shown.request.headers.iter();
                headers.find(|[name, _]| name == "authorization").unwrap()[1].clone()
            };
            assert_eq!(secret(&shown), "••••");
            assert!(!inspector.har(None, false).contains("hush"));
            let revealed = inspector.get(&summary.id, true).unwrap();
            assert_eq!(secret(&revealed), "Bearer hush");
        }
    });
}

#[test]
fn a_request_is_repeated_as_it_was_or_with_changes_at_either_end() {
    run(async {
        let inspected = Inspected::start(InspectorSettings::default()).await;
        let asked = inspected.ask(reqwest::Method::POST, "/echo").body("once").send();
        assert_eq!(asked.await.unwrap().text().await.unwrap(), "once");
        for inspector in inspected.both() {
            over(inspector, 1).await;
        }
        // The client's first: a replay at the server passes the client, too.
        for (inspector, before) in [(&inspected.at_client, 1), (&inspected.at_server, 1)] {
            let original = inspector.list(&Filter::default()).requests.pop().unwrap();
            let again = inspector.replay(&original.id, Edits::default()).unwrap();
            over(inspector, before + 1).await;
            let shown = inspector.get(&again, false).unwrap();
            assert_eq!(shown.summary.replay_of.as_deref(), Some(&*original.id));
            assert_eq!(shown.response.unwrap().body.text.as_deref(), Some("once"));
            let mut edits = Edits::default();
            edits.body = Some(b"otherwise".to_vec());
            let edited = inspector.replay(&original.id, edits).unwrap();
            over(inspector, before + 2).await;
            let shown = inspector.get(&edited, false).unwrap();
            assert_eq!(shown.response.unwrap().body.text.as_deref(), Some("otherwise"));
        }
    });
}

#[test]
fn of_a_large_body_the_beginning_is_kept_and_all_of_it_passes() {
    run(async {
        let mut settings = InspectorSettings::default();
        (settings.body_bytes, settings.budget_bytes) = (1_000, 64 << 10);
        let inspected = Inspected::start(settings).await;
        let body: Vec<u8> =
            (0..1_000_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for _ in 0..20 {
            let asked = inspected.ask(reqwest::Method::POST, "/echo").body(body.clone()).send();
            assert!(asked.await.unwrap().bytes().await.unwrap() == body);
        }
        for inspector in inspected.both() {
            eventually("the last one's end", || newest(inspector).state == "done").await;
            let last = newest(inspector);
            assert_eq!((last.request_bytes, last.response_bytes), (1_000_000, 1_000_000));
            let kept = inspector.body(&last.id, Whose::Request).unwrap();
            assert!(kept.is_truncated && kept.bytes == body[..1_000]);
            assert!(inspector.replay(&last.id, Edits::default()).is_err(), "it is not all there");
            let all = inspector.list(&Filter::default());
            assert!(all.bytes <= all.budget_bytes, "{} of {}", all.bytes, all.budget_bytes);
        }
    });
}

#[test]
fn what_is_thrown_away_is_gone_and_a_filter_finds_the_rest() {
    run(async {
        let inspected = Inspected::start(InspectorSettings::default()).await;
        for path in ["/hello", "/nowhere", "/hello?again"] {
            inspected.ask(reqwest::Method::GET, path).send().await.unwrap().bytes().await.unwrap();
        }
        let inspector = &inspected.at_client;
        over(inspector, 3).await;
        let found = |filter: Filter| -> Vec<String> {
            inspector.list(&filter).requests.into_iter().map(|one| one.path).collect()
        };
        let (mut by_status, mut by_text) = (Filter::default(), Filter::default());
        by_status.status = Some("4xx".to_owned());
        by_text.q = Some("HELLO".to_owned());
        assert_eq!(found(by_status), ["/nowhere"]);
        assert_eq!(found(by_text), ["/hello?again", "/hello"]);
        inspector.clear();
        assert_eq!(inspector.list(&Filter::default()).total, 0);
    });
}

#[test]
fn a_text_is_found_wherever_it_was_said_but_not_in_what_is_hidden() {
    run(async {
        let inspected = Inspected::start(InspectorSettings::default()).await;
        for (body, name, value) in [
            ("a Teapot, please", "x-plain", "one"),
            ("something else", "x-plain", "of teapots"),
            ("something else", "authorization", "Bearer teapot"),
        ] {
            let asked = inspected.ask(reqwest::Method::POST, "/echo").body(body);
            asked.header(name, value).send().await.unwrap().bytes().await.unwrap();
        }
        for inspector in inspected.both() {
            over(inspector, 3).await;
            let found = |text: &str| {
                let mut filter = Filter::default();
                filter.q = Some(text.to_owned());
                let found = inspector.list(&filter);
                assert!(!found.search_cut);
                found.requests.iter().map(|one| one.id.clone()).collect::<Vec<_>>()
            };
            assert_eq!(found("tEAPOT").len(), 2, "in a body and in a header");
            assert_eq!(found("something").len(), 2);
            // The name of what is hidden may be found.
            assert_eq!(found("authorization").len(), 1);
            assert!(found("Bearer").is_empty() && found("kettle").is_empty());
        }
    });
}
