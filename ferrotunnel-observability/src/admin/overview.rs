//! A process at one glance: for the admin interface, and for whoever else shows it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ferrotunnel_inspector::Inspector;
use parking_lot::RwLock;
use serde::Serialize;

use super::Phase;
use super::client::WatchedClient;
use super::house::{Counts, House};
use super::server::ServerHouse;
use super::shapes::{Build, Session, Status, Tunnel, unix_millis};
use crate::metrics::ServerMetrics;

/// What a server or a client is and has at the moment.
#[derive(Debug)]
pub struct Overview {
    pub(super) house: Box<dyn House>,
    /// Who sees requests pass, if anybody does.
    pub(super) inspector: Option<Inspector>,
    phase: RwLock<Phase>,
    config_file: Option<String>,
    began: Instant,
    began_at: SystemTime,
}

/// All of it, as somebody at a terminal wants it.
#[derive(Serialize)]
struct Everything {
    status: Status,
    sessions: Vec<Session>,
    tunnels: Vec<Tunnel>,
}

impl Overview {
    /// Of the server that these metrics watch. It is in the phase [`Starting`](Phase::Starting).
    pub fn of_server(
        metrics: ServerMetrics,
        inspector: Option<Inspector>,
        config_file: Option<PathBuf>,
    ) -> Arc<Self> {
        Self::of(Box::new(ServerHouse(metrics)), inspector, config_file)
    }

    /// Of a client. It is ready when every tunnel is registered at a server.
    pub fn of_client(
        client: WatchedClient,
        inspector: Option<Inspector>,
        config_file: Option<PathBuf>,
    ) -> Arc<Self> {
        Self::of(Box::new(client), inspector, config_file)
    }

    fn of(
        house: Box<dyn House>,
        inspector: Option<Inspector>,
        config_file: Option<PathBuf>,
    ) -> Arc<Self> {
        Arc::new(Self {
            house,
            inspector,
            phase: RwLock::new(Phase::Starting),
            config_file: config_file.map(|path| path.display().to_string()),
            began: Instant::now(),
            began_at: SystemTime::now(),
        })
    }

    /// The process has come to another phase.
    pub fn set_phase(&self, phase: Phase) {
        *self.phase.write() = phase;
    }

    /// Status, sessions and tunnels as the admin interface answers them, in one JSON object.
    pub fn to_json(&self) -> String {
        let everything = Everything {
            status: self.status(),
            sessions: self.house.sessions().sessions,
            tunnels: self.house.tunnels().tunnels,
        };
        // Nothing in it has keys that are no text.
        serde_json::to_string(&everything).unwrap_or_default()
    }

    pub(super) fn phase(&self) -> Phase {
        self.house.phase(*self.phase.read())
    }

    pub(super) fn status(&self) -> Status {
        let Counts { sessions, tunnels, streams } = self.house.counts();
        Status {
            side: self.house.side(),
            version: env!("CARGO_PKG_VERSION"),
            phase: self.phase().as_str(),
            uptime_seconds: self.began.elapsed().as_secs_f64(),
            started_at: unix_millis(self.began_at),
            sessions,
            tunnels,
            streams,
            inspecting: self.inspector.is_some(),
            build: Build::here(),
            config_file: self.config_file.clone(),
        }
    }
}
