//! Which tunnels are there, as their clients tell, and since when.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ferrotunnel::ClientEvent;
use parking_lot::{Condvar, Mutex};

/// A tunnel that is there, and since when.
pub(super) type Ready = (SocketAddr, Instant);

#[derive(Debug)]
pub(super) struct Roster {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The tunnels of each client.
    clients: Vec<Vec<Ready>>,
    ready: usize,
    faults: BTreeMap<String, u64>,
    setbacks: BTreeMap<String, u64>,
}

impl State {
    fn clear(&mut self, client: usize) {
        if let Some(tunnels) = self.clients.get_mut(client) {
            self.ready -= tunnels.len();
            tunnels.clear();
        }
    }

    fn fault(&mut self, text: String) {
        add(&mut self.faults, text);
    }

    fn all(&self) -> impl Iterator<Item = Ready> {
        self.clients.iter().flatten().copied()
    }
}

fn add(counts: &mut BTreeMap<String, u64>, text: String) {
    if counts.len() < KINDS || counts.contains_key(&text) {
        *counts.entry(text).or_default() += 1;
    }
}

impl Roster {
    pub(super) fn new(clients: usize) -> Self {
        let state = State {
            clients: vec![Vec::new(); clients],
            ready: 0,
            faults: BTreeMap::new(),
            setbacks: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// What a client has told.
    pub(super) fn tell(&self, client: usize, event: ClientEvent) {
        let now = Instant::now();
        let mut state = self.state.lock();
        match event {
            ClientEvent::TunnelReady(info) => {
                let addr = info.public_url.strip_prefix("tcp://").map(str::parse);
                match (addr, state.clients.get_mut(client)) {
                    (Some(Ok(addr)), Some(tunnels)) => {
                        tunnels.push((addr, now));
                        state.ready += 1;
                    }
                    _ => state.fault(format!("{} is no address", info.public_url)),
                }
                self.changed.notify_all();
            }
            // A session that comes and goes begins anew.
            ClientEvent::Disconnected { reason, .. } => {
                state.clear(client);
                add(&mut state.setbacks, reason);
            }
            ClientEvent::TunnelLost { reason, .. } => state.fault(reason),
            ClientEvent::Ended { reason } => {
                state.clear(client);
                state.fault(reason.unwrap_or_else(|| "a client has ended".to_owned()));
            }
            _ => {}
        }
    }

    pub(super) fn fault(&self, text: String) {
        self.state.lock().fault(text);
    }

    pub(super) fn faults(&self) -> BTreeMap<String, u64> {
        self.state.lock().faults.clone()
    }

    /// Why sessions ended, or did not begin, and were tried again.
    pub(super) fn setbacks(&self) -> BTreeMap<String, u64> {
        self.state.lock().setbacks.clone()
    }

    /// From now on no tunnel is there; says where they were.
    pub(super) fn forget(&self) -> HashSet<SocketAddr> {
        let mut state = self.state.lock();
        let before = state.all().map(|(addr, _)| addr).collect();
        state.clients.iter_mut().for_each(Vec::clear);
        state.ready = 0;
        before
    }

    /// The tunnels that are there, in the order in which they came.
    pub(super) fn ready(&self) -> Vec<Ready> {
        let mut ready: Vec<_> = self.state.lock().all().collect();
        ready.sort_unstable_by_key(|(_, at)| *at);
        ready
    }

    /// Waits until so many are there, or none came for that long.
    pub(super) fn wait(&self, count: usize, patience: Duration) -> Vec<Ready> {
        let mut state = self.state.lock();
        let mut give_up = Instant::now() + patience;
        let mut most = state.ready;
        while state.ready < count {
            if self.changed.wait_until(&mut state, give_up).timed_out() {
                break;
            }
            // Those that come and go are no progress.
            if state.ready > most {
                most = state.ready;
                give_up = Instant::now() + patience;
            }
        }
        drop(state);
        self.ready()
    }
}

/// Kinds told apart.
const KINDS: usize = 16;
