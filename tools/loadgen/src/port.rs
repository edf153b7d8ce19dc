//! Ports that nobody gets by chance.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// That many free ports of loopback, or as many as there are, below those that the system gives to
/// outgoing connections. While a server is down, a client that dials it could be given its own
/// target for a source, and would be connected with itself; and a port that a tunnel had could be
/// somebody's source when the tunnel comes back for it.
pub fn free_ports(count: usize) -> Vec<u16> {
    let lowest_outgoing = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(LOWEST_OUTGOING);
    let span = u32::from(lowest_outgoing.saturating_sub(LOWEST)).max(1);
    // Two runs at once meet less often this way.
    let first = RandomState::new().hash_one(()) as u32 % span;
    let ports = (0..span).map(|step| LOWEST + ((first + step) % span) as u16);
    // Each is bound again at once; if somebody takes it meanwhile, the run says so and fails.
    ports
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .take(count)
        .collect()
}

/// Above most services.
const LOWEST: u16 = 10_000;

/// Where Linux begins by default.
const LOWEST_OUTGOING: u16 = 32_768;
