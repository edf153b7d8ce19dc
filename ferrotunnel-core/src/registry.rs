//! Who is reachable under which name and port.
//!
//! A registration is a guard: it leaves the registry on every exit path. The newest authenticated
//! session of the same principal takes over a name at once; the old one is told and does not fight
//! back. A name or port that is only preferred is taken over within one client, from nobody else.
//! Several carriers of one client share its tunnels.

mod names;
mod owner;
mod port;
mod ports;
mod tunnel;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferrotunnel_common::{SessionId, TunnelKind};
use ferrotunnel_protocol::frame::{Refusal, RefusalCode, Register, Registered};
use hashbrown::HashMap;
use parking_lot::RwLock;

pub use self::names::parse_domain;
pub(crate) use self::owner::Owner;
use self::owner::{Place, Registration};
use self::port::Port;
use self::tunnel::Member;
pub use self::tunnel::{Tunnel, TunnelUid};
use crate::options::{CarrierNumber, is_joining, is_preferred};
use crate::tasks::Tasks;
use crate::tcp_ingress;

/// What stands between a router and the registry, so that several servers may one day share one.
pub trait Routes: Send + Sync + 'static {
    /// The HTTP tunnel for a host name without port, in any case.
    fn http(&self, host: &str) -> Option<Arc<Tunnel>>;

    /// The tunnel of a registration that still stands.
    fn tunnel(&self, uid: TunnelUid) -> Option<Arc<Tunnel>>;
}

/// Settings of a registry.
#[derive(Clone, Debug)]
pub(crate) struct RegistryConfig {
    /// HTTP tunnels are reached under `name.domain`.
    pub(crate) domain: String,
    /// Port of the HTTP ingress, if there is one.
    pub(crate) http_port: Option<u16>,
    /// An unknown host that is no name under the domain goes to the only HTTP tunnel, if there is
    /// exactly one.
    pub(crate) only_tunnel_answers: bool,
    /// Address on which TCP tunnels listen.
    pub(crate) tcp_ip: IpAddr,
    pub(crate) max_tunnels_per_session: u32,
}

/// All tunnels of a server. A cheap handle.
#[derive(Clone, Debug)]
pub(crate) struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: RegistryConfig,
    reserved: ports::Reserved,
    next_uid: AtomicU64,
    maps: RwLock<Maps>,
    visitors: Tasks,
    /// The public ports' own tasks, so that a shutdown can wait until the ports are free.
    listeners: Tasks,
}

#[derive(Debug, Default)]
struct Maps {
    /// Takes no registrations any more.
    closed: bool,
    tunnels: HashMap<TunnelUid, Arc<Tunnel>>,
    hosts: HashMap<String, Arc<Tunnel>>,
    ports: HashMap<u16, Port>,
}

impl Registry {
    pub(crate) fn new(config: RegistryConfig, visitors: Tasks, listeners: Tasks) -> Self {
        Self(Arc::new(Inner {
            config,
            reserved: ports::Reserved::of_system(),
            next_uid: AtomicU64::new(1),
            maps: RwLock::default(),
            visitors,
            listeners,
        }))
    }

    /// Registers a tunnel for `owner`; the answer is what the client is to be told.
    pub(crate) fn register(&self, owner: &Arc<Owner>, number: u32, wanted: Register) -> Registered {
        match self.try_register(owner, number, wanted) {
            Ok(address) => Registered::Ok { address },
            Err((code, reason)) => Registered::Refused(Refusal { code, reason }),
        }
    }

    fn try_register(
        &self,
        owner: &Arc<Owner>,
        number: u32,
        wanted: Register,
    ) -> Result<String, (RefusalCode, String)> {
        {
            let tunnels = owner.tunnels.lock();
            if tunnels.contains_key(&number) {
                let reason = format!("number {number} is registered already");
                return Err((RefusalCode::NameTaken, reason));
            }
            if tunnels.len() >= self.0.config.max_tunnels_per_session as usize {
                let reason = format!("a session may have {} tunnels", tunnels.len());
                return Err((RefusalCode::LimitExceeded, reason));
            }
        }
        // Held until the owner knows of it: a takeover finds it in both places or in none.
        let mut maps = self.0.maps.write();
        if maps.closed {
            return Err((RefusalCode::NotAllowed, SHUTTING_DOWN.to_owned()));
        }
        let Some(carrier) = CarrierNumber::of(&wanted) else {
            let reason = "the option \"carrier\" is a number from 0 to 255".to_owned();
            return Err((RefusalCode::NotAllowed, reason));
        };
        let member = Member { carrier, owner: Arc::clone(owner), number };
        let entered = match wanted.kind {
            TunnelKind::Http => self.register_http(&mut maps, member, wanted)?,
            TunnelKind::Tcp => self.register_tcp(&mut maps, member, wanted)?,
            kind => {
                let reason = format!("this server has no {kind} ingress");
                return Err((RefusalCode::UnsupportedKind, reason));
            }
        };
        let Entered { tunnel, place, address, replaced, joined } = entered;
        maps.tunnels.insert(tunnel.uid, Arc::clone(&tunnel));
        let registration = Registration {
            registry: Arc::downgrade(&self.0),
            uid: tunnel.uid,
            session: owner.session_id,
            number,
            place: Some(place),
        };
        owner.tunnels.lock().insert(number, registration);
        let mut lost: Vec<Member> =
            replaced.iter().flat_map(|old| maps.forget_if_lost(old)).collect();
        lost.extend(joined.filter(|before| before.owner.lose(tunnel.uid, before.number)));
        drop(maps);
        tracing::info!(session = %owner.session_id, tunnel = %tunnel.name(), kind = %tunnel.kind(), carrier = carrier.0, "registered");
        for member in lost {
            member.owner.superseded(member.number);
        }
        Ok(address)
    }

    fn register_http(
        &self,
        maps: &mut Maps,
        member: Member,
        mut wanted: Register,
    ) -> Result<Entered, (RefusalCode, String)> {
        let config = &self.0.config;
        let Some(http_port) = config.http_port else {
            return Err((RefusalCode::UnsupportedKind, "this server has no HTTP ingress".into()));
        };
        let host = |name: &str| format!("{name}.{}", config.domain);
        let pick = || {
            let unique = self.0.next_uid.load(Ordering::Relaxed);
            names::pick(unique, |name| maps.hosts.contains_key(&host(name)))
        };
        let name = if wanted.name.is_empty() {
            pick()
        } else {
            let name = names::check_label(&wanted.name)?;
            let may_pick = is_preferred(&wanted) && !is_joining(&wanted);
            let holder = maps.hosts.get(&host(&name)).filter(|_| may_pick);
            if holder.is_some_and(|holder| !holder.is_of(&member.owner)) { pick() } else { name }
        };
        let mut hosts = vec![host(&name)];
        let port = if http_port == 80 { String::new() } else { format!(":{http_port}") };
        let address = format!("http://{name}.{}{port}/", config.domain);
        wanted.name = name;
        for host in &wanted.hosts {
            hosts.push(names::check_host(host)?);
        }
        let mut replaced: Vec<Arc<Tunnel>> = Vec::new();
        for old in hosts.iter().filter_map(|host| maps.hosts.get(host)) {
            if !replaced.iter().any(|known| known.uid == old.uid) {
                replaced.push(Arc::clone(old));
            }
        }
        refuse_strangers(&replaced, &member.owner)?;
        if is_joining(&wanted) && !replaced.is_empty() {
            // It may stand under a part of its hosts only, if others were taken over.
            let own = replaced.into_iter().find(|one| one.takes_in(&member, &wanted, &hosts));
            let own = own.ok_or_else(taken_over)?;
            return Ok(Entered::joining(own, member, Place::Hosts(hosts), address));
        }
        let tunnel = self.tunnel(member, wanted, hosts.clone());
        for host in &hosts {
            maps.hosts.insert(host.clone(), Arc::clone(&tunnel));
        }
        Ok(Entered { tunnel, place: Place::Hosts(hosts), address, replaced, joined: None })
    }

    fn register_tcp(
        &self,
        maps: &mut Maps,
        member: Member,
        mut wanted: Register,
    ) -> Result<Entered, (RefusalCode, String)> {
        let joining = is_joining(&wanted);
        // Who has it already would not know another port for it.
        let preferred = is_preferred(&wanted) && !joining;
        let taken = maps.ports.get(&wanted.port).map(|taken| (taken, taken.current()));
        if let Some((taken, old)) = taken
            && (!preferred || old.is_of(&member.owner))
        {
            refuse_strangers(std::slice::from_ref(&old), &member.owner)?;
            wanted.name = wanted.port.to_string();
            let (place, address) = (Place::Port(wanted.port), format!(":{}", wanted.port));
            if joining {
                return if old.takes_in(&member, &wanted, &[]) {
                    Ok(Entered::joining(old, member, place, address))
                } else {
                    Err(taken_over())
                };
            }
            let tunnel = self.tunnel(member, wanted, Vec::new());
            taken.replace(Arc::clone(&tunnel));
            return Ok(Entered { tunnel, place, address, replaced: vec![old], joined: None });
        }
        let bind = |port| tcp_ingress::bind(SocketAddr::new(self.0.config.tcp_ip, port));
        let bind_any =
            || ports::pick(&self.0.reserved, |port| maps.ports.contains_key(&port), bind);
        let bound = match wanted.port {
            0 => bind_any(),
            port => bind(port).or_else(|error| if preferred { bind_any() } else { Err(error) }),
        };
        let bound = bound.map_err(|error| {
            let reason = format!("port {}: {error}; ask for another --remote-port", wanted.port);
            (RefusalCode::PortUnavailable, reason)
        })?;
        let port = bound.port();
        wanted.name = port.to_string();
        let tunnel = self.tunnel(member, wanted, Vec::new());
        let (visitors, listeners) = (self.0.visitors.clone(), &self.0.listeners);
        maps.ports.insert(port, Port::open(bound, Arc::clone(&tunnel), visitors, listeners));
        let (place, address) = (Place::Port(port), format!(":{port}"));
        Ok(Entered { tunnel, place, address, replaced: Vec::new(), joined: None })
    }

    fn tunnel(&self, member: Member, wanted: Register, hosts: Vec<String>) -> Arc<Tunnel> {
        let uid = TunnelUid(self.0.next_uid.fetch_add(1, Ordering::Relaxed));
        Arc::new(Tunnel::new(uid, member, wanted, hosts))
    }

    /// Everything leaves for good: listeners close, streams of visitors go on.
    pub(crate) fn close(&self) {
        let closed = Maps { closed: true, ..Maps::default() };
        let maps = std::mem::replace(&mut *self.0.maps.write(), closed);
        drop(maps);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.maps.read().closed
    }
}

/// What clients are told by a server that takes nothing new.
pub(crate) const SHUTTING_DOWN: &str = "the server is shutting down";

/// A tunnel that has its place in the maps.
struct Entered {
    tunnel: Arc<Tunnel>,
    place: Place,
    /// Public, for the client to show.
    address: String,
    /// Other tunnels that had some of that place, each once.
    replaced: Vec<Arc<Tunnel>>,
    /// Who had the carrier's place in a tunnel that was there already.
    joined: Option<Member>,
}

impl Entered {
    fn joining(tunnel: Arc<Tunnel>, member: Member, place: Place, address: String) -> Self {
        let joined = tunnel.join(member);
        Self { tunnel, place, address, replaced: Vec::new(), joined }
    }
}

/// Who only joins in takes nothing back.
fn taken_over() -> (RefusalCode, String) {
    (RefusalCode::Superseded, owner::TAKEN_OVER.to_owned())
}

fn refuse_strangers(holders: &[Arc<Tunnel>], owner: &Owner) -> Result<(), (RefusalCode, String)> {
    match holders.iter().find(|old| *old.principal() != owner.principal) {
        None => Ok(()),
        Some(old) => {
            Err((RefusalCode::NameTaken, format!("{} belongs to somebody else", old.name())))
        }
    }
}

impl Inner {
    /// A session gives a tunnel up; the tunnel leaves with its last one.
    fn remove(&self, uid: TunnelUid, (session, number): (SessionId, u32), place: &Place) {
        let mut maps = self.maps.write();
        if maps.tunnels.get(&uid).is_some_and(|tunnel| !tunnel.leave(session, number)) {
            return;
        }
        maps.tunnels.remove(&uid);
        match place {
            Place::Hosts(hosts) => {
                for host in hosts {
                    if maps.hosts.get(host).is_some_and(|tunnel| tunnel.uid == uid) {
                        maps.hosts.remove(host);
                    }
                }
            }
            Place::Port(number) => {
                if maps.ports.get(number).is_some_and(|port| port.current().uid == uid) {
                    maps.ports.remove(number);
                }
            }
        }
    }
}

impl Maps {
    /// A tunnel of which something was taken over leaves when nothing is left of it. Returns whom to
    /// tell.
    fn forget_if_lost(&mut self, old: &Tunnel) -> Vec<Member> {
        if old.kind() == TunnelKind::Http && self.hosts.values().any(|tunnel| tunnel.uid == old.uid)
        {
            return Vec::new();
        }
        self.tunnels.remove(&old.uid);
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
    fn http(&self, host: &str) -> Option<Arc<Tunnel>> {
        let maps = self.0.maps.read();
        let found = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            maps.hosts.get(host.to_ascii_lowercase().as_str())
        } else {
            maps.hosts.get(host)
        };
        // A name under the domain means that tunnel: while it is away its visitors must not get to
        // somebody else's.
        let RegistryConfig { only_tunnel_answers, domain, .. } = &self.0.config;
        let found = found.or_else(|| {
            let answers = *only_tunnel_answers && !is_under(host, domain);
            if answers { maps.only_http() } else { None }
        });
        found.cloned()
    }

    fn tunnel(&self, uid: TunnelUid) -> Option<Arc<Tunnel>> {
        self.0.maps.read().tunnels.get(&uid).cloned()
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
