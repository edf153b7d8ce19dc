//! What a principal may have, and how it is told that it may not.

use std::fmt;
use std::ops::RangeInclusive;

use ferrotunnel_common::TunnelKind;
use ferrotunnel_protocol::frame::RefusalCode;

use super::PrincipalConfig;
use crate::access::Access;
use crate::registry::names::{check_host, check_label};
use crate::throttle::Rates;

/// Why a tunnel is refused, for programs and for people.
pub(crate) type Denied = (RefusalCode, String);

/// The rules and limits of one principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// For whom it is, to say so.
    principal: String,
    kinds: Option<Vec<TunnelKind>>,
    hosts: Hosts,
    ports: Option<Vec<RangeInclusive<u16>>>,
    access_required: bool,
    pub(super) max_sessions: Option<usize>,
    pub(super) max_tunnels: Option<usize>,
    pub(super) max_streams: Option<usize>,
    pub(super) rates: Rates,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// Everything.
    Any,
    Rules(Vec<HostRule>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostRule {
    /// That name under the server's domain.
    Name(String),
    /// Every name under the server's domain.
    AnyName,
    /// That host.
    Host(String),
    /// All hosts that end in a dot and this.
    Below(String),
}

/// Of which names the server may pick one for a tunnel that asks for none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NamePool {
    Any,
    Of(Vec<String>),
}

impl Policy {
    /// No rules and no limits.
    pub(super) fn anything() -> Self {
        Self {
            principal: super::SHARED.to_owned(),
            kinds: None,
            hosts: Hosts::Any,
            ports: None,
            access_required: false,
            max_sessions: None,
            max_tunnels: None,
            max_streams: None,
            rates: Rates::default(),
        }
    }

    /// What the settings say.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn of(config: &PrincipalConfig) -> Result<Self, String> {
        let rules = match &config.hosts {
            None => vec![HostRule::AnyName],
            Some(hosts) => {
                hosts.iter().map(|host| HostRule::parse(host)).collect::<Result<_, _>>()?
            }
        };
        for range in config.ports.iter().flatten() {
            if *range.start() == 0 || range.is_empty() {
                let shown = Ports(std::slice::from_ref(range));
                return Err(format!("ports: {shown} is no range of ports from 1 to 65535"));
            }
        }
        for (name, most) in [
            ("max_sessions", config.max_sessions),
            ("max_tunnels", config.max_tunnels),
            ("max_streams", config.max_streams),
            ("max_streams_per_second", config.max_streams_per_second.map(|most| most as usize)),
            ("max_bytes_per_second", config.max_bytes_per_second.map(|most| most.min(1) as usize)),
        ] {
            if most == Some(0) {
                return Err(format!("{name} is 0: to keep it out, disable it"));
            }
        }
        Ok(Self {
            principal: config.name.clone(),
            kinds: config.kinds.clone(),
            hosts: Hosts::Rules(rules),
            ports: config.ports.clone(),
            access_required: config.access_required,
            max_sessions: config.max_sessions,
            max_tunnels: config.max_tunnels,
            max_streams: config.max_streams,
            rates: Rates {
                streams: config.max_streams_per_second,
                bytes: config.max_bytes_per_second,
            },
        })
    }

    pub(crate) fn permit_kind(&self, kind: TunnelKind) -> Result<(), Denied> {
        match &self.kinds {
            Some(kinds) if !kinds.contains(&kind) => {
                Err(self.denied(&format!("kind {kind}"), &listed(kinds)))
            }
            _ => Ok(()),
        }
    }

    /// Whether a tunnel may stand that lets in whom these rules let in.
    pub(crate) fn permit_access(&self, access: Option<&Access>) -> Result<(), Denied> {
        if !self.access_required || access.is_some_and(Access::is_closed) {
            return Ok(());
        }
        let reason = format!(
            "principal {:?} may have no tunnels that are open to everybody; give the tunnel a list of addresses to \
             allow, or over HTTP a password or a bearer token",
            self.principal
        );
        Err((RefusalCode::NotAllowed, reason))
    }

    /// `host` in full and in lower case, or a wildcard like `*.example`, which is permitted only with all that it
    /// covers; `domain` is the server's.
    pub(crate) fn permit_host(&self, host: &str, domain: &str) -> Result<(), Denied> {
        let rules = match &self.hosts {
            Hosts::Any => return Ok(()),
            Hosts::Rules(rules) => rules,
        };
        if rules.iter().any(|rule| rule.permits(host, domain)) {
            return Ok(());
        }
        let allowed = match rules.as_slice() {
            [HostRule::AnyName] => format!("every name under {domain}"),
            rules => listed(rules),
        };
        Err(self.denied(&format!("host {host:?}"), &allowed))
    }

    pub(crate) fn permit_port(&self, port: u16) -> Result<(), Denied> {
        match &self.ports {
            Some(ports) if !ports.iter().any(|range| range.contains(&port)) => {
                Err(self.denied(&format!("port {port}"), &Ports(ports).to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What a tunnel may be called that asks for no name.
    pub(crate) fn name_pool(&self, domain: &str) -> NamePool {
        let rules = match &self.hosts {
            Hosts::Any => return NamePool::Any,
            Hosts::Rules(rules) => rules,
        };
        let mut names = Vec::new();
        for rule in rules {
            match rule {
                HostRule::AnyName => return NamePool::Any,
                HostRule::Below(above) if is_within(domain, above) => return NamePool::Any,
                HostRule::Below(_) => {}
                HostRule::Name(name) => names.push(name.clone()),
                HostRule::Host(host) => names.extend(label_under(host, domain).map(str::to_owned)),
            }
        }
        NamePool::Of(names)
    }

    /// Where to look for a port for a tunnel that asks for none; `None`: anywhere.
    pub(crate) fn ports(&self) -> Option<&[RangeInclusive<u16>]> {
        self.ports.as_deref()
    }

    /// All names that it may have are in use.
    pub(crate) fn no_free_name(&self) -> Denied {
        let allowed = match &self.hosts {
            Hosts::Any => "all".to_owned(),
            Hosts::Rules(rules) => listed(rules),
        };
        (RefusalCode::NameTaken, self.none_free("name", &allowed))
    }

    /// All ports that it may have are in use.
    pub(crate) fn no_free_port(&self) -> Denied {
        let allowed =
            self.ports.as_ref().map_or("all".to_owned(), |ports| Ports(ports).to_string());
        (RefusalCode::PortUnavailable, self.none_free("port", &allowed))
    }

    fn none_free(&self, what: &str, allowed: &str) -> String {
        format!("no {what} of principal {:?} is free; allowed: {allowed}", self.principal)
    }

    fn denied(&self, what: &str, allowed: &str) -> Denied {
        let name = &self.principal;
        let reason = format!("{what} is not among those of principal {name:?}; allowed: {allowed}");
        (RefusalCode::NotAllowed, reason)
    }
}

impl HostRule {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "hosts: {text:?} is no name like app, host like shop.example, or all below one like *.example"
            )
        };
        let of = |name: &str| check_host(name).map_err(|_| wrong());
        match text.strip_prefix('*') {
            Some("") => Ok(Self::AnyName),
            Some(rest) => of(rest.strip_prefix('.').ok_or_else(wrong)?).map(Self::Below),
            None if text.trim_end_matches('.').contains('.') => of(text).map(Self::Host),
            None => check_label(text).map(Self::Name).map_err(|_| wrong()),
        }
    }

    fn permits(&self, host: &str, domain: &str) -> bool {
        match self {
            Self::Name(name) => label_under(host, domain) == Some(name),
            // A wildcard of the whole domain would also have those names that others are to get, and what is below
            // a name shares its cookies.
            Self::AnyName => label_under(host, domain).is_some_and(|label| label != "*"),
            Self::Host(rule) => host == rule,
            Self::Below(above) => is_below(host, above),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::Host(name) => f.write_str(name),
            Self::AnyName => f.write_str("*"),
            Self::Below(above) => write!(f, "*.{above}"),
        }
    }
}

/// What stands before the domain, if that is a single label.
fn label_under<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let label = host.strip_suffix(domain)?.strip_suffix('.')?;
    (!label.is_empty() && !label.contains('.')).then_some(label)
}

fn is_below(host: &str, above: &str) -> bool {
    host.strip_suffix(above).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn is_within(domain: &str, above: &str) -> bool {
    domain == above || is_below(domain, above)
}

/// Ranges as people write them.
struct Ports<'a>(&'a [RangeInclusive<u16>]);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        f.write_str(&listed(&self.0.iter().map(one).collect::<Vec<_>>()))
    }
}

/// The first few, so that a refusal stays a sentence.
fn listed<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let mut text = String::new();
    for (at, item) in items.iter().take(MOST_LISTED).enumerate() {
        text += if at == 0 { "" } else { ", " };
        text += &item.to_string();
    }
    match items.len().saturating_sub(MOST_LISTED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// A refusal holds 1,024 bytes, and a host 253.
const MOST_LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut PrincipalConfig)) -> Policy {
        let mut config = PrincipalConfig::new("web");
        change(&mut config);
        Policy::of(&config).unwrap()
    }

    fn hosts(rules: &[&str]) -> Policy {
        policy(|config| config.hosts = Some(rules.iter().map(|rule| (*rule).to_owned()).collect()))
    }

    fn permitted<'a>(policy: &Policy, hosts: &[&'a str]) -> Vec<&'a str> {
        let permitted = |host: &&&str| policy.permit_host(host, "t.example").is_ok();
        hosts.iter().filter(permitted).copied().collect()
    }

    const HOSTS: &[&str] = &[
        "app.t.example",
        "web.t.example",
        "a.b.t.example",
        "t.example",
        "shop.example",
        "a.shop.example",
        "b.a.shop.example",
        "xt.example",
        "xshop.example",
    ];

    #[test]
    fn without_rules_every_name_under_the_domain_is_allowed_and_nothing_else() {
        let policy = policy(|_| {});
        let expected = ["app.t.example", "web.t.example"];
        assert_eq!(permitted(&policy, HOSTS), expected);
        assert_eq!(policy.name_pool("t.example"), NamePool::Any);
        let (code, reason) = policy.permit_host("shop.example", "t.example").unwrap_err();
        assert_eq!(code, RefusalCode::NotAllowed);
        let expected = "host \"shop.example\" is not among those of principal \"web\"; \
                        allowed: every name under t.example";
        assert_eq!(reason, expected);
        for kind in [TunnelKind::Http, TunnelKind::Tcp, TunnelKind::Udp] {
            assert_eq!(policy.permit_kind(kind), Ok(()));
        }
        assert_eq!((policy.permit_port(1), policy.permit_port(65_535)), (Ok(()), Ok(())));
    }

    #[test]
    fn rules_name_what_is_allowed() {
        assert_eq!(permitted(&hosts(&["app"]), HOSTS), ["app.t.example"]);
        assert_eq!(permitted(&hosts(&["App.T.example."]), HOSTS), ["app.t.example"]);
        assert_eq!(permitted(&hosts(&["shop.example"]), HOSTS), ["shop.example"]);
        let below = ["a.shop.example", "b.a.shop.example"];
        assert_eq!(permitted(&hosts(&["*.shop.example"]), HOSTS), below);
        let both = ["app.t.example", "web.t.example", "shop.example"];
        assert_eq!(permitted(&hosts(&["*", "shop.example"]), HOSTS), both);
        assert!(permitted(&hosts(&[]), HOSTS).is_empty());
        let (_, reason) =
            hosts(&["*.web.example", "app"]).permit_host("x.example", "d").unwrap_err();
        let expected = "host \"x.example\" is not among those of principal \"web\"; allowed: *.web.example, app";
        assert_eq!(reason, expected);
    }

    #[test]
    fn names_are_picked_from_what_is_allowed() {
        let pool = |rules: &[&str]| hosts(rules).name_pool("t.example");
        let of =
            |names: &[&str]| NamePool::Of(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(pool(&["app", "web.t.example", "shop.example"]), of(&["app", "web"]));
        assert_eq!(pool(&["app", "*"]), NamePool::Any);
        assert_eq!(pool(&["*.t.example"]), NamePool::Any);
        assert_eq!(pool(&["*.example"]), NamePool::Any);
        assert_eq!(pool(&["*.x.t.example", "a.b.t.example"]), of(&[]));
    }

    #[test]
    fn kinds_and_ports_are_told_with_what_is_allowed() {
        let policy = policy(|config| {
            config.kinds = Some(vec![TunnelKind::Http]);
            config.ports = Some(vec![10_000..=10_099, 20_000..=20_000]);
        });
        let (code, reason) = policy.permit_kind(TunnelKind::Tcp).unwrap_err();
        assert_eq!(code, RefusalCode::NotAllowed);
        assert_eq!(reason, "kind tcp is not among those of principal \"web\"; allowed: http");
        for port in [10_000, 10_099, 20_000] {
            assert_eq!(policy.permit_port(port), Ok(()));
        }
        let (_, reason) = policy.permit_port(22).unwrap_err();
        let expected =
            "port 22 is not among those of principal \"web\"; allowed: 10000-10099, 20000";
        assert_eq!(reason, expected);
    }

    #[test]
    fn a_long_list_stays_a_sentence() {
        let rules: Vec<String> = (0..100).map(|at| format!("host{at}.example")).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let (_, reason) = hosts(&rules).permit_host("x", "d").unwrap_err();
        assert!(reason.ends_with("host7.example and 92 more"), "{reason}");
    }

    #[test]
    fn settings_that_mean_nothing_are_errors() {
        let wrong = |change: fn(&mut PrincipalConfig)| {
            let mut config = PrincipalConfig::new("web");
            change(&mut config);
            Policy::of(&config).unwrap_err()
        };
        for host in ["", "a b", "*x", "*.", "**", "a.*.b", "http://a.example", "a.example:80"] {
            let mut config = PrincipalConfig::new("web");
            config.hosts = Some(vec![host.to_owned()]);
            let error = Policy::of(&config).unwrap_err();
            assert!(error.starts_with("hosts: ") && error.contains(host), "{error}");
        }
        assert!(wrong(|config| config.ports = Some(vec![0..=10])).starts_with("ports: 0-10"));
        #[expect(clippy::reversed_empty_ranges, reason = "it is what is tested")]
        let reversed = wrong(|config| config.ports = Some(vec![10..=9]));
        assert!(reversed.starts_with("ports: 10-9"), "{reversed}");
        assert!(wrong(|config| config.max_sessions = Some(0)).starts_with("max_sessions"));
        assert!(wrong(|config| config.max_tunnels = Some(0)).starts_with("max_tunnels"));
        assert!(wrong(|config| config.max_streams = Some(0)).starts_with("max_streams"));
        let error = wrong(|config| config.max_streams_per_second = Some(0));
        assert!(error.starts_with("max_streams_per_second"), "{error}");
        let error = wrong(|config| config.max_bytes_per_second = Some(0));
        assert!(error.starts_with("max_bytes_per_second"), "{error}");
    }
}
