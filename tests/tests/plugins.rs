//! Plugins in a running server, with real visitors and local services.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::sync::Arc;

use bytes::Bytes;
use ferrotunnel::plugin::http::{HeaderValue, Method, Request, Response, StatusCode};
use ferrotunnel::plugin::{AnsweredBy, Outcome, PluginAction, RequestContext, Result, async_trait};
use ferrotunnel::{Plugin, Tunnel};
use ferrotunnel_tests::{
    Answer, Carrier, LocalService, Site, TestBed, collect, eventually, over_both, run, send, soon,
    with_plugin,
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty, Full};
use hyper::header::HOST;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio_tungstenite::tungstenite::Message;

/// Does what the path says.
struct Doorman;

#[async_trait]
impl Plugin for Doorman {
    fn name(&self) -> &str {
        "doorman"
    }

    async fn on_request(
        &self,
        request: &mut Request<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        Ok(match request.uri().path() {
            "/reject" => PluginAction::Reject { status: 403, reason: "not today".into() },
            "/redirect" => PluginAction::Redirect { status: 307, location: "/hello".into() },
            "/respond" => {
                let response = Response::builder().status(202).header("content-length", "1");
                PluginAction::Respond(response.body(Bytes::from_static(b"from the plugin"))?)
            }
            "/rewrite" => {
                *request.uri_mut() = "/head?rewritten".parse()?;
                *request.method_mut() = Method::PUT;
                let tunnel = context.tunnel().ok_or("no tunnel")?.name.clone();
                request.headers_mut().insert("x-tunnel", HeaderValue::try_from(tunnel)?);
                request.headers_mut().insert("content-length", HeaderValue::from_static("99"));
                request
                    .headers_mut()
                    .insert("x-forwarded-for", HeaderValue::from_static("9.9.9.9"));
                PluginAction::Continue
            }
            "/connect" => {
                *request.method_mut() = Method::CONNECT;
                PluginAction::Continue
            }
            "/fail" => return Err("secret words".into()),
            "/panic" => {
                tokio::task::yield_now().await;
                // Not there, as the plugin believes it is.
                request.headers_mut().remove("x-missing").unwrap();
                PluginAction::Continue
            }
            _ => PluginAction::Continue,
        })
    }

    async fn on_response(
        &self,
        response: &mut Response<()>,
        _: &RequestContext,
    ) -> Result<PluginAction> {
        response.headers_mut().insert("x-seen", HeaderValue::from_static("yes"));
        response.headers_mut().insert("content-length", HeaderValue::from_static("2"));
        Ok(PluginAction::Continue)
    }
}

/// Writes down how each request ended, and what of it passed.
#[derive(Clone, Default)]
struct Clerk(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone, Debug)]
struct Entry {
    visitor: std::net::IpAddr,
    by: Option<AnsweredBy>,
    principal: Option<String>,
    outcome: Outcome,
    chunks: usize,
}

impl Clerk {
    async fn wrote(&self, count: usize) -> Vec<Entry> {
        eventually("the end of the requests", || self.0.lock().len() >= count).await;
        self.0.lock().clone()
    }
}

#[async_trait]
impl Plugin for Clerk {
    fn wants_body_chunks(&self) -> bool {
        true
    }

    fn on_response_chunk(&self, _: &Bytes, context: &RequestContext) -> Result<()> {
        context.insert(context.get::<usize>().unwrap_or(0) + 1);
        Ok(())
    }

    fn on_finished(&self, context: &RequestContext, outcome: &Outcome) {
        self.0.lock().push(Entry {
            visitor: context.visitor().ip(),
            by: context.answered_by(),
            principal: context.principal().map(str::to_owned),
            outcome: *outcome,
            chunks: context.get().unwrap_or(0),
        });
    }
}

async fn accepting(bed: &TestBed, path: &str, accept: &str) -> Answer {
    let request = Request::get(path).header(HOST, bed.host("app")).header("accept", accept);
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    collect(send(bed.http_addr(), request).await.unwrap()).await
}

#[test]
fn a_plugin_rejects_redirects_responds_and_rewrites() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, with_plugin(Doorman)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;

        let hello = bed.get("app", "/hello").await;
        assert_eq!((hello.status, hello.body.as_str()), (StatusCode::OK, "hello"));
        assert_eq!(hello.headers["x-seen"], "yes");

        let rejected = bed.get("app", "/reject").await;
        assert_eq!(rejected.status, StatusCode::FORBIDDEN);
        assert_eq!(rejected.ferrotunnel_error(), Some("rejected"));
        assert!(rejected.body.contains("not today"), "{rejected:?}");
        assert_eq!(rejected.headers["x-seen"], "yes", "its response is seen, too");
        let page = accepting(&bed, "/reject", "text/html").await;
        assert!(page.body.starts_with("<!doctype html>") && page.body.contains("not today"));

        let redirected = bed.get("app", "/redirect").await;
        assert_eq!(redirected.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(redirected.headers["location"], "/hello");

        let responded = bed.get("app", "/respond").await;
        assert_eq!(responded.status, StatusCode::ACCEPTED);
        assert_eq!(responded.body, "from the plugin", "whatever length it had claimed");

        let seen = bed.get("app", "/rewrite").await.body;
        assert!(seen.starts_with("PUT /head?rewritten HTTP/1.1\n"), "{seen}");
        assert!(seen.contains("\nx-tunnel: app\n"), "{seen}");
        assert!(!seen.contains("content-length: 99") && !seen.contains("9.9.9.9"), "{seen}");

        assert_eq!(bed.get("app", "/connect").await.status, StatusCode::METHOD_NOT_ALLOWED);
    });
}

#[test]
fn what_is_not_answered_by_the_local_service_passes_the_plugins_too() {
    over_both(async |carrier| {
        let clerk = Clerk::default();
        let bed = TestBed::with(carrier, |server| {
            server.plugin(clerk.clone()).plugin(Doorman).domain("localhost")
        });
        let bed = bed.await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _down = bed.http("down", nobody).await;
        let asked = [("app", "/hello"), ("app", "/reject"), ("none", "/"), ("down", "/")];
        for (name, path) in asked {
            bed.get(name, path).await;
        }
        let entries = clerk.wrote(4).await;
        let by = |at: usize| entries[at].by.clone().unwrap();
        let status = |at: usize| entries[at].outcome.status.unwrap().as_u16();
        assert_eq!((by(0), status(0)), (AnsweredBy::LocalService, 200));
        assert_eq!((by(1), status(1)), (AnsweredBy::Plugin("doorman".into()), 403));
        assert_eq!((by(2), status(2)), (AnsweredBy::Server, 404));
        assert_eq!((by(3), status(3)), (AnsweredBy::Server, 502));
        assert!(entries.iter().all(|entry| entry.outcome.is_complete), "{entries:?}");
        assert!(entries[0].principal.is_some() && entries[2].principal.is_none(), "{entries:?}");
    });
}

#[test]
fn bodies_pass_the_plugins_while_they_come() {
    over_both(async |carrier| {
        let clerk = Clerk::default();
        let bed = TestBed::with(carrier, with_plugin(clerk.clone())).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;

        let request = Request::get("/sse").header(HOST, bed.host("app"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = soon("a head", send(bed.http_addr(), request)).await.unwrap();
        let mut events = response.into_body();
        for word in ["one", "two"] {
            site.publish(word);
            // Had the first been kept until the end, it would never come.
            let frame = soon("an event", events.frame()).await.unwrap().unwrap();
            assert!(String::from_utf8_lossy(frame.data_ref().unwrap()).contains(word));
        }
        drop(events);
        let left = clerk.wrote(1).await[0].clone();
        assert!(!left.outcome.is_complete && left.chunks >= 2, "{left:?}");

        let body = Full::from(Bytes::from(vec![7; 300_000]));
        let request = Request::post("/echo").header(HOST, bed.host("app")).body(body).unwrap();
        let response = send(bed.http_addr(), request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 300_000);
        let whole = clerk.wrote(2).await[1].outcome;
        assert!(whole.is_complete, "{whole:?}");
        assert_eq!((whole.request_bytes, whole.response_bytes), (300_000, 300_000));
    });
}

/// Cuts bodies that have a certain word in them.
struct Censor;

#[async_trait]
impl Plugin for Censor {
    fn wants_body_chunks(&self) -> bool {
        true
    }

    fn on_response_chunk(&self, chunk: &Bytes, _: &RequestContext) -> Result<()> {
        if chunk.windows(5).any(|window| window == b"hello") { Err("no".into()) } else { Ok(()) }
    }
}

#[test]
fn a_body_that_a_plugin_cuts_is_no_whole_one() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, with_plugin(Censor)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let request = Request::get("/hello").header(HOST, bed.host("app"));
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let response = send(bed.http_addr(), request).await.unwrap();
        soon("the end of it", response.into_body().collect()).await.unwrap_err();
        assert_eq!(bed.get("app", "/anything").await.status, StatusCode::OK);
    });
}

/// Lets no request body pass.
struct Gag;

#[async_trait]
impl Plugin for Gag {
    fn wants_body_chunks(&self) -> bool {
        true
    }

    fn on_request_chunk(&self, _: &Bytes, _: &RequestContext) -> Result<()> {
        Err("not a word".into())
    }
}

#[test]
fn an_upload_that_a_plugin_cuts_is_no_fault_of_the_local_service() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, with_plugin(Gag)).await;
        // It would read a whole request before it answers.
        let reader = LocalService::each(|mut socket| async move {
            let _ = socket.read_to_end(&mut Vec::new()).await;
        });
        let reader = reader.await;
        let _client = bed.http("app", reader.addr()).await;
        let body = Full::from(Bytes::from_static(b"hello"));
        let request = Request::post("/").header(HOST, bed.host("app")).body(body).unwrap();
        let answer = soon("an answer", send(bed.http_addr(), request)).await.unwrap();
        let answer = collect(answer).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.ferrotunnel_error(), Some("rejected"));
    });
}

#[test]
fn visitors_over_http2_and_callers_of_grpc_pass_the_plugins() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, with_plugin(Doorman)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let visitor = reqwest::Client::builder()
            .no_proxy()
            .resolve("app.localhost", bed.http_addr())
            .redirect(reqwest::redirect::Policy::none())
            .http2_prior_knowledge()
            .build()
            .unwrap();
        let url = |path: &str| format!("http://{}{path}", bed.host("app"));
        for (path, status) in
            [("/hello", 200), ("/reject", 403), ("/respond", 202), ("/panic", 500)]
        {
            let answer = soon("an answer", visitor.get(url(path)).send()).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            assert!(path == "/panic" || answer.headers()["x-seen"] == "yes", "{path}");
        }
        let call = visitor.post(url("/reject")).header("content-type", "application/grpc");
        let answer = call.send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &"7".parse().unwrap())
        );
        let message = answer.headers()["grpc-message"].to_str().unwrap();
        assert!(message.contains("not today"), "{message}");
    });
}

#[test]
fn a_websocket_passes_the_plugins() {
    run(async {
        let clerk = Clerk::default();
        let bed =
            TestBed::with(Carrier::Tls, |server| server.plugin(clerk.clone()).plugin(Doorman));
        let bed = bed.await;
        let local = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = bed.http("app", local.local_addr().unwrap()).await;
        let serving = tokio::spawn(async move {
            let (socket, _) = local.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
            let said = socket.next().await.unwrap().unwrap();
            socket.send(said).await.unwrap();
        });
        let socket = tokio::net::TcpStream::connect(bed.http_addr()).await.unwrap();
        let url = format!("ws://{}/", bed.host("app"));
        let (mut visitor, response) = tokio_tungstenite::client_async(url, socket).await.unwrap();
        assert_eq!(response.headers()["x-seen"], "yes");
        visitor.send(Message::text("hello")).await.unwrap();
        let echo = soon("an echo", visitor.next()).await.unwrap().unwrap();
        assert_eq!(echo.into_text().unwrap().as_str(), "hello");
        serving.await.unwrap();
    });
}

#[test]
fn plugins_see_what_a_tunnel_s_own_rules_refuse_and_who_is_behind_a_proxy() {
    over_both(async |carrier| {
        let clerk = Clerk::default();
        let bed = TestBed::with(carrier, |server| {
            server.plugin(clerk.clone()).trusted_proxies(["127.0.0.1"])
        });
        let bed = bed.await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string()).deny("9.9.9.9");
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        for (from, status) in [("8.8.8.8", 200), ("9.9.9.9", 403)] {
            let request = Request::get("/hello").header(HOST, bed.host("app"));
            let request = request.header("x-forwarded-for", from).body(Empty::<Bytes>::new());
            let answer = collect(send(bed.http_addr(), request.unwrap()).await.unwrap()).await;
            assert_eq!(answer.status, status);
        }
        let entries = clerk.wrote(2).await;
        let seen: Vec<_> =
            entries.iter().map(|entry| (entry.visitor.to_string(), entry.by.clone())).collect();
        assert_eq!(seen[0], ("8.8.8.8".to_owned(), Some(AnsweredBy::LocalService)));
        assert_eq!(seen[1], ("9.9.9.9".to_owned(), Some(AnsweredBy::Server)));
        assert!(entries[1].principal.is_some(), "it was for a tunnel");
    });
}
