//! Hosts, and who stands under them: the map behind every request.
//!
//! An exact host goes before a wildcard, and of the tunnels of one host that with the longest path. A wildcard
//! stands for one label, as in certificates (RFC 9525, section 6.3), so that no host has two of them.

use std::sync::Arc;

use hashbrown::HashMap;

use super::path::{PathPrefix, Reading};
use super::{Tunnel, TunnelUid};

/// Why nobody answers for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No tunnel has its host and path.
    Unknown,
    /// The tunnels of its host share it by path, and its path reads as one tunnel's or as another's.
    UnclearPath,
}

/// The tunnels of all hosts. Names are in lower case; wildcards are written `*.example`.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<String, Site>,
    /// By what follows the asterisk, which is what a host has from its first dot on.
    wild: HashMap<String, Site>,
}

/// Who stands under one host.
#[derive(Debug, Default)]
struct Site {
    /// For every path that is nobody else's.
    whole: Option<Arc<Tunnel>>,
    /// Those with a path, the longest first.
    parts: Vec<Arc<Tunnel>>,
}

impl Hosts {
    /// Who answers for a request; `reserves` says which hosts no wildcard answers for. A host without paths of
    /// its own costs one lookup.
    pub(super) fn find(
        &self,
        host: &str,
        path: &str,
        reserves: impl FnOnce(&str) -> bool,
    ) -> Result<&Arc<Tunnel>, NoRoute> {
        if let Some(site) = self.exact.get(host) {
            return site.find(path);
        }
        let dot = host.find('.').filter(|&dot| dot > 0 && !self.wild.is_empty());
        let wild = dot.and_then(|dot| self.wild.get(&host[dot..]));
        wild.filter(|_| !reserves(host)).ok_or(NoRoute::Unknown)?.find(path)
    }

    /// Whether somebody stands under this very host, whatever the path.
    pub(super) fn has_exact(&self, host: &str) -> bool {
        self.exact.contains_key(host)
    }

    /// Whether somebody stands under it, exact or wildcard as it is, whatever the path.
    pub(super) fn has(&self, host: &str) -> bool {
        self.site(host).is_some()
    }

    /// Who has this route.
    pub(super) fn holder(&self, host: &str, path: &PathPrefix) -> Option<&Arc<Tunnel>> {
        self.all_at(host).find(|tunnel| tunnel.path() == path)
    }

    /// Whoever has a route of this host.
    pub(super) fn all_at(&self, host: &str) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.site(host).into_iter().flat_map(Site::all)
    }

    /// Whether there is no room for one more path of it.
    pub(super) fn is_full(&self, host: &str, path: &PathPrefix) -> bool {
        let parts = self.site(host).map_or(&[][..], |site| &site.parts);
        parts.len() >= MOST_PATHS && parts.iter().all(|tunnel| tunnel.path() != path)
    }

    /// Whether that tunnel stands under it.
    pub(super) fn has_tunnel(&self, host: &str, uid: TunnelUid) -> bool {
        self.all_at(host).any(|tunnel| tunnel.uid == uid)
    }

    /// Takes the route of the tunnel's path from whoever has it.
    pub(super) fn insert(&mut self, host: &str, tunnel: Arc<Tunnel>) {
        let (map, key) = self.map_of(host);
        map.entry_ref(key).or_default().insert(tunnel);
    }

    /// The tunnel leaves the host, if it stands there.
    pub(super) fn remove(&mut self, host: &str, uid: TunnelUid) {
        let (map, key) = self.map_of(host);
        let Some(site) = map.get_mut(key) else { return };
        site.parts.retain(|tunnel| tunnel.uid != uid);
        site.whole.take_if(|tunnel| tunnel.uid == uid);
        if site.all().next().is_none() {
            map.remove(key);
        }
    }

    fn site(&self, host: &str) -> Option<&Site> {
        match host.strip_prefix('*') {
            Some(rest) => self.wild.get(rest),
            None => self.exact.get(host),
        }
    }

    fn map_of<'a>(&mut self, host: &'a str) -> (&mut HashMap<String, Site>, &'a str) {
        match host.strip_prefix('*') {
            Some(rest) => (&mut self.wild, rest),
            None => (&mut self.exact, host),
        }
    }
}

/// Tunnels with a path under one host: each request of the host looks through them.
pub(super) const MOST_PATHS: usize = 256;

impl Site {
    fn find(&self, path: &str) -> Result<&Arc<Tunnel>, NoRoute> {
        if self.parts.is_empty() {
            return self.whole.as_ref().ok_or(NoRoute::Unknown);
        }
        by_path(path, |path| {
            self.parts.iter().find(|tunnel| tunnel.path().covers(path)).or(self.whole.as_ref())
        })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.parts.iter().chain(&self.whole)
    }

    fn insert(&mut self, tunnel: Arc<Tunnel>) {
        if tunnel.path().is_whole() {
            self.whole = Some(tunnel);
            return;
        }
        let len = |tunnel: &Tunnel| tunnel.path().as_str().len();
        self.parts.retain(|other| other.path() != tunnel.path());
        let at = self.parts.partition_point(|other| len(other) >= len(&tunnel));
        self.parts.insert(at, tunnel);
    }
}

/// Finds a tunnel by a path that everybody reads as that tunnel's. Where nobody has it as it was sent, it is
/// unknown however it may be read.
pub(super) fn by_path<'a>(
    path: &str,
    find: impl Fn(&[u8]) -> Option<&'a Arc<Tunnel>>,
) -> Result<&'a Arc<Tunnel>, NoRoute> {
    let found = find(path.as_bytes()).ok_or(NoRoute::Unknown)?;
    let is_clear = match Reading::of(path) {
        Reading::AsSent => true,
        Reading::OrAs(read) => find(&read).is_some_and(|other| other.uid == found.uid),
        Reading::Unclear => false,
    };
    if is_clear { Ok(found) } else { Err(NoRoute::UnclearPath) }
}
