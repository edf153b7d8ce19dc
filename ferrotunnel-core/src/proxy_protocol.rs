//! The PROXY protocol: a header at the beginning of a connection says who is behind it
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A version of the PROXY protocol, for local services that understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyProtocol {
    /// The header for a visitor, and where it connected to.
    pub(crate) fn header(
        self,
        visitor: Option<SocketAddr>,
        ingress: Option<SocketAddr>,
    ) -> io::Result<Vec<u8>> {
        let header = match visitor {
            None => ProxyHeader::with_local(),
            Some(visitor) => ProxyHeader::with_address(of_one_family(visitor, ingress)),
        };
        let mut bytes = Vec::with_capacity(LONGEST_LINE);
        match self {
            Self::V1 => header.encode_v1(&mut bytes),
            Self::V2 => header.encode_v2(&mut bytes),
        }
        .map_err(io::Error::other)?;
        Ok(bytes)
    }
}

/// A header has room for two addresses of one family.
fn of_one_family(visitor: SocketAddr, ingress: Option<SocketAddr>) -> ProxiedAddress {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let visitor = canonical(visitor);
    let unspecified = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let ingress = canonical(ingress.unwrap_or(unspecified));
    if visitor.is_ipv4() == ingress.is_ipv4() {
        return ProxiedAddress::stream(visitor, ingress);
    }
    let as_v6 = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), addr.port()),
        IpAddr::V6(_) => addr,
    };
    ProxiedAddress::stream(as_v6(visitor), as_v6(ingress))
}

impl FromStr for ProxyProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            _ => Err(format!("{text:?} is not v1 or v2")),
        }
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// Reads a header of either version, and not a byte more: who connected to the proxy, and where. `None`: the proxy
/// itself.
///
/// # Errors
/// It is none.
pub(crate) async fn receive(
    io: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let mut bytes = vec![0; SHORTEST];
    io.read_exact(&mut bytes).await?;
    if bytes.starts_with(SIGNATURE) {
        // The first byte of the length has been read.
        bytes.push(io.read_u8().await?);
        let rest = usize::from(u16::from_be_bytes([bytes[SHORTEST - 1], bytes[SHORTEST]]));
        if rest > MOST_BINARY {
            return Err(no_header());
        }
        let begin = bytes.len();
        bytes.resize(begin + rest, 0);
        io.read_exact(&mut bytes[begin..]).await?;
    } else if bytes.starts_with(b"PROXY ") {
        // What follows the line is not ours to read, and where it ends only the line knows.
        while !bytes.ends_with(b"\r\n") {
            if bytes.len() >= LONGEST_LINE {
                return Err(no_header());
            }
            bytes.push(io.read_u8().await?);
        }
    } else {
        return Err(no_header());
    }
    let (header, length) =
        ProxyHeader::parse(&bytes, ParseConfig::default()).map_err(|_| no_header())?;
    match header.proxied_address() {
        _ if length != bytes.len() => Err(no_header()),
        Some(addresses) if addresses.protocol == Protocol::Stream => {
            Ok(Some((addresses.source, addresses.destination)))
        }
        Some(_) => Err(no_header()),
        None => Ok(None),
    }
}

fn no_header() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

/// `PROXY UNKNOWN\r\n`, one byte less than the fixed part of version 2.
const SHORTEST: usize = 15;

/// By the specification, with the line end.
const LONGEST_LINE: usize = 107;

/// Of version 2, behind its fixed part. Two addresses take 36 bytes; what else proxies say, certificates included,
/// stays far below.
const MOST_BINARY: usize = 4_096;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(mut bytes: &[u8]) -> Option<(Option<(SocketAddr, SocketAddr)>, &[u8])> {
        let received = receive(&mut bytes).await.ok()?;
        Some((received, bytes))
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn what_is_sent_is_received_and_not_a_byte_more() {
        for (visitor, ingress) in [
            ("192.0.2.7:4711", "198.51.100.1:80"),
            ("[2001:db8::7]:4711", "[2001:db8::1]:443"),
            ("1.1.1.1:1", "1.1.1.1:1"),
            (
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ] {
            for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
                let (visitor, ingress) = (addr(visitor), addr(ingress));
                let mut bytes = version.header(Some(visitor), Some(ingress)).unwrap();
                bytes.extend_from_slice(b"\r\nrest");
                let expected = Some((Some((visitor, ingress)), &b"\r\nrest"[..]));
                assert_eq!(received(&bytes).await, expected, "{visitor} {version}");
            }
        }
    }

    #[tokio::test]
    async fn addresses_of_two_families_become_of_one() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let sent = |visitor, ingress| {
                version.header(Some(addr(visitor)), Some(addr(ingress))).unwrap()
            };
            let (mixed, mapped) =
                (sent("192.0.2.7:1", "[::1]:2"), sent("[::ffff:192.0.2.7]:1", "127.0.0.1:2"));
            let ((mixed, _), (mapped, _)) =
                (received(&mixed).await.unwrap(), received(&mapped).await.unwrap());
            assert_eq!(mixed, Some((addr("[::ffff:192.0.2.7]:1"), addr("[::1]:2"))));
            assert_eq!(mapped, Some((addr("192.0.2.7:1"), addr("127.0.0.1:2"))));
        }
    }

    #[tokio::test]
    async fn a_proxy_may_speak_for_itself() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let mut bytes = version.header(None, None).unwrap();
            bytes.push(b'x');
            assert_eq!(received(&bytes).await, Some((None, &b"x"[..])), "{version}");
        }
        let with_more = b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\nx";
        assert_eq!(received(with_more).await, Some((None, &b"x"[..])));
    }

    #[tokio::test]
    async fn nothing_that_is_almost_a_header_does_any_harm() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let visitor = Some(addr("[2001:db8::7]:4711"));
            let header = version.header(visitor, Some(addr("[2001:db8::1]:443"))).unwrap();
            for at in 0..header.len() {
                assert_eq!(received(&header[..at]).await, None, "{version} ends at {at}");
                for byte in 0..=u8::MAX {
                    let mut changed = header.clone();
                    changed[at] = byte;
                    let whole = received(&changed).await;
                    assert!(whole.is_none_or(|(_, rest)| rest.len() < header.len()));
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let mut long = SIGNATURE.to_vec();
        long.extend_from_slice(&[0x21, 0x11, 0xff, 0xff]);
        long.resize(70_000, 0);
        let datagrams =
            [SIGNATURE, &[0x21, 0x12, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2]].concat();
        let endless = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        for bytes in [
            &b""[..],
            b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.8 1\r\nmore and more of it",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            b"PROXY TCP9 192.0.2.7 192.0.2.8 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.8 1 99999\r\n",
            &long,
            &datagrams,
            &endless,
            &SIGNATURE[..11],
        ] {
            assert_eq!(
                received(bytes).await,
                None,
                "{:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
            );
        }
    }
}
