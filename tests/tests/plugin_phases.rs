//! What plugins hear of sessions, registrations and streams, at a server and at a client.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ferrotunnel::plugin::http::Request;
use ferrotunnel::plugin::{
    PluginAction, RegistrationAnswer, RegistrationContext, RequestContext, Result, SessionContext,
    StreamContext, async_trait,
};
use ferrotunnel::{Client, ClientEvent, Plugin, Retry, Streams, Tunnel, TunnelKind};
use ferrotunnel_tests::{
    Carrier, LocalService, Site, TestBed, eventually, over_both, public_addr, run, says_and_hears,
    soon,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Writes down what it hears, and refuses names that say so.
#[derive(Clone, Default)]
struct Clerk {
    heard: Arc<Mutex<Vec<String>>>,
    refuses_sessions: bool,
}

impl Clerk {
    fn note(&self, what: String) {
        self.heard.lock().push(what);
    }

    fn has(&self, what: &str) -> bool {
        self.heard.lock().iter().any(|line| line == what)
    }

    async fn heard(&self, what: &str) {
        eventually(&format!("{what:?} in {:?}", self.heard), || self.has(what)).await;
    }
}

#[async_trait]
impl Plugin for Clerk {
    async fn on_session(&self, session: &SessionContext) -> Result<PluginAction> {
        let kind = if session.client.is_some() { "of a client" } else { "with a server" };
        self.note(format!("session {kind}"));
        let reason = "come on Monday".to_owned();
        Ok(match self.refuses_sessions {
            true => PluginAction::Reject { status: 403, reason },
            false => PluginAction::Continue,
        })
    }

    async fn on_registration(&self, wanted: &RegistrationContext) -> Result<PluginAction> {
        self.note(format!("asked for {}", wanted.name));
        Ok(match wanted.name.as_str() {
            "reserved" => PluginAction::Reject { status: 403, reason: "that one is kept".into() },
            "panic" => unreachable!("as asked"),
            _ => PluginAction::Continue,
        })
    }

    async fn on_registration_answered(
        &self,
        wanted: &RegistrationContext,
        answer: &RegistrationAnswer,
    ) -> Result<()> {
        self.note(match answer {
            RegistrationAnswer::Registered(_) => format!("has {}", wanted.name),
            RegistrationAnswer::Refused(reason) => format!("has no {}: {reason}", wanted.name),
            _ => "something new".to_owned(),
        });
        Ok(())
    }

    fn on_stream_opened(&self, stream: &StreamContext) {
        self.note(format!("opened {}", stream.tunnel.kind));
    }

    fn on_stream_closed(&self, stream: &StreamContext) {
        assert!(stream.visitor.is_some());
        self.note(format!("closed {}", stream.tunnel.kind));
    }
}

async fn ask_for(
    bed: &TestBed,
    name: &str,
    local: SocketAddr,
) -> std::result::Result<Client, String> {
    let tunnel = Tunnel::http(name).local_addr(local.to_string());
    let client = bed.client().tunnel(tunnel).retry(Retry::Never).build().unwrap();
    match soon("an answer", client.start()).await {
        Ok(_) => Ok(client),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn a_server_s_plugins_decide_about_registrations() {
    over_both(async |carrier| {
        let clerk = Clerk::default();
        let bed = TestBed::with(carrier, |server| server.plugin(clerk.clone())).await;
        let site = Site::start().await;
        let client = ask_for(&bed, "app", site.addr()).await.unwrap();
        clerk.heard("session of a client").await;
        clerk.heard("has app").await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");

        let refused = ask_for(&bed, "reserved", site.addr()).await.unwrap_err();
        assert!(refused.contains("that one is kept"), "{refused}");
        clerk.heard("has no reserved: that one is kept").await;
        let failed = ask_for(&bed, "panic", site.addr()).await.unwrap_err();
        assert!(failed.contains("its log says why"), "{failed}");

        // What is refused by the server itself is heard of, too.
        ask_for(&bed, "no.name", site.addr()).await.unwrap_err();
        eventually("the refusal", || {
            clerk.heard.lock().iter().any(|line| line.starts_with("has no no.name: "))
        })
        .await;
        assert_eq!(bed.get("app", "/hello").await.body, "hello");
        client.shutdown().await.unwrap();
        clerk.heard("closed http").await;
    });
}

#[test]
fn a_server_s_plugins_refuse_a_session_and_say_why() {
    over_both(async |carrier| {
        let clerk = Clerk { refuses_sessions: true, ..Clerk::default() };
        let bed = TestBed::with(carrier, |server| server.plugin(clerk.clone())).await;
        let site = Site::start().await;
        let refused = ask_for(&bed, "app", site.addr()).await.unwrap_err();
        assert!(refused.contains("come on Monday"), "{refused}");
        eventually("no session", || bed.server.sessions() == 0).await;
        assert!(!clerk.has("asked for app"));
    });
}

#[test]
fn streams_are_seen_at_both_ends_from_their_beginning_to_their_end() {
    over_both(async |carrier| {
        for streams in [Streams::Multiplexed, Streams::Direct] {
            let (there, here) = (Clerk::default(), Clerk::default());
            let bed = TestBed::with(carrier, |server| server.plugin(there.clone())).await;
            let echo = LocalService::echo().await;
            let tunnel = Tunnel::tcp().local_addr(echo.addr().to_string()).streams(streams);
            let client = bed.client().tunnel(tunnel).plugin(here.clone()).build().unwrap();
            let info = client.start().await.unwrap();
            assert_eq!(info.kind, TunnelKind::Tcp);
            here.heard("session with a server").await;
            here.heard(&format!("has {}", info.name)).await;
            if streams == Streams::Direct {
                eventually("a direct carrier", || bed.server.direct().waiting > 0).await;
            }
            let mut visitor = TcpStream::connect(public_addr(&info.public_url)).await.unwrap();
            says_and_hears(&mut visitor).await;
            for clerk in [&there, &here] {
                assert!(clerk.has("opened tcp") && !clerk.has("closed tcp"), "{:?}", clerk.heard);
            }
            drop(visitor);
            there.heard("closed tcp").await;
            here.heard("closed tcp").await;
        }
    });
}

#[test]
fn a_client_s_plugins_hear_of_tunnels_that_are_lost() {
    run(async {
        let bed = TestBed::start(Carrier::Tls).await;
        let site = Site::start().await;
        let clerk = Clerk::default();
        let tunnel = || Tunnel::http("app").local_addr(site.addr().to_string());
        let first = bed.client().tunnel(tunnel()).plugin(clerk.clone()).build().unwrap();
        let mut events = first.events();
        first.start().await.unwrap();
        clerk.heard("has app").await;
        let second = bed.client().tunnel(tunnel()).build().unwrap();
        second.start().await.unwrap();
        let lost = async {
            while !matches!(events.recv().await.unwrap(), ClientEvent::TunnelLost { .. }) {}
        };
        soon("the loss", lost).await;
        eventually("the loss to be told", || {
            clerk.heard.lock().iter().any(|line| line.starts_with("has no app: "))
        })
        .await;
    });
}

/// Takes its time.
#[derive(Clone, Default)]
struct Slow(Arc<Gate>);

#[derive(Default)]
struct Gate {
    asked: AtomicUsize,
    open: Notify,
}

#[async_trait]
impl Plugin for Slow {
    async fn on_registration(&self, wanted: &RegistrationContext) -> Result<PluginAction> {
        if wanted.name == "slow" {
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            self.0.open.notified().await;
        }
        Ok(PluginAction::Continue)
    }

    async fn on_request(
        &self,
        request: &mut Request<()>,
        _: &RequestContext,
    ) -> Result<PluginAction> {
        if request.uri().path() == "/slow" {
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            self.0.open.notified().await;
        }
        Ok(PluginAction::Continue)
    }
}

impl Slow {
    async fn is_asked(&self) {
        eventually("the plugin to be asked", || self.0.asked.load(Ordering::Relaxed) > 0).await;
    }
}

#[test]
fn what_a_client_takes_back_while_a_plugin_decides_does_not_stay() {
    over_both(async |carrier| {
        let slow = Slow::default();
        let bed = TestBed::with(carrier, |server| server.plugin(slow.clone())).await;
        let client = bed.client().build().unwrap();
        {
            let mut listening = pin!(client.listen(Tunnel::http("slow")));
            tokio::select! {
                _ = &mut listening => unreachable!("nobody has decided"),
                () = slow.is_asked() => {}
            }
        }
        let mut other = pin!(client.listen(Tunnel::http("other")));
        // What is asked for later waits, and so comes behind what was taken back.
        tokio::select! {
            biased;
            _ = &mut other => unreachable!("it overtook the first"),
            () = tokio::task::yield_now() => {}
        }
        slow.0.open.notify_one();
        let other = soon("the other tunnel", other).await.unwrap();
        assert_eq!(bed.server.tunnels(), 1);
        drop(other);
    });
}

#[test]
fn a_slow_plugin_holds_up_its_own_request_only() {
    over_both(async |carrier| {
        let slow = Slow::default();
        let bed = TestBed::with(carrier, |server| server.plugin(slow.clone())).await;
        let site = Site::start().await;
        let _client = bed.http("app", site.addr()).await;
        let mut held = pin!(bed.get("app", "/slow"));
        tokio::select! {
            _ = &mut held => unreachable!("nobody has decided"),
            () = slow.is_asked() => {}
        }
        assert_eq!(soon("another answer", bed.get("app", "/hello")).await.body, "hello");
        slow.0.open.notify_one();
        assert_eq!(soon("the held answer", held).await.status, 200);
    });
}

#[test]
fn a_plugin_that_does_not_decide_holds_up_no_shutdown() {
    run(async {
        let slow = Slow::default();
        let server = TestBed::server(Carrier::Tls).plugin(slow.clone());
        let server = server.drain_grace(Duration::from_millis(100)).build().unwrap();
        let server = server.spawn().await.unwrap();
        let http = server.http_addr().unwrap();
        let asking = tokio::spawn(async move {
            let mut visitor = TcpStream::connect(http).await.unwrap();
            visitor.write_all(b"GET /slow HTTP/1.1\r\nhost: app.localhost\r\n\r\n").await.unwrap();
            let _ = visitor.read_to_end(&mut Vec::new()).await;
        });
        slow.is_asked().await;
        soon("the end of the server", server.shutdown()).await.unwrap();
        soon("the end of the connection", asking).await.unwrap();
    });
}

#[test]
fn a_client_that_a_plugin_refuses_comes_back_more_and_more_slowly() {
    run(async {
        let clerk = Clerk { refuses_sessions: true, ..Clerk::default() };
        let bed = TestBed::with(Carrier::Tls, |server| server.plugin(clerk)).await;
        let tunnel = Tunnel::http("app").local_addr("1");
        let client = bed.client().tunnel(tunnel).build().unwrap();
        let mut events = client.events();
        let starting = client.start();
        let pauses = async {
            let mut longest = Duration::ZERO;
            while longest < Duration::from_millis(300) {
                if let ClientEvent::Disconnected { retry_in, reason, .. } =
                    events.recv().await.unwrap()
                {
                    assert!(reason.contains("come on Monday"), "{reason}");
                    longest = longest.max(retry_in);
                }
            }
        };
        tokio::select! {
            started = starting => unreachable!("{started:?}"),
            () = soon("longer pauses", pauses) => {}
        }
    });
}
