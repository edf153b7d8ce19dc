//! What the metrics of a client say, those of limits, waits and plugins at a server, and whether the dashboard and the
//! alerts that come along ask for what there is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ferrotunnel::inspector::{Edits, Filter};
use ferrotunnel::observability::{Registry, encode};
use ferrotunnel::plugin::{Error, PluginAction, RequestContext, async_trait, http};
use ferrotunnel::{
    ClientMetrics, Inspector, InspectorSettings, LimitsConfig, Plugin, PrincipalConfig, Retry,
    ServerMetrics, Streams, Tunnel, issue_token,
};
use ferrotunnel_tests::{
    Authority, Carrier, LocalService, Scrape, Site, TestBed, begin, eventually, over_both, raw,
    run, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn scrape(registry: &Registry) -> Scrape {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    Scrape::read(&text)
}

/// Until a sample has at least that value.
async fn at_least(registry: &Registry, sample: &str, value: f64) -> Scrape {
    soon(sample, async {
        loop {
            let scrape = scrape(registry);
            if scrape.value(sample) >= value {
                return scrape;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A server with metrics.
async fn bed(
    carrier: Carrier,
    change: impl FnOnce(ferrotunnel::ServerBuilder) -> ferrotunnel::ServerBuilder,
) -> (TestBed, Registry) {
    let (metrics, mut registry) = (ServerMetrics::default(), Registry::default());
    metrics.register(&mut registry);
    let bed = TestBed::with(carrier, |server| change(server.metrics(&metrics))).await;
    (bed, registry)
}

fn limits(change: impl FnOnce(&mut LimitsConfig)) -> LimitsConfig {
    let mut limits = LimitsConfig::default();
    change(&mut limits);
    limits
}

fn limit(name: &str) -> String {
    format!("ferrotunnel_limits_hit_total{{limit=\"{name}\"}}")
}

#[test]
fn a_clients_counters_move_with_its_traffic() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (metrics, mut registry) = (ClientMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        assert!(!scrape(&registry).samples.contains_key("ferrotunnel_client_sessions"));

        let (echo, dead) = (LocalService::echo().await, LocalService::nobody().await);
        let client = bed
            .client()
            .metrics(&metrics)
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()));
        let client = client.tunnel(Tunnel::http("dead").local_addr(dead.to_string()));
        let client = client.build().unwrap();
        let info = soon("it starts", client.start()).await.unwrap();
        let public = ferrotunnel_tests::public_addr(&info.public_url);
        let now = at_least(&registry, "ferrotunnel_client_sessions", 1.0).await;
        for kind in ["tcp", "http"] {
            let sample = format!("ferrotunnel_client_tunnels{{kind=\"{kind}\",state=\"up\"}}");
            assert_eq!(now.value(&sample), 1.0, "{now:?}");
        }
        let server = bed.server.tunnel_addr();
        let sample = format!("ferrotunnel_client_carriers{{server=\"{server}\",state=\"up\"}}");
        assert_eq!(now.value(&sample), 1.0);

        let mut visitor = TcpStream::connect(public).await.unwrap();
        visitor.write_all(&[7; 1_000]).await.unwrap();
        soon("the echo", visitor.read_exact(&mut [0; 1_000])).await.unwrap();
        let now = scrape(&registry);
        assert_eq!(now.value("ferrotunnel_client_streams{kind=\"tcp\"}"), 1.0);
        assert_eq!(now.value("ferrotunnel_client_streams_opened_total{kind=\"tcp\"}"), 1.0);
        for direction in ["in", "out"] {
            let labels = format!("direction=\"{direction}\",kind=\"tcp\"");
            let sample = format!("ferrotunnel_client_tunnel_bytes_total{{{labels}}}");
            assert_eq!(now.value(&sample), 1_000.0, "{sample}");
        }

        assert_eq!(bed.get("dead", "/").await.status, 502);
        let sample = "ferrotunnel_client_local_errors_total{reason=\"refused\"}";
        at_least(&registry, sample, 1.0).await;
        let sample =
            "ferrotunnel_client_streams_reset_total{by=\"client\",code=\"local-unreachable\"}";
        at_least(&registry, sample, 1.0).await;

        let session = client.reader().unwrap().read().unwrap().carriers[0].session.unwrap();
        client.control().unwrap().close(session).unwrap();
        at_least(&registry, "ferrotunnel_client_reconnects_total", 1.0).await;

        let wrong_metrics = ClientMetrics::default();
        let mut of_wrong = Registry::default();
        wrong_metrics.register(&mut of_wrong);
        let wrong = bed.client().token("not-that-one-at-all").retry(Retry::Never);
        let wrong = wrong.metrics(&wrong_metrics).local_addr("127.0.0.1:1").build().unwrap();
        soon("the refusal", wrong.start()).await.unwrap_err();
        let now = scrape(&of_wrong);
        let sample = "ferrotunnel_client_attempts_failed_total{reason=\"wrong-token\"}";
        assert_eq!(now.value(sample), 1.0);
        // Two clients in one process stay apart.
        assert_eq!(scrape(&registry).value(sample), 0.0);

        // A shutdown would wait for it.
        drop(visitor);
        soon("the end", client.shutdown()).await.unwrap();
        drop(client);
        eventually("nothing keeps the client", || {
            !scrape(&registry).samples.contains_key("ferrotunnel_client_sessions")
        })
        .await;
    });
}

/// Whether a request is kept to be looked at, and for how long, is another matter.
#[test]
fn a_client_that_inspects_counts_requests_and_one_that_does_not_says_nothing_of_them() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (site, dead) = (Site::start().await, LocalService::nobody().await);
        let odd = LocalService::each(|mut socket| async move {
            let _ = socket.read(&mut [0; 1_000]).await;
            let _ = socket.write_all(b"what?\r\n\r\n").await;
        })
        .await;
        let scraped = |inspector: Option<&Inspector>| {
            let (metrics, mut registry) = (ClientMetrics::default(), Registry::default());
            metrics.register(&mut registry);
            let client = bed.client().metrics(&metrics);
            let client = match inspector {
                Some(inspector) => client.inspector(inspector),
                None => client,
            };
            (client, registry)
        };
        let mut settings = InspectorSettings::default();
        settings.most_requests = 1;
        let inspector = Inspector::new(settings);
        let (client, registry) = scraped(Some(&inspector));
        let (other, of_other) = scraped(None);
        let to = |name: &str, local: SocketAddr| Tunnel::http(name).local_addr(local.to_string());
        let client = client.tunnel(to("app", site.addr())).tunnel(to("dead", dead));
        let client = client.tunnel(to("odd", odd.addr()));
        let client = client.build().unwrap();
        soon("it starts", client.start()).await.unwrap();
        let other = other.tunnel(to("other", site.addr())).build().unwrap();
        soon("it starts", other.start()).await.unwrap();

        let total = "ferrotunnel_client_http_requests_total";
        let of = |tunnel: &str, method: &str, status: &str| {
            format!("{total}{{method=\"{method}\",status=\"{status}\",tunnel=\"{tunnel}\"}}")
        };
        assert_eq!(bed.get("app", "/hello").await.status, 200);
        assert_eq!(bed.get("app", "/hello").await.status, 200);
        assert_eq!(bed.get("app", "/bytes/none").await.status, 400);
        assert_eq!(bed.get("dead", "/").await.status, 502);
        assert_eq!(bed.get("other", "/hello").await.status, 200);
        let now = at_least(&registry, &of("dead", "GET", "none"), 1.0).await;
        assert_eq!(now.value(&of("app", "GET", "4xx")), 1.0, "{now:?}");
        // An answer is there before who looks on has been told that it is over.
        let name = "ferrotunnel_client_http_request_duration_seconds_count{tunnel=\"app\"}";
        let now = at_least(&registry, name, 3.0).await;
        assert_eq!(now.value(&of("app", "GET", "2xx")), 2.0, "{now:?}");
        let name = "ferrotunnel_client_http_time_to_first_byte_seconds_count{tunnel=\"app\"}";
        assert_eq!(now.value(name), 3.0);
        assert_eq!(now.value("ferrotunnel_client_http_lost_sight_total"), 0.0);
        at_least(&of_other, "ferrotunnel_client_streams_opened_total{kind=\"http\"}", 1.0).await;
        let is_of_requests = |name: &String| name.starts_with("ferrotunnel_client_http_");
        assert!(!scrape(&of_other).samples.keys().any(is_of_requests));

        // What is repeated is nobody's visit, though it passes the same eyes.
        assert_eq!(bed.get("app", "/hello").await.status, 200);
        at_least(&registry, &of("app", "GET", "2xx"), 3.0).await;
        let newest = || inspector.list(&Filter::default()).requests.remove(0);
        eventually("its end", || newest().state == "done").await;
        inspector.replay(&newest().id, Edits::default()).unwrap();
        let is_over = || newest().replay_of.is_some() && newest().state == "done";
        eventually("the end of the replay", is_over).await;
        assert_eq!(scrape(&registry).value(&of("app", "GET", "2xx")), 3.0);

        // What is no HTTP to the eyes of who looks on is not counted, and that is said.
        assert_eq!(bed.get("odd", "/").await.status, 502);
        at_least(&registry, "ferrotunnel_client_http_lost_sight_total", 1.0).await;
        at_least(&registry, &of("odd", "GET", "none"), 1.0).await;
    });
}

/// Who has data to send and may not is counted at the end that has it.
#[test]
fn streams_that_wait_for_credit_are_counted_where_they_wait() {
    over_both(async |carrier| {
        let (bed, at_server) = bed(carrier, |server| server).await;
        let (metrics, mut at_client) = (ClientMetrics::default(), Registry::default());
        metrics.register(&mut at_client);
        // One never reads, and the other never stops to write.
        let deaf = LocalService::each(|socket| async move {
            let _held = socket;
            std::future::pending::<()>().await;
        })
        .await;
        let talker = LocalService::each(|mut socket| async move {
            while socket.write_all(&[7; 64 << 10]).await.is_ok() {}
        })
        .await;
        let client = bed.client().metrics(&metrics);
        let client = client
            .tunnel(Tunnel::tcp().streams(Streams::Multiplexed).local_addr(deaf.addr().to_string()))
            .build()
            .unwrap();
        let info = soon("it starts", client.start()).await.unwrap();
        assert_eq!(scrape(&at_server).value("ferrotunnel_window_stalls_total"), 0.0);
        let mut visitor =
            TcpStream::connect(ferrotunnel_tests::public_addr(&info.public_url)).await.unwrap();
        let (_, mut writing) = visitor.split();
        tokio::select! {
            never = async { loop { writing.write_all(&[7; 64 << 10]).await.unwrap(); } } => never,
            _ = at_least(&at_server, "ferrotunnel_window_stalls_total", 1.0) => {}
        }
        drop(visitor);

        let other = bed.client().metrics(&metrics);
        let other = other
            .tunnel(
                Tunnel::tcp().streams(Streams::Multiplexed).local_addr(talker.addr().to_string()),
            )
            .build()
            .unwrap();
        let info = soon("it starts", other.start()).await.unwrap();
        let _visitor =
            TcpStream::connect(ferrotunnel_tests::public_addr(&info.public_url)).await.unwrap();
        at_least(&at_client, "ferrotunnel_client_window_stalls_total", 1.0).await;
    });
}

#[test]
fn limits_of_sessions_and_tunnels_are_counted() {
    run(async {
        let few = limits(|limits| {
            limits.max_sessions = 1;
            limits.max_tunnels_per_session = 1;
            limits.max_streams_per_session = 1;
        });
        let (bed, registry) = bed(Carrier::Tls, |server| server.limits(few)).await;
        let echo = LocalService::echo().await;
        let (client, public) = bed.tcp(echo.addr()).await;
        let second = bed.client().retry(Retry::Never).local_addr("127.0.0.1:1").build().unwrap();
        soon("the refusal", second.start()).await.unwrap_err();
        at_least(&registry, &limit("sessions"), 1.0).await;

        soon("the refusal", client.listen(Tunnel::http("one-more"))).await.unwrap_err();
        at_least(&registry, &limit("tunnels-per-session"), 1.0).await;

        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        // It may be turned away before it knows that it has come in.
        if let Ok(mut second) = TcpStream::connect(public).await {
            let _ = soon("the end", second.read(&mut [0])).await;
        }
        at_least(&registry, &limit("streams-per-session"), 1.0).await;
        let now = scrape(&registry);
        for untouched in ["sessions-per-principal", "tunnels-per-principal", "receive-memory"] {
            assert_eq!(now.value(&limit(untouched)), 0.0, "{untouched}");
            assert!(now.samples.contains_key(&limit(untouched)), "{untouched}");
        }
    });
}

#[test]
fn limits_of_principals_and_of_the_ingress_are_counted() {
    run(async {
        let (token, verifier) = issue_token().unwrap();
        let mut alice = PrincipalConfig::new("alice").verifier(verifier);
        (alice.max_sessions, alice.max_tunnels, alice.max_streams) = (Some(1), Some(1), Some(1));
        let few = limits(|limits| limits.max_visitors = 1);
        let (bed, registry) =
            bed(Carrier::Tls, |server| server.principals([alice]).limits(few)).await;
        let echo = LocalService::echo().await;
        let of_alice = || bed.client().token(token.reveal()).retry(Retry::Never);
        let client = of_alice().tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()));
        let client = client.build().unwrap();
        let info = soon("it starts", client.start()).await.unwrap();
        let second = of_alice().local_addr("127.0.0.1:1").build().unwrap();
        soon("the refusal", second.start()).await.unwrap_err();
        at_least(&registry, &limit("sessions-per-principal"), 1.0).await;
        soon("the refusal", client.listen(Tunnel::http("one-more"))).await.unwrap_err();
        at_least(&registry, &limit("tunnels-per-principal"), 1.0).await;
        let public = ferrotunnel_tests::public_addr(&info.public_url);
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
        if let Ok(mut second) = TcpStream::connect(public).await {
            let _ = soon("the end", second.read(&mut [0])).await;
        }
        at_least(&registry, &limit("streams-per-principal"), 1.0).await;

        let mut first = TcpStream::connect(bed.http_addr()).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nhost: nobody.localhost\r\n\r\n").await.unwrap();
        assert!(soon("an answer", first.read(&mut [0; 16])).await.unwrap() > 0);
        let request = b"GET / HTTP/1.1\r\nhost: nobody.localhost\r\nconnection: close\r\n\r\n";
        soon("an answer", raw(bed.http_addr(), request)).await.unwrap();
        at_least(&registry, &limit("visitors"), 1.0).await;
    });
}

#[test]
fn limits_of_rates_and_of_addresses_are_counted_and_told() {
    over_both(async |carrier| {
        // Each request has a stream of its own here.
        let one = |change: fn(&mut LimitsConfig)| {
            let few = limits(change);
            bed(carrier, move |server| server.limits(few))
        };
        let says = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let service = LocalService::answering(says).await;
        let (bed, registry) = one(|limits| limits.max_streams_per_second = Some(1)).await;
        let _client = bed.http("app", service.addr()).await;
        let refused = soon("a refusal", async {
            loop {
                let asked = futures_util::future::join_all((0..10).map(|_| bed.get("app", "/")));
                if let Some(refused) = asked.await.into_iter().find(|answer| answer.status != 200) {
                    break refused;
                }
            }
        });
        let refused = refused.await;
        assert_eq!(refused.status, 503);
        assert_eq!(refused.ferrotunnel_error(), Some("over-limit"));
        assert_eq!(refused.headers["retry-after"], "1");
        at_least(&registry, &limit("streams-per-second"), 1.0).await;

        let (bed, registry) = one(|limits| limits.max_bytes_per_second = Some(256 << 10)).await;
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        let path = format!("/bytes/{}", 400 << 10);
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: app.localhost\r\nconnection: close\r\n\r\n");
        let answer = soon("the answer", raw(bed.http_addr(), request.as_bytes())).await.unwrap();
        assert!(answer.ends_with(&Site::pattern()[..400 << 10]));
        at_least(&registry, &limit("bytes-per-second"), 1.0).await;
        drop(client);

        let (bed, registry) = one(|limits| limits.max_visitors_per_address = Some(1)).await;
        let _client = bed.http("app", site.addr()).await;
        let _inside = begin(bed.http_addr(), &bed.host("app"), "/sse").await;
        let refused = bed.get("app", "/hello").await;
        assert_eq!(
            (refused.status.as_u16(), &refused.headers["retry-after"]),
            (429, &"1".parse().unwrap())
        );
        at_least(&registry, &limit("visitors-per-address"), 1.0).await;

        let (bed, registry) = one(|limits| limits.max_failed_handshakes_per_address = 1).await;
        // One after the other: of some that come together those that are ahead of their rate may be refused at once.
        let guesses = async {
            loop {
                let guesser = bed.client().token("wrong").retry(Retry::Never).local_addr("1");
                soon("the refusal", guesser.build().unwrap().start()).await.unwrap_err();
            }
        };
        let delayed = limit("handshakes-delayed");
        tokio::select! {
            _ = at_least(&registry, &delayed, 1.0) => {}
            () = guesses => {}
        }
    });
}

/// It comes twice, over a carrier of its own and then over the session, and has taken one of the second's streams.
#[test]
fn a_visitor_whose_own_carrier_is_lost_is_charged_once() {
    over_both(async |carrier| {
        let few = limits(|limits| limits.max_streams_per_second = Some(1));
        let (bed, registry) = bed(carrier, |server| server.limits(few)).await;
        let (metrics, mut at_client) = (ClientMetrics::default(), Registry::default());
        metrics.register(&mut at_client);
        let dead = LocalService::nobody().await;
        let wanted = Tunnel::tcp().local_addr(dead.to_string()).streams(Streams::Direct);
        let client = bed.client().metrics(&metrics).tunnel(wanted).build().unwrap();
        let info = soon("it starts", client.start()).await.unwrap();
        let waiting = "ferrotunnel_direct_carriers{state=\"waiting\"}";
        at_least(&registry, waiting, 1.0).await;
        let public = ferrotunnel_tests::public_addr(&info.public_url);
        // It may be turned away before it knows that it has come in.
        if let Ok(mut visitor) = TcpStream::connect(public).await {
            soon("the end", visitor.read_u8()).await.unwrap_err();
        }
        let sample = "ferrotunnel_client_local_errors_total{reason=\"refused\"}";
        at_least(&at_client, sample, 1.0).await;
        assert_eq!(scrape(&registry).value(&limit("streams-per-second")), 0.0);
    });
}

struct Ponders;

#[async_trait]
impl Plugin for Ponders {
    fn name(&self) -> &'static str {
        "ponders"
    }

    async fn on_request(
        &self,
        _: &mut http::Request<()>,
        _: &RequestContext,
    ) -> Result<PluginAction, Error> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(PluginAction::Continue)
    }
}

#[test]
fn the_time_of_plugins_is_measured_by_their_names() {
    run(async {
        let (bed, registry) = bed(Carrier::Tls, |server| server.plugin(Ponders)).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/").await.status, 200);
        // A request, its answer, its end and a stream, at least.
        let phases = "ferrotunnel_plugin_phases_total{plugin=\"ponders\"}";
        let now = at_least(&registry, phases, 4.0).await;
        let seconds = now.value("ferrotunnel_plugin_seconds_total{plugin=\"ponders\"}");
        assert!(seconds >= 0.02, "{seconds}");
    });
}

/// What a name in a query may be asked for: its labels, with the values seen.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn known(scrapes: &[Scrape]) -> Known {
    let mut known = Known::new();
    for sample in scrapes.iter().flat_map(|scrape| scrape.samples.keys()) {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let of = known.entry(name.to_owned()).or_default();
        for pair in labels.trim_end_matches('}').split("\",").filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once("=\"").unwrap();
            of.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    known
}

/// What is wrong with a query.
fn complaints(query: &str, known: &Known) -> Vec<String> {
    // Prometheus adds these, or they are its own.
    const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];
    let mut complaints = Vec::new();
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let (mut rest, mut asked, mut grouped) = (query, Vec::new(), Vec::new());
    while let Some(at) = rest.find(is_part) {
        let (before, word) = rest.split_at(at);
        let end = word.find(|char| !is_part(char)).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        rest = behind;
        if word == "by" {
            let (labels, behind) = behind.split_once('(').unwrap().1.split_once(')').unwrap();
            grouped.extend(labels.split(',').map(|label| label.trim().to_owned()));
            rest = behind;
            continue;
        }
        if !word.starts_with("ferrotunnel_") && !word.starts_with("process_") {
            // What stands in braces belongs to a name, and was taken with it.
            assert!(!before.contains('{') || word == "up", "{query}");
            if word == "up" {
                rest = behind.split_once('}').map_or(behind, |(_, behind)| behind);
            }
            continue;
        }
        asked.push(word);
        let Some(labels) = known.get(word) else {
            complaints.push(format!("there is no {word}: {query}"));
            continue;
        };
        let Some(inside) = behind.strip_prefix('{') else { continue };
        let (matchers, behind) = inside.split_once('}').unwrap();
        rest = behind;
        for matcher in matchers.split("\",") {
            let at = matcher.find(['=', '!']).unwrap();
            let (label, matcher) = matcher.split_at(at);
            if OF_PROMETHEUS.contains(&label) {
                continue;
            }
            let Some(values) = labels.get(label) else {
                complaints.push(format!("{word} has no label {label}: {query}"));
                continue;
            };
            let value = matcher.split_once('"').unwrap().1.trim_end_matches('"');
            for value in value.split('|') {
                if !values.contains(value) {
                    complaints.push(format!("{word} has no {label} {value}: {query}"));
                }
            }
        }
    }
    for label in grouped.iter().filter(|label| !OF_PROMETHEUS.contains(&label.as_str())) {
        let has = |name: &&str| known.get(*name).is_some_and(|of| of.contains_key(label));
        if !asked.iter().all(has) {
            complaints.push(format!("not all of {asked:?} have a label {label}: {query}"));
        }
    }
    if asked.is_empty() && !query.starts_with("up{") {
        complaints.push(format!("it asks for nothing: {query}"));
    }
    complaints
}

fn packaged(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file);
    std::fs::read_to_string(path).unwrap()
}

fn queries_of_the_dashboard() -> Vec<String> {
    fn collect(value: &serde_json::Value, queries: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(text) if name == "expr" => queries.push(text.to_owned()),
                        Some(text) if name == "definition" => {
                            let inside = text.strip_prefix("label_values(").unwrap();
                            queries.push(inside.split_once(',').unwrap().0.to_owned());
                        }
                        _ => collect(value, queries),
                    }
                }
            }
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| collect(item, queries));
            }
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&packaged("grafana/ferrotunnel.json")).unwrap();
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    queries
}

fn queries_of_the_alerts() -> Vec<String> {
    let text = packaged("prometheus/alerts.yml");
    let mut lines = text.lines().peekable();
    let mut queries = Vec::new();
    while let Some(line) = lines.next() {
        let Some(query) = line.trim_start().strip_prefix("expr: ") else { continue };
        let mut query = query.to_owned();
        if query == "|" {
            query.clear();
            while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
                query += more.trim_start();
                query.push(' ');
            }
        }
        queries.push(query);
    }
    queries
}

#[test]
#[cfg(target_os = "linux")]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    run(async {
        let ca = Authority::new("the CA");
        let identity = ca.server("app.localhost");
        let (bed, mut at_server) = bed(Carrier::Tls, |server| {
            server
                .plugin(Ponders)
                .https_bind("127.0.0.1:0")
                .https_identity_files(&identity.cert, &identity.key)
        })
        .await;
        ferrotunnel::observability::ProcessMetrics::default().register(&mut at_server);
        let (metrics, mut at_client) = (ClientMetrics::default(), Registry::default());
        metrics.register(&mut at_client);
        let site = Site::start().await;
        let client = bed.client().metrics(&metrics).plugin(Ponders);
        let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
        let client = client.build().unwrap();
        soon("it starts", client.start()).await.unwrap();
        let _dead = bed.http("dead", LocalService::nobody().await).await;
        assert_eq!(bed.get("app", "/").await.status, 200);
        assert_eq!(bed.get("dead", "/").await.status, 502);
        let duration = "ferrotunnel_http_request_duration_seconds_count{tunnel=\"dead\"}";
        at_least(&at_server, duration, 1.0).await;
        for of in [&at_server, &at_client] {
            // The first Ping of a session takes a moment.
            soon("a round trip", async {
                while !scrape(of).samples.keys().any(|sample| sample.contains("round_trip")) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        let known = known(&[scrape(&at_server), scrape(&at_client)]);
        let (dashboard, alerts) = (queries_of_the_dashboard(), queries_of_the_alerts());
        assert!(dashboard.len() > 30 && alerts.len() > 12, "{dashboard:?} {alerts:?}");
        let complaints: Vec<_> =
            dashboard.iter().chain(&alerts).flat_map(|query| complaints(query, &known)).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        for wrong in [
            "rate(ferrotunnel_nothing_total[5m])",
            "ferrotunnel_sessions{tunnel=\"a\"}",
            "ferrotunnel_handshakes_total{result=\"never\"}",
            "sum by (tunnel) (ferrotunnel_sessions)",
        ] {
            assert!(!self::complaints(wrong, &known).is_empty(), "{wrong}");
        }
    });
}
