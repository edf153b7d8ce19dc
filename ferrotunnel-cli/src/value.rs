//! What a single argument may look like, and what is said when it does not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use ferrotunnel::plugin::LogFormat;
use ferrotunnel::{
    Balance, BasicUser, BearerToken, Cidr, CidrError, Client, Connections, DEFAULT_TUNNEL_PORT,
    HealthCheck, HostHeader, PathPrefix, PathPrefixError, ProxyProtocol, ServerMode, Streams,
    Tunnel, VisitorRate,
};

/// Where the server is: a host name or address, and a port. Resolved at every connection attempt, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddr(String);

impl FromStr for ServerAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            return Err("give HOST:PORT without a scheme, like example.com:7835".to_owned());
        }
        // A bare IPv6 address is full of colons, none of which begins a port.
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(ip, DEFAULT_TUNNEL_PORT).to_string()));
        }
        match split_host_port(text)? {
            (host, Some(port)) => Ok(Self(format!("{host}:{port}"))),
            (host, None) => Ok(Self(format!("{host}:{DEFAULT_TUNNEL_PORT}"))),
        }
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the client forwards to: `host:port`, a bare port on this machine, or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalTarget(String);

impl FromStr for LocalTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("unix: needs the path of a socket, like unix:/run/app.sock".to_owned())
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        if let Some(rest) = text.strip_prefix("https://") {
            let bare = rest.strip_suffix('/').unwrap_or(rest);
            let is_host = !bare.is_empty() && !bare.contains(['/', '@', '?', '#', ' ']);
            return if is_host {
                Ok(Self(format!("https://{bare}")))
            } else {
                Err("give the host of the service after https://, with its port if it is not 443"
                    .to_owned())
            };
        }
        if text.contains("://") {
            return Err(
                "give a port or host:port without a scheme, like 3000 or 127.0.0.1:3000, or https://host:port for a \
                 service that speaks TLS"
                    .to_owned(),
            );
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(Self(format!("{}:{}", Ipv4Addr::LOCALHOST, port(text)?)));
        }
        match split_host_port(text)? {
            (host, Some(port)) => Ok(Self(format!("{host}:{port}"))),
            (_, None) => {
                Err("the port is missing; give a port or host:port, like 3000 or 127.0.0.1:3000"
                    .to_owned())
            }
        }
    }
}

impl fmt::Display for LocalTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address to listen on: `IP:PORT`, `localhost:PORT`, or a bare port for every IPv4 address. Port 0 lets the system pick.
pub(crate) fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let port = text.parse().map_err(|_| bad_port(text))?;
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    match text.rsplit_once(':') {
        Some(("localhost", port)) => {
            let port = port.parse().map_err(|_| bad_port(port))?;
            Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        }
        _ => Err("give IP:PORT, like 0.0.0.0:7835 or [::]:7835".to_owned()),
    }
}

/// Where an admin interface listens, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdminPlace {
    /// There is none.
    Off,
    At(SocketAddr),
}

/// An address to listen on, or `off`. A bare port is one of loopback: what listens there is for nobody else.
pub(crate) fn admin_place(text: &str) -> Result<AdminPlace, String> {
    match (text, text.parse::<u16>()) {
        ("off", _) => Ok(AdminPlace::Off),
        (_, Ok(port)) => Ok(AdminPlace::At(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))),
        _ => listen_addr(text)
            .map(AdminPlace::At)
            .map_err(|_| "give IP:PORT, like 127.0.0.1:4040, or off".to_owned()),
    }
}

/// Where an ACME server has its directory.
pub(crate) fn https_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(text.to_owned())
        }
        _ => Err("give a URL that begins with https://".to_owned()),
    }
}

/// What a CA calls a key.
pub(crate) fn eab_key_id(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("give the key id as the CA has it, in visible ASCII".to_owned()),
    }
}

/// An address for mail, as far as that can be told.
pub(crate) fn email(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((name, host))
            if !name.is_empty()
                && !host.is_empty()
                && text.bytes().all(|b| b.is_ascii_graphic() && b != b',') =>
        {
            Ok(text.to_owned())
        }
        _ => Err("give an address for mail, like operator@example.com".to_owned()),
    }
}

/// How visitors travel.
pub(crate) fn streams(text: &str) -> Result<Streams, String> {
    text.parse()
}

/// What a line of the access log looks like.
pub(crate) fn log_format(text: &str) -> Result<LogFormat, String> {
    text.parse()
}

/// How visitors are spread.
pub(crate) fn balance(text: &str) -> Result<Balance, String> {
    text.parse()
}

/// How a local service is looked after.
pub(crate) fn health_check(text: &str) -> Result<HealthCheck, String> {
    text.parse()
}

/// Who is told of visitors, and how.
pub(crate) fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    text.parse()
}

/// A network, or a single address.
pub(crate) fn network(text: &str) -> Result<Cidr, String> {
    text.parse().map_err(|error: CidrError| error.to_string())
}

/// What a local service sees as its host.
pub(crate) fn host_header(text: &str) -> Result<HostHeader, String> {
    let Ok(host) = text.parse::<HostHeader>();
    host.fit()
}

/// How often visitors may come.
pub(crate) fn visitor_rate(text: &str) -> Result<VisitorRate, String> {
    text.parse()
}

/// A user, who may have been given with the password itself.
pub(crate) fn basic_user(text: Secret) -> Result<BasicUser, String> {
    text.reveal().parse()
}

/// The hash of a bearer token, or by mistake the token.
pub(crate) fn bearer(text: Secret) -> Result<BearerToken, String> {
    text.reveal().parse()
}

/// A name of any form, which the server judges.
pub(crate) fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A further host of a tunnel, as the library takes it, which judges whole clients only.
pub(crate) fn public_host(text: &str) -> Result<String, String> {
    let tunnel = Tunnel::http("").host(text).local_addr("1");
    let client = Client::builder().server_addr("localhost:1").token("probe").tunnel(tunnel);
    match client.build() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let why = error.to_string();
            Err(why.strip_prefix("host: ").unwrap_or(&why).to_owned())
        }
    }
}

/// A path of the hosts of a tunnel; a slash at its end says nothing.
pub(crate) fn url_path(text: &str) -> Result<PathPrefix, String> {
    let path = text.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(text);
    path.parse().map_err(|error: PathPrefixError| error.to_string())
}

/// A time like those of [`duration`], or none at all.
pub(crate) fn time_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" | "0ms" => Ok(Duration::ZERO),
        text => duration(text),
    }
}

/// How several servers are used.
pub(crate) fn server_mode(text: &str) -> Result<ServerMode, String> {
    text.parse()
}

/// How many connections a client keeps.
pub(crate) fn connections(text: &str) -> Result<Connections, String> {
    text.parse()
}

/// A time with its unit: `500ms`, `10s`, `2m`; a bare number counts seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || "give a number and a unit, like 500ms, 10s or 2m".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let time = match unit {
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(wrong()),
    };
    if time.is_zero() {
        Err("must be longer than nothing".to_owned())
    } else if time > A_DAY {
        Err("is longer than a day; is the unit right?".to_owned())
    } else {
        Ok(time)
    }
}

/// Nothing here waits longer on purpose; the library says so too.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of a body is kept.
pub(crate) fn body_bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    let most = || "more than 16MiB of each body are not kept".to_owned();
    usize::try_from(bytes).ok().filter(|bytes| *bytes <= 16 << 20).ok_or_else(most)
}

/// The name of a header, in lower case.
pub(crate) fn header_name(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("give the name of a header, like X-Secret".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// A number of bytes: `65536`, `64KiB`, `256MiB`, `1GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || "give a number and a unit, like 512KiB, 256MiB or 1GiB".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    match number.checked_mul(factor) {
        Some(0) => Err("must be more than nothing".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("is more than any machine has".to_owned()),
    }
}

/// On or off. An empty text is off: a variable of the environment that is set to nothing was meant to be no longer set.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "t" | "y" => Ok(true),
        "false" | "no" | "off" | "0" | "f" | "n" | "" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

/// How many of something there may be: at least one, or nobody could use the server.
pub(crate) fn count<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    match text.parse::<u64>().map(|count| (count, T::try_from(count))) {
        Ok((1.., Ok(count))) => Ok(count),
        Ok((1.., Err(_))) => Err("is more than any machine has".to_owned()),
        _ => Err("give a whole number of at least 1".to_owned()),
    }
}

/// Threads of a server.
pub(crate) fn threads(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(format!("{text:?} is not from 1 to 1024")),
    }
}

/// Public ports: one, or the first and the last of a range, like `5000-6000`.
pub(crate) fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first <= last {
        Ok(first..=last)
    } else {
        Err(format!("the range ends before it begins; write {last}-{first}"))
    }
}

/// Splits at the port, if there is one; brackets around an IPv6 address stay.
fn split_host_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let (host, rest) = match text.strip_prefix('[').and_then(|inner| inner.find(']')) {
        Some(end) => text.split_at(end + 2),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.is_empty() {
        return Err("the host is missing; give host:port".to_owned());
    }
    if let Some(blank) = host.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '/') {
        return Err(format!("a host cannot contain {blank:?}"));
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'))
        && inner.parse::<Ipv6Addr>().is_err()
    {
        return Err(format!("{inner} is not an IPv6 address"));
    }
    if rest.is_empty() {
        return Ok((host, None));
    }
    let Some(digits) = rest.strip_prefix(':') else {
        return Err("give host:port".to_owned());
    };
    if digits.contains(':') {
        return Err(format!("write an IPv6 address in brackets, like [::1]:{DEFAULT_TUNNEL_PORT}"));
    }
    port(digits).map(|port| (host, Some(port)))
}

/// A port that can be dialled.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(bad_port(text)),
        Ok(port) => Ok(port),
    }
}

fn bad_port(text: &str) -> String {
    format!("'{text}' is not a port; ports go from 1 to 65535")
}

/// A token as it was typed. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// For the library's builders only.
    pub(crate) fn reveal(self) -> String {
        self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Result<String, String> {
        text.parse::<ServerAddr>().map(|addr| addr.to_string())
    }

    fn target(text: &str) -> Result<String, String> {
        text.parse::<LocalTarget>().map(|target| target.to_string())
    }

    #[test]
    fn a_server_without_a_port_gets_the_default_one() {
        assert_eq!(server("example.com").unwrap(), "example.com:7835");
        assert_eq!(server("example.com:99").unwrap(), "example.com:99");
        assert_eq!(server("192.0.2.1").unwrap(), "192.0.2.1:7835");
    }

    #[test]
    fn ipv6_servers_are_understood() {
        assert_eq!(server("::1").unwrap(), "[::1]:7835");
        assert_eq!(server("[::1]").unwrap(), "[::1]:7835");
        assert_eq!(server("[2001:db8::1]:99").unwrap(), "[2001:db8::1]:99");
        assert!(server("[zz]:99").unwrap_err().contains("not an IPv6 address"));
        assert!(server("fe80::zz:99").unwrap_err().contains("brackets"));
    }

    #[test]
    fn a_wrong_server_is_told_apart() {
        assert!(server("http://example.com").unwrap_err().contains("scheme"));
        assert!(server("example.com:0").unwrap_err().contains("1 to 65535"));
        assert!(server("example.com:port").unwrap_err().contains("'port' is not a port"));
        assert!(server("").unwrap_err().contains("host is missing"));
        assert!(server(":7835").unwrap_err().contains("host is missing"));
        assert!(server("exa mple:1").unwrap_err().contains("' '"));
    }

    #[test]
    fn a_bare_port_means_this_machine() {
        assert_eq!(target("3000").unwrap(), "127.0.0.1:3000");
        assert_eq!(target("localhost:3000").unwrap(), "localhost:3000");
        assert_eq!(target("[::1]:3000").unwrap(), "[::1]:3000");
        assert_eq!(target("unix:/run/app.sock").unwrap(), "unix:/run/app.sock");
    }

    #[test]
    fn a_wrong_target_is_told_apart() {
        assert!(target("0").unwrap_err().contains("1 to 65535"));
        assert!(target("70000").unwrap_err().contains("'70000' is not a port"));
        assert!(target("localhost").unwrap_err().contains("port is missing"));
        assert!(target("http://localhost:3000").unwrap_err().contains("scheme"));
        assert!(target("unix:").unwrap_err().contains("path"));
        assert!(target("").is_err());
    }

    #[test]
    fn listening_takes_an_address_or_a_port() {
        assert_eq!(listen_addr("7835").unwrap(), "0.0.0.0:7835".parse().unwrap());
        assert_eq!(listen_addr("[::]:0").unwrap(), "[::]:0".parse().unwrap());
        assert_eq!(listen_addr("localhost:80").unwrap(), "127.0.0.1:80".parse().unwrap());
        assert!(listen_addr("99999").unwrap_err().contains("not a port"));
        assert!(listen_addr("example.com:80").unwrap_err().contains("IP:PORT"));
    }

    #[test]
    fn a_switch_is_on_or_off_and_nothing_else() {
        for on in ["true", "YES", "on", "1"] {
            assert_eq!(switch(on), Ok(true), "{on}");
        }
        for off in ["false", "No", "off", "0", ""] {
            assert_eq!(switch(off), Ok(false), "{off}");
        }
        assert!(switch("maybe").unwrap_err().contains("true or false"));
    }

    #[test]
    fn a_count_is_at_least_one_and_fits() {
        assert_eq!(count::<u32>("1"), Ok(1));
        assert_eq!(count::<u32>("4294967295"), Ok(u32::MAX));
        assert!(count::<u32>("4294967296").unwrap_err().contains("more than any"));
        for wrong in ["0", "-1", "", "1.5", "many"] {
            assert!(count::<usize>(wrong).unwrap_err().contains("at least 1"), "{wrong:?}");
        }
        assert_eq!(threads("1024"), Ok(1024));
        assert!(threads("0").is_err() && threads("1025").is_err());
    }

    #[test]
    fn ports_come_alone_or_in_ranges() {
        assert_eq!(port_range("5432"), Ok(5432..=5432));
        assert_eq!(port_range("5000-6000"), Ok(5000..=6000));
        assert!(port_range("6000-5000").unwrap_err().contains("5000-6000"));
        for wrong in ["", "-", "0-9", "5000-", "1-2-3", "5000-70000"] {
            assert!(port_range(wrong).unwrap_err().contains("1 to 65535"), "{wrong:?}");
        }
    }

    #[test]
    fn sizes_carry_their_unit() {
        assert_eq!(size("65536").unwrap(), 65_536);
        assert_eq!(size("64KiB").unwrap(), 64 << 10);
        assert_eq!(size("256MiB").unwrap(), 256 << 20);
        assert_eq!(size("1GiB").unwrap(), 1 << 30);
        for wrong in ["", "MiB", "-1", "1.5GiB", "1MB", "0", "18446744073709551615GiB"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("10").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("10s").unwrap(), Duration::from_secs(10));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(duration("1440m").unwrap(), Duration::from_secs(86_400));
        for wrong in ["", "s", "-1s", "1.5s", "10h", "0s", "1441m", "18446744073709551615m"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
