//! What a client wants, and the session it has for it.

use std::sync::Arc;
use std::time::Duration;

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::frame::{Refusal, RefusalCode, Register, Registered};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::backoff::Backoff;
use super::connect::Connector;
use super::{Event, Registration, Retry, TunnelSpec};
use crate::direct::Streams;
use crate::error::ConnectError;
use crate::options::prefer;
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
    pub(super) streams: Tasks,
    /// A tunnel came or went.
    pub(super) tunnels_changed: Notify,
}

#[derive(Default)]
struct Tunnels {
    next_number: u32,
    wanted: HashMap<u32, Wanted>,
    session: Option<(Session, SessionId)>,
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
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self {
            connector,
            retry,
            tunnels: Mutex::default(),
            events,
            stop: watch::Sender::new(false),
            end: watch::Sender::new(None),
            streams: Tasks::default(),
            tunnels_changed: Notify::new(),
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
        let wanted =
            Wanted { spec: Arc::new(spec), first: Some(first), picked: None, refused: None };
        if let Some((session, _)) = &tunnels.session {
            session.register(number, to_register(&wanted));
        }
        tunnels.wanted.insert(number, wanted);
        self.tunnels_changed.notify_one();
        number
    }

    pub(super) fn remove(&self, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let known = tunnels.wanted.remove(&number).is_some();
        self.tunnels_changed.notify_one();
        if let (true, Some((session, _))) = (known, &tunnels.session) {
            session.unregister(number);
        }
    }

    /// A new session: everything wanted is asked for again.
    pub(super) fn enter(&self, session: &Session, session_id: SessionId) {
        let mut tunnels = self.tunnels.lock();
        tunnels.session = Some((session.clone(), session_id));
        let mut numbers: Vec<u32> = tunnels.wanted.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(wanted) = tunnels.wanted.get(&number) {
                session.register(number, to_register(wanted));
            }
        }
    }

    /// Asks `session` for a tunnel that it refused, unless nobody wants it any more.
    pub(super) fn ask_again(&self, session: &Session, number: u32) {
        let tunnels = self.tunnels.lock();
        if let Some(wanted) = tunnels.wanted.get(&number)
            && !*self.stop.borrow()
        {
            session.register(number, to_register(wanted));
        }
    }

    pub(super) fn wants_nothing(&self) -> bool {
        self.tunnels.lock().wanted.is_empty()
    }

    pub(super) fn leave(&self) {
        self.tunnels.lock().session = None;
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    pub(super) fn answered(&self, number: u32, answer: Registered) -> Next {
        match answer {
            Registered::Ok { address } => {
                self.registered(number, &address);
                Next::GoOn
            }
            Registered::Refused(refusal) => self.refused(number, refusal),
        }
    }

    fn registered(&self, number: u32, address: &str) {
        let mut tunnels = self.tunnels.lock();
        let Some((_, session_id)) = tunnels.session else { return };
        let Some(wanted) = tunnels.wanted.get_mut(&number) else { return };
        let registration = self.connector.place(session_id, &wanted.spec, address);
        if is_left_open(&wanted.spec) {
            wanted.picked = Some(registration.name.clone());
        }
        wanted.refused = None;
        let first = wanted.first.take();
        drop(tunnels);
        self.tell(Event::TunnelReady(registration.clone()));
        first.map(|first| first.send(Ok(registration)));
    }

    fn refused(&self, number: u32, refusal: Refusal) -> Next {
        let mut tunnels = self.tunnels.lock();
        let Some(wanted) = tunnels.wanted.get_mut(&number) else { return Next::GoOn };
        let (name, first) = (label(wanted), wanted.first.take());
        let is_superseded = refusal.code == RefusalCode::Superseded;
        if first.is_none() && !is_superseded && self.retry == Retry::Forever {
            // It was ours before: whatever is in the way may pass.
            let refused = wanted.refused.get_or_insert_default();
            let is_known = refused.reason == refusal.reason;
            refused.reason.clone_from(&refusal.reason);
            let pause = refused.backoff.next(false);
            drop(tunnels);
            if !is_known {
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
            self.leave();
            // Listeners of this process hold their handles: without this they would wait for ever.
            let wanted = std::mem::take(&mut self.tunnels.lock().wanted);
            drop(wanted);
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
