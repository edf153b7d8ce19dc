//! Starts the built program and reads what it says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise, in its helpers too"
)]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

#[cfg(unix)]
pub mod files;
pub mod server;

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program with these arguments, and with nothing of the test's environment that could mean something to it.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrotunnel"));
    for (name, _) in std::env::vars_os() {
        let begins = |with| name.to_string_lossy().starts_with(with);
        if begins("FERROTUNNEL_") || begins("OTEL_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").args(args).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn ferrotunnel(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// It ended with that code, and said these words and nothing on stdout.
#[track_caller]
pub fn assert_refused(output: &Output, code: i32, says: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains("error: "), "{stderr}");
    for words in says {
        assert!(stderr.contains(words), "{words:?} is not in: {stderr}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "stdout is for data");
}

/// A program that goes on running; killed when dropped.
pub struct Running {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(command(args))
    }

    /// Starts a command that was made ready elsewhere.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout.
    #[track_caller]
    pub fn line(&self) -> String {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(why) => panic!(
                "no line on stdout ({why}); stderr: {:?}",
                self.stderr.try_iter().collect::<Vec<_>>()
            ),
        }
    }

    /// The next event on stdout.
    #[track_caller]
    pub fn event(&self) -> serde_json::Value {
        self.line().parse().unwrap()
    }

    /// The next event of that kind; others before it are passed over.
    #[track_caller]
    pub fn event_of(&self, kind: &str) -> serde_json::Value {
        loop {
            let event = self.event();
            if event["event"] == kind {
                return event;
            }
        }
    }

    /// Why a reload was refused, for one reason.
    #[track_caller]
    pub fn refused_reload(&self) -> String {
        let event = self.event_of("reload_refused");
        let [why] = event["errors"].as_array().unwrap().as_slice() else { panic!("{event}") };
        why.as_str().unwrap().to_owned()
    }

    /// The next line on stdout, unless it ends without one.
    pub fn first_line(&self) -> Option<String> {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("neither a line nor an end"),
        }
    }

    /// The next line on stderr that contains these words.
    #[track_caller]
    pub fn talk_with(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => seen.push(line),
                Err(why) => panic!("{words:?} was not said ({why}), but: {seen:?}"),
            }
        }
    }

    /// What was written to stderr since the last look, until the program ended.
    pub fn rest_of_stderr(&self) -> String {
        let mut rest = String::new();
        while let Ok(line) = self.stderr.recv_timeout(PATIENCE) {
            rest.push_str(&line);
            rest.push('\n');
        }
        rest
    }

    /// Sends a signal by its name, like `TERM`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, once it has closed its stdout.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        loop {
            match self.stdout.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe to its end in a thread, so that the program never waits for the test.
fn lines(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
