//! Who may use a server, and what each of them may have.
//!
//! A [`PrincipalConfig`] is what an operator writes down, a [`Principal`] what the server makes of it: it
//! lives as long as sessions of its name do, so that a changed policy applies to them, and it counts what
//! they have together. Who knows which token is the business of `auth`.

mod policy;
mod roster;

use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use ferrotunnel_common::TunnelKind;
use parking_lot::RwLock;

pub(crate) use self::policy::{Denied, NamePool, Policy};
pub use self::roster::check_principals;
pub(crate) use self::roster::{Change, Roster};
use crate::auth::Verifier;
use crate::seat::Seat;
use crate::server::PrincipalReading;
use crate::spares::Spares;
use crate::throttle::Throttle;

/// What a server's operator says of one user. What is left open is allowed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PrincipalConfig {
    /// Its name, for logs and refusals: letters, digits, `-` and `_`, at most 64. `default` is the name of
    /// those who have the shared token.
    pub name: String,
    /// The tokens that it may come with; several while one replaces the other.
    pub verifiers: Vec<Verifier>,
    /// Its tokens are not accepted for now.
    pub disabled: bool,
    /// The kinds of tunnels that it may have; `None`: all.
    pub kinds: Option<Vec<TunnelKind>>,
    /// The hosts that its tunnels may have: names under the server's domain like `app`, `*` for every
    /// name under it, hosts in full like `shop.example`, and `*.web.example` for all that is below
    /// `web.example`. `None`: every name under the server's domain, and nothing else.
    ///
    /// Each HTTP tunnel has a name under the server's domain, whatever further hosts it has; one that asks
    /// for no name gets one that is allowed here.
    pub hosts: Option<Vec<String>>,
    /// The public ports that its tunnels may have; `None`: all. One that asks for no port gets one of
    /// these.
    pub ports: Option<Vec<RangeInclusive<u16>>>,
    /// Each of its tunnels must keep strangers out: by a list of addresses that are allowed, or over HTTP by a
    /// password or a bearer token.
    pub access_required: bool,
    /// Sessions at once. Each connection of a client is one, and one that was lost counts until the server
    /// has noticed: within 15 s, or 2 s when its client comes back and waits for the place. `None`: as many as the server
    /// has.
    pub max_sessions: Option<usize>,
    /// Tunnels at once over all its sessions. One that several connections of a client carry is one.
    /// `None`: as many as its sessions may have.
    pub max_tunnels: Option<usize>,
    /// Streams, which is to say visitors' connections, open at once over all its sessions. `None`: as
    /// many as its sessions may have.
    pub max_streams: Option<usize>,
    /// Streams that all its sessions together may open a second. `None`: as many as its sessions may.
    pub max_streams_per_second: Option<u32>,
    /// Bytes of visitors that all its sessions together may carry a second each way; what is beyond waits. `None`:
    /// as many as its sessions may.
    pub max_bytes_per_second: Option<u64>,
}

impl PrincipalConfig {
    /// Somebody who may have any name under the server's domain and any port, without limits of its
    /// own, but has no token yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            verifiers: Vec::new(),
            disabled: false,
            kinds: None,
            hosts: None,
            ports: None,
            access_required: false,
            max_sessions: None,
            max_tunnels: None,
            max_streams: None,
            max_streams_per_second: None,
            max_bytes_per_second: None,
        }
    }

    /// The same with one more token.
    #[must_use]
    pub fn verifier(mut self, verifier: Verifier) -> Self {
        self.verifiers.push(verifier);
        self
    }
}

/// Who a token stands for. Two are the same if they have the same name.
#[derive(Debug)]
pub struct Principal {
    name: String,
    policy: RwLock<Arc<Policy>>,
    /// None of its tokens may be used: no client of it comes back. Changed as `tunnels` is.
    gone: AtomicBool,
    sessions: Arc<AtomicUsize>,
    /// Changed by the registry only, which holds its lock meanwhile.
    tunnels: AtomicUsize,
    /// Tunnels whose clients are away for a moment.
    absences: Arc<AtomicUsize>,
    streams: Arc<AtomicUsize>,
    /// Those of them that nobody uses.
    spares: Spares,
    /// What all its sessions share, whatever its rates are at the moment.
    throttle: Arc<Throttle>,
}

impl Principal {
    fn new(name: String, policy: Policy) -> Self {
        let throttle = Arc::new(Throttle::lasting(policy.rates, Instant::now()));
        Self {
            name,
            throttle,
            policy: RwLock::new(Arc::new(policy)),
            gone: AtomicBool::new(false),
            sessions: Arc::default(),
            tunnels: AtomicUsize::new(0),
            absences: Arc::default(),
            streams: Arc::default(),
            spares: Spares::default(),
        }
    }

    /// All who have the shared token. They may have anything.
    pub(crate) fn shared() -> Self {
        Self::new(SHARED.to_owned(), Policy::anything())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For whoever looks at it from outside.
    fn read(&self, disabled: bool) -> PrincipalReading {
        let policy = self.policy();
        PrincipalReading {
            name: self.name.clone(),
            disabled,
            sessions: self.sessions.load(Ordering::Relaxed),
            tunnels: self.tunnels.load(Ordering::Relaxed),
            streams: self.streams.load(Ordering::Relaxed),
            max_sessions: policy.max_sessions,
            max_tunnels: policy.max_tunnels,
            max_streams: policy.max_streams,
            max_streams_per_second: policy.rates.streams,
            max_bytes_per_second: policy.rates.bytes,
        }
    }

    /// What it may have now.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        let rates = policy.rates;
        let before = std::mem::replace(&mut *self.policy.write(), Arc::new(policy));
        if before.rates != rates {
            self.throttle.set(rates, Instant::now());
        }
    }

    /// Whether none of its tokens may be used.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }

    /// What all its sessions share.
    pub(crate) fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// A place for one more session.
    ///
    /// # Errors
    /// It has all that it may have.
    pub(crate) fn take_session(&self) -> Result<Seat, String> {
        let most = self.policy().max_sessions;
        let seat = Seat::take_within(&self.sessions, most.unwrap_or(usize::MAX));
        seat.ok_or_else(|| self.full("sessions", most))
    }

    /// A place for one more stream.
    ///
    /// # Errors
    /// It has all that it may have.
    pub(crate) fn take_stream(&self) -> Result<Seat, String> {
        let most = self.policy().max_streams;
        let seat = Seat::take_within(&self.streams, most.unwrap_or(usize::MAX));
        seat.ok_or_else(|| self.full("streams", most))
    }

    /// Its streams that nobody uses.
    pub(crate) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// Whether it may have one more tunnel, once it has given up `freed` of those that it has.
    ///
    /// # Errors
    /// It has all that it may have.
    pub(crate) fn check_tunnels(&self, freed: usize) -> Result<(), String> {
        let most = self.policy().max_tunnels;
        let kept = self.tunnels.load(Ordering::Relaxed).saturating_sub(freed);
        if kept < most.unwrap_or(usize::MAX) { Ok(()) } else { Err(self.full("tunnels", most)) }
    }

    /// A place for a tunnel whose client is away for a moment: there are as many as it may have tunnels.
    pub(crate) fn take_absence(&self) -> Option<Seat> {
        Seat::take_within(&self.absences, self.policy().max_tunnels.unwrap_or(usize::MAX))
    }

    pub(crate) fn tunnel_entered(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn tunnel_left(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    fn full(&self, what: &str, most: Option<usize>) -> String {
        let most = most.unwrap_or_default();
        format!(
            "principal {:?} may have {most} {what} at once (max_{what}), and has them",
            self.name
        )
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The principal of the shared token.
const SHARED: &str = "default";

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::throttle::{Rates, Throttles, Way};
    use crate::turned_away::Meters;

    fn of_rate(bytes: u64) -> Policy {
        let mut policy = Policy::anything();
        policy.rates = Rates { streams: None, bytes: Some(bytes) };
        policy
    }

    /// Both together are not to be faster than the rate.
    #[tokio::test(start_paused = true)]
    async fn who_was_there_before_a_rate_was_replaced_shares_it_with_who_comes() {
        let principal = Principal::new("web".to_owned(), of_rate(1_000));
        let pacing = || {
            let throttles = Throttles::of([None, Some(Arc::clone(principal.throttle()))]);
            throttles.pacing(Way::Out, &Meters::default()).unwrap()
        };
        let before = pacing();
        principal.set_policy(of_rate(1_000_000));
        let mut after = pacing();
        let mut is_held = || after.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(!is_held());
        before.charge(3_000_000);
        assert!(is_held());
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        assert!(!is_held());
    }
}
