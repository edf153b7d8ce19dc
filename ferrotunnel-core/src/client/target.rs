//! Where the streams of a tunnel go.

use std::net::SocketAddr;
use std::str::FromStr;

use ferrotunnel_protocol::frame::{Open, ResetCode};
use tokio::sync::mpsc;

use crate::error::BuildError;
use crate::stream::Stream;

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
    /// This very process.
    InProcess(Acceptor),
}

impl FromStr for Target {
    type Err = BuildError;

    /// `host:port`, a bare port, or `unix:/path`. A bare port and `localhost` mean the loopback
    /// addresses of both families.
    fn from_str(text: &str) -> Result<Self, BuildError> {
        let wrong = || BuildError::Target(text.to_owned());
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

/// A visitor's stream, given to this process.
#[derive(Debug)]
pub struct Visit {
    /// The stream.
    pub stream: Stream,
    /// Who connected.
    pub visitor: Option<SocketAddr>,
}

/// Hands visitors to whoever holds the other end of its channel.
#[derive(Clone, Debug)]
pub struct Acceptor(mpsc::Sender<Visit>);

impl Acceptor {
    /// A channel of visitors. When as many as a listen backlog wait unaccepted, more are refused.
    pub fn channel() -> (Self, mpsc::Receiver<Visit>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), receiver)
    }

    pub(super) fn give(&self, stream: Stream, open: &Open) {
        let visit = Visit { stream, visitor: open.visitor };
        if let Err(refused) = self.0.try_send(visit) {
            let visit = refused.into_inner();
            visit.stream.reset(ResetCode::LocalUnreachable, "the program does not accept");
        }
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
