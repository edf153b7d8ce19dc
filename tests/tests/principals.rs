//! Many users on one server: each has its own token, gets what it may have, and notices nobody else.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::io::ErrorKind as IoError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ferrotunnel::{
    Client, ClientBuilder, ClientEvent, ErrorKind, LimitsConfig, PrincipalConfig, Retry, Server,
    Streams, Tunnel, TunnelKind, Verifier, issue_token,
};
use ferrotunnel_common::{ClientId, SessionId, base32};
use ferrotunnel_protocol::Frame;
use ferrotunnel_protocol::frame::{HEADER_LEN, Header, Hello};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, Site, Stranger, TOKEN, TestBed, client_of, eventually, over_both,
    public_addr, read_head, run, says_and_hears, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;

/// A user: what the operator writes down, and the token.
#[derive(Clone)]
struct User {
    config: PrincipalConfig,
    token: String,
}

impl User {
    fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    fn with(name: &str, change: impl FnOnce(&mut PrincipalConfig)) -> Self {
        let (token, verifier) = issue_token().unwrap();
        let mut config = PrincipalConfig::new(name).verifier(verifier);
        change(&mut config);
        Self { config, token: token.reveal() }
    }

    fn verifier(&self) -> Verifier {
        self.config.verifiers[0].clone()
    }
}

/// A server that knows these users and, as always, the shared token.
async fn bed_of(carrier: Carrier, users: &[&User]) -> TestBed {
    let configs: Vec<PrincipalConfig> = users.iter().map(|user| user.config.clone()).collect();
    TestBed::with(carrier, |server| server.principals(configs)).await
}

/// A client that does not come back when it is refused.
fn client(bed: &TestBed, token: &str) -> ClientBuilder {
    bed.client().token(token).retry(Retry::Never)
}

/// Asks for one tunnel; the client lives as long as it is held.
async fn ask(bed: &TestBed, token: &str, tunnel: Tunnel) -> Result<Client, ferrotunnel::Error> {
    let client = client(bed, token).tunnel(tunnel.local_addr("1")).build().unwrap();
    soon("an answer", client.start()).await.map(|_| client)
}

/// Why it is refused for good.
async fn refusal(bed: &TestBed, token: &str, tunnel: Tunnel) -> String {
    let error = ask(bed, token, tunnel).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    error.to_string()
}

/// A client with one TCP tunnel, and where visitors reach it.
async fn tcp(
    bed: &TestBed,
    token: &str,
    local: SocketAddr,
    streams: Streams,
) -> (Client, SocketAddr) {
    let tunnel = Tunnel::tcp().local_addr(local.to_string()).streams(streams);
    let client = client(bed, token).tunnel(tunnel).build().unwrap();
    let info = soon("a tunnel", client.start()).await.unwrap();
    (client, public_addr(&info.public_url))
}

async fn visit(public: SocketAddr) -> TcpStream {
    let mut visitor = TcpStream::connect(public).await.unwrap();
    says_and_hears(&mut visitor).await;
    visitor
}

/// Why the client ended.
async fn ended(events: &mut Receiver<ClientEvent>) -> String {
    loop {
        if let ClientEvent::Ended { reason } = soon("the end", events.recv()).await.unwrap() {
            return reason.unwrap();
        }
    }
}

/// Why a tunnel was lost.
async fn lost(events: &mut Receiver<ClientEvent>) -> String {
    loop {
        match soon("the loss of a tunnel", events.recv()).await.unwrap() {
            ClientEvent::TunnelLost { reason, .. } => return reason,
            ClientEvent::Ended { reason } => unreachable!("the client ended: {reason:?}"),
            _ => {}
        }
    }
}

#[test]
fn two_principals_cannot_take_each_other_s_names() {
    over_both(async |carrier| {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let bed = bed_of(carrier, &[&web, &shop]).await;
        let site = Site::start().await;
        let first = client(&bed, &web.token);
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let first = first.tunnel(tunnel).build().unwrap();
        first.start().await.unwrap();
        for stranger in [&shop.token, TOKEN] {
            let reason = refusal(&bed, stranger, Tunnel::http("app")).await;
            assert!(reason.contains("name-taken") && reason.contains("somebody else"), "{reason}");
        }
        assert_eq!(bed.get("app", "/hello").await.body, "hello");

        let echo = LocalService::echo().await;
        let (_second, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        for stranger in [&shop.token, TOKEN] {
            let reason = refusal(&bed, stranger, Tunnel::tcp().remote_port(public.port())).await;
            assert!(reason.contains("somebody else"), "{reason}");
        }
        visit(public).await;
        // Its own names it takes over, from wherever it comes.
        let _third = ask(&bed, &web.token, Tunnel::http("app")).await.unwrap();
        assert_eq!(soon("the end", first.wait()).await.unwrap_err().kind(), ErrorKind::Superseded);
    });
}

#[test]
fn every_rule_refuses_with_its_sentence() {
    over_both(async |carrier| {
        let web = User::with("web", |web| {
            web.hosts = Some(vec!["app".into(), "*.web.example".into()]);
            web.ports = Some(vec![1..=2]);
        });
        let names = User::with("names", |names| names.kinds = Some(vec![TunnelKind::Http]));
        let bed = bed_of(carrier, &[&web, &names]).await;
        let allowed = "among those of principal \"web\"; allowed: app, *.web.example";
        for (tunnel, host) in [
            (Tunnel::http("other"), "other.localhost"),
            (Tunnel::http("app").host("x.example"), "x.example"),
            (Tunnel::http("app").host("web.example"), "web.example"),
        ] {
            let reason = refusal(&bed, &web.token, tunnel).await;
            let expected = format!("(not-allowed): host {host:?} is not {allowed}");
            assert!(reason.ends_with(&expected), "{reason}");
        }
        let reason = refusal(&bed, &web.token, Tunnel::tcp().remote_port(3)).await;
        let expected = "port 3 is not among those of principal \"web\"; allowed: 1-2";
        assert!(reason.ends_with(expected), "{reason}");
        let reason = refusal(&bed, &names.token, Tunnel::tcp()).await;
        let expected = "kind tcp is not among those of principal \"names\"; allowed: http";
        assert!(reason.ends_with(expected), "{reason}");
        let reason = refusal(&bed, &names.token, Tunnel::http("a").host("x.example")).await;
        assert!(reason.ends_with("allowed: every name under localhost"), "{reason}");
        // What they may have they get.
        let tunnel = Tunnel::http("").host("shop.web.example");
        let _web = ask(&bed, &web.token, tunnel).await.unwrap();
        let _names = ask(&bed, &names.token, Tunnel::http("anything")).await.unwrap();
        let _shared = ask(&bed, TOKEN, Tunnel::http("b").host("x.example")).await.unwrap();
    });
}

#[test]
fn a_port_that_the_server_picks_is_one_that_is_allowed() {
    run(async {
        let web = User::with("web", |web| web.ports = Some(vec![40_000..=41_999]));
        let bed = bed_of(Carrier::Plaintext, &[&web]).await;
        let echo = LocalService::echo().await;
        let (_client, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        assert!((40_000..=41_999).contains(&public.port()), "{public}");
        visit(public).await;
    });
}

#[test]
fn a_token_is_rotated_without_an_outage() {
    over_both(async |carrier| {
        let mut web = User::new("web");
        let (new_token, new_verifier) = issue_token().unwrap();
        let bed = bed_of(carrier, &[&web]).await;
        let site = Site::start().await;
        let tunnel = |name: &str| Tunnel::http(name).local_addr(site.addr().to_string());
        let old = client(&bed, &web.token).tunnel(tunnel("old")).build().unwrap();
        old.start().await.unwrap();
        let mut events = old.events();
        let unknown = ask(&bed, &new_token.reveal(), tunnel("new")).await.err().unwrap();
        assert_eq!(unknown.kind(), ErrorKind::Unauthorized);

        web.config.verifiers.push(new_verifier);
        bed.server.set_principals([web.config.clone()]).unwrap();
        let new = client(&bed, &new_token.reveal()).tunnel(tunnel("new")).build().unwrap();
        new.start().await.unwrap();
        // One principal: what was asked for with the one token is had with the other.
        let newer = client(&bed, &new_token.reveal()).tunnel(tunnel("old")).build().unwrap();
        newer.start().await.unwrap();
        assert!(ended(&mut events).await.contains("newer client"));
        let third = client(&bed, &web.token).tunnel(tunnel("third")).build().unwrap();
        third.start().await.unwrap();
        let mut events = third.events();

        web.config.verifiers.remove(0);
        bed.server.set_principals([web.config.clone()]).unwrap();
        assert!(ended(&mut events).await.contains("revoked"));
        assert_eq!(bed.get("new", "/hello").await.body, "hello");
        assert_eq!(bed.get("old", "/hello").await.body, "hello");
        assert_eq!(bed.get("third", "/hello").await.status, 404);
        assert_eq!(bed.server.sessions(), 2);
    });
}

#[test]
fn revocation_ends_the_sessions_of_that_principal_only() {
    over_both(async |carrier| {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let echo = LocalService::echo().await;
        for disable in [false, true] {
            let bed = bed_of(carrier, &[&web, &shop]).await;
            let (gone, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
            let (direct, direct_public) = tcp(&bed, &web.token, echo.addr(), Streams::Direct).await;
            eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
            let (_other, other_public) =
                tcp(&bed, &shop.token, echo.addr(), Streams::Multiplexed).await;
            let (_shared, shared_public) = bed.tcp(echo.addr()).await;
            let mut cut = [visit(public).await, visit(direct_public).await];
            assert_eq!(bed.server.direct().serving, 1);
            let mut kept = [visit(other_public).await, visit(shared_public).await];
            let mut events = [gone.events(), direct.events()];

            let mut configs = vec![shop.config.clone()];
            if disable {
                let mut web = web.config.clone();
                web.disabled = true;
                configs.push(web);
            }
            bed.server.set_principals(configs).unwrap();
            for events in &mut events {
                let reason = ended(events).await;
                let expected = "(refused): the server's operator revoked this token";
                assert!(reason.ends_with(expected), "{reason}");
            }
            for visitor in &mut cut {
                let end = soon("the visitor's end", visitor.read_u8()).await.unwrap_err();
                assert_eq!(end.kind(), IoError::ConnectionReset);
            }
            for public in [public, direct_public] {
                let refused = TcpStream::connect(public).await.unwrap_err();
                assert_eq!(refused.kind(), IoError::ConnectionRefused);
            }
            for visitor in &mut kept {
                says_and_hears(visitor).await;
            }
            eventually("the sessions to go", || bed.server.sessions() == 2).await;
            assert_eq!(bed.server.direct().serving, 0);
            let again = ask(&bed, &web.token, Tunnel::tcp()).await.err().unwrap();
            assert_eq!(again.kind(), ErrorKind::Unauthorized);
            // It is a revocation and no ban.
            bed.server.set_principals([web.config.clone(), shop.config.clone()]).unwrap();
            visit(tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await.1).await;
        }
    });
}

/// A visitor with a carrier of its own goes on when the session is lost, and is nobody's then.
#[test]
fn revocation_cuts_visitors_off_whose_session_has_ended_already() {
    over_both(async |carrier| {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let bed = bed_of(carrier, &[&web, &shop]).await;
        let echo = LocalService::echo().await;
        let (mut links, mut clients, mut visitors) = (Vec::new(), Vec::new(), Vec::new());
        for user in [&web, &shop] {
            let link = Link::to(bed.server.tunnel_addr()).await;
            let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string());
            let client = bed.client_over(&link).token(&*user.token);
            let client = client.tunnel(tunnel.streams(Streams::Direct)).build().unwrap();
            let info = soon("a tunnel", client.start()).await.unwrap();
            let serving = bed.server.direct().serving;
            eventually("a direct carrier to wait", || bed.server.direct().waiting > 0).await;
            visitors.push(visit(public_addr(&info.public_url)).await);
            assert_eq!(bed.server.direct().serving, serving + 1);
            // The session's connection came first, and no other one comes through from now on.
            link.blackhole();
            link.cut_only(0);
            eventually("the session to end", || bed.server.sessions() == 0).await;
            links.push(link);
            clients.push(client);
        }
        assert_eq!(bed.server.direct().serving, 2);
        bed.server.set_principals([shop.config.clone()]).unwrap();
        let end = soon("the visitor's end", visitors[0].read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), IoError::ConnectionReset);
        eventually("the other one alone", || bed.server.direct().serving == 1).await;
        bed.server.set_principals([]).unwrap();
        let end = soon("the other's end", visitors[1].read_u8()).await.unwrap_err();
        assert_eq!(end.kind(), IoError::ConnectionReset);
    });
}

/// Whatever their handshakes have come to when the token is revoked.
#[test]
fn no_session_slips_through_a_revocation() {
    over_both(async |carrier| {
        let web = User::new("web");
        // All of them come back with a token that is wrong then.
        let mut limits = LimitsConfig::default();
        limits.max_failed_handshakes_per_address = 10_000;
        let server =
            TestBed::with(carrier, |server| server.principals([web.config.clone()]).limits(limits));
        let bed = server.await;
        for round in 0..20 {
            bed.server.set_principals([web.config.clone()]).unwrap();
            let clients: Vec<Client> = (0..8)
                .map(|number| {
                    let tunnel = Tunnel::http(format!("app{number}")).local_addr("1");
                    client(&bed, &web.token).tunnel(tunnel).build().unwrap()
                })
                .collect();
            let revoking = async {
                // The further the round, the further most of them are.
                while bed.server.sessions() < round % 8 {
                    tokio::task::yield_now().await;
                }
                bed.server.set_principals([]).unwrap();
            };
            let starting = futures_util::future::join_all(clients.iter().map(Client::start));
            let (started, ()) =
                soon("an answer for all", async { tokio::join!(starting, revoking) }).await;
            for (client, started) in clients.iter().zip(started) {
                let ended = match started {
                    Ok(_) => soon("the end", client.wait()).await.unwrap_err(),
                    Err(error) => error,
                };
                let text = ended.to_string();
                assert!(text.contains("revoked"), "{text}");
            }
            eventually("the sessions to go", || bed.server.sessions() == 0).await;
        }
    });
}

#[test]
fn a_client_whose_token_is_accepted_again_comes_back() {
    over_both(async |carrier| {
        let web = User::new("web");
        let bed = bed_of(carrier, &[&web]).await;
        let site = Site::start().await;
        let tunnel = Tunnel::http("app").local_addr(site.addr().to_string());
        let client = bed.client().token(&*web.token).tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        let mut events = client.events();
        bed.server.set_principals([]).unwrap();
        let reason = loop {
            let event = soon("the end of the session", events.recv()).await.unwrap();
            if let ClientEvent::Disconnected { reason, .. } = event {
                break reason;
            }
        };
        assert!(reason.contains("revoked"), "{reason}");
        bed.server.set_principals([web.config.clone()]).unwrap();
        ferrotunnel_tests::ready(&mut events).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn a_tunnel_that_is_allowed_no_longer_is_taken_away_and_can_come_back() {
    over_both(async |carrier| {
        let mut web = User::new("web");
        let bed = bed_of(carrier, &[&web]).await;
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let client = bed.client().token(&*web.token);
        let client = client
            .tunnel(Tunnel::tcp().local_addr(echo.addr().to_string()).streams(Streams::Multiplexed))
            .tunnel(Tunnel::http("app").local_addr(site.addr().to_string()))
            .build()
            .unwrap();
        let public = public_addr(&client.start().await.unwrap().public_url);
        let mut inside = visit(public).await;
        let mut events = client.events();

        web.config.kinds = Some(vec![TunnelKind::Http]);
        bed.server.set_principals([web.config.clone()]).unwrap();
        let reason = lost(&mut events).await;
        let expected = "kind tcp is not among those of principal \"web\"; allowed: http";
        assert!(reason.starts_with(expected), "{reason}");
        let refused = TcpStream::connect(public).await.unwrap_err();
        assert_eq!(refused.kind(), IoError::ConnectionRefused);
        // Who is inside stays, and so does the rest of the session.
        says_and_hears(&mut inside).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        assert_eq!(bed.server.sessions(), 1);

        web.config.kinds = None;
        bed.server.set_principals([web.config.clone()]).unwrap();
        let back = ferrotunnel_tests::ready(&mut events).await;
        visit(public_addr(&back.public_url)).await;
        says_and_hears(&mut inside).await;
    });
}

#[test]
fn an_error_in_new_principals_changes_nothing() {
    run(async {
        let web = User::new("web");
        let bed = bed_of(Carrier::Plaintext, &[&web]).await;
        let echo = LocalService::echo().await;
        let (_client, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        let mut visitor = visit(public).await;
        let error = bed.server.set_principals([PrincipalConfig::new("other")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("principal \"other\": "), "{error}");
        says_and_hears(&mut visitor).await;
        let _again = ask(&bed, &web.token, Tunnel::http("app")).await.unwrap();
    });
}

/// Whoever has read all that the server keeps.
#[test]
fn a_thief_of_the_verifier_cannot_log_in_but_can_pass_for_the_server() {
    over_both(async |carrier| {
        let web = User::new("web");
        let bed = bed_of(carrier, &[&web]).await;
        let stolen = web.verifier().to_string();
        let fields: Vec<&str> = stolen.split(':').collect();
        let keys = [fields[2], &fields[3][..52]].map(|key| base32::decode::<32>(key).unwrap());
        let id = base32::decode(fields[1]).unwrap();
        // The keys as the secret, and every half of a proof that can be made of them.
        for key in keys {
            let token = ferrotunnel::Token::named(id, key).reveal();
            let error = ask(&bed, &token, Tunnel::http("app")).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unauthorized);
        }
        for proof in [[keys[0], keys[1]], [keys[1], keys[0]]] {
            let answer = answer(&bed, carrier, fields[1], proof.concat().try_into().unwrap()).await;
            assert!(answer.ends_with(b"the token is not one of this server's"));
        }
        assert_eq!(bed.server.sessions(), 0);
        // What the thief can do, as docs/security.md says: be a server for clients that reach him.
        let his = PrincipalConfig::new("mine").verifier(stolen.parse().unwrap());
        let his = TestBed::with(carrier, |server| server.principals([his])).await;
        let _caught = ask(&his, &web.token, Tunnel::http("app")).await.unwrap();
        // With nothing stolen he cannot.
        let other = bed_of(carrier, &[&User::new("web")]).await;
        let error = ask(&other, &web.token, Tunnel::http("app")).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    });
}

/// What the server says to a Hello, to the end.
async fn answer(bed: &TestBed, carrier: Carrier, token_id: &str, proof: [u8; 64]) -> Vec<u8> {
    let mut stranger = Stranger::connect(bed.server.tunnel_addr(), carrier).await;
    let mut header = [0; HEADER_LEN];
    header.copy_from_slice(&stranger.hear(HEADER_LEN).await);
    stranger.hear(Header::decode(&header).unwrap().length.into()).await;
    let hello = Frame::Hello(Hello {
        version: 1,
        client_id: ClientId([1; 16]),
        token_id: token_id.to_owned(),
        nonce: [2; 32],
        proof,
        software: String::new(),
        initial_window: 65_536,
        direct_for: None::<SessionId>,
    });
    stranger.say(&hello.encode()).await;
    soon("the refusal", stranger.hear_out()).await
}

#[test]
fn strangers_learn_nothing_about_who_is_known() {
    over_both(async |carrier| {
        let web = User::new("web");
        let off = User::with("off", |off| off.disabled = true);
        let bed = bed_of(carrier, &[&web, &off]).await;
        let (known, disabled) = (web.verifier(), off.verifier());
        let ids = ["", known.token_id(), disabled.token_id(), "00000000", "no id at all"];
        let mut answers = Vec::new();
        for id in ids {
            answers.push(answer(&bed, carrier, id, [3; 64]).await);
        }
        assert!(answers[0].ends_with(b"the token is not one of this server's"));
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        // Not even to somebody who knows the token.
        let text = |error: ferrotunnel::Error| error.to_string();
        let wrong = ask(&bed, "a-wrong-one", Tunnel::http("app")).await.err().unwrap();
        let disabled = ask(&bed, &off.token, Tunnel::http("app")).await.err().unwrap();
        let unknown = ask(&bed, &User::new("web").token, Tunnel::http("app")).await.err().unwrap();
        let wrong = text(wrong);
        assert_eq!((text(disabled), text(unknown)), (wrong.clone(), wrong));
        nobody_is_answered_sooner_for_a_token_that_is_known(carrier).await;
    });
}

/// While more guesses at tokens that nobody has are under way than may wait.
async fn nobody_is_answered_sooner_for_a_token_that_is_known(carrier: Carrier) {
    let users = ["one", "two", "three", "four"].map(User::new);
    let configs = users.clone().map(|user| user.config);
    let mut limits = LimitsConfig::default();
    limits.max_failed_handshakes_per_address = 1;
    let bed = TestBed::with(carrier, |server| server.principals(configs).limits(limits)).await;
    let refused = || bed.server.turned_away().handshakes_refused;
    // Each has not been guessed at before; a slow machine may come too late to one crowd or another.
    for user in users {
        let before = refused();
        let crowd = (0..8).map(|_| answer(&bed, carrier, "00000000", [3; 64]));
        let known = async {
            eventually("more guesses than may wait", || refused() > before).await;
            answer(&bed, carrier, user.verifier().token_id(), [3; 64]).await
        };
        let (_, told) = tokio::join!(futures_util::future::join_all(crowd), known);
        if told.ends_with(b"try again in a moment") {
            return;
        }
    }
    unreachable!("it is told at once that the token is known, and wrong");
}

#[test]
fn the_shared_token_works_beside_principals_and_without_it_they_work_alone() {
    over_both(async |carrier| {
        let web = User::new("web");
        let bed = bed_of(carrier, &[&web]).await;
        let _web = ask(&bed, &web.token, Tunnel::http("web")).await.unwrap();
        let _shared = ask(&bed, TOKEN, Tunnel::http("shared")).await.unwrap();
        assert_eq!(bed.server.sessions(), 2);

        let server = Server::builder().bind("127.0.0.1:0").no_http();
        let server = match carrier {
            Carrier::Tls => server,
            Carrier::Plaintext => server.plaintext(),
        };
        let alone = server.principals([web.config.clone()]).build().unwrap().spawn().await.unwrap();
        let client = |token: &str| {
            let client = client_of(alone.tunnel_addr(), carrier).token(token);
            let tunnel = Tunnel::tcp().local_addr("1");
            client.retry(Retry::Never).tunnel(tunnel).build().unwrap()
        };
        client(&web.token).start().await.unwrap();
        for wrong in [TOKEN, "default", "web"] {
            let error = client(wrong).start().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthorized);
        }
    });
}

#[test]
fn a_named_token_can_be_shared_too() {
    over_both(async |carrier| {
        let (token, _) = issue_token().unwrap();
        let bed = TestBed::with(carrier, |server| server.token(token.reveal())).await;
        let _client =
            ask(&bed, &token.reveal(), Tunnel::http("app").host("x.example")).await.unwrap();
        assert_eq!(
            ask(&bed, TOKEN, Tunnel::http("app")).await.err().unwrap().kind(),
            ErrorKind::Unauthorized
        );
    });
}

#[test]
fn sessions_of_a_principal_are_limited_together() {
    over_both(async |carrier| {
        let web = User::with("web", |web| web.max_sessions = Some(2));
        let bed = bed_of(carrier, &[&web]).await;
        let first = ask(&bed, &web.token, Tunnel::http("one")).await.unwrap();
        let _second = ask(&bed, &web.token, Tunnel::http("two")).await.unwrap();
        let error = ask(&bed, &web.token, Tunnel::http("three")).await.err().unwrap();
        let expected = "principal \"web\" may have 2 sessions at once (max_sessions), and has them";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.is_retryable());
        let _other = ask(&bed, TOKEN, Tunnel::http("four")).await.unwrap();
        first.shutdown().await.unwrap();
        eventually("a free place", || bed.server.sessions() == 2).await;
        let _third = ask(&bed, &web.token, Tunnel::http("three")).await.unwrap();
    });
}

#[test]
fn tunnels_of_a_principal_are_limited_together() {
    over_both(async |carrier| {
        let web = User::with("web", |web| web.max_tunnels = Some(2));
        let bed = bed_of(carrier, &[&web]).await;
        let _first = ask(&bed, &web.token, Tunnel::http("one")).await.unwrap();
        let second = ask(&bed, &web.token, Tunnel::tcp()).await.unwrap();
        let reason = refusal(&bed, &web.token, Tunnel::http("three")).await;
        let expected = "(limit-exceeded): principal \"web\" may have 2 tunnels at once (max_tunnels), and has them";
        assert!(reason.ends_with(expected), "{reason}");
        let _other = ask(&bed, TOKEN, Tunnel::http("four")).await.unwrap();
        second.shutdown().await.unwrap();
        let _third = ask(&bed, &web.token, Tunnel::http("three")).await.unwrap();
    });
}

#[test]
fn streams_of_a_principal_are_limited_together() {
    over_both(async |carrier| {
        let web = User::with("web", |web| web.max_streams = Some(3));
        let bed = bed_of(carrier, &[&web]).await;
        let echo = LocalService::echo().await;
        let (_first, one) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        let (_second, two) = tcp(&bed, &web.token, echo.addr(), Streams::Direct).await;
        eventually("direct carriers to wait", || bed.server.direct().waiting >= 3).await;
        let (_other, other) = bed.tcp(echo.addr()).await;
        let mut inside = vec![visit(one).await, visit(two).await, visit(two).await];
        assert_eq!(bed.server.direct().serving, 2);
        for public in [one, two] {
            let turned_away = match TcpStream::connect(public).await {
                Ok(mut late) => soon("the door", late.read_u8()).await.unwrap_err().kind(),
                Err(error) => error.kind(),
            };
            assert_eq!(turned_away, IoError::ConnectionReset);
        }
        let mut beside = visit(other).await;
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }
        says_and_hears(&mut beside).await;
        // A place that is given back on one session is free on the other.
        drop(inside.pop());
        eventually("a free place", || bed.server.streams() == 3).await;
        let mut late = visit(one).await;
        for visitor in &mut inside {
            says_and_hears(visitor).await;
        }
        says_and_hears(&mut late).await;
    });
}

/// Which protocol a local service speaks is its client's to say, and the limit is not.
async fn visitors_over_the_limit_get_a_503(asks: fn(Tunnel) -> Tunnel) {
    let web = User::with("web", |web| web.max_streams = Some(3));
    let bed = bed_of(Carrier::Tls, &[&web]).await;
    let site = Site::start().await;
    let tunnel = |name: &str| asks(Tunnel::http(name).local_addr(site.addr().to_string()));
    let mut clients = Vec::new();
    for name in ["one", "two"] {
        let client = client(&bed, &web.token).tunnel(tunnel(name)).build().unwrap();
        client.start().await.unwrap();
        clients.push(client);
    }
    let _other = bed.http("other", site.addr()).await;
    let held = async {
        let of_one = async { tokio::join!(bed.get("one", "/held"), bed.get("one", "/held")) };
        tokio::join!(of_one, bed.get("two", "/held"))
    };
    let over = async {
        site.held(3).await;
        for name in ["one", "two"] {
            let answer = bed.get(name, "/hello").await;
            assert_eq!(
                (answer.status.as_u16(), answer.ferrotunnel_error()),
                (503, Some("over-limit"))
            );
        }
        assert_eq!(bed.get("other", "/hello").await.body, "hello");
        site.release();
    };
    let (held, ()) = tokio::join!(held, over);
    let ((first, second), third) = held;
    for answer in [first, second, third] {
        assert_eq!(answer.body, "released");
    }
    assert_eq!(bed.server.turned_away().streams_of_principals, 2);
}

#[test]
fn http_visitors_over_the_limit_of_a_principal_get_a_503() {
    run(async {
        visitors_over_the_limit_get_a_503(|tunnel| tunnel).await;
    });
}

#[test]
fn http_visitors_over_the_limit_of_a_principal_get_a_503_where_they_share_connections() {
    run(async {
        visitors_over_the_limit_get_a_503(Tunnel::http2).await;
    });
}

#[test]
fn connections_that_are_kept_take_no_place_of_their_principal_s_visitors() {
    over_both(async |carrier| {
        let web = User::with("web", |web| web.max_streams = Some(1));
        let bed = bed_of(carrier, &[&web]).await;
        let (site, echo) = (Site::start().await, LocalService::echo().await);
        let mut clients = Vec::new();
        for name in ["one", "two"] {
            let tunnel = Tunnel::http(name).local_addr(site.addr().to_string());
            let client = client(&bed, &web.token).tunnel(tunnel).build().unwrap();
            client.start().await.unwrap();
            clients.push(client);
        }
        let (_third, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        for name in ["one", "two", "two", "one"] {
            assert_eq!(bed.get(name, "/hello").await.body, "hello", "{name}");
        }
        let mut inside = visit(public).await;
        assert_eq!(bed.server.turned_away().streams_of_principals, 0);
        // Who is inside keeps the place.
        assert_eq!(bed.get("one", "/hello").await.ferrotunnel_error(), Some("over-limit"));
        assert_eq!(bed.server.turned_away().streams_of_principals, 1);
        says_and_hears(&mut inside).await;
    });
}

#[test]
fn a_connection_that_is_kept_from_before_there_was_a_rate_is_not_used_for_others() {
    over_both(async |carrier| {
        let web = User::new("web");
        let bed = bed_of(carrier, &[&web]).await;
        let accepted = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&accepted);
        let service = LocalService::each(move |mut socket| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                while !read_head(&mut socket).await.is_empty() {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    let _ = socket.write_all(answer).await;
                }
            }
        });
        let service = service.await;
        let tunnel = Tunnel::http("app").local_addr(service.addr().to_string());
        let client = client(&bed, &web.token).tunnel(tunnel).build().unwrap();
        client.start().await.unwrap();
        assert_eq!(bed.get("app", "/").await.body, "ok");
        let mut limited = web.config.clone();
        limited.max_bytes_per_second = Some(1 << 30);
        bed.server.set_principals([limited]).unwrap();
        assert_eq!(bed.get("app", "/").await.body, "ok");
        assert_eq!(accepted.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn what_cannot_be_used_is_said_by_the_builders() {
    let error = Server::builder().build().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(text.contains("token") && text.contains("principals"), "{text}");
    let error = Server::builder().principals([PrincipalConfig::new("web")]).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("principal \"web\": "), "{error}");

    let web = User::new("web");
    let last = if web.token.ends_with('7') { "8" } else { "7" };
    let typo = format!("{}{last}", &web.token[..web.token.len() - 1]);
    let client = Client::builder().server_addr("localhost:1").token(&*typo).local_addr("1");
    let server = Server::builder().token(&*typo);
    for error in [client.build().unwrap_err(), server.build().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(
            text.starts_with("the token has a typing error: ") && !text.contains(&typo),
            "{text}"
        );
    }
    assert!(Server::builder().token(web.token).build().is_ok());
}

#[test]
fn visitors_are_served_while_principals_are_replaced_again_and_again() {
    over_both(async |carrier| {
        let (web, shop) = (User::new("web"), User::new("shop"));
        let bed = bed_of(carrier, &[&web, &shop]).await;
        let echo = LocalService::echo().await;
        let (_client, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        let mut visitor = visit(public).await;
        for round in 0..50 {
            let shop = (round % 2 == 0).then(|| shop.config.clone());
            bed.server.set_principals([web.config.clone()].into_iter().chain(shop)).unwrap();
            says_and_hears(&mut visitor).await;
            visit(public).await;
        }
        assert_eq!(bed.server.sessions(), 1);
    });
}

/// Promised within a second, which a test had better not count.
#[test]
fn nothing_of_a_revoked_session_is_reachable_when_the_call_returns() {
    run(async {
        let web = User::new("web");
        let bed = bed_of(Carrier::Tls, &[&web]).await;
        let echo = LocalService::echo().await;
        let (_client, public) = tcp(&bed, &web.token, echo.addr(), Streams::Multiplexed).await;
        let mut visitor = visit(public).await;
        bed.server.set_principals([]).unwrap();
        assert!(TcpStream::connect(public).await.is_err());
        soon("the visitor's end", visitor.read_u8()).await.unwrap_err();
        eventually("the stream to go", || bed.server.streams() == 0).await;
    });
}
