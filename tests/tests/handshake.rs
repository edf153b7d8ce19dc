//! Who may come in by the tunnel port: wrong tokens, strangers, and servers that are none.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::time::Duration;

use ferrotunnel::{Client, ClientEvent, ErrorKind, LimitsConfig, Retry, Tunnel};
use ferrotunnel_common::StreamId;
use ferrotunnel_protocol::frame::{
    Challenge, Frame, FrameType, GoAway, GoAwayCode, HEADER_LEN, Header, Welcome,
};
use ferrotunnel_tests::{
    Carrier, Link, LocalService, Site, Stranger, TOKEN, TestBed, client_of, over_both, run,
    run_logged, soon,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;

/// The limits with another handshake deadline.
fn deadline(deadline: Duration) -> LimitsConfig {
    let mut limits = LimitsConfig::default();
    limits.handshake_deadline = deadline;
    limits
}

/// The next event of a client that is lost.
async fn disconnected(events: &mut Receiver<ClientEvent>) -> String {
    loop {
        match soon("a lost connection", events.recv()).await.unwrap() {
            ClientEvent::Disconnected { reason, .. } => return reason,
            ClientEvent::Ended { reason } => unreachable!("the client ended: {reason:?}"),
            _ => {}
        }
    }
}

#[test]
fn wrong_token_is_final_other_errors_retry() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let link = Link::to(bed.server.tunnel_addr()).await;
        let wrong =
            bed.client_over(&link).token("wrong").tunnel(Tunnel::http("app").local_addr("1"));
        let wrong = wrong.build().unwrap();
        let mut events = wrong.events();
        let error = soon("the refusal", wrong.start()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("token") && !error.to_string().contains("wrong"));
        let ended = soon("the end", events.recv()).await.unwrap();
        assert!(matches!(ended, ClientEvent::Ended { reason: Some(_) }), "{ended:?}");
        let error = soon("the end", wrong.wait()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert_eq!((link.accepted(), bed.server.sessions()), (1, 0));

        // Nobody listens; a name that does not exist; somebody who is no server: all may pass.
        let no_server = LocalService::each(|mut socket| async move {
            let _ = socket.write_all(b"220 mail.example ESMTP\r\n").await;
        })
        .await;
        for server in [
            LocalService::nobody().await.to_string(),
            "no-such-host.invalid:7835".to_owned(),
            no_server.addr().to_string(),
        ] {
            let patient = bed.client().server_addr(&server).local_addr("1").build().unwrap();
            let mut events = patient.events();
            let starting = tokio::spawn(async move { patient.start().await });
            disconnected(&mut events).await;
            disconnected(&mut events).await;
            assert!(!starting.is_finished(), "{server}");
            starting.abort();
        }
    });
}

#[test]
fn a_client_that_may_not_retry_fails_at_once() {
    over_both(async |carrier| {
        let nobody = LocalService::nobody().await;
        for server in [nobody.to_string(), "no-such-host.invalid:7835".to_owned()] {
            let client = client_of(nobody, carrier).server_addr(&server).retry(Retry::Never);
            let client = client.local_addr("1").build().unwrap();
            let error = soon("the failure", client.start()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreachable);
            assert!(error.is_retryable());
            assert!(error.to_string().contains(&server), "{error}");
        }
    });
}

#[test]
fn a_start_that_failed_may_succeed_later() {
    over_both(async |carrier| {
        let addr = LocalService::nobody().await;
        let client = client_of(addr, carrier).retry(Retry::Never).local_addr("1").build().unwrap();
        let error = client.start().await.unwrap_err();
        assert!(error.is_retryable());
        let server = TestBed::server(carrier).bind(addr).build().unwrap();
        let _server = server.spawn().await.unwrap();
        soon("the second start", client.start()).await.unwrap();
    });
}

#[test]
fn a_token_from_a_file_may_end_with_a_line_end() {
    over_both(async |carrier| {
        let bed = TestBed::with(carrier, |server| server.token(format!("{TOKEN}\n"))).await;
        for token in [TOKEN.to_owned(), format!("{TOKEN}\r\n"), format!(" {TOKEN} ")] {
            let client = bed.client().token(token).local_addr("1").build().unwrap();
            soon("a start", client.start()).await.unwrap();
        }
    });
}

#[test]
fn what_is_missing_or_wrong_is_named_before_anything_starts() {
    let server = "127.0.0.1:7835";
    let message = |client: ferrotunnel::ClientBuilder| {
        let error = client.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let client = Client::builder;
    assert!(message(client().token(TOKEN)).contains("server_addr"));
    assert!(message(client().server_addr(server)).contains("token"));
    assert!(message(client().server_addr(server).token(" \n")).contains("token"));
    assert!(message(client().server_addr(server).token("two words")).contains("token"));
    let complete = || client().server_addr(server).token(TOKEN);
    assert!(message(complete().server_addr("127.0.0.1")).contains("server_addr"));
    assert!(message(complete().local_addr("no port")).contains("no port"));
    assert!(message(complete().tunnel(Tunnel::http("app"))).contains("local_addr"));
    run(async {
        let error = complete().build().unwrap().start().await.unwrap_err();
        assert!(error.to_string().contains("local_addr"), "{error}");
    });
    let error = ferrotunnel::Server::builder().build().unwrap_err();
    assert!(error.to_string().contains("token"), "{error}");
    let error = ferrotunnel::Server::builder().token(TOKEN).bind("nowhere").build().unwrap_err();
    assert!(error.to_string().contains("bind") && error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn a_domain_that_is_no_host_name_is_refused() {
    let server = |domain: &str| TestBed::server(Carrier::Tls).domain(domain).build();
    let long = format!("{}example", "x.".repeat(100));
    for bad in ["a b/", "", ".", "*.example.com", "example.com:8080", "http://example.com", &long] {
        let error = server(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("domain"), "{error}");
    }
    for good in ["localhost", "Example.com", "tunnel.example.com."] {
        server(good).unwrap();
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_with_its_setting() {
    run(async {
        let cert = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let cases = [("missing.pem", "missing.key", "missing.pem"), (cert, "missing.key", cert)];
        for (cert, key, named) in cases {
            let server = TestBed::server(Carrier::Tls).tls_identity_files(cert, key);
            let error = server.build().unwrap().spawn().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::File);
            let text = error.to_string();
            assert!(text.contains("tls_identity_files") && text.contains("--tls-cert"), "{text}");
            assert!(text.contains(named), "{text}");
        }
    });
}

#[test]
fn a_carrier_that_breaks_is_told_in_words_for_people() {
    run(async {
        let hangs_up = LocalService::each(|mut socket| async move {
            let _ = socket.read_u8().await;
        })
        .await;
        let mail = LocalService::each(|mut socket| async move {
            let _ = socket.write_all(b"220 mail.example ESMTP\r\n").await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        })
        .await;
        for server in [hangs_up.addr(), mail.addr()] {
            let client = client_of(server, Carrier::Tls).retry(Retry::Never).local_addr("1");
            let error = soon("the failure", client.build().unwrap().start()).await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&server.to_string()), "{text}");
            for foreign in ["handshake eof", "corrupt", "InvalidContentType", "rustls"] {
                assert!(!text.contains(foreign), "{text}");
            }
        }
    });
}

#[test]
fn a_server_without_tls_says_that_its_client_speaks_it() {
    run_logged(async |log| {
        let bed = TestBed::start(Carrier::Plaintext).await;
        let client = client_of(bed.server.tunnel_addr(), Carrier::Tls).retry(Retry::Never);
        let client = client.local_addr("1").build().unwrap();
        soon("the failure", client.start()).await.unwrap_err();
        log.says("the client speaks TLS, and this server was started with --plaintext").await;
    });
}

#[test]
fn a_server_with_tls_says_that_a_stranger_does_not_speak_it() {
    run_logged(async |log| {
        let bed = TestBed::start(Carrier::Tls).await;
        let mut stranger = TcpStream::connect(bed.server.tunnel_addr()).await.unwrap();
        stranger.write_all(b"no TLS at all\r\n").await.unwrap();
        log.says("what came is not TLS").await;
        assert_eq!(log.count("InvalidContentType"), 0);
    });
}

#[test]
fn a_port_that_is_taken_is_named_with_its_setting() {
    run(async {
        let taken = LocalService::echo().await;
        let server = || TestBed::server(Carrier::Tls);
        for (server, setting) in
            [(server().bind(taken.addr()), "bind"), (server().http_bind(taken.addr()), "http_bind")]
        {
            let error = server.build().unwrap().spawn().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            let text = error.to_string();
            assert!(text.contains(&format!("({setting})")), "{text}");
            assert!(text.contains(&taken.addr().to_string()), "{text}");
        }
    });
}

#[test]
fn idle_tls_peer_does_not_block_accept() {
    over_both(async |carrier| {
        let bed = TestBed::start(carrier).await;
        let site = Site::start().await;
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(TcpStream::connect(bed.server.tunnel_addr()).await.unwrap());
        }
        // The first bytes of a ClientHello, and never the rest.
        for _ in 0..50 {
            let mut half = TcpStream::connect(bed.server.tunnel_addr()).await.unwrap();
            half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
            idle.push(half);
        }
        let client = soon("a client among idle peers", bed.http("app", site.addr())).await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        drop((client, idle));
    });
}

#[test]
fn oversized_hello_is_refused_before_auth() {
    over_both(async |carrier| {
        // A deadline that does not come: the header alone must be enough.
        let limits = deadline(Duration::from_secs(3_600));
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        for (kind, length) in [
            (FrameType::Hello, 65_535),
            (FrameType::Hello, 513),
            (FrameType::Ping, 600),
            (FrameType::Data, 1),
            (FrameType::Open, 0),
            (FrameType::Register, 100),
        ] {
            let mut stranger = Stranger::connect(bed.server.tunnel_addr(), carrier).await;
            let mut header = [0; HEADER_LEN];
            header.copy_from_slice(&stranger.hear(HEADER_LEN).await);
            let challenge = Header::decode(&header).unwrap();
            assert_eq!(challenge.kind, FrameType::Challenge);
            stranger.hear(challenge.length.into()).await;
            let stream = if matches!(kind, FrameType::Hello | FrameType::Ping) { 0 } else { 1 };
            stranger.say(&Header { kind, flags: 0, length, stream }.encode()).await;
            soon(&format!("the end after {kind:?} of {length}"), stranger.hear_out()).await;
        }
        assert_eq!(bed.server.sessions(), 0);
    });
}

#[test]
fn garbage_on_the_tunnel_port_is_closed_within_the_deadline() {
    over_both(async |carrier| {
        let limits = deadline(Duration::from_secs(2));
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let site = Site::start().await;
        let client_hello = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let recording = tokio::spawn(Stranger::connect(addr, Carrier::Tls));
            let mut hello = vec![0; 64];
            listener.accept().await.unwrap().0.read_exact(&mut hello).await.unwrap();
            recording.abort();
            hello
        };
        let garbage: [Vec<u8>; 7] = [
            Vec::new(),
            b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            client_hello,
            Site::pattern().slice(..100_000).to_vec(),
            vec![0; 10_000_000],
            vec![0xff; 9],
        ];
        let addr = bed.server.tunnel_addr();
        let strangers = garbage.iter().enumerate().map(|(number, garbage)| async move {
            // Before the TLS handshake, then, as far as there is one, behind it.
            let mut plain = Stranger::connect(addr, Carrier::Plaintext).await;
            plain.say(garbage).await;
            soon(&format!("the end of stranger {number}"), plain.hear_out()).await;
            let mut behind = Stranger::connect(addr, carrier).await;
            behind.say(garbage).await;
            soon(&format!("the end of stranger {number} behind TLS"), behind.hear_out()).await;
        });
        let honest = async {
            for round in 0..10 {
                let client = bed.http(&format!("app{round}"), site.addr()).await;
                assert_eq!(bed.get(&format!("app{round}"), "/hello").await.body, "hello");
                drop(client);
            }
        };
        tokio::join!(futures_util::future::join_all(strangers), honest);
    });
}

#[test]
fn a_handshake_that_drips_is_cut_off_by_the_deadline() {
    over_both(async |carrier| {
        let limits = deadline(Duration::from_secs(1));
        let bed = TestBed::with(carrier, |server| server.limits(limits)).await;
        let mut stranger = Stranger::connect(bed.server.tunnel_addr(), carrier).await;
        // The header of a Hello and then its payload, so slowly that it takes minutes.
        let header = Header { kind: FrameType::Hello, flags: 0, length: 500, stream: 0 };
        stranger.say(&header.encode()).await;
        let (mut listen, mut speak) = stranger.split();
        let dripping = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = speak.write_all(&[0]).await;
            }
        };
        let mut heard = Vec::new();
        tokio::select! {
            _ = soon("the end of the slow handshake", listen.read_to_end(&mut heard)) => {}
            () = dripping => {}
        }
    });
}

/// A server that says what it is told to, to one client.
async fn impostor(answer: Vec<u8>) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    impostor_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
}

async fn impostor_at(
    addr: SocketAddr,
    answer: Vec<u8>,
) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let challenge = Frame::Challenge(Challenge { min_version: 1, max_version: 1, nonce: [7; 32] });
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&challenge.encode()).await.unwrap();
        let mut header = [0; HEADER_LEN];
        socket.read_exact(&mut header).await.unwrap();
        let mut hello = vec![0; Header::decode(&header).unwrap().length.into()];
        socket.read_exact(&mut hello).await.unwrap();
        socket.write_all(&answer).await.unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
        [hello, rest].concat()
    });
    (addr, task)
}

fn unproven_welcome() -> Vec<u8> {
    let welcome = Frame::Welcome(Welcome {
        session_id: ferrotunnel::SessionId(1),
        proof: [9; 32],
        heartbeat_ms: 5_000,
        max_streams: 100,
        max_tunnels: 100,
        initial_window: 65_536,
        software: String::new(),
    });
    welcome.encode().to_vec()
}

fn go_away(code: GoAwayCode, reason: &str) -> Vec<u8> {
    let reason = reason.to_owned();
    Frame::GoAway(GoAway { last_stream: StreamId::SESSION, code, reason }).encode().to_vec()
}

#[test]
fn a_token_that_was_right_is_not_given_up_when_a_stranger_answers() {
    run(async {
        let bed = TestBed::alone(Carrier::Plaintext).await;
        let site = Site::start().await;
        let client = bed.http("app", site.addr()).await;
        let mut events = client.events();
        let (addr, http_addr) = (bed.server.tunnel_addr(), bed.http_addr());
        soon("the shutdown", bed.server.shutdown()).await.unwrap();
        for answer in [go_away(GoAwayCode::WrongToken, "no"), unproven_welcome()] {
            let (_, impostor) = impostor_at(addr, answer).await;
            let distrust = soon("the distrust", async {
                loop {
                    let reason = disconnected(&mut events).await;
                    if reason.contains("token") {
                        return reason;
                    }
                }
            });
            assert!(distrust.await.contains("before"));
            soon("the end of the impostor", impostor).await.unwrap();
        }
        let again =
            TestBed::with(Carrier::Plaintext, |server| server.bind(addr).http_bind(http_addr));
        let again = again.await;
        let back =
            async { while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelReady(_)) {} };
        soon("the tunnel", back).await;
        assert_eq!(again.get("app", "/hello").await.body, "hello");
    });
}

#[test]
fn a_server_that_cannot_prove_the_token_is_not_trusted() {
    run(async {
        let (addr, impostor) = impostor(unproven_welcome()).await;
        let client =
            client_of(addr, Carrier::Plaintext).tunnel(Tunnel::http("inside").local_addr("1"));
        let client = client.build().unwrap();
        let error = soon("the distrust", client.start()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(!error.is_retryable());
        let heard = soon("what the impostor heard", impostor).await.unwrap();
        let heard = String::from_utf8_lossy(&heard);
        assert!(!heard.contains(TOKEN) && !heard.contains("inside"), "{heard}");
    });
}

#[test]
fn a_server_that_says_go_away_is_asked_again() {
    run(async {
        let (addr, _impostor) = impostor(go_away(GoAwayCode::Refused, "not today")).await;
        let client = client_of(addr, Carrier::Plaintext).local_addr("1").build().unwrap();
        let mut events = client.events();
        let starting = tokio::spawn(async move { client.start().await });
        assert!(disconnected(&mut events).await.contains("not today"));
        starting.abort();
    });
}

#[test]
fn a_client_says_what_to_do_when_only_one_side_has_tls() {
    run(async {
        let nothing = Duration::from_secs(1);
        let bed =
            TestBed::with(Carrier::Plaintext, |server| server.limits(deadline(nothing))).await;
        let client = client_of(bed.server.tunnel_addr(), Carrier::Tls).retry(Retry::Never);
        let client = client.local_addr("1").build().unwrap();
        let error = soon("the failure", client.start()).await.unwrap_err().to_string();
        assert!(error.contains("--plaintext"), "{error}");

        let bed = TestBed::with(Carrier::Tls, |server| server.limits(deadline(nothing))).await;
        let client = client_of(bed.server.tunnel_addr(), Carrier::Plaintext).retry(Retry::Never);
        let client = client.local_addr("1").build().unwrap();
        let error = soon("the failure", client.start()).await.unwrap_err().to_string();
        assert!(error.contains("--plaintext"), "{error}");
    });
}
