//! What is common to the metrics of servers and clients.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ferrotunnel_core::StreamResets;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::plugin_times::PluginTimes;
use crate::requests::Requests;

/// Where families are written.
pub(crate) struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    pub(crate) fn of(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub(crate) fn family<'s>(
        &'s mut self,
        name: &'s str,
        unit: Option<&'s Unit>,
        kind: MetricType,
        help: &'s str,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    /// What the program is.
    pub(crate) fn build(&mut self, name: &str) -> Result<(), fmt::Error> {
        let help = "The program: always 1.";
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        self.family(name, None, MetricType::Info, help)?.encode_info(&version)
    }

    /// The least, the median and the most of all carriers: clients and servers come and go, so none has a series of
    /// its own.
    pub(crate) fn round_trips(
        &mut self,
        name: &str,
        help: &str,
        times: impl Iterator<Item = Duration>,
    ) -> Result<(), fmt::Error> {
        let mut family = self.family(name, Some(&Unit::Seconds), MetricType::Gauge, help)?;
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        let marks = [("least", 0), ("median", times.len() / 2), ("most", times.len().max(1) - 1)];
        for (of, at) in marks {
            if let Some(time) = times.get(at) {
                gauge(&mut family, &[("of", of)], time.as_secs_f64())?;
            }
        }
        Ok(())
    }

    /// Streams that were broken off.
    pub(crate) fn resets(&mut self, name: &str, resets: &StreamResets) -> Result<(), fmt::Error> {
        let help = "Streams that were broken off, by who did it and the code that says why.";
        let mut family = self.family(name, None, MetricType::Counter, help)?;
        for (code, count) in resets.by_server() {
            counter(&mut family, &[("by", "server"), ("code", code)], count)?;
        }
        for (code, count) in resets.by_clients() {
            counter(&mut family, &[("by", "client"), ("code", code)], count)?;
        }
        Ok(())
    }

    /// Requests of HTTP tunnels, under names that begin with `prefix`.
    pub(crate) fn requests(&mut self, prefix: &str, requests: &Requests) -> Result<(), fmt::Error> {
        let help = "HTTP requests that are being answered.";
        self.family(&format!("{prefix}_http_requests_open"), None, MetricType::Gauge, help)?
            .encode_gauge(&requests.open())?;
        let by_tunnel = requests.by_tunnel.all();
        let help = "HTTP requests that were answered, or will not be.";
        let name = format!("{prefix}_http_requests");
        let mut family = self.family(&name, None, MetricType::Counter, help)?;
        for of in &by_tunnel {
            for (method, status, count) in of.counts() {
                let labels =
                    [("tunnel", of.tunnel.as_str()), ("method", method), ("status", status)];
                counter(&mut family, &labels, count)?;
            }
        }
        let help = "From the head of a request to the head of its answer.";
        let name = &format!("{prefix}_http_time_to_first_byte");
        let mut family = self.family(name, Some(&Unit::Seconds), MetricType::Histogram, help)?;
        for of in by_tunnel.iter().filter(|of| !of.first_byte.is_empty()) {
            of.first_byte.encode(&mut family.encode_family(&[("tunnel", of.tunnel.as_str())])?)?;
        }
        let help = "From the head of a request to the last byte of its answer.";
        let name = &format!("{prefix}_http_request_duration");
        let mut family = self.family(name, Some(&Unit::Seconds), MetricType::Histogram, help)?;
        for of in by_tunnel.iter().filter(|of| !of.duration.is_empty()) {
            of.duration.encode(&mut family.encode_family(&[("tunnel", of.tunnel.as_str())])?)?;
        }
        Ok(())
    }

    /// The time of plugins.
    pub(crate) fn plugins(&mut self, prefix: &str, times: &PluginTimes) -> Result<(), fmt::Error> {
        let all = times.all();
        let help = "Time that a plugin took in its phases, whatever it waited for included.";
        let name = format!("{prefix}_plugin");
        let mut family = self.family(&name, Some(&Unit::Seconds), MetricType::Counter, help)?;
        for of in &all {
            let seconds = of.spent().as_secs_f64();
            let labels = [("plugin", of.plugin.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
        }
        let help = "Phases that a plugin has had.";
        let name = format!("{prefix}_plugin_phases");
        let mut family = self.family(&name, None, MetricType::Counter, help)?;
        for of in &all {
            let phases = of.phases.load(Ordering::Relaxed);
            counter(&mut family, &[("plugin", of.plugin.as_str())], phases)?;
        }
        Ok(())
    }
}

pub(crate) fn counter(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    count: u64,
) -> Result<(), fmt::Error> {
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)
}

pub(crate) fn gauge(
    family: &mut MetricEncoder<'_>,
    labels: &[(&str, &str)],
    value: impl EncodeGaugeValue + Copy,
) -> Result<(), fmt::Error> {
    family.encode_family(&labels)?.encode_gauge(&value)
}
