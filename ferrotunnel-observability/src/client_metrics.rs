//! A client's counters as metrics.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ferrotunnel_common::TunnelKind;
use ferrotunnel_core::client::{
    CarrierState, ClientReader, ClientReadings, ClientTunnelReading, LocalHealth, TunnelState,
};
use ferrotunnel_inspector::Inspector;
use ferrotunnel_plugin::{PluginMeter, RequestMeter};
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::families::{Families, counter, gauge};
use crate::plugin_times::PluginTimes;
use crate::requests::Requests;

/// What one client counts. It is cheap to clone; clones share the counts.
///
/// A client fills it, and any registry shows it, also one that shows a server besides. A second client takes one of its
/// own.
#[derive(Clone, Debug, Default)]
pub struct ClientMetrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    plugins: Arc<PluginTimes>,
    watched: RwLock<Option<ClientReader>>,
    requests: Arc<Requests>,
    /// Who sees requests pass, if anybody does.
    inspector: OnceLock<Inspector>,
}

impl ClientMetrics {
    /// Puts the metrics into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Who counts the time of plugins for it.
    pub fn plugin_meter(&self) -> Arc<dyn PluginMeter> {
        Arc::clone(&self.0.plugins) as Arc<dyn PluginMeter>
    }

    /// From now on it counts the requests that this one sees. Only the first call counts.
    pub fn count_seen_by(&self, inspector: &Inspector) {
        let is_first = self.0.inspector.set(inspector.clone()).is_ok();
        if is_first {
            inspector.count_with(Arc::clone(&self.0.requests) as Arc<dyn RequestMeter>);
        }
    }

    /// Requests of HTTP tunnels; `None` where nobody sees any.
    pub(crate) fn requests(&self) -> Option<&Requests> {
        self.0.inspector.get().map(|_| self.0.requests.as_ref())
    }

    /// From now on it reads that client.
    pub fn watch(&self, client: ClientReader) {
        *self.0.watched.write() = Some(client);
    }

    /// What the client has and counts now; `None` while there is none.
    pub fn readings(&self) -> Option<ClientReadings> {
        self.0.watched.read().as_ref()?.read()
    }
}

impl Collector for ClientMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families::of(encoder);
        families.build("ferrotunnel_client_build")?;
        if let Some(readings) = self.readings() {
            families.carriers(&readings)?;
            families.tunnels(&readings.tunnels)?;
            families.traffic(&readings)?;
        }
        if let Some(inspector) = self.0.inspector.get() {
            families.requests("ferrotunnel_client", &self.0.requests)?;
            families.lost_sight(inspector.lost_sight())?;
        }
        families.plugins("ferrotunnel_client", &self.0.plugins)
    }
}

impl Families<'_> {
    fn carriers(&mut self, readings: &ClientReadings) -> Result<(), fmt::Error> {
        let carriers = &readings.carriers;
        let help = "Sessions at present, those that drain among them.";
        let sessions = carriers.iter().filter(|carrier| carrier.session.is_some()).count();
        self.family("ferrotunnel_client_sessions", None, MetricType::Gauge, help)?
            .encode_gauge(&sessions)?;

        let help = "Connections to servers that there should be, and those that drain.";
        let name = "ferrotunnel_client_carriers";
        let mut family = self.family(name, None, MetricType::Gauge, help)?;
        let mut servers: Vec<&str> = Vec::new();
        for carrier in carriers {
            if !servers.contains(&carrier.server.as_str()) {
                servers.push(&carrier.server);
            }
        }
        for server in servers {
            for state in [CarrierState::Up, CarrierState::Down, CarrierState::Draining] {
                let is_one = |carrier: &&_| is_at(carrier, server, state);
                let count = carriers.iter().filter(is_one).count();
                gauge(&mut family, &[("server", server), ("state", state.as_str())], count)?;
            }
        }

        let help = "Tasks of the client's runtimes that have not ended.";
        self.family("ferrotunnel_client_tasks", None, MetricType::Gauge, help)?
            .encode_gauge(&readings.tasks)?;

        let help = "Sessions that took the place of one that was lost.";
        self.family("ferrotunnel_client_reconnects", None, MetricType::Counter, help)?
            .encode_counter::<NoLabelSet, _, f64>(&readings.reconnects, None)?;

        let help = "Attempts to have a session that failed, by why.";
        let name = "ferrotunnel_client_attempts_failed";
        let mut family = self.family(name, None, MetricType::Counter, help)?;
        for (reason, count) in &readings.attempts_failed {
            counter(&mut family, &[("reason", reason.as_str())], *count)?;
        }

        let help = "Round trip to servers, over all sessions of the moment.";
        let times = carriers.iter().filter_map(|carrier| carrier.round_trip);
        self.round_trips("ferrotunnel_client_carrier_round_trip", help, times)
    }

    fn tunnels(&mut self, tunnels: &[ClientTunnelReading]) -> Result<(), fmt::Error> {
        let help = "Tunnels that the client wants, by how they stand.";
        let name = "ferrotunnel_client_tunnels";
        let mut family = self.family(name, None, MetricType::Gauge, help)?;
        for kind in [TunnelKind::Http, TunnelKind::Tcp, TunnelKind::Udp, TunnelKind::Tls] {
            for state in TunnelState::ALL {
                let is_one = |it: &&ClientTunnelReading| it.kind == kind && it.state == state;
                let count = tunnels.iter().filter(is_one).count();
                let labels = [("kind", kind.as_str()), ("state", state.as_str())];
                gauge(&mut family, &labels, count)?;
            }
        }
        let help = "Local services that are looked after, by what their checks say.";
        let name = "ferrotunnel_client_local_services";
        let mut family = self.family(name, None, MetricType::Gauge, help)?;
        for health in [LocalHealth::Up, LocalHealth::Down] {
            let count = tunnels.iter().filter(|tunnel| tunnel.health == Some(health)).count();
            gauge(&mut family, &[("health", health.as_str())], count)?;
        }
        Ok(())
    }

    fn lost_sight(&mut self, count: u64) -> Result<(), fmt::Error> {
        let help = "How often HTTP requests went by uncounted: the rest of a connection, or one beyond those that are followed at once.";
        self.family("ferrotunnel_client_http_lost_sight", None, MetricType::Counter, help)?
            .encode_counter::<NoLabelSet, _, f64>(&count, None)
    }

    fn traffic(&mut self, readings: &ClientReadings) -> Result<(), fmt::Error> {
        let help =
            "Streams of visitors that are open, those with a carrier to themselves among them.";
        let mut family =
            self.family("ferrotunnel_client_streams", None, MetricType::Gauge, help)?;
        for totals in &readings.totals {
            gauge(&mut family, &[("kind", totals.kind.as_str())], totals.streams)?;
        }
        let help = "Streams that were opened for visitors.";
        let name = "ferrotunnel_client_streams_opened";
        let mut family = self.family(name, None, MetricType::Counter, help)?;
        for totals in &readings.totals {
            counter(&mut family, &[("kind", totals.kind.as_str())], totals.streams_opened)?;
        }
        let help =
            "Bytes of visitors that went through tunnels: in is from visitors, out is to them.";
        let name = "ferrotunnel_client_tunnel";
        let mut family = self.family(name, Some(&Unit::Bytes), MetricType::Counter, help)?;
        for totals in &readings.totals {
            for (direction, bytes) in [("in", totals.bytes_in), ("out", totals.bytes_out)] {
                let labels = [("kind", totals.kind.as_str()), ("direction", direction)];
                counter(&mut family, &labels, bytes)?;
            }
        }
        self.resets("ferrotunnel_client_streams_reset", &readings.resets)?;
        let help = "How often a stream that had used up all that the server had granted had to wait for more.";
        self.family("ferrotunnel_client_window_stalls", None, MetricType::Counter, help)?
            .encode_counter::<NoLabelSet, _, f64>(&readings.window_stalls, None)?;
        let help = "Visitors that did not get through to their local service, by why.";
        let name = "ferrotunnel_client_local_errors";
        let mut family = self.family(name, None, MetricType::Counter, help)?;
        for (reason, count) in &readings.local_errors {
            counter(&mut family, &[("reason", reason.as_str())], *count)?;
        }
        Ok(())
    }
}

fn is_at(
    carrier: &ferrotunnel_core::client::CarrierReading,
    server: &str,
    state: CarrierState,
) -> bool {
    carrier.server == server && carrier.state == state
}
