//! Networks of addresses, as people write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that begin with the same bits: `192.0.2.0/24`, `2001:db8::/32`. A single address is one, too.
///
/// IPv4 addresses that are written as IPv6 (`::ffff:192.0.2.1`) are IPv4 addresses here, wherever they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Canonical, and with nothing beyond the prefix.
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrError {
    /// It has another form.
    #[error("{0:?} is no address or network like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
    Malformed(String),
    /// Which of two things is meant?
    #[error(
        "{written} has bits beyond its prefix; the network is {network}, the address alone {address}"
    )]
    BitsBeyond {
        /// As it was written.
        written: String,
        /// Without those bits.
        network: Cidr,
        /// Without the prefix.
        address: IpAddr,
    },
}

impl Cidr {
    /// Whether it has all addresses of its kind.
    pub(crate) fn is_everybody(&self) -> bool {
        self.prefix == 0
    }

    /// Whether the address is one of them.
    pub fn has(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => cut_v4(address, self.prefix) == first,
            (IpAddr::V6(first), IpAddr::V6(address)) => cut_v6(address, self.prefix) == first,
            _ => false,
        }
    }
}

/// Whether one of the networks has the address.
pub(crate) fn any_has(networks: &[Cidr], address: IpAddr) -> bool {
    networks.iter().any(|network| network.has(address))
}

fn cut_v4(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from(u32::from(address) & mask)
}

fn cut_v6(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
    Ipv6Addr::from(u128::from(address) & mask)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let written: IpAddr = address.parse().map_err(|_| malformed())?;
        let longest = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            // `+7` and `007` are numbers as well.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= longest).ok_or_else(malformed)?
            }
            Some(_) => return Err(malformed()),
        };
        let (address, prefix) = match written.to_canonical() {
            IpAddr::V4(address) if written.is_ipv6() && prefix >= MAPPED => {
                (IpAddr::V4(address), prefix - MAPPED)
            }
            IpAddr::V4(address) if written.is_ipv4() => (IpAddr::V4(address), prefix),
            _ => (written, prefix),
        };
        let first = match address {
            IpAddr::V4(address) => IpAddr::V4(cut_v4(address, prefix)),
            IpAddr::V6(address) => IpAddr::V6(cut_v6(address, prefix)),
        };
        let network = Self { first, prefix };
        if first == address {
            Ok(network)
        } else {
            Err(CidrError::BitsBeyond { written: text.to_owned(), network, address })
        }
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let first = address.to_canonical();
        Self { first, prefix: if first.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, prefix } = self;
        match (first, prefix) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => write!(f, "{first}"),
            _ => write!(f, "{first}/{prefix}"),
        }
    }
}

/// The bits before an IPv4 address that is written as IPv6.
const MAPPED: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn has(network: &str, address: &str) -> bool {
        cidr(network).has(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_what_begins_like_it() {
        assert!(has("192.0.2.0/24", "192.0.2.255") && !has("192.0.2.0/24", "192.0.3.0"));
        assert!(has("192.0.2.7", "192.0.2.7") && !has("192.0.2.7", "192.0.2.6"));
        assert!(has("0.0.0.0/0", "255.255.255.255") && !has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("::/0", "2001:db8::1") && !has("::/0", "192.0.2.7"));
        assert!(
            has("2001:db8::/33", "2001:db8:7fff::") && !has("2001:db8::/33", "2001:db8:8000::")
        );
        assert!(has("128.0.0.0/1", "192.0.2.7") && !has("128.0.0.0/1", "127.0.0.1"));
    }

    #[test]
    fn ipv4_is_ipv4_however_it_is_written() {
        assert!(has("192.0.2.0/24", "::ffff:192.0.2.7"));
        assert!(has("::ffff:192.0.2.0/120", "192.0.2.7"));
        assert_eq!(cidr("::ffff:192.0.2.0/120"), cidr("192.0.2.0/24"));
        assert_eq!(cidr("::ffff:192.0.2.7"), cidr("192.0.2.7"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0"] {
            assert_eq!(cidr(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        let bad = [
            "",
            "/",
            "a",
            "192.0.2",
            "192.0.2.7/",
            "192.0.2.7/33",
            "::/129",
            "192.0.2.0/+24",
            "192.0.2.0/-1",
            "192.0.2.0/24/8",
            " 192.0.2.0/24",
            "[::1]",
            "192.0.2.7:80",
            "192.0.2.0/999",
        ];
        for text in bad {
            assert_eq!(
                text.parse::<Cidr>(),
                Err(CidrError::Malformed(text.to_owned())),
                "{text:?}"
            );
        }
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/8") && error.contains("10.1.2.3"), "{error}");
    }
}
