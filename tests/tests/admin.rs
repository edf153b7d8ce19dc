//! The admin interface of a server, asked by real HTTP clients: each reading, each action with what it does to traffic that
//! passes, and who may ask at all.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ferrotunnel::{
    AdminWish, Client, ClientBuilder, Inspector, PrincipalConfig, Server, ServerBuilder, Streams,
    Tunnel, TunnelKind, issue_token,
};
use ferrotunnel_tests::{
    Carrier, LocalService, Site, TOKEN, TestBed, over_both, public_addr, ready, run, run_logged,
    says_and_hears, soon,
};
use futures_util::StreamExt as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn bed(carrier: Carrier) -> TestBed {
    TestBed::with(carrier, |server| server.admin_bind("127.0.0.1:0")).await
}

/// Whoever asks an admin interface.
#[derive(Clone)]
struct Asker {
    at: SocketAddr,
    client: reqwest::Client,
}

impl Asker {
    fn of(bed: &TestBed) -> Self {
        Self::at(bed.server.admin_addr().unwrap())
    }

    fn at(at: SocketAddr) -> Self {
        Self { at, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.at))
    }

    async fn send(request: RequestBuilder) -> Response {
        soon("an answer", request.send()).await.unwrap()
    }

    /// What a path that is there answers.
    async fn get(&self, path: &str) -> Value {
        let answer = Self::send(self.ask(Method::GET, path)).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json", "{path}");
        read(answer).await
    }

    /// An action, and what came of it.
    async fn act(&self, path: &str) -> (StatusCode, Value) {
        let request = self.ask(Method::POST, path).header("x-ferrotunnel-action", "1");
        let answer = Self::send(request).await;
        let status = answer.status();
        if status != 200 {
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json", "{path}");
        }
        let answer = read(answer).await;
        match status == 200 {
            true => assert_eq!(answer["done"], true),
            false => {
                assert_eq!(
                    (&answer["type"], &answer["status"]),
                    (&json!("about:blank"), &json!(status.as_u16()))
                );
                assert!(answer["title"].is_string() && answer["detail"].is_string());
            }
        }
        (status, answer)
    }

    async fn does(&self, path: &str) {
        let (status, answer) = self.act(path).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// Asks until the answer is as it should be.
    async fn until(&self, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        soon(path, async {
            loop {
                let answer = self.get(path).await;
                if is_right(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    async fn events(&self) -> Events {
        let answer = Self::send(self.ask(Method::GET, "/api/v1/events")).await;
        Events::of(answer)
    }
}

async fn read(answer: Response) -> Value {
    let body = soon("the body", answer.bytes()).await.unwrap();
    serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

/// Events as they come in.
struct Events {
    text: String,
    bytes: std::pin::Pin<Box<dyn futures_util::Stream<Item = bytes::Bytes> + Send>>,
}

impl Events {
    fn of(answer: Response) -> Self {
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
        let bytes = Box::pin(answer.bytes_stream().filter_map(async |bytes| bytes.ok()));
        Self { text: String::new(), bytes }
    }

    /// The next one and what it says; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
                };
                let (name, data) = (field("event: ").to_owned(), field("data: ").to_owned());
                self.text = rest.to_owned();
                if !name.is_empty() {
                    return Some((name, data.parse().unwrap()));
                }
                continue;
            }
            let bytes = soon("an event", self.bytes.next()).await?;
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next of that name that is as it should be.
    async fn until(&mut self, wanted: &str, is_right: impl Fn(&Value) -> bool) -> Value {
        soon(wanted, async {
            loop {
                let (name, data) = self.next().await.expect("one more event");
                if name == wanted && is_right(&data) {
                    return data;
                }
            }
        })
        .await
    }
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

/// Holds a value to its schema: everything that is described is there, and nothing else.
fn fits(schema: &Value, value: &Value, described: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return fits(&described["components"]["schemas"][name], value, described, place);
    }
    if let Some(either) = schema["oneOf"].as_array() {
        if value.is_null() {
            assert!(either.iter().any(|one| one["type"] == "null"), "{place}");
            return;
        }
        let real: Vec<_> = either.iter().filter(|one| one["type"] != "null").collect();
        return fits(real[0], value, described, place);
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_number = kind == "integer" && kinds.contains(&"number");
    assert!(kinds.contains(&kind) || is_number, "{place}: {value} is no {kinds:?}");
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value}");
    }
    if let Some(list) = value.as_array() {
        for one in list {
            fits(&schema["items"], one, described, place);
        }
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        let there: BTreeSet<_> = object.keys().collect();
        assert_eq!(there, properties.keys().collect(), "{place}");
        let required = count(&schema["required"]);
        assert_eq!(required, properties.len(), "{place}: all of it is always there");
        for (name, one) in object {
            fits(&properties[name], one, described, &format!("{place}.{name}"));
        }
    }
}

#[test]
fn every_reading_is_as_its_description_says() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, site, echo) =
            (Asker::of(&bed), Site::start().await, LocalService::echo().await);
        let _client = bed.http("app", site.addr()).await;
        let (_other, public) = bed.tcp(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert_eq!(bed.get("app", "/").await.status, 200);
        asker.until("/api/v1/traffic", |traffic| count(&traffic["samples"]) > 0).await;

        let described = asker.get("/api/v1/openapi.json").await;
        let mut seen = 0;
        for (path, item) in described["paths"].as_object().unwrap() {
            let answers = &item["get"]["responses"]["200"]["content"]["application/json"];
            if answers["schema"]["$ref"].is_string() {
                fits(&answers["schema"], &asker.get(path).await, &described, path);
                seen += 1;
            }
            // Nothing is described that is not there.
            let there = path.replace("{id}", "none").replace("{name}", "none");
            for method in item.as_object().unwrap().keys() {
                if path == "/api/v1/events" || path == "/api/v1/drain" {
                    continue;
                }
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let request = asker.ask(method, &there).header("x-ferrotunnel-action", "1");
                let answer = Asker::send(request).await;
                let status = answer.status().as_u16().to_string();
                assert_ne!(status, "405", "{path}");
                let text = soon("the body", answer.text()).await.unwrap();
                assert!(!text.contains("there is nothing of that name"), "{path}: {text}");
            }
        }
        assert_eq!(seen, 7, "{described}");

        let status = asker.get("/api/v1/status").await;
        assert_eq!((&status["side"], &status["phase"]), (&json!("server"), &json!("ready")));
        assert_eq!((&status["sessions"], &status["tunnels"]), (&json!(2), &json!(2)));
        assert!(status["started_at"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!(status["build"]["version"], env!("CARGO_PKG_VERSION"));
        let tunnels = asker.get("/api/v1/tunnels").await;
        let (tcp, http) = (&tunnels["tunnels"][0], &tunnels["tunnels"][1]);
        assert_eq!((&http["id"], &http["state"]), (&json!("http:app"), &json!("up")));
        let url = format!("http://app.localhost:{}/", bed.http_addr().port());
        assert_eq!(http["public_urls"], json!([url]));
        assert_eq!(tcp["public_urls"], json!([format!("tcp://localhost:{}", public.port())]));
        assert!(http["bytes_in"].as_u64() > Some(0) && tcp["visitors"] == 1, "{tunnels}");
        let sessions = asker.get("/api/v1/sessions").await;
        let ids: Vec<_> =
            sessions["sessions"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
        assert!(ids.contains(&&http["sessions"][0]) && ids.contains(&&tcp["sessions"][0]));

        let streams = asker.get("/api/v1/streams").await;
        let own = visitor.local_addr().unwrap().to_string();
        let stream = streams["streams"].as_array().unwrap().iter();
        let stream = stream.filter(|it| it["visitor"] == own).collect::<Vec<_>>();
        let [stream] = stream[..] else { panic!("{streams}") };
        assert_eq!((&stream["tunnel"], &stream["session"]), (&tcp["id"], &tcp["sessions"][0]));
        assert_eq!(stream["bytes_in"], stream["bytes_out"]);
        drop(visitor);
        asker
            .until("/api/v1/streams", |streams| {
                streams["streams"].as_array().unwrap().iter().all(|it| it["visitor"] != own)
            })
            .await;
    });
}

#[test]
fn a_visitor_with_a_carrier_to_itself_is_listed_too() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, echo) = (Asker::of(&bed), LocalService::echo().await);
        let (_client, public) = bed.direct(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        let streams = asker.until("/api/v1/streams", |streams| streams["total"] == 1).await;
        let stream = &streams["streams"][0];
        assert_eq!(stream["visitor"], visitor.local_addr().unwrap().to_string());
        assert!(
            stream["session"].is_string() && stream["tunnel"] == format!("tcp:{}", public.port())
        );
    });
}

#[test]
fn a_session_that_is_closed_ends_with_its_visitors_and_its_client_comes_back() {
    over_both(async |carrier| {
        let bed = bed(carrier).await;
        let (asker, echo) = (Asker::of(&bed), LocalService::echo().await);
        let (client, public) = bed.tcp(echo.addr()).await;
        let mut events = client.events();
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        let sessions = asker.get("/api/v1/sessions").await;
        let id = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
        asker.does(&format!("/api/v1/sessions/{id}/close")).await;
        // It may be told by an error, too.
        assert!(!matches!(soon("the end", visitor.read(&mut [0])).await, Ok(1..)));
        assert_eq!(ready(&mut events).await.public_url, format!("tcp://{public}"));
        let mut visitor = soon("a way in", TcpStream::connect(public)).await.unwrap();
        says_and_hears(&mut visitor).await;
        let (status, answer) = asker.act(&format!("/api/v1/sessions/{id}/close")).await;
        assert_eq!(status, 404, "{answer}");
    });
}

#[test]
fn a_session_that_is_closed_takes_visitors_with_carriers_of_their_own_along() {
    over_both(async |carrier| {
        let bed = bed(carrier).await;
        let (asker, echo) = (Asker::of(&bed), LocalService::echo().await);
        let (client, public) = bed.direct(echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert_eq!(bed.server.direct().serving, 1);
        let sessions = asker.get("/api/v1/sessions").await;
        let id = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
        asker.does(&format!("/api/v1/sessions/{id}/close")).await;
        assert!(!matches!(soon("the end", visitor.read(&mut [0])).await, Ok(1..)));
        drop(client);
    });
}

#[test]
fn a_paused_tunnel_turns_visitors_away_until_it_is_resumed() {
    over_both(async |carrier| {
        let bed = bed(carrier).await;
        let (asker, site, echo) =
            (Asker::of(&bed), Site::start().await, LocalService::echo().await);
        let client = bed.http("app", site.addr()).await;
        let _other = bed.http("other", site.addr()).await;
        let (_tcp, public) = bed.tcp(echo.addr()).await;
        let mut inside = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut inside).await;

        asker.does("/api/v1/tunnels/http:app/pause").await;
        asker.does(&format!("/api/v1/tunnels/tcp:{}/pause", public.port())).await;
        let answer = bed.get("app", "/").await;
        assert_eq!(
            (answer.status, answer.headers["ferrotunnel-error"].as_bytes()),
            (StatusCode::SERVICE_UNAVAILABLE, &b"paused"[..])
        );
        assert_eq!(bed.get("other", "/").await.status, 200);
        // It may be turned away before it knows that it has come in.
        if let Ok(mut visitor) = TcpStream::connect(public).await {
            assert!(!matches!(soon("the end", visitor.read(&mut [0])).await, Ok(1..)));
        }
        says_and_hears(&mut inside).await;
        let tunnels = asker.get("/api/v1/tunnels").await;
        let states: Vec<_> = tunnels["tunnels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["state"].as_str().unwrap())
            .collect();
        assert_eq!(states.iter().filter(|state| **state == "paused").count(), 2, "{tunnels}");
        assert_eq!(bed.server.turned_away().visitors_of_paused, 2);

        // It is still so when the client was away.
        soon("the shutdown", client.shutdown()).await.unwrap();
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/").await.status, 503);

        asker.does("/api/v1/tunnels/http:app/resume").await;
        asker.does(&format!("/api/v1/tunnels/tcp:{}/resume", public.port())).await;
        assert_eq!(bed.get("app", "/").await.status, 200);
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        assert_eq!(asker.act("/api/v1/tunnels/http:nobody/pause").await.0, 404);
        assert_eq!(asker.act("/api/v1/tunnels/http:nobody/resume").await.0, 404);
    });
}

/// A path in the name of a tunnel is written as one segment.
#[test]
fn a_tunnel_with_a_path_is_named_with_it() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, site) = (Asker::of(&bed), Site::start().await);
        let tunnel = Tunnel::http("app").path("/api").local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        asker.does("/api/v1/tunnels/http:app%2Fapi/pause").await;
        assert_eq!(bed.get("app", "/api").await.status, 503);
        let tunnels = asker.get("/api/v1/tunnels").await;
        assert_eq!(tunnels["tunnels"][0]["id"], "http:app/api");
        assert!(tunnels["tunnels"][0]["public_urls"][0].as_str().unwrap().ends_with("/api"));
    });
}

#[test]
fn a_principal_that_is_revoked_is_out_and_stays_out() {
    run(async {
        let (token, verifier) = issue_token().unwrap();
        let mut web = PrincipalConfig::new("web").verifier(verifier);
        web.max_tunnels = Some(3);
        web.kinds = Some(vec![TunnelKind::Http]);
        let with_web =
            |server: ServerBuilder| server.admin_bind("127.0.0.1:0").principals([web.clone()]);
        let bed = TestBed::with(Carrier::Tls, with_web).await;
        let (asker, site) = (Asker::of(&bed), Site::start().await);
        let _others = bed.http("others", site.addr()).await;
        let client = || {
            let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
            bed.client().token(token.reveal()).tunnel(tunnel).retry(ferrotunnel::Retry::Never)
        };
        let first = client().build().unwrap();
        first.start().await.unwrap();
        let principals = asker.get("/api/v1/principals").await;
        let web = |principals: &Value| principals["principals"][1].clone();
        assert_eq!(web(&principals)["name"], "web");
        assert_eq!(
            (&web(&principals)["sessions"], &web(&principals)["tunnels"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(web(&principals)["limits"]["max_tunnels"], 3);
        assert_eq!(web(&principals)["disabled"], false);

        asker.does("/api/v1/principals/web/revoke").await;
        soon("the end", first.wait()).await.unwrap_err();
        asker
            .until("/api/v1/principals", |now| {
                web(now)["disabled"] == true && web(now)["sessions"] == 0
            })
            .await;
        let error = soon("the refusal", client().build().unwrap().start()).await.unwrap_err();
        assert!(error.to_string().contains("does not accept this token"), "{error}");
        assert_eq!(bed.get("others", "/").await.status, 200);
        assert_eq!(asker.act("/api/v1/principals/nobody/revoke").await.0, 404);
    });
}

#[test]
fn the_log_says_which_token_it_was_also_where_that_is_the_shared_one() {
    run_logged(async |log| {
        let (token, verifier) = issue_token().unwrap();
        let web = PrincipalConfig::new("web").verifier(verifier);
        let with_web = |server: ServerBuilder| server.admin_bind("127.0.0.1:0").principals([web]);
        let bed = TestBed::with(Carrier::Plaintext, with_web).await;
        let asker = Asker::of(&bed);
        let start = async |token: &str, name: &str| {
            let client = bed.client().token(token).tunnel(Tunnel::http(name).local_addr("1"));
            let client = client.build().unwrap();
            soon("a tunnel", client.start()).await.unwrap();
            client
        };
        let _clients = (start(TOKEN, "one").await, start(&token.reveal(), "two").await);
        let lines = || {
            let ids = ["shared", token.id(), ""];
            ids.map(|id| log.count(&format!("token=\"{id}\"")))
        };
        assert_eq!(lines(), [1, 1, 0]);
        for name in ["default", "web"] {
            asker.does(&format!("/api/v1/principals/{name}/revoke")).await;
        }
        assert_eq!(lines(), [2, 2, 0]);
    });
}

#[test]
fn events_tell_what_changes() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, site) = (Asker::of(&bed), Site::start().await);
        let mut events = asker.events().await;
        for name in ["status", "sessions", "tunnels"] {
            let (told, data) = events.next().await.unwrap();
            assert_eq!(told, name);
            assert_eq!(count(&data[name]), 0);
        }
        let sample = events.until("sample", |_| true).await;
        assert!(sample["p50_seconds"].is_null() && sample["requests"] == 0, "{sample}");
        let client = bed.http("app", site.addr()).await;
        let tunnels = events.until("tunnels", |now| count(&now["tunnels"]) == 1).await;
        assert_eq!(tunnels["tunnels"][0]["id"], "http:app");
        let mut second = asker.events().await;
        let (_, status) = second.next().await.unwrap();
        assert_eq!(status["tunnels"], 1);
        assert_eq!(bed.get("app", "/").await.status, 200);
        let sample = events.until("sample", |sample| sample["requests"] == 1).await;
        assert!(sample["p99_seconds"].as_f64().unwrap() > 0.0, "{sample}");
        asker.does("/api/v1/tunnels/http:app/pause").await;
        for events in [&mut events, &mut second] {
            events.until("tunnels", |now| now["tunnels"][0]["state"] == "paused").await;
        }
        soon("the shutdown", client.shutdown()).await.unwrap();
        events.until("status", |status| status["sessions"] == 0).await;
        soon("the shutdown", bed.server.shutdown()).await.unwrap();
        // Nobody is left to wait for.
        soon("the end", async {
            loop {
                let cut = events.bytes.next().await.is_none();
                if cut {
                    break;
                }
            }
        })
        .await;
    });
}

#[test]
fn what_passes_is_remembered_second_by_second() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, site) = (Asker::of(&bed), Site::start().await);
        let _client = bed.http("app", site.addr()).await;
        let _dead = bed.http("dead", LocalService::nobody().await).await;
        for _ in 0..3 {
            assert_eq!(bed.get("app", "/").await.status, 200);
        }
        assert_eq!(bed.get("dead", "/").await.status, 502);
        let sum = |traffic: &Value, of: &str| -> u64 {
            traffic["samples"].as_array().unwrap().iter().map(|it| it[of].as_u64().unwrap()).sum()
        };
        let traffic = asker.until("/api/v1/traffic", |now| sum(now, "requests") >= 4).await;
        assert_eq!((sum(&traffic, "requests"), sum(&traffic, "errors")), (4, 1), "{traffic}");
        assert!(sum(&traffic, "bytes_in") > 0 && sum(&traffic, "bytes_out") > 0, "{traffic}");
        assert_eq!(traffic["step_seconds"], 1);
    });
}

#[test]
fn a_drain_ends_a_server_that_runs_by_itself_and_others_say_that_they_do_not_take_it() {
    run(async {
        let server = TestBed::server(Carrier::Tls);
        // Where it listens nobody is told, so it is chosen before.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = server.admin_bind(port).build().unwrap();
        let running = tokio::spawn(async move { server.start().await });
        soon("the interface", async {
            while TcpStream::connect(port).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let asker = Asker::at(port);
        asker.until("/api/v1/status", |status| status["phase"] == "ready").await;
        let (status, answer) = asker.act("/api/v1/reload").await;
        assert_eq!(status, 409);
        assert!(answer["detail"].as_str().unwrap().contains("no file to read again"), "{answer}");
        asker.does("/api/v1/drain").await;
        soon("the end", running).await.unwrap().unwrap();

        let bed = bed(Carrier::Tls).await;
        let (status, answer) = Asker::of(&bed).act("/api/v1/drain").await;
        assert_eq!(status, 409, "{answer}");
    });
}

#[test]
fn wishes_are_for_the_program_to_grant() {
    run(async {
        let server = TestBed::server(Carrier::Tls).admin_bind("127.0.0.1:0").build().unwrap();
        let server = server.spawn().await.unwrap();
        let mut wishes = server.admin_wishes().unwrap();
        assert!(server.admin_wishes().is_none(), "it is there once");
        let asker = Asker::at(server.admin_addr().unwrap());
        let granting = tokio::spawn(async move {
            for outcome in [Ok("taken".to_owned()), Err("line 3 is wrong".to_owned())] {
                let AdminWish::Reload(reply) = wishes.next().await else { panic!("a reload") };
                reply.tell(outcome);
            }
            assert!(matches!(wishes.next().await, AdminWish::Drain));
        });
        let (status, answer) = asker.act("/api/v1/reload").await;
        assert_eq!((status.as_u16(), &answer["detail"]), (200, &json!("taken")));
        let (status, answer) = asker.act("/api/v1/reload").await;
        assert_eq!((status.as_u16(), &answer["detail"]), (409, &json!("line 3 is wrong")));
        asker.does("/api/v1/drain").await;
        soon("the wishes", granting).await.unwrap();
        let (status, answer) = asker.act("/api/v1/drain").await;
        assert_eq!(status, 409, "{answer}");
    });
}

#[test]
fn two_servers_in_one_process_are_acted_on_apart() {
    run(async {
        let (one, other) = (bed(Carrier::Tls).await, bed(Carrier::Tls).await);
        let site = Site::start().await;
        let _clients = [one.http("app", site.addr()).await, other.http("app", site.addr()).await];
        Asker::of(&one).does("/api/v1/tunnels/http:app/pause").await;
        assert_eq!(one.get("app", "/").await.status, 503);
        assert_eq!(other.get("app", "/").await.status, 200);
        let tunnels = Asker::of(&other).get("/api/v1/tunnels").await;
        assert_eq!(tunnels["tunnels"][0]["state"], "up");
        assert_eq!(Asker::of(&other).get("/api/v1/streams").await["total"], 1);
    });
}

#[test]
fn what_changes_something_cannot_be_sent_by_a_form_of_another_page() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, site) = (Asker::of(&bed), Site::start().await);
        let _client = bed.http("app", site.addr()).await;
        let post = || asker.ask(Method::POST, "/api/v1/tunnels/http:app/pause");
        let host = asker.at.to_string();
        for request in [
            post(),
            post().header(CONTENT_TYPE, "text/plain").body("{}"),
            post().header(CONTENT_TYPE, "application/x-www-form-urlencoded").body("a=b"),
            post().header("x-ferrotunnel-action", "1").body("more"),
            post().header("x-ferrotunnel-action", "1").header(ORIGIN, "http://evil.example"),
            post().header("x-ferrotunnel-action", "1").header(ORIGIN, "null"),
            post().header("x-ferrotunnel-action", "1").header(HOST, "evil.example"),
            post().header(CONTENT_TYPE, "application/json").header(ORIGIN, "http://localhost:1"),
        ] {
            let answer = Asker::send(request).await;
            assert_eq!(answer.status(), 403);
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        }
        assert_eq!(bed.get("app", "/").await.status, 200);
        let same = post().header(CONTENT_TYPE, "application/json").body("{}");
        let same = same.header(ORIGIN, format!("http://{host}"));
        assert_eq!(Asker::send(same).await.status(), 200);
        assert_eq!(bed.get("app", "/").await.status, 503);
        // To ask is to change nothing.
        let answer = Asker::send(asker.ask(Method::GET, "/api/v1/tunnels/http:app/resume")).await;
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "POST");
        assert_eq!(bed.get("app", "/").await.status, 503);
    });
}

#[test]
fn a_browser_shows_the_token_once_and_has_a_cookie_and_a_key_that_end_with_the_logout() {
    const SECRET: &str = "the-admins-own-secret";
    run(async {
        let guarded = |server: ServerBuilder| server.admin_bind("127.0.0.1:0").admin_token(SECRET);
        let bed = TestBed::with(Carrier::Tls, guarded).await;
        let asker = Asker::of(&bed);
        let login = |token: &str| {
            let login = asker.ask(Method::POST, "/api/v1/login");
            login
                .header(CONTENT_TYPE, "application/json")
                .body(json!({ "token": token }).to_string())
        };
        for body in ["", "{}", "null", "[]", "{\"token\":7}"] {
            let login = asker.ask(Method::POST, "/api/v1/login").body(body);
            let answer = Asker::send(login.header(CONTENT_TYPE, "application/json")).await;
            assert_eq!(answer.status(), 400, "{body}");
        }
        let answer = Asker::send(login("another-secret-than-that")).await;
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key(SET_COOKIE));
        let answer = Asker::send(login(SECRET)).await;
        let logged_in = async |answer: Response| {
            assert_eq!(answer.status(), 200);
            let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
            let key = read(answer).await["key"].as_str().unwrap().to_owned();
            // Cookies of a host are the same on all its ports.
            let name = format!("ferrotunnel_admin_{}=", asker.at.port());
            for word in [&name, "; HttpOnly", "; SameSite=Strict", "; Path=/;"] {
                assert!(cookie.contains(word), "{cookie}");
            }
            assert!(!cookie.contains(SECRET) && !cookie.contains(&key) && key != SECRET);
            (cookie.split(';').next().unwrap().to_owned(), key)
        };
        let (cookie, key) = logged_in(answer).await;

        const KEY: &str = "x-ferrotunnel-key";
        let bare = |method, path, cookie: &str| asker.ask(method, path).header(COOKIE, cookie);
        let ask = |method, path, cookie: &str| bare(method, path, cookie).header(KEY, &key);
        let status = |request| async { Asker::send(request).await.status().as_u16() };
        for path in ["/api/v1/status", "/api/v1/events", "/metrics", "/healthz"] {
            assert_eq!(status(ask(Method::GET, path, &cookie)).await, 200, "{path}");
            assert_eq!(status(ask(Method::GET, path, &format!("a=b; {cookie}"))).await, 200);
            assert_eq!(status(ask(Method::GET, path, &format!("{cookie}0"))).await, 401);
            assert_eq!(status(ask(Method::GET, path, "ferrotunnel_admin=")).await, 401);
            assert_eq!(status(asker.ask(Method::GET, path)).await, 401, "{path}");
            // The cookie is also seen by who listens on another port of the host: it is nothing without the key.
            assert_eq!(status(bare(Method::GET, path, &cookie)).await, 401, "{path}");
            assert_eq!(status(bare(Method::GET, path, &cookie).header(KEY, "0")).await, 401);
            assert_eq!(status(ask(Method::GET, path, &cookie).header(KEY, &key)).await, 401);
            assert_eq!(status(asker.ask(Method::GET, path).header(KEY, &key)).await, 401);
            let in_query = asker.ask(Method::GET, path).query(&[("key", &key)]);
            assert_eq!(status(in_query.header(COOKIE, &cookie)).await, 401);
            let both = ask(Method::GET, path, &cookie).header(AUTHORIZATION, "Bearer wrong");
            assert_eq!(status(both).await, 401);
        }
        let answer = Asker::send(ask(Method::GET, "/api/v1/events", &cookie)).await;
        let mut events = Events::of(answer);
        events.until("sample", |_| true).await;
        // Another page of the same browser logs in, and its cookie takes the place of the first.
        let (second, _) = logged_in(Asker::send(login(SECRET)).await).await;
        assert_eq!(status(ask(Method::GET, "/api/v1/status", &second)).await, 200);
        // A cookie comes along by itself, so it is not enough.
        assert_eq!(status(ask(Method::POST, "/api/v1/logout", &cookie)).await, 403);
        let logout =
            ask(Method::POST, "/api/v1/logout", &cookie).header("x-ferrotunnel-action", "1");
        assert_eq!(status(logout).await, 204);
        assert_eq!(status(ask(Method::GET, "/api/v1/status", &cookie)).await, 401);
        // Who listens is told no more, either.
        soon("the end of the events", async { while events.next().await.is_some() {} }).await;
        let bearer = format!("Bearer {SECRET}");
        let shown = asker.ask(Method::GET, "/api/v1/status").header(AUTHORIZATION, bearer);
        assert_eq!(status(shown).await, 200);

        let open = self::bed(Carrier::Tls).await;
        let login = Asker::of(&open).ask(Method::POST, "/api/v1/login");
        let login = login.header(CONTENT_TYPE, "application/json").body("{\"token\":\"any\"}");
        assert_eq!(status(login).await, 404);
    });
}

#[test]
fn what_one_hears_at_the_beginning_the_others_still_hear_of() {
    run(async {
        let bed = bed(Carrier::Tls).await;
        let (asker, site) = (Asker::of(&bed), Site::start().await);
        let _client = bed.http("app", site.addr()).await;
        let is = |state: &'static str| move |data: &Value| data["tunnels"][0]["state"] == state;
        let mut earlier = asker.events().await;
        earlier.until("tunnels", is("up")).await;
        for (action, state) in [("pause", "paused"), ("resume", "up"), ("pause", "paused")] {
            asker.does(&format!("/api/v1/tunnels/http:app/{action}")).await;
            let mut later = asker.events().await;
            later.until("tunnels", is(state)).await;
            earlier.until("tunnels", is(state)).await;
        }
    });
}

#[test]
fn the_page_is_for_everybody_and_allows_nothing_from_elsewhere() {
    run(async {
        let guarded = |server: ServerBuilder| {
            server.admin_bind("127.0.0.1:0").admin_token("the-admins-own-secret")
        };
        let bed = TestBed::with(Carrier::Tls, guarded).await;
        let asker = Asker::of(&bed);
        for path in ["/", "/assets/nothing.js", "/.gitkeep", "/../Cargo.toml"] {
            let answer = Asker::send(asker.ask(Method::GET, path)).await;
            // Whether there is a page depends on how it was built.
            assert!(path == "/" || answer.status() == 404, "{path}: {}", answer.status());
            assert_ne!(answer.status(), 401, "{path}");
            let policy = answer.headers()["content-security-policy"].to_str().unwrap();
            for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
                assert!(policy.contains(rule), "{policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
        }
        assert_eq!(Asker::send(asker.ask(Method::GET, "/api/v1/nothing")).await.status(), 401);
        assert_eq!(Asker::send(asker.ask(Method::GET, "/api")).await.status(), 401);
    });
}

#[test]
fn limits_are_shown_with_how_often_they_were_met() {
    run(async {
        let mut limits = ferrotunnel::LimitsConfig::default();
        limits.max_visitors_per_tunnel = Some(1);
        let limited = |server: ServerBuilder| server.admin_bind("127.0.0.1:0").limits(limits);
        let bed = TestBed::with(Carrier::Tls, limited).await;
        let (asker, echo) = (Asker::of(&bed), LocalService::echo().await);
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut first = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut first).await;
        if let Ok(mut second) = TcpStream::connect(public).await {
            let _ = soon("the end", second.read(&mut [0])).await;
        }
        let of = |limits: &Value, name: &str| {
            let list = limits["limits"].as_array().unwrap().iter();
            list.clone().find(|limit| limit["name"] == name).cloned().unwrap()
        };
        let limits = asker
            .until("/api/v1/limits", |now| of(now, "max-visitors-per-tunnel")["hit"] == 1)
            .await;
        assert_eq!(of(&limits, "max-visitors-per-tunnel")["value"], 1.0);
        assert!(of(&limits, "max-visitors-per-address")["value"].is_null());
    });
}

/// Of its tunnels the one whose visitors speak HTTP has requests, where somebody looks.
#[test]
fn a_client_tells_of_requests_what_it_knows_and_no_more() {
    run(async {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let (site, echo, dead) =
            (Site::start().await, LocalService::echo().await, LocalService::nobody().await);
        let shown = async |inspector: Option<Inspector>, name: &str| {
            let to = |tunnel: Tunnel, local: SocketAddr| tunnel.local_addr(local.to_string());
            let client = bed.client().admin_bind("127.0.0.1:0");
            let client = client.tunnel(to(Tunnel::http(name), site.addr()));
            let client = client.tunnel(to(Tunnel::tcp(), echo.addr()));
            let client = client.tunnel(to(Tunnel::http(format!("{name}-dead")), dead));
            let client = match &inspector {
                Some(inspector) => client.inspector(inspector),
                None => client,
            };
            let client = client.build().unwrap();
            soon("it starts", client.start()).await.unwrap();
            let asker = Asker::at(client.admin_addr().unwrap());
            asker.until("/api/v1/traffic", |traffic| count(&traffic["samples"]) > 0).await;
            assert_eq!(bed.get(name, "/hello").await.status, 200);
            assert_eq!(bed.get(name, "/bytes/none").await.status, 400);
            assert_eq!(bed.get(&format!("{name}-dead"), "/").await.status, 502);
            (client, asker)
        };
        let sum = |traffic: &Value, of: &str| -> u64 {
            traffic["samples"].as_array().unwrap().iter().filter_map(|it| it[of].as_u64()).sum()
        };

        let (_client, asker) = shown(Some(Inspector::default()), "seen").await;
        let traffic = asker.until("/api/v1/traffic", |now| sum(now, "requests") >= 3).await;
        assert_eq!((sum(&traffic, "requests"), sum(&traffic, "errors")), (3, 1), "{traffic}");
        let timed = |sample: &Value| sample["p50_seconds"].as_f64() > Some(0.0);
        assert!(traffic["samples"].as_array().unwrap().iter().any(timed), "{traffic}");
        let tunnels = asker.get("/api/v1/tunnels").await;
        let one = |status: &str| json!({"status": status, "count": 1});
        let counts = |tunnel: &str| -> Value {
            let tunnels = tunnels["tunnels"].as_array().unwrap();
            tunnels.iter().find(|it| it["name"] == tunnel || it["kind"] == tunnel).unwrap()["requests"]
                .clone()
        };
        assert_eq!(counts("seen"), json!({"total": 2, "by_status": [one("2xx"), one("4xx")]}));
        assert_eq!(counts("seen-dead"), json!({"total": 1, "by_status": [one("none")]}));
        assert_eq!(counts("tcp"), Value::Null);

        let (_client, asker) = shown(None, "unseen").await;
        let traffic = asker.until("/api/v1/traffic", |now| sum(now, "streams_opened") >= 2).await;
        for sample in traffic["samples"].as_array().unwrap() {
            assert!(sample["requests"].is_null() && sample["p50_seconds"].is_null(), "{sample}");
        }
        let tunnels = asker.get("/api/v1/tunnels").await;
        assert!(tunnels["tunnels"].as_array().unwrap().iter().all(|it| it["requests"].is_null()));
    });
}

#[test]
fn a_server_without_the_interface_lists_nothing() {
    run(async {
        let mut server =
            Server::builder().bind("127.0.0.1:0").http_bind("127.0.0.1:0").token(TOKEN);
        server = server.no_http();
        let server = server.build().unwrap().spawn().await.unwrap();
        assert!(server.admin_addr().is_none() && server.admin_wishes().is_none());
    });
}

/// A client with an admin interface and one TCP tunnel, and where visitors reach it.
async fn shown_client(bed: &TestBed, local: SocketAddr) -> (Client, Asker, SocketAddr) {
    let tunnel = Tunnel::tcp().local_addr(local.to_string()).streams(Streams::Multiplexed);
    let client = bed.client().tunnel(tunnel).admin_bind("127.0.0.1:0").build().unwrap();
    let info = client.start().await.unwrap();
    let asker = Asker::at(client.admin_addr().unwrap());
    (client, asker, public_addr(&info.public_url))
}

#[test]
fn a_client_shows_what_it_has_as_its_description_says() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, asker, public) = shown_client(&bed, echo.addr()).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        asker.until("/api/v1/traffic", |traffic| count(&traffic["samples"]) > 0).await;
        let described = asker.get("/api/v1/openapi.json").await;
        let mut seen = 0;
        for (path, item) in described["paths"].as_object().unwrap() {
            let answers = &item["get"]["responses"]["200"]["content"]["application/json"];
            if answers["schema"]["$ref"].is_string() {
                fits(&answers["schema"], &asker.get(path).await, &described, path);
                seen += 1;
            }
            assert!(!path.contains("principals") && !path.contains("limits"), "{path}");
        }
        assert_eq!(seen, 5, "{described}");
        let status = asker.get("/api/v1/status").await;
        assert_eq!((&status["side"], &status["phase"]), (&json!("client"), &json!("ready")));
        let tunnels = asker.get("/api/v1/tunnels").await;
        let tunnel = &tunnels["tunnels"][0];
        assert_eq!(tunnel["local"], echo.addr().to_string());
        assert_eq!(tunnel["public_urls"], json!([format!("tcp://{public}")]));
        assert!(tunnel["bytes_in"].as_u64() > Some(0) && tunnel["visitors"] == 1, "{tunnel}");
        let sessions = asker.get("/api/v1/sessions").await;
        assert_eq!(sessions["sessions"][0]["address"], bed.server.tunnel_addr().to_string());
        assert_eq!(sessions["sessions"][0]["id"], tunnel["sessions"][0]);
        assert_eq!(
            sessions["sessions"][0]["software"],
            concat!("ferrotunnel/", env!("CARGO_PKG_VERSION"))
        );
        let streams = asker.get("/api/v1/streams").await;
        let stream = &streams["streams"][0];
        assert_eq!(stream["visitor"], visitor.local_addr().unwrap().to_string());
        assert_eq!(
            (&stream["tunnel"], &stream["session"]),
            (&tunnel["id"], &tunnel["sessions"][0])
        );
        assert!(!tunnels.to_string().contains(TOKEN));
        assert_eq!(asker.act("/api/v1/principals/web/revoke").await.0, 404);
    });
}

/// Whether a visitor hears the echo, and is not closed at once.
async fn is_let_in(public: SocketAddr) -> bool {
    let Ok(mut visitor) = TcpStream::connect(public).await else { return false };
    // It may be turned away before it knows that it has come in.
    visitor.write_all(b"ping").await.is_ok() && visitor.read_exact(&mut [0; 4]).await.is_ok()
}

#[test]
fn what_is_done_at_a_client_reaches_its_visitors() {
    run(async {
        let bed = TestBed::alone(Carrier::Tls).await;
        let echo = LocalService::echo().await;
        let (client, asker, public) = shown_client(&bed, echo.addr()).await;
        let mut client_events = client.events();
        let mut events = asker.events().await;
        let tunnels = events.until("tunnels", |_| true).await;
        let id = tunnels["tunnels"][0]["id"].as_str().unwrap().to_owned();
        let mut inside = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut inside).await;

        asker.does(&format!("/api/v1/tunnels/{id}/pause")).await;
        events.until("tunnels", |now| now["tunnels"][0]["state"] == "paused").await;
        soon("visitors to be turned away", async { while is_let_in(public).await {} }).await;
        says_and_hears(&mut inside).await;
        asker.does(&format!("/api/v1/tunnels/{id}/resume")).await;
        asker.until("/api/v1/tunnels", |now| now["tunnels"][0]["state"] == "up").await;
        soon("visitors to be let in", async { while !is_let_in(public).await {} }).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;

        let sessions = asker.get("/api/v1/sessions").await;
        let session = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
        asker.does(&format!("/api/v1/sessions/{session}/close")).await;
        assert!(!matches!(soon("the end", visitor.read(&mut [0])).await, Ok(1..)));
        ready(&mut client_events).await;
        let sessions =
            asker.until("/api/v1/sessions", |now| now["sessions"][0]["state"] == "up").await;
        assert_ne!(sessions["sessions"][0]["id"], session);
        assert_eq!(asker.act(&format!("/api/v1/sessions/{session}/close")).await.0, 404);
        assert_eq!(asker.act("/api/v1/tunnels/nobody/pause").await.0, 404);
        assert_eq!(asker.act("/api/v1/drain").await.0, 409);
        soon("the shutdown", client.shutdown()).await.unwrap();
        assert!(client.admin_addr().is_none());
    });
}

#[test]
fn a_client_without_a_server_is_not_ready_and_says_why() {
    run(async {
        let nobody = LocalService::nobody().await;
        let client = Client::builder().server_addr(nobody.to_string()).token(TOKEN);
        let client = client.local_addr("127.0.0.1:1").admin_bind("127.0.0.1:0").build().unwrap();
        client.open_admin().unwrap();
        let asker = Asker::at(client.admin_addr().unwrap());
        let answer = Asker::send(asker.ask(Method::GET, "/readyz")).await;
        assert_eq!(
            (answer.status(), soon("it", answer.text()).await.unwrap().as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
        );
        let client = std::sync::Arc::new(client);
        let starting = {
            let client = std::sync::Arc::clone(&client);
            tokio::spawn(async move { client.start().await })
        };
        let sessions = asker
            .until("/api/v1/sessions", |now| now["sessions"][0]["last_error"].is_string())
            .await;
        assert_eq!(sessions["sessions"][0]["state"], "down");
        assert_eq!(asker.get("/api/v1/status").await["phase"], "starting");
        starting.abort();
    });
}

#[test]
fn a_port_that_is_taken_makes_way_for_the_next_if_that_is_as_good() {
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let (taken, _next) = two_ports();
        let at = taken.local_addr().unwrap();
        let client = |change: fn(ClientBuilder, SocketAddr) -> ClientBuilder| {
            change(bed.client().local_addr("127.0.0.1:1"), at).build().unwrap()
        };
        let words = client(|it, at| it.admin_bind(at)).open_admin().unwrap_err().to_string();
        assert!(words.contains("admin_bind"), "{words}");
        let next = client(|it, at| it.admin_bind_or_next(at));
        next.open_admin().unwrap();
        let found = next.admin_addr().unwrap();
        // The one behind it is taken, too.
        assert!(found.ip() == at.ip() && found.port() > at.port() + 1, "{found} after {at}");
        let words = bed.client().admin_bind("0.0.0.0:0").build().unwrap_err().to_string();
        assert!(words.contains("--admin-token-file"), "{words}");
    });
}

/// Two ports that follow each other, with room behind them.
fn two_ports() -> (std::net::TcpListener, std::net::TcpListener) {
    loop {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = first.local_addr().unwrap();
        let second = at.port().checked_add(1).filter(|port| *port < u16::MAX - 40);
        if let Some(Ok(second)) = second.map(|port| std::net::TcpListener::bind((at.ip(), port))) {
            return (first, second);
        }
    }
}

/// A server that inspects, with one tunnel to a site.
async fn inspecting() -> (TestBed, Site, Client) {
    let inspector = Inspector::default();
    let with = |server: ServerBuilder| server.admin_bind("127.0.0.1:0").inspector(&inspector);
    let (bed, site) = (TestBed::with(Carrier::Plaintext, with).await, Site::start().await);
    let client = bed.http("app", site.addr()).await;
    (bed, site, client)
}

#[test]
fn who_listens_hears_of_requests_whenever_they_begin_to() {
    run(async {
        let (bed, _site, _client) = inspecting().await;
        let asker = Asker::of(&bed);
        let over = |path: &'static str| {
            move |told: &Value| told["path"] == path && told["state"] == "done"
        };
        for round in 0..3 {
            let (one, other) = match round {
                0 => ("/1", "/2"),
                1 => ("/3", "/4"),
                _ => ("/5", "/6"),
            };
            let mut first = asker.events().await;
            bed.get("app", one).await;
            first.until("request", over(one)).await;
            let mut second = asker.events().await;
            drop(first);
            bed.get("app", other).await;
            second.until("request", over(other)).await;
            drop(second);
            // Nobody listens.
            bed.get("app", "/unheard").await;
        }
    });
}

#[test]
fn what_is_kept_comes_as_an_archive_and_is_found_by_its_bodies() {
    run(async {
        let (bed, _site, _client) = inspecting().await;
        let asker = Asker::of(&bed);
        for number in 0..200 {
            assert_eq!(bed.get("app", &format!("/hello?{number}")).await.body, "hello");
        }
        let all_over = |list: &Value| {
            list["requests"].as_array().unwrap().iter().all(|one| one["state"] == "done")
        };
        let list = asker.until("/api/v1/requests?limit=1000", all_over).await;
        assert_eq!((&list["total"], &list["search_cut"]), (&json!(200), &json!(false)));
        let archive = asker.get("/api/v1/requests.har").await;
        let entries = archive["log"]["entries"].as_array().unwrap();
        let urls: Vec<_> =
            entries.iter().map(|it| it["request"]["url"].as_str().unwrap()).collect();
        // The oldest first.
        assert!(urls.len() == 200 && urls[0].ends_with("/hello?0"), "{urls:?}");
        assert!(entries.iter().all(|it| it["response"]["content"]["text"] == "hello"));
        let id = list["requests"][0]["id"].as_str().unwrap();
        let archive = asker.get(&format!("/api/v1/requests.har?id={id}")).await;
        assert_eq!(archive["log"]["entries"].as_array().unwrap().len(), 1);

        let found = asker.get("/api/v1/requests?q=HELLO&limit=1000").await;
        assert_eq!(found["requests"].as_array().unwrap().len(), 200);
        assert_eq!(asker.get("/api/v1/requests?q=goodbye").await["requests"], json!([]));
    });
}
