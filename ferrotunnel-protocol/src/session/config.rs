//! What a session is set up with.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::budget::ReceiveBudget;

/// Settings of one session. The server's heartbeat and stream limit are told to the client and
/// replace its own.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the first byte until the session is established.
    pub handshake_deadline: Duration,
    /// A side that heard nothing for this long sends a Ping; after three of them in silence the
    /// peer is dead. 100 ms to 10 min. 5 s notices a dead peer within 15 s for 12 bytes each way
    /// per idle 5 s, and keeps NAT mappings alive.
    pub heartbeat: Duration,
    /// Streams that each side may have opened at once.
    pub max_streams: u32,
    /// Tunnels a client may register; told to the client, enforced by the registry.
    pub max_tunnels: u32,
    /// Window growth that this session may use beyond the minimum of each stream. One stream may
    /// take half of what is left at a time, so 32 MiB let one grow to the largest window, which is
    /// 1.3 Gbit/s at 100 ms, and leave as much for the others. It is also what readers that stall
    /// in mid-stream can hold at most, beside the minimum of each.
    pub growth_memory_bytes: u64,
    /// Receive memory of the process, shared with other sessions.
    pub budget: ReceiveBudget,
}

impl Config {
    /// With every setting within its range.
    pub(super) fn clamped(mut self) -> Self {
        self.heartbeat = self.heartbeat.clamp(*HEARTBEAT.start(), *HEARTBEAT.end());
        self.max_streams = self.max_streams.max(1);
        self
    }

    /// Entries that the peer's streams may have: twice as many as may be open, for some have ended
    /// and wait until their reader is through.
    pub(super) fn entry_limit(&self) -> usize {
        (self.max_streams as usize).saturating_mul(2).max(MIN_ENTRY_LIMIT)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_deadline: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
            max_streams: 65_536,
            max_tunnels: 1_024,
            growth_memory_bytes: 32 << 20,
            budget: ReceiveBudget::new(256 << 20),
        }
    }
}

/// Window of a new stream, in bytes: the least every stream always keeps. One maximal frame fits,
/// and 50 stalled readers hold 3 MiB.
pub(super) const MIN_WINDOW: u32 = 64 << 10;

/// Window of a new stream when the process budget is nearly spent: 10,000 stalled visitors then
/// stay within 160 MiB.
pub(super) const TIGHT_WINDOW: u32 = 16 << 10;

/// Bytes one stream may have waiting for the carrier. Enough to fill one large vectored write
/// while the next chunk is read.
pub(super) const SEND_QUEUE_BYTES: usize = 256 << 10;

/// Bytes all streams of a session may have waiting for the carrier before each is held to
/// [`SEND_QUEUE_FLOOR_BYTES`].
pub(super) const SESSION_QUEUE_BYTES: usize = 4 << 20;

/// What a stream may always queue, however busy its session, so that nobody can stall anybody.
pub(super) const SEND_QUEUE_FLOOR_BYTES: usize = 16 << 10;

/// Datagrams waiting for the carrier, in bytes; what comes on top is dropped. One burst of 40
/// full Ethernet frames.
pub(super) const DATAGRAM_QUEUE_BYTES: usize = 64 << 10;

/// Datagrams in one queue. Bytes alone would not bound a queue of empty ones; datagrams of 64 bytes
/// and more reach their limit of bytes first.
pub(super) const DATAGRAM_QUEUE_LEN: usize = 1024;

/// Datagrams of one flow waiting for their reader, in bytes; what comes on top is dropped.
pub(super) const DATAGRAM_READ_BYTES: u32 = 256 << 10;

/// Datagrams of all flows of a session waiting for their readers, in bytes, before each flow is
/// held to its window, which the budget has counted.
pub(super) const SESSION_DATAGRAM_READ_BYTES: usize = 8 << 20;

/// What a chore is beside a piece of payload.
pub(super) const CHORE_WORK: u64 = 16;

/// What a tunnel is that comes or goes: its owner looks it up, listens for it and writes it down.
pub(super) const TUNNEL_WORK: u64 = 256;

/// Chores that a tunnel counts as that was granted, so that one that comes and goes again and again is as much as it costs.
pub(super) const TUNNEL_CHORES: u64 = 8;

/// Pings of the peer that wait for their answer. An honest peer has one or two under way.
pub(super) const MAX_PINGS_OWED: usize = 16;

/// GoAways of the peer. An honest one sends one to drain and one to end, and each costs a walk
/// over all streams.
pub(super) const MAX_GO_AWAYS: u32 = 8;

/// Unanswered Registers beyond what the client may have: a client that asks for more tunnels than
/// agreed is refused one by one.
pub(super) const EXTRA_REGISTERS_OWED: u32 = 64;

/// Frames waiting in the control queue, beside a Reset for every stream, before the peer is taken
/// for a flood. One costs 64 bytes, 32 in the queue and 32 where a short frame lies: 4 MiB for
/// these, 8 MiB for the Resets at 131,072 entries, which are the default, and up to 2 MiB of queue
/// that is spare. Text of our own, in Registered and Reset, comes on top; no peer chooses it.
pub(super) const MAX_CONTROL_QUEUE: usize = 65_536;

/// Frames waiting in the control queue at which no more streams are opened. A carrier that is so
/// far behind serves no visitor, and visitors that come and go must not fill our memory meanwhile.
pub(super) const MAX_CONTROL_BEFORE_OPEN: usize = 16_384;

/// Streams listed for a grant beside twice those that there are, before those that have ended are struck off: 4 bytes each.
pub(super) const GRANTS_LISTED: usize = 1_024;

/// Stream entries that a peer may always make us hold, however few streams may be open.
pub(super) const MIN_ENTRY_LIMIT: usize = 1_024;

/// The range that a Welcome can tell.
pub(super) const HEARTBEAT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);
