//! What a client wants, and the session it has for it.

use std::sync::Arc;

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::frame::{Refusal, RefusalCode, Register, Registered};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot, watch};

use super::connect::Connector;
use super::{Event, Registration, Retry, TunnelSpec};
use crate::error::ConnectError;
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
        let register = to_register(&spec);
        tunnels.wanted.insert(number, Wanted { spec: Arc::new(spec), first: Some(first) });
        if let Some((session, _)) = &tunnels.session {
            session.register(number, register);
        }
        number
    }

    pub(super) fn remove(&self, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let known = tunnels.wanted.remove(&number).is_some();
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
                session.register(number, to_register(&wanted.spec));
            }
        }
    }

    pub(super) fn leave(&self) {
        self.tunnels.lock().session = None;
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    pub(super) fn registered(&self, number: u32, answer: Registered) -> Option<ConnectError> {
        let mut tunnels = self.tunnels.lock();
        let session_id = tunnels.session.as_ref().map(|(_, id)| *id)?;
        let wanted = tunnels.wanted.get_mut(&number)?;
        match answer {
            Registered::Ok { address } => {
                let registration = self.connector.place(session_id, &wanted.spec, &address);
                keep_place(wanted, &registration);
                let first = wanted.first.take();
                drop(tunnels);
                self.tell(Event::TunnelReady(registration.clone()));
                first.map(|first| first.send(Ok(registration)));
                None
            }
            Registered::Refused(refusal) => {
                let name = label(&wanted.spec);
                let first = wanted.first.take();
                let superseded = refusal.code == RefusalCode::Superseded;
                if first.is_some() || superseded {
                    tunnels.wanted.remove(&number);
                }
                let none_left = tunnels.wanted.is_empty();
                drop(tunnels);
                self.tell(Event::TunnelLost { name, reason: refusal.reason.clone() });
                match first {
                    Some(first) => {
                        let _ = first.send(Err(ConnectError::Refused(refusal)));
                        None
                    }
                    None if superseded && none_left => {
                        Some(ConnectError::Superseded(refusal.reason))
                    }
                    None if superseded => None,
                    // It was ours before: whatever is in the way may pass.
                    None => Some(ConnectError::RefusedAgain(refusal)),
                }
            }
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

pub(super) fn is_within_caps(spec: &TunnelSpec) -> bool {
    to_register(spec).is_within_caps()
}

fn to_register(spec: &TunnelSpec) -> Register {
    Register {
        kind: spec.kind,
        name: spec.name.clone(),
        hosts: spec.hosts.clone(),
        port: spec.port,
        options: spec.options.clone(),
    }
}

/// What the server picked is asked for again after a reconnect, so that visitors find it.
fn keep_place(wanted: &mut Wanted, registration: &Registration) {
    let spec = Arc::make_mut(&mut wanted.spec);
    match spec.kind {
        TunnelKind::Tcp | TunnelKind::Udp => {
            spec.port = registration.name.parse().unwrap_or(spec.port);
        }
        TunnelKind::Http | TunnelKind::Tls => spec.name.clone_from(&registration.name),
    }
}

fn label(spec: &TunnelSpec) -> String {
    match (spec.name.is_empty(), spec.port) {
        (true, 0) => spec.kind.to_string(),
        (true, port) => format!("{}:{port}", spec.kind),
        (false, _) => spec.name.clone(),
    }
}
