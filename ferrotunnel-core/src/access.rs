//! Who may visit a tunnel: what its client asks for at registration, as rules.
//!
//! Addresses are judged here, for tunnels of every kind. What a visitor says of itself only an ingress
//! understands that reads it: its rules come from a [`GateMaker`] and are handed back to it as they are.

mod cidr;

use std::net::IpAddr;

use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::frame::{RefusalCode, Register, TunnelOptions};

pub(crate) use self::cidr::any_has;
pub use self::cidr::{Cidr, CidrError};
use crate::options;
use crate::principals::Denied;
use crate::proxies::TrustedProxies;
use crate::rules::{HttpMakers, IngressRules, Maker, made, under};

/// How a server lets visitors in.
#[derive(Clone, Debug, Default)]
pub struct AccessConfig {
    /// Makes the rules of HTTP tunnels that only the HTTP ingress understands; without it they are refused.
    pub http: Option<HttpMakers>,
    /// Proxies in front of the ports of TCP tunnels.
    pub proxies: TrustedProxies,
}

/// Makes rules of those options of a tunnel that concern access and are not known here.
///
/// # Errors
/// What is wrong with them, for people.
pub type GateMaker = Maker<Gate>;

/// Rules of an ingress for one tunnel.
#[derive(Clone, Debug)]
pub struct Gate {
    /// For the ingress that made them.
    pub rules: IngressRules,
    /// Nobody comes in who has not shown who they are.
    pub asks_who: bool,
}

/// Who may visit one tunnel.
#[derive(Clone, Debug, Default)]
pub struct Access {
    addresses: AddressRules,
    gate: Option<Gate>,
}

impl Access {
    /// What a client asks for; `None` if that is nothing.
    ///
    /// # Errors
    /// It makes no sense, or is more than this server knows: what is to keep visitors out must not be passed
    /// over.
    pub(crate) fn of(
        wanted: &Register,
        config: &AccessConfig,
    ) -> Result<Option<Box<Self>>, Denied> {
        let denied = |reason| (RefusalCode::NotAllowed, reason);
        let addresses = AddressRules::of_options(&wanted.options).map_err(denied)?;
        let known = match wanted.kind {
            TunnelKind::Http => &[options::ALLOW, options::DENY, options::PATH][..],
            _ => &[options::ALLOW, options::DENY],
        };
        let others = under(options::ACCESS, known, wanted);
        let gate = made(wanted.kind, &others, config.http.map(|http| http.gate))?;
        let is_open = addresses.is_empty() && gate.is_none();
        Ok((!is_open).then(|| Box::new(Self { addresses, gate })))
    }

    /// Whether visitors from there may come in.
    pub fn admits(&self, from: IpAddr) -> bool {
        self.addresses.admit(from)
    }

    /// What the ingress made of its part.
    pub fn gate(&self) -> Option<&Gate> {
        self.gate.as_ref()
    }

    /// Whether it keeps out whoever is not known, by address or by what they show. A list that lets in everybody there
    /// is, of IPv4 or of IPv6, keeps out nobody.
    pub(crate) fn is_closed(&self) -> bool {
        let allow = &self.addresses.allow;
        let is_list = !allow.is_empty() && !allow.iter().any(Cidr::is_everybody);
        is_list || self.gate.as_ref().is_some_and(|gate| gate.asks_who)
    }
}

/// The addresses that visitors may come from. Who is denied stays out whatever is allowed; where something is
/// allowed, everybody else stays out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddressRules {
    /// If there are none, everybody.
    pub allow: Vec<Cidr>,
    /// Exceptions from that.
    pub deny: Vec<Cidr>,
}

impl AddressRules {
    /// Whether there is nothing in them.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    fn admit(&self, from: IpAddr) -> bool {
        !any_has(&self.deny, from) && (self.allow.is_empty() || any_has(&self.allow, from))
    }

    fn of_options(options: &[(String, String)]) -> Result<Self, String> {
        let read = |key| {
            let networks = options::values(options, key).map(|text| {
                text.parse::<Cidr>().map_err(|error| format!("the option {key:?}: {error}"))
            });
            let networks = networks.collect::<Result<Vec<_>, _>>()?;
            // An empty list would let everybody in that somebody wanted to keep out.
            if networks.is_empty() && options::value(options, key).is_some() {
                return Err(format!("the option {key:?} has no address in it"));
            }
            Ok(networks)
        };
        Ok(Self { allow: read(options::ALLOW)?, deny: read(options::DENY)? })
    }

    /// The options that say so at registration.
    pub fn to_options(&self) -> TunnelOptions {
        let written = |key, networks: &[Cidr]| options::packed(key, networks);
        let mut all = written(options::ALLOW, &self.allow);
        all.extend(written(options::DENY, &self.deny));
        all
    }
}

#[cfg(test)]
mod tests;
