//! How long plugins take, by name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferrotunnel_core::{Capped, Counts, OTHER};
use ferrotunnel_plugin::PluginMeter;

/// The time of all plugins.
pub(crate) struct PluginTimes(Capped<OfPlugin>);

/// That of one.
pub(crate) struct OfPlugin {
    pub(crate) plugin: String,
    nanos: AtomicU64,
    pub(crate) phases: AtomicU64,
}

impl fmt::Debug for PluginTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginTimes").finish_non_exhaustive()
    }
}

impl Default for PluginTimes {
    fn default() -> Self {
        Self(Capped::new(MOST_PLUGINS))
    }
}

impl PluginTimes {
    /// Those that have had a phase.
    pub(crate) fn all(&self) -> Vec<Arc<OfPlugin>> {
        let mut all = self.0.all();
        all.retain(|of| of.plugin != OTHER || of.phases.load(Ordering::Relaxed) > 0);
        all
    }
}

impl PluginMeter for PluginTimes {
    fn spent(&self, plugin: &str, took: Duration) {
        let of = self.0.of(plugin);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        of.nanos.fetch_add(nanos, Ordering::Relaxed);
        of.phases.fetch_add(1, Ordering::Relaxed);
    }
}

impl OfPlugin {
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

impl Counts for OfPlugin {
    fn named(name: &str) -> Self {
        Self { plugin: name.to_owned(), nanos: AtomicU64::new(0), phases: AtomicU64::new(0) }
    }

    fn is_idle(&self) -> bool {
        // Plugins have few names, and keep them.
        false
    }

    fn add_to(&self, other: &Self) {
        let pairs = [(&self.nanos, &other.nanos), (&self.phases, &other.phases)];
        for (mine, sum) in pairs {
            sum.fetch_add(mine.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Plugins that have series of their own: more than anybody has, and a bound for one that makes names up.
const MOST_PLUGINS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_makes_names_up_makes_no_more_series() {
        let times = PluginTimes::default();
        for number in 0..3 * MOST_PLUGINS {
            times.spent(&format!("p{number}"), Duration::from_millis(1));
        }
        let all = times.all();
        assert_eq!(all.len(), MOST_PLUGINS + 1);
        let sum: Duration = all.iter().map(|of| of.spent()).sum();
        assert_eq!(sum, Duration::from_millis(3 * MOST_PLUGINS as u64));
    }
}
