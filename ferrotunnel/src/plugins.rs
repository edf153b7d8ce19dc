//! The plugins that a builder was given.

use std::sync::Arc;

use ferrotunnel_plugin::{Chain, Plugin};

/// In the order in which they are asked.
#[derive(Clone, Default)]
pub(crate) struct Plugins(Vec<Arc<dyn Plugin>>);

impl std::fmt::Debug for Plugins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|plugin| plugin.name())).finish()
    }
}

impl Plugins {
    pub(crate) fn push(&mut self, plugin: impl Plugin) {
        self.0.push(Arc::new(plugin));
    }

    /// `None` if there are none.
    pub(crate) fn chain(&self) -> Option<Chain> {
        Chain::new(self.0.clone())
    }
}
