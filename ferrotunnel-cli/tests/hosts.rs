//! The built program on two hosts: a cable that is pulled, an address that changes, a peer that is switched off and
//! on. The hosts are network namespaces with a cable between them, which takes root; without it these tests say that
//! they were skipped.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ferrotunnel_tests::TOKEN;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use support::server::{Server, host};
use support::{PATIENCE, Running};

/// One end of the cable.
#[derive(Clone, Copy, Debug)]
enum Side {
    Server,
    Client,
}

/// Two hosts, and a cable between them.
struct Hosts {
    /// This process and this test in it.
    id: String,
}

impl Hosts {
    /// `None`: this process may not make them, which is said where nobody overlooks it.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        bury_left_over();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hosts = Self { id: format!("{}{}-{number}", PREFIX, std::process::id()) };
        if let Err(why) = hosts.boot(Side::Server).and_then(|()| hosts.boot(Side::Client)) {
            // Past the harness, which keeps what a test that passes has printed.
            let _ = writeln!(io::stderr(), "SKIPPED: network namespaces take root: {why}");
            return None;
        }
        hosts.lay_cable();
        Some(hosts)
    }

    fn name(&self, side: Side) -> String {
        format!("{}-{}", self.id, if let Side::Server = side { "s" } else { "c" })
    }

    fn boot(&self, side: Side) -> Result<(), String> {
        let name = self.name(side);
        try_ip(&["netns", "add", &name])?;
        try_ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    /// Both ends have the same name, which each host has to itself.
    fn lay_cable(&self) {
        let (server, client) = (self.name(Side::Server), self.name(Side::Client));
        ip(&[
            "-n", &server, "link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns",
            &client,
        ]);
        self.set_address(Side::Server, SERVER);
        self.set_address(Side::Client, CLIENT);
        self.plug(Side::Server);
        self.plug(Side::Client);
    }

    fn set_address(&self, side: Side, addr: Ipv4Addr) {
        let name = self.name(side);
        ip(&["-n", &name, "addr", "flush", "dev", CABLE]);
        ip(&["-n", &name, "addr", "add", &format!("{addr}/24"), "dev", CABLE]);
    }

    fn plug(&self, side: Side) {
        ip(&["-n", &self.name(side), "link", "set", CABLE, "up"]);
    }

    fn pull(&self, side: Side) {
        ip(&["-n", &self.name(side), "link", "set", CABLE, "down"]);
    }

    /// Without a word to anybody: to be called when nothing runs there any more and its cable is pulled.
    fn reboot(&self, side: Side) {
        // Its end may be held by a socket for a moment; the cable is gone with this one.
        ip(&["-n", &self.name(side), "link", "del", CABLE]);
        ip(&["netns", "del", &self.name(side)]);
        self.boot(side).unwrap();
        self.lay_cable();
    }

    /// A program of a host.
    fn command(&self, side: Side, args: &[&str]) -> Command {
        let program = support::command(args);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(side)]);
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    fn server(&self) -> Server {
        let args = Server::args("10.77.0.1:7835", "10.77.0.1:8080");
        Server::spawn(self.command(Side::Server, &args))
    }

    /// A client with an HTTP tunnel, ready for visitors.
    fn client(&self, local: SocketAddr) -> Running {
        let local = local.to_string();
        let args =
            ["http", &local, "--server", "10.77.0.1:7835", "--token", TOKEN, "--name", "app"];
        let client = Running::spawn(self.command(Side::Client, &args));
        assert!(client.line().starts_with("http://app."));
        client
    }

    /// Runs something on a thread that belongs to a host.
    fn on<T: Send + 'static>(
        &self,
        side: Side,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = File::open(format!("/var/run/netns/{}", self.name(side))).unwrap();
        std::thread::spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            drop(namespace);
            what()
        })
    }

    /// What a visitor is answered who waits no longer than that.
    fn visit(&self, limit: Duration) -> io::Result<String> {
        self.on(Side::Server, move || {
            let server = SocketAddr::new(IpAddr::V4(SERVER), 8080);
            let mut visitor = TcpStream::connect_timeout(&server, limit)?;
            visitor.set_read_timeout(Some(limit))?;
            let host = host("app");
            write!(visitor, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            visitor.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .join()
        .unwrap()
    }

    fn is_served(&self, limit: Duration) -> bool {
        self.visit(limit).is_ok_and(|answer| answer.ends_with("hello"))
    }

    /// Visitors come until one is served.
    #[track_caller]
    fn until_served(&self) {
        let began = Instant::now();
        while !self.is_served(Duration::from_secs(2)) {
            assert!(began.elapsed() < PATIENCE, "no visitor is served: {:?}", self.visit(PATIENCE));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for side in [Side::Server, Side::Client] {
            let _ = try_ip(&["netns", "del", &self.name(side)]);
        }
    }
}

/// Hosts of processes that were killed before they could take them down.
fn bury_left_over() {
    let Ok(names) = std::fs::read_dir("/var/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| !std::path::Path::new("/proc").join(id).exists()) {
            let _ = try_ip(&["netns", "del", &name]);
        }
    }
}

fn try_ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {said}", args.join(" "))) }
}

#[track_caller]
fn ip(args: &[&str]) {
    try_ip(args).unwrap_or_else(|why| panic!("{why}"));
}

const PREFIX: &str = "ferrotunnel-test-";
const CABLE: &str = "cable";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CLIENT_ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// A local service of the client's host: it says hello.
struct Service {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    /// Leads to it from where it is.
    nudge: Option<JoinHandle<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Service {
    fn start(hosts: &Hosts) -> Self {
        let listener = hosts.on(Side::Client, || TcpListener::bind("127.0.0.1:0").unwrap());
        let listener = listener.join().unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let nudge = hosts.on(Side::Client, move || {
            std::thread::park();
            drop(TcpStream::connect(addr));
        });
        let told = Arc::clone(&stop);
        let serving = std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                drop(greet(guest));
            }
        });
        Self { addr, stop, nudge: Some(nudge), serving: Some(serving) }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let nudge = self.nudge.take().unwrap();
        nudge.thread().unpark();
        let _ = nudge.join();
        let _ = self.serving.take().unwrap().join();
    }
}

fn greet(mut guest: TcpStream) -> io::Result<()> {
    guest.set_read_timeout(Some(PATIENCE))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        guest.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    guest.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
}

#[test]
fn a_cable_that_is_pulled_and_plugged_in_again_ends_nothing_for_long() {
    let Some(hosts) = Hosts::new() else { return };
    let service = Service::start(&hosts);
    let _server = hosts.server();
    let client = hosts.client(service.addr);
    hosts.until_served();
    // So short that nobody but a visitor has noticed.
    hosts.pull(Side::Client);
    assert!(!hosts.is_served(Duration::from_millis(300)), "there is no cable");
    hosts.plug(Side::Client);
    hosts.until_served();
    // So long that the session is lost.
    hosts.pull(Side::Server);
    client.talk_with("trying again");
    assert!(!hosts.is_served(Duration::from_millis(300)), "there is no cable");
    hosts.plug(Side::Server);
    client.talk_with("connected again");
    hosts.until_served();
}

#[test]
fn a_client_whose_address_changes_comes_back_from_the_new_one() {
    let Some(hosts) = Hosts::new() else { return };
    let service = Service::start(&hosts);
    let server = hosts.server();
    let client = hosts.client(service.addr);
    hosts.until_served();
    hosts.set_address(Side::Client, CLIENT_ELSEWHERE);
    client.talk_with("connected again");
    server.process.talk_with(&CLIENT_ELSEWHERE.to_string());
    hosts.until_served();
}

#[test]
fn a_server_that_is_switched_off_and_on_has_its_client_back() {
    let Some(hosts) = Hosts::new() else { return };
    let service = Service::start(&hosts);
    let mut server = hosts.server();
    let client = hosts.client(service.addr);
    hosts.until_served();
    hosts.pull(Side::Server);
    server.process.signal("KILL");
    server.process.ended();
    hosts.reboot(Side::Server);
    server = hosts.server();
    client.talk_with("connected again");
    hosts.until_served();
    drop(server);
}

#[test]
fn a_client_that_is_switched_off_and_on_has_its_name_at_once() {
    let Some(hosts) = Hosts::new() else { return };
    let service = Service::start(&hosts);
    let server = hosts.server();
    let mut client = hosts.client(service.addr);
    hosts.until_served();
    hosts.pull(Side::Client);
    client.signal("KILL");
    client.ended();
    drop(service);
    hosts.reboot(Side::Client);
    let service = Service::start(&hosts);
    let _client = hosts.client(service.addr);
    // The server has heard nothing of the end of the first.
    hosts.until_served();
    drop(server);
}
