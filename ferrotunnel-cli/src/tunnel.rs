//! A tunnel as it shall be asked for, from arguments or from a settings file.

use std::path::PathBuf;
use std::time::Duration;

use ferrotunnel::{Balance, HealthCheck, PathPrefix, Streams, Tunnel, TunnelKind};

use crate::access::AccessSettings;
use crate::headers::HeaderSettings;
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
        /// The part of all of them that it is for.
        path: PathPrefix,
        /// The local service does not know of the path.
        strip_path: bool,
        /// The local service speaks HTTP/2 without TLS.
        http2: bool,
        /// With whom.
        sharing: Sharing,
        /// How the local service is verified.
        local_tls: LocalTlsSettings,
        /// For whom.
        access: AccessSettings,
        /// What becomes of headers.
        headers: HeaderSettings,
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
        /// How the local service is verified.
        local_tls: LocalTlsSettings,
        /// For whom.
        access: AccessSettings,
    },
    /// Visitors come by host name, and their TLS ends at the local service.
    Tls {
        /// Where visitors end up.
        local_addr: LocalTarget,
        /// Without one the server picks a readable one.
        name: Option<String>,
        /// Further names, in full.
        hosts: Vec<String>,
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
    /// Whether the local service is looked after.
    pub(crate) health: Option<HealthCheck>,
}

/// How often a check is made, for how long, and how many have to fail, as far as that is said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rhythm {
    pub(crate) interval: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) threshold: Option<u32>,
}

impl Rhythm {
    pub(crate) fn set(self, check: HealthCheck) -> HealthCheck {
        let check = self.interval.into_iter().fold(check, HealthCheck::interval);
        let check = self.timeout.into_iter().fold(check, HealthCheck::timeout);
        self.threshold.into_iter().fold(check, HealthCheck::threshold)
    }
}

/// How a local service is verified that speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalTlsSettings {
    /// CAs in place of those that the system trusts.
    pub(crate) ca: Option<PathBuf>,
    /// Not at all.
    pub(crate) insecure: bool,
}

impl LocalTlsSettings {
    fn apply(self, tunnel: Tunnel) -> Tunnel {
        match self {
            Self { insecure: true, .. } => tunnel.dangerous_accept_any_local_certificate(),
            Self { ca: Some(ca), .. } => tunnel.local_ca_file(ca),
            Self { .. } => tunnel,
        }
    }
}

impl Sharing {
    fn apply(self, tunnel: Tunnel) -> Tunnel {
        let tunnel = match self.group {
            Some(group) => tunnel.group(group),
            None => tunnel,
        };
        let tunnel = match self.balance {
            Some(balance) => tunnel.balance(balance),
            None => tunnel,
        };
        match self.health {
            Some(check) => tunnel.health_check(check),
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
            Self::Tls { .. } => TunnelKind::Tls,
        }
    }

    /// Where its visitors end up.
    pub(crate) fn local_addr(&self) -> &LocalTarget {
        match self {
            Self::Http { local_addr, .. }
            | Self::Tcp { local_addr, .. }
            | Self::Tls { local_addr, .. } => local_addr,
        }
    }
}

impl From<TunnelSettings> for Tunnel {
    fn from(settings: TunnelSettings) -> Self {
        let local_addr = settings.local_addr().to_string();
        match settings {
            TunnelSettings::Http {
                name,
                hosts,
                path,
                strip_path,
                http2,
                sharing,
                local_tls,
                access,
                headers,
                ..
            } => {
                let tunnel = Self::http(name.unwrap_or_default()).local_addr(local_addr);
                let tunnel = hosts.into_iter().fold(tunnel, Self::host).path(path.to_string());
                let tunnel = if strip_path { tunnel.strip_path() } else { tunnel };
                let tunnel = if http2 { tunnel.http2() } else { tunnel };
                headers.apply(access.apply(local_tls.apply(sharing.apply(tunnel))))
            }
            TunnelSettings::Tcp { remote_port, streams, sharing, local_tls, access, .. } => {
                let tunnel = Self::tcp().local_addr(local_addr).streams(streams);
                // Port 0 is none in particular.
                let tunnel = tunnel.remote_port(remote_port.unwrap_or_default());
                access.apply(local_tls.apply(sharing.apply(tunnel)))
            }
            TunnelSettings::Tls { name, hosts, streams, sharing, access, .. } => {
                let tunnel = Self::tls(name.unwrap_or_default()).local_addr(local_addr);
                let tunnel = hosts.into_iter().fold(tunnel, Self::host).streams(streams);
                access.apply(sharing.apply(tunnel))
            }
        }
    }
}
