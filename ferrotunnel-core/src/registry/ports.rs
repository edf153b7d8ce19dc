//! Ports of TCP tunnels that ask for none.

use std::io;
use std::ops::RangeInclusive;

use crate::auth;

/// Ports that the operator keeps for others: Linux' `net.ipv4.ip_local_reserved_ports`, which a port
/// that is asked for by number would get past.
#[derive(Debug, Default)]
pub(super) struct Reserved(Vec<RangeInclusive<u16>>);

impl Reserved {
    /// What the system says now; nothing where it has no such list.
    pub(super) fn of_system() -> Self {
        let list = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports");
        Self::parse(&list.unwrap_or_default())
    }

    /// Numbers and ranges like `8080,9148-9150`.
    fn parse(list: &str) -> Self {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        Self(list.trim().split(',').filter_map(range).collect())
    }

    fn has(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

/// Binds a free port of the dynamic range (RFC 6335, section 6), picked by chance. The kernel would do
/// it too, but with thousands of ports in use it looks for milliseconds.
pub(super) fn pick<T>(
    reserved: &Reserved,
    is_taken: impl Fn(u16) -> bool,
    bind: impl Fn(u16) -> io::Result<T>,
) -> io::Result<T> {
    let mut binds = 0;
    for _ in 0..MAX_TRIES {
        // Without random numbers no client could have authenticated.
        let die = u16::from_be_bytes(auth::random().unwrap_or_default());
        let port = DYNAMIC.start() | die;
        if is_taken(port) || reserved.has(port) {
            continue;
        }
        match bind(port) {
            Err(error) if is_about_one_port(&error) => {}
            bound => return bound,
        }
        binds += 1;
        if binds >= MAX_BINDS {
            break;
        }
    }
    bind(0)
}

/// Binds a free port of these ranges. Where to begin is up to chance, from there on it is one after the
/// other: a range may be small and nearly full.
pub(super) fn pick_within<T>(
    ranges: &[RangeInclusive<u16>],
    is_taken: impl Fn(u16) -> bool,
    bind: impl Fn(u16) -> io::Result<T>,
) -> io::Result<T> {
    let count: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    // Without random numbers no client could have authenticated.
    let die = usize::from(u16::from_be_bytes(auth::random().unwrap_or_default()));
    let ports = ranges.iter().cloned().flatten().cycle().skip(die % count.max(1)).take(count);
    let mut last = io::ErrorKind::AddrInUse.into();
    for port in ports.filter(|port| !is_taken(*port)).take(MAX_BINDS_WITHIN) {
        match bind(port) {
            Err(error) if is_about_one_port(&error) => last = error,
            bound => return bound,
        }
    }
    Err(last)
}

/// Whether another port may do: not where descriptors are short, or the address is not ours. Windows keeps
/// whole ranges from everybody.
fn is_about_one_port(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

/// Of ports that somebody chose, where no other will do.
const MAX_BINDS_WITHIN: usize = 1_024;

/// A quarter of all ports: those whose two first bits are set.
const DYNAMIC: RangeInclusive<u16> = 49_152..=65_535;

/// With nine out of ten ports taken, one tunnel in a thousand misses this often.
const MAX_TRIES: u32 = 64;

/// System calls, during which nobody else registers.
const MAX_BINDS: u32 = 8;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_is_taken_is_not_tried_and_what_is_in_use_is_passed_over() {
        let tried = RefCell::new(Vec::new());
        let picked = pick(
            &Reserved::default(),
            |port| port % 2 == 0,
            |port| {
                tried.borrow_mut().push(port);
                if tried.borrow().len() < 5 {
                    Err(io::ErrorKind::AddrInUse.into())
                } else {
                    Ok(port)
                }
            },
        );
        let tried = tried.into_inner();
        assert_eq!(picked.unwrap(), tried[4]);
        assert!(tried.iter().all(|port| DYNAMIC.contains(port) && port % 2 == 1), "{tried:?}");
    }

    #[test]
    fn what_is_picked_within_ranges_is_the_one_that_is_free() {
        let ranges = [10..=12, 20..=20, 30..=39];
        for _ in 0..100 {
            let tried = RefCell::new(Vec::new());
            let picked = pick_within(
                &ranges,
                |port| port == 11,
                |port| {
                    tried.borrow_mut().push(port);
                    if port == 20 { Ok(port) } else { Err(io::ErrorKind::AddrInUse.into()) }
                },
            );
            assert_eq!(picked.unwrap(), 20);
            let tried = tried.into_inner();
            assert!(
                tried
                    .iter()
                    .all(|port| *port != 11 && ranges.iter().any(|range| range.contains(port)))
            );
        }
        let none = pick_within(&ranges, |_| true, Ok).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::AddrInUse);
        assert!(pick_within(&[], |_| false, Ok).is_err());
    }

    #[test]
    fn when_chance_does_not_help_the_kernel_picks() {
        let none = Reserved::default();
        assert_eq!(pick(&none, |_| true, Ok).unwrap(), 0);
        for kept in [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied] {
            let picked =
                pick(&none, |_| false, |port| if port == 0 { Ok(0) } else { Err(kept.into()) });
            assert_eq!(picked.unwrap(), 0, "{kept:?}");
        }
        let asked = RefCell::new(0);
        let bound = pick(
            &none,
            |_| false,
            |_| {
                *asked.borrow_mut() += 1;
                Err::<(), _>(io::ErrorKind::AddrNotAvailable.into())
            },
        );
        let (kind, asked) = (bound.unwrap_err().kind(), asked.into_inner());
        assert_eq!((kind, asked), (io::ErrorKind::AddrNotAvailable, 1));
    }

    #[test]
    fn reserved_ports_are_left_to_others() {
        let reserved = Reserved::parse("49152-65000,65002\n");
        for _ in 0..50 {
            let port = pick(&reserved, |_| false, Ok).unwrap();
            assert!(port == 0 || port == 65_001 || port > 65_002, "{port}");
        }
        assert!(!Reserved::parse("").has(0) && !Reserved::parse("\n").has(50_000));
    }
}
