//! Looks after the local service of a tunnel, so that visitors go to other members of its group before one of
//! them finds out that it is down.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::MissedTickBehavior;

use super::TunnelSpec;
use super::local::{self, Visitor};
use super::state::State;

/// How a client finds out whether a tunnel's local service is well.
///
/// The server hears of every change, and lets visitors in to others first who have the same tunnel. It is
/// never taken away for that: where nobody else has it, visitors go on trying.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthCheck {
    /// What is done with a connection to it.
    pub probe: Probe,
    /// From one check to the next, at least a millisecond. The first one is made at once.
    pub interval: Duration,
    /// How long one may take, the dialling included; what takes longer has failed.
    pub timeout: Duration,
    /// How many have to fail in a row until it counts as down, at least 1. A single one that succeeds makes it
    /// well again.
    pub threshold: u32,
}

impl HealthCheck {
    /// Every 10 s, with 5 s for an answer; down after 3 failures.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            threshold: 3,
        }
    }
}

/// What a check does.
#[derive(Clone)]
#[non_exhaustive]
pub enum Probe {
    /// It is well if it takes the connection.
    Connect,
    /// It is well if that is happy with what it hears over the connection.
    Examine {
        /// Who hears it.
        examine: Examine,
        /// Whether it speaks HTTP/2, which a service over TLS wants to know beforehand (ALPN).
        is_http2: bool,
    },
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "Connect",
            Self::Examine { .. } => "Examine",
        })
    }
}

/// Talks to the local service; the error says what was wrong, for people.
pub type Examine = Arc<dyn Fn(Box<dyn Pipe>) -> Examining + Send + Sync>;

/// An examination under way.
pub type Examining = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A connection to a local service of whatever kind.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

/// Checks for as long as the tunnel is wanted.
pub(super) async fn watch(state: Arc<State>, number: u32, check: HealthCheck) {
    let mut ticks = tokio::time::interval(check.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut verdict = Verdict::default();
    loop {
        ticks.tick().await;
        let Some((spec, _)) = state.target(number) else { return };
        let found = tokio::time::timeout(check.timeout, check.once(&spec)).await;
        let found = found.unwrap_or_else(|_| Err("it did not answer in time".to_owned()));
        if verdict.changes(found.is_ok(), check.threshold) {
            state.set_health(number, found.err());
        }
    }
}

impl HealthCheck {
    async fn once(&self, spec: &TunnelSpec) -> Result<(), String> {
        let local = local::reach(spec, &Visitor::of_ours()).await.map_err(|error| words(&error))?;
        match &self.probe {
            Probe::Connect => Ok(()),
            Probe::Examine { examine, is_http2 } => {
                let pipe = local.into_pipe(*is_http2).await.map_err(|error| words(&error))?;
                examine(pipe).await
            }
        }
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it refuses connections".to_owned(),
        io::ErrorKind::TimedOut => "it did not take the connection in time".to_owned(),
        _ => error.to_string(),
    }
}

/// What is known of a local service after the checks so far. It counts as well before the first.
#[derive(Debug, Default)]
struct Verdict {
    failures: u32,
    is_down: bool,
}

impl Verdict {
    /// Takes in one more check. Returns whether it changed what there is to say.
    fn changes(&mut self, is_well: bool, threshold: u32) -> bool {
        self.failures = if is_well { 0 } else { self.failures.saturating_add(1) };
        let is_down = !is_well && (self.is_down || self.failures >= threshold);
        std::mem::replace(&mut self.is_down, is_down) != is_down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_down_after_failures_in_a_row_and_well_after_one_success() {
        let mut verdict = Verdict::default();
        let mut changes = |checks: &str| {
            let mut told = String::new();
            for check in checks.chars() {
                if verdict.changes(check == '+', 3) {
                    told.push(check);
                }
            }
            told
        };
        assert_eq!(changes("++--+--+"), "");
        assert_eq!(changes("--"), "");
        assert_eq!(changes("-----"), "-");
        assert_eq!(changes("+-+--+"), "+");
        assert_eq!(changes("---+---+"), "-+-+");
        let mut verdict = Verdict::default();
        assert!(verdict.changes(false, 1) && verdict.changes(true, 1));
    }
}
