//! Places of sessions, those of the server and those of principals.
//!
//! A client that has lost its way comes back over another one before the server can know of it: the session of before still
//! has its place, and that may be the last. So a client is not refused for want of one before its own sessions have
//! given a sign of life. One that is still there does, and loses nothing by it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{FAREWELL, Hall, Place};
use crate::clock;
use crate::handshake::Guest;
use crate::registry::{Owner, SIGN_OF_LIFE};
use crate::seat::Seat;
use crate::turned_away::Limit;

/// One at the server and one of the principal's, or which are missing.
type Seats = Result<(Seat, Seat), (Limit, Cow<'static, str>)>;

impl Hall {
    /// Places at the server and among those of the principal, for which a client may have to wait until `deadline`, and
    /// without one among the handshakes meanwhile.
    ///
    /// # Errors
    /// There are none; that is counted.
    pub(super) async fn seats(
        &self,
        guest: &Guest,
        place: &Place,
        deadline: Instant,
    ) -> Result<(Seat, Seat), Cow<'static, str>> {
        let seats = match self.take_seats(guest) {
            Err(refused) => {
                self.seats_of_silent(guest, place, deadline).await.unwrap_or(Err(refused))
            }
            taken => taken,
        };
        seats.map_err(|(limit, reason)| {
            self.registry.meters().count(limit);
            reason
        })
    }

    fn take_seats(&self, guest: &Guest) -> Seats {
        let most = self.limits.read().max_sessions;
        let full = (Limit::Sessions, Cow::Borrowed("the server is full"));
        let one = Seat::take_within(&self.admitted, most).ok_or(full)?;
        let other = guest.credential.principal.take_session();
        Ok((one, other.map_err(|reason| (Limit::SessionsOfPrincipal, reason.into()))?))
    }

    /// Waits until sessions of the same client have given a sign of life, or a place is free. `None`: there is nothing to
    /// wait for.
    async fn seats_of_silent(
        &self,
        guest: &Guest,
        place: &Place,
        deadline: Instant,
    ) -> Option<Seats> {
        // Before all sessions are looked at: there may be as many who come back.
        let _seat = Seat::take_within(&self.returning, MOST_RETURNING)?;
        let own: Vec<Arc<Owner>> = {
            let sessions = self.sessions.lock();
            let own = sessions.values().map(|inside| &inside.owner).filter(|it| guest.has(it));
            own.cloned().collect()
        };
        if own.is_empty() {
            return None;
        }
        drop(place.lock().take());
        for owner in &own {
            owner.session.probe(clock::now(), SIGN_OF_LIFE);
        }
        let until = deadline.min(Instant::now() + SIGN_OF_LIFE + FAREWELL);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let all_alive = own.iter().all(|owner| owner.session.is_alive());
            match self.take_seats(guest) {
                Err(_) if !all_alive && Instant::now() < until => {}
                seats => return Some(seats),
            }
        }
    }
}

impl Guest {
    /// Whether a session is one of the same client's.
    pub(super) fn has(&self, owner: &Owner) -> bool {
        owner.client_id == self.client_id
            && owner.credential.token_id() == self.credential.token_id()
    }
}

/// A client that is there answers in a round trip.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Clients that may wait at once; each has proven its token, and has a descriptor and what a handshake holds.
const MOST_RETURNING: usize = 1_024;
