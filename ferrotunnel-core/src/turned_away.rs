//! What the limits of a server have cost those who came.

/// How often each limit was met since the server started. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnedAway {
    /// Handshakes that had to wait for their turn, because wrong tokens came from the same source.
    pub handshakes_delayed: u64,
    /// Handshakes that were refused without a look at their proof, for the same reason.
    pub handshakes_refused: u64,
    /// Visitors of tunnels that had all that one may have.
    pub visitors_of_tunnels: u64,
    /// Visitors from sources that had all that one may have.
    pub visitors_of_addresses: u64,
}
