//! Where the streams of a tunnel go.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use ferrotunnel_protocol::frame::{Open, ResetCode};
use rustls_pki_types::ServerName;
use tokio::sync::mpsc;

use crate::error::BuildError;
use crate::stream::Stream;
use crate::tls::{LocalTls, LocalTrust};

/// The local service of a tunnel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// Fixed addresses, tried in order.
    Addrs(Vec<SocketAddr>),
    /// `host:port`, looked up for every connection.
    Name(String),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
    /// `https://host:port`: a service that speaks TLS.
    Https(HttpsTarget),
    /// This very process.
    InProcess(Acceptor),
    /// One beyond a network that is none of the system's.
    #[cfg(test)]
    #[expect(private_interfaces, reason = "it is of tests alone")]
    Simulated(crate::simulation::Service),
}

/// A local service that speaks TLS. Its certificate is verified, unless somebody says otherwise.
#[derive(Clone, Debug)]
pub struct HttpsTarget {
    /// Where it is.
    pub(super) at: Box<Target>,
    pub(super) tls: LocalTls,
}

impl HttpsTarget {
    /// `host` or `host:port`, by default 443.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let text = if has_port { text.to_owned() } else { format!("{text}:443") };
        let (host, _) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned()).ok()?;
        let at: Target = text.parse().ok()?;
        let is_tcp = matches!(at, Target::Addrs(_) | Target::Name(_));
        is_tcp.then(|| Self { at: Box::new(at), tls: LocalTls::new(name) })
    }

    /// The same with other certificates that are taken; without it those of CAs that the system trusts.
    #[must_use]
    pub fn trusting(self, trust: LocalTrust) -> Self {
        Self { tls: self.tls.trusting(trust), ..self }
    }

    /// Reads the CAs.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn prepare(&self) -> Result<(), BuildError> {
        self.tls.config(false).map(drop)
    }
}

impl FromStr for Target {
    type Err = BuildError;

    /// `host:port`, a bare port, `unix:/path`, or `https://host:port`. A bare port and `localhost` mean
    /// the loopback addresses of both families.
    fn from_str(text: &str) -> Result<Self, BuildError> {
        let wrong = || BuildError::Target(text.to_owned());
        if let Some(rest) = text.strip_prefix("https://") {
            return HttpsTarget::parse(rest).map(Self::Https).ok_or_else(wrong);
        }
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(wrong()) } else { Ok(Self::Addrs(vec![addr])) };
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        match host {
            "localhost" => Ok(Self::Addrs(vec![
                ([127, 0, 0, 1], port).into(),
                ([0, 0, 0, 0, 0, 0, 0, 1], port).into(),
            ])),
            "" => Err(wrong()),
            host if host.contains([':', '/', ' ', '[']) => Err(wrong()),
            host => Ok(Self::Name(format!("{host}:{port}"))),
        }
    }
}

impl fmt::Display for Target {
    /// As people give it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addrs(addrs) => match addrs.as_slice() {
                [addr] => write!(f, "{addr}"),
                // What a bare port and `localhost` mean.
                [first, ..] => write!(f, "localhost:{}", first.port()),
                [] => f.write_str("nowhere"),
            },
            Self::Name(name) => f.write_str(name),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https(https) => write!(f, "https://{}", https.at),
            Self::InProcess(_) => f.write_str("in process"),
            #[cfg(test)]
            Self::Simulated(_) => f.write_str("simulated"),
        }
    }
}

/// A visitor's stream, given to this process.
#[derive(Debug)]
pub struct Visit {
    /// The stream.
    pub stream: Stream,
    /// Who connected.
    pub visitor: Option<SocketAddr>,
}

/// Too many visitors wait for the program, or it is gone.
#[derive(Debug, thiserror::Error)]
#[error("the program does not accept")]
pub(super) struct NotTaken;

/// Hands visitors to whoever holds the other end of its channel.
#[derive(Clone, Debug)]
pub struct Acceptor(mpsc::Sender<Visit>);

impl Acceptor {
    /// A channel of visitors. When as many as a listen backlog wait unaccepted, more are refused.
    pub fn channel() -> (Self, mpsc::Receiver<Visit>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), receiver)
    }

    /// # Errors
    /// The program takes no more of them; this one was told so.
    pub(super) fn give(&self, stream: Stream, open: &Open) -> Result<(), NotTaken> {
        let visit = Visit { stream, visitor: open.visitor };
        self.0.try_send(visit).map_err(|refused| {
            let visit = refused.into_inner();
            visit.stream.reset(ResetCode::LocalUnreachable, &NotTaken.to_string());
            NotTaken
        })
    }
}

const BACKLOG: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Target> {
        text.parse().ok()
    }

    #[test]
    fn targets_are_addresses_ports_names_and_paths() {
        assert!(matches!(parse("127.0.0.1:80"), Some(Target::Addrs(list)) if list.len() == 1));
        assert!(matches!(parse("[::1]:80"), Some(Target::Addrs(list)) if list[0].is_ipv6()));
        assert!(matches!(parse("3000"), Some(Target::Addrs(list)) if list.len() == 2));
        assert!(matches!(parse("localhost:3000"), Some(Target::Addrs(list)) if list.len() == 2));
        assert!(matches!(parse("db.lan:5432"), Some(Target::Name(name)) if name == "db.lan:5432"));
        assert!(matches!(parse("unix:/run/app.sock"), Some(Target::Unix(_))));
    }

    #[test]
    fn a_service_that_speaks_tls_is_known_by_its_host() {
        for (text, name, port) in [
            ("https://localhost:8443", "localhost", 8443),
            ("https://127.0.0.1:1/", "127.0.0.1", 1),
            ("https://[::1]:2", "::1", 2),
            ("https://nas.lan", "nas.lan", 443),
            ("https://[::1]", "::1", 443),
        ] {
            let Some(Target::Https(https)) = parse(text) else { panic!("{text}") };
            assert_eq!(https.tls.name.to_str(), name);
            let is_at = match &*https.at {
                Target::Addrs(addrs) => addrs[0].port() == port,
                Target::Name(name) => name.ends_with(&format!(":{port}")),
                _ => false,
            };
            assert!(is_at, "{text}");
        }
        for bad in [
            "https://",
            "https://a:0",
            "https://a b",
            "https://unix:/x",
            "https://a/b",
            "https://3000",
        ] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_target_reads_as_it_was_given() {
        for text in [
            "127.0.0.1:80",
            "[::1]:80",
            "localhost:3000",
            "db.lan:5432",
            "unix:/run/app.sock",
            "https://localhost:8443",
            "https://nas.lan:443",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("3000").unwrap().to_string(), "localhost:3000");
        assert_eq!(Target::InProcess(Acceptor::channel().0).to_string(), "in process");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for bad in [
            "",
            "0",
            "host",
            "host:",
            ":80",
            "host:0",
            "host:99999",
            "unix:",
            "http://a:80",
            "::1:80",
        ] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
