//! A tunnel as it shall be asked for, from arguments or from a settings file.

use ferrotunnel::{Balance, Streams, Tunnel, TunnelKind};

use crate::access::AccessSettings;
use crate::value::LocalTarget;

/// One tunnel of a client. Each kind has only what it can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TunnelSettings {
    /// Visitors come by host name.
    Http {
        /// Where visitors end up.
        local_addr: LocalTarget,
        /// Without one the server picks a readable one.
        name: Option<String>,
        /// Further names, in full.
        hosts: Vec<String>,
        /// The local service speaks HTTP/2 without TLS.
        http2: bool,
        /// With whom.
        sharing: Sharing,
        /// For whom.
        access: AccessSettings,
    },
    /// Visitors come by port.
    Tcp {
        /// Where visitors end up.
        local_addr: LocalTarget,
        /// Without one the server picks a free one.
        remote_port: Option<u16>,
        /// How visitors travel.
        streams: Streams,
        /// With whom.
        sharing: Sharing,
        /// For whom.
        access: AccessSettings,
    },
}

/// Whether several clients have a tunnel together, and how its visitors are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// What they have in common; without one a newer client takes the tunnel over.
    pub(crate) group: Option<String>,
    /// Over clients and connections.
    pub(crate) balance: Option<Balance>,
}

impl Sharing {
    fn apply(self, tunnel: Tunnel) -> Tunnel {
        let tunnel = match self.group {
            Some(group) => tunnel.group(group),
            None => tunnel,
        };
        match self.balance {
            Some(balance) => tunnel.balance(balance),
            None => tunnel,
        }
    }
}

impl TunnelSettings {
    /// Which of them it is.
    pub(crate) fn kind(&self) -> TunnelKind {
        match self {
            Self::Http { .. } => TunnelKind::Http,
            Self::Tcp { .. } => TunnelKind::Tcp,
        }
    }

    /// Where its visitors end up.
    pub(crate) fn local_addr(&self) -> &LocalTarget {
        match self {
            Self::Http { local_addr, .. } | Self::Tcp { local_addr, .. } => local_addr,
        }
    }
}

impl From<TunnelSettings> for Tunnel {
    fn from(settings: TunnelSettings) -> Self {
        let local_addr = settings.local_addr().to_string();
        match settings {
            TunnelSettings::Http { name, hosts, http2, sharing, access, .. } => {
                let tunnel = Self::http(name.unwrap_or_default()).local_addr(local_addr);
                let tunnel = hosts.into_iter().fold(tunnel, Self::host);
                let tunnel = if http2 { tunnel.http2() } else { tunnel };
                access.apply(sharing.apply(tunnel))
            }
            TunnelSettings::Tcp { remote_port, streams, sharing, access, .. } => {
                let tunnel = Self::tcp().local_addr(local_addr).streams(streams);
                // Port 0 is none in particular.
                let tunnel = tunnel.remote_port(remote_port.unwrap_or_default());
                access.apply(sharing.apply(tunnel))
            }
        }
    }
}
