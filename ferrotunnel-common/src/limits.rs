//! Every limit of a server in one place, with its reason.

use std::time::Duration;

/// What a server refuses to go beyond. Each limit is enforced where it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitsConfig {
    /// Authenticated sessions at once. An idle session costs some 13 KiB with TLS, so 10,000 stay
    /// within a few hundred MiB.
    pub max_sessions: usize,
    /// Tunnels that one session may register.
    pub max_tunnels_per_session: u32,
    /// Streams that each side of a session may have opened at once. Visitors over the limit are
    /// turned away; those inside are not touched. Requests that share a connection to a local service over HTTP/2 count
    /// like a stream each.
    pub max_streams_per_session: u32,
    /// Streams, which is to say visitors' connections, that one session may open a second; as many may come at once.
    /// Visitors over the limit are turned away as by `max_streams_per_session`. `None`, the default: no limit.
    pub max_streams_per_second: Option<u32>,
    /// Bytes of visitors that one session may carry a second each way, those of its direct streams included; a second's
    /// worth may come at once. What is beyond waits where it comes from, and nothing is lost. `None`, the default: no
    /// limit.
    pub max_bytes_per_second: Option<u64>,
    /// Connections on the tunnel port that have not authenticated yet. Each costs a descriptor and
    /// one small buffer. More wait unaccepted in the kernel's queue, until one of these is through
    /// or out of time: after an outage all clients come at once. Over TLS who has not said what it wants makes room.
    pub max_handshakes_in_flight: usize,
    /// Wrong tokens that one source may come with, a second: an IPv4 address, or a /64 of IPv6. Beyond it
    /// handshakes from there wait for their turn, without a place among those in flight, and are refused
    /// where that would take more than a second. Right tokens count for nothing; they wait only where wrong
    /// ones come from too. Five let a fleet with a typing error notice it within seconds, and a
    /// guesser make some 400,000 tries a day.
    ///
    /// As many handshakes of TLS may come to nothing before there is any token. Beyond it the next from there
    /// wait for their turn before anything is computed for them, five seconds at most. A session that ends by a fault
    /// of the client's counts as one of those. What is no handshake makes nobody wait but what comes like it.
    ///
    /// Over TLS a client that has proven the token lately waits for none of this, since the server knows its tickets.
    pub max_failed_handshakes_per_address: u32,
    /// How long TLS and the protocol handshake may take together.
    pub handshake_deadline: Duration,
    /// Visitors of HTTP tunnels connected at once, over all tunnels. More are told so with a 503, or closed
    /// without an answer when many come at once: each
    /// costs a descriptor and some 10 KiB, so 100,000 stay within about a GiB.
    pub max_visitors: usize,
    /// Visitors' connections, which is to say streams, open at once through one tunnel, so that a busy one
    /// leaves something of its session to others. A connection to a local service that is kept for the next
    /// request is one until somebody else needs its place; where the local service speaks HTTP/2, each request under way
    /// is one. Visitors over the limit are turned away as by `max_streams_per_session`. `None`, the default: no limit.
    pub max_visitors_per_tunnel: Option<u32>,
    /// Visitors connected at once from one source, over all tunnels: an IPv4 address, or a /64 of IPv6. Over TCP more
    /// are closed at once, over HTTP they get a 429. Behind a proxy all of them come from its address, and many
    /// share one at a mobile carrier, so `None`, the default, is no limit.
    pub max_visitors_per_address: Option<u32>,
    /// Receive windows granted over all sessions, in bytes. When nearly spent, new streams start
    /// with a smaller window (see the protocol's budget).
    pub max_receive_memory: u64,
    /// The same for each session, in bytes, within that of all: one client whose visitors do not read cannot use up
    /// what others grow by. Every stream keeps its smallest window (16 KiB) whatever the limit says. `None`, the
    /// default: a session may use all there is.
    pub max_receive_memory_per_session: Option<u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            max_tunnels_per_session: 1_024,
            max_streams_per_session: 65_536,
            max_streams_per_second: None,
            max_bytes_per_second: None,
            max_handshakes_in_flight: 1_024,
            max_failed_handshakes_per_address: 5,
            handshake_deadline: Duration::from_secs(10),
            max_visitors: 100_000,
            max_visitors_per_tunnel: None,
            max_visitors_per_address: None,
            max_receive_memory: 256 << 20,
            max_receive_memory_per_session: None,
        }
    }
}
