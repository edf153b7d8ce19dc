//! What the command does when somebody sits before it: it is given a terminal, and what that shows is read.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]

mod support;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};
use std::sync::mpsc;

use bytes::Bytes;
use ferrotunnel_tests::{Site, TOKEN, collect, run, send};
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use support::files::Files;
use support::server::Server;
use support::{PATIENCE, Running, command};

/// The program at a terminal of its own; killed when dropped.
struct AtTerminal {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl AtTerminal {
    fn start(mut command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = File::from(rustix::fs::open(&*name, flags, Mode::empty()).unwrap());
        command.stdin(theirs.try_clone().unwrap()).stdout(theirs.try_clone().unwrap());
        let child = command.stderr(theirs).spawn().unwrap();
        // With it goes our share of their end, so that ours ends when the program does.
        drop(command);
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            // The end of a terminal that nobody holds any more is an error.
            let lines = BufReader::new(File::from(ours)).lines().map_while(Result::ok);
            for line in lines {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        Self { child, said }
    }

    /// The next line with these words in it.
    #[track_caller]
    fn says(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(why) => panic!("{words:?} was not said ({why}), but: {seen:?}"),
            }
        }
    }

    /// Where its admin interface listens, by what it says.
    #[track_caller]
    fn admin(&self) -> SocketAddr {
        let line = self.says("the admin interface listens on http://");
        line.rsplit_once("http://").unwrap().1.parse().unwrap()
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(server: &Server, local: SocketAddr) -> Command {
    let (local, server) = (local.to_string(), server.tunnel.to_string());
    command(&["http", &local, "--server", &server, "--token", TOKEN, "--name", "app"])
}

/// The same tunnel, among those of a settings file.
fn of_a_file(server: &Server, site: &Site, files: &Files) -> Command {
    let tunnel = format!("kind = \"http\"\nname = \"app\"\nlocal-addr = \"{}\"\n", site.addr());
    let file = files.write("client.toml", &format!("[[client.tunnels]]\n{tunnel}"));
    let server = server.tunnel.to_string();
    command(&["client", "--config", &file, "--server", &server, "--token", TOKEN])
}

async fn status(admin: SocketAddr) -> (StatusCode, String) {
    let request = Request::get("/api/v1/status").header("host", admin.to_string());
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = collect(send(admin, request).await.unwrap()).await;
    (answer.status, answer.body)
}

/// The port that people are told of, and those that are tried after it. Others on this machine may have some of them.
const FIRST: u16 = 4_040;

#[test]
fn at_a_terminal_a_client_has_an_admin_interface_and_says_where() {
    run(async {
        let (server, site) = (Server::start(), Site::start().await);
        let files = Files::new();
        for command in [http(&server, site.addr()), of_a_file(&server, &site, &files)] {
            let client = AtTerminal::start(command);
            let admin = client.admin();
            assert!(admin.ip().is_loopback() && admin.port() >= FIRST, "{admin}");
            client.says("http://app.localhost");
            let (code, body) = status(admin).await;
            assert_eq!(code, StatusCode::OK);
            let words = ["\"side\":\"client\"", "\"inspecting\":true"];
            assert!(words.iter().all(|words| body.contains(words)), "{body}");
        }
    });
}

#[test]
fn a_port_that_is_taken_makes_way_for_the_next_one() {
    run(async {
        let (server, site) = (Server::start(), Site::start().await);
        // Where it cannot be had somebody else has it, and may give it back meanwhile.
        let taken = TcpListener::bind(("127.0.0.1", FIRST)).ok();
        let one = AtTerminal::start(http(&server, site.addr()));
        let at_one = one.admin();
        one.says("http://app.localhost");
        let other = AtTerminal::start(http(&server, site.addr()));
        let at_other = other.admin();
        // Two at once cannot have the same one.
        assert_ne!(at_one, at_other);
        for at in [at_one, at_other] {
            assert!(at.port() >= FIRST && (taken.is_none() || at.port() > FIRST), "{at}");
        }
        assert_eq!(status(at_one).await.0, StatusCode::OK);
        assert_eq!(status(at_other).await.0, StatusCode::OK);
    });
}

#[test]
fn without_a_terminal_or_when_told_to_a_client_listens_nowhere() {
    run(async {
        let (server, site) = (Server::start(), Site::start().await);
        let piped = Running::spawn(http(&server, site.addr()));
        assert!(piped.line().starts_with("http://app.localhost"));
        // What it says first at a terminal it would have said by now.
        let connecting = piped.talk_with("");
        assert!(connecting.starts_with("connecting to "), "{connecting}");
        drop(piped);
        let mut told = http(&server, site.addr());
        told.args(["--admin-bind", "off"]);
        let told = AtTerminal::start(told);
        let first = told.says("");
        assert!(first.starts_with("connecting to "), "{first}");
        told.says("http://app.localhost");
    });
}
