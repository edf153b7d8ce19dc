//! Headers of the PROXY protocol, as a proxy sends them and as nobody should.
//!
//! Not a byte behind the header is read. Whom it names is named again when it is written anew.

#![no_main]

use ferrotunnel_core::ProxyProtocol;
use ferrotunnel_core::fuzzing::{proxy_header, receive_proxy_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((named, length)) = receive_proxy_header(bytes) else { return };
    assert!(length <= bytes.len() && length <= LONGEST);
    assert_eq!(receive_proxy_header(&bytes[..length]), Some((named, length)), "without the rest");
    assert_eq!(receive_proxy_header(&bytes[..length - 1]), None, "without its end");
    let Some((visitor, ingress)) = named else { return };
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        let header = proxy_header(version, visitor, ingress);
        let Some((Some(again), whole)) = receive_proxy_header(&header) else {
            panic!("{version} of {visitor} to {ingress} is no header")
        };
        assert_eq!(whole, header.len());
        let canonical = |addr: std::net::SocketAddr| (addr.ip().to_canonical(), addr.port());
        assert_eq!(canonical(again.0), canonical(visitor));
        assert_eq!(canonical(again.1), canonical(ingress));
    }
});

/// The fixed part of version 2, and the most that may follow.
const LONGEST: usize = 16 + 4_096;
