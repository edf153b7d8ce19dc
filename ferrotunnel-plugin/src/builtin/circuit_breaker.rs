//! Spares a local service that is failing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;

use crate::{
    AnsweredBy, Outcome, Plugin, PluginAction, RegistrationAnswer, RegistrationContext,
    RequestContext, Result,
};

/// Answers requests for a tunnel with 503 once its local service has failed several times in a row, and lets it rest.
///
/// ```text
///          that many failures in a row          one request, after the pause
///  closed -----------------------------> open ------------------------------> half open
///    ^                                    ^                                      |  |
///    |                                    +------------ it fails ----------------+  |
///    +----------------------------------- it does not ------------------------------+
/// ```
///
/// A failure is a response of the local service with 500, 502, 503 or 504, and that it cannot be reached, breaks off
/// or is too slow. What other plugins answer counts for nothing. When the tunnel is registered anew its past is
/// forgotten.
#[derive(Debug)]
pub struct CircuitBreaker {
    most_failures: u32,
    pause: Duration,
    /// Tunnels that have failed; all others are closed.
    circuits: Mutex<HashMap<String, Circuit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circuit {
    /// So many failures in a row.
    Closed(u32),
    /// Nothing passes until then.
    Open(Instant),
    /// One request is being tried.
    HalfOpen,
}

/// What may become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Free,
    /// Its response says how the tunnel does.
    Trial,
    /// Not before that time has passed.
    Barred(Duration),
}

/// Left with a request that is a trial.
#[derive(Clone, Copy)]
struct OnTrial;

/// Left for the response of a request that was not let through.
#[derive(Clone, Copy)]
struct Wait(Duration);

impl CircuitBreaker {
    /// Opens after so many failures in a row, at least one, for that long.
    pub fn new(most_failures: u32, pause: Duration) -> Self {
        Self { most_failures: most_failures.max(1), pause, circuits: Mutex::default() }
    }

    fn ask(&self, tunnel: &str, now: Instant) -> Passage {
        let mut circuits = self.circuits.lock();
        let Some(circuit) = circuits.get_mut(tunnel) else { return Passage::Free };
        match *circuit {
            Circuit::Closed(_) => Passage::Free,
            Circuit::Open(until) if now >= until => {
                *circuit = Circuit::HalfOpen;
                Passage::Trial
            }
            Circuit::Open(until) => Passage::Barred(until - now),
            Circuit::HalfOpen => Passage::Barred(Duration::ZERO),
        }
    }

    /// How a request went that was let through.
    fn hear(&self, tunnel: &str, is_trial: bool, failed: bool, now: Instant) {
        let mut circuits = self.circuits.lock();
        match (circuits.get_mut(tunnel), failed) {
            // Begun before it opened; the trial will say more.
            (Some(Circuit::Open(_) | Circuit::HalfOpen), _) if !is_trial => {}
            (None, false) => {}
            (Some(_), false) => {
                if is_trial {
                    tracing::info!(tunnel, "the local service answers again: requests pass");
                }
                circuits.remove(tunnel);
            }
            (Some(circuit), true) => {
                let failures = match circuit {
                    Circuit::Closed(failures) => failures.saturating_add(1),
                    _ => self.most_failures,
                };
                *circuit = self.after(tunnel, failures, now);
            }
            (None, true) => {
                if circuits.len() < MOST_TUNNELS {
                    let circuit = self.after(tunnel, 1, now);
                    circuits.insert(tunnel.to_owned(), circuit);
                }
            }
        }
    }

    fn after(&self, tunnel: &str, failures: u32, now: Instant) -> Circuit {
        if failures < self.most_failures {
            return Circuit::Closed(failures);
        }
        tracing::warn!(tunnel, failures, pause = ?self.pause, "the local service fails: it gets no requests for a while");
        Circuit::Open(now + self.pause)
    }

    /// The trial has come to nothing; another one may follow at once.
    fn forget_trial(&self, tunnel: &str, now: Instant) {
        if let Some(circuit @ Circuit::HalfOpen) = self.circuits.lock().get_mut(tunnel) {
            *circuit = Circuit::Open(now);
        }
    }
}

/// Whether the local service failed, as far as a response tells.
fn is_failure(response: &Response<()>, by: &AnsweredBy) -> Option<bool> {
    match by {
        AnsweredBy::LocalService => {
            let status = response.status().as_u16();
            Some(matches!(status, 500 | 502 | 503 | 504))
        }
        AnsweredBy::Server => {
            // The status may be gRPC's; the kind is there always.
            let kind = response.headers().get("ferrotunnel-error")?.to_str().ok()?;
            FAILURES.contains(&kind).then_some(true)
        }
        AnsweredBy::Plugin(_) => None,
    }
}

/// Answers of the server that say that the local service failed; what else it says is not about that.
const FAILURES: [&str; 4] = ["local-unreachable", "bad-answer", "session-lost", "timeout"];

#[async_trait]
impl Plugin for CircuitBreaker {
    fn name(&self) -> &str {
        "circuit-breaker"
    }

    async fn on_registration_answered(
        &self,
        wanted: &RegistrationContext,
        answer: &RegistrationAnswer,
    ) -> Result<()> {
        if matches!(answer, RegistrationAnswer::Registered(_)) {
            self.circuits.lock().remove(&wanted.name);
        }
        Ok(())
    }

    async fn on_request(
        &self,
        _: &mut Request<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        let Some(tunnel) = context.tunnel() else { return Ok(PluginAction::Continue) };
        match self.ask(&tunnel.name, Instant::now()) {
            Passage::Free => {}
            Passage::Trial => drop(context.insert(OnTrial)),
            Passage::Barred(wait) => {
                context.insert(Wait(wait));
                return Ok(PluginAction::Reject {
                    status: StatusCode::SERVICE_UNAVAILABLE.as_u16(),
                    reason: "The service behind this tunnel has failed and gets a rest. Try again in a moment."
                        .to_owned(),
                });
            }
        }
        Ok(PluginAction::Continue)
    }

    async fn on_response(
        &self,
        response: &mut Response<()>,
        context: &RequestContext,
    ) -> Result<PluginAction> {
        if let Some(Wait(wait)) = context.get() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
            return Ok(PluginAction::Continue);
        }
        let failed = context.answered_by().and_then(|by| is_failure(response, &by));
        if let (Some(tunnel), Some(failed)) = (context.tunnel(), failed) {
            let is_trial = context.remove::<OnTrial>().is_some();
            self.hear(&tunnel.name, is_trial, failed, Instant::now());
        }
        Ok(PluginAction::Continue)
    }

    /// The visitor may have left before the trial had told anything.
    fn on_finished(&self, context: &RequestContext, _: &Outcome) {
        if let (Some(tunnel), Some(OnTrial)) = (context.tunnel(), context.remove()) {
            self.forget_trial(&tunnel.name, Instant::now());
        }
    }
}

/// Beyond it tunnels that begin to fail are not spared. Some 4 MiB.
const MOST_TUNNELS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn broken(now: Instant) -> CircuitBreaker {
        let breaker = CircuitBreaker::new(3, PAUSE);
        (0..3).for_each(|_| breaker.hear("app", false, true, now));
        breaker
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row() {
        let (breaker, now) = (CircuitBreaker::new(3, PAUSE), Instant::now());
        for failed in [true, true, false, true, true] {
            breaker.hear("app", false, failed, now);
            assert_eq!(breaker.ask("app", now), Passage::Free);
        }
        breaker.hear("app", false, true, now);
        assert_eq!(breaker.ask("app", now), Passage::Barred(PAUSE));
        assert_eq!(breaker.ask("other", now), Passage::Free);
        // An answer to what was asked before does not close it.
        breaker.hear("app", false, false, now);
        assert_eq!(breaker.ask("app", now), Passage::Barred(PAUSE));
    }

    #[test]
    fn after_the_pause_one_request_decides() {
        let now = Instant::now();
        for failed in [false, true] {
            let breaker = broken(now);
            let later = now + PAUSE;
            assert_eq!(breaker.ask("app", later), Passage::Trial);
            assert_eq!(breaker.ask("app", later), Passage::Barred(Duration::ZERO));
            breaker.hear("app", true, failed, later);
            let next = if failed { Passage::Barred(PAUSE) } else { Passage::Free };
            assert_eq!(breaker.ask("app", later), next);
            assert_eq!(breaker.circuits.lock().is_empty(), !failed);
        }
    }

    #[test]
    fn a_trial_that_comes_to_nothing_makes_way_for_another() {
        let now = Instant::now();
        let breaker = broken(now);
        assert_eq!(breaker.ask("app", now + PAUSE), Passage::Trial);
        breaker.forget_trial("app", now + PAUSE);
        assert_eq!(breaker.ask("app", now + PAUSE), Passage::Trial);
    }

    #[test]
    fn only_failures_of_the_local_service_count() {
        let response = |status: u16, kind: Option<&'static str>| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(kind) = kind {
                response.headers_mut().insert("ferrotunnel-error", HeaderValue::from_static(kind));
            }
            response
        };
        let local = |status| is_failure(&response(status, None), &AnsweredBy::LocalService);
        assert_eq!((local(200), local(404), local(501)), (Some(false), Some(false), Some(false)));
        assert_eq!((local(500), local(503)), (Some(true), Some(true)));
        let server = |kind| is_failure(&response(502, Some(kind)), &AnsweredBy::Server);
        assert_eq!((server("local-unreachable"), server("over-limit")), (Some(true), None));
        assert_eq!(is_failure(&response(500, None), &AnsweredBy::Plugin("x".into())), None);
    }
}
