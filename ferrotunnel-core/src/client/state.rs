//! What a client wants, and the sessions it has for it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::Contention;
use ferrotunnel_protocol::frame::{GoAwayCode, Refusal, RefusalCode, Register, Registered};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot, watch};

use super::backoff::Backoff;
use super::connect::Connector;
use super::growth::{FAR, LOOK_EVERY};
use super::parting::Parting;
use super::{Event, Registration, Retry, TunnelSpec};
use crate::direct::Streams;
use crate::error::ConnectError;
use crate::options::{CarrierNumber, join, prefer};
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
    /// Sessions that take nothing new and finish what is open.
    pub(super) parting: Parting,
    pub(super) streams: Tasks,
    /// A tunnel came or went, or a session began to drain.
    pub(super) tunnels_changed: watch::Sender<()>,
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
    sessions: Sessions,
}

/// The sessions that tunnels are asked for over, by carrier.
type Sessions = BTreeMap<CarrierNumber, Reached>;

/// A session, and where it has led.
struct Reached {
    session: Session,
    session_id: SessionId,
    peer: Option<SocketAddr>,
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
    /// How it stands over each carrier where it was asked for.
    standing: BTreeMap<CarrierNumber, Standing>,
    /// Why the server refuses what it had registered before, as it was told last.
    told: Option<String>,
}

/// How a tunnel stands over one carrier.
enum Standing {
    /// Asked for, without an answer yet.
    Asked(Backoff),
    /// Registered.
    Held,
    /// Refused, and to be asked for again after a pause.
    Refused(Backoff),
}

impl Wanted {
    fn new(spec: TunnelSpec, first: oneshot::Sender<Result<Registration, ConnectError>>) -> Self {
        let (spec, first) = (Arc::new(spec), Some(first));
        Self { spec, first, picked: None, standing: BTreeMap::new(), told: None }
    }

    fn is_held(&self) -> bool {
        self.standing.values().any(|standing| matches!(standing, Standing::Held))
    }

    fn is_asked(&self) -> bool {
        self.standing.values().any(|standing| matches!(standing, Standing::Asked(_)))
    }

    /// Asks for it over every carrier that it is missing from. The first to ask goes alone: what it
    /// gets is what the others ask for.
    fn ask(&mut self, number: u32, sessions: &Sessions) {
        for (carrier, reached) in sessions {
            if !self.is_held() && !self.standing.is_empty() {
                return;
            }
            let register = to_register(self, *carrier);
            if let Entry::Vacant(place) = self.standing.entry(*carrier) {
                place.insert(Standing::Asked(Backoff::default()));
                reached.session.register(number, register);
            }
        }
    }
}

/// What follows from an answer of the server.
pub(super) enum Next {
    GoOn,
    /// Ask for the tunnel again after that time.
    AskAgain(Duration),
    /// The client has no more to live for.
    End(ConnectError),
}

impl Tunnels {
    /// Takes a tunnel away from wherever it is registered or may yet be.
    fn give_up(&self, number: u32, known: &Wanted) {
        for carrier in known.standing.keys() {
            if let Some(reached) = self.sessions.get(carrier) {
                reached.session.unregister(number);
            }
        }
    }
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
            parting: Parting::default(),
            streams: Tasks::default(),
            tunnels_changed: watch::Sender::new(()),
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
        self.tunnels_changed.send_replace(());
        number
    }

    pub(super) fn remove(&self, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let known = tunnels.wanted.remove(&number);
        self.tunnels_changed.send_replace(());
        if let Some(known) = known {
            tunnels.give_up(number, &known);
        }
    }

    /// A new session: everything wanted is asked for over it.
    pub(super) fn enter(
        &self,
        carrier: CarrierNumber,
        session: &Session,
        session_id: SessionId,
        peer: Option<SocketAddr>,
    ) {
        let mut tunnels = self.tunnels.lock();
        if self.end.borrow().is_some() {
            return session.close(GoAwayCode::ShuttingDown, "the client has ended");
        }
        let tunnels = &mut *tunnels;
        let reached = Reached { session: session.clone(), session_id, peer };
        tunnels.sessions.insert(carrier, reached);
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

    /// Where the server is, while there is a session with it.
    pub(super) fn reached(&self) -> Option<SocketAddr> {
        self.tunnels.lock().sessions.values().find_map(|reached| reached.peer)
    }

    /// Asks again for a tunnel that was refused, unless nobody wants it any more.
    pub(super) fn ask_again(&self, carrier: CarrierNumber, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let Tunnels { wanted, sessions, .. } = &mut *tunnels;
        let Some(wanted) = wanted.get_mut(&number).filter(|_| !*self.stop.borrow()) else { return };
        let Some(reached) = sessions.get(&carrier) else { return };
        let register = to_register(wanted, carrier);
        if let Some(standing) = wanted.standing.get_mut(&carrier)
            && let Standing::Refused(backoff) = standing
        {
            *standing = Standing::Asked(std::mem::take(backoff));
            reached.session.register(number, register);
        }
    }

    /// Over how many carriers a tunnel is registered.
    #[cfg(test)]
    pub(super) fn held(&self, number: u32) -> usize {
        let tunnels = self.tunnels.lock();
        let standing = tunnels.wanted.get(&number).map(|wanted| wanted.standing.values());
        standing.into_iter().flatten().filter(|one| matches!(one, Standing::Held)).count()
    }

    pub(super) fn wants_nothing(&self) -> bool {
        self.tunnels.lock().wanted.is_empty()
    }

    /// The carrier's session takes nothing new, or there was none. What nobody has asked for over
    /// another one is asked for now. `told` is for the case that there is no session any more.
    /// Returns whether that is so.
    pub(super) fn leave(&self, carrier: CarrierNumber, told: Option<Event>) -> bool {
        let mut tunnels = self.tunnels.lock();
        let Tunnels { wanted, sessions, .. } = &mut *tunnels;
        let had_session = sessions.remove(&carrier).is_some();
        self.sessions.send_replace(sessions.len());
        for (number, wanted) in wanted {
            match wanted.standing.remove(&carrier) {
                None | Some(Standing::Refused(_)) => {}
                // Those that were refused beside it have their turn at once.
                Some(_) if !wanted.is_held() && !wanted.is_asked() => wanted.standing.clear(),
                Some(_) => {}
            }
            wanted.ask(*number, sessions);
        }
        let nobody_left = sessions.is_empty();
        if let Some(told) = told
            && nobody_left
            // Of attempts that fail only the first carrier tells.
            && (had_session || carrier == CarrierNumber::FIRST)
        {
            self.tell(told);
        }
        nobody_left
    }

    /// What goes on on each carrier that leads far.
    pub(super) fn contention(&self, now: Instant) -> Vec<Contention> {
        let sessions: Vec<Session> = {
            let tunnels = self.tunnels.lock();
            tunnels.sessions.values().map(|reached| reached.session.clone()).collect()
        };
        let far = |session: &&Session| session.least_round_trip().is_none_or(|least| least >= FAR);
        sessions.iter().filter(far).map(|session| session.contention(now, LOOK_EVERY)).collect()
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// The server's answer over a session, or its later word that the tunnel is lost.
    pub(super) fn answered(
        &self,
        carrier: CarrierNumber,
        session_id: SessionId,
        number: u32,
        answer: Registered,
    ) -> Next {
        let mut tunnels = self.tunnels.lock();
        let is_current = |reached: &&Reached| reached.session_id == session_id;
        let Some(reached) = tunnels.sessions.get(&carrier).filter(is_current) else {
            // It is draining: the server has taken everything away from it.
            return Next::GoOn;
        };
        if !tunnels.wanted.contains_key(&number) {
            if matches!(answer, Registered::Ok { .. }) {
                // It was given up while it was asked for.
                reached.session.unregister(number);
            }
            return Next::GoOn;
        }
        match answer {
            Registered::Ok { address } => {
                self.registered(&mut tunnels, carrier, number, &address);
                Next::GoOn
            }
            Registered::Refused(refusal) => self.refused(&mut tunnels, carrier, number, refusal),
        }
    }

    fn registered(
        &self,
        tunnels: &mut Tunnels,
        carrier: CarrierNumber,
        number: u32,
        address: &str,
    ) {
        let Tunnels { wanted, sessions, .. } = tunnels;
        let (Some(wanted), Some(reached)) = (wanted.get_mut(&number), sessions.get(&carrier))
        else {
            return;
        };
        let registration = self.connector.place(reached.session_id, &wanted.spec, address);
        let is_new = !wanted.is_held();
        wanted.standing.insert(carrier, Standing::Held);
        if is_left_open(&wanted.spec) {
            wanted.picked = Some(registration.name.clone());
        }
        wanted.told = None;
        wanted.ask(number, sessions);
        if is_new {
            self.tell(Event::TunnelReady(registration.clone()));
        }
        if let Some(first) = wanted.first.take() {
            // Whoever waited may have given up.
            let _ = first.send(Ok(registration));
        }
    }

    fn refused(
        &self,
        tunnels: &mut Tunnels,
        carrier: CarrierNumber,
        number: u32,
        refusal: Refusal,
    ) -> Next {
        let Some(wanted) = tunnels.wanted.get_mut(&number) else { return Next::GoOn };
        let mut backoff = match wanted.standing.remove(&carrier) {
            Some(Standing::Asked(backoff)) => backoff,
            _ => Backoff::default(),
        };
        let is_held = wanted.is_held();
        let is_superseded = refusal.code == RefusalCode::Superseded;
        let name = label(wanted);
        if wanted.first.is_none() && !is_superseded && (is_held || self.retry == Retry::Forever) {
            // It was ours before: whatever is in the way may pass.
            let pause = backoff.next(false);
            wanted.standing.insert(carrier, Standing::Refused(backoff));
            if !is_held && wanted.told.as_ref() != Some(&refusal.reason) {
                let reason = format!("{}; the client asks for it again", refusal.reason);
                wanted.told = Some(refusal.reason);
                self.tell(Event::TunnelLost { name, reason });
            }
            return Next::AskAgain(pause);
        }
        if let Some(known) = tunnels.wanted.remove(&number) {
            tunnels.give_up(number, &known);
            self.tell(Event::TunnelLost { name, reason: refusal.reason.clone() });
            if let Some(first) = known.first {
                let _ = first.send(Err(ConnectError::Refused(refusal)));
                return Next::GoOn;
            }
        }
        match () {
            () if !is_superseded => Next::End(ConnectError::Refused(refusal)),
            () if tunnels.wanted.is_empty() => Next::End(ConnectError::Superseded(refusal.reason)),
            () => Next::GoOn,
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
    prefer(&mut asked);
    join(&mut asked);
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
fn to_register(wanted: &Wanted, carrier: CarrierNumber) -> Register {
    let mut register = as_known(wanted);
    if wanted.is_held() {
        join(&mut register);
    }
    carrier.mark(&mut register);
    register
}

fn as_known(wanted: &Wanted) -> Register {
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
    let Register { kind, name, port, .. } = as_known(wanted);
    match (name.is_empty(), port) {
        (true, 0) => kind.to_string(),
        (true, port) => format!("{kind}:{port}"),
        (false, _) => name,
    }
}

#[cfg(test)]
mod tests;
