//! Several clients behind one name.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ferrotunnel::{
    Balance, Client, ClientBuilder, ClientEvent, Connections, HealthCheck, Streams, Tunnel,
};
use ferrotunnel_common::{StreamId, TunnelKind};
use ferrotunnel_protocol::frame::{Frame, FrameType, GoAway, GoAwayCode, Register};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, Outlaw, Site, TestBed, begin, client_of, collect, eventually,
    open_http2, over_both, public_addr, raw, says_and_hears, send, soon,
};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A local service that answers every HTTP request with that name, and closes.
async fn named(name: &'static str) -> LocalService {
    LocalService::each(move |mut socket| async move {
        ferrotunnel_tests::read_head(&mut socket).await;
        // Said, because a request over a connection that has just closed is another member's.
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", name.len());
        let answer = format!("{head}connection: close\r\n\r\n{name}");
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.shutdown().await;
    })
    .await
}

/// The same, but it goes on on the same connection.
async fn kept(name: &'static str) -> LocalService {
    LocalService::each(move |mut socket| async move {
        while ferrotunnel_tests::read_head(&mut socket).await.ends_with("\r\n\r\n") {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn member(client: ClientBuilder, local: SocketAddr) -> Client {
    let tunnel = Tunnel::http("app").group("web").balance(Balance::RoundRobin);
    let client = client.tunnel(tunnel.local_addr(local.to_string())).build().unwrap();
    client.start().await.unwrap();
    client
}

/// How many of so many requests each of them answers.
async fn answers(bed: &TestBed, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = bed.get("app", "/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        *answers.entry(answer.body).or_default() += 1;
    }
    answers
}

/// The status that a tunnel's answer begins with. Its body is not waited for.
async fn status(bed: &TestBed, name: &str) -> String {
    let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
    let asking = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host(name));
    visitor.write_all(asking.as_bytes()).await.unwrap();
    let head = ferrotunnel_tests::read_head(&mut visitor).await;
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn members_take_turns_and_those_who_go_are_not_missed() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (a, b, c) = (named("a").await, named("b").await, named("c").await);
        let first = member(bed.client(), a.addr()).await;
        let second = member(bed.client(), b.addr()).await;
        let third = member(bed.client(), c.addr()).await;
        let shares = answers(&bed, 12).await;
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [4, 4, 4]);
        // One says goodbye, and one is lost.
        soon("the shutdown", first.shutdown()).await.unwrap();
        drop(second);
        eventually("both to have left", || bed.server.sessions() == 1).await;
        assert_eq!(answers(&bed, 5).await, BTreeMap::from([("c".to_owned(), 5)]));
        let back = member(bed.client(), a.addr()).await;
        assert_eq!(answers(&bed, 8).await.len(), 2);
        drop((third, back));
    });
}

#[test]
fn requests_are_spread_though_connections_are_kept_and_none_goes_to_who_leaves() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (a, b) = (kept("a").await, kept("b").await);
        let busy = LocalService::each(async |mut socket| {
            ferrotunnel_tests::read_head(&mut socket).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
            // Until its visitor leaves.
            let _ = socket.read_u8().await;
        })
        .await;
        let leaves = bed
            .client()
            .tunnel(Tunnel::http("app").group("web").local_addr(a.addr().to_string()))
            .tunnel(Tunnel::http("busy").local_addr(busy.addr().to_string()))
            .drain_grace(ferrotunnel_tests::PATIENCE * 10)
            .build()
            .unwrap();
        leaves.start().await.unwrap();
        let stays = bed.client();
        let stays = stays.tunnel(Tunnel::http("app").group("web").local_addr(b.addr().to_string()));
        let stays = stays.build().unwrap();
        stays.start().await.unwrap();
        assert_eq!(
            answers(&bed, 12).await,
            BTreeMap::from([("a".to_owned(), 6), ("b".to_owned(), 6)])
        );
        // Its drain goes on for as long as this one stays.
        let staying = begin(bed.http_addr(), &bed.host("busy"), "/").await;
        let stopping = tokio::spawn(async move { leaves.shutdown().await });
        soon("the drain", async {
            // The head alone: a body follows none of them.
            while status(&bed, "busy").await == "200" {}
        })
        .await;
        assert_eq!(answers(&bed, 12).await, BTreeMap::from([("b".to_owned(), 12)]));
        assert!(!stopping.is_finished());
        drop(staying);
        soon("the end", stopping).await.unwrap().unwrap();
    });
}

#[test]
fn a_request_that_a_member_cannot_deliver_is_anothers() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = named("alive").await;
        let _dead = member(bed.client(), LocalService::nobody().await).await;
        let _alive = member(bed.client(), site.addr()).await;
        // Whoever did not reach its service has heard nothing, so nothing is done twice.
        for _ in 0..2 {
            let head =
                "POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let head = head.replace("{}", &bed.host("app"));
            let answer = raw(bed.http_addr(), head.as_bytes()).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        }
        assert_eq!(answers(&bed, 20).await, BTreeMap::from([("alive".to_owned(), 20)]));
    });
}

/// A group of one member that has no local service, and one that has.
async fn half_alive(carrier: Carrier, site: &Site) -> (TestBed, [Client; 2]) {
    let bed = TestBed::start(carrier).await;
    let dead = member(bed.client(), LocalService::nobody().await).await;
    let alive = member(bed.client(), site.addr()).await;
    (bed, [dead, alive])
}

#[test]
fn a_request_with_a_body_that_a_member_cannot_deliver_is_anothers() {
    over_both(async |carrier| {
        let site = Site::start().await;
        let lengths = [
            ("content-length: 10", ["hello", "world"]),
            ("transfer-encoding: chunked", ["5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n"]),
        ];
        for (length, [first, second]) in lengths {
            let (bed, _clients) = half_alive(carrier, &site).await;
            // One of them comes to the dead one.
            for _ in 0..2 {
                let mut visitor = TcpStream::connect(bed.http_addr()).await.unwrap();
                let host = bed.host("app");
                let head = format!(
                    "POST /echo HTTP/1.1\r\nhost: {host}\r\n{length}\r\nconnection: close\r\n\r\n"
                );
                visitor.write_all((head + first).as_bytes()).await.unwrap();
                let head = soon("the head", ferrotunnel_tests::read_head(&mut visitor)).await;
                assert!(head.starts_with("HTTP/1.1 200"), "{length}: {head}");
                visitor.write_all(second.as_bytes()).await.unwrap();
                let mut heard = String::new();
                soon("the echo", visitor.read_to_string(&mut heard)).await.unwrap();
                let said = heard.replace("5\r\n", "").replace("\r\n", "");
                assert_eq!(said.trim_end_matches('0'), "helloworld", "{length}: {heard}");
            }
        }
        let (bed, _clients) = half_alive(carrier, &site).await;
        let mut visitor = open_http2(bed.http_addr()).await;
        for _ in 0..2 {
            let request = hyper::Request::post(format!("http://{}/echo", bed.host("app")));
            let request = request.body(Full::new(Bytes::from_static(b"hello"))).unwrap();
            let answer = soon("an answer", visitor.send_request(request)).await.unwrap();
            let answer = collect(answer).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"));
        }
    });
}

#[test]
fn a_request_that_overtakes_the_goodbye_of_its_member_is_anothers() {
    over_both(async |carrier| {
        let site = Site::start().await;
        for method in ["GET", "POST"] {
            let bed = TestBed::start(carrier).await;
            let _stays = member(bed.client(), site.addr()).await;
            let mut leaves = Outlaw::join(bed.server.tunnel_addr(), carrier).await;
            let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            let options = vec![option("group", "web"), option("balance", "round-robin")];
            let (name, hosts) = ("app".to_owned(), Vec::new());
            let register = Register { kind: TunnelKind::Http, name, hosts, port: 0, options };
            leaves.say(&Frame::Register(1, register)).await;
            leaves.hear_a(FrameType::Registered).await.registered().unwrap();
            let asking = async {
                for _ in 0..2 {
                    let body = Full::new(Bytes::from_static(b"hello"));
                    let request = hyper::Request::builder().method(method).uri("/echo");
                    let request = request.header("host", bed.host("app")).body(body).unwrap();
                    let answer = soon("an answer", send(bed.http_addr(), request)).await.unwrap();
                    let answer = collect(answer).await;
                    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"));
                }
            };
            let leaving = async {
                leaves.hear_a(FrameType::Open).await;
                // Of nothing that was opened, this one included.
                let (last_stream, code) = (StreamId(0), GoAwayCode::Drain);
                let reason = "so long".to_owned();
                leaves.say(&Frame::GoAway(GoAway { last_stream, code, reason })).await;
            };
            tokio::join!(asking, leaving);
        }
    });
}

#[test]
fn visitors_of_a_port_are_spread_by_open_streams() {
    over_both(async |carrier| {
        for streams in [Streams::Multiplexed, Streams::Auto, Streams::Direct] {
            are_spread_by_open_streams(carrier, streams).await;
        }
    });
}

#[test]
fn visitors_of_a_port_pass_over_a_member_without_its_local_service() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let tunnel = |port, local: SocketAddr| {
            // As it is by default.
            Tunnel::tcp().remote_port(port).group("db").local_addr(local.to_string())
        };
        let alive = bed.client().tunnel(tunnel(0, echo.addr())).build().unwrap();
        let public = public_addr(&alive.start().await.unwrap().public_url);
        let mut dead = Vec::new();
        for _ in 0..3 {
            let nobody = tunnel(public.port(), LocalService::nobody().await);
            let client = bed.client().tunnel(nobody).build().unwrap();
            client.start().await.unwrap();
            dead.push(client);
        }
        // With what they have said, and its end.
        for _ in 0..40 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            let said = [7; 40_000];
            visitor.write_all(&said).await.unwrap();
            visitor.shutdown().await.unwrap();
            let mut heard = Vec::new();
            soon("the echo", visitor.read_to_end(&mut heard)).await.unwrap();
            assert!(heard == said, "{} bytes", heard.len());
        }
    });
}

/// A local service that says nothing and tells what it hears: `None` when somebody comes.
async fn hush() -> (LocalService, mpsc::Receiver<Option<u8>>) {
    let (tell, told) = mpsc::channel(64);
    let service = LocalService::each(move |mut socket| {
        let tell = tell.clone();
        async move {
            let _ = tell.send(None).await;
            while let Ok(byte) = socket.read_u8().await {
                let _ = tell.send(Some(byte)).await;
            }
        }
    })
    .await;
    (service, told)
}

#[test]
fn a_silent_visitor_of_a_member_that_is_lost_is_the_next_ones() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (silent, mut told) = hush().await;
        let tunnel = |port, local: SocketAddr| {
            let tunnel = Tunnel::tcp().remote_port(port).group("db");
            tunnel.balance(Balance::RoundRobin).local_addr(local.to_string())
        };
        let lost = bed.client().tunnel(tunnel(0, silent.addr())).build().unwrap();
        let public = public_addr(&lost.start().await.unwrap().public_url);
        let greeter = LocalService::each(async |mut socket| {
            let _ = socket.write_all(b"!").await;
            let heard = socket.read_u8().await;
            assert!(heard.is_err(), "{heard:?}");
        })
        .await;
        let stays = bed.client().tunnel(tunnel(public.port(), greeter.addr()));
        let stays = stays.build().unwrap();
        stays.start().await.unwrap();
        // Every second one comes to the silent one.
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            tokio::select! {
                greeting = visitor.read_u8() => assert_eq!(greeting.unwrap(), b'!'),
                came = told.recv() => {
                    assert_eq!(came, Some(None));
                    waiting.push(visitor);
                }
            }
        }
        let [silent_one, speaks] = &mut waiting[..] else { panic!("{} wait", waiting.len()) };
        speaks.write_all(b"x").await.unwrap();
        assert_eq!(soon("the word", told.recv()).await, Some(Some(b'x')));
        drop(lost);
        assert_eq!(soon("a greeting", silent_one.read_u8()).await.unwrap(), b'!');
        // What was heard once is not said again.
        soon("the end", speaks.read_u8()).await.unwrap_err();
    });
}

/// A local service that is there, and says over HTTP how it is.
struct Patient {
    service: LocalService,
    is_well: Arc<AtomicBool>,
    /// Requests other than those of checks.
    served: Arc<AtomicUsize>,
}

impl Patient {
    async fn start() -> Self {
        let (is_well, served) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let shared = (is_well.clone(), served.clone());
        let service = LocalService::each(move |mut socket| {
            let (is_well, served) = shared.clone();
            async move {
                let head = ferrotunnel_tests::read_head(&mut socket).await;
                let is_check = head.starts_with("GET /healthz ");
                if !is_check {
                    served.fetch_add(1, Ordering::SeqCst);
                }
                let status = match is_check && !is_well.load(Ordering::SeqCst) {
                    true => "503 Service Unavailable",
                    false => "200 OK",
                };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = socket.write_all(answer.as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        })
        .await;
        Self { service, is_well, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

async fn until_told(
    events: &mut tokio::sync::broadcast::Receiver<ClientEvent>,
    is_it: impl Fn(&ClientEvent) -> bool,
) {
    soon("an event", async { while !is_it(&events.recv().await.unwrap()) {} }).await;
}

#[test]
fn a_member_whose_service_is_not_well_is_passed_over_until_it_is() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (first, second) = (Patient::start().await, Patient::start().await);
        let check = HealthCheck::http("/healthz").interval(Duration::from_millis(5)).threshold(2);
        let start = async |patient: &Patient, connections| {
            let tunnel = Tunnel::http("app").group("web").health_check(check.clone());
            let tunnel = tunnel.local_addr(patient.service.addr().to_string());
            let client = bed.client().connections(connections).tunnel(tunnel).build().unwrap();
            let events = client.events();
            client.start().await.unwrap();
            (client, events)
        };
        // Over each of its carriers.
        let (_one, mut events) = start(&first, Connections::Exactly(2)).await;
        eventually("both carriers", || bed.server.sessions() == 2).await;
        let (_two, _) = start(&second, Connections::Exactly(1)).await;
        let ask = async |count| {
            for _ in 0..count {
                assert_eq!(bed.get("app", "/").await.status, 200);
            }
            (first.served(), second.served())
        };
        let before = ask(12).await;
        assert!(before.0 > 0 && before.1 > 0, "{before:?}");

        first.is_well.store(false, Ordering::SeqCst);
        until_told(&mut events, |event| {
            matches!(event, ClientEvent::LocalServiceDown { name, reason }
                if name == "app" && reason.contains("503"))
        })
        .await;
        // The server hears of it in a moment, and then for good.
        soon("the server to know", async {
            while {
                let before = first.served();
                ask(6).await.0 > before
            } {}
        })
        .await;
        let before = first.served();
        assert_eq!(ask(20).await.0, before);
        // Where there is nobody else, visitors try all the same.
        drop(_two);
        eventually("the other to leave", || bed.server.sessions() == 2).await;
        assert_eq!(ask(3).await.0, before + 3);
        let (_two, _) = start(&second, Connections::Exactly(1)).await;

        first.is_well.store(true, Ordering::SeqCst);
        until_told(
            &mut events,
            |event| matches!(event, ClientEvent::LocalServiceUp { name } if name == "app"),
        )
        .await;
        soon("the server to know", async {
            while {
                let before = first.served();
                ask(6).await.0 == before
            } {}
        })
        .await;
    });
}

#[test]
fn a_service_that_was_down_before_its_server_was_there_is_down_for_it_too() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let tunnel = |port, local: SocketAddr| {
            let check = HealthCheck::connect().interval(Duration::from_millis(5)).threshold(1);
            let tunnel = Tunnel::tcp().remote_port(port).group("db").health_check(check);
            tunnel.balance(Balance::RoundRobin).local_addr(local.to_string())
        };
        let alive = bed.client().tunnel(tunnel(0, echo.addr())).build().unwrap();
        let public = public_addr(&alive.start().await.unwrap().public_url);
        let dead = bed.client().tunnel(tunnel(public.port(), LocalService::nobody().await));
        let dead = dead.build().unwrap();
        let mut events = dead.events();
        dead.start().await.unwrap();
        until_told(&mut events, |event| matches!(event, ClientEvent::LocalServiceDown { .. }))
            .await;
        // The server hears of it in a moment.
        let hears = async || {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            visitor.write_all(b"x").await.is_ok() && visitor.read_u8().await.is_ok()
        };
        soon("the server to know", async { while !(hears().await && hears().await) {} }).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let through = client_of(link.addr(), carrier);
        let third = through.tunnel(tunnel(public.port(), LocalService::nobody().await));
        let third = third.build().unwrap();
        let mut events = third.events();
        third.start().await.unwrap();
        until_told(&mut events, |event| matches!(event, ClientEvent::LocalServiceDown { .. }))
            .await;
        while events.try_recv().is_ok() {}
        link.cut();
        until_told(&mut events, |event| matches!(event, ClientEvent::TunnelReady(_))).await;
        // It said so when it asked for the tunnel again.
        for _ in 0..20 {
            assert!(hears().await);
        }
    });
}

#[test]
fn checks_that_make_no_sense_are_refused() {
    let build = |check: HealthCheck| {
        let tunnel = Tunnel::http("app").local_addr("1").health_check(check);
        let client = Client::builder().server_addr("a:1").token("t").tunnel(tunnel);
        client.build().unwrap_err().to_string()
    };
    assert!(build(HealthCheck::http("healthz")).contains("begins with a /"));
    assert!(build(HealthCheck::http("/a b")).contains("no path"));
    assert!(build(HealthCheck::connect().interval(Duration::ZERO)).contains("more than 0"));
    assert!(build(HealthCheck::connect().threshold(0)).contains("more than 0"));
}

async fn are_spread_by_open_streams(carrier: Carrier, streams: Streams) {
    let bed = TestBed::start(carrier).await;
    let mut services = Vec::new();
    let mut clients = Vec::new();
    let mut port = 0;
    for name in [b'a', b'b'] {
        let service = LocalService::each(move |mut socket| async move {
            let _ = socket.write_all(&[name]).await;
            let _ = socket.read_u8().await;
        })
        .await;
        let tunnel = Tunnel::tcp().remote_port(port).group("db").streams(streams);
        let tunnel = tunnel.local_addr(service.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        port = public_addr(&client.start().await.unwrap().public_url).port();
        services.push(service);
        clients.push(client);
    }
    let public = SocketAddr::new(bed.server.tunnel_addr().ip(), port);
    let (mut visitors, mut met) = (Vec::new(), [0, 0]);
    for _ in 0..10 {
        let mut visitor = TcpStream::connect(public).await.unwrap();
        let name = soon("the name", visitor.read_u8()).await.unwrap();
        met[usize::from(name - b'a')] += 1;
        visitors.push(visitor);
    }
    assert_eq!(met, [5, 5], "{streams:?}");
}

#[test]
fn a_group_of_one_is_a_tunnel_like_any_other() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let tunnel = Tunnel::tcp().group("alone").local_addr(echo.addr().to_string());
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        says_and_hears(&mut TcpStream::connect(public).await.unwrap()).await;
        let nameless = Tunnel::http("app").group("").local_addr("1");
        let error = bed.client().tunnel(nameless).build().unwrap_err();
        assert!(error.to_string().contains("group"), "{error}");
    });
}

#[test]
fn a_member_that_is_paused_leaves_its_visitors_to_the_others() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let (one, other) = (kept("one").await, kept("other").await);
        let first = member(bed.client(), one.addr()).await;
        let second = member(bed.client(), other.addr()).await;
        assert_eq!(answers(&bed, 10).await.len(), 2);
        let number = first.reader().unwrap().read().unwrap().tunnels[0].number;
        first.control().unwrap().pause(number).unwrap();
        // Over connections that are kept, too.
        soon("the other one alone", async { while answers(&bed, 10).await.len() > 1 {} }).await;
        assert_eq!(answers(&bed, 10).await["other"], 10);

        second.control().unwrap().pause(number).unwrap();
        soon("nobody", async { while bed.get("app", "/").await.status != 503 {} }).await;
        first.control().unwrap().resume(number).unwrap();
        soon("the first", async { while bed.get("app", "/").await.status != 200 {} }).await;
        assert_eq!(answers(&bed, 10).await["one"], 10);
    });
}
