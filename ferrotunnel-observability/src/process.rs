//! The process, under the names that everybody uses for it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

/// Memory, descriptors, processor time and start of the process. What the system does not tell is left out; at present
/// only Linux does.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessMetrics(());

impl ProcessMetrics {
    /// Puts them into a registry; once is enough for a process.
    pub fn register(self, registry: &mut Registry) {
        registry.register_collector(Box::new(self));
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        system::encode(encoder)
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::fmt;
    use std::fs;

    use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
    use prometheus_client::metrics::MetricType;
    use prometheus_client::registry::Unit;

    pub(super) fn encode(mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let help = "Processor time used by the process, in user mode and in the kernel.";
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
        }
        let mut gauge = |name, unit: Option<&Unit>, help, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
        };
        gauge(
            "process_resident_memory",
            Some(&Unit::Bytes),
            "Memory of the process that is in RAM.",
            resident_bytes(),
        )?;
        gauge("process_open_fds", None, "Descriptors that are open.", open_descriptors())?;
        gauge(
            "process_max_fds",
            None,
            "Descriptors that may be open at most.",
            most_descriptors(),
        )?;
        gauge(
            "process_start_time",
            Some(&Unit::Seconds),
            "When the process started, in seconds since 1970.",
            start_time(),
        )
    }

    /// Field `number` of `/proc/self/stat`, as proc(5) counts them; from the third on, for the second may contain anything.
    fn stat(number: usize) -> Option<f64> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
    }

    fn ticks_per_second() -> f64 {
        rustix::param::clock_ticks_per_second() as f64
    }

    fn cpu_seconds() -> Option<f64> {
        Some((stat(14)? + stat(15)?) / ticks_per_second())
    }

    fn resident_bytes() -> Option<f64> {
        Some(stat(24)? * rustix::param::page_size() as f64)
    }

    fn start_time() -> Option<f64> {
        let of_system = fs::read_to_string("/proc/stat").ok()?;
        let boot = of_system.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(boot.trim().parse::<f64>().ok()? + stat(22)? / ticks_per_second())
    }

    fn open_descriptors() -> Option<f64> {
        // One of them is for the look itself.
        let open = fs::read_dir("/proc/self/fd").ok()?.count().checked_sub(1)?;
        Some(open as f64)
    }

    fn most_descriptors() -> Option<f64> {
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use prometheus_client::encoding::DescriptorEncoder;

    pub(super) fn encode(_: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}
