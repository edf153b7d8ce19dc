//! Who is reachable under which name and port.
//!
//! A registration is a guard: it leaves the registry on every exit path. The newest authenticated
//! session of the same principal takes over a name at once; the old one is told and does not fight
//! back, and a Register of an old one that comes late takes nothing from it. A name or port that is only preferred is taken over within one client, from nobody else.
//! Several carriers of one client share its tunnels.

mod health;
mod hosts;
mod inside;
pub(crate) mod names;
mod owner;
mod passing;
mod path;
mod port;
mod ports;
mod trial;
mod tunnel;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ferrotunnel_common::{LimitsConfig, SessionId, TunnelKind};
use ferrotunnel_protocol::ReceiveBudget;
use ferrotunnel_protocol::frame::{Refusal, RefusalCode, Register, Registered};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

pub(crate) use self::health::Health;
pub use self::hosts::NoRoute;
use self::hosts::{Hosts, by_path};
use self::inside::Inside;
pub use self::names::{parse_domain, parse_reserved_name};
pub(crate) use self::owner::{Owner, OwnerLimits, SIGN_OF_LIFE, Seniority};
use self::owner::{Place, Registration};
pub use self::passing::{Passing, PassingDoor};
pub use self::path::{PathPrefix, PathPrefixError};
use self::port::Port;
use self::tunnel::{Member, Places, Stand};
pub use self::tunnel::{Servant, SharedPlace, Sharing, Tunnel, TunnelUid};
use crate::access::AccessConfig;
use crate::arrivals::Arrivals;
use crate::capped::Capped;
use crate::counters::{MOST_TUNNELS_COUNTED, TunnelCounts, TunnelTotals};
use crate::crowd::Crowd;
use crate::hooks::ServerHooks;
use crate::open_streams::{OpenStreams, StreamReading};
use crate::options::{self, CarrierNumber, Condition, is_joining, is_preferred};
use crate::principals::{Denied, NamePool, Policy, Principal};
use crate::rules::Rules;
use crate::server::TunnelReading;
use crate::tasks::Tasks;
use crate::tcp_ingress;
use crate::turned_away::{Limit, Meters};

/// What stands between a router and the registry, so that several servers may one day share one.
pub trait Routes: Send + Sync + 'static {
    /// The HTTP tunnel for a host name without port, in any case, and a path without query, as it was sent.
    ///
    /// # Errors
    /// There is none, or it is not clear which.
    fn http(&self, host: &str, path: &str) -> Result<Arc<Tunnel>, NoRoute>;

    /// Whether a client has registered this very host for HTTP, in any case; no other tunnel answers for it. A
    /// wildcard is no such host: any number of names would have it.
    fn has_host(&self, host: &str) -> bool;

    /// The principal whose clients have registered this very host, in any case.
    fn principal_of(&self, host: &str) -> Option<String>;

    /// The tunnel of a registration that still stands, with a client that is there.
    fn tunnel(&self, uid: TunnelUid) -> Option<Arc<Tunnel>>;

    /// Whether all tunnels have left for good, or are about to: what is not found was perhaps there before.
    fn is_closed(&self) -> bool;

    /// The ingress has all the visitors that it may have, and turns one away: that is counted.
    fn visitor_turned_away(&self);
}

/// Settings of a registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistryConfig {
    /// HTTP tunnels are reached under `name.domain`.
    pub(crate) domain: String,
    /// Labels under the domain that no tunnel gets, in lower case.
    pub(crate) reserved_names: Vec<String>,
    /// Port of the HTTP ingress, if there is one.
    pub(crate) http_port: Option<u16>,
    /// Port of the HTTPS ingress, if there is one: public addresses say that one then.
    pub(crate) https_port: Option<u16>,
    /// An unknown host that is no name under the domain goes to the only HTTP tunnel, if there is
    /// exactly one.
    pub(crate) only_tunnel_answers: bool,
    /// What is kept of visitors counts against it.
    pub(crate) budget: ReceiveBudget,
    /// Address on which TCP tunnels listen.
    pub(crate) tcp_ip: IpAddr,
    pub(crate) max_tunnels_per_session: u32,
    pub(crate) max_visitors_per_tunnel: Option<u32>,
    pub(crate) max_visitors_per_address: Option<u32>,
    /// How long a tunnel keeps its place for a client that was lost.
    pub(crate) grace: Duration,
    /// How long a session may be silent before it counts as dead. No Register is under way for longer.
    pub(crate) silence: Duration,
    /// How visitors are let in.
    pub(crate) access: AccessConfig,
    /// Who sees the streams of visitors.
    pub(crate) hooks: Option<Arc<dyn ServerHooks>>,
}

impl RegistryConfig {
    /// The scheme of public addresses of tunnels that are routed by host, and what they say of the port.
    fn public(&self, kind: TunnelKind) -> Result<(&'static str, String), Denied> {
        let none = |what: &str| {
            let flag = what.to_lowercase();
            let reason = format!(
                "this server has no {what} ingress; its operator opens one by --{flag}-bind"
            );
            (RefusalCode::UnsupportedKind, reason)
        };
        if kind == TunnelKind::Tls {
            let port = self.https_port.ok_or_else(|| none("HTTPS"))?;
            return Ok(("tls", format!(":{port}")));
        }
        let (scheme, usual, port) = match (self.https_port, self.http_port) {
            (Some(port), _) => ("https", 443, port),
            (None, Some(port)) => ("http", 80, port),
            (None, None) => return Err(none("HTTP")),
        };
        Ok((scheme, if port == usual { String::new() } else { format!(":{port}") }))
    }

    /// Whether a host is a reserved name, or below one.
    fn reserves(&self, host: &str) -> bool {
        let under = host.strip_suffix(&*self.domain).and_then(|rest| rest.strip_suffix('.'));
        let label = under.and_then(|under| under.rsplit('.').next());
        label.is_some_and(|label| self.reserved_names.iter().any(|reserved| reserved == label))
    }

    /// Whether a tunnel may stand under a host, by this server's rules and those for its principal.
    fn permit_host(&self, host: &str, policy: &Policy) -> Result<(), Denied> {
        if self.reserves(host) {
            let reason = format!("{host} is reserved on this server; choose another name");
            return Err((RefusalCode::NotAllowed, reason));
        }
        policy.permit_host(host, &self.domain)
    }
}

/// All tunnels of a server. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: RegistryConfig,
    ceilings: Ceilings,
    reserved: ports::Reserved,
    next_uid: AtomicU64,
    next_seniority: AtomicU64,
    maps: RwLock<Maps>,
    visitors: Tasks,
    arrivals: Arc<Arrivals>,
    meters: Meters,
    /// Who is inside of tunnels.
    inside: Inside,
    /// What passes through tunnels, by kind and label.
    counts: Capped<TunnelCounts>,
    /// Where each of their streams is listed, if somebody wants that.
    list: Arc<OnceLock<Arc<OpenStreams>>>,
    /// Tunnels that take no visitors for now, by principal and id: also those that come back. Locked after the maps.
    paused: Mutex<HashSet<(String, String)>>,
    /// The public ports' own tasks, so that a shutdown can wait until the ports are free.
    listeners: Tasks,
}

/// The limits of the moment: they start as the settings say.
#[derive(Debug)]
struct Ceilings {
    /// Of one session.
    tunnels: AtomicU32,
    /// Of one tunnel.
    visitors: Arc<AtomicUsize>,
    /// Of one source.
    crowd: Arc<Crowd>,
}

fn or_no_limit(most: Option<u32>) -> usize {
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

#[derive(Debug, Default)]
struct Maps {
    /// Takes no registrations any more.
    closed: bool,
    tunnels: HashMap<TunnelUid, Arc<Tunnel>>,
    hosts: Hosts,
    ports: HashMap<u16, Port>,
}

impl Registry {
    pub(crate) fn new(config: RegistryConfig, visitors: Tasks, listeners: Tasks) -> Self {
        let ceilings = Ceilings {
            tunnels: AtomicU32::new(config.max_tunnels_per_session),
            visitors: Arc::new(AtomicUsize::new(or_no_limit(config.max_visitors_per_tunnel))),
            crowd: Arc::new(Crowd::new(config.max_visitors_per_address)),
        };
        Self(Arc::new(Inner {
            config,
            ceilings,
            reserved: ports::Reserved::of_system(),
            next_uid: AtomicU64::new(1),
            next_seniority: AtomicU64::new(1),
            maps: RwLock::default(),
            visitors,
            arrivals: Arc::default(),
            meters: Meters::default(),
            inside: Inside::default(),
            counts: Capped::new(MOST_TUNNELS_COUNTED),
            list: Arc::default(),
            paused: Mutex::default(),
            listeners,
        }))
    }

    /// Of a session whose client has just proven its token, and does not know yet that it is believed: who is started once that
    /// one is gone comes later.
    pub(crate) fn next_seniority(&self) -> Seniority {
        Seniority(self.0.next_seniority.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts what limits cost those who come.
    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// Places of visitors by where they come from.
    pub(crate) fn crowd(&self) -> &Arc<Crowd> {
        &self.0.ceilings.crowd
    }

    /// From now on these limits hold for what comes.
    pub(crate) fn set_limits(&self, limits: &LimitsConfig) {
        let ceilings = &self.0.ceilings;
        ceilings.tunnels.store(limits.max_tunnels_per_session, Ordering::Relaxed);
        ceilings.visitors.store(or_no_limit(limits.max_visitors_per_tunnel), Ordering::Relaxed);
        ceilings.crowd.set_most(limits.max_visitors_per_address);
    }

    /// Registers a tunnel for `owner`, which has asked for it at that time; the answer is what the client is to be told. `None`:
    /// nothing, since it hears right now that the server takes nothing new, and asks the next one.
    pub(crate) fn register(
        &self,
        owner: &Arc<Owner>,
        number: u32,
        wanted: Register,
        asked: Instant,
    ) -> Option<Registered> {
        match self.try_register(owner, number, wanted, asked) {
            Ok(address) => Some(Registered::Ok { address: address? }),
            Err((code, reason)) => Some(Registered::Refused(Refusal { code, reason })),
        }
    }

    /// Whether the principal may have one more tunnel when it loses `freed` of its own for it.
    fn check_limit(&self, owner: &Owner, freed: usize) -> Result<(), Denied> {
        owner.principal().check_tunnels(freed).map_err(|reason| {
            self.0.meters.count(Limit::TunnelsOfPrincipal);
            (RefusalCode::LimitExceeded, reason)
        })
    }

    /// Who comes back to a tunnel that waited for it has to have a place for it, as for a new one.
    fn check_return(&self, tunnel: &Tunnel, owner: &Owner) -> Result<(), Denied> {
        if tunnel.is_counted() { Ok(()) } else { self.check_limit(owner, 0) }
    }

    fn try_register(
        &self,
        owner: &Arc<Owner>,
        number: u32,
        wanted: Register,
        asked: Instant,
    ) -> Result<Option<String>, Denied> {
        {
            let tunnels = owner.tunnels.lock();
            if let Some(registration) = tunnels.get(&number) {
                if let Some(said) = Condition::of(&wanted) {
                    let (uid, address) = (registration.uid, registration.address.clone());
                    drop(tunnels);
                    self.hear(owner, uid, said);
                    return Ok(Some(address));
                }
                let reason = format!("number {number} is registered already");
                return Err((RefusalCode::NameTaken, reason));
            }
            if tunnels.len() >= self.0.ceilings.tunnels.load(Ordering::Relaxed) as usize {
                self.0.meters.count(Limit::TunnelsOfSession);
                let reason = format!("a session may have {} tunnels", tunnels.len());
                return Err((RefusalCode::LimitExceeded, reason));
            }
        }
        let rules = Rules::of(&wanted, &self.0.config.access)?;
        // Held until the owner knows of it: a takeover finds it in both places or in none.
        let mut maps = self.0.maps.write();
        if maps.closed {
            return Ok(None);
        }
        if owner.is_barred.load(Ordering::Relaxed) {
            return Err((RefusalCode::NotAllowed, REVOKED.to_owned()));
        }
        owner.principal().policy().permit_kind(wanted.kind)?;
        owner.principal().policy().permit_access(rules.access.as_deref())?;
        let Some(carrier) = CarrierNumber::of(&wanted) else {
            let reason = "the option \"carrier\" is a number from 0 to 255".to_owned();
            return Err((RefusalCode::NotAllowed, reason));
        };
        let member = Member::new(carrier, Arc::clone(owner), number, asked);
        if let Some(said) = Condition::of(&wanted) {
            member.health.is_said(said);
        }
        let entered = match wanted.kind {
            TunnelKind::Http | TunnelKind::Tls => {
                self.register_by_host(&mut maps, member, wanted, rules)?
            }
            TunnelKind::Tcp => self.register_tcp(&mut maps, member, wanted, rules)?,
            kind => {
                let reason = format!("this server has no {kind} ingress");
                return Err((RefusalCode::UnsupportedKind, reason));
            }
        };
        let Entered { tunnel, place, address, replaced, joined } = entered;
        maps.enter(&tunnel);
        let registration = Registration {
            registry: Arc::downgrade(&self.0),
            uid: tunnel.uid,
            session: owner.session_id,
            number,
            place: Some(place),
            address: address.clone(),
            may_return: false,
        };
        owner.tunnels.lock().insert(number, registration);
        let mut lost: Vec<Member> =
            replaced.iter().flat_map(|old| maps.forget_if_lost(old)).collect();
        lost.extend(
            joined.into_iter().filter(|before| before.owner.lose(tunnel.uid, before.number)),
        );
        drop(maps);
        tracing::info!(session = %owner.session_id, tunnel = %tunnel.label(), kind = %tunnel.kind(), carrier = carrier.0, "registered");
        for member in lost {
            member.owner.superseded(member.number, owner);
        }
        Ok(Some(address))
    }

    fn hear(&self, owner: &Owner, uid: TunnelUid, said: Condition) {
        let Some(tunnel) = self.0.maps.read().tunnels.get(&uid).cloned() else { return };
        let members = tunnel.members().into_iter();
        for member in members.filter(|member| member.owner.session_id == owner.session_id) {
            tracing::debug!(session = %owner.session_id, number = member.number, ?said, "a tunnel, as its client says");
            member.health.is_said(said);
        }
        tunnel.look_for_pauses();
    }

    fn register_by_host(
        &self,
        maps: &mut Maps,
        member: Member,
        mut wanted: Register,
        rules: Rules,
    ) -> Result<Entered, Denied> {
        let config = &self.0.config;
        let (scheme, port) = config.public(wanted.kind)?;
        let policy = member.owner.principal().policy();
        let (path, strips_path) = match wanted.kind {
            TunnelKind::Http => options::take_path(&mut wanted),
            _ => Ok((PathPrefix::default(), false)),
        }
        .map_err(|reason| (RefusalCode::NotAllowed, reason))?;
        let host = |name: &str| format!("{name}.{}", config.domain);
        let pick = || {
            let unique = self.0.next_uid.load(Ordering::Relaxed);
            let is_taken = |name: &str| maps.hosts.has(&host(name)) || config.reserves(&host(name));
            match policy.name_pool(&config.domain) {
                NamePool::Any => Ok(names::pick(unique, is_taken)),
                NamePool::Of(names) => names
                    .into_iter()
                    .find(|name| !is_taken(name))
                    .ok_or_else(|| policy.no_free_name()),
            }
        };
        let name = if wanted.name.is_empty() {
            pick()?
        } else {
            let name = names::check_label(&wanted.name)?;
            let may_pick = is_preferred(&wanted) && !is_joining(&wanted);
            let is_free_for_it = || {
                let host = host(&name);
                let holder = maps.hosts.holder(&host, &path);
                let is_own = |old: &Arc<Tunnel>| {
                    old.is_of(&member.owner) || old.is_in_group(&member, &wanted)
                };
                let is_strange = |old: &Arc<Tunnel>| {
                    old.principal() != member.owner.principal() || old.kind() != wanted.kind
                };
                holder.is_none_or(is_own) && !maps.hosts.all_at(&host).any(is_strange)
            };
            match config.permit_host(&host(&name), &policy) {
                Ok(()) if !may_pick || is_free_for_it() => name,
                Err(denied) if !may_pick => return Err(denied),
                _ => pick()?,
            }
        };
        let mut hosts = vec![host(&name)];
        let path_shown = match wanted.kind {
            TunnelKind::Http => path.as_str(),
            _ => "",
        };
        let address = format!("{scheme}://{name}.{}{port}{path_shown}", config.domain);
        wanted.name = name;
        for host in &wanted.hosts {
            let host = names::check_public_host(host)?;
            config.permit_host(&host, &policy)?;
            hosts.push(host);
        }
        // Also other paths of a host: what one tunnel's pages may do in a browser they may do to the others'.
        refuse_strangers(hosts.iter().flat_map(|host| maps.hosts.all_at(host)), &member.owner)?;
        refuse_two_kinds(wanted.kind, &hosts, &maps.hosts)?;
        let mut replaced: Vec<Arc<Tunnel>> = Vec::new();
        let is_replaced = |old: &&Arc<Tunnel>| *old.path() == path || old.kind() != wanted.kind;
        for old in hosts.iter().flat_map(|host| maps.hosts.all_at(host)).filter(is_replaced) {
            if !replaced.iter().any(|known| known.uid == old.uid) {
                replaced.push(Arc::clone(old));
            }
        }
        let is_joining = is_joining(&wanted);
        refuse_overtaken(&replaced, &member, is_joining)?;
        let in_group = replaced.iter().any(|old| old.binds(&member, &wanted, &hosts));
        if !replaced.is_empty() && (is_joining || in_group) {
            // It may stand under a part of its hosts only, if others were taken over.
            let own = replaced.into_iter().find(|one| one.takes_in(&member, &wanted, &hosts));
            let own = own.ok_or_else(|| if in_group { unlike_group() } else { taken_over() })?;
            self.check_return(&own, &member.owner)?;
            return Ok(Entered::joining(own, member, !is_joining, Place::Hosts(hosts), address));
        }
        refuse_late(&replaced, &member, config.silence)?;
        let is_left = |old: &Tunnel, host: &String| {
            !hosts.contains(host) && maps.hosts.has_tunnel(host, old.uid)
        };
        let freed = |old: &&Arc<Tunnel>| {
            old.is_counted() && !old.hosts().iter().any(|host| is_left(old, host))
        };
        self.check_limit(&member.owner, replaced.iter().filter(freed).count())?;
        if !path.is_whole() && hosts.iter().any(|host| maps.hosts.is_full(host, &path)) {
            let reason = format!("a host may be shared by {} paths", hosts::MOST_PATHS);
            return Err((RefusalCode::LimitExceeded, reason));
        }
        let stand = Stand { hosts: hosts.clone(), path, strips_path };
        let tunnel = self.tunnel(member, wanted, stand, rules);
        for host in &hosts {
            for other in replaced.iter().filter(|old| old.kind() != tunnel.kind()) {
                maps.hosts.remove(host, other.uid);
            }
            maps.hosts.insert(host, Arc::clone(&tunnel));
        }
        Ok(Entered { tunnel, place: Place::Hosts(hosts), address, replaced, joined: Vec::new() })
    }

    fn register_tcp(
        &self,
        maps: &mut Maps,
        member: Member,
        mut wanted: Register,
        rules: Rules,
    ) -> Result<Entered, Denied> {
        let joining = is_joining(&wanted);
        // Who has it already would not know another port for it.
        let preferred = is_preferred(&wanted) && !joining;
        let policy = member.owner.principal().policy();
        match policy.permit_port(wanted.port) {
            Err(_) if preferred => wanted.port = 0,
            Err(denied) if wanted.port != 0 => return Err(denied),
            _ => {}
        }
        let taken = maps.ports.get(&wanted.port).map(|taken| (taken, taken.current()));
        if let Some((taken, old)) = taken
            && (!preferred || old.is_of(&member.owner) || old.is_in_group(&member, &wanted))
        {
            refuse_strangers([&old], &member.owner)?;
            refuse_overtaken([&old], &member, joining)?;
            wanted.name = wanted.port.to_string();
            let (place, address) = (Place::Port(wanted.port), format!(":{}", wanted.port));
            let in_group = old.binds(&member, &wanted, &[]);
            if joining || in_group {
                return match old.takes_in(&member, &wanted, &[]) {
                    true => {
                        self.check_return(&old, &member.owner)?;
                        Ok(Entered::joining(old, member, !joining, place, address))
                    }
                    false if in_group => Err(unlike_group()),
                    false => Err(taken_over()),
                };
            }
            refuse_late([&old], &member, self.0.config.silence)?;
            self.check_limit(&member.owner, usize::from(old.is_counted()))?;
            let tunnel = self.tunnel(member, wanted, Stand::default(), rules);
            taken.replace(Arc::clone(&tunnel));
            return Ok(Entered { tunnel, place, address, replaced: vec![old], joined: Vec::new() });
        }
        let bind = |port| tcp_ingress::bind(SocketAddr::new(self.0.config.tcp_ip, port));
        self.check_limit(&member.owner, 0)?;
        let is_taken = |port| maps.ports.contains_key(&port);
        let bind_any = || match policy.ports() {
            None => ports::pick(&self.0.reserved, is_taken, bind),
            Some(ranges) => ports::pick_within(ranges, is_taken, bind),
        };
        let bound = match wanted.port {
            0 => bind_any(),
            port => bind(port).or_else(|error| if preferred { bind_any() } else { Err(error) }),
        };
        let bound = bound.map_err(|error| {
            let is_open = wanted.port == 0 || preferred;
            if is_open && policy.ports().is_some() && error.kind() == io::ErrorKind::AddrInUse {
                return policy.no_free_port();
            }
            let reason = format!("port {}: {error}; ask for another --remote-port", wanted.port);
            (RefusalCode::PortUnavailable, reason)
        })?;
        let port = bound.port();
        wanted.name = port.to_string();
        let tunnel = self.tunnel(member, wanted, Stand::default(), rules);
        let (visitors, listeners) = (self.0.visitors.clone(), &self.0.listeners);
        maps.ports.insert(
            port,
            Port::open(
                bound,
                Arc::clone(&tunnel),
                visitors,
                listeners,
                (Arc::clone(&self.0.arrivals), Arc::clone(&self.0.ceilings.crowd)),
                self.0.config.access.proxies.clone(),
                self.0.config.budget.clone(),
            ),
        );
        let (place, address) = (Place::Port(port), format!(":{port}"));
        Ok(Entered { tunnel, place, address, replaced: Vec::new(), joined: Vec::new() })
    }

    fn tunnel(&self, member: Member, wanted: Register, stand: Stand, rules: Rules) -> Arc<Tunnel> {
        let uid = TunnelUid(self.0.next_uid.fetch_add(1, Ordering::Relaxed));
        let most = Arc::clone(&self.0.ceilings.visitors);
        let key = TunnelCounts::key(wanted.kind, &stand.label(&wanted.name));
        let counts = self.0.counts.of(&key);
        let id = tunnel::id(wanted.kind, &stand.label(&wanted.name));
        let inside = self.0.inside.of(member.owner.principal().name(), &id);
        let hooks = self.0.config.hooks.clone();
        let list = Arc::clone(&self.0.list);
        let places = Places::new(inside, most, self.0.meters.clone(), counts, hooks, list);
        let tunnel = Tunnel::new(uid, member, wanted, stand, places, rules);
        tunnel.set_paused(self.0.paused.lock().contains(&pause_key(&tunnel)));
        Arc::new(tunnel)
    }

    /// From now on these policies hold. Tunnels that they do not permit leave at once, and their clients
    /// are told why; visitors inside stay. No place is kept for clients of those who are gone: they do not come back, and
    /// who has the name after them is somebody else.
    pub(crate) fn apply(&self, policies: Vec<(Arc<Principal>, Policy)>, gone: &[Arc<Principal>]) {
        let domain = &self.0.config.domain;
        let mut maps = self.0.maps.write();
        // Under the lock: what is registered, or left, meanwhile is judged by the one or the other.
        for (principal, policy) in policies {
            principal.set_policy(policy);
            principal.set_gone(false);
        }
        gone.iter().for_each(|principal| principal.set_gone(true));
        let kept = maps.tunnels.values().filter(|it| it.is_away() && it.principal().is_gone());
        for tunnel in kept.cloned().collect::<Vec<_>>() {
            tracing::info!(tunnel = %tunnel.label(), kind = %tunnel.kind(), "not kept any longer: its client may not come back");
            maps.evict(&tunnel);
        }
        let judged = maps.tunnels.values().filter_map(|tunnel| {
            let policy = tunnel.principal().policy();
            let denied = tunnel.is_permitted(&policy, domain).err()?;
            Some((Arc::clone(tunnel), denied))
        });
        let judged: Vec<(Arc<Tunnel>, Denied)> = judged.collect();
        let mut lost = Vec::new();
        for (tunnel, denied) in judged {
            tracing::info!(tunnel = %tunnel.label(), kind = %tunnel.kind(), reason = %denied.1, "taken away");
            for member in maps.evict(&tunnel) {
                lost.push((member, denied.clone()));
            }
        }
        drop(maps);
        for (member, denied) in lost {
            member.owner.denied(member.number, denied);
        }
    }

    /// The session registers nothing from now on, and ends.
    pub(crate) fn revoke(&self, owner: &Owner) {
        // Under the lock: what it is just registering is there when it leaves.
        let maps = self.0.maps.write();
        owner.is_barred.store(true, Ordering::Relaxed);
        drop(maps);
        owner.end(REVOKED);
    }

    /// Takes nothing new: no registrations, and no visitors at ports of its own. Who has been accepted finds its tunnel until
    /// everything [leaves](Self::close); those whose clients are away leave now, since nobody comes back to them.
    pub(crate) fn close_doors(&self) {
        let mut maps = self.0.maps.write();
        maps.closed = true;
        maps.ports.clear();
        let away = maps.tunnels.values().filter(|tunnel| tunnel.is_away());
        for tunnel in away.cloned().collect::<Vec<_>>() {
            maps.evict(&tunnel);
        }
    }

    /// Visitors who have been accepted and may still need a stream.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.0.arrivals
    }

    /// Everything leaves for good: listeners close, streams of visitors go on.
    pub(crate) fn close(&self) {
        let closed = Maps { closed: true, ..Maps::default() };
        let maps = std::mem::replace(&mut *self.0.maps.write(), closed);
        for tunnel in maps.tunnels.values() {
            tunnel.set_gone();
        }
    }

    /// Every tunnel, for whoever looks at it from outside.
    pub(crate) fn read(&self) -> Vec<TunnelReading> {
        let tunnels: Vec<_> = self.0.maps.read().tunnels.values().cloned().collect();
        let config = &self.0.config;
        let read = |tunnel: &Arc<Tunnel>| {
            let path = if tunnel.path().is_whole() { "/" } else { tunnel.path().as_str() };
            tunnel.read(|place| match (tunnel.kind(), config.public(tunnel.kind())) {
                (TunnelKind::Http, Ok((scheme, port))) => format!("{scheme}://{place}{port}{path}"),
                (TunnelKind::Tls, Ok((scheme, port))) => format!("{scheme}://{place}{port}"),
                (kind, _) => format!("{kind}://{}:{place}", config.domain),
            })
        };
        tunnels.iter().map(read).collect()
    }

    /// From now on each stream is listed.
    pub(crate) fn list_streams(&self) {
        self.0.list.get_or_init(Arc::default);
    }

    /// The youngest streams, and how many there are; those that began before they were listed are not among them.
    pub(crate) fn streams(&self, most: usize) -> (Vec<StreamReading>, usize) {
        self.0.list.get().map(|list| list.read(most)).unwrap_or_default()
    }

    /// The tunnel of that id takes no visitors from now on, also when it leaves and comes back; those inside stay.
    /// Returns whether there is one.
    pub(crate) fn pause(&self, id: &str) -> bool {
        // What is registered meanwhile is found here, or finds that it is paused.
        let maps = self.0.maps.read();
        let mut paused = self.0.paused.lock();
        let mut is_there = false;
        for tunnel in maps.tunnels.values().filter(|tunnel| tunnel.id() == id) {
            paused.insert(pause_key(tunnel));
            tunnel.set_paused(true);
            is_there = true;
        }
        is_there
    }

    /// It takes visitors again. Returns whether there is one, or was one when it was paused.
    pub(crate) fn resume(&self, id: &str) -> bool {
        let maps = self.0.maps.read();
        let mut paused = self.0.paused.lock();
        let before = paused.len();
        paused.retain(|(_, of)| of != id);
        let mut is_there = paused.len() < before;
        for tunnel in maps.tunnels.values().filter(|tunnel| tunnel.id() == id) {
            tunnel.set_paused(false);
            is_there = true;
        }
        is_there
    }

    /// What passed through tunnels that have ever been here.
    pub(crate) fn totals(&self) -> Vec<TunnelTotals> {
        self.0.counts.all().iter().map(|counts| counts.totals()).collect()
    }

    pub(crate) fn tunnels(&self) -> usize {
        self.0.maps.read().tunnels.len()
    }
}

/// A name that was paused is only so for whom it was paused.
fn pause_key(tunnel: &Tunnel) -> (String, String) {
    (tunnel.principal_name().to_owned(), tunnel.id().to_owned())
}

/// What clients are told by a server that takes nothing new.
pub(crate) const SHUTTING_DOWN: &str = "the server is shutting down";

/// What a client is told whose token is not accepted any more.
const REVOKED: &str = "the server's operator revoked this token";

/// A tunnel that has its place in the maps.
struct Entered {
    tunnel: Arc<Tunnel>,
    place: Place,
    /// Public, for the client to show.
    address: String,
    /// Other tunnels that had some of that place, each once.
    replaced: Vec<Arc<Tunnel>>,
    /// Who had the session's place in a tunnel that was there already.
    joined: Vec<Member>,
}

impl Entered {
    fn joining(
        tunnel: Arc<Tunnel>,
        member: Member,
        afresh: bool,
        place: Place,
        address: String,
    ) -> Self {
        let joined = tunnel.join(member, afresh);
        Self { tunnel, place, address, replaced: Vec::new(), joined }
    }
}

/// A group is one tunnel: whoever it is that a visitor meets should do the same.
fn unlike_group() -> Denied {
    let reason = "the group has it already, with other hosts or settings; use the same for all of its \
                  members";
    (RefusalCode::NameTaken, reason.to_owned())
}

/// Who only joins in takes nothing back, and neither does who comes late.
fn taken_over() -> Denied {
    (RefusalCode::Superseded, owner::TAKEN_OVER.to_owned())
}

/// A Register that was thought about for long takes nothing from a session over which the same client has asked since:
/// it has left this one, perhaps without a word.
fn refuse_overtaken<'a>(
    holders: impl IntoIterator<Item = &'a Arc<Tunnel>>,
    member: &Member,
    is_joining: bool,
) -> Result<(), Denied> {
    match holders.into_iter().any(|old| old.has_overtaken(member, is_joining)) {
        false => Ok(()),
        true => Err((RefusalCode::Moved, owner::ELSEWHERE.to_owned())),
    }
}

/// A Register that may have been under way while a newer client came takes nothing from that one. Who sent it may be gone for
/// long, and then nobody would have the place. Whoever asks later than anything can be under way lives, and means it.
fn refuse_late<'a>(
    holders: impl IntoIterator<Item = &'a Arc<Tunnel>>,
    member: &Member,
    silence: Duration,
) -> Result<(), Denied> {
    match holders.into_iter().any(|old| old.is_newer_than(member, silence)) {
        false => Ok(()),
        true => Err(taken_over()),
    }
}

fn refuse_strangers<'a>(
    holders: impl IntoIterator<Item = &'a Arc<Tunnel>>,
    owner: &Owner,
) -> Result<(), Denied> {
    match holders.into_iter().find(|old| old.principal() != owner.principal()) {
        None => Ok(()),
        Some(old) => {
            Err((RefusalCode::NameTaken, format!("{} belongs to somebody else", old.name())))
        }
    }
}

/// Whether TLS ends here or at the local service has to be clear before anything else of a visitor is known. A place
/// that is only kept for a client is no claim.
fn refuse_two_kinds(kind: TunnelKind, wanted: &[String], held: &Hosts) -> Result<(), Denied> {
    let is_other = |old: &Arc<Tunnel>| old.kind() != kind && !old.is_away();
    let is_other = |host: &&String| held.all_at(host).any(is_other);
    let Some(host) = wanted.iter().find(is_other) else { return Ok(()) };
    let (other, this) = match kind {
        TunnelKind::Tls => ("an http tunnel", "a tls tunnel"),
        _ => ("a tls tunnel", "an http tunnel"),
    };
    let reason = format!(
        "{host} is {other} already, and cannot be {this} too; choose another name, or end that one first"
    );
    Err((RefusalCode::NameTaken, reason))
}

impl Inner {
    /// A session gives a tunnel up; the tunnel leaves with its last one, at once or when the client has
    /// not come back in time.
    fn remove(
        self: &Arc<Self>,
        uid: TunnelUid,
        (session, number): (SessionId, u32),
        place: Place,
        may_return: bool,
    ) {
        let mut maps = self.maps.write();
        if maps.tunnels.get(&uid).is_some_and(|tunnel| !tunnel.leave(session, number)) {
            return;
        }
        let grace = self.config.grace;
        // Without a runtime the process is about to end.
        let is_for_good = !may_return || grace.is_zero() || maps.closed;
        if is_for_good || Handle::try_current().is_err() {
            return maps.vacate(uid, &place);
        }
        if let Some(tunnel) = maps.tunnels.get(&uid) {
            if tunnel.principal().is_gone() {
                return maps.vacate(uid, &place);
            }
            // Its principal may want others meanwhile, but not keep ever more places in this way.
            discount(tunnel);
            if !tunnel.begin_absence() {
                return maps.vacate(uid, &place);
            }
        }
        drop(maps);
        let registry = Arc::downgrade(self);
        self.listeners.spawn(async move {
            tokio::time::sleep(grace).await;
            if let Some(registry) = registry.upgrade() {
                let mut maps = registry.maps.write();
                // It may have come back and left again meanwhile.
                if maps.tunnels.get(&uid).is_some_and(|tunnel| tunnel.is_given_up(grace)) {
                    maps.vacate(uid, &place);
                }
            }
        });
    }
}

/// It is no longer among those that its principal may have so many of.
fn discount(tunnel: &Tunnel) {
    if tunnel.set_counted(false) {
        tunnel.principal().tunnel_left();
    }
}

impl Maps {
    fn enter(&mut self, tunnel: &Arc<Tunnel>) {
        self.tunnels.insert(tunnel.uid, Arc::clone(tunnel));
        if tunnel.set_counted(true) {
            tunnel.principal().tunnel_entered();
        }
    }

    fn forget(&mut self, uid: TunnelUid) {
        if let Some(tunnel) = self.tunnels.remove(&uid) {
            discount(&tunnel);
            tunnel.set_gone();
        }
    }

    /// A tunnel leaves its place.
    fn vacate(&mut self, uid: TunnelUid, place: &Place) {
        match place {
            Place::Hosts(hosts) => self.vacate_hosts(uid, hosts),
            Place::Port(number) => self.vacate_port(uid, *number),
        }
        self.forget(uid);
    }

    fn vacate_hosts(&mut self, uid: TunnelUid, hosts: &[String]) {
        for host in hosts {
            self.hosts.remove(host, uid);
        }
    }

    fn vacate_port(&mut self, uid: TunnelUid, number: u16) {
        if self.ports.get(&number).is_some_and(|port| port.current().uid == uid) {
            self.ports.remove(&number);
        }
    }

    /// A tunnel leaves whatever its sessions say. Returns whom to tell.
    fn evict(&mut self, tunnel: &Tunnel) -> Vec<Member> {
        self.vacate_hosts(tunnel.uid, tunnel.hosts());
        if let Some(port) = tunnel.port() {
            self.vacate_port(tunnel.uid, port);
        }
        self.forget_lost(tunnel)
    }

    /// A tunnel of which something was taken over leaves when nothing is left of it. Returns whom to
    /// tell.
    fn forget_if_lost(&mut self, old: &Tunnel) -> Vec<Member> {
        if old.hosts().iter().any(|host| self.hosts.has_tunnel(host, old.uid)) {
            return Vec::new();
        }
        self.forget_lost(old)
    }

    fn forget_lost(&mut self, old: &Tunnel) -> Vec<Member> {
        self.forget(old.uid);
        let mut members = old.members();
        members.retain(|member| member.owner.lose(old.uid, member.number));
        members
    }

    fn only_http(&self) -> Option<&Arc<Tunnel>> {
        let mut all = self.tunnels.values().filter(|tunnel| tunnel.kind() == TunnelKind::Http);
        let only = all.next();
        if all.next().is_some() { None } else { only }
    }
}

impl Routes for Registry {
    fn visitor_turned_away(&self) {
        self.0.meters.count(Limit::Visitors);
    }

    fn http(&self, host: &str, path: &str) -> Result<Arc<Tunnel>, NoRoute> {
        let maps = self.0.maps.read();
        let config = &self.0.config;
        let find = |host: &str| maps.hosts.find(host, path, |host| config.reserves(host));
        let found = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            find(&host.to_ascii_lowercase())
        } else {
            find(host)
        };
        // Who comes without TLS, or with the server's, is nobody that a local service's TLS could answer.
        let found = found.and_then(|found| match found.passes_tls() {
            true => Err(NoRoute::Unknown),
            false => Ok(found),
        });
        // A name under the domain means that tunnel: while it is away its visitors must not get to
        // somebody else's.
        let found = match found {
            Err(NoRoute::Unknown)
                if config.only_tunnel_answers && !is_under(host, &config.domain) =>
            {
                let only = maps.only_http().ok_or(NoRoute::Unknown)?;
                match only.path() {
                    path if path.is_whole() => Ok(only),
                    prefix => by_path(path, |path| prefix.covers(path).then_some(only)),
                }
            }
            found => found,
        };
        found.cloned()
    }

    fn has_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let maps = self.0.maps.read();
        maps.hosts.has_exact(&host) && !maps.hosts.all_at(&host).any(|tunnel| tunnel.passes_tls())
    }

    fn principal_of(&self, host: &str) -> Option<String> {
        let maps = self.0.maps.read();
        // A host is one principal's, whatever the path.
        let one = maps.hosts.all_at(&host.to_ascii_lowercase()).next()?;
        Some(one.principal_name().to_owned())
    }

    fn tunnel(&self, uid: TunnelUid) -> Option<Arc<Tunnel>> {
        let found = self.0.maps.read().tunnels.get(&uid).cloned();
        found.filter(|tunnel| !tunnel.is_away())
    }

    fn is_closed(&self) -> bool {
        self.0.maps.read().closed
    }
}

/// Whether a host is a name under the domain, in any case.
fn is_under(host: &str, domain: &str) -> bool {
    let name = host.len().checked_sub(domain.len() + 1);
    name.and_then(|end| host.split_at_checked(end)).is_some_and(|(_, rest)| {
        rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
    })
}

#[cfg(test)]
mod tests;
