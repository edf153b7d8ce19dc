//! What a client wants, and the sessions it has for it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::Contention;
use ferrotunnel_protocol::frame::{GoAwayCode, Open, Refusal, RefusalCode, Register, Registered};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot, watch};

use super::backoff::Backoff;
use super::connect::Connector;
use super::counts::{Book, OfTunnel};
use super::growth::LOOK_EVERY;
use super::local::{Visit, Visitor};
use super::parting::Parting;
use super::reader::{ClientTunnelReading, ControlError, LocalHealth, TunnelState};
use super::roster::{CarrierId, Roster, ServerIndex, ServerMode};
use super::vigil::Cause;
use super::{Event, Registration, Retry, TunnelSpec};
use crate::bulk::Bulk;
use crate::direct::{FAR, Streams};
use crate::error::ConnectError;
use crate::hooks::{OpenedStream, StreamHooks};
use crate::options::{self, CarrierNumber, join, path_behind, prefer, tell_health, tell_paused};
use crate::session::Session;
use crate::shards::{Runtimes, Shards};
use crate::tap::{Tap, TapMaker, TappedStream};
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
    /// Those that look after local services.
    pub(super) checks: Tasks,
    /// A tunnel came or went, or a session began to drain.
    pub(super) tunnels_changed: watch::Sender<()>,
    /// The servers, which carriers there should be to them, and how many have a session.
    pub(super) roster: watch::Sender<Roster>,
    /// How often sessions may have died without a sign.
    pub(super) alarms: watch::Sender<u32>,
    /// Who sees streams.
    hooks: Option<Arc<dyn StreamHooks>>,
    /// What it counts.
    pub(super) book: Arc<Book>,
    /// Who sees what passes through those of HTTP tunnels.
    pub(super) taps: OnceLock<Arc<dyn TapMaker>>,
    /// Those of the client's threads, and the one that it was started on.
    pub(super) runtimes: Runtimes,
    /// Where connections go on while they move much. Its threads live as long as this.
    pub(super) bulk: Bulk,
}

#[derive(Default)]
struct Tunnels {
    next_number: u32,
    wanted: HashMap<u32, Wanted>,
    sessions: Sessions,
    /// Where each server was last.
    last_reached: BTreeMap<ServerIndex, SocketAddr>,
}

/// The sessions that tunnels are asked for over, by carrier.
type Sessions = BTreeMap<CarrierId, Reached>;

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

/// How the first answer gets to who waits for it.
pub(super) type First = oneshot::Sender<Result<Registration, ConnectError>>;

struct Wanted {
    spec: Arc<TunnelSpec>,
    /// Who waits for the first answer.
    first: Option<First>,
    /// Nobody waits for a first answer, whether good or bad: it is asked for until a server has it.
    is_patient: bool,
    /// The name or port that each server picked, where the spec leaves it open.
    picked: BTreeMap<ServerIndex, String>,
    /// How it stands over each carrier where it was asked for.
    standing: BTreeMap<CarrierId, Standing>,
    /// Why a server refuses what was registered before, as it was told last.
    told: BTreeMap<ServerIndex, String>,
    /// The servers where a newer client has it.
    given_up: BTreeSet<ServerIndex>,
    /// Where visitors reach it, at each server that has had it.
    places: BTreeMap<ServerIndex, Registration>,
    /// The local service is down, as far as checks say.
    is_down: bool,
    /// It takes no visitors until further notice.
    is_paused: bool,
    of: Arc<OfTunnel>,
}

/// How a tunnel stands over one carrier.
enum Standing {
    /// Asked for, without an answer yet.
    Asked(Backoff),
    /// Registered.
    Held,
    /// Refused, and to be asked for again after a pause.
    Refused(Backoff),
    /// This client has it, or asks for it, over a session that leads to the same server by another address. It is asked
    /// for again when there is none any more.
    Moved,
}

impl Wanted {
    fn new(spec: TunnelSpec, first: Option<First>, book: &Book) -> Self {
        Self {
            of: book.tunnel(spec.kind),
            spec: Arc::new(spec),
            is_patient: first.is_none(),
            first,
            picked: BTreeMap::new(),
            standing: BTreeMap::new(),
            told: BTreeMap::new(),
            given_up: BTreeSet::new(),
            places: BTreeMap::new(),
            is_down: false,
            is_paused: false,
        }
    }

    /// What people know it by: as it was picked, if one server has picked it.
    fn name(&self) -> String {
        match self.picked.keys().next() {
            Some(server) => label(self, *server),
            None => named(as_asked(&self.spec)),
        }
    }

    /// How it stands at a server.
    fn at(&self, server: ServerIndex) -> impl Iterator<Item = &Standing> {
        let at = self.standing.iter().filter(move |(carrier, _)| carrier.server == server);
        at.map(|(_, standing)| standing)
    }

    fn is_held_at(&self, server: ServerIndex) -> bool {
        self.at(server).any(|standing| matches!(standing, Standing::Held))
    }

    fn is_asked_at(&self, server: ServerIndex) -> bool {
        self.at(server).any(|standing| matches!(standing, Standing::Asked(_)))
    }

    /// Whether another server has it, or may say yes.
    fn is_elsewhere(&self, server: ServerIndex) -> bool {
        self.standing.iter().any(|(carrier, standing)| {
            carrier.server != server && matches!(standing, Standing::Asked(_) | Standing::Held)
        })
    }

    /// Whether a server has it, or may say yes.
    fn is_anywhere(&self) -> bool {
        let mut standing = self.standing.values();
        standing.any(|standing| matches!(standing, Standing::Asked(_) | Standing::Held))
    }

    /// A newer client has it at that server, and at whatever address the server may have besides.
    fn give_up_at(&mut self, server: ServerIndex) {
        let moved = self.standing.iter().filter(|(_, one)| matches!(one, Standing::Moved));
        self.given_up.extend(moved.map(|(carrier, _)| carrier.server));
        self.given_up.insert(server);
    }

    fn read(&self, number: u32, sessions: &Sessions) -> ClientTunnelReading {
        let Self { spec, of, .. } = self;
        let held = self.standing.iter().filter(|(_, one)| matches!(one, Standing::Held));
        let held: Vec<CarrierId> = held.map(|(carrier, _)| *carrier).collect();
        let places = self.places.iter().filter(|(server, _)| self.is_held_at(**server));
        let is_refused =
            || self.standing.values().any(|standing| matches!(standing, Standing::Refused(_)));
        let state = match () {
            () if self.is_paused => TunnelState::Paused,
            () if !held.is_empty() => TunnelState::Up,
            () if is_refused() => TunnelState::Refused,
            () if self.places.is_empty() => TunnelState::Connecting,
            () => TunnelState::Away,
        };
        let health = if self.is_down { LocalHealth::Down } else { LocalHealth::Up };
        let counts = of.counts.totals();
        ClientTunnelReading {
            number,
            kind: spec.kind,
            name: self.places.values().next().map_or_else(|| self.name(), |at| at.name.clone()),
            hosts: spec.hosts.clone(),
            public_urls: places.map(|(_, at)| at.public_url.clone()).collect(),
            local: spec.target.to_string(),
            group: options::value(&spec.options, options::GROUP).map(str::to_owned),
            sessions: held
                .iter()
                .filter_map(|carrier| sessions.get(carrier))
                .map(|reached| reached.session_id)
                .collect(),
            state,
            health: spec.health.as_ref().map(|_| health),
            visitors: counts.streams,
            streams_opened: counts.streams_opened,
            bytes_in: counts.bytes_in,
            bytes_out: counts.bytes_out,
            last_error: of.last_error(),
        }
    }

    fn is_held_after(&self, server: ServerIndex) -> bool {
        self.standing.iter().any(|(carrier, standing)| {
            carrier.server > server && matches!(standing, Standing::Held)
        })
    }

    /// Asks for it over every carrier that it is missing from. At each server the first to ask goes
    /// alone: what it gets is what the others ask for.
    fn ask(&mut self, number: u32, sessions: &Sessions) {
        for (carrier, reached) in sessions {
            let server = carrier.server;
            let somebody_asks = !self.is_held_at(server) && self.at(server).next().is_some();
            if somebody_asks || self.given_up.contains(&server) {
                continue;
            }
            let register = to_register(self, *carrier);
            if let Entry::Vacant(place) = self.standing.entry(*carrier) {
                place.insert(Standing::Asked(Backoff::default()));
                reached.session.register(number, register);
            }
        }
    }

    /// Tells every server that has it, or is just asked for it, how it is with it now: what is not as usual, and what
    /// `tells` adds, which is so again.
    fn tell(&self, number: u32, sessions: &Sessions, tells: impl Fn(&mut Register)) {
        for (carrier, standing) in &self.standing {
            if let (Standing::Held | Standing::Asked(_), Some(reached)) =
                (standing, sessions.get(carrier))
            {
                let mut register = to_register(self, *carrier);
                if !self.is_held_at(carrier.server) {
                    // Should it be refused meanwhile, this is not to take it back from a newer client.
                    join(&mut register);
                }
                tells(&mut register);
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
    /// Asks for one more. Returns its number.
    fn add(&mut self, mut wanted: Wanted) -> u32 {
        self.next_number += 1;
        let number = self.next_number;
        wanted.ask(number, &self.sessions);
        self.wanted.insert(number, wanted);
        number
    }

    fn sessions_with(&self, server: ServerIndex) -> usize {
        self.sessions.keys().filter(|carrier| carrier.server == server).count()
    }

    /// Whether nothing would be lost if the client left all later servers for this one.
    fn is_settled(&self, server: ServerIndex) -> bool {
        let is_last = self.sessions.keys().all(|carrier| carrier.server <= server);
        is_last || self.wanted.values().all(|it| it.is_held_at(server) || !it.is_held_after(server))
    }

    /// Takes a tunnel away from wherever it is registered or may yet be.
    fn give_up(&self, number: u32, known: &Wanted) {
        for carrier in known.standing.keys() {
            if let Some(reached) = self.sessions.get(carrier) {
                reached.session.unregister(number);
            }
        }
    }

    /// The same at one server.
    fn give_up_at(&mut self, number: u32, server: ServerIndex) {
        let Self { wanted, sessions, .. } = self;
        let Some(wanted) = wanted.get_mut(&number) else { return };
        wanted.standing.retain(|carrier, _| {
            if carrier.server == server
                && let Some(reached) = sessions.get(carrier)
            {
                reached.session.unregister(number);
            }
            carrier.server != server
        });
    }
}

impl State {
    pub(super) fn new(
        connector: Connector,
        retry: Retry,
        roster: Roster,
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
            checks: Tasks::default(),
            tunnels_changed: watch::Sender::new(()),
            roster: watch::Sender::new(roster),
            alarms: watch::Sender::new(0),
            hooks: None,
            book: Arc::default(),
            taps: OnceLock::new(),
            runtimes: Runtimes::default(),
            bulk: Bulk::default(),
        }
    }

    /// The same on those threads.
    pub(super) fn on(self, shards: &Shards) -> Self {
        Self { runtimes: shards.runtimes(), bulk: shards.bulk().clone(), ..self }
    }

    /// The same with somebody who sees its streams.
    pub(super) fn seen_by(self, hooks: Option<Arc<dyn StreamHooks>>) -> Self {
        Self { hooks, ..self }
    }

    /// Who comes, and who wants to know of it.
    pub(super) fn visit(&self, open: &Open, of: Arc<OfTunnel>) -> Visit {
        Visit::new(Visitor::of(open, self.hooks.as_ref()), of, &self.book)
    }

    /// Tells of a stream that was opened for a tunnel; what is returned is to be kept until it has ended.
    pub(super) fn opened(&self, spec: &TunnelSpec, open: &Open) -> Option<Box<dyn Send + Sync>> {
        let hooks = self.hooks.as_ref()?;
        let name = self.name_of(spec, open.tunnel);
        let (kind, visitor) = (spec.kind, open.visitor);
        let stream = OpenedStream { tunnel: &name, kind, session: None, principal: "", visitor };
        Some(hooks.opened(stream))
    }

    /// What visitors know a tunnel by, its path included.
    fn name_of(&self, spec: &TunnelSpec, number: u32) -> String {
        let picked = || {
            let tunnels = self.tunnels.lock();
            tunnels.wanted.get(&number).and_then(|it| it.picked.values().next().cloned())
        };
        let name = match (spec.name.as_str(), spec.port) {
            ("", 0) => picked().unwrap_or_default(),
            ("", port) => port.to_string(),
            (name, _) => name.to_owned(),
        };
        format!("{name}{}", path_behind(&spec.options))
    }

    /// Who looks at a stream that was opened for a tunnel.
    pub(super) fn tap(&self, spec: &TunnelSpec, open: &Open) -> Option<Box<dyn Tap>> {
        let taps = self.taps.get().filter(|_| spec.kind == TunnelKind::Http)?;
        let name = self.name_of(spec, open.tunnel);
        taps.tap(TappedStream::new(&name, open.tunnel.into(), open.visitor))
    }

    /// Without a `first` it is asked for until a server has it.
    pub(super) fn add(&self, spec: TunnelSpec, first: Option<First>) -> u32 {
        let mut tunnels = self.tunnels.lock();
        let number = tunnels.add(Wanted::new(spec, first, &self.book));
        self.take_stock(&tunnels);
        self.tunnels_changed.send_replace(());
        number
    }

    /// Has another tunnel in the place of one, whose visitors may stay. Returns its number, which is the same
    /// where the servers see no difference.
    pub(super) fn replace(&self, number: u32, spec: TunnelSpec) -> u32 {
        let mut tunnels = self.tunnels.lock();
        let known = tunnels.wanted.remove(&number);
        let number = match known {
            Some(mut known)
                if as_asked(&known.spec) == as_asked(&spec)
                    && known.spec.health.is_none()
                    && spec.health.is_none() =>
            {
                known.spec = Arc::new(spec);
                tunnels.wanted.insert(number, known);
                number
            }
            Some(known) => {
                // First, so that its name is free.
                tunnels.give_up(number, &known);
                let keeps_name = is_left_open(&spec) && is_left_open(&known.spec);
                let mut wanted = Wanted::new(spec, None, &self.book);
                wanted.is_paused = known.is_paused;
                if keeps_name {
                    wanted.picked = known.picked;
                }
                tunnels.add(wanted)
            }
            None => tunnels.add(Wanted::new(spec, None, &self.book)),
        };
        self.take_stock(&tunnels);
        self.tunnels_changed.send_replace(());
        number
    }

    /// As [`remove`](Self::remove), and whoever listens hears of it.
    pub(super) fn withdraw(&self, number: u32) {
        let lost = {
            let tunnels = self.tunnels.lock();
            tunnels.wanted.get(&number).map(|known| self.held_at(known)).unwrap_or_default()
        };
        self.remove(number);
        self.tell_lost(lost, "the client does not want it any more");
    }

    /// The servers that have a tunnel, and its name there.
    fn held_at(&self, known: &Wanted) -> Vec<(String, ServerIndex)> {
        let servers: Vec<_> = self.roster.borrow().servers().collect();
        let held = servers.into_iter().filter(|server| known.is_held_at(*server));
        held.map(|server| (label(known, server), server)).collect()
    }

    fn tell_lost(&self, lost: Vec<(String, ServerIndex)>, reason: &str) {
        for (name, server) in lost {
            let server = self.connector.server(server).to_owned();
            self.tell(Event::TunnelLost { name, server, reason: reason.to_owned() });
        }
    }

    /// A tunnel takes no visitors until further notice, or takes them again. Its servers are told, and keep it: only they
    /// know where a visitor begins who comes over a connection that is kept.
    pub(super) fn set_paused(&self, number: u32, is_paused: bool) -> Result<(), ControlError> {
        let mut tunnels = self.tunnels.lock();
        let Tunnels { wanted, sessions, .. } = &mut *tunnels;
        let Some(wanted) = wanted.get_mut(&number) else { return Err(ControlError::NoSuchTunnel) };
        if std::mem::replace(&mut wanted.is_paused, is_paused) == is_paused {
            return Err(ControlError::Already);
        }
        tracing::info!(
            tunnel = wanted.name(),
            is_paused,
            "whether a tunnel takes visitors has changed"
        );
        wanted.tell(number, sessions, |register| {
            if !is_paused {
                tell_paused(register, false);
            }
        });
        self.tunnels_changed.send_replace(());
        Ok(())
    }

    /// Every tunnel, in the order in which they were wanted.
    pub(super) fn read_tunnels(&self) -> Vec<ClientTunnelReading> {
        let tunnels = self.tunnels.lock();
        let read = |(number, wanted): (&u32, &Wanted)| wanted.read(*number, &tunnels.sessions);
        let mut readings: Vec<_> = tunnels.wanted.iter().map(read).collect();
        readings.sort_unstable_by_key(|reading| reading.number);
        readings
    }

    pub(super) fn is_wanted(&self, number: u32) -> bool {
        self.tunnels.lock().wanted.contains_key(&number)
    }

    pub(super) fn remove(&self, number: u32) {
        let mut tunnels = self.tunnels.lock();
        let known = tunnels.wanted.remove(&number);
        self.tunnels_changed.send_replace(());
        if let Some(known) = known {
            tunnels.give_up(number, &known);
        }
        self.take_stock(&tunnels);
    }

    /// Tells those who wait what sessions there are.
    fn take_stock(&self, tunnels: &Tunnels) {
        self.roster.send_if_modified(|roster| {
            let mut is_news = false;
            for server in roster.servers() {
                let (sessions, settled) =
                    (tunnels.sessions_with(server), tunnels.is_settled(server));
                is_news |= roster.set_sessions(server, sessions, settled);
            }
            is_news
        });
    }

    /// A new session: everything wanted is asked for over it.
    pub(super) fn enter(
        &self,
        carrier: CarrierId,
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
        if let Some(peer) = peer {
            tunnels.last_reached.insert(carrier.server, peer);
        }
        if tunnels.sessions_with(carrier.server) == 1 {
            let server = self.connector.server(carrier.server).to_owned();
            self.tell(Event::Connected { session_id, server });
        }
        let mut numbers: Vec<u32> = tunnels.wanted.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(wanted) = tunnels.wanted.get_mut(&number) {
                wanted.ask(number, &tunnels.sessions);
            }
        }
        self.take_stock(tunnels);
    }

    /// Where a server is, while there is a session with it.
    pub(super) fn reached(&self, server: ServerIndex) -> Option<SocketAddr> {
        let tunnels = self.tunnels.lock();
        let with = tunnels.sessions.iter().filter(|(carrier, _)| carrier.server == server);
        with.filter_map(|(_, reached)| reached.peer).next()
    }

    /// Where the servers are, or were last.
    pub(super) fn last_reached(&self) -> BTreeSet<SocketAddr> {
        self.tunnels.lock().last_reached.values().copied().collect()
    }

    /// Sessions may have died without a sign: each is asked for one, and who waits waits no longer.
    pub(super) fn alarm(&self, cause: Cause) {
        tracing::debug!(?cause, "asking the server for a sign of life");
        self.alarms.send_modify(|alarms| *alarms = alarms.wrapping_add(1));
    }

    /// The local service of a tunnel is well, or down for that reason: every server that has the tunnel, or is just
    /// asked for it, is told.
    pub(super) fn set_health(&self, number: u32, fault: Option<String>) {
        let mut tunnels = self.tunnels.lock();
        let Tunnels { wanted, sessions, .. } = &mut *tunnels;
        let Some(wanted) = wanted.get_mut(&number) else { return };
        wanted.is_down = fault.is_some();
        wanted.tell(number, sessions, |register| {
            if fault.is_none() {
                tell_health(register, false);
            }
        });
        let name = wanted.name();
        self.tell(match fault {
            Some(reason) => Event::LocalServiceDown { name, reason },
            None => Event::LocalServiceUp { name },
        });
    }

    /// Asks again for a tunnel that was refused, unless nobody wants it any more.
    pub(super) fn ask_again(&self, carrier: CarrierId, number: u32) {
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

    #[cfg(test)]
    pub(super) fn session_ids(&self) -> Vec<SessionId> {
        self.tunnels.lock().sessions.values().map(|reached| reached.session_id).collect()
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
    /// another one to that server is asked for now. `told` is for the case that there is no session any
    /// more: with that server, or, where one is enough, with any.
    pub(super) fn leave(&self, carrier: CarrierId, told: Option<Event>) {
        let server = carrier.server;
        let mut tunnels = self.tunnels.lock();
        let Tunnels { wanted, sessions, .. } = &mut *tunnels;
        let had_session = sessions.remove(&carrier).is_some();
        for (number, wanted) in wanted {
            match wanted.standing.remove(&carrier) {
                // What this session had lost before may be had by another address of its server.
                None | Some(Standing::Refused(_)) if !wanted.is_anywhere() => {
                    wanted.standing.retain(|_, standing| !matches!(standing, Standing::Moved));
                }
                None | Some(Standing::Refused(_) | Standing::Moved) => {}
                // Those that were refused beside it have their turn at once, and so have other addresses of
                // its server.
                Some(_) if !wanted.is_held_at(server) && !wanted.is_asked_at(server) => {
                    wanted.standing.retain(|carrier, standing| {
                        carrier.server != server && !matches!(standing, Standing::Moved)
                    });
                }
                Some(_) => {}
            }
            wanted.ask(*number, sessions);
        }
        self.take_stock(&tunnels);
        let left = match self.roster.borrow().mode() {
            ServerMode::Failover => tunnels.sessions.len(),
            ServerMode::All => tunnels.sessions_with(server),
        };
        if let Some(told) = told
            && left == 0
            // Of attempts that fail only the first carrier tells.
            && (had_session || carrier.is_first())
        {
            self.tell(told);
        }
    }

    /// What goes on on each carrier that leads far, by server.
    pub(super) fn contention(&self, server: ServerIndex, now: Instant) -> Vec<Contention> {
        let sessions: Vec<Session> = {
            let tunnels = self.tunnels.lock();
            let with = tunnels.sessions.iter().filter(|(carrier, _)| carrier.server == server);
            with.map(|(_, reached)| reached.session.clone()).collect()
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
        carrier: CarrierId,
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
        let next = match answer {
            Registered::Ok { address } => {
                self.registered(&mut tunnels, carrier, number, &address);
                Next::GoOn
            }
            Registered::Refused(refusal) => self.refused(&mut tunnels, carrier, number, refusal),
        };
        self.take_stock(&tunnels);
        next
    }

    fn registered(&self, tunnels: &mut Tunnels, carrier: CarrierId, number: u32, address: &str) {
        let server = carrier.server;
        let Tunnels { wanted, sessions, .. } = tunnels;
        let (Some(wanted), Some(reached)) = (wanted.get_mut(&number), sessions.get(&carrier))
        else {
            return;
        };
        let registration = self.connector.place(server, reached.session_id, &wanted.spec, address);
        let is_new = !wanted.is_held_at(server);
        wanted.standing.insert(carrier, Standing::Held);
        if is_left_open(&wanted.spec) {
            // Without the path, which is the client's own to say.
            let picked = registration.name.split('/').next().unwrap_or_default();
            wanted.picked.insert(server, picked.to_owned());
        }
        wanted.told.remove(&server);
        wanted.places.insert(server, registration.clone());
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
        carrier: CarrierId,
        number: u32,
        refusal: Refusal,
    ) -> Next {
        let at = carrier.server;
        let server = self.connector.server(at).to_owned();
        let Some(wanted) = tunnels.wanted.get_mut(&number) else { return Next::GoOn };
        let mut backoff = match wanted.standing.remove(&carrier) {
            Some(Standing::Asked(backoff)) => backoff,
            _ => Backoff::default(),
        };
        let is_superseded = refusal.code == RefusalCode::Superseded;
        let name = label(wanted, at);
        let is_held = wanted.is_held_at(at);
        wanted.of.went_wrong(format!("{server} refused it: {}", refusal.reason));
        let is_moved = refusal.code == RefusalCode::Moved;
        if is_moved && wanted.is_anywhere() {
            wanted.standing.insert(carrier, Standing::Moved);
            if !is_held {
                self.tell(Event::TunnelLost { name, server, reason: refusal.reason });
            }
            return Next::GoOn;
        }
        let was_ours = wanted.first.is_none()
            && (is_held || wanted.is_patient || self.retry == Retry::Forever);
        if !is_superseded && (is_moved || was_ours || wanted.is_elsewhere(at)) {
            // Whatever is in the way may pass. What has moved to no session that is known here did so to one that was left,
            // and that is dead or about to hear of it.
            let pause = backoff.next(false);
            wanted.standing.insert(carrier, Standing::Refused(backoff));
            if !is_held && wanted.told.get(&at) != Some(&refusal.reason) {
                let reason = format!("{}; the client asks for it again", refusal.reason);
                wanted.told.insert(at, refusal.reason);
                self.tell(Event::TunnelLost { name, server, reason });
            }
            return Next::AskAgain(pause);
        }
        wanted.give_up_at(at);
        let all = {
            let roster = self.roster.borrow();
            roster.mode() == ServerMode::Failover
                || wanted.given_up.len() == roster.servers().count()
        };
        if is_superseded && !all {
            // The newer client may know this server only.
            tunnels.give_up_at(number, at);
            self.tell(Event::TunnelLost { name, server, reason: refusal.reason });
            return Next::GoOn;
        }
        let error = || match is_superseded {
            true => ConnectError::Superseded(refusal.reason.clone()),
            false => ConnectError::Refused(refusal.clone()),
        };
        if let Some(known) = tunnels.wanted.remove(&number) {
            tunnels.give_up(number, &known);
            self.tell(Event::TunnelLost { name, server, reason: refusal.reason.clone() });
            if let Some(first) = known.first {
                let _ = first.send(Err(error()));
                if !is_superseded {
                    return Next::GoOn;
                }
            }
        }
        match is_superseded && !tunnels.wanted.is_empty() {
            true => Next::GoOn,
            false => Next::End(error()),
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
                let is_able = matches!(wanted.spec.kind, TunnelKind::Tcp | TunnelKind::Tls);
                is_able && Streams::of(&wanted.spec.options) == streams
            })
        };
        match () {
            () if wants(Streams::Direct) => Streams::Direct,
            () if wants(Streams::Auto) => Streams::Auto,
            () => Streams::Multiplexed,
        }
    }

    pub(super) fn target(&self, number: u32) -> Option<(Arc<TunnelSpec>, Arc<OfTunnel>)> {
        let tunnels = self.tunnels.lock();
        tunnels.wanted.get(&number).map(|it| (Arc::clone(&it.spec), Arc::clone(&it.of)))
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
            let tunnels = std::mem::take(&mut *self.tunnels.lock());
            drop(tunnels);
            self.checks.abort_all();
            self.tell(Event::Ended { reason });
        }
    }
}

/// What a server would say, if it could be asked.
pub(super) fn too_long() -> Refusal {
    let reason = "a name has at most 63 bytes, a host 253, and a tunnel has at most 32 hosts; its further settings have room for \
                  some 500 networks, 200 passwords or 30 KiB of headers, so write fewer and wider ones";
    Refusal { code: RefusalCode::InvalidName, reason: reason.to_owned() }
}

/// Whether it can be asked for, also again.
pub(super) fn is_within_caps(spec: &TunnelSpec) -> bool {
    let mut asked = as_asked(spec);
    prefer(&mut asked);
    join(&mut asked);
    tell_health(&mut asked, true);
    tell_paused(&mut asked, false);
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
fn to_register(wanted: &Wanted, carrier: CarrierId) -> Register {
    let mut register = as_known(wanted, carrier.server);
    if wanted.is_held_at(carrier.server) {
        join(&mut register);
    }
    if wanted.is_down {
        tell_health(&mut register, true);
    }
    if wanted.is_paused {
        tell_paused(&mut register, true);
    }
    carrier.number.mark(&mut register);
    register
}

fn as_known(wanted: &Wanted, server: ServerIndex) -> Register {
    let mut register = as_asked(&wanted.spec);
    if let Some(picked) = wanted.picked.get(&server) {
        match register.kind {
            TunnelKind::Tcp | TunnelKind::Udp => register.port = picked.parse().unwrap_or(0),
            TunnelKind::Http | TunnelKind::Tls => register.name.clone_from(picked),
        }
        prefer(&mut register);
    }
    register
}

fn label(wanted: &Wanted, server: ServerIndex) -> String {
    named(as_known(wanted, server))
}

fn named(Register { kind, name, port, options, .. }: Register) -> String {
    asked_for((kind, &name, port), &options)
}

/// What a tunnel is called before its server has picked anything.
pub(super) fn asked_for(
    (kind, name, port): (TunnelKind, &str, u16),
    options: &[(String, String)],
) -> String {
    match (name.is_empty(), port) {
        (true, 0) => kind.to_string(),
        (true, port) => format!("{kind}:{port}"),
        (false, _) => format!("{name}{}", path_behind(options)),
    }
}

#[cfg(test)]
mod tests;
