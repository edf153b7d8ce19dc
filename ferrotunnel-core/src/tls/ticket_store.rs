//! A client's tickets of one server.
//!
//! They save a signature, and more: a server tells by a ticket that its client has proven the token over the connection
//! that brought it, and lets that one in past others of its address who have not (`passes.rs`). The ticket of a mere
//! handshake says nothing of the kind. So what a connection brings is kept back until the server has welcomed the client
//! over it; a client that dials many connections at once has no others in their place meanwhile.
//!
//! The last of them is left to sessions: without one no direct carrier is of any use.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// What a connection is dialled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Session,
    DirectCarrier,
}

/// The tickets of one server.
#[derive(Default)]
pub(super) struct TicketStore(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// What the server has chosen of the groups for the exchange of keys.
    group: Option<NamedGroup>,
    /// Of connections over which the server has welcomed the client, the newest last.
    proven: VecDeque<Tls13ClientSessionValue>,
    /// Of the last connection that began with one of those and broke before that: the server lets it in once more.
    vouched: Vec<Tls13ClientSessionValue>,
}

impl fmt::Debug for TicketStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.lock();
        let counts = (kept.proven.len(), kept.vouched.len());
        f.debug_tuple("TicketStore").field(&counts).finish()
    }
}

impl TicketStore {
    /// The newest one, and whether it is of a connection over which the client was welcome.
    fn take(&self, purpose: Purpose) -> Option<(Tls13ClientSessionValue, bool)> {
        let mut kept = self.0.lock();
        let left = match purpose {
            Purpose::Session => 0,
            Purpose::DirectCarrier => LEFT_TO_SESSIONS,
        };
        if kept.proven.len() > left {
            return kept.proven.pop_back().map(|ticket| (ticket, true));
        }
        match purpose {
            Purpose::Session => kept.vouched.pop().map(|ticket| (ticket, false)),
            Purpose::DirectCarrier => None,
        }
    }

    fn keep(&self, ticket: Tls13ClientSessionValue) {
        let mut kept = self.0.lock();
        if kept.proven.len() == MOST_KEPT {
            kept.proven.pop_front();
        }
        kept.proven.push_back(ticket);
    }
}

/// The tickets of one connection, for rustls: the one that it begins with, and those that it brings.
pub(crate) struct ConnectionTickets {
    store: Arc<TicketStore>,
    purpose: Purpose,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// It began with a ticket of a connection over which the client was welcome.
    is_vouched_for: bool,
    is_welcome: bool,
    /// What it brought before that.
    brought: Vec<Tls13ClientSessionValue>,
}

impl fmt::Debug for ConnectionTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTickets").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl ConnectionTickets {
    pub(super) fn new(store: &Arc<TicketStore>, purpose: Purpose) -> Arc<Self> {
        Arc::new(Self { store: Arc::clone(store), purpose, state: Mutex::default() })
    }

    /// The server has welcomed the client over this connection: what it brings is worth something.
    pub(crate) fn keep(&self) {
        let mut state = self.state.lock();
        state.is_welcome = true;
        state.brought.drain(..).for_each(|ticket| self.store.keep(ticket));
    }
}

impl Drop for ConnectionTickets {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.is_vouched_for && !state.is_welcome && !state.brought.is_empty() {
            self.store.0.lock().vouched = std::mem::take(&mut state.brought);
        }
    }
}

/// The names are always those of the one server.
impl ClientSessionStore for ConnectionTickets {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.store.0.lock().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.0.lock().group
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut state = self.state.lock();
        if state.is_welcome {
            self.store.keep(ticket);
        } else if state.brought.len() < MOST_KEPT {
            state.brought.push(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let (ticket, is_proven) = self.store.take(self.purpose)?;
        self.state.lock().is_vouched_for = is_proven;
        Some(ticket)
    }

    // Carriers speak TLS 1.3 only.

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
}

/// Each is some KiB at most, and every connection brings two. Those who dial more carriers at once than that make a few
/// signatures.
const MOST_KEPT: usize = 8;

/// A session that comes to pass brings the next two.
const LEFT_TO_SESSIONS: usize = 1;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::tests::soon;
    use super::super::{ClientTls, Secured, ServerTls, TlsAcceptor, TlsDialer};
    use super::*;
    use crate::loopback::sockets;

    struct Peers(TlsDialer, TlsAcceptor);

    impl Peers {
        fn new() -> Self {
            let acceptor = TlsAcceptor::new(ServerTls::default()).unwrap();
            Self(TlsDialer::new(ClientTls::default()).unwrap(), acceptor)
        }

        /// A connection whose tickets have come, and how it began.
        async fn connect(&self, purpose: Purpose) -> (bool, (Secured, Arc<ConnectionTickets>)) {
            let (dialled, accepted) = sockets().await;
            let near = Box::pin(self.0.connect("localhost:7835", dialled, purpose));
            let from = std::net::Ipv4Addr::LOCALHOST.into();
            let far = Box::pin(self.1.accept(accepted, BytesMut::new(), from));
            let (near, far) = soon(async { tokio::join!(near, far) }).await;
            let ((mut near, tickets), mut far) = (near.unwrap(), far.unwrap());
            // They come with the first words.
            far.stream.write_all(b"x").await.unwrap();
            assert_eq!(soon(near.stream.read_u8()).await.unwrap(), b'x');
            (near.is_resumed, (near, tickets))
        }

        async fn resumes(&self, purpose: Purpose) -> bool {
            self.connect(purpose).await.0
        }

        async fn is_welcome(&self, purpose: Purpose) -> bool {
            let (is_resumed, (_, tickets)) = self.connect(purpose).await;
            tickets.keep();
            is_resumed
        }
    }

    use Purpose::{DirectCarrier, Session};

    #[tokio::test]
    async fn a_ticket_is_worth_nothing_before_its_connection_was_welcome() {
        let peers = Peers::new();
        for _ in 0..2 {
            assert!(!peers.resumes(Session).await);
        }
        let (_, (near, tickets)) = peers.connect(Session).await;
        assert!(!peers.resumes(Session).await, "it is not welcome yet");
        tickets.keep();
        drop((near, tickets));
        assert!(peers.resumes(Session).await);
    }

    #[tokio::test]
    async fn those_under_way_leave_the_newest_ticket_of_worth_to_whoever_is_next() {
        let peers = Peers::new();
        for _ in 0..4 {
            peers.is_welcome(Session).await;
        }
        // Of five tickets each takes one, and brings two that are worth nothing yet.
        let mut under_way = Vec::new();
        for _ in 0..3 {
            under_way.push(peers.connect(DirectCarrier).await);
        }
        assert!(under_way.iter().all(|(is_resumed, _)| *is_resumed));
        assert!(peers.is_welcome(Session).await);
    }

    #[tokio::test]
    async fn the_last_ticket_is_left_to_sessions() {
        let peers = Peers::new();
        assert!(!peers.is_welcome(Session).await);
        assert!(peers.resumes(DirectCarrier).await);
        for _ in 0..2 {
            assert!(!peers.resumes(DirectCarrier).await);
        }
        assert!(peers.is_welcome(Session).await);
        assert!(peers.is_welcome(DirectCarrier).await);
    }

    #[tokio::test]
    async fn a_session_that_broke_before_it_was_welcome_has_tickets_for_the_next_one_alone() {
        let peers = Peers::new();
        assert!(!peers.is_welcome(Session).await);
        // Both that it has.
        for _ in 0..2 {
            assert!(peers.resumes(Session).await);
        }
        assert!(!peers.resumes(DirectCarrier).await);
        // Those of one connection, and what such a one brings comes in no more.
        for _ in 0..2 {
            assert!(peers.resumes(Session).await);
        }
        assert!(!peers.is_welcome(Session).await);
    }

    #[tokio::test]
    async fn no_more_are_kept_than_a_few() {
        let peers = Peers::new();
        for _ in 0..MOST_KEPT + 2 {
            peers.is_welcome(Session).await;
        }
        let (_, (_, tickets)) = peers.connect(Session).await;
        tickets.keep();
        assert_eq!(tickets.store.0.lock().proven.len(), MOST_KEPT);
    }
}
