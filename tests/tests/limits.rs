//! Every limit is enforced, and those inside it are not touched.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ferrotunnel::{
    Client, ClientEvent, Connections, ErrorKind as Kind, LimitsConfig, PrincipalConfig, Retry,
    Token, Tunnel, issue_token,
};
use ferrotunnel_protocol::frame::FrameType;
use ferrotunnel_tests::{
    Carrier, LocalService, Site, Stranger, TestBed, Tickets, client_hello, eventually, log_in,
    over_both, public_addr, raw, read_head, run, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn bed_with(carrier: Carrier, set: impl FnOnce(&mut LimitsConfig)) -> TestBed {
    let mut limits = LimitsConfig::default();
    set(&mut limits);
    TestBed::with(carrier, |server| server.limits(limits)).await
}

#[test]
fn a_full_server_takes_the_next_client_when_one_has_left() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_sessions = 2).await;
        let site = Site::start().await;
        let first = bed.http("first", site.addr()).await;
        let _second = bed.http("second", site.addr()).await;
        let third = bed.client().tunnel(Tunnel::http("third").local_addr(site.addr().to_string()));
        let third = third.build().unwrap();
        let mut events = third.events();
        let starting = tokio::spawn(async move { third.start().await.map(|_| third) });
        let event = soon("the refusal", events.recv()).await.unwrap();
        let ClientEvent::Disconnected { reason, .. } = event else { unreachable!("{event:?}") };
        assert!(reason.contains("full"), "{reason}");
        assert_eq!(bed.get("first", "/hello").await.body, "hello");
        assert_eq!(bed.server.sessions(), 2);
        drop(first);
        let _third = soon("the third client", starting).await.unwrap().unwrap();
        assert_eq!(bed.get("third", "/hello").await.body, "hello");
        assert_eq!(bed.get("second", "/hello").await.body, "hello");
    });
}

#[test]
fn a_client_gets_no_more_tunnels_than_it_may_have() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_tunnels_per_session = 2).await;
        let client = bed.client().build().unwrap();
        let first = client.listen(Tunnel::http("first")).await.unwrap();
        let _second = client.listen(Tunnel::tcp()).await.unwrap();
        let error = client.listen(Tunnel::http("third")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(!error.is_retryable());
        drop(first);
        let _third = client.listen(Tunnel::http("third")).await.unwrap();
        // Another client has its own.
        let other = bed.client().build().unwrap();
        let _fourth = other.listen(Tunnel::http("fourth")).await.unwrap();
    });
}

/// The defaults with a change, from now on.
fn set(bed: &TestBed, change: impl FnOnce(&mut LimitsConfig)) {
    let mut limits = LimitsConfig::default();
    change(&mut limits);
    bed.server.set_limits(&limits).unwrap();
}

/// Whether a TCP visitor is served, who stays then.
async fn comes_in(public: SocketAddr) -> Option<TcpStream> {
    let mut visitor = TcpStream::connect(public).await.ok()?;
    visitor.write_all(b"x").await.ok()?;
    soon("an echo or the end", visitor.read_u8()).await.ok()?;
    Some(visitor)
}

#[test]
fn other_limits_hold_for_visitors_who_come_while_the_server_runs() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut inside = vec![comes_in(public).await.unwrap(), comes_in(public).await.unwrap()];
        set(&bed, |limits| limits.max_visitors_per_tunnel = Some(2));
        assert!(comes_in(public).await.is_none());
        set(&bed, |limits| limits.max_visitors_per_tunnel = Some(3));
        inside.push(comes_in(public).await.unwrap());
        assert!(comes_in(public).await.is_none());

        // Who came before there was such a limit does not count.
        set(&bed, |limits| limits.max_visitors_per_address = Some(1));
        inside.push(comes_in(public).await.unwrap());
        assert!(comes_in(public).await.is_none());
        set(&bed, |_| {});
        inside.push(comes_in(public).await.unwrap());
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }

        let site = Site::start().await;
        let _http = bed.http("app", site.addr()).await;
        set(&bed, |limits| limits.max_visitors = 1);
        let held = bed.get("app", "/held");
        let over = async {
            site.held(1).await;
            let answer = bed.get("app", "/hello").await;
            assert_eq!(answer.status, 503);
            assert_eq!(answer.ferrotunnel_error(), Some("server-full"));
            set(&bed, |limits| limits.max_visitors = 2);
            assert_eq!(bed.get("app", "/hello").await.body, "hello");
            site.release();
        };
        assert_eq!(tokio::join!(held, over).0.body, "released");

        // Nothing changes by what cannot be used.
        set(&bed, |limits| limits.max_visitors_per_tunnel = Some(1));
        let mut nothing = LimitsConfig::default();
        nothing.max_visitors = 0;
        assert_eq!(bed.server.set_limits(&nothing).unwrap_err().kind(), Kind::Config);
        assert!(comes_in(public).await.is_none());
    });
}

#[test]
fn other_limits_hold_for_sessions_that_begin_while_the_server_runs() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let echo = LocalService::echo().await;
        let (_old, of_old) = bed.tcp(echo.addr()).await;
        set(&bed, |limits| {
            limits.max_streams_per_session = 1;
            limits.max_tunnels_per_session = 1;
        });
        let (new, of_new) = bed.tcp(echo.addr()).await;
        let mut inside = vec![comes_in(of_new).await.unwrap()];
        assert!(comes_in(of_new).await.is_none());
        let error = new.listen(Tunnel::http("second")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        // This one keeps the room that it began with.
        inside.push(comes_in(of_old).await.unwrap());
        inside.push(comes_in(of_old).await.unwrap());

        set(&bed, |limits| limits.max_sessions = 2);
        let third = bed.client().local_addr("1").retry(Retry::Never).build().unwrap();
        let error = third.start().await.unwrap_err().to_string();
        assert!(error.contains("full"), "{error}");
        set(&bed, |limits| limits.max_streams_per_second = Some(1));
        let (_fourth, hurried) = bed.tcp(echo.addr()).await;
        inside.push(comes_in(hurried).await.unwrap());
        // One of them is turned away, unless a second lies between them each time.
        let mut refused = 0;
        for _ in 0..100 {
            match comes_in(hurried).await {
                Some(visitor) => inside.push(visitor),
                None => refused += 1,
            }
        }
        assert!(refused > 0);
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }
    });
}

#[test]
fn a_tcp_visitor_over_the_limit_is_closed_at_once() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_streams_per_session = 3).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        let mut inside = Vec::new();
        for _ in 0..3 {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            says_and_hears(&mut visitor).await;
            inside.push(visitor);
        }
        for _ in 0..10 {
            let turned_away = match TcpStream::connect(public).await {
                Ok(mut visitor) => soon("the door", visitor.read_u8()).await.unwrap_err().kind(),
                Err(error) => error.kind(),
            };
            assert_eq!(turned_away, ErrorKind::ConnectionReset);
        }
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }
        drop(inside.pop());
        eventually("a free place", || bed.server.streams() < 3).await;
        let mut visitor = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut visitor).await;
    });
}

#[test]
fn an_http_visitor_over_the_limit_gets_a_503() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_streams_per_session = 3).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let held = async {
            let held = (0..3).map(|_| bed.get("app", "/held"));
            futures_util::future::join_all(held).await
        };
        let over = async {
            site.held(3).await;
            for _ in 0..10 {
                let answer = bed.get("app", "/hello").await;
                assert_eq!(answer.status, 503);
                assert_eq!(answer.ferrotunnel_error(), Some("over-limit"));
                assert!(answer.headers.contains_key("retry-after"));
            }
            site.release();
        };
        let (held, ()) = tokio::join!(held, over);
        assert!(held.iter().all(|answer| answer.body == "released"), "{held:?}");
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn http_visitors_over_the_limit_of_the_server_are_told_so_and_closed() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors = 1).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut inside = TcpStream::connect(bed.http_addr()).await.unwrap();
        let asking = format!("GET /hello HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host("app"));
        for _ in 0..3 {
            inside.write_all(asking.as_bytes()).await.unwrap();
            assert!(soon("a head", read_head(&mut inside)).await.starts_with("HTTP/1.1 200"));
            let mut body = [0; 5];
            soon("a body", inside.read_exact(&mut body)).await.unwrap();
            assert_eq!(&body, b"hello");
            let late = soon("the door", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
            let late = String::from_utf8(late).unwrap();
            assert!(late.starts_with("HTTP/1.1 503 "), "{late}");
            assert!(late.contains("ferrotunnel-error: server-full\r\n"), "{late}");
            assert!(late.contains("retry-after: 1\r\n"), "{late}");
        }
    });
}

#[test]
fn the_timeouts_of_http_are_those_that_were_set() {
    over_both(async |carrier| {
        let moment = Duration::from_millis(200);
        let bed = TestBed::with(carrier, |server| {
            server
                .http_header_timeout(moment)
                .http_response_timeout(moment)
                .http_pool_idle_timeout(moment)
        })
        .await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        assert_eq!(bed.get("app", "/held").await.ferrotunnel_error(), Some("timeout"));
        let silent = soon("the door", raw(bed.http_addr(), b"GET / HT")).await.unwrap();
        assert_eq!(silent, b"");
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        eventually("the idle connection to go", || bed.server.streams() == 0).await;
    });
}

#[test]
fn times_and_limits_that_no_server_can_use_are_refused_with_their_name() {
    let server = || TestBed::server(Carrier::Plaintext);
    let mut limits = LimitsConfig::default();
    limits.max_visitors = 0;
    let day = Duration::from_secs(24 * 60 * 60);
    for (name, builder) in [
        ("max_visitors", server().limits(limits)),
        ("http_header_timeout", server().http_header_timeout(Duration::ZERO)),
        ("http_header_timeout", server().http_header_timeout(Duration::MAX)),
        ("http_response_timeout", server().http_response_timeout(Duration::ZERO)),
        ("http_pool_idle_timeout", server().http_pool_idle_timeout(day * 2)),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(server().http_response_timeout(day).build().is_ok());
}

#[test]
fn handshakes_over_the_limit_wait_their_turn() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| {
            limits.max_handshakes_in_flight = 3;
            limits.handshake_deadline = Duration::from_secs(3_600);
        })
        .await;
        let site = Site::start().await;
        let early = bed.http("early", site.addr()).await;
        let mut idle = Vec::new();
        for _ in 0..3 {
            let mut stranger = TcpStream::connect(bed.server.tunnel_addr()).await.unwrap();
            if carrier == Carrier::Tls {
                // Who has said nothing would make room.
                stranger.write_all(&client_hello()).await.unwrap();
            }
            soon("the server's word", stranger.read_u8()).await.unwrap();
            idle.push(stranger);
        }
        let mut late = std::pin::pin!(bed.http("late", site.addr()));
        for _ in 0..10 {
            let asking = bed.get("early", "/hello");
            let answer = tokio::select! {
                _ = &mut late => unreachable!("somebody has to leave first"),
                answer = asking => answer,
            };
            assert_eq!(answer.body, "hello", "sessions are not touched");
        }
        eventually("somebody to wait", || bed.server.turned_away().handshakes_waiting > 0).await;
        drop(idle.pop());
        let _late = soon("a client after one of the idle ones", late).await;
        drop(early);
    });
}

/// Eight visitors at once, each of whom hears all that it says.
async fn eight_echoes(public: SocketAddr) {
    let bytes = Site::pattern();
    let visitors = (0..8).map(|_| async {
        let visitor = TcpStream::connect(public).await.unwrap();
        let (mut read, mut write) = visitor.into_split();
        let mut heard = Vec::new();
        let speak = async {
            write.write_all(&bytes).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let listen = async { read.read_to_end(&mut heard).await.unwrap() };
        tokio::join!(speak, listen);
        assert!(heard == bytes);
    });
    soon("eight echoes", futures_util::future::join_all(visitors)).await;
}

#[test]
fn receive_memory_nearly_spent_makes_new_visitors_slower_but_serves_them() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_receive_memory = 100_000).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        eight_echoes(public).await;
        assert!(bed.server.turned_away().memory > 0);
    });
}

#[test]
fn a_guesser_gets_so_many_tries_a_second_and_others_of_the_same_address_come_in() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| {
            limits.max_failed_handshakes_per_address = 4;
            // The honest client finds one whatever those do who wait.
            limits.max_handshakes_in_flight = 2;
        })
        .await;
        let site = Site::start().await;
        let (began, checked) = (Instant::now(), AtomicU32::new(0));
        let guess = async || {
            loop {
                let guesser = bed.client().token("wrong").retry(Retry::Never).local_addr("1");
                let error = guesser.build().unwrap().start().await.unwrap_err();
                if error.kind() == Kind::Unauthorized {
                    checked.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                // Whoever is slow to say its first words makes room for the next one, who finds no place.
                let error = error.to_string();
                let why = ["wrong tokens", "no TLS with"];
                assert!(why.iter().any(|why| error.contains(why)), "{error}");
            }
        };
        let guessing = futures_util::future::join_all((0..3).map(|_| guess()));
        let others = async {
            eventually("tries that wait", || {
                bed.server.turned_away().handshakes_delayed >= 3
                    && checked.load(Ordering::Relaxed) >= 6
            })
            .await;
            for name in ["one", "two", "three"] {
                let _client = soon("a client among guessers", bed.http(name, site.addr())).await;
                assert_eq!(bed.get(name, "/hello").await.body, "hello");
            }
        };
        tokio::select! {
            _ = guessing => unreachable!("they never tire"),
            () = others => {}
        }
        // One more for the other of two threads, which may look at the same moment.
        let most = 5.0 + 4.0 * began.elapsed().as_secs_f64();
        let checked = checked.load(Ordering::Relaxed);
        assert!(f64::from(checked) <= most, "{checked} tries, but {most} at most");
    });
}

#[test]
fn a_flood_of_wrong_tokens_is_refused_unseen() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_failed_handshakes_per_address = 2).await;
        let guess = async || {
            let guesser = bed.client().token("wrong").retry(Retry::Never).local_addr("1");
            guesser.build().unwrap().start().await.unwrap_err()
        };
        let errors = soon("the answers", async {
            futures_util::future::join_all((0..40).map(|_| guess())).await
        });
        let unseen = errors.await.iter().filter(|error| error.kind() != Kind::Unauthorized).count();
        assert!(unseen > 0, "they came within a second or two");
        assert_eq!(bed.server.turned_away().handshakes_refused, unseen as u64);
    });
}

#[test]
fn guesses_at_the_shared_token_hold_up_nobody_with_a_named_one() {
    over_both(async |carrier| {
        let (token, verifier) = issue_token().unwrap();
        let principal = PrincipalConfig::new("laptop").verifier(verifier);
        let mut limits = LimitsConfig::default();
        limits.max_failed_handshakes_per_address = 1;
        let bed =
            TestBed::with(carrier, |server| server.principals([principal]).limits(limits)).await;
        let site = Site::start().await;
        let guess = async || {
            let guesser = bed.client().token("wrong").retry(Retry::Never).local_addr("1");
            guesser.build().unwrap().start().await.unwrap_err()
        };
        soon("the guesses", futures_util::future::join_all((0..10).map(|_| guess()))).await;
        let counts = || bed.server.turned_away();
        let before = (counts().handshakes_delayed, counts().handshakes_refused);
        assert!(before.0 + before.1 > 0);
        let client = bed.client().token(token.reveal());
        let client = client.tunnel(Tunnel::http("app").local_addr(site.addr().to_string()));
        let client = client.build().unwrap();
        client.start().await.unwrap();
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert_eq!((counts().handshakes_delayed, counts().handshakes_refused), before);
    });
}

/// Who has a token of its own has tickets by that, which let it in past the others of its address; they are none for guesses at
/// another token.
#[test]
fn tickets_of_one_token_are_no_free_guesses_at_another() {
    run(async {
        let (own, verifier) = issue_token().unwrap();
        let principal = PrincipalConfig::new("laptop").verifier(verifier);
        let mut limits = LimitsConfig::default();
        limits.max_failed_handshakes_per_address = 1;
        let bed =
            TestBed::with(Carrier::Tls, |server| server.principals([principal]).limits(limits));
        let bed = bed.await;
        let addr = bed.server.tunnel_addr();
        let guess = Token::new("a-guess").unwrap();
        let counted = || {
            let counts = bed.server.turned_away();
            counts.handshakes_delayed + counts.handshakes_refused
        };
        for _ in 0..100 {
            let tickets = Tickets::default();
            let mut honest = Stranger::connect_again(addr, Carrier::Tls, &tickets).await;
            let welcome = log_in(&mut honest, &own, 64 << 10).await;
            assert_eq!(welcome.header.kind, FrameType::Welcome, "it never waits for anything");
            let mut guesser = Stranger::connect_again(addr, Carrier::Tls, &tickets).await;
            let farewell = log_in(&mut guesser, &guess, 64 << 10).await;
            assert_eq!(farewell.header.kind, FrameType::GoAway);
            // Two of them came within a second.
            if counted() > 0 {
                return;
            }
        }
        unreachable!("a hundred guesses, and none of them had to wait");
    });
}

#[test]
fn a_fleet_behind_one_address_comes_in_whatever_the_limit_of_wrong_tokens_is() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_failed_handshakes_per_address = 1).await;
        let site = Site::start().await;
        let names: Vec<String> = (0..40).map(|number| format!("app{number}")).collect();
        let coming = names.iter().map(|name| bed.http(name, site.addr()));
        let _fleet = soon("the fleet", futures_util::future::join_all(coming)).await;
        let counts = bed.server.turned_away();
        assert_eq!((counts.handshakes_delayed, counts.handshakes_refused), (0, 0));
    });
}

#[test]
fn visitors_over_the_limit_of_a_tunnel_leave_those_of_others_alone() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_tunnel = Some(2)).await;
        let echo = LocalService::echo().await;
        // One over the session's carrier, one over carriers of its own.
        let (_multiplexed, one) = bed.tcp(echo.addr()).await;
        let (_direct, other) = bed.direct(echo.addr()).await;
        let publics = [one, other];
        eventually("a direct carrier to wait", || bed.server.direct().waiting > 2).await;
        let mut inside = Vec::new();
        for public in &publics {
            for _ in 0..2 {
                let mut visitor = TcpStream::connect(*public).await.unwrap();
                says_and_hears(&mut visitor).await;
                inside.push(visitor);
            }
        }
        for public in &publics {
            let turned_away = match TcpStream::connect(*public).await {
                Ok(mut visitor) => soon("the door", visitor.read_u8()).await.unwrap_err().kind(),
                Err(error) => error.kind(),
            };
            assert_eq!(turned_away, ErrorKind::ConnectionReset);
        }
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 2);
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }
        while let Some(left) = inside.pop() {
            drop(left);
        }
        eventually("free places", || bed.server.streams() == 0).await;
        for public in publics {
            let mut visitor = TcpStream::connect(public).await.unwrap();
            says_and_hears(&mut visitor).await;
        }
    });
}

#[test]
fn a_tunnel_that_is_registered_anew_has_the_visitors_that_it_had() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_tunnel = Some(1)).await;
        let client = bed.client().build().unwrap();
        let mut first = client.listen(Tunnel::tcp()).await.unwrap();
        let public = public_addr(&first.info().public_url);
        let mut inside = TcpStream::connect(public).await.unwrap();
        inside.write_all(b"x").await.unwrap();
        let (mut served, _) = soon("a visitor", first.accept()).await.unwrap();
        drop(first);
        eventually("the tunnel to leave", || bed.server.tunnels() == 0).await;
        let mut second = client.listen(Tunnel::tcp().remote_port(public.port())).await.unwrap();
        let turned_away = match TcpStream::connect(public).await {
            Ok(mut visitor) => soon("the door", visitor.read_u8()).await.unwrap_err().kind(),
            Err(error) => error.kind(),
        };
        assert_eq!(turned_away, ErrorKind::ConnectionReset);
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 1);
        // Who is inside notices nothing, and leaves the place to the next one.
        assert_eq!(soon("a byte", served.read_u8()).await.unwrap(), b'x');
        served.write_all(b"y").await.unwrap();
        assert_eq!(soon("a byte", inside.read_u8()).await.unwrap(), b'y');
        drop((inside, served));
        eventually("a free place", || bed.server.streams() == 0).await;
        let mut next = TcpStream::connect(public).await.unwrap();
        next.write_all(b"x").await.unwrap();
        let (mut served, _) = soon("a visitor", second.accept()).await.unwrap();
        assert_eq!(soon("a byte", served.read_u8()).await.unwrap(), b'x');
    });
}

#[test]
fn http_visitors_over_the_limit_of_a_tunnel_get_a_503() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_tunnel = Some(2)).await;
        let site = Site::start().await;
        let _client = (bed.http("busy", site.addr()).await, bed.http("other", site.addr()).await);
        let held = async { tokio::join!(bed.get("busy", "/held"), bed.get("busy", "/held")) };
        let over = async {
            site.held(2).await;
            let answer = bed.get("busy", "/hello").await;
            assert_eq!(
                (answer.status.as_u16(), answer.ferrotunnel_error()),
                (503, Some("over-limit"))
            );
            assert!(answer.headers.contains_key("retry-after"));
            assert_eq!(bed.get("other", "/hello").await.body, "hello");
            site.release();
        };
        let (held, ()) = tokio::join!(held, over);
        assert!(held.0.body == "released" && held.1.body == "released", "{held:?}");
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 1);
    });
}

/// A client with a tunnel to a local service that speaks HTTP/2, over which requests share a connection.
async fn http2(bed: &TestBed, name: &str, site: &Site) -> Client {
    let tunnel = Tunnel::http(name).http2().local_addr(site.addr().to_string());
    let client = bed.client().tunnel(tunnel).build().unwrap();
    client.start().await.unwrap();
    client
}

/// Two who wait for a local service over HTTP/2 are all that may be inside.
async fn two_over_http2_are_enough(bed: &TestBed) {
    let site = Site::start().await;
    let _client = http2(bed, "busy", &site).await;
    assert_eq!(bed.get("busy", "/hello").await.body, "hello");
    let held = async { tokio::join!(bed.get("busy", "/held"), bed.get("busy", "/held")) };
    let over = async {
        site.held(2).await;
        for _ in 0..3 {
            let answer = bed.get("busy", "/hello").await;
            assert_eq!(
                (answer.status.as_u16(), answer.ferrotunnel_error()),
                (503, Some("over-limit"))
            );
        }
        site.release();
    };
    let (held, ()) = tokio::join!(held, over);
    assert!(held.0.body == "released" && held.1.body == "released", "{held:?}");
    assert_eq!(bed.get("busy", "/hello").await.body, "hello");
}

#[test]
fn visitors_who_share_a_connection_to_a_local_service_count_one_by_one() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_tunnel = Some(2)).await;
        two_over_http2_are_enough(&bed).await;
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 3);
        let bed = bed_with(carrier, |limits| limits.max_streams_per_session = 2).await;
        two_over_http2_are_enough(&bed).await;
        assert_eq!(bed.server.turned_away().streams_of_sessions, 3);
    });
}

#[test]
fn visitors_who_share_a_connection_come_no_faster_than_the_limit() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_streams_per_second = Some(1)).await;
        let site = Site::start().await;
        let _client = http2(&bed, "app", &site).await;
        // One of them is turned away, unless a second lies between them each time.
        let all = (0..30).map(|_| bed.get("app", "/hello"));
        let refused = futures_util::future::join_all(all).await;
        let refused = refused.iter().filter(|it| it.ferrotunnel_error() == Some("over-limit"));
        let refused = refused.count() as u64;
        assert!(refused > 0);
        assert_eq!(bed.server.turned_away().streams_too_fast, refused);
    });
}

/// The session has no stream left for a connection of theirs, though it may have visitors.
#[test]
fn visitors_for_whom_there_is_no_connection_to_share_are_none_of_the_second() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| {
            limits.max_streams_per_session = 1;
            limits.max_streams_per_second = Some(2);
        })
        .await;
        let site = Site::start().await;
        let tunnel = |name: &str| Tunnel::http(name).http2().local_addr(site.addr().to_string());
        let client = bed.client().tunnel(tunnel("one")).tunnel(tunnel("two")).build().unwrap();
        client.start().await.unwrap();
        assert_eq!(bed.get("one", "/hello").await.body, "hello");
        for _ in 0..10 {
            let answer = bed.get("two", "/hello").await;
            assert_eq!(answer.ferrotunnel_error(), Some("over-limit"));
        }
        let turned_away = bed.server.turned_away();
        assert_eq!((turned_away.streams_of_sessions, turned_away.streams_too_fast), (10, 0));
    });
}

/// A local service that keeps its connections, takes wishes for another protocol, and echoes then; and how many
/// connections it has had.
async fn obliging() -> (LocalService, Arc<AtomicU32>) {
    let accepted = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&accepted);
    let service = LocalService::each(move |mut socket| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            loop {
                let head = read_head(&mut socket).await;
                if head.is_empty() {
                    return;
                }
                if head.contains("upgrade: echo\r\n") {
                    break;
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if socket.write_all(answer).await.is_err() {
                    return;
                }
            }
            let switching =
                b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
            let _ = socket.write_all(switching).await;
            let mut buffer = [0; 1_024];
            while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                let _ = socket.write_all(&buffer[..count]).await;
            }
        }
    });
    (service.await, accepted)
}

#[test]
fn a_connection_that_is_kept_over_another_carrier_takes_no_visitor_s_place() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_tunnel = Some(1)).await;
        let (service, accepted) = obliging().await;
        let tunnel = Tunnel::http("app").local_addr(service.addr().to_string());
        let client = bed.client().connections(Connections::Exactly(2)).tunnel(tunnel);
        let client = client.build().unwrap();
        client.start().await.unwrap();
        // Who changes to the other carrier needs a new connection; over one carrier it would be the same all the time.
        soon("requests over both carriers", async {
            while accepted.load(Ordering::Relaxed) < 6 {
                let answer = bed.get("app", "/").await;
                assert_eq!((answer.status.as_u16(), &*answer.body), (200, "ok"));
            }
        })
        .await;
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 0);
    });
}

#[test]
fn a_connection_that_is_kept_makes_room_for_one_that_is_to_become_something_else() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_tunnel = Some(1)).await;
        let (service, _) = obliging().await;
        let _client = bed.http("app", service.addr()).await;
        assert_eq!(bed.get("app", "/").await.body, "ok");
        let mut inside = TcpStream::connect(bed.http_addr()).await.unwrap();
        let wish = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
            bed.host("app")
        );
        inside.write_all(wish.as_bytes()).await.unwrap();
        let head = soon("a head", read_head(&mut inside)).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        says_and_hears(&mut inside).await;
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 0);
        // Who is inside keeps the place.
        assert_eq!(bed.get("app", "/").await.ferrotunnel_error(), Some("over-limit"));
        assert_eq!(bed.server.turned_away().visitors_of_tunnels, 1);
        says_and_hears(&mut inside).await;
    });
}

#[test]
fn a_connection_that_is_kept_makes_room_for_another_tunnel_of_its_session() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_streams_per_session = 1).await;
        let (service, _) = obliging().await;
        let local = service.addr().to_string();
        let tunnel = |name: &str| Tunnel::http(name).local_addr(&local);
        let client = bed.client().tunnel(tunnel("one")).tunnel(tunnel("two")).build().unwrap();
        client.start().await.unwrap();
        for name in ["one", "two", "two", "one", "two"] {
            let answer = bed.get(name, "/").await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (200, "ok"), "{name}");
        }
        assert_eq!(bed.server.turned_away().streams_of_sessions, 0);
    });
}

#[test]
fn visitors_over_the_limit_of_their_address_are_told_so_and_nobody_inside_notices() {
    over_both(async |carrier| {
        let bed = bed_with(carrier, |limits| limits.max_visitors_per_address = Some(2)).await;
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let _client = bed.http("app", site.addr()).await;
        let (_other, public) = bed.tcp(echo.addr()).await;
        // One of each kind: they are counted together.
        let mut over_tcp = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut over_tcp).await;
        let mut over_http = TcpStream::connect(bed.http_addr()).await.unwrap();
        let asking = format!("GET /hello HTTP/1.1\r\nhost: {}\r\n\r\n", bed.host("app"));
        for _ in 0..3 {
            over_http.write_all(asking.as_bytes()).await.unwrap();
            assert!(soon("a head", read_head(&mut over_http)).await.starts_with("HTTP/1.1 200"));
            let mut body = [0; 5];
            soon("a body", over_http.read_exact(&mut body)).await.unwrap();
            let late = soon("the door", raw(bed.http_addr(), asking.as_bytes())).await.unwrap();
            let late = String::from_utf8(late).unwrap();
            assert!(late.starts_with("HTTP/1.1 429 "), "{late}");
            assert!(late.contains("ferrotunnel-error: too-many-from-address\r\n"), "{late}");
            assert!(late.contains("retry-after: 1\r\n"), "{late}");
            let turned_away = match TcpStream::connect(public).await {
                Ok(mut visitor) => soon("the door", visitor.read_u8()).await.unwrap_err().kind(),
                Err(error) => error.kind(),
            };
            assert_eq!(turned_away, ErrorKind::ConnectionReset);
            says_and_hears(&mut over_tcp).await;
        }
        assert_eq!(bed.server.turned_away().visitors_of_addresses, 6);
        drop(over_tcp);
        eventually("a free place", || bed.server.streams() < 2).await;
        let mut next = TcpStream::connect(public).await.unwrap();
        says_and_hears(&mut next).await;
    });
}

#[test]
fn a_session_with_little_receive_memory_serves_its_visitors_all_the_same() {
    over_both(async |carrier| {
        let bed =
            bed_with(carrier, |limits| limits.max_receive_memory_per_session = Some(100_000)).await;
        let echo = LocalService::echo().await;
        let (_client, public) = bed.tcp(echo.addr()).await;
        eight_echoes(public).await;
        assert!(bed.server.turned_away().memory_of_sessions > 0);
    });
}
