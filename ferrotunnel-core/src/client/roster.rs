//! Which carriers there should be and which there are: to which servers, who dials when, and who makes
//! way for whom. Pure: it is told what happens, and asked what follows.

use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::options::CarrierNumber;

/// How a client uses several servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerMode {
    /// The first in order that answers. When an earlier one answers again, the client returns to it:
    /// its tunnels are registered there before they leave the other, whose visitors finish.
    #[default]
    Failover,
    /// All at once: each tunnel is registered at each server, and has a public address there.
    All,
}

impl FromStr for ServerMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "failover" => Ok(Self::Failover),
            "all" => Ok(Self::All),
            _ => Err(format!("{text:?} is neither failover nor all")),
        }
    }
}

/// One of the servers, by its place in the client's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServerIndex(pub(super) u8);

impl ServerIndex {
    pub(super) fn place(self) -> usize {
        self.0.into()
    }
}

/// One of the carriers to one of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CarrierId {
    pub(super) server: ServerIndex,
    pub(super) number: CarrierNumber,
}

impl CarrierId {
    /// The carrier that finds out whether the server is there.
    pub(super) fn is_first(self) -> bool {
        self.number == CarrierNumber::FIRST
    }
}

/// What is known of each server.
#[derive(Debug)]
pub(super) struct Roster {
    mode: ServerMode,
    servers: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// How many carriers there should be while the server is used.
    carriers: usize,
    /// How many of them have a session.
    sessions: usize,
    /// Nothing would be lost if all later servers were left.
    is_settled: bool,
    /// It took the token once, and proved that it knows it.
    took_token: bool,
    outlook: Outlook,
}

/// What is to be expected of a server with which there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// Nothing is known against it.
    Open,
    /// It is being dialled, since then.
    Tried(Instant),
    /// The last that was heard of it is that it is of no use at present.
    Down(Fault),
}

/// Why a server is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It and the client do not trust each other's token.
    Distrust,
    /// It cannot be reached, is about to go, or does not keep its sessions.
    Away,
}

/// Whether a carrier may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// Then, if nothing happens before.
    At(Instant),
    /// Not before something happens.
    Later,
}

impl Roster {
    pub(super) fn new(mode: ServerMode, servers: usize, carriers: usize) -> Self {
        let entry = Entry {
            carriers,
            sessions: 0,
            is_settled: false,
            took_token: false,
            outlook: Outlook::Open,
        };
        Self { mode, servers: vec![entry; servers] }
    }

    pub(super) fn mode(&self) -> ServerMode {
        self.mode
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = ServerIndex> + use<> {
        (0..self.servers.len() as u8).map(ServerIndex)
    }

    /// The carriers that there should be.
    pub(super) fn wanted(&self) -> impl Iterator<Item = CarrierId> {
        self.servers().flat_map(|server| {
            let count = if self.is_used(server) {
                self.entry(server).map_or(0, |it| it.carriers)
            } else {
                0
            };
            (0..count as u8).map(move |number| CarrierId { server, number: CarrierNumber(number) })
        })
    }

    pub(super) fn is_wanted(&self, id: CarrierId) -> bool {
        let count = self.entry(id.server).map_or(0, |entry| entry.carriers);
        usize::from(id.number.0) < count && self.is_used(id.server)
    }

    /// Whether no server before it has all that the client needs.
    fn is_used(&self, server: ServerIndex) -> bool {
        match self.mode {
            ServerMode::All => true,
            ServerMode::Failover => {
                !self.before(server).any(|earlier| earlier.sessions > 0 && earlier.is_settled)
            }
        }
    }

    /// Whether it is a carrier's turn to be dialled. The first to a server finds out whether there is
    /// one; the others follow. Of several servers each has a head start over those after it.
    pub(super) fn turn(&self, id: CarrierId, now: Instant) -> Turn {
        if !id.is_first() {
            return if self.sessions_with(id.server) > 0 { Turn::Now } else { Turn::Later };
        }
        let mut turn = Turn::Now;
        for earlier in self.before(id.server).filter(|_| self.mode == ServerMode::Failover) {
            match earlier.outlook {
                _ if earlier.sessions > 0 => return Turn::Later,
                Outlook::Open => return Turn::Later,
                Outlook::Tried(since) if now < since + HEAD_START => {
                    turn = match turn {
                        Turn::At(at) => Turn::At(at.max(since + HEAD_START)),
                        _ => Turn::At(since + HEAD_START),
                    }
                }
                Outlook::Tried(_) | Outlook::Down(_) => {}
            }
        }
        turn
    }

    fn before(&self, server: ServerIndex) -> impl Iterator<Item = &Entry> {
        self.servers.iter().take(server.place())
    }

    fn entry(&self, server: ServerIndex) -> Option<&Entry> {
        self.servers.get(server.place())
    }

    /// Sessions with all servers.
    pub(super) fn sessions(&self) -> usize {
        self.servers.iter().map(|entry| entry.sessions).sum()
    }

    pub(super) fn sessions_with(&self, server: ServerIndex) -> usize {
        self.entry(server).map_or(0, |entry| entry.sessions)
    }

    /// Whether there was a session with that server.
    pub(super) fn took_token(&self, server: ServerIndex) -> bool {
        self.entry(server).is_some_and(|entry| entry.took_token)
    }

    /// Whether there was a session with any server.
    pub(super) fn token_was_right(&self) -> bool {
        self.servers.iter().any(|entry| entry.took_token)
    }

    /// There is no session, and no server of which one could expect any.
    pub(super) fn is_hopeless(&self) -> bool {
        self.servers.iter().all(|it| it.sessions == 0 && matches!(it.outlook, Outlook::Down(_)))
    }

    /// There is no session, and no server that would take the token.
    pub(super) fn is_distrusted(&self) -> bool {
        let distrusts = |it: &Entry| it.outlook == Outlook::Down(Fault::Distrust);
        self.servers.iter().all(|it| it.sessions == 0 && distrusts(it))
    }

    /// How many sessions there are with a server, and whether it has all that later ones have.
    /// Returns whether that is news.
    pub(super) fn set_sessions(
        &mut self,
        server: ServerIndex,
        sessions: usize,
        is_settled: bool,
    ) -> bool {
        let Some(entry) = self.servers.get_mut(server.place()) else { return false };
        let is_news = (entry.sessions, entry.is_settled) != (sessions, is_settled);
        if sessions > entry.sessions {
            entry.outlook = Outlook::Open;
            entry.took_token = true;
        }
        (entry.sessions, entry.is_settled) = (sessions, is_settled);
        is_news
    }

    /// How many carriers to a server there should be. Returns whether that is news.
    pub(super) fn set_carriers(&mut self, server: ServerIndex, carriers: usize) -> bool {
        let Some(entry) = self.servers.get_mut(server.place()) else { return false };
        std::mem::replace(&mut entry.carriers, carriers) != carriers
    }

    /// The first carrier to a server is dialled.
    pub(super) fn dialled(&mut self, server: ServerIndex, now: Instant) -> bool {
        self.turn_over(server, |outlook| match outlook {
            Outlook::Open => Outlook::Tried(now),
            known => known,
        })
    }

    /// The server is of no use at present.
    pub(super) fn failed(&mut self, server: ServerIndex, fault: Fault) -> bool {
        self.turn_over(server, |_| Outlook::Down(fault))
    }

    /// Nobody dials the server any more, or it is to have another chance.
    pub(super) fn forget(&mut self, server: ServerIndex) -> bool {
        self.turn_over(server, |_| Outlook::Open)
    }

    fn turn_over(&mut self, server: ServerIndex, turned: impl FnOnce(Outlook) -> Outlook) -> bool {
        let Some(entry) = self.servers.get_mut(server.place()) else { return false };
        let before = entry.outlook;
        entry.outlook = turned(before);
        entry.outlook != before
    }
}

/// How long a server that does not answer is waited for before the next one is tried too: a handshake
/// takes four round trips, so a server at the other end of the world is not passed over.
const HEAD_START: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ServerIndex = ServerIndex(0);
    const SECOND: ServerIndex = ServerIndex(1);
    const THIRD: ServerIndex = ServerIndex(2);

    fn carrier(server: ServerIndex, number: u8) -> CarrierId {
        CarrierId { server, number: CarrierNumber(number) }
    }

    fn failover() -> Roster {
        Roster::new(ServerMode::Failover, 3, 2)
    }

    /// Which servers have carriers.
    fn used(roster: &Roster) -> Vec<u8> {
        roster.wanted().filter(|id| id.is_first()).map(|id| id.server.0).collect()
    }

    #[test]
    fn each_server_has_a_head_start_over_those_after_it() {
        let (mut roster, now) = (failover(), Instant::now());
        assert_eq!(roster.turn(carrier(FIRST, 0), now), Turn::Now);
        assert_eq!(roster.turn(carrier(SECOND, 0), now), Turn::Later);
        assert!(roster.dialled(FIRST, now));
        assert_eq!(roster.turn(carrier(SECOND, 0), now), Turn::At(now + HEAD_START));
        assert_eq!(roster.turn(carrier(THIRD, 0), now), Turn::Later);
        let later = now + HEAD_START;
        assert_eq!(roster.turn(carrier(SECOND, 0), later), Turn::Now);
        assert_eq!(roster.turn(carrier(THIRD, 0), later), Turn::Later, "the second has not begun");
        roster.dialled(SECOND, later);
        assert_eq!(roster.turn(carrier(THIRD, 0), later), Turn::At(later + HEAD_START));
        // Another attempt is no new start.
        assert!(!roster.dialled(FIRST, later));
    }

    #[test]
    fn a_server_that_fails_gives_its_head_start_up() {
        let (mut roster, now) = (failover(), Instant::now());
        roster.dialled(FIRST, now);
        assert!(roster.failed(FIRST, Fault::Away));
        assert_eq!(roster.turn(carrier(SECOND, 0), now), Turn::Now);
        // Tried again, it is not waited for.
        roster.dialled(FIRST, now);
        assert_eq!(roster.turn(carrier(SECOND, 0), now), Turn::Now);
        roster.forget(FIRST);
        assert_eq!(roster.turn(carrier(SECOND, 0), now), Turn::Later);
    }

    #[test]
    fn the_first_that_answers_is_used_and_earlier_ones_are_tried_on() {
        let (mut roster, now) = (failover(), Instant::now());
        assert_eq!(used(&roster), [0, 1, 2]);
        roster.failed(FIRST, Fault::Away);
        assert!(roster.set_sessions(SECOND, 1, true));
        assert!(!roster.set_sessions(SECOND, 1, true));
        assert_eq!(used(&roster), [0, 1]);
        assert!(!roster.is_wanted(carrier(THIRD, 0)));
        assert_eq!(roster.turn(carrier(FIRST, 0), now), Turn::Now);
        // It answers, but has not taken everything over yet: nobody makes way for it.
        roster.set_sessions(FIRST, 1, false);
        assert_eq!(used(&roster), [0, 1]);
        roster.set_sessions(FIRST, 1, true);
        assert_eq!(used(&roster), [0]);
        assert!(roster.is_wanted(carrier(FIRST, 1)) && !roster.is_wanted(carrier(SECOND, 1)));
    }

    #[test]
    fn all_servers_are_used_at_once() {
        let mut roster = Roster::new(ServerMode::All, 2, 1);
        let now = Instant::now();
        roster.dialled(FIRST, now);
        assert_eq!(roster.turn(carrier(SECOND, 0), now), Turn::Now);
        roster.set_sessions(FIRST, 1, true);
        assert_eq!(used(&roster), [0, 1]);
        assert_eq!(roster.sessions(), 1);
        assert!(roster.set_carriers(SECOND, 3) && !roster.set_carriers(SECOND, 3));
        assert_eq!(roster.wanted().count(), 4);
    }

    #[test]
    fn further_carriers_follow_the_first_to_their_server() {
        let (mut roster, now) = (Roster::new(ServerMode::All, 2, 2), Instant::now());
        roster.set_sessions(FIRST, 1, true);
        assert_eq!(roster.turn(carrier(FIRST, 1), now), Turn::Now);
        assert_eq!(roster.turn(carrier(SECOND, 1), now), Turn::Later);
        assert!(!roster.is_wanted(carrier(FIRST, 2)));
    }

    #[test]
    fn hope_ends_with_the_last_server_and_trust_does_too() {
        let mut roster = Roster::new(ServerMode::Failover, 2, 1);
        roster.failed(FIRST, Fault::Distrust);
        assert!(!roster.is_hopeless() && !roster.is_distrusted());
        roster.failed(SECOND, Fault::Away);
        assert!(roster.is_hopeless() && !roster.is_distrusted());
        roster.failed(SECOND, Fault::Distrust);
        assert!(roster.is_distrusted());
        roster.set_sessions(SECOND, 1, true);
        assert!(!roster.is_hopeless() && !roster.is_distrusted());
    }
}
