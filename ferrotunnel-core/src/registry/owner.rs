//! The session that owns tunnels, and the guards that keep them registered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ferrotunnel_common::{ClientId, SessionId};
use ferrotunnel_protocol::frame::{GoAwayCode, Refusal, RefusalCode, Registered};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::Mutex;

use super::{Inner, SHUTTING_DOWN, TunnelUid};
use crate::auth::Credential;
use crate::clock;
use crate::direct::{self, FAR};
use crate::principals::{Denied, Principal};
use crate::seat::Seat;
use crate::session::Session;
use crate::shards::Home;
use crate::spares::Spares;
use crate::throttle::{Rates, Throttle, Throttles};

/// Where a session stands among all of the server's: its client proved its token before those with a greater one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seniority(pub(super) u64);

/// What one session may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnerLimits {
    pub(crate) max_streams: u32,
    pub(crate) rates: Rates,
}

/// A session of a client, and the tunnels registered over it.
pub(crate) struct Owner {
    pub(crate) session: Session,
    pub(crate) session_id: SessionId,
    pub(crate) client_id: ClientId,
    pub(super) seniority: Seniority,
    /// What it has proven at its beginning.
    pub(crate) credential: Arc<Credential>,
    max_streams: u32,
    throttle: Option<Arc<Throttle>>,
    /// Where its driver runs.
    pub(super) home: Option<Home>,
    /// Streams of it that several visitors share.
    shared: Arc<AtomicUsize>,
    /// Visitors on those.
    exchanges: Arc<AtomicUsize>,
    /// Carriers for single visitors of its tunnels.
    pub(crate) direct: Arc<direct::Pool>,
    /// Streams of it that nobody uses.
    pub(super) spares: Spares,
    /// Set under the lock of the registry's maps: it registers nothing any more.
    pub(super) is_barred: AtomicBool,
    /// Its registrations by the client's own number. Locked after the registry's maps, if both are.
    pub(super) tunnels: Mutex<HashMap<u32, Registration>>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner")
            .field("session", &self.session_id)
            .field("client", &self.client_id)
            .field("principal", &self.principal().name())
            .finish_non_exhaustive()
    }
}

impl Owner {
    /// To be called where the session's driver runs.
    pub(crate) fn new(
        session: Session,
        session_id: SessionId,
        client_id: ClientId,
        seniority: Seniority,
        credential: Arc<Credential>,
        limits: OwnerLimits,
        direct: Arc<direct::Pool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            session,
            session_id,
            client_id,
            seniority,
            credential,
            max_streams: limits.max_streams,
            throttle: Throttle::new(limits.rates, Instant::now()),
            home: Home::here(),
            shared: Arc::default(),
            exchanges: Arc::default(),
            direct,
            spares: Spares::default(),
            is_barred: AtomicBool::new(false),
            tunnels: Mutex::default(),
        })
    }

    /// Who it is.
    pub(crate) fn principal(&self) -> &Arc<Principal> {
        &self.credential.principal
    }

    /// All registrations leave, and the client may come back for them: their places are kept for it
    /// for a while.
    pub(crate) fn leave(&self) {
        self.leave_for(true);
    }

    fn leave_for(&self, may_return: bool) {
        self.direct.close();
        let mut tunnels = std::mem::take(&mut *self.tunnels.lock());
        for registration in tunnels.values_mut() {
            registration.may_return = may_return;
        }
        drop(tunnels);
    }

    /// How many tunnels are registered over it.
    pub(crate) fn registered(&self) -> usize {
        self.tunnels.lock().len()
    }

    /// Whether a tunnel of that number is registered.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.tunnels.lock().contains_key(&number)
    }

    /// Whether it may serve one more visitor.
    pub(super) fn has_room(&self) -> bool {
        self.alone() + self.exchanges() + self.direct.open() < self.max_streams as usize
    }

    /// Whether it opens no stream more: those that several visitors share, and those that nobody uses, count here.
    pub(super) fn is_full(&self) -> bool {
        !self.has_room() || self.session.stats().streams >= self.max_streams as usize
    }

    /// Whether it serves visitors who have no stream to themselves, of whom the session itself knows nothing.
    pub(super) fn has_others(&self) -> bool {
        self.exchanges() + self.direct.open() > 0
    }

    /// Visitors with a stream each.
    fn alone(&self) -> usize {
        self.session.stats().streams.saturating_sub(self.shared.load(Ordering::Relaxed))
    }

    fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// A place for one more visitor with a carrier of its own.
    pub(super) fn take_visitor(&self) -> Option<Seat> {
        let others = self.alone() + self.exchanges();
        self.direct.take_visitor((self.max_streams as usize).saturating_sub(others))
    }

    /// A place for one more visitor on a stream that several share.
    pub(super) fn take_exchange(&self) -> Option<Seat> {
        let others = self.alone() + self.direct.open();
        let most = (self.max_streams as usize).saturating_sub(others);
        Seat::take_within(&self.exchanges, most)
    }

    /// For a stream that several visitors are to share: it is none of theirs.
    pub(super) fn share(&self) -> Seat {
        Seat::take(&self.shared)
    }

    /// Whether its client can be there with another carrier in no time.
    pub(crate) fn is_near(&self) -> bool {
        self.session.least_round_trip().is_some_and(|time| time < FAR)
    }

    /// What holds its streams back: its own limits and those of its principal.
    pub(super) fn throttles(&self) -> Throttles {
        let of_principal = Arc::clone(self.principal().throttle());
        Throttles::of([self.throttle.clone(), Some(of_principal)])
    }

    /// How busy the carrier is: visitors, those with a carrier to themselves among them, then bytes that
    /// wait for it.
    pub(super) fn load(&self) -> (usize, usize) {
        let visitors = self.alone() + self.exchanges() + self.direct.open();
        (visitors, self.session.stats().queued_bytes)
    }

    pub(crate) fn unregister(&self, number: u32) {
        let registration = self.tunnels.lock().remove(&number);
        drop(registration);
    }

    /// The server is about to go: nothing new, and what is open finishes.
    pub(crate) fn drain(&self) {
        self.direct.close();
        self.session.drain(GoAwayCode::ShuttingDown, SHUTTING_DOWN);
    }

    /// Whether it had `tunnel`, which has no place any more. It may have given it up meanwhile.
    pub(super) fn lose(&self, tunnel: TunnelUid, number: u32) -> bool {
        let mut tunnels = self.tunnels.lock();
        match tunnels.entry(number) {
            Entry::Occupied(mut held) if held.get().uid == tunnel => {
                // Its place in the registry is no longer its own to give up.
                held.get_mut().place = None;
                held.remove();
                true
            }
            _ => false,
        }
    }

    /// Its principal may not have the tunnel any more. The session goes on without it.
    pub(super) fn denied(&self, number: u32, (code, reason): Denied) {
        let refusal = Refusal { code, reason };
        self.session.registered(number, Registered::Refused(refusal));
    }

    /// The session ends at once, with all that belongs to it.
    pub(crate) fn end(&self, reason: &str) {
        self.leave_for(false);
        self.direct.cut();
        self.session.close(GoAwayCode::Refused, reason);
    }

    /// The session ends at once, with its visitors. Its client may come back for its tunnels.
    pub(crate) fn close(&self, reason: &str) {
        self.direct.cut();
        self.session.close(GoAwayCode::ShuttingDown, reason);
    }

    /// The registration of `by` has what the tunnel had. A session that lost its last one to another
    /// client is over. One that lost it to its own may be alive, where two addresses of this server look
    /// like two to the client: it stays, if it gives a sign of life.
    pub(super) fn superseded(&self, number: u32, by: &Self) {
        if self.client_id == by.client_id {
            let reason = ELSEWHERE.to_owned();
            let refusal = Refusal { code: RefusalCode::Moved, reason };
            self.session.registered(number, Registered::Refused(refusal));
            self.session.probe(clock::now(), SIGN_OF_LIFE);
            return;
        }
        let reason = TAKEN_OVER.to_owned();
        let refusal = Refusal { code: RefusalCode::Superseded, reason };
        self.session.registered(number, Registered::Refused(refusal));
        if self.tunnels.lock().is_empty() {
            tracing::info!(session = %self.session_id, "superseded by a newer session");
            self.session.close(GoAwayCode::Superseded, "a newer client registered its tunnels");
        }
    }
}

/// Time for a session that its client may have left without a word.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// What became of a tunnel, in the words for its client.
pub(super) const TAKEN_OVER: &str = "a newer client registered it";
pub(super) const ELSEWHERE: &str = "the same client has it over another connection";

/// Where a tunnel stands in the registry.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Hosts(Vec<String>),
    Port(u16),
}

/// A tunnel's place in the registry; leaves it when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) registry: Weak<Inner>,
    pub(super) uid: TunnelUid,
    pub(super) session: SessionId,
    pub(super) number: u32,
    pub(super) place: Option<Place>,
    /// Public, as the client was told.
    pub(super) address: String,
    /// The session was lost, or ends: the client has not given the tunnel up.
    pub(super) may_return: bool,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let (Some(registry), Some(place)) = (self.registry.upgrade(), self.place.take()) {
            registry.remove(self.uid, (self.session, self.number), place, self.may_return);
        }
    }
}
