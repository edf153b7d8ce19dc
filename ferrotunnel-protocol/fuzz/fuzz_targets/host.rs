//! Whom a visitor asks for, and the hosts, paths and networks that clients name.
//!
//! What is taken is nothing but a host, and means the same when it is read again.

#![no_main]

use ferrotunnel_core::fuzzing::public_host;
use ferrotunnel_core::{Cidr, PathPrefix};
use ferrotunnel_http::fuzzing::asked_host;
use http::Version;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((shape, rest)) = bytes.split_first() else { return };
    let mut parts = rest.split(|&byte| byte == b'\n');
    let first = parts.next().unwrap_or_default();
    let hosts: Vec<&[u8]> = parts.take(3).collect();
    let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(shape % 3)];
    let Ok(text) = std::str::from_utf8(first) else { return };
    if let Some((host, written)) = asked_host(text, &hosts, version) {
        assert_is_host(&host);
        assert!(written.contains(&host));
        let again = asked_host("/", &[written.as_bytes()], Version::HTTP_11);
        assert_eq!(again, Some((host, written)));
    }
    if let Some(host) = public_host(text) {
        assert_is_host(host.strip_prefix("*.").unwrap_or(&host));
        assert_eq!(public_host(&host), Some(host.clone()), "read again");
        assert_eq!(host, host.to_ascii_lowercase());
    }
    if let Ok(path) = text.parse::<PathPrefix>() {
        let written = path.to_string();
        assert!(written.starts_with('/'), "{written:?}");
        let again = written.parse::<PathPrefix>().expect("a path is read again");
        assert_eq!(again, path);
    }
    if let Ok(network) = text.parse::<Cidr>() {
        assert_eq!(network.to_string().parse::<Cidr>().expect("a network is read again"), network);
    }
});

fn assert_is_host(host: &str) {
    let foreign = |c: char| !c.is_ascii_graphic() || "@/\\?#<>\"%[]".contains(c);
    assert!(host.len() <= 255 && !host.contains(foreign), "{host:?}");
}
