//! A registered tunnel.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ferrotunnel_common::{ClientId, SessionId, TraceContext, TunnelKind};
use ferrotunnel_protocol::frame::{Register, TunnelOptions};
use ferrotunnel_protocol::{OpenError, OpenRequest, Side};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Owner;
use super::health::Health;
use super::owner::Seniority;
use super::path::PathPrefix;
use crate::access::Access;
use crate::balance::{Balance, Turn};
use crate::clock;
use crate::counters::{Tally, TunnelCounts};
use crate::direct::{Met, Ready, Streams};
use crate::hooks::{OpenedStream, ServerHooks};
use crate::moving::Mover;
use crate::open_streams::{About, OpenStreams};
use crate::options::{self, CarrierNumber};
use crate::principals::{Denied, Policy, Principal};
use crate::rules::{IngressRules, Rules};
use crate::seat::Seat;
use crate::server::TunnelReading;
use crate::spares::{Spare, Spares};
use crate::stream::Stream;
use crate::tcp_ingress::Visitor;
use crate::throttle::{Throttles, Way};
use crate::turned_away::{Limit, Meters};

/// Unique per registration in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelUid(pub u64);

impl std::fmt::Display for TunnelUid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A public name or port, bound to one client or to a group of them. Used as `Arc<Tunnel>`: whoever
/// holds one may open streams for as long as a session of theirs lives.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) uid: TunnelUid,
    kind: TunnelKind,
    name: String,
    label: String,
    /// For whoever looks at it from outside: its kind and label.
    id: Arc<str>,
    stand: Stand,
    options: TunnelOptions,
    /// Somebody at the server has said that it takes no visitors for now.
    paused: AtomicBool,
    /// One of those who have it takes no visitors for now, so that there is something to look for.
    has_paused: AtomicBool,
    /// `None`: everybody may visit it.
    access: Option<Box<Access>>,
    /// `None`: the headers of its messages pass as they are.
    headers: Option<IngressRules>,
    streams: Streams,
    balance: Balance,
    turn: Turn,
    principal: Arc<Principal>,
    places: Places,
    presence: Mutex<Presence>,
    /// The client is back, or will not come any more. Whoever waits for that holds a share of it.
    changed: Arc<Notify>,
    /// What whoever counts requests finds again with it.
    kept: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Where a tunnel stands that is routed by host.
#[derive(Debug, Default)]
pub(super) struct Stand {
    /// In lower case; wildcards as `*.example`.
    pub(super) hosts: Vec<String>,
    /// Under each of them.
    pub(super) path: PathPrefix,
    /// The local service does not know of the path.
    pub(super) strips_path: bool,
}

impl Stand {
    /// A tunnel's name with its path, if it has one.
    pub(super) fn label(&self, name: &str) -> String {
        match self.path.is_whole() {
            true => name.to_owned(),
            false => format!("{name}{}", self.path),
        }
    }
}

/// A direct carrier that a visitor has waited for, and whose it is.
pub(super) struct Direct {
    member: Member,
    ready: Ready,
}

/// The visitors that a tunnel may have at once.
#[derive(Debug)]
pub(super) struct Places {
    /// The same for all that have been registered in its place by its principal.
    taken: Arc<AtomicUsize>,
    /// Streams that nobody uses, of all of those.
    spares: Arc<Spares>,
    /// The same for all tunnels.
    most: Arc<AtomicUsize>,
    meters: Meters,
    /// What passes through tunnels of its name.
    counts: Arc<TunnelCounts>,
    /// Who sees the streams.
    hooks: Option<Arc<dyn ServerHooks>>,
    /// Where they are listed one by one, if anywhere; the same for all tunnels.
    list: Arc<OnceLock<Arc<OpenStreams>>>,
}

impl Places {
    pub(super) fn new(
        (taken, spares): (Arc<AtomicUsize>, Arc<Spares>),
        most: Arc<AtomicUsize>,
        meters: Meters,
        counts: Arc<TunnelCounts>,
        hooks: Option<Arc<dyn ServerHooks>>,
        list: Arc<OnceLock<Arc<OpenStreams>>>,
    ) -> Self {
        Self { taken, spares, most, meters, counts, hooks, list }
    }

    fn take(&self) -> Option<Seat> {
        Seat::take_within(&self.taken, self.most.load(Ordering::Relaxed))
    }
}

/// Who has a tunnel.
#[derive(Debug, Default)]
struct Presence {
    /// The carriers over which it is registered, by client and number.
    carriers: Vec<Member>,
    /// The client that was there last: it may come back.
    last: Option<ClientId>,
    /// Since when there is none, while the client may come back.
    away_since: Option<Instant>,
    /// One of those that its principal may have while their clients are away.
    absence: Option<Seat>,
    /// It has left the registry.
    gone: bool,
    /// Among those that its principal may have so many of.
    counted: bool,
}

/// One carrier of the client that has a tunnel.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) carrier: CarrierNumber,
    pub(super) owner: Arc<Owner>,
    /// The tunnel's number in that session.
    pub(super) number: u32,
    /// When it asked for the tunnel.
    asked: Instant,
    /// The session over which its client has claimed the tunnel, and when: who only joins in claims nothing.
    claimed: (Seniority, Instant),
    /// Whether its local service answers.
    pub(super) health: Arc<Health>,
    /// Requests that it has been chosen for and that are not over.
    requests: Arc<AtomicUsize>,
}

/// One of those that have a tunnel, chosen for one request. While it lives the request counts as open.
#[derive(Debug)]
pub struct Servant {
    session: SessionId,
    _request: Option<Seat>,
}

impl Servant {
    /// Its session: connections to its local service may be kept for it.
    pub fn session(&self) -> SessionId {
        self.session
    }
}

/// Who serves a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServedBy {
    pub(super) client: ClientId,
    pub(super) session: SessionId,
}

/// A stream for a visitor.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// The runtime that the stream's session lives on if that is not here.
    pub(super) home: Option<Handle>,
    pub(super) by: ServedBy,
    /// Whose stream it is.
    owner: Arc<Owner>,
    /// The tunnel has more than one carrier.
    pub(super) is_shared: bool,
}

impl Tunnel {
    /// `wanted` with the name and port as they are registered.
    pub(super) fn new(
        uid: TunnelUid,
        first: Member,
        wanted: Register,
        stand: Stand,
        places: Places,
        rules: Rules,
    ) -> Self {
        Self {
            uid,
            kind: wanted.kind,
            id: id(wanted.kind, &stand.label(&wanted.name)).into(),
            label: stand.label(&wanted.name),
            paused: AtomicBool::new(false),
            has_paused: AtomicBool::new(first.health.is_paused()),
            name: wanted.name,
            stand,
            access: rules.access,
            headers: rules.headers,
            streams: Streams::of(&wanted.options),
            balance: Balance::of(&wanted.options),
            turn: Turn::default(),
            options: options::lasting(wanted.options),
            principal: Arc::clone(first.owner.principal()),
            places,
            presence: Mutex::new(Presence { carriers: vec![first], ..Presence::default() }),
            changed: Arc::default(),
            kept: OnceLock::new(),
        }
    }

    /// Unique per registration.
    pub fn uid(&self) -> TunnelUid {
        self.uid
    }

    /// The name it was registered under; for `tcp` its port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same with its path, if it has one: for whoever has to tell the tunnels of one host apart.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it is called by whoever looks at it from outside, like `http:app` or `tcp:9000`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether visitors are to be turned away for now, because somebody at the server said so, or everybody who has it. Those
    /// inside stay.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
            || (self.has_paused.load(Ordering::Relaxed) && self.are_all_paused())
    }

    fn are_all_paused(&self) -> bool {
        let carriers = &self.presence.lock().carriers;
        // Who is away may take visitors when it is back.
        !carriers.is_empty() && carriers.iter().all(|one| one.health.is_paused())
    }

    /// Somebody who has it has said whether they take visitors.
    pub(super) fn look_for_pauses(&self) {
        let carriers = &self.presence.lock().carriers;
        let has_paused = carriers.iter().any(|one| one.health.is_paused());
        self.has_paused.store(has_paused, Ordering::Relaxed);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// As [`is_paused`](Self::is_paused), for somebody who is turned away then: that is counted.
    pub fn turns_away(&self) -> bool {
        let paused = self.is_paused();
        if paused {
            self.places.meters.count(Limit::VisitorsOfPaused);
        }
        paused
    }

    /// Something of the ingress's own that is to be at hand where the tunnel is. Made once; `None`: it is of another type.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.kept.get_or_init(|| Box::new(make())).downcast_ref()
    }

    /// What it carries.
    pub fn kind(&self) -> TunnelKind {
        self.kind
    }

    /// Whether TLS ends at its local service, and not here.
    pub(super) fn passes_tls(&self) -> bool {
        self.kind == TunnelKind::Tls
    }

    /// The value of a setting given at registration.
    pub fn option(&self, key: &str) -> Option<&str> {
        options::value(&self.options, key)
    }

    /// The part of its hosts' paths that it is for.
    pub fn path(&self) -> &PathPrefix {
        &self.stand.path
    }

    /// What is to be taken off the paths of requests before the local service sees them.
    pub fn stripped_path(&self) -> Option<&PathPrefix> {
        self.stand.strips_path.then_some(&self.stand.path)
    }

    /// Who may visit it; `None`: everybody.
    pub fn access(&self) -> Option<&Access> {
        self.access.as_deref()
    }

    /// What the ingress made of the options that concern headers.
    pub fn headers(&self) -> Option<&IngressRules> {
        self.headers.as_ref()
    }

    /// Opens a stream to the tunnel's local service: no round trip, never waits. Of several
    /// carriers it takes the one whose turn it is; one that takes no streams, or whose local service
    /// did not answer a moment ago, only when there is no other.
    ///
    /// # Errors
    /// The client takes no new streams.
    pub fn open(&self, visitor: SocketAddr, ingress: SocketAddr) -> Result<Stream, OpenError> {
        self.open_on(visitor, ingress, |_| true).map(|opened| opened.stream)
    }

    /// The same with somebody who `may` have the visitor, and what else is known of the stream.
    pub(super) fn open_on(
        &self,
        visitor: SocketAddr,
        ingress: SocketAddr,
        may: impl Fn(ServedBy) -> bool,
    ) -> Result<Opened, OpenError> {
        let visit = Visit { visitor, ingress, trace: None, sharing: Sharing::Alone };
        self.place_and_open(visit, || self.open_anywhere(visit, &may))
    }

    fn place_and_open(
        &self,
        Visit { visitor, sharing, .. }: Visit,
        open: impl Fn() -> Result<Opened, Unopened>,
    ) -> Result<Opened, OpenError> {
        let (place, opened) = self.within_limits(visitor, || {
            let place = match sharing {
                Sharing::Alone => self.place()?,
                Sharing::Shared => Seat::uncounted(),
            };
            Ok((place, open()?))
        })?;
        let Opened { stream, home, by, owner, is_shared } = opened;
        let stream = stream.seated(self.seen(place, visitor));
        let counted = self.tally(by.session, visitor).begin();
        let stream = stream.counted(counted, Side::Server);
        Ok(Opened { stream, home, by, owner, is_shared })
    }

    /// A place among the visitors that it may have.
    fn place(&self) -> Result<Seat, Unopened> {
        self.places.take().ok_or_else(|| {
            let reason = "the tunnel has all that it may have (max_visitors_per_tunnel)";
            Unopened::full(Limit::VisitorsOfTunnel, None, reason)
        })
    }

    /// Tries for as long as a limit is met that streams count against which nobody uses, and one of them is let go for
    /// it. A visitor who is turned away all the same is counted.
    fn within_limits<T>(
        &self,
        visitor: SocketAddr,
        attempt: impl Fn() -> Result<T, Unopened>,
    ) -> Result<T, OpenError> {
        let mut tries = 0;
        loop {
            let full = match attempt() {
                Ok(done) => return Ok(done),
                Err(Unopened::Error(error)) => return Err(error),
                Err(Unopened::Full(full)) => full,
            };
            tries += 1;
            if tries == MOST_TRIES || !self.makes_room(&full) {
                self.places.meters.count(full.met);
                tracing::debug!(tunnel = %self.label, %visitor, reason = %full.reason, "visitor turned away");
                return Err(OpenError::LimitReached);
            }
        }
    }

    /// Lets a stream go that nobody uses. Returns whether there was one that counts against that limit.
    fn makes_room(&self, full: &Full) -> bool {
        let Some(mut stream) = self.spare(full) else { return false };
        // One that is to make room in its session must not be there until its last word has left.
        if full.met != Limit::StreamsOfSession {
            stream.finish();
        }
        true
    }

    fn spare(&self, full: &Full) -> Option<Stream> {
        let owner = full.owner.as_deref();
        match full.met {
            Limit::VisitorsOfTunnel => self.places.spares.take(),
            Limit::StreamsOfPrincipal => owner?.principal().spares().take(),
            // It may be behind with writing instead, which more to say does not help.
            Limit::StreamsOfSession => owner.filter(|it| it.is_full())?.spares.take(),
            _ => None,
        }
    }

    /// Who keeps streams of this tunnel over that session for later. They are let go where somebody else finds no place.
    pub fn kept_by(&self, session: SessionId, keeper: Weak<dyn Spare>) {
        self.places.spares.add(Weak::clone(&keeper));
        let mut owners = self.members().into_iter().map(|one| one.owner);
        if let Some(owner) = owners.find(|one| one.session_id == session) {
            owner.principal().spares().add(Weak::clone(&keeper));
            owner.spares.add(keeper);
        }
    }

    /// Where a stream is counted that is about to begin.
    fn tally(&self, session: SessionId, visitor: SocketAddr) -> Tally {
        Tally::new(&self.places.counts, self.places.list.get(), || About {
            tunnel: Arc::clone(&self.id),
            session: Some(session),
            visitor: Some(visitor),
        })
    }

    /// The place of a stream that has just been opened: whoever sees streams hears of its end by it.
    fn seen(&self, place: Seat, visitor: SocketAddr) -> Seat {
        let Some(hooks) = &self.places.hooks else { return place };
        place.keeping(hooks.opened(OpenedStream {
            tunnel: &self.label,
            kind: self.kind,
            session: self.session(),
            principal: self.principal.name(),
            visitor: Some(visitor),
        }))
    }

    /// Whose turn it is to answer a request: for those who keep connections, and open streams with
    /// [`open_at`](Self::open_at) only where none is idle. `None` while nobody is there.
    ///
    /// Among several it is one whose local service answers, and of those the one with the fewest requests open,
    /// or the next; who leaves is not chosen any more.
    pub fn choose(&self) -> Option<Servant> {
        let carriers = &self.presence.lock().carriers;
        if let [only] = carriers.as_slice() {
            return Some(Servant { session: only.owner.session_id, _request: None });
        }
        let now = clock::now();
        let first = self.turn.next(carriers.len());
        let rank = |(at, one): &(usize, &Member)| {
            let requests = match self.balance {
                Balance::LeastStreams => one.requests.load(Ordering::Relaxed),
                Balance::RoundRobin => 0,
            };
            let turn = (at + carriers.len() - first) % carriers.len();
            (one.health.is_failing(now), (requests, turn))
        };
        let open = carriers.iter().enumerate().filter(|(_, one)| !one.health.is_paused());
        let (_, mut chosen) = open.clone().min_by_key(rank)?;
        // Another tunnel's visitors may have taken all that a session may have. To look takes the lock that its driver
        // works under, so the others are asked only then.
        if !chosen.owner.has_room() {
            (_, chosen) = open.min_by_key(|it| {
                let (is_failing, rest) = rank(it);
                (is_failing, !it.1.owner.has_room(), rest)
            })?;
        }
        let request = Seat::take(&chosen.requests);
        Some(Servant { session: chosen.owner.session_id, _request: Some(request) })
    }

    /// Whether that session has it.
    pub fn is_with(&self, session: SessionId) -> bool {
        let presence = self.presence.lock();
        presence.carriers.iter().any(|one| one.owner.session_id == session)
    }

    /// As [`open`](Self::open), over that session; over another one if that has left. The client is told in whose
    /// course it happens, if that is kept.
    ///
    /// # Errors
    /// As there.
    pub fn open_at(
        &self,
        session: SessionId,
        visitor: SocketAddr,
        ingress: SocketAddr,
        trace: Option<TraceContext>,
        sharing: Sharing,
    ) -> Result<Stream, OpenError> {
        let visit = Visit { visitor, ingress, trace, sharing };
        self.place_and_open(visit, || {
            let presence = self.presence.lock();
            let chosen = presence.carriers.iter().find(|one| one.owner.session_id == session);
            match chosen.map(|one| one.open(self.kind, visit, &self.places.meters)) {
                Some(Ok(opened)) => Ok(opened),
                // The only one has said why.
                Some(Err(why)) if presence.carriers.len() == 1 => Err(why),
                _ => {
                    drop(presence);
                    self.open_anywhere(visit, &|_| true)
                }
            }
        })
        .map(|opened| opened.stream)
    }

    /// The places of one visitor on a stream that several share, over that session: they are those of a stream of its own.
    ///
    /// # Errors
    /// There are none, or nobody is there.
    pub fn enter(&self, session: SessionId, visitor: SocketAddr) -> Result<SharedPlace, OpenError> {
        self.within_limits(visitor, || {
            let place = self.place()?;
            let carriers = &self.presence.lock().carriers;
            let member = carriers.iter().find(|one| one.owner.session_id == session);
            let member = member.or_else(|| carriers.first());
            let member = member.ok_or(Unopened::Error(OpenError::SessionClosed))?;
            let (seat, throttles) = member.enter()?;
            Ok(SharedPlace { _seat: seat.with(place), throttles })
        })
    }

    /// Whether a stream that was opened before may serve others still. One that [keeps to no rate](Stream::is_paced) is not
    /// to where its principal has got one meanwhile.
    pub fn reuses(&self, is_paced: bool) -> bool {
        is_paced || !self.principal.throttle().has_bytes()
    }

    /// Over the carrier whose turn it is.
    fn open_anywhere(
        &self,
        visit: Visit,
        may: &impl Fn(ServedBy) -> bool,
    ) -> Result<Opened, Unopened> {
        let carriers = &self.presence.lock().carriers;
        if let [only] = carriers.as_slice()
            && may(only.served_by())
        {
            return only.open(self.kind, visit, &self.places.meters);
        }
        let mut refused = Unopened::Error(OpenError::SessionClosed);
        for one in self.ranked(carriers).filter(|one| may(one.served_by())) {
            match one.open(self.kind, visit, &self.places.meters) {
                Ok(opened) => return Ok(Opened { is_shared: true, ..opened }),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    /// The one whose turn it is first.
    fn ranked<'a>(&self, carriers: &'a [Member]) -> impl Iterator<Item = &'a Member> {
        let now = clock::now();
        let first = self.turn.next(carriers.len());
        let mut ranked: Vec<_> = carriers
            .iter()
            .enumerate()
            .filter(|(_, one)| !one.health.is_paused())
            .map(|(at, one)| {
                let load = match self.balance {
                    Balance::LeastStreams => one.owner.load(),
                    Balance::RoundRobin => ((at + carriers.len() - first) % carriers.len(), 0),
                };
                (one.health.is_failing(now), load, at, one)
            })
            .collect();
        ranked.sort_by_key(|(is_failing, load, at, _)| (*is_failing, *load, *at));
        ranked.into_iter().map(|(.., one)| one)
    }

    /// Who moves a stream of it to a direct carrier once it moves much, if anybody does. A rate holds for a stream as
    /// long as it lives, and one that keeps to one has no need of it.
    pub(super) fn mover(&self, opened: &Opened) -> Option<Mover> {
        let may_move = self.streams != Streams::Multiplexed && !opened.stream.is_paced();
        may_move.then(|| Mover::new(&opened.owner, self.streams))
    }

    /// Whose direct carrier a visitor may have, if that is one that `is_able`.
    fn directly(&self, is_able: impl Fn(&Member) -> bool) -> Option<Member> {
        if self.streams == Streams::Multiplexed {
            return None;
        }
        let carriers = &self.presence.lock().carriers;
        // Where a carrier is there in no time, only those get one who turn out to need it. Who may serve a visitor in place of
        // somebody else has no way to find out.
        let is_auto = self.streams == Streams::Auto;
        let later = |one: &Member| is_auto && carriers.len() == 1 && one.owner.is_near();
        let able = |one: &&Member| {
            !one.health.is_paused() && one.owner.has_room() && is_able(one) && !later(one)
        };
        let are_one_clients =
            carriers.windows(2).all(|pair| pair[0].owner.client_id == pair[1].owner.client_id);
        match self.streams {
            _ if are_one_clients => carriers.iter().find(able).cloned(),
            // Nobody hears over a direct carrier that a local service is down.
            Streams::Auto | Streams::Multiplexed => None,
            Streams::Direct => self.ranked(carriers).next().filter(able).cloned(),
        }
    }

    /// A direct carrier that is worth waiting for, where none is ready. Visitors who come together and move bulk get
    /// equal shares only if all of them travel in one way, and all on one carrier are slower than each on its own.
    pub(super) fn soon_directly(
        &self,
    ) -> Option<impl Future<Output = Option<Direct>> + Send + use<>> {
        if self.directly(|one| one.owner.direct.is_ready()).is_some() {
            return None;
        }
        let member = self.directly(|one| one.owner.is_near())?;
        let queued = member.owner.direct.queue(self.streams)?;
        Some(async move { queued.await.map(|ready| Direct { member, ready }) })
    }

    /// Gives a visitor of a TCP or TLS tunnel a carrier of its own, that which it has waited for if it has, or does
    /// `otherwise` when none is waiting or wanted.
    pub(super) fn serve_directly(
        &self,
        visitor: Visitor,
        waited: Option<Direct>,
        otherwise: impl FnOnce(Visitor, Met) + Send + 'static,
    ) {
        let (member, ready) = match waited {
            Some(Direct { member, ready }) => (Some(member), Some(ready)),
            None => (self.directly(|one| one.owner.direct.is_ready()), None),
        };
        // One that has no room is turned away where it would open a stream.
        let found = member.and_then(|one| {
            // Others who waited for a carrier may have come before.
            let seat = one.owner.take_visitor()?;
            let seat = seat.with(self.principal().take_stream().ok()?).with(self.places.take()?);
            let throttles = one.owner.throttles();
            throttles.take_stream(Instant::now()).then(|| {
                let meters = &self.places.meters;
                let pacing = [Way::In, Way::Out].map(|way| throttles.pacing(way, meters));
                (one, seat, pacing, throttles)
            })
        });
        match found {
            Some((one, seat, pacing, throttles)) => {
                let otherwise = move |visitor, met| {
                    // It is taken again where the visitor goes.
                    throttles.give_stream_back();
                    otherwise(visitor, met);
                };
                let seat = self.seen(seat, visitor.addr);
                let tally = self.tally(one.owner.session_id, visitor.addr);
                one.owner.direct.serve(
                    ready,
                    (self.kind, one.number),
                    seat,
                    (pacing, tally),
                    visitor,
                    otherwise,
                );
            }
            None => otherwise(visitor, Met::Nobody),
        }
    }

    /// For whoever looks at it from outside; `public_url` is what a host or port of it is reached by.
    pub(super) fn read(&self, public_url: impl Fn(&str) -> String) -> TunnelReading {
        let now = clock::now();
        let members = self.members();
        let checked: Vec<bool> =
            members.iter().filter_map(|member| member.health.is_down()).collect();
        let public_urls = match self.port() {
            Some(_) => vec![public_url(&self.name)],
            None => self.stand.hosts.iter().map(|host| public_url(host)).collect(),
        };
        let totals = self.places.counts.totals();
        TunnelReading {
            id: self.id.to_string(),
            kind: self.kind,
            tunnel: self.label.clone(),
            hosts: self.stand.hosts.clone(),
            public_urls,
            principal: self.principal.name().to_owned(),
            group: self.option(options::GROUP).map(str::to_owned),
            is_paused: self.is_paused(),
            // As long as one of several is well, so is the tunnel.
            is_down: (!checked.is_empty()).then(|| checked.iter().all(|is_down| *is_down)),
            is_failing: !members.is_empty()
                && members.iter().all(|member| member.health.is_failing(now)),
            sessions: members.iter().map(|member| member.owner.session_id).collect(),
            visitors: self.places.taken.load(Ordering::Relaxed),
            streams_opened: totals.streams_opened,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
        }
    }

    /// Whether the client of that session has it, or had it last, and nobody else has it.
    pub(super) fn is_of(&self, owner: &Owner) -> bool {
        let presence = self.presence.lock();
        let is_own = |one: &Member| one.owner.client_id == owner.client_id;
        self.principal == *owner.principal()
            && presence.carriers.iter().all(is_own)
            && (!presence.carriers.is_empty() || presence.last == Some(owner.client_id))
    }

    /// Whose it is.
    pub fn principal_name(&self) -> &str {
        self.principal.name()
    }

    /// A session it is registered over: the first of them, if there is one at present.
    pub fn session(&self) -> Option<SessionId> {
        self.presence.lock().carriers.first().map(|one| one.owner.session_id)
    }

    pub(super) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Whether a policy lets it stand as it is.
    pub(super) fn is_permitted(&self, policy: &Policy, domain: &str) -> Result<(), Denied> {
        policy.permit_kind(self.kind)?;
        policy.permit_access(self.access())?;
        self.port().map_or(Ok(()), |port| policy.permit_port(port))?;
        self.stand.hosts.iter().try_for_each(|host| policy.permit_host(host, domain))
    }

    /// Where it stands, if it is routed by host.
    pub(super) fn hosts(&self) -> &[String] {
        &self.stand.hosts
    }

    /// Where it stands, if it has a port of its own.
    pub(super) fn port(&self) -> Option<u16> {
        match self.kind {
            TunnelKind::Tcp | TunnelKind::Udp => self.name.parse().ok(),
            TunnelKind::Http | TunnelKind::Tls => None,
        }
    }

    /// Whether `member` may join in: it means this very tunnel, and is a further carrier of a client
    /// that has it, or of the same group.
    pub(super) fn takes_in(&self, member: &Member, wanted: &Register, hosts: &[String]) -> bool {
        let client = member.owner.client_id;
        let is_same = self.kind == wanted.kind
            && self.name == wanted.name
            && self.stand.hosts == hosts
            && self.principal == *member.owner.principal()
            && self.options == options::lasting(wanted.options.clone());
        let presence = self.presence.lock();
        let others = presence.carriers.iter().any(|one| one.owner.client_id != client);
        let mut own = presence.carriers.iter().filter(|one| one.owner.client_id == client);
        let is_own = !others && (own.clone().count() > 0 || presence.last == Some(client));
        is_same
            && (is_own || self.option(options::GROUP).is_some())
            && own.all(|one| one.number == member.number)
    }

    /// Whether it belongs to the group that is asked for.
    pub(super) fn is_in_group(&self, member: &Member, wanted: &Register) -> bool {
        let group = options::value(&wanted.options, options::GROUP);
        group.is_some()
            && group == self.option(options::GROUP)
            && self.principal == *member.owner.principal()
    }

    /// Whether it belongs to the group that is asked for, and others have it whom `member` has to agree with.
    /// Who was the last, and has come back with other settings, agrees with itself.
    pub(super) fn binds(&self, member: &Member, wanted: &Register, hosts: &[String]) -> bool {
        self.is_in_group(member, wanted)
            && (!self.is_away() || self.takes_in(member, wanted, hosts))
    }

    /// Whether the client of `member` has asked for its place over another session since.
    pub(super) fn has_overtaken(&self, member: &Member, is_joining: bool) -> bool {
        let is_newer = |one: &Member| {
            one.owner.client_id == member.owner.client_id
                && one.owner.session_id != member.owner.session_id
                && (!is_joining || one.carrier == member.carrier)
                && one.asked > member.asked
        };
        self.principal == *member.owner.principal()
            && self.presence.lock().carriers.iter().any(is_newer)
    }

    /// Whether another client that has it has claimed it over a newer session than that of `member`, and within that time before
    /// `member` asked.
    pub(super) fn is_newer_than(&self, member: &Member, within: Duration) -> bool {
        let Owner { client_id, seniority, .. } = &*member.owner;
        let is_newer = |one: &Member| {
            let (by, at) = one.claimed;
            one.owner.client_id != *client_id
                && by > *seniority
                && member.asked.saturating_duration_since(at) < within
        };
        self.presence.lock().carriers.iter().any(is_newer)
    }

    /// Joins in. Returns who had its place before: that carrier, or with `afresh` all carriers of the
    /// client, which knows of none of them any more.
    pub(super) fn join(&self, mut member: Member, afresh: bool) -> Vec<Member> {
        let mut presence = self.presence.lock();
        presence.away_since = None;
        presence.absence = None;
        let (client, carrier) = (member.owner.client_id, member.carrier);
        if !afresh {
            let own = presence.carriers.iter().filter(|one| one.owner.client_id == client);
            member.claimed = own.map(|one| one.claimed).max().unwrap_or(member.claimed);
        }
        let (before, mut carriers): (Vec<_>, Vec<_>) = std::mem::take(&mut presence.carriers)
            .into_iter()
            .partition(|one| one.owner.client_id == client && (afresh || one.carrier == carrier));
        let key = |one: &Member| (one.owner.client_id.0, one.carrier);
        let at = carriers.partition_point(|one| key(one) < key(&member));
        if member.health.is_paused() {
            self.has_paused.store(true, Ordering::Relaxed);
        }
        carriers.insert(at, member);
        presence.carriers = carriers;
        drop(presence);
        self.changed.notify_waiters();
        before
    }

    /// A session gives the tunnel up. Returns whether no carrier is left; then the client is away.
    pub(super) fn leave(&self, session: SessionId, number: u32) -> bool {
        let mut presence = self.presence.lock();
        let leaves = |one: &Member| one.owner.session_id == session && one.number == number;
        if let Some(one) = presence.carriers.iter().find(|one| leaves(one)) {
            presence.last = Some(one.owner.client_id);
        }
        presence.carriers.retain(|one| !leaves(one));
        let is_away = presence.carriers.is_empty();
        if is_away {
            presence.away_since.get_or_insert_with(clock::now);
        }
        // Under the lock: who sees that it is away does not take this for the return.
        self.changed.notify_waiters();
        drop(presence);
        is_away
    }

    /// Takes one of the places that its principal has for tunnels whose clients are away. Returns whether there
    /// was one.
    pub(super) fn begin_absence(&self) -> bool {
        let seat = self.principal.take_absence();
        let is_granted = seat.is_some();
        self.presence.lock().absence = seat;
        is_granted
    }

    /// Whether several clients have it.
    pub fn is_shared(&self) -> bool {
        let presence = self.presence.lock();
        let mut clients = presence.carriers.iter().map(|one| one.owner.client_id);
        let first = clients.next();
        clients.any(|client| Some(client) != first)
    }

    /// Whether a session that takes visitors has it.
    pub(super) fn is_served(&self) -> bool {
        self.presence.lock().carriers.iter().any(|one| one.owner.session.is_established())
    }

    /// Whether a session has it that takes no visitors any more.
    pub(super) fn is_losing_one(&self) -> bool {
        self.presence.lock().carriers.iter().any(|one| !one.owner.session.is_established())
    }

    /// Whether its client has left, and may come back.
    pub(super) fn is_away(&self) -> bool {
        self.presence.lock().carriers.is_empty()
    }

    /// Whether it counts among those that its principal may have so many of.
    pub(super) fn is_counted(&self) -> bool {
        self.presence.lock().counted
    }

    /// Returns whether that is new.
    pub(super) fn set_counted(&self, counted: bool) -> bool {
        std::mem::replace(&mut self.presence.lock().counted, counted) != counted
    }

    /// Whether the client has been away for that long.
    pub(super) fn is_given_up(&self, grace: Duration) -> bool {
        self.presence.lock().away_since.is_some_and(|since| clock::now() - since >= grace)
    }

    /// It has left the registry: nobody comes back to it.
    pub(super) fn set_gone(&self) {
        self.presence.lock().gone = true;
        self.changed.notify_waiters();
    }

    /// While its client is away and may come back: done as soon as it is worth to look for a tunnel
    /// again, which may be another one. `None` also when too many wait already.
    pub fn away(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        if !self.is_away() {
            return None;
        }
        // Before the second look: what changes after it is heard of.
        let changed = Arc::clone(&self.changed).notified_owned();
        let presence = self.presence.lock();
        let is_away = presence.carriers.is_empty() && !presence.gone;
        (is_away && Arc::strong_count(&self.changed) <= MOST_WAITING).then_some(changed)
    }

    /// For a visitor of a session that has ended: done as soon as it is worth to look for another one.
    /// That it has ended is known a moment before it leaves.
    pub(super) async fn another_than(self: Arc<Self>, session: SessionId) {
        loop {
            let changed = Arc::clone(&self.changed).notified_owned();
            if !self.is_with(session) || self.presence.lock().gone {
                break;
            }
            changed.await;
        }
        if let Some(away) = self.away() {
            away.await;
        }
    }

    /// For a visitor that nobody can have because a session is over, or about to be: done as soon as it is worth to look
    /// for another one. `None`: nothing of that kind is to be waited for.
    pub(super) fn another(
        self: &Arc<Self>,
    ) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        // Before the look: who leaves after it is heard of.
        let changed = Arc::clone(&self.changed).notified_owned();
        let presence = self.presence.lock();
        let ending = presence.carriers.iter().find(|one| !one.owner.session.is_established());
        let ending = ending.map(|one| one.owner.session_id);
        let may_wait = !presence.gone && Arc::strong_count(&self.changed) <= MOST_WAITING;
        let is_away = presence.carriers.is_empty();
        drop(presence);
        let tunnel = Arc::clone(self);
        (may_wait && (is_away || ending.is_some())).then_some(async move {
            match ending {
                Some(session) => tunnel.another_than(session).await,
                None => changed.await,
            }
        })
    }

    /// The clients that have it now, with their sessions.
    #[cfg(test)]
    pub(crate) fn servants(&self) -> Vec<(ClientId, SessionId)> {
        let presence = self.presence.lock();
        let members = presence.carriers.iter();
        members.map(|one| (one.owner.client_id, one.owner.session_id)).collect()
    }

    /// Who has it now.
    pub(super) fn members(&self) -> Vec<Member> {
        self.presence.lock().carriers.clone()
    }
}

/// What a tunnel is called by whoever looks at it from outside.
pub(super) fn id(kind: TunnelKind, label: &str) -> String {
    format!("{kind}:{label}")
}

/// Whom a stream is for.
#[derive(Clone, Copy)]
struct Visit {
    visitor: SocketAddr,
    ingress: SocketAddr,
    /// In the course of what.
    trace: Option<TraceContext>,
    sharing: Sharing,
}

/// Whose a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// One visitor's, whose places it has.
    Alone,
    /// Nobody's: each visitor on it [has places](Tunnel::enter) of its own.
    Shared,
}

/// The places of one visitor on a stream that several share; free again when dropped.
#[derive(Debug)]
pub struct SharedPlace {
    _seat: Seat,
    throttles: Throttles,
}

impl SharedPlace {
    /// There was no stream after all: it does not count among those of the second either.
    pub fn give_back(self) {
        self.throttles.give_stream_back();
    }
}

/// Visitors of one tunnel that wait for its client, each with a socket and little else.
const MOST_WAITING: usize = 1_024;

impl Member {
    pub(super) fn new(
        carrier: CarrierNumber,
        owner: Arc<Owner>,
        number: u32,
        asked: Instant,
    ) -> Self {
        let claimed = (owner.seniority, asked);
        let (health, requests) = (Arc::default(), Arc::default());
        Self { carrier, owner, number, asked, claimed, health, requests }
    }

    fn served_by(&self) -> ServedBy {
        ServedBy { client: self.owner.client_id, session: self.owner.session_id }
    }

    fn open(
        &self,
        kind: TunnelKind,
        Visit { visitor, ingress, trace, sharing }: Visit,
        meters: &Meters,
    ) -> Result<Opened, Unopened> {
        let throttles = self.owner.throttles();
        let seat = match sharing {
            Sharing::Shared => self.owner.share(),
            // The session counts its own, and knows nothing of others.
            Sharing::Alone if self.owner.has_others() && !self.owner.has_room() => {
                return Err(self.session_is_full());
            }
            Sharing::Alone => self.take_stream(&throttles)?,
        };
        let stream = self.owner.session.open(OpenRequest {
            tunnel: self.number,
            kind,
            visitor: Some(visitor),
            ingress: Some(ingress),
            trace,
        });
        let stream = stream.map_err(|error| {
            if sharing == Sharing::Alone {
                throttles.give_stream_back();
            }
            match error {
                OpenError::LimitReached => self.session_is_full(),
                error => Unopened::Error(error),
            }
        })?;
        let stream = stream.seated(seat).telling(&self.health);
        let pacing = [Way::In, Way::Out].map(|way| throttles.pacing(way, meters));
        let stream = stream.paced(pacing);
        let home = self.owner.home.as_ref().and_then(|home| home.elsewhere().cloned());
        let (by, owner) = (self.served_by(), Arc::clone(&self.owner));
        Ok(Opened { stream, home, by, owner, is_shared: false })
    }

    /// The places of one visitor on a stream that several share.
    fn enter(&self) -> Result<(Seat, Throttles), Unopened> {
        let exchange = self.owner.take_exchange().ok_or_else(|| self.session_is_full())?;
        let throttles = self.owner.throttles();
        let seat = exchange.with(self.take_stream(&throttles)?);
        Ok((seat, throttles))
    }

    /// What one stream takes of the principal and of the rates.
    fn take_stream(&self, throttles: &Throttles) -> Result<Seat, Unopened> {
        let seat = self.owner.principal().take_stream().map_err(|reason| {
            Unopened::full(Limit::StreamsOfPrincipal, Some(&self.owner), reason)
        })?;
        if !throttles.take_stream(Instant::now()) {
            let reason = "as many as may come in a second have come (max_streams_per_second)";
            return Err(Unopened::full(Limit::StreamsTooFast, None, reason));
        }
        Ok(seat)
    }

    fn session_is_full(&self) -> Unopened {
        let reason = "the session has all the streams that it may have (max_streams)";
        Unopened::full(Limit::StreamsOfSession, Some(&self.owner), reason)
    }
}

/// Why there is no stream.
#[derive(Debug)]
enum Unopened {
    Full(Box<Full>),
    Error(OpenError),
}

/// A limit was met.
#[derive(Debug)]
struct Full {
    met: Limit,
    /// Whose it is, if it is one of a session or its principal.
    owner: Option<Arc<Owner>>,
    reason: Cow<'static, str>,
}

impl Unopened {
    fn full(met: Limit, owner: Option<&Arc<Owner>>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Full(Box::new(Full { met, owner: owner.cloned(), reason: reason.into() }))
    }
}

/// One for each limit that may be met on the way, and one more for what others have taken meanwhile.
const MOST_TRIES: usize = 5;
