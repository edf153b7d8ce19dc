//! A server's counters as metrics.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use ferrotunnel_common::TunnelKind;
use ferrotunnel_core::{EngineControl, EngineReader, Readings, TurnedAway};
use ferrotunnel_plugin::{PluginMeter, RequestMeter};
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::families::{Families, counter, gauge};
use crate::plugin_times::PluginTimes;
use crate::requests::Requests;

/// What one server counts. It is cheap to clone; clones share the counts.
///
/// A server fills it, and any registry shows it. A second server takes one of its own.
#[derive(Clone, Debug, Default)]
pub struct ServerMetrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requests: Arc<Requests>,
    plugins: Arc<PluginTimes>,
    watched: RwLock<Option<Watched>>,
    #[cfg(feature = "otlp")]
    spans: RwLock<Option<Arc<crate::SpanCounts>>>,
}

/// A running server, as far as metrics are concerned.
pub struct Watched {
    /// Its engine.
    pub engine: EngineReader,
    /// What can be done to it.
    pub control: EngineControl,
    /// Certificates that it shows to visitors.
    pub certificates: Box<dyn Fn() -> Vec<Certificate> + Send + Sync>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// A certificate that is shown to visitors.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The hosts that it is for.
    pub names: Vec<String>,
    /// Its end.
    pub not_after: SystemTime,
}

impl ServerMetrics {
    /// Puts the metrics into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Who counts requests for it.
    pub fn meter(&self) -> Arc<dyn RequestMeter> {
        Arc::clone(&self.0.requests) as Arc<dyn RequestMeter>
    }

    /// Who counts the time of plugins for it.
    pub fn plugin_meter(&self) -> Arc<dyn PluginMeter> {
        Arc::clone(&self.0.plugins) as Arc<dyn PluginMeter>
    }

    /// From now on it reads that server.
    pub fn watch(&self, server: Watched) {
        *self.0.watched.write() = Some(server);
    }

    /// Its engine, once it runs.
    pub(crate) fn engine(&self) -> Option<EngineReader> {
        self.0.watched.read().as_ref().map(|watched| watched.engine.clone())
    }

    /// What can be done to it, once it runs.
    pub(crate) fn control(&self) -> Option<EngineControl> {
        self.0.watched.read().as_ref().map(|watched| watched.control.clone())
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.0.requests
    }

    /// From now on it tells what became of those spans, too.
    #[cfg(feature = "otlp")]
    pub fn count_spans(&self, spans: Arc<crate::SpanCounts>) {
        *self.0.spans.write() = Some(spans);
    }

    /// What the server has and counts now; `None` while there is none.
    pub fn readings(&self) -> Option<Readings> {
        self.0.watched.read().as_ref()?.engine.read()
    }

    fn certificates(&self) -> Vec<Certificate> {
        self.0.watched.read().as_ref().map(|watched| (watched.certificates)()).unwrap_or_default()
    }
}

impl Collector for ServerMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut families = Families::of(encoder);
        families.build("ferrotunnel_build")?;
        if let Some(readings) = self.readings() {
            families.engine(&readings)?;
            families.limits(&readings.turned_away)?;
        }
        families.requests("ferrotunnel", &self.0.requests)?;
        families.refusals(&self.0.requests)?;
        families.plugins("ferrotunnel", &self.0.plugins)?;
        #[cfg(feature = "otlp")]
        if let Some(spans) = &*self.0.spans.read() {
            families.spans(spans)?;
        }
        families.certificates(&self.certificates())
    }
}

impl Families<'_> {
    fn engine(&mut self, readings: &Readings) -> Result<(), fmt::Error> {
        let help = "Sessions at present.";
        self.family("ferrotunnel_sessions", None, MetricType::Gauge, help)?
            .encode_gauge(&readings.sessions.len())?;

        let help = "Connections of clients by what became of them.";
        let mut family = self.family("ferrotunnel_handshakes", None, MetricType::Counter, help)?;
        for (result, count) in &readings.handshakes {
            counter(&mut family, &[("result", result.as_str())], *count)?;
        }

        let help = "Tunnels registered at present.";
        let mut family = self.family("ferrotunnel_tunnels", None, MetricType::Gauge, help)?;
        for kind in [TunnelKind::Http, TunnelKind::Tcp, TunnelKind::Udp, TunnelKind::Tls] {
            let count = readings.tunnels.iter().filter(|tunnel| tunnel.kind == kind).count();
            gauge(&mut family, &[("kind", kind.as_str())], count)?;
        }

        let named = || {
            readings.totals.iter().map(|totals| {
                ([("kind", totals.kind.as_str()), ("tunnel", totals.tunnel.as_str())], totals)
            })
        };
        let help =
            "Streams of visitors that are open, those with a carrier to themselves among them.";
        let mut family = self.family("ferrotunnel_streams", None, MetricType::Gauge, help)?;
        for (labels, totals) in named() {
            gauge(&mut family, &labels, totals.streams)?;
        }
        let help = "Streams that were opened for visitors.";
        let mut family =
            self.family("ferrotunnel_streams_opened", None, MetricType::Counter, help)?;
        for (labels, totals) in named() {
            counter(&mut family, &labels, totals.streams_opened)?;
        }
        let help =
            "Bytes of visitors that went through tunnels: in is from visitors, out is to them.";
        let mut family =
            self.family("ferrotunnel_tunnel", Some(&Unit::Bytes), MetricType::Counter, help)?;
        for ([kind, tunnel], totals) in named() {
            for (direction, bytes) in [("in", totals.bytes_in), ("out", totals.bytes_out)] {
                counter(&mut family, &[kind, tunnel, ("direction", direction)], bytes)?;
            }
        }

        self.resets("ferrotunnel_streams_reset", &readings.resets)?;

        let help = "Connections of clients that serve one visitor each, or wait for one.";
        let mut family =
            self.family("ferrotunnel_direct_carriers", None, MetricType::Gauge, help)?;
        gauge(&mut family, &[("state", "waiting")], readings.direct.waiting)?;
        gauge(&mut family, &[("state", "serving")], readings.direct.serving)?;
        let help = "How often a stream that had used up all that its client had granted had to wait for more.";
        let mut family =
            self.family("ferrotunnel_window_stalls", None, MetricType::Counter, help)?;
        family.encode_counter::<NoLabelSet, _, f64>(&readings.window_stalls, None)?;
        let help = "Tasks of the server's runtimes that have not ended.";
        self.family("ferrotunnel_tasks", None, MetricType::Gauge, help)?
            .encode_gauge(&readings.tasks)?;

        let help = "Round trip to clients, over all sessions of the moment.";
        let times = readings.sessions.iter().filter_map(|session| session.round_trip);
        self.round_trips("ferrotunnel_carrier_round_trip", help, times)
    }

    fn limits(&mut self, met: &TurnedAway) -> Result<(), fmt::Error> {
        let help = "How often a limit of the server was met.";
        let mut family = self.family("ferrotunnel_limits_hit", None, MetricType::Counter, help)?;
        let counts = [
            ("handshakes-delayed", met.handshakes_delayed),
            ("handshakes-refused", met.handshakes_refused),
            ("handshakes-in-flight", met.handshakes_waiting),
            ("sessions", met.sessions),
            ("sessions-per-principal", met.sessions_of_principals),
            ("tunnels-per-session", met.tunnels_of_sessions),
            ("tunnels-per-principal", met.tunnels_of_principals),
            ("streams-per-session", met.streams_of_sessions),
            ("streams-per-principal", met.streams_of_principals),
            ("visitors", met.visitors),
            ("visitors-per-tunnel", met.visitors_of_tunnels),
            ("visitors-per-address", met.visitors_of_addresses),
            ("paused", met.visitors_of_paused),
            ("streams-per-second", met.streams_too_fast),
            ("bytes-per-second", met.pauses),
            ("receive-memory", met.memory),
            ("receive-memory-per-session", met.memory_of_sessions),
        ];
        for (limit, count) in counts {
            counter(&mut family, &[("limit", limit)], count)?;
        }
        Ok(())
    }

    fn refusals(&mut self, requests: &Requests) -> Result<(), fmt::Error> {
        let help = "HTTP requests that the server answered itself, by the kind that it said.";
        let mut family =
            self.family("ferrotunnel_http_refusals", None, MetricType::Counter, help)?;
        for (kind, count) in requests.refusals.read().iter() {
            counter(&mut family, &[("kind", *kind)], count.load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    #[cfg(feature = "otlp")]
    fn spans(&mut self, spans: &crate::SpanCounts) -> Result<(), fmt::Error> {
        let help = "Spans of traces: those that were sent, those for which there was no room in the queue, and those \
                    that the receiver has not taken.";
        let mut family = self.family("ferrotunnel_spans", None, MetricType::Counter, help)?;
        counter(&mut family, &[("result", "sent")], spans.sent())?;
        counter(&mut family, &[("result", "no-room")], spans.no_room())?;
        counter(&mut family, &[("result", "not-taken")], spans.not_taken())
    }

    fn certificates(&mut self, certificates: &[Certificate]) -> Result<(), fmt::Error> {
        let help = "When the certificate that is shown for a host ends, in seconds since 1970.";
        let name = "ferrotunnel_certificate_expiry_timestamp";
        let mut family = self.family(name, Some(&Unit::Seconds), MetricType::Gauge, help)?;
        let mut earliest: Vec<(&str, f64)> = Vec::new();
        for certificate in certificates {
            let since = certificate.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
            if certificate.names.is_empty() {
                // It is shown to who asks for nobody in particular.
                earliest.push(("", since.as_secs_f64()));
            }
            for name in &certificate.names {
                earliest.push((name, since.as_secs_f64()));
            }
        }
        // A host may have several; the one that ends first is the one to know of.
        earliest.sort_by(|(one, at), (other, then)| one.cmp(other).then(at.total_cmp(then)));
        earliest.dedup_by(|later, earlier| later.0 == earlier.0);
        // Where there are too many, those that end last are left out.
        earliest.sort_by(|(_, at), (_, then)| at.total_cmp(then));
        for (host, at) in earliest.into_iter().take(MOST_HOSTS) {
            family.encode_family(&[("host", host)])?.encode_gauge(&at)?;
        }
        Ok(())
    }
}

/// Hosts whose certificates are shown, those first that end first.
const MOST_HOSTS: usize = 500;
