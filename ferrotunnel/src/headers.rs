//! What the server does to the headers of a tunnel's requests and responses.

use std::convert::Infallible;
use std::str::FromStr;

use ferrotunnel_common::TunnelKind;
use ferrotunnel_core::client::Target;
use ferrotunnel_http::{HeaderRule, HeaderRules};
use ferrotunnel_plugin::Dir;

use crate::error::Error;

/// Which host the local service of an HTTP tunnel is asked for: [`Tunnel::host_header`](crate::Tunnel::host_header).
///
/// As text it is `keep`, `rewrite`, or the value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostHeader {
    /// The one that the visitor asked for.
    #[default]
    Keep,
    /// That of the local address, like `localhost:3000`; without the port where it goes without saying. A Unix socket
    /// is `localhost`.
    Rewrite,
    /// This one, with a port or without.
    Value(String),
}

impl FromStr for HostHeader {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "keep" => Self::Keep,
            "rewrite" => Self::Rewrite,
            value => Self::Value(value.to_owned()),
        })
    }
}

impl HostHeader {
    /// The same if there can be such a host.
    ///
    /// # Errors
    /// It is none.
    pub fn fit(self) -> Result<Self, String> {
        match &self {
            Self::Value(value) => HeaderRules::default().set_host(value).map(|()| self),
            Self::Keep | Self::Rewrite => Ok(self),
        }
    }

    fn value(self, target: &Target, local_addr: Option<&str>) -> Result<Option<String>, Error> {
        match self {
            Self::Keep => Ok(None),
            Self::Value(value) => Ok(Some(value)),
            Self::Rewrite => match (target, local_addr) {
                (Target::InProcess(_), _) | (_, None) => Err(Error::config(
                    "host_header: a program that serves the tunnel itself has no local address; say which host",
                )),
                (_, Some(addr)) => Ok(Some(host_of(addr))),
            },
        }
    }
}

/// What a client on the same machine would ask for.
fn host_of(local_addr: &str) -> String {
    let (host, usual) = match local_addr.strip_prefix("https://") {
        Some(rest) => (rest.strip_suffix('/').unwrap_or(rest), ":443"),
        None if local_addr.starts_with("unix:") => return "localhost".to_owned(),
        None if local_addr.contains(':') => (local_addr, ":80"),
        None => (&*format!("localhost:{local_addr}"), ":80"),
    };
    host.strip_suffix(usual).unwrap_or(host).to_owned()
}

/// What one tunnel asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderSettings {
    pub(crate) host: HostHeader,
    pub(crate) request: Vec<HeaderRule>,
    pub(crate) response: Vec<HeaderRule>,
}

impl HeaderSettings {
    /// The options that say so at registration.
    pub(crate) fn into_options(
        self,
        kind: TunnelKind,
        target: &Target,
        local_addr: Option<&str>,
    ) -> Result<Vec<(String, String)>, Error> {
        let named = |setting: &'static str| move |why| Error::config(format!("{setting}: {why}"));
        let is_nothing =
            self.host == HostHeader::Keep && self.request.is_empty() && self.response.is_empty();
        if kind != TunnelKind::Http && !is_nothing {
            let text = "host_header, request_header and response_header are for HTTP tunnels";
            return Err(Error::config(text));
        }
        let mut rules = HeaderRules::default();
        if let Some(host) = self.host.value(target, local_addr)? {
            rules.set_host(&host).map_err(named("host_header"))?;
        }
        for rule in &self.request {
            rules.push(Dir::Request, rule).map_err(named("request_header"))?;
        }
        for rule in &self.response {
            rules.push(Dir::Response, rule).map_err(named("response_header"))?;
        }
        Ok(rules.to_options())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_local_service_is_what_a_neighbour_would_ask_for() {
        for (addr, host) in [
            ("3000", "localhost:3000"),
            ("80", "localhost"),
            ("localhost:3000", "localhost:3000"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:3000", "[::1]:3000"),
            ("app.lan:80", "app.lan"),
            ("unix:/run/app.sock", "localhost"),
            ("https://nas.lan", "nas.lan"),
            ("https://nas.lan:443/", "nas.lan"),
            ("https://[::1]:8443/", "[::1]:8443"),
        ] {
            assert_eq!(host_of(addr), host, "{addr}");
            assert!(HostHeader::Value(host_of(addr)).fit().is_ok(), "{addr}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in ["", "a b", "http://a", "a/b", "user@a", "a:b"] {
            let Ok(host) = bad.parse::<HostHeader>();
            assert!(host.fit().is_err(), "{bad:?}");
        }
    }
}
