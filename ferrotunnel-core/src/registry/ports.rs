//! Ports of TCP tunnels that ask for none.

use std::io;
use std::ops::RangeInclusive;

use crate::auth;

/// Binds a free port of the dynamic range (RFC 6335, section 6), picked by chance. The kernel would do
/// it too, but with thousands of ports in use it looks for milliseconds.
pub(super) fn pick<T>(
    is_taken: impl Fn(u16) -> bool,
    bind: impl Fn(u16) -> io::Result<T>,
) -> io::Result<T> {
    for _ in 0..MAX_TRIES {
        // Without random numbers no client could have authenticated.
        let die = u16::from_be_bytes(auth::random().unwrap_or_default());
        let port = DYNAMIC.start() | die;
        if is_taken(port) {
            continue;
        }
        match bind(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            // Out of descriptors, or no such address: another port would not help.
            bound => return bound,
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
    for port in ports.filter(|port| !is_taken(*port)).take(MOST_BINDS) {
        match bind(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Attempts to bind, each a system call of some microseconds while others wait.
const MOST_BINDS: usize = 1_024;

/// A quarter of all ports: those whose two first bits are set.
const DYNAMIC: RangeInclusive<u16> = 49_152..=65_535;

/// With nine out of ten ports taken, one tunnel in a thousand misses this often.
const MAX_TRIES: u32 = 64;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn what_is_taken_is_not_tried_and_what_is_in_use_is_passed_over() {
        let tried = RefCell::new(Vec::new());
        let picked = pick(
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
        assert_eq!(pick(|_| true, Ok).unwrap(), 0);
        let asked = RefCell::new(0);
        let none = pick(
            |_| false,
            |_| {
                *asked.borrow_mut() += 1;
                Err::<(), _>(io::ErrorKind::PermissionDenied.into())
            },
        );
        assert_eq!(
            (none.unwrap_err().kind(), asked.into_inner()),
            (io::ErrorKind::PermissionDenied, 1)
        );
    }
}
