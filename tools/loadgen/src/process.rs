//! A process of its own that says in lines of JSON what happens to it, as `ferrotunnel --json` does.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cost::Usage;
use crate::failure::Failure;

/// Runs until it is dropped, and no longer than this process, however that ends.
#[derive(Debug)]
pub struct Process {
    what: &'static str,
    child: Child,
    _leash: Option<Leash>,
    events: Receiver<Value>,
    /// Where its admin interface listens, once it has said so.
    admin: Arc<OnceLock<SocketAddr>>,
    /// The last it said on stderr, once it has ended.
    complaint: Option<JoinHandle<String>>,
    /// The first panic it told of there. A task of it that panics does not end it.
    panic: Arc<OnceLock<String>>,
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
        let leash = Leash::on(&child);
        let panic = Arc::<OnceLock<String>>::default();
        let admin = Arc::<OnceLock<SocketAddr>>::default();
        let mut process = Self {
            what,
            _leash: leash,
            child,
            events,
            admin: Arc::clone(&admin),
            complaint: None,
            panic: Arc::clone(&panic),
        };
        if let (Some(stdout), Some(stderr)) = outputs {
            let listen = move || listen(stdout, &tell, &admin);
            thread::Builder::new().name(what.to_owned()).spawn(listen).map_err(Failure::Thread)?;
            let remember = move || remember(stderr, &panic);
            let thread = thread::Builder::new().name(what.to_owned());
            process.complaint = Some(thread.spawn(remember).map_err(Failure::Thread)?);
        }
        Ok(process)
    }

    /// Its number for the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its admin interface listens, once it has said so.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.get().copied()
    }

    /// An event that nobody has waited for yet, if there is one; the newest of many may be missing.
    pub fn said(&self) -> Option<Value> {
        self.events.try_recv().ok()
    }

    /// The first panic of one of its threads or tasks.
    pub fn panicked(&self) -> Option<&str> {
        self.panic.get().map(String::as_str)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end, as a service manager does.
    #[cfg(unix)]
    pub fn terminate(&self) {
        use rustix::process::{Pid, Signal, kill_process};

        // Until it is waited for the number is its own.
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(id, Signal::TERM);
        }
    }

    /// Waits for an event of that name.
    ///
    /// # Errors
    /// It does not come in time, or the process ends.
    pub fn wait_for(&mut self, event: &str, patience: Duration) -> Result<Value, Failure> {
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
    ///
    /// # Errors
    /// It has ended, or this is not Linux.
    pub fn usage(&self) -> Result<Usage, Failure> {
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
fn listen(stdout: ChildStdout, tell: &mpsc::SyncSender<Value>, admin: &OnceLock<SocketAddr>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Ok(event) = serde_json::from_str::<Value>(&line) {
            if let Some(addr) = event["admin_addr"].as_str().and_then(|addr| addr.parse().ok()) {
                let _ = admin.set(addr);
            }
            // Nobody waits for those beyond what the queue holds.
            let _ = tell.try_send(event);
        }
    }
}

/// Reads to the end, and gives the last line.
fn remember(stderr: ChildStderr, panic: &OnceLock<String>) -> String {
    let mut last = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.contains("panicked at") {
            // The first is the one to look at.
            let _ = panic.set(line.clone());
        }
        last = line;
    }
    last
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

/// Those of an outage of minutes, at one attempt in a second.
const EVENTS: usize = 256;
