//! Database clients and servers as they are installed, through TCP tunnels. A test says so when it has to skip.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise, in its helpers too")]
#![allow(clippy::print_stdout, reason = "a test that is skipped, or measures, says so")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use ferrotunnel_tests::{LocalService, TestBed, over_both, soon};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// Where a program is, if it is.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|at| at.exists());
    if found.is_none() {
        println!("skipped: {program} is not installed");
    }
    found
}

/// A database that runs until it is dropped, once it has said that it takes queries.
async fn running(command: &mut Command) -> Child {
    let (heard, said) = std::io::pipe().unwrap();
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
    let child = command.spawn().unwrap();
    let heard = pipe::Receiver::from_owned_fd(heard.into()).unwrap();
    let mut lines = BufReader::new(heard).lines();
    soon("the database to be ready", async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.to_lowercase().contains("ready to accept connections") {
                return;
            }
        }
    })
    .await;
    // What else it says is read too, so that it never waits for us.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

async fn output(what: &str, command: &mut Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    soon(what, command.output()).await.unwrap()
}

#[test]
fn redis_answers_through_a_tunnel() {
    let (Some(server), Some(cli)) = (installed("redis-server"), installed("redis-cli")) else {
        return;
    };
    over_both(async |carrier| {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalService::nobody().await;
        let (ip, port) = (local.ip().to_string(), local.port().to_string());
        let mut redis = Command::new(&server);
        redis.args(["--port", &port, "--bind", &ip, "--save", "", "--dir"]).arg(dir.path());
        let _redis = running(&mut redis).await;

        let bed = TestBed::start(carrier).await;
        let (_client, public) = bed.tcp(local).await;
        let port = public.port().to_string();
        let redis_cli = async |args: &[&str]| {
            let mut command = Command::new(&cli);
            command.args(["-h", "127.0.0.1", "-p", &port]).args(args);
            let output = output("redis-cli", &mut command).await;
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(redis_cli(&["ping"]).await, "PONG\n");
        let large = "x".repeat(100_000);
        assert_eq!(redis_cli(&["set", "key", &large]).await, "OK\n");
        assert_eq!(redis_cli(&["get", "key"]).await, format!("{large}\n"));
        // 2,000 commands, ten times on one connection.
        assert_eq!(redis_cli(&["-r", "2000", "incr", "counter"]).await.lines().count(), 2_000);
        assert_eq!(redis_cli(&["get", "counter"]).await, "2000\n");
    });
}

#[test]
fn postgres_answers_through_a_tunnel() {
    let (Some(postgres), Some(psql)) = (installed("postgres"), installed("psql")) else {
        return;
    };
    // Links lead to the directory where the programs are that have no link.
    let programs = postgres.canonicalize().unwrap().parent().map(Path::to_path_buf).unwrap();
    let Some(user) = Unprivileged::find() else {
        println!("skipped: PostgreSQL does not run as root, and there is no other user");
        return;
    };
    over_both(async |carrier| {
        let dir = tempfile::tempdir().unwrap();
        user.give(dir.path()).await;
        let data = dir.path().join("data");
        let mut init = user.command(&programs.join("initdb"));
        // What it says is looked at, so it speaks English.
        init.args(["--username=tester", "--auth=trust", "--no-sync", "--no-locale", "-D"]);
        init.arg(&data);
        let made = output("initdb", &mut init).await;
        assert!(made.status.success(), "{made:?}");
        let local = LocalService::nobody().await;
        let (ip, port) = (local.ip().to_string(), local.port().to_string());
        let mut command = user.command(&programs.join("postgres"));
        command.args(["-h", &ip, "-p", &port, "-k", "", "-F", "-D"]).arg(&data);
        let mut server = running(&mut command).await;

        let bed = TestBed::start(carrier).await;
        let (_client, public) = bed.tcp(local).await;
        let port = public.port().to_string();
        let query = async |sql: &str| {
            let mut command = Command::new(&psql);
            command.args(["-h", "127.0.0.1", "-p", &port, "-U", "tester", "-d", "postgres"]);
            command.args(["--no-psqlrc", "--tuples-only", "--no-align", "-c", sql]);
            let output = output("psql", &mut command).await;
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(query("select 6 * 7").await, "42\n");
        let rows = query("select n, repeat('x', 100) from generate_series(1, 20000) n").await;
        assert_eq!(rows.lines().count(), 20_000);
        assert!(rows.lines().last().unwrap().starts_with("20000|x"));
        // Fast shutdown: nobody is waited for.
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(server.id().unwrap() as i32).unwrap(),
            rustix::process::Signal::INT,
        )
        .unwrap();
        soon("the end of PostgreSQL", server.wait()).await.unwrap();
    });
}

/// Somebody whom PostgreSQL is willing to run as.
enum Unprivileged {
    Myself,
    /// By `setpriv`, as this user.
    Other(&'static str),
}

impl Unprivileged {
    fn find() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return Some(Self::Myself);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let known = |name: &&str| users.lines().any(|line| line.starts_with(&format!("{name}:")));
        let user = ["postgres", "nobody"].into_iter().find(known)?;
        installed("setpriv").map(|_| Self::Other(user))
    }

    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Myself => Command::new(program),
            Self::Other(user) => {
                let mut command = Command::new("setpriv");
                // `setpriv` becomes the program: its process is the program's.
                command.args(["--reuid", user, "--clear-groups", "--"]).arg(program);
                command
            }
        }
    }

    async fn give(&self, dir: &Path) {
        if let Self::Other(user) = self {
            let given = Command::new("chown").arg(user).arg(dir).status().await.unwrap();
            assert!(given.success());
        }
    }
}
