//! Certificates from a real ACME server, by each way to prove a host. A test says so when it has to skip.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use ferrotunnel::{AcmeConfig, Client, ExternalAccount, ServerBuilder};
use ferrotunnel_tests::{
    Authority, Carrier, LocalService, SecureVisitor, Site, TestBed, eventually, get, run, soon,
};
use hyper::StatusCode;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Where a program is, if it is.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|at| at.exists());
    if found.is_none() {
        println!("skipped: {program} is not installed; tools/install.sh gets it");
    }
    found
}

/// Pebble, with a DNS in which every host is at one address.
struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    dns_management: SocketAddr,
    ca: Authority,
    folder: tempfile::TempDir,
    programs: [PathBuf; 2],
    /// It makes accounts for those only who have a key of it.
    only_for_customers: bool,
    running: Vec<Child>,
}

impl Pebble {
    /// Its addresses; it does not run yet, since it has to know the server's ports.
    async fn new() -> Option<Self> {
        let programs = [installed("pebble")?, installed("pebble-challtestsrv")?];
        let [address, management, dns_management] = [
            LocalService::nobody().await,
            LocalService::nobody().await,
            LocalService::nobody().await,
        ];
        let (ca, folder) = (Authority::new("ca of the ACME server"), tempfile::tempdir().unwrap());
        let running = Vec::new();
        let only_for_customers = false;
        Some(Self {
            address,
            management,
            dns_management,
            ca,
            folder,
            programs,
            only_for_customers,
            running,
        })
    }

    fn config(&self, state: &Path) -> AcmeConfig {
        let mut config = AcmeConfig::new(state);
        config.server = format!("https://{}/dir", self.address);
        config.server_ca = Some(self.ca.file());
        config.email = Some("operator@example.test".to_owned());
        config
    }

    /// Runs it. It looks for challenges at these ports of `server`, and issues certificates for so many seconds.
    async fn run(&mut self, server: &TestBed, ports: [u16; 2], seconds: u32) {
        let dns = LocalService::nobody().await;
        let (name, other) = (self.address.ip().to_string(), self.management.ip());
        let identity = self.ca.issue(&name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.subject_alt_names.push(SanType::IpAddress(other));
        });
        let config = format!(
            r#"{{ "pebble": {{ "listenAddress": "{}", "managementListenAddress": "{}", "certificate": "{}",
                "privateKey": "{}", "httpPort": {}, "tlsPort": {}, "ocspResponderURL": "",
                "externalAccountBindingRequired": {}, "externalAccountMACKeys": {{ "{}": "{}" }},
                "certificateValidityPeriod": {seconds} }} }}"#,
            self.address,
            self.management,
            identity.cert.display(),
            identity.key.display(),
            ports[0],
            ports[1],
            self.only_for_customers,
            EXTERNAL.0,
            EXTERNAL.1,
        );
        let path = self.folder.path().join("pebble.json");
        std::fs::write(&path, config).unwrap();
        let (dns, management) = (dns.to_string(), self.dns_management.to_string());
        let host = server.server.https_addr().unwrap().ip().to_string();
        let mut names = Command::new(&self.programs[1]);
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-dns01", &dns, "-management", &management, "-defaultIPv4", &host]);
        let mut pebble = Command::new(&self.programs[0]);
        pebble.arg("-config").arg(&path).args(["-dnsserver", &dns]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        for command in [&mut names, &mut pebble] {
            let command = command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
            self.running.push(command.stderr(Stdio::null()).spawn().unwrap());
        }
        for addr in [self.dns_management, self.address, self.management] {
            soon("the ACME server to listen", async {
                while TcpStream::connect(addr).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }

    /// A visitor that trusts what it issues.
    async fn visitor(&self, alpn: &[&str]) -> SecureVisitor {
        let asking = SecureVisitor::trusting(&self.ca.file(), &["http/1.1"]);
        let name = self.management.ip().to_string();
        let root = asking.get_for(self.management, &name, &name, "/roots/0").await;
        assert_eq!(root.status, StatusCode::OK);
        let path = self.folder.path().join("root.pem");
        std::fs::write(&path, root.body).unwrap();
        SecureVisitor::trusting(&path, alpn)
    }
}

/// What Pebble calls a customer's key, and the key.
const EXTERNAL: (&str, &str) =
    ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

const DOMAIN: &str = "tunnels.example.test";

/// A server with an address of its own, and HTTP on a port of it.
async fn bed(acme: AcmeConfig, change: fn(ServerBuilder) -> ServerBuilder) -> TestBed {
    let addr = SocketAddr::new(ferrotunnel_tests::own_ip(), 0);
    TestBed::with(Carrier::Tls, |server| {
        change(server.bind(addr).http_bind(addr).https_bind(addr).domain(DOMAIN).acme(acme))
    })
    .await
}

async fn tunnel(bed: &TestBed, name: &str, site: &Site) -> Client {
    bed.http(name, site.addr()).await
}

fn https(bed: &TestBed) -> SocketAddr {
    bed.server.https_addr().unwrap()
}

fn host(name: &str) -> String {
    format!("{name}.{DOMAIN}")
}

/// Where nothing is looked for.
const NOWHERE: u16 = 1;

#[test]
fn the_first_visitor_of_a_registered_host_finds_a_certificate_and_a_stranger_does_not() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let bed = bed(pebble.config(state.path()), |server| server).await;
        pebble.run(&bed, [NOWHERE, https(&bed).port()], 86_400).await;
        let visitor = pebble.visitor(&["h2"]).await;
        // Nobody has registered it: nothing is ordered, and there is nothing else to show.
        let refused = visitor.shown(https(&bed), &host("app")).await.unwrap_err();
        assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
        assert!(bed.server.certificate_expiries().is_empty());

        let _client = tunnel(&bed, "app", &site).await;
        // Many come at once: there is one order for all of them.
        let app = host("app");
        let shown = || visitor.shown(https(&bed), &app);
        let (one, two, three) =
            soon("certificates", async { tokio::join!(shown(), shown(), shown()) }).await;
        let one = one.unwrap();
        assert!(one == two.unwrap() && one == three.unwrap());
        assert_eq!(visitor.get(https(&bed), &app, "/hello").await.body, "hello");
        let [expiry] = &bed.server.certificate_expiries()[..] else { panic!("one certificate") };
        assert_eq!(expiry.names, [app.as_str()]);
        let seconds = expiry.not_after.duration_since(SystemTime::now()).unwrap().as_secs();
        assert!((80_000..=86_400).contains(&seconds), "{seconds}");
    });
}

#[test]
fn a_server_for_customers_only_is_shown_the_key_that_it_gave() {
    for (key, is_right) in [(EXTERNAL.1, true), ("bm90IHRoZSBrZXkgdGhhdCBpdCBnYXZl", false)] {
        run(async {
            let Some(mut pebble) = Pebble::new().await else { return };
            pebble.only_for_customers = true;
            let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
            let key_file = state.path().join("eab.key");
            std::fs::write(&key_file, format!("{key}\n")).unwrap();
            let mut config = pebble.config(&state.path().join("acme"));
            config.external = Some(ExternalAccount { key_id: EXTERNAL.0.to_owned(), key_file });
            let bed = bed(config, |server| server).await;
            pebble.run(&bed, [NOWHERE, https(&bed).port()], 86_400).await;
            let _client = tunnel(&bed, "app", &site).await;
            let visitor = pebble.visitor(&["h2"]).await;
            let shown = soon("an answer", visitor.shown(https(&bed), &host("app"))).await;
            assert_eq!(shown.is_ok(), is_right, "{shown:?}");
        });
    }
}

#[test]
fn over_http_a_host_is_proven_too_and_a_tenants_paths_stay_its_own() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let bed = bed(pebble.config(state.path()), |server| server.redirect_to_https()).await;
        pebble.run(&bed, [bed.http_addr().port(), NOWHERE], 86_400).await;
        let _client = tunnel(&bed, "app", &site).await;
        let visitor = pebble.visitor(&["http/1.1"]).await;
        let path = "/.well-known/acme-challenge/somebody-elses";
        let answer = soon("a certificate", visitor.get(https(&bed), &host("app"), path)).await;
        assert_eq!(answer.body, format!("GET {path}"));
    });
}

#[test]
fn what_was_issued_is_used_again_after_a_restart_and_nobody_else_may_read_it() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let first = bed(pebble.config(state.path()), |server| server).await;
        pebble.run(&first, [NOWHERE, https(&first).port()], 86_400).await;
        let visitor = pebble.visitor(&["h2"]).await;
        let client = tunnel(&first, "app", &site).await;
        let shown =
            soon("a certificate", visitor.shown(https(&first), &host("app"))).await.unwrap();
        let mut seen = 0;
        let mut folders = vec![state.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                if path.is_dir() {
                    assert_eq!(mode, 0o700, "{path:?}");
                    folders.push(path);
                } else {
                    assert_eq!(mode, 0o600, "{path:?}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 2);
        client.shutdown().await.unwrap();
        first.server.shutdown().await.unwrap();

        // There is nobody to ask any more.
        let config = pebble.config(state.path());
        pebble.running.clear();
        let second = bed(config, |server| server).await;
        let _client = tunnel(&second, "app", &site).await;
        assert_eq!(visitor.shown(https(&second), &host("app")).await.unwrap(), shown);
    });
}

#[test]
fn a_certificate_is_renewed_before_its_end() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let bed = bed(pebble.config(state.path()), |server| server).await;
        pebble.run(&bed, [NOWHERE, https(&bed).port()], 20).await;
        let visitor = pebble.visitor(&["h2"]).await;
        let _client = tunnel(&bed, "app", &site).await;
        let first = soon("a certificate", visitor.shown(https(&bed), &host("app"))).await.unwrap();
        let end = || bed.server.certificate_expiries()[0].not_after;
        let ends = end();
        eventually("the next certificate", || end() > ends).await;
        assert!(SystemTime::now() < ends, "visitors saw one that had ended");
        let second = visitor.shown(https(&bed), &host("app")).await.unwrap();
        assert!(first != second);
    });
}

/// What a server says of renewals that Pebble, as far as it is an old one, does not: it stands before Pebble, and passes the rest on.
struct Suggesting {
    door: LocalService,
    /// The certificates that it was asked about.
    asked: Arc<Mutex<Vec<String>>>,
    /// It thinks about its answers until it is told to go on.
    go: watch::Sender<bool>,
}

impl Suggesting {
    /// The first certificate that it hears of should have been renewed long ago, and each other one has time.
    async fn before(pebble: &Pebble) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (told, at) = (Arc::clone(&asked), pebble.address);
        let (go, goes) = watch::channel(false);
        let to_pebble = SecureVisitor::trusting(&pebble.ca.file(), &["http/1.1"]);
        let answer = move |request: Request| {
            let (told, to_pebble) = (Arc::clone(&told), to_pebble.clone());
            let mut goes = goes.clone();
            async move {
                let path = request.uri().path().to_owned();
                if let Some(id) = path.strip_prefix("/ari/") {
                    goes.wait_for(|goes| *goes).await.unwrap();
                    let mut told = told.lock();
                    if !told.iter().any(|one| one == id) {
                        told.push(id.to_owned());
                    }
                    let year = if told.first().is_some_and(|one| one == id) { 2020 } else { 2999 };
                    let day = |day| format!("{year}-01-0{day}T00:00:00Z");
                    let window = json!({"suggestedWindow": {"start": day(2), "end": day(3)}});
                    return ([("retry-after", "3600")], window.to_string()).into_response();
                }
                let host = request.headers()["host"].to_str().unwrap().to_owned();
                let io = to_pebble.connect(at, &at.ip().to_string()).await.unwrap();
                let made = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
                let (mut sender, connection) = made.unwrap();
                tokio::spawn(connection);
                // With its `Host`, by which Pebble makes its URLs.
                let answer = sender.send_request(request).await.unwrap();
                let (mut head, body) = answer.into_parts();
                let body = Body::new(body);
                if path != "/dir" {
                    return Response::from_parts(head, body);
                }
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let mut directory: Value = serde_json::from_slice(&body).unwrap();
                directory["renewalInfo"] = format!("https://{host}/ari").into();
                head.headers.remove("content-length");
                Response::from_parts(head, Body::from(directory.to_string()))
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let identity = pebble.ca.server("127.0.0.1");
        let door = LocalService::behind_tls(plain, &identity, "http/1.1").await;
        Self { door, asked, go }
    }
}

#[test]
fn a_certificate_is_renewed_when_its_server_would_like_it() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let suggesting = Suggesting::before(&pebble).await;
        let mut config = pebble.config(state.path());
        config.server = format!("https://{}/dir", suggesting.door.addr());
        let bed = bed(config, |server| server).await;
        // By itself it would be renewed after half an hour.
        pebble.run(&bed, [NOWHERE, https(&bed).port()], 3_000).await;
        let visitor = pebble.visitor(&["h2"]).await;
        let _client = tunnel(&bed, "app", &site).await;
        let first = soon("a certificate", visitor.shown(https(&bed), &host("app"))).await.unwrap();
        suggesting.go.send_replace(true);
        // About the next one it asks, too, and that one has time.
        eventually("the next certificate", || suggesting.asked.lock().len() == 2).await;
        let second = visitor.shown(https(&bed), &host("app")).await.unwrap();
        assert!(first != second);
        let id = suggesting.asked.lock()[0].clone();
        let (issuer, serial) = id.split_once('.').unwrap();
        assert!(!issuer.is_empty() && !serial.is_empty(), "{id}");
    });
}

#[test]
fn a_program_that_writes_to_the_dns_gets_one_certificate_for_all_names_of_the_domain() {
    run(async {
        let (Some(mut pebble), Some(curl)) = (Pebble::new().await, installed("curl")) else {
            return;
        };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let hook = state.path().join("hook");
        let seen = state.path().join("seen");
        let script = format!(
            r#"#!/bin/sh -e
echo "$1 $2" >> {seen}
case $1 in
add) deed=set-txt ;;
remove) deed=clear-txt ;;
esac
{curl} -sf -d "{{\"host\":\"$2.\",\"value\":\"$3\"}}" http://{management}/$deed
"#,
            seen = seen.display(),
            curl = curl.display(),
            management = pebble.dns_management
        );
        std::fs::write(&hook, script).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).unwrap();
        // It runs before the order at the start.
        let mut config = pebble.config(&state.path().join("acme"));
        config.dns_hook = Some(hook);
        let waiting = LocalService::nobody().await;
        let placeholder = TestBed::with(Carrier::Tls, |server| {
            let ca = pebble.ca.server("x.test");
            server.https_bind(waiting).https_identity_files(&ca.cert, &ca.key)
        });
        let placeholder = placeholder.await;
        pebble.run(&placeholder, [NOWHERE, NOWHERE], 86_400).await;
        let bed = bed(config, |server| server).await;
        eventually("the certificate", || !bed.server.certificate_expiries().is_empty()).await;
        assert_eq!(bed.server.certificate_expiries()[0].names, [format!("*.{DOMAIN}")]);
        let visitor = pebble.visitor(&["h2"]).await;
        for name in ["one", "two"] {
            let _client = tunnel(&bed, name, &site).await;
            assert_eq!(visitor.get(https(&bed), &host(name), "/hello").await.body, "hello");
        }
        eventually("the record to be taken back", || {
            std::fs::read_to_string(&seen).unwrap().lines().count() == 2
        })
        .await;
        let record = format!("_acme-challenge.{DOMAIN}");
        let deeds = std::fs::read_to_string(&seen).unwrap();
        assert_eq!(deeds, format!("add {record}\nremove {record}\n"));
    });
}

#[test]
fn while_there_is_no_certificate_others_are_served_and_the_server_is_not_asked_again_and_again() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let bed = bed(pebble.config(state.path()), |server| server).await;
        // It looks where nobody is.
        pebble.run(&bed, [NOWHERE, NOWHERE], 86_400).await;
        let _client = tunnel(&bed, "app", &site).await;
        let visitor = pebble.visitor(&["h2"]).await;
        let refused = soon("an alert", visitor.shown(https(&bed), &host("app"))).await.unwrap_err();
        assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
        // The second one is told at once, though the ACME server is gone.
        pebble.running.clear();
        let refused = soon("an alert", visitor.shown(https(&bed), &host("app"))).await.unwrap_err();
        assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
        let plain = get(bed.http_addr(), &host("app"), "/hello").await;
        assert_eq!(plain.body, "hello");
    });
}

#[test]
fn an_account_that_the_server_has_forgotten_makes_way_for_another_one() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let first = bed(pebble.config(state.path()), |server| server).await;
        pebble.run(&first, [NOWHERE, https(&first).port()], 86_400).await;
        let visitor = pebble.visitor(&["h2"]).await;
        let _client = tunnel(&first, "app", &site).await;
        soon("a certificate", visitor.shown(https(&first), &host("app"))).await.unwrap();
        let account = find(state.path(), "account.json");
        let before = std::fs::read(&account).unwrap();
        // Pebble keeps everything in memory: this one knows nobody.
        for mut child in pebble.running.drain(..) {
            child.kill().await.unwrap();
        }
        pebble.run(&first, [NOWHERE, https(&first).port()], 86_400).await;
        let visitor = pebble.visitor(&["h2"]).await;
        let _other = tunnel(&first, "other", &site).await;
        let refused = soon("an alert", visitor.shown(https(&first), &host("other"))).await;
        assert!(refused.unwrap_err().to_string().contains("UnrecognisedName"));
        assert!(!account.exists());
        let _third = tunnel(&first, "third", &site).await;
        soon("a certificate", visitor.shown(https(&first), &host("third"))).await.unwrap();
        assert!(std::fs::read(&account).unwrap() != before);
    });
}

#[test]
fn what_has_ended_and_nobody_wants_is_forgotten() {
    run(async {
        let Some(mut pebble) = Pebble::new().await else { return };
        let (state, site) = (tempfile::tempdir().unwrap(), Site::start().await);
        let bed = bed(pebble.config(state.path()), |server| server.visitor_grace(Duration::ZERO));
        let bed = bed.await;
        pebble.run(&bed, [NOWHERE, https(&bed).port()], 6).await;
        let visitor = pebble.visitor(&["h2"]).await;
        for name in ["gone", "here"] {
            let client = tunnel(&bed, name, &site).await;
            soon("a certificate", visitor.shown(https(&bed), &host(name))).await.unwrap();
            if name == "gone" {
                client.shutdown().await.unwrap();
            } else {
                // The one that is renewed has the other one looked at.
                eventually("the end of the other", || {
                    let expiries = bed.server.certificate_expiries();
                    expiries.iter().all(|expiry| expiry.names != [host("gone")])
                })
                .await;
                eventually("its file to go", || {
                    !find(state.path(), "certificates").join(host("gone") + ".pem").exists()
                })
                .await;
                assert!(find(state.path(), "certificates").join(host("here") + ".pem").exists());
            }
        }
    });
}

/// Somewhere below a folder.
fn find(folder: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.join(name)).find(|path| path.exists()).unwrap()
}
