//! Which certificates there are, and the orders that are under way.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ferrotunnel_core::{BuildError, Routes, TlsIdentity};
use instant_acme::{Account, CertificateIdentifier};
use parking_lot::{Mutex, RwLock};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, Der, PrivateKeyDer};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::account::{account, off};
use super::challenges::Challenges;
use super::client::Client;
use super::config::AcmeConfig;
use super::disk::Disk;
use super::fault::Fault;
use super::order::{Issued, Means, Way, order};
use super::schedule::{ASK_AFTER_FAULT, ASK_AT_LATEST, Attempts, Why, ask_after, renewal, within};
use crate::https::certificate::Certificate;
use crate::https::shown::Manner;

/// Certificates of one ACME server.
pub(in crate::https) struct Acme {
    config: AcmeConfig,
    client: Client,
    disk: Arc<Disk>,
    manner: Manner,
    challenges: Challenges,
    /// By the name that was ordered.
    held: RwLock<HashMap<String, Held>>,
    account: tokio::sync::Mutex<Option<Account>>,
    attempts: Mutex<Attempts>,
    /// Names whose orders are under way; who waits for one waits for its sender to go.
    running: Mutex<HashMap<String, watch::Receiver<()>>>,
    wanted: mpsc::Sender<Wanted>,
    orders: Mutex<Option<mpsc::Receiver<Wanted>>>,
    at_once: Semaphore,
    waiting: Semaphore,
    /// The way that has worked last.
    way: Mutex<Way>,
    /// Knows whose a host is.
    routes: OnceLock<Arc<dyn Routes>>,
    spread: RandomState,
    /// There is something to ask about, or another time to renew something at.
    to_ask: Notify,
    to_renew: Notify,
}

#[derive(Debug)]
struct Held {
    certificate: Arc<Certificate>,
    renew_at: SystemTime,
    /// When the server is asked next when it would like that.
    ask_at: SystemTime,
}

/// A name that shall have a certificate, and who says when that is decided.
struct Wanted {
    name: String,
    decided: watch::Sender<()>,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Acme {
    /// With what is on disk.
    pub(in crate::https) fn new(config: AcmeConfig, manner: &Manner) -> Result<Self, BuildError> {
        let client = Client::new(&config)?;
        let disk = Arc::new(Disk::open(&config.state, &config.server)?);
        let (wanted, orders) = mpsc::channel(MOST_ORDERS);
        let this = Self {
            client,
            manner: manner.clone(),
            challenges: Challenges::default(),
            held: RwLock::default(),
            account: tokio::sync::Mutex::new(None),
            attempts: Mutex::new(Attempts::new(Instant::now())),
            running: Mutex::default(),
            wanted,
            orders: Mutex::new(Some(orders)),
            at_once: Semaphore::new(ORDERS_AT_ONCE),
            waiting: Semaphore::new(MOST_WAITING),
            way: Mutex::new(Way::Tls),
            routes: OnceLock::new(),
            spread: RandomState::new(),
            to_ask: Notify::new(),
            to_renew: Notify::new(),
            config,
            disk,
        };
        let kept = this.disk.load().map_err(|error| BuildError::File {
            path: this.config.state.clone(),
            setting: "acme, --acme-dir",
            reason: error.to_string(),
        })?;
        for (path, identity) in kept {
            this.take_from_disk(&path, identity);
        }
        Ok(this)
    }

    fn take_from_disk(&self, path: &Path, identity: Result<TlsIdentity, BuildError>) {
        let certificate = identity
            .map_err(|error| error.to_string())
            .and_then(|identity| Certificate::new(identity, &self.manner).map_err(|why| why.0));
        match certificate {
            // It was ordered for one name, and is under that.
            Ok(certificate) if let Some(name) = certificate.names().first().cloned() => {
                self.hold(name, certificate);
            }
            Ok(_) => {}
            Err(error) => {
                let path = path.display();
                tracing::warn!(%error, "{path} is of no use and is left out; another one is ordered when it is needed");
            }
        }
    }

    pub(in crate::https) fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// All certificates there are.
    pub(in crate::https) fn certificates(&self) -> Vec<Arc<Certificate>> {
        self.held.read().values().map(|held| Arc::clone(&held.certificate)).collect()
    }

    /// The certificate for a host in lower case, if there is one that is still good.
    pub(in crate::https) fn find(&self, host: &str) -> Option<Arc<Certificate>> {
        let held = self.held.read();
        let found = held.get(host).or_else(|| {
            let (_, under) = host.split_once('.')?;
            held.get(&format!("*.{under}"))
        })?;
        let is_good = SystemTime::now() < found.certificate.valid.not_after;
        is_good.then(|| Arc::clone(&found.certificate))
    }

    /// Orders a certificate for a host that somebody has registered, and waits for it for a while. When others
    /// have failed not long ago, or too many are wanted, there is none.
    pub(in crate::https) async fn obtain(&self, host: &str) -> Option<Arc<Certificate>> {
        if !is_public(host) {
            return None;
        }
        let _seat = self.waiting.try_acquire().ok()?;
        let principal = self.routes.get().and_then(|routes| routes.principal_of(host));
        let why = Why::First { principal: principal.as_deref().unwrap_or_default() };
        let mut decided = self.begin(&self.name_for(host), why)?;
        let _ = timeout(VISITOR_WAITS, decided.changed()).await;
        self.find(host)
    }

    /// What is ordered for a host.
    fn name_for(&self, host: &str) -> String {
        match (&self.config.dns_hook, &self.config.domain) {
            (Some(_), Some(domain)) if host.split_once('.').is_some_and(|(_, of)| of == domain) => {
                format!("*.{domain}")
            }
            _ => host.to_owned(),
        }
    }

    fn begin(&self, name: &str, why: Why<'_>) -> Option<watch::Receiver<()>> {
        let mut running = self.running.lock();
        if let Some(decided) = running.get(name) {
            return Some(decided.clone());
        }
        let has_room = running.len() < MOST_ORDERS;
        if !has_room || !self.attempts.lock().take(name, why, Instant::now()) {
            return None;
        }
        let (decided, receiver) = watch::channel(());
        // There is room for as many as may run.
        self.wanted.try_send(Wanted { name: name.to_owned(), decided }).ok()?;
        running.insert(name.to_owned(), receiver.clone());
        Some(receiver)
    }

    /// Carries orders out and renews what is due, for as long as it is polled. Hosts that nobody has registered
    /// any more are not renewed.
    pub(in crate::https) async fn run(self: Arc<Self>, routes: Arc<dyn Routes>) {
        let Some(mut wanted) = self.orders.lock().take() else { return };
        let routes = self.routes.get_or_init(|| routes);
        tokio::select! {
            () = Arc::clone(&self).keep_ordering(&**routes, &mut wanted) => {}
            () = self.keep_asking(&**routes) => {}
        }
    }

    async fn keep_ordering(
        self: Arc<Self>,
        routes: &dyn Routes,
        wanted: &mut mpsc::Receiver<Wanted>,
    ) {
        let mut orders = JoinSet::new();
        loop {
            self.forget(routes, SystemTime::now()).await;
            for name in self.due(routes, SystemTime::now()) {
                self.begin(&name, Why::Renewal);
            }
            tokio::select! {
                Some(wanted) = wanted.recv() => {
                    orders.spawn(Arc::clone(&self).carry_out(wanted));
                }
                Some(_) = orders.join_next() => {}
                () = sleep(self.pause(SystemTime::now())) => {}
                () = self.to_renew.notified() => {}
            }
        }
    }

    /// Asks the server when it would like each certificate to be renewed (RFC 9773): about one at a time.
    async fn keep_asking(&self, routes: &dyn Routes) {
        loop {
            let now = SystemTime::now();
            let next = {
                let held = self.held.read();
                let wanted = held.iter().filter(|(name, held)| {
                    held.certificate.number.is_some() && is_wanted(routes, name)
                });
                wanted.min_by_key(|(_, held)| held.ask_at).map(|(name, held)| {
                    (name.clone(), held.ask_at.duration_since(now).unwrap_or_default())
                })
            };
            match next {
                Some((name, Duration::ZERO)) => self.ask(&name).await,
                next => {
                    let pause = next.map_or(LOOK_EVERY, |(_, pause)| pause.min(LOOK_EVERY));
                    let _ = timeout(pause, self.to_ask.notified()).await;
                }
            }
        }
    }

    async fn ask(&self, name: &str) {
        let asked = self.held.read().get(name).map(|held| Arc::clone(&held.certificate));
        let Some(certificate) = asked else { return };
        let Some(number) = &certificate.number else { return };
        let (issuer, serial) = (Der::from_slice(&number.issuer), Der::from_slice(&number.serial));
        let id = CertificateIdentifier::new(issuer, serial);
        let answer = match self.account().await {
            Ok(account) => account.renewal_info(&id).await.map_err(Fault::from),
            Err(fault) => Err(fault),
        };
        let now = SystemTime::now();
        let mut held = self.held.write();
        // There may be another one by now.
        let same = |held: &&mut Held| Arc::ptr_eq(&held.certificate, &certificate);
        let Some(held) = held.get_mut(name).filter(same) else { return };
        match answer {
            Ok((info, pause)) => {
                held.ask_at = now + ask_after(pause);
                let window = info.suggested_window;
                let window = SystemTime::from(window.start)..SystemTime::from(window.end);
                if let Some(renew_at) = within(window, certificate.valid, self.spread(name)) {
                    held.renew_at = renew_at;
                    self.to_renew.notify_one();
                    let seconds = renew_at.duration_since(now).unwrap_or_default().as_secs();
                    tracing::debug!(%name, seconds, "the ACME server says when it would like a renewal");
                }
            }
            // It stays with the time that is known.
            Err(Fault::Server(instant_acme::Error::Unsupported(_))) => {
                held.ask_at = now + ASK_AT_LATEST;
            }
            Err(fault) => {
                held.ask_at = now + ASK_AFTER_FAULT;
                tracing::debug!(%name, error = %fault, "the ACME server does not say when to renew");
            }
        }
    }

    /// Names for which there should be another certificate by now.
    fn due(&self, routes: &dyn Routes, now: SystemTime) -> Vec<String> {
        let held = self.held.read();
        let renewals = held.iter().filter(|(_, held)| held.renew_at <= now).map(|(name, _)| name);
        let mut due: Vec<String> =
            renewals.filter(|name| is_wanted(routes, name)).cloned().collect();
        if let (Some(_), Some(domain)) = (&self.config.dns_hook, &self.config.domain) {
            let star = format!("*.{domain}");
            if !held.contains_key(&star) {
                due.push(star);
            }
        }
        due
    }

    /// Certificates that have ended and that nobody misses, so that hosts that come and go leave nothing behind.
    async fn forget(&self, routes: &dyn Routes, now: SystemTime) {
        let mut gone = Vec::new();
        self.held.write().retain(|name, held| {
            let is_kept = now < held.certificate.valid.not_after || is_wanted(routes, name);
            if !is_kept {
                gone.push(name.clone());
            }
            is_kept
        });
        for name in gone {
            let what = name.clone();
            if let Err(error) = off(&self.disk, move |disk| disk.forget_certificate(&what)).await {
                tracing::warn!(%name, %error, "a certificate that has ended stays on disk");
            }
        }
    }

    /// Until something may be due.
    fn pause(&self, now: SystemTime) -> Duration {
        let held = self.held.read();
        // What is due already has been tried, or nobody wants it at present.
        let ahead = held.values().filter_map(|held| held.renew_at.duration_since(now).ok());
        ahead.min().unwrap_or(LOOK_EVERY).clamp(LOOK_AGAIN, LOOK_EVERY)
    }

    async fn carry_out(self: Arc<Self>, wanted: Wanted) {
        let name = wanted.name.clone();
        let _over = Over { acme: &self, wanted };
        // Nobody closes it.
        let Ok(_place) = self.at_once.acquire().await else { return };
        match self.order(&name).await {
            Ok(expires) => {
                self.attempts.lock().succeeded(&name);
                let days = expires.duration_since(SystemTime::now()).unwrap_or_default().as_secs()
                    / 86_400;
                tracing::info!(%name, days, "the ACME server issued a certificate");
            }
            Err(fault) => {
                if fault.is_without_account() {
                    self.forget_account().await;
                }
                let is_limit = fault.is_rate_limit();
                let again = self.attempts.lock().failed(&name, Instant::now(), is_limit);
                tracing::warn!(%name, error = %fault, "no certificate from the ACME server; tried again in {again:?} at the earliest");
            }
        }
    }

    /// The server does not know it any more: the next order begins with another one.
    async fn forget_account(&self) {
        *self.account.lock().await = None;
        if let Err(error) = off(&self.disk, |disk| disk.forget_account()).await {
            tracing::warn!(%error, "the account of the ACME server stays on disk, though it is gone");
        }
    }

    async fn account(&self) -> Result<Account, Fault> {
        let mut known = self.account.lock().await;
        match &*known {
            Some(account) => Ok(account.clone()),
            None => {
                Ok(known.insert(account(&self.config, &self.client, &self.disk).await?).clone())
            }
        }
    }

    async fn order(&self, name: &str) -> Result<SystemTime, Fault> {
        let account = self.account().await?;
        let dns_hook = self.config.dns_hook.as_deref();
        let means = Means { challenges: &self.challenges, manner: &self.manner, dns_hook };
        let ways = match *self.way.lock() {
            _ if name.starts_with("*.") => [Some(Way::Dns), None],
            Way::Http => [Some(Way::Http), Some(Way::Tls)],
            Way::Tls | Way::Dns => [Some(Way::Tls), Some(Way::Http)],
        };
        let mut fault = Fault::NoWay(name.to_owned());
        for way in ways.into_iter().flatten() {
            match order(&account, name, way, &means).await {
                Ok(issued) => {
                    *self.way.lock() = way;
                    return self.keep(name, issued).await;
                }
                Err(why @ (Fault::NotOurs(..) | Fault::NoWay(_))) => {
                    tracing::debug!(%name, ?way, error = %why, "not by this way");
                    fault = why;
                }
                Err(why) => return Err(why),
            }
        }
        Err(fault)
    }

    async fn keep(&self, name: &str, issued: Issued) -> Result<SystemTime, Fault> {
        let Issued { chain, key } = issued;
        let unusable = |error: rustls_pki_types::pem::Error| Fault::Unusable(error.to_string());
        let certificates = CertificateDer::pem_slice_iter(chain.as_bytes());
        let identity = TlsIdentity {
            chain: certificates.collect::<Result<_, _>>().map_err(unusable)?,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unusable)?,
        };
        let made = Certificate::new(identity, &self.manner);
        let certificate = made.map_err(|why| Fault::Unusable(why.0))?;
        let expires = certificate.valid.not_after;
        // In use even if it cannot be kept: another order would not help the disk.
        self.hold(name.to_owned(), certificate);
        let name = name.to_owned();
        off(&self.disk, move |disk| disk.keep_certificate(&name, &chain, &key)).await?;
        Ok(expires)
    }

    fn hold(&self, name: String, certificate: Certificate) {
        let renew_at = renewal(certificate.valid, self.spread(&name));
        let ask_at = SystemTime::now();
        let held = Held { certificate: Arc::new(certificate), renew_at, ask_at };
        self.held.write().insert(name, held);
        self.to_ask.notify_one();
    }

    /// Where in a span of time it is renewed.
    fn spread(&self, name: &str) -> u16 {
        (self.spread.hash_one(name) & u64::from(u16::MAX)) as u16
    }
}

/// Whether a certificate that has ended would be missed.
fn is_wanted(routes: &dyn Routes, name: &str) -> bool {
    name.starts_with("*.") || routes.has_host(name)
}

/// An order is over, however it ended.
struct Over<'a> {
    acme: &'a Acme,
    wanted: Wanted,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.acme.running.lock().remove(&self.wanted.name);
        self.wanted.decided.send_replace(());
    }
}

/// Whether anybody issues certificates for such a name at all; to ask would only use up what may be asked.
fn is_public(host: &str) -> bool {
    let last = host.rsplit_once('.').map(|(_, last)| last);
    last.is_some_and(|last| !["localhost", "local", "internal", "invalid"].contains(&last))
}

/// Orders at the same time: most of an order is waiting.
const ORDERS_AT_ONCE: usize = 4;

/// Names that may be wanted at once.
const MOST_ORDERS: usize = 256;

/// Visitors that wait for a certificate; each holds a socket and some KiB.
const MOST_WAITING: usize = 1_024;

/// An order takes seconds. Browsers wait a minute, and who leaves before finds the certificate later.
const VISITOR_WAITS: Duration = Duration::from_secs(45);

/// What is due is looked at that often at least: hosts come and go.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// What is due may have to wait for its turn.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_names_that_nobody_issues_certificates_for() {
        for host in ["app.example.com", "a.b"] {
            assert!(is_public(host), "{host}");
        }
        for host in ["localhost", "app", "app.localhost", "printer.local", ""] {
            assert!(!is_public(host), "{host}");
        }
    }
}
