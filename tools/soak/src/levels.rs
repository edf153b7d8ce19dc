//! What servers and clients hold at a moment, as Linux tells.

use std::sync::Arc;

use ferrotunnel_loadgen::Usage;

use crate::world::World;

/// Of one process, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) processes: u64,
}

impl Level {
    pub(crate) fn of(usages: impl IntoIterator<Item = Usage>) -> Self {
        usages.into_iter().fold(Self::default(), |sum, usage| Self {
            resident: sum.resident + usage.resident,
            descriptors: sum.descriptors + usage.descriptors,
            threads: sum.threads + usage.threads,
            processes: sum.processes + 1,
        })
    }
}

/// Each server, then all clients together.
pub(crate) fn levels(worlds: &[Arc<World>]) -> Vec<(String, Level)> {
    let server =
        |world: &Arc<World>| (format!("server {}", world.name), Level::of(world.server_usage()));
    let clients = worlds.iter().flat_map(|world| world.client_usages());
    let clients = ("clients".to_owned(), Level::of(clients));
    worlds.iter().map(server).chain([clients]).collect()
}
