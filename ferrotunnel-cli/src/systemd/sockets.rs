//! Sockets that somebody else bound and this program takes over (`sd_listen_fds(3)`).

use std::fmt::Display;
use std::net::TcpListener;

use listenfd::ListenFd;

use crate::failure::Failure;

/// What was passed on; the rest is bound as `--bind`, `--http-bind` and `--https-bind` say.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) tunnel: Option<TcpListener>,
    pub(crate) http: Option<TcpListener>,
    pub(crate) https: Option<TcpListener>,
}

impl Sockets {
    /// Takes what the environment tells of, and out of it, so that no child believes it is meant.
    ///
    /// To be called before there are other threads, which could be reading the environment.
    pub(crate) fn inherited() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        if passed.len() == 0 {
            // What names there are belong to the sockets of somebody else.
            return Ok(sockets);
        }
        for (index, purpose) in purposes(passed.len(), &names)?.into_iter().enumerate() {
            let listener = passed
                .take_tcp_listener(index)
                .map_err(|error| unusable(format_args!("socket {}: {error}", index + 1)))?;
            *match purpose {
                Purpose::Tunnel => &mut sockets.tunnel,
                Purpose::Http => &mut sockets.http,
                Purpose::Https => &mut sockets.https,
            } = listener;
        }
        Ok(sockets)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Tunnel,
    Http,
    Https,
}

impl Purpose {
    fn of(name: &str) -> Option<Self> {
        match name {
            "tunnel" => Some(Self::Tunnel),
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }
}

/// By name, if any of them has one of ours; others name a socket after its unit. Otherwise by order.
fn purposes(count: usize, names: &str) -> Result<Vec<Purpose>, Failure> {
    let names: Vec<&str> = names.split(':').collect();
    if names.iter().all(|name| Purpose::of(name).is_none()) {
        let by_order = [Purpose::Tunnel, Purpose::Http, Purpose::Https];
        return by_order.get(..count).map(<[_]>::to_vec).ok_or_else(|| {
            unusable(format_args!("{count} sockets were passed, and a server has three"))
        });
    }
    if names.len() != count {
        return Err(unusable(format_args!("{count} sockets have {} names", names.len())));
    }
    let mut purposes = Vec::new();
    for name in names {
        let purpose = Purpose::of(name).ok_or_else(|| {
            unusable(format_args!("a socket is named {name:?}, neither tunnel nor http nor https"))
        })?;
        if purposes.contains(&purpose) {
            return Err(unusable(format_args!("two sockets are named {name:?}")));
        }
        purposes.push(purpose);
    }
    Ok(purposes)
}

fn unusable(what: impl Display) -> Failure {
    Failure::usage(format!(
        "LISTEN_FDS: {what}; pass listening TCP sockets, the one for clients first or named tunnel, \
         the one for visitors of HTTP tunnels second or named http, and the one for those over TLS third or named https"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(count: usize, names: &str) -> String {
        purposes(count, names).unwrap_err().to_string()
    }

    #[test]
    fn sockets_go_by_name_and_without_names_by_order() {
        use Purpose::{Http, Https, Tunnel};
        for (count, names, expected) in [
            (0, "", vec![]),
            (1, "", vec![Tunnel]),
            (2, "", vec![Tunnel, Http]),
            (2, "ferrotunnel-server.socket:ferrotunnel-server.socket", vec![Tunnel, Http]),
            (2, "http:tunnel", vec![Http, Tunnel]),
            (1, "http", vec![Http]),
            (3, "", vec![Tunnel, Http, Https]),
            (2, "https:tunnel", vec![Https, Tunnel]),
        ] {
            assert_eq!(purposes(count, names).unwrap(), expected, "{names}");
        }
    }

    #[test]
    fn sockets_that_nobody_knows_a_use_for_are_refused() {
        assert!(complaint(4, "").contains("4 sockets were passed"));
        assert!(complaint(3, "tunnel:http:http").contains("two sockets are named \"http\""));
        assert!(complaint(2, "tunnel:metrics").contains("\"metrics\""));
        assert!(complaint(2, "tunnel").contains("2 sockets have 1 names"));
    }
}
