//! A port for a server that will be started on it again.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// A free port of loopback below those that the system gives to outgoing connections: while the
/// server is down, a client that dials it could be given its own target for a source, and would be
/// connected with itself.
pub(super) fn free() -> u16 {
    let lowest_outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(LOWEST_OUTGOING);
    let span = lowest_outgoing.saturating_sub(LOWEST).max(1);
    let first = RandomState::new().hash_one(()) as u16;
    let free = (0..span).map(|step| LOWEST + first.wrapping_add(step) % span).find(|port| {
        // It is bound again at once; whoever takes it meanwhile makes the server's start fail.
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    });
    // Otherwise the server says that there is none.
    free.unwrap_or(LOWEST)
}

/// Above most services.
const LOWEST: u16 = 12_000;

/// Where Linux begins by default.
const LOWEST_OUTGOING: u16 = 32_768;
