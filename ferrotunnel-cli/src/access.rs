//! Who may visit a tunnel, from arguments or from a settings file.

use ferrotunnel::{BasicUser, BearerToken, Cidr, ProxyProtocol, Tunnel, VisitorRate};

/// Nothing of it: everybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessSettings {
    /// From where, and from nowhere else.
    pub(crate) allow: Vec<Cidr>,
    /// From where not.
    pub(crate) deny: Vec<Cidr>,
    /// With passwords; for HTTP.
    pub(crate) users: Vec<BasicUser>,
    /// Instead of them; for HTTP.
    pub(crate) tokens: Vec<BearerToken>,
    /// How often; for HTTP.
    pub(crate) rate: Option<VisitorRate>,
    /// How the local service hears of them.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
}

impl AccessSettings {
    pub(crate) fn apply(self, mut tunnel: Tunnel) -> Tunnel {
        let Self { allow, deny, users, tokens, rate, proxy_protocol } = self;
        tunnel = allow.iter().fold(tunnel, |tunnel, network| tunnel.allow(network.to_string()));
        tunnel = deny.iter().fold(tunnel, |tunnel, network| tunnel.deny(network.to_string()));
        for user in users {
            tunnel = tunnel.basic_auth(user.name(), user.password_hash());
        }
        for token in tokens {
            tunnel = tunnel.bearer_token_hash(token.to_string());
        }
        if let Some(rate) = rate {
            tunnel = tunnel.rate_limit(rate.requests(), rate.per());
        }
        match proxy_protocol {
            Some(version) => tunnel.proxy_protocol(version),
            None => tunnel,
        }
    }
}
