//! What a client wants, and the sessions it has for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::Contention;
use ferrotunnel_protocol::frame::{Refusal, RefusalCode, Register, Registered};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::backoff::Backoff;
use super::connect::Connector;
use super::growth::LOOK_EVERY;
use super::{Event, Registration, Retry, TunnelSpec};
use crate::direct::Streams;
use crate::error::ConnectError;
use crate::options::{CarrierNumber, prefer};
use crate::session::Session;
use crate::tasks::Tasks;

#[derive(Debug)]
pub(super) struct State {
    pub(super) connector: Connector,
    pub(super) retry: Retry,
    tunnels: Mutex<Tunnels>,
    events: broadcast::Sender<Event>,
    /// `true`: drain and end.
    pub(super) stop: watch::Sender<bool>,
    pub(super) end: watch::Sender<Option<Arc<ConnectError>>>,
    /// The tasks of the carriers, which drive their sessions.
    pub(super) carriers: Tasks,
    pub(super) streams: Tasks,
    /// A tunnel came or went.
    pub(super) tunnels_changed: Notify,
    /// How many carriers there should be.
    pub(super) carriers_wanted: watch::Sender<usize>,
    /// How many of them have a session.
    pub(super) sessions: watch::Sender<usize>,
    /// There was a session: the server took this token, and proved that it knows it.
    pub(super) token_was_right: AtomicBool,
}

#[derive(Default)]
struct Tunnels {
    next_number: u32,
    wanted: HashMap<u32, Wanted>,
    /// By carrier.
    sessions: BTreeMap<CarrierNumber, (Session, SessionId)>,
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnels").field("wanted", &self.wanted.len()).finish_non_exhaustive()
    }
}

struct Wanted {
    spec: Arc<TunnelSpec>,
    /// Who waits for the first answer.
    first: Option<oneshot::Sender<Result<Registration, ConnectError>>>,
    /// The name or port that the server picked, where the spec leaves it open.
    picked: Option<String>,
    /// Set while the server refuses what it had registered before.
    refused: Option<Refused>,
    /// Carriers it is registered over.
    held: BTreeSet<CarrierNumber>,
    /// Carriers over which it was asked for, without an answer yet.
    asked: BTreeSet<CarrierNumber>,
}

impl Wanted {
    fn new(spec: TunnelSpec, first: oneshot::Sender<Result<Registration, ConnectError>>) -> Self {
        let (held, asked) = <_>::default();
        let spec = Arc::new(spec);
        Self { spec, first: Some(first), picked: None, refused: None, held, asked }
    }

    /// Asks for it over every carrier that it is missing from. The first to ask goes alone: what it
    /// gets is what the others ask for.
    fn ask(&mut self, number: u32, sessions: &BTreeMap<CarrierNumber, (Session, SessionId)>) {
        for (carrier, (session, _)) in sessions {
            if self.held.is_empty() && !self.asked.is_empty() {
                return;
            }
            if !self.held.contains(carrier) && self.asked.insert(*carrier) {
                let mut register = to_register(self);
                carrier.mark(&mut register);
                session.register(number, register);
            }
        }
    }
}

#[derive(Default)]
struct Refused {
    /// Why, as it was told last.
    reason: String,
    backoff: Backoff,
}

/// What follows from an answer of the server.
pub(super) enum Next {
    GoOn,
    /// Ask for the tunnel again after that time.
    AskAgain(Duration),
    /// The client has no more to live for.
    End(ConnectError),
}

impl State {
    pub(super) fn new(
        connector: Connector,
        retry: Retry,
        carriers: usize,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self {
            connector,
            retry,
            tunnels: Mutex::default(),
            events,
            stop: watch::Sender::new(false),
            end: watch::Sender::new(None),
            carriers: Tasks::default(),
            streams: Tasks::default(),
            tunnels_changed: Notify::new(),
            carriers_wanted: watch::Sender::new(carriers),
            sessions: watch::Sender::new(0),
            token_was_right: AtomicBool::new(false),
        }
    }

    pub(super) fn add(
        &self,
        spec: TunnelSpec,
        first: oneshot::Sender<Result<Registration, ConnectError>>,
    ) -> u32 {
        let mut tunnels = self.tunnels.lock();
        tunnels.next_number += 1;
        let number = tunnels.next_number;
        let mut wanted = Wanted::new(spec, first);
        wanted.ask(number, &tunnels.sessions);
        tunnels.wanted.insert(number, wanted);
        self.tunnels_changed.notify_one();
        number
    }

    pub(super) fn remove(&self, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let known = tunnels.wanted.remove(&number);
        self.tunnels_changed.notify_one();
        for carrier in known.iter().flat_map(|known| known.held.union(&known.asked)) {
            if let Some((session, _)) = tunnels.sessions.get(carrier) {
                session.unregister(number);
            }
        }
    }

    /// A new session: everything wanted is asked for over it.
    pub(super) fn enter(&self, carrier: CarrierNumber, session: &Session, session_id: SessionId) {
        let mut tunnels = self.tunnels.lock();
        let tunnels = &mut *tunnels;
        tunnels.sessions.insert(carrier, (session.clone(), session_id));
        self.sessions.send_replace(tunnels.sessions.len());
        if tunnels.sessions.len() == 1 {
            self.tell(Event::Connected { session_id });
        }
        let mut numbers: Vec<u32> = tunnels.wanted.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(wanted) = tunnels.wanted.get_mut(&number) {
                wanted.ask(number, &tunnels.sessions);
            }
        }
    }

    /// Asks again for a tunnel that was refused, unless nobody wants it any more.
    pub(super) fn ask_again(&self, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let tunnels = &mut *tunnels;
        if let Some(wanted) = tunnels.wanted.get_mut(&number)
            && !*self.stop.borrow()
        {
            wanted.ask(number, &tunnels.sessions);
        }
    }

    pub(super) fn wants_nothing(&self) -> bool {
        self.tunnels.lock().wanted.is_empty()
    }

    /// The carrier's session is over. What nobody has asked for over another one is asked for now.
    pub(super) fn leave(&self, carrier: CarrierNumber) {
        let mut tunnels = self.tunnels.lock();
        let tunnels = &mut *tunnels;
        tunnels.sessions.remove(&carrier);
        self.sessions.send_replace(tunnels.sessions.len());
        for (number, wanted) in &mut tunnels.wanted {
            wanted.asked.remove(&carrier);
            wanted.held.remove(&carrier);
            if wanted.asked.is_empty() && wanted.held.is_empty() {
                wanted.ask(*number, &tunnels.sessions);
            }
        }
    }

    /// What goes on on each carrier.
    pub(super) fn contention(&self, now: Instant) -> Vec<Contention> {
        let tunnels = self.tunnels.lock();
        let sessions = tunnels.sessions.values();
        sessions.map(|(session, _)| session.contention(now, LOOK_EVERY)).collect()
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    pub(super) fn answered(&self, carrier: CarrierNumber, number: u32, answer: Registered) -> Next {
        match answer {
            Registered::Ok { address } => {
                self.registered(carrier, number, &address);
                Next::GoOn
            }
            Registered::Refused(refusal) => self.refused(carrier, number, refusal),
        }
    }

    fn registered(&self, carrier: CarrierNumber, number: u32, address: &str) {
        let mut tunnels = self.tunnels.lock();
        let Tunnels { wanted, sessions, .. } = &mut *tunnels;
        let Some((_, session_id)) = sessions.get(&carrier) else { return };
        let Some(wanted) = wanted.get_mut(&number) else { return };
        let registration = self.connector.place(*session_id, &wanted.spec, address);
        let is_new = wanted.held.is_empty();
        wanted.asked.remove(&carrier);
        wanted.held.insert(carrier);
        if is_left_open(&wanted.spec) {
            wanted.picked = Some(registration.name.clone());
        }
        wanted.refused = None;
        wanted.ask(number, sessions);
        let first = wanted.first.take();
        drop(tunnels);
        if is_new {
            self.tell(Event::TunnelReady(registration.clone()));
        }
        first.map(|first| first.send(Ok(registration)));
    }

    fn refused(&self, carrier: CarrierNumber, number: u32, refusal: Refusal) -> Next {
        let mut tunnels = self.tunnels.lock();
        let Some(wanted) = tunnels.wanted.get_mut(&number) else { return Next::GoOn };
        wanted.asked.remove(&carrier);
        wanted.held.remove(&carrier);
        let is_reachable = !wanted.held.is_empty();
        let is_superseded = refusal.code == RefusalCode::Superseded;
        let (name, first) = (label(wanted), wanted.first.take());
        if first.is_none() && !is_superseded && (is_reachable || self.retry == Retry::Forever) {
            // It was ours before: whatever is in the way may pass.
            let refused = wanted.refused.get_or_insert_default();
            let is_known = refused.reason == refusal.reason;
            refused.reason.clone_from(&refusal.reason);
            let pause = refused.backoff.next(false);
            drop(tunnels);
            if !is_known && !is_reachable {
                let reason = format!("{}; the client asks for it again", refusal.reason);
                self.tell(Event::TunnelLost { name, reason });
            }
            return Next::AskAgain(pause);
        }
        tunnels.wanted.remove(&number);
        let none_left = tunnels.wanted.is_empty();
        drop(tunnels);
        self.tell(Event::TunnelLost { name, reason: refusal.reason.clone() });
        match first {
            Some(first) => {
                let _ = first.send(Err(ConnectError::Refused(refusal)));
                Next::GoOn
            }
            None if !is_superseded => Next::End(ConnectError::Refused(refusal)),
            None if none_left => Next::End(ConnectError::Superseded(refusal.reason)),
            None => Next::GoOn,
        }
    }

    /// What the tunnels want of direct carriers.
    pub(super) fn streams_wanted(&self) -> Streams {
        if *self.stop.borrow() {
            return Streams::Multiplexed;
        }
        let tunnels = self.tunnels.lock();
        let wants = |streams| {
            tunnels.wanted.values().any(|wanted| {
                wanted.spec.kind == TunnelKind::Tcp && Streams::of(&wanted.spec.options) == streams
            })
        };
        match () {
            () if wants(Streams::Direct) => Streams::Direct,
            () if wants(Streams::Auto) => Streams::Auto,
            () => Streams::Multiplexed,
        }
    }

    pub(super) fn target(&self, number: u32) -> Option<Arc<TunnelSpec>> {
        self.tunnels.lock().wanted.get(&number).map(|wanted| Arc::clone(&wanted.spec))
    }

    /// Ends for good, once.
    pub(super) fn finish(&self, error: ConnectError) {
        let reason = (!matches!(error, ConnectError::Shutdown)).then(|| error.to_string());
        let first_time = self.end.send_if_modified(|end| {
            let unset = end.is_none();
            if unset {
                *end = Some(Arc::new(error));
            }
            unset
        });
        if first_time {
            // Listeners of this process hold their handles: without this they would wait for ever.
            let Tunnels { wanted, sessions, .. } = std::mem::take(&mut *self.tunnels.lock());
            drop((wanted, sessions));
            self.tell(Event::Ended { reason });
        }
    }
}

/// What a server would say, if it could be asked.
pub(super) fn too_long() -> Refusal {
    let reason = "a name has at most 63 bytes, a host 253, and a tunnel has at most 32 hosts";
    Refusal { code: RefusalCode::InvalidName, reason: reason.to_owned() }
}

/// Whether it can be asked for, also again.
pub(super) fn is_within_caps(spec: &TunnelSpec) -> bool {
    let mut asked = as_asked(spec);
    if is_left_open(spec) {
        prefer(&mut asked);
    }
    CarrierNumber(u8::MAX).mark(&mut asked);
    asked.is_within_caps()
}

/// Whether the server picks the name or port.
fn is_left_open(spec: &TunnelSpec) -> bool {
    match spec.kind {
        TunnelKind::Tcp | TunnelKind::Udp => spec.port == 0,
        TunnelKind::Http | TunnelKind::Tls => spec.name.is_empty(),
    }
}

fn as_asked(spec: &TunnelSpec) -> Register {
    Register {
        kind: spec.kind,
        name: spec.name.clone(),
        hosts: spec.hosts.clone(),
        port: spec.port,
        options: spec.options.clone(),
    }
}

/// What the server picked is asked for again, so that visitors find it, unless somebody else has it
/// meanwhile.
fn to_register(wanted: &Wanted) -> Register {
    let mut register = as_asked(&wanted.spec);
    if let Some(picked) = &wanted.picked {
        match register.kind {
            TunnelKind::Tcp | TunnelKind::Udp => register.port = picked.parse().unwrap_or(0),
            TunnelKind::Http | TunnelKind::Tls => register.name.clone_from(picked),
        }
        prefer(&mut register);
    }
    register
}

fn label(wanted: &Wanted) -> String {
    let Register { kind, name, port, .. } = to_register(wanted);
    match (name.is_empty(), port) {
        (true, 0) => kind.to_string(),
        (true, port) => format!("{kind}:{port}"),
        (false, _) => name,
    }
}
