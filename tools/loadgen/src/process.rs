//! A process of its own that says in lines of JSON what happens to it, as `ferrotunnel --json` does.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cost::Usage;
use crate::failure::Failure;

/// Runs until it is dropped, and no longer than this process, however that ends.
#[derive(Debug)]
pub(crate) struct Process {
    what: &'static str,
    child: Child,
    _leash: Option<Leash>,
    events: Receiver<Value>,
    /// The last it said on stderr, once it has ended.
    complaint: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts it; `what` is its name for people.
    pub(crate) fn start(what: &'static str, mut command: Command) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error| Failure::Process(what, error);
        let mut child = command.spawn().map_err(failed)?;
        let (tell, events) = mpsc::sync_channel(EVENTS);
        let outputs = (child.stdout.take(), child.stderr.take());
        // From here on it ends with this.
        let mut process = Self { what, _leash: Leash::on(&child), child, events, complaint: None };
        if let (Some(stdout), Some(stderr)) = outputs {
            let listen = move || listen(stdout, &tell);
            thread::Builder::new().name(what.to_owned()).spawn(listen).map_err(Failure::Thread)?;
            let remember = || BufReader::new(stderr).lines().map_while(Result::ok).last();
            let remember = move || remember().unwrap_or_default();
            let thread = thread::Builder::new().name(what.to_owned());
            process.complaint = Some(thread.spawn(remember).map_err(Failure::Thread)?);
        }
        Ok(process)
    }

    /// Waits for an event of that name.
    pub(crate) fn wait_for(&mut self, event: &str, patience: Duration) -> Result<Value, Failure> {
        let end = Instant::now() + patience;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(said) if said["event"] == event => return Ok(said),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Failure::NotReady(self.what)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::ProcessEnded(self.what, self.last_words()));
                }
            }
        }
    }

    fn last_words(&mut self) -> String {
        let _ = self.child.kill();
        let words = self.complaint.take().and_then(|thread| thread.join().ok());
        words.unwrap_or_default()
    }

    /// What it has cost so far.
    pub(crate) fn usage(&self) -> Result<Usage, Failure> {
        Usage::of(self.child.id()).map_err(|error| Failure::Usage(self.what, error))
    }
}

/// At once, as `kill -9` does: what it held is in the state it was in.
impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end, so that the process never waits for us.
fn listen(stdout: ChildStdout, tell: &mpsc::SyncSender<Value>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Ok(event) = serde_json::from_str(&line) {
            // Nobody waits for those beyond what the queue holds.
            let _ = tell.try_send(event);
        }
    }
}

/// A shell that kills a process when this one has ended, even by a signal that cannot be caught:
/// then the pipe it reads from is closed by the system.
#[derive(Debug)]
struct Leash(Child);

impl Leash {
    fn on(child: &Child) -> Option<Self> {
        if !cfg!(unix) {
            return None;
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"cat >/dev/null; kill -9 "$1""#, "leash", &child.id().to_string()]);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without a shell there is nothing to be done.
        shell.spawn().map(Self).ok()
    }
}

/// Before its pipe is closed: by then the number may be that of another process.
impl Drop for Leash {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Only the first ones are waited for.
const EVENTS: usize = 16;
