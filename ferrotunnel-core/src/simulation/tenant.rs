//! A principal with one name, the clients that want it, and who had it when.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ferrotunnel_common::{ClientId, SessionId, Token, TunnelKind};
use tokio::task::JoinSet;

use super::dice::Dice;
use crate::balance::Balance;
use crate::client::{ClientEngine, ServerMode};
use crate::direct::Streams;
use crate::error::ConnectError;
use crate::options;
use crate::registry::Tunnel;
use crate::server::ServerEngine;

pub(super) struct Tenant {
    pub(super) number: u32,
    pub(super) token: Token,
    /// Where its clients run.
    pub(super) sites: [usize; 2],
    /// The servers as its clients know them.
    pub(super) servers: Vec<usize>,
    pub(super) mode: ServerMode,
    pub(super) sharing: Sharing,
    /// How its visitors travel. Who does so by streams alone visits an HTTP tunnel, all others visit a TLS tunnel.
    pub(super) streams: Streams,
    pub(super) clients: Vec<Client>,
    /// Of each server.
    pub(super) histories: Vec<History>,
}

/// What becomes of several clients that want the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The newest has it.
    Alone,
    /// They are a group.
    Group(Balance),
}

/// Who had a name at a server, as far as was seen.
#[derive(Default)]
pub(super) struct History {
    client: Option<ClientId>,
    sessions: HashSet<SessionId>,
    pub(super) takeovers: u64,
    /// Sessions of clients that had it before.
    superseded: HashSet<SessionId>,
}

/// A running client.
pub(super) struct Client {
    pub(super) number: u32,
    pub(super) site: usize,
    /// How many it keeps to each server that it uses.
    pub(super) carriers: RangeInclusive<usize>,
    pub(super) engine: Arc<ClientEngine>,
    /// Holds the tunnel, and serves its visitors.
    pub(super) serving: JoinSet<()>,
}

impl Tenant {
    pub(super) fn new(
        number: usize,
        token: Token,
        servers: usize,
        streams: Streams,
        dice: &mut Dice,
    ) -> Self {
        let mut order: Vec<usize> = (0..servers).collect();
        if dice.one_in(2) {
            order.reverse();
        }
        Self {
            number: number as u32,
            token,
            sites: [2 * number, 2 * number + 1],
            servers: order,
            mode: [ServerMode::Failover, ServerMode::All][dice.below(2)],
            sharing: match dice.below(4) {
                0 => Sharing::Group(Balance::LeastStreams),
                1 => Sharing::Group(Balance::RoundRobin),
                _ => Sharing::Alone,
            },
            streams,
            clients: Vec::new(),
            histories: (0..servers).map(|_| History::default()).collect(),
        }
    }

    pub(super) fn host(&self) -> String {
        format!("t{}.localhost", self.number)
    }

    pub(super) fn options(&self) -> Vec<(String, String)> {
        let mut options: Vec<_> = self.streams.to_option().into_iter().collect();
        if let Sharing::Group(balance) = self.sharing {
            options.push((options::GROUP.to_owned(), "everybody".to_owned()));
            options.push((options::BALANCE.to_owned(), balance.to_string()));
        }
        options
    }

    pub(super) fn kind(&self) -> TunnelKind {
        match self.streams {
            Streams::Multiplexed => TunnelKind::Http,
            Streams::Direct | Streams::Auto => TunnelKind::Tls,
        }
    }

    /// Its tunnel at a server, if it stands there.
    pub(super) fn tunnel(&self, server: &ServerEngine) -> Option<Arc<Tunnel>> {
        match self.kind() {
            TunnelKind::Tls => server.passing_door().tunnel(&self.host()),
            _ => server.routes().http(&self.host(), "/").ok(),
        }
    }

    /// Where its name is when all is well.
    pub(super) fn served_at(&self) -> &[usize] {
        match self.mode {
            ServerMode::Failover => &self.servers[..1],
            ServerMode::All => &self.servers,
        }
    }

    /// Takes out clients that have ended. Whoever has taken the name over from one is there.
    pub(super) fn bury_ended(&mut self) {
        let before = self.clients.len();
        self.clients.retain(|client| !client.engine.has_ended());
        let Self { number, clients, .. } = self;
        assert!(before == 0 || !clients.is_empty(), "the clients of t{number} ended each other");
    }

    /// What holds of its clients and its name at any time.
    pub(super) fn check(&self) {
        for client in &self.clients {
            client.check(self.sharing);
        }
    }

    /// Who has its name at a server now.
    pub(super) fn see(&mut self, server: usize, servants: &[(ClientId, SessionId)]) {
        match self.sharing {
            Sharing::Alone => self.histories[server].see(servants),
            Sharing::Group(_) => {
                let sessions: HashSet<_> = servants.iter().map(|(_, session)| session).collect();
                assert_eq!(sessions.len(), servants.len(), "a session has one name twice");
            }
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, servers, mode, sharing, streams, .. } = self;
        write!(f, "t{number}: servers {servers:?}, {mode:?}, {sharing:?}, {streams:?}")
    }
}

impl Client {
    /// It ends for one reason only, and those of a group for none.
    fn check(&self, sharing: Sharing) {
        if self.engine.has_ended() {
            let end = outcome(self.engine.wait());
            assert_eq!(sharing, Sharing::Alone, "a member of a group ended: {end:?}");
            assert!(matches!(end, Some(Err(ConnectError::Superseded(_)))), "{end:?}");
        }
    }
}

/// The outcome of what is ready.
fn outcome<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    match what.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

impl History {
    fn see(&mut self, servants: &[(ClientId, SessionId)]) {
        let Some((client, _)) = servants.first() else { return };
        assert!(servants.iter().all(|(one, _)| one == client), "two clients have one name");
        if self.client != Some(*client) {
            self.takeovers += u64::from(self.client.replace(*client).is_some());
            self.superseded.extend(self.sessions.drain());
        }
        for (_, session) in servants {
            assert!(!self.superseded.contains(session), "a superseded session has its name back");
            self.sessions.insert(*session);
        }
    }
}
