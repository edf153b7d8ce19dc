//! What becomes of the headers of an HTTP tunnel, from arguments or from a settings file.

use ferrotunnel::plugin::Dir;
use ferrotunnel::{HeaderRule, HostHeader, Tunnel};

use crate::value::Secret;

/// Nothing of it: they pass as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderSettings {
    /// What the local service sees as its host.
    pub(crate) host: HostHeader,
    /// On the way there.
    pub(crate) request: Vec<HeaderRule>,
    /// On the way back.
    pub(crate) response: Vec<HeaderRule>,
}

impl HeaderSettings {
    pub(crate) fn apply(self, tunnel: Tunnel) -> Tunnel {
        let tunnel = tunnel.host_header(self.host);
        let tunnel = self.request.into_iter().fold(tunnel, Tunnel::request_header);
        self.response.into_iter().fold(tunnel, Tunnel::response_header)
    }
}

/// A header that goes, by its name.
pub(crate) fn remove(dir: Dir) -> impl Fn(&str) -> Result<HeaderRule, String> {
    move |name| HeaderRule::remove(name).fit_for(dir)
}

/// A header with its value, which may be a secret.
pub(crate) fn set(dir: Dir) -> impl Fn(Secret) -> Result<HeaderRule, String> {
    move |line| HeaderRule::set_line(&line.reveal())?.fit_for(dir)
}

/// One beside others, likewise.
pub(crate) fn add(dir: Dir) -> impl Fn(Secret) -> Result<HeaderRule, String> {
    move |line| HeaderRule::add_line(&line.reveal())?.fit_for(dir)
}
